package hub

import (
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// Subscriber is a session as the hub sees it. Offer must not block; false means that the subscriber takes nothing any
// more, and that its owner will detach it.
type Subscriber interface {
	Offer(e *Event) bool
}

// Hub is who is here: for each guild the groups of sessions that see the same, and the sessions of each user.
type Hub struct {
	guilds map[id.ID]map[groupKey]*group
	users  map[id.ID]map[Subscriber]*seat
	count  int
}

// groupKey holds the class by pointer: whoever makes classes makes one for all who see the same.
type groupKey struct {
	class   *Class
	intents wire.Intents
}

// group is the sessions of a guild for which an event is visible or not all at once.
type group struct {
	key     groupKey
	members []*seat
}

// seat is one attached subscriber. index is where it sits in its groups.
type seat struct {
	sub    Subscriber
	view   *View
	groups map[id.ID]placed
}

type placed struct {
	group *group
	index int
}

// New makes an empty Hub.
func New() *Hub {
	return &Hub{guilds: map[id.ID]map[groupKey]*group{}, users: map[id.ID]map[Subscriber]*seat{}}
}

// Len is how many subscribers are attached.
func (h *Hub) Len() int { return h.count }

// Attach adds a subscriber, which gets every event from now on that its view shows.
func (h *Hub) Attach(sub Subscriber, v *View) {
	seats := h.users[v.User]
	if seats == nil {
		seats = map[Subscriber]*seat{}
		h.users[v.User] = seats
	}
	if seats[sub] != nil {
		panic("BUG: a subscriber was attached twice")
	}
	s := &seat{sub: sub, view: v, groups: make(map[id.ID]placed, len(v.Guilds))}
	seats[sub] = s
	h.count++
	for _, c := range v.Guilds {
		h.sit(s, c)
	}
}

// Change gives an attached subscriber another view of the same user with the same intents.
func (h *Hub) Change(sub Subscriber, next *View) {
	s := h.users[next.User][sub]
	if s == nil {
		panic("BUG: the view of a subscriber was changed that is not attached")
	}
	for g, c := range s.view.Guilds {
		if next.Guilds[g] != c {
			h.rise(s, g)
		}
	}
	for g, c := range next.Guilds {
		if s.view.Guilds[g] != c {
			h.sit(s, c)
		}
	}
	s.view = next
}

// Detach removes a subscriber, and says what its view was; nil when it was not attached.
func (h *Hub) Detach(user id.ID, sub Subscriber) *View {
	s := h.users[user][sub]
	if s == nil {
		return nil
	}
	for g := range s.view.Guilds {
		h.rise(s, g)
	}
	delete(h.users[user], sub)
	if len(h.users[user]) == 0 {
		delete(h.users, user)
	}
	h.count--
	return s.view
}

// Here says whether a user has a session here.
func (h *Hub) Here(user id.ID) bool { return len(h.users[user]) > 0 }

// View is that of an attached subscriber.
func (h *Hub) View(user id.ID, sub Subscriber) *View {
	s := h.users[user][sub]
	if s == nil {
		panic("BUG: a subscriber that is not attached has no view")
	}
	return s.view
}

// Views calls do for each session of a user. do may change the view of that session.
func (h *Hub) Views(user id.ID, do func(sub Subscriber, v *View)) {
	for sub, s := range h.users[user] {
		do(sub, s.view)
	}
}

// Watched says whether any session here sees a guild.
func (h *Hub) Watched(guild id.ID) bool { return len(h.guilds[guild]) > 0 }

// Send offers an event to everybody for whom it is visible, and says to how many.
func (h *Hub) Send(e *Event) int {
	if e.User != 0 || e.Guild == 0 {
		return h.sendToUser(e)
	}
	sent := 0
	for key, g := range h.guilds[e.Guild] {
		if !shows(e, key.class, key.intents) {
			continue
		}
		for _, s := range g.members {
			if s.view.User != e.Except && s.sub.Offer(e) {
				sent++
			}
		}
	}
	return sent
}

func (h *Hub) sendToUser(e *Event) int {
	sent := 0
	for _, s := range h.users[e.User] {
		if Visible(e, s.view) && s.sub.Offer(e) {
			sent++
		}
	}
	return sent
}

func (h *Hub) sit(s *seat, c *Class) {
	groups := h.guilds[c.Guild]
	if groups == nil {
		groups = map[groupKey]*group{}
		h.guilds[c.Guild] = groups
	}
	key := groupKey{class: c, intents: s.view.Intents}
	g := groups[key]
	if g == nil {
		g = &group{key: key}
		groups[key] = g
	}
	s.groups[c.Guild] = placed{group: g, index: len(g.members)}
	g.members = append(g.members, s)
}

// rise takes the last member of the group into the place that becomes free.
func (h *Hub) rise(s *seat, guild id.ID) {
	at := s.groups[guild]
	delete(s.groups, guild)
	last := len(at.group.members) - 1
	if moved := at.group.members[last]; moved != s {
		at.group.members[at.index] = moved
		moved.groups[guild] = at
	}
	at.group.members[last] = nil
	at.group.members = at.group.members[:last]
	if last == 0 {
		delete(h.guilds[guild], at.group.key)
		if len(h.guilds[guild]) == 0 {
			delete(h.guilds, guild)
		}
	}
}
