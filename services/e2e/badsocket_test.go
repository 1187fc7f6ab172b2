package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/wire"
)

// socket is a gateway connection without a client's good manners.
type socket struct {
	*websocket.Conn
}

const v10 = "/?v=10&encoding=json"

// upgrade opens a socket, or returns the answer to the attempt.
func (w *world) upgrade(t *testing.T, path string) (socket, *http.Response) {
	t.Helper()
	ws, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(w.url, "http")+path, nil)
	if err != nil {
		if res == nil {
			t.Fatal(err)
		}
		return socket{}, res
	}
	t.Cleanup(func() { _ = ws.Close() })
	if err := ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return socket{ws}, nil
}

// dial opens a socket and reads its HELLO.
func (w *world) dial(t *testing.T, path string) socket {
	t.Helper()
	c, res := w.upgrade(t, path)
	if res != nil {
		t.Fatalf("%s: the upgrade is answered %s", path, res.Status)
	}
	var hello wire.Hello
	if f := c.next(t); f.Op != wire.OpHello || json.Unmarshal(f.D, &hello) != nil || hello.HeartbeatInterval < 1000 {
		t.Fatalf("%s: the first frame is op %d %s", path, f.Op, f.D)
	}
	return c
}

// identified is a socket with a new session, of which READY has been read.
func (w *world) identified(t *testing.T, token string) (socket, wire.Ready) {
	t.Helper()
	c := w.dial(t, v10)
	c.send(t, identify(token, ""))
	return c, c.ready(t)
}

func identify(token, more string) string {
	return fmt.Sprintf(`{"op":2,"d":{"token":%q,"properties":{"os":"x","browser":"x","device":"x"}%s}}`, token, more)
}

func resume(token, session string, seq int64) string {
	return fmt.Sprintf(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, token, session, seq)
}

func (c socket) send(t *testing.T, frame string) {
	t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		t.Fatal(err)
	}
}

