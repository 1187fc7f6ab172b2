package bus

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

func TestLevel_ChangesAtWatermarksAndDoesNotFlap(t *testing.T) {
	t.Parallel()
	level := LevelCalm
	for _, step := range []struct {
		share float64
		want  Level
	}{
		{0.59, LevelCalm}, {0.60, LevelShort}, {0.56, LevelShort}, {0.59, LevelShort}, {0.75, LevelTight}, {0.74, LevelTight},
		{0.71, LevelTight}, {0.84, LevelTight}, {0.85, LevelFull}, {0.81, LevelFull}, {0.84, LevelFull}, {0.79, LevelTight},
		{0.69, LevelShort}, {0.54, LevelCalm}, {1.10, LevelFull}, {0.10, LevelCalm},
	} {
		if level = level.next(step.share); level != step.want {
			t.Fatalf("at %.2f the level is %d, want %d", step.share, level, step.want)
		}
	}
}

// limit sets maxmemory such that what is used now is that share of it.
func (b bundle) limit(t *testing.T, share float64) {
	t.Helper()
	used, _, err := b.log.memory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.limitBytes(t, int64(float64(used)/share))
}

func (b bundle) limitBytes(t *testing.T, bytes int64) {
	t.Helper()
	admin := connect(t, b.server.AdminURL())
	set := admin.B().ConfigSet().ParameterValue().ParameterValue("maxmemory", strconv.FormatInt(bytes, 10)).Build()
	if err := admin.Do(t.Context(), set).Error(); err != nil {
		t.Fatal(err)
	}
}

func (b bundle) measure(t *testing.T, want Level) {
	t.Helper()
	if err := b.log.Measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.log.Level(); got != want {
		t.Fatalf("the level is %d, want %d: %+v", got, want, b.log.pressure.sample.Load())
	}
}

