package rest

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hmacKey signs proofs in the way that processes of one installation do.
type hmacKey string

func (k hmacKey) mac(text string) string {
	m := hmac.New(sha256.New, []byte(k))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

func (k hmacKey) Sign(addr, requestID string, expiry time.Time) string {
	text := fmt.Sprintf("%s %s %d", addr, requestID, expiry.Unix())
	return text + " " + k.mac(text)
}

func (k hmacKey) Verify(proof string) (addr, requestID string, err error) {
	at := strings.LastIndexByte(proof, ' ')
	if at < 0 || !hmac.Equal([]byte(k.mac(proof[:at])), []byte(proof[at+1:])) {
		return "", "", errors.New("wrong key")
	}
	f := strings.Fields(proof)
	expiry, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || time.Now().Unix() > expiry {
		return "", "", errors.New("expired")
	}
	return f[0], f[1], nil
}

const key = hmacKey("secret")

func internal(t *testing.T, name string) *Server {
	t.Helper()
	return start(t, Config{Internal: true}, Deps{Verifier: key}, func(s *Server) { Bind(s, siteRoutes, newSite(name)) })
}

func gateway(t *testing.T, cfg Config, addrs ...string) *Server {
	t.Helper()
	return start(t, cfg, Deps{Signer: key}, func(s *Server) { Forward(s, siteRoutes, &Upstream{Addrs: addrs}) })
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

func TestForward_IsLikeBind(t *testing.T) {
	t.Parallel()
	local := start(t, Config{}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("there")) })
	far := gateway(t, Config{}, internal(t, "there").Addr())
	type request struct{ method, path, body string }
	for _, r := range []request{
		{"GET", "/api/users/@me", ""}, {"GET", "/api/v9/users/4", ""}, {"GET", "/api/users/x", ""}, {"HEAD", "/api/users/@me", ""},
		{"POST", channel + "/messages", `{"name":"ok","text":"😀"}`}, {"POST", channel + "/messages", `{`}, {"POST", channel + "/messages", ``},
		{"GET", channel + "/messages?limit=5&query=a%26b", ""}, {"DELETE", channel, ""}, {"POST", "/api/created", `{"a":1}`},
		{"PUT", channel + "/messages/9/reactions/a%2Fb%F0%9F%94%A5/@me", ""}, {"GET", "/api/limited", ""}, {"GET", "/api/away", ""},
		{"GET", "/api/fails", ""}, {"GET", "/api/panics", ""}, {"GET", "/api/nothing", ""}, {"PATCH", "/api/users/@me", ""}, {"GET", "/api/raw", ""},
		{"POST", "/api/large", `{"text":"` + strings.Repeat("x", 1<<19) + `"}`}, {"POST", "/api/small", `{"text":"` + strings.Repeat("x", 100) + `"}`},
		{"POST", "/api/pick", `{"text":"` + strings.Repeat("x", 1<<18) + `"}`}, {"OPTIONS", "/api/users/@me", ""},
		{"GET", "/files/a.png", ""}, {"HEAD", "/files/a.png", ""}, {"POST", "/files/a.png", ""}, {"GET", "/api/files/a.png", ""},
	} {
		headers := []string{"X-Audit-Log-Reason", "why%20not", "User-Agent", "probe", "Host", "chat.example"}
		want, got := do(t, local, r.method, r.path, r.body, headers...), do(t, far, r.method, r.path, r.body, headers...)
		id := got.header.Get("X-Request-Id")
		want.body = strings.ReplaceAll(want.body, want.header.Get("X-Request-Id"), id)
		want.body = strings.ReplaceAll(want.body, local.Addr(), far.Addr())
		for _, a := range []answer{want, got} {
			a.header.Del("X-Request-Id")
			a.header.Del("Date")
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(answer{})); diff != "" || len(id) != 32 {
			t.Errorf("%s %s: %s", r.method, r.path, diff)
		}
	}
}

