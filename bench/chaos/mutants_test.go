package chaos

import (
	"math/rand/v2"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// markMutants break what is said and stored of reactions and pins.
var markMutants = map[string]mutant{
	"drop a reaction":          {[]string{"I13"}, dropMark(React)},
	"drop a reaction's end":    {[]string{"I13"}, dropMark(Unreact)},
	"drop a clear":             {[]string{"I13"}, dropMark(Clear)},
	"drop a pin":               {[]string{"I13"}, dropMark(Pin, Unpin)},
	"reaction twice":           {[]string{"I13"}, markTwice(React)},
	"clear twice":              {[]string{"I13"}, markTwice(Clear)},
	"pin twice":                {[]string{"I13"}, markTwice(Pin, Unpin)},
	"swap marks":               {[]string{"I5"}, swapMarks},
	"swap mark and message":    {[]string{"I5"}, swapMarkAndMessage},
	"foreign reaction":         {[]string{"I2"}, foreignMark},
	"reaction behind delete":   {[]string{"I5"}, markBehindDelete},
	"leaked reaction":          {[]string{"I10"}, leakMark},
	"the kept out react":       {[]string{"I10"}, keptOutReacts},
	"reaction of the kept out": {[]string{"I10"}, keptOutMark},
	"an edit undoes a pin": {[]string{"I13"}, func(r *rand.Rand, h *History) bool {
		m := newModel(*h)
		i, ok := pick(r, h, func(i int, e Event) bool {
			return e.Op == Recv && e.Type == "MESSAGE_UPDATE" && !e.Kind.isMark() && m.wholly(h, i)
		})
		if ok {
			h.Events[i].Pinned = !h.Events[i].Pinned
		}
		return ok
	}},
	"a pin undoes an edit": {[]string{"I13"}, func(r *rand.Rand, h *History) bool {
		m := newModel(*h)
		i, ok := pick(r, h, func(i int, e Event) bool {
			return e.Type == "MESSAGE_UPDATE" && e.Kind.isMark() && e.Text != text(keyOf(e.Text), 0) && m.wholly(h, i)
		})
		if ok {
			h.Events[i].Text = text(keyOf(h.Events[i].Text), 0)
		}
		return ok
	}},
	"lose a reaction's row": {[]string{"I13"}, func(r *rand.Rand, h *History) bool { return loseMark(r, h, false) }},
	"lose a pin's row":      {[]string{"I13"}, func(r *rand.Rand, h *History) bool { return loseMark(r, h, true) }},
	"resurrect a reaction":  {[]string{"I13"}, func(r *rand.Rand, h *History) bool { return resurrectMark(r, h, false) }},
	"resurrect a pin":       {[]string{"I13"}, func(r *rand.Rand, h *History) bool { return resurrectMark(r, h, true) }},
	"reaction of the deleted": {[]string{"I13"}, func(r *rand.Rand, h *History) bool {
		i, ok := pick(r, h, func(_ int, e Event) bool { return e.Op == Ret && e.Status == 200 && deleteOf(h, e) != nil })
		if ok {
			h.Final.Marks = append(slices.Clone(h.Final.Marks), Mark{deleteOf(h, h.Events[i]).Message, "a", 100})
		}
		return ok
	}},
	"foreign reaction's row": {[]string{"I13"}, func(r *rand.Rand, h *History) bool {
		row := h.Final.Rows[r.IntN(len(h.Final.Rows))]
		h.Final.Marks = append(slices.Clone(h.Final.Marks), Mark{row.ID, "z", 100})
		return true
	}},
	"row of another pin": {[]string{"I13"}, func(r *rand.Rand, h *History) bool {
		i := r.IntN(len(h.Final.Rows))
		h.Final.Rows[i].Pinned = !h.Final.Rows[i].Pinned
		return true
	}},
	"history without a reaction": {[]string{"I13"}, func(_ *rand.Rand, h *History) bool {
		h.Final.Shown = slices.Clone(h.Final.Shown)
		i := slices.IndexFunc(h.Final.Shown, func(s Seen) bool { return len(s.Counts) > 0 })
		if i >= 0 {
			h.Final.Shown[i].Counts = h.Final.Shown[i].Counts[1:]
		}
		return i >= 0
	}},
	"history without a message": {[]string{"I13"}, func(r *rand.Rand, h *History) bool {
		i := r.IntN(len(h.Final.Shown))
		h.Final.Shown = slices.Delete(slices.Clone(h.Final.Shown), i, i+1)
		return true
	}},
	"a pin is not listed": {[]string{"I13"}, func(_ *rand.Rand, h *History) bool {
		if len(h.Final.Listed) == 0 {
			return false
		}
		h.Final.Listed = h.Final.Listed[1:]
		return true
	}},
	"page without a reaction": {[]string{"I9"}, func(r *rand.Rand, h *History) bool {
		return changePage(r, h, func(m *model, e Event, s *Seen) bool {
			for i, c := range s.Counts {
				if m.least(s.Message, c.Emoji, e) > 0 {
					s.Counts = slices.Delete(slices.Clone(s.Counts), i, i+1)
					return true
				}
			}
			return false
		})
	}},
	"page with one too many": {[]string{"I9"}, func(r *rand.Rand, h *History) bool {
		return changePage(r, h, func(_ *model, _ Event, s *Seen) bool {
			s.Counts = append(slices.Clone(s.Counts), Count{Emoji: "z", N: 1})
			return true
		})
	}},
	"page with another pin": {[]string{"I9"}, func(r *rand.Rand, h *History) bool {
		return changePage(r, h, func(m *model, e Event, s *Seen) bool {
			there, absent := m.mayBe(Mark{Message: s.Message}, e.T0, e.T)
			s.Pinned = !s.Pinned
			return there != absent
		})
	}},
	"announced of nothing": {[]string{"I2"}, func(_ *rand.Rand, h *History) bool {
		i := slices.IndexFunc(h.Final.Rows, func(r Row) bool { return r.Announces != 0 })
		if i >= 0 {
			h.Final.Rows[i].Announces = 7_000_000
		}
		return i >= 0
	}},
	"announced twice": {[]string{"I13"}, announcedTwice},
	"another order of roles": {[]string{"I13"}, func(_ *rand.Rand, h *History) bool {
		h.Final.Raised = false
		return true
	}},
}

// wholly says that the session of an event has its message from the create on.
func (m *model) wholly(h *History, i int) bool {
	e := h.Events[i]
	user := m.users[e.Client]
	return m.always(&session{user: user}, e.Channel) && slices.ContainsFunc(h.Events[:i], func(o Event) bool {
		return o.Session == e.Session && o.Type == "MESSAGE_CREATE" && o.Message == e.Message
	})
}

// toTheEnd says that the session of an event has its message to the end, and the message is there by then.
func (m *model) toTheEnd(e Event) bool {
	msg := m.ids[e.Message]
	return msg != nil && msg.row != nil && slices.ContainsFunc(m.sessions, func(s *session) bool { return s.name == e.Session && s.last })
}

// pickMark returns the index of a dispatch that makes a difference to who receives it. Before a clear nothing does.
func pickMark(r *rand.Rand, h *History, kinds []Kind) (int, bool) {
	m := newModel(*h)
	cleared := func(i int) bool {
		return slices.ContainsFunc(h.Events[i+1:], func(o Event) bool {
			return o.Session == h.Events[i].Session && o.Kind == Clear && o.Message == h.Events[i].Message
		})
	}
	return pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && slices.Contains(kinds, e.Kind) && m.toTheEnd(e) && m.wholly(h, i) && !cleared(i)
	})
}

