package chaos

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// never is a time after everything.
const never = int64(1) << 62

// change is an edit or a delete of a message.
type change struct {
	text        string
	sent, acked int64 // of the first attempt, of the first success; never
	// loose: an attempt of it was not answered. It may take effect at any later time, also after changes that were answered.
	loose bool
}

// message is all that is known of one.
type message struct {
	key             string
	id              id.ID // 0: nobody knows
	channel, author id.ID
	sent, acked     int64
	poison          bool
	refused         bool      // the last attempt was, and no attempt was left unanswered: it is nowhere
	loose           bool      // an attempt was not answered
	edits           []*change // in their author's order
	gone            *change
	row             *Row
	announces       id.ID // the server says that this message was pinned
}

// mayBeGone says that somebody may have deleted it before t.
func (m *message) mayBeGone(t int64) bool { return m.gone != nil && m.gone.sent < t }

// texts are the contents with which a message may be seen by who looks from t0 to t1.
func (m *message) texts(t0, t1 int64) []string {
	latest := -1 // the last edit that was answered before
	for i, e := range m.edits {
		if e.acked < t0 {
			latest = i
		}
	}
	var may []string
	if latest < 0 {
		may = append(may, text(m.key, 0))
	}
	for i, e := range m.edits {
		if i == latest || e.sent < t1 && (i > latest || e.loose) {
			may = append(may, e.text)
		}
	}
	return may
}

// edit finds an edit by its text.
func (m *message) edit(text string) *change {
	for _, c := range m.edits {
		if c.text == text {
			return c
		}
	}
	return nil
}

// session is what one session of a client was sent.
type session struct {
	client, name string
	user         id.ID
	ready        int64
	last         bool // of its client, who has seen the end
	recv         []*Event
}

// model is a history, taken apart.
type model struct {
	h        History
	keys     map[string]*message
	ids      map[id.ID]*message
	sessions []*session
	users    map[string]id.ID // of the clients that have sessions
	veils    map[id.ID]*veils // by channel
	calls    map[call]*Event
	answers  map[*Event]*Event
	wishes   wishes
	stored   map[Mark]bool
	judged   int // events of hidden channels that were judged by the clock
	broke    []Violation
}

type call struct {
	client string
	n      int64
}

func (m *model) broken(invariant string, at int64, class Class, format string, args ...any) {
	m.broke = append(m.broke, Violation{Invariant: invariant, At: at, Class: class, Text: fmt.Sprintf(format, args...)})
}

func newModel(h History) *model {
	m := &model{h: h, keys: map[string]*message{}, ids: map[id.ID]*message{}, users: map[string]id.ID{}, veils: map[id.ID]*veils{},
		calls: map[call]*Event{}, answers: map[*Event]*Event{}, stored: map[Mark]bool{},
		wishes: wishes{marks: map[Mark][]wish{}, clears: map[id.ID][]wish{}, of: map[id.ID][]Mark{}}}
	for i := range h.Events {
		e := &h.Events[i]
		switch e.Op {
		case Send:
			m.calls[call{e.Client, e.Call}] = e
		case Ret:
			if s := m.calls[call{e.Client, e.Call}]; s != nil {
				m.answers[s] = e
			}
		}
	}
	for i := range h.Events {
		if e := &h.Events[i]; e.Op == Send {
			m.take(e, m.answers[e])
		}
	}
	for _, k := range h.Final.Marks {
		m.stored[k] = true
	}
	m.takeAnnouncements()
	m.takeSessions()
	for i := range h.Final.Rows {
		row := &h.Final.Rows[i]
		if msg := m.keys[keyOf(row.Content)]; msg != nil && (msg.row == nil || msg.id == row.ID) {
			msg.row = row
			m.identify(msg, row.ID)
		}
	}
	return m
}

// identify keeps the first id that a message was seen with; checkNonces complains of the others.
func (m *model) identify(msg *message, as id.ID) {
	if msg.id == 0 && as != 0 {
		msg.id = as
		m.ids[as] = msg
	}
}

// take notes an attempt and its answer, which may be missing.
func (m *model) take(e, answer *Event) {
	ok := succeeded(answer)
	acked := never
	if ok {
		acked = answer.T
	}
	switch e.Kind {
	case Create, Poison:
		msg := m.keys[e.Key]
		if msg == nil {
			msg = &message{key: e.Key, channel: e.Channel, author: e.Author, sent: e.T, acked: never, poison: e.Kind == Poison}
			m.keys[e.Key] = msg
		}
		msg.acked = min(msg.acked, acked)
		msg.loose = msg.loose || unknown(answer)
		msg.refused = denied(answer) && !msg.loose
		if ok {
			m.identify(msg, answer.Message)
		}
	case Edit, Delete:
		msg := m.keys[e.Key]
		if msg == nil {
			return // checkAnswers tells
		}
		c := msg.change(e)
		if answer != nil && e.Kind == Delete && answer.Status == http.StatusNotFound && c.loose {
			acked = answer.T // an attempt that was not answered has done it
		}
		c.acked = min(c.acked, acked)
		c.loose = c.loose || unknown(answer)
	case Hide, Show:
		m.takeVeil(e, answer)
	default:
		m.takeWish(e, answer)
	}
}

