package chaos

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/xcord/xcord/engine/id"
)

// Class says which column of a report a violation belongs to.
type Class string

// Classes of violations.
const (
	Lost      Class = "lost"
	Duplicate Class = "duplicated"
	Reorder   Class = "reordered"
	Gap       Class = "gap"
	Other     Class = "other"
)

// Violation is a promise that was not kept.
type Violation struct {
	Invariant string
	At        int64 // about when, on the history's clock; never for the final state
	Class     Class
	Text      string
}

func (v Violation) String() string { return fmt.Sprintf("%s (%s): %s", v.Invariant, v.Class, v.Text) }

// Invariants says what each of the checks demands.
var Invariants = map[string]string{
	"I0":  "nobody who may is refused, every request is answered in the end, and every answer belongs to a request",
	"I1":  "an acknowledged message is exactly one row, as last edited, or none when its delete was acknowledged",
	"I2":  "nothing is stored or delivered that was not sent, and what was delivered is stored",
	"I3":  "one id per nonce",
	"I4":  "the numbers of a session are contiguous, and no dispatch comes twice",
	"I5":  "in a channel all receivers see one order, which is that of the ids",
	"I6":  "a session goes on without a gap, or INVALID_SESSION is said",
	"I7":  "who is online gets everything that was acknowledged, up to the end",
	"I8":  "what was acknowledged before another was sent stands before it, and is delivered before it",
	"I9":  "a page that is asked for after an acknowledgement shows it",
	"I10": "nobody gets or says anything in a channel that is hidden from them, at the latest a second after that was acknowledged",
	"I11": "the writer has finished, and only injected poison is among the dead letters",
	"I12": "goroutines, open files and memory come back to what they were",
	"I13": "reactions, pins and the order of roles are in the rows, in history and to who is told of each change what was acknowledged last",
}

// Check holds a history against the invariants. It returns what is broken, nothing for a correct history.
func Check(h History) []Violation { return newModel(h).check() }

func (m *model) check() []Violation {
	m.checkAnswers()
	m.checkRows()
	m.checkNonces()
	m.checkDelivered()
	m.checkOrder()
	m.checkComplete()
	m.checkRealTime()
	m.checkReads()
	m.checkHidden()
	m.checkWriter()
	m.checkUsage()
	m.checkMarks()
	return m.broke
}

// checkAnswers is I0.
func (m *model) checkAnswers() {
	for i := range m.h.Events {
		e := &m.h.Events[i]
		if e.Op == GiveUp {
			m.broken("I0", e.T, Other, "%s gave up: %s", e.Client, e.Text)
		}
		if e.Op == Ret && m.calls[call{e.Client, e.Call}] == nil {
			m.broken("I0", e.T, Other, "%s has an answer to call %d, which it did not send", e.Client, e.Call)
		}
		answer := m.answers[e]
		if e.Op != Send || !denied(answer) || answer.Status == http.StatusTooManyRequests || m.mayRefuse(e, answer) {
			continue
		}
		m.broken("I0", answer.T, Other, "%s of %s by %s was refused with %d", e.Kind, e.Key, e.Client, answer.Status)
	}
}

// mayRefuse says that there can be a reason for a refusal: the message is gone, the channel hidden, or an attempt that was not
// answered had done it.
func (m *model) mayRefuse(e, answer *Event) bool {
	msg := m.keys[e.Key]
	switch {
	case e.Kind == Hide || e.Kind == Show:
		return m.veils[e.Channel].done(e, answer)
	case msg == nil:
		return false
	case m.role(e.Author) == guest && m.veils[msg.channel].mayHide(e.Author, e.T, answer.T):
		return answer.Status == http.StatusNotFound || answer.Status == http.StatusForbidden
	case e.Kind == Edit || e.Kind.isMark():
		return answer.Status == http.StatusNotFound && msg.mayBeGone(answer.T)
	}
	return answer.Status == http.StatusNotFound && msg.mayBeGone(answer.T) && msg.gone.loose
}

// checkRows is I1, and I2 for what is stored.
func (m *model) checkRows() {
	stored := map[string]id.ID{}
	for _, row := range m.h.Final.Rows {
		key := keyOf(row.Content)
		msg := m.keys[key]
		switch before, twice := stored[key]; {
		case msg == nil || msg.sent == never:
			m.broken("I2", never, Other, "row %s was never sent: %q", row.ID, row.Content)
		case twice:
			m.broken("I1", msg.sent, Duplicate, "%s is row %s and row %s", key, before, row.ID)
		case msg.refused:
			m.broken("I2", msg.sent, Other, "%s was refused, and is row %s", key, row.ID)
		case msg.channel != row.Channel || msg.author != row.Author:
			m.broken("I2", msg.sent, Other, "%s is a row of channel %s by %s, and was sent to %s by %s", key, row.Channel, row.Author, msg.channel, msg.author)
		case msg.gone != nil && msg.gone.acked < never:
			m.broken("I1", msg.gone.acked, Other, "%s was deleted, and is a row", key)
		case !slices.Contains(msg.texts(never, never), row.Content):
			m.broken("I1", msg.sent, Lost, "%s is stored as %q, want one of %q", key, row.Content, msg.texts(never, never))
		}
		stored[key] = row.ID
	}
	for _, msg := range m.keys {
		if _, ok := stored[msg.key]; !ok && !msg.poison && msg.acked < never && msg.gone == nil {
			m.broken("I1", msg.acked, Lost, "%s was acknowledged as %s, and is no row", msg.key, msg.id)
		}
	}
}

