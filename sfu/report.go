package sfu

import (
	"context"
	"time"

	"github.com/pion/rtcp"
)

// reportInterval is how often listeners get sender reports for the slots in use. Their answers tell the round trip time.
const reportInterval = time.Second

// report is the one ticker of a server, until ctx ends.
func (s *Server) report(ctx context.Context) {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			rooms := make([]*room, 0, len(s.rooms))
			for _, r := range s.rooms {
				rooms = append(rooms, r)
			}
			s.mu.Unlock()
			for _, r := range rooms {
				for _, p := range r.everybody() {
					p.report(now)
				}
			}
		}
	}
}

// report sends what happened in a participant's slots since the last time, if anything did.
func (p *Participant) report(now time.Time) {
	var reports []rtcp.Packet
	for _, l := range p.slots {
		if r := l.report(now); r != nil {
			reports = append(reports, r)
		}
	}
	if len(reports) > 0 {
		_ = p.pc.WriteRTCP(reports) // a connection that is closing has no use for it
	}
}

// report is nil when nothing was sent since the last one.
func (l *slot) report(now time.Time) rtcp.Packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.packets == l.reported {
		return nil
	}
	l.reported = l.packets
	return &rtcp.SenderReport{
		SSRC: l.header.SSRC, NTPTime: ntp(now), RTPTime: l.clock(now), PacketCount: l.packets, OctetCount: l.octets,
	}
}
