package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/services/node"
)

// proxied is a guarded world in which 127.0.0.1 is a proxy: who says X-Forwarded-For there comes from that address.
func proxied(t *testing.T, change func(*node.Settings)) *world {
	t.Helper()
	return guarded(t, func(s *node.Settings) {
		s.TrustedProxies = []string{"127.0.0.1"}
		if change != nil {
			change(s)
		}
	})
}

// flood sends requests, some at a time, until one is refused with 429. It says how many were answered with a status, and how long it
// took: a slow machine sees more than one window.
func flood(t *testing.T, status int, send func(i int) answer) (n int, took time.Duration, refused answer) {
	t.Helper()
	began := time.Now()
	var mu sync.Mutex
	for i := 0; refused.status == 0; i += 8 {
		if time.Since(began) > patience {
			t.Fatalf("%d requests and none is refused", i)
		}
		var wg sync.WaitGroup
		for k := range 8 {
			wg.Go(func() {
				a := send(i + k)
				mu.Lock()
				defer mu.Unlock()
				switch a.status {
				case status:
					n++
				case http.StatusTooManyRequests:
					refused = a
				default:
					t.Errorf("request %d is answered %d %s", i+k, a.status, a.body)
				}
			})
		}
		wg.Wait()
	}
	return n, time.Since(began), refused
}

// within says that so many were let through as a limit allows in the windows that there were.
func within(t *testing.T, n, limit int, window, took time.Duration) {
	t.Helper()
	most := limit * (1 + int(took/window))
	if n < limit*9/10 || n > most+most/20 {
		t.Errorf("%d were let through in %v, and the limit is %d in %v", n, took, limit, window)
	}
}

