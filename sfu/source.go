package sfu

import (
	"sync/atomic"
	"time"
)

const (
	prerollSize = 3 // packets before the first voiced one: a level rises later than the syllable does
	dtxMax      = 3 // an Opus payload this short says that there is nothing to hear

	prerollTicks = prerollSize * 3 * frameTicks // as long as three of the longest packets: what is older does not belong here

	levelVoiced = 60 // -60 dBov: above it is a voice, under it a room
	levelParts  = 16 // source.level counts sixteenths of a dB

	// hang is how long after the last voiced packet everything is still forwarded: ends of words, and breath.
	hang = 400 * time.Millisecond

	// claimInterval is how often somebody who speaks and is not heard by all asks for slots again.
	claimInterval = 100 * time.Millisecond
)

// source is one participant's microphone. Its packets come from one goroutine, the SRTP loop of the participant's
// connection, and all fields but the atomic ones and the ring are that goroutine's own.
type source struct {
	owner *Participant
	ssrc  uint32 // announced in the offer; 0 takes the first that comes
	pt    uint8
	ring  ring

	levelID uint8

	// What the room looks at when it gives slots away.
	voicedAt atomic.Int64 // unix ns of the last voiced packet, 0 before there was one
	level    atomic.Int64 // of late, below the loudest, in parts of a dB
	muted    atomic.Bool
	unheard  atomic.Bool // somebody who could hear it does not: worth a claim
	targets  atomic.Pointer[[]*slot]

	open      bool // a spurt is under way
	claimedAt time.Time
	newest    uint16 // sequence number of the newest packet of the spurt
	newestN   uint32 // and its number
	firstN    uint32 // number of the spurt's first packet
	preroll   preroll
}

// take is called with each packet that came from the participant, decrypted. It forwards those of a voice, and of the
// hang behind it, to whom the room has chosen, and queues what is to be sent: the caller flushes.
func (s *source) take(b []byte, now time.Time) {
	p, ok := parse(b, s.levelID)
	if !ok || p.pt != s.pt || p.ssrc != s.ssrc || len(p.payload) > payloadMax {
		refusedTotal.Inc()
		return
	}
	receivedTotal.Inc()
	if s.muted.Load() {
		s.open = false
		return
	}
	voiced := p.level <= levelVoiced && len(p.payload) > dtxMax
	if voiced {
		s.hear(p.level, now)
	}
	if !voiced && (!s.open || now.UnixNano()-s.voicedAt.Load() > int64(hang)) {
		s.open = false
		s.preroll.add(p)
		return
	}
	if voiced && (!s.open || s.unheard.Load()) && now.Sub(s.claimedAt) >= claimInterval {
		s.claimedAt = now
		s.owner.room.claim(s, now)
	}
	if !s.open {
		s.begin(p, now)
		return
	}
	s.next(p, now)
}

// hear notes a voice. Its loudness follows the packets' with a time constant of eight of them, 160 ms.
func (s *source) hear(level uint8, now time.Time) {
	was := s.level.Load()
	s.level.Store(was + (int64(level)*levelParts-was)/8)
	s.voicedAt.Store(now.UnixNano())
}

// begin opens a spurt with the packets that came just before its first voiced one.
func (s *source) begin(p packet, now time.Time) {
	s.open = true
	marker := true
	for _, early := range s.preroll.before(p) {
		s.restart(early.seq, marker)
		s.forward(early, s.newestN, p.ts-early.ts, marker, now)
		marker = false
	}
	s.restart(p.seq, marker)
	s.forward(p, s.newestN, 0, marker, now)
}

// restart gives the next number to a packet, whatever its sequence number is.
func (s *source) restart(seq uint16, first bool) {
	s.newest, s.newestN = seq, s.newestN+1
	if first {
		s.firstN = s.newestN
	}
}

// next forwards a packet within a spurt. Numbers follow the sequence numbers, so that listeners see what was lost on the
// way here as lost, and get right what overtook another.
func (s *source) next(p packet, now time.Time) {
	ahead := int16(p.seq - s.newest)
	switch n := s.newestN + uint32(int32(ahead)); {
	case ahead > ringSize: // the microphone was away: to listeners this is where it goes on
		s.restart(p.seq, true)
		s.forward(p, s.newestN, 0, true, now)
	case ahead > 0:
		s.newest, s.newestN = p.seq, n
		s.forward(p, n, 0, false, now)
	case int32(n-s.firstN) >= 0 && ahead > -ringSize:
		s.forward(p, n, 0, false, now)
	default: // from before the spurt: its number is taken
		refusedTotal.Inc()
	}
}

// forward gives a packet to everybody who hears the source now. lag is how much older than the newest it is, in ticks.
func (s *source) forward(p packet, n, lag uint32, marker bool, now time.Time) {
	k := s.ring.put(kept{n: n, ts: p.ts, at: now, level: p.level, marker: marker, payload: p.payload})
	targets := *s.targets.Load()
	for _, to := range targets {
		to.send(s, k, lag, now)
	}
	forwardedTotal.Add(len(targets))
}

// preroll keeps the last packets of who is silent.
type preroll struct {
	packets [prerollSize]packet
	buffers [prerollSize][payloadMax]byte
	ordered [prerollSize]packet // what before answers
	next    int                 // place for the next one, which has the oldest
}

func (r *preroll) add(p packet) {
	buf := &r.buffers[r.next]
	p.payload = buf[:copy(buf[:], p.payload)]
	r.packets[r.next] = p
	r.next = (r.next + 1) % prerollSize
}

// before returns the packets that lead up to p without a gap, the oldest first, and forgets all. They stay as they are until the
// next add.
func (r *preroll) before(p packet) []packet {
	found := r.ordered[prerollSize:]
	want := p.seq - 1
	for i := 1; i <= prerollSize; i++ {
		early := r.packets[(r.next+prerollSize-i)%prerollSize]
		if len(early.payload) == 0 || early.seq != want || p.ts-early.ts > prerollTicks {
			break
		}
		found = r.ordered[prerollSize-i:]
		found[0] = early
		want--
	}
	r.packets = [prerollSize]packet{}
	return found
}