func TestInternal_AcceptsOnlyAValidProof(t *testing.T) {
	t.Parallel()
	s := internal(t, "there")
	f := func(proof string, status int) {
		t.Helper()
		for _, path := range []string{"/api/open", "/api/users/@me", "/api/nothing"} {
			a := do(t, s, "GET", path, "", proofHeader, proof)
			if want := map[bool]int{true: status, false: 404}[status == 401 || path != "/api/nothing"]; a.status != want {
				t.Errorf("%s with %q: %d", path, proof, a.status)
			}
		}
	}
	later := time.Now().Add(proofLife)
	f("", 401)
	f("garbage", 401)
	f(strings.Repeat("x", authorizationMax+1), 401)
	f(hmacKey("other").Sign("9.9.9.9", "rid", later), 401)
	f(key.Sign("9.9.9.9", "rid", time.Now().Add(-time.Minute)), 401)
	f(strings.Replace(key.Sign("9.9.9.9", "rid", later), "9.9.9.9", "8.8.8.8", 1), 401)
	f(key.Sign("9.9.9.9", "rid", later), 200)
	a := do(t, s, "GET", "/api/users/@me", "", proofHeader, key.Sign("9.9.9.9", "rid", later), "Authorization", "wrong")
	if a.status != 401 {
		t.Errorf("a proof is no token: %d", a.status)
	}
	n := do(t, s, "GET", "/api/users/@me", "", proofHeader, key.Sign("9.9.9.9", "rid", later)).seen(t)
	if n.RemoteAddr != "9.9.9.9" || n.RequestID != "rid" {
		t.Errorf("%+v", n)
	}
}

// A bare server shows what goes over the wire between processes.
func TestForward_PassesOnWhatIsMeantForTheOtherEnd(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	far := gateway(t, Config{}, bare(t, func(r *http.Request) string {
		got <- r
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n" +
			"X-Custom: yes\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n{}"
	}))
	a := do(t, far, "POST", "/api/pick", `{}`, "Connection", "X-Drop, close", "X-Drop", "1", "Te", "trailers", "X-Forwarded-For", "6.6.6.6",
		"Forwarded", "for=6.6.6.6", "X-Request-Id", "forged", proofHeader, "forged", "X-Keep", "2", "Cookie", "c=3", "Upgrade", "h2c", "Expect", "")
	r := <-got
	for name, want := range map[string]string{
		"X-Drop": "", "Te": "", "X-Forwarded-For": "", "Forwarded": "", "Upgrade": "", "Connection": "", "X-Keep": "2", "Cookie": "c=3", "Via": "1.1 xcord",
		"Authorization": "user", "Content-Type": "application/json", "Content-Length": "2", "X-Request-Id": a.header.Get("X-Request-Id"),
	} {
		if v := r.Header.Get(name); v != want || len(r.Header.Values(name)) > 1 {
			t.Errorf("request %s = %q, want %q", name, r.Header.Values(name), want)
		}
	}
	if addr, id, err := key.Verify(r.Header.Get(proofHeader)); err != nil || addr != "127.0.0.1" || id != a.header.Get("X-Request-Id") {
		t.Errorf("proof %q: %v", r.Header.Get(proofHeader), err)
	}
	if r.Host != far.Addr() {
		t.Errorf("host %q", r.Host)
	}
	if a.header.Get("X-Custom") != "yes" || a.header.Get("Keep-Alive") != "" || a.header.Get("X-Hop") != "" || len(a.header.Values("Set-Cookie")) != 2 || a.body != "{}" {
		t.Errorf("answer %v %s", a.header, a.body)
	}
}

func TestForward_AuthenticatesBeforeItPassesOn(t *testing.T) {
	t.Parallel()
	far := gateway(t, Config{}, bare(t, func(r *http.Request) string {
		t.Errorf("%s %s was forwarded", r.Method, r.URL)
		return ""
	}))
	if a := do(t, far, "GET", "/api/users/@me", "", "Authorization", "wrong"); a.status != 401 {
		t.Errorf("bad token: %d", a.status)
	}
	if a := do(t, far, "GET", "/api/people", "", "Authorization", "Bot bot"); a.status != 403 {
		t.Errorf("bot: %d", a.status)
	}
	if a := do(t, far, "GET", "/api/users/x", ""); a.status != 400 {
		t.Errorf("bad id: %d", a.status)
	}
}

func TestForward_SpreadsAndFailsOver(t *testing.T) {
	t.Parallel()
	dead := closedPort(t)
	far := gateway(t, Config{}, internal(t, "a").Addr(), dead, internal(t, "b").Addr())
	got := map[string]int{}
	for range 30 {
		// POST too: a refused connection has carried nothing.
		got[do(t, far, "POST", channel+"/messages", `{"name":"ok"}`).seen(t).Site]++
	}
	if got["a"]+got["b"] != 30 || got["a"] < 10 || got["b"] < 10 {
		t.Errorf("spread %v", got)
	}
}

