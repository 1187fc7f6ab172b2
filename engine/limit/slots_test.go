package limit

import (
	"context"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/fault"
)

func TestSlots_QueueIsBounded(t *testing.T) {
	t.Parallel()
	s := NewSlots(1, time.Hour, 3, metrics.NewSet().NewCounter("refused"))
	release, err := s.Take(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s.waiting.Store(3)
	if _, err := s.Take(context.Background()); !fault.Is(err, fault.Overloaded) {
		t.Errorf("got %v, want 130000 at once", err)
	}
	s.waiting.Store(0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Take(ctx); fault.From(err).Status != 503 {
		t.Errorf("got %v", err)
	}
	release()
}
