// Package messaging is messages: they are sent, edited, deleted and read here, with typing beside them, and written to
// Postgres in batches behind the log. It does not deliver anything to sessions (the gateway does, from the same entries), and
// it does not know accounts or guilds beyond what the roster tells it.
//
// # What is where
//
// A message is accepted when it is in the log. Postgres gets it from there, by the writer: one process at a time, batch after
// batch, each with the checkpoint in the same transaction. What lies between the checkpoint and the end of the log is kept in
// memory by every process that runs this service, in the overlay. A read asks the log where it ends, waits until the overlay has
// that, and lays the overlay over the rows; so it contains every write that was answered before it began, on any process.
//
// What is searched is an index of its own, made from the log by the indexer as the rows are made by the writer, and up to two seconds behind
// it. It only says which messages to look at: they are read like all others.
//
// # Lock order
//
// The overlay's lock is held for no I/O, and the lead's only so that one at a time uses its connection. Neither is taken with another.
package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/files"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
)

// Config of the service. The zero value is the default.
type Config struct {
	// ReadWait bounds how long a read waits until this process has seen the end of the log. Default 500ms: by then
	// something is wrong, and a 503 tells more than silence.
	ReadWait time.Duration
	// OverlayBytes bounds the bodies that are kept in memory above the checkpoint; beyond it only ids stay and bodies are read
	// from the log. Default 64 MiB, some 60,000 messages: minutes of a Postgres outage at a normal load.
	OverlayBytes int
	// OverlayIDBytes bounds everything else that is kept of those messages; beyond it the oldest are forgotten, and reads that need
	// them answer 503 until they are stored. Default 512 MiB, some 3.7 million messages: about what the managed Redis
	// takes before it refuses more.
	OverlayIDBytes int
	// PruneEvery is how often the overlay asks for the checkpoint while it holds something. Default 250ms.
	PruneEvery time.Duration
	// NonceTTL is how long enforce_nonce remembers. Default 10m, what the contract promises.
	NonceTTL time.Duration
	// Batch is how many entries the writer commits at once. Default 500.
	Batch int
	// CommitTimeout bounds one batch. Default 30s: a lock that others hold longer costs the connection, nothing else.
	CommitTimeout time.Duration
	// Lease is how long a process that writes may stand still until another one takes the lead from it. Default 10s.
	Lease time.Duration
	// FileBytes is how much room there is for attachments, and UserFileBytes how much of it for those of one user. Default 20 GiB and
	// 2 GiB.
	FileBytes, UserFileBytes int64
	// CollectEvery is about how often the collector deletes files that no message has any more. Default 15s.
	CollectEvery time.Duration
	// OrphanAge is how long an attachment may be without a message. Default 1h: the message follows within seconds, or the writer is
	// behind by that much.
	OrphanAge time.Duration
}

func (c Config) withDefaults() Config {
	if c.ReadWait == 0 {
		c.ReadWait = 500 * time.Millisecond
	}
	if c.OverlayBytes == 0 {
		c.OverlayBytes = 64 << 20
	}
	if c.OverlayIDBytes == 0 {
		c.OverlayIDBytes = 512 << 20
	}
	if c.PruneEvery == 0 {
		c.PruneEvery = 250 * time.Millisecond
	}
	if c.NonceTTL == 0 {
		c.NonceTTL = 10 * time.Minute
	}
	if c.Batch == 0 {
		c.Batch = 500
	}
	if c.CommitTimeout == 0 {
		c.CommitTimeout = 30 * time.Second
	}
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.FileBytes == 0 {
		c.FileBytes = 20 << 30
	}
	if c.UserFileBytes == 0 {
		c.UserFileBytes = 2 << 30
	}
	if c.CollectEvery == 0 {
		c.CollectEvery = 15 * time.Second
	}
	if c.OrphanAge == 0 {
		c.OrphanAge = time.Hour
	}
	return c
}

// Validate names every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.CollectEvery < 0 || c.OrphanAge < 0 || c.ReadWait < 0 || c.PruneEvery < 0 || c.NonceTTL < 0 || c.CommitTimeout < 0 || c.Lease < 0 {
		errs = append(errs, errors.New("messaging: durations must not be negative"))
	}
	if c.NonceTTL != 0 && c.NonceTTL < time.Second {
		errs = append(errs, errors.New("messaging: NonceTTL must be at least 1s"))
	}
	if c.OverlayBytes < 0 || c.OverlayIDBytes < 0 {
		errs = append(errs, errors.New("messaging: OverlayBytes and OverlayIDBytes must not be negative"))
	}
	if c.FileBytes < 0 || c.UserFileBytes < 0 {
		errs = append(errs, errors.New("messaging: FileBytes and UserFileBytes must not be negative"))
	}
	if c.Batch < 0 || c.Batch > 10_000 {
		errs = append(errs, errors.New("messaging: Batch must be 1 to 10000"))
	}
	return errors.Join(errs...)
}

