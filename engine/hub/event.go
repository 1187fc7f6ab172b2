// Package hub decides who gets what: it holds who is here with which view, the groups of equal views in every guild, and
// the ring of the latest events. It opens no sockets, does no I/O, and knows neither permissions nor how an event came
// about: a view is what somebody else found the session may see.
//
// # Concurrency
//
// A Hub and a Ring are not locked: their owner calls every method from one goroutine at a time. What they hand out
// (events, views, classes, records) is immutable and may be read by anybody for ever.
package hub

import (
	"math"
	"slices"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// Event is one dispatch, the same for all who get it. It is made once per entry and gateway and never changed.
type Event struct {
	// Point is where the event stands: which of the dispatches of which entry of the log. Zero for what is not durable.
	Point Point
	// Name is what clients know it by: MESSAGE_CREATE.
	Name string
	// Intents of which the session must have one; 0 for none.
	Intents wire.Intents
	// Guild and Channel are what the session must see; 0 for nothing in particular. The guild's id as Channel is its audit log.
	Guild, Channel id.ID
	// User is the only one to get it; 0 for everybody in the guild. What is in no guild has one.
	// Beside is another channel that the session must see, for what is about a channel and not in it; 0 for none.
	Beside id.ID
	User   id.ID
	// Except is a user who does not get it.
	Except id.ID
	// Author and Mentions are the users who may read the content without the intent.
	Author   id.ID
	Mentions []id.ID
	// Durable events are numbered and replayed.
	Durable bool
	// Body is the JSON of d.
	Body []byte
	// Bare is Body without the content of a message, for those who may not read it; nil when Body is for everybody.
	Bare func() []byte
}

// For is the body that a view may see.
func (e *Event) For(v *View) []byte {
	if e.Bare == nil || v.Intents.Has(wire.IntentMessageContent) || e.Guild == 0 || e.Author == v.User ||
		slices.Contains(e.Mentions, v.User) {
		return e.Body
	}
	return e.Bare()
}

// Point is a place among the events: behind the dispatch with this index of the entry at Pos.
type Point struct {
	Pos   bus.Position
	Index int
}

// Before is the place in front of all events of an entry.
func Before(p bus.Position) Point { return Point{Pos: p, Index: -1} }

// Behind is the place behind all events of an entry.
func Behind(p bus.Position) Point { return Point{Pos: p, Index: math.MaxInt} }

// Less says whether p is before q.
func (p Point) Less(q Point) bool {
	if c := p.Pos.Compare(q.Pos); c != 0 {
		return c < 0
	}
	return p.Index < q.Index
}
