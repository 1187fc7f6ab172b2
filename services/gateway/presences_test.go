package gateway

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/wire"
)

// atOnce lets every presence be told without a pause.
var atOnce = Config{PresenceEvery: time.Nanosecond}

// presence reads the next one that is told of a user.
func (s *socket) presence(user id.ID) wire.Presence {
	s.t.Helper()
	for {
		var p wire.Presence
		if s.dispatch("PRESENCE_UPDATE").into(s.t, &p); p.User.ID == user {
			return p
		}
	}
}

func playing(name string) wire.List[wire.Activity] { return wire.List[wire.Activity]{{Name: name}} }

// appear identifies with a presence on a kind of client.
func (b *bundle) appear(user id.ID, browser string, p *wire.PresenceUpdate) (*socket, wire.GuildCreate) {
	b.t.Helper()
	s := b.dial("/?v=10&encoding=json")
	s.send(wire.OpIdentify, wire.Identify{Token: b.token(user), Properties: wire.IdentifyProperties{Browser: browser}, Presence: p})
	var ready wire.Ready
	s.dispatch("READY").into(b.t, &ready)
	s.session = ready.SessionID
	var g wire.GuildCreate
	s.dispatch("GUILD_CREATE").into(b.t, &g)
	return s, g
}

// undated takes from activities when they began, and fails when that is not known.
func undated(t *testing.T, p wire.Presence) wire.Presence {
	t.Helper()
	for i := range p.Activities {
		if p.Activities[i].CreatedAt < 1_500_000_000_000 {
			t.Errorf("an activity began at %d", p.Activities[i].CreatedAt)
		}
		p.Activities[i].CreatedAt = 0
	}
	return p
}

func TestPresence_IsThatOfAllSocketsOnAllGateways(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	b.found()
	other := b.another(atOnce)
	o, _ := b.identify(owner, wire.IntentsAll)
	f := func(status string, activities wire.List[wire.Activity], clients map[string]string) {
		t.Helper()
		want := wire.Presence{User: wire.UserRef{ID: alice}, GuildID: guild, Status: status, Activities: activities, ClientStatus: clients}
		if want.Activities == nil {
			want.Activities = wire.List[wire.Activity]{}
		}
		if diff := cmp.Diff(want, undated(t, o.presence(alice))); diff != "" {
			t.Error(diff)
		}
	}
	a, _ := b.appear(alice, "", &wire.PresenceUpdate{Status: "idle", Activities: playing("chess")})
	f("idle", playing("chess"), map[string]string{"web": "idle"})
	m, g := other.appear(alice, "Chat Android", nil)
	f("online", playing("chess"), map[string]string{"web": "idle", "mobile": "online"})
	if len(g.Presences) != 1 || g.Presences[0].User.ID != owner {
		t.Errorf("alice begins with %+v", g.Presences)
	}
	m.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "dnd", Activities: playing("go"), AFK: true})
	f("dnd", playing("go"), map[string]string{"web": "idle", "mobile": "dnd"})
	_, g = other.appear(bob, "Chat Client", &wire.PresenceUpdate{Status: "invisible", Activities: playing("nothing")})
	var of []wire.Presence
	for _, p := range g.Presences {
		of = append(of, undated(t, p))
	}
	want := []wire.Presence{
		{User: wire.UserRef{ID: owner}, Status: "online", Activities: wire.List[wire.Activity]{}, ClientStatus: map[string]string{"web": "online"}},
		{User: wire.UserRef{ID: alice}, Status: "dnd", Activities: playing("go"), ClientStatus: map[string]string{"web": "idle", "mobile": "dnd"}},
	}
	if diff := cmp.Diff(want, of); diff != "" {
		t.Error(diff)
	}
	// An invisible socket is not there for others: neither what it does, nor on which client.
	m.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "invisible", Activities: playing("go")})
	f("idle", playing("chess"), map[string]string{"web": "idle"})
	a.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "offline", Activities: playing("chess")})
	f("offline", nil, map[string]string{})
	chunk := o.ask(map[string]any{"guild_id": guild, "query": "", "limit": 0, "presences": true})
	if len(chunk[0].Presences) != 1 || chunk[0].Presences[0].User.ID != owner {
		t.Errorf("of whom nobody else is seen: %+v", chunk[0].Presences)
	}
	// For the user it is.
	third := other.dial("/?v=10&encoding=json")
	third.send(wire.OpIdentify, wire.Identify{Token: b.token(alice), Presence: &wire.PresenceUpdate{Status: "invisible"}})
	var ready wire.Ready
	third.dispatch("READY").into(t, &ready)
	own := map[string]string{}
	for _, s := range ready.Sessions {
		own[s.SessionID] = s.Status + " on " + s.ClientInfo.Client
		if want := s.SessionID != ready.SessionID; want != (len(s.Activities) == 1) {
			t.Errorf("one of %d sessions does %+v", len(ready.Sessions), s.Activities)
		}
	}
	if diff := cmp.Diff(map[string]string{a.session: "invisible on web", m.session: "invisible on mobile", ready.SessionID: "invisible on web"}, own); diff != "" {
		t.Error(diff)
	}
	// What it said comes with it to another gateway.
	b.leave(m, 4900)
	back := b.resume(alice, m, m.seq)
	back.dispatch("RESUMED")
	back.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "online"})
	f("online", nil, map[string]string{"mobile": "online"})
}

