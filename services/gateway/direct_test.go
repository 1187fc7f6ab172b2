package gateway

import (
	"slices"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// The DM of alice and bob, and a group of all three.
const (
	dm    = id.ID(400)
	crowd = id.ID(401)
)

// direct brings the next version of a direct channel into the log.
func (b *bundle) direct(p wire.DirectChangedPayload) {
	b.t.Helper()
	for _, u := range slices.Concat(p.Direct.Recipients, p.Went) {
		p.Users = append(p.Users, person(u))
	}
	b.version[p.Direct.ID]++
	e := bus.Entry{Type: wire.DirectChanged, Channel: p.Direct.ID, Version: b.version[p.Direct.ID], Body: encode(p)}
	pos, err := b.outbox.Settle(b.t.Context(), e)
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(pos)
}

func dmOf(closed ...id.ID) wire.Direct {
	d := wire.Direct{ID: dm, Type: wire.ChannelDM, Recipients: []id.ID{alice, bob}, Closed: map[id.ID]id.ID{}}
	for _, u := range closed {
		d.Closed[u] = 0
	}
	return d
}

func groupOf(users ...id.ID) wire.Direct {
	return wire.Direct{ID: crowd, Type: wire.ChannelGroupDM, Recipients: users, OwnerID: users[0]}
}

// write puts a message into a direct channel, for those who are in it.
func (b *bundle) write(author, channel id.ID, content string, reopens *wire.DirectChangedPayload, to ...id.ID) id.ID {
	b.t.Helper()
	kind := wire.ChannelDM
	if channel == crowd {
		kind = wire.ChannelGroupDM
	}
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{
		Type: wire.MessageSent, Actor: author, Channel: channel, To: to, Body: encode(wire.MessageSentPayload{
			Message: encode(wire.MessageBody{ChannelID: channel, Content: content}), Author: encode(person(author)), ChannelType: kind,
			Reopens: reopens,
		}),
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(got.Pos)
	return bus.MessageID(got.Pos)
}

// identified is identify that answers the direct channels of READY.
func (b *bundle) identified(user id.ID, shard *[2]int) (*socket, []wire.PrivateChannel) {
	b.t.Helper()
	intents := wire.IntentsAll
	s := b.dial("/?v=10&encoding=json")
	s.send(wire.OpIdentify, wire.Identify{Token: b.token(user), Intents: &intents, Shard: shard})
	var ready wire.Ready
	s.dispatch("READY").into(b.t, &ready)
	s.session = ready.SessionID
	for range ready.Guilds {
		s.dispatch("GUILD_CREATE")
	}
	return s, ready.PrivateChannels
}

func TestDirect_ReadyHasThoseThatAreNotClosed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	b.direct(wire.DirectChangedPayload{Direct: dmOf(bob), Came: []id.ID{alice}})
	b.direct(wire.DirectChangedPayload{Direct: groupOf(alice, bob, owner), Came: []id.ID{alice, bob, owner}})
	f := func(user id.ID, want ...id.ID) []wire.PrivateChannel {
		t.Helper()
		_, got := b.identified(user, nil)
		var ids []id.ID
		for _, c := range got {
			ids = append(ids, c.ID)
			for _, u := range c.Recipients {
				if u.ID == user || !strings.HasPrefix(u.Username, "user") {
					t.Errorf("%s sees in %s: %+v", user, c.ID, u)
				}
			}
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s sees %v, want %v", user, ids, want)
		}
		return got
	}
	f(alice, crowd, dm)
	f(bob, crowd)
	f(owner, crowd)
	last := b.write(alice, dm, "hi", nil, alice, bob)
	for _, u := range []id.ID{alice, bob} {
		if c := f(u, dm, crowd)[0]; c.LastMessageID != last || c.Name.Set || len(c.Recipients) != 1 {
			t.Errorf("got %+v", c)
		}
	}
	// Direct channels are the first shard's.
	second, got := b.identified(alice, &[2]int{1, 2})
	first, all := b.identified(alice, &[2]int{0, 2})
	if len(got) != 0 || len(all) != 2 {
		t.Errorf("the shards see %d and %d", len(all), len(got))
	}
	b.write(alice, dm, "for the first", nil, alice, bob)
	b.cold(wire.UserUpdated, bus.Entry{User: alice}, wire.UserChangedPayload{User: person(alice)})
	if m := first.message(); m != "for the first" {
		t.Errorf("got %q", m)
	}
	second.dispatch("USER_UPDATE")
}

func TestDirect_ReachesWhoIsInItAndNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identified(alice, nil)
	o, _ := b.identified(owner, nil)
	bare, _ := b.identify(bob, wire.IntentGuilds|wire.IntentGuildMessages)
	bob1, _ := b.identify(bob, everythingButContent)
	d := dmOf(bob)
	b.direct(wire.DirectChangedPayload{Direct: d, Came: []id.ID{alice}})
	var c wire.PrivateChannel
	a.dispatch("CHANNEL_CREATE").into(t, &c)
	if c.ID != dm || len(c.Recipients) != 1 || c.Recipients[0].ID != bob {
		t.Errorf("got %+v", c)
	}
	b.write(alice, dm, "secret", &wire.DirectChangedPayload{Direct: d, Users: []wire.User{person(alice), person(bob)}, Came: []id.ID{bob}}, alice, bob)
	if m := a.message(); m != "secret" {
		t.Errorf("got %q", m)
	}
	bob1.dispatch("CHANNEL_CREATE").into(t, &c)
	if c.ID != dm || len(c.Recipients) != 1 || c.Recipients[0].ID != alice {
		t.Errorf("got %+v", c)
	}
	var m wire.Message
	bob1.dispatch("MESSAGE_CREATE").into(t, &m) // with its content, though he may not read it elsewhere
	if m.Content != "secret" || m.GuildID != 0 || m.Member != nil || m.ChannelType == nil || *m.ChannelType != wire.ChannelDM {
		t.Errorf("got %+v", m)
	}
	b.direct(wire.DirectChangedPayload{Direct: d, Went: []id.ID{bob}})
	bob1.dispatch("CHANNEL_DELETE")
	bare.dispatch("CHANNEL_CREATE") // without the intent for direct messages it gets only the channels
	bare.dispatch("CHANNEL_DELETE")
	// A group tells the others what it is like.
	b.direct(wire.DirectChangedPayload{Direct: groupOf(alice, bob), Came: []id.ID{alice, bob}})
	b.direct(wire.DirectChangedPayload{Direct: groupOf(alice, bob, owner), Came: []id.ID{owner}})
	a.dispatch("CHANNEL_CREATE")
	a.dispatch("CHANNEL_UPDATE").into(t, &c)
	if c.ID != crowd || len(c.Recipients) != 2 || !c.Name.Null || c.OwnerID != alice {
		t.Errorf("got %+v", c)
	}
	o.dispatch("CHANNEL_CREATE")
	b.say(bob, general, "for all") // and nothing of the DM in between
	if m := o.message(); m != "for all" {
		t.Errorf("the owner got %q", m)
	}
}

