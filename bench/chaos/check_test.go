package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/id"
)

const (
	histories = 10
	steps     = 900
)

// clone is a copy whose events and rows are its own.
func clone(h History) History {
	h.Events, h.Final.Rows = slices.Clone(h.Events), slices.Clone(h.Final.Rows)
	return h
}

func TestCheck_PassesCorrectHistories(t *testing.T) {
	t.Parallel()
	events := 0
	for seed := range uint64(histories) {
		h := generate(seed, steps)
		events += len(h.Events)
		for _, v := range Check(h) {
			t.Errorf("seed %d: a correct history is said to break %v", seed, v)
		}
	}
	t.Logf("%d correct histories of %d events pass", histories, events)
}

// TestCheck_CatchesMutants breaks correct histories, one promise at a time, and demands that the checker names it.
func TestCheck_CatchesMutants(t *testing.T) {
	t.Parallel()
	all := maps.Clone(mutants)
	maps.Copy(all, markMutants)
	correct := make([]History, histories)
	for seed := range correct {
		correct[seed] = generate(uint64(seed), steps)
	}
	caught, total := 0, 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		mutant := all[name]
		made := 0
		for seed := range uint64(histories) {
			h := clone(correct[seed])
			if !mutant.breach(rand.New(rand.NewPCG(seed, 2)), &h) {
				continue
			}
			made++
			total++
			broken := Check(h)
			if slices.ContainsFunc(broken, func(v Violation) bool { return slices.Contains(mutant.breaks, v.Invariant) }) {
				caught++
				continue
			}
			t.Errorf("%s, seed %d: not caught as %v; found %v", name, seed, mutant.breaks, broken)
		}
		if made < histories/4 {
			t.Errorf("%s: only %d of %d histories could be broken so", name, made, histories)
		}
	}
	t.Logf("%d kinds of mutants: %d caught of %d", len(all), caught, total)
}

// mutant breaks a history; false when it has no place for that. breaks are the invariants of which one must be named.
type mutant struct {
	breaks []string
	breach func(r *rand.Rand, h *History) bool
}

// pick returns the index of a random event that fits.
func pick(r *rand.Rand, h *History, fits func(i int, e Event) bool) (int, bool) {
	var at []int
	for i, e := range h.Events {
		if fits(i, e) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return 0, false
	}
	return at[r.IntN(len(at))], true
}

func isCreate(_ int, e Event) bool {
	return e.Op == Recv && e.Type == "MESSAGE_CREATE" && e.Channel != flipChannel
}

// shift renumbers what a session received from an index on, so that a change shows in no number.
func shift(h *History, from int, session string, by int64) {
	for i := from; i < len(h.Events); i++ {
		if h.Events[i].Session == session {
			h.Events[i].Seq += by
		}
	}
}

func remove(h *History, i int) { h.Events = slices.Delete(h.Events, i, i+1) }

// inside says that the session goes on after i in the same channel, and began in it before.
func inside(h *History, i int) bool {
	around := func(events []Event) bool {
		return slices.ContainsFunc(events, func(e Event) bool {
			return isCreate(0, e) && e.Session == h.Events[i].Session && e.Channel == h.Events[i].Channel
		})
	}
	return around(h.Events[:i]) && around(h.Events[i+1:])
}

func dropDispatch(kind string) func(*rand.Rand, *History) bool {
	return func(r *rand.Rand, h *History) bool {
		m := newModel(*h)
		i, ok := pick(r, h, func(i int, e Event) bool {
			if e.Op != Recv || e.Type != kind || e.Kind.isMark() || e.Channel == flipChannel || !inside(h, i) {
				return false
			}
			if kind == "MESSAGE_CREATE" {
				return true
			}
			// Only where it is certain that it stands before something that was received.
			msg := m.ids[e.Message]
			c := msg.gone
			if kind == "MESSAGE_UPDATE" {
				c = msg.edits[slices.IndexFunc(msg.edits, func(c *change) bool { return c.text == e.Text })]
			}
			again := func(i int, o Event) bool {
				return o.Session == e.Session && o.Type == kind && o.Text == e.Text && o.T != e.T
			}
			if slices.ContainsFunc(h.Events, func(o Event) bool { return kind == "MESSAGE_UPDATE" && again(0, o) }) {
				return false
			}
			s := m.sessions[slices.IndexFunc(m.sessions, func(s *session) bool { return s.name == e.Session })]
			return s.ready < c.sent && slices.ContainsFunc(s.recv, func(o *Event) bool {
				return o.Type == "MESSAGE_CREATE" && o.Channel == e.Channel && m.keys[keyOf(o.Text)].sent > c.acked
			})
		})
		if ok {
			session := h.Events[i].Session
			remove(h, i)
			shift(h, i, session, -1)
		}
		return ok
	}
}

