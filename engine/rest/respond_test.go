package rest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/fault"
)

func TestEncode_WritesEveryKindOfAnswer(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	f := func(method, path, in string, status int, body string) {
		t.Helper()
		a := do(t, s, method, "/api/v10"+path, in)
		if a.status != status || a.body != body {
			t.Errorf("%s %s: %d %q, want %d %q", method, path, a.status, a.body, status, body)
		}
		if want := "application/json"; body != "" && a.header.Get("Content-Type") != want || body == "" && a.header.Get("Content-Type") != "" {
			t.Errorf("%s: content type %q", path, a.header.Get("Content-Type"))
		}
		for _, name := range []string{"Date", "X-Request-Id", "X-Content-Type-Options"} {
			if len(a.header.Values(name)) != 1 {
				t.Errorf("%s: %s = %q", path, name, a.header.Values(name))
			}
		}
		if a.header.Get("Server") != "" {
			t.Errorf("the server names itself: %q", a.header.Get("Server"))
		}
	}
	f("DELETE", "/channels/5", "", 204, "")
	f("POST", "/created", `{"a":1}`, 201, `{"a":1,"b":0}`)
	f("GET", "/raw", "", 200, `{"a":"<b>"}`)
	f("GET", "/raw-none", "", 204, "")
	f("GET", "/empty", "", 200, "[]")
	f("GET", "/html", "", 200, `{"a":"<&>"}`)
	f("GET", "/unencodable", "", 500, `{"code":0,"message":"500: Internal Server Error"}`)
}

// TestFail_SaysAnOutageOnceAtEachEnd: refusing a million requests must not write a million lines.
func TestFail_SaysAnOutageOnceAtEachEnd(t *testing.T) {
	t.Parallel()
	out := new(logs)
	s := start(t, Config{}, Deps{Log: out.logger()}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	f := func(refusing, no int, what string) {
		t.Helper()
		log := out.String()
		if strings.Count(log, "requests are refused\"") != refusing || strings.Count(log, "requests are refused no more") != no {
			t.Errorf("%s: %s", what, log)
		}
	}
	for range 3 {
		do(t, s, "GET", "/api/away", "")
	}
	f(1, 0, "in the outage")
	if log := out.String(); !strings.Contains(log, "secret") {
		t.Errorf("the cause is not in the log: %s", log)
	}
	s.refusals.settle(time.Now().Add(refusalsQuiet / 2))
	f(1, 0, "still in it")
	s.refusals.settle(time.Now().Add(refusalsQuiet))
	s.refusals.settle(time.Now().Add(2 * refusalsQuiet))
	f(1, 1, "afterwards")
	if log := out.String(); !strings.Contains(log, "refused=3") {
		t.Errorf("the count is not in the log: %s", log)
	}
	do(t, s, "GET", "/api/away", "")
	f(2, 1, "in the next one")
}

func TestFile_IsOfItsOwnTypeAndNotUnderTheAPI(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	a := do(t, s, "GET", "/files/a.png", "", "Authorization", "")
	h := a.header
	if a.status != 200 || a.body != "a.png" || h.Get("Content-Type") != "image/png" || h.Get("Content-Security-Policy") != "sandbox" ||
		h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v %s", a.status, h, a.body)
	}
	if a := do(t, s, "GET", "/api/files/a.png", ""); a.status != 404 {
		t.Errorf("under the API: %d", a.status)
	}
}

func TestFail_TellsNobodyTheCause(t *testing.T) {
	t.Parallel()
	out := new(logs)
	s := start(t, Config{}, Deps{Log: out.logger()}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	a := do(t, s, "GET", "/api/fails", "")
	if a.status != 500 || a.body != `{"code":0,"message":"500: Internal Server Error"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
	if log := out.String(); strings.Count(log, "request failed") != 1 || !strings.Contains(log, "secret detail") || !strings.Contains(log, a.header.Get("X-Request-Id")) {
		t.Errorf("log: %s", log)
	}
	a = do(t, s, "GET", "/api/away", "")
	if a.status != 503 || a.header.Get("Retry-After") != "2" || strings.Contains(a.body, "secret") {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	a = do(t, s, "GET", "/api/limited", "")
	if a.status != 429 || a.header.Get("Retry-After") != "2" || a.header.Get("Via") != "1.1 xcord" || a.header.Get("X-RateLimit-Scope") != "user" ||
		a.body != `{"code":0,"global":false,"message":"You are being rate limited.","retry_after":1.2}` {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	a = do(t, s, "GET", "/api/denied", "")
	if a.status != 403 || a.body != `{"code":50013,"message":"Missing Permissions"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestErrorTree_NestsPaths(t *testing.T) {
	t.Parallel()
	got := errorTree([]fault.Field{{Path: "a.0.b", Code: "X", Message: "x"}, {Path: "a.0.b", Code: "Y", Message: "y"}, {Path: "a", Code: "Z", Message: "z"}, {Code: "R", Message: "r"}})
	want := `{"_errors":[{"code":"R","message":"r"}],"a":{"0":{"b":{"_errors":[{"code":"X","message":"x"},{"code":"Y","message":"y"}]}},"_errors":[{"code":"Z","message":"z"}]}}`
	if diff := cmp.Diff(want, marshal(t, got)); diff != "" {
		t.Error(diff)
	}
}
