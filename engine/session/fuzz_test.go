package session

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/wire"
)

// sober is a hall without a bug.
type sober struct{ *hall }

func (h sober) Identify(ctx context.Context, s *Session, in Identify) error {
	if in.Token == "panic" {
		return ErrInvalid
	}
	return h.hall.Identify(ctx, s, in)
}

// FuzzHandle hands a frame of a client to a connection without a session and to one with a session. Whatever it is, the answer is
// none or a close that the contract knows.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		`{"op":1,"d":null}`, `{"op":1,"d":251}`, `{"op":2,"d":{"token":"good","intents":513,"properties":{"os":"x","$browser":"y"},"shard":[0,2],"presence":{"status":"dnd"}}}`,
		`{"op":2,"d":{"token":"x","intents":-1}}`, `{"op":3,"d":{"since":null,"activities":[],"status":"idle","afk":false,"game":{}}}`, `{"op":4,"d":{"guild_id":"1"}}`,
		`{"op":6,"d":{"token":"good","session_id":"last","seq":7}}`, `{"op":6,"d":{"token":"x","session_id":"\u0000","seq":9007199254740993}}`,
		`{"op":8,"d":{"guild_id":["1"],"query":"","limit":0,"user_ids":"5","presences":true,"nonce":"n"}}`, `{"op":1e999}`, `{"op":1,"op":2}`, `{"OP":1}`,
		`[[[[[[[[`, `{"op":2,"d":{"token":"\ud800"}}`, `null`, "\x00", `{"op":99999999999999999999}`,
	} {
		f.Add([]byte(seed))
	}
	known := []int{
		websocket.CloseInvalidFramePayloadData, int(wire.CloseUnknown), int(wire.CloseBadOpcode), int(wire.CloseDecode), int(wire.CloseNotAuthenticated),
		int(wire.CloseAuthenticationFailed), int(wire.CloseAlreadyAuthenticated), int(wire.CloseBadSeq), int(wire.CloseBadShard), int(wire.CloseBadIntents),
	}
	h, commands := newHall(), wire.NewCommands()
	h.trail = &Trail{}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, begun := range []bool{false, true} {
			here, there := net.Pipe()
			s := &Session{
				cfg: Config{}.withDefaults(), gw: sober{h}, commands: commands, info: Info{Version: 10}, conn: here, out: newOutbox(100, 1<<20),
				ctx: t.Context(), cancel: func() {}, done: make(chan struct{}), begun: func() {}, reader: reader{begun: begun},
			}
			err := s.handle(payload)
			var c *CloseError
			if err != nil && (!errors.As(err, &c) || !slices.Contains(known, int(c.Code))) {
				t.Errorf("%q: %v", payload, err)
			}
			s.hush()
			h.hub.Detach(user, s)
			_, _ = here.Close(), there.Close()
		}
	})
}
