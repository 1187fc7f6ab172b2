package quality

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestGrader_ChangesBeyondAMarginOnly(t *testing.T) {
	t.Parallel()
	var g Grader
	f := func(name string, mos float64, want Class, wantChanged bool) {
		t.Helper()
		if class, changed := g.Grade(mos, 0); class != want || changed != wantChanged {
			t.Errorf("%s: %s, %v at %.2f", name, class, changed, g.Score())
		}
	}
	f("the first", 4.3, Excellent, true)
	f("within the margin", 4.12, Excellent, false)
	f("below", 4.0, Good, true)
	f("back, slowly", 4.4, Good, false)
	f("above the limit, within the margin", 4.4, Good, false)
	f("beyond", 4.4, Excellent, true)
	f("down at once", 2, Poor, true)
	if class, changed := g.Grade(4.4, lostAfter); class != Lost || !changed {
		t.Errorf("unheard, and %s", class)
	}
	f("back from nowhere", 4.4, Excellent, true)
}

func TestGrader_DoesNotFlap(t *testing.T) {
	t.Parallel()
	for _, limit := range []float64{4.2, 3.8, 3.1} {
		var g Grader
		noise := rand.New(rand.NewPCG(1, 2))
		changes := 0
		for range 1000 {
			if _, changed := g.Grade(limit+0.08*(2*noise.Float64()-1), 0); changed {
				changes++
			}
		}
		if changes != 1 {
			t.Errorf("%d changes around %v", changes, limit)
		}
	}
}

// whole is a measure of a path that loses this much of what somebody says.
func whole(percent float64) Measure {
	path := Path{Up: Leg{Loss: percent / 100}}
	return Measure{
		Window: Window{Packets: 250, Loss: percent / 100, Network: percent / 100, Judged: true, Burst: 1},
		Rating: path.Rate(), Fault: path.Blame(), Alive: true,
	}
}

// 6 % are lost for a while, give or take 1: there is one alert, and one end of it.
func TestWatch_AlertsOnce(t *testing.T) {
	t.Parallel()
	w := NewWatch(Up)
	noise := rand.New(rand.NewPCG(1, 2))
	var alerts []Alert
	reports, at := 0, time.Duration(0)
	run := func(windows int, percent float64) {
		for range windows {
			at += WindowLength
			report, a := w.Window(whole(max(0, percent+2*noise.Float64()-1)), at)
			alerts = append(alerts, a...)
			if report != nil {
				reports++
			}
		}
	}
	run(10, 0)
	run(100, 5.5) // MOS 3.1 is at 5.3 %
	run(20, 0)
	if len(alerts) != 2 || alerts[0].Type != AlertMOS || !alerts[0].On || alerts[1].On || alerts[0].Since != alerts[1].Since {
		t.Errorf("%+v", alerts)
	}
	// Each ten seconds, and as the class changes.
	if reports < 65 || reports > 80 {
		t.Errorf("%d reports in 130 windows", reports)
	}
}

// Each alert is raised by its cause, not by one window of it where it takes more, and ends when the cause does.
func TestWatch_HasAnAlertForEachCause(t *testing.T) {
	t.Parallel()
	f := func(kind AlertType, direction Direction, windows int, bad func(*Measure)) {
		t.Helper()
		w := NewWatch(direction)
		good := whole(0)
		good.Window.Leveled = 250
		at := time.Duration(0)
		window := func(m Measure) []Alert {
			at += WindowLength
			_, alerts := w.Window(m, at)
			return alerts
		}
		if a := window(good); len(a) != 0 {
			t.Fatalf("%s: %+v of what is good", kind, a)
		}
		m := good
		bad(&m)
		for i := range 10 {
			a := window(m)
			if i == windows-1 && (len(a) != 1 || a[0].Type != kind || !a[0].On || a[0].Since != at) || i != windows-1 && len(a) != 0 {
				t.Fatalf("%s: %+v in window %d", kind, a, i+1)
			}
		}
		for i := range 4 {
			if a := window(good); len(a) == 1 && a[0].Type == kind && !a[0].On {
				return
			} else if len(a) != 0 {
				t.Fatalf("%s: %+v in window %d of recovery", kind, a, i+1)
			}
		}
		t.Errorf("%s did not end", kind)
	}
	f(AlertMOS, Up, 2, func(m *Measure) { m.Rating.MOS = 2 })
	f(AlertOneWay, Down, 1, func(m *Measure) { m.Window.Unheard = lostAfter })
	f(AlertNoRTP, Up, 1, func(m *Measure) { m.Window.Quiet = 3 * time.Second })
	f(AlertJitter, Down, 2, func(m *Measure) { m.Window.Jitter = 60 * ms })
	f(AlertBurst, Up, 2, func(m *Measure) { m.Window.Burst, m.Window.Loss = 5, 0.05 })
	f(AlertClipping, Up, 2, func(m *Measure) { m.Window.Loud = 0.3 })
	f(AlertSilent, Up, 3, func(m *Measure) { m.Window.Silent = 1 })
	f(AlertMoved, Up, 1, func(m *Measure) { m.Moved = true })
	f(AlertServer, Down, 1, func(m *Measure) { m.Lag = 20 * ms })
	f(AlertServer, Down, 1, func(m *Measure) { m.Queue = 0.6 })
}

