package rest

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/openapi"
)

// Table is what a service offers: data, in reading order. S is the service's type, usually a pointer.
type Table[S any] []Route[S]

// Route is one line of a Table. Make it with GET, POST, PUT, PATCH or DELETE.
type Route[S any] struct {
	spec
	call func(s S, srv *Server, c *Call, ctx *fasthttp.RequestCtx, in *input) error
}

// None as In means that a request has no body (one that is there is ignored), as Out that the answer is a 204.
type None struct{}

// Raw as Out is JSON that has been encoded already. It must not be changed after it was returned. Empty is a 204.
type Raw []byte

// File as Out is what a browser shows: not JSON, but of one fixed type.
type File struct {
	Type   string // of the content, for example image/png; browsers are told not to guess another
	Policy string // its Content-Security-Policy
	Cache  string // its Cache-Control
	Body   []byte // must not be changed after it was returned
}

// Option changes one route.
type Option func(*spec)

// Public serves the route without a token.
func Public() Option { return func(s *spec) { s.public = true } }

// Status is the status of success; default 200, or 204 without a body.
func Status(code int) Option { return func(s *spec) { s.status = code } }

// UsersOnly refuses bots with 20001.
func UsersOnly() Option { return func(s *spec) { s.usersOnly = true } }

// Body limits the request body of the route to n bytes, more or less than the server's default.
func Body(n int) Option { return func(s *spec) { s.bodyMax = n } }

// Root serves the route by its path as it stands there, not under /api.
func Root() Option { return func(s *spec) { s.root = true } }

// ByToken serves the route without a token in the headers: the path parameter {token} is one. What the route allows is then counted by
// the channel, guild or webhook in the path and this token, from wherever they come; so who does not know it takes nothing from who does.
func ByToken() Option { return func(s *spec) { s.public, s.byToken = true, true } }

// Limit allows everybody n requests of the route in a window, for each channel, guild or webhook in its path; default 60 readings or 30
// others in 10 s.
func Limit(n int, window time.Duration) Option {
	return func(s *spec) { s.limitMax, s.limitWindow = n, window }
}

// Answers says what a Raw holds. The description of the API needs to know.
func Answers[T any]() Option { return func(s *spec) { s.out = reflect.TypeFor[T]() } }

// OrEmpty says that a Raw may be empty.
func OrEmpty() Option { return func(s *spec) { s.empty = true } }

// spec is the part of a Route that does not depend on the service.
type spec struct {
	method, path string
	public       bool
	byToken      bool
	usersOnly    bool
	root         bool
	status       int
	bodyMax      int // 0: the server's default
	filesMax     int // 0: it takes no forms
	limitMax     int // 0: the default
	limitWindow  time.Duration
	download     bool
	forwards     bool
	in, out      reflect.Type
	service      string // whose it is, and what its handler is called: for the description
	name         string
	empty        bool // success may also be a 204
}

// GET is a route whose input comes from the query: fields of In tagged `query:"limit"`.
func GET[S, In, Out any](path string, h func(S, *Call, In) (Out, error), opts ...Option) Route[S] {
	return newRoute(http.MethodGet, path, h, opts)
}

// POST is a route whose input is a JSON body. Fields tagged `query:"wait"` come from the query instead.
func POST[S, In, Out any](path string, h func(S, *Call, In) (Out, error), opts ...Option) Route[S] {
	return newRoute(http.MethodPost, path, h, opts)
}

// PUT is like POST.
func PUT[S, In, Out any](path string, h func(S, *Call, In) (Out, error), opts ...Option) Route[S] {
	return newRoute(http.MethodPut, path, h, opts)
}

// PATCH is like POST.
func PATCH[S, In, Out any](path string, h func(S, *Call, In) (Out, error), opts ...Option) Route[S] {
	return newRoute(http.MethodPatch, path, h, opts)
}

// DELETE is like POST.
func DELETE[S, In, Out any](path string, h func(S, *Call, In) (Out, error), opts ...Option) Route[S] {
	return newRoute(http.MethodDelete, path, h, opts)
}

func newRoute[S, In, Out any](method, path string, h func(S, *Call, In) (Out, error), opts []Option) Route[S] {
	out := reflect.TypeFor[Out]()
	sp := spec{method: method, path: path, in: reflect.TypeFor[In](), out: out}
	sp.service, sp.name = nameOf(reflect.TypeFor[S](), h)
	for _, o := range opts {
		o(&sp)
	}
	sp.download = out == reflect.TypeFor[Download]()
	if sp.status == 0 {
		sp.status = http.StatusOK
		if out == reflect.TypeFor[None]() {
			sp.status = http.StatusNoContent
		}
	}
	status := sp.status
	return Route[S]{spec: sp, call: func(s S, srv *Server, c *Call, ctx *fasthttp.RequestCtx, in *input) error {
		var body In
		if err := srv.decode(ctx, in, &body); err != nil {
			return err
		}
		answer, err := h(s, c, body)
		if err != nil {
			return err
		}
		if d, ok := any(answer).(Download); ok {
			return d.write(ctx, srv.cfg.WriteTimeout)
		}
		return encode(ctx, status, answer)
	}}
}

