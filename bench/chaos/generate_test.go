package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// The generator is a correct server of a few lines: one log, posters whose attempts are lost on the way there or back, and
// watchers whose connections break.

const (
	flipChannel = id.ID(3)
	channelsMax = 3 // the last one is hidden now and then
	ownerClient = "owner"
	bounced     = id.ID(101) // a guest who is thrown out, besides
	flipperID   = id.ID(200)
	idStep      = 10 // there is room for what a mutant brings
)

// The posters 100 and 101 are guests, 102 is a member. Of the watchers two are the guests, one the member, one a stranger.

// entry is one of the generator's log.
type entry struct {
	kind    Kind
	msg     id.ID
	key     string
	text    string
	edited  string
	channel id.ID
	author  id.ID
	pinned  bool  // of an edit or a pin: what its message says
	of      id.ID // of what the server says: the message that was pinned
	// Instead of a message: the channel is hidden or shown. user is from whom, 0 for all guests.
	user id.ID
}

type genPoster struct {
	client  string
	author  id.ID
	made    []*genMessage
	pending *Event // the attempt under way
	landed  bool
	status  int
	call    int64
	count   int
	again   *Event // must be repeated: it was not answered
}

type genMessage struct {
	id      id.ID
	key     string
	channel id.ID
	version int
	deleted bool
}

type genWatcher struct {
	client   string
	user     id.ID
	gone     bool // it was told that it does not see the flip channel
	session  int
	seq      int64
	cursor   int
	attached bool
}

type generator struct {
	r        *rand.Rand
	t        int64
	h        History
	log      []entry
	nonces   map[string]id.ID
	marks    map[Mark]bool
	posters  []*genPoster
	watchers []*genWatcher
	hidden   map[id.ID]bool // by user, 0 for all guests
	next     id.ID
}

func guestID(user id.ID) bool { return user == 100 || user == bounced }

// sees says what a user sees after the log so far, or up to an entry of it.
func (g *generator) sees(user id.ID, log []entry) bool {
	if !guestID(user) {
		return user == 102
	}
	hidden := map[id.ID]bool{}
	for _, e := range log {
		if e.kind == Hide || e.kind == Show {
			hidden[e.user] = e.kind == Hide
		}
	}
	return !hidden[0] && !hidden[user]
}

// generate makes a correct history of about n steps.
func generate(seed uint64, n int) History {
	g := &generator{r: rand.New(rand.NewPCG(seed, 1)), nonces: map[string]id.ID{}, next: 1000, t: 1, hidden: map[id.ID]bool{},
		marks: map[Mark]bool{}}
	g.h.Flips, g.h.Guests, g.h.Members = []id.ID{flipChannel}, []id.ID{100, bounced}, []id.ID{102, flipperID}
	for i := range 3 {
		g.posters = append(g.posters, &genPoster{client: fmt.Sprint("p", i), author: id.ID(100 + i)})
	}
	for i := range 4 {
		g.watchers = append(g.watchers, &genWatcher{client: fmt.Sprint("w", i), user: id.ID(100 + i)})
	}
	for range n {
		g.t += (1 + g.r.Int64N(3)) * 1e6
		switch g.r.IntN(20) {
		case 0:
			g.read()
		case 1:
			g.flip([]id.ID{0, bounced}[g.r.IntN(2)])
		case 2, 3, 4, 5, 6, 7, 8, 9:
			g.watch(g.watchers[g.r.IntN(len(g.watchers))])
		default:
			g.post(g.posters[g.r.IntN(len(g.posters))])
		}
	}
	g.end()
	return g.h
}

func (g *generator) note(e Event) {
	g.t++
	e.T = g.t
	g.h.Events = append(g.h.Events, e)
}

// post takes a poster one step on: an attempt leaves, or is in the log, or is answered.
func (g *generator) post(p *genPoster) {
	switch {
	case p.pending == nil:
		e := p.again
		if e == nil {
			e = g.wish(p)
		}
		p.call++
		e.Op, e.Client, e.Call, e.Author = Send, p.client, p.call, p.author
		p.pending, p.again, p.landed, p.status = e, nil, false, 0
		g.note(*e)
		if g.r.IntN(10) == 0 { // it is lost on the way there
			p.landed = true
		}
	case !p.landed:
		g.land(p)
	default:
		e := p.pending
		p.pending = nil
		if p.status == 0 || g.r.IntN(10) == 0 { // or on the way back
			g.note(Event{Op: Ret, Client: p.client, Call: e.Call})
			p.again = e
			return
		}
		g.note(Event{Op: Ret, Client: p.client, Call: e.Call, Status: p.status, Message: g.nonces[e.Key]})
		if e.Kind == Create && p.status == 200 {
			p.made = append(p.made, &genMessage{id: g.nonces[e.Key], key: e.Key, channel: e.Channel})
		}
	}
}