// Deps are what the service works with. All but Files, with IDs and Links, are required.
type Deps struct {
	Log *bus.Log
	// Tail is the process's. New subscribes to it, so New comes before the Tail's Start, and the roster subscribes before.
	// It must start from Checkpoint or below.
	Tail   *bus.Tail
	Roster *roster.Roster
	// Reads is the process's, subscribed to the same tail. It is started and stopped by whoever made it.
	Reads *reads.Reads
	// Pool is for reads. The writer takes one connection of its own out of it while it leads.
	Pool *postgres.Pool
	// Files is where attachments are; nil: there are none, and whoever sends some is answered 503.
	Files files.Store
	IDs   *postgres.IDs // of attachments
	Links *token.Links  // to them
}

// Service is the messaging service of one process. Its handlers are safe for concurrent use.
type Service struct {
	config   Config
	log      *bus.Log
	tail     *bus.Tail
	roster   *roster.Roster
	reads    *reads.Reads
	store    store
	overlay  *overlay
	graves   *graves
	acks     *acker
	audience *audience
	turns    turns
	writer   *writer
	indexer  *indexer
	searches chan struct{} // those under way
	groups   life.Group    // of the log: the writer's and the indexer's
	gauges   *metrics.Set
	now      func() time.Time
	hear     chan struct{} // has one element when there are announcements to be said
	files    files.Store
	ids      *postgres.IDs
	links    *token.Links
	// fileBytes is what all files have, as the collector last saw it.
	fileBytes atomic.Int64

	on    life.Switch
	loops life.Loops
}

// New makes the service and subscribes it to the tail. It does no I/O. It panics when something of deps is missing.
func New(config Config, deps Deps) *Service {
	if deps.Log == nil || deps.Tail == nil || deps.Roster == nil || deps.Reads == nil || deps.Pool == nil {
		panic("BUG: messaging needs Log, Tail, Roster, Reads and Pool")
	}
	config = config.withDefaults()
	if deps.Files != nil && (deps.IDs == nil || deps.Links == nil) {
		panic("BUG: messaging needs IDs and Links with Files")
	}
	s := &Service{
		files: deps.Files, ids: deps.IDs, links: deps.Links,
		config: config, log: deps.Log, tail: deps.Tail, roster: deps.Roster, reads: deps.Reads, store: store{deps.Pool},
		acks: newAcker(deps.Log), audience: newAudience(deps.Roster), turns: newTurns(), searches: make(chan struct{}, searchesMax),
		overlay: newOverlay(config.OverlayBytes, config.OverlayIDBytes), now: time.Now, graves: &graves{dead: deps.Log.Dead(groupName)},
		hear: make(chan struct{}, 1),
	}
	s.writer = &writer{store: s.store, timeout: config.CommitTimeout, lease: config.Lease, hear: s.hear, purges: make(chan struct{}, 1)}
	s.groups.Add("writer", bus.NewGroup(deps.Log, bus.GroupConfig{
		Name: groupName, Lead: s.writer.lead, Handle: s.writer.persist, IsData: isData, Batch: config.Batch,
		Behind: s.graves.behind, Pass: s.writer.pass, Checkpoint: s.store.checkpoint,
	}))
	s.indexer = &indexer{store: s.store, timeout: config.CommitTimeout, lease: config.Lease}
	s.groups.Add("indexer", bus.NewGroup(deps.Log, s.indexer.group(config.Batch)))
	s.gauges = newGauges(s.overlay, s.graves, func() time.Time { return s.now() })
	s.gauges.NewGauge(`xcord_messaging_attachment_bytes`, func() float64 { return float64(s.fileBytes.Load()) })
	s.tail.Subscribe(func(_ context.Context, entries []bus.Entry) error {
		s.overlay.apply(entries)
		s.acks.apply(entries)
		return nil
	})
	s.tail.OnCut(s.cut)
	return s
}

