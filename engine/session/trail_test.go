package session

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// belief is what a client knows that has got everything up to a number: the view as it was told, and how many events of the
// log are behind it.
type belief struct {
	view   *hub.View
	behind int
}

// world is a log of events, a session that follows it as a writer does, and what the client knows after each number.
type world struct {
	t      *rapid.T
	ring   *hub.Ring[[]*hub.Event]
	events []*hub.Event
	pos    bus.Position
	view   *hub.View
	trail  *Trail
	knows  map[int64]belief
	first  int64
	// changed are the entries that changed the view of whoever was there.
	changed []bus.Position
	kept    Checkpoint // from some time ago
}

func (w *world) drawView() *hub.View {
	v := &hub.View{User: 100, Intents: wire.IntentsAll, Guilds: map[id.ID]*hub.Class{}}
	for g := id.ID(1); g <= 2; g++ {
		if rapid.IntRange(0, 4).Draw(w.t, "member") > 0 {
			v.Guilds[g] = hub.NewClass(g, rapid.SliceOfDistinct(rapid.SampledFrom([]id.ID{10, 11, 12}), rapid.ID).Draw(w.t, "channels"))
		}
	}
	return v
}

// entry adds an entry with up to three events to the log and returns them.
func (w *world) entry() []*hub.Event {
	w.pos.Ms++
	var events []*hub.Event
	for i := range rapid.IntRange(0, 3).Draw(w.t, "events") {
		events = append(events, &hub.Event{
			Point: hub.Point{Pos: w.pos, Index: i}, Durable: true,
			Guild: id.ID(rapid.IntRange(1, 2).Draw(w.t, "guild")), Channel: id.ID(rapid.IntRange(10, 12).Draw(w.t, "channel")),
		})
	}
	if len(events) > 0 {
		w.ring.Append(w.pos, events, 1)
		w.events = append(w.events, events...)
	}
	return events
}

// deliver numbers those events that the session sees; behind is how many events of the log there are up to the last.
func (w *world) deliver(events []*hub.Event, before int) {
	for i, e := range events {
		if hub.Visible(e, w.view) {
			w.knows[w.trail.event(e)] = belief{view: w.view, behind: before + i + 1}
		}
	}
}

// change takes the session to another view at a point in front of which there are so many events of the log.
func (w *world) change(p hub.Point, to *hub.View, asOf bus.Position, behind int) {
	from := w.view
	steps := hub.Diff(from, to)
	if len(steps) > 0 {
		w.trail.depart(p, to)
	}
	for i := range steps {
		w.knows[w.trail.next()] = belief{view: hub.Walk(from, to, steps[:i+1]), behind: behind}
	}
	w.trail.settle(p, to, asOf)
	w.view = to
}

// next are the events that a client has still to get, in its view.
func (w *world) next(v *hub.View, from func(e *hub.Event, i int) bool) (out []*hub.Event) {
	for i, e := range w.events {
		if from(e, i) && hub.Visible(e, v) {
			out = append(out, e)
		}
	}
	return out
}

func same(a, b *hub.View) bool {
	if len(a.Guilds) != len(b.Guilds) {
		return false
	}
	for g, c := range a.Guilds {
		if b.Guilds[g] == nil || b.Guilds[g].Key() != c.Key() {
			return false
		}
	}
	return true
}

// check compares what Locate says of a number with what the client knows.
func (w *world) check(seq int64) (Place, bool) {
	place, err := w.trail.Locate(seq, w.ring.Since)
	if errors.Is(err, ErrLost) {
		return place, false
	}
	if err != nil {
		w.t.Fatalf("locate %d of %d: %v", seq, w.trail.Seq(), err)
	}
	w.compare(place, seq)
	return place, true
}

// compare fails when a place is not where the client stands at that number.
func (w *world) compare(place Place, seq int64) {
	want := w.knows[seq]
	if !same(place.View, want.view) {
		w.t.Fatalf("at %d the view is wrong", seq)
	}
	got := w.next(place.View, func(e *hub.Event, _ int) bool { return place.Point.Less(e.Point) })
	expect := w.next(want.view, func(_ *hub.Event, i int) bool { return i >= want.behind })
	if !slices.Equal(got, expect) {
		w.t.Fatalf("at %d: %d events are still to come, want %d", seq, len(got), len(expect))
	}
}

// elsewhere goes on from a checkpoint with a number of the client's, and says whether that was possible. The owner of the ring refuses
// what counts over a change of the view that the checkpoint does not know.
func (w *world) elsewhere(c Checkpoint, seq int64) bool {
	if c == nil {
		return false
	}
	trail := Restore(c)
	from, ok := trail.Nearest(seq)
	place, err := trail.Locate(seq, w.ring.Since)
	if !ok || err != nil {
		return false
	}
	for _, p := range w.changed {
		if from.Point.Less(place.Point) && from.AsOf.Less(p) && !place.Point.Pos.Less(p) {
			return false
		}
	}
	w.compare(place, seq)
	return true
}

