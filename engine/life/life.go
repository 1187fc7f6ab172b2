// Package life is how things of the house live: they start in order, stop in reverse, and a dead loop stops the node
// rather than limping on. It does not handle signals, retry a failed start or restart a dead loop.
//
// A service usually looks like this:
//
//	type Thing struct {
//		on    life.Switch
//		loops life.Loops
//	}
//
//	func (t *Thing) Start(ctx context.Context) error {
//		return t.on.Start(func() error {
//			if err := t.open(ctx); err != nil {
//				return fmt.Errorf("open thing: %w", err)
//			}
//			t.loops.Go("thing", t.run) // run(ctx) returns when ctx ends
//			return nil
//		})
//	}
//
//	func (t *Thing) Stop()                { t.on.Stop(func() { t.loops.Stop(); t.close() }) }
//	func (t *Thing) Failed() <-chan error { return t.loops.Failed() }
//
// and its tests call lifetest.Stress.
package life

import (
	"context"
	"sync"
)

// Service is something with a life.
//
// Start returns when the service is ready, or with an error after undoing what it had begun; ctx bounds the start only,
// not the life. Starting what runs is a no-op. Stop blocks until everything has ended; twice is fine, without Start is
// fine, and afterwards Start works again. Both may be called by any goroutine at any time. A service whose work can die
// also has Failed() <-chan error, which Group watches.
type Service interface {
	Start(ctx context.Context) error
	Stop()
}

// Switch makes Start and Stop of a service idempotent and never concurrent. The zero value is off.
type Switch struct {
	mu sync.Mutex // held while start or stop runs, so that a Stop during a Start waits for it
	on bool
}

// Start runs start unless the switch is on, and turns it on if start succeeds. A start that fails must clean up.
func (s *Switch) Start(start func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on {
		return nil
	}
	if err := start(); err != nil {
		return err
	}
	s.on = true
	return nil
}

// Stop turns the switch off and runs stop, unless it is off already.
func (s *Switch) Stop(stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on {
		return
	}
	s.on = false
	stop()
}

// fuse holds the first failure until somebody reads it. The zero value is ready; the channel is the same for its whole
// life and is never closed.
type fuse struct {
	once sync.Once
	ch   chan error
}

func (f *fuse) failed() chan error {
	f.once.Do(func() { f.ch = make(chan error, 1) })
	return f.ch
}

// blow keeps the first error and drops the following ones: they are usually its consequences.
func (f *fuse) blow(err error) {
	select {
	case f.failed() <- err:
	default:
	}
}

// reset forgets a failure that nobody has read.
func (f *fuse) reset() {
	select {
	case <-f.failed():
	default:
	}
}
