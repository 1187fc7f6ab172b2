package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/wire"
)

// patience bounds every wait of these tests; reaching it is a failure.
const patience = 20 * time.Second

// fakeGateway accepts connections and leaves what to say on them to the test.
type fakeGateway struct {
	t     *testing.T
	srv   *httptest.Server
	peers chan *peer
}

// peer is the server's end of one connection.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
}

func newFakeGateway(t *testing.T) *fakeGateway {
	f := &fakeGateway{t: t, peers: make(chan *peer, 8)}
	upgrader := websocket.Upgrader{}
	f.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v10/gateway" {
			_ = json.NewEncoder(w).Encode(wire.Gateway{URL: f.url()})
			return
		}
		if r.URL.RawQuery != "v=10&encoding=json" {
			t.Errorf("query is %s", r.URL.RawQuery)
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = ws.Close() })
		_ = ws.SetReadDeadline(time.Now().Add(patience))
		f.peers <- &peer{t: t, ws: ws}
	}))
	t.Cleanup(f.srv.Close)
	return f
}

func (f *fakeGateway) url() string { return "ws" + strings.TrimPrefix(f.srv.URL, "http") }

func (f *fakeGateway) client() *Client {
	c, err := New(Config{URL: f.srv.URL, Token: "Bot secret", HTTP: f.srv.Client()})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// connect opens a session "one" whose READY is s 1.
func (f *fakeGateway) connect(cfg GatewayConfig) (*Gateway, *peer) {
	f.t.Helper()
	type result struct {
		g   *Gateway
		err error
	}
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		g, err := f.client().Connect(ctx, cfg)
		done <- result{g, err}
	}()
	p := f.accept(time.Minute)
	p.identified("one")
	r := <-done
	if r.err != nil {
		f.t.Fatal(r.err)
	}
	f.t.Cleanup(r.g.Close)
	return r.g, p
}

// accept waits for a connection and says HELLO.
func (f *fakeGateway) accept(interval time.Duration) *peer {
	f.t.Helper()
	select {
	case p := <-f.peers:
		p.send(fmt.Sprintf(`{"op":10,"d":{"heartbeat_interval":%d},"s":null,"t":null}`, interval.Milliseconds()))
		return p
	case <-time.After(patience):
		f.t.Fatal("nobody connected")
		return nil
	}
}

func (p *peer) send(frame string) {
	p.t.Helper()
	if err := p.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		p.t.Errorf("send %s: %v", frame, err)
	}
}

func (p *peer) event(name string, s int64, d string) {
	p.t.Helper()
	p.send(string(wire.AppendDispatch(nil, name, s, []byte(d))))
}

// expect reads frames until one of op, and its d into out.
func (p *peer) expect(op wire.Opcode, out any) {
	p.t.Helper()
	for {
		var f wire.Frame
		if err := p.ws.ReadJSON(&f); err != nil {
			p.t.Fatalf("waiting for op %d: %v", op, err)
		}
		if f.Op == op {
			if err := json.Unmarshal(f.D, out); err != nil {
				p.t.Fatal(err)
			}
			return
		}
	}
}

// closed reads up to the end of the connection and returns its code, 0 for one that was cut.
func (p *peer) closed() int {
	p.t.Helper()
	for {
		_, _, err := p.ws.ReadMessage()
		if err == nil {
			continue
		}
		var e *websocket.CloseError
		if errors.As(err, &e) && e.Code != websocket.CloseAbnormalClosure {
			return e.Code
		}
		var timeout interface{ Timeout() bool }
		if errors.As(err, &timeout) && timeout.Timeout() {
			p.t.Fatal("the connection stayed open")
		}
		return 0
	}
}

func (p *peer) identified(session string) wire.Identify {
	p.t.Helper()
	var in wire.Identify
	p.expect(wire.OpIdentify, &in)
	p.event("READY", 1, `{"session_id":"`+session+`"}`)
	return in
}

func (p *peer) resumed() wire.Resume {
	p.t.Helper()
	var in wire.Resume
	p.expect(wire.OpResume, &in)
	return in
}