func dropMark(kinds ...Kind) func(*rand.Rand, *History) bool {
	return func(r *rand.Rand, h *History) bool {
		i, ok := pickMark(r, h, kinds)
		if ok {
			session := h.Events[i].Session
			remove(h, i)
			shift(h, i, session, -1)
		}
		return ok
	}
}

func markTwice(kinds ...Kind) func(*rand.Rand, *History) bool {
	return func(r *rand.Rand, h *History) bool {
		i, ok := pickMark(r, h, kinds)
		if ok {
			e := h.Events[i]
			h.Events = slices.Insert(h.Events, i, e)
			shift(h, i+1, e.Session, 1)
		}
		return ok
	}
}

// exchange swaps two dispatches of a session, and leaves the numbers.
func exchange(h *History, i, j int) {
	a, b := h.Events[i], h.Events[j]
	a.Seq, b.Seq = b.Seq, a.Seq
	a.T = b.T // so that neither is before it was sent
	h.Events[i], h.Events[j] = b, a
}

// alsoSeen says that a session of another client has two dispatches, too, and their messages from the create on.
func alsoSeen(m *model, h *History, i, j int) bool {
	a, b := h.Events[i], h.Events[j]
	seen := map[string]int{}
	for n, o := range h.Events {
		same := func(x Event) bool {
			return o.Op == Recv && o.Client != x.Client && o.Kind == x.Kind && o.Type == x.Type && o.Message == x.Message && o.Text == x.Text && o.Author == x.Author
		}
		if (same(a) || same(b)) && (o.Type == "MESSAGE_CREATE" || m.wholly(h, n)) {
			seen[o.Session]++
		}
	}
	for _, both := range seen {
		if both == 2 {
			return true
		}
	}
	return false
}

