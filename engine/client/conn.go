package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/wire"
)

const (
	writeTimeout = 10 * time.Second
	// frameBytesMax: a GUILD_CREATE with some ten thousand members is a few MiB.
	frameBytesMax = 64 << 20
	// readBuffer: benchmarks hold tens of thousands of connections, and most frames are smaller than this.
	readBuffer = 2048
	// closeWait is how long Close waits for the server to answer the closing handshake.
	closeWait = time.Second
	// closeKeep is the code for going away with the session left resumable; any but 1000 and 1001 does.
	closeKeep = 4900
)

// errAgain is a connection that ended as it may: connect again.
var errAgain = errors.New("the server wants a new connection")

// conn is one WebSocket connection of a Gateway.
type conn struct {
	g  *Gateway
	ws *websocket.Conn

	writing sync.Mutex // one writer at a time; held during the write
	// waiting is set while the reader does not read, so that an ACK that is not seen means nothing.
	waiting  atomic.Bool
	unacked  atomic.Bool
	interval time.Duration
	buf      bytes.Buffer
}

// connectOnce makes a connection and reads it to its end. good says that the session was on.
func (g *Gateway) connectOnce(ctx context.Context, failures int) (good bool, err error) {
	c, err := g.dial(ctx, failures)
	if err != nil {
		return false, err
	}
	defer func() { _ = c.ws.Close() }() // it is lost or was closed already
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c.leave()
	})
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	if err := c.hello(); err != nil {
		return false, err
	}
	g.stats.connections.Add(1)

	g.setConn(c)
	defer g.setConn(nil)
	beating, quit := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { c.beat(beating) })
	defer func() {
		quit()
		beats.Wait()
	}()
	if err := c.begin(); err != nil {
		return false, err
	}
	return c.read(ctx)
}

func (g *Gateway) dial(ctx context.Context, failures int) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.HandshakeTimeout)
	defer cancel()
	address, err := g.address(ctx, failures)
	if err != nil {
		return nil, err
	}
	// A frame that is larger than the buffer is sent in fragments, which not every server takes.
	dialer := websocket.Dialer{ReadBufferSize: readBuffer, WriteBufferSize: 2 * wire.FrameMax, WriteBufferPool: g.client.buffers}
	ws, res, err := dialer.DialContext(ctx, address, nil)
	if err != nil {
		if res != nil {
			err = fmt.Errorf("%w (status %d)", err, res.StatusCode)
		}
		return nil, fmt.Errorf("dial the gateway: %w", err)
	}
	ws.SetReadLimit(frameBytesMax)
	return &conn{g: g, ws: ws}, nil
}

// hello reads the first frame.
func (c *conn) hello() error {
	if err := c.ws.SetReadDeadline(time.Now().Add(c.g.cfg.HandshakeTimeout)); err != nil {
		return err
	}
	frame, err := c.next()
	if err != nil {
		return err
	}
	var d wire.Hello
	if frame.Op != wire.OpHello || json.Unmarshal(frame.D, &d) != nil || d.HeartbeatInterval <= 0 {
		return fmt.Errorf("the first frame is no HELLO but op %d", frame.Op)
	}
	c.interval = time.Duration(d.HeartbeatInterval) * time.Millisecond
	// From here on a dead connection shows in missing ACKs.
	return c.ws.SetReadDeadline(time.Time{})
}

// begin resumes if there is a session, else identifies.
func (c *conn) begin() error {
	if state := c.g.State(); state.SessionID != "" {
		c.g.stats.resumes.Add(1)
		return c.send(wire.OpResume, wire.Resume{Token: c.token(), SessionID: state.SessionID, Seq: state.Seq})
	}
	c.g.stats.identifies.Add(1)
	return c.send(wire.OpIdentify, wire.Identify{
		Token: c.token(), Intents: &c.g.cfg.Intents, Shard: c.g.cfg.Shard,
		Properties: wire.IdentifyProperties{OS: runtime.GOOS, Browser: "xcord", Device: "xcord"},
	})
}

