package bus

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

func mustDo(t *testing.T, c rueidis.Client, words ...string) rueidis.RedisResult {
	t.Helper()
	r := c.Do(t.Context(), c.B().Arbitrary(words...).Build())
	if err := r.Error(); err != nil && !isNil(err) {
		t.Fatalf("%v: %v", words, err)
	}
	return r
}

// follower is a tail, and what it was handed and told. While held it takes nothing.
type follower struct {
	*Tail
	mu   sync.Mutex
	got  []string
	cuts chan Cut
}

func newFollower(t *testing.T, l *Log, from func(context.Context) (Position, error)) *follower {
	t.Helper()
	f := &follower{Tail: NewTail(l, from), cuts: make(chan Cut, 10)}
	f.Subscribe(func(_ context.Context, entries []Entry) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, e := range entries {
			f.got = append(f.got, string(e.Body))
		}
		return nil
	})
	f.OnCut(func(_ context.Context, c Cut) error {
		f.cuts <- c
		return nil
	})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	return f
}

func (f *follower) seen(t *testing.T, p Position) []string {
	t.Helper()
	if err := f.WaitFor(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.got...)
}

func (f *follower) cut(t *testing.T) Cut {
	t.Helper()
	select {
	case c := <-f.cuts:
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told of the hole")
		return Cut{}
	}
}

func (f *follower) uncut(t *testing.T) {
	t.Helper()
	select {
	case c := <-f.cuts:
		t.Errorf("told of a hole that is none: %+v", c)
	default:
	}
}

// TestTail_TellsOfWhatWasTrimmedBeforeItWasRead, and of how much; a tail that had read it is told nothing, and neither is one from which
// only what it has read was taken.
func TestTail_TellsOfWhatWasTrimmedBeforeItWasRead(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	slow, quick := newFollower(t, b.log, b.log.Last), newFollower(t, b.log, b.log.Last)
	first := mustPublish(t, b.log, post(1, "first")).Pos
	slow.seen(t, first)
	quick.seen(t, first)
	mustDo(t, b.client, "XTRIM", streamKey(), "MAXLEN", "0")
	second := mustPublish(t, b.log, post(1, "second")).Pos
	if diff := cmp.Diff([]string{`"first"`, `"second"`}, slow.seen(t, second)); diff != "" {
		t.Error(diff)
	}
	slow.uncut(t)

	slow.mu.Lock() // it is busy with the next entry
	held := mustPublish(t, b.log, post(1, "held")).Pos
	var last Position
	for i := range 10 {
		last = mustPublish(t, b.log, post(1, strconv.Itoa(i))).Pos
	}
	quick.seen(t, last)
	mustDo(t, b.client, "XTRIM", streamKey(), "MAXLEN", "3")
	slow.mu.Unlock()
	// The tail has read some of the ten together with the held one, or none of them.
	c := slow.cut(t)
	if c.Lost < 1 || c.Lost > 7 || c.Behind != last || c.Epoch != slow.Epoch() {
		t.Errorf("%+v, want up to 7 lost behind %s", c, held)
	}
	after := mustPublish(t, b.log, post(1, "after")).Pos
	got := slow.seen(t, after)
	if got[len(got)-1] != `"after"` {
		t.Errorf("after the hole came %v", got)
	}
	want := []string{`"first"`, `"second"`, `"held"`, `"0"`, `"1"`, `"2"`, `"3"`, `"4"`, `"5"`, `"6"`, `"7"`, `"8"`, `"9"`, `"after"`}
	if diff := cmp.Diff(want, quick.seen(t, after)); diff != "" {
		t.Error(diff)
	}
	quick.uncut(t)
}

