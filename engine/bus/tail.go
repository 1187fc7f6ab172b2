package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
type Tail struct {
	log  *Log
	from func(ctx context.Context) (Position, error)

	subscribers []func(ctx context.Context, entries []Entry) error
	on          life.Switch
	loops       life.Loops

	mu      sync.Mutex
	began   Position
	pos     Position
	changed chan struct{} // closed and replaced whenever pos moves
}

// NewTail makes a Tail that starts behind the position that from returns at Start.
func NewTail(log *Log, from func(ctx context.Context) (Position, error)) *Tail {
	return &Tail{log: log, from: from, changed: make(chan struct{})}
}

// Subscribe adds a receiver. Call it before Start.
func (t *Tail) Subscribe(receive func(ctx context.Context, entries []Entry) error) {
	t.subscribers = append(t.subscribers, receive)
}

// Start returns when the Tail has caught up with the log as it was when Start was called.
func (t *Tail) Start(ctx context.Context) error {
	return t.on.Start(func() error { return t.start(ctx) })
}

func (t *Tail) start(ctx context.Context) error {
	from, err := t.from(ctx)
	if err != nil {
		return fmt.Errorf("tail the log: where to start: %w", err)
	}
	last, err := t.log.Last(ctx)
	if err != nil {
		return fmt.Errorf("tail the log: %w", err)
	}
	t.mu.Lock()
	t.began = from
	t.mu.Unlock()
	t.move(from)
	t.loops.Go("tail", t.run)
	if from.Less(last) {
		if err := t.WaitFor(ctx, last); err != nil {
			t.loops.Stop()
			return fmt.Errorf("tail the log: catch up: %w", err)
		}
	}
	return nil
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
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pos = p
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Tail) run(ctx context.Context) error {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		entries, next, err := t.read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			tailErrors.Inc()
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			slog.Warn("tail cannot read the log", "err", err, "pause", pause)
			sleep(ctx, pause+rand.N(pause/2))
			continue
		}
		pause = 0
		if next.IsZero() {
			continue
		}
		for _, receive := range t.subscribers {
			if err := receive(ctx, entries); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("tail at %s: %w", t.Position(), err)
			}
		}
		tailEntries.Add(len(entries))
		if n := len(entries); n > 0 {
			tailLag.Update(max(0, time.Since(entries[n-1].Time()).Seconds()))
		}
		t.move(next)
	}
	return nil
}

// read waits for the next entries. next is the position to go on from, zero when nothing came. An entry that cannot be decoded
// is counted and passed over: only the group that must store it can set it aside.
func (t *Tail) read(ctx context.Context) (entries []Entry, next Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailBlock+time.Second)
	defer cancel()
	raw, err := t.log.block(ctx, t.log.redis.B().Xread().Count(tailBatch).Block(tailBlock.Milliseconds()).
		Streams().Key(streamKey()).Id(t.Position().String()).Build()).AsXReadSlices()
	if isNil(err) {
		return nil, Position{}, nil
	}
	if err != nil {
		return nil, Position{}, err
	}
	for _, r := range raw[streamKey()] {
		e, err := decode(r)
		if err != nil {
			if e.Pos.IsZero() {
				return nil, Position{}, errors.Join(errors.New("a stream entry without a position"), err)
			}
			undecodable.Inc()
			slog.Error("entry cannot be decoded", "entry", e.Pos.String(), "err", err)
			next = e.Pos
			continue
		}
		entries, next = append(entries, e), e.Pos
	}
	return entries, next, nil
}
