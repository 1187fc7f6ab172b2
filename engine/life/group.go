package life

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Group is a Service made of services: it starts them in the order in which they were added, stops them in reverse, and
// fails when one of them fails. The zero value is ready.
type Group struct {
	// Log gets one Info line for every start and stop, with the time it took. Nil means silence.
	Log *slog.Logger

	on       Switch
	members  []member // only Add changes it, before Start
	watchers Loops
	fuse     fuse
}

type member struct {
	name    string
	service Service
}

// Add appends a service. All calls of Add come before Start, from one goroutine.
func (g *Group) Add(name string, s Service) {
	if s == nil {
		panic("BUG: life.Group.Add: service " + name + " is nil")
	}
	g.members = append(g.members, member{name, s})
}

// Start starts one service after the other. If one fails, those before it are stopped and the error names it.
func (g *Group) Start(ctx context.Context) error {
	return g.on.Start(func() error {
		for i, m := range g.members {
			begin := time.Now()
			if err := m.service.Start(ctx); err != nil {
				g.stop(i)
				return fmt.Errorf("start %s: %w", m.name, err)
			}
			g.watch(m)
			g.log("service started", m.name, begin)
		}
		return nil
	})
}

// Stop stops the services in reverse order. It waits for a Start that is under way: to hurry, end that Start's context.
func (g *Group) Stop() { g.on.Stop(func() { g.stop(len(g.members)) }) }

// Failed delivers the first failure of a started service, once: it is for one reader. It is never closed.
func (g *Group) Failed() <-chan error { return g.fuse.failed() }

// stop ends the watchers first: what dies while everything is being stopped is no news.
func (g *Group) stop(started int) {
	g.watchers.Stop()
	for i := started - 1; i >= 0; i-- {
		begin := time.Now()
		g.members[i].service.Stop()
		g.log("service stopped", g.members[i].name, begin)
	}
	g.fuse.reset()
}

func (g *Group) watch(m member) {
	mortal, ok := m.service.(interface{ Failed() <-chan error })
	if !ok {
		return
	}
	g.watchers.Go("watch "+m.name, func(ctx context.Context) error {
		select {
		case err := <-mortal.Failed():
			g.fuse.blow(fmt.Errorf("%s failed: %w", m.name, err))
		case <-ctx.Done():
		}
		return nil
	})
}

func (g *Group) log(message, name string, begin time.Time) {
	if g.Log != nil {
		g.Log.Debug(message, "service", name, "took", time.Since(begin))
	}
}