// pickRow returns the index of a random row whose message fits.
func pickRow(r *rand.Rand, h *History, fits func(*message) bool) (int, bool) {
	m := newModel(*h)
	var at []int
	for i, row := range h.Final.Rows {
		if fits(m.keys[keyOf(row.Content)]) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return 0, false
	}
	return at[r.IntN(len(at))], true
}

var mutants = map[string]mutant{
	"drop a dispatch":      {[]string{"I6", "I7"}, dropDispatch("MESSAGE_CREATE")},
	"drop an edit":         {[]string{"I7"}, dropDispatch("MESSAGE_UPDATE")},
	"drop a delete":        {[]string{"I7"}, dropDispatch("MESSAGE_DELETE")},
	"drop the last":        {[]string{"I7"}, dropLast},
	"gap in s":             {[]string{"I4"}, gapInS},
	"dispatch twice":       {[]string{"I4"}, dispatchTwice},
	"swap":                 {[]string{"I5"}, swap},
	"swap edit and delete": {[]string{"I5"}, swapChange},
	"foreign dispatch":     {[]string{"I2"}, foreignDispatch},
	"hide INVALID_SESSION": {[]string{"I6"}, hideInvalid},
	"resume past a gap":    {[]string{"I6", "I7"}, resumePastGap},
	"lose a row": {[]string{"I1", "I2"}, func(r *rand.Rand, h *History) bool {
		i, ok := pickRow(r, h, func(m *message) bool { return m.acked < never && m.gone == nil })
		if ok {
			h.Final.Rows = slices.Delete(h.Final.Rows, i, i+1)
		}
		return ok
	}},
	"row twice": {[]string{"I1", "I3"}, func(r *rand.Rand, h *History) bool {
		row := h.Final.Rows[r.IntN(len(h.Final.Rows))]
		row.ID += 1_000_000
		h.Final.Rows = append(h.Final.Rows, row)
		return true
	}},
	"foreign row": {[]string{"I2"}, func(_ *rand.Rand, h *History) bool {
		h.Final.Rows = append(h.Final.Rows, Row{ID: 5, Channel: 1, Author: 100, Content: "nobody-1/0"})
		return true
	}},
	"row of another author": {[]string{"I2"}, func(r *rand.Rand, h *History) bool {
		h.Final.Rows[r.IntN(len(h.Final.Rows))].Author++
		return true
	}},
	"resurrect": {[]string{"I1"}, func(r *rand.Rand, h *History) bool {
		i, ok := pick(r, h, func(_ int, e Event) bool { return e.Op == Ret && e.Status == 200 && deleteOf(h, e) != nil })
		if ok {
			d := deleteOf(h, h.Events[i])
			h.Final.Rows = append(h.Final.Rows, Row{ID: d.Message, Channel: d.Channel, Author: d.Author, Content: text(d.Key, 0)})
		}
		return ok
	}},
	"changed content": {[]string{"I1"}, func(r *rand.Rand, h *History) bool {
		h.Final.Rows[r.IntN(len(h.Final.Rows))].Content += "9"
		return true
	}},
	"lost edit": {[]string{"I1"}, func(r *rand.Rand, h *History) bool {
		i, ok := pickRow(r, h, func(m *message) bool {
			return slices.ContainsFunc(m.edits, func(c *change) bool { return c.acked < never })
		})
		if ok {
			h.Final.Rows[i].Content = text(keyOf(h.Final.Rows[i].Content), 0)
		}
		return ok
	}},
	"nonce led to two": {[]string{"I3"}, func(r *rand.Rand, h *History) bool {
		stored := func(m id.ID) bool { return slices.ContainsFunc(h.Final.Rows, func(r Row) bool { return r.ID == m }) }
		i, ok := pick(r, h, func(_ int, e Event) bool {
			return e.Op == Ret && e.Status == 200 && stored(e.Message) && sentOf(h, e).Kind == Create
		})
		if ok {
			h.Events[i].Message += 1_000_000
		}
		return ok
	}},
	"stale page":            {[]string{"I9"}, stalePage},
	"page shows a delete":   {[]string{"I9"}, pageShowsDelete},
	"page without an edit":  {[]string{"I9"}, pageWithoutEdit},
	"ids against real time": {[]string{"I8"}, againstTime},
	"a late change":         {[]string{"I8"}, lateChange},
	"change behind delete":  {[]string{"I5"}, changeBehindDelete},
	"drop what is shown":    {[]string{"I7"}, dropShown},
	"leak":                  {[]string{"I10"}, leak},
	"leak to a stranger":    {[]string{"I10"}, leakToStranger},
	"leak behind gone":      {[]string{"I10"}, leakBehindGone},
	"leak after a second":   {[]string{"I10"}, leakLate},
	"the kept out speak":    {[]string{"I10"}, keptOutSpeaks},
	"the kept out accepted": {[]string{"I10"}, keptOutAccepted},
	"refused, and stored":   {[]string{"I2"}, refusedStored},
	"goroutines grow": {[]string{"I12"}, func(_ *rand.Rand, h *History) bool {
		h.Final.Before.Goroutines, h.Final.After.Goroutines = 300, 371
		return true
	}},
	"files grow":                 {[]string{"I12"}, func(_ *rand.Rand, h *History) bool { h.Final.After.Files = usageFew + 1; return true }},
	"memory grows":               {[]string{"I12"}, func(_ *rand.Rand, h *History) bool { h.Final.After.Bytes = 2 * usageBytes; return true }},
	"entries that were not read": {[]string{"I11"}, func(_ *rand.Rand, h *History) bool { h.Final.Lag = 1; return true }},
	"pending entries":            {[]string{"I11"}, func(_ *rand.Rand, h *History) bool { h.Final.Pending = 1; return true }},
	"a dead letter": {[]string{"I11"}, func(r *rand.Rand, h *History) bool {
		h.Final.Dead = []id.ID{h.Final.Rows[r.IntN(len(h.Final.Rows))].ID}
		return true
	}},
	"never answered": {[]string{"I0"}, func(_ *rand.Rand, h *History) bool {
		h.Events = append(h.Events, Event{Op: GiveUp, T: h.Events[len(h.Events)-1].T, Client: "p0", Text: "an edit"})
		return true
	}},
	"refused": {[]string{"I0"}, func(r *rand.Rand, h *History) bool {
		i, ok := pick(r, h, func(_ int, e Event) bool {
			return e.Op == Ret && e.Status == 0 && sentOf(h, e).Channel != flipChannel
		})
		if ok {
			h.Events[i].Status = 403
		}
		return ok
	}},
}

