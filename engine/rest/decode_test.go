package rest

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
)

func marshal(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// mistakes flattens the errors of an answer to "path CODE message", sorted.
func (a answer) mistakes(t *testing.T) []string {
	t.Helper()
	if a.status != 400 {
		t.Fatalf("status %d, body %s", a.status, a.body)
	}
	m := a.json(t)
	if m["code"] != 50035.0 || m["message"] != "Invalid Form Body" {
		t.Fatalf("body %s", a.body)
	}
	var flat []string
	var walk func(path string, v map[string]any)
	walk = func(path string, v map[string]any) {
		for k, child := range v {
			if list, ok := child.([]any); ok && k == "_errors" {
				for _, e := range list {
					e := e.(map[string]any)
					flat = append(flat, strings.TrimSpace(fmt.Sprintf("%s %s %s", path, e["code"], e["message"])))
				}
				continue
			}
			walk(join(path, k), child.(map[string]any))
		}
	}
	walk("", m["errors"].(map[string]any))
	sort.Strings(flat)
	return flat
}

func TestDecode_TellsEveryMistakeAtItsPath(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	long := strings.Repeat("x", 2001)
	const required = "name BASE_TYPE_REQUIRED This field is required"
	f := func(body string, want ...string) {
		t.Helper()
		sort.Strings(want)
		if diff := cmp.Diff(want, do(t, s, "POST", channel+"/messages", body).mistakes(t)); diff != "" {
			t.Errorf("%.200s:\n%s", body, diff)
		}
	}
	f(``, required)
	f(`{}`, required)
	f(`null`, required)
	f(`{"name":null}`, required)
	f(`{"name":"x"}`, "name BASE_TYPE_BAD_LENGTH Must be between 2 and 100 in length.")
	f(`{"name":"`+strings.Repeat("é", 101)+`"}`, "name BASE_TYPE_BAD_LENGTH Must be between 2 and 100 in length.")
	f(`{"name":"ok","text":"`+long+`"}`, "text BASE_TYPE_MAX_LENGTH Must be 2000 or fewer in length.")
	f(`{"name":"ok","count":0}`, "count NUMBER_TYPE_MIN int value should be greater than or equal to 1.")
	f(`{"name":"ok","count":6}`, "count NUMBER_TYPE_MAX int value should be less than or equal to 5.")
	f(`{"name":"ok","count":1.5}`, "count NUMBER_TYPE_COERCE Value is not int.")
	f(`{"name":"ok","count":"1"}`, "count NUMBER_TYPE_COERCE Value is not int.")
	f(`{"name":"ok","count":99999999999999999999}`, "count NUMBER_TYPE_COERCE Value is not int.")
	f(`{"name":"ok","kind":"blue"}`, "kind BASE_TYPE_CHOICES Value must be one of (red, green).")
	f(`{"name":"ok","mail":"nobody"}`, "mail STRING_TYPE_REGEX String value did not match validation regex.")
	f(`{"name":"ok","owner_id":"abc"}`, "owner_id NUMBER_TYPE_COERCE Value is not snowflake.")
	f(`{"name":"ok","owner_id":-5}`, "owner_id NUMBER_TYPE_COERCE Value is not snowflake.")
	f(`{"name":"ok","flag":"true"}`, "flag BOOLEAN_TYPE_CONVERT Must be either true or false.")
	f(`{"name":"ok","topic":"long"}`, "topic BASE_TYPE_MAX_LENGTH Must be 3 or fewer in length.")
	f(`{"name":"ok","topic":5}`, "topic STRING_TYPE_CONVERT Value is not a string.")
	f(`{"name":"ok","inner":"ab"}`, "inner BASE_TYPE_MAX_LENGTH Must be 1 or fewer in length.")
	f(`{"name":"ok","inner":{}}`, "inner STRING_TYPE_CONVERT Value is not a string.")
	f(`{"name":"ok","parts":{}}`, "parts LIST_TYPE_CONVERT Only iterables may be used in a ListType.")
	f(`{"name":"ok","parts":[{},{},{}]}`, "parts BASE_TYPE_MAX_LENGTH Must be 2 or fewer in length.")
	f(`{"name":"ok","parts":[{},{"title":"too long"}]}`, "parts.1.title BASE_TYPE_MAX_LENGTH Must be 5 or fewer in length.")
	f(`{"name":"ok","parts":["a",{"title":[],"size":300}]}`,
		"parts.0 MODEL_TYPE_CONVERT Only dictionaries may be used in a ModelType.",
		"parts.1.title STRING_TYPE_CONVERT Value is not a string.",
		"parts.1.size NUMBER_TYPE_COERCE Value is not int.")
	f(`{"name":"ok","tags":["a","","abcde"]}`,
		"tags.1 BASE_TYPE_BAD_LENGTH Must be between 1 and 4 in length.",
		"tags.2 BASE_TYPE_BAD_LENGTH Must be between 1 and 4 in length.")
	f(`{"name":"ok","wide":[{"title":7}]}`, "wide.0.title STRING_TYPE_CONVERT Value is not a string.")
	f(`{"name":"ok","wide":[{"title":"`+long+`"}]}`, "wide.0.title BASE_TYPE_MAX_LENGTH Must be 256 or fewer in length.")
	f(`{"name":"ok","map":{"a":"b"}}`, "map.a NUMBER_TYPE_COERCE Value is not int.")
	f(`[]`, "MODEL_TYPE_CONVERT Only dictionaries may be used in a ModelType.")
	f(`"x"`, "MODEL_TYPE_CONVERT Only dictionaries may be used in a ModelType.")
	// Wrong types and wrong values are told together, each once.
	f(`{"owner_id":"abc","text":"`+long+`","parts":[{"size":"x","title":"too long"}],"count":9}`,
		required,
		"owner_id NUMBER_TYPE_COERCE Value is not snowflake.",
		"text BASE_TYPE_MAX_LENGTH Must be 2000 or fewer in length.",
		"parts.0.size NUMBER_TYPE_COERCE Value is not int.",
		"parts.0.title BASE_TYPE_MAX_LENGTH Must be 5 or fewer in length.",
		"count NUMBER_TYPE_MAX int value should be less than or equal to 5.")
	f(`{"name":5}`, "name STRING_TYPE_CONVERT Value is not a string.")
}

func TestDecode_RefusesNULInAnySpelling(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	f := func(body string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, do(t, s, "POST", channel+"/messages", body).mistakes(t)); diff != "" {
			t.Errorf("%s:\n%s", body, diff)
		}
	}
	const regex = " STRING_TYPE_REGEX String value did not match validation regex."
	f(`{"name":"a\u0000b"}`, "name"+regex)
	f(`{"name":"ok","parts":[{"title":"\\\u0000"}]}`, "parts.0.title"+regex)
	f(`{"name":"ok","unknown":"\u0000"}`, "unknown"+regex)
	f(`{"name":"ok","\u0000":1}`, strings.TrimSpace(regex))
	f(`{"n\u0061me":"\u0000"}`, "name"+regex)
	if n := do(t, s, "POST", channel+"/messages", `{"name":"a\\u0000b"}`).seen(t); n.Body.Name != `a\u0000b` {
		t.Errorf("a backslash and five characters are no NUL: %+v", n.Body)
	}
}

