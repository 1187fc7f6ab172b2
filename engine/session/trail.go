package session

import (
	"errors"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
)

// Why a place cannot be found in a Trail.
var (
	// ErrFuture means that the client claims to have got what was never sent: close 4007.
	ErrFuture = errors.New("the sequence number has not been reached")
	// ErrLost means that nobody can say any more what the client has: op 9.
	ErrLost = errors.New("the place of the sequence number is not known")
)

const (
	// markEvery bounds how many dispatches have to be counted to find a place between two marks.
	markEvery = 64
	// marksMax bounds a Trail to about 10 KB. When it is full, marks that could be counted over as well go first.
	marksMax = 128
)

// mark says where the session stood after dispatch seq.
type mark struct {
	seq   int64
	point hub.Point
	view  *hub.View
	// to is set where the dispatches up to the next mark are the steps from view to to, and no events.
	to *hub.View
	// soft marks stand in the middle of a stretch: it can be counted over them from the mark before.
	soft bool
	// asOf is up to where view is known to be that of the log, which may be behind point.
	asOf bus.Position
	// torn marks are followed by steps, of which nothing is known: no number behind it can be found.
	torn bool
}

// Trail is what is remembered of a session: how far it was numbered, and marks from which the place of any earlier dispatch
// can be found. It outlives the socket. Whoever writes the session's frames owns it; it is not locked.
type Trail struct {
	seq   int64
	view  *hub.View
	asOf  bus.Position
	marks []mark
	// acked is what the client is known to have.
	acked int64
	// last is the latest event that was numbered.
	last hub.Point
	// restored trails do not know how far they were numbered, until it is found where the client stands.
	restored bool
}

// Seq is the number of the latest durable dispatch.
func (t *Trail) Seq() int64 { return t.seq }

// next numbers a dispatch that is no event of the log: an initial one or the step of a change.
func (t *Trail) next() int64 {
	t.seq++
	return t.seq
}

// event numbers a durable event of the log.
func (t *Trail) event(e *hub.Event) int64 {
	t.seq++
	t.last = e.Point
	if t.seq-t.marks[len(t.marks)-1].seq >= markEvery {
		t.push(mark{seq: t.seq, point: e.Point, view: t.view, soft: true, asOf: t.asOf})
	}
	return t.seq
}

// depart begins the steps to another view; they all belong to p. After the steps comes settle.
func (t *Trail) depart(p hub.Point, to *hub.View) {
	t.push(mark{seq: t.seq, point: p, view: t.view, to: to, asOf: t.asOf, torn: true})
}

// settle says that what follows are the events behind p that are visible to v, which is the view as of a position.
func (t *Trail) settle(p hub.Point, v *hub.View, asOf bus.Position) {
	t.view, t.asOf, t.last = v, asOf, p
	t.push(mark{seq: t.seq, point: p, view: v, asOf: asOf})
}

// rewind forgets what was numbered after seq, because the client has not got it.
func (t *Trail) rewind(p Place) {
	for len(t.marks) > 0 && t.marks[len(t.marks)-1].seq > p.Seq {
		t.marks = t.marks[:len(t.marks)-1]
	}
	t.seq, t.view, t.last = p.Seq, p.View, p.Point
	t.acked, t.restored = p.Seq, false
}

// push adds a mark. Of several at one number only the latest counts, because none of the others has a dispatch after it.
func (t *Trail) push(m mark) {
	if n := len(t.marks); n > 0 && t.marks[n-1].seq == m.seq {
		t.marks[n-1] = m
		return
	}
	t.marks = append(t.marks, m)
	if len(t.marks) > marksMax {
		t.thin()
	}
}