// told says that a refusal tells all that the contract wants.
func told(t *testing.T, a answer, scope string, most time.Duration) {
	t.Helper()
	var body struct {
		Message    string
		RetryAfter float64 `json:"retry_after"`
		Global     *bool
		Code       *int
	}
	if err := json.Unmarshal(a.body, &body); err != nil || body.Message == "" || body.Global == nil || body.Code == nil {
		t.Errorf("a refusal says %s: %v", a.body, err)
		return
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || float64(seconds) < body.RetryAfter || float64(seconds) >= body.RetryAfter+1 || body.RetryAfter <= 0 || body.RetryAfter > most.Seconds() {
		t.Errorf("Retry-After %q, retry_after %v, at most %v", a.header.Get("Retry-After"), body.RetryAfter, most)
	}
	if *body.Global != (scope == "global") || a.header.Get("X-RateLimit-Scope") != scope || (a.header.Get("X-RateLimit-Global") == "true") != (scope == "global") ||
		a.header.Get("Via") != "1.1 xcord" {
		t.Errorf("of scope %s a refusal says %v %s", scope, a.header, a.body)
	}
}

// asks sends GET requests of one address.
func (w *world) asks(t *testing.T, url, path, addr, token string) answer {
	t.Helper()
	headers := []string{"X-Forwarded-For", addr}
	if token != "" {
		headers = append(headers, "Authorization", token)
	}
	return w.hail(t, url, "GET", "/api/v10"+path, "", headers...)
}

// TestSecurity_rl_user: a user has one limit, from wherever; another one is not touched by it.
func TestSecurity_rl_user(t *testing.T) {
	t.Parallel()
	w := proxied(t, func(s *node.Settings) { s.LimitUser = 4 })
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	n, took, refused := flood(t, 200, func(i int) answer {
		return w.asks(t, w.url, "/users/@me", fmt.Sprintf("203.0.113.%d", i%250), ada.token)
	})
	within(t, n, 4, time.Second, took)
	told(t, refused, "global", time.Second)
	if a := w.asks(t, w.url, "/users/@me", "203.0.113.1", bob.token); a.status != 200 {
		t.Errorf("another user gets %d", a.status)
	}
}

// TestSecurity_rl_global: it is one limit for all routes.
func TestSecurity_rl_global(t *testing.T) {
	t.Parallel()
	w := proxied(t, func(s *node.Settings) { s.LimitUser = 4 })
	ada := w.register(t, "ada")
	paths := []string{"/users/@me", "/users/@me/guilds", "/gateway/bot", "/applications"}
	n, took, refused := flood(t, 200, func(i int) answer { return w.asks(t, w.url, paths[i%len(paths)], "203.0.113.1", ada.token) })
	within(t, n, 4, time.Second, took)
	told(t, refused, "global", time.Second)
}

func TestSecurity_rl_ip(t *testing.T) {
	t.Parallel()
	w := proxied(t, func(s *node.Settings) { s.LimitAddress = 20 })
	n, took, refused := flood(t, 200, func(int) answer { return w.asks(t, w.url, "/gateway", "203.0.113.1", "") })
	within(t, n, 20, 10*time.Second, took)
	told(t, refused, "global", 10*time.Second)
	if a := w.asks(t, w.url, "/gateway", "203.0.113.2", ""); a.status != 200 {
		t.Errorf("another address gets %d", a.status)
	}
}

// TestSecurity_rl_ipv6_64: whoever has a /64 has 2^64 addresses, and one limit.
func TestSecurity_rl_ipv6_64(t *testing.T) {
	t.Parallel()
	w := proxied(t, func(s *node.Settings) { s.LimitAddress = 20 })
	n, took, refused := flood(t, 200, func(i int) answer {
		return w.asks(t, w.url, "/gateway", fmt.Sprintf("2001:db8:1:2:%x::%x", i, i*7+1), "")
	})
	within(t, n, 20, 10*time.Second, took)
	told(t, refused, "global", 10*time.Second)
	if a := w.asks(t, w.url, "/gateway", "2001:db8:1:3::1", ""); a.status != 200 {
		t.Errorf("another network gets %d", a.status)
	}
}

// TestSecurity_rl_route: five messages in five seconds, in each channel; edits are another route.
func TestSecurity_rl_route(t *testing.T) {
	t.Parallel()
	w := proxied(t, nil)
	ada := w.register(t, "ada")
	guild, channel := ada.guild(t, "limits")
	other, err := ada.CreateChannel(t.Context(), guild, wire.CreateChannel{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	post := func(channel string) answer {
		return w.hail(t, w.url, "POST", "/api/v10/channels/"+channel+"/messages", `{"content":"x"}`, "Authorization", ada.token)
	}
	n, took, refused := flood(t, 200, func(int) answer { return post(channel.String()) })
	within(t, n, 5, 5*time.Second, took)
	told(t, refused, "user", 5*time.Second)
	if h := refused.header; h.Get("X-RateLimit-Limit") != "5" || h.Get("X-RateLimit-Remaining") != "0" || h.Get("X-RateLimit-Bucket") == "" ||
		h.Get("X-RateLimit-Reset") == "" || h.Get("X-RateLimit-Reset-After") == "" {
		t.Errorf("the refusal has %v", h)
	}
	if a := post(other.ID.String()); a.status != 200 || a.header.Get("X-RateLimit-Remaining") != "4" {
		t.Errorf("another channel: %d %v", a.status, a.header)
	}
}

// TestSecurity_rl_channel_slowmode: who moderates does not wait, a repeated nonce is answered at once, and everybody else waits.
func TestSecurity_rl_channel_slowmode(t *testing.T) {
	t.Parallel()
	for name, make := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := make(t)
			ada, bob := w.register(t, "ada"), w.register(t, "bob")
			guild, channel := ada.guild(t, "slow")
			ada.invite(t, channel, bob)
			slow, err := ada.CreateChannel(t.Context(), guild, wire.CreateChannel{Name: "slow", RateLimitPerUser: new(3600)})
			if err != nil {
				t.Fatal(err)
			}
			post := func(p *person, body string) answer {
				return w.hail(t, w.url, "POST", "/api/v10/channels/"+slow.ID.String()+"/messages", body, "Authorization", p.token)
			}
			const once = `{"content":"first","nonce":"1","enforce_nonce":true}`
			first := post(bob, once)
			refused := post(bob, `{"content":"second"}`)
			if first.status != 200 || refused.status != 429 || !strings.Contains(string(refused.body), `"code":20016`) {
				t.Fatalf("%d %s, then %d %s", first.status, first.body, refused.status, refused.body)
			}
			told(t, refused, "user", time.Hour)
			var one, again wire.Message
			if a := post(bob, once); a.status != 200 || json.Unmarshal(first.body, &one) != nil || json.Unmarshal(a.body, &again) != nil || one.ID != again.ID {
				t.Errorf("the nonce repeated: %d %s", a.status, a.body)
			}
			for range 2 {
				if a := post(ada, `{"content":"order"}`); a.status != 200 {
					t.Errorf("a moderator: %d %s", a.status, a.body)
				}
			}
			if _, err := bob.Say(t.Context(), channel, "elsewhere"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSecurity_rl_invalid: whoever does not learn from 401, 403 and 429 is answered nothing else; a proxy is not blamed for its clients.
func TestSecurity_rl_invalid(t *testing.T) {
	t.Parallel()
	w := proxied(t, func(s *node.Settings) { s.LimitInvalid = 20 })
	ada := w.register(t, "ada")
	n, took, refused := flood(t, 401, func(int) answer { return w.asks(t, w.url, "/users/@me", "203.0.113.1", "wrong") })
	within(t, n, 20, 10*time.Minute, took)
	told(t, refused, "global", 10*time.Minute)
	if a := w.asks(t, w.url, "/users/@me", "203.0.113.1", ada.token); a.status != 429 {
		t.Errorf("with a good token the banned address gets %d", a.status)
	}
	if a := w.asks(t, w.url, "/users/@me", "203.0.113.2", ada.token); a.status != 200 {
		t.Errorf("another address gets %d", a.status)
	}
	for range 40 {
		if a := w.hail(t, w.url, "GET", "/api/v10/users/@me", "", "Authorization", "wrong"); a.status != 401 {
			t.Fatalf("the proxy is answered %d", a.status)
		}
	}
}

// two are two gateways of one installation.
func two(t *testing.T, change func(*node.Settings)) (w *world, urls []string) {
	t.Helper()
	w = proxied(t, change)
	return w, []string{w.url, "http://" + w.start(t, w.settings).Addr()}
}

// TestSecurity_rl_two_gateways: two together allow what one would. A 401 is counted when it has been answered, so those that are on their
// way when the limit is reached come on top: eight at each gateway, which is a twenty-fifth.
func TestSecurity_rl_two_gateways(t *testing.T) {
	t.Parallel()
	w, urls := two(t, func(s *node.Settings) { s.LimitInvalid = 400 })
	total := 0
	for k := range urls { // until each has refused
		n, _, refused := flood(t, 401, func(i int) answer { return w.asks(t, urls[(i+k)%2], "/users/@me", "203.0.113.1", "wrong") })
		told(t, refused, "global", 10*time.Minute)
		total += n
	}
	for _, url := range urls {
		for range 20 {
			if w.asks(t, url, "/users/@me", "203.0.113.1", "wrong").status == 401 {
				total++
			}
		}
	}
	within(t, total, 400, time.Hour, 0)
}

// TestSecurity_rl_redis_down: without what they share, each allows its part, and is not open.
func TestSecurity_rl_redis_down(t *testing.T) {
	t.Parallel()
	w, urls := two(t, func(s *node.Settings) { s.LimitInvalid = 40 })
	w.redis.Stop()
	for _, url := range urls {
		n, _, refused := flood(t, 401, func(int) answer { return w.asks(t, url, "/users/@me", "203.0.113.1", "wrong") })
		within(t, n, 20, time.Hour, 0)
		told(t, refused, "global", 10*time.Minute)
	}
	if err := w.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestSecurity_rl_xff_spoof: what a stranger writes into X-Forwarded-For is nothing.
func TestSecurity_rl_xff_spoof(t *testing.T) {
	t.Parallel()
	w := guarded(t, func(s *node.Settings) {
		s.TrustedProxies, s.LimitExempt, s.LimitAddress = []string{"127.0.0.9"}, []string{"none"}, 20
	})
	n, took, refused := flood(t, 200, func(i int) answer {
		return w.hail(t, w.url, "GET", "/api/v10/gateway", "", "X-Forwarded-For", fmt.Sprintf("198.51.100.%d, 127.0.0.9", i), "Forwarded", "for=192.0.2.1", "X-Real-IP", "192.0.2.1")
	})
	within(t, n, 20, 10*time.Second, took)
	told(t, refused, "global", 10*time.Second)
}

// TestSecurity_auth_bruteforce: ten guesses of an account and so many of an address; and whom it belongs to gets in where they always do.
func TestSecurity_auth_bruteforce(t *testing.T) {
	t.Parallel()
	w := proxied(t, func(s *node.Settings) { s.LimitLogins = 11 })
	ada := w.register(t, "ada")
	login := func(addr, login, word string) answer {
		return w.hail(t, w.url, "POST", "/api/v10/auth/login", fmt.Sprintf(`{"login":%q,"password":%q}`, login, word), "X-Forwarded-For", addr)
	}
	const home, thief, other, sprayer = "2001:db8::1", "203.0.113.1", "203.0.113.2", "203.0.113.3"
	if a := login(home, ada.name, password); a.status != 200 {
		t.Fatal(a.status)
	}
	for i := range 10 {
		if a := login(thief, ada.name, fmt.Sprint("guess", i)); a.status != 400 {
			t.Fatalf("guess %d: %d %s", i, a.status, a.body)
		}
	}
	for _, addr := range []string{thief, other} {
		for _, word := range []string{"guess", password} { // a right one is not told apart
			a := login(addr, strings.ToUpper(ada.name), word)
			if a.status != 429 {
				t.Errorf("the eleventh guess from %s: %d %s", addr, a.status, a.body)
				continue
			}
			told(t, a, "user", 15*time.Minute)
		}
	}
	for range 3 { // what is right does not count
		if a := login(home, ada.name, password); a.status != 200 {
			t.Fatalf("ada at home: %d %s", a.status, a.body)
		}
	}
	if a := w.asks(t, w.url, "/users/@me", thief, ada.token); a.status != 200 {
		t.Errorf("her session meanwhile: %d", a.status)
	}
	for i := range 11 {
		if a := login(sprayer, fmt.Sprint("nobody", i), "guess"); a.status != 400 {
			t.Fatalf("account %d of one address: %d %s", i, a.status, a.body)
		}
	}
	if a := login(sprayer, "somebody", "guess"); a.status != 429 {
		t.Errorf("the twelfth account of one address: %d %s", a.status, a.body)
	} else {
		told(t, a, "user", 15*time.Minute)
	}
}

// TestSecurity_ws_origin: a page may open a socket from this host or from the list, exactly; who is no page needs no origin.
func TestSecurity_ws_origin(t *testing.T) {
	t.Parallel()
	const app = "https://app.example"
	w := guarded(t, func(s *node.Settings) { s.Origins = []string{app} })
	host := strings.TrimPrefix(w.url, "http://")
	for origin, may := range map[string]bool{
		"": true, app: true, w.url: true,
		"https://evil.example": false, "null": false, app + ".evil": false, "https://sub.app.example": false, "http://app.example": false,
		"https://app.example:444": false, "http://" + host + ".evil": false, "http://evil@" + host + "x": false, "https://" + strings.Split(host, ":")[0]: false, "file://": false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+host+"/?v=10&encoding=json", header)
		if ws != nil {
			_ = ws.Close()
		}
		if (err == nil) != may || err != nil && (res == nil || res.StatusCode != http.StatusForbidden) {
			t.Errorf("from %q: %v %v", origin, res, err)
		}
	}
}

// TestSecurity_ws_flood_conn: an address has so many sockets, of IPv6 a whole /64; and when one goes there is room for another.
func TestSecurity_ws_flood_conn(t *testing.T) {
	t.Parallel()
	const most = 20
	w := proxied(t, func(s *node.Settings) { s.LimitConnections = most })
	dial := func(addr string) (*websocket.Conn, int) {
		t.Helper()
		ws, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(w.url, "http")+v10, http.Header{"X-Forwarded-For": {addr}})
		if err == nil {
			t.Cleanup(func() { _ = ws.Close() })
			if _, _, err := ws.ReadMessage(); err != nil { // HELLO, or the end of one that was too many
				return nil, http.StatusTooManyRequests
			}
			return ws, http.StatusSwitchingProtocols
		}
		if res == nil {
			t.Fatal(err)
		}
		if res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		return nil, res.StatusCode
	}
	for name, addr := range map[string]func(int) string{
		"an IPv4 address": func(int) string { return "203.0.113.1" },
		"an IPv6 /64":     func(i int) string { return fmt.Sprintf("2001:db8:1:2::%x", i+1) },
	} {
		got := map[int]int{}
		var first *websocket.Conn
		for i := range 3 * most {
			ws, status := dial(addr(i))
			got[status]++
			if first == nil {
				first = ws
			}
		}
		if got[101] != most || got[429] != 2*most {
			t.Errorf("%s: %v, want %d sockets", name, got, most)
		}
		_ = first.Close()
		eventually(t, func() error {
			if _, status := dial(addr(1)); status != 101 {
				return fmt.Errorf("after one has gone the next is answered %d", status)
			}
			return nil
		})
	}
	if _, status := dial("203.0.113.2"); status != 101 {
		t.Errorf("another address is answered %d", status)
	}
	for range 3 * most { // this host has no such limit
		if c, err := client.New(client.Config{URL: w.url}); err != nil || c == nil {
			t.Fatal(err)
		}
		line(t, w.url)
	}
	w.alive(t)
}

// TestSecurity_ws_rate: 120 frames in a minute; heartbeats do not count, but have a bound too.
func TestSecurity_ws_rate(t *testing.T) {
	t.Parallel()
	s := newScene(t, guarded(t, nil))
	const (
		beat = `{"op":1,"d":null}`
		busy = `{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}`
	)
	c, _ := s.identified(t, s.bob.token)
	for range wire.FramesPerMinuteMax - 1 { // IDENTIFY was one
		c.send(t, busy)
		c.send(t, beat)
	}
	c.send(t, busy)
	c.closed(t, "the 121st frame", wire.CloseRateLimited)

	c, _ = s.identified(t, s.eve.token)
	for range wire.FramesPerMinuteMax + 1 {
		c.send(t, beat)
	}
	c.closed(t, "the 121st heartbeat", wire.CloseRateLimited)
}

// TestLimits_SessionStarts: who identifies too often is sent away for some seconds, and a bot is told how many starts are left.
func TestLimits_SessionStarts(t *testing.T) {
	t.Parallel()
	s := newScene(t, guarded(t, func(s *node.Settings) { s.LimitStarts = 2 }))
	began := time.Now()
	var let int
	for {
		c := s.dial(t, v10)
		c.send(t, identify(s.bob.token, ""))
		if f := c.next(t); f.Op == wire.OpInvalidSession && string(f.D) == "false" {
			break
		}
		if let++; time.Since(began) > patience {
			t.Fatalf("%d sessions have begun", let)
		}
	}
	within(t, let, 2, 5*time.Second, time.Since(began))
	a := s.hail(t, s.url, "GET", "/api/v10/gateway/bot", "", "Authorization", s.bob.token)
	var out wire.GatewayBot
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatal(err)
	}
	if l := out.SessionStartLimit; l.Total != 1000 || l.Remaining != 1000-let || l.ResetAfter <= 0 || l.ResetAfter > 86_400_000 || l.MaxConcurrency != 2 {
		t.Errorf("after %d starts: %+v", let, l)
	}
}
