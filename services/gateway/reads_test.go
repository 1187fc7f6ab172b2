package gateway

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

// acks brings acks into the log, in one entry.
func (b *bundle) acks(acks ...wire.Ack) {
	b.t.Helper()
	b.publish(bus.Entry{Type: wire.MessagesRead, Body: encode(wire.MessageReadPayload{Acks: acks})})
}

func (b *bundle) publish(e bus.Entry) {
	b.t.Helper()
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: e})
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(got.Pos)
}

// acked reads a MESSAGE_ACK as channel and message.
func (s *socket) acked() [2]id.ID {
	s.t.Helper()
	var a wire.MessageAck
	s.dispatch("MESSAGE_ACK").into(s.t, &a)
	return [2]id.ID{a.ChannelID, a.MessageID}
}

func TestAcks_AreForTheReadersOwnSessionsAndAreResumed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	phone, _ := b.identify(alice, wire.IntentsAll&^wire.IntentMessageRead)
	desk, _ := b.identify(alice, 0)
	other, _ := b.identify(bob, wire.IntentsAll&^wire.IntentMessageRead)
	ack := func(user, channel, message id.ID) wire.Ack {
		return wire.Ack{UserID: user, ChannelID: channel, MessageID: message}
	}
	b.acks(ack(alice, general, 1), ack(bob, general, 2), ack(owner, general, 9), ack(alice, hidden, 3))
	want := func(what string, s *socket, acks ...[2]id.ID) {
		t.Helper()
		for _, a := range acks {
			if got := s.acked(); got != a {
				t.Errorf("%s: got %v, want %v", what, got, a)
			}
		}
	}
	want("phone", phone, [2]id.ID{general, 1}, [2]id.ID{hidden, 3})
	want("desk", desk, [2]id.ID{general, 1}, [2]id.ID{hidden, 3})
	want("bob", other, [2]id.ID{general, 2})
	b.cut(phone)
	b.acks(ack(bob, general, 4), ack(alice, general, 5))
	b.acks(ack(alice, general, 6), ack(alice, hidden, 7))
	want("bob", other, [2]id.ID{general, 4})
	// From before the first ack, and from between two acks of one entry: each comes once.
	back := b.resume(alice, phone, phone.seq-1)
	want("resumed", back, [2]id.ID{hidden, 3}, [2]id.ID{general, 5}, [2]id.ID{general, 6}, [2]id.ID{hidden, 7})
	back.dispatch("RESUMED")
	b.cut(back)
	back = b.resume(alice, back, back.seq-1)
	want("resumed once more", back, [2]id.ID{hidden, 7})
	back.dispatch("RESUMED")
}

func TestAcks_AreResumedOnAnotherGateway(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll&^wire.IntentMessageRead)
	b.acks(wire.Ack{UserID: alice, ChannelID: general, MessageID: 1}, wire.Ack{UserID: bob, ChannelID: general, MessageID: 2})
	s.acked()
	b.flush()
	b.abandon()
	other := b.another(Config{})
	for m := range id.ID(3) {
		body := encode(wire.MessageReadPayload{Acks: wire.List[wire.Ack]{{UserID: bob, ChannelID: general, MessageID: m}, {UserID: alice, ChannelID: general, MessageID: 10 + m}}})
		other.publish(bus.Entry{Type: wire.MessagesRead, Body: body})
	}
	back := other.resume(alice, s, s.seq)
	for m := range id.ID(3) {
		if got := back.acked(); got != [2]id.ID{general, 10 + m} {
			t.Errorf("got %v, want message %d", got, 10+m)
		}
	}
	back.dispatch("RESUMED")
}

// began reads READY of a new session.
func (b *bundle) began(bearer string, intents wire.Intents) (*socket, map[string]json.RawMessage) {
	b.t.Helper()
	s := b.dial("/?v=10&encoding=json")
	s.send(wire.OpIdentify, wire.Identify{Token: bearer, Intents: &intents})
	var ready map[string]json.RawMessage
	s.dispatch("READY").into(b.t, &ready)
	return s, ready
}

