package quality

import (
	"sync"
	"time"

	"github.com/pion/rtcp"
)

const (
	// reportsMax is of how many reports of ours an answer still tells the round trip.
	reportsMax = 4
	// reportsEvery is how long it may be from one report to the next: Chromium's are 2.5 to 7.5 s apart. As long as that nobody
	// is silent who says nothing.
	reportsEvery = 7500 * time.Millisecond
	// rttMax is what cannot be a round trip any more.
	rttMax = 10 * time.Second
)

// Outgoing measures a stream that is sent, by what its receiver says: packets lost, asked for again, jitter, round trips. All
// methods are for any goroutine. It allocates nothing but what Report returns.
type Outgoing struct {
	clockRate uint32
	mu        sync.Mutex
	count     Counters

	begun   bool
	since   time.Duration
	first   int64
	highest int64
	stamp   uint32 // the latest timestamp, sent at
	at      time.Duration

	answered bool
	settled  int64 // the highest number that the receiver has told of
	lost     int64 // as it says, all in all
	asked    uint64
	heard    time.Duration // when it told of something new
	told     time.Duration // when it told of anything
	stalled  bool          // the latest report told of nothing new, though there was
	jitter   time.Duration
	rtt      time.Duration

	reports [reportsMax]struct {
		middle uint32
		at     time.Duration
	}
	reportCount int
}

// NewOutgoing makes one for a stream with a clock of so many Hz, 0 for 48,000.
func NewOutgoing(clockRate uint32) *Outgoing {
	if clockRate == 0 {
		clockRate = 48_000
	}
	return &Outgoing{clockRate: clockRate}
}

// Packet is a packet that is sent, with this many bytes of payload. The numbers go up by one each, but for packets that are
// sent again.
func (o *Outgoing) Packet(sequence uint16, timestamp uint32, size int, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count.Packets++
	o.count.Bytes += uint64(size)
	if size <= pausePayload {
		o.count.Pauses++
	}
	if !o.begun {
		o.since, o.begun, o.first, o.highest = at, true, int64(sequence), int64(sequence)
		o.settled = o.first - 1
	} else {
		step := int64(int16(sequence - uint16(o.highest)))
		if step <= 0 {
			o.count.Duplicates++
			return
		}
		o.highest += step
		if step < 64 {
			o.asked <<= step
		} else {
			o.asked = 0
		}
	}
	o.stamp, o.at = timestamp, at
}

// received is what the other side says has arrived. Nobody can have got what was not sent: such a block is passed over.
func (o *Outgoing) received(b block, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.begun {
		return
	}
	behind := int64(uint16(uint16(o.highest) - uint16(b.highest)))
	highest := o.highest - behind
	if highest < o.first || highest < o.settled {
		return
	}
	lost := int64(b.lost)
	if !o.answered {
		o.lost = 0
	}
	// The count goes down as copies come, and stands still at its end (RFC 3550, A.3).
	fresh := min(max(lost-o.lost, 0), highest-o.settled)
	o.count.Settled += uint64(highest - o.settled)
	o.count.Lost += uint64(fresh)
	o.stalled = o.answered && highest == o.settled && o.highest-highest >= judgedMin
	if !o.stalled {
		o.heard = at
	}
	o.answered, o.settled, o.lost, o.told = true, highest, lost, at
	o.jitter = time.Duration(int64(b.jitter) * int64(time.Second) / int64(o.clockRate))
	o.roundTrip(b.last, b.delay, at)
}

func (o *Outgoing) roundTrip(last, delay uint32, at time.Duration) {
	if last == 0 {
		return
	}
	for _, r := range o.reports {
		held := time.Duration(delay) * time.Second / 65536
		if rtt := at - r.at - held; r.middle == last && rtt > -time.Millisecond && rtt < rttMax {
			o.rtt = max(rtt, time.Microsecond)
			return
		}
	}
}

// requested is a NACK: a packet that is asked for several times counts once. RecoveredNACK are those, whether or not they are
// sent again: a receiver that asks has not got them.
func (o *Outgoing) requested(first, more uint16, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.begun {
		return
	}
	o.heard, o.told, o.stalled = at, at, false
	for bit := range 17 {
		if bit > 0 && more>>(bit-1)&1 == 0 {
			continue
		}
		age := uint16(o.highest) - first - uint16(bit)
		if age < 64 && int64(age) <= o.highest-o.first && o.asked>>age&1 == 0 {
			o.asked |= 1 << age
			o.count.RecoveredNACK++
		}
	}
}

// Snapshot is the stream at a moment.
func (o *Outgoing) Snapshot(at time.Duration) Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := Snapshot{Counters: o.count, At: at, LastPacket: o.at, Heard: o.told, Highest: o.highest, Jitter: o.jitter, RTT: o.rtt}
	switch {
	case !o.begun:
		s.Heard = at
	case o.stalled:
		s.Heard = o.heard
	case at > max(o.told, o.since):
		s.Heard = min(at, max(o.told, o.since)+reportsEvery)
	}
	return s
}

// Report is a report of RTCP about what was sent, nil if nothing was. wall is the time that goes with at.
func (o *Outgoing) Report(ssrc uint32, wall time.Time, at time.Duration) *rtcp.SenderReport {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.begun {
		return nil
	}
	ntp := ntpTime(wall)
	o.remember(ntp, at)
	return &rtcp.SenderReport{
		SSRC: ssrc, NTPTime: ntp, PacketCount: uint32(o.count.Packets), OctetCount: uint32(o.count.Bytes),
		RTPTime: o.stamp + uint32(int64(at-o.at)*int64(o.clockRate)/int64(time.Second)),
	}
}

// Reported is a report that somebody else has made, with its NTP time: answers to it tell the round trip.
func (o *Outgoing) Reported(ntp uint64, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remember(ntp, at)
}

func (o *Outgoing) remember(ntp uint64, at time.Duration) {
	next := &o.reports[o.reportCount%reportsMax]
	next.middle, next.at = uint32(ntp>>16), at
	o.reportCount++
}

// ntpTime is seconds since 1900 with 32 bits behind the point; it wraps in 2036.
func ntpTime(t time.Time) uint64 {
	const since1900 = 2_208_988_800
	seconds := uint64(t.Unix()) + since1900
	return seconds<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
