package session

import (
	"errors"

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
}

// Trail is what is remembered of a session: how far it was numbered, and marks from which the place of any earlier dispatch
// can be found. It outlives the socket. Whoever writes the session's frames owns it; it is not locked.
type Trail struct {
	seq   int64
	view  *hub.View
	marks []mark
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
	if t.seq-t.marks[len(t.marks)-1].seq >= markEvery {
		t.push(mark{seq: t.seq, point: e.Point, view: t.view, soft: true})
	}
	return t.seq
}

// depart begins the steps to another view; they all belong to p. After the steps comes settle.
func (t *Trail) depart(p hub.Point, to *hub.View) {
	t.push(mark{seq: t.seq, point: p, view: t.view, to: to})
}

// settle says that what follows are the events behind p that are visible to v.
func (t *Trail) settle(p hub.Point, v *hub.View) {
	t.view = v
	t.push(mark{seq: t.seq, point: p, view: v})
}

// rewind forgets what was numbered after seq, because the client has not got it.
func (t *Trail) rewind(p Place) {
	for len(t.marks) > 0 && t.marks[len(t.marks)-1].seq > p.Seq {
		t.marks = t.marks[:len(t.marks)-1]
	}
	t.seq, t.view = p.Seq, p.View
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
	if seq > t.seq {
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
