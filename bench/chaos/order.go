package chaos

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// fact is an entry of the log as receivers tell it: an edit twice made is two entries, told apart by their times.
type fact struct {
	kind    string
	message id.ID
	edited  string
	n       int32 // of changes of marks, which one of the message it is
}

func (f fact) String() string { return fmt.Sprintf("%s of %s %s", f.kind, f.message, f.edited) }

// saying is what a receiver was told of a mark.
type saying struct {
	kind  Kind
	emoji string
	user  id.ID
}

// factOf says which entry of a channel's messages a dispatch tells of.
func factOf(e *Event) (fact, bool) {
	if e.Kind.isMark() {
		return fact{}, false
	}
	switch e.Type {
	case "MESSAGE_CREATE", "MESSAGE_DELETE":
		return fact{kind: e.Type, message: e.Message}, true
	case "MESSAGE_UPDATE":
		return fact{kind: e.Type, message: e.Message, edited: e.Edited}, true
	}
	return fact{}, false
}

// markFact says which change of the marks of a message a dispatch tells of. Only who has received the message from its create on can count them:
// so it is false for others.
func (m *model) markFact(s *session, e *Event, counts map[id.ID]int32) (fact, bool) {
	if e.Type == "MESSAGE_CREATE" && m.always(s, e.Channel) {
		counts[e.Message] = 1
	}
	n, ok := counts[e.Message]
	if !ok || !e.Kind.isMark() {
		return fact{}, false
	}
	counts[e.Message]++
	return fact{kind: "the change of marks", message: e.Message, n: n}, true
}

// facts are numbered: there are millions of them, and a graph between numbers is small.
type facts struct {
	numbers map[fact]int32
	all     []fact
	when    []int64          // somebody received it
	latest  []int32          // the session that received it last, counted from 1
	sayings map[int32]saying // of the facts that are changes of marks
}

func (f *facts) number(of fact, e *Event) int32 {
	n, ok := f.numbers[of]
	if !ok {
		n = int32(len(f.all))
		f.numbers[of] = n
		f.all, f.when, f.latest = append(f.all, of), append(f.when, e.T), append(f.latest, 0)
	}
	return n
}

// first is what whoever was told first of a change of marks was told.
func (f *facts) first(n int32, said saying) saying {
	if _, known := f.sayings[n]; !known {
		f.sayings[n] = said
	}
	return f.sayings[n]
}

// twins are edits that somebody received twice because they were tried again behind an attempt without an answer. Edits have no nonce: both
// are in the log then, and within one millisecond nothing tells them apart.
func (m *model) twins() map[fact]bool {
	twins := map[fact]bool{}
	for _, s := range m.sessions {
		seen := map[fact]bool{}
		for _, e := range s.recv {
			msg := m.ids[e.Message]
			if msg == nil || e.Type != "MESSAGE_UPDATE" || e.Kind.isMark() {
				continue
			}
			of, _ := factOf(e)
			if c := msg.edit(e.Text); c != nil && c.loose && seen[of] {
				twins[of] = true
			}
			seen[of] = true
		}
	}
	return twins
}

// step says that somebody saw one fact directly before another.
type step struct{ from, to int32 }

// checkOrder is I5, and of I4 that no dispatch comes twice. All receivers agree on one order if and only if the graph of who saw
// what next has no cycle.
func (m *model) checkOrder() {
	f := &facts{numbers: map[fact]int32{}, sayings: map[int32]saying{}}
	twins := m.twins()
	graphs := map[id.ID][]step{}
	for i, s := range m.sessions {
		before := map[id.ID]int32{}
		highest, counts := map[id.ID]id.ID{}, map[id.ID]int32{}
		for _, e := range s.recv {
			of, ok := factOf(e)
			if change, isMark := m.markFact(s, e, counts); isMark {
				of, ok = change, true
			}
			if !ok || twins[of] {
				continue
			}
			n := f.number(of, e)
			if said := (saying{e.Kind, e.Text, e.Author}); of.n > 0 && f.first(n, said) != said {
				m.broken("I5", e.T, Reorder, "%s received %v as change %d of the marks of %s, and others %v", s.client, said, of.n, of.message, f.sayings[n])
			}
			if f.latest[n] == int32(i+1) {
				m.broken("I4", e.T, Duplicate, "%s received twice: %v", s.client, of)
				continue
			}
			f.latest[n] = int32(i + 1)
			if of.kind == "MESSAGE_CREATE" {
				if of.message < highest[e.Channel] {
					m.broken("I5", e.T, Reorder, "%s received message %s behind %s", s.client, of.message, highest[e.Channel])
				}
				highest[e.Channel] = of.message
			}
			if b, ok := before[e.Channel]; ok {
				graphs[e.Channel] = append(graphs[e.Channel], step{b, n})
			}
			before[e.Channel] = n
		}
		m.checkLives(s)
	}
	for channel, steps := range graphs {
		if n, found := cycle(steps, len(f.all)); found {
			m.broken("I5", f.when[n], Reorder, "in channel %s receivers disagree on the order around %v", channel, f.all[n])
		}
	}
}

// cycle takes away what has no predecessor until nothing is left, or returns something of what cannot be taken away.
func cycle(steps []step, facts int) (int32, bool) {
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	steps = slices.Compact(steps)
	before := make([]int32, facts)
	first := make([]int32, facts+1) // where the steps from a fact begin
	for _, s := range steps {
		before[s.to]++
		first[s.from+1]++
	}
	for n := range facts {
		first[n+1] += first[n]
	}
	var free []int32
	for n := range int32(facts) {
		if before[n] == 0 {
			free = append(free, n)
		}
	}
	for len(free) > 0 {
		n := free[len(free)-1]
		free = free[:len(free)-1]
		for _, s := range steps[first[n]:first[n+1]] {
			if before[s.to]--; before[s.to] == 0 {
				free = append(free, s.to)
			}
		}
	}
	for n, left := range before {
		if left > 0 {
			return int32(n), true
		}
	}
	return 0, false
}

