package chaos

import (
	"net/http"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// veil is a time during which a channel is hidden, from one guest or from all.
type veil struct {
	user         id.ID // 0: all guests
	sent, acked  int64 // the hiding
	lifted, seen int64 // the showing: when it was first wanted, and acknowledged
}

func (v veil) covers(user id.ID) bool { return v.user == 0 || v.user == user }

// veils are all of one channel.
type veils struct {
	all []veil
	// Attempts that were not answered take effect at any time within looseTime, or never.
	looseHides, looseShows []veil // of these only user and sent
}

// looseTime is for how long an attempt that was not answered may still take effect: above what a server spends on a request and for
// how long this suite stops one.
const looseTime = int64(20e9)

// takeVeil notes an attempt to hide or to show.
func (m *model) takeVeil(e, answer *Event) {
	v := m.veils[e.Channel]
	if v == nil {
		v = &veils{}
		m.veils[e.Channel] = v
	}
	acked, open := never, -1
	if succeeded(answer) || v.done(e, answer) {
		acked = answer.T
	}
	for i, o := range v.all {
		if o.user == e.User && o.seen == never {
			open = i
		}
	}
	switch {
	case e.Kind == Hide && (open < 0 || v.all[open].lifted < never):
		v.all = append(v.all, veil{user: e.User, sent: e.T, acked: acked, lifted: never, seen: never})
	case e.Kind == Hide:
		v.all[open].acked = min(v.all[open].acked, acked)
	case open >= 0:
		v.all[open].lifted, v.all[open].seen = min(v.all[open].lifted, e.T), acked
	}
	if !unknown(answer) {
		return
	}
	loose := veil{user: e.User, sent: e.T}
	if e.Kind == Hide {
		v.looseHides = append(v.looseHides, loose)
	} else {
		v.looseShows = append(v.looseShows, loose)
	}
}

// done says that a refusal means that an attempt that was not answered has done it: who is not there cannot be kicked.
func (v *veils) done(e, answer *Event) bool {
	return denied(answer) && answer.Status == http.StatusNotFound && e.Kind == Hide && e.User != 0 &&
		slices.ContainsFunc(v.looseHides, func(l veil) bool { return l.user == e.User && l.sent < e.T })
}

func loosely(attempts []veil, user id.ID, from, to int64) bool {
	// They are in the order of their times.
	i, _ := slices.BinarySearchFunc(attempts, from-looseTime, func(v veil, t int64) int { return int(min(max(v.sent-t, -1), 1)) })
	for _, v := range attempts[i:] {
		if v.sent >= to {
			return false
		}
		if v.covers(user) {
			return true
		}
	}
	return false
}

// hidden says that it is certain that a user did not see the channel at any time between; since is when that was acknowledged.
func (v *veils) hidden(user id.ID, from, to int64) (since int64, ok bool) {
	if v == nil {
		return 0, false
	}
	for _, o := range v.all {
		// What was not answered may have shown it, and so may the other way of showing it: those are independent.
		if o.covers(user) && o.acked < from && to < o.lifted && !slices.ContainsFunc(v.looseShows, func(l veil) bool {
			return l.user == o.user && l.sent < to && o.acked < l.sent+looseTime
		}) {
			return o.acked, true
		}
	}
	return 0, false
}

// mayHide says that a user may not have seen the channel at some time between.
func (v *veils) mayHide(user id.ID, from, to int64) bool {
	if v == nil {
		return false
	}
	return loosely(v.looseHides, user, from, to) || slices.ContainsFunc(v.all, func(o veil) bool {
		return o.covers(user) && o.sent < to && from < o.seen
	})
}

// role is what a user is to the channels that are hidden and shown.
type role int

const (
	stranger role = iota
	guest
	member
)

func (m *model) role(user id.ID) role {
	switch {
	case slices.Contains(m.h.Members, user):
		return member
	case slices.Contains(m.h.Guests, user):
		return guest
	}
	return stranger
}

// checkHidden is I10. Most of it is judged by order, which no delay excuses: in a session nothing of a channel comes behind the word
// that it is gone, and in the log, as members see it, nothing by those who are kept out stands behind what keeps them out. What is
// certain by the clients' clock is judged by that.
func (m *model) checkHidden() {
	for _, s := range m.sessions {
		switch m.role(s.user) {
		case member:
			m.checkKeptOut(s)
		case guest:
			m.checkGuest(s)
		default:
			for _, e := range s.recv {
				if slices.Contains(m.h.Flips, e.Channel) {
					m.broken("I10", e.T, Other, "%s received %s of a channel that it never sees", s.client, e.Type)
				}
			}
		}
	}
	for _, msg := range m.keys {
		if msg.acked == never || msg.poison || m.role(msg.author) == member {
			continue
		}
		if _, ok := m.veils[msg.channel].hidden(msg.author, msg.sent, msg.acked); ok {
			m.broken("I10", msg.acked, Other, "%s was accepted, and its channel was hidden from its author", msg.key)
		}
	}
	m.wishes.each(func(message id.ID, w wish) {
		msg := m.ids[message]
		if msg == nil || w.acked == never || m.role(w.by) == member {
			return
		}
		if _, ok := m.veils[msg.channel].hidden(w.by, w.sent, w.acked); ok {
			m.broken("I10", w.acked, Other, "a change of the marks of %s was accepted, and its channel was hidden from %s", msg.key, w.by)
		}
	})
}

// checkKeptOut looks at the log as a member sees it: what guests say stands where they may.
func (m *model) checkKeptOut(s *session) {
	type place struct{ channel, user id.ID }
	out := map[place]bool{}
	for _, e := range s.recv {
		switch {
		case e.Kind == Hide || e.Kind == Show:
			out[place{e.Channel, e.User}] = e.Kind == Hide
		case e.Type != "MESSAGE_CREATE" && e.Kind != React || m.role(e.Author) == member:
		case out[place{e.Channel, 0}] || out[place{e.Channel, e.Author}]:
			m.broken("I10", e.T, Other, "%s %q stands in the log behind what keeps its author out", e.Type, e.Text)
		}
	}
}

// promptly is how soon after its acknowledgement a hiding has to be seen, when nothing is broken.
const promptly = int64(1e9)

// ownWords tell a guest whether the guest sees a channel.
var ownWords = []string{"CHANNEL_DELETE", "GUILD_DELETE", "CHANNEL_CREATE", "GUILD_CREATE"}

func (m *model) checkGuest(s *session) {
	gone := map[id.ID]bool{}
	for _, e := range s.recv {
		v := m.veils[e.Channel]
		switch {
		case slices.Contains(ownWords, e.Type):
			if e.Kind != "" {
				gone[e.Channel] = e.Kind == Hide
			}
			continue
		case v == nil || e.Message == 0:
			continue
		case gone[e.Channel]:
			m.broken("I10", e.T, Other, "%s received %s of %s behind the word that its channel is gone", s.client, e.Type, e.Message)
			continue
		}
		if sent, _, ok := m.told(e); ok {
			if _, hidden := v.hidden(s.user, sent, e.T); hidden {
				m.broken("I10", e.T, Other, "%s received %s %q, which was sent after its channel was hidden", s.client, e.Type, e.Text)
				continue
			}
		}
		since, hidden := v.hidden(s.user, e.T-1, e.T)
		if !hidden || m.troubled(since, e.T) {
			continue
		}
		m.judged++
		if e.T > since+promptly && m.prompt(s, e.Channel, since, e.T) {
			m.broken("I10", e.T, Other, "%s received %s of %s, %d ms after its channel was hidden", s.client, e.Type, e.Message, (e.T-since)/1e6)
		}
	}
}

// troubled says that something was broken at a time between, or it is not a second since then.
func (m *model) troubled(from, to int64) bool {
	return slices.ContainsFunc(m.h.Troubled, func(s Span) bool { return s.From < to && from < s.To+promptly })
}

// prompt says that what a session got of other channels from one time to another, and in the second behind that, came within half a
// second: machine and clients kept up. There has to be something.
func (m *model) prompt(s *session, but id.ID, from, to int64) (some bool) {
	i, _ := slices.BinarySearchFunc(s.recv, from, func(e *Event, t int64) int { return int(min(max(e.T-t, -1), 1)) })
	for _, e := range s.recv[i:] {
		if e.T > to+promptly {
			break
		}
		sent, _, ok := m.told(e)
		switch {
		case !ok || e.Channel == but:
		case e.T-sent > promptly/2:
			return false
		case e.T <= to:
			some = true
		}
	}
	return some
}
