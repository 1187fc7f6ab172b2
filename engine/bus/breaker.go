package bus

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"
	"github.com/sony/gobreaker/v2"
)

var refusedAway = metrics.NewCounter(`xcord_bus_refused_total{cause="away"}`)

const (
	// breakerFailures one after the other open the breaker: a Redis that is gone answers that many within milliseconds, and
	// one that hangs costs each of them the call timeout.
	breakerFailures = 5
	// breakerProbe is how long it stays open until one command tries again.
	breakerProbe = time.Second
)

// errAway is what a command gets while the breaker is open; Redis was not asked.
var errAway = errors.New("the log is away, and is asked again once a second")

// breaker keeps commands from waiting for a Redis that does not answer. Safe for concurrent use.
type breaker struct {
	circuit *gobreaker.TwoStepCircuitBreaker[any]
	failed  atomic.Int64 // when the last failure was counted, in nanoseconds
}

func newBreaker() *breaker {
	var opened time.Time // these two are used under the circuit's lock only
	var before uint64
	return &breaker{circuit: gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Timeout:      breakerProbe,
		MaxRequests:  1,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
		IsSuccessful: func(err error) bool { return !isOutage(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, errNoSign) },
		// An outage is said once at each end, however many are refused in it.
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed:
				opened, before = time.Now(), refusedAway.Get()
				slog.Warn("the log is away: what needs it is refused")
			case to == gobreaker.StateClosed:
				slog.Info("the log is back", "after", time.Since(opened), "refused", refusedAway.Get()-before)
			}
		},
	})}
}

// errNoSign marks a failure that says nothing about Redis.
var errNoSign = errors.New("no sign of an outage")

// do runs a command of at most timeout, unless the breaker is open; then it answers errAway at once.
func (b *breaker) do(ctx context.Context, timeout time.Duration, command func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	done, err := b.circuit.Allow()
	if err != nil {
		refusedAway.Inc()
		return errAway
	}
	began := time.Now()
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = command(call)
	switch {
	case !isOutage(err):
		done(nil)
	case ctx.Err() != nil || !b.fails(began):
		done(errNoSign)
	default:
		done(err)
	}
	return err
}

// fails says whether a failed command that began then is a failure of its own: a connection that was lost with many commands on it is
// one together.
func (b *breaker) fails(began time.Time) bool {
	last := b.failed.Load()
	return last < began.UnixNano() && b.failed.CompareAndSwap(last, time.Now().UnixNano())
}

// isOutage says that Redis did not serve a command: no answer came, or one that everybody gets.
func isOutage(err error) bool {
	if err == nil || rueidis.IsRedisNil(err) {
		return false
	}
	reply, ok := rueidis.IsRedisErr(err)
	if !ok {
		return true
	}
	for _, prefix := range []string{"LOADING ", "BUSY ", "MISCONF ", "MASTERDOWN ", "CLUSTERDOWN "} {
		if strings.HasPrefix(reply.Error(), prefix) {
			return true
		}
	}
	return false
}

// retryAfter is 1 to 5 s, so that those who are refused together do not come back together.
func retryAfter() time.Duration { return time.Second + rand.N(4*time.Second) }
