package sfu

import (
	"slices"
	"sync"
	"time"
)

const (
	// holdMin is how long a slot stays with who got it, and what may take it then: a pause, or somebody clearly louder.
	holdMin    = time.Second
	pauseMin   = 300 * time.Millisecond
	louderMin  = 6 * levelParts
	choicesMax = 256 // voice ids in one list of a Subscription
)

// room is who hears whom. Slots are given for each listener apart, by the same rule: so nobody hears themselves, small rooms
// have a slot for everybody, and what one listener asked for is no matter of the others.
type room struct {
	name string

	mu      sync.Mutex // guards members, who owns a slot, and the replacing of targets
	members []*Participant
}

// Subscription is what a listener asks for. The zero value is "whoever speaks".
type Subscription struct {
	Include []uint32 // voice ids that come before all others, however loud those are
	Exclude []uint32 // voice ids that are never heard
	Slots   int      // hear so many at once at most; 0 is all slots that were negotiated
}

// claim finds s a slot with everybody who could hear it. Called by the source's goroutine when it begins to speak, and now and then
// while somebody does not hear it.
func (r *room) claim(s *source, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.members, s.owner) {
		return
	}
	changed := []*source{}
	s.unheard.Store(false)
	for _, listener := range r.members {
		changed = listener.give(s, now, changed)
	}
	r.retarget(changed)
}

// arrive lets a participant, who is connected now, hear who speaks.
func (r *room) arrive(p *Participant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.members, p) {
		return
	}
	p.connected = true
	r.refill(p, time.Now())
}

// leave takes a participant out, as a voice and as a listener, and tells whether the room is empty now.
func (r *room) leave(p *Participant) (empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = slices.DeleteFunc(r.members, func(m *Participant) bool { return m == p })
	now := time.Now()
	changed := []*source{&p.source}
	for _, l := range p.slots {
		changed = l.free(now, changed)
	}
	for _, m := range r.members {
		for _, l := range m.slots {
			if l.owner == &p.source {
				l.assign(nil, now)
			}
		}
	}
	r.retarget(changed)
	return len(r.members) == 0
}

// change changes what a participant listens to, and gives its slots anew by that.
func (r *room) change(p *Participant, how func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	how()
	if slices.Contains(r.members, p) {
		r.refill(p, time.Now())
	}
}

// refill takes from a listener's slots who may not be in them, and gives the free ones to who speaks, those that were asked for first.
func (r *room) refill(p *Participant, now time.Time) {
	changed := []*source{}
	for i, l := range p.slots {
		if l.owner != nil && (i >= p.usable() || !p.hears(l.owner)) {
			changed = l.free(now, changed)
		}
	}
	for _, rank := range []int{1, 0} {
		for _, m := range r.members {
			if s := &m.source; p.rank(s) == rank && s.silence(now) <= hang {
				changed = p.give(s, now, changed)
			}
		}
	}
	r.retarget(changed)
}

// retarget makes the list of slots anew for each of these sources.
func (r *room) retarget(changed []*source) {
	for _, s := range changed {
		var targets []*slot
		for _, m := range r.members {
			for _, l := range m.slots {
				if l.owner == s {
					targets = append(targets, l)
				}
			}
		}
		s.targets.Store(&targets)
	}
}

// free takes a slot from its owner, and adds that to the changed.
func (l *slot) free(now time.Time, changed []*source) []*source {
	if l.owner == nil {
		return changed
	}
	changed = add(changed, l.owner)
	l.owner.unheard.Store(true)
	l.assign(nil, now)
	return changed
}

// give finds s a slot of this listener: its own, a free one, or that of who has been silent longest among those who must
// yield. It adds to changed whose targets are different now.
func (p *Participant) give(s *source, now time.Time, changed []*source) []*source {
	if !p.hears(s) {
		return changed
	}
	var best *slot
	for _, l := range p.slots[:p.usable()] {
		switch {
		case l.owner == s:
			return changed
		case best != nil && best.owner == nil:
		case l.owner == nil, p.yields(l, s, now) && (best == nil || p.before(l.owner, best.owner, now)):
			best = l
		}
	}
	if best == nil {
		s.unheard.Store(true)
		return changed
	}
	changed = best.free(now, changed)
	best.assign(s, now)
	return add(changed, s)
}

// yields tells whether the owner of a slot has to make room for s.
func (p *Participant) yields(l *slot, s *source, now time.Time) bool {
	if has, wants := p.rank(l.owner), p.rank(s); has != wants {
		return wants > has
	}
	return now.Sub(l.since) >= holdMin && (l.owner.silence(now) >= pauseMin || l.owner.level.Load()-s.level.Load() > louderMin)
}

// before tells whether a is to go rather than b: asked for by nobody, silent for longer.
func (p *Participant) before(a, b *source, now time.Time) bool {
	if p.rank(a) != p.rank(b) {
		return p.rank(a) < p.rank(b)
	}
	return a.silence(now) > b.silence(now)
}

// hears tells whether a listener may hear a source at all.
func (p *Participant) hears(s *source) bool {
	return p.connected && !p.deaf && s.owner != p && !slices.Contains(p.wants.Exclude, s.owner.VoiceID)
}

// rank is 1 for a source that the listener asked for, else 0.
func (p *Participant) rank(s *source) int {
	if slices.Contains(p.wants.Include, s.owner.VoiceID) {
		return 1
	}
	return 0
}

// usable is how many of its slots a listener wants filled.
func (p *Participant) usable() int {
	if p.wants.Slots > 0 {
		return min(p.wants.Slots, len(p.slots))
	}
	return len(p.slots)
}

// silence is how long ago the last voiced packet was.
func (s *source) silence(now time.Time) time.Duration {
	return time.Duration(now.UnixNano() - s.voicedAt.Load())
}

func add(list []*source, s *source) []*source {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// everybody is who is in the room.
func (r *room) everybody() []*Participant {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members)
}
