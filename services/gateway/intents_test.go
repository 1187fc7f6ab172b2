package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

const (
	robot       = id.ID(50)
	dave, carol = id.ID(60), id.ID(61)
)

// sample is an entry of some type in the world of TestIntents, and what it is dispatched as to those who want it all. With recipients or without
// a guild it is about what is direct.
type sample struct {
	entry bus.Entry
	body  any
	want  []string
}

func (s sample) direct() bool { return s.entry.Guild == 0 && s.entry.Channel != 0 }

// samples has some of each type that is dispatched, in an order that makes sense.
func samples() []sample {
	record := func(u id.ID) wire.MemberRecord {
		return wire.MemberRecord{UserID: u, MemberFields: wire.MemberFields{JoinedAt: 1}}
	}
	member := func(u id.ID) wire.MemberChangedPayload {
		return wire.MemberChangedPayload{Member: record(u), User: person(u)}
	}
	channel := wire.Channel{ID: 202, GuildID: guild, Name: "new"}
	role := wire.RoleChangedPayload{Role: wire.Role{ID: 301, Name: "r"}}
	message := wire.MessageBody{ChannelID: general, Content: "x"}
	home := func(kind wire.EventType) bus.Entry { return bus.Entry{Type: kind, Guild: guild} }
	about := func(kind wire.EventType, u id.ID) bus.Entry { return bus.Entry{Type: kind, Guild: guild, User: u} }
	together := wire.Direct{ID: crowd, Type: wire.ChannelGroupDM, Recipients: wire.List[id.ID]{alice, robot}, OwnerID: alice}
	to := func(kind wire.EventType) bus.Entry {
		return bus.Entry{Type: kind, Channel: crowd, To: together.Recipients}
	}
	reaction := wire.ReactionPayload{MessageID: 7, Emoji: "🦊", UserID: bob, AuthorID: bob}
	pin := wire.PinsUpdatedPayload{MessageUpdatedPayload: wire.MessageUpdatedPayload{MessageID: 7, Message: encode(message), Author: encode(person(bob))}, Pinned: true}
	in := func(kind wire.EventType, c id.ID) bus.Entry { return bus.Entry{Type: kind, Guild: guild, Channel: c} }
	return []sample{
		{bus.Entry{Type: wire.UserUpdated, User: bob}, wire.UserChangedPayload{User: person(bob)}, []string{"GUILD_MEMBER_UPDATE"}},
		{bus.Entry{Type: wire.ServerCreated, Guild: 101}, wire.ServerCreatedPayload{
			Guild: wire.NewGuild(101, "other", owner), Roles: wire.List[wire.Role]{{ID: 101}},
			Members: wire.List[wire.MemberRecord]{record(owner), record(alice), record(robot)},
		}, []string{"GUILD_CREATE"}},
		{bus.Entry{Type: wire.ServerDeleted, Guild: 101}, wire.ServerDeletedPayload{GuildID: 101}, []string{"GUILD_DELETE"}},
		{home(wire.ServerUpdated), wire.ServerUpdatedPayload{Guild: wire.NewGuild(guild, "home", owner)}, []string{"GUILD_UPDATE"}},
		{in(wire.ChannelCreated, 202), wire.ChannelChangedPayload{Channel: channel}, []string{"CHANNEL_CREATE"}},
		{in(wire.ChannelUpdated, 202), wire.ChannelChangedPayload{Channel: channel}, []string{"CHANNEL_UPDATE"}},
		{in(wire.ChannelDeleted, 202), wire.ChannelDeletedPayload{ChannelID: 202}, []string{"CHANNEL_DELETE"}},
		{home(wire.RoleCreated), role, []string{"GUILD_ROLE_CREATE"}},
		{home(wire.RoleUpdated), role, []string{"GUILD_ROLE_UPDATE"}},
		{home(wire.RoleDeleted), wire.RoleDeletedPayload{RoleID: 301}, []string{"GUILD_ROLE_DELETE"}},
		{about(wire.MemberJoined, dave), member(dave), []string{"GUILD_MEMBER_ADD"}},
		{about(wire.MemberUpdated, dave), member(dave), []string{"GUILD_MEMBER_UPDATE"}},
		{about(wire.MemberRemoved, dave), wire.MemberRemovedPayload{User: person(dave), Cause: wire.CauseLeft}, []string{"GUILD_MEMBER_REMOVE"}},
		{about(wire.MemberJoined, dave), member(dave), []string{"GUILD_MEMBER_ADD"}},
		{about(wire.MemberRemoved, dave), wire.MemberRemovedPayload{User: person(dave), Cause: wire.CauseBanned}, []string{"GUILD_MEMBER_REMOVE", "GUILD_BAN_ADD"}},
		{about(wire.BanRemoved, dave), wire.BanChangedPayload{User: person(dave)}, []string{"GUILD_BAN_REMOVE"}},
		{about(wire.BanAdded, carol), wire.BanChangedPayload{User: person(carol)}, []string{"GUILD_BAN_ADD"}},
		{in(wire.InviteCreated, general), wire.InviteChangedPayload{Invite: wire.Invite{Code: "c", Channel: wire.InviteChannel{ID: general}}}, []string{"INVITE_CREATE"}},
		{in(wire.InviteDeleted, general), wire.InviteDeletedPayload{Code: "c", ChannelID: general}, []string{"INVITE_DELETE"}},
		{in(wire.WebhookChanged, general), wire.WebhookChangedPayload{Webhook: wire.WebhookRecord{ID: 9, GuildID: guild, ChannelID: general}}, []string{"WEBHOOKS_UPDATE"}},
		{in(wire.WebhookDeleted, general), wire.WebhookDeletedPayload{WebhookID: 9, ChannelID: general}, []string{"WEBHOOKS_UPDATE"}},
		{in(wire.MessageSent, general), wire.MessageSentPayload{Message: encode(message), Author: encode(person(bob))}, []string{"MESSAGE_CREATE"}},
		{in(wire.MessageUpdated, general), wire.MessageUpdatedPayload{MessageID: 7, Message: encode(message), Author: encode(person(bob))}, []string{"MESSAGE_UPDATE"}},
		{in(wire.MessageDeleted, general), wire.MessageDeletedPayload{IDs: wire.List[id.ID]{7}}, []string{"MESSAGE_DELETE"}},
		{in(wire.MessageDeleted, general), wire.MessageDeletedPayload{IDs: wire.List[id.ID]{8, 9}}, []string{"MESSAGE_DELETE_BULK"}},
		{in(wire.ReactionAdded, general), reaction, []string{"MESSAGE_REACTION_ADD"}},
		{in(wire.ReactionRemoved, general), reaction, []string{"MESSAGE_REACTION_REMOVE"}},
		{in(wire.ReactionsCleared, general), wire.ReactionPayload{MessageID: 7, Emoji: "🦊"}, []string{"MESSAGE_REACTION_REMOVE_EMOJI"}},
		{in(wire.ReactionsCleared, general), wire.ReactionPayload{MessageID: 7}, []string{"MESSAGE_REACTION_REMOVE_ALL"}},
		{in(wire.PinsUpdated, general), pin, []string{"CHANNEL_PINS_UPDATE", "MESSAGE_UPDATE"}},
		{bus.Entry{Type: wire.MessagesRead}, wire.MessageReadPayload{Acks: wire.List[wire.Ack]{{UserID: bob, ChannelID: general, MessageID: 7, GuildID: guild}}}, []string{"MESSAGE_READ"}},
		{in(wire.TypingStarted, general), wire.TypingSignal{TypingStart: wire.TypingStart{GuildID: guild, ChannelID: general, UserID: bob}}, []string{"TYPING_START"}},

		{to(wire.DirectChanged), wire.DirectChangedPayload{Direct: together, Came: together.Recipients}, []string{"CHANNEL_CREATE"}},
		{to(wire.DirectChanged), wire.DirectChangedPayload{Direct: together}, []string{"CHANNEL_UPDATE"}},
		{to(wire.MessageSent), wire.MessageSentPayload{Message: encode(message), Author: encode(person(bob))}, []string{"MESSAGE_CREATE"}},
		{to(wire.MessageUpdated), wire.MessageUpdatedPayload{MessageID: 7, Message: encode(message), Author: encode(person(bob))}, []string{"MESSAGE_UPDATE"}},
		{to(wire.MessageDeleted), wire.MessageDeletedPayload{IDs: wire.List[id.ID]{7}}, []string{"MESSAGE_DELETE"}},
		{to(wire.ReactionAdded), reaction, []string{"MESSAGE_REACTION_ADD"}},
		{to(wire.ReactionRemoved), reaction, []string{"MESSAGE_REACTION_REMOVE"}},
		{to(wire.PinsUpdated), pin, []string{"CHANNEL_PINS_UPDATE", "MESSAGE_UPDATE"}},
		{to(wire.TypingStarted), wire.TypingSignal{TypingStart: wire.TypingStart{ChannelID: crowd, UserID: bob}, To: together.Recipients}, []string{"TYPING_START"}},
	}
}

