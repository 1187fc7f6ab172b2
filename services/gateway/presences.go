package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

// onlineMax bounds what is told after RESUMED.
const onlineMax = 1000

// Presence applies op 3.
func (s *Service) Presence(ctx context.Context, sub *session.Session, in wire.PresenceUpdate) error {
	r := s.desk.of(sub)
	if r == nil {
		return nil
	}
	before, _ := s.desk.latest(r)
	s.desk.say(r, s.saidOf(before, &in))
	s.show(ctx, r)
	return nil
}

// saidOf is what a client says of itself as presence has it; nil is a client that says nothing, and is online. The kind of client stays, and
// so does since when it does what it did before. That somebody is away from the keyboard, and since when, is told to nobody and not kept.
func (s *Service) saidOf(before presence.Said, in *wire.PresenceUpdate) presence.Said {
	said := presence.Said{Status: presence.Online, Client: before.Client}
	if in == nil {
		return said
	}
	if in.Status != "" {
		said.Status = presence.Status(in.Status)
	}
	if len(in.Activities) > 0 {
		in.Settle(activitiesOf(before.Activities), s.cfg.Now())
		said.Activities = string(encode(in.Activities))
	}
	return said
}

// ownSessions are those of a person, the one that begins included; bots do not look at each other.
func (s *Service) ownSessions(ctx context.Context, r *record) (out wire.List[wire.OwnSession]) {
	if r.shape.bot {
		return nil
	}
	sockets, err := s.deps.Presence.Sockets(ctx, r.user)
	if err != nil && ctx.Err() == nil {
		slog.Warn("a session is not told of the others of its user", "err", err)
	}
	said, _ := s.desk.latest(r)
	for _, k := range append(sockets, presence.Socket{Session: r.id, Said: said}) {
		out = append(out, wire.OwnSession{
			SessionID: k.Session, Status: string(k.Status), Activities: activitiesOf(k.Activities), ClientInfo: wire.OwnClient{Client: k.Client},
		})
	}
	return out
}

// activitiesOf reads what encode has written; of nobody and of an older format there are none.
func activitiesOf(text string) (out []wire.Activity) {
	if text == "" || json.Unmarshal([]byte(text), &out) != nil {
		return nil
	}
	return out
}

func presenceOf(user, guild id.ID, shown presence.Shown) wire.Presence {
	out := wire.Presence{
		User: wire.UserRef{ID: user}, GuildID: guild, Status: string(shown.Status), Activities: activitiesOf(shown.Activities),
		ClientStatus: map[string]string{},
	}
	if shown.Status == "" {
		out.Status = string(presence.Offline)
	}
	for kind, status := range shown.Clients {
		out.ClientStatus[kind] = string(status)
	}
	return out
}

// show brings to presence how a session shows, whatever has become of that meanwhile: a session may be resumed at the moment
// when it is given up. What does not get through is repeated by presence itself.
func (s *Service) show(ctx context.Context, r *record) {
	for want := s.desk.shown(r); ; {
		var err error
		if want.Status == "" {
			err = s.deps.Presence.Remove(ctx, r.id)
		} else {
			err = s.deps.Presence.Set(ctx, r.user, r.id, want)
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("presence is told later", "err", err)
		}
		now := s.desk.shown(r)
		if now == want {
			return
		}
		want = now
	}
}

// herald tells presences: of each user at most once in a while, and then as it is by that time. One goroutine tells, so what is told
// later is newer.
type herald struct {
	every time.Duration
	wake  chan struct{} // has one element when somebody waits

	mu      sync.Mutex // guards what follows
	waiting map[id.ID]struct{}
	told    map[id.ID]time.Time // of those who were told a while ago at most
}

func newHerald(every time.Duration) *herald {
	return &herald{every: every, wake: make(chan struct{}, 1), waiting: map[id.ID]struct{}{}, told: map[id.ID]time.Time{}}
}

// add lets users wait to be told. It does not block.
func (h *herald) add(users ...id.ID) {
	h.mu.Lock()
	for _, u := range users {
		h.waiting[u] = struct{}{}
	}
	h.mu.Unlock()
	signal(h.wake)
}

