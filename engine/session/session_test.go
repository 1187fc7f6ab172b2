package session

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/wire"
)

func readFull(r *bufio.Reader, b []byte) (int, error) { return io.ReadFull(r, b) }

func TestSession_ClosesWithTheCodeOfTheMistake(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const identify = `{"op":2,"d":{"token":"good","intents":1}}`
	f := func(name string, want int, frames ...string) {
		t.Helper()
		s := b.connect()
		for _, text := range frames {
			s.send(text)
		}
		if got := s.closed(); got != want {
			t.Errorf("%s: closed with %d, want %d", name, got, want)
		}
	}
	f("unknown opcode", 4001, identify, `{"op":99,"d":null}`)
	f("no JSON", 4002, `hello`)
	f("no opcode", 4002, `{"d":null}`)
	f("an opcode that is no number", 4002, `{"op":"2","d":null}`)
	f("depth", 4002, strings.Repeat("[", 4000))
	f("a number that is too large", 4002, `{"op":1e999}`)
	f("identify that cannot be decoded", 4002, `{"op":2,"d":{"token":5}}`)
	f("resume that cannot be decoded", 4002, `{"op":6,"d":[]}`)
	f("oversized", 4002, identify, `{"op":1,"d":"`+strings.Repeat("x", wire.FrameMax)+`"}`)
	f("a command first", 4003, `{"op":3,"d":{"status":"online"}}`)
	f("an unknown opcode first", 4003, `{"op":99,"d":null}`)
	f("bad token", 4004, `{"op":2,"d":{"token":"bad","intents":1}}`)
	f("identify twice", 4005, identify, identify)
	f("resume after identify", 4005, identify, `{"op":6,"d":{"token":"good","session_id":"last","seq":1}}`)
	f("a bad shard", 4010, `{"op":2,"d":{"token":"good","intents":1,"shard":[2,2]}}`)
	f("intents that there are not", 4013, `{"op":2,"d":{"token":"good","intents":131072}}`)
	f("negative intents", 4013, `{"op":2,"d":{"token":"good","intents":-1}}`)
	f("a status that there is not", 4002, identify, `{"op":3,"d":{"status":"asleep"}}`)
	f("an outage", 4000, `{"op":2,"d":{"token":"away","intents":1}}`)
	f("a bug of ours", 4000, `{"op":2,"d":{"token":"panic","intents":1}}`)

	for path, want := range map[string]int{"/?v=8": 4012, "/?v=x": 4012, "/?v=11&encoding=json": 4012} {
		if got := b.dial(path).closed(); got != want {
			t.Errorf("%s: closed with %d", path, got)
		}
	}
}

func TestSession_ClosesForWhatIsNoText(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := b.connect()
	if err := s.ws.WriteMessage(websocket.BinaryMessage, []byte(`{"op":1,"d":null}`)); err != nil {
		t.Fatal(err)
	}
	if got := s.closed(); got != 4002 {
		t.Errorf("binary: closed with %d", got)
	}
	s = b.connect()
	if err := s.ws.WriteMessage(websocket.TextMessage, []byte("{\"op\":1,\"d\":\"\xff\"}")); err != nil {
		t.Fatal(err)
	}
	if got := s.closed(); got != websocket.CloseInvalidFramePayloadData {
		t.Errorf("invalid UTF-8: closed with %d", got)
	}
	f := func(name string, want int, bytes string) {
		t.Helper()
		c, r := b.raw()
		if _, err := c.Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		if got := rawClosed(t, c, r); got != want {
			t.Errorf("%s: closed with %d, want %d", name, got, want)
		}
	}
	f("unmasked", websocket.CloseProtocolError, "\x81\x02{}")
	f("a reserved bit", websocket.CloseProtocolError, "\xc1\x82\x00\x00\x00\x00{}")
	f("a control frame of 126 bytes", websocket.CloseProtocolError, "\x89\xfe\x00\x7e\x00\x00\x00\x00")
	f("a bad WebSocket opcode", websocket.CloseProtocolError, "\x83\x82\x00\x00\x00\x00{}")
	f("2^62 bytes", 4002, "\x81\xff\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"+strings.Repeat("x", 5000))
}

func TestSession_AnswersHeartbeats(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := b.connect()
	beat := func() {
		t.Helper()
		s.send(`{"op":1,"d":null}`)
		if f := s.read(); f.Op != wire.OpHeartbeatACK {
			t.Fatalf("got op %d", f.Op)
		}
	}
	beat()
	s.send(`{"op":2,"d":{"token":"good","presence":{"status":"idle","activities":[],"since":null,"afk":false}}}`)
	var ready struct {
		V      int
		Origin string
	}
	f := s.read()
	if err := json.Unmarshal(f.D, &ready); err != nil || ready.V != 10 || ready.Origin != "ws://"+b.addr {
		t.Errorf("got %s", f.D)
	}
	beat()
	s.send(`{"op":8,"d":{"guild_id":["1"],"nonce":"n","query":"","limit":0}}`)
	if f := s.read(); f.T != "GUILD_MEMBERS_CHUNK" || *f.S != 1 {
		t.Errorf("got %+v", f)
	}
	s.send(`{"op":3,"d":{"since":null,"activities":[],"status":"dnd","afk":false}}`)
	s.send(`{"op":4,"d":{"guild_id":"1","channel_id":null,"self_mute":false,"self_deaf":false}}`)
	beat()
	if err := s.ws.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(readTimeout)); err != nil {
		t.Fatal(err)
	}
	pong := make(chan string, 1)
	s.ws.SetPongHandler(func(data string) error { pong <- data; return nil })
	beat()
	if got := <-pong; got != "x" {
		t.Errorf("pong %q", got)
	}
	b.hall.mu.Lock()
	defer b.hall.mu.Unlock()
	if diff := cmp.Diff([]string{"idle", "dnd"}, b.hall.said); diff != "" {
		t.Error(diff)
	}
}

