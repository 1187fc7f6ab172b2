package e2e

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	bits "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// bare is a WebSocket below every library: it sends any bytes.
type bare struct {
	net.Conn
	r *bufio.Reader
}

// bare opens one, with more lines of the request if there are any, and reads HELLO. receive is the size of the kernel's buffer; 0 is
// its own choice.
func (w *world) bare(t *testing.T, receive int, lines ...string) (bare, http.Header) {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if receive > 0 {
			_ = raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receive) })
		}
		return err
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	request := append([]string{
		"GET /?v=10&encoding=json HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
	}, lines...)
	if _, err := io.WriteString(conn, strings.Join(request, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	b := bare{Conn: conn, r: bufio.NewReader(conn)}
	res, err := http.ReadResponse(b.r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade is answered %v, %v", res, err)
	}
	if _, _, err := b.frame(); err != nil {
		t.Fatalf("HELLO: %v", err)
	}
	return b, res.Header
}

// The first bytes of frames: FIN and the opcode.
const (
	fin   = 0x80
	text  = fin | 1
	ping  = fin | 9
	rsv1  = 0x40
	mask  = 0x80
	empty = "\x00\x80\x00\x00\x00\x00" // a masked continuation with nothing in it
)

// masked is a whole frame with a mask of zeros.
func masked(first byte, payload string) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, mask|byte(n))
	case n < 1<<16:
		out = bits.BigEndian.AppendUint16(append(out, mask|126), uint16(n))
	default:
		out = bits.BigEndian.AppendUint64(append(out, mask|127), uint64(n))
	}
	return append(append(out, 0, 0, 0, 0), payload...)
}

func (b bare) write(t *testing.T, raw []byte) {
	t.Helper()
	if _, err := b.Write(raw); err != nil {
		t.Fatal(err)
	}
}

