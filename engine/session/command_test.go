package session

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/wire"
)

// TestSession_KnowsAMalformedCommand: each opcode with what it may and may not have in it, and the code of the close; 0 is none.
func TestSession_KnowsAMalformedCommand(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	long := strings.Repeat("x", 129)
	for op, payloads := range map[wire.Opcode]map[string]int{
		wire.OpDispatch: {`null`: 4001, `{}`: 4001},
		wire.OpHeartbeat: {
			`null`: 0, `1`: 0, `9007199254740993`: 0, `-1`: 0, `"1"`: 4002, `1.5`: 4002, `{}`: 4002, `[]`: 4002, `true`: 4002,
		},
		wire.OpPresenceUpdate: {
			`{}`: 0, `{"status":""}`: 0, `{"status":"offline","since":0,"activities":null,"afk":null,"game":7}`: 0, `{"activities":[{"name":"x","type":4}]}`: 0,
			`null`: 4002, `"online"`: 4002, `{"status":"asleep"}`: 4002, `{"status":5}`: 4002, `{"since":"1"}`: 4002, `{"afk":0}`: 4002,
			`{"activities":[{"name":""}]}`: 4002, `{"activities":[{"name":"` + long + `"}]}`: 4002, `{"activities":[{"name":"x","type":6}]}`: 4002, `{"activities":{}}`: 4002,
		},
		wire.OpVoiceStateUpdate: {
			`{"guild_id":"1","channel_id":null,"self_mute":false,"self_deaf":true}`: 0, `{"guild_id":1,"channel_id":"2"}`: 0,
			`null`: 4002, `{}`: 4002, `{"guild_id":null}`: 4002, `{"guild_id":"x"}`: 4002, `{"guild_id":"1","channel_id":"x"}`: 4002, `{"guild_id":"1","self_mute":"no"}`: 4002,
		},
		wire.OpRequestGuildMembers: {
			`{"guild_id":"1","query":"","limit":0}`: 0, `{"guild_id":["1"],"query":null,"user_ids":"7","presences":null,"nonce":null}`: 0,
			`null`: 4002, `{}`: 4002, `{"guild_id":[]}`: 4002, `{"guild_id":null}`: 4002, `{"guild_id":{}}`: 4002, `{"guild_id":"1","limit":-1}`: 4002, `{"guild_id":"1","limit":"1"}`: 4002,
			`{"guild_id":"1","query":5}`: 4002, `{"guild_id":"1","user_ids":["x"]}`: 4002, `{"guild_id":"1","presences":1}`: 4002, `{"guild_id":"1","nonce":5}`: 4002,
		},
		wire.OpIdentify: {`{"token":"good"}`: 4005, `null`: 4005}, wire.OpResume: {`null`: 4005},
		wire.OpReconnect: {`null`: 4001}, wire.OpInvalidSession: {`false`: 4001}, wire.OpHello: {`{}`: 4001}, wire.OpHeartbeatACK: {`null`: 4001},
		5: {`null`: 4001}, 12: {`null`: 4001}, -1: {`null`: 4001},
	} {
		s := b.identify()
		for d, want := range payloads {
			s.send(fmt.Sprintf(`{"op":%d,"d":%s}`, op, d))
			if want == 0 {
				s.send(`{"op":1}`)
				for s.read().Op != wire.OpHeartbeatACK {
					yield()
				}
				continue
			}
			if got := s.closed(); got != want {
				t.Errorf("op %d with %s: closed with %d, want %d", op, d, got, want)
			}
			s = b.identify()
		}
	}
	for d, want := range map[string]int{
		`{"token":"good","large_threshold":50}`: 0, `{"token":"good","large_threshold":250,"presence":null,"shard":null,"intents":null,"properties":null}`: 0,
		`{"token":"good","shard":[0,1]}`: 0, `{"token":"good","shard":[15,16]}`: 0,
		`null`: 4002, `{"token":"good","large_threshold":49}`: 4002, `{"token":"good","large_threshold":251}`: 4002, `{"token":"good","large_threshold":"50"}`: 4002,
		`{"token":"good","presence":{"status":"asleep"}}`: 4002, `{"token":"good","presence":{"activities":[{}]}}`: 4002, `{"token":"good","compress":"no"}`: 4002,
		`{"token":"good","shard":[1,1]}`: 4010, `{"token":"good","shard":[-1,1]}`: 4010, `{"token":"good","shard":[0,0]}`: 4010, `{"token":"good","shard":[0]}`: 4010,
		`{"token":"good","shard":[0,1,2]}`: 4010, `{"token":"good","shard":"0"}`: 4010, `{"token":"good","shard":["0","1"]}`: 4010, `{"token":"good","shard":{}}`: 4010,
		`{"token":"good","intents":"1"}`: 4013, `{"token":"good","intents":1.5}`: 4013, `{"token":"good","intents":-1}`: 4013, `{"token":"good","intents":131072}`: 4013,
		`{"token":"good","intents":[]}`: 4013, `{"token":""}`: 4004,
	} {
		s := b.connect()
		s.send(`{"op":2,"d":` + d + `}`)
		if want == 0 {
			if f := s.read(); f.T != "READY" {
				t.Errorf("identify with %s: got %+v", d, f)
			}
			continue
		}
		if got := s.closed(); got != want {
			t.Errorf("identify with %s: closed with %d, want %d", d, got, want)
		}
	}
	for _, d := range []string{`null`, `[]`, `{"token":5}`, `{"session_id":5}`, `{"seq":"1"}`, `{"seq":1.5}`} {
		s := b.connect()
		s.send(`{"op":6,"d":` + d + `}`)
		if got := s.closed(); got != 4002 {
			t.Errorf("resume with %s: closed with %d", d, got)
		}
	}
}

