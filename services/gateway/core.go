package gateway

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

var (
	eventsTotal     = metrics.NewCounter(`xcord_gateway_events_total`)
	deliveriesTotal = metrics.NewCounter(`xcord_gateway_deliveries_total`)
	changesTotal    = metrics.NewCounter(`xcord_gateway_view_changes_total`)
	unfoldable      = metrics.NewCounter(`xcord_gateway_unfoldable_entries_total`)
	unexpandable    = metrics.NewCounter(`xcord_gateway_unexpandable_entries_total`)
)

// coldMax and coldBytesMax bound the cold entries that are kept to bring forward what was read from Redis a moment ago.
// 4096 are more than a busy host makes in a minute.
const (
	coldMax      = 4096
	coldBytesMax = 16 << 20
)

// core is what entries and sessions meet in: everything of it is at one position of the log.
type core struct {
	links *token.Links // set once, before the first entry

	mu     sync.Mutex // guards everything below; held for no I/O
	hub    *hub.Hub
	ring   *hub.Ring[[]*hub.Event]
	cold   *hub.Ring[bus.Entry]
	pos    bus.Position
	guilds map[id.ID]*copied
	seats  map[*session.Session]seat
	owe    func(r *record, p bus.Position) // told of each change of a view that is handed out
}

// seat is what the core knows of an attached session.
type seat struct {
	record *record
	paint  painter
}

func newCore(ringMax, ringBytesMax int, owe func(*record, bus.Position)) *core {
	return &core{
		hub:    hub.New(),
		ring:   hub.NewRing[[]*hub.Event](bus.Position{}, ringMax, ringBytesMax),
		cold:   hub.NewRing[bus.Entry](bus.Position{}, coldMax, coldBytesMax),
		guilds: map[id.ID]*copied{},
		seats:  map[*session.Session]seat{},
		owe:    owe,
	}
}

func (c *core) sessions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hub.Len()
}

// position is up to which entry everything has been offered.
func (c *core) position() bus.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pos
}

// since reads the ring from a place on.
func (c *core) since(p hub.Point) ([]hub.Record[[]*hub.Event], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.Since(p)
}

