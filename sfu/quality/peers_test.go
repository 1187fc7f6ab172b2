package quality_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"

	"github.com/xcord/xcord/sfu/impair"
	"github.com/xcord/xcord/sfu/quality"
	"github.com/xcord/xcord/sfu/red"
)

// What a real connection loses is found within half a point, in bursts within a fifth, its jitter within a tenth, and its
// round trip: by the server of what it gets, and of what it sends by what the client says.
func TestPeer_MeasuresARealConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, false)
		defer r.close()
		c := r.join(impair.Config{Loss: impair.Bursty(0.05, 3), Delay: 30 * ms, Jitter: 15 * ms}, impair.Config{Loss: impair.Random(0.1), Delay: 20 * ms})
		var jitter, sum, want float64
		var last impair.Fate
		c.port.Up.Watch(func(f impair.Fate) {
			if len(f.Arrivals) == 0 {
				return
			}
			if last.Arrivals != nil {
				d := f.Arrivals[0] - last.Arrivals[0] - (f.Sent - last.Sent)
				jitter += (math.Abs(float64(d)) - jitter) / 16
			}
			last = impair.Fate{Sent: f.Sent, Arrivals: []time.Duration{f.Arrivals[0]}}
		})
		var before quality.Snapshot
		for range 6 {
			talk(t, quality.WindowLength, plain, c.mic, c.slot)
			<-time.After(100 * ms) // for what is under way
			after := c.peer.Incoming(c.mic.ssrc).Snapshot(c.peer.Now())
			sum += float64(quality.Between(before, after).Jitter)
			want += jitter
			before = after
		}
		if math.Abs(sum-want) > 0.1*want {
			t.Errorf("jitter of %v, but the line had %v", time.Duration(sum/6), time.Duration(want/6))
		}
		<-time.After(2 * reportEach)

		truth := c.port.Up.Truth()
		w := quality.Between(quality.Snapshot{}, before)
		if math.Abs(w.Loss-truth.LossShare()) > 0.005 || math.Abs(w.Burst-truth.BurstMean()) > 0.2*truth.BurstMean() {
			t.Errorf("up: lost %.4f in bursts of %.2f, but the line lost %.4f in bursts of %.2f", w.Loss, w.Burst, truth.LossShare(), truth.BurstMean())
		}
		truth = c.port.Down.Truth()
		w = quality.Between(quality.Snapshot{}, c.peer.Outgoing(c.slot.ssrc).Snapshot(c.peer.Now()))
		if math.Abs(w.Loss-truth.LossShare()) > 0.005 {
			t.Errorf("down: lost %.4f, but the line lost %.4f", w.Loss, truth.LossShare())
		}
		// RTCP passes these lines at once, and packets of RTP take 20 ms and 30 ms, which reports do not tell.
		if rtt := c.peer.RTT(); rtt == 0 || rtt > 2*ms {
			t.Errorf("a round trip of %v", rtt)
		}
		if n := c.peer.Malformed(); n != 0 {
			t.Errorf("%d packets of RTCP were not understood", n)
		}
	})
}

func TestPeer_MeasuresRoundTrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, false)
		defer r.close()
		c := r.join(impair.Config{Delay: 70 * ms}, impair.Config{Delay: 50 * ms})
		c.port.Up.Only(impair.Media)
		c.port.Down.Only(impair.Media)
		talk(t, 4*time.Second, plain, c.mic, c.slot)
		for name, p := range map[string]*quality.Peer{"server": c.peer, "client": c.ownPeer} {
			if rtt := p.RTT(); (rtt - 120*ms).Abs() > ms {
				t.Errorf("the %s: %v, want 120 ms", name, rtt)
			}
		}
	})
}

