// Package auth is accounts: who somebody is and how they prove it. It keeps people, bots and applications, passwords, second
// factors, avatars, login sessions and their refresh tokens, and mints access tokens; it says who may register and who is an
// administrator, and keeps the audit log. It does not check tokens on requests (every process does that by itself, with
// engine/identity), and of guilds it knows no more than who owns one.
//
// # One at a time
//
// Whatever changes an account, its second factor or codes, or begins a session, locks the account's row first. So a login that was judged
// by an old password is noticed, and a code is used once. What ends or refreshes a session goes by the session's row alone.
//
// # Sessions
//
// A login begins a session, which is a family of refresh tokens of which one is live. Refreshing spends it and makes its
// successor. The successor is an HMAC under the spent token, so that within the grace somebody who lost a race with
// themselves gets the same one again, though only hashes are stored. A spent token that comes later, or after its
// successor was used, is in two hands: the session is revoked.
//
// A session that has ended is marked in its row, and then announced through engine/identity to every process, which refuses its
// access tokens and closes its sockets. The row says whether it has been announced, so that neither an outage of Redis nor the death
// of a process keeps that from happening.
//
// # Users on the bus
//
// What others see of a user is an aggregate with a version. Changing it is one transaction with its outbox entry; the answer
// is given when the entry is in the log.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
)

var (
	loginsOK        = metrics.NewCounter(`xcord_auth_logins_total{result="ok"}`)
	loginsRefused   = metrics.NewCounter(`xcord_auth_logins_total{result="refused"}`)
	refreshRotated  = metrics.NewCounter(`xcord_auth_refreshes_total{result="rotated"}`)
	refreshRepeated = metrics.NewCounter(`xcord_auth_refreshes_total{result="repeated"}`)
	refreshReused   = metrics.NewCounter(`xcord_auth_refreshes_total{result="reused"}`)
	refreshRefused  = metrics.NewCounter(`xcord_auth_refreshes_total{result="refused"}`)
	hashesTotal     = metrics.NewCounter(`xcord_auth_hashes_total`)
	hashRefused     = metrics.NewCounter(`xcord_auth_hash_refused_total`)
	pictureRefused  = metrics.NewCounter(`xcord_auth_picture_refused_total`)
)

// Config of the service. The zero value is the default.
type Config struct {
	Registration Registration // default RegistrationLocal

	// RefreshTTL is how long a session lives without being refreshed; default 30 days.
	RefreshTTL time.Duration
	// RefreshGrace is how long after a rotation the spent token still gets the same successor; default 20 s. RFC 9700 leaves
	// it open; a client that lost the answer tries again within seconds.
	RefreshGrace time.Duration

	// HashSlots is how many passwords are hashed at once; default one per core. Each takes 19 MiB and a core.
	HashSlots int
	// HashWait is how long a request waits for a slot before it is told to come back; default 500 ms.
	HashWait time.Duration

	// GuessesPerAccount and GuessesPerAddr are how many wrong passwords may be given in 15 min; default 10 and 50.
	GuessesPerAccount, GuessesPerAddr int

	// ApplicationsMax is how many applications one person may own; default 50.
	ApplicationsMax int

	// AuditKeep is how long the audit log keeps a line; default a year, at least 90 days.
	AuditKeep time.Duration
}

func (c Config) withDefaults() Config {
	if c.Registration == "" {
		c.Registration = RegistrationLocal
	}
	if c.RefreshTTL == 0 {
		c.RefreshTTL = 30 * 24 * time.Hour
	}
	if c.RefreshGrace == 0 {
		c.RefreshGrace = 20 * time.Second
	}
	if c.HashSlots == 0 {
		c.HashSlots = runtime.GOMAXPROCS(0)
	}
	if c.HashWait == 0 {
		c.HashWait = 500 * time.Millisecond
	}
	if c.GuessesPerAccount == 0 {
		c.GuessesPerAccount = 10
	}
	if c.GuessesPerAddr == 0 {
		c.GuessesPerAddr = 50
	}
	if c.ApplicationsMax == 0 {
		c.ApplicationsMax = 50
	}
	if c.AuditKeep == 0 {
		c.AuditKeep = 365 * 24 * time.Hour
	}
	return c
}

