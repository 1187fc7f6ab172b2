package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/life"
)

// ErrFenced is what a handler answers when another process has taken its place: the group gives up the lead and asks for it anew.
var ErrFenced = errors.New("another process has taken the lead")

var (
	groupEntries = metrics.NewCounter(`xcord_bus_group_entries_total`)
	groupRetries = metrics.NewCounter(`xcord_bus_group_retries_total`)
	groupBuried  = metrics.NewCounter(`xcord_bus_dead_letters_total`)
	groupFenced  = metrics.NewCounter(`xcord_bus_group_fenced_total`)
)

// consumer is the one consumer name of every group: a successor finds what its predecessor had not finished under its
// own name, at once and without claiming.
const consumer = "active"

// lookBack is how often the pending list is looked at again. A process that has lost the lead without knowing may still be
// handed entries by a read that it had begun; it stores nothing any more, and they wait there.
const lookBack = 3 * time.Second

// GroupConfig says who works through the log, and how.
type GroupConfig struct {
	// Name of the group. Its dead letters are kept under the same name.
	Name string
	// Lead blocks until this process may be the group's only consumer; release gives that up. Required: two consumers
	// of one group would take turns and so lose the order.
	Lead func(ctx context.Context) (release func(), err error)
	// Handle stores a batch, all or nothing. It may see an entry again after a crash.
	Handle func(ctx context.Context, entries []Entry) error
	// IsData says of Handle's error that an entry is at fault and a repeat would fail in the same way. Every other
	// error counts as an outage and is retried for ever.
	IsData func(error) bool
	// Batch is how many entries Handle gets at most (default 500: from there on bigger batches gain little,
	// PERFORMANCE.md section 1).
	Batch int
	// Attempts is how often a single entry is tried before it is buried (default 3).
	Attempts int
}

// Group works through the log as one of a group's processes; one of them is active, the others wait for the lead.
type Group struct {
	log    *Log
	config GroupConfig
	on     life.Switch
	loops  life.Loops
}

// NewGroup makes a Group. It panics when a required field is missing.
func NewGroup(log *Log, config GroupConfig) *Group {
	if config.Name == "" || config.Lead == nil || config.Handle == nil || config.IsData == nil {
		panic("BUG: a group needs Name, Lead, Handle and IsData")
	}
	if config.Batch == 0 {
		config.Batch = 500
	}
	if config.Attempts == 0 {
		config.Attempts = 3
	}
	return &Group{log: log, config: config}
}

// Start makes the group in Redis where it is missing, and begins to wait for the lead.
func (g *Group) Start(ctx context.Context) error {
	return g.on.Start(func() error {
		if err := g.ensure(ctx); err != nil {
			return err
		}
		g.loops.Go("group "+g.config.Name, g.run)
		return nil
	})
}

// Stop finishes the batch in hand and ends the Group.
func (g *Group) Stop() { g.on.Stop(g.loops.Stop) }

// Failed reports a Group that ended by itself.
func (g *Group) Failed() <-chan error { return g.loops.Failed() }

// ensure creates the group at 0, never at the end: nothing that was written before it may be passed over.
func (g *Group) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.log.config.CallTimeout)
	defer cancel()
	client := g.log.redis
	err := client.Do(ctx, client.B().XgroupCreate().Key(streamKey()).Group(g.config.Name).Id("0").Mkstream().Build()).Error()
	if err != nil && !isBusyGroup(err) {
		return unavailable("make group "+g.config.Name, err)
	}
	return nil
}

func (g *Group) run(ctx context.Context) error {
	failed := false // said once, not with every attempt of an outage
	for ctx.Err() == nil {
		release, err := g.config.Lead(ctx)
		if err != nil {
			if ctx.Err() == nil && !failed {
				failed = true
				slog.Warn("group cannot get the lead and keeps trying", "group", g.config.Name, "err", err)
			}
			sleep(ctx, 500*time.Millisecond+rand.N(500*time.Millisecond))
			continue
		}
		failed = false
		slog.Info("group leads", "group", g.config.Name)
		err = g.consume(ctx)
		release()
		if errors.Is(err, ErrFenced) {
			groupFenced.Inc()
			slog.Warn("group lost the lead", "group", g.config.Name, "err", err)
		}
	}
	return nil
}

// consume works until ctx ends or the lead is lost. It begins with what a predecessor was given and had not finished.
func (g *Group) consume(ctx context.Context) error {
	pending, pause, looked := true, time.Duration(0), time.Now()
	for ctx.Err() == nil {
		from := ">"
		if pending = pending || time.Since(looked) > lookBack; pending {
			from, looked = "0", time.Now()
		}
		entries, bad, err := g.read(ctx, from)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			slog.Warn("group cannot read the log", "group", g.config.Name, "err", err, "pause", pause)
			sleep(ctx, pause+rand.N(pause/2))
			if isNoGroup(err) {
				if err := g.ensure(ctx); err != nil {
					slog.Warn("group cannot be made", "group", g.config.Name, "err", err)
				}
			}
			// A reply that was lost on the way stands in the pending list.
			pending = true
			continue
		}
		pause = 0
		if pending && len(entries) == 0 && len(bad) == 0 {
			pending = false
			continue
		}
		if !pending && len(entries) > 0 {
			// Before what is pending and was handed to somebody else, this batch would move the checkpoint past it.
			if pending, err = g.isPassedOver(ctx, entries[0].Pos); pending || err != nil {
				pending = true
				continue
			}
		}
		// A batch in hand is finished also while the process stops: its rows may be committed already.
		if err := g.settle(ctx, bad, entries); err != nil {
			return err
		}
	}
	return nil
}

