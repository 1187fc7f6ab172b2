package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/services/node"
)

func TestSecurity_http_body_limit(t *testing.T) {
	t.Parallel()
	w := single(t)
	const head = "POST /api/v10/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
	for name, raw := range map[string]string{
		"said":    head + "Content-Length: 300000\r\n\r\n" + strings.Repeat("a", 300_000),
		"chunks":  head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("a", 0x1000)+"\r\n", 100),
		"a lie":   head + "Content-Length: 99999999999\r\n\r\n{",
		"a bomb":  head + "Content-Encoding: gzip\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\x1f\x8b\x08",
		"no JSON": head + "Content-Length: 262144\r\nConnection: close\r\n\r\n" + strings.Repeat("[", 262_144),
	} {
		want := []int{map[string]int{"a bomb": 415, "no JSON": 400}[name]}
		if want[0] == 0 {
			want[0] = 413
		}
		got := statuses(t, spoken(t, w.url, raw))
		if late := len(got) == 0 && len(raw) > 64<<10; late {
			continue // closed while we were still sending, which may take the answer away
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	w.alive(t)
}

// TestSecurity_http_slowloris: whoever sends byte after byte is cut off by the time for the whole request, in the headers and in the body.
func TestSecurity_http_slowloris(t *testing.T) {
	t.Parallel()
	w := guarded(t, func(s *node.Settings) { s.ReadTimeout = 300 * time.Millisecond })
	for name, start := range map[string]string{
		"nothing":   "",
		"a header":  "GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nX-Slow: ",
		"a body":    "POST /api/v10/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
		"chunks":    "POST /api/v10/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n",
		"an answer": "GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\n\r\nGET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nX-Slow: ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := line(t, w.url)
			if _, err := io.WriteString(conn, start); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = io.Copy(io.Discard, conn)
			}()
			drip := time.NewTicker(10 * time.Millisecond)
			defer drip.Stop()
			for end := time.After(patience); ; {
				select {
				case <-ended:
					return
				case <-end:
					t.Fatal("a client that takes for ever is waited for")
				case <-drip.C:
					if name != "nothing" {
						_, _ = conn.Write([]byte("a")) // it fails when the server is done with us
					}
				}
			}
		})
	}
}

