package roster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/wire"
)

var (
	settledTotal = metrics.NewCounter(`xcord_roster_outbox_settled_total`)
	lateTotal    = metrics.NewCounter(`xcord_roster_outbox_late_total`)
	relayedTotal = metrics.NewCounter(`xcord_roster_outbox_relayed_total`)
)

// settleTimeout bounds the step after COMMIT, a restart of Redis included. settlePause is how long it waits between two attempts, up to
// one and a half times as long.
const (
	settleTimeout = 5 * time.Second
	settlePause   = 100 * time.Millisecond
)

// relayEvery and relayBatch: how often, and how many at once, leftovers are looked for.
const (
	relayEvery = time.Second
	relayBatch = 500
)

// outboxKeep is how long applied rows stay, as long as the log reaches back: a Rebuild learns from them who is gone.
const outboxKeep = 24 * time.Hour

// Outbox brings cold changes from Postgres into the log. A service records an entry in the transaction that makes the
// change, and settles it after COMMIT; what a crash leaves behind is found and settled later, in the order of versions.
// Safe for concurrent use.
type Outbox struct {
	roster *Roster
	pool   *pgxpool.Pool

	on      life.Switch
	loops   life.Loops
	applied chan bus.Entry
}

// NewOutbox makes an Outbox. It does no I/O.
func NewOutbox(roster *Roster, pool *pgxpool.Pool) *Outbox {
	// A full channel only means that the relay finds some rows applied already, which is a no-op.
	return &Outbox{roster: roster, pool: pool, applied: make(chan bus.Entry, 1024)}
}

// Start begins to look for leftovers.
func (o *Outbox) Start(context.Context) error {
	return o.on.Start(func() error {
		o.loops.Go("outbox relay", o.relay)
		return nil
	})
}

// Stop ends the relay.
func (o *Outbox) Stop() { o.on.Stop(o.loops.Stop) }

// Failed reports a relay that ended by itself.
func (o *Outbox) Failed() <-chan error { return o.loops.Failed() }

// Ready answers 503 when the log is away or takes no writes: ask before the transaction, so that nothing is changed that cannot be told.
func (o *Outbox) Ready(ctx context.Context) error { return o.roster.log.Writable(ctx) }