func sentOf(h *History, ret Event) Event {
	i := slices.IndexFunc(h.Events, func(e Event) bool { return e.Op == Send && e.Client == ret.Client && e.Call == ret.Call })
	return h.Events[i]
}

func deleteOf(h *History, ret Event) *Event {
	if e := sentOf(h, ret); e.Kind == Delete {
		return &e
	}
	return nil
}

func dropLast(_ *rand.Rand, h *History) bool {
	for i := len(h.Events) - 1; i >= 0; i-- {
		if isCreate(i, h.Events[i]) {
			session := h.Events[i].Session
			remove(h, i)
			shift(h, i, session, -1)
			return true
		}
	}
	return false
}

func gapInS(r *rand.Rand, h *History) bool {
	i, ok := pick(r, h, isCreate)
	if ok {
		shift(h, i, h.Events[i].Session, 1)
	}
	return ok
}

func dispatchTwice(r *rand.Rand, h *History) bool {
	i, ok := pick(r, h, isCreate)
	if ok {
		e := h.Events[i]
		h.Events = slices.Insert(h.Events, i, e)
		shift(h, i+1, e.Session, 1)
	}
	return ok
}

func swap(r *rand.Rand, h *History) bool { return swapTwo(r, h, isCreate) }

// swapChange moves a change of a message that others have received, too, before its create.
func swapChange(r *rand.Rand, h *History) bool {
	return swapTwo(r, h, func(_ int, e Event) bool {
		others := 0
		for _, o := range h.Events {
			if o.Op == Recv && o.Type == e.Type && o.Message == e.Message && o.Edited == e.Edited && o.Client != e.Client {
				others++
			}
		}
		return e.Op == Recv && e.Type != "MESSAGE_CREATE" && !e.Kind.isMark() && e.Message != 0 && e.Channel != flipChannel && others > 1
	})
}

