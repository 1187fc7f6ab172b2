package rest

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/limit"
)

var bannedTotal = metrics.NewCounter(`xcord_rest_banned_requests_total`)

// Limits are those of a public server; those of single routes are in the tables. The zero value is the default.
type Limits struct {
	UserPerSecond int           // requests of one user, default 50
	AddrMax       int           // requests of one address in AddrWindow, default 2000 in 10 s: an office behind one address
	AddrWindow    time.Duration //
	// InvalidMax is how many 401, 403 and 429 one address may get in InvalidWindow (default 10,000 in 10 min); then it gets nothing
	// but 429 until the window ends.
	InvalidMax    int
	InvalidWindow time.Duration
}

func (l Limits) withDefaults() Limits {
	count := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	count(&l.UserPerSecond, 50)
	count(&l.AddrMax, 2000)
	count(&l.InvalidMax, 10_000)
	if l.AddrWindow == 0 {
		l.AddrWindow = 10 * time.Second
	}
	if l.InvalidWindow == 0 {
		l.InvalidWindow = 10 * time.Minute
	}
	return l
}

// Validate returns every mistake at once.
func (l Limits) Validate() error {
	if l.UserPerSecond < 0 || l.AddrMax < 0 || l.InvalidMax < 0 || l.AddrWindow < 0 || l.InvalidWindow < 0 {
		return errors.New("rest limits must not be negative")
	}
	return nil
}

// What a route allows unless its table says otherwise. Reading is cheap; clients that page through something do it several times a second.
const (
	readsMax    = 60
	writesMax   = 30
	routeWindow = 10 * time.Second
	userWindow  = time.Second
)

// rules are the limits that are not of a route.
type rules struct{ user, addr, invalid *limit.Rule }

func newRules(l Limits) rules {
	return rules{
		user:    limit.NewRule("user", l.UserPerSecond, userWindow),
		addr:    limit.NewRule("address", l.AddrMax, l.AddrWindow),
		invalid: limit.NewRule("invalid", l.InvalidMax, l.InvalidWindow),
	}
}

// routeRule is the limit of a route, which everybody has for each channel, guild or webhook in its path.
func routeRule(sp spec) *limit.Rule {
	n, window := sp.limit()
	return limit.NewRule(sp.method+" "+sp.path, n, window)
}

// limit is how many requests there may be in which time.
func (sp spec) limit() (n int, window time.Duration) {
	switch {
	case sp.limitMax > 0:
		return sp.limitMax, sp.limitWindow
	case sp.method == http.MethodGet:
		return readsMax, routeWindow
	}
	return writesMax, routeWindow
}

// allowAddr refuses whoever asks too often, before anything is spent on the request.
func (s *Server) allowAddr(c *Call) error {
	if s.cfg.Internal || !c.counted {
		return nil
	}
	who := limit.Addr(c.client)
	if v := s.deps.Limiter.Peek(c.ctx, s.rules.invalid, who); !v.OK {
		bannedTotal.Inc()
		return everywhere(v)
	}
	if v := s.deps.Limiter.Take(c.ctx, s.rules.addr, who); !v.OK {
		return everywhere(v)
	}
	return nil
}

// allow counts the request on its route, and of its user on all routes.
func (s *Server) allow(ctx *fasthttp.RequestCtx, c *Call, r *route) error {
	if s.deps.Limiter == nil || s.cfg.Internal {
		return nil
	}
	major := majorOf(ctx, r)
	who := limit.User(c.identity.User, major)
	switch {
	case r.byToken:
		token, _ := ctx.UserValue("token").(string)
		who = limit.Text(major.String() + "/" + token)
	case r.public:
		if !c.counted {
			return nil
		}
		who = limit.Addr(c.client)
	default:
		if v := s.deps.Limiter.Take(c.ctx, s.rules.user, limit.User(c.identity.User, 0)); !v.OK {
			return everywhere(v)
		}
	}
	v := s.deps.Limiter.Take(c.ctx, r.rule, who)
	c.verdict, c.bucket = v, r.rule.Name
	if !v.OK {
		return fault.RateLimited(v.Reset)
	}
	return nil
}

// majorOf is the channel, guild or webhook in the path. A malformed one is refused later; it counts as none.
func majorOf(ctx *fasthttp.RequestCtx, r *route) id.ID {
	if r.major == "" {
		return 0
	}
	raw, _ := ctx.UserValue(r.major).(string)
	major, _ := id.Parse(raw)
	return major
}

// everywhere is the refusal of a limit that is not of one route.
func everywhere(v limit.Verdict) error {
	f := fault.RateLimited(v.Reset)
	f.Global = true
	return f
}

// noteInvalid counts what a client should not go on with. Not what it has no part in: that the server is short of something.
func (s *Server) noteInvalid(c *Call, res *fasthttp.Response) {
	if !c.counted || string(res.Header.Peek("X-RateLimit-Scope")) == "shared" {
		return
	}
	switch res.StatusCode() {
	case fasthttp.StatusUnauthorized, fasthttp.StatusForbidden, fasthttp.StatusTooManyRequests:
		s.deps.Limiter.Take(c.ctx, s.rules.invalid, limit.Addr(c.client))
	}
}

// writeLimit tells the client where it stands on the route.
func writeLimit(h *fasthttp.ResponseHeader, bucket string, v limit.Verdict) {
	if v.Limit == 0 {
		return
	}
	var b [24]byte
	seconds := func(d time.Duration) []byte {
		return strconv.AppendFloat(b[:0], math.Ceil(d.Seconds()*1000)/1000, 'f', 3, 64)
	}
	h.SetBytesV("X-RateLimit-Limit", strconv.AppendInt(b[:0], int64(v.Limit), 10))
	h.SetBytesV("X-RateLimit-Remaining", strconv.AppendInt(b[:0], int64(v.Remaining), 10))
	h.SetBytesV("X-RateLimit-Reset", seconds(time.Duration(time.Now().UnixNano())+v.Reset))
	h.SetBytesV("X-RateLimit-Reset-After", seconds(v.Reset))
	h.Set("X-RateLimit-Bucket", bucket)
}
