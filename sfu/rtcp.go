package sfu

import (
	"encoding/binary"
	"time"
)

const (
	rtcpSenderReport   = 200
	rtcpReceiverReport = 201
	rtcpFeedback       = 205
	formatNACK         = 1

	// nackPairsMax bounds what one request may ask for: 16 pairs name 272 packets, four times what a ring has.
	nackPairsMax = 16
)

// control reads one RTCP packet of a participant that is about a stream of ours. It runs in the connection's SRTCP loop.
func (p *Participant) control(b []byte, now time.Time) {
	if len(b) < 8 || b[0]>>6 != 2 {
		refusedTotal.Inc()
		return
	}
	switch kind := b[1]; {
	case kind == rtcpReceiverReport:
		p.reports(b[8:], int(b[0]&0x1f), now)
	case kind == rtcpSenderReport && len(b) >= 28:
		p.reports(b[28:], int(b[0]&0x1f), now)
	case kind == rtcpFeedback && b[0]&0x1f == formatNACK && len(b) >= 12:
		p.nack(binary.BigEndian.Uint32(b[8:]), b[12:], now)
	}
}

// reports takes the round trip time from report blocks: the time since our sender report that the listener names, less how long
// it kept it (RFC 3550, 6.4.1).
func (p *Participant) reports(blocks []byte, n int, now time.Time) {
	const size = 24
	for ; n > 0 && len(blocks) >= size; n, blocks = n-1, blocks[size:] {
		last, delay := binary.BigEndian.Uint32(blocks[16:]), binary.BigEndian.Uint32(blocks[20:])
		if last == 0 || p.slotOf(binary.BigEndian.Uint32(blocks)) == nil {
			continue
		}
		trip := int32(shortNTP(now) - last - delay)
		if trip < 0 || trip > 10<<16 {
			continue // a clock was set, or somebody makes things up
		}
		p.rtt.Store(int64(trip) * int64(time.Second) >> 16)
	}
}

// nack answers a request for packets of a slot: pairs of a sequence number and a mask of the 16 after it (RFC 4585, 6.2.1).
func (p *Participant) nack(ssrc uint32, pairs []byte, now time.Time) {
	l := p.slotOf(ssrc)
	if l == nil {
		return
	}
	rtt := time.Duration(p.rtt.Load())
	for n := 0; n < nackPairsMax && len(pairs) >= 4; n, pairs = n+1, pairs[4:] {
		seq, mask := binary.BigEndian.Uint16(pairs), binary.BigEndian.Uint16(pairs[2:])
		l.resend(seq, rtt, now)
		for i := range uint16(16) {
			if mask>>i&1 == 1 {
				l.resend(seq+1+i, rtt, now)
			}
		}
	}
	p.server.socket.Flush()
}

// slotOf finds the slot with an SSRC, nil if it is none of this participant's.
func (p *Participant) slotOf(ssrc uint32) *slot {
	for _, l := range p.slots {
		if l.ssrc.Load() == ssrc {
			return l
		}
	}
	return nil
}

// shortNTP is the middle 32 bits of an NTP time stamp: seconds in 16 bits, fractions in 16.
func shortNTP(t time.Time) uint32 { return uint32(ntp(t) >> 16) }

func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
