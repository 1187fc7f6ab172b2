package reads

import (
	"maps"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
)

var (
	unreadable = metrics.NewCounter(`xcord_reads_unreadable_entries_total`)
	forgotten  = metrics.NewCounter(`xcord_reads_forgotten_total`)
)

// overlay is the facts of the log above the checkpoint, fed by the tail and pruned as the checkpoint advances. Rows as of a
// checkpoint are made current by it when that is not below whole: it has everything behind there. Safe for concurrent use.
type overlay struct {
	max int // facts

	mu        sync.Mutex // guards everything below; held for no I/O
	facts     facts
	tip       bus.Position
	committed bus.Position
	whole     bus.Position
}

func newOverlay(factsMax int) *overlay { return &overlay{max: factsMax, facts: newFacts()} }

// begin says that everything behind a position has come or will come.
func (o *overlay) begin(whole bus.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.whole.IsZero() {
		o.whole = whole
	}
}

// apply takes what the tail brings. What cannot be read is for the writer to set aside.
func (o *overlay) apply(entries []bus.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range entries {
		if !o.tip.Less(e.Pos) || !o.committed.Less(e.Pos) {
			continue // a tail that was started again begins further back
		}
		o.tip = e.Pos
		if err := o.facts.add(e); err != nil {
			unreadable.Inc()
		}
	}
	// As many facts as that are an outage of Postgres that lasts: what is read meanwhile is said to be partial.
	if o.facts.count > o.max {
		forgotten.Add(o.facts.count)
		o.facts, o.whole = newFacts(), o.tip
	}
}

// reset begins anew behind a hole in the log.
func (o *overlay) reset(whole bus.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.facts, o.tip, o.whole = newFacts(), bus.Position{}, whole
}

// prune lets go of what is committed.
func (o *overlay) prune(mark bus.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.committed.Less(mark) {
		o.committed = mark
		o.facts.prune(mark)
	}
}

// holds says how many facts there are.
func (o *overlay) holds() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.facts.count
}

// above is the part of the overlay that one user's reading takes. It is the caller's own.
type above struct {
	marks    map[id.ID]mark
	pings    []ping
	deleted  []deletion
	settings map[id.ID]setting
	erased   bool
}

func (o *overlay) of(user id.ID) above {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, erased := o.facts.erased[user]
	return above{
		marks: maps.Clone(o.facts.marks[user]), pings: o.facts.pings, deleted: o.facts.deleted,
		settings: maps.Clone(o.facts.settings[user]), erased: erased,
	}
}

// in are the marks of all users in a channel.
func (o *overlay) in(channel id.ID) map[id.ID]mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := map[id.ID]mark{}
	for user, of := range o.facts.marks {
		if m, ok := of[channel]; ok {
			found[user] = m
		}
	}
	return found
}

// latest raises the heads of the channels of some guilds.
func (o *overlay) latest(heads map[id.ID]id.ID, guilds []id.ID) {
	in := make(map[id.ID]bool, len(guilds))
	for _, g := range guilds {
		in[g] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for channel, h := range o.facts.heads {
		if in[h.guild] {
			heads[channel] = max(heads[channel], h.message)
		}
	}
}

// isWhole says whether rows as of a checkpoint can be made current.
func (o *overlay) isWhole(mark bus.Position) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !mark.Less(o.whole)
}
