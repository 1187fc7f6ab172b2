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
	i := t.nearest(seq)
	if i < 0 {
		return Place{}, ErrLost
	}
	m := t.marks[i]
	place := m.place()
	place.Seq = seq
	if seq == m.seq {
		return place, nil
	}
	if m.to != nil {
		steps := hub.Diff(m.view, m.to)
		if seq-m.seq > int64(len(steps)) {
			return Place{}, ErrLost
		}
		place.View = hub.Walk(m.view, m.to, steps[:seq-m.seq])
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

// Mark is a place to count from.
type Mark struct {
	Place
	// AsOf is up to where View is known to be what the log says. An entry behind it may have changed the view.
	AsOf bus.Position
	// Steps means that what was dispatched up to the next mark are the steps from View to the next one's.
	Steps bool
	// Torn means that nothing else is known of what was dispatched up to the next mark.
	Torn bool
}

// Checkpoint is from where a session can go on elsewhere: the latest mark that the client is known to have reached, and those behind
// it that cannot be counted over. What the client has got beyond a mark can be counted off in the log.
type Checkpoint []Mark

// behindMax bounds the marks behind the first of a Checkpoint. Of more changes of the view within one heartbeat the latest are kept.
const behindMax = 16

// Checkpoint is nil when there is no mark yet.
func (t *Trail) Checkpoint() Checkpoint {
	if len(t.marks) == 0 {
		return nil
	}
	first := max(0, t.nearest(t.acked))
	marks := []mark{t.marks[first]}
	for i, m := range t.marks[first+1:] {
		// The latest of the soft ones saves counting from further back.
		if !m.soft || first+1+i == len(t.marks)-1 {
			marks = append(marks, m)
		}
	}
	if n := len(marks); n > 1+behindMax {
		marks[0].to, marks[0].torn = nil, true
		marks = append(marks[:1], marks[n-behindMax:]...)
	}
	c := make(Checkpoint, len(marks))
	until := t.last.Pos
	for i := len(marks) - 1; i >= 0; i-- {
		m := marks[i]
		if i < len(marks)-1 {
			// The view has been the same up to the entry that brought the next one.
			if next := marks[i+1]; next.view != m.view || next.torn {
				until = next.point.Pos.Previous()
			}
		}
		if until.Less(m.asOf) {
			until = m.asOf
		}
		c[i] = Mark{Place: m.place(), AsOf: until, Torn: m.torn, Steps: m.to != nil && i < len(marks)-1}
	}
	return c
}

// ack notes what the client says to have. What was never sent is no news.
func (t *Trail) ack(seq int64) {
	if seq <= t.seq {
		t.acked = max(t.acked, seq)
	}
}

// reach sets a mark where the session stands when everything up to an entry has been offered to it. Without it the mark of a session
// that gets little would be as old as its latest dispatches, and the log between there and now have to be read to go on elsewhere.
func (t *Trail) reach(p bus.Position) {
	at, n := hub.Behind(p), len(t.marks)
	if n == 0 || t.marks[n-1].torn {
		return
	}
	if at.Less(t.last) {
		at = t.last
	}
	if t.asOf.Less(p) {
		t.asOf = p
	}
	if last := &t.marks[n-1]; last.seq == t.seq {
		last.point, last.asOf = at, t.asOf
		return
	}
	t.push(mark{seq: t.seq, point: at, view: t.view, soft: true, asOf: t.asOf})
}

// Stand sets a mark where the session stands, for a Checkpoint that is the last.
func (t *Trail) Stand() {
	if n := len(t.marks); n > 0 && t.marks[n-1].seq < t.seq && !t.marks[n-1].torn {
		t.push(mark{seq: t.seq, point: t.last, view: t.view, soft: true, asOf: t.asOf})
	}
}

// Restore makes the Trail of a session that began elsewhere.
func Restore(c Checkpoint) *Trail {
	last := c[len(c)-1]
	t := &Trail{seq: last.Seq, view: last.View, asOf: last.AsOf, acked: c[0].Seq, last: last.Point, restored: true}
	for i, m := range c {
		restored := mark{seq: m.Seq, point: m.Point, view: m.View, asOf: m.AsOf, torn: m.Torn}
		if m.Steps && i < len(c)-1 {
			restored.to = c[i+1].View
		}
		t.marks = append(t.marks, restored)
	}
	return t
}

// Restored says whether the Trail is one of Restore's of which no place was found yet.
func (t *Trail) Restored() bool { return t.restored }

// Nearest is the mark that the place of a number is counted from. ok is false when there is none.
func (t *Trail) Nearest(seq int64) (m Mark, ok bool) {
	i := t.nearest(seq)
	if i < 0 {
		return m, false
	}
	return Mark{Place: t.marks[i].place(), AsOf: t.marks[i].asOf, Torn: t.marks[i].torn, Steps: t.marks[i].to != nil}, true
}

// nearest is the index of the latest mark at or before a number, -1 when there is none.
func (t *Trail) nearest(seq int64) int {
	i := len(t.marks) - 1
	for i >= 0 && t.marks[i].seq > seq {
		i--
	}
	return i
}

func (m mark) place() Place { return Place{Seq: m.seq, Point: m.point, View: m.view} }