// wants says whether a guild has to be read before an entry can be taken in: somebody who is here joins a guild that
// nobody here has watched.
func (c *core) wants(e bus.Entry) bool {
	if e.Type != wire.MemberJoined {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hub.Here(e.User) && c.guilds[e.Guild] == nil
}

// take brings the core behind an entry: first the copy moves, then the views, and the events come last, judged by the
// new views. loaded is what wants asked for, extra are events that took reading to make. broken means that the copy of the
// guild has to be read anew.
func (c *core) take(e bus.Entry, loaded *reading, extra []*hub.Event) (broken bool) {
	e.Body = c.links.Show(e.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.pos.Less(e.Pos) {
		return false
	}
	c.pos = e.Pos
	var guild *roster.Guild
	if e.Version > 0 {
		c.cold.Append(e.Pos, e, len(e.Body))
		if e.Guild != 0 {
			guild, broken = c.move(e, loaded)
		}
	}
	if guild == nil {
		guild = loaded.guild()
	}
	events, err := expand(e, guild)
	if err != nil {
		unexpandable.Inc()
		slog.Error("entry cannot be told to clients", "entry", e.Pos.String(), "type", string(e.Type), "err", err)
	}
	c.tell(append(events, extra...))
	return broken
}

// tell puts the events of the entry at pos into the ring and sends them.
func (c *core) tell(events []*hub.Event) {
	if len(events) == 0 {
		return
	}
	c.ring.Append(c.pos, events, place(events, c.pos))
	for _, ev := range events {
		deliveriesTotal.Add(c.hub.Send(ev))
	}
	eventsTotal.Add(len(events))
}

// place makes these the durable events of the entry at p, and says how large they are.
func place(events []*hub.Event, p bus.Position) (bytes int) {
	for i, ev := range events {
		ev.Point, ev.Durable = hub.Point{Pos: p, Index: i}, true
		bytes += eventBytes + len(ev.Body)
		if ev.Bare != nil {
			bytes += len(ev.Body)
		}
	}
	return bytes
}

// eventBytes is about what an event takes beside its bodies: itself, its places in slices, and what makes the bare one.
const eventBytes = 400

// send tells what is not durable.
func (c *core) send(events ...*hub.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range events {
		eventsTotal.Inc()
		deliveriesTotal.Add(c.hub.Send(ev))
	}
}

// move folds a cold entry into its guild's copy and then changes the views of those whom it concerns. It returns the guild
// as it is afterwards; nil when nobody here watches it or it is gone.
func (c *core) move(e bus.Entry, loaded *reading) (guild *roster.Guild, broken bool) {
	cp := c.guilds[e.Guild]
	if cp == nil {
		if cp = c.adopt(e, loaded); cp == nil {
			return nil, false
		}
		c.reviewAll(cp, nil)
		return cp.guild, false
	}
	was := cp.guild
	next, err := roster.Fold(was, e)
	if err != nil {
		unfoldable.Inc()
		slog.Error("guild has to be read anew", "entry", e.Pos.String(), "guild", e.Guild.String(), "err", err)
		return was, true
	}
	// Records follow the log entry by entry, also when the guild itself was read at a later position.
	for _, user := range c.concerned(e, cp) {
		m, err := roster.FoldMember(cp.members[user], user, e)
		switch {
		case err != nil:
			slog.Error("member has to be read anew", "entry", e.Pos.String(), "guild", e.Guild.String(), "err", err)
			broken = true
		case m == nil:
			delete(cp.members, user)
		default:
			cp.members[user] = m
		}
	}
	if next == nil {
		delete(c.guilds, e.Guild)
		c.lose(e.Guild, was)
		return nil, broken
	}
	cp.move(next)
	switch e.Type {
	case wire.MemberJoined, wire.MemberUpdated, wire.MemberRemoved:
		c.review(e.User, e.Guild, cp, was)
	case wire.BanAdded, wire.BanRemoved, wire.InviteCreated, wire.InviteDeleted, wire.WebhookChanged, wire.WebhookDeleted:
	default:
		c.reviewAll(cp, was)
	}
	return next, broken
}

// concerned are the users whose records an entry may change.
func (c *core) concerned(e bus.Entry, cp *copied) []id.ID {
	switch e.Type {
	case wire.MemberJoined, wire.MemberUpdated, wire.MemberRemoved:
		if _, have := cp.members[e.User]; have || c.hub.Here(e.User) {
			return []id.ID{e.User}
		}
		return nil
	case wire.RoleDeleted, wire.ServerDeleted:
		return slices.Collect(maps.Keys(cp.members))
	}
	return nil
}

// adopt makes the copy of a guild that nobody here has watched so far, when the entry brings in somebody who is here.
func (c *core) adopt(e bus.Entry, loaded *reading) *copied {
	var cp *copied
	switch {
	case loaded != nil && loaded.Guild != nil:
		cp = newCopy(loaded.Guild)
		maps.Copy(cp.members, loaded.Members)
	case e.Type == wire.ServerCreated:
		var p wire.ServerCreatedPayload
		g, err := roster.Fold(nil, e)
		if err = errors.Join(err, json.Unmarshal(e.Body, &p)); err != nil {
			unfoldable.Inc()
			slog.Error("guild cannot be made", "entry", e.Pos.String(), "guild", e.Guild.String(), "err", err)
			return nil
		}
		cp = newCopy(g)
		for i := range p.Members {
			if m := &p.Members[i]; c.hub.Here(m.UserID) {
				cp.members[m.UserID] = m
			}
		}
	}
	if cp == nil || len(cp.members) == 0 {
		return nil
	}
	c.guilds[e.Guild] = cp
	return cp
}

// replace sets a guild's copy that was read anew, at a position that is not before the core's.
func (c *core) replace(guild id.ID, state roster.GuildState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cp := c.guilds[guild]
	if cp == nil {
		return
	}
	was := cp.guild
	cp.members = state.Members
	if state.Guild == nil {
		delete(c.guilds, guild)
		c.lose(guild, was)
		return
	}
	cp.move(state.Guild)
	for sub, st := range c.seats {
		if _, sees := c.hub.View(st.record.user, sub).Guilds[guild]; sees {
			c.review(st.record.user, guild, cp, was)
		}
	}
	c.reviewAll(cp, was)
}

// members are the users of a guild whose records are kept.
func (c *core) members(guild id.ID) []id.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cp := c.guilds[guild]; cp != nil {
		return slices.Collect(maps.Keys(cp.members))
	}
	return nil
}

func (c *core) reviewAll(cp *copied, was *roster.Guild) {
	for user := range cp.members {
		c.review(user, cp.guild.ID, cp, was)
	}
}

// lose takes a guild from everybody who saw it.
func (c *core) lose(guild id.ID, was *roster.Guild) {
	for sub, st := range c.seats {
		if _, sees := c.hub.View(st.record.user, sub).Guilds[guild]; sees {
			c.review(st.record.user, guild, nil, was)
		}
	}
}

// review finds what a user sees of a guild by now, and tells those of their sessions for which that is new.
func (c *core) review(user, guild id.ID, cp *copied, was *roster.Guild) {
	var class *hub.Class
	var is *roster.Guild
	var m *wire.MemberRecord
	if cp != nil {
		class, is, m = cp.classOf(user), cp.guild, cp.members[user]
	}
	c.hub.Views(user, func(sub hub.Subscriber, v *hub.View) {
		s := sub.(*session.Session)
		st := c.seats[s]
		if v.Guilds[guild] == class || !st.record.shape.shard.Has(guild) {
			return
		}
		changesTotal.Inc()
		next := v.With(guild, class)
		c.hub.Change(sub, next)
		if s.Change(&session.Change{Point: hub.Before(c.pos), View: next, Body: st.paint.steps(was, one(is, m, class))}) {
			c.owe(st.record, c.pos)
		}
	})
}

// sweep drops the copies that nobody has watched for so long that no session can come back to them, and the records of users
// who are not here.
func (c *core) sweep(now time.Time, window time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for guild, cp := range c.guilds {
		maps.DeleteFunc(cp.members, func(user id.ID, _ *wire.MemberRecord) bool { return !c.hub.Here(user) })
		if c.hub.Watched(guild) {
			cp.watched = now
			continue
		}
		// One that was just read counts from the first time that it is seen here.
		if cp.watched.IsZero() {
			cp.watched = now
		}
		if now.Sub(cp.watched) > 2*window {
			delete(c.guilds, guild)
		}
	}
}
