package impair

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const spacing = 20 * time.Millisecond

// run sends n packets of 100 bytes, one each 20 ms, and returns the first arrivals, -1 for what was lost.
func run(l *Line, n int) []time.Duration {
	arrivals := make([]time.Duration, n)
	for i := range n {
		at, copies := l.Send(time.Duration(i)*spacing, 100)
		if arrivals[i] = at[0]; copies == 0 {
			arrivals[i] = -1
		}
	}
	return arrivals
}

func TestLine_LosesWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	f := func(name string, loss Loss, share, burst float64) {
		t.Helper()
		l := NewLine(1, Config{Loss: loss})
		run(l, 200_000)
		truth := l.Truth()
		if got := truth.LossShare(); math.Abs(got-share) > 0.005 {
			t.Errorf("%s: lost %.4f, want %.4f", name, got, share)
		}
		if got := truth.BurstMean(); math.Abs(got-burst) > 0.05*burst {
			t.Errorf("%s: runs of %.3f, want %.3f", name, got, burst)
		}
	}
	f("none", Loss{}, 0, 0)
	f("random", Random(0.1), 0.1, 1/0.9)
	f("bursts of 3", Bursty(0.1, 3), 0.1, 3)
	f("bursts of 8", Bursty(0.05, 8), 0.05, 8)
	f("a bad state that lets some through", Loss{Enter: 0.02, Leave: 0.18, Bad: 0.5}, 0.05, 1/(1-0.5*0.82))
}

func TestLine_CountsWhatItDid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := NewLine(rapid.Uint64().Draw(t, "seed"), Config{
			Loss:   Bursty(rapid.Float64Range(0, 0.5).Draw(t, "loss"), rapid.Float64Range(1, 5).Draw(t, "burst")),
			Jitter: time.Duration(rapid.IntRange(0, 100).Draw(t, "jitter")) * time.Millisecond, Overtake: true,
			Rate: rapid.SampledFrom([]int{0, 30_000, 80_000}).Draw(t, "rate"),
		})
		var want Truth
		latest, last := time.Duration(-1), false
		for i, at := range run(l, 500) {
			want.Packets++
			want.Bytes += 100
			if at < 0 {
				want.Lost++
				last = true
				continue
			}
			if last {
				want.Runs++
				last = false
			}
			if at < latest {
				want.Reordered++
			}
			latest = max(latest, at)
			want.DelayMax = max(want.DelayMax, at-time.Duration(i)*spacing)
		}
		got := l.Truth()
		got.Lost, got.Dropped = got.Lost+got.Dropped, 0
		got.Runs, want.Runs = 0, 0 // a packet dropped ends a run of lost ones
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

func TestLine_IsTheSameForTheSameSeed(t *testing.T) {
	t.Parallel()
	config := Config{Loss: Random(0.1), Jitter: 50 * time.Millisecond, Overtake: true, Duplicate: 0.1}
	a, b, c := run(NewLine(7, config), 1000), run(NewLine(7, config), 1000), run(NewLine(8, config), 1000)
	other := 0
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("packet %d: %v and %v", i, a[i], b[i])
		}
		if a[i] != c[i] {
			other++
		}
	}
	if other < 900 {
		t.Errorf("another seed changed %d of 1000 fates", other)
	}
}

func TestLine_KeepsTheOrderUnlessTold(t *testing.T) {
	t.Parallel()
	latest := time.Duration(0)
	l := NewLine(1, Config{Jitter: 100 * time.Millisecond})
	for i, at := range run(l, 1000) {
		if at < latest {
			t.Fatalf("packet %d came before the one before it", i)
		}
		latest = at
	}
	if got := l.Truth().Reordered; got != 0 {
		t.Errorf("%d reordered", got)
	}
}

// 40 kb/s come in, 20 kb/s go out: the queue grows to its bound, and half is dropped.
func TestLine_HoldsTheRate(t *testing.T) {
	t.Parallel()
	l := NewLine(1, Config{Rate: 20_000, Queue: 100 * time.Millisecond})
	var last time.Duration
	for i, at := range run(l, 1000) {
		if at < 0 {
			continue
		}
		if d := at - time.Duration(i)*spacing; d > 100*time.Millisecond {
			t.Fatalf("packet %d waited %v", i, d)
		}
		last = at
	}
	truth := l.Truth()
	if passed := float64(truth.Packets-truth.Dropped) * 800 / last.Seconds(); math.Abs(passed-20_000) > 300 {
		t.Errorf("%.0f bits a second passed", passed)
	}
}

func TestLine_Doubles(t *testing.T) {
	t.Parallel()
	l := NewLine(1, Config{Duplicate: 0.2})
	copies := 0
	for i := range 10_000 {
		if _, n := l.Send(time.Duration(i)*spacing, 100); n == 2 {
			copies++
		}
	}
	if got := l.Truth().Duplicated; got != uint64(copies) || math.Abs(float64(copies)-2000) > 150 {
		t.Errorf("%d counted, %d seen of 10,000", got, copies)
	}
}
