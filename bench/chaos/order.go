package chaos

import (
	"fmt"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// fact is an entry of the log as receivers tell it: an edit twice made is two entries, told apart by their times.
type fact struct {
	kind    string
	message id.ID
	edited  string
}

func (f fact) String() string { return fmt.Sprintf("%s of %s %s", f.kind, f.message, f.edited) }

// factOf says which entry of a channel's messages a dispatch tells of.
func factOf(e *Event) (fact, bool) {
	switch e.Type {
	case "MESSAGE_CREATE", "MESSAGE_DELETE":
		return fact{kind: e.Type, message: e.Message}, true
	case "MESSAGE_UPDATE":
		return fact{kind: e.Type, message: e.Message, edited: e.Edited}, true
	}
	return fact{}, false
}

// checkOrder is I5, and of I4 that no dispatch comes twice. All receivers agree on one order if and only if the graph of who saw
// what next has no cycle.
func (m *model) checkOrder() {
	next := map[id.ID]map[fact]map[fact]*Event{}
	for _, s := range m.sessions {
		before := map[id.ID]fact{}
		highest := map[id.ID]id.ID{}
		seen := map[fact]bool{}
		for _, e := range s.recv {
			f, ok := factOf(e)
			if !ok {
				continue
			}
			if seen[f] {
				m.broken("I4", e.T, Duplicate, "%s received twice: %v", s.client, f)
				continue
			}
			seen[f] = true
			if f.kind == "MESSAGE_CREATE" {
				if f.message < highest[e.Channel] {
					m.broken("I5", e.T, Reorder, "%s received message %s behind %s", s.client, f.message, highest[e.Channel])
				}
				highest[e.Channel] = f.message
			}
			if b, ok := before[e.Channel]; ok {
				link(next, e.Channel, b, f, e)
			}
			before[e.Channel] = f
		}
	}
	for channel, graph := range next {
		if f, e := cycle(graph); e != nil {
			m.broken("I5", e.T, Reorder, "in channel %s receivers disagree on the order around %v", channel, f)
		}
	}
}

func link(next map[id.ID]map[fact]map[fact]*Event, channel id.ID, a, b fact, e *Event) {
	graph := next[channel]
	if graph == nil {
		graph = map[fact]map[fact]*Event{}
		next[channel] = graph
	}
	if graph[a] == nil {
		graph[a] = map[fact]*Event{}
	}
	graph[a][b] = e
}

// cycle takes away what has no predecessor until nothing is left, or returns something of what cannot be taken away.
func cycle(graph map[fact]map[fact]*Event) (fact, *Event) {
	before := map[fact]int{}
	for a, after := range graph {
		before[a] += 0
		for b := range after {
			before[b]++
		}
	}
	var free []fact
	for f, n := range before {
		if n == 0 {
			free = append(free, f)
		}
	}
	for len(free) > 0 {
		f := free[len(free)-1]
		free = free[:len(free)-1]
		delete(before, f)
		for b := range graph[f] {
			if before[b]--; before[b] == 0 {
				free = append(free, b)
			}
		}
	}
	for f, after := range graph {
		for b, e := range after {
			if _, a := before[f]; a && before[b] > 0 {
				return f, e
			}
		}
	}
	return fact{}, nil
}

// checkComplete is I6 and I7. In a channel that everybody sees all the time, a session gets every message between the first and
// the last that it got, every one sent after it began that stands before its last, and, if it lasted to the end, all the rest.
func (m *model) checkComplete() {
	channels := m.sorted()
	for _, s := range m.sessions {
		for channel, all := range channels {
			if !slices.Contains(m.h.Flips, channel) {
				m.checkCreates(s, channel, all)
				m.checkChanges(s, channel, all)
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
		if got[msg.id] || msg.poison {
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
		if e.Channel != channel {
			continue
		}
		switch e.Type {
		case "MESSAGE_CREATE":
			if msg := m.keys[keyOf(e.Text)]; msg != nil {
				until = max(until, msg.sent)
			}
		case "MESSAGE_UPDATE":
			texts[e.Text] = true
		case "MESSAGE_DELETE":
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
