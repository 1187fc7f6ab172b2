package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/wire"
)

// queueDefault dispatches are a few seconds of a busy server, and at most a few hundred KiB of messages.
const queueDefault = 1024

// After INVALID_SESSION a client waits for a random time between these before it identifies again.
const (
	identifyWaitMin = time.Second
	identifyWaitMax = 5 * time.Second
)

// errClosed ends a Gateway that was closed by its owner.
var errClosed = errors.New("the gateway connection was closed")

// GatewayConfig of a Gateway. The zero value works.
type GatewayConfig struct {
	// URL is where to connect, always: "ws://127.0.0.1:8080". Empty is what the server tells: GET /gateway, and
	// resume_gateway_url for resuming.
	URL     string
	Intents wire.Intents // 0: all that there are
	Shard   *wire.Shard

	// Resume continues this session, of another Gateway or process, instead of beginning one.
	Resume *State

	// Queue is how many dispatches wait in Events; default 1024.
	Queue int
	// Handle, if it is set, gets every dispatch instead of Events, on the goroutine that reads: what it takes its time for,
	// it keeps the connection waiting for. d.Raw is reused after it returns. It must not call Close or Detach.
	Handle func(d Dispatch)

	// HandshakeTimeout bounds dialling, the upgrade and the wait for HELLO; default 10 s.
	HandshakeTimeout time.Duration

	// identifyWait replaces the random wait after INVALID_SESSION in tests.
	identifyWait func() time.Duration
}

func (c GatewayConfig) withDefaults() GatewayConfig {
	if c.Intents == 0 {
		c.Intents = wire.IntentsAll
	}
	if c.Queue <= 0 {
		c.Queue = queueDefault
	}
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = 10 * time.Second
	}
	if c.identifyWait == nil {
		c.identifyWait = func() time.Duration { return identifyWaitMin + rand.N(identifyWaitMax-identifyWaitMin) }
	}
	return c
}

// Dispatch is one event. Seq is the session's number; ephemeral events repeat the number before.
type Dispatch struct {
	Type string
	Seq  int64
	Raw  json.RawMessage
}

// As reads a dispatch if it is of that type.
func As[T any](d Dispatch, event string) (T, bool) {
	var v T
	if d.Type != event || json.Unmarshal(d.Raw, &v) != nil {
		return v, false
	}
	return v, true
}

// State is what it takes to resume a session.
type State struct {
	SessionID string
	Seq       int64
	URL       string // resume_gateway_url
}

// Stats counts what a Gateway has seen in its life.
type Stats struct {
	Dispatches  int64
	Bytes       int64 // of frames received
	Connections int64 // that got as far as HELLO
	Identifies  int64
	Resumes     int64 // attempts
	Resumed     int64 // that succeeded
	Invalid     int64 // INVALID_SESSION
	Gaps        int64 // dispatches whose number was not the one before or the next; stays 0 with a correct server
	Heartbeats  int64
	Acks        int64
}

// CloseError is why the server closed the connection for good.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("closed by the server: %d %s", int(e.Code), e.Reason)
}

// fatal are the codes after which coming back as one is would only be refused again.
var fatal = []wire.CloseCode{
	wire.CloseAuthenticationFailed, wire.CloseBadShard, wire.CloseShardingRequired,
	wire.CloseBadVersion, wire.CloseBadIntents, wire.CloseDisallowedIntents,
}

// Gateway is a session with the gateway. It heartbeats, reconnects and resumes by itself until Close, Detach or a close
// code that forbids it; where resuming is refused it identifies anew, and there is another READY among the events.
//
// Any goroutine may call any method. Events come in the session's order, each once: after a lost connection the server
// goes on after the last dispatch that went into the queue. When the queue is full the connection is not read, so that
// the server, whose own queue is bounded, closes it in the end; then the session is resumed, and nothing is lost unless
// the consumer stays behind for longer than the server keeps the session.
type Gateway struct {
	client *Client
	cfg    GatewayConfig
	events chan Dispatch
	loops  life.Loops
	stop   sync.Once

	ready  chan struct{} // closed at the first READY or RESUMED
	opened sync.Once
	ended  chan struct{} // closed when it is over
	keep   atomic.Bool   // Detach: leave the session resumable

	mu    sync.Mutex // guards what follows; no I/O under it
	conn  *conn
	state State
	held  chan struct{} // not nil: no connection is made until it is closed
	last  error         // why the latest connection ended
	err   error

	stats struct {
		dispatches, bytes, connections, identifies, resumes, resumed, invalid, gaps, heartbeats, acks atomic.Int64
	}
}