func TestSecurity_http_hdr_64k(t *testing.T) {
	t.Parallel()
	w := single(t)
	f := func(name, raw string, want ...int) {
		t.Helper()
		if got := statuses(t, spoken(t, w.url, raw)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	f("one", "GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n", 431)
	f("many", "GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("X: y\r\n", 12_000)+"\r\n", 431)
	f("path", "GET /api/v10/"+strings.Repeat("x", 64<<10)+" HTTP/1.1\r\nHost: a\r\n\r\n", 431)
	f("token", "GET /api/v10/users/@me HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: "+strings.Repeat(".", 8<<10)+"\r\n\r\n", 401)
	w.alive(t)
}

// TestSecurity_text sends what is no request, or says it in a way that nobody should: one scene for all of it, which none of it changes.
func TestSecurity_text(t *testing.T) {
	t.Parallel()
	s := newScene(t, single(t))
	attack(t, "json_depth_10k", s.deepJSON)
	attack(t, "json_unknown_field", s.unknownFields)
	attack(t, "json_dup_key", s.doubleKeys)
	attack(t, "json_bigint", s.bigNumbers)
	attack(t, "content_type_text", s.otherTypes)
	attack(t, "sqli_xss_corpus", s.codeAsText)
	attack(t, "nul_in_text", s.nulInText)
	attack(t, "unicode_name", s.oddNames)
	attack(t, "content_runes", s.countedRunes)
	attack(t, "mention_bomb", s.manyMentions)
	attack(t, "cookie_flags", s.noCookies)
}

func (s *scene) deepJSON(t *testing.T) {
	for _, body := range []string{
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		`{"content":"x","unknown":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}",
	} {
		plain(t, "depth", s.refused(t, post(body), 400, fault.InvalidJSON))
	}
}

func (s *scene) unknownFields(t *testing.T) {
	body := `{"content":"x","id":"1","author":{"id":"1","bot":true},"type":7,"pinned":true,"webhook_id":"1","__proto__":{"admin":true},"constructor":1}`
	var m wire.Message
	if err := json.Unmarshal(s.accepted(t, query{method: "POST", path: "/channels/$other/messages", body: body}, 200), &m); err != nil {
		t.Fatal(err)
	}
	if m.Author.ID != s.ada.id || m.Author.Bot || m.Type != wire.MessageDefault || m.Pinned || m.ID == 1 {
		t.Errorf("what nobody asked for is taken: %+v", m)
	}
	// Neither may an account give itself what its body has no field for.
	s.accepted(t, query{method: "PATCH", path: "/users/@me", body: `{"flags":1,"bot":true,"admin":true,"version":99,"id":"1"}`}, 200)
	me, err := s.ada.Me(t.Context())
	if err != nil || me.Bot || me.Flags != 0 || me.ID != s.ada.id {
		t.Errorf("%+v, %v", me, err)
	}
}

func (s *scene) doubleKeys(t *testing.T) {
	for _, body := range []string{
		`{"content":"a","content":"b"}`, `{"content":"a","\u0063ontent":"b"}`, `{"embeds":[{"title":"a","title":"b"}]}`, `{"x":{"y":1,"y":2},"content":"a"}`,
	} {
		plain(t, body, s.refused(t, post(body), 400, fault.InvalidJSON))
	}
}

// bigNumbers: ids are text in answers, because JavaScript would round them, and no number that is sent is rounded either.
func (s *scene) bigNumbers(t *testing.T) {
	var m map[string]any
	if err := json.Unmarshal(s.accepted(t, query{method: "GET", path: "/channels/$channel/messages/$message"}, 200), &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"id", "channel_id"} {
		if _, text := m[key].(string); !text {
			t.Errorf("%s is %T", key, m[key])
		}
	}
	var g map[string]any
	if err := json.Unmarshal(s.accepted(t, query{method: "GET", path: "/guilds/$guild"}, 200), &g); err != nil {
		t.Fatal(err)
	}
	if _, text := g["roles"].([]any)[0].(map[string]any)["permissions"].(string); !text {
		t.Errorf("permissions are %T", g["roles"].([]any)[0].(map[string]any)["permissions"])
	}
	reply := func(id string) query { return post(`{"content":"x","message_reference":{"message_id":` + id + `}}`) }
	for _, bad := range []string{"1e999", "-1", "1.5", "18446744073709551616", `"18446744073709551616"`, "1e3", `"0x10"`, `"١٢"`, "true", "[1]"} {
		s.refused(t, reply(bad), 400, fault.InvalidForm, "message_reference.message_id:")
	}
	next := s.message + 1 // which a double cannot tell from it
	plain(t, "the next id", s.send(t, reply(fmt.Sprintf("%d", next))))
	if a := s.send(t, reply(fmt.Sprintf("%d", next))); a.status != 400 {
		t.Errorf("a reply to %d, as a number, is answered %d %s", next, a.status, a.body)
	}
}

func (s *scene) otherTypes(t *testing.T) {
	for _, bad := range []string{"text/plain", "text/html", "application/jsonp", "application/json, text/plain", "-"} {
		q := post(`{"content":"x"}`)
		q.contentType = bad
		plain(t, bad, s.refused(t, q, 415, fault.General))
	}
	// What a page of another site could send by a form, only messages take, and they too only with a token that no browser adds.
	for _, form := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=b"} {
		q := query{method: "POST", path: "/guilds", body: `{"name":"x"}`, contentType: form}
		plain(t, form, s.refused(t, q, 415, fault.General))
	}
}

// TestSecurity_http_smuggling: whatever two readers could disagree on is refused, and nothing behind it is answered. The canary is a
// request that would be answered 200.
func TestSecurity_http_smuggling(t *testing.T) {
	t.Parallel()
	for name, make := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := make(t)
			const (
				head   = "POST /api/v10/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
				canary = "GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
				empty  = "0\r\n\r\n"
			)
			for name, raw := range map[string]string{
				"CL.TE":               head + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" + empty + canary,
				"TE.CL":               head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\n{}\r\n" + empty + canary,
				"two CL":              head + "Content-Length: 2\r\nContent-Length: 99\r\n\r\n{}" + canary,
				"two equal CL":        head + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + canary,
				"CL list":             head + "Content-Length: 2, 2\r\n\r\n{}" + canary,
				"two TE":              head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + empty + canary,
				"TE list":             head + "Transfer-Encoding: gzip, chunked\r\n\r\n" + empty + canary,
				"TE identity":         head + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}" + canary,
				"TE nearly":           head + "Transfer-Encoding: xchunked\r\n\r\n" + empty + canary,
				"TE tab":              head + "Transfer-Encoding:\tchunked\x0b\r\n\r\n" + empty + canary,
				"TE on 1.0":           strings.Replace(head, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n" + empty + canary,
				"space before colon":  head + "Content-Length : 2\r\n\r\n{}" + canary,
				"TE space":            head + "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n" + empty + canary,
				"folded":              head + "Content-Length:\r\n 2\r\n\r\n{}" + canary,
				"CL wraps":            head + "Content-Length: 21000000000000000000\r\n\r\n{}" + canary,
				"CL signed":           head + "Content-Length: +2\r\n\r\n{}" + canary,
				"CL negative":         head + "Content-Length: -2\r\n\r\n{}" + canary,
				"CL hex":              head + "Content-Length: 0x2\r\n\r\n{}" + canary,
				"chunk size signed":   head + "Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n" + empty + canary,
				"chunk size hex":      head + "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n" + empty + canary,
				"chunk size wraps":    head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff2\r\n{}\r\n" + empty + canary,
				"chunk without end":   head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx" + empty + canary,
				"chunk ext bare LF":   head + "Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n" + empty + canary,
				"NUL in a header":     head + "X: a\x00b\r\nContent-Length: 2\r\n\r\n{}" + canary,
				"CR in a header":      head + "X: a\rContent-Length: 50\r\nContent-Length: 2\r\n\r\n{}" + canary,
				"two hosts":           head + "Host: b\r\nContent-Length: 2\r\n\r\n{}" + canary,
				"no version":          "GET /api/v10/gateway\r\n\r\n" + canary,
				"another version":     "GET /api/v10/gateway HTTP/9.9\r\nHost: a\r\n\r\n" + canary,
				"a header too little": "POST /api/v10/auth/login HTTP/1.1\r\nHost: a\r\nno colon\r\nContent-Length: 2\r\n\r\n{}" + canary,
			} {
				got := statuses(t, spoken(t, w.url, raw))
				if slices.Contains(got, 200) || len(got) > 1 || len(got) == 1 && (got[0] < 400 || got[0] >= 500) {
					t.Errorf("%s is answered %v", name, got)
				}
			}
			w.alive(t)
		})
	}
}

// TestSecurity_http_crlf: no line of a client's becomes a line of an answer.
func TestSecurity_http_crlf(t *testing.T) {
	t.Parallel()
	w := guarded(t, func(s *node.Settings) { s.Origins = []string{"https://app.example"} })
	ada := w.register(t, "ada")
	const evil = "\r\nX-Evil: 1\r\nSet-Cookie: a=b"
	escaped := strings.NewReplacer("\r", "%0d", "\n", "%0a", " ", "%20").Replace(evil)
	for _, raw := range []string{
		"GET /api/v10/invites/x" + escaped + " HTTP/1.1\r\nHost: a\r\n",
		"GET /api/v10/gateway?x=" + escaped + " HTTP/1.1\r\nHost: a\r\n",
		"GET /api/v10/gateway HTTP/1.1\r\nHost: a" + escaped + "\r\n",
		"GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example" + escaped + "\r\n",
		"OPTIONS /api/v10/users/@me HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\nAccess-Control-Request-Headers: x" + escaped + "\r\n",
		"PATCH /api/v10/guilds/1 HTTP/1.1\r\nHost: a\r\nAuthorization: " + ada.token + "\r\nX-Audit-Log-Reason: x" + escaped + "\r\n",
		"GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nX-Request-ID: x" + escaped + "\r\n",
		"GET /" + escaped + " HTTP/1.1\r\nHost: a\r\n",
		"GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nX: a\nX-Evil: 1\r\n",
	} {
		said := spoken(t, w.url, raw+"Connection: close\r\n\r\n")
		head, _, _ := strings.Cut(said, "\r\n\r\n")
		if strings.Contains(strings.ToLower(head), "x-evil") || strings.Contains(strings.ToLower(head), "set-cookie") {
			t.Errorf("%q is answered\n%s", raw, said)
		}
	}
}

// TestSecurity_host_header: what a client calls the server is told to nobody else, and not at all when the server has a name.
func TestSecurity_host_header(t *testing.T) {
	t.Parallel()
	w := guarded(t, func(s *node.Settings) { s.PublicURL = "https://chat.example" })
	for _, host := range []string{"evil.example", "evil.example:80", "127.0.0.1@evil.example", "chat.example.evil"} {
		said := spoken(t, w.url, "GET /api/v10/gateway HTTP/1.1\r\nHost: "+host+"\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\nConnection: close\r\n\r\n")
		if strings.Contains(said, "evil") || !strings.Contains(said, `"wss://chat.example"`) {
			t.Errorf("as %s it answers %s", host, said)
		}
	}
	nameless := single(t)
	said := spoken(t, nameless.url, "GET /api/v10/gateway HTTP/1.1\r\nHost: asked.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n")
	if !strings.Contains(said, `"ws://asked.example"`) || !strings.Contains(said, "Cache-Control: no-store") || strings.Contains(said, "evil") {
		t.Errorf("without a name it answers %s", said)
	}
	for _, host := range []string{`evil"}`, "<script>"} {
		got := spoken(t, nameless.url, "GET /api/v10/gateway HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		_, body, _ := strings.Cut(got, "\r\n\r\n")
		var out map[string]any
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Errorf("as %s it answers %s", host, got)
		}
	}
}

// TestSecurity_path_traversal: no spelling of a path leads to another route, nor to what the internal listener has.
func TestSecurity_path_traversal(t *testing.T) {
	t.Parallel()
	w := single(t)
	for _, path := range []string{
		"/api/v10/../metrics", "/api/v10/..%2fmetrics", "/api/v10/%2e%2e/metrics", "/api/v10/..\\metrics", "/api/v10/%5c..%5cgateway", "//metrics", "/./metrics",
		"/metrics", "/debug/pprof/", "/livez", "/readyz", "/dlq", "/api/v10/invites/%00", "/api/v10/invites/..%2f..%2f..%2fetc%2fpasswd", "/api/v10/gateway%00",
		"/api/v10/gateway/..", "/api/v10/users/@me/../../gateway", "/api/v10//gateway", "/api/v10/%67ateway/x", "/api/v10/gateway;x=1", "/..%c0%af..%c0%afetc/passwd",
		"http://evil.example/metrics", "*", "/api/v10/gateway%2f", "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
	} {
		said := spoken(t, w.url, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		got := statuses(t, said)
		if len(got) != 1 || got[0] != 404 && got[0] != 400 {
			t.Errorf("%s is answered %v: %.300s", path, got, said)
		}
		if strings.Contains(said, "root:") || strings.Contains(said, "go_mem") || strings.Contains(said, "pprof") {
			t.Errorf("%s tells\n%s", path, said)
		}
	}
	w.alive(t)
}

// TestSecurity_ssrf_none: the server calls nobody, whatever addresses a client gives it. Somebody listens at all of them that are here.
func TestSecurity_ssrf_none(t *testing.T) {
	t.Parallel()
	w := single(t)
	s := newScene(t, w)
	var called atomic.Int64
	var spots []string
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue // a machine without IPv6
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				called.Add(1)
				_ = c.Close()
			}
		}()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		spots = append(spots, l.Addr().String(), "2130706433:"+port, "0x7f.1:"+port, "localhost:"+port)
	}
	spots = append(spots, "169.254.169.254", "metadata.internal")
	for _, spot := range spots {
		url := "http://" + spot + "/latest/meta-data"
		s.send(t, query{method: "POST", path: "/channels/$other/messages", body: fmt.Sprintf(
			`{"content":%q,"embeds":[{"title":"x","url":%[1]q,"image":{"url":%[1]q},"thumbnail":{"url":%[1]q},"video":{"url":%[1]q},"author":{"name":"x","url":%[1]q,"icon_url":%[1]q},"footer":{"text":"x","icon_url":%[1]q}}]}`, url)})
		s.send(t, query{method: "PATCH", path: "/users/@me", body: fmt.Sprintf(`{"avatar":%q}`, url)})
		s.send(t, query{method: "PATCH", path: "/guilds/$guild", body: fmt.Sprintf(`{"icon":%q}`, url)})
		s.send(t, query{method: "POST", path: "/channels/$other/webhooks", body: fmt.Sprintf(`{"name":"x","avatar":%q,"url":%[1]q}`, url)})
	}
	w.node.Stop() // whatever it still wanted to fetch, it has
	if n := called.Load(); n > 0 {
		t.Errorf("the server made %d connections to where a client told it", n)
	}
}

// codeAsText: text is text. What comes back, also from Postgres, is what was sent.
func (s *scene) codeAsText(t *testing.T) {
	for _, text := range []string{
		`'; drop table messages; --`, `' or '1'='1`, `1; select pg_sleep(10)`, `\'; exec xp_cmdshell('x'); --`, `$1`, `%s%n%x`, `{{7*7}}`, `${jndi:ldap://127.0.0.1/a}`,
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`, `<!--#exec cmd="id"-->`, `&lt;b&gt;`, "a\u2028b\u2029c", "\u202etxt.exe", "a\tb\\n", `*2\r\n$4\r\nPING`,
		"\ufeffx", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "Z\u0351\u036b\u0343", `\u0041`,
	} {
		raw, err := json.Marshal(map[string]string{"content": text})
		if err != nil {
			t.Fatal(err)
		}
		var made, read wire.Message
		if err := json.Unmarshal(s.accepted(t, query{method: "POST", path: "/channels/$other/messages", body: string(raw)}, 200), &made); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(s.accepted(t, query{method: "GET", path: "/channels/$other/messages/" + made.ID.String()}, 200), &read); err != nil {
			t.Fatal(err)
		}
		if made.Content != text || read.Content != text {
			t.Errorf("%q was answered as %q and reads as %q", text, made.Content, read.Content)
		}
		raw, err = json.Marshal(map[string]string{"name": text + "  "})
		if err != nil {
			t.Fatal(err)
		}
		a := s.send(t, query{method: "POST", path: "/guilds/$guild/roles", body: string(raw)})
		if a.status >= 500 {
			t.Errorf("a role named %q: %d %s", text, a.status, a.body)
		}
		for _, path := range []string{"/guilds/$guild/members?limit=5&after=", "/channels/$other/messages?before="} {
			q := query{method: "GET", path: path + strings.NewReplacer("'", "%27", " ", "%20", ";", "%3B", "\\", "%5C", "\"", "%22", "<", "%3C", ">", "%3E", "{", "%7B", "}", "%7D", "\t", "%09", "%", "%25", "&", "%26", "#", "%23", "$", "%24").Replace(text)}
			if a := s.send(t, q); a.status != 400 && a.status != 200 {
				t.Errorf("%s: %d %s", q, a.status, a.body)
			}
		}
	}
	if a := s.send(t, query{method: "GET", path: "/channels/$other/messages?limit=100"}); a.status != 200 {
		t.Errorf("afterwards the history is %d %s", a.status, a.body)
	}
}

func (s *scene) nulInText(t *testing.T) {
	for _, q := range []query{
		post(`{"content":"a\u0000b"}`), post(`{"content":"x","nonce":"\u0000"}`), post(`{"embeds":[{"description":"\u0000"}]}`),
		{method: "PATCH", path: "/guilds/$guild", body: `{"name":"a\u0000b"}`},
		{method: "POST", path: "/guilds/$guild/channels", body: `{"name":"x","topic":"\u0000"}`},
		{method: "PATCH", path: "/users/@me", body: `{"global_name":"a\u0000"}`},
		{method: "POST", path: "/auth/register", body: `{"username":"nul\u0000","password":"` + password + `"}`, authorization: "-"},
		{method: "POST", path: "/auth/login", body: `{"login":"nul\u0000","password":"x"}`, authorization: "-"},
	} {
		if a := s.send(t, q); a.status != 400 {
			t.Errorf("%s: %d %s", q, a.status, a.body)
		} else {
			plain(t, q.String(), a)
		}
	}
}

// oddNames: names that are no text, too long in whatever unit, or look like somebody else's.
func (s *scene) oddNames(t *testing.T) {
	register := func(name string) answer {
		t.Helper()
		raw := `{"username":"` + name + `","password":"` + password + `"}`
		return s.send(t, query{method: "POST", path: "/auth/register", body: raw, authorization: "-"})
	}
	for _, name := range []string{
		"\xc0\xaf", "\xed\xa0\x80", "\xff", strings.Repeat("é", 33), strings.Repeat("x", 100_000), "a\u200bb", "\u202eevil", "  ", "", strings.ToUpper(s.ada.name),
		"\uff41\uff44\uff41" + strings.TrimPrefix(s.ada.name, "ada"), // the same in full width
	} {
		if a := register(name); a.status != 400 {
			t.Errorf("a user may be called %.40q: %d", name, a.status)
		}
	}
	for _, name := range []string{"\xc0\xaf", strings.Repeat("é", 101)} {
		q := query{method: "PATCH", path: "/guilds/$guild", body: `{"name":"` + name + `"}`}
		if a := s.send(t, q); a.status != 400 {
			t.Errorf("a guild may be called %.40q: %d", name, a.status)
		}
	}
}

// countedRunes: 2000 characters are 2000 code points, however they are written.
func (s *scene) countedRunes(t *testing.T) {
	for _, letter := range []string{"a", "é", "😀", `\ud83d\ude00`} {
		body := func(n int) string { return `{"content":"` + strings.Repeat(letter, n) + `"}` }
		s.refused(t, post(body(2001)), 400, fault.InvalidForm, "content:BASE_TYPE_MAX_LENGTH")
		s.accepted(t, query{method: "POST", path: "/channels/$other/messages", body: body(2000)}, 200)
	}
}

// manyMentions: a text with hundreds of mentions costs and notifies no more than a hundred.
func (s *scene) manyMentions(t *testing.T) {
	var all strings.Builder
	for i := range 390 {
		fmt.Fprintf(&all, "<@%d>", i+1)
	}
	text := all.String() + "<@" + s.bob.id.String() + ">"
	var m wire.Message
	body, err := json.Marshal(map[string]string{"content": text[max(0, len(text)-2000):]})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(s.accepted(t, query{method: "POST", path: "/channels/$other/messages", body: string(body)}, 200), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Mentions) > 100 || slices.ContainsFunc([]wire.User(m.Mentions), func(u wire.User) bool { return u.ID == s.bob.id }) {
		t.Errorf("%d are mentioned, also the one behind the hundredth", len(m.Mentions))
	}
	ids := strings.TrimSuffix(strings.Repeat(`"1",`, 101), ",")
	s.refused(t, post(`{"content":"x","allowed_mentions":{"users":[`+ids+`]}}`), 400, fault.InvalidForm, "allowed_mentions.users:")
}

// TestSecurity_cors_exact: a page may read answers only if its origin is on the list as it is.
func TestSecurity_cors_exact(t *testing.T) {
	t.Parallel()
	const app = "https://app.example"
	w := guarded(t, func(s *node.Settings) { s.Origins = []string{app} })
	for origin, may := range map[string]bool{
		app: true, "https://app.example.evil": false, "https://evilapp.example": false, "http://app.example": false, "https://app.example:444": false,
		"https://sub.app.example": false, "null": false, "https://APP.example": false, app + ".": false, "*": false, app + ", " + app: false,
	} {
		for _, method := range []string{"GET", "OPTIONS"} {
			a := w.hail(t, w.url, method, "/api/v10/users/@me", "", "Origin", origin, "Access-Control-Request-Method", "GET")
			if got := a.header.Get("Access-Control-Allow-Origin"); (got == origin) != may || !may && got != "" {
				t.Errorf("%s of a page of %s: allowed is %q", method, origin, got)
			}
			if a.header.Get("Access-Control-Allow-Credentials") != "" || a.header.Get("Vary") != "Origin" {
				t.Errorf("%s of a page of %s: %v", method, origin, a.header)
			}
		}
	}
	closed := single(t)
	if a := closed.hail(t, closed.url, "GET", "/api/v10/gateway", "", "Origin", app); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without a list %q may read", a.header.Get("Access-Control-Allow-Origin"))
	}
}

