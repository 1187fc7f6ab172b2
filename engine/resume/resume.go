// Package resume keeps in Redis what a gateway leaves behind of a session, so that another one can go on with it: the owner, and a
// checkpoint that only gateways can read. It does not know positions, views or users, and decides nothing but whose a session is.
//
// # Whose a session is
//
// A session belongs to one gateway at a time. Claim hands it over if it still belongs to whom the claimer thinks, in one step with
// reading the checkpoint; from then on what the former owner writes is refused. Checkpoints live for a while after the last
// write and then go by themselves.
package resume

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

//go:embed library.lua
var library string

// What becomes of a write besides failing.
var (
	// ErrTaken means that another gateway has the session.
	ErrTaken = errors.New("another gateway has the session")
	// ErrMissing means that there is no checkpoint whose view could stay: write a whole one.
	ErrMissing = errors.New("there is no checkpoint of the session")
)

// Config of a Store. The zero value of everything but Gateway is the default.
type Config struct {
	// Gateway names this process; it must be another one after a restart.
	Gateway string
	// Window is how long a session can be resumed after its connection has gone (default 5 min): so long a checkpoint lives after the
	// last write.
	Window time.Duration
	// CallTimeout bounds one command, or one batch of them (default 2s).
	CallTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = 5 * time.Minute
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = 2 * time.Second
	}
	return c
}

// Checkpoint is what a gateway knows of a session. The view is large and changes rarely.
type Checkpoint struct {
	State []byte
	View  []byte
}

// Write is one change of what is kept. Writes of one session must not overtake each other: their order is the caller's.
type Write struct {
	Session string
	Checkpoint
	// Keep leaves the view as it was written before.
	Keep bool
	// End deletes the checkpoint.
	End bool
}

// Store reads and writes checkpoints. Safe for concurrent use.
type Store struct {
	redis rueidis.Client
	cfg   Config
}

// New makes a Store. It does no I/O.
func New(client rueidis.Client, cfg Config) *Store {
	if cfg.Gateway == "" {
		panic("BUG: a store of checkpoints needs the name of its gateway")
	}
	return &Store{redis: client, cfg: cfg.withDefaults()}
}

// Install loads the functions. The admin client needs FUNCTION LOAD.
func Install(ctx context.Context, admin rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := admin.Do(ctx, admin.B().FunctionLoad().Replace().FunctionCode(library).Build()).Error(); err != nil {
		return fmt.Errorf("load the functions of resume: %w", err)
	}
	return nil
}

// Every session has a slot of its own: nothing is ever done with two of them in one step.
func key(session string) string { return "session:{" + session + "}" }

func noteKey(gateway string) string { return "sessions:{" + gateway + "}" }

// Gateway is the name of this process.
func (s *Store) Gateway() string { return s.cfg.Gateway }

// Window is how long a session can be resumed after its connection has gone.
func (s *Store) Window() time.Duration { return s.cfg.Window }

func (s *Store) life() string { return strconv.FormatInt(s.cfg.Window.Milliseconds(), 10) }

// Note leaves what holds for all sessions of this gateway at once. It lives as long as a checkpoint.
func (s *Store) Note(ctx context.Context, note string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	cmd := s.redis.B().Set().Key(noteKey(s.cfg.Gateway)).Value(note).PxMilliseconds(s.cfg.Window.Milliseconds()).Build()
	if err := s.redis.Do(ctx, cmd).Error(); err != nil {
		return fmt.Errorf("write what holds for all sessions: %w", err)
	}
	return nil
}

// Noted is the latest Note of a gateway, "" when there is none.
func (s *Store) Noted(ctx context.Context, gateway string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	note, err := s.redis.Do(ctx, s.redis.B().Get().Key(noteKey(gateway)).Build()).ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return "", fmt.Errorf("read what holds for the sessions of gateway %s: %w", gateway, err)
	}
	return note, nil
}

// Apply makes all writes, in one round trip, and says what became of each: nil, ErrTaken, ErrMissing or that it failed.
func (s *Store) Apply(ctx context.Context, writes []Write) []error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	life := s.life()
	commands := make(rueidis.Commands, 0, len(writes))
	for _, w := range writes {
		if w.End {
			commands = append(commands, s.redis.B().Fcall().Function("xcord_resume_finish").Numkeys(1).Key(key(w.Session)).
				Arg(s.cfg.Gateway).Build())
			continue
		}
		view := ""
		if !w.Keep {
			view = rueidis.BinaryString(w.View)
		}
		commands = append(commands, s.redis.B().Fcall().Function("xcord_resume_save").Numkeys(1).Key(key(w.Session)).
			Arg(s.cfg.Gateway, life, rueidis.BinaryString(w.State), view).Build())
	}
	errs := make([]error, len(writes))
	for i, reply := range s.redis.DoMulti(ctx, commands...) {
		switch said, err := reply.ToString(); {
		case err != nil:
			errs[i] = fmt.Errorf("write a checkpoint: %w", err)
		case said == "taken":
			errs[i] = ErrTaken
		case said == "missing":
			errs[i] = ErrMissing
		}
	}
	return errs
}

// Find says to which gateway a session belongs and what the latest checkpoint is, without its view. ok is false when there is none.
func (s *Store) Find(ctx context.Context, session string) (owner string, state []byte, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	got, err := s.redis.Do(ctx, s.redis.B().Hmget().Key(key(session)).Field("owner", "state").Build()).ToArray()
	if err != nil {
		return "", nil, false, fmt.Errorf("find a checkpoint: %w", err)
	}
	if got[0].IsNil() || got[1].IsNil() {
		return "", nil, false, nil
	}
	if owner, err = got[0].ToString(); err == nil {
		state, err = got[1].AsBytes()
	}
	return owner, state, err == nil, err
}

// Claim makes a session of owner's this gateway's, and returns its checkpoint. ok is false when it is not owner's any more.
func (s *Store) Claim(ctx context.Context, session, owner string) (c Checkpoint, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	life := s.life()
	got, err := s.redis.Do(ctx, s.redis.B().Fcall().Function("xcord_resume_claim").Numkeys(1).Key(key(session)).
		Arg(owner, s.cfg.Gateway, life).Build()).ToArray()
	if err != nil {
		return c, false, fmt.Errorf("claim a session: %w", err)
	}
	if len(got) != 2 {
		return c, false, nil
	}
	if c.State, err = got[0].AsBytes(); err == nil {
		c.View, err = got[1].AsBytes()
	}
	return c, err == nil, err
}
