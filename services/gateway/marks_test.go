package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// mark publishes an entry about a message in a channel.
func (b *bundle) mark(kind wire.EventType, channel id.ID, payload any) bus.Position {
	b.t.Helper()
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{
		Type: kind, Actor: bob, Guild: guild, Channel: channel, Body: encode(payload),
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(got.Pos)
	return got.Pos
}

func pinning(message id.ID, channel id.ID, pinned bool, last wire.Time) wire.PinsUpdatedPayload {
	return wire.PinsUpdatedPayload{Pinned: pinned, LastPin: last, MessageUpdatedPayload: wire.MessageUpdatedPayload{
		MessageID: message, Message: encode(wire.MessageBody{ChannelID: channel, Content: "text", Pinned: pinned}),
		Author: encode(person(alice)), Member: encode(wire.MemberFields{JoinedAt: 1}),
	}}
}

// markAll publishes one of each, twice: in a channel for all and in one for the owner alone. It returns the dispatches of the first.
func (b *bundle) markAll(message id.ID) (names, bodies []string) {
	b.t.Helper()
	member := wire.MemberRecord{UserID: bob, MemberFields: wire.MemberFields{JoinedAt: 1}}.Member(person(bob))
	emoji := wire.Emoji{Name: "🦊"}
	want := func(name string, body any) {
		names, bodies = append(names, name), append(bodies, string(encode(body)))
	}
	each := func(kind wire.EventType, payload any) bus.Position {
		b.mark(kind, hidden, payload)
		return b.mark(kind, general, payload)
	}
	each(wire.ReactionAdded, wire.ReactionPayload{MessageID: message, Emoji: "🦊", UserID: bob, AuthorID: alice, Member: &member})
	want("MESSAGE_REACTION_ADD", wire.ReactionAdd{
		UserID: bob, ChannelID: general, MessageID: message, MessageAuthorID: alice, GuildID: guild, Member: &member, Emoji: emoji,
	})
	each(wire.ReactionRemoved, wire.ReactionPayload{MessageID: message, Emoji: "🦊", UserID: bob, AuthorID: alice})
	want("MESSAGE_REACTION_REMOVE", wire.ReactionRemove{UserID: bob, ChannelID: general, MessageID: message, GuildID: guild, Emoji: emoji})
	each(wire.ReactionsCleared, wire.ReactionPayload{MessageID: message, Emoji: "🦊", AuthorID: alice})
	want("MESSAGE_REACTION_REMOVE_EMOJI", wire.ReactionRemoveAll{ChannelID: general, MessageID: message, GuildID: guild, Emoji: &emoji})
	each(wire.ReactionsCleared, wire.ReactionPayload{MessageID: message, AuthorID: alice})
	want("MESSAGE_REACTION_REMOVE_ALL", wire.ReactionRemoveAll{ChannelID: general, MessageID: message, GuildID: guild})
	at := each(wire.PinsUpdated, pinning(message, general, true, 0))
	want("CHANNEL_PINS_UPDATE", wire.ChannelPinsUpdate{GuildID: guild, ChannelID: general, LastPinTimestamp: wire.Time(at.Ms)})
	p := pinning(message, general, true, 0)
	want("MESSAGE_UPDATE", jsonText(wire.AppendMessageEvent(nil, message, guild, 0, p.Author, p.Member, p.Message)))
	each(wire.PinsUpdated, pinning(message, general, false, 7))
	want("CHANNEL_PINS_UPDATE", wire.ChannelPinsUpdate{GuildID: guild, ChannelID: general, LastPinTimestamp: 7})
	p = pinning(message, general, false, 0)
	want("MESSAGE_UPDATE", jsonText(wire.AppendMessageEvent(nil, message, guild, 0, p.Author, p.Member, p.Message)))
	return names, bodies
}

// jsonText is JSON that is encoded already.
type jsonText []byte

func (t jsonText) MarshalJSON() ([]byte, error) { return t, nil }

func TestGateway_ReplaysReactionsAndPinsExactly(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	begin := a.seq
	message := b.say(alice, general, "text")
	a.message()
	names, bodies := b.markAll(message)
	read := func(s *socket, from int) {
		t.Helper()
		for i := from; i < len(names); i++ {
			if diff := cmp.Diff(bodies[i], string(s.dispatch(names[i]).D)); diff != "" {
				t.Fatalf("%s: %s", names[i], diff)
			}
		}
	}
	read(a, 0)
	b.cut(a)
	for _, had := range []int{len(names), len(names) - 1, 5, 3, 0} {
		s := b.resume(alice, a, begin+1+int64(had))
		read(s, had)
		s.dispatch("RESUMED")
		b.cut(s)
	}
}

func TestGateway_TellsOfReactionsAndPinsByTheirIntents(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	reactions, _ := b.identify(bob, wire.IntentGuildMessageReactions)
	guilds, _ := b.identify(bob, wire.IntentGuilds)
	messages, _ := b.identify(bob, wire.IntentGuildMessages)
	names, _ := b.markAll(b.say(alice, general, "text"))
	for _, name := range names[:4] {
		reactions.dispatch(name)
	}
	guilds.dispatch("CHANNEL_PINS_UPDATE")
	guilds.dispatch("CHANNEL_PINS_UPDATE")
	messages.dispatch("MESSAGE_CREATE")
	for _, pinned := range []bool{true, false} {
		var m wire.Message
		messages.dispatch("MESSAGE_UPDATE").into(t, &m)
		if m.Pinned != pinned || m.Content != "" || m.Author.ID != alice {
			t.Errorf("without the content: %+v", m)
		}
	}
	for _, s := range []*socket{reactions, guilds, messages} { // nothing else came
		s.send(wire.OpHeartbeat, s.seq)
		for f := s.read(); f.Op != wire.OpHeartbeatACK; f = s.read() {
			if numbered(f.T) {
				t.Errorf("got %s", f.T)
			}
		}
	}
}

func TestGateway_TellsOfReactionsAndPinsInADM(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	b.direct(wire.DirectChangedPayload{Direct: dmOf()})
	b.direct(wire.DirectChangedPayload{Direct: groupOf(alice, bob)})
	a, _ := b.identified(alice, nil)
	o, _ := b.identify(owner, wire.IntentsAll)
	for kind, payload := range map[wire.EventType]any{
		wire.ReactionAdded: wire.ReactionPayload{MessageID: 7, Emoji: "🦊", UserID: bob, AuthorID: alice},
		wire.PinsUpdated:   pinning(7, dm, true, 0),
	} {
		got, err := b.log.Publish(t.Context(), bus.Post{Entry: bus.Entry{
			Type: kind, Actor: bob, Channel: dm, To: []id.ID{alice, bob}, Body: encode(payload),
		}})
		if err != nil {
			t.Fatal(err)
		}
		b.reach(got.Pos)
		if kind == wire.PinsUpdated {
			var pins wire.ChannelPinsUpdate
			a.dispatch("CHANNEL_PINS_UPDATE").into(t, &pins)
			a.dispatch("MESSAGE_UPDATE")
			if pins.ChannelID != dm || pins.GuildID != 0 {
				t.Errorf("pins: %+v", pins)
			}
			continue
		}
		var added wire.ReactionAdd
		a.dispatch("MESSAGE_REACTION_ADD").into(t, &added)
		if added.UserID != bob || added.ChannelID != dm || added.GuildID != 0 || added.Member != nil {
			t.Errorf("added: %+v", added)
		}
	}
	b.say(alice, general, "next")
	o.message() // and nothing before it
}