// Connect opens a session, or continues cfg.Resume, and returns at READY or RESUMED, which is the first event.
func (c *Client) Connect(ctx context.Context, cfg GatewayConfig) (*Gateway, error) {
	if _, err := url.Parse(cfg.URL); err != nil {
		return nil, fmt.Errorf("connect to the gateway: %w", err)
	}
	g := &Gateway{
		client: c, cfg: cfg.withDefaults(),
		ready: make(chan struct{}), ended: make(chan struct{}),
	}
	g.events = make(chan Dispatch, g.cfg.Queue)
	if cfg.Resume != nil {
		g.state = *cfg.Resume
	}
	g.loops.Go("gateway", g.run)
	select {
	case <-g.ready:
		return g, nil
	case <-g.ended:
		g.Close()
		return nil, fmt.Errorf("connect to the gateway: %w", g.Err())
	case <-ctx.Done():
		g.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		return nil, fmt.Errorf("connect to the gateway: %w", errors.Join(ctx.Err(), g.last))
	}
}

// Events delivers the dispatches, and is closed when the session is over for this client. With Handle it stays empty.
func (g *Gateway) Events() <-chan Dispatch { return g.events }

// Err is why Events was closed; nil before.
func (g *Gateway) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// State is where the session is now.
func (g *Gateway) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

// Session is the session's id.
func (g *Gateway) Session() string { return g.State().SessionID }

// Seq is the number of the last dispatch received.
func (g *Gateway) Seq() int64 { return g.State().Seq }

// Stats are the counters so far.
func (g *Gateway) Stats() Stats {
	s := &g.stats
	return Stats{
		Dispatches: s.dispatches.Load(), Bytes: s.bytes.Load(), Connections: s.connections.Load(),
		Identifies: s.identifies.Load(), Resumes: s.resumes.Load(), Resumed: s.resumed.Load(),
		Invalid: s.invalid.Load(), Gaps: s.gaps.Load(), Heartbeats: s.heartbeats.Load(), Acks: s.acks.Load(),
	}
}

// Send sends a frame of the client's own, a presence for example. It fails without a connection: what was true before a
// reconnection may not be any more.
func (g *Gateway) Send(op wire.Opcode, d any) error {
	g.mu.Lock()
	c := g.conn
	g.mu.Unlock()
	if c == nil {
		return errors.New("not connected to the gateway")
	}
	return c.send(op, d)
}

// Close ends the session and waits until everything has stopped. Twice is fine.
func (g *Gateway) Close() { g.stop.Do(g.loops.Stop) }

// Detach stops like Close, but leaves the session on the server, for another Gateway to resume.
func (g *Gateway) Detach() State {
	g.keep.Store(true)
	g.Close()
	return g.State()
}

// Cut breaks the connection without a word, as a pulled cable or a killed process would. The Gateway then resumes.
func (g *Gateway) Cut() {
	g.mu.Lock()
	c := g.conn
	g.mu.Unlock()
	if c != nil {
		c.cut()
	}
}

// Hold keeps the Gateway from connecting again, once its connection is lost, until Release.
func (g *Gateway) Hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = make(chan struct{})
	}
}

// Release undoes Hold.
func (g *Gateway) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != nil {
		close(g.held)
		g.held = nil
	}
}

// run makes one connection after the other.
func (g *Gateway) run(ctx context.Context) error {
	defer close(g.events)
	failures := 0 // attempts in a row that did not get the session on
	for {
		if !g.mayConnect(ctx) {
			return g.end(errClosed)
		}
		good, err := g.connectOnce(ctx, failures)
		if ctx.Err() != nil {
			return g.end(errClosed)
		}
		g.mu.Lock()
		g.last = err
		g.mu.Unlock()
		if e, ok := errors.AsType[*CloseError](err); ok {
			if slices.Contains(fatal, e.Code) {
				return g.end(err)
			}
			if e.Code == wire.CloseBadSeq {
				g.forget()
			}
		}
		// A server that takes connections and drops them at once gets the same pauses as one that takes none.
		failures++
		if good {
			failures = 0
		}
		if !sleep(ctx, backoff(failures+1)) {
			return g.end(errClosed)
		}
	}
}

// end remembers why it is over. It returns nil because nobody watches this loop's failure but Err.
func (g *Gateway) end(err error) error {
	g.mu.Lock()
	g.err = err
	g.mu.Unlock()
	close(g.ended)
	return nil
}

func (g *Gateway) mayConnect(ctx context.Context) bool {
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held == nil {
		return ctx.Err() == nil
	}
	select {
	case <-held:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// address is where the next attempt goes. Where resume_gateway_url does not answer, every second attempt goes to the
// general address: any gateway can resume any session.
func (g *Gateway) address(ctx context.Context, failures int) (string, error) {
	base := g.cfg.URL
	if state := g.State(); base == "" && state.SessionID != "" && failures%2 == 0 {
		base = state.URL
	}
	if base == "" {
		where, err := g.client.Gateway(ctx)
		if err != nil {
			return "", err
		}
		base = where.URL
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("gateway address: %w", err)
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	if u.Path == "" {
		u.Path = "/"
	}
	u.RawQuery = "v=10&encoding=json"
	return u.String(), nil
}

// forget drops the session: the next attempt identifies.
func (g *Gateway) forget() {
	g.mu.Lock()
	g.state = State{}
	g.mu.Unlock()
}

func (g *Gateway) setConn(c *conn) {
	g.mu.Lock()
	g.conn = c
	g.mu.Unlock()
}
