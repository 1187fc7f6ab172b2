package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/resume"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/services/auth"
	"github.com/xcord/xcord/services/guilds"
	"github.com/xcord/xcord/services/messaging"
)

const (
	// keepEvery is how often the log is looked at, which takes Redis some microseconds.
	keepEvery = time.Second
	// keepAgain is when it is looked at again after that failed.
	keepAgain = 100 * time.Millisecond
	// verifyEvery is how often Redis is asked for its settings without a reason: somebody may change them while it runs.
	verifyEvery = 10 * time.Second
	// callTimeout bounds what a look asks of Redis, and of Postgres.
	callTimeout = 2 * time.Second
)

// sources are whose rows the read model is made of.
var sources = []roster.Source{auth.Source, guilds.Source, reads.Source}

// keeper sees to it that what stands behind a 2xx is what was promised: that Redis has the settings of the durability mode, knows our
// functions, and has a log that has lost nothing since. What has lost something gets a new epoch, with a read model made from
// Postgres. It looks at the start, every second, and before the first write over a new connection is acknowledged: behind that may be
// another Redis than before. Every process has one; that only one of them acts is for roster.Rebuild to see to.
type keeper struct {
	mode     redis.Durability
	adminURL string
	bus      *bus.Log
	redis    redis.Client
	volatile redis.Client // nil when it is the same
	pool     *postgres.Pool

	on    life.Switch
	loops life.Loops
	kick  chan struct{} // has one element when somebody waits for a look
	dials atomic.Int64  // connections so far

	mu      sync.Mutex // guards what follows
	checked int64      // dials when the last look began that came to an end
	verdict error      // of that look: why nothing can be promised
	changed chan struct{}

	// The loop's own.
	admin    redis.Client
	runID    string    // of the Redis that was looked at
	verified time.Time // when its settings were right
	behind   int64     // dials by then
	owes     bool      // the log has not been held against Postgres yet
	failed   bool      // that it cannot be looked at was said
}

func newKeeper(mode redis.Durability) *keeper {
	return &keeper{mode: mode, kick: make(chan struct{}, 1), changed: make(chan struct{}), owes: true}
}

// dialed is told of every new connection to Redis.
func (k *keeper) dialed() { k.dials.Add(1) }

// assured answers why nothing can be promised at present, or nil. Of a connection that has not been looked behind it waits for that.
func (k *keeper) assured(ctx context.Context) error {
	for {
		k.mu.Lock()
		checked, verdict, changed := k.checked, k.verdict, k.changed
		k.mu.Unlock()
		if checked >= k.dials.Load() {
			return verdict
		}
		select {
		case k.kick <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("redis has come back, and has not been checked: %w", ctx.Err())
		}
	}
}

// Start returns when there is a sound log, and refuses a Redis that does not keep the mode.
func (k *keeper) Start(ctx context.Context) error {
	return k.on.Start(func() (err error) {
		if k.admin, err = redis.Open(ctx, redis.Config{URL: k.adminURL, Name: "xcord-admin"}); err != nil {
			return err
		}
		if k.mode == redis.D0 {
			slog.Warn("durability D0: a crash may lose up to 2 s of acknowledged messages")
		}
		if err := k.load(ctx); err != nil {
			k.admin.Close()
			return err
		}
		for {
			err := k.look(ctx)
			var unkept *redis.Unkept
			if err == nil {
				break
			}
			if errors.As(err, &unkept) || !wait(ctx, keepAgain) {
				k.admin.Close()
				return err
			}
		}
		k.loops.Go("keeper", k.run)
		return nil
	})
}

// Stop ends the watch.
func (k *keeper) Stop() {
	k.on.Stop(func() {
		k.loops.Stop()
		k.admin.Close()
	})
}

// Failed reports a watch that ended by itself.
func (k *keeper) Failed() <-chan error { return k.loops.Failed() }

func (k *keeper) run(ctx context.Context) error {
	for {
		pause := keepEvery
		if k.look(ctx) != nil {
			pause = keepAgain
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		case <-k.kick:
			t.Stop()
			if pause == keepAgain && !wait(ctx, keepAgain) {
				return nil
			}
		}
	}
}