// checkLives is of I5 that a message lives in order: nothing of it comes before its create, or behind its delete.
func (m *model) checkLives(s *session) {
	begun, ended := map[id.ID]bool{}, map[id.ID]bool{}
	changed := map[id.ID]bool{}
	for _, e := range s.recv {
		if _, ok := factOf(e); !ok && !e.Kind.isMark() {
			continue
		}
		switch {
		case ended[e.Message]:
			m.broken("I5", e.T, Reorder, "%s received %s of %s behind its delete", s.client, e.Type, e.Message)
		case e.Type == "MESSAGE_CREATE" && changed[e.Message] && !begun[e.Message]:
			m.broken("I5", e.T, Reorder, "%s received the create of %s behind a change of it", s.client, e.Message)
		}
		switch e.Type {
		case "MESSAGE_CREATE":
			begun[e.Message] = true
		case "MESSAGE_DELETE":
			ended[e.Message] = true
			fallthrough
		default:
			changed[e.Message] = true
		}
	}
}

// checkComplete is I6 and I7. In a channel that a session's user sees all the time, it gets every message between the first and the
// last that it got, every one sent after it began that stands before its last, and, if it lasted to the end, all the rest.
func (m *model) checkComplete() {
	channels := m.sorted()
	for _, s := range m.sessions {
		for channel, all := range channels {
			switch flips := slices.Contains(m.h.Flips, channel); {
			case !flips || m.role(s.user) == member:
				m.checkCreates(s, channel, all)
				m.checkChanges(s, channel, all)
			case m.role(s.user) == guest:
				m.checkShown(s, channel, all)
			}
		}
	}
}

// what a session got of a channel.
func (s *session) creates(channel id.ID) (got map[id.ID]bool, first, last id.ID) {
	got = map[id.ID]bool{}
	for _, e := range s.recv {
		if e.Type != "MESSAGE_CREATE" || e.Channel != channel {
			continue
		}
		got[e.Message] = true
		if first == 0 || e.Message < first {
			first = e.Message
		}
		last = max(last, e.Message)
	}
	return got, first, last
}

func (m *model) checkCreates(s *session, channel id.ID, all []*message) {
	got, first, last := s.creates(channel)
	for _, msg := range all {
		if msg.poison || got[msg.id] {
			continue
		}
		began := first != 0 && msg.id > first || msg.sent > s.ready
		if began && msg.id < last {
			m.broken("I6", msg.sent, Gap, "session %s of %s did not get %s, and went on behind it", s.name, s.client, msg.key)
		} else if began && s.last && msg.acked < never {
			m.broken("I7", msg.acked, Gap, "%s did not get %s, and was online to the end", s.client, msg.key)
		}
	}
}

// checkChanges: an edit or delete that was acknowledged before another message was sent stands before that one in the log. Who
// got the message, got the change.
func (m *model) checkChanges(s *session, channel id.ID, all []*message) {
	until := int64(0)
	texts, deleted := map[string]bool{}, map[id.ID]bool{}
	for _, e := range s.recv {
		switch {
		case e.Channel != channel:
		case e.Type == "MESSAGE_CREATE":
			if msg := m.keys[keyOf(e.Text)]; msg != nil {
				until = max(until, msg.sent)
			}
		case e.Type == "MESSAGE_UPDATE" && !e.Kind.isMark():
			texts[e.Text] = true
		case e.Type == "MESSAGE_DELETE":
			deleted[e.Message] = true
		}
	}
	for _, msg := range all {
		for _, c := range msg.edits {
			if s.ready < c.sent && c.acked < until && !texts[c.text] {
				m.broken("I7", c.acked, Gap, "session %s of %s did not get the edit %s", s.name, s.client, c.text)
			}
		}
		if c := msg.gone; c != nil && s.ready < c.sent && c.acked < until && !deleted[msg.id] {
			m.broken("I7", c.acked, Gap, "session %s of %s did not get the delete of %s", s.name, s.client, msg.key)
		}
	}
}

// checkShown: a guest gets what is sent while it is certain that the guest sees the channel, and goes on seeing it until the session
// gets something that stands behind it: what is replayed after a RESUME is what the guest may see by then.
func (m *model) checkShown(s *session, channel id.ID, all []*message) {
	got, _, _ := s.creates(channel)
	var creates []*Event
	var sent []int64 // the latest among these creates up to each
	for _, e := range s.recv {
		if msg := m.keys[keyOf(e.Text)]; msg != nil && e.Type == "MESSAGE_CREATE" {
			latest := msg.sent
			if n := len(sent); n > 0 {
				latest = max(latest, sent[n-1])
			}
			creates, sent = append(creates, e), append(sent, latest)
		}
	}
	for _, msg := range all {
		if got[msg.id] || msg.poison || msg.sent < s.ready || msg.acked == never {
			continue
		}
		i, _ := slices.BinarySearch(sent, msg.acked+1)
		if i < len(creates) && !m.veils[channel].mayHide(s.user, msg.sent, creates[i].T) {
			m.broken("I7", msg.acked, Gap, "session %s of %s did not get %s, and sees its channel", s.name, s.client, msg.key)
		}
	}
}
