package wire

import (
	"encoding/json"
	"testing"

	"github.com/bwmarrin/discordgo"
	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
)

// decodeAs reads ours the way a widely used client library reads it.
func decodeAs[T any](t *testing.T, ours any) *T {
	t.Helper()
	b, ok := ours.([]byte)
	if !ok {
		b = mustJSON(t, ours)
	}
	got := new(T)
	if err := json.Unmarshal(b, got); err != nil {
		t.Fatalf("%T: %v\n%s", got, err, b)
	}
	return got
}

func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestDiscordgo_ReadsReadyAndGuildCreate(t *testing.T) {
	t.Parallel()
	text := sampleID.String()
	ready := decodeAs[discordgo.Ready](t, Ready{
		V: 10, User: SelfUser{User: sampleUser(), Locale: LocaleDefault}, SessionID: "s", Shard: &[2]int{0, 1},
		Guilds: List[UnavailableGuild]{{ID: sampleID, Unavailable: true}}, Application: ReadyApplication{ID: sampleID},
	})
	want(t, "user", ready.User.ID, text)
	want(t, "bot", ready.User.Bot, true)
	want(t, "discriminator", ready.User.Discriminator, "0")
	want(t, "application", ready.Application.ID, text)
	want(t, "unavailable", ready.Guilds[0].Unavailable, true)

	g := decodeAs[discordgo.GuildCreate](t, GuildCreate{
		Guild: sampleGuild(), JoinedAt: sampleTime, MemberCount: 3, Members: List[Member]{sampleMember().Member(sampleUser())},
		Channels: List[Channel]{sampleChannel()}, VoiceStates: List[VoiceState]{{ChannelID: sampleID, UserID: sampleID, SessionID: "v"}},
		Presences: List[Presence]{{User: UserRef{sampleID}, Status: "online", ClientStatus: map[string]string{"desktop": "online"}}},
	})
	want(t, "guild", g.ID, text)
	want(t, "owner", g.OwnerID, text)
	want(t, "joined", g.JoinedAt.UnixMilli(), int64(sampleTime))
	want(t, "role permissions", g.Roles[0].Permissions, int64(perm.All))
	want(t, "member roles", g.Members[0].Roles, []string{text})
	want(t, "member joined", g.Members[0].JoinedAt.UnixMilli(), int64(sampleTime))
	want(t, "channel type", g.Channels[0].Type, discordgo.ChannelTypeGuildVoice)
	want(t, "overwrite", *g.Channels[0].PermissionOverwrites[0],
		discordgo.PermissionOverwrite{ID: text, Type: discordgo.PermissionOverwriteTypeMember, Allow: int64(perm.All), Deny: 1})
	want(t, "presence", g.Presences[0].Status, discordgo.StatusOnline)
	want(t, "voice", g.VoiceStates[0].ChannelID, text)
}

func TestDiscordgo_ReadsMessages(t *testing.T) {
	t.Parallel()
	text, body, member := sampleID.String(), sampleBody(), sampleMember().MemberFields
	m := decodeAs[discordgo.MessageCreate](t, AppendMessageEvent(nil, sampleID, sampleID, ChannelText, mustJSON(t, sampleUser()), mustJSON(t, member), mustJSON(t, body)))
	want(t, "id", m.ID, text)
	want(t, "guild", m.GuildID, text)
	want(t, "content", m.Content, body.Content)
	want(t, "timestamp", m.Timestamp.UnixMilli(), int64(sampleID.Ms()))
	want(t, "edited", m.EditedTimestamp.UnixMilli(), int64(sampleTime))
	want(t, "nick", m.Member.Nick, "annie")
	want(t, "mentions", m.Mentions[0].Username, "ann")
	want(t, "embed", m.Embeds[0].Fields[0].Value, "v")
	want(t, "reply", m.ReferencedMessage.Content, "q")
	want(t, "attachment", m.Attachments[0].Size, 3)
	want(t, "reaction", m.Reactions[0].Count, 1)

	d := decodeAs[discordgo.MessageDeleteBulk](t, MessageDeleteBulk{IDs: List[id.ID]{sampleID}, ChannelID: sampleID})
	want(t, "bulk", d.Messages, []string{text})
	reactor := sampleMember().Member(sampleUser())
	added := decodeAs[discordgo.MessageReactionAdd](t, ReactionAdd{UserID: sampleID, ChannelID: sampleID, MessageID: sampleID, GuildID: sampleID, Member: &reactor, Emoji: Emoji{Name: "🦊"}})
	want(t, "added", added.MessageReaction, &discordgo.MessageReaction{UserID: text, ChannelID: text, MessageID: text, GuildID: text, Emoji: discordgo.Emoji{Name: "🦊"}})
	want(t, "who added", added.Member.User.ID, text)
	removed := decodeAs[discordgo.MessageReactionRemove](t, ReactionRemove{UserID: sampleID, MessageID: sampleID, Emoji: Emoji{Name: "🦊"}})
	want(t, "removed", removed.Emoji.Name, "🦊")
	want(t, "all removed", decodeAs[discordgo.MessageReactionRemoveAll](t, ReactionRemoveAll{MessageID: sampleID}).MessageID, text)
	pins := decodeAs[discordgo.ChannelPinsUpdate](t, ChannelPinsUpdate{GuildID: sampleID, ChannelID: sampleID, LastPinTimestamp: sampleTime})
	want(t, "pins", pins.LastPinTimestamp, "2024-01-01T00:00:00.123000+00:00")
	typing := decodeAs[discordgo.TypingStart](t, TypingStart{ChannelID: sampleID, GuildID: sampleID, UserID: sampleID, Timestamp: 7})
	want(t, "typing", typing.Timestamp, 7)
}

