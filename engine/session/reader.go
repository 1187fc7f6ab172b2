package session

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
)

// reader is the reading goroutine's own.
type reader struct {
	begun    bool      // there is a session
	deadline time.Time // when the connection ends unless the client does what it has to
	frames   meter
	beats    meter
}

// meter counts what comes in a minute.
type meter struct {
	since time.Time
	n     int
}

// over counts one more and says whether that is too many.
func (m *meter) over(now time.Time, limit int) bool {
	if now.Sub(m.since) >= time.Minute {
		m.since, m.n = now, 0
	}
	m.n++
	return m.n > limit
}

// beatsMax bounds heartbeats and pings, which the limit of frames does not count. A client needs two in a minute.
const beatsMax = 120

// read handles frames until the connection ends. hung is true when the peer may not have seen why.
func (s *Session) read() (hung bool) {
	defer s.guard("reader")
	s.ws.SetCloseHandler(func(int, string) error { return nil }) // the writer answers
	s.ws.SetPingHandler(s.ping)
	s.reader.deadline = time.Now().Add(s.cfg.IdentifyTimeout)
	if v := s.info.Version; v != 9 && v != 10 {
		s.Close(wire.CloseBadVersion, "unknown version")
	} else {
		s.greet()
	}
	for {
		err := s.receive()
		if err == nil {
			continue
		}
		var c *CloseError
		if errors.As(err, &c) {
			// The loop goes on and drops what comes, until the peer has seen the close or runs out of time.
			s.Close(c.Code, c.Reason)
			continue
		}
		return s.lost(err)
	}
}

func (s *Session) greet() {
	hello, err := json.Marshal(wire.Hello{HeartbeatInterval: int(s.cfg.HeartbeatInterval.Milliseconds())})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s.frame(wire.OpHello, hello)
}

func (s *Session) frame(op wire.Opcode, d []byte) {
	s.put(item{task: text(wire.AppendFrame(nil, op, d))})
}

// lost ends the connection after an error of the transport.
func (s *Session) lost(err error) (hung bool) {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.As(err, &closed):
		// 1000 and 1001 end the session; going in any other way leaves it resumable (CONTRACT.md section 5).
		final := closed.Code == websocket.CloseNormalClosure || closed.Code == websocket.CloseGoingAway
		s.finish(&ending{code: closed.Code, final: final, silent: closed.Code == websocket.CloseAbnormalClosure})
		return false
	case errors.As(err, &network) && network.Timeout():
		hung = s.ended() == nil
		s.Close(wire.CloseTimedOut, "timed out")
		return hung
	case errors.Is(err, websocket.ErrReadLimit): // a length beyond 2^63
		s.Close(websocket.CloseMessageTooBig, "frame too long")
		return true
	default:
		// The library has answered what breaks the protocol with 1002 itself.
		s.finish(&ending{code: websocket.CloseProtocolError, silent: true})
		return true
	}
}

// inputs holds read buffers while nothing is read: one byte more than allowed tells that a frame is too long.
var inputs = sync.Pool{New: func() any { return new([wire.FrameMax + 1]byte) }}

// receive reads and handles one frame.
func (s *Session) receive() error {
	if err := s.until(s.conn.SetReadDeadline, s.reader.deadline); err != nil {
		return err
	}
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return err
	}
	if s.ended() != nil {
		return nil
	}
	buf := inputs.Get().(*[wire.FrameMax + 1]byte)
	defer inputs.Put(buf)
	n, err := io.ReadFull(r, buf[:])
	switch {
	case err == nil:
		return closing(wire.CloseDecode, "frame too long")
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case kind != websocket.TextMessage:
		return closing(wire.CloseDecode, "not text")
	case !utf8.Valid(buf[:n]):
		return closing(websocket.CloseInvalidFramePayloadData, "not UTF-8")
	}
	return s.handle(buf[:n])
}

func (s *Session) ping(data string) error {
	// An error would be the last that the library reads, also of the peer's answer to the close.
	if s.reader.beats.over(time.Now(), beatsMax) {
		s.Close(wire.CloseRateLimited, "too many pings")
		return nil
	}
	s.put(item{task: pong(data)})
	return nil
}

