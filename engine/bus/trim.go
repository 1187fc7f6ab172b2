package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/life"
)

var trimmedTotal = metrics.NewCounter(`xcord_bus_trimmed_entries_total`)

const (
	// trimEvery: at the 25,000 posts a second that one host is built for, 15 s are some 200 MiB of log, well below what the
	// managed Redis has to spare.
	trimEvery = 15 * time.Second
	// measureEvery: in a second those posts take 14 MB, a tenth of what lies between two levels of the managed Redis.
	measureEvery = time.Second
	// pressedKeep is what is kept of the log however short the memory: every living tail must find its place again, and the
	// longest that one of them takes over a read is 3 s. It is no resume window; under pressure there may be none.
	pressedKeep = 10 * time.Second
)

// Trimmer keeps the log as long as Config says: by age and size, shorter when the memory of Redis runs short, and never past what
// some group has not finished. It measures that memory, by which its process refuses writes: every process needs one.
type Trimmer struct {
	log    *Log
	gauges *metrics.Set
	on     life.Switch
	loops  life.Loops
}

// NewTrimmer makes a Trimmer.
func NewTrimmer(log *Log) *Trimmer { return &Trimmer{log: log, gauges: log.newGauges()} }

// Start begins to measure and to trim.
func (t *Trimmer) Start(context.Context) error {
	return t.on.Start(func() error {
		metrics.RegisterSet(t.gauges)
		t.loops.Go("trim", t.run)
		return nil
	})
}

func (t *Trimmer) run(ctx context.Context) error {
	trimmed := time.Now()
	var failures spell
	for {
		err := t.log.Measure(ctx)
		if err == nil && (t.log.Level() > LevelCalm || time.Since(trimmed) > trimEvery) {
			trimmed = time.Now()
			_, err = t.log.Trim(ctx, trimmed)
		}
		switch {
		case err == nil:
			failures.end("the log can be measured and trimmed again")
		case ctx.Err() == nil:
			failures.fail("the log cannot be measured or trimmed", "err", err)
		}
		if !sleep(ctx, measureEvery+rand.N(measureEvery/4)) {
			return nil
		}
	}
}

// Stop ends the Trimmer and waits for it.
func (t *Trimmer) Stop() {
	t.on.Stop(func() {
		t.loops.Stop()
		metrics.UnregisterSet(t.gauges, false)
	})
}

// Failed reports a Trimmer that ended by itself.
func (t *Trimmer) Failed() <-chan error { return t.loops.Failed() }

// Trim removes what is older than Retain or beyond RetainBytes, and under pressure also what the memory is needed for, but nothing
// that a group has not finished; and says how many entries went. Trimming is by MINID only: MAXLEN would not know what is still
// needed.
func (l *Log) Trim(ctx context.Context, now time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, trimEvery)
	defer cancel()
	floor, _, err := l.unfinished(ctx)
	if err != nil {
		return 0, err
	}
	old, err := l.trimTo(ctx, least(floor, before(now, l.config.Retain)))
	if err != nil {
		return old, err
	}
	large, err := l.shrink(ctx, floor, func(context.Context, int64) (int64, error) { return l.config.RetainBytes, nil })
	if err != nil || l.Level() == LevelCalm {
		return old + large, err
	}
	pressed, err := l.shrink(ctx, least(floor, before(now, pressedKeep)), l.affordable)
	return old + large + pressed, err
}

func before(now time.Time, d time.Duration) Position {
	return Position{Ms: uint64(max(0, now.Add(-d).UnixMilli()))}
}

// affordable is how large the log may be for the memory to be calm again.
func (l *Log) affordable(ctx context.Context, logBytes int64) (int64, error) {
	used, limit, err := l.memory(ctx)
	return logBytes - used + int64(watermarks[LevelShort].end*float64(limit)), err
}

