package obs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("away")

func TestHealth_IsNotReadyUntilToldSo(t *testing.T) {
	t.Parallel()
	var h Health
	if err := h.Check(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("Check = %v", err)
	}
	h.SetReady(true)
	if err := h.Check(t.Context()); err != nil {
		t.Errorf("Check = %v", err)
	}
	h.SetReady(false) // counts at once, although the result of the checks is young
	if err := h.Check(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("Check = %v", err)
	}
}

func TestHealth_NamesEveryFailingCheck(t *testing.T) {
	t.Parallel()
	var h Health
	h.SetReady(true)
	h.Add("redis", func(context.Context) error { return errAway })
	h.Add("bus", func(context.Context) error { return nil })
	h.Add("postgres", func(context.Context) error { return errAway })
	err := h.Check(t.Context())
	if got := failing(err); len(got) != 2 || got[0] != "redis" || got[1] != "postgres" || !errors.Is(err, errAway) {
		t.Errorf("failing = %v of %v", got, err)
	}
}

func TestHealth_BoundsAndSharesChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h Health
		runs := 0
		h.SetReady(true)
		h.Add("stuck", func(ctx context.Context) error { runs++; <-ctx.Done(); return ctx.Err() })
		begin := time.Now()
		if err := h.Check(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != checkTimeout {
			t.Errorf("Check = %v after %v", err, time.Since(begin))
		}
		_ = h.Check(t.Context())
		if runs != 1 {
			t.Errorf("a young result was not reused: %d runs", runs)
		}
		time.Sleep(healthMaxAge)
		_ = h.Check(t.Context())
		if runs != 2 {
			t.Errorf("an old result was reused: %d runs", runs)
		}
	})
}

func TestHealth_OutlivesTheCallerThatRunsTheChecks(t *testing.T) {
	t.Parallel()
	var h Health
	h.SetReady(true)
	h.Add("redis", func(ctx context.Context) error { return ctx.Err() })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Check(gone); err != nil {
		t.Errorf("Check = %v", err)
	}
}