// take reads n events.
func take(t *testing.T, g *Gateway, n int) []string {
	t.Helper()
	var got []string
	for range n {
		select {
		case d, ok := <-g.Events():
			if !ok {
				t.Fatalf("events ended after %v: %v", got, g.Err())
			}
			got = append(got, fmt.Sprintf("%s %d %s", d.Type, d.Seq, d.Raw))
		case <-time.After(patience):
			t.Fatalf("no more events after %v", got)
		}
	}
	return got
}

func sameEvents(t *testing.T, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

const ready = `READY 1 {"session_id":"one"}`

func TestGateway_IdentifiesAndDeliversInOrder(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, p := f.connect(GatewayConfig{Intents: wire.IntentGuilds})
	p.event("A", 2, `{"x":1}`)
	p.send(`{"t":"B","s":3,"op":0,"d":{"y":2}}`) // the keys in another order
	p.event("TYPING_START", 3, `{}`)
	sameEvents(t, take(t, g, 4), ready, `A 2 {"x":1}`, `B 3 {"y":2}`, `TYPING_START 3 {}`)
	if g.Session() != "one" || g.Seq() != 3 || g.Stats().Gaps != 0 {
		t.Errorf("state %+v, stats %+v", g.State(), g.Stats())
	}
	p.event("C", 5, `{}`)
	take(t, g, 1)
	if got := g.Stats().Gaps; got != 1 {
		t.Errorf("%d gaps, want 1", got)
	}
}

func TestGateway_IdentifySaysWhoAndWhat(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	go func() {
		p := f.accept(time.Minute)
		in := p.identified("one")
		if in.Token != "secret" || *in.Intents != wire.IntentGuilds || *in.Shard != (wire.Shard{1, 2}) {
			t.Errorf("identified with %+v", in)
		}
	}()
	g, err := f.client().Connect(context.Background(), GatewayConfig{Intents: wire.IntentGuilds, Shard: &wire.Shard{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
}

func TestGateway_ResumesAfterCut(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, p := f.connect(GatewayConfig{})
	p.event("A", 2, `{}`)
	sameEvents(t, take(t, g, 2), ready, `A 2 {}`)

	g.Hold()
	g.Cut()
	if code := p.closed(); code != 0 {
		t.Errorf("a cut connection said %d", code)
	}
	g.Release()

	p = f.accept(time.Minute)
	want := wire.Resume{Token: "secret", SessionID: "one", Seq: 2}
	if d := cmp.Diff(want, p.resumed()); d != "" {
		t.Error(d)
	}
	p.event("B", 3, `{}`)
	p.event("RESUMED", 3, `{"_trace":[]}`)
	sameEvents(t, take(t, g, 2), `B 3 {}`, `RESUMED 3 {"_trace":[]}`)
	if s := g.Stats(); s.Resumed != 1 || s.Identifies != 1 || s.Gaps != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestGateway_HoldKeepsItAway(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, p := f.connect(GatewayConfig{})
	g.Hold()
	g.Cut()
	p.closed()
	select {
	case <-f.peers:
		t.Error("it connected although held")
	case <-time.After(3 * backoffMin): // longer than its first pause
	}
	g.Close() // a held Gateway can be closed
	if err := g.Err(); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
}

func TestGateway_IdentifiesOnSameSocketAfterInvalidSession(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, _ := f.connect(GatewayConfig{identifyWait: func() time.Duration { return 0 }})
	g.Cut()
	p := f.accept(time.Minute)
	p.resumed()
	p.send(`{"op":9,"d":false,"s":null,"t":null}`)
	p.identified("two")
	sameEvents(t, take(t, g, 2), ready, `READY 1 {"session_id":"two"}`)
	if g.Session() != "two" || g.Seq() != 1 {
		t.Errorf("state %+v", g.State())
	}
}

func TestGateway_ResumesAgainAfterInvalidSessionTrue(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, _ := f.connect(GatewayConfig{identifyWait: func() time.Duration { return 0 }})
	g.Cut()
	p := f.accept(time.Minute)
	p.resumed()
	p.send(`{"op":9,"d":true,"s":null,"t":null}`)
	if in := p.resumed(); in.SessionID != "one" {
		t.Errorf("resumed %+v", in)
	}
}

func TestGateway_ReconnectKeepsSession(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	_, p := f.connect(GatewayConfig{})
	p.send(`{"op":7,"d":null,"s":null,"t":null}`)
	if code := p.closed(); code == 1000 || code == 1001 || code == 0 {
		t.Errorf("closed with %d, which ends the session or says nothing", code)
	}
	p = f.accept(time.Minute)
	if in := p.resumed(); in.SessionID != "one" || in.Seq != 1 {
		t.Errorf("resumed %+v", in)
	}
}

func TestGateway_ResumesWhereReadySaid(t *testing.T) {
	t.Parallel()
	f, other := newFakeGateway(t), newFakeGateway(t)
	done := make(chan *Gateway, 1)
	go func() {
		g, err := f.client().Connect(context.Background(), GatewayConfig{})
		if err != nil {
			t.Error(err)
		}
		done <- g
	}()
	p := f.accept(time.Minute)
	var in wire.Identify
	p.expect(wire.OpIdentify, &in)
	p.event("READY", 1, `{"session_id":"one","resume_gateway_url":"`+other.url()+`"}`)
	g := <-done
	t.Cleanup(g.Close)
	g.Cut()
	other.accept(time.Minute).resumed()
}

func TestGateway_EndsAtFatalClose(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, p := f.connect(GatewayConfig{})
	_ = p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4004, "no"), time.Now().Add(time.Second))
	take(t, g, 1)
	select {
	case d, ok := <-g.Events():
		if ok {
			t.Errorf("got %+v", d)
		}
	case <-time.After(patience):
		t.Fatal("events did not end")
	}
	var e *CloseError
	if !errors.As(g.Err(), &e) || e.Code != wire.CloseAuthenticationFailed || e.Reason != "no" {
		t.Errorf("got %v", g.Err())
	}
}

func TestGateway_ConnectReturnsFatalClose(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	go func() {
		p := f.accept(time.Minute)
		_ = p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4013, ""), time.Now().Add(time.Second))
	}()
	_, err := f.client().Connect(context.Background(), GatewayConfig{})
	var e *CloseError
	if !errors.As(err, &e) || e.Code != wire.CloseBadIntents {
		t.Errorf("got %v", err)
	}
}

func TestGateway_IdentifiesAnewAfterBadSeq(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	_, p := f.connect(GatewayConfig{})
	_ = p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4007, ""), time.Now().Add(time.Second))
	f.accept(time.Minute).identified("two")
}

