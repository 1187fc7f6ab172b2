package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/life"
)

var (
	tailEntries = metrics.NewCounter(`xcord_bus_tail_entries_total`)
	tailErrors  = metrics.NewCounter(`xcord_bus_tail_errors_total`)
	tailLag     = metrics.NewPrometheusHistogramExt(`xcord_bus_tail_lag_seconds`, latencyBounds)
	tailCuts    = metrics.NewCounter(`xcord_bus_tail_cuts_total`)
	undecodable = metrics.NewCounter(`xcord_bus_undecodable_entries_total`)
)

// tailBatch and tailBlock: how many entries one read takes at most, and how long it waits for the first. The wait
// has a bound because a half-open connection would otherwise hang for ever.
const (
	tailBatch = 512
	tailBlock = 2 * time.Second
)

// Tail reads the log from one place on and hands every entry to its subscribers, in order, in one goroutine. A process
// has one: its subscribers therefore agree on where the log is. Subscribers run one after the other in the order in which
// they subscribed and must not block for long; an error from one of them is a broken invariant and ends the Tail.
//
// Each read comes with a check that nothing is missing in front of what was read. Where something is, because the log was trimmed past the
// Tail or has begun a new epoch, the subscribers are told of a Cut instead, and the Tail begins anew. While the log is closed or
// has lost its tail it waits for that new epoch.
type Tail struct {
	log  *Log
	from func(ctx context.Context) (Position, error)

	subscribers []func(ctx context.Context, entries []Entry) error
	cutters     []func(ctx context.Context, c Cut) error
	on          life.Switch
	loops       life.Loops
	at          cursor // the loop's own

	mu      sync.Mutex
	epoch   string
	began   Position
	pos     Position
	changed chan struct{} // closed and replaced whenever pos moves
}

// Cut says that there is a hole in what a Tail hands over: what was made of the entries before it is worth nothing any more.
type Cut struct {
	// Epoch is that of the log from now on. It is the same as before when entries were trimmed that the Tail had not read.
	Epoch string
	// Behind is a place behind the hole, where the log ended when the hole was seen. Everything behind it will be handed over.
	Behind Position
	// Lost is how many entries the Tail has missed, at least; 0 when the epoch is another one, for then nobody knows.
	Lost int64
}

// NewTail makes a Tail that starts behind the position that from returns at Start, and after a Cut.
func NewTail(log *Log, from func(ctx context.Context) (Position, error)) *Tail {
	return &Tail{log: log, from: from, changed: make(chan struct{})}
}

// Subscribe adds a receiver. Call it before Start.
func (t *Tail) Subscribe(receive func(ctx context.Context, entries []Entry) error) {
	t.subscribers = append(t.subscribers, receive)
}

// OnCut adds one who is told of holes, in the Tail's goroutine, like a subscriber. What comes next is handed over from where the Tail would
// have started by now, which may have been handed over before. Call it before Start.
func (t *Tail) OnCut(tell func(ctx context.Context, c Cut) error) {
	t.cutters = append(t.cutters, tell)
}

// Start returns when the Tail has caught up with the log as it was when Start was called.
func (t *Tail) Start(ctx context.Context) error {
	return t.on.Start(func() error { return t.start(ctx) })
}

func (t *Tail) start(ctx context.Context) error {
	state, err := t.begin(ctx, Position{Ms: math.MaxUint64})
	if err != nil {
		return fmt.Errorf("tail the log: %w", err)
	}
	t.enter(state.Epoch)
	from, last := t.Position(), state.Last
	t.loops.Go("tail", t.run)
	if from.Less(last) {
		if err := t.WaitFor(ctx, last); err != nil {
			t.loops.Stop()
			return fmt.Errorf("tail the log: catch up: %w", err)
		}
	}
	return nil
}

// begin sets the Tail to where it starts, but not behind most, and says how the log stands.
func (t *Tail) begin(ctx context.Context, most Position) (State, error) {
	from, err := t.from(ctx)
	if err != nil {
		return State{}, fmt.Errorf("where to start: %w", err)
	}
	from = least(from, most)
	state, err := t.log.Check(ctx, from)
	switch {
	case err != nil:
		return State{}, err
	case !state.Open:
		return State{}, errClosed
	}
	t.at = state.cursorAt(from)
	t.mu.Lock()
	t.began = from
	t.mu.Unlock()
	t.move(from)
	return state, nil
}

func (t *Tail) enter(epoch string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch = epoch
}

// Stop ends the Tail and waits for it.
func (t *Tail) Stop() { t.on.Stop(t.loops.Stop) }

// Failed reports a Tail that ended by itself.
func (t *Tail) Failed() <-chan error { return t.loops.Failed() }

// Position is that of the latest entry that every subscriber has had.
func (t *Tail) Position() Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pos
}