// TestTail_WaitsOutALossAndBeginsWithTheNextEpoch: neither a log that is gone nor one that has come back without its end is read on in
// silence.
func TestTail_WaitsOutALossAndBeginsWithTheNextEpoch(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, b bundle, admin rueidis.Client, last Position){
		"gone": func(t *testing.T, _ bundle, admin rueidis.Client, _ Position) { mustDo(t, admin, "FLUSHALL") },
		"without its end": func(t *testing.T, b bundle, admin rueidis.Client, last Position) {
			// As after a failover: the latest entry is not there, and others have come since.
			mustDo(t, admin, "DEL", streamKey())
			mustDo(t, admin, "XADD", streamKey(), "1-1", "x", "y")
			mustDo(t, admin, "XADD", streamKey(), Position{Ms: last.Ms + 1}.String(), "x", "y")
		},
		"shorter": func(t *testing.T, b bundle, admin rueidis.Client, last Position) {
			mustDo(t, admin, "DEL", streamKey())
			mustDo(t, admin, "XADD", streamKey(), "1-1", "x", "y")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{Retries: 1})
			admin := connect(t, b.server.AdminURL())
			f := newFollower(t, b.log, b.log.Last)
			last := mustPublish(t, b.log, post(1, "before")).Pos
			f.seen(t, last)
			before := f.Epoch()
			lose(t, b, admin, last)
			state, err := b.log.Check(t.Context(), b.log.Seen())
			if err != nil || !state.Torn(0, b.log.Seen()) {
				t.Fatalf("the log seems sound: %+v, %v", state, err)
			}
			if ok, err := b.log.Close(t.Context(), state.Epoch+"x"); ok || err != nil {
				t.Fatalf("closed another epoch: %v, %v", ok, err)
			}
			if ok, err := b.log.Close(t.Context(), state.Epoch); !ok || err != nil {
				t.Fatalf("not closed: %v, %v", ok, err)
			}
			if _, err := b.log.Publish(t.Context(), post(1, "refused")); fault.From(err).Status != 503 {
				t.Errorf("a closed log answers %v, want 503", err)
			}
			if _, err := b.log.Apply(t.Context(), Key("user", 1), Entry{Type: wire.UserCreated, User: 1, Version: 1}, nil); fault.From(err).Status != 503 {
				t.Errorf("a closed log answers %v, want 503", err)
			}
			if _, err := b.log.Last(t.Context()); fault.From(err).Status != 503 {
				t.Errorf("a closed log answers %v, want 503", err)
			}
			least := last.Ms + 60_000
			var epochs [4]string
			var wg sync.WaitGroup
			for i := range epochs {
				wg.Go(func() {
					var err error
					if epochs[i], err = b.log.Begin(t.Context(), least); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, e := range epochs {
				if e != epochs[0] || e == before || e == "" {
					t.Fatalf("epochs %q after %q", epochs, before)
				}
			}
			if c := f.cut(t); c.Epoch != epochs[0] || c.Lost != 0 || c.Behind.Ms < least {
				t.Errorf("%+v, want epoch %s from %d on", c, epochs[0], least)
			}
			pos := mustPublish(t, b.log, post(1, "after")).Pos
			if pos.Ms < least {
				t.Errorf("the new epoch has %s, want at least %d", pos, least)
			}
			if got := f.seen(t, pos); got[len(got)-1] != `"after"` || f.Epoch() != epochs[0] {
				t.Errorf("in epoch %s came %v", f.Epoch(), got)
			}
			f.uncut(t)
			if state, err = b.log.Check(t.Context(), b.log.Seen(), last); err != nil || state.Torn(0, b.log.Seen()) || state.Torn(1, last) {
				t.Errorf("the new epoch seems torn: %+v, %v", state, err)
			}
		})
	}
}

// TestTail_TellsOfAnEpochThatBeginsWhileItTellsOfAnother: those who were told of the first have made something of it since.
func TestTail_TellsOfAnEpochThatBeginsWhileItTellsOfAnother(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	last := mustPublish(t, b.log, post(1, "before")).Pos
	renew := func() string {
		state, err := b.log.Check(t.Context())
		if err != nil {
			t.Error(err)
		}
		if _, err := b.log.Close(t.Context(), state.Epoch); err != nil {
			t.Error(err)
		}
		epoch, err := b.log.Begin(t.Context(), last.Ms+1)
		if err != nil {
			t.Error(err)
		}
		return epoch
	}
	tail := NewTail(b.log, b.log.Last)
	cuts, second := make(chan Cut, 10), ""
	tail.OnCut(func(_ context.Context, c Cut) error {
		if second == "" {
			second = renew()
		}
		cuts <- c
		return nil
	})
	if err := tail.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer tail.Stop()
	first := renew()
	if c := <-cuts; c.Epoch != first {
		t.Errorf("told of %+v, want epoch %s", c, first)
	}
	select {
	case c := <-cuts:
		if c.Epoch != second {
			t.Errorf("told of %+v, want epoch %s", c, second)
		}
		eventually(t, func() bool { return tail.Epoch() == second })
	case <-time.After(30 * time.Second):
		t.Errorf("nobody was told of %s", second)
	}
}