// TestIntents_EachGetsWhatItsTableSays: a session of a person and one of a bot with each single intent gets exactly what that is the intent of.
func TestIntents_EachGetsWhatItsTableSays(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	b.found()
	raw, hash := token.NewBotToken(robot)
	b.cold(wire.UserCreated, bus.Entry{User: robot}, wire.UserChangedPayload{User: wire.User{ID: robot, Username: "robot", Bot: true}, BotHash: hash})
	b.member(wire.MemberJoined, robot)
	type listener struct {
		*socket
		name    string
		intents wire.Intents
	}
	var all []listener
	for bit := range 64 {
		intents := wire.Intents(1) << bit
		if !intents.Valid() {
			continue
		}
		for name, auth := range map[string]string{"person": b.token(alice), "bot": raw} {
			s := b.dial("/?v=10&encoding=json")
			s.send(wire.OpIdentify, wire.Identify{Token: auth, Intents: &intents})
			all = append(all, listener{s, fmt.Sprintf("%s with bit %d", name, bit), intents})
		}
	}
	// heard are the names of what has come until a heartbeat is answered, which is behind all that was offered before it. What is about the
	// listeners themselves is not counted.
	heard := func(s *socket) (names []string) {
		t.Helper()
		s.send(wire.OpHeartbeat, nil)
		for {
			switch f := s.read(); {
			case f.Op == wire.OpHeartbeatACK:
				return names
			case f.Op != wire.OpDispatch:
				t.Fatalf("op %d %s", f.Op, f.D)
			case f.T == "PRESENCE_UPDATE" && !strings.Contains(string(f.D), `"dnd"`):
			default:
				names = append(names, f.T)
			}
		}
	}
	f := func(what string, want []string, direct bool) {
		t.Helper()
		for _, l := range all {
			var wanted []string
			for _, name := range want {
				need := wire.DispatchIntents[name].Guild
				if direct {
					need = wire.DispatchIntents[name].Direct
				}
				if l.intents.Has(need) {
					wanted = append(wanted, name)
				}
			}
			if diff := cmp.Diff(wanted, heard(l.socket)); diff != "" {
				t.Errorf("%s: %s: %s", what, l.name, diff)
			}
		}
	}
	f("at the beginning", []string{"READY", "GUILD_CREATE"}, false)
	sampled := map[wire.EventType][]string{}
	for _, s := range samples() {
		sampled[s.entry.Type] = append(sampled[s.entry.Type], s.want...)
		switch {
		case s.entry.Type == wire.TypingStarted:
			b.service.core.send(expandTyping(s.body.(wire.TypingSignal))...)
		case s.entry.Type == wire.DirectChanged:
			b.direct(s.body.(wire.DirectChangedPayload))
		case isHot(s.entry.Type):
			s.entry.Body = encode(s.body)
			b.publish(s.entry)
		default:
			b.cold(s.entry.Type, s.entry, s.body)
		}
		f(string(s.entry.Type), s.want, s.direct())
	}
	for kind, e := range wire.Events {
		for _, name := range sampled[kind] {
			if !slices.Contains(e.Dispatches, name) {
				t.Errorf("%s was dispatched as %s, which the table does not say", kind, name)
			}
		}
		t.Run(string(kind), func(t *testing.T) {
			switch kind {
			case wire.UserDeleted: // guilds tell of it
			case wire.SettingsUpdated: // for one user alone
			default:
				if len(e.Dispatches) > 0 && len(sampled[kind]) == 0 {
					t.Error("there is no sample of it: add one")
				}
			}
		})
	}
	if err := b.service.deps.Presence.Set(t.Context(), bob, "bobs", presence.Said{Status: presence.DND}); err != nil {
		t.Fatal(err)
	}
	first := slices.IndexFunc(all, func(l listener) bool { return l.intents == wire.IntentGuildPresences })
	for !strings.Contains(string(all[first].dispatchAny("PRESENCE_UPDATE").D), `"dnd"`) {
	}
	all = slices.Delete(all, first, first+1)
	f("a presence", []string{"PRESENCE_UPDATE"}, false)

	// What is told is what the table says, for whatever else was put into the log.
	records, ok := b.service.core.since(hub.Behind(b.service.core.floor()))
	if !ok || len(records) < 10 { // some change views alone, and have none
		t.Fatalf("the ring has %d records, %v", len(records), ok)
	}
	for _, r := range records {
		for _, e := range r.Value {
			want := wire.DispatchIntents[e.Name].Guild
			if e.Guild == 0 {
				want = wire.DispatchIntents[e.Name].Direct
			}
			if e.Intents != want && (e.User == 0 || e.Intents != 0) { // of oneself one is told anyway
				t.Errorf("%s is for %b, the table says %b", e.Name, e.Intents, want)
			}
		}
	}
}

