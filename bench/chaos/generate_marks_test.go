package chaos

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// The generator's reactions and pins.

var genEmoji = []string{"a", "b"}

const (
	genBadge  = id.ID(300)
	genReader = id.ID(100)
)

// wishMark is a change of the marks of one of the latest messages, of anybody's; nil when there is none.
func (g *generator) wishMark(p *genPoster) *Event {
	const latest = 2
	var made []*genMessage
	for _, o := range g.posters {
		made = append(made, o.made[max(0, len(o.made)-latest):]...)
	}
	if len(made) == 0 {
		return nil
	}
	m := made[g.r.IntN(len(made))]
	kinds := []Kind{React, React, React, React, React, React, Unreact, Clear, Pin, Unpin}
	e := &Event{Kind: kinds[g.r.IntN(len(kinds))], Key: m.key, Channel: m.channel, Message: m.id}
	if e.Kind == React || e.Kind == Unreact {
		e.Text = genEmoji[g.r.IntN(len(genEmoji))]
		if g.marks[Mark{m.id, e.Text, p.author}] {
			e.Kind = Unreact
		}
	}
	return e
}

// mark changes a mark as a set decides, and answers with a status.
func (g *generator) mark(e *Event, by id.ID) int {
	if e.Channel == flipChannel && !g.sees(by, g.log) {
		return 403
	}
	rows := g.fold()
	at := slices.IndexFunc(rows, func(r Row) bool { return r.ID == e.Message })
	if at < 0 {
		return 404
	}
	add := entry{kind: e.Kind, msg: e.Message, text: e.Text, channel: e.Channel, author: by}
	if e.Kind == Pin || e.Kind == Unpin {
		add.text, add.author, add.pinned = rows[at].Content, rows[at].Author, e.Kind.on()
	}
	some := false
	if k := (Mark{e.Message, e.Text, by}); e.Kind == Clear {
		add.author = 0
		for k, on := range g.marks {
			if k.Message == e.Message && k.Emoji != "" && on {
				some, g.marks[k] = true, false
			}
		}
	} else {
		if k.Emoji == "" {
			k.User = 0
		}
		some = g.marks[k] != e.Kind.on()
		g.marks[k] = e.Kind.on()
	}
	if !some {
		return 204
	}
	g.log = append(g.log, add)
	if e.Kind == Pin && g.r.IntN(5) > 0 {
		g.next += idStep
		g.log = append(g.log, entry{
			kind: Create, msg: g.next, key: announced(g.next), text: text(announced(g.next), 0), channel: e.Channel, author: by, of: e.Message,
		})
	}
	return 204
}

// tellMark tells a watcher of a change of marks.
func (g *generator) tellMark(w *genWatcher, e entry) {
	out := Event{Op: Recv, Client: w.client, Session: w.name(), Kind: e.kind, Channel: e.channel, Message: e.msg, Text: e.text, Author: e.author,
		Pinned: e.pinned}
	out.Type = map[Kind]string{React: "MESSAGE_REACTION_ADD", Unreact: "MESSAGE_REACTION_REMOVE", Clear: "MESSAGE_REACTION_REMOVE_ALL",
		Pin: "MESSAGE_UPDATE", Unpin: "MESSAGE_UPDATE"}[e.kind]
	if e.kind == Pin || e.kind == Unpin {
		w.seq++
		g.note(Event{Op: Recv, Client: w.client, Session: w.name(), Seq: w.seq, Type: "CHANNEL_PINS_UPDATE", Channel: e.channel})
	}
	w.seq++
	out.Seq = w.seq
	g.note(out)
}

// seen is a row as a reader is shown it.
func (g *generator) seen(row Row, reader id.ID) Seen {
	s := Seen{Message: row.ID, Text: row.Content, Pinned: row.Pinned}
	for k, on := range g.marks {
		if k.Message != row.ID || k.Emoji == "" || !on {
			continue
		}
		i := slices.IndexFunc(s.Counts, func(c Count) bool { return c.Emoji == k.Emoji })
		if i < 0 {
			i, s.Counts = len(s.Counts), append(s.Counts, Count{Emoji: k.Emoji})
		}
		s.Counts[i].N++
		s.Counts[i].Me = s.Counts[i].Me || k.User == reader
	}
	slices.SortFunc(s.Counts, func(a, b Count) int { return cmp.Compare(a.Emoji, b.Emoji) })
	return s
}

// finish is what is stored and shown of marks in the end, and an order of roles.
func (g *generator) finish() {
	f := &g.h.Final
	for k, on := range g.marks {
		if on {
			f.Marks = append(f.Marks, k)
		}
		if on && k.Emoji == "" {
			f.Listed = append(f.Listed, k.Message)
		}
	}
	slices.SortFunc(f.Marks, func(a, b Mark) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	slices.Sort(f.Listed)
	f.Reader, f.Badge, f.Raised = genReader, genBadge, true
	for _, row := range f.Rows {
		f.Shown = append(f.Shown, g.seen(row, f.Reader))
	}
	for i, kind := range []Kind{Lower, Raise} {
		call := int64(i + 1)
		g.note(Event{Op: Send, Client: "clerk", Call: call, Kind: kind, Message: genBadge, Author: flipperID})
		g.note(Event{Op: Ret, Client: "clerk", Call: call, Status: 200})
	}
}