func (c *conn) token() string {
	token := strings.TrimPrefix(c.g.client.cfg.Token, "Bot ")
	return strings.TrimPrefix(token, "Bearer ")
}

// read handles frames until the connection ends.
func (c *conn) read(ctx context.Context) (good bool, err error) {
	for {
		frame, err := c.next()
		if err != nil {
			return good, closed(err)
		}
		if ctx.Err() != nil {
			continue // leave has been said; what comes before the server's answer is not wanted any more
		}
		switch frame.Op {
		case wire.OpDispatch:
			on, err := c.dispatch(ctx, frame)
			if err != nil {
				return good, err
			}
			good = good || on
		case wire.OpHeartbeat:
			err = c.heartbeat()
		case wire.OpHeartbeatACK:
			c.g.stats.acks.Add(1)
			c.unacked.Store(false)
		case wire.OpReconnect:
			c.control(closeKeep)
			return true, errAgain
		case wire.OpInvalidSession:
			err = c.invalid(ctx, frame)
		}
		if err != nil {
			return good, err
		}
	}
}

// dispatch passes an event on; on says that the session is on with it.
func (c *conn) dispatch(ctx context.Context, frame received) (on bool, err error) {
	g := c.g
	if frame.T == "READY" {
		var r wire.Ready
		if err := json.Unmarshal(frame.D, &r); err != nil || r.SessionID == "" {
			return false, fmt.Errorf("READY cannot be read: %w", errors.Join(err, errAgain))
		}
		g.mu.Lock()
		g.state = State{SessionID: r.SessionID, URL: r.ResumeGatewayURL}
		g.mu.Unlock()
	}
	last := g.State().Seq
	if frame.S != last && frame.S != last+1 {
		g.stats.gaps.Add(1)
	}
	// Noted first, so that whoever has got the event finds it noted; and taken back when nobody gets it, because then it must
	// come again after a resume.
	g.note(max(frame.S, last))
	switch frame.T {
	case "RESUMED":
		g.stats.resumed.Add(1)
		on = true
	case "READY":
		on = true
	}
	g.stats.dispatches.Add(1)
	d := Dispatch{Type: frame.T, Seq: frame.S, Raw: frame.D}
	if g.cfg.Handle != nil {
		g.cfg.Handle(d)
	} else if d.Raw = bytes.Clone(d.Raw); !c.enqueue(ctx, d) {
		g.note(last)
		return false, nil
	}
	if on {
		g.opened.Do(func() { close(g.ready) })
	}
	return on, nil
}

func (g *Gateway) note(seq int64) {
	g.mu.Lock()
	g.state.Seq = seq
	g.mu.Unlock()
}

// enqueue waits for room; false is the end of the Gateway.
func (c *conn) enqueue(ctx context.Context, d Dispatch) bool {
	select {
	case c.g.events <- d:
		return true
	default:
	}
	c.pause()
	defer c.waiting.Store(false)
	select {
	case c.g.events <- d:
		return true
	case <-ctx.Done():
		return false
	}
}

// pause says that the reader will not read for a while. The ACK that is missing now may lie unread.
func (c *conn) pause() {
	c.waiting.Store(true)
	c.unacked.Store(false)
}

// invalid answers INVALID_SESSION on the same connection. True means that the session can be resumed, though not at once.
func (c *conn) invalid(ctx context.Context, frame received) error {
	c.g.stats.invalid.Add(1)
	if string(frame.D) != "true" {
		c.g.forget()
	}
	c.pause()
	defer c.waiting.Store(false)
	if !sleep(ctx, c.g.cfg.identifyWait()) {
		return nil
	}
	return c.begin()
}

// beat sends heartbeats, the first after a random part of the interval, and cuts a connection that does not answer.
func (c *conn) beat(ctx context.Context) {
	wait := rand.N(c.interval)
	for sleep(ctx, wait) {
		if c.unacked.Load() && !c.waiting.Load() {
			c.cut()
			return
		}
		c.unacked.Store(!c.waiting.Load())
		if c.heartbeat() != nil {
			return // the reader sees it too
		}
		wait = c.interval
	}
}