// AuditKeepMin is what the table itself insists on: see migrations/0071_audit_age.sql.
const AuditKeepMin = 90 * 24 * time.Hour

// Validate names every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.AuditKeep != 0 && c.AuditKeep < AuditKeepMin {
		errs = append(errs, fmt.Errorf("auth: AuditKeep must be at least %v", AuditKeepMin))
	}
	switch c.Registration {
	case "", RegistrationOpen, RegistrationInvite, RegistrationClosed, RegistrationLocal:
	default:
		errs = append(errs, fmt.Errorf(`auth: registration %q is none of open, invite, closed, local`, c.Registration))
	}
	if c.RefreshTTL < 0 || c.RefreshGrace < 0 || c.HashWait < 0 {
		errs = append(errs, errors.New("auth: durations must not be negative"))
	}
	if c.HashSlots < 0 || c.ApplicationsMax < 0 {
		errs = append(errs, errors.New("auth: HashSlots and ApplicationsMax must not be negative"))
	}
	if c.GuessesPerAccount < 0 || c.GuessesPerAddr < 0 {
		errs = append(errs, errors.New("auth: GuessesPerAccount and GuessesPerAddr must not be negative"))
	}
	return errors.Join(errs...)
}

// Deps are what the service works with. All but Limiter are required.
type Deps struct {
	Door   *identity.Door
	Outbox *roster.Outbox
	Pool   *Pool
	IDs    *postgres.IDs
	Minter *token.Minter
	Roster *roster.Roster
	Sealer *token.Sealer
	// Presence is only asked, and need not be started.
	Presence *presence.Presence
	// Limiter counts wrong passwords; nil: nothing is limited.
	Limiter *limit.Limiter
}

// Service is the auth service of one process. Its handlers are safe for concurrent use.
type Service struct {
	config  Config
	deps    Deps
	store   store
	hasher  *hasher
	guesses guesses
	untold  chan struct{} // has one element when the end of a session is to be announced soon

	pictures  *picture.Reader
	setupCode string // of the setup link; "" when there is an administrator. Written by Start

	on    life.Switch
	loops life.Loops
}

// New makes the service. It does no I/O. It panics when something of deps is missing.
func New(config Config, deps Deps) *Service {
	if deps.Door == nil || deps.Presence == nil || deps.Outbox == nil || deps.Pool == nil || deps.IDs == nil || deps.Minter == nil || deps.Roster == nil ||
		deps.Sealer == nil {
		panic("BUG: auth needs Door, Outbox, Pool, IDs, Minter, Roster, Sealer and Presence")
	}
	config = config.withDefaults()
	return &Service{
		config: config, deps: deps, store: store{deps.Pool},
		hasher: newHasher(config.HashSlots, config.HashWait), guesses: newGuesses(config, deps.Limiter),
		untold:   make(chan struct{}, 1),
		pictures: picture.NewReader(pictureRefused),
	}
}

// Start makes the setup link, if there is no administrator, and begins to sweep up what is dead, and to announce sessions that have
// ended and were not announced.
func (s *Service) Start(ctx context.Context) error {
	return s.on.Start(func() error {
		if err := s.config.Validate(); err != nil {
			return err
		}
		if err := s.offerSetup(ctx); err != nil {
			return fmt.Errorf("start auth: %w", err)
		}
		s.loops.Go("auth sweep", s.sweep)
		s.loops.Go("auth announcements", s.announcements)
		return nil
	})
}

// Stop ends both.
func (s *Service) Stop() { s.on.Stop(s.loops.Stop) }

// Failed reports one of them that ended by itself.
func (s *Service) Failed() <-chan error { return s.loops.Failed() }

// sweepEvery: dead sessions harm nobody, so this need only keep up with logins.
const sweepEvery = time.Hour

// sweep deletes sessions that can no longer be refreshed, and codes and lines of the audit log that are too old.
func (s *Service) sweep(ctx context.Context) error {
	for {
		pause := time.NewTimer(sweepEvery/2 + rand.N(sweepEvery))
		select {
		case <-pause.C:
			s.store.sweep(ctx)
			if err := s.store.sweepCodes(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("old codes were not swept", "err", err)
			}
			if err := s.store.forget(ctx, s.config.AuditKeep); err != nil && ctx.Err() == nil {
				slog.Warn("what is old in the audit log was not deleted", "err", err)
			}
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}
