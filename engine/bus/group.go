package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
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
	groupFenced  = metrics.NewCounter(`xcord_bus_group_fenced_total`)
	groupPanics  = metrics.NewCounter(`xcord_bus_group_panics_total`)
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
	// Checkpoint is the last entry of which the effect is stored: where the group begins when Redis has none. nil: at the beginning.
	Checkpoint func(ctx context.Context) (Position, error)
	// Batch is how many entries Handle gets at most (default 500: from there on bigger batches gain little,
	// PERFORMANCE.md section 1).
	Batch int
	// Attempts is how often a single entry is tried before it is buried (default 3).
	Attempts int
	// Deliveries is how often an entry is handed over without the handler coming back, because it panicked or the process
	// ended, before it is buried (default 5, at least 3: twice with others, then alone). The pending list counts.
	Deliveries int
	// Behind says for each entry of a batch which dead letter it must wait for; zero is none. Such an entry is set aside
	// too. nil: nothing ever waits.
	Behind func(ctx context.Context, entries []Entry) ([]Position, error)
	// Pass is told how far the group is, after everything up to there has been stored or buried: Handle never sees what is
	// buried, and a checkpoint must not wait for the next entry to get past it. nil: nobody needs to know.
	Pass func(ctx context.Context, to Position) error
	// LeavesOut is for what is only derived from the log: an entry that would be a dead letter is counted and logged, and let go of.
	LeavesOut bool
}

// suspectAfter is after how many deliveries that did not come back an entry is handed over alone: the others of its batch
// have the same count, and only so they can be told apart.
const suspectAfter = 2

