package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

const channel = "/api/v10/channels/1234567890123456789"

func TestServe_MountsEveryVersionAlike(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	for _, base := range []string{"/api/v10", "/api/v9", "/api"} {
		if n := do(t, s, "GET", base+"/users/@me", "").seen(t); n.Handler != "me" || n.User != 7 {
			t.Errorf("%s: %+v", base, n)
		}
	}
	for _, path := range []string{"/api/v8/users/@me", "/api/v100/users/@me", "/api/v8"} {
		if a := do(t, s, "GET", path, ""); a.status != 400 || a.json(t)["code"] != 50041.0 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestServe_PrefersStaticSegments(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	f := func(path, handler, text string) {
		t.Helper()
		if n := do(t, s, "GET", "/api/v10"+path, "").seen(t); n.Handler != handler || n.Text != text {
			t.Errorf("%s: %s %q, want %s %q", path, n.Handler, n.Text, handler, text)
		}
	}
	f("/users/@me", "me", "")
	f("/users/42", "user", "42")
	f("/guilds/5/members/@me", "me", "")
	f("/guilds/5/members/6", "user", "6")
}

func TestServe_AnswersWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	for _, path := range []string{
		"/", "/nothing", "/api", "/api/", "/api/v10", "/api/v10/nothing", "/api/v10/users/@me/", "/apix/users/@me", "/users/@me",
		"/api/v10/channels/1/../../users/@me", "/api/v10//users/@me", `/api/v10/users\@me`, "/api/v10/users%2f@me",
	} {
		a := do(t, s, "GET", path, "")
		if a.status != 404 || a.body != `{"code":0,"message":"404: Not Found"}` || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	a := do(t, s, "PATCH", channel+"/messages", "")
	if a.status != 405 || a.header.Get("Allow") != "GET, HEAD, OPTIONS, POST" || a.json(t)["message"] != "405: Method Not Allowed" {
		t.Errorf("405: %d %q %s", a.status, a.header.Get("Allow"), a.body)
	}
	if a := do(t, s, "BREW", "/api/users/@me", ""); a.status != 405 {
		t.Errorf("unknown method: %d", a.status)
	}
	if a := do(t, s, "HEAD", "/api/users/@me", ""); a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
}

func TestServe_RefusesMalformedIDsBeforeTheHandler(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	for _, raw := range []string{"abc", "0", "-1", "+1", "1e3", "18446744073709551616", "%00", "1%20", "..", "%2e%2e"} {
		a := do(t, s, "DELETE", "/api/v10/channels/"+raw, "")
		want := `{"code":50035,"errors":{"channel_id":{"_errors":[{"code":"NUMBER_TYPE_COERCE","message":"Value is not snowflake."}]}},"message":"Invalid Form Body"}`
		if a.status != 400 || a.body != want {
			t.Errorf("%s: %d %s", raw, a.status, a.body)
		}
	}
	if a := do(t, s, "DELETE", "/api/v10/channels/abc", "", "Authorization", ""); a.status != 401 {
		t.Errorf("a stranger learned that the id is wrong: %d", a.status)
	}
}

func TestServe_ResolvesTextParameters(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	put := func(emoji string) answer {
		return do(t, s, "PUT", channel+"/messages/9/reactions/"+emoji+"/@me", "")
	}
	if n := put("%F0%9F%94%A5").seen(t); n.Text != "🔥" || n.Message != 9 {
		t.Errorf("%+v", n)
	}
	if n := put("a%2Fb:1").seen(t); n.Text != "a/b:1" {
		t.Errorf("%+v", n)
	}
	for _, raw := range []string{"%00", "%ff", "%0d%0aX:1", "%zz"} {
		conn := dial(t, s)
		_, _ = fmt.Fprintf(conn, "PUT %s/messages/9/reactions/%s/@me HTTP/1.1\r\nHost: a\r\nAuthorization: user\r\nConnection: close\r\n\r\n", channel, raw)
		if got := readAll(t, conn); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "STRING_TYPE_REGEX") {
			t.Errorf("%s: %s", raw, got)
		}
	}
}

func TestServe_GivesTheHandlerWhatTheClientSent(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	a := do(t, s, "GET", "/api/users/@me", "", "User-Agent", "probe/1", "X-Audit-Log-Reason", "a%20b%00", "X-Request-ID", "mine")
	n := a.seen(t)
	if n.Agent != "probe/1" || n.Reason != "a b" || n.RemoteAddr != "127.0.0.1" || n.HostName != s.Addr() {
		t.Errorf("%+v", n)
	}
	if len(n.RequestID) != 32 || a.header.Get("X-Request-Id") != n.RequestID {
		t.Errorf("request id %q, header %q", n.RequestID, a.header.Get("X-Request-Id"))
	}
	if escaped := do(t, s, "GET", "/api/users/%40me", ""); escaped.status != a.status {
		t.Errorf("an escaped @me is answered %d", escaped.status)
	}
	if old := do(t, s, "GET", "/api/users/@me?reason=a%20b%2525", "").seen(t); old.Reason != "a b%25" {
		t.Errorf("the reason of the query is %q", old.Reason)
	}
	long := do(t, s, "GET", "/api/users/@me", "", "X-Audit-Log-Reason", strings.Repeat("%C3%A9", 600)).seen(t)
	if long.Reason != strings.Repeat("é", 512) {
		t.Errorf("reason has %d bytes", len(long.Reason))
	}
}

func TestServe_Authenticates(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	f := func(path, token string, status int, body string) {
		t.Helper()
		a := do(t, s, "GET", "/api"+path, "", "Authorization", token)
		if a.status != status || body != "" && a.body != body {
			t.Errorf("%s as %.20q: %d %s", path, token, a.status, a.body)
		}
	}
	const unauthorized = `{"code":0,"message":"401: Unauthorized"}`
	f("/users/@me", "", 401, unauthorized)
	f("/users/@me", "wrong", 401, unauthorized)
	f("/users/@me", strings.Repeat("x", authorizationMax+1), 401, unauthorized)
	f("/users/@me", "Bot bot", 200, "")
	f("/people", "user", 200, "")
	f("/people", "Bot bot", 403, `{"code":20001,"message":"Bots cannot use this endpoint"}`)
	f("/open", "", 200, "")
	f("/open", "wrong", 200, "")
	f("/users/@me", "away", 500, `{"code":0,"message":"500: Internal Server Error"}`)
}

func TestServe_SurvivesAPanic(t *testing.T) {
	t.Parallel()
	out := new(logs)
	s := start(t, Config{}, Deps{Log: out.logger()}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	before := panicsTotal.Get()
	a := do(t, s, "GET", "/api/panics", "")
	if a.status != 500 || a.body != `{"code":0,"message":"500: Internal Server Error"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
	if panicsTotal.Get() == before {
		t.Error("the panic was not counted")
	}
	if log := out.String(); !strings.Contains(log, "secret detail") || !strings.Contains(log, "rest_test.go") || !strings.Contains(log, a.header.Get("X-Request-Id")) {
		t.Errorf("log has no stack or request id: %s", log)
	}
	if a := do(t, s, "GET", "/api/users/@me", ""); a.status != 200 {
		t.Errorf("after the panic: %d", a.status)
	}
}

func TestServe_EndsTheContextOfASlowRequest(t *testing.T) {
	t.Parallel()
	s := start(t, Config{RequestTimeout: 20 * time.Millisecond}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	if a := do(t, s, "GET", "/api/deadline", ""); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
}

// TestServe_AnswersBrowsersOfListedSites: an origin as it is, and nothing that only looks like it.
func TestServe_AnswersBrowsersOfListedSites(t *testing.T) {
	t.Parallel()
	const app = "https://app.example"
	s := start(t, Config{Origins: []string{app}}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("here")) })
	a := do(t, s, "OPTIONS", channel+"/messages", "", "Authorization", "", "Origin", app,
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
	h := a.header
	if a.status != 204 || h.Get("Access-Control-Allow-Origin") != app || h.Get("Access-Control-Allow-Credentials") != "" ||
		!strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %d %v", a.status, h)
	}
	if a := do(t, s, "OPTIONS", "/api/nothing", "", "Origin", app); a.status != 404 {
		t.Errorf("preflight of nothing: %d", a.status)
	}
	a = do(t, s, "GET", "/api/denied", "", "Origin", app)
	if a.status != 403 || a.header.Get("Access-Control-Allow-Origin") != app || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Retry-After") ||
		a.header.Get("Vary") != "Origin" {
		t.Errorf("answer: %d %v", a.status, a.header)
	}
	for _, origin := range []string{"", "null", "https://app.example.evil", "https://evil.app.example", "http://app.example", "https://app.example:8443", "https://APP.example", app + "/"} {
		for _, method := range []string{"GET", "OPTIONS"} {
			if a := do(t, s, method, "/api/users/@me", "", "Origin", origin); a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s of a page of %q may be read", method, origin)
			}
		}
	}
	all := start(t, Config{Origins: []string{"*"}}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("here")) })
	if a := do(t, all, "GET", "/api/users/@me", "", "Origin", "null"); a.header.Get("Access-Control-Allow-Origin") != "null" {
		t.Errorf("with all allowed: %v", a.header)
	}
}

func TestRaw_ServesPlainPathsByABareHandler(t *testing.T) {
	t.Parallel()
	s := start(t, Config{}, Deps{}, func(s *Server) {
		handler := func(ctx *fasthttp.RequestCtx) {
			if ctx.QueryArgs().Has("panic") {
				panic("raw")
			}
			ctx.SetBodyString("raw " + string(ctx.Path()))
		}
		s.Raw("GET", "/", handler)
		s.Raw("GET", "/gateway", handler)
		s.Raw("GET", "/api/v10/raw-stream", handler)
		Bind(s, siteRoutes, newSite("here"))
	})
	for path, want := range map[string]string{
		"/": "raw /", "/?v=10": "raw /", "/gateway": "raw /gateway", "/gateway/?v=10": "raw /gateway/", "/api/v10/raw-stream": "raw /api/v10/raw-stream",
	} {
		if a := do(t, s, "GET", path, "", "Authorization", ""); a.status != 200 || a.body != want {
			t.Errorf("%s: %d %q", path, a.status, a.body)
		}
	}
	if a := do(t, s, "POST", "/gateway", ""); a.status != 405 {
		t.Errorf("POST /gateway: %d", a.status)
	}
	if a := do(t, s, "GET", "/?panic", ""); a.status != 500 {
		t.Errorf("panic: %d", a.status)
	}
}

// An upgraded connection is the handler's: Stop neither waits for it nor closes it.
func TestRaw_LeavesAnUpgradedConnectionAlone(t *testing.T) {
	t.Parallel()
	conns := make(chan net.Conn, 1)
	s := start(t, Config{}, Deps{}, func(s *Server) {
		s.Raw("GET", "/gateway", func(ctx *fasthttp.RequestCtx) {
			ctx.SetStatusCode(fasthttp.StatusSwitchingProtocols)
			ctx.Response.Header.Set("Connection", "Upgrade")
			ctx.Response.Header.Set("Upgrade", "echo")
			ctx.Hijack(func(c net.Conn) { conns <- c })
		})
	})
	conn := dial(t, s)
	_, _ = io.WriteString(conn, "GET /gateway HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	theirs := <-conns
	s.Stop()
	if _, err := io.WriteString(theirs, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "still here\n" {
		t.Errorf("%q %v", line, err)
	}
	if err := theirs.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("Close of the upgraded connection did nothing: %v", err)
	}
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// readAll reads until the server closes.
func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the server did not close: %v, after %q", err, raw)
	}
	return string(raw)
}

func TestServe_RefusesAmbiguousRequestsAndCloses(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	const (
		line  = "POST /api/large HTTP/1.1\r\nHost: a\r\nAuthorization: user\r\nContent-Type: application/json\r\n"
		inner = "GET /api/open HTTP/1.1\r\nHost: a\r\n\r\n"
	)
	// The same request with honest framing is fine.
	conn := dial(t, s)
	_, _ = io.WriteString(conn, line+"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
	if got := readAll(t, conn); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Fatalf("got %q", got)
	}
	for name, raw := range map[string]string{
		"CL.TE":              line + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"CL.TE with a body":  line + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + inner,
		"CL.TE keep-alive":   line + "Connection: keep-alive\r\nCONTENT-LENGTH: 6\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + inner,
		"TE.CL empty":        line + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + inner,
		"TE.CL":              line + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + inner,
		"two CL":             line + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + inner,
		"two equal CL":       line + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + inner,
		"two TE":             line + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"TE identity":        line + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
		"TE on 1.0":          strings.Replace(line, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"negative CL":        line + "Content-Length: -2\r\n\r\n{}" + inner,
		"huge CL":            line + "Content-Length: 21000000000000000000\r\n\r\n{}" + inner,
		"signed CL":          line + "Content-Length: +2\r\n\r\n{}" + inner,
		"space before colon": line + "Content-Length : 2\r\n\r\n{}" + inner,
		"two hosts":          line + "Host: b\r\nContent-Length: 2\r\n\r\n{}" + inner,
		"no version":         "GET /api/open\r\n\r\n" + inner,
		"bad chunk":          line + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" + inner,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, s)
			if _, err := io.WriteString(conn, raw); err != nil {
				t.Fatal(err)
			}
			got := readAll(t, conn)
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1 ") != 1 || !strings.Contains(got, "Connection: close") {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestServe_LimitsHeadersAndSlowRequests(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ReadTimeout: 50 * time.Millisecond}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	conn := dial(t, s)
	go func() {
		// The server may close before it has read all.
		_, _ = io.WriteString(conn, "GET /api/open HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 17<<10)+"\r\n\r\n")
	}()
	if got := make([]byte, 13); true {
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "HTTP/1.1 431 " {
			t.Errorf("large header: %q %v", got, err)
		}
	}
	slow := dial(t, s)
	_, _ = io.WriteString(slow, "POST /api/pick HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
	if got := readAll(t, slow); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("slow body: %q", got)
	}
	idle := dial(t, s)
	if got := readAll(t, idle); strings.Contains(got, "200") {
		t.Errorf("silent connection: %q", got)
	}
}

// What a handler was given stays as it was when the connection's buffers hold the next request.
func TestCall_OutlivesTheRequestsBuffers(t *testing.T) {
	t.Parallel()
	type kept struct {
		call *Call
		in   body
	}
	var calls []kept // one connection, so one handler at a time
	s := start(t, Config{}, Deps{}, func(s *Server) {
		Bind(s, Table[*site]{
			POST("/keep/{emoji}", func(_ *site, c *Call, in body) (None, error) {
				calls = append(calls, kept{c, in})
				return None{}, nil
			}),
		}, newSite(""))
	})
	conn := dial(t, s)
	r := bufio.NewReader(conn)
	const n = 20
	for i := range n {
		text := strings.Repeat(string(rune('a'+i)), 16)
		raw := fmt.Sprintf(`{"name":%q,"tags":[%q]}`, text, text[:4])
		_, _ = fmt.Fprintf(conn, "POST /api/keep/%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nX-Audit-Log-Reason: %s\r\nAuthorization: user\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", text, text, text, text, len(raw), raw)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 204 {
			t.Fatal(res, err)
		}
	}
	s.Stop()
	for i, k := range calls {
		want := strings.Repeat(string(rune('a'+i)), 16)
		for _, got := range []string{k.call.Param("emoji"), k.call.Host(), k.call.UserAgent(), k.call.Reason(), k.in.Name, strings.Repeat(k.in.Tags[0], 4)} {
			if got != want {
				t.Errorf("request %d: %q, want %q", i, got, want)
			}
		}
	}
	if len(calls) != n {
		t.Errorf("%d calls", len(calls))
	}
}
