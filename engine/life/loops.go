package life

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
)

// Loops runs goroutines that all end in Stop. The zero value is ready, and after Stop it can be used again. A loop that
// returns an error or panics before Stop is reported on Failed; the other loops go on until Stop.
//
// Any goroutine may call any method. Loops started by Go while Stop waits (by a loop, say) get a context that has ended
// and are waited for too; who may start and stop concurrently puts both behind a Switch.
type Loops struct {
	mu    sync.Mutex // guards round
	round *round     // nil: nothing has been started since the last Stop
	fuse  fuse
}

// round is everything between the first Go and the end of Stop.
type round struct {
	ctx      context.Context
	cancel   context.CancelFunc
	running  int
	stopping bool
	idle     chan struct{} // closed when stopping and running == 0
}

// Go starts run, whose context ends with Stop. Returning nil early is fine: the work was finite. What is returned after
// the context has ended does not matter.
func (l *Loops) Go(name string, run func(ctx context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.round == nil {
		ctx, cancel := context.WithCancel(context.Background())
		l.round = &round{ctx: ctx, cancel: cancel, idle: make(chan struct{})}
	}
	r := l.round
	r.running++
	go func() {
		defer l.end(r)
		if err := guard(r.ctx, name, run); err != nil {
			l.fuse.blow(err)
		}
	}()
}

// Stop ends the context of all loops and blocks until they have returned. A loop must not call it: it would wait for
// itself.
func (l *Loops) Stop() {
	l.mu.Lock()
	r := l.round
	if r == nil {
		l.mu.Unlock()
		return
	}
	if !r.stopping {
		r.stopping = true
		r.cancel()
		if r.running == 0 {
			l.finish(r)
		}
	}
	l.mu.Unlock()
	<-r.idle
}

// Failed delivers the first failure since the last Stop, once: it is for one reader. It is never closed.
func (l *Loops) Failed() <-chan error { return l.fuse.failed() }

func (l *Loops) end(r *round) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.running--
	if r.stopping && r.running == 0 {
		l.finish(r)
	}
}

// finish is called with mu held. The fuse is reset here, and not after <-idle, so that a slow second caller of Stop
// cannot swallow a failure of the next round.
func (l *Loops) finish(r *round) {
	l.round = nil
	l.fuse.reset()
	close(r.idle)
}

// guard runs one loop and returns why it died, or nil if it ended as it should.
func guard(ctx context.Context, name string, run func(ctx context.Context) error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		err = fmt.Errorf("loop %s: BUG: panic: %v\n%s", name, p, debug.Stack())
		if ctx.Err() != nil {
			// Stop has begun, so nobody reads Failed any more; a bug must not vanish for that.
			slog.Error("loop panicked while stopping", "loop", name, "err", err)
			err = nil
		}
	}()
	err = run(ctx)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("loop %s: %w", name, err)
}