// checkNonces is I3: over answers, rows and what was delivered.
func (m *model) checkNonces() {
	seen := func(at int64, key string, as id.ID, where string) {
		if msg := m.keys[key]; msg != nil && msg.id != as {
			m.broken("I3", at, Duplicate, "%s has the id %s, and %s in %s", key, msg.id, as, where)
		}
	}
	for i := range m.h.Events {
		e := &m.h.Events[i]
		switch {
		case e.Op == Send && e.Kind == Create:
			if a := m.answers[e]; a != nil && a.Status >= 200 && a.Status < 300 {
				seen(a.T, e.Key, a.Message, "an answer")
			}
		case e.Op == Recv && e.Text != "":
			seen(e.T, keyOf(e.Text), e.Message, "a dispatch to "+e.Client)
		case e.Op == Read:
			for _, s := range e.Page {
				seen(e.T, keyOf(s.Text), s.Message, "a page")
			}
		}
	}
	for _, row := range m.h.Final.Rows {
		seen(never, keyOf(row.Content), row.ID, "the rows")
	}
}

// checkDelivered is I2 for what was delivered.
func (m *model) checkDelivered() {
	for _, s := range m.sessions {
		for _, e := range s.recv {
			if e.Kind.isMark() && len(m.wanted(e)) == 0 {
				m.broken("I2", e.T, Other, "%s received %s of %s, which nobody wanted", s.client, e.Kind, markOf(e))
			}
			switch e.Type {
			case "MESSAGE_CREATE", "MESSAGE_UPDATE":
				m.checkDispatch(e)
			case "MESSAGE_DELETE":
				if msg := m.ids[e.Message]; msg == nil || !msg.mayBeGone(e.T) || msg.channel != e.Channel {
					m.broken("I2", e.T, Other, "%s was told that %s is deleted, which nobody did", e.Client, e.Message)
				}
			}
		}
	}
}

func (m *model) checkDispatch(e *Event) {
	msg := m.keys[keyOf(e.Text)]
	if msg == nil || msg.refused || msg.sent > e.T || msg.channel != e.Channel || msg.author != e.Author {
		m.broken("I2", e.T, Other, "%s received %s %q in channel %s by %s, which was not sent", e.Client, e.Type, e.Text, e.Channel, e.Author)
		return
	}
	if !m.wasText(msg, e) {
		m.broken("I2", e.T, Other, "%s received %s %q, which was no text of it", e.Client, e.Type, e.Text)
	}
	if msg.row == nil && !msg.poison && !msg.mayBeGone(never) {
		m.broken("I2", e.T, Lost, "%s received %s, which is not stored", e.Client, msg.key)
	}
}

func (m *model) wasText(msg *message, e *Event) bool {
	if original := e.Text == text(msg.key, 0); e.Type == "MESSAGE_CREATE" || original && e.Kind.isMark() {
		return original
	}
	c := msg.edit(e.Text)
	return c != nil && c.sent < e.T
}

// checkRealTime is I8: for the ids, and for everything that is delivered.
func (m *model) checkRealTime() {
	for _, s := range m.sessions {
		m.checkDelivery(s)
	}
	type at struct {
		t     int64
		acked bool
		msg   *message
	}
	var times []at
	for _, msg := range m.keys {
		if msg.id == 0 {
			continue
		}
		times = append(times, at{msg.sent, false, msg})
		if msg.acked < never {
			times = append(times, at{msg.acked, true, msg})
		}
	}
	slices.SortFunc(times, func(a, b at) int {
		if a.t != b.t {
			return int(min(max(a.t-b.t, -1), 1))
		}
		return strings.Compare(a.msg.key, b.msg.key)
	})
	highest := map[id.ID]*message{}
	for _, t := range times {
		top := highest[t.msg.channel]
		switch {
		case t.acked && (top == nil || top.id < t.msg.id):
			highest[t.msg.channel] = t.msg
		case !t.acked && top != nil && t.msg.id < top.id:
			m.broken("I8", t.t, Reorder, "%s was sent after %s was acknowledged, and stands before it", t.msg.key, top.key)
		}
	}
}

// checkDelivery: whoever receives something behind what was sent after it was acknowledged, receives it too late.
func (m *model) checkDelivery(s *session) {
	type at struct {
		sent int64
		e    *Event
	}
	latest := map[id.ID]at{}
	for _, e := range s.recv {
		sent, acked, ok := m.told(e)
		if !ok {
			continue
		}
		if l := latest[e.Channel]; l.e != nil && acked < l.sent {
			m.broken("I8", e.T, Reorder, "%s received %s of %s behind %s of %s, which was sent after the former was acknowledged",
				s.client, e.Type, e.Message, l.e.Type, l.e.Message)
		} else if sent > l.sent {
			latest[e.Channel] = at{sent, e}
		}
	}
}