// look looks once, and mends what it can. An error is a Redis that cannot be asked, or what it cannot mend.
func (k *keeper) look(ctx context.Context) error {
	dials := k.dials.Load()
	err := k.verify(ctx, dials)
	if err == nil {
		err = k.mend(ctx)
	}
	var unkept *redis.Unkept
	final := err == nil || errors.As(err, &unkept) || errors.Is(err, errLost)
	if err != nil && ctx.Err() == nil && !k.failed {
		slog.Error("redis does not keep what is promised, or cannot be asked; no write is acknowledged meanwhile", "err", err)
	}
	if err == nil && k.failed {
		slog.Info("redis keeps what is promised")
	}
	k.failed = err != nil
	if !final {
		return err // an outage: every write will see for itself
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.checked, k.verdict = dials, err
	close(k.changed)
	k.changed = make(chan struct{})
	return err
}

// verify holds the settings of Redis against the mode, when there are new connections or some time has passed.
func (k *keeper) verify(ctx context.Context, dials int64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, err := redis.RunID(ctx, k.redis)
	if err != nil {
		return err
	}
	if id != k.runID {
		k.runID, k.owes, k.verified = id, true, time.Time{}
	}
	if dials == k.behind && time.Since(k.verified) < verifyEvery {
		return nil
	}
	k.verified = time.Time{} // until it is known that they are right
	if err := redis.Verify(ctx, k.admin, k.mode); err != nil {
		return err
	}
	k.verified, k.behind = time.Now(), dials
	return nil
}

// errLost: there is a log, but not what it had.
var errLost = errors.New("the log has lost what it had")

// mend begins a new epoch when the log is not what this process, or Postgres, knows of it.
func (k *keeper) mend(ctx context.Context) error {
	seen := k.bus.Seen()
	state, err := k.bus.Check(ctx, seen)
	if bus.IsUnprepared(err) {
		if err = k.load(ctx); err == nil {
			state, err = k.bus.Check(ctx, seen)
		}
	}
	if err != nil {
		return err
	}
	lost := state.Torn(0, seen)
	if !lost && !k.owes {
		return nil
	}
	mark, err := k.mark(ctx)
	if err != nil && !lost {
		return nil // without Postgres messages go on; the log is held against it when it is back
	}
	if err == nil && !lost {
		if state, err = k.bus.Check(ctx, mark); err == nil {
			lost = state.Torn(0, mark)
		}
	}
	if err != nil {
		return errors.Join(errLost, err)
	}
	if lost {
		err = k.rebuild(ctx, state, mark, seen)
	}
	k.owes = err != nil
	return err
}

// mark is the last entry of which Postgres has the effect.
func (k *keeper) mark(ctx context.Context) (bus.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return messaging.Committed(ctx, k.pool)
}

// rebuildTimeout is for the rows of a large installation.
const rebuildTimeout = 5 * time.Minute

func (k *keeper) rebuild(ctx context.Context, state bus.State, mark, seen bus.Position) error {
	if !mark.IsZero() || !seen.IsZero() {
		slog.Error("the log has lost what it had", "open", state.Open, "epoch", state.Epoch, "first", state.First.String(),
			"last", state.Last.String(), "stored", mark.String(), "seen", seen.String())
	}
	ctx, cancel := context.WithTimeout(ctx, rebuildTimeout)
	defer cancel()
	// Ids never go back, whatever the clock says. A second is more than the log runs ahead of it.
	least := max(uint64(time.Now().UnixMilli()), mark.Ms+1000, seen.Ms+1000)
	err := roster.Rebuild(ctx, k.bus, k.pool, roster.Rebuilding{Epoch: state.Epoch, Least: least, IsNew: mark.IsZero() && seen.IsZero()}, sources)
	if err != nil {
		return errors.Join(errLost, err)
	}
	return nil
}

// load loads all functions.
func (k *keeper) load(ctx context.Context) error {
	if err := bus.Load(ctx, k.admin); err != nil {
		return err
	}
	volatile := k.volatile
	if volatile == nil {
		volatile = k.admin
	}
	if err := presence.Install(ctx, volatile); err != nil {
		return err
	}
	if err := limit.Install(ctx, volatile); err != nil {
		return err
	}
	return resume.Install(ctx, volatile)
}

// wait says whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