// thin drops every other soft mark of the older half, because the latest dispatches are asked for most, or else the oldest.
func (t *Trail) thin() {
	kept := t.marks[:1]
	for i := 1; i < len(t.marks); i++ {
		if t.marks[i].soft && i < marksMax/2 && i%2 == 1 {
			continue
		}
		kept = append(kept, t.marks[i])
	}
	if len(kept) > marksMax {
		kept = append(kept[:0], kept[1:]...)
		// What is first must be a place to count from.
		kept[0].soft = false
	}
	clear(t.marks[len(kept):])
	t.marks = kept
}

// Place is where a client stands that has got everything up to Seq: behind Point, with the world as View shows it.
type Place struct {
	Seq   int64
	Point hub.Point
	View  *hub.View
}

// Locate finds the place of a number that was dispatched before. since reads the ring of events. It answers ErrFuture
// or ErrLost.
func (t *Trail) Locate(seq int64, since func(hub.Point) ([]hub.Record[[]*hub.Event], bool)) (Place, error) {
	if seq > t.seq && !t.restored {
		return Place{}, ErrFuture
	}
	i := len(t.marks) - 1
	for i >= 0 && t.marks[i].seq > seq {
		i--
	}
	if i < 0 {
		return Place{}, ErrLost
	}
	m := t.marks[i]
	if m.to != nil {
		told := hub.Diff(m.view, m.to)[:seq-m.seq]
		return Place{Seq: seq, Point: m.point, View: hub.Walk(m.view, m.to, told)}, nil
	}
	place := Place{Seq: seq, Point: m.point, View: m.view}
	if seq == m.seq {
		return place, nil
	}
	if m.torn {
		return Place{}, ErrLost
	}
	records, ok := since(m.point)
	if !ok {
		return Place{}, ErrLost
	}
	at := m.seq
	hub.After(records, m.point, m.view, func(e *hub.Event) bool {
		at++
		place.Point = e.Point
		return at < seq
	})
	if at != seq {
		return Place{}, ErrLost
	}
	return place, nil
}

// Checkpoint is a place from which the session can go on elsewhere: what the client has got beyond it can be counted off in the log.
type Checkpoint struct {
	Place
	// AsOf is up to where Place.View is known to be what the log says. An entry behind it may have changed the view.
	AsOf bus.Position
	// Torn means that nothing is known of what was dispatched behind the place: who has more than Seq cannot go on.
	Torn bool
}

// Checkpoint is the latest mark that the client is known to have reached, or else the first. ok is false when there is none yet.
func (t *Trail) Checkpoint() (c Checkpoint, ok bool) {
	if len(t.marks) == 0 {
		return c, false
	}
	i := len(t.marks) - 1
	for i > 0 && t.marks[i].seq > t.acked {
		i--
	}
	m := t.marks[i]
	c = Checkpoint{Place: Place{Seq: m.seq, Point: m.point, View: m.view}, AsOf: m.asOf, Torn: m.torn}
	// The view has been the same up to the entry that brought the next one, or else up to the latest event.
	until := t.last.Pos
	for _, next := range t.marks[i+1:] {
		if next.view != m.view || next.torn {
			until = next.point.Pos.Previous()
			break
		}
	}
	if c.AsOf.Less(until) {
		c.AsOf = until
	}
	return c, true
}

// ack notes what the client says to have. What was never sent is no news.
func (t *Trail) ack(seq int64) {
	if seq <= t.seq {
		t.acked = max(t.acked, seq)
	}
}

// Restore makes the Trail of a session that began elsewhere.
func Restore(c Checkpoint) *Trail {
	return &Trail{
		seq: c.Seq, view: c.View, asOf: c.AsOf, acked: c.Seq, last: c.Point, restored: true,
		marks: []mark{{seq: c.Seq, point: c.Point, view: c.View, asOf: c.AsOf, torn: c.Torn}},
	}
}

// Restored says whether the Trail is one of Restore's of which no place was found yet, and where it begins.
func (t *Trail) Restored() (from Checkpoint, ok bool) {
	if !t.restored {
		return from, false
	}
	return t.Checkpoint()
}
