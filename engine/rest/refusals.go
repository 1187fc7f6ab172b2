package rest

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// refusalsQuiet is for how long nobody must be refused for an outage to count as over: clients come again within 1 to 5 s.
const refusalsQuiet = 10 * time.Second

// refusals tells the log of an outage in two lines, one at each end, however many requests it refuses. Why, its owner says; here it
// is the first one's cause. Safe for concurrent use.
type refusals struct {
	log *slog.Logger

	mu          sync.Mutex // guards what follows
	count       int        // of this outage; 0 when there is none
	began, last time.Time
}

// add counts a refused request.
func (r *refusals) add(now time.Time, requestID string, err error) {
	r.mu.Lock()
	r.count++
	first := r.count == 1
	if first {
		r.began = now
	}
	r.last = now
	r.mu.Unlock()
	if first {
		r.log.Warn("requests are refused", "request_id", requestID, "err", err)
		return
	}
	r.log.Debug("request refused", "request_id", requestID, "err", err)
}

// settle ends an outage that nobody has noticed for a while.
func (r *refusals) settle(now time.Time) {
	r.mu.Lock()
	count, took := r.count, r.last.Sub(r.began)
	over := count > 0 && now.Sub(r.last) >= refusalsQuiet
	if over {
		r.count = 0
	}
	r.mu.Unlock()
	if over {
		r.log.Info("requests are refused no more", "refused", count, "took", took)
	}
}

// run settles until the server stops.
func (r *refusals) run(ctx context.Context) error {
	tick := time.NewTicker(refusalsQuiet / 5)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			r.settle(now)
		case <-ctx.Done():
			return nil
		}
	}
}
