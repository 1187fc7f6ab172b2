package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// expand makes the events of an entry that are the same for all who get them. What a change of view says (GUILD_CREATE,
// CHANNEL_DELETE and the like) is not among them. guild is the guild behind the entry, nil when it is not known. How many events
// there are, and in which order, does not depend on it: on every gateway the events of an entry are the same, watched or not, so
// that a session which began elsewhere can be counted off here.
func expand(e bus.Entry, guild *roster.Guild) ([]*hub.Event, error) {
	events, err := expandPayload(e, guild)
	if err != nil {
		return nil, err
	}
	audit, err := expandAudit(e)
	return append(address(wire.Events[e.Type].DirectIntent, e.To, events...), audit...), err
}

// expandAudit tells those who may see the audit log what an entry brings into it.
func expandAudit(e bus.Entry) ([]*hub.Event, error) {
	if e.Guild == 0 || e.Type == wire.MessageSent || e.Type == wire.MessageUpdated || !bytes.Contains(e.Body, []byte(`"audit":`)) {
		return nil, nil
	}
	notes, err := wire.AuditOf(e.Body, bus.MessageID(e.Pos))
	if err != nil {
		return nil, fmt.Errorf("audit notes of %s: %w", e.Type, err)
	}
	events := make([]*hub.Event, len(notes))
	for i, n := range notes {
		events[i] = guildEvent(e, "GUILD_AUDIT_LOG_ENTRY_CREATE", wire.IntentGuildModeration, wire.AuditEntryCreate{AuditNote: n, GuildID: e.Guild})
		events[i].Channel, events[i].Beside = e.Guild, n.Channel()
	}
	return events, nil
}

func expandPayload(e bus.Entry, guild *roster.Guild) ([]*hub.Event, error) {
	switch e.Type {
	case wire.MessageSent, wire.MessageUpdated, wire.MessageDeleted:
		return expandMessage(e)
	case wire.ReactionAdded, wire.ReactionRemoved, wire.ReactionsCleared:
		return expandReaction(e)
	case wire.PinsUpdated:
		return expandPins(e)
	case wire.DirectChanged:
		p, err := payload[wire.DirectChangedPayload](e)
		if err != nil {
			return nil, err
		}
		return expandDirect(p), nil
	case wire.UserUpdated:
		p, err := payload[wire.UserChangedPayload](e)
		if err != nil {
			return nil, err
		}
		return []*hub.Event{{Name: "USER_UPDATE", User: p.User.ID, Body: encode(selfUser(p.User))}}, nil
	case wire.MessagesRead:
		return expandAcks(e)
	case wire.SettingsUpdated:
		return []*hub.Event{{Name: "USER_GUILD_SETTINGS_UPDATE", User: e.User, Body: e.Body}}, nil
	}
	switch e.Type {
	case wire.ServerUpdated:
		if guild == nil {
			p, err := payload[wire.ServerUpdatedPayload](e)
			if err != nil {
				return nil, err
			}
			guild = &roster.Guild{ID: e.Guild, Meta: p.Guild}
		}
		return []*hub.Event{guildEvent(e, "GUILD_UPDATE", wire.IntentGuilds, publicGuild(guild))}, nil
	case wire.ChannelUpdated:
		p, err := payload[wire.ChannelChangedPayload](e)
		if err != nil {
			return nil, err
		}
		var events []*hub.Event
		for _, c := range append([]wire.Channel{p.Channel}, p.Others...) {
			ev := guildEvent(e, "CHANNEL_UPDATE", wire.IntentGuilds, wire.ChannelUpdate{Channel: c})
			ev.Channel = c.ID
			events = append(events, ev)
		}
		return events, nil
	case wire.RoleCreated, wire.RoleUpdated, wire.RoleDeleted:
		return expandRole(e)
	case wire.MemberJoined, wire.MemberUpdated, wire.MemberRemoved:
		return expandMember(e)
	case wire.BanAdded, wire.BanRemoved:
		return expandBan(e)
	case wire.InviteCreated, wire.InviteDeleted:
		return expandInvite(e)
	case wire.WebhookChanged, wire.WebhookDeleted:
		return expandWebhook(e)
	}
	return nil, nil
}

