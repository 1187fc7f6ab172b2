package openapi

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

type base struct {
	Name string `json:"name"`
	Note string `json:"note,omitempty"`
}

type thing struct {
	base
	*inner
	ID       id.ID          `json:"id"`
	Parent   id.ID          `json:"parent_id"`
	Bits     perm.Bits      `json:"bits"`
	At       wire.Time      `json:"at"`
	List     wire.List[int] `json:"list"`
	Own      *thing         `json:"own"`
	Maybe    *string        `json:"maybe,omitempty"`
	Map      map[string]int `json:"map"`
	Nothing  wire.Null      `json:"nothing"`
	Any      any            `json:"any"`
	Unseen   int            `json:"-"`
	Untagged bool
}

type inner struct {
	Name  int `json:"name"` // hidden by the nearer one
	Extra int `json:"extra"`
}

type change struct {
	Name  string                `json:"name" validate:"required,min=2,max=10,nonul"`
	Kind  *int                  `json:"kind,omitempty" validate:"omitnil,oneof=0 2"`
	Mode  string                `json:"mode" validate:"oneof=a b"`
	Bits  perm.Bits             `json:"bits"`
	Topic wire.Optional[string] `json:"topic,omitzero" validate:"omitnil,max=4"`
	IDs   []id.ID               `json:"ids" validate:"required,min=1,max=3,dive,required"`
	Words []string              `json:"words" validate:"max=2,dive,max=5"`
	Limit *int                  `query:"limit" validate:"omitnil,min=1,max=100"`
}

