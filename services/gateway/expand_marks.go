package gateway

import (
	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/wire"
)

// channelEvent is an event that those get who see the entry's channel.
func channelEvent(e bus.Entry, name string, intent wire.Intents, body any) *hub.Event {
	ev := guildEvent(e, name, intent, body)
	ev.Channel = e.Channel
	return ev
}

func expandReaction(e bus.Entry) ([]*hub.Event, error) {
	p, err := payload[wire.ReactionPayload](e)
	if err != nil {
		return nil, err
	}
	emoji := wire.Emoji{Name: p.Emoji}
	name, body := "MESSAGE_REACTION_REMOVE_ALL", any(wire.ReactionRemoveAll{ChannelID: e.Channel, MessageID: p.MessageID, GuildID: e.Guild})
	switch {
	case e.Type == wire.ReactionAdded:
		name, body = "MESSAGE_REACTION_ADD", wire.ReactionAdd{
			UserID: p.UserID, ChannelID: e.Channel, MessageID: p.MessageID, MessageAuthorID: p.AuthorID, GuildID: e.Guild, Member: p.Member, Emoji: emoji,
		}
	case e.Type == wire.ReactionRemoved:
		name, body = "MESSAGE_REACTION_REMOVE", wire.ReactionRemove{
			UserID: p.UserID, ChannelID: e.Channel, MessageID: p.MessageID, GuildID: e.Guild, Emoji: emoji,
		}
	case p.Emoji != "":
		name, body = "MESSAGE_REACTION_REMOVE_EMOJI", wire.ReactionRemoveAll{
			ChannelID: e.Channel, MessageID: p.MessageID, GuildID: e.Guild, Emoji: &emoji,
		}
	}
	return []*hub.Event{channelEvent(e, name, wire.IntentGuildMessageReactions, body)}, nil
}

// expandPins tells of the channel's pins, and of the message as it is now.
func expandPins(e bus.Entry) ([]*hub.Event, error) {
	p, err := payload[wire.PinsUpdatedPayload](e)
	if err != nil {
		return nil, err
	}
	last := p.LastPin
	if p.Pinned {
		last = wire.At(e.Time())
	}
	update, err := fillMessage(&hub.Event{
		Name: "MESSAGE_UPDATE", Intents: wire.IntentGuildMessages, Guild: e.Guild, Channel: e.Channel,
	}, p.MessageID, p.MessageUpdatedPayload)
	if err != nil {
		return nil, err
	}
	pins := wire.ChannelPinsUpdate{GuildID: e.Guild, ChannelID: e.Channel, LastPinTimestamp: last}
	return append([]*hub.Event{channelEvent(e, "CHANNEL_PINS_UPDATE", wire.IntentGuilds, pins)}, update...), nil
}
