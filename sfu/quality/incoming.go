package quality

import (
	"math/bits"
	"sync"
	"time"

	"github.com/pion/rtcp"

	"github.com/xcord/xcord/sfu/red"
)

const (
	// settleAfter is how many packets later it is decided that one is lost, 640 ms at 20 ms a frame: retransmissions and
	// packets that were passed have come by then, or are of no use.
	settleAfter = 32
	// jumpMax and misorderMax tell a gap and a late packet from a source that began anew (RFC 3550, A.1).
	jumpMax, misorderMax = 3000, 100
	// pauseMin is the step of the timestamp from which on there was a pause. The first packet behind it says nothing of jitter:
	// speakers' clocks go on in a pause, stand still, or something in between.
	pauseMin = 200 * time.Millisecond
	// transitWindow is how long the fastest packet counts as what is possible; clocks drift.
	transitWindow = 5 * time.Second
	// lateMin is what every player waits for, and lateJitters how much more as packets come less evenly. NetEq takes the 95th
	// percentile of the arrivals; with delays that are evenly spread all are within 3 times their jitter.
	lateMin, lateJitters = 60 * time.Millisecond, 4
	// pausePayload is up to how many bytes say nothing: Opus sends one or two in a pause (RFC 6716, 2.1.9).
	pausePayload = 3
	// loudMax is the level from which on a microphone is overdriven, and silent the one of no signal at all.
	loudMax, silent = 1, 127
)

// IncomingConfig says what a stream is like.
type IncomingConfig struct {
	// ClockRate is of its timestamps in Hz; 0 for 48,000.
	ClockRate uint32
	// LevelID is the id of the header extension with the audio level (RFC 6464), 0 for none.
	LevelID uint8
	// RedundantType is the payload type of packets with copies of earlier ones (RFC 2198), 0 for none.
	RedundantType uint8
}

// Counters are of one stream since its beginning. They only grow.
type Counters struct {
	// Packets and Bytes (of payload) are all that came or went, copies too.
	Packets, Bytes uint64
	// Settled are the numbers of which it is known what became of them. Of these, Lost never came in time, in so many Bursts
	// one right after another. What NACK and RED brought back is not lost.
	Settled, Lost, Bursts         uint64
	RecoveredNACK, RecoveredRED   uint64
	Late                          uint64 // came, but when a player has given them up
	Duplicates, Reordered, Stale  uint64 // Stale came after it was settled that they are lost
	Pauses, Leveled, Silent, Loud uint64 // by content: pauses; those with a level, without a signal, overdriven
	Restarts, Malformed           uint64
}

// Snapshot is a stream at a moment.
type Snapshot struct {
	Counters
	// At is when, on the clock of the caller; LastPacket when the latest one came or went, 0 if none did.
	At, LastPacket time.Duration
	// Jitter is that of RFC 3550, 6.4.1.
	Jitter time.Duration
	// RTT is the way there and back, 0 if not known.
	RTT time.Duration
	// Highest is the latest number, with how often they wrapped.
	Highest int64
	// Heard is until when the other side was there for certain: of a stream that arrives its latest packet or report, of one that
	// is sent when it last told of something that had come.
	Heard time.Duration
}

// Incoming measures a stream that arrives: packets lost, in which bursts, late, jitter, levels, and which to ask for again.
// It takes less than a kilobyte, and allocates nothing. All methods are for any goroutine.
type Incoming struct {
	config IncomingConfig
	mu     sync.Mutex
	count  Counters
	redund red.Payload

	begun      bool
	highest    int64
	settled    int64  // all numbers up to here are
	seen       uint64 // bit i: the packet i before the highest is here
	asked      uint64 // and has been asked for
	askedTwice uint64
	askedAt    time.Duration
	askedRTT   time.Duration
	lostLast   bool
	restart    int32 // the number after which a second one in order means a restart; -1 for none

	latest    time.Duration // when the latest packet came, of any kind
	timed     bool          // last is set
	last      arrival
	jitter    float64 // nanoseconds
	transit   time.Duration
	least     [2]time.Duration // of this window and of the one before
	leastTill time.Duration

	first    int64
	unique   uint64 // numbers that came since then, as RTCP counts them: also what was asked for, not what RED brought
	reported struct {
		expected, unique uint64
	}
	told struct { // the latest report of the sender
		middle uint32
		at     time.Duration
	}
}

type arrival struct {
	at        time.Duration
	timestamp uint32
}

// NewIncoming makes one.
func NewIncoming(config IncomingConfig) *Incoming {
	if config.ClockRate == 0 {
		config.ClockRate = 48_000
	}
	return &Incoming{config: config, restart: -1}
}