// fill publishes entries of 10 KB until the log has about that many bytes.
func (b bundle) fill(t *testing.T, bytes int) {
	t.Helper()
	p := post(1, strings.Repeat("x", 10<<10))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range bytes / (10 << 10) / 8 {
				if _, err := b.log.Publish(t.Context(), p); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func status(err error) (int, time.Duration) {
	if err == nil {
		return 200, 0
	}
	f := fault.From(err)
	return f.Status, f.RetryAfter
}

func TestPressure_RefusesStepByStep(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.fill(t, 4<<20)
	big := post(1, "many read this")
	big.Big = true
	for _, step := range []struct {
		share              float64
		level              Level
		small, big, before int
	}{
		{0.30, LevelCalm, 200, 200, 200},
		{0.65, LevelShort, 200, 200, 200},
		{0.78, LevelTight, 200, 429, 200},
		{0.90, LevelFull, 503, 503, 503},
		{0.72, LevelTight, 200, 429, 200},
		{0.30, LevelCalm, 200, 200, 200},
	} {
		b.limit(t, step.share)
		b.measure(t, step.level)
		for name, try := range map[string]struct {
			want int
			err  error
		}{
			"a post":              {step.small, second(b.log.Publish(t.Context(), post(1, "few read this")))},
			"a post in big guild": {step.big, second(b.log.Publish(t.Context(), big))},
			"a cold change":       {step.before, b.log.Writable(t.Context())},
		} {
			got, after := status(try.err)
			if got != try.want || got != 200 && (after < time.Second || after > 5*time.Second) {
				t.Errorf("at %.2f: %s is answered %d, Retry-After %v; want %d", step.share, name, got, after, try.want)
			}
		}
		if pressed := b.log.Pressed(t.Context()); (pressed != nil) != (step.level == LevelFull) {
			t.Errorf("at %.2f the reason for not being ready is %v", step.share, pressed)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestPressure_TrimsOnlyWhatIsFinished: under pressure the log is trimmed to what the memory needs; what a group has not finished
// stays, and so does what a living tail may not have seen.
func TestPressure_TrimsOnlyWhatIsFinished(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	g := newGroup(b, newStore())
	if err := g.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.fill(t, 6<<20)
	b.limit(t, 0.70)
	b.measure(t, LevelShort)
	later := time.Now().Add(time.Minute)
	if n, err := b.log.Trim(t.Context(), later); err != nil || n != 0 {
		t.Fatalf("trimmed %d (%v) of what nobody has stored", n, err)
	}
	for {
		h, some, err := g.take(t.Context())
		if err == nil && !some {
			h, some, err = g.read(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if !some {
			break
		}
		if err := g.ack(t.Context(), h.entries); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.log.Trim(t.Context(), time.Now()); err != nil || n != 0 {
		t.Fatalf("trimmed %d (%v) of what is too young", n, err)
	}
	n, err := b.log.Trim(t.Context(), later)
	if err != nil || n == 0 {
		t.Fatalf("trimmed %d (%v) of what is finished", n, err)
	}
	b.measure(t, LevelCalm)
	if s := b.log.pressure.sample.Load(); s.share() < 0.4 || s.entries == 0 {
		t.Errorf("more was trimmed than needed: %+v", s)
	}
	if n, err := b.log.Trim(t.Context(), later); err != nil || n != 0 {
		t.Errorf("trimmed %d (%v) in calm", n, err)
	}
}

func TestPressure_SaysWhatTheMemoryIsUsedUpBy(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	g := newGroup(b, newStore())
	if err := g.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := func(now time.Time, behind bool, cause string) {
		t.Helper()
		var s sample
		if err := b.log.measureLog(t.Context(), &s, now); err != nil {
			t.Fatal(err)
		}
		if (s.behind > 0) != behind || s.cause() != cause {
			t.Errorf("behind %v, cause %s; want %v, %s", s.behind, s.cause(), behind, cause)
		}
	}
	later := time.Now().Add(time.Minute)
	f(later, false, "memory")
	mustPublish(t, b.log, post(1, "a"))
	f(later, true, "backlog")
	h, _, err := g.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f(later, true, "backlog") // it is pending
	if err := g.ack(t.Context(), h.entries); err != nil {
		t.Fatal(err)
	}
	f(later, false, "memory") // however long ago that was
}

func TestPressure_WithoutMaxmemoryGoesByWhatIsRetained(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{RetainBytes: 3 << 20})
	b.limitBytes(t, 0)
	b.fill(t, 10<<20)
	if err := b.log.Measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := b.log.pressure.sample.Load(); s.limit != 12<<20 || b.log.Level() != LevelFull || !b.log.pressure.warned {
		t.Errorf("%+v, level %d, warned %v", s, b.log.Level(), b.log.pressure.warned)
	}
}

// TestOOM_LeavesNothingHalfDone: Redis refuses what adds, as a whole, and lets the writer and the readers go on.
func TestOOM_LeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	g := newGroup(b, newStore())
	if err := g.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		mustPublish(t, b.log, post(1, "a"))
	}
	h, _, err := g.read(t.Context())
	if err != nil || len(h.entries) != 3 {
		t.Fatalf("%d entries, %v", len(h.entries), err)
	}
	keys := func() int64 {
		t.Helper()
		n, err := connect(t, b.server.AdminURL()).Do(t.Context(), b.client.B().Dbsize().Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	last, had := mustLast(t, b.log), keys()
	b.limitBytes(t, 1)

	p := post(1, "too much")
	p.Nonce, p.NonceTTL, p.Deletes = "n", time.Minute, []id.ID{7}
	if code, after := status(second(b.log.Publish(t.Context(), p))); code != 503 || after < time.Second {
		t.Errorf("publish: %d, Retry-After %v", code, after)
	}
	if b.log.Level() != LevelFull {
		t.Errorf("the level is %d after Redis has refused a write", b.log.Level())
	}
	cold := Entry{Type: wire.ServerUpdated, Guild: 5, Version: 1}
	_, err = b.log.Apply(t.Context(), Key("guild", 5), cold, []Op{{Command: "HSET", Key: Key("members", 5), Args: []string{"1", "x"}}})
	if code, _ := status(err); code != 503 {
		t.Errorf("apply: %v", err)
	}
	if now := keys(); mustLast(t, b.log) != last || now != had {
		t.Errorf("%d keys, want %d; the log ends at %s, want %s", now, had, mustLast(t, b.log), last)
	}
	// What brings the log into Postgres goes on.
	if h, _, err := g.take(t.Context()); err != nil || len(h.entries) == 0 {
		t.Errorf("take: %d entries, %v", len(h.entries), err)
	}
	if err := g.buryEntry(t.Context(), h.entries[0], grave{cause: errors.New("bad")}); err != nil {
		t.Errorf("bury: %v", err)
	}
	if n, err := b.log.Dead("pg").Remove(t.Context(), []Position{h.entries[0].Pos}); err != nil || n != 1 {
		t.Errorf("remove: %d, %v", n, err)
	}
	if err := g.ack(t.Context(), h.entries); err != nil {
		t.Errorf("ack: %v", err)
	}
	b.log.config.Retain = time.Nanosecond
	if n, err := b.log.Trim(t.Context(), time.Now().Add(time.Hour)); err != nil || n != 2 {
		t.Errorf("trimmed %d, %v", n, err) // the group's last one stays
	}

	b.limitBytes(t, 256<<20)
	b.measure(t, LevelCalm)
	if r, err := b.log.Publish(t.Context(), p); err != nil || r.Repeat {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

// TestOOM_LetsALogBeMadeAnew: a closed log keeps what it had in the memory, and nobody can trim it.
func TestOOM_LetsALogBeMadeAnew(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	mustPublish(t, b.log, post(1, "a"))
	state, err := b.log.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.limitBytes(t, 1)
	if ok, err := b.log.Close(t.Context(), state.Epoch); !ok || err != nil {
		t.Fatalf("not closed: %v, %v", ok, err)
	}
	ops := []Op{{Command: "UNLINK", Key: Key("guild", 5)}, {Command: "HSET", Key: Key("guild", 5), Args: []string{"v", "1"}}}
	if err := b.log.Rebuild(t.Context(), [][]Op{ops}); err != nil {
		t.Errorf("the read model cannot be made: %v", err)
	}
	if epoch, err := b.log.Begin(t.Context(), state.Last.Ms+1); err != nil || epoch == state.Epoch {
		t.Errorf("epoch %q after %q, %v", epoch, state.Epoch, err)
	}
}

func mustLast(t *testing.T, l *Log) Position {
	t.Helper()
	last, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// TestBreaker_OpensAndClosesAgain: with Redis gone, callers are refused without a wait, and served again when it is back.
func TestBreaker_OpensAndClosesAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.server.Stop()
	var err error
	for range 3 { // each tries up to four times
		_, err = b.log.Publish(t.Context(), post(1, "a"))
	}
	if code, after := status(err); !errors.Is(err, errAway) || code != 503 || after < time.Second || after > 5*time.Second {
		t.Fatalf("got %v, want the breaker's 503", err)
	}
	if err := second(b.log.Last(t.Context())); !errors.Is(err, errAway) {
		t.Errorf("a read got %v", err)
	}
	if err := b.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := b.log.Publish(t.Context(), post(1, "b"))
		if err == nil {
			break
		}
		if code, _ := status(err); code != 503 || t.Context().Err() != nil {
			t.Fatal(err)
		}
		sleep(t.Context(), 20*time.Millisecond)
	}
}

// TestBreaker_OpensWhenRedisCannotBeChecked: who hangs while it is asked what it keeps is away as well; who answers that it keeps
// too little is there.
func TestBreaker_OpensWhenRedisCannotBeChecked(t *testing.T) {
	t.Parallel()
	var verdict error
	b := setup(t, Config{CallTimeout: 10 * time.Millisecond, Assured: func(ctx context.Context) error {
		if verdict != nil {
			return verdict
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	verdict = errors.New("appendfsync is everysec")
	for range 2 * breakerFailures {
		if _, err := b.log.Publish(t.Context(), post(1, "a")); !errors.Is(err, verdict) {
			t.Fatalf("got %v, want the verdict", err)
		}
	}
	verdict = nil
	var err error
	for range 3 { // each tries up to four times
		_, err = b.log.Publish(t.Context(), post(1, "a"))
	}
	if code, _ := status(err); !errors.Is(err, errAway) || code != 503 {
		t.Errorf("got %v, want the breaker's 503", err)
	}
}

func TestBreaker_CountsOnlySignsOfAnOutage(t *testing.T) {
	t.Parallel()
	b := newBreaker()
	do := func(ctx context.Context, err error) error {
		return b.do(ctx, time.Minute, func(context.Context) error { return err })
	}
	for range 3 * breakerFailures {
		_ = do(t.Context(), rueidis.Nil)
		caller, cancel := context.WithCancel(t.Context())
		_ = b.do(caller, time.Minute, func(context.Context) error {
			cancel()
			return context.Canceled
		})
		cancel()
	}
	// One lost connection, with many commands on it.
	const many = 3 * breakerFailures
	var began, failed sync.WaitGroup
	began.Add(many)
	for range many {
		failed.Go(func() {
			_ = b.do(t.Context(), time.Minute, func(context.Context) error {
				began.Done()
				began.Wait()
				return errors.New("connection lost")
			})
		})
	}
	failed.Wait()
	for i := range breakerFailures + 1 {
		err := do(t.Context(), errors.New("connection refused"))
		if isOpen := errors.Is(err, errAway); isOpen != (i >= breakerFailures-1) {
			t.Errorf("failure %d: %v", i, err)
		}
	}
}
