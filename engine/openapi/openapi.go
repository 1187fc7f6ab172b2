// Package openapi describes an API as an OpenAPI 3.1 document, and as a page to read: from its routes, the Go types of their bodies and the
// tables of package wire, so that the description cannot say anything else than the code does.
//
// It does not serve (engine/rest does), and it does not judge bodies.
package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
)

// Base is under which the paths of a document are, but for those of routes that are Root.
const Base = "/api/v10"

const contentType = "application/json"

// Route is an endpoint as the document tells it.
type Route struct {
	Method string
	Path   string // with parameters as {channel}
	Root   bool   // the path is not under Base

	Service string // which the reader finds it under
	Name    string // of the handler, "createMessage"; "" if it has none

	Public    bool // needs no token
	UsersOnly bool // not for bots

	In      reflect.Type // body, and fields tagged query; nil: none
	Body    bool         // In has a body
	Out     reflect.Type // of JSON; nil: none
	Media   string       // of an answer that is not JSON; "" otherwise
	Status  int          // of success
	Empty   bool         // success may also be a 204
	IsID    func(parameter string) bool
	Limit   int // requests in Window
	Window  time.Duration
	BodyMax int // bytes
	Files   int // of a form, which it takes, too; 0: it takes none
}

// Document is an OpenAPI document, ready to be encoded.
type Document struct {
	root   object
	routes []Route
	ops    []object // beside routes
}

// New describes routes, and every dispatch. What cannot be described is an error that names all of it.
func New(routes []Route) (*Document, error) { return write(routes, wire.Dispatches) }

// Alone describes one route and no dispatch, as New does.
func Alone(route Route) (*Document, error) { return write([]Route{route}, nil) }

func write(routes []Route, bodies map[string]any) (*Document, error) {
	s := newSchemas()
	d := &Document{routes: routes}
	// Answers first: a type that is both written and read has its plain name for what is written.
	failure := s.of(reflect.TypeFor[Failure](), answer)
	limited := s.of(reflect.TypeFor[Limited](), answer)
	outs := make([]object, len(routes))
	for i, r := range routes {
		if r.Out != nil {
			outs[i] = s.of(r.Out, answer)
		}
	}
	dispatches := object{}
	for name, body := range bodies {
		dispatches[name] = object{"schema": s.of(reflect.TypeOf(body), answer)}
	}
	for _, e := range wire.Events {
		for _, name := range e.Dispatches {
			if told, ok := dispatches[name].(object); ok {
				told["durable"] = e.Durable
			}
		}
	}
	paths, ids := object{}, map[string]bool{}
	for i, r := range routes {
		op := d.operation(s, r, outs[i])
		op["operationId"] = operationID(ids, r)
		d.ops = append(d.ops, op)
		at := pathOf(r)
		item, ok := paths[at].(object)
		if !ok {
			item = object{}
			if r.Root {
				item["servers"] = []object{{"url": "/"}}
			}
			paths[at] = item
		}
		item[strings.ToLower(r.Method)] = op
	}
	d.root = object{
		"openapi": "3.1.0",
		"info": object{
			"title": "XCord", "version": "10",
			"description": "The REST API, with the bodies of the gateway's dispatches under x-dispatches. Fields that are not here may come with a later version.",
		},
		"servers":  []object{{"url": Base}},
		"security": []object{{"token": []string{}}},
		"paths":    paths,
		"components": object{
			"schemas":         s.named,
			"responses":       refusals(failure, limited),
			"headers":         limitHeaders(),
			"securitySchemes": object{"token": object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "Bot <token> of a bot, or the access token of a person."}},
		},
		"x-dispatches":  dispatches,
		"x-error-codes": errorCodes(),
	}
	return d, errors.Join(s.wrong...)
}

// JSON is the document as it is served.
func (d *Document) JSON() []byte {
	b, err := json.Marshal(d.root)
	if err != nil {
		panic("BUG: a description does not encode: " + err.Error())
	}
	return b
}

// Failure is the body of every answer that is no success.
type Failure struct {
	Code    int                    `json:"code"`
	Message string                 `json:"message"`
	Errors  map[string]interface{} `json:"errors,omitempty"` // per field, then per element, in the end a list under _errors

	RetryAfter float64 `json:"retry_after,omitempty"`
	Global     bool    `json:"global,omitempty"`
}

// Limited is the body of a 429.
type Limited struct {
	Code       int     `json:"code"`
	Message    string  `json:"message"`
	RetryAfter float64 `json:"retry_after"` // seconds
	Global     bool    `json:"global"`
}

func (d *Document) operation(s *schemas, r Route, out object) object {
	success := object{"description": http.StatusText(r.Status), "headers": limitHeaderRefs()}
	switch {
	case out != nil:
		success["content"] = object{contentType: object{"schema": out}}
	case r.Media != "":
		success["content"] = object{r.Media: object{}}
	}
	responses := object{
		strconv.Itoa(r.Status): success,
		"429":                  object{"$ref": "#/components/responses/RateLimited"},
		"4XX":                  object{"$ref": "#/components/responses/Refused"},
		"5XX":                  object{"$ref": "#/components/responses/Unavailable"},
	}
	if r.Empty {
		responses["204"] = object{"description": http.StatusText(http.StatusNoContent), "headers": limitHeaderRefs()}
	}
	op := object{
		"tags": []string{r.Service}, "summary": summary(r), "responses": responses,
		"x-rate-limit": object{"requests": r.Limit, "seconds": r.Window.Seconds()},
	}
	if parameters := s.parameters(r); len(parameters) > 0 {
		op["parameters"] = parameters
	}
	if r.Body && r.In != nil {
		op["requestBody"] = object{"content": bodies(s.of(r.In, request), r.Files)}
		op["x-body-bytes-max"] = r.BodyMax
	}
	if r.Public {
		op["security"] = []object{}
	}
	if r.UsersOnly {
		op["description"] = "Not for bots."
	}
	return op
}