// crowd is a hall with as many members as the client can stand: chunk after chunk, until the session takes no more.
type crowd struct {
	*hall
	chunk []byte
	count int
}

func (c *crowd) Members(ctx context.Context, s *Session, in wire.RequestMembers) error {
	for range c.count {
		s.Room(ctx, len(c.chunk))
		if ctx.Err() != nil || !s.Say("GUILD_MEMBERS_CHUNK", c.chunk) {
			return context.Canceled
		}
	}
	s.Say("GUILD_MEMBERS_CHUNK", fmt.Appendf(nil, `{"nonce":%q}`, in.Nonce))
	return nil
}

// TestSession_HasRoomForMoreThanItsQueue: a client that is slower than what it asked for waits for it, gets its heartbeats answered and the
// answers in turn, and is refused what is too much.
func TestSession_HasRoomForMoreThanItsQueue(t *testing.T) {
	t.Parallel()
	const chunks = 64
	c := &crowd{hall: newHall(), chunk: fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 64<<10)), count: chunks}
	b := setupWith(t, Config{QueueBytesMax: 256 << 10}, c.hall, c)
	s := b.identify()
	for i := range wire.FramesPerMinuteMax - 1 {
		s.send(fmt.Sprintf(`{"op":8,"d":{"guild_id":"1","query":"","limit":0,"nonce":"%d"}}`, i))
	}
	s.send(`{"op":1,"d":null}`)
	beaten, refused, next := 0, 0, 0
	for got := 0; next < 2; {
		f := s.read()
		switch {
		case f.Op == wire.OpHeartbeatACK:
			beaten = got + 1
		case f.T == "RATE_LIMITED":
			refused++
		case len(f.D) > 1000:
			got++
		default:
			var end struct{ Nonce string }
			if err := json.Unmarshal(f.D, &end); err != nil || end.Nonce != fmt.Sprint(next) {
				t.Fatalf("got %s, want %d (%v)", f.D, next, err)
			}
			next++
			if got != chunks*next {
				t.Fatalf("%d chunks in front of the end of answer %d", got, next)
			}
		}
	}
	if beaten == 0 || beaten > chunks {
		t.Errorf("the heartbeat was answered behind %d chunks", beaten)
	}
	if refused != 0 {
		t.Errorf("%d requests were refused", refused)
	}
}
