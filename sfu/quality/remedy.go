package quality

import (
	"cmp"
	"time"

	"github.com/xcord/xcord/sfu/red"
)

// Remedy is something that is done about a bad path.
type Remedy string

// All remedies.
const (
	RemedyRED     Remedy = "red"     // copies of earlier frames in each packet to a listener
	RemedyBitrate Remedy = "bitrate" // the most that a speaker is to send, in bits a second
	RemedySlots   Remedy = "slots"   // how many speakers a listener gets at once
	RemedyFrame   Remedy = "ptime"   // how long a speaker's frames are to be, in milliseconds
	RemedyRestart Remedy = "restart" // 1: a new way for the packets (ICE restart), 2: by way of TCP or TURN
)

// Reason is why.
type Reason string

// All reasons.
const (
	ReasonLoss      Reason = "loss"      // much is lost
	ReasonCongested Reason = "congested" // round trips grow, and packets are lost
	ReasonWorse     Reason = "worse"     // it was undone since it made things worse
	ReasonCalm      Reason = "calm"      // it was undone since it is no longer needed
	ReasonCrowd     Reason = "crowd"     // there are so many to send to
	ReasonServer    Reason = "overload"
	ReasonNoRTP     Reason = "no_rtp"
)

// Action is a remedy that was changed, from one setting to another, and what the path was like before. After is there as soon as
// there are windows of it: see Effect.
type Action struct {
	Remedy   Remedy
	From, To int
	Reason   Reason
	At       time.Duration
	Before   Effect
	After    Effect
}

// Effect is what windows were like on average.
type Effect struct {
	Windows       int
	Loss, Network float64
	MOS           float64
	RTT           time.Duration
}

// Undone is whether the action took something back.
func (a Action) Undone() bool { return a.Reason == ReasonWorse || a.Reason == ReasonCalm }

// Line is what a remedy is decided by, window for window: the path of one listener, or the uplink of one speaker.
type Line struct {
	// Network is the share that the network loses, whether or not it is brought back; Loss what remains.
	Network, Loss float64
	Judged        bool
	RTT           time.Duration
	MOS           float64
}

func (e *Effect) add(l Line) {
	n := float64(e.Windows)
	mean := func(old, now float64) float64 { return (old*n + now) / (n + 1) }
	e.Loss, e.Network, e.MOS = mean(e.Loss, l.Loss), mean(e.Network, l.Network), mean(e.MOS, l.MOS)
	e.RTT = time.Duration(mean(float64(e.RTT), float64(l.RTT)))
	e.Windows++
}

// effectWindows is how many windows are looked at before and after a change.
const effectWindows = 2

// record keeps the latest windows and the latest action, and fills in what it brought.
type record struct {
	recent []Line
	action *Action
}

// window remembers a window, and returns the action whose effect is known with it.
func (r *record) window(l Line) (known *Action) {
	r.recent = append(r.recent, l)
	if len(r.recent) > effectWindows {
		r.recent = r.recent[:copy(r.recent, r.recent[1:])]
	}
	if r.action == nil {
		return nil
	}
	r.action.After.add(l)
	if r.action.After.Windows < effectWindows {
		return nil
	}
	known, r.action = r.action, nil
	return known
}

// act begins an action. One that it ends before its effect was seen in full is returned with what was seen.
func (r *record) act(a Action) (begun, ended *Action) {
	for _, l := range r.recent {
		a.Before.add(l)
	}
	if r.action != nil && r.action.After.Windows > 0 {
		ended = r.action
	}
	r.action, r.recent = &a, r.recent[:0]
	return r.action, ended
}

// Limits of redundancy: copies cost as many bytes as the frames, and no packets.
const (
	redOne, redTwo = 0.015, 0.06
	redCalm        = 0.005
	redCalmFor     = 30 * time.Second
	// Loss that grows by half and two points when bytes are added is of a line that is full.
	redWorse, redWorseBy = 1.5, 0.02
	redHoldMin           = time.Minute
	redHoldMax           = 16 * time.Minute
)

// Redundancy decides how many copies of earlier frames the packets to one listener have, from 0 to 2. It is for one goroutine.
type Redundancy struct {
	ladder Ladder
	record record
	hold   time.Duration
	until  time.Duration
}

// NewRedundancy makes one, without copies.
func NewRedundancy() *Redundancy {
	return &Redundancy{ladder: Ladder{Up: 2, Down: int(redCalmFor / WindowLength)}, hold: redHoldMin}
}

// Level is how many copies there are to be.
func (r *Redundancy) Level() int { return r.ladder.Level() }

// Window takes what a listener's line was like for five seconds up to at, and returns the change, nil if there is none, and the
// earlier one of which the effect is known now. If a change made it worse it is undone, and not tried for a minute, and for
// twice as long each time.
func (r *Redundancy) Window(l Line, at time.Duration) (changed, known *Action) {
	if !l.Judged {
		return nil, nil // nobody talks: nothing is known
	}
	known = r.record.window(l)
	level := r.ladder.Level()
	if known != nil && known.To > known.From && worse(known) {
		r.ladder.Reset(known.From)
		r.until = at + r.hold
		r.hold = min(2*r.hold, redHoldMax)
		changed, _ = r.record.act(Action{Remedy: RemedyRED, From: level, To: known.From, Reason: ReasonWorse, At: at})
		return changed, known
	}
	ask := 0
	switch {
	case at < r.until:
	case l.Network >= redTwo:
		ask = red.LevelMax
	case l.Network >= redOne:
		ask = 1
	}
	now := r.ladder.Step(ask, l.Network < redCalm)
	if ask == red.LevelMax && now == 0 {
		// Chromium's reports are 2.5 to 7.5 s apart: with so much loss the second one is not waited for.
		now = r.ladder.Begin()
	}
	if now == level {
		return nil, known
	}
	reason := ReasonLoss
	if now < level {
		reason, r.hold = ReasonCalm, redHoldMin
	}
	changed, ended := r.record.act(Action{Remedy: RemedyRED, From: level, To: now, Reason: reason, At: at})
	return changed, cmp.Or(known, ended)
}