// noCookies: nothing is kept in cookies, so there are none to set flags on.
func (s *scene) noCookies(t *testing.T) {
	for _, q := range []query{
		{method: "POST", path: "/auth/login", body: fmt.Sprintf(`{"login":%q,"password":%q}`, s.ada.name, password), authorization: "-"},
		{method: "POST", path: "/auth/refresh", body: fmt.Sprintf(`{"refresh_token":%q}`, s.refresh), authorization: "-"},
		{method: "GET", path: "/users/@me"},
	} {
		if a := s.send(t, q); a.status != 200 || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", q, a.status, a.header)
		}
	}
	// And a token in one is no token.
	if a := s.hail(t, s.url, "GET", "/api/v10/users/@me", "", "Cookie", "token="+s.ada.token+"; Authorization="+s.ada.token); a.status != 401 {
		t.Errorf("a cookie is a token: %d", a.status)
	}
}

// TestSecurity_security_headers: every answer has them, also that to what is no request.
func TestSecurity_security_headers(t *testing.T) {
	t.Parallel()
	w := single(t)
	for _, raw := range []string{
		"GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /api/v10/users/@me HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "nonsense\r\n\r\n",
	} {
		said := spoken(t, w.url, raw)
		for _, want := range []string{
			"X-Content-Type-Options: nosniff", "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'", "X-Frame-Options: DENY",
			"Referrer-Policy: no-referrer", "Cache-Control: no-store",
		} {
			if strings.Count(said, want) != 1 {
				t.Errorf("%.40q is answered without %q:\n%s", raw, want, said)
			}
		}
		if strings.Contains(said, "Server:") || strings.Contains(said, "X-Powered-By") {
			t.Errorf("%.40q tells what it is served by:\n%s", raw, said)
		}
	}
}

// TestSecurity_no_stack_traces: with everything behind it gone, the server says no more than that something is.
func TestSecurity_no_stack_traces(t *testing.T) {
	t.Parallel()
	w := single(t)
	s := newScene(t, w)
	w.redis.Stop()
	for _, q := range []query{
		post(`{"content":"x"}`), {method: "GET", path: "/channels/$channel/messages"}, {method: "POST", path: "/guilds", body: `{"name":"more"}`},
		{method: "POST", path: "/channels/$channel/typing"},
	} {
		a := s.send(t, q)
		if a.status < 500 && a.status >= http.StatusBadRequest {
			t.Errorf("%s with nothing behind: %d %s", q, a.status, a.body)
		}
		if a.status >= 500 {
			plain(t, q.String(), a)
		}
	}
	if err := w.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}