func parse(t *testing.T, raw string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func describe(t *testing.T, routes ...Route) (*Document, map[string]any) {
	t.Helper()
	for i := range routes {
		routes[i].IsID = func(name string) bool { return name == "guild" }
	}
	d, err := New(routes)
	if err != nil {
		t.Fatal(err)
	}
	return d, parse(t, string(d.JSON())).(map[string]any)
}

// at follows a path of keys.
func at(t *testing.T, v any, keys ...string) any {
	t.Helper()
	for _, key := range keys {
		o, ok := v.(map[string]any)
		if !ok || o[key] == nil {
			t.Fatalf("there is no %s of %v", key, keys)
		}
		v = o[key]
	}
	return v
}

func TestDocument_TellsTypesAsTheyAreEncoded(t *testing.T) {
	t.Parallel()
	_, doc := describe(t, Route{
		Method: "PATCH", Path: "/guilds/{guild}/things/{name}", Service: "x", Name: "updateThing", Status: 200, Body: true, Limit: 5, Window: time.Second,
		In: reflect.TypeFor[change](), Out: reflect.TypeFor[thing](), UsersOnly: true, Empty: true, BodyMax: 7, Files: 3,
	})
	want := parse(t, `{"type":"object",
		"required":["id","parent_id","bits","at","list","own","map","nothing","any","Untagged","name"],
		"properties":{
			"name":{"type":"string"},"note":{"type":"string"},"extra":{"type":"integer"},
			"id":{"type":"string","pattern":"^[0-9]{1,20}$"},"parent_id":{"type":["string","null"],"pattern":"^[0-9]{1,20}$"},
			"bits":{"type":"string","pattern":"^[0-9]{1,20}$"},"at":{"type":["string","null"],"format":"date-time"},
			"list":{"type":"array","items":{"type":"integer"}},"own":{"anyOf":[{"$ref":"#/components/schemas/Thing"},{"type":"null"}]},
			"maybe":{"type":"string"},"map":{"type":"object","additionalProperties":{"type":"integer"}},"nothing":{"type":"null"},"any":{},"Untagged":{"type":"boolean"}}}`)
	if diff := cmp.Diff(want, at(t, doc, "components", "schemas", "Thing")); diff != "" {
		t.Errorf("an answer (-want +got):\n%s", diff)
	}
	want = parse(t, `{"type":"object","required":["name","ids"],"properties":{
		"name":{"type":"string","minLength":2,"maxLength":10},
		"kind":{"type":["integer","null"],"enum":[0,2,null]},
		"mode":{"anyOf":[{"type":"string","enum":["a","b"]},{"type":"null"}]},
		"bits":{"type":["string","integer","null"],"pattern":"^[0-9]{1,20}$","minimum":0},
		"topic":{"type":["string","null"],"maxLength":4},
		"ids":{"type":"array","minItems":1,"maxItems":3,"items":{"type":"string","pattern":"^[0-9]{1,20}$"}},
		"words":{"type":["array","null"],"maxItems":2,"items":{"type":"string","maxLength":5}}}}`)
	if diff := cmp.Diff(want, at(t, doc, "components", "schemas", "Change")); diff != "" {
		t.Errorf("a request (-want +got):\n%s", diff)
	}
	op := at(t, doc, "paths", "/guilds/{guild_id}/things/{name}", "patch")
	want = parse(t, `[
		{"name":"guild_id","in":"path","required":true,"schema":{"type":"string","pattern":"^[0-9]{1,20}$"}},
		{"name":"name","in":"path","required":true,"schema":{"type":"string"}},
		{"name":"limit","in":"query","schema":{"type":"integer","minimum":1,"maximum":100}}]`)
	if diff := cmp.Diff(want, at(t, op, "parameters")); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	if got := at(t, op, "requestBody", "content", "multipart/form-data", "schema", "properties", "payload_json", "contentSchema", "$ref"); got != "#/components/schemas/Change" {
		t.Errorf("a form has %v", got)
	}
	if got := at(t, op, "summary"); got != "Update thing" {
		t.Errorf("summary %q", got)
	}
	at(t, op, "responses", "200", "content", "application/json", "schema")
	for _, status := range []string{"204", "429", "4XX", "5XX"} {
		at(t, op, "responses", status)
	}
	if got := at(t, op, "x-rate-limit", "requests"); got != 5.0 {
		t.Errorf("limit %v", got)
	}
}

func TestDocument_NamesEachRouteOnce(t *testing.T) {
	t.Parallel()
	route := func(method, path, service, name string) Route {
		return Route{Method: method, Path: path, Service: service, Name: name, Status: 204, Public: service == "a", Root: service == "root"}
	}
	_, doc := describe(t, route("GET", "/a", "a", "list"), route("GET", "/b", "b", "list"), route("DELETE", "/b", "b", "list"), route("GET", "/c-d/{guild}", "b", ""),
		route("GET", "/page", "root", "page"))
	f := func(want, path, method string) {
		t.Helper()
		if got := at(t, doc, "paths", path, method, "operationId"); got != want {
			t.Errorf("%s %s is %v, want %s", method, path, got, want)
		}
	}
	f("list", "/a", "get")
	f("bList", "/b", "get")
	f("delete_b", "/b", "delete")
	f("get_c_d_guild", "/c-d/{guild_id}", "get")
	if security := at(t, doc, "paths", "/a", "get", "security").([]any); len(security) != 0 {
		t.Errorf("a public route wants %v", security)
	}
	if _, ok := at(t, doc, "paths", "/b", "get").(map[string]any)["security"]; ok {
		t.Error("a route that is not public says something of its own about tokens")
	}
	if servers := at(t, doc, "paths", "/page", "servers").([]any); at(t, servers[0], "url") != "/" {
		t.Errorf("a route of the root is under %v", servers)
	}
}

func TestDocument_RefusesWhatItCannotTell(t *testing.T) {
	t.Parallel()
	type private struct {
		Secret time.Time `json:"secret"` // says itself how it is written
	}
	if _, err := New([]Route{{Method: "GET", Path: "/", Name: "x", Status: 200, Out: reflect.TypeFor[private]()}}); err == nil || !strings.Contains(err.Error(), "time.Time") {
		t.Errorf("got %v", err)
	}
	if err := (Route{Method: "GET", Path: "/", Status: 200}).Problem(); err == nil {
		t.Error("an answer that nobody has described is no problem")
	}
	if err := (Route{Method: "GET", Path: "/", Status: 204}).Problem(); err != nil {
		t.Error(err)
	}
}

// TestDispatches_AreAllDescribed: a new event without its body fails here.
func TestDispatches_AreAllDescribed(t *testing.T) {
	t.Parallel()
	_, doc := describe(t)
	for kind, e := range wire.Events {
		for _, name := range e.Dispatches {
			if _, ok := wire.Dispatches[name]; !ok {
				t.Errorf("%s is told as %s, which is not in wire.Dispatches", kind, name)
			}
		}
	}
	for name := range wire.Dispatches {
		at(t, doc, "x-dispatches", name, "schema")
	}
	if codes := at(t, doc, "x-error-codes").([]any); len(codes) < 40 {
		t.Errorf("%d error codes", len(codes))
	}
}

func TestPage_BringsEverythingAlong(t *testing.T) {
	t.Parallel()
	d, _ := describe(t, Route{
		Method: "PATCH", Path: "/guilds/{guild}", Service: "guilds", Name: "updateThing", Status: 200, Body: true, In: reflect.TypeFor[change](), Out: reflect.TypeFor[thing](),
	})
	page := string(d.Page())
	for _, want := range []string{`id="updateThing"`, "/guilds/{guild_id}", `href="#Thing"`, `id="Thing"`, "MESSAGE_CREATE", "Unknown Channel", "<style>" + pageStyle + "</style>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if bad := regexp.MustCompile(`(?i)<script|<img|<link|<iframe|style="|\son[a-z]+=|https?://|@import|url\(`).FindAllString(page, -1); bad != nil {
		t.Errorf("the page has %q", bad)
	}
	if !strings.HasPrefix(PagePolicy, "default-src 'none'; style-src 'sha256-") {
		t.Error(PagePolicy)
	}
}
