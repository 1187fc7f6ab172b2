package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

var (
	filesCollected = metrics.NewCounter(`xcord_messaging_attachments_total{op="collect"}`)
	filesOrphaned  = metrics.NewCounter(`xcord_messaging_attachments_total{op="orphan"}`)
	collectErrors  = metrics.NewCounter(`xcord_messaging_collect_errors_total`)
)

const (
	// collectSlice is how many files are gone through at once, and deletesAtOnce of them side by side.
	collectSlice  = 200
	deletesAtOnce = 4
	// markWait is how long the collector waits for the writer, and a purge for the index; they come again anyway.
	markWait = 10 * time.Second
	// lettersMax is among how many dead letters orphans are looked for. With more of them nothing is an orphan until somebody has come.
	lettersMax = 10_000
)

// collector deletes the files that no message has any more, or never had. Every process may run one at the same time.
//
// A file that has no message may have one in a moment: an entry that names it may be on its way, in the log, or a dead letter. So it is
// made void first, and whatever entry then names it is refused. Behind that the log is read to its end as it is then, by waiting for the
// writer; what is still without a message, and in no dead letter, is an orphan for certain.
type collector struct {
	s     *Service
	after id.ID // of the orphans: where the next slice begins
}

func (s *Service) collectLoop(ctx context.Context) error {
	c := &collector{s: s}
	for {
		t := time.NewTimer(s.config.CollectEvery/2 + rand.N(s.config.CollectEvery))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		if err := c.round(ctx); err != nil && ctx.Err() == nil {
			collectErrors.Inc()
			slog.Warn("files that nobody needs stay for now", "err", err)
		}
	}
}

// round goes through what there is to do, in slices.
func (c *collector) round(ctx context.Context) error {
	for more := true; more; {
		var err error
		if _, more, err = c.s.store.sweep(ctx, collectSlice); err != nil {
			return err
		}
	}
	if err := c.orphans(ctx); err != nil {
		return err
	}
	for n := collectSlice; n == collectSlice; {
		var err error
		if n, err = c.collect(ctx); err != nil {
			return err
		}
	}
	used, err := c.s.store.used(ctx)
	if err == nil {
		c.s.fileBytes.Store(used)
	}
	return err
}

// collect deletes a slice of released files.
func (c *collector) collect(ctx context.Context) (n int, err error) {
	released, err := c.s.store.released(ctx, collectSlice)
	if err != nil || len(released) == 0 {
		return 0, err
	}
	ids := make([]int64, len(released))
	g, deleteCtx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for i, f := range released {
		ids[i] = int64(f.id)
		g.Go(func() error { return c.s.files.Delete(deleteCtx, f.key) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	if err := c.s.store.forget(ctx, ids); err != nil {
		return 0, err
	}
	filesCollected.Add(len(ids))
	return len(ids), nil
}

// orphans releases a slice of the files that no message will ever have.
func (c *collector) orphans(ctx context.Context) error {
	pending, err := c.s.store.pending(ctx, c.after, c.s.config.OrphanAge, collectSlice)
	if err != nil {
		return err
	}
	c.after = 0 // from the first again
	if len(pending) == 0 {
		return nil
	}
	if len(pending) == collectSlice {
		c.after = pending[len(pending)-1]
	}
	if err := c.s.log.Void(ctx, pending...); err != nil {
		return err
	}
	last, err := c.s.log.Last(ctx)
	if err != nil {
		return err
	}
	if err := c.s.passed(ctx, groupName, last); err != nil {
		return err
	}
	dead, err := c.dead(ctx)
	if err != nil {
		return err
	}
	var ids []int64
	for _, a := range pending {
		if !dead[int64(a)] {
			ids = append(ids, int64(a))
		}
	}
	n, err := c.s.store.release(ctx, ids)
	filesOrphaned.Add(int(n))
	return err
}

// passed waits until a group has come to a place in the log.
func (s *Service) passed(ctx context.Context, group string, at bus.Position) error {
	ctx, cancel := context.WithTimeout(ctx, markWait)
	defer cancel()
	tick := time.NewTicker(s.config.PruneEvery)
	defer tick.Stop()
	for {
		mark, err := s.store.checkpointOf(ctx, group)
		if err != nil || !mark.Less(at) {
			return err
		}
		select {
		case <-ctx.Done():
			return fault.Unavailable(fmt.Errorf("group %s is behind", group), 0)
		case <-tick.C:
		}
	}
}

// dead are the files of messages that wait as dead letters.
func (c *collector) dead(ctx context.Context) (map[int64]bool, error) {
	n, _, err := c.s.graves.state(ctx)
	if err != nil || n == 0 {
		return nil, err
	}
	if n > lettersMax {
		return nil, fault.Unavailable(errors.New("too many dead letters to look for files in"), 0)
	}
	letters, err := c.s.graves.dead.Latest(ctx, lettersMax)
	if err != nil {
		return nil, err
	}
	in := map[int64]bool{}
	for l := range slices.Values(letters) {
		body, err := bodyOf(l.Entry.Pos, l.Entry.Body)
		if err != nil {
			continue // it has no message
		}
		for _, f := range filesIn(string(body)) {
			in[f] = true
		}
	}
	return in, nil
}
