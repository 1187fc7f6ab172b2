package obs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/life"
)

const (
	addrDefault = "127.0.0.1:8081"

	// A probe or a scrape has no body and a few headers; who needs longer than this is not a probe.
	readTimeout    = 5 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 2 * time.Minute // scrapers come once in 15 to 60 s
	headerBytesMax = 16 << 10
	// profileTimeout is the longest profile or trace that can be taken over the socket.
	profileTimeout = 5 * time.Minute
	// shutdownTimeout is for scrapes under way when the node stops; nobody needs them.
	shutdownTimeout = time.Second
)

// AdminConfig says where the admin listener is. The zero value is 127.0.0.1:8081 without profiles.
type AdminConfig struct {
	Addr string // host:port; port 0 takes a free one
	// Socket is the path of a private unix socket, mode 0600, for /debug/pprof and what is mounted; "" = off.
	Socket string
}

// Validate returns every mistake at once.
func (c AdminConfig) Validate() error {
	var errs []error
	if c.Addr != "" {
		if _, _, err := net.SplitHostPort(c.Addr); err != nil {
			errs = append(errs, fmt.Errorf("admin address %q: want host:port", c.Addr))
		}
	}
	if c.Socket != "" && !filepath.IsAbs(c.Socket) {
		errs = append(errs, fmt.Errorf("admin socket %q: want an absolute path", c.Socket))
	}
	return errors.Join(errs...)
}

// AdminDeps is what Admin shows.
type AdminDeps struct {
	Health *Health
	Log    *slog.Logger
	Sets   []*metrics.Set // of this node, beside the metrics of the process; not registered with metrics.RegisterSet
}

// Admin serves /metrics, /livez and /readyz over TCP and, because a profile holds what memory holds, /debug/pprof only
// on a unix socket that no other user can open. Actions are mounted there, too. It is a life.Service.
//
// /livez is 200 as long as the process answers: a dependency that is away is no reason to restart. /readyz is 503 with
// the names of the failing checks, one a line.
type Admin struct {
	config AdminConfig
	health *Health
	log    *slog.Logger
	sets   []*metrics.Set
	inner  *http.ServeMux // of the private socket

	on    life.Switch
	loops life.Loops
	stops []func()

	mu     sync.Mutex // guards what follows
	addr   string     // while it listens
	failed string     // what the last /readyz said, to log only changes
}

// NewAdmin returns an Admin that does nothing yet.
func NewAdmin(config AdminConfig, deps AdminDeps) (*Admin, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if deps.Health == nil || deps.Log == nil {
		panic("BUG: obs.NewAdmin needs Health and Log")
	}
	if config.Addr == "" {
		config.Addr = addrDefault
	}
	return &Admin{config: config, health: deps.Health, log: deps.Log, sets: deps.Sets, inner: profiles()}, nil
}

// Mount adds a handler to the private socket, under a pattern of http.ServeMux. It may be called while the Admin serves. The
// handler learns by PeerUID who asks.
func (a *Admin) Mount(pattern string, h http.Handler) { a.inner.Handle(pattern, h) }

// peerKey is under which a request of the private socket has the user who asks.
type peerKey struct{}

// PeerUID is the user of the operating system at the other end of the private socket, as the kernel says; ok is false for
// any other request.
func PeerUID(ctx context.Context) (uid int, ok bool) {
	uid, ok = ctx.Value(peerKey{}).(int)
	return uid, ok
}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *syscall.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || failed != nil {
		return ctx // unknown, as the handler will say
	}
	return context.WithValue(ctx, peerKey{}, int(peer.Uid))
}

// Start listens. The error names the address or the path that is taken.
func (a *Admin) Start(ctx context.Context) error {
	return a.on.Start(func() error {
		var lc net.ListenConfig
		tcp, err := lc.Listen(ctx, "tcp", a.config.Addr)
		if err != nil {
			return fmt.Errorf("open the admin listener: %w", err)
		}
		if a.config.Socket != "" {
			unix, err := listenPrivate(ctx, a.config.Socket)
			if err != nil {
				_ = tcp.Close() // the error that matters is the socket's
				return fmt.Errorf("open the admin socket: %w", err)
			}
			a.serve("private", unix, a.inner, profileTimeout)
		}
		a.serve("admin", tcp, a.pages(), writeTimeout)
		a.mu.Lock()
		a.addr = tcp.Addr().String()
		a.mu.Unlock()
		return nil
	})
}

// Stop closes the listeners and their connections.
func (a *Admin) Stop() {
	a.on.Stop(func() {
		for _, stop := range a.stops {
			stop()
		}
		a.stops = nil
		a.loops.Stop()
		a.mu.Lock()
		a.addr = ""
		a.mu.Unlock()
	})
}

// Failed delivers the error of a listener that died, once.
func (a *Admin) Failed() <-chan error { return a.loops.Failed() }

// Addr is where it listens, or what is configured while it does not.
func (a *Admin) Addr() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.addr == "" {
		return a.config.Addr
	}
	return a.addr
}

func (a *Admin) serve(name string, ln net.Listener, h http.Handler, write time.Duration) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      write,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ConnContext:       withPeer,
		// Debug, because net/http writes addresses of peers into its lines.
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	a.loops.Go(name, func(context.Context) error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	a.stops = append(a.stops, func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close() // the deadline has passed: whoever is still connected is cut off
		}
		_ = ln.Close() // Serve may not have begun yet, and then Shutdown does not know the listener
	})
}

func (a *Admin) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", a.metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	return mux
}

func (a *Admin) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	metrics.WritePrometheus(w, true)
	metrics.WriteFDMetrics(w)
	for _, set := range a.sets {
		set.WritePrometheus(w)
	}
}

func (a *Admin) readyz(w http.ResponseWriter, r *http.Request) {
	err := a.health.Check(r.Context())
	status, text := http.StatusOK, "ok"
	if err != nil {
		status, text = http.StatusServiceUnavailable, strings.Join(failing(err), "\n")
	}
	a.mu.Lock()
	changed := text != a.failed && (err != nil || a.failed != "")
	a.failed = text
	a.mu.Unlock()
	switch {
	case errors.Is(err, ErrNotReady): // starting or stopping is no news
	case changed && err != nil:
		a.log.Warn("node is not ready", "err", err)
	case changed:
		a.log.Info("node is ready")
	}
	answer(w, status, text)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // a prober that has gone needs no answer
}

func profiles() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// listenPrivate opens a unix socket that is never, not even for a moment, open to other users: it is made in a directory
// with mode 0700 and moved to its place when its own mode is right. The umask would do too, but belongs to the process.
func listenPrivate(ctx context.Context, path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s exists and is not a socket", path)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", filepath.Join(dir, "s"))
	if err != nil {
		return nil, err
	}
	// Closing would unlink the name under which it was made, and that one is gone by then.
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chmod(filepath.Join(dir, "s"), 0o600); err == nil {
		err = os.Rename(filepath.Join(dir, "s"), path)
	}
	if err != nil {
		_ = ln.Close() // the error that matters is the first
		return nil, err
	}
	return &unlinkListener{Listener: ln, path: path}, nil
}

// unlinkListener removes its socket when it closes.
type unlinkListener struct {
	net.Listener
	path string
	once sync.Once
}

func (l *unlinkListener) Close() error {
	l.once.Do(func() { _ = os.Remove(l.path) }) // a socket left behind is replaced by the next Start
	return l.Listener.Close()
}