// swapTwo exchanges a dispatch with the next one of its session and channel, and leaves the numbers.
func swapTwo(r *rand.Rand, h *History, fits func(int, Event) bool) bool {
	following := func(i int) int {
		e := h.Events[i]
		n := slices.IndexFunc(h.Events[i+1:], func(o Event) bool { return isCreate(0, o) && o.Session == e.Session && o.Channel == e.Channel })
		between := slices.IndexFunc(h.Events[i+1:], func(o Event) bool {
			return o.Op == Recv && o.Session == e.Session && o.Channel == e.Channel && o.Message != 0
		})
		if n < 0 || n != between {
			return -1
		}
		// Somebody else must have seen both, or nobody can disagree.
		b := h.Events[i+1+n]
		seen := map[string]int{}
		for _, o := range h.Events {
			if o.Op == Recv && o.Client != e.Client && (o.Message == e.Message && o.Type == e.Type && o.Edited == e.Edited || o.Message == b.Message && o.Type == b.Type) {
				seen[o.Session]++
			}
		}
		for _, both := range seen {
			if both == 2 {
				return i + 1 + n
			}
		}
		return -1
	}
	i, ok := pick(r, h, func(i int, e Event) bool { return fits(i, e) && following(i) >= 0 })
	if !ok {
		return false
	}
	j := following(i)
	a, b := h.Events[i], h.Events[j]
	a.Seq, b.Seq, a.T, b.T = b.Seq, a.Seq, b.T, a.T
	h.Events[i], h.Events[j] = b, a
	h.Events[i].T = h.Events[j].T // so that it is not before it was sent
	return true
}

func foreignDispatch(r *rand.Rand, h *History) bool {
	i, ok := pick(r, h, isCreate)
	if ok {
		e := h.Events[i]
		e.Message, e.Text = e.Message+1_000_000, "nobody-1/0"
		h.Events = slices.Insert(h.Events, i, e)
		shift(h, i+1, e.Session, 1)
	}
	return ok
}

func hideInvalid(r *rand.Rand, h *History) bool {
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Invalid && slices.ContainsFunc(h.Events[i:], func(o Event) bool { return o.Client == e.Client && o.Type == "READY" })
	})
	if ok {
		remove(h, i)
	}
	return ok
}

