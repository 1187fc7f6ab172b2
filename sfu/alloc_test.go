package sfu

import (
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// A packet goes through without an allocation: from the SRTP loop's hands, through the room, Pion's SRTP, and the queue, to the kernel.
func TestSource_ForwardsWithoutAllocating(t *testing.T) {
	s := startServer(t, Config{})
	speaker, ear := drainedClient(t), drainedClient(t)
	for _, c := range []*client{speaker, ear, drainedClient(t), drainedClient(t), drainedClient(t), drainedClient(t)} {
		c.joinRoom(s, "room")
		c.await(c.up)
	}
	pass := voice(speaker.Participant)
	awaitTargets(speaker.Participant, 5, pass)
	now := time.Now()
	for range 200 { // until rings, pools and batches have what they need
		pass(now)
	}
	if raceDetector {
		t.Skip("sync.Pool, which Pion and x/net use, forgets things at random under the race detector")
	}
	if n := testing.AllocsPerRun(2000, func() { pass(now) }); n > 0 {
		t.Errorf("%v allocations for a packet to 5 listeners", n)
	}
	seq := ear.slots[0].seq
	if n := testing.AllocsPerRun(200, func() { ear.control(nack(ear.slots[0].ssrc.Load(), seq, 0xff), now) }); n > 0 {
		t.Errorf("%v allocations for a request", n)
	}
}

// The same for what is ours alone, with the race detector too.
func TestRoom_ForwardsWithoutAllocating(t *testing.T) {
	s := newStage(t)
	speaker := s.enter(1)
	for range 5 {
		for _, l := range s.enter(1).slots {
			l.writer = deaf{}
		}
	}
	pass, now := voice(speaker), time.Now()
	pass(now)
	for range 200 {
		pass(now)
	}
	if n := testing.AllocsPerRun(2000, func() { pass(now) }); n > 0 {
		t.Errorf("%v allocations for a packet to 5 listeners", n)
	}
	silent := []byte{0x90, 111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x10, 127, 0, 0, 'h', 'u', 's', 'h'}
	if n := testing.AllocsPerRun(2000, func() { speaker.source.take(silent, now.Add(time.Hour)) }); n > 0 {
		t.Errorf("%v allocations for a silent packet", n)
	}
}

// deaf is a stream that goes nowhere.
type deaf struct{ webrtc.TrackLocalWriter }

func (deaf) WriteRTP(*rtp.Header, []byte) (int, error) { return 0, nil }
