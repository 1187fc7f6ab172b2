package chaos

import (
	"cmp"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// wish is an attempt to put something there, or to take it away.
type wish struct {
	on    bool
	by    id.ID
	sent  int64
	acked int64 // never: nobody knows whether and when it did something
}

// until is when it has done what it does, at the latest.
func (w wish) until() int64 {
	if w.acked < never {
		return w.acked
	}
	return w.sent + looseTime
}

// wishes are all that were not refused.
type wishes struct {
	marks  map[Mark][]wish
	clears map[id.ID][]wish // of all reactions under a message
	of     map[id.ID][]Mark // that were wanted, by message
}

func (w *wishes) each(do func(message id.ID, w wish)) {
	for k, some := range w.marks {
		for _, one := range some {
			do(k.Message, one)
		}
	}
	for message, some := range w.clears {
		for _, one := range some {
			do(message, one)
		}
	}
}

// isMark says that a request or a dispatch is about a mark.
func (k Kind) isMark() bool {
	return k == React || k == Unreact || k == Clear || k == Pin || k == Unpin
}

// isView says that a request is about what others see or may: it is no message's, and is not counted.
func (k Kind) isView() bool { return k == Hide || k == Show || k == Raise || k == Lower }

// markOf is what an event is about. A clear is about all reactions, and has none.
func markOf(e *Event) Mark {
	if e.Kind == React || e.Kind == Unreact {
		return Mark{e.Message, e.Text, e.Author}
	}
	return Mark{Message: e.Message}
}

// on is what an event about a mark makes of it.
func (k Kind) on() bool { return k == React || k == Pin || k == Raise }

func (m *model) takeWish(e, answer *Event) {
	if denied(answer) {
		return
	}
	w := wish{on: e.Kind.on(), by: e.Author, sent: e.T, acked: never}
	if succeeded(answer) {
		w.acked = answer.T
	}
	if e.Kind == Clear {
		m.wishes.clears[e.Message] = append(m.wishes.clears[e.Message], w)
		return
	}
	k := markOf(e)
	if m.wishes.marks[k] == nil {
		m.wishes.of[k.Message] = append(m.wishes.of[k.Message], k)
	}
	m.wishes.marks[k] = append(m.wishes.marks[k], w)
}

// about are the wishes that a mark depends on.
func (m *model) about(k Mark) []wish {
	all := m.wishes.marks[k]
	if k.Emoji != "" {
		all = append(slices.Clone(all), m.wishes.clears[k.Message]...)
	}
	return all
}

// mayBe says whether a mark may be there, and whether it may not, for who looks at some time from t0 to t1. A wish may be the last one before, unless
// another has certainly followed it.
func (m *model) mayBe(k Mark, t0, t1 int64) (there, absent bool) {
	all := m.about(k)
	surely := int64(-1) // of what was answered before t0, what was sent last
	for _, w := range all {
		if w.acked < t0 {
			surely = max(surely, w.sent)
		}
	}
	absent = surely < 0
	for _, w := range all {
		if w.sent < t1 && w.until() >= surely {
			there, absent = there || w.on, absent || !w.on
		}
	}
	return there, absent
}

// wanted are the wishes that a dispatch may tell of.
func (m *model) wanted(e *Event) (some []wish) {
	all := m.wishes.clears[e.Message]
	if e.Kind != Clear {
		all = m.wishes.marks[markOf(e)]
	}
	for _, w := range all {
		if w.on == e.Kind.on() && w.sent < e.T {
			some = append(some, w)
		}
	}
	return some
}

// toldMark is told for a mark: of what several have wanted, the first may be meant, and nobody knows when that was done.
func (m *model) toldMark(e *Event) (sent, acked int64, ok bool) {
	some := m.wanted(e)
	if len(some) == 0 {
		return 0, 0, false
	}
	sent, acked = never, some[0].acked
	for _, w := range some {
		sent = min(sent, w.sent)
	}
	if len(some) > 1 {
		acked = never
	}
	return sent, acked, true
}

// takeAnnouncements makes messages of what the server has said of pins. Nobody was answered that they are there.
func (m *model) takeAnnouncements() {
	for i := range m.h.Final.Rows {
		row := &m.h.Final.Rows[i]
		if row.Announces == 0 {
			continue
		}
		key := keyOf(row.Content)
		msg := &message{key: key, channel: row.Channel, author: row.Author, announces: row.Announces, sent: never, acked: never, loose: true}
		for _, w := range m.wishes.marks[Mark{Message: row.Announces}] {
			if w.on && w.by == row.Author {
				msg.sent = min(msg.sent, w.sent)
			}
		}
		m.keys[key] = msg
	}
}

// checkMarks is I13.
func (m *model) checkMarks() {
	m.checkStored()
	m.checkHistory()
	for _, s := range m.sessions {
		m.checkFold(s)
	}
	if there, absent := m.mayBe(Mark{Message: m.h.Final.Badge}, never, never); m.h.Final.Raised && !there || !m.h.Final.Raised && !absent {
		m.broken("I13", never, Lost, "the order of roles is not the one that was acknowledged last")
	}
}

// checkStored: what is there in the end is what was wanted last.
func (m *model) checkStored() {
	for k := range m.stored {
		there, _ := m.mayBe(k, never, never)
		if msg := m.ids[k.Message]; msg == nil || msg.row == nil {
			m.broken("I13", never, Other, "%s is stored, and its message is not", k)
		} else if !there {
			m.broken("I13", never, Other, "%s is stored, and was not wanted, or was taken away", k)
		}
	}
	for _, row := range m.h.Final.Rows {
		if row.Pinned != m.stored[Mark{Message: row.ID}] {
			m.broken("I13", never, Lost, "%q says that it is pinned: %v, and stored is %v", row.Content, row.Pinned, !row.Pinned)
		}
	}
	for k := range m.wishes.marks {
		msg := m.ids[k.Message]
		if msg == nil || msg.row == nil || m.stored[k] {
			continue
		}
		if _, absent := m.mayBe(k, never, never); !absent {
			m.broken("I13", never, Lost, "%s was acknowledged, and is not stored", k)
		}
	}
}

// checkHistory: the pages of history that are read in the end show the rows and what is stored of their marks.
func (m *model) checkHistory() {
	f := &m.h.Final
	if len(f.Shown) == 0 && len(f.Rows) > 0 {
		m.broken("I13", never, Lost, "there are %d rows, and history shows nothing", len(f.Rows))
	}
	shown := map[id.ID]bool{}
	for _, s := range f.Shown {
		msg := m.ids[s.Message]
		switch {
		case shown[s.Message]:
			m.broken("I13", never, Duplicate, "history shows %s twice", s.Message)
		case msg == nil || msg.row == nil && !msg.poison:
			m.broken("I13", never, Other, "history shows %s %q, which is not stored", s.Message, s.Text)
		case msg.row != nil && msg.row.Content != s.Text:
			m.broken("I13", never, Lost, "history shows %q, and stored is %q", s.Text, msg.row.Content)
		case msg.row != nil && !slices.Equal(s.Counts, m.counts(s.Message, f.Reader)):
			m.broken("I13", never, Lost, "history shows %v under %s, and stored is %v", s.Counts, msg.key, m.counts(s.Message, f.Reader))
		case s.Pinned != m.stored[Mark{Message: s.Message}]:
			m.broken("I13", never, Lost, "history shows %s as pinned: %v, and stored is %v", msg.key, s.Pinned, !s.Pinned)
		}
		shown[s.Message] = true
	}
	for _, row := range f.Rows {
		if !shown[row.ID] {
			m.broken("I13", never, Lost, "%q is stored, and history does not show it", row.Content)
		}
	}
	listed := map[Mark]bool{}
	for _, message := range f.Listed {
		k := Mark{Message: message}
		if listed[k] = true; !m.stored[k] {
			m.broken("I13", never, Other, "%s is listed, and is not stored", k)
		}
	}
	for k := range m.stored {
		if k.Emoji == "" && !listed[k] {
			m.broken("I13", never, Lost, "%s is stored, and is not listed", k)
		}
	}
}

// counts are the stored reactions under a message, as a reader is shown them.
func (m *model) counts(message, reader id.ID) (counts []Count) {
	for _, k := range m.wishes.of[message] {
		if k.Emoji == "" || !m.stored[k] {
			continue
		}
		i := slices.IndexFunc(counts, func(c Count) bool { return c.Emoji == k.Emoji })
		if i < 0 {
			i, counts = len(counts), append(counts, Count{Emoji: k.Emoji})
		}
		counts[i].N++
		counts[i].Me = counts[i].Me || k.User == reader
	}
	slices.SortFunc(counts, func(a, b Count) int { return cmp.Compare(a.Emoji, b.Emoji) })
	return counts
}

// checkShowsMarks is I9 for the marks of a message on a page.
func (m *model) checkShowsMarks(e *Event, msg *message, s Seen) {
	if there, absent := m.mayBe(Mark{Message: msg.id}, e.T0, e.T); s.Pinned && !there || !s.Pinned && !absent {
		m.broken("I9", e.T, Lost, "a page shows %s as pinned: %v, which was not so any more", msg.key, s.Pinned)
	}
	least, most := map[string]int{}, map[string]int{}
	for _, k := range m.wishes.of[msg.id] {
		there, absent := m.mayBe(k, e.T0, e.T)
		if k.Emoji == "" {
			continue
		}
		if there {
			most[k.Emoji]++
		}
		if !absent {
			least[k.Emoji]++
		}
		shows := slices.ContainsFunc(s.Counts, func(c Count) bool { return c.Emoji == k.Emoji && c.Me })
		if k.User == e.Author && (shows && !there || !shows && !absent) {
			m.broken("I9", e.T, Lost, "a page tells %s of its own %s under %s: %v", e.Client, k.Emoji, msg.key, shows)
		}
	}
	for _, c := range s.Counts {
		if c.N < least[c.Emoji] || c.N > most[c.Emoji] {
			m.broken("I9", e.T, Lost, "a page shows %d %s under %s, want %d to %d", c.N, c.Emoji, msg.key, least[c.Emoji], most[c.Emoji])
		}
		delete(least, c.Emoji)
	}
	for emoji, n := range least {
		if n > 0 {
			m.broken("I9", e.T, Lost, "a page shows no %s under %s, want %d at least", emoji, msg.key, n)
		}
	}
}

// fold is a message as one session was told of it.
type fold struct {
	begun bool // from its create on: what nobody has said is not there
	text  string
	marks map[Mark]bool
	pins  int // that it was pinned
	said  int // that it was announced
}

// checkFold: what a session is told of marks changes something each time, says of the message what it is, and comes to what is stored.
func (m *model) checkFold(s *session) {
	folds := map[id.ID]*fold{}
	for _, e := range s.recv {
		if e.Message == 0 || !m.always(s, e.Channel) {
			continue
		}
		f := folds[e.Message]
		if f == nil {
			f = &fold{marks: map[Mark]bool{}}
			folds[e.Message] = f
		}
		switch {
		case e.Type == "MESSAGE_CREATE":
			f.begun, f.text = true, e.Text
			f.marks[Mark{Message: e.Message}] = false
			m.checkAnnounced(s, e, folds)
		case e.Type == "MESSAGE_DELETE":
			delete(folds, e.Message)
			continue
		case e.Kind == Clear:
			m.checkClear(s, e, f)
		case e.Kind.isMark():
			m.checkMark(s, e, f)
		}
		if e.Type == "MESSAGE_UPDATE" {
			m.checkUpdate(s, e, f)
		}
	}
	if !s.last {
		return
	}
	for message, f := range folds {
		if msg := m.ids[message]; msg != nil && msg.row != nil {
			m.checkEnd(s, message, f)
		}
	}
}

// always says that a session's user sees a channel all the time.
func (m *model) always(s *session, channel id.ID) bool {
	return !slices.Contains(m.h.Flips, channel) || m.role(s.user) == member
}

func (m *model) checkMark(s *session, e *Event, f *fold) {
	k := markOf(e)
	was, known := f.marks[k]
	if (known || f.begun) && was == e.Kind.on() {
		m.broken("I13", e.T, Duplicate, "%s received %s of %s, which was so already", s.client, e.Kind, k)
	}
	f.marks[k] = e.Kind.on()
	if e.Kind == Pin {
		f.pins++
	}
}

// checkClear: of what stands under a message whose create the session has not got, nothing is known before, and all is behind it.
func (m *model) checkClear(s *session, e *Event, f *fold) {
	some := !f.begun
	for k, on := range f.marks {
		if k.Emoji != "" {
			some = some || on
			f.marks[k] = false
		}
	}
	if !some {
		m.broken("I13", e.T, Duplicate, "%s was told that the reactions under %s are gone, and there were none", s.client, e.Message)
	}
}

// checkUpdate: a pin leaves the text as it is, and an edit the pin.
func (m *model) checkUpdate(s *session, e *Event, f *fold) {
	k := Mark{Message: e.Message}
	if !e.Kind.isMark() {
		was, known := f.marks[k]
		if known && was != e.Pinned {
			m.broken("I13", e.T, Lost, "%s received %s as pinned: %v, and nobody has changed that", s.client, e.Text, e.Pinned)
		}
		f.text, f.marks[k] = e.Text, e.Pinned
		return
	}
	if f.text != "" && f.text != e.Text {
		m.broken("I13", e.T, Lost, "%s received %s as %s of %s: that is not its latest text", s.client, e.Text, e.Kind, f.text)
	}
	f.text = e.Text
}

// checkAnnounced: each time that a message is pinned is said once at most.
func (m *model) checkAnnounced(s *session, e *Event, folds map[id.ID]*fold) {
	msg := m.ids[e.Message]
	if msg == nil || msg.announces == 0 {
		return
	}
	of := folds[msg.announces]
	if of == nil || !of.begun {
		return
	}
	if of.said++; of.said > of.pins {
		m.broken("I13", e.T, Duplicate, "%s was told %d times that %s was pinned, which it was %d times", s.client, of.said, msg.announces, of.pins)
	}
}

// checkEnd compares what a session was told with what is stored.
func (m *model) checkEnd(s *session, message id.ID, f *fold) {
	for k, on := range f.marks {
		if on != m.stored[k] {
			m.broken("I13", never, Gap, "%s was told %s: %v, and stored is %v", s.client, k, on, !on)
		}
	}
	if !f.begun {
		return
	}
	for _, k := range m.wishes.of[message] {
		if _, known := f.marks[k]; !known && m.stored[k] {
			m.broken("I13", never, Gap, "%s was not told of %s, which is stored", s.client, k)
		}
	}
}
