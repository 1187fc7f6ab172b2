package rest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/crypto/acme"

	"github.com/xcord/xcord/engine/limit"
)

// limited is a server whose limits are counted by a clock that stands still, in a process that is alone. Everybody has an address that
// counts, by a proxy's header.
func limited(t *testing.T, l Limits) *Server {
	t.Helper()
	now := time.Now()
	limiter := limit.New(nil, limit.Config{Gateway: "g", Now: func() time.Time { return now }})
	return start(t, Config{Limits: l, Proxies: loopback}, Deps{Limiter: limiter}, func(s *Server) {
		Bind(s, Table[*site]{
			GET("/users/@me", (*site).me),
			GET("/users/{user}", (*site).user, Limit(2, time.Minute)),
			GET("/channels/{channel}/messages", (*site).list, Limit(3, 5*time.Second)),
			GET("/open", (*site).me, Public(), Limit(2, time.Minute)),
			GET("/webhooks/{webhook}/{token}", (*site).me, ByToken(), Limit(2, time.Minute)),
		}, newSite("here"))
	})
}

func from(addr string) []string { return []string{"X-Forwarded-For", addr} }

// TestLimits_ARouteTellsWhereItsClientStands: every answer of a route has the headers, and the refusal says when to come again.
func TestLimits_ARouteTellsWhereItsClientStands(t *testing.T) {
	t.Parallel()
	s := limited(t, Limits{})
	const path = "/api/channels/175928847299117063/messages"
	for i := range 3 {
		a := do(t, s, "GET", path+"?limit=5", "", from("192.0.2.1")...)
		h := a.header
		reset, err := strconv.ParseFloat(h.Get("X-RateLimit-Reset"), 64)
		ahead := time.Until(time.UnixMilli(int64(reset * 1000)))
		if a.status != 200 || h.Get("X-RateLimit-Limit") != "3" || h.Get("X-RateLimit-Remaining") != strconv.Itoa(2-i) ||
			h.Get("X-RateLimit-Reset-After") != "5.000" || h.Get("X-RateLimit-Bucket") != "GET /channels/{channel}/messages" ||
			err != nil || ahead <= 0 || ahead > 6*time.Second {
			t.Errorf("%d: %d %v", i, a.status, h)
		}
	}
	a := do(t, s, "GET", path+"?limit=nonsense", "", from("192.0.2.1")...)
	want := `{"code":0,"global":false,"message":"You are being rate limited.","retry_after":5}`
	if a.status != 429 || a.body != want || a.header.Get("Retry-After") != "5" || a.header.Get("X-RateLimit-Scope") != "user" ||
		a.header.Get("X-RateLimit-Global") != "" || a.header.Get("Via") != "1.1 xcord" || a.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if a := do(t, s, "GET", "/api/channels/175928847299117064/messages", "", from("192.0.2.1")...); a.status != 200 {
		t.Errorf("another channel: %d %s", a.status, a.body)
	}
	if a := do(t, s, "GET", path, "", "Authorization", "Bot bot", "X-Forwarded-For", "192.0.2.1"); a.status != 200 {
		t.Errorf("another user: %d %s", a.status, a.body)
	}
	// What is in no channel or guild is one for all: whatever ids a client thinks of.
	for i, want := range []int{200, 200, 429} {
		if a := do(t, s, "GET", "/api/users/17592884729911706"+strconv.Itoa(i), "", from("192.0.2.1")...); a.status != want {
			t.Errorf("user %d: %d", i, a.status)
		}
	}
}

// TestLimits_ATokenInThePathHasItsOwn: from wherever it comes, and whatever others try who do not know it. The token is in none of the headers.
func TestLimits_ATokenInThePathHasItsOwn(t *testing.T) {
	t.Parallel()
	s := limited(t, Limits{InvalidMax: 3})
	ask := func(want int, path, addr string) {
		t.Helper()
		a := do(t, s, "GET", "/api/webhooks/"+path, "", from(addr)...)
		if a.status != want || a.header.Get("X-RateLimit-Bucket") != "GET /webhooks/{webhook}/{token}" {
			t.Errorf("%s from %s: %d %v", path, addr, a.status, a.header)
		}
	}
	ask(200, "175928847299117063/one", "192.0.2.1")
	for _, wrong := range []string{"two", "three", "four", "five"} {
		ask(200, "175928847299117063/"+wrong, "192.0.2.2")
	}
	ask(200, "175928847299117063/one", "192.0.2.3")
	ask(429, "175928847299117063/one", "192.0.2.4")
	ask(200, "175928847299117064/one", "192.0.2.4")
}