// behind is the next dispatch of the session of one, and -1 when that is not one that fits.
func behind(h *History, i int, fits func(Event) bool) int {
	for j := i + 1; j < len(h.Events); j++ {
		if e := h.Events[j]; e.Op == Recv && e.Session == h.Events[i].Session {
			if fits(e) {
				return j
			}
			return -1
		}
	}
	return -1
}

func swapMarks(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	next := func(i int) int {
		e := h.Events[i]
		return behind(h, i, func(o Event) bool {
			return (o.Kind == React || o.Kind == Unreact) && o.Message == e.Message && (o.Text != e.Text || o.Author != e.Author)
		})
	}
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && (e.Kind == React || e.Kind == Unreact) && next(i) >= 0 && m.wholly(h, i) && alsoSeen(m, h, i, next(i))
	})
	if ok {
		exchange(h, i, next(i))
	}
	return ok
}

func swapMarkAndMessage(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	next := func(i int) int {
		return behind(h, i, func(o Event) bool { return isCreate(0, o) && o.Channel == h.Events[i].Channel })
	}
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && e.Kind == React && next(i) >= 0 && m.wholly(h, i) && alsoSeen(m, h, i, next(i))
	})
	if ok {
		exchange(h, i, next(i))
	}
	return ok
}

func foreignMark(r *rand.Rand, h *History) bool {
	i, ok := pickMark(r, h, []Kind{React})
	if ok {
		e := h.Events[i]
		e.Text = "z"
		h.Events = slices.Insert(h.Events, i, e)
		shift(h, i+1, e.Session, 1)
	}
	return ok
}

// markBehindDelete tells once more of a reaction, behind the delete of its message.
func markBehindDelete(r *rand.Rand, h *History) bool {
	before := func(i int) int {
		return slices.IndexFunc(h.Events[:i], func(o Event) bool {
			return o.Session == h.Events[i].Session && o.Kind == React && o.Message == h.Events[i].Message
		})
	}
	i, ok := pick(r, h, func(i int, e Event) bool { return e.Op == Recv && e.Type == "MESSAGE_DELETE" && before(i) >= 0 })
	if !ok {
		return false
	}
	late := h.Events[before(i)]
	late.T, late.Seq = h.Events[i].T, h.Events[i].Seq+1
	h.Events = slices.Insert(h.Events, i+1, late)
	shift(h, i+2, late.Session, 1)
	return true
}

// leakMark exchanges the word that a channel is gone with a reaction that came before it.
func leakMark(r *rand.Rand, h *History) bool {
	gone := func(i int) int { return behind(h, i, func(e Event) bool { return e.Type == "CHANNEL_DELETE" }) }
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && e.Kind.isMark() && e.Channel == flipChannel && gone(i) >= 0
	})
	if ok {
		exchange(h, i, gone(i))
	}
	return ok
}

// keptOutReacts lets a member see a guest's reaction behind what keeps the guest out.
func keptOutReacts(r *rand.Rand, h *History) bool {
	out := func(i int) int {
		return behind(h, i, func(e Event) bool {
			return e.Kind == Hide && (e.User == h.Events[i].Author || e.User == 0)
		})
	}
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && e.Client == "w2" && e.Kind == React && e.Channel == flipChannel && guestID(e.Author) && out(i) >= 0
	})
	if ok {
		exchange(h, i, out(i))
	}
	return ok
}

// keptOutMark answers a guest with success who was refused.
func keptOutMark(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	i, ok := pick(r, h, func(_ int, e Event) bool {
		if e.Op != Ret || e.Status != 403 {
			return false
		}
		s := sentOf(h, e)
		_, hidden := m.veils[flipChannel].hidden(s.Author, s.T, e.T)
		return hidden && s.Kind.isMark()
	})
	if ok {
		h.Events[i].Status = 204
	}
	return ok
}