// wish is what a poster wants next.
func (g *generator) wish(p *genPoster) *Event {
	if e := g.wishMark(p); e != nil && g.r.IntN(2) == 0 {
		return e
	}
	if n := len(p.made); n > 0 && g.r.IntN(4) == 0 {
		if m := p.made[g.r.IntN(n)]; !m.deleted {
			if g.r.IntN(3) == 0 {
				m.deleted = true
				return &Event{Kind: Delete, Key: m.key, Channel: m.channel, Message: m.id}
			}
			m.version++
			return &Event{Kind: Edit, Key: m.key, Text: text(m.key, m.version), Channel: m.channel, Message: m.id}
		}
	}
	p.count++
	key := fmt.Sprintf("%s-%d", p.client, p.count)
	return &Event{Kind: Create, Key: key, Text: text(key, 0), Channel: id.ID(1 + g.r.IntN(channelsMax))}
}

// land is the server's part.
func (g *generator) land(p *genPoster) {
	e := p.pending
	p.landed, p.status = true, 200
	if e.Kind.isMark() {
		p.status = g.mark(e, p.author)
		return
	}
	add := entry{kind: e.Kind, msg: e.Message, key: e.Key, text: e.Text, channel: e.Channel, author: p.author}
	if e.Channel == flipChannel && !g.sees(p.author, g.log) && g.nonces[e.Key] == 0 {
		p.status = 403
		return
	}
	switch e.Kind {
	case Create:
		if g.nonces[e.Key] != 0 {
			return
		}
		g.next += idStep
		g.nonces[e.Key] = g.next
		add.msg = g.next
	case Delete, Edit:
		if e.Channel == flipChannel && !g.sees(p.author, g.log) {
			p.status = 403
			return
		}
		if e.Kind == Edit {
			add.edited, add.pinned = fmt.Sprint(len(g.log)), g.marks[Mark{Message: e.Message}]
			break
		}
		if slices.ContainsFunc(g.log, func(l entry) bool { return l.kind == Delete && l.msg == e.Message }) {
			p.status = 404
			return
		}
		maps.DeleteFunc(g.marks, func(k Mark, _ bool) bool { return k.Message == e.Message })
	}
	g.log = append(g.log, add)
}

// flip hides the channel from a guest or all, or shows it. An answer may be lost.
func (g *generator) flip(user id.ID) {
	kind := Hide
	if g.hidden[user] {
		kind = Show
	}
	g.hidden[user] = kind == Hide
	for try := 0; ; try++ {
		call := g.t
		g.note(Event{Op: Send, Client: ownerClient, Call: call, Kind: kind, Channel: flipChannel, User: user, Author: flipperID})
		if try == 0 {
			g.log = append(g.log, entry{kind: kind, channel: flipChannel, user: user})
		}
		if g.r.IntN(20) == 0 {
			g.note(Event{Op: Ret, Client: ownerClient, Call: call})
			continue
		}
		for _, w := range g.watchers {
			if guestID(w.user) { // they read at once what they are sent
				g.deliver(w, len(g.log))
			}
		}
		status := 204
		if try > 0 && user != 0 && kind == Hide {
			status = 404
		}
		g.note(Event{Op: Ret, Client: ownerClient, Call: call, Status: status})
		return
	}
}

// fold is what the log comes to.
func (g *generator) fold() (rows []Row) {
	for _, e := range g.log {
		at := slices.IndexFunc(rows, func(r Row) bool { return r.ID == e.msg })
		switch {
		case e.kind == Create:
			rows = append(rows, Row{ID: e.msg, Channel: e.channel, Author: e.author, Content: e.text, Announces: e.of})
		case e.kind == Edit && at >= 0:
			rows[at].Content = e.text
		case e.kind == Delete && at >= 0:
			rows = slices.Delete(rows, at, at+1)
		}
	}
	for i := range rows {
		rows[i].Pinned = g.marks[Mark{Message: rows[i].ID}]
	}
	return rows
}