func TestGateway_CloseEndsSession(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, p := f.connect(GatewayConfig{Queue: 1})
	for s := int64(2); s < 100; s++ { // more than anybody reads: the close must get through all the same
		p.event("A", s, `{}`)
	}
	done := make(chan struct{})
	go func() { g.Close(); g.Close(); close(done) }()
	if code := p.closed(); code != websocket.CloseNormalClosure {
		t.Errorf("closed with %d, want 1000", code)
	}
	<-done
	if err := g.Send(wire.OpPresenceUpdate, nil); err == nil {
		t.Error("sent on a closed connection")
	}
}

func TestGateway_DetachKeepsSessionForAnother(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, p := f.connect(GatewayConfig{})
	p.event("A", 2, `{}`)
	take(t, g, 2)
	states := make(chan State, 1)
	go func() { states <- g.Detach() }()
	if code := p.closed(); code == 1000 || code == 1001 {
		t.Errorf("closed with %d, which ends the session", code)
	}
	state := <-states
	go func() {
		p := f.accept(time.Minute)
		if in := p.resumed(); in.SessionID != "one" || in.Seq != 2 {
			t.Errorf("resumed %+v", in)
		}
		p.event("RESUMED", 2, `{}`)
	}()
	h, err := f.client().Connect(context.Background(), GatewayConfig{Resume: &state, URL: f.url()})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
}