const insertOutbox = `
INSERT INTO outbox (kind, aggregate, version, type, actor, guild, channel, "user", trace, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

// Record writes an entry into the caller's transaction, which holds the aggregate's row locked. e.Version is the version that
// the transaction leads to.
func (o *Outbox) Record(ctx context.Context, tx pgx.Tx, e bus.Entry) error {
	kind, aggregate := aggregateOf(e)
	if e.Version <= 0 || aggregate == 0 {
		panic("BUG: a cold entry needs an aggregate and a version: " + string(e.Type))
	}
	_, err := tx.Exec(ctx, insertOutbox, kind, int64(aggregate), e.Version, string(e.Type), int64(e.Actor), int64(e.Guild),
		int64(e.Channel), int64(e.User), e.Trace, e.Body)
	if err != nil {
		return fmt.Errorf("record %s version %d: %w", e.Type, e.Version, err)
	}
	return nil
}

func aggregateOf(e bus.Entry) (kind string, aggregate id.ID) {
	switch {
	case isUserEvent(e.Type):
		return "user", e.User
	case e.Type == wire.DirectChanged:
		return "direct", e.Channel
	}
	return "guild", e.Guild
}

// ErrLate means that a change is made, but is not in the log yet.
var ErrLate = errors.New("it is stored, but not in the log yet")

// Settle brings a committed entry, and what stands before it, into the log and the read model, and moves this process's copy. When
// the log is away for too long it answers a 503 with ErrLate: the change is made and the relay brings it into the log later, but nobody may rely on it
// before, since what it forbids can still get in front of it.
func (o *Outbox) Settle(ctx context.Context, e bus.Entry) (bus.Position, error) {
	// The change is committed: that the client has gone away does not matter any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	for {
		pos, err := o.settle(ctx, e)
		if err == nil {
			settledTotal.Inc()
			return pos, nil
		}
		select {
		case <-time.After(settlePause + rand.N(settlePause/2)):
		case <-ctx.Done():
			lateTotal.Inc()
			slog.Warn("a committed change is not in the log yet", "type", string(e.Type), "guild", e.Guild.String(), "err", err)
			return bus.Position{}, fault.Unavailable(fmt.Errorf("%s: %w: %w", e.Type, ErrLate, err), 0)
		}
	}
}

// CatchUpGuild brings everything into the log that is committed for a guild: for who holds its row locked in tx and wants to
// judge by the read model. It reads through tx, because a second connection for each of many waiting requests would
// exhaust the pool.
func (o *Outbox) CatchUpGuild(ctx context.Context, tx pgx.Tx, guild id.ID) error {
	return o.settleBefore(ctx, tx, "guild", guild, math.MaxInt64)
}

// CatchUpDirect is CatchUpGuild for a direct channel.
func (o *Outbox) CatchUpDirect(ctx context.Context, tx pgx.Tx, channel id.ID) error {
	return o.settleBefore(ctx, tx, "direct", channel, math.MaxInt64)
}

func (o *Outbox) settle(ctx context.Context, e bus.Entry) (bus.Position, error) {
	pos, err := o.apply(ctx, e)
	if !errors.Is(err, bus.ErrGap) {
		return pos, err
	}
	kind, aggregate := aggregateOf(e)
	if err := o.settleBefore(ctx, o.pool, kind, aggregate, e.Version); err != nil {
		return bus.Position{}, err
	}
	return o.apply(ctx, e)
}

func (o *Outbox) apply(ctx context.Context, e bus.Entry) (bus.Position, error) {
	ops, err := o.roster.ops(ctx, e)
	if err != nil {
		return bus.Position{}, err
	}
	pos, err := o.roster.log.Apply(ctx, aggregateKey(e), e, ops)
	if err != nil {
		return bus.Position{}, err
	}
	e.Pos = pos
	o.roster.mu.Lock()
	o.roster.apply(e)
	o.roster.mu.Unlock()
	select {
	case o.applied <- e:
	default:
	}
	return pos, nil
}

const selectUnsettled = `
SELECT version, type, actor, guild, channel, "user", trace, body
FROM outbox WHERE kind = $1 AND aggregate = $2 AND version < $3 AND applied_at IS NULL ORDER BY version`

// querier is what a pool and a transaction have in common here.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (o *Outbox) settleBefore(ctx context.Context, q querier, kind string, aggregate id.ID, version int64) error {
	rows, err := q.Query(ctx, selectUnsettled, kind, int64(aggregate), version)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	for _, e := range entries {
		if _, err := o.apply(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func scanEntry(row pgx.CollectableRow) (bus.Entry, error) {
	var e bus.Entry
	var kind string
	var actor, guild, channel, user int64
	err := row.Scan(&e.Version, &kind, &actor, &guild, &channel, &user, &e.Trace, &e.Body)
	e.Type = wire.EventType(kind)
	e.Actor, e.Guild, e.Channel, e.User = id.ID(actor), id.ID(guild), id.ID(channel), id.ID(user)
	return e, err
}

// relay marks what was settled, and settles what was left behind.
func (o *Outbox) relay(ctx context.Context) error {
	purged, failed := time.Now(), false
	for {
		pause := time.NewTimer(relayEvery + rand.N(relayEvery/4))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		err := o.round(ctx)
		if err != nil && !failed && ctx.Err() == nil { // said once, not with every round of an outage
			slog.Warn("the outbox cannot be relayed and is tried again", "err", err)
		}
		failed = err != nil
		if time.Since(purged) > outboxKeep/24 {
			purged = time.Now()
			if err := o.purge(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("the outbox could not be purged", "err", err)
			}
		}
	}
}

// selectLeftovers leaves the youngest rows to the requests that are about to settle them.
const selectLeftovers = `
SELECT version, type, actor, guild, channel, "user", trace, body
FROM outbox WHERE applied_at IS NULL AND created_at < now() - interval '2 seconds'
ORDER BY kind, aggregate, version LIMIT $1`

func (o *Outbox) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := o.mark(ctx); err != nil {
		return err
	}
	rows, err := o.pool.Query(ctx, selectLeftovers, relayBatch)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	var failed error
	for _, e := range entries {
		if _, err := o.settle(ctx, e); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		relayedTotal.Inc()
	}
	return errors.Join(failed, o.mark(ctx))
}

const markApplied = `
UPDATE outbox o SET applied_at = now()
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS a(kind, aggregate, version)
WHERE o.kind = a.kind AND o.aggregate = a.aggregate AND o.version = a.version AND o.applied_at IS NULL`

func (o *Outbox) mark(ctx context.Context) error {
	var kinds []string
	var aggregates, versions []int64
	for range len(o.applied) {
		e := <-o.applied
		kind, aggregate := aggregateOf(e)
		kinds, aggregates, versions = append(kinds, kind), append(aggregates, int64(aggregate)), append(versions, e.Version)
	}
	if len(kinds) == 0 {
		return nil
	}
	if _, err := o.pool.Exec(ctx, markApplied, kinds, aggregates, versions); err != nil {
		return fmt.Errorf("mark %d entries as applied: %w", len(kinds), err)
	}
	return nil
}

const deleteApplied = `DELETE FROM outbox WHERE applied_at < now() - make_interval(secs => $1)`

func (o *Outbox) purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := o.pool.Exec(ctx, deleteApplied, outboxKeep.Seconds()); err != nil {
		return fmt.Errorf("purge the outbox: %w", err)
	}
	return nil
}
