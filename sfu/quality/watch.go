package quality

import "time"

// Direction is which way a report is about.
type Direction string

// Both directions, as the participant sees it.
const (
	Up   Direction = "up"
	Down Direction = "down"
)

// Measure is what is known of one participant and direction in a window; what is not known is zero.
type Measure struct {
	Window Window
	// Rating is that of the direction's paths: of all listeners for what somebody says, of all speakers for what they hear.
	Rating Rating
	Fault  Fault
	// Redundancy is how many copies their packets have, and Actions what is done for them right now.
	Redundancy int
	Actions    []Action
	// Concealed is the share of what was played that the client's decoder made up, as the client says.
	Concealed float64
	// Muted is that nothing is to be expected: they are muted, or nobody talks. Alive is that their signalling is.
	Muted, Alive bool
	// Moved is that their packets come by another way than in the window before.
	Moved bool
	// Lag is how far the server's loops are behind, and Queue how full its queues are, from 0 to 1.
	Lag   time.Duration
	Queue float64
}

// Report is VOICE_QUALITY: what is said of a direction of somebody.
type Report struct {
	Direction Direction
	Class     Class
	// Score is the smoothed MOS, and the rest the measure of the latest window.
	Score float64
	Measure
}

// AlertType is what an alert is about.
type AlertType string

// All alerts.
const (
	AlertMOS      AlertType = "mos_low"
	AlertOneWay   AlertType = "one_way_audio"
	AlertNoRTP    AlertType = "no_rtp"
	AlertJitter   AlertType = "high_jitter"
	AlertBurst    AlertType = "burst_loss"
	AlertClipping AlertType = "clipping"
	AlertSilent   AlertType = "silent_mic"
	AlertMoved    AlertType = "path_changed"
	AlertServer   AlertType = "server_overload"
)

// Alert is VOICE_ALERT: something is wrong, or no longer.
type Alert struct {
	Type AlertType
	// On is false when it has ended.
	On bool
	// Since is when it began, Value what was measured, and Limit what must not be passed, in the type's own unit: MOS, seconds,
	// milliseconds, packets, shares.
	Since        time.Duration
	Value, Limit float64
}

// alarm is when a type is raised and cleared. Between the two limits it stays as it is.
type alarm struct {
	kind      AlertType
	direction Direction // "" for both
	limit     float64
	up, down  int // in windows
	// value tells what is measured, whether that is too much, and whether all is well again.
	value func(Measure) (v float64, bad, good bool)
}

// alarms: limits at which people begin to complain, and those at which they stop to.
var alarms = []alarm{
	{AlertMOS, "", 3.1, 2, 3, func(m Measure) (float64, bool, bool) {
		// Lost packets must be known of, unless it is bad even without.
		known := m.Window.Judged || m.Rating.MOS < 3.1
		return m.Rating.MOS, known && !m.Muted && m.Rating.MOS < 3.1, m.Muted || m.Rating.MOS >= 3.5
	}},
	{AlertOneWay, Down, 5, 1, 1, func(m Measure) (float64, bool, bool) {
		// We send, they are there, and they tell of nothing that has come.
		deaf := m.Alive && m.Window.Packets >= judgedMin && m.Window.Unheard >= lostAfter
		return m.Window.Unheard.Seconds(), deaf, m.Window.Unheard < lostAfter || m.Window.Packets == 0
	}},
	{AlertNoRTP, Up, 3, 1, 1, func(m Measure) (float64, bool, bool) {
		quiet := m.Window.Quiet >= 3*time.Second
		return m.Window.Quiet.Seconds(), quiet && m.Alive && !m.Muted, !quiet || m.Muted
	}},
	{AlertJitter, "", 40, 2, 2, func(m Measure) (float64, bool, bool) {
		ms := float64(m.Window.Jitter) / float64(time.Millisecond)
		return ms, ms > 40, ms < 25
	}},
	{AlertBurst, "", 3, 2, 3, func(m Measure) (float64, bool, bool) {
		w := m.Window
		return w.Burst, w.Judged && w.Burst >= 3 && w.Loss >= 0.02, w.Judged && (w.Burst < 2 || w.Loss < 0.01)
	}},
	{AlertClipping, Up, 0.1, 2, 2, func(m Measure) (float64, bool, bool) {
		return m.Window.Loud, m.Window.Leveled >= judgedMin && m.Window.Loud > 0.1, m.Window.Loud < 0.02
	}},
	{AlertSilent, Up, 1, 3, 1, func(m Measure) (float64, bool, bool) {
		// Even a quiet room has some noise, and a microphone that is off has none.
		all := m.Window.Leveled >= judgedMin && m.Window.Silent == 1
		return m.Window.Silent, all && !m.Muted, m.Muted || m.Window.Leveled > 0 && m.Window.Silent < 1
	}},
	{AlertMoved, "", 1, 1, 1, func(m Measure) (float64, bool, bool) { return 1, m.Moved, !m.Moved }},
	{AlertServer, "", 5, 1, 2, func(m Measure) (float64, bool, bool) {
		ms := float64(m.Lag) / float64(time.Millisecond)
		return ms, ms > 5 || m.Queue > 0.5, ms < 2 && m.Queue < 0.25
	}},
}

// repeatEvery is how often somebody hears of their quality if the class does not change.
const repeatEvery = 10 * time.Second

// Watch makes reports and alerts of one direction of one participant. It is for one goroutine.
type Watch struct {
	direction Direction
	grader    Grader
	told      time.Duration
	ladders   []Ladder
	since     []time.Duration
}

// NewWatch makes one.
func NewWatch(direction Direction) *Watch {
	w := &Watch{direction: direction, ladders: make([]Ladder, len(alarms)), since: make([]time.Duration, len(alarms))}
	for i, a := range alarms {
		w.ladders[i] = Ladder{Up: a.up, Down: a.down}
	}
	return w
}

// Window takes a measure, windows one after another, and returns what is to be said: nil if there is no report due, and no alerts
// as a rule. at is the end of the window.
func (w *Watch) Window(m Measure, at time.Duration) (*Report, []Alert) {
	alerts := w.alerts(m, at)
	unheard := m.Window.Unheard
	if m.Muted && m.Alive {
		unheard = 0 // nobody is lost who has nothing to say
	}
	class, changed := w.grader.Grade(m.Rating.MOS, unheard)
	if !changed && at-w.told < repeatEvery {
		return nil, alerts
	}
	w.told = at
	return &Report{Direction: w.direction, Class: class, Score: w.grader.Score(), Measure: m}, alerts
}

func (w *Watch) alerts(m Measure, at time.Duration) []Alert {
	var alerts []Alert
	for i, a := range alarms {
		if a.direction != "" && a.direction != w.direction {
			continue
		}
		value, bad, good := a.value(m)
		ladder := &w.ladders[i]
		before, ask := ladder.Level(), 0
		if bad {
			ask = 1
		}
		now := ladder.Step(ask, good && !bad)
		if now == before {
			continue
		}
		if now > 0 {
			w.since[i] = at
		}
		alerts = append(alerts, Alert{Type: a.kind, On: now > 0, Since: w.since[i], Value: value, Limit: a.limit})
	}
	return alerts
}