// TestGroup_GoesOnBehindItsCheckpoint when it was destroyed, and hands nothing over that is stored.
func TestGroup_GoesOnBehindItsCheckpoint(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := newStore()
	var mark Position
	var mu sync.Mutex
	g := NewGroup(b.log, GroupConfig{Name: "pg", Lead: lead, IsData: func(err error) bool { return errors.Is(err, errBad) },
		Handle: func(ctx context.Context, entries []Entry) error {
			mu.Lock()
			mark = entries[len(entries)-1].Pos
			mu.Unlock()
			return s.handle(ctx, entries)
		},
		Checkpoint: func(context.Context) (Position, error) {
			mu.Lock()
			defer mu.Unlock()
			return mark, nil
		},
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	var want []string
	for i := range 5 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
		want = append(want, strconv.Quote(strconv.Itoa(i)))
	}
	s.wait(t, 5)
	mustDo(t, b.client, "XGROUP", "DESTROY", streamKey(), "pg")
	for i := 5; i < 10; i++ {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
		want = append(want, strconv.Quote(strconv.Itoa(i)))
	}
	if diff := cmp.Diff(want, s.wait(t, 5)); diff != "" {
		t.Error(diff)
	}
}

// TestGroup_CountsWhatItWasNeverGiven: entries that were trimmed by hand while nobody stored anything. It runs alone, for the counter is
// everybody's.
func TestGroup_CountsWhatItWasNeverGiven(t *testing.T) {
	b := setup(t, Config{})
	s := newStore()
	g := newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b.log, post(1, "stored"))
	s.wait(t, 1)
	g.Stop()
	before := lostEntries.Get()
	for i := range 10 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
	}
	mustDo(t, b.client, "XTRIM", streamKey(), "MAXLEN", "4")
	g = newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 4)
	g.Stop()
	if diff := cmp.Diff([]string{`"stored"`, `"6"`, `"7"`, `"8"`, `"9"`}, got); diff != "" {
		t.Error(diff)
	}
	if n := lostEntries.Get() - before; n != 6 {
		t.Errorf("%d entries count as lost, want 6", n)
	}
	// What is trimmed behind its back is no loss.
	mustDo(t, b.client, "XTRIM", streamKey(), "MAXLEN", "0")
	g = newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b.log, post(1, "later"))
	s.wait(t, 1)
	g.Stop()
	if n := lostEntries.Get() - before; n != 6 {
		t.Errorf("%d entries count as lost, want 6 as before", n)
	}
}

