package life_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

// thing is a service with one loop, as the package doc recommends it.
type thing struct {
	on     life.Switch
	loops  life.Loops
	alive  atomic.Int64 // loops that run right now
	fail   chan error   // what the loop returns
	refuse error        // what Start returns
	note   func(string)
	name   string
}

func (t *thing) Start(context.Context) error {
	return t.on.Start(func() error {
		if t.refuse != nil {
			return t.refuse
		}
		if t.note != nil {
			t.note("start " + t.name)
		}
		t.loops.Go(t.name, func(ctx context.Context) error {
			t.alive.Add(1)
			defer t.alive.Add(-1)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-t.fail:
				return err
			}
		})
		return nil
	})
}

func (t *thing) Stop() {
	t.on.Stop(func() {
		t.loops.Stop()
		if t.note != nil {
			t.note("stop " + t.name)
		}
	})
}

func (t *thing) Failed() <-chan error { return t.loops.Failed() }

func TestSwitch_And_Loops_PassStress(t *testing.T) {
	t.Parallel()
	lifetest.Stress(t, func() life.Service { return &thing{name: "a"} })
}

func TestGroup_PassesStress(t *testing.T) {
	t.Parallel()
	lifetest.Stress(t, func() life.Service {
		g := &life.Group{}
		g.Add("a", &thing{name: "a"})
		g.Add("b", &thing{name: "b"})
		return g
	})
}

func TestLoops_StopBlocksUntilEveryLoopHasReturned(t *testing.T) {
	t.Parallel()
	var loops life.Loops
	var ended atomic.Int64
	for range 8 {
		loops.Go("slow", func(ctx context.Context) error {
			<-ctx.Done()
			loops.Go("late", func(ctx context.Context) error {
				<-ctx.Done() // a loop started during Stop has a context that has ended
				ended.Add(1)
				return nil
			})
			ended.Add(1)
			return errBoom // after the end of its context, so of no interest
		})
	}
	loops.Stop()
	if got := ended.Load(); got != 16 {
		t.Errorf("%d of 16 loops had ended when Stop returned", got)
	}
	select {
	case err := <-loops.Failed():
		t.Errorf("Failed = %v after a clean Stop", err)
	default:
	}
}

func TestLoops_ReportTheFirstFailure(t *testing.T) {
	t.Parallel()
	var loops life.Loops
	defer loops.Stop()
	failed := loops.Failed() // works before the first Go
	loops.Go("pump", func(context.Context) error { return errBoom })
	if err := <-failed; !errors.Is(err, errBoom) || err.Error() != "loop pump: boom" {
		t.Errorf("Failed = %v", err)
	}
}

func TestLoops_ReportAPanicAsABug(t *testing.T) {
	t.Parallel()
	var loops life.Loops
	defer loops.Stop()
	loops.Go("pump", func(context.Context) error { panic("index 7") })
	err := <-loops.Failed()
	if !strings.HasPrefix(err.Error(), "loop pump: BUG: panic: index 7\n") || !strings.Contains(err.Error(), "life_test.go") {
		t.Errorf("Failed = %v, want the loop, BUG, the value and the stack", err)
	}
}

func TestLoops_ForgetFailuresOfTheLastRound(t *testing.T) {
	t.Parallel()
	var loops life.Loops
	var wg sync.WaitGroup
	wg.Add(1)
	loops.Go("old", func(context.Context) error { defer wg.Done(); return errBoom })
	wg.Wait()
	loops.Stop()
	loops.Go("new", func(ctx context.Context) error { <-ctx.Done(); return nil })
	select {
	case err := <-loops.Failed():
		t.Errorf("Failed = %v, a failure from before Stop", err)
	default:
	}
	loops.Stop()
}

func TestLoops_EndingEarlyWithoutErrorIsNoFailure(t *testing.T) {
	t.Parallel()
	var loops life.Loops
	done := make(chan struct{})
	loops.Go("finite", func(context.Context) error { defer close(done); return nil })
	<-done
	loops.Stop()
	loops.Stop()
}

func TestGroup_StartsInOrderAndStopsInReverse(t *testing.T) {
	t.Parallel()
	var notes []string
	note := func(s string) { notes = append(notes, s) }
	var g life.Group
	for _, name := range []string{"a", "b", "c"} {
		g.Add(name, &thing{name: name, note: note})
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	want := []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Error(diff)
	}
}

func TestGroup_UndoesAStartThatFails(t *testing.T) {
	t.Parallel()
	var notes []string
	note := func(s string) { notes = append(notes, s) }
	var g life.Group
	a, b := &thing{name: "a", note: note}, &thing{name: "b", note: note}
	g.Add("a", a)
	g.Add("b", b)
	g.Add("c", &thing{name: "c", refuse: errBoom})
	g.Add("d", &thing{name: "d", note: note})
	err := g.Start(t.Context())
	if !errors.Is(err, errBoom) || err.Error() != "start c: boom" {
		t.Errorf("Start = %v", err)
	}
	want := []string{"start a", "start b", "stop b", "stop a"}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Error(diff)
	}
	if n := a.alive.Load() + b.alive.Load(); n != 0 {
		t.Errorf("%d loops are still alive", n)
	}
	g.Stop()
}

func TestGroup_FailsWhenAMemberFails(t *testing.T) {
	t.Parallel()
	var g life.Group
	dying := &thing{name: "loop", fail: make(chan error)}
	g.Add("redis", &thing{name: "x"})
	g.Add("tail", dying)
	for range 2 { // a failed group can be stopped and started again
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		dying.fail <- errBoom
		if err := <-g.Failed(); !errors.Is(err, errBoom) || err.Error() != "tail failed: loop loop: boom" {
			t.Errorf("Failed = %v", err)
		}
		g.Stop()
	}
}
