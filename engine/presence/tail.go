package presence

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// recentMax is how many changes are remembered: as many as the stream keeps at least.
const recentMax = 10_000

// recent are the latest changes, for who was away for a while.
type recent struct {
	mu      sync.Mutex // guards what follows
	changes []dated    // of which the first is the oldest
	floor   int64      // everything that changed behind it is there
}

// dated is a change and when it was made, in ms.
type dated struct {
	Change
	at int64
}

func (r *recent) add(changes ...dated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, changes...)
	if n := len(r.changes) - recentMax; n > 0 {
		r.floor = r.changes[n-1].at
		r.changes = r.changes[n:]
	}
}

// Latest is when the latest change was made that this gateway knows of, in ms by the clock of Redis; 0 when it knows none.
func (p *Presence) Latest() int64 {
	r := &p.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.changes); n > 0 {
		return r.changes[n-1].at
	}
	return r.floor
}

// Since is what others see by now of each user for whom that changed behind a time, as Latest says it. ok is false when not all of those
// changes are known any more.
func (p *Presence) Since(at int64) (statuses map[id.ID]Status, ok bool) {
	r := &p.recent
	r.mu.Lock()
	changes, floor := r.changes, r.floor // what is there is not changed
	r.mu.Unlock()
	if at < floor {
		return nil, false
	}
	statuses = map[id.ID]Status{}
	for i := len(changes) - 1; i >= 0 && changes[i].at > at; i-- {
		if _, known := statuses[changes[i].User]; !known {
			statuses[changes[i].User] = changes[i].Status
		}
	}
	return statuses, true
}

// recall reads the latest changes, and returns the end of the stream as it is now: a gateway tells its clients changes and not history.
func (p *Presence) recall(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	latest, err := p.redis.Do(ctx, p.redis.B().Xrevrange().Key(changesKey()).End("+").Start("-").Count(recentMax).Build()).AsXRange()
	if err != nil {
		return "", fmt.Errorf("read the latest presence changes: %w", err)
	}
	end := "0"
	if len(latest) > 0 {
		end = latest[0].ID
	}
	slices.Reverse(latest)
	changes, err := parse(latest)
	if err != nil {
		return "", err
	}
	floor := int64(0)
	if len(latest) == recentMax && len(changes) > 0 {
		floor = changes[0].at // it may have been one of several
	}
	p.recent.mu.Lock()
	defer p.recent.mu.Unlock()
	p.recent.changes, p.recent.floor = changes, floor
	return end, nil
}

// parse reads entries of the stream, and passes over what cannot be read.
func parse(entries []rueidis.XRangeEntry) (changes []dated, err error) {
	for _, r := range entries {
		ms, _, _ := strings.Cut(r.ID, "-")
		at, err := strconv.ParseInt(ms, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("a presence change has the id %q", r.ID)
		}
		user, err := id.Parse(r.FieldValues["user"])
		if err != nil {
			slog.Error("a presence change cannot be read", "entry", r.ID, "err", err)
			continue
		}
		changes = append(changes, dated{Change{User: user, Status: Status(r.FieldValues["status"])}, at})
	}
	return changes, nil
}

func (p *Presence) tail(ctx context.Context, from string) error {
	pause, failed := time.Duration(0), false
	for ctx.Err() == nil {
		changes, next, err := p.read(ctx, from)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			failedTotal.Inc()
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			if !failed { // said once, and not with every try of an outage
				slog.Warn("presence changes cannot be read and are tried again", "err", err)
			}
			failed = true
			sleep(ctx, pause+rand.N(pause/2))
			continue
		}
		if failed {
			slog.Info("presence changes are read again")
		}
		pause, failed = 0, false
		if next != "" {
			from = next
		}
		if len(changes) > 0 {
			changesTotal.Add(len(changes))
			p.recent.add(changes...)
			news := make([]Change, len(changes))
			for i, c := range changes {
				news[i] = c.Change
			}
			for _, receive := range p.subscribers {
				receive(ctx, news)
			}
		}
	}
	return nil
}

func (p *Presence) read(ctx context.Context, from string) (changes []dated, next string, err error) {
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
	entries := raw[changesKey()]
	if len(entries) > 0 {
		next = entries[len(entries)-1].ID
	}
	changes, err = parse(entries)
	return changes, next, err
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