// Packet is one packet as it came, decrypted, and when: at is on any clock that does not go backwards. What is no RTP is
// counted and otherwise passed over.
func (in *Incoming) Packet(b []byte, at time.Duration) {
	h, err := parseRTP(b, in.config.LevelID)
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil {
		in.count.Malformed++
		return
	}
	in.latest = at
	in.count.Packets++
	in.count.Bytes += uint64(h.size)
	in.content(&h)
	forward, fresh := in.number(h.sequence, at)
	if fresh {
		in.unique++
		in.arrived(&h, forward, at)
	}
	if in.config.RedundantType != 0 && h.payloadType == in.config.RedundantType && h.size > 0 {
		in.copies(h.sequence, b[h.payload:h.payload+h.size])
	}
}

func (in *Incoming) content(h *header) {
	if h.size <= pausePayload {
		in.count.Pauses++
	}
	if h.level == noLevel {
		return
	}
	in.count.Leveled++
	switch {
	case h.level == silent:
		in.count.Silent++
	case h.level <= loudMax:
		in.count.Loud++
	}
}

// number takes the packet's place among those before it: whether it is newer than all, and whether it counts at all.
func (in *Incoming) number(sequence uint16, at time.Duration) (forward, fresh bool) {
	if !in.begun {
		in.begin(sequence, at)
		return true, true
	}
	step := int64(int16(sequence - uint16(in.highest)))
	switch {
	case step > jumpMax || step <= -misorderMax:
		// Once may be a packet that went astray; two in order are a source that began anew.
		if in.restart != int32(sequence) {
			in.restart = int32(sequence + 1)
			in.count.Stale++
			return false, false
		}
		in.count.Restarts++
		in.begin(sequence, at)
		return true, true
	case step > 0:
		in.restart = -1
		in.forward(step)
		return true, true
	}
	in.restart = -1
	age := -step
	if age < 64 && in.seen>>age&1 == 1 {
		in.count.Duplicates++
		return false, false
	}
	if in.highest-age <= in.settled {
		in.count.Stale++
		return false, false
	}
	in.seen |= 1 << age
	// What comes sooner than half a round trip after it was asked for, for the first time, was on its way already.
	if in.askedTwice>>age&1 == 1 || in.asked>>age&1 == 1 && at-in.askedAt >= in.askedRTT/2 {
		in.count.RecoveredNACK++
	} else {
		in.count.Reordered++
	}
	return false, true
}

func (in *Incoming) begin(sequence uint16, at time.Duration) {
	in.begun, in.restart = true, -1
	in.highest = int64(sequence)
	in.settled = in.highest - 1
	in.seen, in.asked, in.askedTwice, in.lostLast = 1, 0, 0, false
	in.timed = false
	in.transit, in.least, in.leastTill = 0, [2]time.Duration{}, at+transitWindow
	in.first, in.unique = in.highest, 0
	in.reported.expected, in.reported.unique = 0, 0
}

// forward moves on to a newer number, and settles what is far enough behind.
func (in *Incoming) forward(step int64) {
	next := in.highest + step
	to := next - settleAfter
	for n := in.settled + 1; n <= min(to, in.highest); n++ {
		in.settle(in.seen>>(in.highest-n)&1 == 1, 1)
	}
	if never := to - max(in.highest, in.settled); never > 0 {
		in.settle(false, uint64(never)) // between the two packets of a big gap
	}
	in.settled = max(in.settled, to)
	if step < 64 {
		in.seen, in.asked, in.askedTwice = in.seen<<step, in.asked<<step, in.askedTwice<<step
	} else {
		in.seen, in.asked, in.askedTwice = 0, 0, 0
	}
	in.seen |= 1
	in.highest = next
}

func (in *Incoming) settle(seen bool, n uint64) {
	in.count.Settled += n
	if seen {
		in.lostLast = false
		return
	}
	in.count.Lost += n
	if !in.lostLast {
		in.count.Bursts++
	}
	in.lostLast = true
}

// arrived is for jitter and for what is late.
func (in *Incoming) arrived(h *header, forward bool, at time.Duration) {
	now := arrival{at: at, timestamp: h.timestamp}
	if !in.timed {
		in.timed, in.last = true, now
		return
	}
	step := in.duration(int32(now.timestamp - in.last.timestamp))
	more := at - in.last.at - step // how much longer it was under way than the one before
	transit := in.transit + more
	spurt := forward && (h.marker || step > pauseMin)
	if spurt {
		in.least = [2]time.Duration{transit, transit} // players begin anew there, too
	}
	if at >= in.leastTill {
		in.least = [2]time.Duration{transit, in.least[0]}
		in.leastTill = at + transitWindow
	}
	in.least[0] = min(in.least[0], transit)
	if transit-min(in.least[0], in.least[1]) > max(lateMin, time.Duration(lateJitters*in.jitter)) {
		in.count.Late++
	}
	if !forward {
		return
	}
	if !spurt && step > 0 {
		in.jitter += (float64(more.Abs()) - in.jitter) / 16
	}
	in.last, in.transit = now, transit
}