// resumePastGap makes of INVALID_SESSION and a new session a RESUME that leaves out what happened between them.
func resumePastGap(r *rand.Rand, h *History) bool {
	ready := func(i int) int {
		n := slices.IndexFunc(h.Events[i:], func(o Event) bool { return o.Client == h.Events[i].Client && o.Type == "READY" })
		return i + n
	}
	old := func(i int) string {
		for j := i; j >= 0; j-- {
			if h.Events[j].Client == h.Events[i].Client && h.Events[j].Session != "" {
				return h.Events[j].Session
			}
		}
		return ""
	}
	has := func(events []Event, session string, channel id.ID) bool {
		return slices.ContainsFunc(events, func(e Event) bool { return isCreate(0, e) && e.Session == session && e.Channel == channel })
	}
	i, ok := pick(r, h, func(i int, e Event) bool {
		if e.Op != Invalid || ready(i) < i {
			return false
		}
		missed := false
		got := map[id.ID]bool{}
		for _, o := range h.Events {
			if isCreate(0, o) && (o.Session == old(i) || o.Session == h.Events[ready(i)].Session) {
				got[o.Message] = true
			}
		}
		for _, o := range h.Events[:i] {
			if isCreate(0, o) && !got[o.Message] && has(h.Events[:i], old(i), o.Channel) && sentAfter(h, old(i), o) {
				missed = missed || has(h.Events[ready(i):], h.Events[ready(i)].Session, o.Channel)
			}
		}
		return missed
	})
	if !ok {
		return false
	}
	was, at := old(i), ready(i)
	now, seq := h.Events[at].Session, int64(0)
	for _, e := range h.Events[:at] {
		if e.Session == was {
			seq = max(seq, e.Seq)
		}
	}
	h.Events[at] = Event{Op: Resume, T: h.Events[at].T, Client: h.Events[at].Client, Session: was, Seq: seq}
	for j := at + 1; j < len(h.Events); j++ {
		if h.Events[j].Session == now {
			h.Events[j].Session = was
			h.Events[j].Seq += seq - 1
		}
	}
	remove(h, i)
	return true
}

// sentAfter says that a message is one that the session would have had to get: it stands behind the first that it got.
func sentAfter(h *History, session string, e Event) bool {
	return slices.ContainsFunc(h.Events, func(o Event) bool {
		return isCreate(0, o) && o.Session == session && o.Channel == e.Channel && o.Message < e.Message
	})
}

func stalePage(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	i, ok := pick(r, h, func(_ int, e Event) bool {
		return e.Op == Read && len(e.Page) > 2 && m.ids[e.Page[1].Message].acked < e.T0 && m.ids[e.Page[1].Message].gone == nil
	})
	if ok {
		h.Events[i].Page = slices.Delete(slices.Clone(h.Events[i].Page), 1, 2)
	}
	return ok
}

func pageShowsDelete(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	var gone *message
	i, ok := pick(r, h, func(_ int, e Event) bool {
		for _, msg := range m.ids {
			if e.Op == Read && msg.channel == e.Channel && msg.gone != nil && msg.gone.acked < e.T0 {
				return true
			}
		}
		return false
	})
	if !ok {
		return false
	}
	e := &h.Events[i]
	for _, msg := range m.ids {
		if msg.channel == e.Channel && msg.gone != nil && msg.gone.acked < e.T0 {
			gone = msg
		}
	}
	page := append(slices.Clone(e.Page), Seen{Message: gone.id, Text: text(gone.key, 0)})
	slices.SortFunc(page, func(a, b Seen) int { return int(int64(b.Message) - int64(a.Message)) })
	e.Page = page
	return true
}

func pageWithoutEdit(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	edited := func(e Event) int {
		return slices.IndexFunc(e.Page, func(s Seen) bool {
			return slices.ContainsFunc(m.ids[s.Message].edits, func(c *change) bool { return c.acked < e.T0 })
		})
	}
	i, ok := pick(r, h, func(_ int, e Event) bool { return e.Op == Read && edited(e) >= 0 })
	if ok {
		e := &h.Events[i]
		e.Page = slices.Clone(e.Page)
		s := &e.Page[edited(*e)]
		s.Text = text(keyOf(s.Text), 0)
	}
	return ok
}

