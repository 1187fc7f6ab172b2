package rest

import (
	"crypto/sha256"
	"encoding/base64"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestDescribe_TellsEveryRouteOfTheServer: by its tables, and in both forms.
func TestDescribe_TellsEveryRouteOfTheServer(t *testing.T) {
	t.Parallel()
	// What is no JSON cannot be told.
	table := slices.DeleteFunc(slices.Clone(siteRoutes), func(r Route[*site]) bool { return r.out == reflect.TypeFor[chan int]() })
	s := start(t, Config{}, Deps{}, func(s *Server) {
		Bind(s, table, newSite("here"))
		s.Describe()
	})
	paths := do(t, s, "GET", "/api/v10/openapi.json", "").json(t)["paths"].(map[string]any)
	page := do(t, s, "GET", ReferencePath, "")
	if len(s.Routes()) != len(table)+2 {
		t.Errorf("%d routes are known of %d and the description's own two", len(s.Routes()), len(table))
	}
	told := 0
	for _, item := range paths {
		for method := range item.(map[string]any) {
			if method != "servers" {
				told++
			}
		}
	}
	if told != len(s.Routes()) {
		t.Errorf("%d routes are described of %d", told, len(s.Routes()))
	}
	if n := strings.Count(page.body, "<summary><b>"); n != len(s.Routes()) {
		t.Errorf("%d routes are on the page, of %d", n, len(s.Routes()))
	}
	_, after, _ := strings.Cut(page.body, "<style>")
	style, _, _ := strings.Cut(after, "</style>")
	hash := sha256.Sum256([]byte(style))
	policy := page.header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"';") || !strings.HasPrefix(policy, "default-src 'none';") {
		t.Errorf("the policy %s does not allow the style, or more than it", policy)
	}
	if got := page.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("the page is %s", got)
	}
}