// shrink trims the log to a size in bytes, but not beyond floor. In steps, so that no command is long enough for others to notice.
func (l *Log) shrink(ctx context.Context, floor Position, size func(ctx context.Context, logBytes int64) (int64, error)) (removed int64, err error) {
	for {
		have, err := l.logBytes(ctx)
		if err != nil {
			return removed, err
		}
		want, err := size(ctx, have)
		if err != nil {
			return removed, err
		}
		to, err := l.excess(ctx, have, want)
		if err != nil || to.IsZero() {
			return removed, err
		}
		n, err := l.trimTo(ctx, least(floor, to))
		removed += n
		if err != nil || n == 0 {
			return removed, err
		}
	}
}

func least(p, q Position) Position {
	if q.Less(p) {
		return q
	}
	return p
}

func (l *Log) trimTo(ctx context.Context, p Position) (int64, error) {
	if p.IsZero() {
		return 0, nil
	}
	n, err := l.redis.Do(ctx, l.redis.B().Xtrim().Key(streamKey()).Minid().Exact().Threshold(p.String()).Build()).AsInt64()
	if err != nil {
		return 0, unavailable("trim the log", err)
	}
	trimmedTotal.Add(int(n))
	return n, nil
}

// unfinished is how far the log is needed: from the first position on that some group has not finished, or, when isOpen is false,
// behind the last that all have. While a group is not there nothing is finished: it was destroyed, and is made again when Postgres answers.
func (l *Log) unfinished(ctx context.Context) (floor Position, isOpen bool, err error) {
	floor = Position{Ms: ^uint64(0)}
	groups, err := l.redis.Do(ctx, l.redis.B().XinfoGroups().Key(streamKey()).Build()).ToArray()
	if err != nil {
		return floor, false, unavailable("look at the groups", err)
	}
	missing := slices.Clone(l.config.Groups)
	if len(groups) == 0 {
		return Position{}, false, nil
	}
	for _, g := range groups {
		info, err := g.AsMap()
		if err != nil {
			return floor, false, fmt.Errorf("look at a group: %w", err)
		}
		name, err1 := ptr(info["name"]).ToString()
		delivered, err2 := ptr(info["last-delivered-id"]).ToString()
		if err := errors.Join(err1, err2); err != nil {
			return floor, false, fmt.Errorf("look at a group: %w", err)
		}
		missing = slices.DeleteFunc(missing, func(want string) bool { return want == name })
		at, isPending, err := l.firstPending(ctx, name, delivered)
		if err != nil {
			return floor, false, err
		}
		if at.Less(floor) || at == floor && isPending {
			floor, isOpen = at, isPending
		}
	}
	if len(missing) > 0 {
		return Position{}, false, nil
	}
	return floor, isOpen, nil
}

// firstPending is the oldest entry that a group was given and has not acknowledged, or what it was given last.
func (l *Log) firstPending(ctx context.Context, group, delivered string) (at Position, isPending bool, err error) {
	summary, err := l.redis.Do(ctx, l.redis.B().Xpending().Key(streamKey()).Group(group).Build()).ToArray()
	if err != nil {
		return Position{}, false, unavailable("look at pending entries", err)
	}
	if isPending = len(summary) > 1 && !summary[1].IsNil(); isPending {
		if delivered, err = summary[1].ToString(); err != nil {
			return Position{}, false, fmt.Errorf("look at pending entries: %w", err)
		}
	}
	at, err = ParsePosition(delivered)
	return at, isPending, err
}

// trimStep is how many entries one step of shrink removes at most.
const trimStep = 1000

// excess is the position below which entries must go for the log of have bytes to come nearer to want; zero when it fits.
func (l *Log) excess(ctx context.Context, have, want int64) (Position, error) {
	if have <= want {
		return Position{}, nil
	}
	length, err := l.redis.Do(ctx, l.redis.B().Xlen().Key(streamKey()).Build()).AsInt64()
	if err != nil {
		return Position{}, unavailable("measure the log", err)
	}
	over := min(int64(float64(length)*(1-float64(max(want, 0))/float64(have)))+1, trimStep)
	raw, err := l.redis.Do(ctx, l.redis.B().Xrange().Key(streamKey()).Start("-").End("+").Count(over+1).Build()).AsXRangeSlices()
	if err != nil || len(raw) == 0 {
		return Position{}, err
	}
	return ParsePosition(raw[len(raw)-1].ID)
}

func ptr[T any](v T) *T { return &v }
