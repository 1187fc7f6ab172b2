// Package rest serves route tables over HTTP: it matches, authenticates, decodes, validates, calls a handler and encodes
// what it returns, the same for every endpoint. It does not know any endpoint, hold any business rule, or speak
// WebSocket: an upgrade is a Raw route whose handler takes the connection over.
//
// A service writes a Table and nothing else. Bind serves it in this process; Forward serves the same table by another
// process. Nothing of a request may be used after its handler has returned, except what the handler was given by value:
// strings from a Call are copies.
package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fasthttp/router"
	"github.com/go-playground/validator/v10"
	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/openapi"
	"github.com/xcord/xcord/engine/wire"
)

// Identity is who a token belongs to.
type Identity struct {
	User    id.ID
	Bot     bool
	Session string // the login session; of a bot the hash of its token
}

// Authenticator turns the value of an Authorization header into an identity, or returns fault.Unauthorized.
type Authenticator interface {
	Authenticate(ctx context.Context, authorization string) (Identity, error)
}

// Signer makes the proof that a forwarded request comes from a process of this installation.
type Signer interface {
	Sign(addr, requestID string, expiry time.Time) string
}

// Verifier checks such a proof and returns what was signed.
type Verifier interface {
	Verify(proof string) (addr, requestID string, err error)
}

// Config of a Server. The zero value is usable.
type Config struct {
	Addr string // host:port to listen on; default 127.0.0.1:8080, port 0 picks one

	// Internal accepts only requests which another process of this installation forwarded.
	Internal bool

	ReadTimeout    time.Duration // for a whole request from its first byte; default 5 s
	WriteTimeout   time.Duration // for a response; default 10 s
	IdleTimeout    time.Duration // between two requests of a connection; default 60 s
	RequestTimeout time.Duration // the deadline of Call.Context; default 10 s
	StopTimeout    time.Duration // how long Stop waits for requests in flight; default 10 s

	HeaderBytesMax int // request line and headers together; default 16 KiB
	BodyBytesMax   int // unless the route has a Body option; default 256 KiB

	ConnectionsMax        int // open at once, upgraded ones too; default 131,072
	ConnectionsPerAddrMax int // of one IPv4 address or IPv6 /64; default 4096

	// Proxies are the networks whose X-Forwarded-For counts.
	Proxies []netip.Prefix
	// Exempt are the networks that limits by address do not count; nil: this host.
	Exempt []netip.Prefix
	// Origins are those of pages that may use the API, besides the server's own; "*" is all.
	Origins []string
	Limits  Limits
	Uploads Uploads
	TLS     *TLS // nil: none
}

// withDefaults fills in what is zero. A client that cannot send 256 KiB in 5 s is slower than 50 KiB/s; the headers leave
// room for a 4 KiB token and an audit-log reason of 512 escaped characters.
func (c Config) withDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.ReadTimeout, 5*time.Second)
	set(&c.WriteTimeout, 10*time.Second)
	set(&c.IdleTimeout, 60*time.Second)
	set(&c.RequestTimeout, 10*time.Second)
	set(&c.StopTimeout, 10*time.Second)
	if c.Addr == "" {
		c.Addr = "127.0.0.1:8080"
	}
	if c.HeaderBytesMax == 0 {
		c.HeaderBytesMax = 16 << 10
	}
	if c.BodyBytesMax == 0 {
		c.BodyBytesMax = 256 << 10
	}
	if c.ConnectionsMax == 0 {
		c.ConnectionsMax = 1 << 17
	}
	if c.ConnectionsPerAddrMax == 0 {
		c.ConnectionsPerAddrMax = 4096
	}
	if c.Exempt == nil {
		c.Exempt = loopback
	}
	c.Limits = c.Limits.withDefaults()
	c.Uploads = c.Uploads.withDefaults()
	return c
}

