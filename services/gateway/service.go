// Package gateway is the service behind the WebSocket: it follows the log, keeps copies of the guilds that somebody here
// watches, turns entries into events, and begins and resumes sessions. It holds no rows, judges no request and writes
// nothing to the log; what a session may see is the roster's arithmetic, and how a connection behaves is the session's.
//
// # One timeline
//
// Entries are taken in one after the other, under one lock, which is also held while a session is attached or detached.
// So a session is attached at one position: nothing up to it and everything after it is dispatched. Nothing that waits is
// done under the lock: what is needed from Redis is read before, together with a position, and brought forward under it.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/singleflight"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/resume"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/token"
)

// Config of the gateway. The zero value is ready for use.
type Config struct {
	Session session.Config
	// PublicURL is how clients reach this gateway, http(s) or ws(s); empty: as the request did.
	PublicURL string
	// TLS says that the listener speaks it.
	TLS bool
	// RingMax and RingBytesMax bound the events that sessions can resume from (default 65,536 and 64 MiB).
	RingMax, RingBytesMax int
	// ResumeMax is how many sessions without a connection are kept (default 65,536); for how long is the Window of Deps.Resume.
	ResumeMax int
	// PresenceGrace is how long a user whose connection broke still shows as online (default 10 s), so that a reconnect is not
	// told to everybody.
	PresenceGrace time.Duration
	// PresenceEvery is how often at most others are told how a user shows (default 500 ms); what changes faster is told as it is by then.
	PresenceEvery time.Duration
	// MembersEvery is how often at most a session is told everybody of a guild that takes several chunks (default 10 s).
	MembersEvery time.Duration
	// StartTimeout bounds what beginning or resuming a session waits for (default 10 s).
	StartTimeout time.Duration
	// StartsMax is how many sessions begin or are resumed at the same time (default 64); the others wait for three StartTimeouts at
	// most. A storm of them must neither keep Redis from answering nor those that are attached from getting their events.
	StartsMax int
	// StartsPerDay is how many sessions a user may begin in a day (default 1000), StartsAtOnce in 5 s (default 16).
	StartsPerDay, StartsAtOnce int
	// Now is the clock (default time.Now).
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	set := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	wait := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.RingMax, 1<<16)
	set(&c.RingBytesMax, 64<<20)
	set(&c.ResumeMax, 1<<16)
	set(&c.StartsMax, 64)
	set(&c.StartsPerDay, 1000)
	set(&c.StartsAtOnce, 16)
	wait(&c.PresenceGrace, 10*time.Second)
	wait(&c.PresenceEvery, 500*time.Millisecond)
	wait(&c.MembersEvery, 10*time.Second)
	wait(&c.StartTimeout, 10*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate returns every mistake at once.
func (c Config) Validate() error {
	errs := []error{c.Session.Validate()}
	if c.RingMax < 0 || c.RingBytesMax < 0 || c.ResumeMax < 0 || c.StartsMax < 0 || c.StartsPerDay < 0 || c.StartsAtOnce < 0 {
		errs = append(errs, errors.New("gateway: limits must not be negative"))
	}
	if c.PresenceGrace < 0 || c.PresenceEvery < 0 || c.MembersEvery < 0 || c.StartTimeout < 0 {
		errs = append(errs, errors.New("gateway: times must not be negative"))
	}
	if c.PublicURL != "" {
		if _, err := socketURL(c.PublicURL); err != nil {
			errs = append(errs, fmt.Errorf("gateway: public URL: %w", err))
		}
	}
	return errors.Join(errs...)
}

// socketURL is the address of the WebSocket for that of the pages.
func socketURL(public string) (string, error) {
	u, err := url.Parse(public)
	if err != nil {
		return "", err
	}
	switch u.Scheme {
	case "http", "ws":
		return "ws://" + u.Host, nil
	case "https", "wss":
		return "wss://" + u.Host, nil
	}
	return "", fmt.Errorf("scheme %q is none of http, https, ws, wss", u.Scheme)
}

// Deps are what the gateway is built from. All but Reads and Limiter are required.
type Deps struct {
	Log *bus.Log
	// Tail must be started before the gateway and stopped after it. New subscribes to it: whoever must have an entry earlier, like the
	// roster of this process, subscribes before.
	Tail   *bus.Tail
	Roster *roster.Roster
	// Reads is the process's: made, and so subscribed to the Tail, before the gateway, and started by whoever made it. nil: users are told
	// that their read states are not known.
	Reads *reads.Reads
	// Presence is started and stopped by the gateway, which subscribes to it.
	Presence *presence.Presence
	// Door is asked for who a token belongs to, and tells when a login session ends.
	Door *identity.Door
	// Resume is where sessions are left for other gateways, and says for how long; so long they are kept here, too.
	Resume *resume.Store
	// Limiter counts how often users begin sessions; nil: nothing is limited.
	Limiter *limit.Limiter
	// Links make the addresses of attachments good; nil leaves them as they are stored.
	Links *token.Links
}

// Service is the gateway of this process.
type Service struct {
	cfg    Config
	deps   Deps
	public string // the WebSocket's address, empty when it is the request's

	core     *core
	desk     *desk
	people   *people
	herald   *herald
	acceptor *session.Acceptor
	typing   chan []byte
	receipts *receipts
	saver    *saver
	letters  *letters
	adopting singleflight.Group
	turns    chan struct{} // whoever begins or resumes a session holds one of its places
	reaching chan struct{} // whoever reads the past holds its one place
	pages    chan struct{} // whoever reads a page of members holds one of its places

	starts, concurrent *limit.Rule

	on     life.Switch
	loops  life.Loops
	gauges *metrics.Set
}

// New makes the gateway. It panics when something of deps is missing, and when cfg is not valid.
func New(cfg Config, deps Deps) *Service {
	if deps.Log == nil || deps.Tail == nil || deps.Roster == nil || deps.Presence == nil || deps.Door == nil ||
		deps.Resume == nil {
		panic("BUG: the gateway needs all of its deps but the limiter")
	}
	if err := cfg.Validate(); err != nil {
		panic("BUG: gateway config: " + err.Error())
	}
	cfg = cfg.withDefaults()
	s := &Service{
		cfg: cfg, deps: deps,
		desk:     newDesk(deps.Resume.Window(), cfg.ResumeMax),
		people:   newPeople(deps.Roster, deps.Presence, cfg.Now, cfg.Session.HeartbeatInterval),
		herald:   newHerald(cfg.PresenceEvery),
		typing:   make(chan []byte, typingMax),
		receipts: newReceipts(cfg.Now),
		letters:  newLetters(),
		turns:    make(chan struct{}, cfg.StartsMax),
		reaching: make(chan struct{}, 1),
		pages:    make(chan struct{}, pagesAtOnce),

		starts:     limit.NewExact("session starts", cfg.StartsPerDay, startsWindow),
		concurrent: limit.NewRule("session starts at once", cfg.StartsAtOnce, concurrentWindow),
	}
	s.saver = newSaver(deps.Resume, s.taken)
	s.core = newCore(cfg.RingMax, cfg.RingBytesMax, s.saver.owe)
	s.core.links = deps.Links
	if cfg.PublicURL != "" {
		s.public, _ = socketURL(cfg.PublicURL) // valid
	}
	s.acceptor = session.NewAcceptor(cfg.Session, s)
	s.gauges = metrics.NewSet()
	s.gauges.NewGauge(`xcord_gateway_connections`, func() float64 { n, _ := s.acceptor.Open(); return float64(n) })
	s.gauges.NewGauge(`xcord_gateway_sessions`, func() float64 { return float64(s.core.sessions()) })
	s.gauges.NewGauge(`xcord_gateway_resumable_sessions`, func() float64 { return float64(s.desk.waiting()) })
	deps.Tail.Subscribe(s.handleEntries)
	deps.Tail.OnCut(s.cut)
	deps.Presence.Subscribe(s.presenceChanged)
	deps.Door.OnRevoke(s.revoked)
	return s
}

// Start begins to accept connections.
func (s *Service) Start(ctx context.Context) error {
	return s.on.Start(func() error {
		s.core.begin(s.deps.Tail.Began())
		if err := s.deps.Presence.Start(ctx); err != nil {
			return fmt.Errorf("start presence: %w", err)
		}
		err := s.listening(ctx)
		if err == nil {
			err = s.acceptor.Start(ctx)
		}
		if err != nil {
			s.loops.Stop()
			s.deps.Presence.Stop()
			return fmt.Errorf("start gateway: %w", err)
		}
		metrics.RegisterSet(s.gauges)
		s.loops.Go("gateway typing", s.tellTyping)
		s.loops.Go("gateway presences", s.tellPresence)
		s.loops.Go("gateway signals", func(ctx context.Context) error {
			return s.deps.Log.Listen(ctx, typingTopic, s.receiveTyping)
		})
		s.loops.Go("gateway sweep", s.sweep)
		s.loops.Go("gateway checkpoints", s.saver.run)
		s.loops.Go("gateway handovers", s.obey)
		return nil
	})
}

// Stop tells the clients to reconnect, and ends when all of them have gone and Redis has where they stood.
func (s *Service) Stop() {
	s.on.Stop(func() {
		s.acceptor.Stop()
		s.loops.Stop()
		s.deps.Presence.Stop()
		metrics.UnregisterSet(s.gauges, false)
	})
}

// Failed reports a loop that ended by itself.
func (s *Service) Failed() <-chan error { return s.loops.Failed() }

// sweepEvery is how exactly the ends of grace and window are kept.
const sweepEvery = time.Second

// sweep forgets what is over.
func (s *Service) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sweepOnce(ctx)
		}
	}
}

func (s *Service) sweepOnce(ctx context.Context) {
	now := s.cfg.Now()
	for _, r := range s.desk.sweep(now, now.Add(-s.cfg.PresenceGrace)) {
		s.show(ctx, r)
	}
	s.core.sweep(now, s.deps.Resume.Window())
	s.core.send(s.receipts.late()...)
}
