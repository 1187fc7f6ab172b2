package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// TestSecurity_idor_matrix asks every route that the server describes as each of ten, and holds the answers against idor.md. A route without a row
// fails, and so does a row without a route. A row that is new may be left without cells: the failure says what they would be, to be judged by a person.
func TestSecurity_idor_matrix(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	routes := c.routes(t)
	cells := 0
	for _, row := range matrix(t, "idor.md") {
		method, path, _ := strings.Cut(row.key, " ")
		path, _, _ = strings.Cut(path, "?")
		shape := method + " " + shapeOf(path)
		if _, ok := routes[shape]; !ok {
			t.Errorf("%s is in idor.md and not a route", row.key)
			continue
		}
		routes[shape] = true
		got := row
		got.cells = c.ask(t, row)
		for _, who := range askers {
			cells++
			if got.cells[who] != row.cells[who] {
				t.Errorf("%s as %s: %s, want %q; the row would be\n%s", row.key, who, got.cells[who], row.cells[who], got.markdown())
				break
			}
		}
	}
	for shape, asked := range routes {
		if !asked {
			t.Errorf("%s has no row in idor.md", shape)
		}
	}
	t.Logf("%d routes, %d cells", len(routes), cells)
}

// described is as much of the description as tests need.
type described struct {
	Paths map[string]map[string]json.RawMessage
}

type describedOperation struct {
	Responses map[string]struct{ Content map[string]any }
}

var (
	parameter   = regexp.MustCompile(`\{[^}]*\}`)
	placeholder = regexp.MustCompile(`\{[a-z][a-z-]*\}`) // and no JSON
)

func shapeOf(path string) string { return parameter.ReplaceAllString(path, "{}") }

// routes are all that the server describes.
func (c *court) routes(t *testing.T) map[string]bool {
	t.Helper()
	var d described
	c.must(t, c.as["anonymous"].Do(t.Context(), "GET", "/openapi.json", nil, &d))
	out := map[string]bool{}
	for path, item := range d.Paths {
		delete(item, "servers")
		for method, raw := range item {
			var op describedOperation
			c.must(t, json.Unmarshal(raw, &op))
			out[strings.ToUpper(method)+" "+shapeOf(path)] = false
			for status, res := range op.Responses {
				if status[0] == '2' && status != "204" && res.Content == nil {
					t.Errorf("%s %s answers %s and does not say with what: rest.Answers", method, path, status)
				}
			}
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d routes are described", len(out))
	}
	return out
}

// ask sends a row's request as each asker, at the same time, and returns what each got.
func (c *court) ask(t *testing.T, row matrixRow) map[string]string {
	t.Helper()
	out := map[string]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, who := range askers {
		method, path, _ := strings.Cut(c.fill(t, row.key, who), " ")
		body := c.fill(t, row.what, who)
		all.Go(func() {
			got := c.send(t, c.as[who], method, path, body)
			for range 100 { // so many passwords at once are refused
				if got != "503 130000" {
					break
				}
				got = c.send(t, c.as[who], method, path, body)
			}
			mu.Lock()
			defer mu.Unlock()
			out[who] = got
		})
	}
	all.Wait()
	return out
}

// fill puts in what a row speaks of. What is fresh is made for each asker.
func (c *court) fill(t *testing.T, text, who string) string {
	t.Helper()
	return placeholder.ReplaceAllStringFunc(text, func(name string) string {
		name = strings.Trim(name, "{}")
		if make, ok := c.fresh[name]; ok {
			return make(t)
		}
		if fixed, ok := c.names[name]; ok {
			return fixed
		}
		switch name {
		case "self":
			return c.as[who].id.String()
		case "mine":
			if m, err := c.as[who].Say(t.Context(), c.channel, "mine"); err == nil {
				return m.ID.String()
			}
			return c.names["message"]
		}
		t.Errorf("a row speaks of {%s}, which is nothing", name)
		return name
	})
}

// rooted are the paths that are not under /api.
var rooted = []string{"/avatars/", "/icons/", "/setup", "/reset", "/reference", "/attachments/"}

func (c *court) send(t *testing.T, as *person, method, path, body string) string {
	url := c.url + "/api/v10" + path
	for _, root := range rooted {
		if strings.HasPrefix(path, root) {
			url = c.url + path
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return "?"
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if as.token != "" {
		req.Header.Set("Authorization", as.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		t.Error(err)
		return "?"
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	var refused struct{ Code int }
	if res.StatusCode < 400 {
		return fmt.Sprint(res.StatusCode)
	}
	if err := json.Unmarshal(raw, &refused); err != nil {
		t.Errorf("%s %s: %d %s", method, path, res.StatusCode, raw)
	}
	if refused.Code == 0 {
		return fmt.Sprint(res.StatusCode)
	}
	return fmt.Sprintf("%d %d", res.StatusCode, refused.Code)
}
