package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// What runs on belongs to libraries: the dates of fasthttp, its workers for 10 s after the server, the summaries of metrics.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("time.Sleep"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// hall is the smallest owner of sessions: one guild with one channel that everybody sees, and one session that can be
// resumed.
type hall struct {
	mu     sync.Mutex
	hub    *hub.Hub
	ring   *hub.Ring[[]*hub.Event]
	pos    bus.Position
	last   *Session
	trail  *Trail
	view   *hub.View
	said   []string // what Presence was told
	begins func()   // called while the initial dispatches are rendered

	left    chan bool  // resumable, for each Detach
	leaving chan int64 // the number at which each Leave stands
}

const (
	guild   = id.ID(1)
	channel = id.ID(10)
	user    = id.ID(100)
)

func newHall() *hall {
	return &hall{
		hub: hub.New(), ring: hub.NewRing[[]*hub.Event](bus.Position{}, 1<<16, 1<<26), left: make(chan bool, 256), leaving: make(chan int64, 256), begins: func() {},
		view: &hub.View{User: user, Intents: wire.IntentsAll, Guilds: map[id.ID]*hub.Class{guild: hub.NewClass(guild, []id.ID{channel})}},
	}
}

func (h *hall) Identify(_ context.Context, s *Session, in Identify) error {
	switch in.Token {
	case "good":
	case "panic":
		panic("a bug")
	case "away":
		return fault.Unavailable(errors.New("redis is away"), time.Second)
	default:
		return fault.Unauthorized()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trail, h.last = &Trail{}, s
	if in.Presence != nil {
		h.said = append(h.said, in.Presence.Status)
	}
	if !s.Begin(&Opening{
		Trail: h.trail, View: h.view, Point: hub.Behind(h.pos), From: Place{View: h.view},
		First: func(_ context.Context, emit Emit) error {
			h.begins()
			return emit("READY", fmt.Appendf(nil, `{"v":%d,"origin":%q}`, in.Version, in.Origin))
		},
	}) {
		return context.Canceled
	}
	h.hub.Attach(s, h.view)
	return nil
}

func (h *hall) Resume(_ context.Context, s *Session, in wire.Resume) error {
	if in.SessionID != "last" {
		return ErrInvalid
	}
	place, err := h.trail.Locate(in.Seq, h.since)
	if errors.Is(err, ErrFuture) {
		return &CloseError{Code: wire.CloseBadSeq, Reason: "invalid seq"}
	}
	if err != nil {
		return ErrInvalid
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	records, _ := h.ring.Since(place.Point)
	h.last = s
	if !s.Begin(&Opening{
		Trail: h.trail, View: h.view, Point: hub.Behind(h.pos), From: place, Records: records,
		Last: func(context.Context, Emit) error { return nil },
	}) {
		return context.Canceled
	}
	h.hub.Attach(s, h.view)
	return nil
}

func (h *hall) since(p hub.Point) ([]hub.Record[[]*hub.Event], bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ring.Since(p)
}

func (h *hall) Presence(_ context.Context, _ *Session, in wire.PresenceUpdate) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, in.Status)
	return nil
}

func (h *hall) Members(_ context.Context, s *Session, in wire.RequestMembers) error {
	s.Say("GUILD_MEMBERS_CHUNK", fmt.Appendf(nil, `{"nonce":%q}`, in.Nonce))
	return nil
}

func (h *hall) Leave(_ context.Context, _ *Session, c Checkpoint) { h.leaving <- c[len(c)-1].Seq }

func (h *hall) Position() bus.Position { return bus.Position{} }

func (h *hall) Checkpoint(*Session, Checkpoint) {}

func (h *hall) Detach(s *Session, resumable bool) {
	h.mu.Lock()
	h.hub.Detach(user, s)
	h.mu.Unlock()
	h.left <- resumable
}

// tell sends an event with a number as its body, and says whether somebody took it.
func (h *hall) tell(n int, padding string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pos.Ms++
	e := &hub.Event{
		Point: hub.Point{Pos: h.pos}, Name: "MESSAGE_CREATE", Guild: guild, Channel: channel, Intents: wire.IntentGuildMessages,
		Durable: true, Body: fmt.Appendf(nil, `{"n":%d,"padding":%q}`, n, padding),
	}
	h.ring.Append(h.pos, []*hub.Event{e}, len(e.Body))
	return h.hub.Send(e) > 0
}

// countingListener counts the writes of the connections that it accepts.
type countingListener struct {
	net.Listener
	writes atomic.Int64
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	// A small buffer, so that a client which does not read is noticed soon.
	if err := c.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
		return nil, err
	}
	return &countingConn{Conn: c, writes: &l.writes}, nil
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

type bundle struct {
	t        testing.TB
	hall     *hall
	acceptor *Acceptor
	listener *countingListener
	addr     string
}