func TestLimits_AnotherAddressHasItsOwn(t *testing.T) {
	t.Parallel()
	s := limited(t, Limits{AddrMax: 4, InvalidMax: 3})
	open := func(addr string) int {
		t.Helper()
		return do(t, s, "GET", "/api/open", "", from(addr)...).status
	}
	f := func(addr string, want ...int) {
		t.Helper()
		for _, w := range want {
			if got := open(addr); got != w {
				t.Errorf("%s gets %d, want %d", addr, got, w)
			}
		}
	}
	f("192.0.2.1", 200, 200, 429)
	f("192.0.2.2", 200)
	f("2001:db8:0:1::1", 200, 200)
	f("2001:db8:0:1:ffff::2", 429) // the same /64
	f("2001:db8:0:2::1", 200)
	f("127.0.0.1", 200, 200, 200, 200, 200, 200) // a proxy that names nobody else

	// Whatever it asks for, an address has so many in all.
	for i := range 6 {
		a := do(t, s, "GET", "/api/nothing", "", from("192.0.2.3")...)
		if want := map[bool]int{true: 404, false: 429}[i < 4]; a.status != want {
			t.Errorf("%d: %d", i, a.status)
		}
		if i == 4 && (a.header.Get("X-RateLimit-Global") != "true" || a.header.Get("X-RateLimit-Scope") != "global" || !strings.Contains(a.body, `"global":true`)) {
			t.Errorf("%v %s", a.header, a.body)
		}
	}

	// Three answers that it should have learned from, and it gets no other for ten minutes.
	for range 3 {
		if a := do(t, s, "GET", "/api/users/@me", "", "Authorization", "wrong", "X-Forwarded-For", "192.0.2.4"); a.status != 401 {
			t.Fatal(a.status)
		}
	}
	a := do(t, s, "GET", "/api/users/@me", "", from("192.0.2.4")...)
	if a.status != 429 || a.header.Get("Retry-After") != "600" || a.header.Get("X-RateLimit-Global") != "true" {
		t.Errorf("banned: %d %v", a.status, a.header)
	}
	for range 5 {
		if a := do(t, s, "GET", "/api/users/@me", "", "Authorization", "wrong", "X-Forwarded-For", "127.0.0.1"); a.status != 401 {
			t.Errorf("a proxy is banned: %d", a.status)
		}
	}
}

func TestLimits_AUserHasSoManyOnAllRoutes(t *testing.T) {
	t.Parallel()
	s := limited(t, Limits{UserPerSecond: 3})
	for i, path := range []string{"/api/users/@me", "/api/users/1759288472991170", "/api/users/@me", "/api/users/@me"} {
		a := do(t, s, "GET", path, "", from("192.0.2."+strconv.Itoa(i))...) // from wherever
		if want := map[bool]int{true: 200, false: 429}[i < 3]; a.status != want {
			t.Errorf("%d: %d", i, a.status)
		}
		if i == 3 && (a.header.Get("X-RateLimit-Scope") != "global" || a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, `"global":true`)) {
			t.Errorf("%v %s", a.header, a.body)
		}
	}
}

// TestClient_IsWhomOurProxiesName: what is in front of the first address that is not one of our proxies' anybody may have written.
func TestClient_IsWhomOurProxiesName(t *testing.T) {
	t.Parallel()
	f := func(proxies, peer, want string, forwarded ...string) {
		t.Helper()
		s := New(Config{}, Deps{})
		for p := range strings.FieldsSeq(proxies) {
			s.cfg.Proxies = append(s.cfg.Proxies, netip.MustParsePrefix(p))
		}
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(peer), 1)), nil)
		for _, line := range forwarded {
			ctx.Request.Header.Add("X-Forwarded-For", line)
		}
		if got := s.settleClient(&ctx).String(); got != want {
			t.Errorf("%s of %q by proxies %q is %s, want %s", peer, forwarded, proxies, got, want)
		}
	}
	f("", "192.0.2.1", "192.0.2.1", "203.0.113.9")
	f("10.0.0.0/8", "192.0.2.1", "192.0.2.1", "203.0.113.9")
	f("10.0.0.0/8", "10.1.1.1", "10.1.1.1")
	f("10.0.0.0/8", "10.1.1.1", "203.0.113.9", "203.0.113.9")
	f("10.0.0.0/8", "10.1.1.1", "203.0.113.9", "127.0.0.1, 198.51.100.7, 203.0.113.9")
	f("10.0.0.0/8", "10.1.1.1", "203.0.113.9", "198.51.100.7, 203.0.113.9, 10.2.2.2")
	f("10.0.0.0/8", "10.1.1.1", "203.0.113.9", "198.51.100.7", "203.0.113.9,10.2.2.2")
	f("10.0.0.0/8", "10.1.1.1", "10.2.2.2", "10.3.3.3, nonsense, 10.2.2.2")
	f("10.0.0.0/8", "10.1.1.1", "10.1.1.1", "", "203.0.113.9,")
	f("10.0.0.0/8", "10.1.1.1", "203.0.113.9", "203.0.113.9:4711")
	f("10.0.0.0/8 fd00::/8", "fd00::1", "2001:db8::1", "[2001:db8::1]:4711, 10.1.1.1")
	f("10.0.0.0/8", "10.1.1.1", "2001:db8::1", "2001:db8::1%eth0")
	f("10.0.0.0/8", "::ffff:10.1.1.1", "203.0.113.9", "::ffff:203.0.113.9")
}

