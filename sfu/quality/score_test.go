package quality

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

// Scores worked out by hand, by the formulas of G.107. The round trip is split evenly between both legs.
func TestRate_IsTheTable(t *testing.T) {
	t.Parallel()
	f := func(percent float64, rtt, jitter time.Duration, concealed, fec, copied float64) {
		t.Helper()
		path := Path{Up: Leg{RTT: rtt / 2}, Down: Leg{Loss: percent / 100, RTT: rtt / 2, Jitter: jitter}, Bitrate: 32_000}
		check := func(name string, want float64) {
			t.Helper()
			if got := path.Rate().MOS; math.Abs(got-want) > 0.01 {
				t.Errorf("%s, %v %%, %v: %.3f, want %.2f", name, percent, rtt, got, want)
			}
		}
		check("concealed", concealed)
		path.FEC = true
		check("FEC", fec)
		path.Redundancy = 1
		check("RED", copied)
	}
	f(0, 40*ms, 5*ms, 4.41, 4.41, 4.41)
	f(1, 40*ms, 5*ms, 4.18, 4.31, 4.41)
	f(3, 40*ms, 5*ms, 3.66, 4.05, 4.40)
	f(5, 40*ms, 5*ms, 3.18, 3.79, 4.39)
	f(10, 40*ms, 5*ms, 2.35, 3.18, 4.31)
	f(20, 40*ms, 5*ms, 1.60, 2.35, 3.92)
	f(0, 200*ms, 40*ms, 4.30, 4.30, 4.30)
	f(1, 200*ms, 40*ms, 4.01, 4.16, 4.30)
	f(3, 200*ms, 40*ms, 3.43, 3.86, 4.28)
	f(5, 200*ms, 40*ms, 2.93, 3.57, 4.26)
	f(10, 200*ms, 40*ms, 2.11, 2.93, 4.16)
	f(20, 200*ms, 40*ms, 1.42, 2.11, 3.71)
}

// Idd at these delays, from formula 7-27.
func TestDelayImpairment_IsTheFormula(t *testing.T) {
	t.Parallel()
	f := func(delay time.Duration, want float64) {
		t.Helper()
		if got := delayImpairment(delay); math.Abs(got-want) > 0.05 {
			t.Errorf("%v: %.2f, want %.2f", delay, got, want)
		}
	}
	f(100*ms, 0)
	f(150*ms, 0.16)
	f(200*ms, 3.04)
	f(250*ms, 8.92)
	f(300*ms, 14.8)
	f(400*ms, 24.1)
}

func drawLeg(t *rapid.T) Leg {
	return Leg{
		Loss: rapid.Float64Range(0, 0.5).Draw(t, "loss"), Late: rapid.Float64Range(0, 0.2).Draw(t, "late"),
		Burst: rapid.Float64Range(2, 6).Draw(t, "burst"),
		RTT:   time.Duration(rapid.IntRange(0, 500).Draw(t, "rtt")) * ms, Jitter: time.Duration(rapid.IntRange(0, 100).Draw(t, "jitter")) * ms,
	}
}

// More of anything bad is never better, and scores stay within their bounds.
func TestRate_IsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Path{
			Up: drawLeg(t), Down: drawLeg(t), Redundancy: rapid.IntRange(0, 2).Draw(t, "copies"), FEC: rapid.Bool().Draw(t, "fec"),
			Bitrate: rapid.IntRange(6_000, 64_000).Draw(t, "bitrate"), ServerLoss: rapid.Float64Range(0, 0.1).Draw(t, "server"),
		}
		p.Up.Burst = p.Down.Burst // what is worse in one leg may not hide what is worse in the other
		r := p.Rate()
		if r.R < 0 || r.R > ratingBest || r.MOS < 1 || r.MOS > mosMax || math.IsNaN(r.R) {
			t.Fatalf("%+v is %+v", p, r)
		}
		worse := map[string]func(*Path){
			"loss up":   func(q *Path) { q.Up.Loss += 0.05 },
			"loss down": func(q *Path) { q.Down.Loss += 0.05 },
			"late":      func(q *Path) { q.Down.Late += 0.05 },
			"burst":     func(q *Path) { q.Up.Burst++; q.Down.Burst++ },
			"rtt":       func(q *Path) { q.Up.RTT += 50 * ms },
			"jitter":    func(q *Path) { q.Down.Jitter += 20 * ms },
			"bitrate":   func(q *Path) { q.Bitrate = max(6_000, q.Bitrate-4_000) },
			"server":    func(q *Path) { q.ServerLoss += 0.05; q.ServerDelay += 10 * ms },
			"copies":    func(q *Path) { q.Redundancy = max(0, q.Redundancy-1) },
			"frame":     func(q *Path) { q.Frame = 40 * ms },
		}
		for name, change := range worse {
			q := p
			change(&q)
			if got := q.Rate(); got.R > r.R+1e-9 || got.MOS > r.MOS+1e-9 {
				t.Fatalf("more %s made %+v of %+v", name, got, r)
			}
		}
	})
}

func TestResidual_IsWhatGilbertSays(t *testing.T) {
	t.Parallel()
	f := func(loss, burst float64, copies int, want float64) {
		t.Helper()
		if got := residual(loss, burst, copies); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v in runs of %v with %d copies: %v, want %v", loss, burst, copies, got, want)
		}
	}
	f(0.1, 0, 0, 0.1)
	f(0.1, 0, 1, 0.01)
	f(0.1, 0, 2, 0.001)
	f(0.1, 2, 1, 0.05)
	f(0.1, 4, 2, 0.1*0.75*0.75)
	f(0, 0, 1, 0)
	f(1, 0, 2, 1)
}

func TestBlame_NamesThePartThatCostsMost(t *testing.T) {
	t.Parallel()
	f := func(name string, p Path, want Fault) {
		t.Helper()
		if got := p.Blame(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f("all is well", Path{Up: Leg{RTT: 20 * ms}, Down: Leg{RTT: 20 * ms}}, FaultNone)
	f("a little loss", Path{Up: Leg{Loss: 0.002}}, FaultNone)
	f("the speaker's line loses", Path{Up: Leg{Loss: 0.08}, Down: Leg{Loss: 0.01}}, FaultUp)
	f("the listener's line loses", Path{Up: Leg{Loss: 0.01}, Down: Leg{Loss: 0.08}}, FaultDown)
	f("copies make up for it", Path{Up: Leg{Loss: 0.03}, Down: Leg{Loss: 0.08}, Redundancy: 2}, FaultUp)
	f("the server drops", Path{Up: Leg{Loss: 0.01}, Down: Leg{Loss: 0.01}, ServerLoss: 0.05}, FaultServer)
	f("the listener's line is uneven", Path{Down: Leg{Jitter: 120 * ms}}, FaultDown)
	f("both are far away", Path{Up: Leg{RTT: 300 * ms}, Down: Leg{RTT: 300 * ms}}, FaultFar)
	f("the speaker is far away", Path{Up: Leg{RTT: 600 * ms}, Down: Leg{RTT: 20 * ms}}, FaultUp)
}