func TestSession_LimitsFramesAndHeartbeats(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := b.identify()
	for range wire.FramesPerMinuteMax {
		s.send(`{"op":3,"d":{"status":"online"}}`)
	}
	if got := s.closed(); got != 4008 {
		t.Errorf("closed with %d", got)
	}
	s = b.connect()
	for range beatsMax + 1 {
		s.send(`{"op":1,"d":null}`)
	}
	if got := s.closed(); got != 4008 {
		t.Errorf("closed with %d", got)
	}
}

func TestSession_TimesOut(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{IdentifyTimeout: 30 * time.Millisecond, HeartbeatInterval: 30 * time.Millisecond})
	s := b.connect()
	if got := s.closed(); got != 4009 {
		t.Errorf("without identify: closed with %d", got)
	}
	if resumable := <-b.hall.left; !resumable {
		t.Error("a session that has timed out cannot be resumed")
	}
	s = b.identify()
	if got := s.closed(); got != 4009 {
		t.Errorf("without heartbeat: closed with %d", got)
	}
	// Half a frame does not help.
	c, r := b.raw()
	if _, err := c.Write([]byte("\x81\x90\x00\x00")); err != nil {
		t.Fatal(err)
	}
	if got := rawClosed(t, c, r); got != 4009 {
		t.Errorf("with half a frame: closed with %d", got)
	}
}

func TestSession_KeepsTheSocketAfterAnInvalidSession(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := b.connect()
	for _, session := range []string{"foreign", "unknown"} {
		s.send(`{"op":6,"d":{"token":"good","session_id":"` + session + `","seq":1}}`)
		if f := s.read(); f.Op != wire.OpInvalidSession || string(f.D) != "false" {
			t.Fatalf("got %+v", f)
		}
	}
	s.send(`{"op":2,"d":{"token":"good","intents":513}}`)
	if f := s.read(); f.T != "READY" {
		t.Errorf("got %+v", f)
	}
}

func TestSession_ClientClosesDecideWhetherItCanBeResumed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for code, resumable := range map[int]bool{1000: false, 1001: false, 4200: true, 4901: true} {
		s := b.identify()
		if err := s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(readTimeout)); err != nil {
			t.Fatal(err)
		}
		if got := s.closed(); got != code {
			t.Errorf("%d is answered with %d", code, got)
		}
		if got := <-b.hall.left; got != resumable {
			t.Errorf("after %d resumable is %v", code, got)
		}
	}
	s := b.identify()
	_ = s.ws.NetConn().Close()
	if got := <-b.hall.left; !got {
		t.Error("a cut connection cannot be resumed")
	}
}

// TestSession_WritesWhatWaitsAtOnce: what came while the session began goes out in one write.
func TestSession_WritesWhatWaitsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	told := make(chan struct{})
	b.hall.begins = func() { <-told }
	s := b.connect()
	s.send(`{"op":2,"d":{"token":"good","intents":513}}`)
	for !b.hall.tell(0, "") {
		// nobody is attached yet
	}
	for n := 1; n < 50; n++ {
		b.hall.tell(n, "")
	}
	before := b.listener.writes.Load()
	close(told)
	if f := s.read(); f.T != "READY" {
		t.Fatalf("got %+v", f)
	}
	for n := range 50 {
		s.message(n, int64(n+2))
	}
	// READY may have gone alone, if the writer was at it before anything else was queued.
	if got := b.listener.writes.Load() - before; got > 2 {
		t.Errorf("50 events took %d writes", got)
	}
}

// message reads a dispatch of tell and checks its numbers.
func (s *socket) message(n int, seq int64) {
	s.t.Helper()
	f := s.read()
	var d struct{ N int }
	if err := json.Unmarshal(f.D, &d); err != nil || f.T != "MESSAGE_CREATE" || d.N != n || *f.S != seq {
		s.t.Fatalf("got %s %d with n %d, want n %d s %d", f.T, *f.S, d.N, n, seq)
	}
}

