package quality

import (
	"fmt"
	"math"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"pgregory.net/rapid"

	"github.com/xcord/xcord/sfu/impair"
	"github.com/xcord/xcord/sfu/red"
	"github.com/xcord/xcord/sfu/speaker"
)

// delivery is a packet as it arrives.
type delivery struct {
	at, sent time.Duration
	packet   []byte
	number   int
}

// deliver sends what a speaker says over a line, in no time, and returns what arrives in the order of arrival.
func deliver(t testing.TB, who speaker.Config, line *impair.Line, length time.Duration) []delivery {
	t.Helper()
	var all []delivery
	for i, p := range speaker.New(who).Until(length) {
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		arrivals, n := line.Send(p.At, len(b))
		for _, at := range arrivals[:n] {
			all = append(all, delivery{at: at, sent: p.At, packet: b, number: i})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].at < all[j].at })
	return all
}

func measure(in *Incoming, all []delivery) Snapshot {
	for _, d := range all {
		in.Packet(d.packet, d.at)
	}
	return in.Snapshot(all[len(all)-1].at)
}

// Loss is within half a point of what the line lost, windows of five seconds over a minute, and bursts within a fifth.
// Numbers wrap within the run.
func TestIncoming_FindsTheLoss(t *testing.T) {
	t.Parallel()
	f := func(percent, burst float64) {
		t.Helper()
		loss := impair.Random(percent / 100)
		if burst > 1 {
			loss = impair.Bursty(percent/100, burst)
		}
		line := impair.NewLine(uint64(percent)+100, impair.Config{Loss: loss, Delay: 30 * ms, Jitter: 15 * ms})
		who := speaker.Config{Seed: 1, Sequence: 65000, Timestamp: 1<<32 - 48_000}
		in := NewIncoming(IncomingConfig{})
		before := in.Snapshot(0)
		var sum float64
		const windows = 12
		all := deliver(t, who, line, windows*WindowLength)
		next, i := WindowLength, 0
		for range windows {
			for ; i < len(all) && all[i].at < next; i++ {
				in.Packet(all[i].packet, all[i].at)
			}
			after := in.Snapshot(next)
			sum += Between(before, after).Loss
			before, next = after, next+WindowLength
		}
		truth := line.Truth()
		if got, want := 100*sum/windows, 100*truth.LossShare(); math.Abs(got-want) > 0.5 {
			t.Errorf("%v %% in bursts of %v: %.2f %%, but the line lost %.2f %%", percent, burst, got, want)
		}
		total := Between(Snapshot{}, before)
		if math.Abs(total.Burst-truth.BurstMean()) > 0.2*truth.BurstMean() {
			t.Errorf("%v %% in bursts of %v: bursts of %.2f, but the line had %.2f", percent, burst, total.Burst, truth.BurstMean())
		}
	}
	for _, percent := range []float64{0, 1, 3, 5, 10, 20} {
		f(percent, 1)
		f(percent, 3)
	}
}

// Jitter is that of RFC 3550 as the line knows it: timestamps and numbers wrap, and pauses do not move it.
func TestIncoming_FindsTheJitter(t *testing.T) {
	t.Parallel()
	f := func(name string, spread time.Duration, who speaker.Config) {
		t.Helper()
		who.Sequence, who.Timestamp = 65530, 1<<32-10*960
		line := impair.NewLine(3, impair.Config{Delay: 50 * ms, Jitter: spread})
		in := NewIncoming(IncomingConfig{})
		var want float64
		var sum, sumWant float64
		var last delivery
		for i, d := range deliver(t, who, line, 60*time.Second) {
			in.Packet(d.packet, d.at)
			if i > 0 && d.sent-last.sent <= 20*ms {
				want += (math.Abs(float64(d.at-last.at-(d.sent-last.sent))) - want) / 16
			}
			last = d
			sum += float64(in.Snapshot(d.at).Jitter)
			sumWant += want
		}
		if math.Abs(sum-sumWant) > 0.1*sumWant {
			t.Errorf("%s: %v on average, want %v", name, time.Duration(sum/sumWant*want), time.Duration(want))
		}
		// The mean of |D| is a third of the spread.
		if got, all := float64(in.Snapshot(0).Jitter), float64(spread)/3; math.Abs(got-all) > 0.5*all {
			t.Errorf("%s: %v at the end, for delays spread by %v", name, time.Duration(got), spread)
		}
	}
	f("10 ms", 10*ms, speaker.Config{Seed: 1})
	f("19 ms", 19*ms, speaker.Config{Seed: 1})
	f("with pauses", 19*ms, speaker.Config{Seed: 1, Talk: 1200 * ms, Pause: 1800 * ms, DTX: true})
}