func (s *Session) handle(payload []byte) error {
	var f struct {
		Op *wire.Opcode    `json:"op"`
		D  json.RawMessage `json:"d"`
	}
	if json.Unmarshal(payload, &f) != nil || f.Op == nil {
		return undecodable
	}
	now := time.Now()
	if s.over.Swap(false) {
		s.hush() // what it asked for is not for the session that comes next
		s.reader.begun, s.reader.deadline = false, now.Add(s.cfg.IdentifyTimeout)
	}
	if *f.Op == wire.OpHeartbeat {
		if s.reader.beats.over(now, beatsMax) {
			return closing(wire.CloseRateLimited, "too many heartbeats")
		}
		var seq *int64
		if len(f.D) > 0 && json.Unmarshal(f.D, &seq) != nil {
			return undecodable
		}
		if s.reader.begun {
			s.beat(now)
			if seq != nil {
				s.put(item{task: ack{seq: *seq, behind: s.gw.Position()}})
			}
		}
		s.frame(wire.OpHeartbeatACK, []byte("null"))
		return nil
	}
	if s.reader.frames.over(now, wire.FramesPerMinuteMax) {
		return closing(wire.CloseRateLimited, "too many frames")
	}
	if !s.reader.begun {
		return s.authenticate(*f.Op, f.D)
	}
	return s.command(*f.Op, f.D)
}

// beat gives the client one and a half intervals more.
func (s *Session) beat(now time.Time) {
	s.reader.deadline = now.Add(s.cfg.HeartbeatInterval * 3 / 2)
}

// authenticate handles what may come before there is a session.
func (s *Session) authenticate(op wire.Opcode, d []byte) error {
	var err error
	switch op {
	case wire.OpIdentify:
		var in Identify
		if in, err = s.identify(d); err == nil {
			err = s.gw.Identify(s.ctx, s, in)
		}
	case wire.OpResume:
		var in wire.Resume
		if s.commands.Read(d, &in) != nil {
			return undecodable
		}
		err = s.gw.Resume(s.ctx, s, in)
	default:
		return closing(wire.CloseNotAuthenticated, "not authenticated")
	}
	var c *CloseError
	switch {
	case err == nil:
		s.reader.begun = true
		s.begun()
		s.beat(time.Now())
		return nil
	case errors.Is(err, ErrInvalid):
		// The client may now take as long as at first, which is more than the 10 s of the contract.
		s.reader.deadline = time.Now().Add(s.cfg.IdentifyTimeout)
		s.frame(wire.OpInvalidSession, []byte("false"))
		return nil
	case errors.As(err, &c):
		return err
	case fault.From(err).Status == 401:
		return closing(wire.CloseAuthenticationFailed, "authentication failed")
	}
	s.report("session cannot begin", err)
	return closing(wire.CloseUnknown, "try again")
}

// report logs what went wrong, unless it did because the client has gone.
func (s *Session) report(message string, err error) {
	if s.ctx.Err() == nil {
		slog.Warn(message, "err", err)
	}
}

// undecodable closes for what is no JSON, has a field of another type or a value that there is not.
var undecodable = closing(wire.CloseDecode, "cannot be decoded")

// identify decodes and checks op 2.
func (s *Session) identify(d []byte) (Identify, error) {
	in := Identify{Version: s.info.Version, Origin: s.info.Origin}
	err := s.commands.Read(d, &in.Identify)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		switch field, _, _ := strings.Cut(wrong.Field, "."); field {
		case "intents":
			return in, closing(wire.CloseBadIntents, "invalid intents")
		case "shard":
			return in, closing(wire.CloseBadShard, "invalid shard")
		}
	}
	if err != nil {
		return in, undecodable
	}
	if in.Intents != nil && !in.Intents.Valid() {
		return in, closing(wire.CloseBadIntents, "invalid intents")
	}
	if h := in.Shard; h != nil && !h.Valid() {
		return in, closing(wire.CloseBadShard, "invalid shard")
	}
	return in, nil
}

// command handles what comes within a session.
func (s *Session) command(op wire.Opcode, d []byte) error {
	var err error
	switch op {
	case wire.OpIdentify, wire.OpResume:
		return closing(wire.CloseAlreadyAuthenticated, "already authenticated")
	case wire.OpPresenceUpdate:
		var in wire.PresenceUpdate
		if s.commands.Read(d, &in) != nil {
			return undecodable
		}
		err = s.gw.Presence(s.ctx, s, in)
	case wire.OpRequestGuildMembers:
		var in wire.RequestMembers
		if s.commands.Read(d, &in) != nil {
			return undecodable
		}
		s.ask(in)
	case wire.OpVoiceStateUpdate:
		// There is no voice to join: as for a channel that one may not join, nothing happens.
		if s.commands.Read(d, new(wire.UpdateVoiceState)) != nil {
			return undecodable
		}
	default:
		return closing(wire.CloseBadOpcode, "unknown opcode")
	}
	var c *CloseError
	if err == nil || errors.As(err, &c) {
		return err
	}
	// What the client asked for is ephemeral; it can ask again.
	s.report("a gateway command failed", err)
	return nil
}