func TestSession_ClosesASlowReaderWhoCanResume(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{QueueMax: 64, WriteTimeout: time.Minute, CloseTimeout: 50 * time.Millisecond})
	s := b.identify()
	padding := strings.Repeat("x", 1000)
	n := 0
	for b.hall.tell(n, padding) {
		n++
	}
	if resumable := <-b.hall.left; !resumable {
		t.Error("who was too slow cannot resume")
	}
	// Everything up to some number has arrived, the rest can be had.
	got := 0
	for {
		f, err := s.next()
		if err != nil {
			break
		}
		if f.S == nil || *f.S != int64(got+2) {
			t.Fatalf("got %+v after %d", f, got)
		}
		got++
	}
	again := b.connect()
	again.send(fmt.Sprintf(`{"op":6,"d":{"token":"good","session_id":"last","seq":%d}}`, got+1))
	for i := got; i <= n; i++ { // the one that was refused is in the ring as well
		again.message(i, int64(i+2))
	}
	if f := again.read(); f.T != "RESUMED" || *f.S != int64(n+2) || string(f.D) != `{"_trace":[]}` {
		t.Errorf("got %+v", f)
	}
}

func TestSession_CanBeClosedByAnybody(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := b.identify()
	b.hall.mu.Lock()
	session := b.hall.last
	b.hall.mu.Unlock()
	session.Close(wire.CloseAuthenticationFailed, "session ended")
	if got := s.closed(); got != 4004 {
		t.Errorf("closed with %d", got)
	}
	if resumable := <-b.hall.left; resumable {
		t.Error("it can be resumed")
	}
	<-session.Done()
	if session.Say("X", []byte("null")) {
		t.Error("something can be said to a session that is gone")
	}
}

// TestSession_NeverWritesIntoAnothersSocket: sessions come and go while their queues are full; every one must see only its
// own canary.
func TestSession_NeverWritesIntoAnothersSocket(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{CloseTimeout: 20 * time.Millisecond})
	for round := range 100 {
		s := b.connect()
		s.send(`{"op":2,"d":{"token":"good","intents":513}}`)
		s.read()
		b.hall.mu.Lock()
		session := b.hall.last
		b.hall.mu.Unlock()
		for range 50 {
			session.Say("CANARY", fmt.Appendf(nil, "%d", round))
		}
		if round%2 == 0 {
			_ = s.ws.NetConn().Close()
		}
		for round%2 == 1 {
			f, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			if string(f.D) != fmt.Sprint(round) {
				t.Fatalf("round %d got %s %s", round, f.T, f.D)
			}
			_ = s.ws.NetConn().Close()
			break
		}
		<-session.Done()
		<-b.hall.left
	}
}

// TestAcceptor_LetsSessionsLeaveInPeace: what waits goes out before a client is told to reconnect, and its place is written down before.
func TestAcceptor_LetsSessionsLeaveInPeace(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{ReconnectSpread: 50 * time.Millisecond})
	const sessions, events = 20, 3
	sockets := make([]*socket, sessions)
	for i := range sockets {
		sockets[i] = b.identify()
	}
	for i := range events {
		b.hall.tell(i, "")
	}
	b.acceptor.Stop()
	for range sessions {
		if seq := <-b.hall.leaving; seq != 1+events {
			t.Errorf("a session was written down at %d, want %d", seq, 1+events)
		}
	}
	for _, s := range sockets {
		for range events {
			if f := s.read(); f.Op != wire.OpDispatch {
				t.Errorf("got op %d before everything was sent", f.Op)
			}
		}
		if f := s.read(); f.Op != wire.OpReconnect {
			t.Errorf("got op %d", f.Op)
		}
	}
}

func TestAcceptor_TellsToReconnectWhenItStops(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a, c := b.identify(), b.connect()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.acceptor.Stop()
	}()
	for _, s := range []*socket{a, c} {
		if f := s.read(); f.Op != wire.OpReconnect {
			t.Errorf("got op %d", f.Op)
		}
		if got := s.closed(); got != 4000 {
			t.Errorf("closed with %d", got)
		}
	}
	<-stopped
	if open, waiting := b.acceptor.Open(); open != 0 || waiting != 0 {
		t.Errorf("%d open, %d waiting", open, waiting)
	}
	_, resp, err := websocket.DefaultDialer.Dial("ws://"+b.addr+"/", nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after Stop: %v %v", resp, err)
	}
}

func TestAcceptor_IsAService(t *testing.T) {
	t.Parallel()
	lifetest.Stress(t, func() life.Service { return NewAcceptor(Config{}, newHall()) })
}

func TestAcceptor_RefusesStrangers(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Origins: []string{"https://app.example.com"}})
	f := func(path, origin string, want int) {
		t.Helper()
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, resp, err := websocket.DefaultDialer.DialContext(context.Background(), "ws://"+b.addr+path, header)
		if err == nil {
			_ = ws.Close()
		}
		if resp == nil || resp.StatusCode != want {
			t.Errorf("%s from %q: %v %v", path, origin, resp, err)
		}
	}
	f("/", "", 101)
	f("/", "https://app.example.com", 101)
	f("/", "http://"+b.addr, 101)
	f("/", "https://evil.example.com", 403)
	f("/", "null", 403)
	f("/", "https://app.example.com.evil.com", 403)
	f("/", "http://"+b.addr+".evil.com", 403)
	f("/?encoding=etf", "", 400)
	f("/?v=10&encoding=json&compress=zlib-stream", "", 101)
}
