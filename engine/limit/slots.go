package limit

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/fault"
)

// Slots lets few at a time do what takes a core and tens of megabytes. Any goroutine may call it. Who gets no slot within the
// wait is told to come back (503): a queue without a bound would take everybody down with it.
type Slots struct {
	free       chan struct{}
	wait       time.Duration
	waitersMax int64 // who comes later than this would not get one in time anyway; each holds a request's memory
	waiting    atomic.Int64
	refused    *metrics.Counter
}

// NewSlots makes n slots. Who gets none is counted in refused.
func NewSlots(n int, wait time.Duration, waitersMax int64, refused *metrics.Counter) *Slots {
	return &Slots{free: make(chan struct{}, n), wait: wait, waitersMax: waitersMax, refused: refused}
}

// Take waits for a slot; release gives it back.
func (s *Slots) Take(ctx context.Context) (release func(), err error) {
	release = func() { <-s.free }
	select {
	case s.free <- struct{}{}:
		return release, nil
	default:
	}
	if s.waiting.Add(1) > s.waitersMax {
		s.waiting.Add(-1)
		return nil, s.overloaded()
	}
	defer s.waiting.Add(-1)
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case s.free <- struct{}{}:
		return release, nil
	case <-timer.C:
		return nil, s.overloaded()
	case <-ctx.Done():
		return nil, fault.Unavailable(ctx.Err(), 0)
	}
}

// Waiting is how many wait for a slot.
func (s *Slots) Waiting() int { return int(s.waiting.Load()) }

func (s *Slots) overloaded() error {
	s.refused.Inc()
	return fault.New(fault.Overloaded)
}