// TestTrail_LocatesEveryNumber: after any history of events, changes of view, cuts and resumes, the place found from marks
// and ring is the true one, or it is said to be lost; and lost it is only where the ring does not reach back. What is found from a
// checkpoint alone is true as well, also from one that is older than what came after it; and from the one of now everything is found.
func TestTrail_LocatesEveryNumber(t *testing.T) {
	t.Parallel()
	found, late := 0, 0
	defer func() {
		if found < 100 || late < 100 {
			t.Errorf("only %d and %d places were found elsewhere: the test tests nothing", found, late)
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{5, 50, 1 << 20}).Draw(t, "ring")
		w := &world{t: t, ring: hub.NewRing[[]*hub.Event](bus.Position{}, limit, 1<<20), trail: &Trail{}, knows: map[int64]belief{}}
		for range rapid.IntRange(0, 3).Draw(t, "before") {
			w.entry()
		}
		w.view = w.drawView()
		w.first = int64(rapid.IntRange(1, 4).Draw(t, "first"))
		for range w.first {
			w.trail.next()
		}
		w.trail.settle(hub.Behind(w.pos), w.view, w.pos)
		w.knows[w.first] = belief{view: w.view, behind: len(w.events)}
		t.Repeat(map[string]func(*rapid.T){
			"events": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "entries") {
					before := len(w.events)
					w.deliver(w.entry(), before)
				}
			},
			"change": func(*rapid.T) {
				before := len(w.events)
				events := w.entry()
				w.changed = append(w.changed, w.pos)
				w.change(hub.Before(w.pos), w.drawView(), w.pos, before)
				w.deliver(events, before)
			},
			"beat": func(*rapid.T) {
				w.trail.reach(w.pos)
			},
			"stand": func(*rapid.T) {
				w.trail.Stand()
			},
			"checkpoint": func(*rapid.T) {
				w.kept = w.trail.Checkpoint()
			},
			"ack": func(t *rapid.T) {
				w.trail.ack(int64(rapid.IntRange(int(w.first), int(w.trail.Seq())+5).Draw(t, "acked")))
			},
			"resume": func(t *rapid.T) {
				had := int64(rapid.IntRange(int(w.first), int(w.trail.Seq())).Draw(t, "had"))
				before := len(w.events)
				for range rapid.IntRange(0, 10).Draw(t, "missed") {
					w.entry()
				}
				place, ok := w.check(had)
				if !ok {
					w.deliver(w.events[before:], before) // then it was not cut after all
					return
				}
				// As a writer does: the steps to the present, and then what is behind the place and visible in the present.
				behind := 0
				for behind < len(w.events) && !place.Point.Less(w.events[behind].Point) {
					behind++
				}
				w.kept = nil // a resume tears the count
				w.trail.rewind(place)
				w.view = place.View
				w.change(place.Point, w.drawView(), w.pos, behind)
				w.deliver(w.events[behind:], behind)
			},
			"": func(t *rapid.T) {
				seq := int64(rapid.IntRange(int(w.first), int(w.trail.Seq())).Draw(t, "seq"))
				if _, ok := w.check(seq); !ok && limit == 1<<20 && len(w.trail.marks) < marksMax {
					t.Fatalf("%d of %d is lost, though the ring has everything", seq, w.trail.Seq())
				}
				c := w.trail.Checkpoint()
				switch {
				case w.elsewhere(c, seq):
					found++
				case limit == 1<<20 && seq >= c[0].Seq && !torn(c):
					t.Fatalf("%d is not found from the checkpoint of now", seq)
				}
				if w.elsewhere(w.kept, seq) {
					late++
				}
				if len(w.trail.marks) > marksMax {
					t.Fatalf("%d marks", len(w.trail.marks))
				}
			},
		})
	})
}

// torn says whether there were more changes than a checkpoint keeps.
func torn(c Checkpoint) bool { return c[0].Torn && !c[0].Steps }

func TestTrail_RefusesTheFutureAndTheBeginning(t *testing.T) {
	t.Parallel()
	trail := &Trail{}
	trail.next()
	trail.next()
	trail.settle(hub.Behind(bus.Position{Ms: 1}), &hub.View{}, bus.Position{Ms: 1})
	ring := hub.NewRing[[]*hub.Event](bus.Position{}, 10, 10)
	f := func(seq int64, want error) {
		t.Helper()
		if _, err := trail.Locate(seq, ring.Since); !errors.Is(err, want) {
			t.Errorf("%d: %v", seq, err)
		}
	}
	f(3, ErrFuture)
	f(2, nil)
	f(1, ErrLost)
	f(0, ErrLost)
	f(-1, ErrLost)
}

// TestTrail_StaysBounded: a session that lives for ever keeps the marks of its latest dispatches, and thins the older ones.
func TestTrail_StaysBounded(t *testing.T) {
	t.Parallel()
	view := &hub.View{User: 100, Guilds: map[id.ID]*hub.Class{1: hub.NewClass(1, nil)}}
	ring := hub.NewRing[[]*hub.Event](bus.Position{}, 1<<20, 1<<30)
	trail := &Trail{}
	trail.next()
	trail.settle(hub.Behind(bus.Position{}), view, bus.Position{})
	const n = 30 * marksMax * markEvery
	for i := range uint64(n) {
		e := &hub.Event{Point: hub.Point{Pos: bus.Position{Ms: i + 1}}, Guild: 1, Durable: true}
		ring.Append(e.Point.Pos, []*hub.Event{e}, 1)
		trail.event(e)
	}
	if len(trail.marks) > marksMax {
		t.Errorf("%d marks", len(trail.marks))
	}
	for _, seq := range []int64{n + 1, n, n - 63, n - 64, n / 2, 1000} {
		place, err := trail.Locate(seq, ring.Since)
		if err != nil || place.Point.Pos.Ms != uint64(seq-1) {
			t.Errorf("%d: %v %v", seq, place.Point, err)
		}
	}
}