func loseMark(r *rand.Rand, h *History, pins bool) bool {
	m := newModel(*h)
	return changeMarks(r, h, pins, func(k Mark) bool {
		_, absent := m.mayBe(k, never, never)
		return m.stored[k] && !absent
	})
}

func resurrectMark(r *rand.Rand, h *History, pins bool) bool {
	m := newModel(*h)
	return changeMarks(r, h, pins, func(k Mark) bool {
		there, _ := m.mayBe(k, never, never)
		msg := m.ids[k.Message]
		return !there && msg != nil && msg.row != nil
	})
}

// changeMarks takes one that fits out of the stored ones, or puts it there.
func changeMarks(r *rand.Rand, h *History, pins bool, fits func(Mark) bool) bool {
	var some []Mark
	for i, e := range h.Events {
		if k := markOf(&h.Events[i]); e.Op == Send && e.Kind.isMark() && e.Kind != Clear && (k.Emoji == "") == pins && fits(k) {
			some = append(some, k)
		}
	}
	if len(some) == 0 {
		return false
	}
	k := some[r.IntN(len(some))]
	if i := slices.Index(h.Final.Marks, k); i >= 0 {
		h.Final.Marks = slices.Delete(slices.Clone(h.Final.Marks), i, i+1)
	} else {
		h.Final.Marks = append(slices.Clone(h.Final.Marks), k)
	}
	return true
}

// least is how many reactions with an emoji are certainly there while a page is read.
func (m *model) least(message id.ID, emoji string, e Event) (n int) {
	for _, k := range m.wishes.of[message] {
		if _, absent := m.mayBe(k, e.T0, e.T); k.Emoji == emoji && !absent {
			n++
		}
	}
	return n
}

// changePage changes a message of a page that is not deleted.
func changePage(r *rand.Rand, h *History, change func(*model, Event, *Seen) bool) bool {
	m := newModel(*h)
	place := func(e Event) (int, Seen) {
		for i, s := range e.Page {
			if msg := m.ids[s.Message]; !msg.mayBeGone(e.T) && change(m, e, &s) {
				return i, s
			}
		}
		return -1, Seen{}
	}
	i, ok := pick(r, h, func(_ int, e Event) bool {
		at, _ := place(e)
		return e.Op == Read && at >= 0
	})
	if ok {
		e := &h.Events[i]
		at, s := place(*e)
		e.Page = slices.Clone(e.Page)
		e.Page[at] = s
	}
	return ok
}

// announcedTwice says of a pin once more that there is one, to everybody.
func announcedTwice(_ *rand.Rand, h *History) bool {
	at := slices.IndexFunc(h.Final.Rows, func(r Row) bool {
		return r.Announces != 0 && r.Channel != flipChannel && slices.ContainsFunc(h.Events, func(e Event) bool {
			return e.Type == "MESSAGE_CREATE" && e.Message == r.ID && slices.ContainsFunc(h.Events, func(o Event) bool {
				return o.Session == e.Session && o.Type == "MESSAGE_CREATE" && o.Message == r.Announces
			})
		}) && pinsOf(h, r.Announces) == announcementsOf(h, r.Announces)
	})
	if at < 0 {
		return false
	}
	row := h.Final.Rows[at]
	was := row.ID
	row.ID++
	row.Content = text(announced(row.ID), 0)
	h.Final.Rows = append(h.Final.Rows, row)
	for i := 0; i < len(h.Events); i++ {
		if e := h.Events[i]; e.Op == Recv && e.Type == "MESSAGE_CREATE" && e.Message == was {
			e.Message, e.Text = row.ID, row.Content
			e.Seq++
			h.Events = slices.Insert(h.Events, i+1, e)
			shift(h, i+2, e.Session, 1)
			i++
		}
	}
	return true
}

// pinsOf is how often a message was pinned, and announcementsOf how often that is said in the end.
func pinsOf(h *History, message id.ID) (n int) {
	seqs := map[string]int{}
	for _, e := range h.Events {
		if e.Op == Recv && e.Kind == Pin && e.Message == message {
			seqs[e.Session]++
			n = max(n, seqs[e.Session])
		}
	}
	return n
}

func announcementsOf(h *History, message id.ID) (n int) {
	for _, r := range h.Final.Rows {
		if r.Announces == message {
			n++
		}
	}
	return n
}
