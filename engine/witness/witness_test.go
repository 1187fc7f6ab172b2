package witness

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/openapi"
	"github.com/xcord/xcord/engine/wire"
)

// described makes a route with an answer of this type.
func described[Out any](method, path string, status int) *openapi.Route {
	return &openapi.Route{Method: method, Path: path, Service: "x", Status: status, Out: reflect.TypeFor[Out](), IsID: func(string) bool { return false }}
}

const official = `{"openapi":"3.1.0","paths":{
	"/gateway":{"get":{"responses":{
		"200":{"content":{"application/json":{"schema":{"type":"object","required":["url"],"properties":{"url":{"type":"string","format":"uri"}}}}}},
		"4XX":{"$ref":"#/components/responses/Refused"}}}},
	"/channels/{channel_id}":{"get":{"responses":{"200":{"content":{"application/json":{"schema":{"oneOf":[{"type":"object"},{"type":"object","required":["id"]}]}}}}}}}},
	"components":{
		"responses":{"Refused":{"content":{"application/json":{"schema":{"type":"object","required":["code"],"properties":{"errors":{"$ref":"#/components/schemas/InnerErrors"}}}}}}},
		"schemas":{"InnerErrors":{"type":"object","properties":{"_errors":{"type":"array","items":{"type":"object","properties":{"code":{"type":"integer"}}}}}}}}}`

func TestWitness_SeesWhatIsNotAsDescribed(t *testing.T) {
	t.Parallel()
	doc, err := Read([]byte(official))
	if err != nil {
		t.Fatal(err)
	}
	gateway := described[wire.Gateway]("GET", "/gateway", 200)
	const mime = "application/json"
	f := func(want string, tell func(*Witness)) {
		t.Helper()
		w := New(doc)
		tell(w)
		switch err := w.Err(); {
		case want == "" && err != nil:
			t.Error(err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, want %q", err, want)
		}
		if w.Judged() != 1 {
			t.Errorf("%d judged", w.Judged())
		}
	}
	answered := func(r *openapi.Route, status int, contentType, body string) func(*Witness) {
		return func(w *Witness) {
			w.Answered(r, status, contentType, []byte(body))
			w.Answered(r, status, contentType, []byte(body)) // seen once
		}
	}
	dispatched := func(name, body string) func(*Witness) {
		return func(w *Witness) { w.Dispatched(name, []byte(body)) }
	}
	f("", answered(gateway, 200, mime, `{"url":"ws://x"}`))
	f("(own description): /: missing property 'url'", answered(gateway, 200, mime, `{}`))
	f("(own description): /: additional properties 'ulr' not allowed", answered(gateway, 200, mime, `{"url":"ws://x","ulr":1}`))
	f("(official description): /url: 'not one' is not valid uri", answered(gateway, 200, mime, `{"url":"not one"}`))
	f("(own description): the status is not described", answered(gateway, 201, mime, `{"url":"ws://x"}`))
	f("Content-Type", answered(gateway, 200, mime+"; charset=utf-8", `{"url":"ws://x"}`))
	f("a body with 204", answered(gateway, 204, mime, `{"url":"ws://x"}`))
	f("none without", answered(gateway, 200, mime, ``))
	f("GET /gateway 200: ", answered(gateway, 200, mime, `{"url":`))
	f("", answered(gateway, 400, mime, `{"code":50035,"message":"m","errors":{"_errors":[{"code":"WORD","message":"m"}]}}`))
	f("/errors/_errors/*/code: got number, want string", answered(gateway, 400, mime, `{"code":1,"message":"m","errors":{"_errors":[{"code":7,"message":"m"}]}}`))
	f("(own description): /: missing property 'message'", answered(gateway, 404, mime, `{"code":0}`))
	f("", answered(gateway, 503, mime, `{"code":0,"message":"m"}`))
	f("missing properties 'retry_after', 'global'", answered(gateway, 429, mime, `{"code":0,"message":"m"}`))
	f("", answered(nil, 404, mime, `{"code":0,"message":"m"}`))
	f("no route 404 (own description): /: missing property 'code'", answered(nil, 404, mime, `{"message":"m"}`))
	f("", answered(described[struct{}]("GET", "/channels/{channel}", 200), 200, mime, `{}`)) // whatever alternative
	f("no body is described", answered(&openapi.Route{Method: "GET", Path: "/raw", Service: "x", Status: 200}, 200, mime, `{}`))

	f("", dispatched("RESUMED", `{"_trace":[]}`))
	f("RESUMED: /: got null, want object", dispatched("RESUMED", `null`))
	f("MESSAGE_DELETE: /: missing property 'channel_id'", dispatched("MESSAGE_DELETE", `{"id":"1"}`))
	f("not in wire.Dispatches", dispatched("NEWS", `{}`))
}

func TestOfficial_IsReadOrThisIsToldOf(t *testing.T) {
	t.Parallel()
	o, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	if o == nil {
		t.Skip("NOTHING IS HELD AGAINST THE OFFICIAL DESCRIPTION OF THE API: it is neither at " + specBeside + " nor where " + SpecVariable + " says")
	}
	for _, path := range []string{"/channels/{channel}/messages", "/guilds/{guild}"} {
		if r, err := o.responses(http.MethodGet, path); err != nil || r["200"] == nil || r["429"] == nil {
			t.Errorf("GET %s is described as %v, %v", path, r, err)
		}
	}
	if r, err := o.responses(http.MethodPost, "/auth/register"); r != nil || err != nil {
		t.Errorf("an endpoint of our own is described as %v, %v", r, err)
	}
}

func TestRead_RefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{``, `{}`, `[]`, `{"components":{"schemas":{}}}`} {
		if _, err := Read([]byte(raw)); err == nil {
			t.Errorf("%q is read", raw)
		}
	}
}

func TestWaivers_HaveReasons(t *testing.T) {
	t.Parallel()
	for _, w := range waivers {
		if w.where == "" || w.reason == "" || w.why == "" {
			t.Errorf("%+v does not say where, what and why", w)
		}
	}
}