// An even line stays even whatever the speaker does.
func TestIncoming_HasNoJitterOfPauses(t *testing.T) {
	t.Parallel()
	line := impair.NewLine(1, impair.Config{Delay: 50 * ms})
	in := NewIncoming(IncomingConfig{})
	s := measure(in, deliver(t, speaker.Config{Talk: 500 * ms, Pause: 1500 * ms, DTX: true, Timestamp: 1<<32 - 480_000}, line, time.Minute))
	if s.Jitter != 0 || s.Late != 0 || s.Lost != 0 || s.Pauses == 0 {
		t.Errorf("%+v", s)
	}
}

// Clocks of speakers are wrong by a little in a pause, or stand still: that is no jitter, and nothing is late.
func TestIncoming_ForgivesClocksInPauses(t *testing.T) {
	t.Parallel()
	f := func(name string, wrong time.Duration, marker bool) {
		t.Helper()
		in := NewIncoming(IncomingConfig{})
		at, ts := time.Duration(0), uint32(0)
		for i := range 1000 {
			at, ts = at+20*ms, ts+960
			b := plain(uint16(i), ts)
			if i%50 == 49 {
				at += time.Second
				ts += uint32((time.Second - wrong).Milliseconds() * 48)
				b = plain(uint16(i), ts)
				if marker {
					b[1] |= 0x80
				}
			}
			in.Packet(b, at)
		}
		if s := in.Snapshot(at); s.Jitter != 0 || s.Late != 0 || s.Lost != 0 {
			t.Errorf("%s: jitter of %v, %d late, %d lost", name, s.Jitter, s.Late, s.Lost)
		}
	}
	f("right", 0, false)
	f("40 ms less", 40*ms, false)
	f("much less", 500*ms, false)
	f("it stands still", time.Second, true)
}

// Whatever order numbers come in, each is counted once: settled ones are those that came and those that are lost.
func TestIncoming_CountsEachNumberOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint16().Draw(t, "first")
		n := rapid.IntRange(1, 300).Draw(t, "packets")
		lost := map[int]bool{}
		var order []int
		for i := range n {
			if i > 0 && rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
				lost[i] = true
			} else {
				order = append(order, i)
			}
		}
		// Pairs are swapped, and some are doubled: nothing that is further off than is waited for.
		swapped, doubled := 0, 0
		for i := 1; i+1 < len(order); i++ {
			switch rapid.IntRange(0, 9).Draw(t, "disorder") {
			case 0:
				order[i], order[i+1] = order[i+1], order[i]
				swapped++
				i++
			case 1:
				order = append(order[:i+1], order[i:]...)
				doubled++
				i++
			}
		}
		for range settleAfter {
			n++
			order = append(order, n-1)
		}
		in := NewIncoming(IncomingConfig{})
		for at, i := range order {
			in.Packet(plain(first+uint16(i), uint32(i)*960), time.Duration(at)*20*ms)
		}
		s := in.Snapshot(0)
		bursts := 0
		for i := range lost {
			if !lost[i-1] {
				bursts++
			}
		}
		if s.Settled != uint64(n-settleAfter) || s.Lost != uint64(len(lost)) || s.Bursts != uint64(bursts) ||
			s.Duplicates != uint64(doubled) || s.Reordered != uint64(swapped) || s.Stale != 0 || s.Restarts != 0 {
			t.Fatalf("%+v; want %d lost in %d bursts, %d doubled, %d swapped of %d", s.Counters, len(lost), bursts, doubled, swapped, n)
		}
	})
}

// plain is a packet with 10 bytes of payload.
func plain(sequence uint16, timestamp uint32) []byte {
	b, err := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: sequence, Timestamp: timestamp}, Payload: make([]byte, 10)}).Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

