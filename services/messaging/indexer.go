package messaging

import (
	"context"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
)

var (
	indexDelay    = metrics.NewPrometheusHistogram(`xcord_search_delay_seconds`)
	indexInserted = metrics.NewCounter(`xcord_search_rows_total{op="insert"}`)
	indexUpdated  = metrics.NewCounter(`xcord_search_rows_total{op="update"}`)
	indexDeleted  = metrics.NewCounter(`xcord_search_rows_total{op="delete"}`)
)

// indexer brings the log into the index that is searched, as the writer does into the rows and by the same rules: one process at a time,
// batch after batch, each with the checkpoint in its transaction; what comes again changes nothing. What cannot be indexed is left out:
// the message is there all the same, and only not found.
type indexer struct {
	store   store
	timeout time.Duration // of a batch
	lease   time.Duration // how long who leads may stand still
	held    *lead         // nil: this process does not lead
}

// group is how the bus works for the indexer.
func (x *indexer) group(batch int) bus.GroupConfig {
	return bus.GroupConfig{
		Name: searchGroup, Lead: x.lead, Handle: x.index, IsData: isData, Batch: batch, Pass: x.pass, LeavesOut: true,
		Checkpoint: func(ctx context.Context) (bus.Position, error) { return x.store.checkpointOf(ctx, searchGroup) },
	}
}

// lead waits for the lead and takes it.
func (x *indexer) lead(ctx context.Context) (release func(), err error) {
	held, err := x.store.takeLead(ctx, indexing, x.lease)
	if err != nil {
		return nil, err
	}
	x.held = held
	return func() {
		held.end()
		x.held = nil
	}, nil
}

// index indexes a batch, all or nothing.
func (x *indexer) index(ctx context.Context, entries []bus.Entry) error {
	b, err := fold(entries)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.timeout) // as the writer's, it is finished while the process stops
	defer cancel()
	done, err := x.held.index(ctx, b)
	if err != nil {
		return err
	}
	indexDelay.Update(max(0, time.Since(time.UnixMilli(int64(b.first.Ms))).Seconds()))
	indexInserted.Add(int(done.inserted))
	indexUpdated.Add(int(done.updated))
	indexDeleted.Add(int(done.deleted))
	return nil
}

// pass moves the checkpoint past entries that were left out.
func (x *indexer) pass(ctx context.Context, to bus.Position) error {
	if !x.held.mark.Less(to) {
		return nil
	}
	_, err := x.held.index(ctx, &batch{first: to, last: to})
	return err
}