// due takes those who are to be told now, and says after how long there are others; 0 when nobody waits.
func (h *herald) due(now time.Time) (users []id.ID, next time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.told, func(_ id.ID, at time.Time) bool { return now.Sub(at) >= h.every })
	for u := range h.waiting {
		if at, just := h.told[u]; just {
			if left := h.every - now.Sub(at); next == 0 || left < next {
				next = left
			}
			continue
		}
		users = append(users, u)
		h.told[u] = now
		delete(h.waiting, u)
	}
	return users, next
}

// presenceChanged is called by presence, in order.
func (s *Service) presenceChanged(_ context.Context, changes []presence.Change) {
	for _, c := range changes {
		s.herald.add(c.User)
	}
}

// tellPresence runs the herald.
func (s *Service) tellPresence(ctx context.Context) error {
	later := time.NewTimer(s.herald.every)
	defer later.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.herald.wake:
		case <-later.C:
		}
		users, next := s.herald.due(time.Now())
		for page := range slices.Chunk(users, wire.MembersPageMax) {
			if err := s.announcePresences(ctx, page); err != nil && ctx.Err() == nil {
				slog.Warn("presences are told later", "err", err)
				s.herald.add(page...)
			}
		}
		if next > 0 {
			later.Reset(next)
		}
	}
}

// announcePresences tells those who share a guild with users, but not the users themselves.
func (s *Service) announcePresences(ctx context.Context, users []id.ID) error {
	shown, err := s.deps.Presence.Shown(ctx, users)
	if err != nil {
		return err
	}
	for _, user := range users {
		guilds, err := s.deps.Roster.GuildsOf(ctx, user)
		if err != nil {
			return err
		}
		events := make([]*hub.Event, len(guilds))
		for i, guild := range guilds {
			events[i] = &hub.Event{
				Name: "PRESENCE_UPDATE", Intents: wire.IntentGuildPresences, Guild: guild, Except: user,
				Body: encode(presenceOf(user, guild, shown[user])),
			}
		}
		s.core.send(events...)
	}
	return nil
}

// presencesAfter tells a session that came back of each user in its guilds who changed meanwhile, once for each guild as it is told live.
// When it is not known any more who did, it tells of all.
func (p *people) presencesAfter(r *record, guilds []sight, wanted bool) func(context.Context, session.Emit) error {
	return func(ctx context.Context, emit session.Emit) error {
		changed, ok := p.presence.Since(r.presence - p.margin.Milliseconds())
		delete(changed, r.user)
		var err error
		switch {
		case !wanted:
		case !ok, len(changed) > onlineMax:
			err = p.allPresences(ctx, r.user, guilds, r.shape.large, emit)
		default:
			err = p.changedPresences(ctx, changed, guilds, emit)
		}
		r.told = err == nil
		return err
	}
}

func (p *people) changedPresences(ctx context.Context, changed map[id.ID]presence.Status, guilds []sight, emit session.Emit) error {
	users := slices.Collect(maps.Keys(changed))
	in, err := p.guildsOf(ctx, users)
	if err != nil {
		return err
	}
	shown, err := p.presence.Shown(ctx, users)
	if err != nil {
		return err
	}
	for _, s := range guilds {
		for _, user := range users {
			if !slices.Contains(in[user], s.guild.ID) {
				continue
			}
			if err := emit("PRESENCE_UPDATE", encode(presenceOf(user, s.guild.ID, shown[user]))); err != nil {
				return err
			}
		}
	}
	return nil
}

// allPresences tells how those show whom GUILD_CREATE would name.
func (p *people) allPresences(ctx context.Context, user id.ID, guilds []sight, large int, emit session.Emit) error {
	sent := 0
	for _, s := range guilds {
		members, shown, err := p.told(ctx, s.guild, large)
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.User.ID == user || sent == onlineMax {
				continue
			}
			sent++
			if err := emit("PRESENCE_UPDATE", encode(presenceOf(m.User.ID, s.guild.ID, shown[m.User.ID]))); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellPresences notes up to when a session has been told presences, unless there are some from before that it has not been told yet.
func (s *Service) tellPresences(r *record) {
	if r.told {
		r.presence = s.deps.Presence.Latest()
	}
}
