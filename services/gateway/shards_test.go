package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// other makes a guild of the owner and some others, with one channel, whose id is the next.
func (b *bundle) other(guild id.ID, members ...id.ID) {
	b.t.Helper()
	p := wire.ServerCreatedPayload{
		Guild: wire.NewGuild(guild, "other", owner), Channels: wire.List[wire.Channel]{{ID: guild + 1, GuildID: guild, Name: "general"}},
		Roles: wire.List[wire.Role]{{ID: guild, Name: "@everyone", Permissions: perm.ViewChannel}},
	}
	for _, u := range append(members, owner) {
		p.Members = append(p.Members, wire.MemberRecord{UserID: u, MemberFields: wire.MemberFields{JoinedAt: 1}})
	}
	b.cold(wire.ServerCreated, bus.Entry{Guild: guild, Actor: owner}, p)
}

// sayIn publishes a message in such a guild.
func (b *bundle) sayIn(guild id.ID, content string) {
	b.t.Helper()
	body := encode(wire.MessageSentPayload{Message: encode(wire.MessageBody{ChannelID: guild + 1, Content: content}), Author: encode(person(owner))})
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Actor: owner, Guild: guild, Channel: guild + 1, Body: body}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(got.Pos)
}

// heard are the names of the dispatches that come until a heartbeat is answered, which is behind all that was offered before it.
func (s *socket) heard() (names []string) {
	s.t.Helper()
	s.send(wire.OpHeartbeat, s.seq)
	for {
		f := s.read()
		if f.Op == wire.OpHeartbeatACK {
			return names
		}
		if f.S != nil {
			s.seq = *f.S
		}
		if f.T != "PRESENCE_UPDATE" {
			names = append(names, f.T)
		}
	}
}

func TestShards_HaveTheirGuildsAndNoOthers(t *testing.T) {
	t.Parallel()
	const shards = 3
	b := setup(t, Config{})
	b.found() // on the first one
	guilds := []id.ID{guild, 1 << 22, (3*5 + 2) << 22}
	b.other(guilds[1], alice)
	b.other(guilds[2], alice)
	var all []*socket
	for i := range shards {
		s := b.dial("/?v=10&encoding=json")
		s.send(wire.OpIdentify, wire.Identify{Token: b.token(alice), Shard: &wire.Shard{i, shards}})
		var ready wire.Ready
		s.dispatch("READY").into(t, &ready)
		if len(ready.Guilds) != 1 || ready.Guilds[0].ID != guilds[i] || ready.Shard == nil || *ready.Shard != (wire.Shard{i, shards}) {
			t.Errorf("shard %d begins with %+v", i, ready)
		}
		s.session = ready.SessionID
		var g wire.GuildCreate
		if s.dispatch("GUILD_CREATE").into(t, &g); g.ID != guilds[i] {
			t.Errorf("shard %d is told of guild %s", i, g.ID)
		}
		all = append(all, s)
	}
	f := func(what string, want ...[]string) {
		t.Helper()
		for i, s := range all {
			if diff := cmp.Diff(want[i], s.heard()); diff != "" {
				t.Errorf("%s: shard %d: %s", what, i, diff)
			}
		}
	}
	for i, g := range guilds[1:] {
		b.sayIn(g, "hello")
		want := make([][]string, shards)
		want[i+1] = []string{"MESSAGE_CREATE"}
		f("a message", want...)
	}
	b.other(4<<22, alice)
	f("a new guild", nil, []string{"GUILD_CREATE"}, nil)
	b.cold(wire.MemberRemoved, bus.Entry{Guild: 4 << 22, User: alice}, wire.MemberRemovedPayload{User: person(alice), Cause: wire.CauseKicked})
	f("a guild that is lost", nil, []string{"GUILD_DELETE"}, nil)
	b.cold(wire.UserUpdated, bus.Entry{User: alice}, wire.UserChangedPayload{User: person(alice)})
	f("a new name", []string{"USER_UPDATE", "GUILD_MEMBER_UPDATE"}, []string{"USER_UPDATE", "GUILD_MEMBER_UPDATE"}, []string{"USER_UPDATE", "GUILD_MEMBER_UPDATE"})
	b.service.core.send(&hub.Event{Name: "CHANNEL_CREATE", Channel: 5, User: alice, Body: encode(wire.PrivateChannel{ID: 5, Type: wire.ChannelDM})})
	f("what is direct", []string{"CHANNEL_CREATE"}, nil, nil)
	all[0].send(wire.OpRequestGuildMembers, map[string]any{"guild_id": guilds[1], "query": "", "limit": 0})
	if c := all[0].ask(map[string]any{"guild_id": guild, "query": "", "limit": 0}); c[0].GuildID != guild {
		t.Errorf("the first shard is told who is in guild %s", c[0].GuildID)
	}

	// A session stays on its shard wherever it goes on.
	b.flush()
	b.abandon()
	there := b.another(Config{})
	for _, g := range guilds[1:] {
		there.sayIn(g, "meanwhile")
	}
	there.cold(wire.UserUpdated, bus.Entry{User: alice}, wire.UserChangedPayload{User: person(alice)})
	for i, s := range all {
		back := there.resume(alice, s, s.seq)
		if i > 0 && back.message() != "meanwhile" {
			t.Errorf("shard %d was told something else", i)
		}
		back.dispatch("USER_UPDATE")
		back.dispatch("GUILD_MEMBER_UPDATE")
		back.dispatch("RESUMED")
		there.service.core.send(&hub.Event{Name: "CHANNEL_CREATE", Channel: 5, User: alice, Body: encode(wire.PrivateChannel{ID: 5, Type: wire.ChannelDM})})
		if got := len(back.heard()); got != max(0, 1-i) {
			t.Errorf("shard %d was told %d direct events", i, got)
		}
	}
}