func TestDirect_TypingReachesWhoIsInIt(t *testing.T) {
	t.Parallel()
	t.Run("those in it", func(t *testing.T) {
		t.Parallel()
		for _, ev := range expandTyping(wire.TypingSignal{TypingStart: wire.TypingStart{ChannelID: dm, UserID: bob}, To: []id.ID{alice, bob}}) {
			if ev.Guild != 0 || ev.Intents != wire.IntentDirectMessageTyping || ev.User != alice && ev.User != bob || strings.Contains(string(ev.Body), `"to"`) {
				t.Errorf("got %+v %s", ev, ev.Body)
			}
		}
	})
	t.Run("a guild", func(t *testing.T) {
		t.Parallel()
		got := expandTyping(wire.TypingSignal{TypingStart: wire.TypingStart{ChannelID: general, GuildID: guild, UserID: bob}})
		if len(got) != 1 || got[0].User != 0 || got[0].Guild != guild || got[0].Intents != wire.IntentGuildMessageTyping {
			t.Errorf("got %+v", got)
		}
	})
}

// TestDirect_ResumesExactly: with a DM that was opened and a group that was left in between, here and on a gateway that began later.
func TestDirect_ResumesExactly(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	b.direct(wire.DirectChangedPayload{Direct: groupOf(owner, bob, alice), Came: []id.ID{owner, bob, alice}})
	live, _ := b.identified(alice, nil)
	var clients []*socket
	names := []string{
		"MESSAGE_CREATE", "MESSAGE_CREATE", "CHANNEL_CREATE", "MESSAGE_CREATE", "CHANNEL_DELETE", "MESSAGE_CREATE", "CHANNEL_DELETE", "MESSAGE_CREATE",
	}
	for range 2 * (len(names) + 1) {
		s, _ := b.identified(alice, nil)
		clients = append(clients, s)
	}
	d := dmOf(alice)
	opened := &wire.DirectChangedPayload{Direct: d, Users: []wire.User{person(alice), person(bob)}, Came: []id.ID{alice}}
	b.say(bob, general, "0")
	b.write(bob, crowd, "1", nil, owner, bob, alice)
	b.direct(wire.DirectChangedPayload{Direct: d, Came: []id.ID{bob}})
	b.write(bob, dm, "2", opened, bob, alice)
	b.direct(wire.DirectChangedPayload{Direct: groupOf(owner, bob), Went: []id.ID{alice}})
	b.write(bob, crowd, "not for alice any more", nil, owner, bob)
	b.say(bob, general, "3")
	b.direct(wire.DirectChangedPayload{Direct: dmOf(alice), Went: []id.ID{alice}})
	b.say(bob, general, "4")
	var bodies []string
	for _, name := range names {
		bodies = append(bodies, string(live.dispatch(name).D))
	}
	for _, s := range clients {
		for _, name := range names {
			s.dispatch(name)
		}
	}
	begin := clients[0].seq - int64(len(names))
	check := func(b *bundle, s *socket, had int) {
		t.Helper()
		on := b.resume(alice, s, begin+int64(had))
		for i, name := range names[had:] {
			if got := on.dispatch(name); string(got.D) != bodies[had+i] {
				t.Errorf("with %d: got %s, want %s", had, got.D, bodies[had+i])
			}
		}
		on.dispatch("RESUMED")
	}
	for had := range len(names) + 1 {
		b.cut(clients[had])
		check(b, clients[had], had)
	}
	b.flush()
	b.abandon()
	other := b.another(Config{})
	for had := range len(names) + 1 {
		check(other, clients[len(names)+1+had], had)
	}
}