func TestDecode_RefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	deep := func(open, end string, n int) string { return strings.Repeat(open, n) + strings.Repeat(end, n) }
	for _, body := range []string{
		`{`, `{"name":"ok"}x`, `{"name":"ok"}{"name":"ok"}`, `{"name":"ok",}`, `{name:"ok"}`, `{'name':'ok'}`, `nul`, ` `, `{"name":"ok"`,
		`{"name":"a` + "\x00" + `b"}`, `{"name":"a` + "\x01" + `b"}`, `{"name":"` + "\xff" + `"}`, "\xef\xbb\xbf{}", `{"name":"\x"}`, `{"name":"\u12"}`,
		`{"count":01}`, `{"count":NaN}`, `{"count":+1}`, `}`, `]`, `"`, `\`, `{"name":"\`,
		`{"x":` + deep("[", "]", 100) + `}`, deep("[", "]", 10000), deep(`{"a":`, "}", 10000), strings.Repeat("[", 100000),
		`{"name":"ok","name":"ko"}`, `{"name":"ok","n\u0061me":"ko"}`, `{"x":{"a":1,"b":[],"a":2}}`,
	} {
		a := do(t, s, "POST", channel+"/messages", body)
		if a.status != 400 || a.body != `{"code":50109,"message":"The request body contains invalid JSON."}` {
			t.Errorf("%.60q: %d %s", body, a.status, a.body)
		}
	}
	if a := do(t, s, "POST", channel+"/messages", `{"name":"ok","x":`+deep("[", "]", 99)+`}`); a.status != 200 {
		t.Errorf("99 deep in an object: %d %s", a.status, a.body)
	}
}