// Validate returns every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.Addr != "" {
		if _, _, err := net.SplitHostPort(c.Addr); err != nil {
			errs = append(errs, fmt.Errorf("rest address %q: %w", c.Addr, err))
		}
	}
	for name, d := range map[string]time.Duration{
		"read": c.ReadTimeout, "write": c.WriteTimeout, "idle": c.IdleTimeout, "request": c.RequestTimeout, "stop": c.StopTimeout,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("rest %s timeout %v is negative", name, d))
		}
	}
	for name, n := range map[string]int{
		"header bytes": c.HeaderBytesMax, "body bytes": c.BodyBytesMax, "connections": c.ConnectionsMax,
		"connections per address": c.ConnectionsPerAddrMax,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("rest %s limit %d is negative", name, n))
		}
	}
	errs = append(errs, c.Limits.Validate(), c.Uploads.Validate())
	if c.TLS != nil {
		errs = append(errs, c.TLS.Validate())
	}
	return errors.Join(errs...)
}

// Deps are the things a Server needs from others.
type Deps struct {
	Authenticator Authenticator  // required as soon as one route is not Public
	Signer        Signer         // required with Forward
	Verifier      Verifier       // required with Config.Internal
	Limiter       *limit.Limiter // nil: nothing is limited; an internal server leaves limits to whoever forwards
	Log           *slog.Logger   // default slog.Default()
}

// Server serves tables. Bind, Forward and Raw come before Start and from one goroutine; everything else may be called by
// any goroutine at any time.
type Server struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	refusals refusals

	// Filled before Start and only read afterwards.
	api       *router.Router // under /api…: paths without that prefix
	plain     *router.Router // Raw routes, by their whole path
	bulk      *router.Router // the routes of api with a larger body limit than the default
	bulkMax   int            // the largest of those limits
	forms     *router.Router // the routes of api that take forms with files
	hasForms  bool
	validate  *validator.Validate
	rules     rules
	upstreams []*Upstream
	told      []openapi.Route // what the tables offer, in their order
	problems  []error         // what was wrong in Bind, Forward or Raw; Start reports it

	turns turns
	on    life.Switch
	loops life.Loops

	mu     sync.Mutex            // guards what follows
	listen net.Listener          // nil: not started
	conns  map[net.Conn]struct{} // open and not upgraded, for a Stop that runs out of time
}

// New makes a server without routes. A mistake in its arguments is reported by Start.
func New(cfg Config, deps Deps) *Server {
	s := &Server{
		cfg: cfg.withDefaults(), deps: deps, log: deps.Log,
		api: newRouter(), plain: newRouter(), bulk: newRouter(), forms: newRouter(),
		validate: wire.NewValidator(),
		rules:    newRules(cfg.withDefaults().Limits),
		conns:    map[net.Conn]struct{}{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.refusals.log = s.log
	if err := cfg.Validate(); err != nil {
		s.problems = append(s.problems, err)
	}
	if cfg.Internal && deps.Verifier == nil {
		s.problems = append(s.problems, errors.New("an internal rest server needs a Verifier"))
	}
	return s
}

func newRouter() *router.Router {
	// Only Lookup is used, so none of the router's own answers (redirects, 405, OPTIONS) matter.
	return router.New()
}

// Start listens and returns; requests are served from then on.
func (s *Server) Start(ctx context.Context) error {
	return s.on.Start(func() error {
		if err := errors.Join(s.problems...); err != nil {
			return fmt.Errorf("start rest server: %w", err)
		}
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr)
		if err != nil {
			return fmt.Errorf("start rest server: %w", err) // "listen tcp 127.0.0.1:8080: bind: address already in use"
		}
		if ln, err = s.wrap(ln); err != nil {
			return fmt.Errorf("start rest server: %w", err)
		}
		base, cancel := context.WithCancel(context.Background())
		s.mu.Lock()
		s.listen = ln
		s.mu.Unlock()
		server := s.newHTTP(base)
		s.loops.Go("rest serve", func(context.Context) error {
			if err := server.Serve(ln); err != nil {
				return fmt.Errorf("serve %s: %w", ln.Addr(), err)
			}
			return nil
		})
		s.loops.Go("rest refusals", s.refusals.run)
		s.loops.Go("rest stop", func(ctx context.Context) error {
			<-ctx.Done()
			s.shutdown(server, ln, cancel)
			return nil
		})
		return nil
	})
}

// wrap counts the connections, below TLS if there is TLS, and goes on when one cannot be taken.
func (s *Server) wrap(ln net.Listener) (net.Listener, error) {
	ln = &steady{Listener: ln, log: s.log}
	if s.cfg.Internal {
		return ln, nil
	}
	ln = &counter{Listener: ln, server: s, byAddr: map[limit.Subject]int{}}
	if s.cfg.TLS == nil {
		return ln, nil
	}
	config, err := s.cfg.TLS.config()
	if err != nil {
		_ = ln.Close() // nothing was accepted
		return nil, err
	}
	return tls.NewListener(ln, config), nil
}

// Stop closes the listener, lets requests in flight finish for at most StopTimeout and then closes their connections.
// Upgraded connections are not touched: they belong to whoever took them over.
func (s *Server) Stop() {
	s.on.Stop(func() {
		s.loops.Stop()
		for _, u := range s.upstreams {
			u.closeIdle()
		}
	})
}

// Failed delivers the error of a listener that died.
func (s *Server) Failed() <-chan error { return s.loops.Failed() }

// Addr is the address that the server listens on, with the real port; empty before the first Start.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listen == nil {
		return ""
	}
	return s.listen.Addr().String()
}