func succeeded(answer *Event) bool {
	return answer != nil && answer.Status >= 200 && answer.Status < 300
}

// unknown says that nobody knows whether the attempt did something.
func unknown(answer *Event) bool { return answer == nil || answer.Status == 0 || answer.Status >= 500 }

// denied says that the attempt did nothing, and will not do it.
func denied(answer *Event) bool { return !unknown(answer) && answer.Status >= 400 }

// change finds what an attempt belongs to: repeated attempts have the same text.
func (m *message) change(e *Event) *change {
	if e.Kind == Delete {
		if m.gone == nil {
			m.gone = &change{sent: e.T, acked: never}
		}
		return m.gone
	}
	if c := m.edit(e.Text); c != nil {
		return c
	}
	c := &change{text: e.Text, sent: e.T, acked: never}
	m.edits = append(m.edits, c)
	return c
}

// takeSessions divides what each client received, and checks the numbers on the way (I4, and of I6 that a session is not lost
// without a word).
func (m *model) takeSessions() {
	type state struct {
		current  *session
		seq      int64
		declared bool // INVALID_SESSION was said
	}
	clients := map[string]*state{}
	for i := range m.h.Events {
		e := &m.h.Events[i]
		s := clients[e.Client]
		if s == nil {
			s = &state{}
			clients[e.Client] = s
		}
		switch e.Op {
		case Invalid:
			s.declared = true
		case End:
			if s.current != nil {
				s.current.last = true
			}
		case Resume:
			if s.current == nil || s.current.name != e.Session || e.Seq != s.seq {
				m.broken("I6", e.T, Gap, "%s resumed session %s at %d, and had been in another place", e.Client, e.Session, e.Seq)
			}
		case Recv:
			if e.Type == "READY" {
				if s.current != nil && !s.declared {
					m.broken("I6", e.T, Gap, "%s lost session %s without INVALID_SESSION", e.Client, s.current.name)
				}
				s.current = &session{client: e.Client, name: e.Session, user: e.Author, ready: e.T}
				m.users[e.Client] = e.Author
				m.sessions = append(m.sessions, s.current)
				s.seq, s.declared = 0, false
			}
			if s.current == nil || s.current.name != e.Session {
				m.broken("I4", e.T, Other, "%s received %s of session %s, which it is not in", e.Client, e.Type, e.Session)
				continue
			}
			m.count(e, &s.seq)
			s.current.recv = append(s.current.recv, e)
			if e.Type == "MESSAGE_CREATE" {
				if msg := m.keys[keyOf(e.Text)]; msg != nil {
					m.identify(msg, e.Message)
				}
			}
		}
	}
	for name, s := range clients {
		if s.current != nil && !s.current.last {
			m.broken("I7", never, Gap, "%s never saw the end", name)
		}
	}
}

// ephemeral dispatches repeat the number before.
var ephemeral = []string{"TYPING_START", "PRESENCE_UPDATE", "RESUMED", "GUILD_MEMBERS_CHUNK", "MESSAGE_READ", "VOICE_SERVER_UPDATE"}

// count checks a number (I4).
func (m *model) count(e *Event, seq *int64) {
	want := *seq + 1
	if slices.Contains(ephemeral, e.Type) {
		want = *seq
	}
	if e.Seq != want {
		class := Gap
		if e.Seq < want {
			class = Duplicate
		}
		m.broken("I4", e.T, class, "%s received %s with s %d after %d", e.Client, e.Type, e.Seq, *seq)
	}
	*seq = e.Seq
}

// sorted are all messages with an id, in its order, of each channel.
func (m *model) sorted() map[id.ID][]*message {
	all := map[id.ID][]*message{}
	for _, msg := range m.keys {
		if msg.id != 0 {
			all[msg.channel] = append(all[msg.channel], msg)
		}
	}
	for _, in := range all {
		slices.SortFunc(in, func(a, b *message) int { return cmp.Compare(a.id, b.id) })
	}
	return all
}

// told is what a dispatch of a message or a mark tells of, and when that was wanted and acknowledged; false for other dispatches, and for what
// nobody wanted. Of what may have been done twice, acked is never.
func (m *model) told(e *Event) (sent, acked int64, ok bool) {
	if e.Kind.isMark() {
		return m.toldMark(e)
	}
	var msg *message
	switch e.Type {
	case "MESSAGE_CREATE":
		if msg = m.keys[keyOf(e.Text)]; msg != nil {
			return msg.sent, msg.acked, true
		}
	case "MESSAGE_UPDATE":
		if msg = m.keys[keyOf(e.Text)]; msg == nil {
			break
		}
		if c := msg.edit(e.Text); c != nil && c.loose {
			return c.sent, never, true
		} else if c != nil {
			return c.sent, c.acked, true
		}
	case "MESSAGE_DELETE":
		if msg = m.ids[e.Message]; msg != nil && msg.gone != nil {
			return msg.gone.sent, msg.gone.acked, true
		}
	}
	return 0, 0, false
}