// Group works through the log as one of a group's processes; one of them is active, the others wait for the lead.
type Group struct {
	log    *Log
	config GroupConfig
	on     life.Switch
	loops  life.Loops

	// The loop's own: what the group was given last, and in which epoch; "" when that has to be asked.
	at    cursor
	epoch string
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
	if config.Deliveries == 0 {
		config.Deliveries = 5
	}
	config.Deliveries = max(config.Deliveries, suspectAfter+1)
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

// ensure creates the group behind what is stored, or at 0, and never at the end: nothing that was written before it may be passed
// over. It makes no stream: without one the log is closed.
func (g *Group) ensure(ctx context.Context) error {
	var from Position
	if g.config.Checkpoint != nil {
		var err error
		if from, err = g.config.Checkpoint(ctx); err != nil {
			return fmt.Errorf("make group %s: %w", g.config.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, g.log.config.CallTimeout)
	defer cancel()
	client := g.log.redis
	err := client.Do(ctx, client.B().XgroupCreate().Key(streamKey()).Group(g.config.Name).Id(from.String()).Build()).Error()
	if err == nil {
		slog.Info("group made", "group", g.config.Name, "behind", from.String())
	}
	if err != nil && !isBusyGroup(err) {
		return unavailable("make group "+g.config.Name, err)
	}
	return nil
}

func (g *Group) run(ctx context.Context) error {
	var leaderless spell
	pause := time.Duration(0)
	for ctx.Err() == nil {
		release, err := g.config.Lead(ctx)
		if err != nil {
			if ctx.Err() == nil {
				leaderless.fail("group cannot get the lead and keeps trying", "group", g.config.Name, "err", err)
			}
			sleep(ctx, 500*time.Millisecond+rand.N(500*time.Millisecond))
			continue
		}
		leaderless.end("group can get the lead again", "group", g.config.Name)
		slog.Info("group leads", "group", g.config.Name)
		err = g.consume(ctx)
		release()
		var p *panicked
		switch {
		case errors.Is(err, ErrFenced):
			groupFenced.Inc()
			slog.Warn("group lost the lead", "group", g.config.Name, "err", err)
		case errors.As(err, &p):
			// Whatever the handler held may be broken: it begins anew, like a process that has ended.
			groupPanics.Inc()
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			slog.Error("group's handler panicked and begins anew", "group", g.config.Name, "err", err, "stack", p.stack, "pause", pause)
			sleep(ctx, pause+rand.N(pause/2))
			continue
		}
		pause = 0
	}
	return nil
}

// hand is what a group has in hand: a batch, and how often its entries have been handed over, this time included.
type hand struct {
	entries     []Entry
	bad         []undecoded
	first, last Position // of both together; zero when there are none
	deliveries  int
}

// undecoded is an entry that this binary cannot read.
type undecoded struct {
	raw rueidis.XRangeSlice
	err error
}

// consume works until ctx ends or the lead is lost. It begins with what a predecessor was given and had not finished.
func (g *Group) consume(ctx context.Context) error {
	pending, pause, looked := true, time.Duration(0), time.Now()
	var unread, unmade spell
	g.epoch = ""
	for ctx.Err() == nil {
		next := g.read
		if pending = pending || time.Since(looked) > lookBack; pending {
			next, looked = g.take, time.Now()
		}
		h, some, err := next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			unread.fail("group cannot read the log and keeps trying", "group", g.config.Name, "err", err)
			sleep(ctx, pause+rand.N(pause/2))
			if isNoGroup(err) {
				if err := g.ensure(ctx); err != nil {
					unmade.fail("group cannot be made and is tried again", "group", g.config.Name, "err", err)
				}
			}
			// A reply that was lost on the way stands in the pending list.
			pending = true
			continue
		}
		pause = 0
		unread.end("group reads the log again", "group", g.config.Name)
		unmade = spell{} // that it was made is said where it is
		if pending && !some {
			pending = false
			continue
		}
		if !pending && some {
			// Before what is pending and was handed to somebody else, this batch would move the checkpoint past it.
			if pending, err = g.isPassedOver(ctx, h.first); pending || err != nil {
				pending = true
				continue
			}
		}
		// A batch in hand is finished also while the process stops: its rows may be committed already.
		if err := g.settle(ctx, h); err != nil {
			return err
		}
		if err := g.pass(ctx, h); err != nil {
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

// pass says that all of h is settled, and so is everything before it.
func (g *Group) pass(ctx context.Context, h hand) error {
	if g.config.Pass == nil || h.last.IsZero() {
		return nil
	}
	return g.insist(ctx, func(ctx context.Context) error { return g.config.Pass(ctx, h.last) })
}

func (g *Group) settle(ctx context.Context, h hand) error {
	for _, b := range h.bad {
		if _, err := g.bury(ctx, b.raw.ID, rawFields(b.raw), grave{cause: b.err, attempts: h.deliveries}); err != nil {
			return err
		}
	}
	if len(h.entries) == 0 {
		return nil
	}
	if h.deliveries > g.config.Deliveries {
		n := h.deliveries - 1
		return g.buryEntry(ctx, h.entries[0], grave{attempts: n,
			cause: fmt.Errorf("handed over %d times, and each time the process ended or the handler panicked", n)})
	}
	return g.work(ctx, h.entries, h.deliveries)
}

// work stores a batch: as a whole when possible, in halves when an entry of it is at fault, so that one bad entry holds
// up nobody else's.
func (g *Group) work(ctx context.Context, entries []Entry, deliveries int) error {
	pause, forgiven := time.Duration(0), deliveries < suspectAfter
	var retries spell
	for attempt := 1; ; attempt++ {
		rest, err := g.attempt(ctx, entries)
		if len(rest) == 0 && err == nil {
			return nil
		}
		entries = rest
		var p *panicked
		if errors.As(err, &p) {
			if len(entries) == 1 && deliveries >= g.config.Deliveries {
				return g.buryEntry(ctx, entries[0], grave{cause: err, attempts: deliveries})
			}
			return err
		}
		if err != nil && !forgiven && !g.config.IsData(err) {
			// The handler came back, so none of these entries ends processes.
			forgiven = true
			g.forgive(ctx, entries)
		}
		switch {
		case err == nil:
			retries.end("group has stored a batch after all", "group", g.config.Name, "entries", len(entries))
			groupEntries.Add(len(entries))
			return g.ack(ctx, entries)
		case errors.Is(err, ErrFenced), ctx.Err() != nil:
			return err
		case g.config.IsData(err) && len(entries) > 1:
			half := len(entries) / 2
			if err := g.work(ctx, entries[:half], deliveries); err != nil {
				return err
			}
			return g.work(ctx, entries[half:], deliveries)
		case g.config.IsData(err) && attempt >= g.config.Attempts:
			return g.buryEntry(ctx, entries[0], grave{cause: err, attempts: deliveries - 1 + attempt})
		case !g.config.IsData(err):
			attempt = 0 // An outage is nobody's fault and has no limit.
		}
		groupRetries.Inc()
		pause = min(max(2*pause, 20*time.Millisecond), 2*time.Second)
		retries.fail("group retries a batch", "group", g.config.Name, "entries", len(entries), "err", err)
		sleep(ctx, pause+rand.N(pause/2))
	}
}

// panicked is the end of a handler.
type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("the handler panicked: %v", p.value) }

// attempt sets aside what has to wait for a dead letter and hands the rest over. A panic of the handler ends here.
func (g *Group) attempt(ctx context.Context, entries []Entry) (rest []Entry, err error) {
	rest = entries
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{value: v, stack: string(debug.Stack())}
		}
	}()
	if rest, err = g.park(ctx, entries); err != nil || len(rest) == 0 {
		return rest, err
	}
	return rest, g.config.Handle(ctx, rest)
}

// park sets aside the entries that wait for a dead letter, and returns the others. When the letter has been replayed
// or dropped in between, there is nothing to wait for any more.
func (g *Group) park(ctx context.Context, entries []Entry) ([]Entry, error) {
	if g.config.Behind == nil {
		return entries, nil
	}
	behind, err := g.config.Behind(ctx, entries)
	if err != nil {
		return entries, err
	}
	rest := make([]Entry, 0, len(entries))
	for i, e := range entries {
		if behind[i].IsZero() {
			rest = append(rest, e)
			continue
		}
		parked, err := g.bury(ctx, e.Pos.String(), e.appendFields(nil), grave{
			cause: fmt.Errorf("waits for dead letter %s", behind[i]), behind: behind[i],
		})
		if err != nil {
			return append(rest, entries[i:]...), err
		}
		if !parked {
			rest = append(rest, e)
		}
	}
	return rest, nil
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

// insist repeats a command that must happen until it does, or the lead is lost. When the process stops it is tried once more, with a time of its own:
// what was stored and not acknowledged is only read again, yet it is cheaper to say it now.
func (g *Group) insist(ctx context.Context, do func(ctx context.Context) error) error {
	var failures spell
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		last := ctx.Err() != nil
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.log.config.CallTimeout)
		err := do(call)
		cancel()
		if err == nil {
			failures.end("group has done a command after all", "group", g.config.Name)
		}
		if err == nil || last || errors.Is(err, ErrFenced) {
			return err
		}
		failures.fail("group repeats a command", "group", g.config.Name, "err", err)
		sleep(ctx, pause+rand.N(pause/2))
	}
}

// read waits for entries that nobody has been given yet.
func (g *Group) read(ctx context.Context) (h hand, some bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailBlock+time.Second)
	defer cancel()
	if g.epoch == "" {
		if err := g.locate(ctx); err != nil {
			return hand{}, false, err
		}
	}
	reply, state, err := g.log.blockChecked(ctx, g.log.redis.B().Xreadgroup().Group(g.config.Name, consumer).Count(int64(g.config.Batch)).
		Block(tailBlock.Milliseconds()).Streams().Key(streamKey()).Id(">").Build(), g.at.pos)
	raw, refusal := reply.AsXReadSlices()
	if err == nil && !isNil(refusal) {
		err = refusal
	}
	if err != nil {
		g.epoch = "" // the group may be another one, or was given what has not come here
		return hand{}, false, err
	}
	h = handOf(raw[streamKey()], 1)
	g.follow(ctx, state, raw[streamKey()])
	return h, len(raw[streamKey()]) > 0, nil
}

