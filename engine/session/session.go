package session

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/wire"
)

var (
	openedTotal   = metrics.NewCounter(`xcord_session_connections_total`)
	slowTotal     = metrics.NewCounter(`xcord_session_slow_closes_total`)
	dispatchTotal = metrics.NewCounter(`xcord_session_dispatches_total`)
	writeTotal    = metrics.NewCounter(`xcord_session_writes_total`)
	bytesTotal    = metrics.NewCounter(`xcord_session_written_bytes_total`)
	panicsTotal   = metrics.NewCounter(`xcord_session_panics_total`)
)

// Info is what the upgrade knew of a connection.
type Info struct {
	// Version is what the client asked for: 9 or 10, or something that is refused.
	Version int
	// Origin is how the client reached the gateway: ws://host or wss://host.
	Origin string
}

// Session is one gateway connection, from the upgrade to the close.
type Session struct {
	cfg      Config
	gw       Gateway
	commands *wire.Commands
	info     Info
	ws       *websocket.Conn // read by the reader only
	conn     net.Conn        // what ws stands on; the writer writes to it
	out      *outbox

	ctx    context.Context // ends when the connection is about to
	cancel context.CancelFunc
	done   chan struct{}

	mu  sync.Mutex // guards end, and which deadline is set
	end *ending    // nil while nobody wants to close

	begun  func()      // tells the acceptor that there is a session
	over   atomic.Bool // the session has been ended, which the reader does not know yet
	reader reader
	asked  asked
}

// ending is how a connection ends.
type ending struct {
	code     int
	reason   string
	farewell []byte // a frame before the close
	silent   bool   // nothing can be written any more
	final    bool   // the session cannot be resumed
}

// newSession makes a session of an upgraded connection.
func newSession(cfg Config, gw Gateway, commands *wire.Commands, info Info, ws *websocket.Conn) *Session {
	s := &Session{
		cfg: cfg, gw: gw, commands: commands, info: info, ws: ws, conn: ws.NetConn(), out: newOutbox(cfg.QueueMax, cfg.QueueBytesMax),
		done: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// serve runs the connection to its end.
func (s *Session) serve() {
	defer close(s.done)
	defer s.guard("serve")
	openedTotal.Inc()
	w := &writer{s: s}
	var writing sync.WaitGroup
	writing.Go(w.run)
	hung := s.read()
	s.Close(wire.CloseUnknown, "")
	s.hush()
	writing.Wait()
	if hung {
		s.drain()
	}
	_ = s.conn.Close() // there is nobody to tell
	s.gw.Detach(s, !s.end.final)
	countClose(s.end.code)
}

// drain reads what the peer still sends until it has seen our close: closing with unread data would reset the connection
// and take the close frame with it.
func (s *Session) drain() {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.cfg.CloseTimeout)) // a connection that is gone fails in the next line
	var b [512]byte
	for {
		if _, err := s.conn.Read(b[:]); err != nil {
			return
		}
	}
}

// Done is closed when the connection is gone, its writer has ended and its owner has been told.
func (s *Session) Done() <-chan struct{} { return s.done }

// Begin attaches the session to its trail; every Offer after it comes behind the opening. False: the connection is closing.
func (s *Session) Begin(o *Opening) bool { return s.put(item{task: o}) }

// Offer queues a dispatch. False: the session takes nothing any more, and is or will soon be detached.
func (s *Session) Offer(e *hub.Event) bool { return s.put(item{event: e}) }

// Change queues a change of the view.
func (s *Session) Change(c *Change) bool { return s.put(item{task: c}) }

// Say queues an ephemeral dispatch for this session alone.
func (s *Session) Say(name string, body []byte) bool {
	return s.put(item{event: &hub.Event{Name: name, Body: body}})
}

// Room waits until so many bytes can be queued beside what is written to the client anyway: for who has more to say than a queue may hold. It
// ends with ctx, and when the session takes nothing any more.
func (s *Session) Room(ctx context.Context, bytes int) {
	for wait := s.out.room(bytes); wait != nil; wait = s.out.room(bytes) {
		select {
		case <-wait:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Session) put(i item) bool {
	ok, full := s.out.put(i)
	if full {
		slowTotal.Inc()
		s.finish(&ending{code: int(wire.CloseUnknown), reason: "too slow"})
	}
	return ok
}

// Close closes the connection with a code; what waits to be sent is dropped. The first to close decides.
func (s *Session) Close(code wire.CloseCode, reason string) {
	s.finish(&ending{code: int(code), reason: reason, final: code == wire.CloseAuthenticationFailed})
}

// Invalidate tells the client that its session is over and cannot be resumed. The connection stays, and may begin another one. The session must be
// detached: what is offered from now on until then is dropped.
func (s *Session) Invalidate() {
	s.over.Store(true) // first: the answer may come at once
	s.put(item{task: invalidation{}})
	// The client waits for some seconds and then identifies, however near the next heartbeat was. An error is a connection that is gone.
	_ = s.until(s.conn.SetReadDeadline, time.Now().Add(s.cfg.IdentifyTimeout))
}

// Leave is Reconnect behind what waits to be sent, and behind having written down where the session stands.
func (s *Session) Leave() { s.put(item{task: leave{behind: s.gw.Position()}}) }

// Reconnect tells the client to come back, and closes.
func (s *Session) Reconnect() {
	s.finish(&ending{
		code: int(wire.CloseUnknown), reason: "reconnect", farewell: wire.AppendFrame(nil, wire.OpReconnect, []byte("null")),
	})
}

func (s *Session) finish(e *ending) {
	s.mu.Lock()
	if s.end == nil {
		s.end = e
		// A writer that is stuck in a write gives up, and so does a reader when the peer does not answer the close.
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.cfg.CloseTimeout))
		_ = s.conn.SetReadDeadline(time.Now().Add(2 * s.cfg.CloseTimeout))
	}
	s.mu.Unlock()
	s.cancel()
	s.out.shut()
}

// ended is how the connection is to end, nil while it is not.
func (s *Session) ended() *ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// until sets a deadline, unless the connection is closing: then those of finish stand.
func (s *Session) until(set func(time.Time) error, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return nil
	}
	return set(t)
}

// fail closes for an error of the owner or of ourselves.
func (s *Session) fail(err error) {
	var c *CloseError
	if errors.As(err, &c) {
		s.Close(c.Code, c.Reason)
		return
	}
	if s.ctx.Err() == nil {
		slog.Warn("session closed for an error", "err", err)
	}
	s.Close(wire.CloseUnknown, "")
}

// guard keeps a bug in one session from ending the process.
func (s *Session) guard(where string) {
	if p := recover(); p != nil {
		panicsTotal.Inc()
		slog.Error("BUG: session panicked", "where", where, "panic", p, "stack", string(debug.Stack()))
		s.Close(wire.CloseUnknown, "")
	}
}
