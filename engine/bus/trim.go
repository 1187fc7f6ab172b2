package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/life"
)

var trimmedTotal = metrics.NewCounter(`xcord_bus_trimmed_entries_total`)

// trimEvery: at the 25,000 posts a second that one host is built for, 15 s are some 200 MiB of log, well below what the
// managed Redis has to spare.
const trimEvery = 15 * time.Second

// Trimmer keeps the log as long as Config says: by age and size, and never past what some group has not finished.
type Trimmer struct {
	log   *Log
	on    life.Switch
	loops life.Loops
}

// NewTrimmer makes a Trimmer. Any number may run; one is enough.
func NewTrimmer(log *Log) *Trimmer { return &Trimmer{log: log} }

// Start begins to trim now and then.
func (t *Trimmer) Start(context.Context) error {
	return t.on.Start(func() error {
		t.loops.Go("trim", t.run)
		return nil
	})
}

func (t *Trimmer) run(ctx context.Context) error {
	for sleep(ctx, trimEvery) {
		if _, err := t.log.Trim(ctx, time.Now()); err != nil && ctx.Err() == nil {
			slog.Warn("the log could not be trimmed", "err", err)
		}
	}
	return nil
}

// Stop ends the Trimmer and waits for it.
func (t *Trimmer) Stop() { t.on.Stop(t.loops.Stop) }

// Failed reports a Trimmer that ended by itself.
func (t *Trimmer) Failed() <-chan error { return t.loops.Failed() }

// Trim removes what is older than Retain or beyond RetainBytes, but nothing that a group has not finished, and says how
// many entries went. Trimming is by MINID only: MAXLEN would not know what is still needed.
func (l *Log) Trim(ctx context.Context, now time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, trimEvery)
	defer cancel()
	floor, err := l.unfinished(ctx)
	if err != nil {
		return 0, err
	}
	removed, err := l.trimTo(ctx, least(floor, Position{Ms: uint64(now.Add(-l.config.Retain).UnixMilli())}))
	if err != nil {
		return removed, err
	}
	for {
		to, err := l.excess(ctx)
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

// unfinished is the first position that some group still needs; the furthest possible one when there is no group.
func (l *Log) unfinished(ctx context.Context) (Position, error) {
	floor := Position{Ms: ^uint64(0)}
	groups, err := l.redis.Do(ctx, l.redis.B().XinfoGroups().Key(streamKey()).Build()).ToArray()
	if err != nil {
		return floor, unavailable("look at the groups", err)
	}
	for _, g := range groups {
		info, err := g.AsMap()
		if err != nil {
			return floor, fmt.Errorf("look at a group: %w", err)
		}
		name, err1 := ptr(info["name"]).ToString()
		delivered, err2 := ptr(info["last-delivered-id"]).ToString()
		if err := errors.Join(err1, err2); err != nil {
			return floor, fmt.Errorf("look at a group: %w", err)
		}
		at, err := l.firstPending(ctx, name, delivered)
		if err != nil {
			return floor, err
		}
		floor = least(floor, at)
	}
	return floor, nil
}

// firstPending is the oldest entry that a group was given and has not acknowledged, or what it was given last.
func (l *Log) firstPending(ctx context.Context, group, delivered string) (Position, error) {
	summary, err := l.redis.Do(ctx, l.redis.B().Xpending().Key(streamKey()).Group(group).Build()).ToArray()
	if err != nil {
		return Position{}, unavailable("look at pending entries", err)
	}
	if len(summary) > 1 && !summary[1].IsNil() {
		if delivered, err = summary[1].ToString(); err != nil {
			return Position{}, fmt.Errorf("look at pending entries: %w", err)
		}
	}
	return ParsePosition(delivered)
}

// excess is the position below which entries must go for the log to come nearer to RetainBytes; zero when it fits.
func (l *Log) excess(ctx context.Context) (Position, error) {
	usage, err := l.redis.Do(ctx, l.redis.B().MemoryUsage().Key(streamKey()).Build()).AsInt64()
	if err != nil && !rueidis.IsRedisNil(err) {
		return Position{}, unavailable("measure the log", err)
	}
	if usage <= l.config.RetainBytes {
		return Position{}, nil
	}
	length, err := l.redis.Do(ctx, l.redis.B().Xlen().Key(streamKey()).Build()).AsInt64()
	if err != nil {
		return Position{}, unavailable("measure the log", err)
	}
	// In steps, so that neither the reply nor the trim is long enough for others to notice.
	over := min(int64(float64(length)*(1-float64(l.config.RetainBytes)/float64(usage)))+1, 1000)
	raw, err := l.redis.Do(ctx, l.redis.B().Xrange().Key(streamKey()).Start("-").End("+").Count(over+1).Build()).AsXRangeSlices()
	if err != nil || len(raw) == 0 {
		return Position{}, err
	}
	return ParsePosition(raw[len(raw)-1].ID)
}

func ptr[T any](v T) *T { return &v }