// TestGroup_MissesNothingThatItWasGivenWithoutAnAnswer: a read that failed may have been one all the same. It runs alone, as above.
func TestGroup_MissesNothingThatItWasGivenWithoutAnAnswer(t *testing.T) {
	b := setup(t, Config{})
	admin := connect(t, b.server.AdminURL())
	g := newGroup(b, newStore())
	if err := g.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func(from func(context.Context) (hand, bool, error), want int) {
		t.Helper()
		h, _, err := from(t.Context())
		if err != nil || len(h.entries) != want {
			t.Fatalf("%d entries, want %d: %v", len(h.entries), want, err)
		}
		if err := g.ack(t.Context(), h.entries); err != nil {
			t.Fatal(err)
		}
	}
	mustPublish(t, b.log, post(1, "a"))
	read(g.read, 1)
	mustPublish(t, b.log, post(1, "b"))
	last := mustPublish(t, b.log, post(1, "c")).Pos
	mustDo(t, admin, "FUNCTION", "DELETE", "xcord")
	if _, _, err := g.read(t.Context()); !IsUnprepared(err) {
		t.Fatalf("read without functions: %v", err)
	}
	if err := Load(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	read(g.take, 2)
	mustDo(t, b.client, "XTRIM", streamKey(), "MINID", last.String()) // as the Trimmer may, for all of it is stored
	mustPublish(t, b.log, post(1, "d"))
	before := lostEntries.Get()
	read(g.read, 1)
	if n := lostEntries.Get() - before; n != 0 {
		t.Errorf("%d entries count as lost", n)
	}
}

// replicated is a log on a Redis with a replica, which has every write that is acknowledged.
func replicated(t *testing.T) (b bundle, master rueidis.Client, replica *redis.Local) {
	t.Helper()
	b = setup(t, Config{Replicas: 1, ReplicaTimeout: 30 * time.Second, CallTimeout: 40 * time.Second}) // however slow the machine
	master = connect(t, b.server.AdminURL())
	port := freePort(t)
	mustDo(t, master, "CONFIG", "SET", "bind", "127.0.0.1")
	mustDo(t, master, "CONFIG", "SET", "port", port)
	mustDo(t, master, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
	dir := strings.TrimSuffix(mustDoMap(t, master, "CONFIG", "GET", "dir")["dir"], "/data")
	password, err := os.ReadFile(filepath.Join(dir, "admin.password"))
	if err != nil {
		t.Fatal(err)
	}
	replica = harness.Redis(t)
	c := connect(t, replica.AdminURL())
	mustDo(t, c, "CONFIG", "SET", "masteruser", "admin")
	mustDo(t, c, "CONFIG", "SET", "masterauth", strings.TrimSpace(string(password)))
	mustDo(t, c, "REPLICAOF", "127.0.0.1", port)
	eventually(t, func() bool {
		info, err := master.Do(t.Context(), master.B().Info().Section("replication").Build()).ToString()
		return err == nil && strings.Contains(info, "state=online")
	})
	return b, master, replica
}

func mustDoMap(t *testing.T, c rueidis.Client, words ...string) map[string]string {
	t.Helper()
	m, err := mustDo(t, c, words...).AsStrMap()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func eventually(t *testing.T, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if time.Now().After(deadline) {
			t.Fatal("it never happened")
		}
		<-tick.C
	}
}

// TestReplicas_HaveWhatWasAcknowledged: a replica that stands still or is dead makes every write a 503, also one that is repeated; one
// that is back has it all.
func TestReplicas_HaveWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	b, master, replica := replicated(t)
	var wg sync.WaitGroup
	const posts = 400
	for i := range posts {
		wg.Go(func() {
			if _, err := b.log.Publish(t.Context(), post(1, strconv.Itoa(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c := connect(t, replica.AdminURL())
	if n, err := mustDo(t, c, "XLEN", streamKey()).AsInt64(); err != nil || n != posts {
		t.Errorf("the replica has %d of %d acknowledged entries: %v", n, posts, err)
	}
	waits, publishes := calls(t, master, "wait"), calls(t, master, "fcall")
	t.Logf("%d publishes waited for the replica %d times", publishes, waits)
	if waits == 0 || waits > publishes/2 {
		t.Errorf("%d WAITs for %d publishes: they do not wait together", waits, publishes)
	}

	impatient := Open(b.client, Config{Replicas: 1, ReplicaTimeout: 100 * time.Millisecond})
	unavailable := func(what string, p Post) {
		t.Helper()
		if _, err := impatient.Publish(t.Context(), p); fault.From(err).Status != 503 {
			t.Errorf("%s: got %v, want 503", what, err)
		}
	}
	again := post(1, "while it stood still")
	again.Nonce, again.NonceTTL = "again", time.Minute
	if err := syscall.Kill(replica.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	unavailable("the replica stands still", again)
	unavailable("a repeat, which writes nothing", again)
	if err := syscall.Kill(replica.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if r := mustPublish(t, b.log, again); !r.Repeat {
		t.Error("what was written and not acknowledged is there twice")
	}

	mustDo(t, master, "CONFIG", "SET", "min-replicas-to-write", "1")
	eventually(t, func() bool { _, err := b.log.Publish(t.Context(), post(1, "good")); return err == nil })
	if err := syscall.Kill(replica.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-replica.Failed()
	unavailable("the replica is dead", post(1, "dead"))
	if _, err := impatient.Apply(t.Context(), Key("user", 1), Entry{Type: wire.UserCreated, User: 1, Version: 1}, nil); fault.From(err).Status != 503 {
		t.Errorf("a cold change while the replica is dead: %v, want 503", err)
	}
}

// calls is how often a command was called.
func calls(t *testing.T, c rueidis.Client, command string) (n int) {
	t.Helper()
	info, err := c.Do(t.Context(), c.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			count, _, _ := strings.Cut(rest, ",")
			n, _ = strconv.Atoi(count)
		}
	}
	return n
}