func (c socket) next(t *testing.T) (f wire.Frame) {
	t.Helper()
	_, raw, err := c.ReadMessage()
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// until returns the first frame of that kind, by its dispatch's name when it has one.
func (c socket) until(t *testing.T, op wire.Opcode, name string) wire.Frame {
	t.Helper()
	for {
		if f := c.next(t); f.Op == op && (name == "" || f.T != nil && *f.T == name) {
			return f
		}
	}
}

func (c socket) ready(t *testing.T) (r wire.Ready) {
	t.Helper()
	f := c.next(t)
	if f.Op != wire.OpDispatch || f.T == nil || *f.T != "READY" || f.S == nil || *f.S != 1 {
		t.Fatalf("want READY as the first dispatch, got op %d %s", f.Op, f.D)
	}
	if err := json.Unmarshal(f.D, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// closed expects that the server closes with a code; what it sends before does not matter.
func (c socket) closed(t *testing.T, what string, want wire.CloseCode) {
	t.Helper()
	if len(what) > 150 {
		what = what[:150] + "…"
	}
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != int(want) {
			t.Errorf("%s: %v, want close %d", what, err, want)
		}
		return
	}
}

// frames are wrong whenever they come.
func (s *scene) frames(t *testing.T) {
	f := func(want wire.CloseCode, kind int, frame string) {
		t.Helper()
		before := s.dial(t, v10)
		after, _ := s.identified(t, s.bob.token)
		for what, c := range map[string]socket{"before": before, "after": after} {
			if err := c.WriteMessage(kind, []byte(frame)); err != nil {
				t.Fatal(err)
			}
			c.closed(t, what+" IDENTIFY "+frame, want)
		}
	}
	for _, frame := range []string{`{`, ``, `hello`, `[]`, `"op"`, `null`, `5`, `{}`, `{"d":{}}`, `{"op":"2"}`, `{"op":1.5}`, `{"op":null}`, `{"op":1}{"op":1}`, "{\"op\":1,\"d\":\"\x00\"}"} {
		f(wire.CloseDecode, websocket.TextMessage, frame)
	}
	const beat = `{"op":1,"d":null}`
	f(wire.CloseDecode, websocket.TextMessage, beat+strings.Repeat(" ", wire.FrameMax-len(beat)+1))
	f(wire.CloseDecode, websocket.TextMessage, `{"op":1,"d":"`+strings.Repeat("a", 2*wire.FrameMax)+`"}`)
	f(wire.CloseDecode, websocket.BinaryMessage, beat)
	f(websocket.CloseInvalidFramePayloadData, websocket.TextMessage, "{\"op\":1,\"d\":\"\xff\"}")
	f(websocket.CloseInvalidFramePayloadData, websocket.TextMessage, "\xc0\x80")

	exact := s.dial(t, v10)
	exact.send(t, beat+strings.Repeat(" ", wire.FrameMax-len(beat)))
	exact.until(t, wire.OpHeartbeatACK, "")

	// A long frame in short fragments is as long.
	pieces := s.dial(t, v10)
	w, err := pieces.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := io.WriteString(w, strings.Repeat(" ", wire.FrameMax)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	pieces.closed(t, "fragments", wire.CloseDecode)

	for _, op := range []int{0, 5, 7, 9, 10, 11, 12, 99, -1, 1 << 40} {
		c, _ := s.identified(t, s.bob.token)
		frame := fmt.Sprintf(`{"op":%d,"d":null}`, op)
		c.send(t, frame)
		c.closed(t, frame, wire.CloseBadOpcode)
	}

	chatty, _ := s.identified(t, s.bob.token)
	for range wire.FramesPerMinuteMax + 1 { // IDENTIFY was one as well
		chatty.send(t, beat) // does not count
	}
	for range wire.FramesPerMinuteMax - 1 {
		chatty.send(t, `{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}`)
	}
	chatty.send(t, beat)
	chatty.send(t, `{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}`)
	chatty.closed(t, "121 frames", wire.CloseRateLimited)
}

// firstFrames: before there is a session only heartbeats, IDENTIFY and RESUME may come.
func (s *scene) firstFrames(t *testing.T) {
	for _, frame := range []string{
		`{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}`, `{"op":4,"d":{"guild_id":"1","channel_id":null}}`, `{"op":8,"d":{"guild_id":"1","limit":0}}`,
	} {
		c := s.dial(t, v10)
		c.send(t, frame)
		c.closed(t, frame, wire.CloseNotAuthenticated)
	}
	c := s.dial(t, v10)
	for _, d := range []string{`null`, `0`, `17`} {
		c.send(t, `{"op":1,"d":`+d+`}`)
		if f := c.next(t); f.Op != wire.OpHeartbeatACK {
			t.Errorf("a heartbeat before IDENTIFY is answered with op %d", f.Op)
		}
	}
	c.send(t, identify(s.bob.token, ""))
	c.ready(t)
}

func (s *scene) identifies(t *testing.T) {
	f := func(want wire.CloseCode, frame string) {
		t.Helper()
		c := s.dial(t, v10)
		c.send(t, frame)
		c.closed(t, frame, want)
	}
	first, _, _ := strings.Cut(s.bot, ".")
	_, rest, _ := strings.Cut(s.otherBot, ".")
	for _, token := range []string{"", "garbage", "Bot garbage", s.ada.token + "x", "Bot " + s.ada.token, first + "." + rest, "Bot " + first + "." + rest, s.refresh} {
		f(wire.CloseAuthenticationFailed, identify(token, ""))
		f(wire.CloseAuthenticationFailed, resume(token, "x", 1))
	}
	f(wire.CloseAuthenticationFailed, `{"op":2,"d":{}}`)
	f(wire.CloseDecode, `{"op":2}`)
	f(wire.CloseDecode, `{"op":2,"d":"x"}`)
	f(wire.CloseDecode, `{"op":2,"d":{"token":5}}`)
	f(wire.CloseDecode, `{"op":6,"d":[]}`)
	for _, intents := range []string{"131072", "4194304", "67108864", "1099511627777131072", "-1", "9223372036854775808", `"x"`} {
		f(wire.CloseBadIntents, identify(s.bob.token, `,"intents":`+intents))
	}
	for _, shard := range []string{"[1,1]", "[0,0]", "[-1,2]"} {
		f(wire.CloseBadShard, identify(s.bob.token, `,"shard":`+shard))
	}
	for _, good := range []string{`,"intents":0`, fmt.Sprintf(`,"intents":%d`, wire.IntentsAll), `,"intents":null,"shard":[0,1],"large_threshold":50,"compress":true,"nonsense":1`} {
		c := s.dial(t, v10)
		c.send(t, identify(s.bob.token, good))
		c.ready(t)
	}
	for _, token := range []string{s.bot, "Bot " + s.bot, s.bob.token} { // with and without the prefix
		c := s.dial(t, v10)
		c.send(t, identify(token, `,"intents":1`))
		c.ready(t)
	}
	twice, _ := s.identified(t, s.bob.token)
	twice.send(t, identify(s.bob.token, ""))
	twice.closed(t, "the second IDENTIFY", wire.CloseAlreadyAuthenticated)
	both, r := s.identified(t, s.bob.token)
	both.send(t, resume(s.bob.token, r.SessionID, 1))
	both.closed(t, "RESUME in a session", wire.CloseAlreadyAuthenticated)
}

// handshakes: where a gateway is, and which version and encoding it speaks.
func (s *scene) handshakes(t *testing.T) {
	for _, path := range []string{"/", "/?v=9&encoding=json", v10, "/gateway", "/gateway?v=10", "/gateway/?v=10&encoding=json", "/?encoding=json&v=9&compress=zlib-stream"} {
		c := s.dial(t, path)
		c.send(t, identify(s.bob.token, ""))
		if r := c.ready(t); strings.Contains(path, "v=9") != (r.V == 9) {
			t.Errorf("%s: READY says version %d", path, r.V)
		}
	}
	for _, path := range []string{"/?v=8&encoding=json", "/?v=11", "/?v=x", "/gateway?v=6", "/?v=10&encoding=etf", "/?v=10&encoding=xml"} {
		if c, res := s.upgrade(t, path); res == nil {
			c.closed(t, path, wire.CloseBadVersion)
		} else if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: the upgrade is answered %s", path, res.Status)
		}
	}
	if _, res := s.upgrade(t, "/nonsense"); res == nil || res.StatusCode != http.StatusNotFound {
		t.Error("an upgrade of a path that does not exist is not answered 404")
	}
}

// resumes: an unknown session and somebody else's are INVALID_SESSION on a socket that goes on.
func (s *scene) resumes(t *testing.T) {
	adas, ready := s.identified(t, s.ada.token)
	adas.until(t, wire.OpDispatch, "GUILD_CREATE")
	c := s.dial(t, v10)
	for _, frame := range []string{
		resume(s.eve.token, "nonsense", 1), resume(s.eve.token, "", 0), resume(s.eve.token, strings.Repeat("a", 1000), 1<<62), resume(s.eve.token, "\x00", -1),
		resume(s.eve.token, ready.SessionID, 1), resume(s.bob.token, ready.SessionID, 1), resume("Bot "+s.bot, ready.SessionID, 1<<40),
	} {
		c.send(t, strings.ReplaceAll(frame, `\x00`, `\u0000`))
		if f := c.next(t); f.Op != wire.OpInvalidSession || string(f.D) != "false" {
			t.Fatalf("%s is answered with op %d %s", frame, f.Op, f.D)
		}
	}
	c.send(t, `{"op":1,"d":null}`)
	c.until(t, wire.OpHeartbeatACK, "")
	c.send(t, identify(s.eve.token, ""))
	if r := c.ready(t); r.User.ID != s.eve.id || r.SessionID == ready.SessionID {
		t.Errorf("READY after INVALID_SESSION is of %s with session %s", r.User.ID, r.SessionID)
	}

	// Ada has noticed nothing.
	s.ada.say(t, s.other, "are you there?")
	adas.until(t, wire.OpDispatch, "MESSAGE_CREATE")

	// Her own session from a future in which it never was.
	future := s.dial(t, v10)
	future.send(t, resume(s.ada.token, ready.SessionID, 1_000_000))
	future.closed(t, "a seq from the future", wire.CloseBadSeq)
}