// 3 % are lost on the way up, at 40 ms there and back. What is asked for again comes in time: at most 0.3 % remain.
func TestPeer_AsksAgainForWhatTheUplinkLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, true)
		defer r.close()
		c := r.join(impair.Config{Loss: impair.Random(0.03), Delay: 20 * ms}, impair.Config{Delay: 20 * ms})
		c.port.Up.Only(impair.Media)
		c.port.Down.Only(impair.Media)
		talk(t, 60*time.Second, plain, c.mic, c.slot)
		<-time.After(time.Second)
		w := quality.Between(quality.Snapshot{}, c.peer.Incoming(c.mic.ssrc).Snapshot(c.peer.Now()))
		t.Logf("lost %.2f %%, of which %.2f %% remain; %d packets were brought back", 100*w.Network, 100*w.Loss, w.RecoveredNACK)
		if math.Abs(w.Network-0.03) > 0.01 || w.Loss > 0.003 || w.Late > 0.003 {
			t.Errorf("%+v", w)
		}
	})
}

// ear is what a listener's player gets: each frame once, whichever packet brought it.
type ear struct {
	frames, missing int
	had             map[uint32]bool
}

// hear takes what has arrived; wants are the timestamps of what was sent since then.
func (e *ear) hear(t *testing.T, heard <-chan *rtp.Packet, wants []uint32) (share float64) {
	t.Helper()
	if e.had == nil {
		e.had = map[uint32]bool{}
	}
	for len(heard) > 0 {
		p := <-heard
		e.had[p.Timestamp] = true
		if p.PayloadType != typeRED {
			continue
		}
		var payload red.Payload
		if err := payload.Parse(p.Payload); err != nil {
			t.Fatal(err)
		}
		for _, b := range payload.Blocks() {
			e.had[p.Timestamp-uint32(b.Offset)] = true
		}
	}
	missing := 0
	for _, ts := range wants {
		if !e.had[ts] {
			missing++
		}
	}
	e.frames, e.missing = e.frames+len(wants), e.missing+missing
	return float64(missing) / float64(len(wants))
}

// A tenth is lost on the way to one listener. Within ten seconds copies are added for that one, so that at most a fifth of the
// loss remains; after the line has recovered they go away. What another listener gets does not change by a byte.
func TestRedundancy_RepairsOneListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, false)
		defer r.close()
		bad := r.join(impair.Config{}, impair.Config{Delay: 20 * ms})
		good := r.join(impair.Config{}, impair.Config{Delay: 20 * ms})
		listeners := []*client{bad, good}
		decide := []*quality.Redundancy{quality.NewRedundancy(), quality.NewRedundancy()}
		before := make([]quality.Snapshot, 2)
		var ears [2]ear
		var actions []quality.Action
		slots := []*track{bad.slot, good.slot}

		sent, at := 0, time.Duration(0)
		window := func() (missing float64, sentEach [2]int) {
			bytes := [2]int{slots[0].sent, slots[1].sent}
			var stamps []uint32
			for i := range int(quality.WindowLength / (20 * ms)) {
				stamps = append(stamps, uint32((sent+i)*960))
			}
			for i, ts := range stamps {
				<-time.After(20 * ms)
				for j, s := range slots {
					if err := s.write(ts, make([]byte, 80), decide[j].Level()); err != nil {
						t.Fatal(i, err)
					}
				}
			}
			sent += len(stamps)
			at += quality.WindowLength
			<-time.After(100 * ms)
			for j, l := range listeners {
				after := l.peer.Outgoing(slots[j].ssrc).Snapshot(l.peer.Now())
				w := quality.Between(before[j], after)
				before[j] = after
				share := ears[j].hear(t, l.heard, stamps)
				if j == 0 {
					missing = share
				} else if share != 0 {
					t.Errorf("the other listener misses %.3f", share)
				}
				line := quality.Line{Network: w.Network, Loss: share, Judged: w.Judged, RTT: w.RTT, MOS: quality.Path{Down: quality.Leg{Loss: share}}.Rate().MOS}
				changed, known := decide[j].Window(line, at)
				if changed != nil && j == 0 {
					actions = append(actions, *changed)
				}
				if changed != nil && j == 1 {
					t.Errorf("the other listener: %+v", changed)
				}
				if known != nil {
					t.Logf("%v: %s %d -> %d (%s): loss %.2f %% -> %.2f %%, MOS %.2f -> %.2f", at, known.Remedy, known.From, known.To, known.Reason,
						100*known.Before.Loss, 100*known.After.Loss, known.Before.MOS, known.After.MOS)
				}
				sentEach[j] = slots[j].sent - bytes[j]
			}
			return missing, sentEach
		}
		_, usual := window()
		bad.port.Down.Set(impair.Config{Delay: 20 * ms, Loss: impair.Random(0.1)})
		lost := 0.0
		for i := 0; i < 2 && decide[0].Level() == 0; i++ {
			lost, _ = window()
		}
		if decide[0].Level() == 0 {
			t.Fatal("no copies after ten seconds")
		}
		remain := 0.0
		const repaired = 6
		for range repaired {
			missing, bytes := window()
			remain += missing / repaired
			if bytes[1] != usual[1] {
				t.Errorf("the other listener got %d bytes, usually %d", bytes[1], usual[1])
			}
		}
		t.Logf("lost %.2f %% without copies, %.2f %% with", 100*lost, 100*remain)
		if lost < 0.05 || remain > lost/5 {
			t.Errorf("%.4f of %.4f remain", remain, lost)
		}
		bad.port.Down.Set(impair.Config{Delay: 20 * ms})
		for range 14 {
			window()
		}
		if _, bytes := window(); decide[0].Level() != 0 || bytes != usual {
			t.Errorf("level %d, %v bytes after the line has recovered, usually %v", decide[0].Level(), bytes, usual)
		}
		if last := actions[len(actions)-1]; !last.Undone() || last.Reason != quality.ReasonCalm {
			t.Errorf("%+v", last)
		}
	})
}