// Bind serves a table by s, in this process.
func Bind[S any](srv *Server, table Table[S], s S) {
	for _, r := range table {
		in, err := srv.newInput(r.method, r.in)
		if err != nil {
			srv.problems = append(srv.problems, fmt.Errorf("route %s %s: %w", r.method, r.path, err))
			continue
		}
		call := r.call
		srv.add(r.spec, func(c *Call, ctx *fasthttp.RequestCtx) error { return call(s, srv, c, ctx, in) })
	}
}

// Forward serves a table by another process, which binds the same table on an internal server.
func Forward[S any](srv *Server, table Table[S], up *Upstream) {
	if srv.deps.Signer == nil {
		srv.problems = append(srv.problems, fmt.Errorf("forwarding to %v needs a Signer", up.Addrs))
	}
	up.open()
	srv.upstreams = append(srv.upstreams, up)
	for _, r := range table {
		r.forwards = true
		download := r.download
		srv.add(r.spec, func(c *Call, ctx *fasthttp.RequestCtx) error {
			ctx.Response.StreamBody = download
			return srv.forward(c, ctx, up)
		})
	}
}

// Raw serves one exact path (not under /api unless the path says so) by a bare handler, with nothing but the request id,
// recover and, on an internal server, the proof of origin before it. A trailing slash makes no difference.
func (s *Server) Raw(method, path string, handler func(*fasthttp.RequestCtx)) {
	r := newRouteState(method, path)
	r.raw = handler
	s.mount(s.plain, method, path, r)
}

// add mounts one route of a table.
func (s *Server) add(sp spec, run func(*Call, *fasthttp.RequestCtx) error) {
	r := newRouteState(sp.method, sp.path)
	r.told = sp.told(s.cfg.BodyBytesMax)
	s.told = append(s.told, r.told)
	r.public, r.byToken, r.usersOnly, r.run = sp.public, sp.byToken, sp.usersOnly, run
	r.rule = routeRule(sp)
	r.in, r.filesMax, r.forwards = sp.in, sp.filesMax, sp.forwards
	r.bodyMax = s.cfg.BodyBytesMax
	if sp.bodyMax > 0 {
		r.bodyMax = sp.bodyMax
	}
	if !sp.public && s.deps.Authenticator == nil {
		s.problems = append(s.problems, fmt.Errorf("route %s %s is not public and there is no Authenticator", sp.method, sp.path))
	}
	if sp.root {
		s.mount(s.plain, sp.method, sp.path, r)
		return
	}
	s.mount(s.api, sp.method, sp.path, r)
	if r.filesMax > 0 {
		s.mount(s.forms, sp.method, sp.path, r)
		s.hasForms = true
	}
	if r.bodyMax > s.cfg.BodyBytesMax {
		s.mount(s.bulk, sp.method, sp.path, r)
		s.bulkMax = max(s.bulkMax, r.bodyMax)
	}
}

// routeKey is where a mounted handler leaves its route for serve.
type routeKey struct{}

// lookuper is the part of a router that serve needs.
type lookuper interface {
	Lookup(method, path string, ctx *fasthttp.RequestCtx) (fasthttp.RequestHandler, bool)
}

// mount registers a route. The router panics on a path that it cannot take, for example one that is there already.
func (s *Server) mount(to interface {
	Handle(method, path string, handler fasthttp.RequestHandler)
}, method, path string, r *route) {
	defer func() {
		if p := recover(); p != nil {
			s.problems = append(s.problems, fmt.Errorf("route %s %s: %v", method, path, p))
		}
	}()
	to.Handle(method, path, func(ctx *fasthttp.RequestCtx) { ctx.SetUserValue(routeKey{}, r) })
}

// route is what serve knows of a mounted route.
type route struct {
	public, byToken bool
	usersOnly       bool
	bodyMax         int
	filesMax        int
	in              reflect.Type
	forwards        bool     // to another process
	params          []string // names of the path parameters, in order
	major           string   // the parameter that limits are counted by; "" for none
	rule            *limit.Rule
	told            openapi.Route
	run             func(*Call, *fasthttp.RequestCtx) error
	raw             func(*fasthttp.RequestCtx)
	metrics         routeMetrics
}

func newRouteState(method, path string) *route {
	r := &route{metrics: newRouteMetrics(method, path)}
	for segment := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			r.params = append(r.params, name)
			if r.major == "" && (name == "channel" || name == "guild" || name == "webhook") {
				r.major = name
			}
		}
	}
	return r
}