// isPassedOver says whether an entry below at is pending: one that a read took which a process without the lead had begun. It
// cannot be stored behind those that came after it, because until then nobody would see it: not the rows, and above the checkpoint it
// is not looked for.
func (g *Group) isPassedOver(ctx context.Context, at Position) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, g.log.config.CallTimeout)
	defer cancel()
	client := g.log.redis
	summary, err := client.Do(ctx, client.B().Xpending().Key(streamKey()).Group(g.config.Name).Build()).ToArray()
	if err != nil || len(summary) < 2 {
		return false, errors.Join(err, ctx.Err())
	}
	lowest, err := summary[1].ToString()
	if err != nil {
		return false, err
	}
	pos, err := ParsePosition(lowest)
	return err == nil && pos.Less(at), err
}

// undecoded is an entry that this binary cannot read.
type undecoded struct {
	raw rueidis.XRangeSlice
	err error
}

func (g *Group) settle(ctx context.Context, bad []undecoded, entries []Entry) error {
	for _, b := range bad {
		if err := g.bury(ctx, b.raw.ID, rawFields(b.raw), b.err); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return g.work(ctx, entries)
}

// work stores a batch: as a whole when possible, in halves when an entry of it is at fault, so that one bad entry holds
// up nobody else's.
func (g *Group) work(ctx context.Context, entries []Entry) error {
	pause := time.Duration(0)
	for attempt := 1; ; attempt++ {
		err := g.config.Handle(ctx, entries)
		switch {
		case err == nil:
			groupEntries.Add(len(entries))
			return g.ack(ctx, entries)
		case errors.Is(err, ErrFenced), ctx.Err() != nil:
			return err
		case g.config.IsData(err) && len(entries) > 1:
			half := len(entries) / 2
			if err := g.work(ctx, entries[:half]); err != nil {
				return err
			}
			return g.work(ctx, entries[half:])
		case g.config.IsData(err) && attempt >= g.config.Attempts:
			return g.bury(ctx, entries[0].Pos.String(), entries[0].appendFields(nil), err)
		case !g.config.IsData(err):
			attempt = 0 // An outage is nobody's fault and has no limit.
		}
		groupRetries.Inc()
		pause = min(max(2*pause, 20*time.Millisecond), 2*time.Second)
		slog.Warn("group retries a batch", "group", g.config.Name, "entries", len(entries), "err", err, "pause", pause)
		sleep(ctx, pause+rand.N(pause/2))
	}
}

// bury sets an entry aside in the group's dead-letter stream under its own id, which refuses a repeat, and only then
// lets go of it.
func (g *Group) bury(ctx context.Context, at string, fields []string, cause error) error {
	client := g.log.redis
	reason := cause.Error()
	if len(reason) > 1000 {
		reason = reason[:1000]
	}
	add := client.B().Xadd().Key(deadKey(g.config.Name)).Id(at).FieldValue().
		FieldValue("error", strings.ToValidUTF8(reason, "?")).FieldValue("buried_ms", strconv.FormatInt(time.Now().UnixMilli(), 10))
	for i := 0; i+1 < len(fields); i += 2 {
		add = add.FieldValue(fields[i], fields[i+1])
	}
	cmd := add.Build().Pin()
	err := g.insist(ctx, func(ctx context.Context) error {
		err := client.Do(ctx, cmd).Error()
		if isOldID(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("bury entry %s: %w", at, err)
	}
	groupBuried.Inc()
	slog.Error("entry buried", "group", g.config.Name, "entry", at, "err", cause)
	return g.ackIDs(ctx, []string{at})
}

func (g *Group) ack(ctx context.Context, entries []Entry) error {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.Pos.String()
	}
	return g.ackIDs(ctx, ids)
}

func (g *Group) ackIDs(ctx context.Context, ids []string) error {
	client := g.log.redis
	cmd := client.B().Xack().Key(streamKey()).Group(g.config.Name).Id(ids...).Build().Pin()
	return g.insist(ctx, func(ctx context.Context) error { return client.Do(ctx, cmd).Error() })
}

// insist repeats a command that must happen until it does. When the process stops it is tried once more, with a time of its own:
// what was stored and not acknowledged is only read again, yet it is cheaper to say it now.
func (g *Group) insist(ctx context.Context, do func(ctx context.Context) error) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		last := ctx.Err() != nil
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.log.config.CallTimeout)
		err := do(call)
		cancel()
		if err == nil || last {
			return err
		}
		slog.Warn("group repeats a command", "group", g.config.Name, "err", err)
		sleep(ctx, pause+rand.N(pause/2))
	}
}

func (g *Group) read(ctx context.Context, from string) (entries []Entry, bad []undecoded, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailBlock+time.Second)
	defer cancel()
	raw, err := g.log.block(ctx, g.log.redis.B().Xreadgroup().Group(g.config.Name, consumer).Count(int64(g.config.Batch)).
		Block(tailBlock.Milliseconds()).Streams().Key(streamKey()).Id(from).Build()).AsXReadSlices()
	if isNil(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, r := range raw[streamKey()] {
		e, err := decode(r)
		if err != nil {
			bad = append(bad, undecoded{raw: r, err: err})
			continue
		}
		entries = append(entries, e)
	}
	return entries, bad, nil
}

func rawFields(r rueidis.XRangeSlice) []string {
	fields := make([]string, 0, 2*len(r.FieldValues))
	for _, f := range r.FieldValues {
		fields = append(fields, f.Field, f.Value)
	}
	return fields
}

func isNoGroup(err error) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(reply.Error(), "NOGROUP")
}

// isOldID: the dead-letter stream already has this entry or a later one, and entries are buried in order.
func isOldID(err error) bool {
	if err == nil {
		return false
	}
	reply, ok := rueidis.IsRedisErr(err)
	return ok && strings.Contains(reply.Error(), "equal or smaller than the target stream top item")
}
