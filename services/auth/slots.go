package auth

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/fault"
)

// slots lets few at a time do what takes a core and tens of megabytes. Any goroutine may call it. Who gets no slot within the
// wait is told to come back (503): a queue without a bound would take everybody down with it.
type slots struct {
	free       chan struct{}
	wait       time.Duration
	waitersMax int64 // who comes later than this would not get one in time anyway; each holds a request's memory
	waiting    atomic.Int64
	refused    *metrics.Counter
}

func newSlots(n int, wait time.Duration, waitersMax int64, refused *metrics.Counter) *slots {
	return &slots{free: make(chan struct{}, n), wait: wait, waitersMax: waitersMax, refused: refused}
}

// take waits for a slot; release gives it back.
func (s *slots) take(ctx context.Context) (release func(), err error) {
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

func (s *slots) overloaded() error {
	s.refused.Inc()
	return fault.New(fault.Overloaded)
}
