// Package impair is a bad network in user space, with a seed: it loses, in bursts too, delays, reorders, duplicates and holds up
// packets, and knows exactly what it did. That is what measurements are held against. A Line decides, without a clock or
// sockets; a Net carries packets in memory, also in virtual time; a Relay is a UDP proxy. It is for tests and benches.
package impair

import (
	"math/rand/v2"
	"time"
)

// Config says how bad a line is. The zero value is a perfect one.
type Config struct {
	Loss Loss
	// Delay is what every packet takes, and Jitter the most that is added, evenly spread from 0.
	Delay, Jitter time.Duration
	// Overtake lets packets pass those before them if their delay is shorter. Otherwise they arrive right behind them.
	Overtake bool
	// Duplicate is the share of packets, from 0 to 1, that arrive twice.
	Duplicate float64
	// Rate is how many bits a second pass, headers below UDP not counted; 0 for no limit. Who would wait longer than Queue
	// is dropped; 0 for 200 ms.
	Rate  int
	Queue time.Duration
}

// Loss is the model of Gilbert and Elliott: two states, each with its share of packets lost. All are probabilities per
// packet, from 0 to 1. The zero value loses nothing.
type Loss struct {
	// Enter is how likely it is to go from the good state to the bad one, and Leave the way back.
	Enter, Leave float64
	// Good and Bad are what is lost in each.
	Good, Bad float64
}

// Random is a loss of p of all packets, each by itself.
func Random(p float64) Loss { return Loss{Good: p} }

// Bursty is a loss of p of all packets, in runs of this many on average (Gilbert's model). mean is 1 at least, and p less than 1.
func Bursty(p, mean float64) Loss {
	leave := 1 / mean
	return Loss{Enter: leave * p / (1 - p), Leave: leave, Bad: 1}
}

// Truth is what a line did so far. Every packet is Lost, Dropped or has arrived; copies are counted in Duplicated only.
type Truth struct {
	Packets, Bytes uint64
	// Lost by the model, in this many Runs one right after another.
	Lost, Runs uint64
	// Dropped since the queue was full.
	Dropped uint64
	// Duplicated arrived twice, and Reordered before one that was sent earlier.
	Duplicated, Reordered uint64
	// DelayMax is the longest that a packet was under way.
	DelayMax time.Duration
}

// LossShare is what part of all packets did not arrive, from 0 to 1.
func (t Truth) LossShare() float64 {
	if t.Packets == 0 {
		return 0
	}
	return float64(t.Lost+t.Dropped) / float64(t.Packets)
}

// BurstMean is how long a run of lost packets was on average; 0 when none was lost.
func (t Truth) BurstMean() float64 {
	if t.Runs == 0 {
		return 0
	}
	return float64(t.Lost) / float64(t.Runs)
}

// Line decides what becomes of packets. The same seed and packets give the same fates. It is for one goroutine.
type Line struct {
	config Config
	random *rand.Rand
	truth  Truth

	bad, lostLast bool
	free          time.Duration // when the sender may put the next packet on the line
	last          time.Duration // the latest arrival
}

// NewLine makes a line.
func NewLine(seed uint64, config Config) *Line {
	return &Line{config: config, random: rand.New(rand.NewPCG(seed, 0x1e))}
}

// Set changes what the line is like for the packets to come.
func (l *Line) Set(config Config) { l.config, l.bad = config, false }

// Truth is what it did so far.
func (l *Line) Truth() Truth { return l.truth }

// Send is a packet of so many bytes at a moment of the caller's clock, which does not go backwards. It returns the moments
// at which the packet arrives: none if it is lost, two if it is doubled, the earlier one first.
func (l *Line) Send(at time.Duration, size int) (arrivals [2]time.Duration, n int) {
	l.truth.Packets++
	l.truth.Bytes += uint64(size)
	if l.loses() {
		l.truth.Lost++
		if !l.lostLast {
			l.truth.Runs++
		}
		l.lostLast = true
		return arrivals, 0
	}
	l.lostLast = false
	sent := at
	if l.config.Rate > 0 {
		begin := max(at, l.free)
		sent = begin + time.Duration(float64(size*8)/float64(l.config.Rate)*float64(time.Second))
		if sent-at > l.queue() {
			l.truth.Dropped++
			return arrivals, 0
		}
		l.free = sent
	}
	arrivals[0] = l.arrive(at, sent)
	if l.config.Duplicate > 0 && l.random.Float64() < l.config.Duplicate {
		l.truth.Duplicated++
		arrivals[1] = arrivals[0] + time.Millisecond
		l.last = max(l.last, arrivals[1])
		return arrivals, 2
	}
	return arrivals, 1
}

func (l *Line) loses() bool {
	model := l.config.Loss
	if model.Enter > 0 || l.bad {
		turn := model.Enter
		if l.bad {
			turn = model.Leave
		}
		if l.random.Float64() < turn {
			l.bad = !l.bad
		}
	}
	share := model.Good
	if l.bad {
		share = model.Bad
	}
	return share > 0 && l.random.Float64() < share
}

func (l *Line) arrive(at, sent time.Duration) time.Duration {
	arrival := sent + l.config.Delay
	if l.config.Jitter > 0 {
		arrival += time.Duration(l.random.Int64N(int64(l.config.Jitter)))
	}
	if arrival < l.last {
		if l.config.Overtake {
			l.truth.Reordered++
		} else {
			arrival = l.last
		}
	}
	l.last = max(l.last, arrival)
	l.truth.DelayMax = max(l.truth.DelayMax, arrival-at)
	return arrival
}

func (l *Line) queue() time.Duration {
	if l.config.Queue > 0 {
		return l.config.Queue
	}
	return 200 * time.Millisecond
}