func (g *generator) read() {
	t0 := g.t
	channel := id.ID(1 + g.r.IntN(channelsMax))
	var page []Seen
	rows := g.fold()
	for i := len(rows) - 1; i >= 0 && len(page) < 10; i-- {
		if rows[i].Channel == channel {
			page = append(page, g.seen(rows[i], 100))
		}
	}
	g.note(Event{Op: Read, Client: ownerClient, Author: 100, T0: t0, Status: 200, Channel: channel, Limit: 10, Page: page})
}

// watch takes a watcher one step on.
func (g *generator) watch(w *genWatcher) {
	switch {
	case !w.attached:
		w.session++
		w.seq, w.cursor, w.attached = 1, len(g.log), true
		g.note(Event{Op: Recv, Client: w.client, Session: w.name(), Seq: 1, Type: "READY", Author: w.user})
		w.gone = !g.sees(w.user, g.log)
	case g.r.IntN(8) == 0 && g.r.IntN(2) == 0:
		g.note(Event{Op: Invalid, Client: w.client})
		w.attached = false
	case g.r.IntN(6) == 0:
		g.note(Event{Op: Resume, Client: w.client, Session: w.name(), Seq: w.seq})
		g.note(Event{Op: Recv, Client: w.client, Session: w.name(), Seq: w.seq, Type: "RESUMED"})
	default:
		g.deliver(w, min(len(g.log), w.cursor+1+g.r.IntN(6)))
	}
}

func (w *genWatcher) name() string { return fmt.Sprintf("%s.%d", w.client, w.session) }

func (g *generator) deliver(w *genWatcher, to int) {
	for w.attached && w.cursor < to {
		e := g.log[w.cursor]
		w.cursor++
		if e.kind == Hide || e.kind == Show {
			g.tell(w, e)
			continue
		}
		if e.channel == flipChannel && !g.sees(w.user, g.log[:w.cursor]) {
			continue
		}
		if e.kind.isMark() {
			g.tellMark(w, e)
			continue
		}
		w.seq++
		kind := map[Kind]string{Create: "MESSAGE_CREATE", Edit: "MESSAGE_UPDATE", Delete: "MESSAGE_DELETE"}[e.kind]
		author := e.author
		if e.kind == Delete {
			author = 0
		}
		g.note(Event{Op: Recv, Client: w.client, Session: w.name(), Seq: w.seq, Type: kind, Channel: e.channel, Message: e.msg,
			Text: e.text, Edited: e.edited, Pinned: e.pinned, Author: author})
	}
}

// tell says what a change of what may be seen means to a watcher.
func (g *generator) tell(w *genWatcher, e entry) {
	out := Event{Op: Recv, Client: w.client, Session: w.name(), Kind: e.kind, Channel: flipChannel, Type: "CHANNEL_UPDATE", User: e.user}
	switch {
	case w.user == 102 && e.user != 0:
		out.Type = map[Kind]string{Hide: "GUILD_MEMBER_REMOVE", Show: "GUILD_MEMBER_ADD"}[e.kind]
	case w.user == 102:
	case guestID(w.user) && w.gone == g.sees(w.user, g.log[:w.cursor]):
		w.gone, out.User = !w.gone, 0
		out.Kind = map[bool]Kind{true: Hide, false: Show}[w.gone]
		out.Type = map[bool]string{true: "CHANNEL_DELETE", false: "CHANNEL_CREATE"}[w.gone]
	default:
		return
	}
	w.seq++
	out.Seq = w.seq
	g.note(out)
}

// end lets everything come to rest.
func (g *generator) end() {
	for _, user := range []id.ID{0, bounced} {
		if g.hidden[user] {
			g.flip(user)
		}
	}
	for _, w := range g.watchers {
		for !w.attached {
			g.watch(w)
		}
	}
	for _, p := range g.posters {
		for p.pending != nil || p.again != nil {
			g.post(p)
		}
	}
	last := g.posters[0]
	for channel := range channelsMax {
		last.count++
		key := fmt.Sprintf("%s-%d", last.client, last.count)
		last.again = &Event{Kind: Create, Key: key, Text: text(key, 0), Channel: id.ID(1 + channel)}
		for last.pending != nil || last.again != nil {
			g.post(last)
		}
	}
	for _, w := range g.watchers {
		g.deliver(w, len(g.log))
		g.note(Event{Op: End, Client: w.client})
	}
	g.h.Final.Rows = g.fold()
	g.finish()
}