func TestDecode_TakesWhatIsRight(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	in := ` {"name":"` + strings.Repeat("😀", 100) + `","text":null,"count":5,"owner_id":"42","topic":null,"parts":[null,{"title":"\ud83d\ude00"}],
		"unknown":{"deep":[1,{"x":null}]},"a":[{"k":1},{"k":2}],"inner":"é"} `
	n := do(t, s, "POST", channel+"/messages", in).seen(t)
	if n.Channel != 1234567890123456789 || len([]rune(n.Body.Name)) != 100 || *n.Body.Count != 5 || n.Body.Owner != 42 || n.Body.Inner != "é" ||
		len(n.Body.Parts) != 2 || n.Body.Parts[1].Title != "😀" {
		t.Errorf("%+v", n.Body)
	}
	if n := do(t, s, "POST", channel+"/messages", `{"name":"ok","owner_id":42}`).seen(t); n.Body.Owner != 42 {
		t.Errorf("an id as a number: %+v", n.Body)
	}
	if a := do(t, s, "DELETE", "/api/channels/5", `nonsense`, "Content-Type", "text/plain"); a.status != 204 {
		t.Errorf("a body that nobody reads: %d", a.status)
	}
}

func TestDecode_ReadsListsAndChecks(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	if a := do(t, s, "PATCH", "/api/guilds/5/channels", `[{"id":"1","position":0},{"id":"2"}]`); a.body != "2" {
		t.Errorf("%d %s", a.status, a.body)
	}
	got := do(t, s, "PATCH", "/api/guilds/5/channels", `[{"id":"x"},{"id":"2","position":-1}]`).mistakes(t)
	want := []string{"0.id NUMBER_TYPE_COERCE Value is not snowflake.", "1.position NUMBER_TYPE_MIN int value should be greater than or equal to 0."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a := do(t, s, "PATCH", "/api/guilds/5/channels", ``); a.status != 400 || a.json(t)["code"] != 50109.0 {
		t.Errorf("no list: %d %s", a.status, a.body)
	}
	if a := do(t, s, "POST", "/api/pick", `{"a":1,"b":1}`); a.status != 400 || a.json(t)["code"] != 50006.0 {
		t.Errorf("Check: %d %s", a.status, a.body)
	}
	if a := do(t, s, "POST", "/api/pick", `{"a":1}`); a.status != 200 {
		t.Errorf("Check: %d %s", a.status, a.body)
	}
}

func TestDecode_ReadsTheQuery(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	n := do(t, s, "GET", channel+"/messages?limit=50&before=99&with_counts=true&query=%C3%A9t%C3%A9&other=1", "").seen(t)
	if *n.Query.Limit != 50 || n.Query.Before != 99 || !n.Query.With || n.Query.Word != "été" {
		t.Errorf("%+v", n.Query)
	}
	if n := do(t, s, "GET", channel+"/messages", "").seen(t); n.Query.Limit != nil || n.Query.With {
		t.Errorf("%+v", n.Query)
	}
	f := func(query string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, do(t, s, "GET", channel+"/messages?"+query, "").mistakes(t)); diff != "" {
			t.Errorf("%s:\n%s", query, diff)
		}
	}
	n = do(t, s, "GET", channel+"/messages?id=7&kind=red&id=8", "").seen(t)
	if diff := cmp.Diff([]id.ID{7, 8}, n.Query.IDs); diff != "" || len(n.Query.Kinds) != 1 || n.Query.Kinds[0] != "red" {
		t.Errorf("%+v", n.Query)
	}
	f("id=1&id=x", "id.1 NUMBER_TYPE_COERCE Value is not snowflake.")
	f("id=1&id=2&id=3", "id BASE_TYPE_MAX_LENGTH Must be 2 or fewer in length.")
	f("kind=red&kind=blue", "kind.1 BASE_TYPE_CHOICES Value must be one of (red, green).")
	f("limit=0", "limit NUMBER_TYPE_MIN int value should be greater than or equal to 1.")
	f("limit=101", "limit NUMBER_TYPE_MAX int value should be less than or equal to 100.")
	f("limit=x&before=y&with_counts=z&query=long",
		"before NUMBER_TYPE_COERCE Value is not snowflake.", "limit NUMBER_TYPE_COERCE Value is not int.",
		"query BASE_TYPE_MAX_LENGTH Must be 3 or fewer in length.", "with_counts BOOLEAN_TYPE_CONVERT Must be either true or false.")
	f("query=%00", "query STRING_TYPE_CONVERT Value is not a string.")
	f("query=%ff", "query STRING_TYPE_CONVERT Value is not a string.")
}

