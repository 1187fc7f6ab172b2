// Package witness sees every answer and every dispatch of a test process and says which are not as described: by XCord's own description,
// always, and by the official one of API v10 where that is at hand and has the endpoint. It is for tests only: harness.Main starts it, so a
// package's tests need not know of it. It judges what servers say, not what they are asked.
package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/xcord/xcord/engine/openapi"
)

// offencesMax bounds what is told of one run; one mistake in an object that is everywhere is one offence per route.
const offencesMax = 100

// Witness collects offences. Any goroutine may call its methods at any time.
type Witness struct {
	official *Official // nil: not at hand
	own      *book
	seed     maphash.Seed

	mu       sync.Mutex // guards what follows; held while schemas are compiled
	seen     map[uint64]struct{}
	judges   map[string]*judge // by method and path of a route
	bodies   map[string]*jsonschema.Schema
	offences map[string]string // the first body of each kind
	judged   int
	failed   error
}

// New makes a witness; official may be nil.
func New(official *Official) *Witness {
	return &Witness{
		official: official, own: newBook(), seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}, judges: map[string]*judge{},
		bodies: map[string]*jsonschema.Schema{}, offences: map[string]string{},
	}
}

// Watch makes w the witness of this process, before any server runs.
func (w *Witness) Watch() {
	openapi.Listening = w
}

// Err names all that was not as described.
func (w *Witness) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.offences) == 0 {
		return w.failed
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d kinds of answers and dispatches are not as described:\n", len(w.offences))
	for _, what := range slices.Sorted(maps.Keys(w.offences)) {
		fmt.Fprintf(&b, "%s\n    in %s\n", what, w.offences[what])
	}
	return errors.New(b.String())
}

// Judged is how many different answers and dispatches have been looked at.
func (w *Witness) Judged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.judged
}

// judge knows what a route may answer.
type judge struct {
	own, official responses
}

// Answered looks at an answer; route is nil where there was none.
func (w *Witness) Answered(route *openapi.Route, status int, contentType string, body []byte) {
	where := "no route"
	if route != nil {
		where = route.Method + " " + route.Path
		if route.Media != "" && status < 400 {
			return // a file
		}
	}
	if !w.first(where+strconv.Itoa(status), body) {
		return
	}
	where += " " + strconv.Itoa(status)
	if (status == http.StatusNoContent) != (len(body) == 0) {
		w.offend(where+": a body with 204, or none without", body)
		return
	}
	if len(body) == 0 {
		return
	}
	if contentType != "application/json" {
		w.offend(where+": Content-Type "+contentType, body)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		w.offend(where+": "+err.Error(), body)
		return
	}
	j, err := w.judgeOf(route)
	if err != nil {
		w.fail(err)
		return
	}
	for _, reason := range j.own.against(status, v) {
		w.offend(where+" (own description): "+reason, body)
	}
	// The official one has no failures of a server.
	if j.official == nil || status >= http.StatusInternalServerError {
		return
	}
	for _, reason := range j.official.against(status, v) {
		if !waived(where, reason) {
			w.offend(where+" (official description): "+reason, body)
		}
	}
}

// Dispatched looks at a dispatch of the gateway.
func (w *Witness) Dispatched(name string, body []byte) {
	if !w.first(name, body) {
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		w.offend(name+": "+err.Error(), body)
		return
	}
	schema, err := w.bodyOf(name)
	if err != nil {
		w.offend(name+": "+err.Error(), body)
		return
	}
	for _, reason := range reasons(schema.Validate(v)) {
		w.offend(name+": "+reason, body)
	}
}