func TestDiscordgo_ReadsTheRest(t *testing.T) {
	t.Parallel()
	text := sampleID.String()
	want(t, "role", decodeAs[discordgo.GuildRoleCreate](t, GuildRole{GuildID: sampleID, Role: sampleRole()}).Role.Name, "mods")
	want(t, "role gone", decodeAs[discordgo.GuildRoleDelete](t, GuildRoleDelete{sampleID, sampleID}).RoleID, text)
	joined := sampleMember().Member(sampleUser())
	joined.GuildID = sampleID
	want(t, "joined", decodeAs[discordgo.GuildMemberAdd](t, joined).GuildID, text)
	want(t, "gone", decodeAs[discordgo.GuildMemberRemove](t, MemberGone{sampleID, sampleUser()}).User.ID, text)
	want(t, "ban", decodeAs[discordgo.GuildBan](t, Ban{ptr("spam"), sampleUser()}).Reason, "spam")
	want(t, "banned", decodeAs[discordgo.GuildBanAdd](t, BanChange{sampleID, sampleUser()}).User.ID, text)
	want(t, "unbanned", decodeAs[discordgo.GuildBanRemove](t, BanChange{sampleID, sampleUser()}).GuildID, text)
	noted := decodeAs[discordgo.GuildAuditLogEntryCreate](t, AuditEntryCreate{GuildID: sampleID, AuditNote: AuditNote{ID: sampleID, Action: AuditBanAdd, Reason: "r"}})
	want(t, "noted", *noted.ActionType, discordgo.AuditLogActionMemberBanAdd)
	want(t, "audit log", decodeAs[discordgo.GuildAuditLog](t, AuditLog{Entries: List[AuditNote]{{ID: sampleID, Reason: "r"}}}).AuditLogEntries[0].Reason, "r")
	want(t, "chunk", len(decodeAs[discordgo.GuildMembersChunk](t, MembersChunk{GuildID: sampleID, Members: List[Member]{joined}, ChunkCount: 1}).Members), 1)
	want(t, "guild gone", decodeAs[discordgo.GuildDelete](t, UnavailableGuild{ID: sampleID}).Unavailable, false)
	want(t, "invite", decodeAs[discordgo.Invite](t, sampleInvite()).Guild.Name, "guild")
	want(t, "invite event", decodeAs[discordgo.InviteCreate](t, sampleInvite().Created()).ChannelID, text)
	want(t, "mine", decodeAs[discordgo.UserGuild](t, MyGuild{ID: sampleID, Permissions: perm.All}).Permissions, int64(perm.All))
	want(t, "application", decodeAs[discordgo.Application](t, NewApplication(sampleUser(), sampleUser())).Owner.ID, text)
	want(t, "gateway", decodeAs[discordgo.GatewayBotResponse](t, GatewayBot{Shards: 2}).Shards, 2)
}

func TestDiscordgo_IsUnderstood(t *testing.T) {
	t.Parallel()
	v := NewValidator()
	accept := func(body any, theirs any) {
		t.Helper()
		if err := json.Unmarshal(mustJSON(t, theirs), body); err != nil {
			t.Errorf("%T: %v", theirs, err)
		}
		if err := v.Struct(body); err != nil {
			t.Errorf("%T: %v", theirs, err)
		}
	}
	var send CreateMessage
	accept(&send, discordgo.MessageSend{
		Content: "hi", Embeds: []*discordgo.MessageEmbed{{Title: "t", Color: 7, Timestamp: "2024-01-01T00:00:00Z", Fields: []*discordgo.MessageEmbedField{{Name: "n", Value: "v"}}}},
		AllowedMentions: &discordgo.MessageAllowedMentions{}, Reference: &discordgo.MessageReference{MessageID: "7", ChannelID: "8"},
	})
	want(t, "reference", send.Reference.MessageID, id.ID(7))
	want(t, "embed", *send.Embeds[0].Color, 7)
	var role CreateRole
	accept(&role, discordgo.RoleParams{Name: "r", Permissions: ptr(int64(perm.SendMessages))})
	want(t, "permissions", *role.Permissions, perm.SendMessages)
	var channel CreateChannel
	accept(&channel, discordgo.GuildChannelCreateData{Name: "c", PermissionOverwrites: []*discordgo.PermissionOverwrite{{ID: "7", Type: 1, Allow: 1, Deny: 2}}})
	want(t, "overwrite", channel.PermissionOverwrites[0], ChannelOverwrite{ID: 7, Type: 1, Allow: 1, Deny: 2})
	accept(new(UpdateChannel), discordgo.ChannelEdit{Name: "c", Position: ptr(1)})
	var identify Identify
	accept(&identify, discordgo.Identify{Token: "t", Intents: discordgo.IntentsAll, LargeThreshold: 250, Properties: discordgo.IdentifyProperties{OS: "linux"}})
	want(t, "os", identify.Properties.OS, "linux")
	if !identify.Intents.Valid() {
		t.Errorf("intents %b are not valid", *identify.Intents)
	}
}
