package sfu

import (
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// ear is a slot's stream: what a listener would get.
type ear struct {
	mu      sync.Mutex
	packets []rtp.Packet
}

func (e *ear) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packets = append(e.packets, rtp.Packet{Header: h.Clone(), Payload: append([]byte{}, payload...)})
	return 0, nil
}

func (e *ear) Write([]byte) (int, error) { panic("BUG: not used") }

// stage is a room whose participants have ears in place of connections.
type stage struct {
	t      testing.TB
	server *Server
	room   *room
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s, err := openSocket(loopback)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return &stage{t, &Server{socket: s}, &room{name: "stage"}}
}

// enter adds a participant with so many slots.
func (s *stage) enter(slots int) *Participant {
	p := &Participant{VoiceID: uint32(len(s.room.members) + 1), server: s.server, room: s.room}
	p.source = source{owner: p, ssrc: p.VoiceID, pt: 111, levelID: 1}
	p.source.targets.Store(&[]*slot{})
	for i := range slots {
		l := newSlot(p, i)
		l.ssrc.Store(uint32(i + 1))
		l.header = rtp.Header{Version: 2, PayloadType: 111, SSRC: uint32(i + 1), CSRC: l.csrc[:]}
		must(s.t, l.header.SetExtension(1, l.level[:]))
		l.writer = &ear{}
		p.slots = append(p.slots, l)
	}
	s.room.members = append(s.room.members, p)
	s.room.arrive(p)
	return p
}

// microphone says a packet every 20 ms of virtual time.
type microphone struct {
	p   *Participant
	seq uint16
	ts  uint32
}

func (m *microphone) say(level uint8, payload string) {
	m.skip()
	m.send(m.seq, m.ts, level, payload)
	pass(20 * time.Millisecond)
}

func (m *microphone) skip() { m.seq, m.ts = m.seq+1, m.ts+frameTicks }

func (m *microphone) send(seq uint16, ts uint32, level uint8, payload string) {
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SSRC: m.p.source.ssrc, SequenceNumber: seq, Timestamp: ts}, Payload: []byte(payload)}
	if err := p.SetExtension(1, []byte{level}); err != nil {
		panic(err)
	}
	b, err := p.Marshal()
	if err != nil {
		panic(err)
	}
	m.p.source.take(b, time.Now())
}

// in is what came in a slot since the last time.
func (p *Participant) in(slot int) []rtp.Packet {
	e := p.slots[slot].writer.(*ear)
	e.mu.Lock()
	defer e.mu.Unlock()
	got := e.packets
	e.packets = nil
	return got
}

func payloads(packets []rtp.Packet) (all []string) {
	for _, p := range packets {
		all = append(all, string(p.Payload))
	}
	return all
}

// raw is the packets as they are before they are encrypted.
func raw(t *testing.T, packets []rtp.Packet) (all [][]byte) {
	t.Helper()
	for _, p := range packets {
		b, err := p.Marshal()
		must(t, err)
		all = append(all, b)
	}
	return all
}

const (
	loud    = 20
	soft    = 40
	silence = 127
)

// pass lets virtual time go by: it is called in bubbles of synctest alone.
func pass(d time.Duration) { <-time.After(d) }

func onStage(t *testing.T, f func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newStage(t)) })
}

func TestSource_SendsThePacketsBeforeTheFirstWord(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		mic, ear := &microphone{p: s.enter(1)}, s.enter(1)
		for _, silent := range []string{"long ago", "quiet 1", "quiet 2", "quiet 3"} {
			mic.say(silence, silent)
		}
		mic.say(loud, "word 1")
		mic.say(loud, "word 2")
		got := ear.in(0)
		if diff := cmp.Diff([]string{"quiet 1", "quiet 2", "quiet 3", "word 1", "word 2"}, payloads(got)); diff != "" {
			t.Fatal(diff)
		}
		for i, p := range got {
			if p.Marker != (i == 0) {
				t.Errorf("packet %d has marker %v", i, p.Marker)
			}
			if p.SequenceNumber != got[0].SequenceNumber+uint16(i) || p.Timestamp != got[0].Timestamp+uint32(i)*frameTicks {
				t.Errorf("packet %d has number %d and time %d after %d and %d", i, p.SequenceNumber, p.Timestamp, got[0].SequenceNumber, got[0].Timestamp)
			}
		}
	})
}

