package quality

import (
	"math"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"pgregory.net/rapid"
)

// send passes so many packets on, 20 ms each, from the number after the latest one on.
func send(o *Outgoing, first uint16, n int) {
	for i := range n {
		o.Packet(first+uint16(i), uint32(i)*960, 10, time.Duration(i+1)*20*ms)
	}
}

func TestOutgoing_CountsWhatIsReported(t *testing.T) {
	t.Parallel()
	o := NewOutgoing(0)
	o.received(block{highest: 5}, 1) // of nothing
	send(o, 65500, 200)
	f := func(name string, b block, settled, lost uint64) {
		t.Helper()
		o.received(b, time.Second)
		if s := o.Snapshot(time.Second); s.Settled != settled || s.Lost != lost {
			t.Errorf("%s: %d lost of %d, want %d of %d", name, s.Lost, s.Settled, lost, settled)
		}
	}
	f("the first", block{highest: 65509, lost: 2, jitter: 480}, 10, 2)
	if got := o.Snapshot(0).Jitter; got != 10*ms {
		t.Errorf("jitter of %v", got)
	}
	f("over the wrap, with its own cycles", block{highest: 7<<16 + 63, lost: 12}, 100, 12)
	f("the same again", block{highest: 7<<16 + 63, lost: 12}, 100, 12)
	f("an older one", block{highest: 65509, lost: 2}, 100, 12)
	f("copies took some back", block{highest: 73, lost: 10}, 110, 12)
	f("more lost than was sent", block{highest: 83, lost: 1 << 22}, 120, 22)
	f("what was never sent", block{highest: 40000, lost: 1}, 120, 22)
}

// Whatever is said, what is lost is part of what was sent.
func TestOutgoing_BelievesNothingImpossible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := NewOutgoing(0)
		n := rapid.IntRange(1, 500).Draw(t, "sent")
		send(o, rapid.Uint16().Draw(t, "first"), n)
		for range rapid.IntRange(1, 20).Draw(t, "reports") {
			o.received(block{
				highest: rapid.Uint32().Draw(t, "highest"), lost: rapid.Int32Range(-1<<23, 1<<23-1).Draw(t, "lost"),
				jitter: rapid.Uint32().Draw(t, "jitter"), last: rapid.Uint32().Draw(t, "last"), delay: rapid.Uint32().Draw(t, "delay"),
			}, time.Second)
			o.requested(rapid.Uint16().Draw(t, "asked"), rapid.Uint16().Draw(t, "more"), time.Second)
		}
		s := o.Snapshot(time.Second)
		w := Between(Snapshot{}, s)
		if s.Lost > s.Settled || s.Settled > uint64(n) || s.RecoveredNACK > 64 || w.Loss > 1 || w.Network > 1 || s.RTT != 0 || math.IsNaN(w.Loss) {
			t.Fatalf("%+v of %d", s, n)
		}
	})
}

func TestOutgoing_CountsARequestOnce(t *testing.T) {
	t.Parallel()
	o := NewOutgoing(0)
	send(o, 65530, 20) // to 13
	o.requested(65535, 0b101, 0)
	o.requested(65535, 0b101, 0)
	o.requested(0, 0, 0)
	o.requested(14, 0, 0)    // not sent yet
	o.requested(65529, 0, 0) // before the first
	if got := o.Snapshot(0).RecoveredNACK; got != 3 {
		t.Errorf("%d requests, want 3: 65535, 0 and 2", got)
	}
}

func TestOutgoing_TellsTheRoundTripOfItsOwnReportsOnly(t *testing.T) {
	t.Parallel()
	o := NewOutgoing(0)
	if o.Report(1, time.Now(), 0) != nil {
		t.Error("a report of nothing")
	}
	send(o, 0, 50)
	wall := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	report := o.Report(1, wall, 2*time.Second)
	if report.PacketCount != 50 || report.OctetCount != 500 || report.RTPTime != 49*960+48_000 || report.NTPTime>>32 != uint64(wall.Unix())+2_208_988_800 ||
		uint32(report.NTPTime) != 0x9999_9999 {
		t.Errorf("%+v", report)
	}
	middle := uint32(report.NTPTime >> 16)
	f := func(name string, last, delay uint32, at, want time.Duration) {
		t.Helper()
		o.received(block{highest: 49, last: last, delay: delay}, at)
		if got := o.Snapshot(at).RTT; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	f("of somebody else's", middle+1, 0, 3*time.Second, 0)
	f("held for longer than it was away", middle, 1<<20, 3*time.Second, 0)
	f("held for half a second", middle, 1<<15, 2*time.Second+580*ms, 80*ms)
	for range reportsMax {
		wall = wall.Add(time.Second)
		o.Report(1, wall, 3*time.Second)
	}
	o.Reported(77<<16, 4*time.Second)
	f("of one that somebody else made", 77, 0, 4*time.Second+60*ms, 60*ms)
	f("long gone", middle, 0, 5*time.Second, 60*ms)
}

func TestOutgoing_KnowsWhoHearsNothing(t *testing.T) {
	t.Parallel()
	o := NewOutgoing(0)
	unheard := func(at time.Duration) time.Duration {
		s := o.Snapshot(at)
		return s.At - s.Heard
	}
	if got := unheard(time.Minute); got != 0 {
		t.Errorf("nothing was sent, and nothing heard for %v", got)
	}
	send(o, 0, 500) // until 10 s
	o.received(block{highest: 499}, 10*time.Second)
	send(o, 500, 100)
	if got := unheard(17 * time.Second); got != 0 {
		t.Errorf("Chromium reports each 2.5 to 7.5 s, and after 7 s it is not heard for %v", got)
	}
	if got := unheard(20 * time.Second); got != 2500*ms {
		t.Errorf("no report for 10 s: %v", got)
	}
	o.received(block{highest: 499}, 12*time.Second)
	if got := unheard(12 * time.Second); got != 2*time.Second {
		t.Errorf("it says that nothing has come: %v", got)
	}
	o.received(block{highest: 520}, 13*time.Second)
	if got := unheard(13 * time.Second); got != 0 {
		t.Errorf("it has come: %v", got)
	}
}

func TestPeer_AllocatesNothing(t *testing.T) {
	p := testPeer(nil)
	o := NewOutgoing(0)
	p.outgoing[3] = o
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 3, LastSequenceNumber: 1}}},
		&rtcp.TransportLayerNack{MediaSSRC: 3, Nacks: []rtcp.NackPair{{PacketID: 1, LostPackets: 5}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := uint16(0)
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		o.Packet(n, uint32(n)*960, 80, time.Duration(n)*20*ms)
		p.RTCP(b)
		o.Snapshot(0)
	}); allocs != 0 {
		t.Errorf("%v allocations per packet", allocs)
	}
	if p.Malformed() != 0 {
		t.Error("not understood")
	}
}