func TestGateway_HeartbeatsCarrySeqAndMissingAckCuts(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, _ := f.connect(GatewayConfig{})
	g.Cut()
	p := f.accept(250 * time.Millisecond) // the cut takes away what was not read by then
	p.resumed()
	p.event("RESUMED", 1, `{}`)
	var seq *int64
	p.expect(wire.OpHeartbeat, &seq)
	if seq == nil || *seq != 1 {
		t.Errorf("heartbeat with %v, want 1", seq)
	}
	if code := p.closed(); code != 0 { // no ACK comes
		t.Errorf("closed with %d, want a cut", code)
	}
	f.accept(time.Minute).resumed()
}

func TestGateway_AcksKeepItAlive(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, _ := f.connect(GatewayConfig{})
	g.Cut()
	p := f.accept(200 * time.Millisecond) // a server that is slower than this has the connection cut
	p.resumed()
	for range 5 {
		var seq *int64
		p.expect(wire.OpHeartbeat, &seq)
		p.send(`{"op":11,"d":null,"s":null,"t":null}`)
	}
	p.event("LAST", 2, `{}`)
	sameEvents(t, take(t, g, 2), ready, `LAST 2 {}`)
	if s := g.Stats(); s.Connections != 2 || s.Acks != 5 {
		t.Errorf("stats %+v", s)
	}
}

func TestGateway_BeatsWhenAsked(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	_, p := f.connect(GatewayConfig{})
	p.send(`{"op":1,"d":null,"s":null,"t":null}`)
	var seq *int64
	p.expect(wire.OpHeartbeat, &seq)
}

func TestGateway_FullQueueLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	g, p := f.connect(GatewayConfig{Queue: 1})
	const n = 300
	go func() {
		for s := int64(2); s <= n; s++ {
			p.event("A", s, `{}`)
		}
	}()
	for s, e := range take(t, g, n)[1:] {
		if want := fmt.Sprintf("A %d {}", s+2); e != want {
			t.Fatalf("got %s, want %s", e, want)
		}
	}
}

func TestGateway_HandleGetsEveryDispatch(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	got := make(chan string, 4)
	_, p := f.connect(GatewayConfig{Handle: func(d Dispatch) { got <- fmt.Sprintf("%s %d %s", d.Type, d.Seq, d.Raw) }})
	p.event("A", 2, `{"x":[1,2]}`)
	sameEvents(t, []string{<-got, <-got}, ready, `A 2 {"x":[1,2]}`)
}

func TestGateway_ConnectGivesUpWithContext(t *testing.T) {
	t.Parallel()
	f := newFakeGateway(t)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		f.accept(time.Minute)
		cancel()
	}()
	if _, err := f.client().Connect(ctx, GatewayConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestParse_FastAndSlowAgree(t *testing.T) {
	t.Parallel()
	f := func(frame string) {
		t.Helper()
		got, gotErr := parse([]byte(frame))
		var slow wire.Frame
		if err := json.Unmarshal([]byte(frame), &slow); err != nil {
			if gotErr == nil {
				t.Errorf("%s: read as %+v", frame, got)
			}
			return
		}
		want := received{Op: slow.Op, D: slow.D}
		if slow.T != nil {
			want.T = *slow.T
		}
		if slow.S != nil {
			want.S = *slow.S
		}
		if d := cmp.Diff(want, got); d != "" || gotErr != nil {
			t.Errorf("%s: %v %s", frame, gotErr, d)
		}
	}
	f(`{"op":0,"t":"A","s":12,"d":{"a":{"t":"B","s":3,"d":4}}}`)
	f(`{"op":0,"t":"A","s":12,"d":"}"}`)
	f(`{"op":0,"t":"A","s":null,"d":{}}`)
	f(`{"op":0,"t":"A\"","s":1,"d":{}}`)
	f(`{"op":0,"t":"`)
	f(`{"op":0,"t":"}`)
	f(`{"op":10,"d":{"heartbeat_interval":41250},"s":null,"t":null}`)
	f(`{"op":9,"d":false}`)
	f(`nonsense`)
}
