package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is what the server in a test has seen.
type request struct {
	Method, Path, Query, Authorization, Body string
}

// answers serves the given handlers in order, the last one again and again, and keeps what was asked.
type answers struct {
	mu       sync.Mutex
	requests []request
	next     []http.HandlerFunc
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.requests = append(a.requests, request{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Authorization"), string(body)})
	h := a.next[0]
	if len(a.next) > 1 {
		a.next = a.next[1:]
	}
	a.mu.Unlock()
	h(w, r)
}

func (a *answers) seen() []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

func answerWith(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func setup(t *testing.T, next ...http.HandlerFunc) (*Client, *answers) {
	t.Helper()
	a := &answers{next: next}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	c, err := New(Config{URL: srv.URL, Token: "Bot t", HTTP: srv.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return c, a
}

func TestClient_SendsTokenAndReadsAnswer(t *testing.T) {
	t.Parallel()
	c, a := setup(t, answerWith(200, `[{"id":"5","content":"hi"}]`))
	limit := 2
	got, err := c.Messages(context.Background(), 7, wire.ListMessages{Before: 9, Limit: &limit})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ID != 5 || got[0].Content != "hi" {
		t.Errorf("got %+v", got)
	}
	want := []request{{Method: "GET", Path: "/api/v10/channels/7/messages", Query: "before=9&limit=2", Authorization: "Bot t"}}
	if d := cmp.Diff(want, a.seen()); d != "" {
		t.Error(d)
	}
}

func TestClient_EscapesTextsInPaths(t *testing.T) {
	t.Parallel()
	c, a := setup(t, answerWith(200, `{}`))
	if _, err := c.Invite(context.Background(), "a/../b c?", wire.GetInvite{WithCounts: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := a.seen()[0].Path, "/api/v10/invites/a%2F..%2Fb%20c%3F"; got != want {
		t.Errorf("path is %s, want %s", got, want)
	}
}

func TestClient_ReadsFieldErrors(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, answerWith(400, `{"code":50035,"message":"Invalid Form Body","errors":{
		"content":{"_errors":[{"code":"BASE_TYPE_REQUIRED","message":"This field is required"}]},
		"embeds":{"0":{"title":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH","message":"long"}]}}}}}`))
	_, err := c.Say(context.Background(), 7, "")
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	want := &Error{Status: 400, Code: fault.InvalidForm, Message: "Invalid Form Body", Errors: []fault.Field{
		{Path: "content", Code: "BASE_TYPE_REQUIRED", Message: "This field is required"},
		{Path: "embeds.0.title", Code: "BASE_TYPE_MAX_LENGTH", Message: "long"},
	}}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
	if !IsCode(err, fault.InvalidForm) || !IsStatus(err, 400) || e.Field("embeds.0.title") != "BASE_TYPE_MAX_LENGTH" {
		t.Error("IsCode, IsStatus or Field does not see it")
	}
}

func TestClient_ErrorWithoutJSONKeepsStatus(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, answerWith(404, `<html>`))
	_, err := c.Me(context.Background())
	if !IsStatus(err, 404) {
		t.Errorf("got %v", err)
	}
}

func TestClient_Waits429AsTold(t *testing.T) {
	t.Parallel()
	c, a := setup(t,
		answerWith(429, `{"message":"You are being rate limited.","retry_after":0.02,"code":0}`, "Retry-After", "1"),
		answerWith(200, `{"id":"3"}`))
	before := time.Now()
	if _, err := c.CreateGuild(context.Background(), "g"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(before); took < 20*time.Millisecond {
		t.Errorf("waited %v, told to wait 20 ms", took)
	}
	if n := len(a.seen()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestClient_ReturnsErrorOfLong429(t *testing.T) {
	t.Parallel()
	c, a := setup(t, answerWith(429, `{"message":"m","code":0}`, "Retry-After", "3600"))
	_, err := c.Me(context.Background())
	var e *Error
	if !errors.As(err, &e) || e.RetryAfter != time.Hour {
		t.Errorf("got %v", err)
	}
	if n := len(a.seen()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestClient_RetriesGetAfter5xx(t *testing.T) {
	t.Parallel()
	c, a := setup(t, answerWith(503, ``), answerWith(502, ``), answerWith(200, `{"id":"3"}`))
	u, err := c.Me(context.Background())
	if err != nil || u.ID != 3 {
		t.Fatalf("got %+v, %v", u, err)
	}
	if n := len(a.seen()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestClient_RetriesHaveALimit(t *testing.T) {
	t.Parallel()
	c, a := setup(t, answerWith(503, `{"message":"503: Service Unavailable","code":0}`))
	c.cfg.AttemptsMax = 2
	if _, err := c.Me(context.Background()); !IsStatus(err, 503) {
		t.Errorf("got %v", err)
	}
	if n := len(a.seen()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestClient_DoesNotRepeatPost(t *testing.T) {
	t.Parallel()
	c, a := setup(t, answerWith(503, ``), answerWith(200, `{}`))
	if _, err := c.CreateGuild(context.Background(), "g"); !IsStatus(err, 503) {
		t.Errorf("got %v, want the 503", err)
	}
	if n := len(a.seen()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestClient_RepeatsMessageWithSameNonce(t *testing.T) {
	t.Parallel()
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	c, a := setup(t, hangUp, answerWith(503, ``), answerWith(200, `{"id":"3"}`))
	m, err := c.Say(context.Background(), 7, "hi")
	if err != nil || m.ID != 3 {
		t.Fatalf("got %+v, %v", m, err)
	}
	seen := a.seen()
	if len(seen) != 3 || seen[0].Body != seen[1].Body || seen[1].Body != seen[2].Body {
		t.Fatalf("bodies differ: %+v", seen)
	}
	var in wire.CreateMessage
	if err := json.Unmarshal([]byte(seen[0].Body), &in); err != nil {
		t.Fatal(err)
	}
	if in.Nonce.Text() == "" || len(in.Nonce.Text()) > wire.NonceMax || !in.EnforceNonce {
		t.Errorf("nonce %q, enforced %v", in.Nonce, in.EnforceNonce)
	}
}

func TestClient_KeepsCallersNonce(t *testing.T) {
	t.Parallel()
	c, a := setup(t, answerWith(200, `{}`))
	if _, err := c.CreateMessage(context.Background(), 7, wire.CreateMessage{Content: "x", Nonce: `"mine"`}); err != nil {
		t.Fatal(err)
	}
	var in wire.CreateMessage
	if err := json.Unmarshal([]byte(a.seen()[0].Body), &in); err != nil || in.Nonce != `"mine"` {
		t.Errorf("nonce is %s (%v)", in.Nonce, err)
	}
}

func TestClient_StopsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	c, a := setup(t, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		w.WriteHeader(503)
	})
	if _, err := c.Me(ctx); err == nil {
		t.Error("no error")
	}
	if n := len(a.seen()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	err := Config{URL: "localhost:80", Timeout: -1, AttemptsMax: -1}.Validate()
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("got %v, want three mistakes", err)
	}
}