func TestReady_SaysWhatWasReadAndGuildsWhereTheirChannelsEnd(t *testing.T) {
	t.Parallel()
	b := setupReading(t, Config{})
	b.found()
	first := b.say(owner, general, "to nobody")
	last := b.mention(owner, general, alice, guild)
	secret := b.mention(owner, hidden, guild)
	b.acks(wire.Ack{UserID: alice, ChannelID: general, MessageID: first}, wire.Ack{UserID: alice, ChannelID: hidden, MessageID: secret})
	b.publish(bus.Entry{Type: wire.SettingsUpdated, User: alice, Guild: guild, Body: encode(wire.GuildSettings{GuildID: guild, Muted: true})})
	_, ready := b.began(b.token(alice), wire.IntentsAll)
	var state wire.ReadState
	var settings struct{ Entries []wire.GuildSettings }
	for name, v := range map[string]any{"read_state": &state, "user_guild_settings": &settings} {
		if err := json.Unmarshal(ready[name], v); err != nil {
			t.Fatalf("%s is %s: %v", name, ready[name], err)
		}
	}
	if diff := cmp.Diff(wire.List[wire.ReadStateEntry]{{ID: general, LastMessageID: first, MentionCount: 1}}, state.Entries); diff != "" || state.Partial {
		t.Errorf("partial %v (-want +got):\n%s", state.Partial, diff)
	}
	if len(settings.Entries) != 1 || !settings.Entries[0].Muted {
		t.Errorf("settings: %s", ready["user_guild_settings"])
	}
	_, guilds := b.identify(alice, wire.IntentsAll)
	if c := guilds[0].Channels; len(c) != 1 || c[0].LastMessageID != last {
		t.Errorf("channels: %+v, want one that ends with %s", c, last)
	}
	_, guilds = b.identify(owner, wire.IntentsAll)
	for _, c := range guilds[0].Channels {
		if want := map[id.ID]id.ID{general: last, hidden: secret}[c.ID]; c.LastMessageID != want {
			t.Errorf("channel %s ends with %s, want %s", c.ID, c.LastMessageID, want)
		}
	}
}