func TestDecode_LooksAtTheContentType(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	f := func(body, kind, encoding string, status int) {
		t.Helper()
		a := do(t, s, "POST", "/api/pick", body, "Content-Type", kind, "Content-Encoding", encoding)
		if a.status != status || status == 415 && a.body != `{"code":0,"message":"415: Unsupported Media Type"}` {
			t.Errorf("%q %q: %d %s", kind, encoding, a.status, a.body)
		}
	}
	const good = `{"a":1}`
	f(good, "application/json", "", 200)
	f(good, "application/json; charset=utf-8", "", 200)
	f(good, "Application/JSON", "identity", 200)
	f(good, "text/plain", "", 415)
	f(good, "application/jsonp", "", 415)
	f(good, "", "", 415)
	f(good, "application/json", "gzip", 415)
	f("", "", "", 400) // a and b are both 0, which Check refuses: the empty body was read as {}
}

func TestDecode_LimitsTheBody(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	text := func(n int) string { return `{"text":"` + strings.Repeat("x", n-11) + `"}` }
	f := func(path, body string, status int) {
		t.Helper()
		a := do(t, s, "POST", "/api/v10"+path, body)
		if a.status != status || status == 413 && a.body != `{"code":40005,"message":"Request entity too large"}` {
			t.Errorf("%s with %d bytes: %d %.100s", path, len(body), a.status, a.body)
		}
	}
	f("/small", text(64), 200)
	f("/small", text(65), 413)
	f("/large", text(1<<20), 200)
	f("/large", text(1<<20+1), 413)
	f("/pick", text(256<<10), 400) // read, and refused by Check
	f("/pick", text(256<<10+1), 413)
	f("/pick", text(3<<20), 413)

	// A client that asks first is told at once.
	conn := dial(t, s)
	_, _ = io.WriteString(conn, "POST /api/pick HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
	if got := readAll(t, conn); !strings.Contains(got, "HTTP/1.1 413 ") {
		t.Errorf("Expect: %q", got)
	}

	// Without a Content-Length the end is unknown until it comes.
	for path, status := range map[string]int{"/large": 200, "/pick": 413} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.Addr()+"/api"+path, io.MultiReader(strings.NewReader(text(300<<10))))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "user")
		req.Header.Set("Content-Type", "application/json")
		res, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("chunked %s: %d", path, res.StatusCode)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":"\u0000"}]}`, `{"a":1,"a":2}`, `"\`, `[[[[`, `]]]`, `{"":{"":0}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		nul, err := scan(raw)
		if err != nil || !json.Valid(raw) {
			return // enough that it came back
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		var d diagnosis
		if whole := d.nul(v, ""); nul != (!whole || len(d.wrong) > 0) {
			t.Errorf("%q: scan sees NUL: %v, the decoder: %v", raw, nul, d.wrong)
		}
	})
}

// Objects with more keys than are compared one by one find duplicates too.
func TestScan_FindsDuplicatesAmongManyKeys(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for n := 2; n < 4*keysLinearMax; n++ {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf(`"k%d":{"k0":0}`, i)
		}
		r.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		if _, err := scan([]byte("{" + strings.Join(keys, ",") + "}")); err != nil {
			t.Fatalf("seed %d, %d keys: %v", seed, n, err)
		}
		keys[r.IntN(n-1)] = keys[n-1]
		if _, err := scan([]byte("{" + strings.Join(keys, ",") + "}")); err != errDuplicate {
			t.Fatalf("seed %d, %d keys with a duplicate: %v", seed, n, err)
		}
	}
}
