// Package lifetest puts a life.Service under the one test that every service must pass. It is for tests only and does
// not look at what the service does between Start and Stop.
package lifetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/life"
)

const (
	// Four goroutines are enough to make Start meet Start, Start meet Stop and Stop meet Stop under -race, and ten
	// cycles stay affordable for a service that opens a database.
	goroutines = 4
	cycles     = 10
	// startTimeout bounds one Start, so that a service which waits for something that never comes fails by name.
	startTimeout = 30 * time.Second
)

// Stress checks what life.Service promises: Stop without Start, Stop twice, Start twice, a start after a stop, a start
// with a context that has ended, and all of them at the same time. It makes two services, one for the sequential part
// and one for the concurrent part; make registers its own clean-up of what it gives them.
func Stress(t *testing.T, make func() life.Service) {
	t.Helper()
	one := make()
	one.Stop()
	start(t, one)
	start(t, one)
	one.Stop()
	one.Stop()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = one.Start(ended) // may fail or not; either way the service must be usable afterwards
	one.Stop()
	start(t, one)
	one.Stop()

	many := make()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range cycles {
				start(t, many)
				many.Stop()
			}
		})
	}
	wg.Wait()
	many.Stop()
}

func start(t *testing.T, s life.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Errorf("Start: %v", err)
	}
}