// TestPresence_SaysSinceWhenItIsSo: an activity that is said again is the same as before.
func TestPresence_SaysSinceWhenItIsSo(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	b.found()
	o, _ := b.identify(owner, wire.IntentsAll)
	a, _ := b.appear(alice, "", &wire.PresenceUpdate{Activities: playing("chess")})
	first := o.presence(alice).Activities[0].CreatedAt
	a.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "online", Activities: playing("chess")}) // which nobody is told
	a.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "idle", Activities: playing("chess")})
	if p := o.presence(alice); p.Status != "idle" || p.Activities[0].CreatedAt != first {
		t.Errorf("it began at %d, now %+v", first, p)
	}
}

// TestPresence_IsToldToWhoMayKnow: who shares a guild and wants to know, and not to the user.
func TestPresence_IsToldToWhoMayKnow(t *testing.T) {
	t.Parallel()
	const carol = id.ID(4)
	b := setup(t, atOnce)
	b.found()
	b.user(carol)
	stranger, _ := b.identify(carol, wire.IntentsAll)
	deaf, guilds := b.identify(bob, wire.IntentsAll&^wire.IntentGuildPresences)
	if len(guilds[0].Presences) != 0 || len(guilds[0].Members) != 1 || guilds[0].Members[0].User.ID != bob || guilds[0].MemberCount != 3 {
		t.Errorf("without the intent for presences one is told of %+v and %+v", guilds[0].Members, guilds[0].Presences)
	}
	o, _ := b.identify(owner, wire.IntentsAll)
	a, _ := b.appear(alice, "", nil)
	o.presence(alice)
	a.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "dnd"})
	if p := o.presence(alice); p.Status != "dnd" {
		t.Errorf("got %+v", p)
	}
	// Told at the same time to all who are told.
	b.say(bob, general, "done")
	for _, s := range []*socket{a, deaf} {
		for f := s.read(); f.T != "MESSAGE_CREATE"; f = s.read() {
			if f.T == "PRESENCE_UPDATE" && (s == deaf || strings.Contains(string(f.D), `{"id":"2"}`)) {
				t.Errorf("told %s", f.D)
			}
		}
	}
	b.cold(wire.UserUpdated, bus.Entry{User: carol}, wire.UserChangedPayload{User: person(carol)})
	if f := stranger.read(); f.T != "USER_UPDATE" {
		t.Errorf("a stranger is told %s %s", f.T, f.D)
	}
}

func TestHerald_TellsOfEachUserOnceInAWhile(t *testing.T) {
	t.Parallel()
	h := newHerald(time.Second)
	now := time.Unix(1000, 0)
	f := func(pass time.Duration, want []id.ID, wait time.Duration) {
		t.Helper()
		now = now.Add(pass)
		users, next := h.due(now)
		if diff := cmp.Diff(want, users); diff != "" || next != wait {
			t.Errorf("next in %v, want %v: %s", next, wait, diff)
		}
	}
	f(0, nil, 0)
	h.add(alice)
	h.add(alice)
	f(0, []id.ID{alice}, 0)
	h.add(alice)
	f(400*time.Millisecond, nil, 600*time.Millisecond)
	h.add(bob)
	f(100*time.Millisecond, []id.ID{bob}, 500*time.Millisecond)
	h.add(alice, bob)
	f(500*time.Millisecond, []id.ID{alice}, 500*time.Millisecond)
	f(500*time.Millisecond, []id.ID{bob}, 0)
	f(2*time.Second, nil, 0)
	if len(h.told) != 0 || len(h.waiting) != 0 {
		t.Errorf("%d users are remembered", len(h.told)+len(h.waiting))
	}
}

// TestPresence_IsToldAsItIsByThen: of many changes in a while the last one is told.
func TestPresence_IsToldAsItIsByThen(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{PresenceEvery: time.Hour})
	b.found()
	o, _ := b.identify(owner, wire.IntentsAll)
	a, _ := b.appear(alice, "", nil)
	o.presence(alice)
	for range 20 {
		a.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "idle"})
		a.send(wire.OpPresenceUpdate, wire.PresenceUpdate{Status: "dnd"})
	}
	a.send(wire.OpHeartbeat, nil) // which is answered when all of that is done
	for a.read().Op != wire.OpHeartbeatACK {
	}
	h := b.service.herald
	for waits := false; !waits; runtime.Gosched() {
		shown, err := b.service.deps.Presence.Shown(t.Context(), []id.ID{alice})
		if err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		_, waits = h.waiting[alice]
		h.mu.Unlock()
		waits = waits && shown[alice].Status == presence.DND
	}
	h.mu.Lock()
	clear(h.told) // the hour is over
	h.mu.Unlock()
	h.add()
	if p := o.presence(alice); p.Status != string(presence.DND) {
		t.Errorf("got %+v", p)
	}
}

// TestPresence_EndsWithASessionThatIsForsaken: its login ended while it was being resumed, and nobody else comes for it.
func TestPresence_EndsWithASessionThatIsForsaken(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	b.found()
	bobs, _ := b.appear(bob, "", nil)
	a, _ := b.appear(alice, "", nil)
	if p := bobs.presence(alice); p.Status != "online" {
		t.Fatalf("alice is %s", p.Status)
	}
	b.service.desk.mu.Lock()
	r := b.service.desk.records[a.session]
	b.service.desk.mu.Unlock()
	b.service.forsake(t.Context(), r)
	if p := bobs.presence(alice); p.Status != "offline" {
		t.Errorf("alice is %s", p.Status)
	}
}