func newGauges(o *overlay, g *graves, now func() time.Time) *metrics.Set {
	set := metrics.NewSet()
	set.NewGauge(`xcord_messaging_undurable_entries`, func() float64 { return float64(o.stats().ops) })
	set.NewGauge(`xcord_messaging_undurable_age_seconds`, func() float64 {
		oldest := o.stats().oldest
		if oldest.IsZero() {
			return 0
		}
		return max(0, now().Sub(time.UnixMilli(int64(oldest.Ms))).Seconds())
	})
	set.NewGauge(`xcord_messaging_overlay_messages`, func() float64 { return float64(o.stats().messages) })
	set.NewGauge(`xcord_messaging_overlay_bytes`, func() float64 { return float64(o.stats().bytes) })
	set.NewGauge(`xcord_messaging_overlay_id_bytes`, func() float64 { return float64(o.stats().idBytes) })
	set.NewGauge(`xcord_bus_dead_letters{group="`+groupName+`"}`, func() float64 { return float64(g.count.Load()) })
	return set
}

// Start begins to write, and to prune the overlay.
func (s *Service) Start(ctx context.Context) error {
	return s.on.Start(func() error {
		if _, err := s.Checkpoint(ctx); err != nil {
			return fmt.Errorf("start messaging: %w", err)
		}
		if err := s.groups.Start(ctx); err != nil {
			return fmt.Errorf("start messaging: %w", err)
		}
		metrics.RegisterSet(s.gauges)
		s.loops.Go("messaging prune", s.pruneLoop)
		s.loops.Go("messaging announcements", s.announceLoop)
		s.loops.Go("messaging dead letters", s.graves.countLoop)
		if s.files != nil {
			s.loops.Go("messaging collector", s.collectLoop)
		}
		s.loops.Go("messaging purges", s.purgeLoop)
		s.loops.Go("messaging acks", s.acks.run)
		return nil
	})
}

// Stop writes the acks that wait into the log, finishes the batch in hand and ends the service.
func (s *Service) Stop() {
	s.on.Stop(func() {
		s.loops.Stop()
		metrics.UnregisterSet(s.gauges, false)
		s.groups.Stop()
	})
}

// Failed reports a writer, or an indexer, that ended by itself.
func (s *Service) Failed() <-chan error { return s.groups.Failed() }

// Checkpoint is the last entry of the log whose effect is committed: where a process's tail must start (or before), so that
// rows and overlay together leave nothing out.
func (s *Service) Checkpoint(ctx context.Context) (bus.Position, error) {
	mark, err := s.store.checkpoint(ctx)
	if err == nil {
		s.overlay.prune(mark) // what the tail will not bring must be below the floor
	}
	return mark, err
}

// Committed is Checkpoint for who does not run the service.
func Committed(ctx context.Context, pool *postgres.Pool) (bus.Position, error) {
	return store{pool}.checkpoint(ctx)
}

// lostTotal counts the same as the bus does, under the same name: entries that were accepted and are nowhere any more.
var lostTotal = metrics.GetOrCreateCounter(`xcord_stream_lost_entries_total`)

// cut begins the overlay anew. What it had and neither Postgres nor the log has is lost.
func (s *Service) cut(ctx context.Context, c bus.Cut) error {
	var had []bus.Position
	err := insist(ctx, func() error {
		mark, err := s.Checkpoint(ctx)
		if err == nil {
			had = s.overlay.reset(mark, c.Behind)
		}
		return err
	})
	if err != nil || len(had) == 0 || c.Lost > 0 { // with Lost the bus has counted them
		return err
	}
	var lost int
	err = insist(ctx, func() (err error) {
		lost, err = s.log.Missing(ctx, had)
		return err
	})
	if lost > 0 {
		lostTotal.Add(lost)
		slog.Error("messages were accepted and are lost: the log has gone before they were stored", "changes", lost,
			"first", had[0].String(), "last", had[len(had)-1].String())
	}
	return err
}

// insist repeats what the tail cannot go on without. It ends with ctx, which is the tail's end.
func insist(ctx context.Context, do func() error) error {
	const first = 20 * time.Millisecond
	for pause := first; ; pause = min(2*pause, time.Second) {
		err := do()
		if err == nil {
			return nil
		}
		if pause == first { // said once, and not with every try of an outage
			slog.Warn("the overlay cannot be begun anew and is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

var checkpointErrors = metrics.NewCounter(`xcord_messaging_checkpoint_errors_total`)

func (s *Service) pruneLoop(ctx context.Context) error {
	for {
		t := time.NewTimer(s.config.PruneEvery + rand.N(s.config.PruneEvery/4))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		if s.overlay.stats().oldest.IsZero() {
			continue
		}
		if _, err := s.Checkpoint(ctx); err != nil && ctx.Err() == nil {
			// Postgres is away, which the writer says; here the overlay only grows meanwhile.
			checkpointErrors.Inc()
		}
	}
}