// first says whether this has not been seen yet: a dispatch goes to many.
func (w *Witness) first(where string, body []byte) bool {
	var h maphash.Hash
	h.SetSeed(w.seed)
	_, _ = h.WriteString(where) // never fail
	_, _ = h.Write(body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.seen[h.Sum64()]; ok {
		return false
	}
	w.seen[h.Sum64()] = struct{}{}
	w.judged++
	return true
}

func (w *Witness) offend(what string, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.offences[what]; !ok && len(w.offences) < offencesMax {
		w.offences[what] = fmt.Sprintf("%.600s", body)
	}
}

func (w *Witness) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

func (w *Witness) judgeOf(route *openapi.Route) (*judge, error) {
	key := ""
	// What no route answers is a failure like any other.
	alone := openapi.Route{Method: "GET", Path: "/", Name: "none", Service: "none", Status: http.StatusNoContent}
	if route != nil {
		key, alone = route.Method+" "+route.Path, *route
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if j, ok := w.judges[key]; ok {
		return j, nil
	}
	document, err := openapi.Alone(alone)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", key, err)
	}
	j := &judge{}
	if j.own, err = w.own.add(key, document.JSON()); err != nil {
		return nil, err
	}
	if w.official != nil && route != nil && !route.Root {
		if j.official, err = w.official.responses(route.Method, route.Path); err != nil {
			return nil, err
		}
	}
	w.judges[key] = j
	return j, nil
}

// bodyOf finds the schema of a dispatch.
func (w *Witness) bodyOf(name string) (*jsonschema.Schema, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.bodies[name]; ok {
		return s, nil
	}
	if len(w.bodies) == 0 {
		document, err := openapi.New(nil)
		if err != nil {
			return nil, err
		}
		if err := w.own.load("own:dispatches", document.JSON()); err != nil {
			return nil, err
		}
	}
	s, err := w.own.compiler.Compile("own:dispatches#/x-dispatches/" + name + "/schema")
	if err != nil {
		return nil, fmt.Errorf("not in wire.Dispatches: %w", err)
	}
	w.bodies[name] = s
	return s, nil
}

// reasons are what a schema has against a value, one a line, without what is particular to the one value.
func reasons(err error) (out []string) {
	failed, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return nil
	}
	var leaves func(*jsonschema.ValidationError)
	leaves = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			leaves(cause)
		}
		if len(e.Causes) > 0 {
			return
		}
		at := make([]string, len(e.InstanceLocation))
		for i, step := range e.InstanceLocation {
			if _, err := strconv.Atoi(step); err == nil {
				step = "*"
			}
			at[i] = step
		}
		why := e.Error() // perhaps a line on the schema, and then "at '/where': why"
		if _, after, ok := strings.Cut(why[strings.LastIndexByte(why, '\n')+1:], "': "); ok {
			why = after
		}
		out = append(out, "/"+strings.Join(at, "/")+": "+why)
	}
	leaves(failed)
	slices.Sort(out)
	return slices.Compact(out)
}

// book is the descriptions that schemas are compiled from.
type book struct{ compiler *jsonschema.Compiler }

func newBook() *book {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	return &book{compiler: c}
}

// load takes a document in, in which objects have no other keys than those that they are described with.
func (b *book) load(url string, raw []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	closeObjects(doc)
	return b.compiler.AddResource(url, doc)
}

func (b *book) add(key string, raw []byte) (responses, error) {
	url := "own:" + strings.NewReplacer(" ", "", "{", "", "}", "").Replace(key)
	if err := b.load(url, raw); err != nil {
		return nil, err
	}
	return compile(b.compiler, url, raw)
}

func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			closeObjects(inner)
		}
	case []any:
		for _, inner := range v {
			closeObjects(inner)
		}
	}
}

// responses are the schemas of an operation by status; nil is an answer without a body, or one that is no JSON.
type responses map[string]*jsonschema.Schema

// against is what is wrong about an answer.
func (r responses) against(status int, v any) []string {
	for _, key := range []string{strconv.Itoa(status), strconv.Itoa(status/100) + "XX", "default"} {
		switch s, ok := r[key]; {
		case ok && s == nil:
			return []string{"no body is described"}
		case ok:
			return reasons(s.Validate(v))
		}
	}
	return []string{"the status is not described"}
}

// description is as much of an OpenAPI document as is needed to find schemas.
type description struct {
	Paths map[string]map[string]json.RawMessage
}

type operation struct {
	Responses map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]json.RawMessage
	}
}

// compile takes all answers of the one operation in a document.
func compile(c *jsonschema.Compiler, url string, raw []byte) (responses, error) {
	var d description
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	for path, item := range d.Paths {
		for method, op := range item {
			if method == "servers" {
				continue
			}
			return compileOperation(c, url, path, method, op)
		}
	}
	return nil, errors.New("BUG: a description without an operation")
}

func compileOperation(c *jsonschema.Compiler, url, path, method string, raw json.RawMessage) (responses, error) {
	var op operation
	if err := json.Unmarshal(raw, &op); err != nil {
		return nil, err
	}
	out := responses{}
	for status, res := range op.Responses {
		at := "/paths/" + escape(path) + "/" + method + "/responses/" + status
		if res.Ref != "" {
			at = strings.TrimPrefix(res.Ref, "#")
		}
		if _, ok := res.Content["application/json"]; res.Ref == "" && !ok {
			out[status] = nil
			continue
		}
		s, err := c.Compile(url + "#" + at + "/content/application~1json/schema")
		if err != nil {
			return nil, fmt.Errorf("%s %s %s: %w", method, path, status, err)
		}
		out[status] = s
	}
	return out, nil
}

// escape makes a path a step of a JSON pointer in a URL.
func escape(path string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path)
}