func TestSource_KeepsSilenceToItself(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		mic, ear := &microphone{p: s.enter(1)}, s.enter(1)
		mic.say(loud, "word")
		for range 100 {
			mic.say(silence, "breath")
		}
		if got := len(ear.in(0)); got != 1+int(hang/(20*time.Millisecond)) {
			t.Errorf("%d packets came of a word and 2 s of silence", got)
		}
		mic.say(loud, "xxx") // discontinuous transmission: nothing to hear, whatever the level says
		if got := len(ear.in(0)); got != 0 {
			t.Errorf("%d packets came of DTX", got)
		}
		mic.say(loud, "word again")
		got := ear.in(0)
		if len(got) != 1+prerollSize || string(got[prerollSize].Payload) != "word again" {
			t.Errorf("after the silence came %q", payloads(got))
		}
	})
}

func TestSlot_ChangesSpeakersWithoutAGap(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		a, b, ear := &microphone{p: s.enter(1), seq: 7, ts: math.MaxUint32 - 100}, &microphone{p: s.enter(1), seq: 65530, ts: 12345}, s.enter(1)
		var got []rtp.Packet
		for range 5 {
			for range 60 {
				a.say(loud, "voice a")
			}
			for range 40 { // a pause, in which b takes the slot
				b.say(loud, "voice b")
			}
			got = append(got, ear.in(0)...)
		}
		changes := 0
		for i, p := range got[1:] {
			last := got[i]
			if p.SSRC != last.SSRC || p.SequenceNumber != last.SequenceNumber+1 || int32(p.Timestamp-last.Timestamp) < frameTicks {
				t.Fatalf("packet %d: %v after %v", i+1, p.Header, last.Header)
			}
			change := p.CSRC[0] != last.CSRC[0]
			if change {
				changes++
			}
			if change && !p.Marker || string(p.Payload) != map[uint32]string{1: "voice a", 2: "voice b"}[p.CSRC[0]] {
				t.Fatalf("packet %d, of %q: %v", i+1, p.Payload, p.Header)
			}
		}
		if changes != 9 {
			t.Errorf("%d changes of speaker in 10 turns", changes)
		}
	})
}

func TestSlot_TimeFollowsTheWall(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		a, b, ear := &microphone{p: s.enter(1)}, &microphone{p: s.enter(1)}, s.enter(1)
		a.say(loud, "voice a")
		pass(3*time.Second - 20*time.Millisecond)
		b.say(loud, "voice b")
		got := ear.in(0)
		if len(got) != 2 || got[1].Timestamp-got[0].Timestamp != 3*clockRate {
			t.Errorf("3 s apart: %v", got)
		}
	})
}

func TestSource_LossStaysLossAndOrderIsRestored(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		mic, ear := &microphone{p: s.enter(1)}, s.enter(1)
		for i, seq := range []uint16{100, 101, 104, 103, 99, 105} { // 102 is lost, 103 late, 99 from before the first word
			mic.send(seq, uint32(seq)*frameTicks, loud, string(rune('a'+i))+"...")
		}
		got := ear.in(0)
		if diff := cmp.Diff([]string{"a...", "b...", "c...", "d...", "f..."}, payloads(got)); diff != "" {
			t.Fatal(diff)
		}
		for i, want := range []uint16{0, 1, 4, 3, 5} {
			if n := got[i].SequenceNumber - got[0].SequenceNumber; n != want {
				t.Errorf("packet %d is number %d, not %d", i, n, want)
			}
		}
	})
}

func TestRoom_EverybodyIsHeardWhileThereAreSlots(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		var mics []*microphone
		for range 4 {
			mics = append(mics, &microphone{p: s.enter(3)})
		}
		for range 3 {
			for _, m := range mics {
				m.say(loud, "all at once")
			}
		}
		for _, m := range mics {
			voices := map[uint32]int{}
			for i := range 3 {
				for _, p := range m.p.in(i) {
					voices[p.CSRC[0]]++
				}
			}
			if len(voices) != 3 || voices[m.p.VoiceID] != 0 {
				t.Errorf("%d hears %v", m.p.VoiceID, voices)
			}
		}
	})
}