// TestListen_TurnsAwayWhoHasTooManyConnections, until one of them is closed.
func TestListen_TurnsAwayWhoHasTooManyConnections(t *testing.T) {
	t.Parallel()
	f := func(cfg Config) {
		t.Helper()
		s := start(t, cfg, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
		ask := func(c net.Conn) *http.Response {
			t.Helper()
			if _, err := c.Write([]byte("GET /api/open HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
				return nil
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return nil // reset before it was read
			}
			_ = res.Body.Close()
			return res
		}
		first, second := dial(t, s), dial(t, s)
		for _, c := range []net.Conn{first, second} {
			if res := ask(c); res == nil || res.StatusCode != 200 {
				t.Fatalf("within the bound: %v", res)
			}
		}
		for range 50 {
			if res := ask(dial(t, s)); res != nil && (res.StatusCode != 429 || res.Header.Get("Retry-After") == "") {
				t.Fatalf("beyond the bound: %s", res.Status)
			}
		}
		_ = first.Close()
		deadline := time.Now().Add(30 * time.Second)
		for {
			if res := ask(dial(t, s)); res != nil && res.StatusCode == 200 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("a connection that was closed counts for ever")
			}
		}
	}
	f(Config{ConnectionsMax: 2})
	f(Config{ConnectionsPerAddrMax: 2, Exempt: []netip.Prefix{}})
	s := start(t, Config{ConnectionsPerAddrMax: 2}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	for range 10 { // this host is exempt
		if c := dial(t, s); c == nil {
			t.Error("turned away")
		}
	}
	if a := do(t, s, "GET", "/api/open", ""); a.status != 200 {
		t.Errorf("this host is turned away: %d", a.status)
	}
}

// certificate writes a self-signed one, and returns it.
func certificate(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestTLS_ServesFilesAndTakesNewOnes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert := certificate(t, dir, "chat.example")
	config := &TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	s := start(t, Config{TLS: config}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	dialTLS := func(most uint16) (*tls.Conn, error) {
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		return tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: roots, ServerName: "chat.example", MaxVersion: most, NextProtos: []string{"h2", "http/1.1"}})
	}
	c, err := dialTLS(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("GET /api/open HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, c)
	if !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.Contains(got, "Strict-Transport-Security: max-age=") || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("over TLS (%s): %s", c.ConnectionState().NegotiatedProtocol, got)
	}
	if _, err := dialTLS(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	// What is there is looked at when the time has come; while it is no certificate, the one before stays.
	p := &pair{cert: config.CertFile, key: config.KeyFile}
	if got, err := p.get(nil); err != nil || string(got.Certificate[0]) != string(cert.Raw) {
		t.Fatal(err)
	}
	if err := os.WriteFile(config.CertFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.checked = time.Time{}
	if got, err := p.get(nil); err != nil || string(got.Certificate[0]) != string(cert.Raw) {
		t.Errorf("with half a file there: %v", err)
	}
	renewed := certificate(t, dir, "chat.example")
	p.checked = time.Time{}
	if got, err := p.get(nil); err != nil || string(got.Certificate[0]) != string(renewed.Raw) {
		t.Errorf("with new files there: %v", err)
	}
}

func TestTLS_RefusesToStartWithoutACertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir, "a.example")
	cert, key, missing := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "missing.pem")
	for _, config := range []TLS{
		{}, {CertFile: cert}, {CertFile: cert, KeyFile: missing}, {CertFile: key, KeyFile: cert}, {Domains: []string{"a.example"}},
		{CertFile: cert, KeyFile: key, Domains: []string{"a.example"}, CacheDir: dir},
	} {
		s := New(Config{Addr: "127.0.0.1:0", TLS: &config}, Deps{})
		if err := s.Start(t.Context()); err == nil {
			s.Stop()
			t.Errorf("%+v starts", config)
		}
	}
}

// TestTLS_AsksForItsDomainsOnly: by ACME a certificate that is kept is served, and nobody can make the server ask for another name.
func TestTLS_AsksForItsDomainsOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert := certificate(t, dir, "chat.example")
	// The form in which the manager keeps one: key, then certificate.
	var kept []byte
	for _, file := range []string{"key.pem", "cert.pem"} {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(raw); file == "key.pem" {
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
			if err != nil {
				t.Fatal(err)
			}
			raw = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		}
		kept = append(kept, raw...)
	}
	cache := filepath.Join(dir, "acme")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cache, "chat.example"), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody listens there: what the server would ask for, it does not get.
	config := &TLS{Domains: []string{"chat.example"}, CacheDir: cache, Directory: "http://127.0.0.1:1/directory"}
	s := start(t, Config{TLS: config}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("")) })
	connect := func(name string, protocols ...string) (*tls.Conn, error) {
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		return tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: roots, ServerName: name, NextProtos: protocols})
	}
	c, err := connect("chat.example", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for _, name := range []string{"evil.example", "a.chat.example", "127.0.0.1"} {
		if _, err := connect(name); err == nil {
			t.Errorf("there is a certificate for %s", name)
		}
	}
	if _, err := connect("chat.example", acme.ALPNProto); err == nil {
		t.Error("a challenge that was never given is answered")
	}
}