// againstTime exchanges the ids of two messages wherever they are seen.
func againstTime(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	var pairs [][2]*message
	for _, a := range m.keys {
		for _, b := range m.keys {
			if a.channel == b.channel && b.announces == 0 && a.id != 0 && b.id != 0 && a.acked < b.sent {
				pairs = append(pairs, [2]*message{a, b})
			}
		}
	}
	if len(pairs) == 0 {
		return false
	}
	slices.SortFunc(pairs, func(a, b [2]*message) int {
		return slices.Compare([]id.ID{a[0].id, a[1].id}, []id.ID{b[0].id, b[1].id})
	})
	pair := pairs[r.IntN(len(pairs))]
	a, b := pair[0].id, pair[1].id
	other := func(i id.ID) id.ID {
		switch i {
		case a:
			return b
		case b:
			return a
		}
		return i
	}
	for i := range h.Events {
		e := &h.Events[i]
		e.Message = other(e.Message)
		e.Page = slices.Clone(e.Page)
		for j := range e.Page {
			e.Page[j].Message = other(e.Page[j].Message)
		}
	}
	for i := range h.Final.Rows {
		h.Final.Rows[i].ID = other(h.Final.Rows[i].ID)
	}
	return true
}

// leak delivers to a guest what was sent while the channel was hidden.
func leak(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	i, ok := pick(r, h, func(_ int, e Event) bool { return isCreate(0, e) && hiddenAt(m, e) != nil })
	if !ok {
		return false
	}
	e := h.Events[i]
	hidden := hiddenAt(m, e)
	e.Channel, e.Message, e.Text, e.Author = flipChannel, hidden.id, text(hidden.key, 0), hidden.author
	h.Events = slices.Insert(h.Events, i, e)
	shift(h, i+1, e.Session, 1)
	return true
}

// hiddenAt is a message that is certainly hidden from who receives e.
func hiddenAt(m *model, e Event) *message {
	user := m.users[e.Client]
	for _, key := range slices.Sorted(maps.Keys(m.keys)) {
		msg := m.keys[key]
		if msg.channel != flipChannel || msg.id == 0 || !guestID(user) {
			continue
		}
		if _, ok := m.veils[flipChannel].hidden(user, msg.sent, e.T); ok && msg.sent < e.T {
			return msg
		}
	}
	return nil
}

// leakToStranger delivers a message of the hidden channel to somebody who is not in its guild.
func leakToStranger(r *rand.Rand, h *History) bool {
	var from Event
	if i, ok := pick(r, h, func(_ int, e Event) bool {
		return e.Op == Recv && e.Type == "MESSAGE_CREATE" && e.Channel == flipChannel
	}); ok {
		from = h.Events[i]
	}
	i, ok := pick(r, h, func(_ int, e Event) bool { return isCreate(0, e) && e.Client == "w3" && e.T > from.T && from.T > 0 })
	if !ok {
		return false
	}
	e := h.Events[i]
	from.T, from.Client, from.Session, from.Seq = e.T, e.Client, e.Session, e.Seq
	h.Events = slices.Insert(h.Events, i, from)
	shift(h, i+1, e.Session, 1)
	return true
}

// leakBehindGone exchanges the word that the channel is gone with what came before it of that channel.
func leakBehindGone(r *rand.Rand, h *History) bool {
	before := func(i int) int {
		for j := i - 1; j >= 0; j-- {
			if e := h.Events[j]; e.Op == Recv && e.Session == h.Events[i].Session {
				if e.Type == "MESSAGE_CREATE" && e.Channel == flipChannel {
					return j
				}
				return -1
			}
		}
		return -1
	}
	i, ok := pick(r, h, func(i int, e Event) bool { return e.Type == "CHANNEL_DELETE" && before(i) >= 0 })
	if ok {
		j := before(i)
		a, b := h.Events[j], h.Events[i]
		a.Seq, b.Seq, a.T, b.T = b.Seq, a.Seq, b.T, a.T
		h.Events[j], h.Events[i] = b, a
	}
	return ok
}