func TestIncoming_TellsGapsFromNewBeginnings(t *testing.T) {
	t.Parallel()
	f := func(name string, lost, restarts, stale uint64, sequences ...uint16) {
		t.Helper()
		in := NewIncoming(IncomingConfig{})
		for i, s := range sequences {
			in.Packet(plain(s, uint32(i)*960), time.Duration(i)*20*ms)
		}
		if s := in.Snapshot(0); s.Lost != lost || s.Restarts != restarts || s.Stale != stale {
			t.Errorf("%s: %d lost, %d restarts, %d stale", name, s.Lost, s.Restarts, s.Stale)
		}
	}
	f("a gap", 1000-1-settleAfter, 0, 0, 65000, 65000+500, 464) // over the wrap, two gaps
	f("a packet astray", 0, 0, 1, 10, 11, 40000, 12, 13)
	f("two astray, not in order", 0, 0, 2, 10, 11, 40000, 30000, 12)
	f("a source that began anew", 0, 1, 1, 10, 11, 40000, 40001, 40002)
	f("and with lower numbers", 0, 1, 1, 1000, 1001, 5, 6, 7)
	f("long after", 200-settleAfter-100, 0, 1, 100, 200, 101+20)
}

func TestIncoming_KnowsWhatIsTooLate(t *testing.T) {
	t.Parallel()
	in := NewIncoming(IncomingConfig{})
	for i := range 500 {
		at := time.Duration(i) * 20 * ms
		if i%50 == 40 {
			at += 150 * ms // and what is behind it comes in time: a packet that was passed by others
		}
		in.Packet(plain(uint16(i), uint32(i-100)*960), at)
	}
	s := in.Snapshot(0)
	if s.Late != 10 {
		t.Errorf("%d late, want 10: jitter is %v", s.Late, s.Jitter)
	}
	// A way that becomes longer for good is not late for longer than it takes to notice.
	for i := 500; i < 2000; i++ {
		in.Packet(plain(uint16(i), uint32(i-100)*960), time.Duration(i)*20*ms+300*ms)
	}
	if late := in.Snapshot(0).Late - s.Late; late > uint64(2*transitWindow/(20*ms)) {
		t.Errorf("%d late after the way has become longer", late)
	}
}

func TestIncoming_ReadsLevels(t *testing.T) {
	t.Parallel()
	in := NewIncoming(IncomingConfig{LevelID: 1})
	s := measure(in, deliver(t, speaker.Config{Talk: time.Second, Pause: time.Second, LevelID: 1, DTX: true}, impair.NewLine(1, impair.Config{}), 10*time.Second))
	if s.Leveled != s.Packets || s.Silent != s.Pauses || s.Silent == 0 || s.Loud != 0 {
		t.Errorf("%+v", s)
	}
	in = NewIncoming(IncomingConfig{LevelID: 1})
	if s = measure(in, deliver(t, speaker.Config{Level: 1, LevelID: 1}, impair.NewLine(1, impair.Config{}), time.Second)); s.Loud == 0 {
		t.Errorf("%+v", s)
	}
}

// A tenth is lost at random, and each packet has one copy: what remains is what is lost twice in a row.
func TestIncoming_CountsWhatCopiesBring(t *testing.T) {
	t.Parallel()
	in := NewIncoming(IncomingConfig{RedundantType: 63})
	line := impair.NewLine(5, impair.Config{Loss: impair.Random(0.1)})
	var history red.History
	var pairs, lost uint64
	gone := false
	const packets = 20_000
	for i := range packets {
		ts := uint32(i) * 960
		b := plain(uint16(i), ts)
		out := history.Append(b[:12:12], 1, uint16(i), ts, 111, b[12:])
		history.Push(uint16(i), ts, b[12:])
		out[1] = 63
		if _, n := line.Send(time.Duration(i)*20*ms, 100); n == 0 {
			if gone {
				pairs++
			}
			gone = true
			lost++
			continue
		}
		gone = false
		in.Packet(out, time.Duration(i)*20*ms)
	}
	s := in.Snapshot(0)
	if diff := int64(s.Lost) - int64(pairs); diff < -2 || diff > 2 {
		t.Errorf("%d lost, want %d", s.Lost, pairs)
	}
	w := Between(Snapshot{}, s)
	if math.Abs(w.Network-line.Truth().LossShare()) > 0.002 || s.Lost+s.RecoveredRED > lost {
		t.Errorf("the network lost %.3f, want %.3f; %d and %d of %d", w.Network, line.Truth().LossShare(), s.Lost, s.RecoveredRED, lost)
	}
}