// frame reads a frame of the server.
func (b bare) frame() (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var long [2]byte
		_, err = io.ReadFull(b.r, long[:])
		n = uint64(bits.BigEndian.Uint16(long[:]))
	case 127:
		var long [8]byte
		_, err = io.ReadFull(b.r, long[:])
		n = bits.BigEndian.Uint64(long[:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(b.r, payload)
	return head[0], payload, err
}

// closed expects a close with one of these codes.
func (b bare) closed(t *testing.T, what string, want ...int) {
	t.Helper()
	for {
		first, payload, err := b.frame()
		if err != nil {
			t.Errorf("%s: %v, want a close with one of %v", what, err, want)
			return
		}
		if first != fin|8 {
			continue
		}
		if code := int(bits.BigEndian.Uint16(payload)); !slices.Contains(want, code) {
			t.Errorf("%s: closed with %d %q, want one of %v", what, code, payload[2:], want)
		}
		return
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSecurity_ws breaks the protocol in every way there is. Whatever it is, the server must close and live.
func TestSecurity_ws(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	ada.guild(t, "first")
	witness, _ := w.identified(t, ada.token) // sees all of it and must notice nothing
	witness.until(t, wire.OpDispatch, "GUILD_CREATE")
	w.refusesFrames(t)
	w.refusesJSON(t, ada)

	attack(t, "ws_before_identify", func(t *testing.T) {
		for _, op := range []int{0, 3, 4, 5, 7, 8, 9, 10, 11, 12, 99} {
			c := w.dial(t, v10)
			c.send(t, fmt.Sprintf(`{"op":%d,"d":null}`, op))
			c.closed(t, fmt.Sprintf("op %d", op), wire.CloseNotAuthenticated)
		}
		c, _ := w.identified(t, ada.token)
		c.send(t, identify(ada.token, ""))
		c.closed(t, "the second IDENTIFY", wire.CloseAlreadyAuthenticated)
	})
	attack(t, "ws_resume_foreign", func(t *testing.T) {
		eve := w.register(t, "eve")
		victim, ready := w.identified(t, ada.token)
		victim.until(t, wire.OpDispatch, "GUILD_CREATE")
		for _, seq := range []int64{0, 1, 2, 3, -1, 1 << 53} {
			c := w.dial(t, v10)
			c.send(t, resume(eve.token, ready.SessionID, seq))
			if f := c.next(t); f.Op != wire.OpInvalidSession {
				t.Errorf("a foreign session with seq %d is answered with op %d %s", seq, f.Op, f.D)
			}
		}
		for _, seq := range []int64{3, 1 << 53} { // her own, from the future: READY and GUILD_CREATE were all
			c := w.dial(t, v10)
			c.send(t, resume(ada.token, ready.SessionID, seq))
			c.closed(t, fmt.Sprintf("seq %d", seq), wire.CloseBadSeq)
		}
		c := w.dial(t, v10)
		c.send(t, resume(ada.token, ready.SessionID, -1))
		if f := c.next(t); f.Op != wire.OpInvalidSession {
			t.Errorf("seq -1 is answered with op %d", f.Op)
		}
	})
	attack(t, "ws_close_works", func(t *testing.T) {
		in, err := ada.Login(t.Context(), ada.name, password)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := w.identified(t, in.Token)
		began := time.Now()
		if err := ada.WithToken(in.Token).Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.closed(t, "a close from elsewhere", wire.CloseAuthenticationFailed)
		t.Logf("a logout was answered and its socket closed within %v", time.Since(began).Round(time.Microsecond))
		if _, err := c.NetConn().Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is still there: %v", err)
		}
	})

	witness.send(t, `{"op":1,"d":null}`)
	witness.until(t, wire.OpHeartbeatACK, "")
}

// refusesFrames is about what is below messages (RFC 6455, section 5).
func (w *world) refusesFrames(t *testing.T) {
	const beat = `{"op":1,"d":null}`
	protocol := func(t *testing.T, what string, raw []byte, codes ...int) {
		t.Helper()
		b, _ := w.bare(t, 0)
		b.write(t, raw)
		b.closed(t, what, codes...)
	}
	attack(t, "ws_utf8", func(t *testing.T) {
		for _, bad := range []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"} {
			protocol(t, bad, masked(text, `{"op":1,"d":"`+bad+`"}`), websocket.CloseInvalidFramePayloadData)
		}
	})
	attack(t, "ws_rsv", func(t *testing.T) {
		for _, bit := range []byte{rsv1, 0x20, 0x10} {
			protocol(t, "a reserved bit", masked(text|bit, beat), websocket.CloseProtocolError)
		}
	})
	attack(t, "ws_unmasked", func(t *testing.T) {
		protocol(t, "unmasked", append([]byte{text, byte(len(beat))}, beat...), websocket.CloseProtocolError)
	})
	attack(t, "ws_ctl_126", func(t *testing.T) {
		protocol(t, "a long ping", masked(ping, strings.Repeat("p", 126)), websocket.CloseProtocolError)
		protocol(t, "a ping in pieces", masked(ping&^fin, "p"), websocket.CloseProtocolError)
	})
	attack(t, "ws_bad_opcode", func(t *testing.T) {
		for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
			protocol(t, fmt.Sprintf("opcode %d", op), masked(fin|op, beat), websocket.CloseProtocolError)
		}
		protocol(t, "a continuation of nothing", masked(fin, beat), websocket.CloseProtocolError)
	})
	attack(t, "ws_oversize", func(t *testing.T) {
		before := heap()
		for _, n := range []int{wire.FrameMax + 1, 64 << 10, 4 << 20} {
			b, _ := w.bare(t, 0)
			go func() { _, _ = b.Write(masked(text, strings.Repeat("a", n))) }() // which may be cut off
			b.closed(t, fmt.Sprintf("%d bytes", n), int(wire.CloseDecode), websocket.CloseMessageTooBig)
		}
		t.Logf("the heap went from %d to %d KiB, the client's in it", before>>10, heap()>>10)
	})
	attack(t, "ws_fragment_flood", func(t *testing.T) {
		before := heap()
		b, _ := w.bare(t, 0)
		b.write(t, masked(text&^fin, "{"))
		b.write(t, []byte(strings.Repeat(empty, 10_000)))
		b.write(t, masked(0, strings.Repeat("a", wire.FrameMax)))
		b.closed(t, "10,000 empty fragments", int(wire.CloseDecode), websocket.CloseMessageTooBig)
		t.Logf("the heap went from %d to %d KiB, the client's in it", before>>10, heap()>>10)
	})
	attack(t, "ws_len_2^63", func(t *testing.T) {
		for _, n := range []uint64{1 << 63, 1<<63 - 1, 1<<64 - 1, 1 << 40} {
			raw := bits.BigEndian.AppendUint64([]byte{text, mask | 127}, n)
			raw = append(raw, 0, 0, 0, 0)
			protocol(t, fmt.Sprint(n), append(raw, strings.Repeat("a", wire.FrameMax+1)...),
				int(wire.CloseDecode), websocket.CloseMessageTooBig, websocket.CloseProtocolError)
		}
	})
	attack(t, "ws_bomb", func(t *testing.T) {
		var small bytes.Buffer
		z, err := flate.NewWriter(&small, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = z.Write(make([]byte, 256<<10)) // into memory
		_ = z.Flush()
		b, header := w.bare(t, 0, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
		if got := header.Get("Sec-Websocket-Extensions"); got != "" {
			t.Errorf("the server agrees to %q", got)
		}
		b.write(t, masked(text|rsv1, small.String()[:min(small.Len(), wire.FrameMax)]))
		b.closed(t, "compressed", websocket.CloseProtocolError, websocket.CloseMessageTooBig)
	})
}

// refusesJSON is about what is in messages, before and within a session.
func (w *world) refusesJSON(t *testing.T, who *person) {
	attack(t, "ws_json_fuzz", func(t *testing.T) {
		for _, frame := range []string{
			strings.Repeat("[", 4096), strings.Repeat(`{"op":`, 600), `{"op":1,"d":` + strings.Repeat("[", 4000), `{"op":1e999}`, `{"op":1,"d":1e999`,
			`{"op":2,"d":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, `{"op":1.5}`, `{"op":"1"}`, "{\"op\":1,\"d\":\"\x00\"}", `{"op":-0.0}`,
			`{"op":2,"op":2,"d":7}`, `{"op":2,"d":{"token":"\ud800"`, `{"op":2,"d":{"token":["a"]}}`, `{"\u006fp":null}`, `{"op":6,"d":{"token":"x","session_id":{},"seq":1}}`,
			`{"op":6,"d":{"token":"x","session_id":"x","seq":1e999}}`,
		} {
			c := w.dial(t, v10)
			c.send(t, frame)
			c.closed(t, frame, wire.CloseDecode)
		}
		// Not wrong enough to be refused, but nothing may break.
		c, _ := w.identified(t, who.token)
		for _, frame := range []string{
			`{"op":1,"op":1,"d":9007199254740993}`, `{"op":1,"d":-1}`, `{"op":1,"D":5,"d":null,"x":"\u0000"}`,
		} {
			c.send(t, frame)
			c.until(t, wire.OpHeartbeatACK, "")
		}
		for _, frame := range []string{
			`{"op":1,"d":1e999}`, `{"op":1,"d":"\ud800"}`, `{"op":1,"d":{"a":1,"a":2}}`, `{"op":1,"d":` + strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + `}`,
			`{"op":3,"d":{"status":"\ud800"}}`, `{"op":8,"d":{"guild_id":{"$gt":0}}}`, `{"op":8,"d":7}`,
		} {
			c, _ := w.identified(t, who.token)
			c.send(t, frame)
			c.closed(t, frame, wire.CloseDecode)
		}
	})
}

// TestSecurity_ws_identify_timeout and what else takes its time. The times are short here.
func TestSecurity_ws_identify_timeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.IdentifyTimeout = 300 * time.Millisecond
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	silent, _ := w.bare(t, 0)
	silent.closed(t, "no IDENTIFY", int(wire.CloseTimedOut))
	beating, _ := w.bare(t, 0)
	beating.write(t, masked(text, `{"op":1,"d":null}`)) // is no reason to stay
	beating.closed(t, "heartbeats and no IDENTIFY", int(wire.CloseTimedOut))
	flood, _ := w.bare(t, 0)
	flood.write(t, masked(text&^fin, "{"))
	go func() { // neither is a message that never ends
		for {
			if _, err := io.WriteString(flood, empty); err != nil {
				return
			}
		}
	}()
	flood.closed(t, "fragments without an end", int(wire.CloseTimedOut))

	attack(t, "ws_slow_writer", func(t *testing.T) {
		frame := masked(text, identify(strings.Repeat("x", 100), ""))
		for _, n := range []int{1, 2, 5, len(frame) - 1} {
			b, _ := w.bare(t, 0)
			for i := range frame[:n] {
				b.write(t, frame[i:i+1])
			}
			b.closed(t, fmt.Sprintf("%d bytes of a frame", n), int(wire.CloseTimedOut))
		}
	})
}

// TestSecurity_ws_slow_reader: who takes nothing of what is sent is closed, and can come back; others notice nothing.
func TestSecurity_ws_slow_reader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.SlowTimeout = time.Second
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	ada, bob, eve := w.register(t, "ada"), w.register(t, "bob"), w.register(t, "eve")
	_, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob, eve)
	others := bob.connect(t, client.GatewayConfig{Queue: 10_000})
	await(t, others, "GUILD_CREATE", nil)

	slow, _ := w.bare(t, 4<<10)
	slow.write(t, masked(text, identify(eve.token, "")))
	state := client.State{}
	for state.Seq < 2 { // READY and GUILD_CREATE, and nothing more
		_, payload, err := slow.frame()
		var f wire.Frame
		if err == nil {
			err = json.Unmarshal(payload, &f)
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.S != nil {
			state.Seq = *f.S
		}
		if f.T != nil && *f.T == "READY" {
			var r wire.Ready
			if err := json.Unmarshal(f.D, &r); err != nil {
				t.Fatal(err)
			}
			state.SessionID = r.SessionID
		}
	}
	const posts, workers = 576, 16 // of 8 KB each: more than the kernel keeps for one connection
	content := strings.Repeat("\U0001F40C", 2000)
	var posting sync.WaitGroup
	for range workers {
		posting.Go(func() {
			for range posts / workers {
				if _, err := ada.Say(t.Context(), channel, content); err != nil {
					t.Error(err)
				}
			}
		})
	}
	began := time.Now()
	eventually(t, func() error { // it reads nothing: that it is closed shows when it writes
		if _, err := slow.Write(masked(text, `{"op":1,"d":null}`)); err == nil {
			return fmt.Errorf("the slow reader is still connected")
		}
		return nil
	})
	t.Logf("closed after %v", time.Since(began).Round(time.Millisecond))
	posting.Wait()
	var seen []id.ID
	for range posts {
		m, _ := client.As[wire.Message](await(t, others, "MESSAGE_CREATE", nil), "MESSAGE_CREATE")
		seen = append(seen, m.ID)
	}

	back := eve.connect(t, client.GatewayConfig{Queue: 10_000, Resume: &state})
	got, _ := read(t, back, seen[posts-1])
	if !slices.Equal(got, seen) {
		t.Error("the slow reader got something else than the others")
	}
	if stats := back.Stats(); stats.Identifies != 0 || stats.Gaps != 0 {
		t.Errorf("%+v", stats)
	}
}

// TestSecurity_ws_stale_writer: connections of one user are cut off while much is being written to them, and others take their place.
// Nothing that was for the one may reach the other.
func TestSecurity_ws_stale_writer(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	_, channel := ada.guild(t, "canaryguild")
	bob.guild(t, "bobs")
	const canary = "canary"
	ctx, stop := context.WithCancel(t.Context())
	var posting, connecting sync.WaitGroup
	posting.Go(func() {
		for ctx.Err() == nil {
			_, _ = ada.Say(ctx, channel, strings.Repeat(canary, 300)) // ends with the test
		}
	})
	const workers, rounds = 8, 10 // two connections each; engine/session has the same with more
	for range workers {
		connecting.Go(func() {
			for range rounds {
				a, _ := w.bare(t, 4<<10)
				_, _ = a.Write(masked(text, identify(ada.token, "")))
				b, _ := w.bare(t, 0)
				_, _ = b.Write(masked(text, identify(bob.token, "")))
				_ = a.Close()
				for ready := false; !ready; {
					_, payload, err := b.frame()
					if err != nil {
						t.Errorf("bob's connection: %v", err)
						return
					}
					if bytes.Contains(payload, []byte(canary)) {
						t.Errorf("bob got %.200s", payload)
					}
					ready = bytes.Contains(payload, []byte("GUILD_CREATE"))
				}
				_ = b.Close()
			}
		})
	}
	connecting.Wait()
	stop()
	posting.Wait()
	t.Logf("%d connections were cut off", 2*workers*rounds)
}