// Began is where the Tail started: its subscribers have had, or will have, everything behind it.
func (t *Tail) Began() Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.began
}

// Epoch is that of the entries that the subscribers get.
func (t *Tail) Epoch() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch
}

// WaitFor returns when every subscriber has had everything up to and including p.
func (t *Tail) WaitFor(ctx context.Context, p Position) error {
	for {
		t.mu.Lock()
		pos, changed := t.pos, t.changed
		t.mu.Unlock()
		if !pos.Less(p) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, the tail is at %s: %w", p, pos, ctx.Err())
		}
	}
}

func (t *Tail) move(p Position) {
	t.log.saw(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pos = p
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Tail) run(ctx context.Context) error {
	pause := time.Duration(0)
	var unread spell
	for ctx.Err() == nil {
		batch, state, err := t.read(ctx)
		if err == nil && t.lags(state) {
			err = errTorn
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			tailErrors.Inc()
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			unread.fail("tail cannot read the log and keeps trying", "err", err)
			sleep(ctx, pause+rand.N(pause/2))
			continue
		}
		pause = 0
		unread.end("tail reads the log again")
		lost := state.missed(t.at)
		if lost > 0 || state.Epoch != t.Epoch() {
			err = t.cut(ctx, state, lost)
		} else {
			err = t.hand(ctx, batch, state)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("tail at %s: %w", t.Position(), err)
		}
	}
	return nil
}

// errTorn: who keeps the log will begin a new epoch.
var errTorn = errors.New("the log has lost what it had before")

// lags says whether there is nothing to go by: the log is closed, or has lost its tail and nobody has noticed yet.
func (t *Tail) lags(s State) bool {
	return !s.Open || s.Epoch == t.Epoch() && s.Torn(0, t.at.pos)
}

// hand hands entries to the subscribers.
func (t *Tail) hand(ctx context.Context, b batch, s State) error {
	if b.next.IsZero() {
		return nil
	}
	for _, receive := range t.subscribers {
		if err := receive(ctx, b.entries); err != nil {
			return err
		}
	}
	tailEntries.Add(len(b.entries))
	if n := len(b.entries); n > 0 {
		tailLag.Update(max(0, time.Since(b.entries[n-1].Time()).Seconds()))
	}
	t.at = t.at.moved(b.next, b.count, s)
	t.move(b.next)
	return nil
}

// cut tells of a hole and begins anew behind it.
func (t *Tail) cut(ctx context.Context, s State, lost int64) error {
	c := Cut{Epoch: s.Epoch, Behind: s.Last}
	if s.Epoch == t.Epoch() {
		c.Lost = lost
		lostEntries.Add(int(lost))
	}
	tailCuts.Inc()
	slog.Error("the log does not go on where it was read, and everything that was made of it begins anew", "read", t.at.pos.String(),
		"first", s.First.String(), "last", s.Last.String(), "lost", c.Lost, "epoch", c.Epoch)
	for _, tell := range t.cutters {
		if err := tell(ctx, c); err != nil {
			return err
		}
	}
	var idle spell
	for pause := 20 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, time.Second) {
		_, err := t.begin(ctx, c.Behind) // behind that, those who were told want everything
		if err == nil {
			// The one that was told of: should another have begun meanwhile, the next read tells of that.
			t.enter(c.Epoch)
			idle.end("tail has begun anew")
			return nil
		}
		idle.fail("tail cannot begin anew and keeps trying", "err", err)
		sleep(ctx, pause+rand.N(pause/2))
	}
	return nil
}

// batch is what one read brings: entries, the place to go on from, zero when nothing came, and how many stand up to there.
type batch struct {
	entries []Entry
	next    Position
	count   int
}

// read waits for the next entries. An entry that cannot be decoded is counted and passed over: only the group that must store it can set it
// aside.
func (t *Tail) read(ctx context.Context) (b batch, s State, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailBlock+time.Second)
	defer cancel()
	reply, s, err := t.log.blockChecked(ctx, t.log.redis.B().Xread().Count(tailBatch).Block(tailBlock.Milliseconds()).
		Streams().Key(streamKey()).Id(t.at.pos.String()).Build(), t.at.pos)
	if err != nil {
		return b, s, err
	}
	raw, err := reply.AsXReadSlices()
	if isNil(err) {
		return b, s, nil
	}
	if err != nil {
		return b, s, err
	}
	b.count = len(raw[streamKey()])
	for _, r := range raw[streamKey()] {
		e, err := decode(r)
		if err != nil {
			if e.Pos.IsZero() {
				return b, s, errors.Join(errors.New("a stream entry without a position"), err)
			}
			undecodable.Inc()
			slog.Error("entry cannot be decoded", "entry", e.Pos.String(), "err", err)
			b.next = e.Pos
			continue
		}
		b.entries, b.next = append(b.entries, e), e.Pos
	}
	return b, s, nil
}