func payload[T any](e bus.Entry) (*T, error) {
	p := new(T)
	if err := json.Unmarshal(e.Body, p); err != nil {
		return nil, fmt.Errorf("payload of %s: %w", e.Type, err)
	}
	return p, nil
}

// encode encodes a struct of package wire, which always can be.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

func guildEvent(e bus.Entry, name string, intent wire.Intents, body any) *hub.Event {
	return &hub.Event{Name: name, Intents: intent, Guild: e.Guild, Body: encode(body)}
}

func expandMessage(e bus.Entry) ([]*hub.Event, error) {
	ev := &hub.Event{Intents: wire.IntentGuildMessages, Guild: e.Guild, Channel: e.Channel}
	switch e.Type {
	case wire.MessageSent:
		p, err := payload[wire.MessageSentPayload](e)
		if err != nil {
			return nil, err
		}
		ev.Name = "MESSAGE_CREATE"
		events, err := fillMessage(ev, bus.MessageID(e.Pos), wire.MessageUpdatedPayload{
			Message: p.Message, Author: p.Author, Member: p.Member, ChannelType: p.ChannelType, Mentions: p.Mentions,
		})
		if p.Reopens != nil {
			events = append(expandDirect(p.Reopens), events...)
		}
		return events, err
	case wire.MessageUpdated:
		p, err := payload[wire.MessageUpdatedPayload](e)
		if err != nil {
			return nil, err
		}
		ev.Name = "MESSAGE_UPDATE"
		return fillMessage(ev, p.MessageID, *p)
	}
	p, err := payload[wire.MessageDeletedPayload](e)
	if err != nil {
		return nil, err
	}
	if len(p.IDs) == 1 {
		ev.Name = "MESSAGE_DELETE"
		ev.Body = encode(wire.MessageDelete{ID: p.IDs[0], ChannelID: e.Channel, GuildID: e.Guild})
		return []*hub.Event{ev}, nil
	}
	ev.Name = "MESSAGE_DELETE_BULK"
	ev.Body = encode(wire.MessageDeleteBulk{IDs: p.IDs, ChannelID: e.Channel, GuildID: e.Guild})
	return []*hub.Event{ev}, nil
}

// fillMessage splices a message together, without encoding it again. Only when the first session without the content intent gets
// it, it is decoded.
func fillMessage(ev *hub.Event, message id.ID, p wire.MessageUpdatedPayload) ([]*hub.Event, error) {
	var author struct {
		ID id.ID `json:"id"`
	}
	if err := json.Unmarshal(p.Author, &author); err != nil {
		return nil, fmt.Errorf("author of message %s: %w", message, err)
	}
	ev.Body = make([]byte, 0, len(p.Message)+len(p.Author)+len(p.Member)+160)
	ev.Body = wire.AppendMessageEvent(ev.Body, message, ev.Guild, p.ChannelType, p.Author, p.Member, p.Message)
	head := len(ev.Body) - len(p.Message) + 1 // up to the message, whose brace is left out
	ev.Bare = redacted(ev.Body, head, author.ID, p.Mentions)
	return []*hub.Event{ev}, nil
}

// expandAcks gives each user's part of an entry of many acks to that user alone.
func expandAcks(e bus.Entry) ([]*hub.Event, error) {
	p, err := payload[wire.MessageReadPayload](e)
	if err != nil {
		return nil, err
	}
	events := make([]*hub.Event, len(p.Acks))
	for i, a := range p.Acks {
		events[i] = &hub.Event{Name: "MESSAGE_ACK", User: a.UserID, Body: encode(wire.MessageAck{
			ChannelID: a.ChannelID, MessageID: a.MessageID, Version: int64(e.Pos.Ms),
		})}
	}
	return events, nil
}

func expandRole(e bus.Entry) ([]*hub.Event, error) {
	if e.Type == wire.RoleDeleted {
		p, err := payload[wire.RoleDeletedPayload](e)
		if err != nil {
			return nil, err
		}
		return []*hub.Event{guildEvent(e, "GUILD_ROLE_DELETE", wire.IntentGuilds, wire.GuildRoleDelete{GuildID: e.Guild, RoleID: p.RoleID})}, nil
	}
	p, err := payload[wire.RoleChangedPayload](e)
	if err != nil {
		return nil, err
	}
	name := "GUILD_ROLE_UPDATE"
	if e.Type == wire.RoleCreated {
		name = "GUILD_ROLE_CREATE"
	}
	return []*hub.Event{guildEvent(e, name, wire.IntentGuilds, wire.GuildRole{GuildID: e.Guild, Role: p.Role})}, nil
}