func TestForward_Is503WhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	for _, addrs := range [][]string{nil, {closedPort(t)}, {closedPort(t), closedPort(t)}} {
		far := gateway(t, Config{}, addrs...)
		a := do(t, far, "GET", "/api/users/@me", "")
		if a.status != 503 || a.header.Get("Retry-After") == "" || a.body != `{"code":0,"message":"503: Service Unavailable"}` {
			t.Errorf("%v: %d %v %s", addrs, a.status, a.header, a.body)
		}
	}
}

// An upstream that takes the request and dies: only what changes nothing is sent again.
func TestForward_DoesNotRepeatWhatMayHaveBeenReceived(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{}
	dying := bare(t, func(r *http.Request) string {
		mu.Lock()
		defer mu.Unlock()
		got[r.Method]++
		return ""
	})
	far := gateway(t, Config{}, dying, dying)
	for _, method := range []string{"GET", "POST"} {
		path := "/api/users/@me"
		if method == "POST" {
			path = "/api/pick"
		}
		if a := do(t, far, method, path, ""); a.status != 503 {
			t.Errorf("%s: %d", method, a.status)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(map[string]int{"GET": 2, "POST": 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestForward_FollowsAnUpstreamThroughARestart(t *testing.T) {
	t.Parallel()
	up := internal(t, "there")
	far := gateway(t, Config{}, up.Addr())
	do(t, far, "GET", "/api/users/@me", "").seen(t)
	addr := up.Addr()
	up.Stop()
	if a := do(t, far, "GET", "/api/users/@me", ""); a.status != 503 {
		t.Errorf("while it is away: %d", a.status)
	}
	start(t, Config{Internal: true, Addr: addr}, Deps{Verifier: key}, func(s *Server) { Bind(s, siteRoutes, newSite("again")) })
	if n := do(t, far, "GET", "/api/users/@me", "").seen(t); n.Site != "again" {
		t.Errorf("%+v", n)
	}
}

func TestForward_GivesUpAtTheDeadline(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	far := gateway(t, Config{RequestTimeout: time.Millisecond}, bare(t, func(*http.Request) string {
		<-release
		return ""
	}))
	if a := do(t, far, "POST", "/api/pick", `{}`); a.status != 503 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// slowly is a process that sends the first half of a download, and the second after wait.
func slowly(t *testing.T, wait func()) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/downloads/") {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(downloadText)))
		_, _ = io.WriteString(w, downloadText[:8])
		_ = http.NewResponseController(w).Flush()
		wait()
		_, _ = io.WriteString(w, downloadText[8:])
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestForward_LetsADownloadTakeItsTime: who has a slow line is not cut off when the time is over that a request has.
func TestForward_LetsADownloadTakeItsTime(t *testing.T) {
	t.Parallel()
	addr := slowly(t, func() { <-time.After(forwardGrace + 200*time.Millisecond) }) // it is this time that must not matter
	far := start(t, Config{RequestTimeout: time.Millisecond}, Deps{Signer: key}, func(s *Server) { Forward(s, formRoutes, &Upstream{Addrs: []string{addr}}) })
	if a := do(t, far, "GET", "/downloads/a", ""); a.status != 200 || a.body != downloadText {
		t.Errorf("%d %q", a.status, a.body)
	}
}

// TestForward_DownloadsLeaveRoomForOthers: each has a connection for as long as its client takes.
func TestForward_DownloadsLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	begun, more := make(chan struct{}), make(chan struct{})
	addr := slowly(t, func() {
		begun <- struct{}{}
		<-more
	})
	far := start(t, Config{}, Deps{Signer: key}, func(s *Server) { Forward(s, formRoutes, &Upstream{Addrs: []string{addr}}) })
	t.Cleanup(func() { close(more) }) // before the servers wait for those whom they serve
	for range upstreamConnsMax {
		conn, err := net.Dial("tcp", far.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET /downloads/a HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	for range upstreamConnsMax {
		<-begun
	}
	if a := do(t, far, "POST", "/api/channels/7/plain", `{}`); a.status != 204 {
		t.Errorf("%d %q", a.status, a.body)
	}
}

// bare accepts connections, parses requests and answers with exact bytes; an empty answer closes the connection.
func bare(t *testing.T, respond func(*http.Request) string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	serve := func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		r := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			req.Header.Set("Content-Length", strconv.FormatInt(req.ContentLength, 10))
			text := respond(req)
			if _, err := io.WriteString(conn, text); err != nil || text == "" {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		cancel()
		wg.Wait()
	})
	return ln.Addr().String()
}