// leakLate delivers what was sent before the hiding, without a word of the hiding, two seconds after it. What was sent meanwhile comes
// in time.
func leakLate(_ *rand.Rand, h *History) bool {
	const ms = int64(1e6)
	last := h.Events[len(h.Events)-1].T + 1e12
	const session = "late.1"
	add := func(at int64, e Event) {
		e.T = last + at*ms
		h.Events = append(h.Events, e)
	}
	sent := func(key string, call int64, channel id.ID) Event {
		return Event{Op: Send, Client: "p9", Call: call, Kind: Create, Key: key, Text: text(key, 0), Channel: channel, Author: 102}
	}
	got := func(key string, message id.ID, channel id.ID, seq int64) Event {
		return Event{Op: Recv, Client: "late", Session: session, Seq: seq, Type: "MESSAGE_CREATE", Text: text(key, 0), Message: message,
			Channel: channel, Author: 102}
	}
	add(0, Event{Op: Recv, Client: "late", Session: session, Seq: 1, Type: "READY", Author: 100})
	add(1, sent("before-1", 1, flipChannel))
	add(2, Event{Op: Ret, Client: "p9", Call: 1, Status: 200, Message: 5_000_000})
	add(3, Event{Op: Send, Client: ownerClient, Call: 1 << 40, Kind: Hide, Channel: flipChannel, Author: flipperID})
	add(4, Event{Op: Ret, Client: ownerClient, Call: 1 << 40, Status: 204})
	add(10, sent("behind-1", 2, 1))
	add(11, Event{Op: Ret, Client: "p9", Call: 2, Status: 200, Message: 5_000_001})
	add(12, got("behind-1", 5_000_001, 1, 2))
	add(2000, got("before-1", 5_000_000, flipChannel, 3))
	add(2002, Event{Op: End, Client: "late"})
	for _, m := range []struct {
		key     string
		id      id.ID
		channel id.ID
	}{{"before-1", 5_000_000, flipChannel}, {"behind-1", 5_000_001, 1}} {
		h.Final.Rows = append(h.Final.Rows, Row{ID: m.id, Channel: m.channel, Author: 102, Content: text(m.key, 0)})
	}
	return true
}

// keptOutSpeaks lets a member see what a guest said behind what keeps the guest out.
func keptOutSpeaks(r *rand.Rand, h *History) bool {
	before := func(i int) int {
		for j := i - 1; j >= 0; j-- {
			if e := h.Events[j]; e.Op == Recv && e.Session == h.Events[i].Session {
				if e.Type == "MESSAGE_CREATE" && e.Channel == flipChannel && (e.Author == h.Events[i].User || h.Events[i].User == 0 && guestID(e.Author)) {
					return j
				}
				return -1
			}
		}
		return -1
	}
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && e.Client == "w2" && e.Kind == Hide && before(i) >= 0
	})
	if ok {
		j := before(i)
		a, b := h.Events[j], h.Events[i]
		a.Seq, b.Seq, a.T, b.T = b.Seq, a.Seq, b.T, a.T
		h.Events[j], h.Events[i] = b, a
	}
	return ok
}

// keptOutAccepted answers a refused guest with success.
func keptOutAccepted(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	i, ok := pick(r, h, func(_ int, e Event) bool {
		if e.Op != Ret || e.Status != 403 {
			return false
		}
		s := sentOf(h, e)
		_, hidden := m.veils[flipChannel].hidden(s.Author, s.T, e.T)
		return hidden && s.Kind == Create && m.keys[s.Key].sent == s.T
	})
	if ok {
		h.Events[i].Status, h.Events[i].Message = 200, 7_000_000
	}
	return ok
}

// refusedStored stores what was refused.
func refusedStored(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	i, ok := pick(r, h, func(_ int, e Event) bool {
		return e.Op == Ret && e.Status == 403 && sentOf(h, e).Kind == Create && m.keys[sentOf(h, e).Key].refused
	})
	if ok {
		s := sentOf(h, h.Events[i])
		h.Final.Rows = append(h.Final.Rows, Row{ID: 7_000_000, Channel: s.Channel, Author: s.Author, Content: s.Text})
	}
	return ok
}

