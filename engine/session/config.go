// Package session is one gateway connection: hello, identify, resume, heartbeat, the queue of what is to be sent, its
// numbering, and the memory of where the client stands. It does not know who may see what, which guilds there are or
// where events come from: its owner attaches it with a view and offers it events.
//
// # Concurrency
//
// A Session has two goroutines. The one that upgraded the connection reads and handles what the client sends. The other
// one writes: it alone numbers dispatches and owns the Trail until Done is closed. Offer, Change, Say, Begin and Close
// may be called by anybody and never block. When the queue is full the session is closed, and can be resumed. While a client waits
// for members that it asked for, a third goroutine answers, so that heartbeats do not wait with it.
package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/wire"
)

// Config of the sessions of a gateway. The zero value is ready for use.
type Config struct {
	// HeartbeatInterval is what clients are told (default 41.25 s, as everywhere). One and a half without a heartbeat end
	// the connection.
	HeartbeatInterval time.Duration
	// IdentifyTimeout is how long a connection may stay without a session (default 20 s, CONTRACT.md section 5).
	IdentifyTimeout time.Duration
	// WriteTimeout is how long one write may take (default 5 s): a client that has not read for that long comes back.
	WriteTimeout time.Duration
	// CloseTimeout is how long a closed connection may take to go (default 1 s).
	CloseTimeout time.Duration
	// QueueMax and QueueBytesMax bound what waits to be sent (default 8192 and 8 MiB): a third of a second of the most that
	// one host delivers to one session. The bodies are shared, so the bytes are those of the client's backlog.
	QueueMax, QueueBytesMax int
	// Origins are those that a browser may connect from besides the gateway's own host; "*" allows all.
	Origins []string
	// WaitingMax bounds the connections without a session from one IPv4 address or IPv6 /64 (default 1024), and OpenMax all of them
	// (default 4096); loopback is exempt.
	WaitingMax, OpenMax int
	// ReconnectSpread is over how long a stop spreads telling clients to reconnect, at most (default 0: all at once). A few take less:
	// each 10 ms.
	ReconnectSpread time.Duration
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.HeartbeatInterval, 41250*time.Millisecond)
	set(&c.IdentifyTimeout, 20*time.Second)
	set(&c.WriteTimeout, 5*time.Second)
	set(&c.CloseTimeout, time.Second)
	if c.QueueMax == 0 {
		c.QueueMax = 8192
	}
	if c.QueueBytesMax == 0 {
		c.QueueBytesMax = 8 << 20
	}
	if c.WaitingMax == 0 {
		c.WaitingMax = 1024
	}
	if c.OpenMax == 0 {
		c.OpenMax = 4096
	}
	return c
}

// Validate returns every mistake at once.
func (c Config) Validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{
		"heartbeat interval": c.HeartbeatInterval, "identify timeout": c.IdentifyTimeout, "write timeout": c.WriteTimeout,
		"close timeout": c.CloseTimeout, "reconnect spread": c.ReconnectSpread,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("session %s %v is negative", name, d))
		}
	}
	for name, n := range map[string]int{"queue": c.QueueMax, "queue bytes": c.QueueBytesMax, "waiting connections": c.WaitingMax, "open connections": c.OpenMax} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("session limit of %s %d is negative", name, n))
		}
	}
	return errors.Join(errs...)
}

// Gateway is what a session needs of its owner. Unless they say otherwise, methods are called by the session's reading goroutine and may
// block; ctx ends with the connection.
type Gateway interface {
	// Identify makes a new session and begins it with s.Begin. Besides ErrInvalid it may return a *CloseError or a
	// fault, of which 401 closes with 4004 and everything else with 4000.
	Identify(ctx context.Context, s *Session, in Identify) error
	// Resume finds the session and begins s with it, or returns ErrInvalid or the like.
	Resume(ctx context.Context, s *Session, in wire.Resume) error
	// Presence applies what the client says of itself.
	Presence(ctx context.Context, s *Session, in wire.PresenceUpdate) error
	// Members answers a request for members with s.Room and s.Say. It is called by a goroutine of its own, once at a time.
	Members(ctx context.Context, s *Session, in wire.RequestMembers) error
	// Position is up to which entry of the log everything has been offered.
	Position() bus.Position
	// Checkpoint says from where the session could go on elsewhere, every now and then. It is called by the session's writing
	// goroutine and must not block.
	Checkpoint(s *Session, c Checkpoint)
	// Leave writes a checkpoint down before the client is told to reconnect, and returns when that is done or fails. It is called by the
	// session's writing goroutine.
	Leave(ctx context.Context, s *Session, c Checkpoint)
	// Detach comes last, once, after nothing more is written; resumable says whether the client may come back.
	Detach(s *Session, resumable bool)
}

// Identify is what a client identifies with.
type Identify struct {
	wire.Identify
	// Version is the version of the API that the client speaks.
	Version int
	// Origin is how the client reached the gateway: wss://host.
	Origin string
}

// ErrInvalid is answered with op 9: the client may identify on the same connection.
var ErrInvalid = errors.New("the session cannot be resumed")

// CloseError closes the connection with a code.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("close %d: %s", e.Code, e.Reason) }

func closing(code wire.CloseCode, reason string) error {
	return &CloseError{Code: code, Reason: reason}
}

// Emit hands over one dispatch: its name and the JSON of its d.
type Emit func(name string, body []byte) error

// Opening is how a session begins: what is sent before the first live event.
type Opening struct {
	Trail *Trail
	// View is what the session sees, at Point: it gets every event behind it, offered from now on.
	View  *hub.View
	Point hub.Point
	// First sends what a new session begins with. Nil for one that is resumed.
	First func(ctx context.Context, emit Emit) error
	// From is where a resumed session goes on, and Records is the ring behind that place. Of a new one only the View counts: what its
	// client knows behind First.
	From    Place
	Records []hub.Record[[]*hub.Event]
	// Body renders the steps from From.View to View.
	Body func(ctx context.Context, step hub.Step) ([]byte, error)
	// Last sends what is ephemeral and belongs behind RESUMED.
	Last func(ctx context.Context, emit Emit) error
}

// Change is a change of what a session sees, in front of all events of the entry at Point.
type Change struct {
	Point hub.Point
	View  *hub.View
	// Body renders a step of it.
	Body func(ctx context.Context, step hub.Step) ([]byte, error)
}