// take takes what was handed over before and not finished. An entry that has not come back too often comes alone.
func (g *Group) take(ctx context.Context) (h hand, some bool, err error) {
	call, cancel := context.WithTimeout(ctx, g.log.config.CallTimeout)
	defer cancel()
	client := g.log.redis
	parts, err := client.Do(call, client.B().Fcall().Function("xcord_take").Numkeys(1).Key(streamKey()).
		Arg(g.config.Name, consumer, strconv.Itoa(g.config.Batch), strconv.Itoa(suspectAfter)).Build()).ToArray()
	if err != nil {
		return hand{}, false, err
	}
	deliveries, err1 := parts[0].AsInt64()
	lost, err2 := parts[1].AsStrSlice()
	raw, err3 := parts[2].AsXRangeSlices()
	if err := errors.Join(err1, err2, err3); err != nil {
		return hand{}, false, fmt.Errorf("take pending entries: %w", err)
	}
	if len(lost) > 0 {
		// Said before it is let go of: who dies in between finds it again.
		lostEntries.Add(len(lost))
		slog.Error("entries were lost: they are pending and not in the log any more", "group", g.config.Name,
			"entries", len(lost), "first", lost[0], "last", lost[len(lost)-1])
		if err := g.ackIDs(ctx, lost); err != nil {
			return hand{}, false, err
		}
	}
	return handOf(raw, int(deliveries)), len(raw) > 0 || len(lost) > 0, nil
}

func handOf(raw []rueidis.XRangeSlice, deliveries int) hand {
	h := hand{deliveries: deliveries}
	for _, r := range raw {
		e, err := decode(r)
		if h.last = e.Pos; h.first.IsZero() {
			h.first = e.Pos
		}
		if err != nil {
			h.bad = append(h.bad, undecoded{raw: r, err: err})
			continue
		}
		h.entries = append(h.entries, e)
	}
	return h
}

// forgive sets the deliveries of entries back in the pending list. When that fails they only come alone once more.
func (g *Group) forgive(ctx context.Context, entries []Entry) {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.Pos.String()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.log.config.CallTimeout)
	defer cancel()
	client := g.log.redis
	err := client.Do(ctx, client.B().Xclaim().Key(streamKey()).Group(g.config.Name).Consumer(consumer).MinIdleTime("0").
		Id(ids...).Retrycount(1).Justid().Build()).Error()
	if err != nil {
		slog.Warn("group could not set deliveries back", "group", g.config.Name, "entries", len(ids), "err", err)
	}
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
	return errors.Is(err, errNoGroup) || ok && strings.Contains(reply.Error(), "NOGROUP")
}