// dropShown takes away from a guest what was sent while the guest saw the channel.
func dropShown(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	i, ok := pick(r, h, func(i int, e Event) bool {
		if e.Op != Recv || e.Type != "MESSAGE_CREATE" || e.Channel != flipChannel || !guestID(m.users[e.Client]) {
			return false
		}
		msg := m.keys[keyOf(e.Text)]
		s := m.sessions[slices.IndexFunc(m.sessions, func(s *session) bool { return s.name == e.Session })]
		behind := slices.IndexFunc(s.recv, func(o *Event) bool {
			return o.Type == "MESSAGE_CREATE" && m.keys[keyOf(o.Text)].sent > msg.acked
		})
		return msg.sent > s.ready && behind >= 0 && !m.veils[flipChannel].mayHide(s.user, msg.sent, s.recv[behind].T)
	})
	if ok {
		session := h.Events[i].Session
		remove(h, i)
		shift(h, i, session, -1)
	}
	return ok
}

// changeBehindDelete lets an edit come again behind the delete of its message.
func changeBehindDelete(r *rand.Rand, h *History) bool {
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && e.Type == "MESSAGE_DELETE" && slices.ContainsFunc(h.Events[:i], func(o Event) bool {
			return o.Session == e.Session && o.Type == "MESSAGE_CREATE" && o.Message == e.Message
		})
	})
	if !ok {
		return false
	}
	e := h.Events[i]
	j := slices.IndexFunc(h.Events[:i], func(o Event) bool {
		return o.Session == e.Session && o.Type == "MESSAGE_CREATE" && o.Message == e.Message
	})
	late := h.Events[j]
	late.Type, late.Edited, late.T, late.Seq = "MESSAGE_UPDATE", "late", e.T, e.Seq+1
	h.Events = slices.Insert(h.Events, i+1, late)
	shift(h, i+2, e.Session, 1)
	return true
}

// lateChange delivers an edit or delete behind what was sent after it was acknowledged.
func lateChange(r *rand.Rand, h *History) bool {
	m := newModel(*h)
	next := func(i int) int {
		e := h.Events[i]
		for j := i + 1; j < len(h.Events); j++ {
			if o := h.Events[j]; o.Op == Recv && o.Session == e.Session && o.Channel == e.Channel && o.Message != 0 {
				_, acked, ok := m.told(&e)
				if sent, _, is := m.told(&o); ok && is && o.Type == "MESSAGE_CREATE" && acked < sent {
					return j
				}
				return -1
			}
		}
		return -1
	}
	i, ok := pick(r, h, func(i int, e Event) bool {
		return e.Op == Recv && (e.Type == "MESSAGE_UPDATE" || e.Type == "MESSAGE_DELETE") && !e.Kind.isMark() && e.Channel != flipChannel && next(i) >= 0
	})
	if ok {
		j := next(i)
		a, b := h.Events[i], h.Events[j]
		a.Seq, b.Seq, a.T = b.Seq, a.Seq, b.T
		h.Events[i], h.Events[j] = b, a
	}
	return ok
}

// TestDecode_PassesOverATornLine: a client that is killed leaves half a line.
func TestDecode_PassesOverATornLine(t *testing.T) {
	t.Parallel()
	events, err := Decode(strings.NewReader("{\"op\":\"end\",\"t\":1,\"c\":\"w\"}\n{\"op\":\"en"))
	if err != nil || len(events) != 1 || events[0].Op != End {
		t.Errorf("got %v, %v", events, err)
	}
}

func TestMerge_KeepsTheOrderOfTimes(t *testing.T) {
	t.Parallel()
	f := func(want string, many, few []int64) {
		t.Helper()
		events := func(times []int64) (all []Event) {
			for _, at := range times {
				all = append(all, Event{T: at})
			}
			return all
		}
		got := ""
		for _, e := range merge(events(many), events(few)) {
			got += fmt.Sprint(e.T, " ")
		}
		if got != want {
			t.Errorf("%v and %v: got %s, want %s", many, few, got, want)
		}
	}
	f("", nil, nil)
	f("1 2 ", nil, []int64{1, 2})
	f("1 2 ", []int64{1, 2}, nil)
	f("1 2 3 4 5 ", []int64{2, 4}, []int64{1, 3, 5})
	f("1 1 2 9 ", []int64{1, 2, 9}, []int64{1})
}