func TestWatch_ExpectsNothingOfTheMuted(t *testing.T) {
	t.Parallel()
	w := NewWatch(Up)
	for i := range 10 {
		report, alerts := w.Window(Measure{
			Muted: true, Alive: true, Rating: Path{}.Rate(), Window: Window{Quiet: time.Minute, Unheard: time.Minute, Leveled: 250, Silent: 1},
		}, time.Duration(i)*WindowLength)
		if len(alerts) != 0 || report != nil && report.Class == Lost {
			t.Fatalf("%+v, %+v", report, alerts)
		}
	}
}

func TestLadder_KeepsItsWord(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := Ladder{Up: rapid.IntRange(1, 4).Draw(t, "up"), Down: rapid.IntRange(1, 6).Draw(t, "down")}
		asked, calm, level := 0, 0, 0
		for range 200 {
			ask := rapid.IntRange(0, 3).Draw(t, "ask")
			quiet := ask == 0 && rapid.Bool().Draw(t, "calm")
			now := l.Step(ask, quiet)
			asked, calm = asked+1, calm+1
			if ask <= level {
				asked = 0
			}
			if !quiet || level == 0 {
				calm = 0
			}
			switch {
			case now > level && asked < l.Up, now > level && ask < now, now < level && calm < l.Down, now < level-1:
				t.Fatalf("from %d to %d after %d that asked and %d that were calm", level, now, asked, calm)
			case now == level && asked >= l.Up, now == level && calm >= l.Down:
				t.Fatalf("still %d after %d that asked and %d that were calm", level, asked, calm)
			}
			if now != level {
				asked, calm = 0, 0
			}
			level = now
		}
	})
}

// windows of a line that loses this much, each five seconds on.
func windows(r *Redundancy, at *time.Duration, n int, network, loss float64) (actions []Action) {
	for range n {
		*at += WindowLength
		if changed, _ := r.Window(Line{Network: network, Loss: loss, Judged: true, MOS: 4}, *at); changed != nil {
			actions = append(actions, *changed)
		}
	}
	return actions
}

func TestRedundancy_GoesUpAndDown(t *testing.T) {
	t.Parallel()
	r, at := NewRedundancy(), time.Duration(0)
	f := func(name string, n int, network float64, level, changes int) {
		t.Helper()
		if got := windows(r, &at, n, network, network); r.Level() != level || len(got) != changes {
			t.Errorf("%s: level %d after %+v", name, r.Level(), got)
		}
	}
	f("one bad window", 1, 0.03, 0, 0)
	f("and a good one", 1, 0, 0, 0)
	f("two bad ones", 2, 0.03, 1, 1)
	f("not better, not worse", 20, 0.01, 1, 0)
	f("bad once", 1, 0.07, 1, 0)
	f("bad twice", 1, 0.07, 2, 1)
	f("calm for 25 s", 5, 0.001, 2, 0)
	f("for 30", 1, 0.001, 1, 1)
	f("for 60", 6, 0.001, 0, 1)
	f("at rest", 100, 0, 0, 0)
	f("so bad that one window is enough", 1, 0.07, 1, 1)
	f("and the next one for more", 1, 0.07, 2, 1)
}

// What an action brought is told for each, also where the next one came before it was seen in full.
func TestRedundancy_TellsBeforeAndAfter(t *testing.T) {
	t.Parallel()
	r := NewRedundancy()
	var begun, seen []Action
	for i, loss := range []float64{0, 0.1, 0.04, 0.01, 0.01} {
		changed, known := r.Window(Line{Network: 0.1 * min(1, float64(i)), Loss: loss, Judged: true, MOS: 4 - loss, RTT: 50 * ms}, time.Duration(i)*WindowLength)
		if changed != nil {
			begun = append(begun, *changed)
		}
		if known != nil {
			seen = append(seen, *known)
		}
	}
	if len(begun) != 2 || len(seen) != 2 {
		t.Fatalf("%+v, %+v", begun, seen)
	}
	first, second := seen[0], seen[1]
	if first.To != 1 || first.Before.Loss != 0.05 || first.After.Loss != 0.04 || first.After.Windows != 1 {
		t.Errorf("%+v", first)
	}
	if second.To != 2 || second.Before.Loss != 0.04 || second.After.Loss != 0.01 || second.After.Windows != 2 || second.After.RTT != 50*ms {
		t.Errorf("%+v", second)
	}
}