// isHot says whether entries of a type are published, and not settled behind a row.
func isHot(kind wire.EventType) bool {
	switch kind {
	case wire.MessageSent, wire.MessageUpdated, wire.MessageDeleted, wire.ReactionAdded, wire.ReactionRemoved, wire.ReactionsCleared, wire.PinsUpdated,
		wire.MessagesRead:
		return true
	}
	return false
}

// dispatchAny reads on until a dispatch comes.
func (s *socket) dispatchAny(name string) frame {
	s.t.Helper()
	for {
		if f := s.read(); f.T == name {
			return f
		}
	}
}

func TestIntents_AreRefusedThatThereAreNot(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	raw, hash := token.NewBotToken(robot)
	b.cold(wire.UserCreated, bus.Entry{User: robot}, wire.UserChangedPayload{User: wire.User{ID: robot, Username: "robot", Bot: true}, BotHash: hash})
	f := func(auth, intents string, want int) {
		t.Helper()
		s := b.dial("/?v=10&encoding=json")
		s.send(wire.OpIdentify, json.RawMessage(`{"token":"`+auth+`"`+intents+`}`))
		if want != 0 {
			if got := s.closed(); got != want {
				t.Errorf("%s: closed with %d, want %d", intents, got, want)
			}
			return
		}
		var ready wire.Ready
		s.dispatch("READY").into(t, &ready)
		flags := 0
		if ready.User.Bot {
			flags = wire.ApplicationFlags
		}
		if ready.SessionType != "normal" || ready.Application.Flags != flags || ready.Application.ID != ready.User.ID {
			t.Errorf("%s: %+v", intents, ready)
		}
	}
	f(raw, ``, 4013) // a bot has to say them
	f(raw, `,"intents":null`, 4013)
	f(raw, `,"intents":0`, 0)
	f(raw, `,"intents":33026`, 0) // those that need leave elsewhere: members, presences, content
	f("Bot "+raw, fmt.Sprintf(`,"intents":%d`, wire.IntentsAll), 0)
	f(b.token(alice), ``, 0) // people get all
	for _, bit := range []int{17, 18, 19, 22, 23, 26, 39, 41, 63} {
		f(raw, fmt.Sprintf(`,"intents":%d`, uint64(1)<<bit), 4013)
	}
}