func worse(a *Action) bool {
	return a.After.Network > redWorse*a.Before.Network && a.After.Network > a.Before.Network+redWorseBy
}

// Off ends redundancy at once, for the server is overloaded. It returns the change, nil if there was none.
func (r *Redundancy) Off(at time.Duration) *Action {
	level := r.ladder.Level()
	if level == 0 {
		return nil
	}
	r.ladder.Reset(0)
	changed, _ := r.record.act(Action{Remedy: RemedyRED, From: level, Reason: ReasonServer, At: at})
	return changed
}

// Congestion decides by how round trips grow: what a speaker may send, or how many speakers a listener gets. It is for one
// goroutine.
type Congestion struct {
	remedy   Remedy
	settings []int // the first one is without remedy
	ladder   Ladder
	record   record
	base     [2]time.Duration // the least round trip of this minute and of the one before
	till     time.Duration
}

const (
	congestedBy, congestedLoss = 2, 0.02
	congestedRTT               = 40 * time.Millisecond // less more than usual is no queue
	relaxedBy, relaxedLoss     = 1.5, 0.005
	congestionCalmFor          = 30 * time.Second
	baseWindow                 = time.Minute
)

// NewBitrate decides on the most that a speaker is to send: the usual bitrate, 24 kb/s, 16 kb/s.
func NewBitrate(usual int) *Congestion {
	return newCongestion(RemedyBitrate, usual, min(usual, 24_000), min(usual, 16_000))
}

// NewSlots decides how many speakers a listener gets: as usual, and down to one.
func NewSlots(usual int) *Congestion {
	settings := []int{}
	for n := usual; n >= 1; n-- {
		settings = append(settings, n)
	}
	return newCongestion(RemedySlots, settings...)
}

func newCongestion(remedy Remedy, settings ...int) *Congestion {
	return &Congestion{remedy: remedy, settings: settings, ladder: Ladder{Up: 2, Down: int(congestionCalmFor / WindowLength)}}
}

// Setting is what it is to be now.
func (c *Congestion) Setting() int { return c.settings[c.ladder.Level()] }

// Window takes what the line was like for five seconds up to at, and returns the change, nil if there is none, and the earlier
// one of which the effect is known now.
func (c *Congestion) Window(l Line, at time.Duration) (changed, known *Action) {
	if !l.Judged || l.RTT == 0 {
		return nil, nil
	}
	known = c.record.window(l)
	base := c.least(l.RTT, at)
	level, ask := c.ladder.Level(), 0
	if l.RTT > congestedBy*base && l.RTT > base+congestedRTT && l.Network >= congestedLoss {
		ask = min(level+1, len(c.settings)-1)
	}
	calm := float64(l.RTT) < relaxedBy*float64(base) && l.Network < relaxedLoss
	now := c.ladder.Step(ask, calm)
	if now == level {
		return nil, known
	}
	reason := ReasonCongested
	if now < level {
		reason = ReasonCalm
	}
	changed, ended := c.record.act(Action{Remedy: c.remedy, From: c.settings[level], To: c.settings[now], Reason: reason, At: at})
	return changed, cmp.Or(known, ended)
}

// least is the least round trip of the latest one or two minutes while there is no congestion: a queue that stays must
// not become what is usual.
func (c *Congestion) least(rtt, at time.Duration) time.Duration {
	switch {
	case c.base[0] == 0:
		c.base, c.till = [2]time.Duration{rtt, rtt}, at+baseWindow
	case at >= c.till && c.ladder.Level() == 0 && c.ladder.asked == 0:
		c.base, c.till = [2]time.Duration{rtt, c.base[0]}, at+baseWindow
	}
	c.base[0] = min(c.base[0], rtt)
	return min(c.base[0], c.base[1])
}

// Frame sizes by the number of people in a room on a stage: half the packets, for 20 ms more of delay.
const (
	crowdFrom, crowdTo     = 300, 250
	frameShort, frameCrowd = 20, 40
)

// Frame says how long frames are to be, in milliseconds, for so many people, when they are this long now.
func Frame(people, now int) int {
	switch {
	case people > crowdFrom:
		return frameCrowd
	case people < crowdTo:
		return frameShort
	}
	return now
}

// Restart decides what is advised when nothing comes of somebody who is there: a new way, and by TCP or TURN after that. It is
// for one goroutine.
type Restart struct {
	advised int
	at      time.Duration
}

const (
	restartAfter = 3 * time.Second
	restartEvery = 6 * time.Second
)

// Quiet takes for how long nothing has come that should have. It returns 0 for no advice, 1 to restart ICE, 2 to go by a relay or
// TCP; each once, six seconds apart, until something has come.
func (r *Restart) Quiet(quiet, at time.Duration) int {
	switch {
	case quiet < restartAfter:
		r.advised = 0
		return 0
	case r.advised == 2 || r.advised == 1 && at-r.at < restartEvery:
		return 0
	}
	r.advised++
	r.at = at
	return r.advised
}