func (c *conn) heartbeat() error {
	c.g.stats.heartbeats.Add(1)
	if seq := c.g.Seq(); seq > 0 {
		return c.send(wire.OpHeartbeat, seq)
	}
	return c.send(wire.OpHeartbeat, nil)
}

func (c *conn) send(op wire.Opcode, d any) error {
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode op %d: %w", op, err)
	}
	frame := wire.AppendFrame(make([]byte, 0, len(body)+32), op, body)
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if err := c.ws.WriteMessage(websocket.TextMessage, frame); err != nil {
		_ = c.ws.Close() // after a failed write the stream is broken; closing wakes the reader
		return fmt.Errorf("send op %d: %w", op, err)
	}
	return nil
}

// control sends a close frame.
func (c *conn) control(code int) {
	// If it cannot be sent the connection is gone, which the server will see as well.
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(closeWait))
}

// leave begins the closing handshake. The reader goes on reading, because a close with unread bytes is a reset, which can
// overtake the close frame.
func (c *conn) leave() {
	code := websocket.CloseNormalClosure
	if c.g.keep.Load() {
		code = closeKeep
	}
	c.control(code)
	_ = c.ws.SetReadDeadline(time.Now().Add(closeWait)) // fails only on a closed connection
}

// cut resets the TCP connection: no close frame, no FIN.
func (c *conn) cut() {
	raw := c.ws.NetConn()
	if t, ok := raw.(interface{ NetConn() net.Conn }); ok { // TLS
		raw = t.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed connection
	}
	_ = raw.Close()
}

// received is a frame; T and S are empty in all but dispatches. D is valid until the next one.
type received struct {
	Op wire.Opcode
	T  string
	S  int64
	D  []byte
}

func (c *conn) next() (received, error) {
	_, r, err := c.ws.NextReader()
	if err != nil {
		return received{}, err
	}
	c.buf.Reset()
	if _, err := c.buf.ReadFrom(io.LimitReader(r, frameBytesMax)); err != nil {
		return received{}, err
	}
	c.g.stats.bytes.Add(int64(c.buf.Len()))
	return parse(c.buf.Bytes())
}

var (
	dispatchHead = []byte(`{"op":0,"t":"`)
	dispatchSeq  = []byte(`","s":`)
	dispatchBody = []byte(`,"d":`)
)

// parse reads a frame. A dispatch as XCord writes it is taken apart by its fixed parts, which spares the large d a pass;
// anything else is read as JSON.
func parse(b []byte) (received, error) {
	if f, ok := parseDispatch(b); ok {
		return f, nil
	}
	var f wire.Frame
	if err := json.Unmarshal(b, &f); err != nil {
		return received{}, fmt.Errorf("read a frame: %w", err)
	}
	out := received{Op: f.Op, D: f.D}
	if f.T != nil {
		out.T = *f.T
	}
	if f.S != nil {
		out.S = *f.S
	}
	return out, nil
}

func parseDispatch(b []byte) (received, bool) {
	b, ok := bytes.CutPrefix(b, dispatchHead)
	if !ok {
		return received{}, false
	}
	if b, ok = bytes.CutSuffix(b, []byte{'}'}); !ok {
		return received{}, false
	}
	event, b, ok := bytes.Cut(b, dispatchSeq)
	if !ok || bytes.IndexByte(event, '"') >= 0 {
		return received{}, false
	}
	digits, d, ok := bytes.Cut(b, dispatchBody)
	if !ok {
		return received{}, false
	}
	seq, err := strconv.ParseInt(string(digits), 10, 64)
	return received{T: string(event), S: seq, D: d}, err == nil
}

// closed turns the end of a connection into a CloseError if the server gave a reason.
func closed(err error) error {
	var e *websocket.CloseError
	if errors.As(err, &e) && e.Code != websocket.CloseAbnormalClosure {
		return &CloseError{Code: wire.CloseCode(e.Code), Reason: e.Text}
	}
	return err
}
