package presence

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/id"
)

// tailBatch and tailBlock: how many changes one read takes, and how long it waits for the first. A read that waits is not
// ended by its context, so this is also how long a stop takes.
const (
	tailBatch = 256
	tailBlock = 200 * time.Millisecond
)

// last is the end of the stream as it is now: a gateway tells its clients changes and not history.
func (p *Presence) last(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	latest, err := p.redis.Do(ctx, p.redis.B().Xrevrange().Key(changesKey()).End("+").Start("-").Count(1).Build()).AsXRange()
	if err != nil {
		return "", fmt.Errorf("find the end of the presence changes: %w", err)
	}
	if len(latest) == 0 {
		return "0", nil
	}
	return latest[0].ID, nil
}

func (p *Presence) tail(ctx context.Context, from string) error {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		changes, next, err := p.read(ctx, from)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			failedTotal.Inc()
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			slog.Warn("presence changes cannot be read", "err", err, "pause", pause)
			sleep(ctx, pause+rand.N(pause/2))
			continue
		}
		pause = 0
		if next != "" {
			from = next
		}
		if len(changes) > 0 {
			changesTotal.Add(len(changes))
			for _, receive := range p.subscribers {
				receive(ctx, changes)
			}
		}
	}
	return nil
}

func (p *Presence) read(ctx context.Context, from string) (changes []Change, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailBlock+p.cfg.CallTimeout)
	defer cancel()
	cmd := p.redis.B().Xread().Count(tailBatch).Block(tailBlock.Milliseconds()).Streams().Key(changesKey()).Id(from).Build()
	raw, err := p.redis.Do(ctx, cmd).AsXRead()
	if rueidis.IsRedisNil(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read presence changes: %w", err)
	}
	for _, r := range raw[changesKey()] {
		next = r.ID
		user, err := id.Parse(r.FieldValues["user"])
		if err != nil {
			slog.Error("a presence change cannot be read", "entry", r.ID, "err", err)
			continue
		}
		changes = append(changes, Change{User: user, Status: Status(r.FieldValues["status"])})
	}
	return changes, next, nil
}

// sleep waits until d has passed or ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