func (in *Incoming) duration(units int32) time.Duration {
	return time.Duration(int64(units) * int64(time.Second) / int64(in.config.ClockRate))
}

// copies fills what a packet brought again of those right before it.
func (in *Incoming) copies(sequence uint16, payload []byte) {
	if in.redund.Parse(payload) != nil {
		in.count.Malformed++
		return
	}
	behind := in.highest - int64(uint16(uint16(in.highest)-sequence))
	for i := 1; i < len(in.redund.Blocks()); i++ {
		age := in.highest - behind + int64(i)
		if age < 64 && behind-int64(i) > in.settled && in.seen>>age&1 == 0 {
			in.seen |= 1 << age
			in.count.RecoveredRED++
		}
	}
}

const (
	// askRTTMax is up to which round trip it is of use to ask again, and askGapMax up to how many packets: a player waits 40 to
	// 80 ms, and a longer gap means that the line is busy or gone.
	askRTTMax, askGapMax = 120 * time.Millisecond, 5
	// askAgainAfter is how much longer than a round trip an answer may take.
	askAgainAfter = 30 * time.Millisecond
	// askAgeMax is how many packets back are still asked for, 200 ms at 20 ms a frame.
	askAgeMax = 10
)

// Ask appends the numbers to dst that are to be asked for now, by a NACK: each as soon as it is missing, and once more when the
// answer has not come after a round trip and a while. rtt is 0 if not known. To be called after each packet; as a rule there
// are none, and nothing is allocated if dst has room for five.
func (in *Incoming) Ask(dst []uint16, rtt, at time.Duration) []uint16 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.begun || rtt > askRTTMax {
		return dst
	}
	window := uint64(1)<<(min(int64(askAgeMax), in.highest-in.settled-1)+1) - 1
	missing := ^in.seen & window
	if missing == 0 || bits.OnesCount64(missing) > askGapMax {
		return dst
	}
	ask := missing &^ in.asked
	if again := missing & in.asked &^ in.askedTwice; again != 0 && at-in.askedAt > rtt+max(rtt/2, askAgainAfter) {
		in.askedTwice |= again
		ask |= again
	}
	if ask == 0 {
		return dst
	}
	in.asked |= ask
	in.askedAt, in.askedRTT = at, rtt
	for rest := ask; rest != 0; rest &= rest - 1 {
		dst = append(dst, uint16(in.highest)-uint16(bits.TrailingZeros64(rest)))
	}
	return dst
}

// Snapshot is the stream at a moment.
func (in *Incoming) Snapshot(at time.Duration) Snapshot {
	in.mu.Lock()
	defer in.mu.Unlock()
	return Snapshot{
		Counters: in.count, At: at, LastPacket: in.latest, Heard: max(in.latest, in.told.at), Highest: in.highest, Jitter: time.Duration(in.jitter),
	}
}

// SenderReport is the middle 32 bits of the time in a report of the stream's sender, and when it came.
func (in *Incoming) SenderReport(middle uint32, at time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.told.middle, in.told.at = middle, at
}

// Reception is a report block of RTCP about the stream, false if nothing has come. What is lost of it is since the one
// before, or worst if that is more, of 1: a sender whose packets are lost on their way from us to others adds to its
// redundancy as well. It is for one caller.
func (in *Incoming) Reception(ssrc uint32, worst float64, at time.Duration) (rtcp.ReceptionReport, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.begun {
		return rtcp.ReceptionReport{}, false
	}
	expected := uint64(in.highest - in.first + 1)
	lost := int64(expected) - int64(in.unique)
	due, came := expected-in.reported.expected, in.unique-in.reported.unique
	in.reported.expected, in.reported.unique = expected, in.unique
	share := worst
	if due > came {
		share = max(share, float64(due-came)/float64(due))
	}
	r := rtcp.ReceptionReport{
		SSRC:               ssrc,
		FractionLost:       uint8(min(255, share*256)),
		TotalLost:          uint32(min(max(lost, 0), 1<<23-1)),
		LastSequenceNumber: uint32(in.highest),
		Jitter:             uint32(in.jitter * float64(in.config.ClockRate) / float64(time.Second)),
	}
	if in.told.middle != 0 {
		r.LastSenderReport = in.told.middle
		r.Delay = uint32((at - in.told.at) * 65536 / time.Second)
	}
	return r, true
}
