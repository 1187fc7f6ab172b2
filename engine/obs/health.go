package obs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// checkTimeout bounds every check: probes usually wait one second, and a dependency that needs longer than that
	// for a ping is not there for users either.
	checkTimeout = 900 * time.Millisecond
	// healthMaxAge is for how long one result answers everybody, so that a flood of probes is no load on what is checked.
	healthMaxAge = 500 * time.Millisecond
)

// ErrNotReady means that the node is starting, or draining before it stops.
var ErrNotReady = errors.New("not ready")

// Health knows whether this node should get work: it has said that it is ready, and every check passes. The zero value
// is not ready and has no checks. Any goroutine may call any method; Check runs the checks at the same time.
type Health struct {
	mu     sync.Mutex // guards what follows; not held while checks run
	ready  bool
	checks []check

	running sync.Mutex // held by the one caller of Check that runs the checks
	at      time.Time  // of the last result; guarded by running, as is last
	last    error
}

type check struct {
	name string
	run  func(ctx context.Context) error
}

// CheckError is a check that failed. Its name may be shown to everybody, its cause is for the log.
type CheckError struct {
	Name string
	Err  error
}

// Error names the check and the cause.
func (e *CheckError) Error() string { return fmt.Sprintf("check %s: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *CheckError) Unwrap() error { return e.Err }

// Add adds a check, which must return when its context ends.
func (h *Health) Add(name string, run func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name, run})
}

// SetReady says that the node is ready, or, when it is about to stop, that it no longer is.
func (h *Health) SetReady(ready bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = ready
}

// Check returns nil if the node is ready and every check passes, else ErrNotReady or the join of a *CheckError for each
// check that failed. The checks' part may be half a second old; SetReady counts at once.
func (h *Health) Check(ctx context.Context) error {
	h.mu.Lock()
	ready, checks := h.ready, h.checks[:len(h.checks):len(h.checks)]
	h.mu.Unlock()
	if !ready {
		return ErrNotReady
	}
	h.running.Lock()
	defer h.running.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < healthMaxAge {
		return h.last
	}
	// One caller that goes away must not fail the check for the others who wait for its result.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			if err := c.run(ctx); err != nil {
				errs[i] = &CheckError{c.name, err}
			}
		})
	}
	wg.Wait()
	h.at, h.last = time.Now(), errors.Join(errs...)
	return h.last
}

// failing lists the names of the checks in an error of Check.
func failing(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var names []string
		for _, e := range joined.Unwrap() {
			names = append(names, failing(e)...)
		}
		return names
	}
	if c, ok := errors.AsType[*CheckError](err); ok {
		return []string{c.Name}
	}
	return []string{err.Error()}
}