// mention sends a message that mentions users, roles, or with its id all of the guild.
func (b *bundle) mention(author, channel id.ID, targets ...id.ID) id.ID {
	b.t.Helper()
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{
		Type: wire.MessageSent, Actor: author, Guild: guild, Channel: channel, Body: encode(wire.MessageSentPayload{
			Message: encode(wire.MessageBody{ChannelID: channel}), Author: encode(person(author)), Pings: targets,
		}),
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(got.Pos)
	return bus.MessageID(got.Pos)
}

func TestReady_IsPartialWithoutPostgresAndHasNothingOfItForBots(t *testing.T) {
	t.Parallel()
	b := setupReading(t, Config{})
	b.found()
	bot := id.ID(9)
	raw, hash := token.NewBotToken(bot)
	b.cold(wire.UserCreated, bus.Entry{User: bot}, wire.UserChangedPayload{User: wire.User{ID: bot, Username: "bot", Bot: true}, BotHash: hash})
	if _, ready := b.began("Bot "+raw, wire.IntentGuilds); ready["read_state"] != nil || ready["user_guild_settings"] != nil {
		t.Errorf("a bot is told %s %s", ready["read_state"], ready["user_guild_settings"])
	}
	b.pool.Close()
	s, ready := b.began(b.token(alice), wire.IntentsAll)
	for _, name := range []string{"read_state", "user_guild_settings"} {
		var got struct {
			Entries []json.RawMessage
			Partial bool
		}
		if err := json.Unmarshal(ready[name], &got); err != nil || got.Entries == nil || !got.Partial {
			t.Errorf("%s without Postgres: %s", name, ready[name])
		}
	}
	s.dispatch("GUILD_CREATE")
}

func TestSettings_AreForTheUsersOwnSessions(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	mine, _ := b.identify(alice, 0)
	other, _ := b.identify(bob, wire.IntentsAll)
	b.publish(bus.Entry{Type: wire.SettingsUpdated, User: alice, Guild: guild, Body: encode(wire.GuildSettings{GuildID: guild, Muted: true})})
	var got wire.GuildSettings
	mine.dispatch("USER_GUILD_SETTINGS_UPDATE").into(t, &got)
	if got.GuildID != guild || !got.Muted {
		t.Errorf("got %+v", got)
	}
	b.say(owner, general, "next")
	if got := other.message(); got != "next" {
		t.Errorf("bob got %s", got)
	}
}

func TestReceipts_AreToldToWhoSeesTheChannelAndWantsThem(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	watching, _ := b.identify(bob, wire.IntentsAll&^wire.IntentGuildPresences)
	blind, _ := b.identify(bob, wire.IntentsAll&^wire.IntentMessageRead&^wire.IntentGuildPresences)
	reader, _ := b.identify(alice, wire.IntentsAll&^wire.IntentGuildPresences)
	b.acks(
		wire.Ack{UserID: owner, ChannelID: hidden, MessageID: 1, GuildID: guild}, // bob does not see it
		wire.Ack{UserID: owner, ChannelID: 555, MessageID: 2},                    // nobody is told
		wire.Ack{UserID: alice, ChannelID: general, MessageID: 3, GuildID: guild},
	)
	var got wire.MessageRead
	watching.dispatch("MESSAGE_READ").into(t, &got)
	if diff := cmp.Diff(wire.MessageRead{ChannelID: general, UserID: alice, MessageID: 3}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	reader.acked()
	b.say(owner, general, "next")
	for what, s := range map[string]*socket{"watching": watching, "blind": blind, "reader": reader} {
		if got := s.read(); got.T != "MESSAGE_CREATE" {
			t.Errorf("%s got %s %s", what, got.T, got.D)
		}
	}
}

func TestReads_OfDirectChannelsAreForWhoIsInThem(t *testing.T) {
	t.Parallel()
	b := setupReading(t, Config{})
	b.found()
	b.direct(wire.DirectChangedPayload{Direct: dmOf(), Came: []id.ID{alice, bob}})
	b.write(alice, dm, "1", nil, alice, bob)
	sockets := map[id.ID]*socket{}
	for _, u := range []id.ID{alice, bob, owner} {
		sockets[u], _ = b.identify(u, wire.IntentsAll&^wire.IntentGuildPresences)
	}
	b.acks(wire.Ack{UserID: bob, ChannelID: dm, MessageID: 7, To: []id.ID{alice}})
	var got wire.MessageRead
	sockets[alice].dispatch("MESSAGE_READ").into(t, &got)
	if diff := cmp.Diff(wire.MessageRead{ChannelID: dm, UserID: bob, MessageID: 7}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.say(owner, general, "next")
	for u, want := range map[id.ID][]string{alice: {"MESSAGE_CREATE"}, bob: {"MESSAGE_ACK", "MESSAGE_CREATE"}, owner: {"MESSAGE_CREATE"}} {
		for _, name := range want {
			if f := sockets[u].read(); f.T != name {
				t.Errorf("%s got %s %s, want %s", u, f.T, f.D, name)
			}
		}
	}
	_, ready := b.began(b.token(bob), wire.IntentsAll)
	var state wire.ReadState
	if err := json.Unmarshal(ready["read_state"], &state); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wire.List[wire.ReadStateEntry]{{ID: dm, LastMessageID: 7}}, state.Entries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReceipts_AreToldOnceASecond(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	r := newReceipts(func() time.Time { return now })
	want := func(what string, events []*hub.Event, messages ...id.ID) {
		t.Helper()
		var got []id.ID
		for _, e := range events {
			var m wire.MessageRead
			if err := json.Unmarshal(e.Body, &m); err != nil {
				t.Fatal(err)
			}
			got = append(got, m.MessageID)
		}
		if diff := cmp.Diff(messages, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	read := func(channel, user, message id.ID) wire.Ack {
		return wire.Ack{ChannelID: channel, UserID: user, MessageID: message, GuildID: guild}
	}
	want("the first of each channel", r.due([]wire.Ack{read(1, 1, 11), read(1, 2, 12), read(2, 1, 21)}), 11, 21)
	now = now.Add(readEvery - 1)
	want("within a second", r.due([]wire.Ack{read(1, 3, 13)}))
	want("still", r.late())
	now = now.Add(1)
	want("the latest, late", r.late(), 13)
	want("nothing more", r.late())
	want("right after it", r.due([]wire.Ack{read(1, 4, 14)}))
	now = now.Add(readEvery)
	want("in place of what waited", r.due([]wire.Ack{read(1, 5, 15)}), 15)
	now = now.Add(readEvery)
	want("and that is not told any more", r.late())
	if len(r.told)+len(r.waiting) != 0 {
		t.Errorf("%d and %d are left", len(r.told), len(r.waiting))
	}
}