func TestRoom_ASlotGoesToTheLouderAndToWhoSpeaks(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		a, b, ear := &microphone{p: s.enter(0)}, &microphone{p: s.enter(0)}, s.enter(1)
		heard := func() uint32 { return ear.slots[0].owner.owner.VoiceID }
		both := func(d time.Duration, levelA, levelB uint8) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				a.say(levelA, "a voice")
				b.say(levelB, "b voice")
			}
		}
		both(200*time.Millisecond, soft, loud) // a was first, and is held
		if heard() != 1 {
			t.Error("the slot was taken within its hold")
		}
		both(2*time.Second, soft, loud)
		if heard() != 2 {
			t.Error("the much louder one has no slot")
		}
		both(3*time.Second, loud-3, loud)
		if heard() != 2 {
			t.Error("a little louder was enough")
		}
		both(time.Second, loud, silence)
		if heard() != 1 {
			t.Error("who is silent kept the slot")
		}
	})
}

func TestRoom_WhoWasAskedForComesFirst(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		a, b, ear := &microphone{p: s.enter(0)}, &microphone{p: s.enter(0)}, s.enter(2)
		heard := func(level uint8) map[uint32]bool {
			for range 100 {
				a.say(loud, "a voice")
				b.say(level, "b voice")
			}
			voices := map[uint32]bool{}
			for i := range ear.slots {
				got := ear.in(i)
				for _, p := range got[len(got)/2:] {
					voices[p.CSRC[0]] = true
				}
			}
			return voices
		}
		f := func(want map[uint32]bool, level uint8, wants Subscription) {
			t.Helper()
			must(t, ear.Subscribe(wants))
			if diff := cmp.Diff(want, heard(level)); diff != "" {
				t.Errorf("%+v: %s", wants, diff)
			}
		}
		f(map[uint32]bool{1: true, 2: true}, soft, Subscription{})
		f(map[uint32]bool{1: true}, soft, Subscription{Slots: 1})
		f(map[uint32]bool{2: true}, soft, Subscription{Slots: 1, Include: []uint32{2}})
		f(map[uint32]bool{2: true}, soft, Subscription{Exclude: []uint32{1}})
		ear.SetDeaf(true)
		f(map[uint32]bool{}, loud, Subscription{})
		ear.SetDeaf(false)
		b.p.SetMute(true)
		f(map[uint32]bool{1: true}, loud, Subscription{})
	})
}

func TestSlot_SendsAgainWhatWasMissed(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		mic, ear := &microphone{p: s.enter(1)}, s.enter(1)
		for range 10 {
			mic.say(loud, "word of mine")
		}
		sent := ear.in(0)
		ask := func(seq, mask uint16) []rtp.Packet {
			ear.control(nack(1, seq, mask), time.Now())
			return ear.in(0)
		}
		got := ask(sent[8].SequenceNumber, 1)
		if diff := cmp.Diff(raw(t, sent[8:10]), raw(t, got)); diff != "" {
			t.Fatalf("what was sent again is not what was sent: %s", diff)
		}
		if got := ask(sent[8].SequenceNumber, 1); len(got) != 0 {
			t.Error("a request that was repeated at once was answered")
		}
		if got := ask(sent[9].SequenceNumber+1, 0xffff); len(got) != 0 {
			t.Error("packets of the future were sent")
		}
		ear.rtt.Store(int64(300 * time.Millisecond))
		if got := ask(sent[7].SequenceNumber, 0); len(got) != 0 {
			t.Error("a packet was sent that comes too late")
		}
		ear.rtt.Store(0)
		pass(time.Second)
		if got := ask(sent[7].SequenceNumber, 0); len(got) != 0 {
			t.Error("an old packet was sent")
		}
	})
}