// newHTTP makes the server of one Start. What a fasthttp.Server remembers of its shutdown is not worth reusing. base is
// the parent of every Call's context; it ends when Stop runs out of time.
func (s *Server) newHTTP(base context.Context) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:        func(ctx *fasthttp.RequestCtx) { s.handle(base, ctx) },
		ErrorHandler:   s.refuse,
		HeaderReceived: s.received,
		ExpectHandler:  s.expect,
		ConnState:      s.track,
		Logger:         quiet{s.log},

		ReadTimeout:        s.cfg.ReadTimeout,
		WriteTimeout:       s.cfg.WriteTimeout,
		IdleTimeout:        s.cfg.IdleTimeout,
		ReadBufferSize:     s.cfg.HeaderBytesMax,
		MaxRequestBodySize: s.cfg.BodyBytesMax,
		Concurrency:        s.cfg.ConnectionsMax,

		// Without it Close of an upgraded connection does nothing, and the connection is reused while others still
		// write to it.
		KeepHijackedConns:            true,
		CloseOnShutdown:              true,
		StreamRequestBody:            true, // see handle
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
	}
}

// shutdown runs when Stop has begun. The listener is closed here as well, because a server whose Serve has not yet begun
// does not know it.
func (s *Server) shutdown(server *fasthttp.Server, ln net.Listener, cancel context.CancelFunc) {
	defer cancel()
	_ = ln.Close() // the second close of the two reports an error that means nothing
	ctx, done := context.WithTimeout(context.Background(), s.cfg.StopTimeout)
	defer done()
	if err := server.ShutdownWithContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	cancel()
	s.mu.Lock()
	open := len(s.conns)
	for c := range s.conns {
		_ = c.Close() // it ends either way
	}
	s.mu.Unlock()
	s.log.Warn("requests cut off by stop", "connections", open)
	// Handlers whose context has ended and whose connection is gone get one second to notice.
	ctx, done = context.WithTimeout(context.Background(), time.Second)
	defer done()
	if err := server.ShutdownWithContext(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Error("request handlers still running after stop", "err", err)
	}
}

// track keeps the set of connections that Stop may close.
func (s *Server) track(c net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
	case fasthttp.StateHijacked, fasthttp.StateClosed:
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}
}

// quiet passes what fasthttp logs at Debug: it is about single connections and may hold addresses.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	if q.log.Enabled(context.Background(), slog.LevelDebug) {
		q.log.Debug("http connection", "text", fmt.Sprintf(format, args...))
	}
}