// Nothing arrives at a listener any more, who is there and speaks: that is said within six seconds, and once; when packets arrive
// again it is over within three.
func TestWatch_SaysThatAudioGoesOneWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, false)
		defer r.close()
		c := r.join(impair.Config{Delay: 20 * ms}, impair.Config{Delay: 20 * ms})
		watch := quality.NewWatch(quality.Down)
		out := c.peer.Outgoing(c.slot.ssrc)
		before := []quality.Snapshot{}
		// second is a window of five seconds, each second anew.
		second := func(at time.Duration) []quality.Alert {
			talk(t, time.Second, plain, c.slot, c.mic)
			before = append(before, out.Snapshot(c.peer.Now()))
			w := quality.Between(before[max(0, len(before)-6)], before[len(before)-1])
			_, alerts := watch.Window(quality.Measure{Window: w, Rating: quality.Rating{R: 90, MOS: 4.3}, Alive: true}, at)
			return alerts
		}
		begin := time.Now()
		wait := func(limit int, on bool) {
			t.Helper()
			for i := range limit {
				alerts := second(time.Since(begin))
				if len(alerts) == 0 {
					continue
				}
				if len(alerts) != 1 || alerts[0].Type != quality.AlertOneWay || alerts[0].On != on {
					t.Fatalf("%+v", alerts)
				}
				t.Logf("%+v after %d s", alerts[0], i+1)
				return
			}
			t.Fatalf("nothing was said in %d s", limit)
		}
		for range 10 {
			if alerts := second(time.Since(begin)); len(alerts) > 0 {
				t.Fatalf("all is well: %+v", alerts)
			}
		}
		c.port.Down.Set(impair.Config{Loss: impair.Random(1)})
		wait(6, true)
		for range 5 {
			if alerts := second(time.Since(begin)); len(alerts) > 0 {
				t.Errorf("said again: %+v", alerts)
			}
		}
		c.port.Down.Set(impair.Config{Delay: 20 * ms})
		wait(3, false)
	})
}