func setup(t testing.TB, cfg Config) *bundle {
	t.Helper()
	h := newHall()
	return setupWith(t, cfg, h, h)
}

// setupWith is setup with another owner that is made of a hall.
func setupWith(t testing.TB, cfg Config, h *hall, gw Gateway) *bundle {
	t.Helper()
	b := &bundle{t: t, hall: h}
	b.acceptor = NewAcceptor(cfg, gw)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.listener, b.addr = &countingListener{Listener: ln}, ln.Addr().String()
	srv := &fasthttp.Server{Handler: b.acceptor.Handle, KeepHijackedConns: true, NoDefaultServerHeader: true}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(b.listener) })
	if err := b.acceptor.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.acceptor.Stop()
		_ = srv.Shutdown()
		serving.Wait()
	})
	return b
}

// socket is a client that looks at every frame.
type socket struct {
	t  testing.TB
	ws *websocket.Conn
}

type frame struct {
	Op wire.Opcode     `json:"op"`
	D  json.RawMessage `json:"d"`
	S  *int64          `json:"s"`
	T  string          `json:"t"`
}

// readTimeout is only how long a test that fails takes.
const readTimeout = 20 * time.Second

// dial connects without reading the hello.
func (b *bundle) dial(path string) *socket {
	b.t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial("ws://"+b.addr+path, nil)
	if err != nil {
		b.t.Fatalf("dial %s: %v", path, err)
	}
	_ = resp.Body.Close()
	b.t.Cleanup(func() { _ = ws.Close() })
	return &socket{t: b.t, ws: ws}
}

func (b *bundle) connect() *socket {
	b.t.Helper()
	s := b.dial("/?v=10&encoding=json")
	if f := s.read(); f.Op != wire.OpHello {
		b.t.Fatalf("the first frame is op %d", f.Op)
	}
	return s
}

func (b *bundle) identify() *socket {
	b.t.Helper()
	s := b.connect()
	s.send(`{"op":2,"d":{"token":"good","intents":513,"properties":{"os":"x"}}}`)
	if f := s.read(); f.T != "READY" || f.S == nil || *f.S != 1 {
		b.t.Fatalf("got %+v", f)
	}
	return s
}

func (s *socket) next() (f frame, err error) {
	_ = s.ws.SetReadDeadline(time.Now().Add(readTimeout))
	_, b, err := s.ws.ReadMessage()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(b, &f)
}

func (s *socket) read() frame {
	s.t.Helper()
	f, err := s.next()
	if err != nil {
		s.t.Fatalf("read: %v", err)
	}
	return f
}

func (s *socket) send(text string) {
	s.t.Helper()
	if err := s.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatalf("write: %v", err)
	}
}

// closed reads until the server closes, and returns the code.
func (s *socket) closed() int {
	s.t.Helper()
	for {
		_, err := s.next()
		var c *websocket.CloseError
		if errors.As(err, &c) {
			return c.Code
		}
		if err != nil {
			s.t.Fatalf("read: %v", err)
		}
	}
}

// raw connects and gives the bare connection, to send what no library would.
func (b *bundle) raw() (net.Conn, *bufio.Reader) {
	b.t.Helper()
	c, err := (&net.Dialer{}).DialContext(b.t.Context(), "tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	request := "GET /?v=10 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	if _, err := c.Write([]byte(request)); err != nil {
		b.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			b.t.Fatal(err)
		}
		if line == "\r\n" {
			return c, r
		}
	}
}

// rawClosed reads frames until the server closes, and returns the code.
func rawClosed(t *testing.T, c net.Conn, r *bufio.Reader) int {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(readTimeout))
	for {
		var head [2]byte
		if _, err := readFull(r, head[:]); err != nil {
			t.Fatalf("read: %v", err)
		}
		payload := make([]byte, head[1]&0x7f)
		if head[1] >= 126 {
			t.Fatal("a long frame")
		}
		if _, err := readFull(r, payload); err != nil {
			t.Fatalf("read: %v", err)
		}
		if head[0] == frameClose {
			return int(payload[0])<<8 | int(payload[1])
		}
	}
}

// frameLength reads the head of a frame of the server.
func frameLength(r *bufio.Reader) (int, error) {
	head, err := r.Peek(2)
	if err != nil {
		return 0, err
	}
	n := int(head[1])
	if n < 126 {
		_, err = r.Discard(2)
		return n, err
	}
	if head, err = r.Peek(4); err != nil {
		return 0, err
	}
	n = int(head[2])<<8 | int(head[3])
	_, err = r.Discard(4)
	return n, err
}

// maskedText is a short text frame of a client, with a mask of zeros.
func maskedText(text string) []byte {
	return append([]byte{frameText, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}

// yield lets others run while a test waits.
func yield() { runtime.Gosched() }
