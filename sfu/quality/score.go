package quality

import (
	"math"
	"time"
)

// The E-model's numbers (ITU-T G.107, 06/2015): 93.2 is R with all else at its default (section 7.7), 95 what remains to be
// impaired (7-29), 100 ms the delay that nobody hears (7-27).
const (
	ratingBest    = 93.2
	impairmentMax = 95
	delayHeard    = 100 * time.Millisecond
	// mosMax is the best that people say of anything.
	mosMax = 4.5
)

// What Opus, its players and the machines at both ends add. There is no official Ie and Bpl of Opus for this scale: they are
// estimates, to be calibrated by what players conceal.
const (
	codecDelay = 26500 * time.Microsecond // a frame of 20 ms, and 6.5 ms that the encoder looks ahead
	frameUsual = 20 * time.Millisecond
	endsDelay  = 10 * time.Millisecond
	bufferMin  = 20 * time.Millisecond

	robustConcealed = 10 // Bpl: what is lost is made up by the decoder
	robustFEC       = 20 // Bpl: single packets are in the next one, coarser

	// lossKnown is up to which loss in percent bursts count for less as more is lost: the formula was made for loss up to there, and
	// beyond it would have more loss be better.
	lossKnown = 20
)

// Leg is one part of a path.
type Leg struct {
	// Loss and Late are shares from 0 to 1. Burst is the mean length of a run of lost packets, 0 for random loss.
	Loss, Late, Burst float64
	// RTT is there and back, Jitter that of RFC 3550.
	RTT, Jitter time.Duration
}

// Path is the way of a voice from a speaker by way of the server to a listener.
type Path struct {
	Up, Down Leg
	// ServerLoss is the share that the server dropped itself, and ServerDelay how long packets are in it.
	ServerLoss  float64
	ServerDelay time.Duration
	// Redundancy is how many copies of earlier frames each packet to the listener has. Copies sent by the speaker are
	// in Up.Loss already, since the server sees what they bring.
	Redundancy int
	// FEC is that the speaker's encoder adds in-band FEC.
	FEC bool
	// Bitrate is the speaker's in bits a second, 0 if not known. Frame is how long its frames are, 0 for 20 ms.
	Bitrate int
	Frame   time.Duration
	// Buffer is the delay of the listener's jitter buffer, as it says; 0 if it does not.
	Buffer time.Duration
}

// Rating is what the E-model makes of a path: R from 0 to 93.2, and the mean opinion score from 1 to 4.5 that goes with it. Both are
// estimates.
type Rating struct{ R, MOS float64 }

// Rate scores a path.
func (p Path) Rate() Rating {
	r := max(0, ratingBest-delayImpairment(p.Delay())-p.lossImpairment())
	return Rating{R: r, MOS: opinion(r)}
}

// Delay is from mouth to ear.
func (p Path) Delay() time.Duration {
	buffer := p.Buffer
	if buffer == 0 {
		buffer = max(bufferMin, 2*(p.Up.Jitter+p.Down.Jitter))
	}
	frame := time.Duration(0)
	if p.Frame > frameUsual {
		frame = p.Frame - frameUsual
	}
	return codecDelay + frame + p.Up.RTT/2 + p.ServerDelay + p.Down.RTT/2 + buffer + endsDelay
}

// Loss is what the listener misses of what is said, from 0 to 1, after all repair but concealment.
func (p Path) Loss() float64 {
	down := residual(p.Down.Loss, p.Down.Burst, p.Redundancy)
	return 1 - (1-p.Up.Loss)*(1-p.Up.Late)*(1-p.ServerLoss)*(1-down)*(1-p.Down.Late)
}

// residual is the share of frames that are lost with all their copies: a frame is, if its packet is the first of a run of
// lost ones that is longer than there are copies. In Gilbert's model each packet of a run is followed by another with 1-1/burst.
func residual(loss, burst float64, copies int) float64 {
	if burst == 0 {
		burst = 1 / (1 - min(loss, 1-1e-12)) // what random loss has
	}
	return loss * math.Pow(1-1/max(1, burst), float64(copies))
}

// delayImpairment is Idd, formulas 7-27 and 7-28 with the default sensitivity.
func delayImpairment(delay time.Duration) float64 {
	if delay <= delayHeard {
		return 0
	}
	x := math.Log2(float64(delay) / float64(delayHeard))
	return 25 * (math.Pow(1+math.Pow(x, 6), 1.0/6) - 3*math.Pow(1+math.Pow(x/3, 6), 1.0/6) + 2)
}

// lossImpairment is Ie,eff, formula 7-29.
func (p Path) lossImpairment() float64 {
	percent := 100 * p.Loss()
	codec := codecImpairment(p.Bitrate)
	robust := float64(robustConcealed)
	if p.FEC {
		robust = robustFEC
	}
	burst := max(1, p.burst()*(1-min(percent, lossKnown)/100))
	return codec + (impairmentMax-codec)*percent/(percent/burst+robust)
}

// burst is that of the leg that loses more. What is left behind redundancy is what was longer than it: as long again.
func (p Path) burst() float64 {
	if p.Up.Loss >= residual(p.Down.Loss, p.Down.Burst, p.Redundancy) {
		return p.Up.Burst
	}
	return p.Down.Burst
}

// codecImpairment is Ie of Opus at a bitrate: 0 from 32 kb/s on, 5 at 24, 11 at 16, 20 at 12, and between these on lines.
func codecImpairment(bitrate int) float64 {
	points := [...]struct{ rate, impairment float64 }{{6_000, 45}, {12_000, 20}, {16_000, 11}, {24_000, 5}, {32_000, 0}}
	rate := float64(bitrate)
	if bitrate == 0 || rate >= points[len(points)-1].rate {
		return 0
	}
	for i := 1; i < len(points); i++ {
		low, high := points[i-1], points[i]
		if rate < high.rate {
			along := max(0, (rate-low.rate)/(high.rate-low.rate))
			return low.impairment + along*(high.impairment-low.impairment)
		}
	}
	return 0
}

// opinion is the mean opinion score of R (annex B). Below 6.5 the curve goes under 1, where there are no opinions.
func opinion(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return mosMax
	}
	return max(1, 1+0.035*r+7e-6*r*(r-60)*(100-r))
}
