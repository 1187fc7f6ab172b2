// Package guilds is the server management service: guilds, their channels, roles, members, bans, invites and webhooks. It owns their rows
// and is the only one that changes them.
//
// It does not know messages, presence or voice, does not own accounts (a member's user comes from the roster), and sends
// nothing to clients: what happened is in the log, from which others tell it. When an account is deleted, it sees that in the log, and
// ends the memberships.
//
// # How a change is made
//
// Every change belongs to one guild and goes one way, in (*Service).change: the guild's row is locked at version v, the read
// model is brought to v, the handler judges by it and changes rows, the outbox gets the one entry that leads to v+1,
// COMMIT, and the request is answered when the entry is in the log. So permission is never judged by anything but
// the version that is changed, and versions, rows and log agree.
package guilds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

var iconRefused = metrics.NewCounter(`xcord_guilds_icon_refused_total`)

// Config of the service. The zero value is the default.
type Config struct {
	// GuildsMax is how many guilds a user may be in (default 100, as clients expect).
	GuildsMax int
	// ChannelsMax, RolesMax, InvitesMax and WebhooksMax bound what one guild has (defaults: wire's limits, 500, 250, 1000 and 1000). A
	// guild is read as a whole, so these bound that, too.
	ChannelsMax, RolesMax, InvitesMax, WebhooksMax int
	// AuditKeep is how long the audit log remembers (default 45 days).
	AuditKeep time.Duration
}

func (c Config) withDefaults() Config {
	if c.GuildsMax == 0 {
		c.GuildsMax = 100
	}
	if c.ChannelsMax == 0 {
		c.ChannelsMax = wire.ChannelsPerGuildMax
	}
	if c.RolesMax == 0 {
		c.RolesMax = wire.RolesPerGuildMax
	}
	if c.InvitesMax == 0 {
		c.InvitesMax = wire.InvitesPerGuildMax
	}
	if c.WebhooksMax == 0 {
		c.WebhooksMax = wire.WebhooksPerGuildMax
	}
	if c.AuditKeep == 0 {
		c.AuditKeep = 45 * 24 * time.Hour
	}
	return c
}

// Validate names every mistake at once. A guild is created and deleted in one step of the log, which has room for a
// few thousand objects.
func (c Config) Validate() error {
	const objectsMax = 1000
	var errs []error
	for name, n := range map[string]int{
		"GuildsMax": c.GuildsMax, "ChannelsMax": c.ChannelsMax, "RolesMax": c.RolesMax, "InvitesMax": c.InvitesMax,
		"WebhooksMax": c.WebhooksMax,
	} {
		if n < 0 || n > objectsMax {
			errs = append(errs, fmt.Errorf("guilds %s must be between 0 and %d", name, objectsMax))
		}
	}
	if c.AuditKeep < 0 {
		errs = append(errs, errors.New("guilds AuditKeep must not be negative"))
	}
	return errors.Join(errs...)
}

// Deps are what the service needs of others. All are required.
type Deps struct {
	Pool   *Pool
	IDs    *postgres.IDs
	Log    *bus.Log
	Roster *roster.Roster
	Outbox *roster.Outbox
	// Presence says who is online; it need not be started.
	Presence *presence.Presence
	Sealer   *token.Sealer // of the tokens of webhooks
}

// Service serves Routes. Its handlers may be called by any number of goroutines; changes of one guild happen one after
// the other, and who waits for too long is told 503.
type Service struct {
	config Config
	store  store
	ids    *postgres.IDs
	roster *roster.Roster
	outbox *roster.Outbox
	log    *bus.Log
	turns  turns
	icons  *picture.Reader // and pictures of webhooks
	sealer *token.Sealer
	scribe *scribe

	presence  *presence.Presence
	headcount *headcount

	departing chan id.ID // whose accounts were deleted
	on        life.Switch
	loops     life.Loops
}

// New makes a Service. It panics when a dependency is missing.
func New(config Config, deps Deps) *Service {
	if deps.Pool == nil || deps.IDs == nil || deps.Log == nil || deps.Roster == nil || deps.Outbox == nil || deps.Presence == nil || deps.Sealer == nil {
		panic("BUG: guilds needs Pool, IDs, Log, Roster, Outbox, Presence and Sealer")
	}
	return &Service{
		config: config.withDefaults(), store: store{pool: deps.Pool}, ids: deps.IDs, roster: deps.Roster, outbox: deps.Outbox,
		presence: deps.Presence, headcount: newHeadcount(store{pool: deps.Pool}, deps.Presence),
		sealer: deps.Sealer, log: deps.Log, turns: newTurns(), scribe: newScribe(), icons: picture.NewReader(iconRefused), departing: make(chan id.ID, farewellQueue),
	}
}

// Start returns when the service's tables can be read, and begins to see off those whose accounts are deleted. What a crash
// leaves behind is the outbox's to finish.
func (s *Service) Start(ctx context.Context) error {
	return s.on.Start(func() error {
		if err := s.store.ping(ctx); err != nil {
			return fmt.Errorf("start guilds: %w", err)
		}
		s.loops.Go("guilds farewells", s.farewells)
		s.loops.Go("guilds guests", s.guests)
		s.loops.Go("guilds audit log", s.scribing)
		s.loops.Go("guilds audit log's end", s.forgetting)
		return nil
	})
}

// Stop ends what goes on in the background; requests in flight are the server's.
func (s *Service) Stop() { s.on.Stop(s.loops.Stop) }

// Failed reports what ended by itself in the background.
func (s *Service) Failed() <-chan error { return s.loops.Failed() }