func expandMember(e bus.Entry) ([]*hub.Event, error) {
	if e.Type == wire.MemberRemoved {
		p, err := payload[wire.MemberRemovedPayload](e)
		if err != nil {
			return nil, err
		}
		events := []*hub.Event{guildEvent(e, "GUILD_MEMBER_REMOVE", wire.IntentGuildMembers, wire.MemberGone{GuildID: e.Guild, User: p.User})}
		if p.Cause == wire.CauseBanned {
			events = append(events, banEvent(e, "GUILD_BAN_ADD", p.User))
		}
		return events, nil
	}
	p, err := payload[wire.MemberChangedPayload](e)
	if err != nil {
		return nil, err
	}
	m := p.Member.Member(p.User)
	m.GuildID = e.Guild
	if e.Type == wire.MemberJoined {
		// Who joins gets the guild itself.
		ev := guildEvent(e, "GUILD_MEMBER_ADD", wire.IntentGuildMembers, m)
		ev.Except = e.User
		return []*hub.Event{ev}, nil
	}
	return memberUpdate(e.Guild, m), nil
}

// memberUpdate tells of a member: others who have the intent, and the member itself in any case.
func memberUpdate(guild id.ID, m wire.Member) []*hub.Event {
	body := encode(m)
	return []*hub.Event{
		{Name: "GUILD_MEMBER_UPDATE", Intents: wire.IntentGuildMembers, Guild: guild, Except: m.User.ID, Body: body},
		{Name: "GUILD_MEMBER_UPDATE", Guild: guild, User: m.User.ID, Body: body},
	}
}

func expandBan(e bus.Entry) ([]*hub.Event, error) {
	p, err := payload[wire.BanChangedPayload](e)
	if err != nil {
		return nil, err
	}
	name := "GUILD_BAN_ADD"
	if e.Type == wire.BanRemoved {
		name = "GUILD_BAN_REMOVE"
	}
	return []*hub.Event{banEvent(e, name, p.User)}, nil
}

func banEvent(e bus.Entry, name string, user wire.User) *hub.Event {
	return guildEvent(e, name, wire.IntentGuildModeration, wire.BanChange{GuildID: e.Guild, User: user})
}

func expandInvite(e bus.Entry) ([]*hub.Event, error) {
	if e.Type == wire.InviteDeleted {
		p, err := payload[wire.InviteDeletedPayload](e)
		if err != nil {
			return nil, err
		}
		ev := guildEvent(e, "INVITE_DELETE", wire.IntentGuildInvites, wire.InviteDelete{ChannelID: p.ChannelID, GuildID: e.Guild, Code: p.Code})
		ev.Channel = p.ChannelID
		return []*hub.Event{ev}, nil
	}
	p, err := payload[wire.InviteChangedPayload](e)
	if err != nil {
		return nil, err
	}
	ev := guildEvent(e, "INVITE_CREATE", wire.IntentGuildInvites, p.Invite.Created())
	ev.Channel = p.Invite.Channel.ID
	return []*hub.Event{ev}, nil
}

// expandWebhook tells of the channel whose webhooks are different now, and of the one where it was before.
func expandWebhook(e bus.Entry) ([]*hub.Event, error) {
	channels := []id.ID{e.Channel}
	if e.Type == wire.WebhookChanged {
		p, err := payload[wire.WebhookChangedPayload](e)
		if err != nil {
			return nil, err
		}
		if p.From != 0 {
			channels = append(channels, p.From)
		}
	}
	var events []*hub.Event
	for _, c := range channels {
		ev := guildEvent(e, "WEBHOOKS_UPDATE", wire.IntentGuildWebhooks, wire.WebhooksUpdate{GuildID: e.Guild, ChannelID: c})
		ev.Channel = c
		events = append(events, ev)
	}
	return events, nil
}