// shelf is a channel's messages in the order of their ids.
type shelf struct {
	messages []*message
	earliest []int64 // of this message and all behind it, when the first was acknowledged
}

func (m *model) shelves() map[id.ID]shelf {
	all := map[id.ID]shelf{}
	for channel, messages := range m.sorted() {
		s := shelf{messages, make([]int64, len(messages))}
		acked := never
		for i, msg := range slices.Backward(messages) {
			acked = min(acked, msg.acked)
			s.earliest[i] = acked
		}
		all[channel] = s
	}
	return all
}

// since are the messages from an id on that may have been acknowledged before t.
func (s shelf) since(from id.ID, t int64) []*message {
	i, _ := slices.BinarySearchFunc(s.messages, from, func(m *message, from id.ID) int { return cmp.Compare(m.id, from) })
	end := i
	for end < len(s.messages) && s.earliest[end] < t {
		end++
	}
	return s.messages[i:end]
}

// checkReads is I9.
func (m *model) checkReads() {
	channels := m.shelves()
	for i := range m.h.Events {
		e := &m.h.Events[i]
		if e.Op != Read || e.Status != http.StatusOK {
			continue
		}
		shown := map[id.ID]bool{}
		for i, s := range e.Page {
			if i > 0 && e.Page[i-1].Message <= s.Message {
				m.broken("I9", e.T, Reorder, "a page has %s behind %s", s.Message, e.Page[i-1].Message)
			}
			shown[s.Message] = true
		}
		var from id.ID
		if len(e.Page) == e.Limit {
			from = e.Page[len(e.Page)-1].Message
		}
		for _, msg := range channels[e.Channel].since(from, e.T0) {
			if _, ok := shown[msg.id]; !ok && msg.acked < e.T0 && !msg.poison && !msg.mayBeGone(e.T) {
				m.broken("I9", e.T, Lost, "%s was acknowledged, and the page that %s asked for behind it has it not", msg.key, e.Client)
			}
		}
		for _, p := range e.Page {
			m.checkShows(e, p)
		}
	}
}

// checkShows judges what a page shows.
func (m *model) checkShows(e *Event, s Seen) {
	msg := m.ids[s.Message]
	switch {
	case msg == nil || msg.channel != e.Channel || keyOf(s.Text) != msg.key || msg.refused || msg.sent > e.T:
		m.broken("I2", e.T, Other, "a page shows %s %q, which was not sent", s.Message, s.Text)
	case msg.gone != nil && msg.gone.acked < e.T0:
		m.broken("I9", e.T, Other, "%s was deleted, and the page that %s asked for behind it shows it", msg.key, e.Client)
	case !msg.poison && !slices.Contains(msg.texts(e.T0, e.T), s.Text):
		m.broken("I9", e.T, Lost, "a page shows %q, want one of %q", s.Text, msg.texts(e.T0, e.T))
	case !msg.mayBeGone(e.T):
		m.checkShowsMarks(e, msg, s)
	}
}

// checkWriter is I11.
func (m *model) checkWriter() {
	f := m.h.Final
	if f.Pending != 0 || f.Lag != 0 {
		m.broken("I11", never, Other, "the writer has %d entries pending and %d before it", f.Pending, f.Lag)
	}
	dead := map[id.ID]bool{}
	for _, d := range f.Dead {
		dead[d] = true
		if msg := m.ids[d]; msg == nil || !msg.poison {
			m.broken("I11", never, Lost, "the dead letter %s is no injected poison", d)
		}
	}
	for _, msg := range m.keys {
		if msg.poison && msg.acked < never && !dead[msg.id] {
			m.broken("I11", msg.acked, Other, "the poison %s is not among the dead letters", msg.id)
		}
	}
}

// What may be used more in the end: pools of connections keep what they have opened (measured: 25 to 37 goroutines more, in three runs
// of 30,000 events; one that leaked a goroutine a connection would have 500), and a gateway's ring and a heap fill up to their bounds
// (the ring of two processes is 2 x 64 MiB of bodies).
const (
	usageShare = 0.10
	usageFew   = 40
	usageBytes = 256 << 20
)

// checkUsage is I12.
func (m *model) checkUsage() {
	f := func(what string, before, after, few int64) {
		if bound := before + int64(float64(before)*usageShare) + few; after > bound {
			m.broken("I12", never, Other, "%s: %d in the end, were %d; want at most %d", what, after, before, bound)
		}
	}
	before, after := m.h.Final.Before, m.h.Final.After
	f("goroutines", before.Goroutines, after.Goroutines, usageFew)
	f("open files", before.Files, after.Files, usageFew)
	f("bytes of memory", before.Bytes, after.Bytes, usageBytes)
}