func TestIncoming_AsksForWhatIsMissing(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Duration { return time.Duration(n) * 20 * ms }
	in := NewIncoming(IncomingConfig{})
	ask := func(n int, rtt time.Duration) string {
		in.Packet(plain(uint16(65530+n), uint32(n)*960), at(n))
		return fmt.Sprint(in.Ask(nil, rtt, at(n)))
	}
	f := func(name, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: asked for %s, want %s", name, got, want)
		}
	}
	f("the first", ask(0, 40*ms), "[]")
	f("in order", ask(1, 40*ms), "[]")
	f("a gap over the wrap", ask(8, 40*ms), "[]") // six: too many
	f("once it is smaller", ask(9, 40*ms), "[]")
	in = NewIncoming(IncomingConfig{})
	ask(4, 40*ms)
	f("at once", ask(7, 40*ms), "[0 65535]")
	f("not twice within a round trip", ask(8, 40*ms), "[]")
	in.Packet(plain(65535, 5*960), at(9))
	f("what has come", ask(9, 40*ms), "[]")
	f("not before a round trip and a while", ask(10, 40*ms), "[]") // 60 ms
	f("once more", ask(11, 40*ms), "[0]")
	f("and no more", ask(12, 40*ms)+ask(13, 40*ms)+ask(14, 40*ms), "[][][]")
	if got := in.Snapshot(0); got.RecoveredNACK != 1 {
		t.Errorf("%d recovered", got.RecoveredNACK)
	}
	in = NewIncoming(IncomingConfig{})
	ask(0, 0)
	f("too far away", ask(2, 121*ms), "[]")
	f("near", ask(3, 119*ms), "[65531]")
}

func TestIncoming_ReportsAsRTCPHasIt(t *testing.T) {
	t.Parallel()
	in := NewIncoming(IncomingConfig{})
	if _, ok := in.Reception(1, 0, 0); ok {
		t.Error("a report of nothing")
	}
	for i := range 100 {
		if i%4 != 3 {
			in.Packet(plain(uint16(65500+i), uint32(i)*960), time.Duration(i)*20*ms)
		}
	}
	in.SenderReport(77, 2*time.Second)
	r, ok := in.Reception(9, 0, 3*time.Second)
	if !ok || r.SSRC != 9 || r.FractionLost != 24*256/99 || r.TotalLost != 24 || uint16(r.LastSequenceNumber) != 65598-65536 ||
		r.LastSenderReport != 77 || r.Delay != 65536 {
		t.Errorf("%+v", r)
	}
	if r.LastSequenceNumber>>16 != 1 {
		t.Errorf("the number wrapped %d times", r.LastSequenceNumber>>16)
	}
	if r, _ = in.Reception(9, 0.1, 3*time.Second); r.FractionLost != 25 {
		t.Errorf("%d of 256 of a worst of a tenth", r.FractionLost)
	}
}

func TestIncoming_AllocatesNothing(t *testing.T) {
	in := NewIncoming(IncomingConfig{LevelID: 1, RedundantType: 63})
	copied, err := red.Append(plain(0, 0)[:12], []red.Block{{PayloadType: 111, Offset: 960, Data: make([]byte, 50)}}, 111, make([]byte, 50))
	if err != nil {
		t.Fatal(err)
	}
	copied[1] = 63
	n := uint16(0)
	missing := make([]uint16, 0, askGapMax)
	if allocs := testing.AllocsPerRun(5000, func() {
		if n++; n%7 == 0 {
			n += 2
		}
		copied[2], copied[3] = byte(n>>8), byte(n)
		in.Packet(copied, time.Duration(n)*20*ms)
		missing = in.Ask(missing[:0], 0, time.Duration(n)*20*ms)
		in.Snapshot(0)
	}); allocs != 0 {
		t.Errorf("%v allocations per packet", allocs)
	}
}

func TestIncoming_MayBeReadWhileItMeasures(t *testing.T) {
	t.Parallel()
	in := NewIncoming(IncomingConfig{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var before Snapshot
			for before.Packets < 5000 {
				after := in.Snapshot(0)
				if after.Lost > after.Settled || after.Settled > after.Packets+after.Lost {
					t.Errorf("torn: %+v", after.Counters)
					return
				}
				Between(before, after)
				before = after
			}
		})
	}
	for i := range 5000 {
		in.Packet(plain(uint16(i*2), uint32(i)*960), time.Duration(i)*20*ms)
	}
	readers.Wait()
}

func BenchmarkIncoming(b *testing.B) {
	in := NewIncoming(IncomingConfig{LevelID: 1})
	p := speaker.New(speaker.Config{LevelID: 1, PayloadType: 111}).Next()
	packet, err := p.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		packet[2], packet[3] = byte(n>>8), byte(n)
		in.Packet(packet, time.Duration(n)*20*ms)
	}
}