// bodies are the forms in which a body may come.
func bodies(schema object, files int) object {
	out := object{contentType: object{"schema": schema}}
	if files > 0 {
		out["multipart/form-data"] = object{"schema": object{
			"type":              "object",
			"properties":        object{"payload_json": object{"type": "string", "contentMediaType": contentType, "contentSchema": schema}},
			"patternProperties": object{"^files\\[[0-9]+\\]$": object{"type": "string", "contentMediaType": "application/octet-stream"}},
			"description":       fmt.Sprintf("Up to %d files, each as files[n].", files),
		}}
	}
	return out
}

// parameters are those of the path and of the query.
func (s *schemas) parameters(r Route) (out []object) {
	for segment := range strings.SplitSeq(pathOf(r), "/") {
		name, ok := strings.CutPrefix(segment, "{")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		schema := object{"type": "string"}
		if r.IsID(strings.TrimSuffix(name, "_id")) {
			schema = digits()
		}
		out = append(out, object{"name": name, "in": "path", "required": true, "schema": schema})
	}
	if r.In == nil || r.In.Kind() != reflect.Struct {
		return out
	}
	for _, f := range reflect.VisibleFields(r.In) {
		if name := f.Tag.Get("query"); name != "" {
			t := f.Type
			if t.Kind() == reflect.Pointer {
				t = t.Elem()
			}
			schema := s.of(t, answer) // a query has no null
			s.restrict(schema, t, f.Tag.Get("validate"))
			out = append(out, object{"name": name, "in": "query", "schema": schema})
		}
	}
	return out
}

// pathOf names the parameters that are ids as the bodies do: {channel_id}.
func pathOf(r Route) string {
	segments := strings.Split(r.Path, "/")
	for i, segment := range segments {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			if name = strings.TrimSuffix(name, "}"); r.IsID(name) {
				segments[i] = "{" + name + "_id}"
			}
		}
	}
	return strings.Join(segments, "/")
}

// operationID is the handler's name. Where two routes have one name, the later has its service before it, or says all of itself.
func operationID(taken map[string]bool, r Route) string {
	whole := strings.ToLower(r.Method) + strings.Map(func(c rune) rune {
		switch {
		case c == '/' || c == '-':
			return '_'
		case unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_':
			return c
		}
		return -1
	}, r.Path)
	choices := []string{r.Name, r.Service + capitalOf(r.Name), whole}
	if r.Name == "" {
		choices = choices[2:]
	}
	for _, name := range choices {
		if !taken[name] {
			taken[name] = true
			return name
		}
	}
	panic("BUG: a route is there twice: " + whole)
}

func capitalOf(s string) string {
	if s == "" {
		return s
	}
	return capital(s)
}

// summary makes words of a handler's name: createMessage is "Create message".
func summary(r Route) string {
	if r.Name == "" {
		return r.Method + " " + r.Path
	}
	var b strings.Builder
	for i, c := range r.Name {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte(' ')
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return capital(b.String())
}

func refusals(failure, limited object) object {
	body := func(schema object) object { return object{contentType: object{"schema": schema}} }
	retry := object{"description": "Seconds until it makes sense to try again.", "schema": object{"type": "integer"}}
	headers := limitHeaderRefs()
	headers["Retry-After"] = retry
	return object{
		"Refused":     object{"description": "Refused: x-error-codes says why.", "headers": limitHeaderRefs(), "content": body(failure)},
		"RateLimited": object{"description": "Too many requests.", "headers": headers, "content": body(limited)},
		"Unavailable": object{"description": "Not now.", "headers": object{"Retry-After": retry}, "content": body(failure)},
	}
}

var limits = map[string]string{
	"X-RateLimit-Limit":       "How many requests the window has.",
	"X-RateLimit-Remaining":   "How many are left.",
	"X-RateLimit-Reset":       "When the window ends, in seconds since 1970.",
	"X-RateLimit-Reset-After": "In how many seconds it ends.",
	"X-RateLimit-Bucket":      "Which limit it is.",
}

func limitHeaders() object {
	out := object{}
	for name, text := range limits {
		out[name] = object{"description": text, "schema": object{"type": "string"}}
	}
	return out
}

func limitHeaderRefs() object {
	out := object{}
	for name := range limits {
		out[name] = object{"$ref": "#/components/headers/" + name}
	}
	return out
}

// errorCode is a code, and what a client is told with it.
type errorCode struct {
	Code    fault.Code `json:"code"`
	Status  int        `json:"status"`
	Message string     `json:"message"`
}

func errorCodes() (out []errorCode) {
	for _, c := range fault.Codes() {
		f := fault.New(c)
		out = append(out, errorCode{c, f.Status, f.Message})
	}
	slices.SortFunc(out, func(a, b errorCode) int { return int(a.Code - b.Code) })
	return out
}

// Problem is a route that the document does not tell everything of: it answers what nobody has described.
func (r Route) Problem() error {
	if r.Out == nil && r.Media == "" && r.Status != http.StatusNoContent {
		return fmt.Errorf("route %s %s answers %d and does not say with what", r.Method, r.Path, r.Status)
	}
	return nil
}
