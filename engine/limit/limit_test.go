package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/redis"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// setup is a Redis with the functions, and a clock that stands still until it is moved.
type setup struct {
	server *redis.Local
	now    atomic.Int64
}

func newSetup(t testing.TB) *setup {
	t.Helper()
	s := &setup{server: harness.Redis(t)}
	s.now.Store(time.Now().UnixNano())
	if err := Install(t.Context(), s.open(t, s.server.AdminURL())); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *setup) open(t testing.TB, url string) rueidis.Client {
	t.Helper()
	c, err := redis.Open(t.Context(), redis.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *setup) pass(d time.Duration) { s.now.Add(d.Nanoseconds()) }

// gateways start n limiters, each with a client of its own, which may do no more than the application. An answer of Redis may take
// long on a busy machine, and means nothing here.
func (s *setup) gateways(t testing.TB, n int) []*Limiter {
	t.Helper()
	all := make([]*Limiter, n)
	for i := range all {
		all[i] = New(s.open(t, s.server.URL()), Config{
			Gateway: fmt.Sprint("g", i), CallTimeout: 10 * time.Second, Now: func() time.Time { return time.Unix(0, s.now.Load()) },
		})
		if err := all[i].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(all[i].Stop)
	}
	for _, l := range all {
		if got := l.gateways.Load(); got != int64(n) {
			t.Fatalf("a gateway counts %d of %d after all have started", got, n)
		}
	}
	return all
}

// takeAll takes until all refuse, and says how many there were.
func takeAll(t *testing.T, all []*Limiter, r *Rule, who Subject) (n int) {
	t.Helper()
	var wg sync.WaitGroup
	var total atomic.Int64
	for _, l := range all {
		for range 4 {
			wg.Go(func() {
				for l.Take(t.Context(), r, who).OK {
					total.Add(1)
				}
			})
		}
	}
	wg.Wait()
	return int(total.Load())
}

// TestLimiter_AloneCountsExactlyAndAsksNobody: what a client is told comes true.
func TestLimiter_AloneCountsExactlyAndAsksNobody(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	l := s.gateways(t, 1)[0]
	r := NewRule("alone", 3, time.Minute)
	for round := range 3 {
		for i := range 3 {
			v := l.Take(t.Context(), r, User(7, 8))
			if want := (Verdict{OK: true, Limit: 3, Remaining: 2 - i, Reset: time.Minute - time.Duration(i)*time.Second}); v != want {
				t.Fatalf("round %d: %+v, want %+v", round, v, want)
			}
			s.pass(time.Second)
		}
		if v := l.Peek(t.Context(), r, User(7, 8)); v.OK || v.Reset != 57*time.Second {
			t.Errorf("a window that is used up shows as %+v", v)
		}
		if v := l.Take(t.Context(), r, User(7, 8)); v != (Verdict{Limit: 3, Reset: 57 * time.Second}) {
			t.Errorf("the fourth: %+v", v)
		}
		if v := l.Take(t.Context(), r, User(7, 9)); !v.OK { // somebody else's
			t.Errorf("another's first: %+v", v)
		}
		s.pass(57*time.Second - 1)
		if v := l.Take(t.Context(), r, User(7, 8)); v.OK {
			t.Errorf("the fourth at the last moment: %+v", v)
		}
		s.pass(1)
		if v := l.Peek(t.Context(), r, User(7, 8)); !v.OK {
			t.Errorf("a new window shows as %+v", v)
		}
	}
	client := s.open(t, s.server.URL())
	if n, err := client.Do(t.Context(), client.B().Exists().Key(windowKey(r, User(7, 8))).Build()).AsInt64(); n != 0 || err != nil {
		t.Errorf("one gateway wrote to redis: %d, %v", n, err)
	}
}

// TestLimiter_SeveralTogetherKeepALimit: never more than a twentieth too many, and hardly less than promised.
func TestLimiter_SeveralTogetherKeepALimit(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	for n := 2; n <= 3; n++ {
		all := s.gateways(t, n)
		for _, most := range []int{1, 5, 10, 50, 333, 1000} {
			for who, use := range [][]*Limiter{all, all[:1], all[n-1:]} {
				r := NewRule(fmt.Sprintf("several%d-%d", n, most), most, time.Hour)
				got := takeAll(t, use, r, Subject{A: uint64(who)})
				if float64(got) > 1.05*float64(most) || float64(got) < 0.9*float64(most) {
					t.Errorf("%d of %d gateways allow %d of %d", len(use), n, got, most)
				}
			}
		}
		for _, l := range all {
			l.Stop()
		}
	}
}

// TestLimiter_WindowsOfRedisEnd: a window there has an end that all share.
func TestLimiter_WindowsOfRedisEnd(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	all := s.gateways(t, 2)
	r := NewRule("ends", 5, time.Hour)
	if got := takeAll(t, all, r, Subject{}); got != 5 {
		t.Fatalf("%d of 5", got)
	}
	client := s.open(t, s.server.URL())
	ms, err := client.Do(t.Context(), client.B().Pttl().Key(windowKey(r, Subject{})).Build()).AsInt64()
	if err != nil || ms <= 0 || ms > time.Hour.Milliseconds() {
		t.Errorf("the window lives %d ms, %v", ms, err)
	}
	s.pass(time.Hour)
	if err := client.Do(t.Context(), client.B().Del().Key(windowKey(r, Subject{})).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if got := takeAll(t, all, r, Subject{}); got != 5 {
		t.Errorf("%d of 5 in the next window", got)
	}
}

// TestLimiter_AllowsItsPartWithoutRedis: never open, and all again when Redis is back.
func TestLimiter_AllowsItsPartWithoutRedis(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	all := s.gateways(t, 2)
	s.server.Stop()
	f := func(r *Rule, each int) {
		t.Helper()
		for i, l := range all {
			if got := takeAll(t, []*Limiter{l}, r, Subject{}); got != each {
				t.Errorf("gateway %d allows %d of %s without redis, want %d", i, got, r.Name, each)
			}
		}
	}
	f(NewRule("away", 50, time.Minute), 25)
	f(NewRule("away one", 1, time.Minute), 1)
	exact := NewExact("away exact", 10, time.Minute)
	f(exact, 5)
	if v := all[0].Peek(t.Context(), exact, Subject{}); v.OK {
		t.Errorf("used up without redis, it shows as %+v", v)
	}
	if err := s.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.pass(time.Minute)
	r := NewRule("back", 50, time.Minute)
	if got := takeAll(t, all, r, Subject{}); got < 45 || got > 52 {
		t.Errorf("%d of 50 when redis is back", got)
	}
}

// TestLimiter_ExactIsCountedTogether: over restarts, and what is returned counts no more.
func TestLimiter_ExactIsCountedTogether(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	r := NewExact("exact", 4, time.Hour)
	l := s.gateways(t, 1)[0]
	for range 3 {
		l.Take(t.Context(), r, Subject{})
	}
	l.Stop()
	all := s.gateways(t, 2)
	if v := all[1].Peek(t.Context(), r, Subject{}); !v.OK || v.Remaining != 1 || v.Reset <= 0 {
		t.Errorf("after a restart: %+v", v)
	}
	if v := all[0].Take(t.Context(), r, Subject{}); !v.OK {
		t.Errorf("the fourth: %+v", v)
	}
	if v := all[1].Take(t.Context(), r, Subject{}); v.OK || v.Reset <= 59*time.Minute {
		t.Errorf("the fifth: %+v", v)
	}
	all[0].Return(t.Context(), r, Subject{})
	if v := all[0].Take(t.Context(), r, Subject{}); !v.OK {
		t.Errorf("the fifth after one was returned: %+v", v)
	}
	if v := all[0].Take(t.Context(), r, Subject{}); v.OK {
		t.Errorf("the sixth: %+v", v)
	}
}

// TestLimiter_WhoIsGoneCountsNoMore: one that leaves, and one that dies; but not at the first word of it, which comes after every outage
// of Redis.
func TestLimiter_WhoIsGoneCountsNoMore(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	all := s.gateways(t, 3)
	for _, l := range all {
		l.loops.Stop() // beats are the test's
	}
	f := func(want int64) {
		t.Helper()
		before := all[0].gateways.Load()
		for i := range missedMax {
			if n, _, err := all[0].beat(t.Context()); err != nil || i < missedMax-1 && n != before {
				t.Errorf("after %d beats there are %d, %v", i+1, n, err)
			}
		}
		if got := all[0].gateways.Load(); got != want {
			t.Errorf("there are %d, want %d", got, want)
		}
	}
	all[1].leave()
	f(2)
	// Another has not been heard for too long.
	client := s.open(t, s.server.URL())
	if err := client.Do(t.Context(), client.B().Zadd().Key(beatsKey).ScoreMember().ScoreMember(1, all[2].cfg.Gateway).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	f(1)
	if n, _, err := all[2].beat(t.Context()); n != 3 || err != nil { // it was only asleep, and still counts three
		t.Errorf("it counts %d, %v", n, err)
	}
	if n, _, err := all[0].beat(t.Context()); n != 2 || err != nil {
		t.Errorf("when it is back there are %d, %v", n, err)
	}
}

// TestLimiter_MemoryIsBounded: whoever comes with new subjects without end makes it forget, not grow; and what is over goes.
func TestLimiter_MemoryIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := New(nil, Config{Gateway: "g", KeysMax: 640, Now: func() time.Time { return now }})
	r := NewRule("bounded", 1, time.Minute)
	for range 10_000 {
		l.Take(t.Context(), r, Subject{A: rand.Uint64()})
	}
	if n := l.keys(); n > 640 || n < 500 {
		t.Errorf("%d keys are counted, at most 640 may be", n)
	}
	now = now.Add(time.Minute)
	for i := range l.shards {
		l.sweep(&l.shards[i])
	}
	if n := l.keys(); n != 0 {
		t.Errorf("%d windows stay when all are over", n)
	}
}

// TestWindow_AllowsItsPartOnce, however many find out at the same time that Redis is away.
func TestWindow_AllowsItsPartOnce(t *testing.T) {
	t.Parallel()
	r := NewRule("part", 40, time.Minute)
	var w window
	for range 8 {
		w.add(r, 2, 0, fetched{})
	}
	if w.have != 20 || !w.dry {
		t.Errorf("%+v", w)
	}
}

func TestLimiter_NilAllowsEverything(t *testing.T) {
	t.Parallel()
	var l *Limiter
	r := NewRule("nil", 1, time.Minute)
	for range 3 {
		if v := l.Take(t.Context(), r, Subject{}); !v.OK || v.Limit != 0 {
			t.Errorf("%+v", v)
		}
	}
	if v := l.Peek(t.Context(), r, Subject{}); !v.OK {
		t.Errorf("%+v", v)
	}
	l.Return(t.Context(), r, Subject{})
}

func TestAddr_CountsANetworkOfIPv6AsOne(t *testing.T) {
	t.Parallel()
	same := func(a, b string, want bool) {
		t.Helper()
		if got := Addr(netip.MustParseAddr(a)) == Addr(netip.MustParseAddr(b)); got != want {
			t.Errorf("%s and %s count as one: %v", a, b, got)
		}
	}
	same("203.0.113.1", "203.0.113.1", true)
	same("203.0.113.1", "::ffff:203.0.113.1", true)
	same("203.0.113.1", "203.0.113.2", false)
	same("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::", true)
	same("2001:db8:1:2::1", "2001:db8:1:3::1", false)
	same("0:0:0:1::1", "0.0.0.1", false)
}

func TestLimiter_StartsAndStops(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	client := s.open(t, s.server.URL())
	lifetest.Stress(t, func() life.Service { return New(client, Config{Gateway: "g", CallTimeout: 10 * time.Second}) })
}

// BenchmarkTake charges for one Take of a gateway that is alone, by all cores and of a thousand users.
func BenchmarkTake(b *testing.B) {
	l := New(nil, Config{Gateway: "g"})
	r := NewRule("bench", 50, time.Second)
	b.ReportAllocs()
	var next atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		for i := next.Add(1 << 32); pb.Next(); i++ {
			l.Take(b.Context(), r, Subject{A: i % 1000})
		}
	})
}

// BenchmarkTakeShared is the same with two gateways and a limit that is not reached.
func BenchmarkTakeShared(b *testing.B) {
	s := newSetup(b)
	l := s.gateways(b, 2)[0]
	r := NewRule("bench shared", 1<<40, time.Hour)
	small := NewRule("bench shared small", 5, time.Hour)
	b.Run("large", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Take(b.Context(), r, Subject{})
		}
	})
	b.Run("each asks", func(b *testing.B) {
		b.ReportAllocs()
		var next atomic.Uint64
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.Take(b.Context(), small, Subject{A: next.Add(1)})
			}
		})
	})
}