// Copies fill a line that is full already: they are taken back, and tried again later, twice as late each time.
func TestRedundancy_IsUndoneWhereItHurts(t *testing.T) {
	t.Parallel()
	r, at := NewRedundancy(), time.Duration(0)
	var tried []time.Duration
	for range 120 { // ten minutes
		at += WindowLength
		network := 0.04
		if r.Level() > 0 {
			network = 0.12
		}
		changed, known := r.Window(Line{Network: network, Loss: network, Judged: true}, at)
		if changed == nil {
			continue
		}
		switch changed.Reason {
		case ReasonLoss:
			tried = append(tried, at)
		case ReasonWorse:
			if known == nil || known.Before.Network != 0.04 || known.After.Network != 0.12 || changed.To != 0 || !changed.Undone() {
				t.Fatalf("%+v, %+v", changed, known)
			}
		default:
			t.Fatalf("%+v", changed)
		}
	}
	if len(tried) != 4 || tried[1]-tried[0] < redHoldMin || tried[2]-tried[1] < 2*redHoldMin || tried[3]-tried[2] < 4*redHoldMin {
		t.Errorf("tried at %v", tried)
	}
}

func TestRedundancy_DecidesNothingInSilence(t *testing.T) {
	t.Parallel()
	r := NewRedundancy()
	for i := range 10 {
		if changed, known := r.Window(Line{Network: 1, Loss: 1}, time.Duration(i)*WindowLength); changed != nil || known != nil {
			t.Fatalf("%+v", changed)
		}
	}
	at := time.Minute
	windows(r, &at, 2, 0.1, 0.1)
	if a := r.Off(at); a == nil || a.Reason != ReasonServer || r.Level() != 0 || r.Off(at) != nil {
		t.Errorf("%+v", a)
	}
}

// A queue grows until less is sent. It shrinks, and half a minute later more is sent again.
func TestCongestion_GivesWayAndComesBack(t *testing.T) {
	t.Parallel()
	c, at := NewBitrate(64_000), time.Duration(0)
	run := func(n int, rtt time.Duration, network float64) (settings []int) {
		for range n {
			at += WindowLength
			if changed, _ := c.Window(Line{Network: network, RTT: rtt, Judged: true}, at); changed != nil {
				if changed.From == changed.To || changed.To != c.Setting() || changed.Before.Windows == 0 {
					t.Fatalf("%+v", changed)
				}
				settings = append(settings, changed.To)
			}
		}
		return settings
	}
	f := func(name string, got []int, want ...int) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", name, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	f("all is well", run(10, 40*ms, 0))
	f("loss alone", run(10, 45*ms, 0.1))
	f("slow alone", run(1, 300*ms, 0))
	f("slow, and lossy", run(2, 300*ms, 0.03), 24_000)
	f("still", run(2, 300*ms, 0.03), 16_000)
	f("still, for minutes: no less than that, and it is not taken for what is usual", run(40, 300*ms, 0.03))
	f("over", run(12, 45*ms, 0), 24_000, 64_000)
	f("far away from now on, without loss", run(100, 300*ms, 0))
}

func TestCongestion_LeavesOneSpeaker(t *testing.T) {
	t.Parallel()
	c := NewSlots(3)
	c.Window(Line{RTT: 30 * ms, Judged: true}, 0)
	for i := range 20 {
		c.Window(Line{RTT: 300 * ms, Network: 0.1, Judged: true}, time.Duration(i)*WindowLength)
	}
	if c.Setting() != 1 {
		t.Errorf("%d slots", c.Setting())
	}
}

func TestFrame_GrowsWithTheCrowd(t *testing.T) {
	t.Parallel()
	f := func(people, now, want int) {
		t.Helper()
		if got := Frame(people, now); got != want {
			t.Errorf("%d people at %d ms: %d, want %d", people, now, got, want)
		}
	}
	f(300, 20, 20)
	f(301, 20, 40)
	f(251, 40, 40)
	f(249, 40, 20)
}

func TestRestart_AdvisesOneAfterTheOther(t *testing.T) {
	t.Parallel()
	var r Restart
	f := func(quiet, at time.Duration, want int) {
		t.Helper()
		if got := r.Quiet(quiet, at); got != want {
			t.Errorf("quiet for %v at %v: %d, want %d", quiet, at, got, want)
		}
	}
	f(2*time.Second, 10*time.Second, 0)
	f(3*time.Second, 11*time.Second, 1)
	f(8*time.Second, 16*time.Second, 0)
	f(9*time.Second, 17*time.Second, 2)
	f(30*time.Second, 40*time.Second, 0)
	f(0, 41*time.Second, 0)
	f(3*time.Second, 44*time.Second, 1)
}