func TestSlot_AnswersNoMoreThanAShare(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		mic, ear := &microphone{p: s.enter(1)}, s.enter(1)
		again := 0
		for range 1000 {
			mic.say(loud, "word of mine")
			seq := ear.slots[0].seq
			for range 10 {
				ear.control(nack(1, seq-8, 0xff), time.Now())
			}
			again += len(ear.in(0)) - 1
		}
		if again == 0 || float64(again) > 1000*resendShare+resendBurst {
			t.Errorf("%d packets were sent again for 1000", again)
		}
	})
}

func TestParticipant_LearnsTheRoundTripFromReports(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		mic, ear := &microphone{p: s.enter(1)}, s.enter(1)
		mic.say(loud, "word of mine")
		f := func(want time.Duration, ssrc, sent uint32, kept time.Duration) {
			t.Helper()
			ear.rtt.Store(0)
			b, err := (&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: ssrc, LastSenderReport: sent, Delay: uint32(kept * 65536 / time.Second)}}}).Marshal()
			must(t, err)
			ear.control(b, time.Now())
			if got := time.Duration(ear.rtt.Load()); (got - want).Abs() > time.Millisecond {
				t.Errorf("%v, not %v", got, want)
			}
		}
		sent := uint32(ear.slots[0].report(time.Now()).(*rtcp.SenderReport).NTPTime >> 16)
		pass(150 * time.Millisecond)
		f(100*time.Millisecond, 1, sent, 50*time.Millisecond)
		f(0, 2, sent, 50*time.Millisecond)  // of somebody else's slot
		f(0, 1, 0, 0)                       // before the first report
		f(0, 1, sent, 200*time.Millisecond) // kept for longer than it was there
		f(0, 1, sent-20<<16, 0)             // 20 s
		if ear.slots[0].report(time.Now()) != nil {
			t.Error("a slot in which nothing happened has something to report")
		}
	})
}

func TestGuard_ShutsOutWhoFloodsAlone(t *testing.T) {
	t.Parallel()
	var g guard
	now := time.Now().Truncate(time.Second)
	flood, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range 2 * stunMax {
		if got, want := g.allow(flood, now), i < stunMax; got != want {
			t.Fatalf("packet %d: %v", i, got)
		}
	}
	if !g.allow(other, now) || !g.allow(flood, now.Add(time.Second)) {
		t.Error("others, or the next second, are shut out too")
	}
	if hashAddr(netip.MustParseAddr("2001:db8::1")) != hashAddr(netip.MustParseAddr("2001:db8::ffff:1")) {
		t.Error("one who has an IPv6 network is many")
	}
	if hashAddr(flood) != hashAddr(netip.AddrFrom16(flood.As16())) {
		t.Error("an address has two names")
	}
}

func TestSocket_SendsWhatIsQueuedInOrderOnFlush(t *testing.T) {
	t.Parallel()
	s, err := openSocket(loopback)
	must(t, err)
	defer func() { _ = s.Close() }()
	ear, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback))
	must(t, err)
	defer func() { _ = ear.Close() }()
	to := ear.LocalAddr().(*net.UDPAddr).AddrPort()
	packet, in := make([]byte, 20), make([]byte, 100)
	packet[0] = 0x80
	for n := range batchSize + 10 { // from one, which leaves alone, to more than one batch
		for i := range n {
			packet[2] = byte(i)
			_, err := s.WriteToAddrPort(packet, to)
			must(t, err)
		}
		_, err = s.WriteToAddrPort([]byte("\x00 not RTP"), to)
		must(t, err)
		s.Flush()
		for i := -n / batchSize * batchSize; i <= n-n/batchSize*batchSize; i++ {
			_, err := ear.Read(in)
			must(t, err)
			want := byte(i + n/batchSize*batchSize)
			if i > 0 {
				want--
			}
			if i == 0 && in[0] != 0 || i != 0 && in[2] != want {
				t.Fatalf("of %d packets, at %d came % x", n, i, in[:4])
			}
		}
	}
}

func nack(ssrc uint32, seq, mask uint16) []byte {
	return []byte{0x81, 205, 0, 3, 0, 0, 0, 9, byte(ssrc >> 24), byte(ssrc >> 16), byte(ssrc >> 8), byte(ssrc), byte(seq >> 8), byte(seq), byte(mask >> 8), byte(mask)}
}
