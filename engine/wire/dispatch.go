package wire

// Dispatches are the bodies of the gateway's dispatches by their names, each as a zero value. It is never written to. What is not in Events is told to
// single sessions.
var Dispatches = map[string]any{
	"READY":               Ready{},
	"RESUMED":             Resumed{},
	"GUILD_CREATE":        GuildCreate{},
	"GUILD_UPDATE":        Guild{},
	"GUILD_DELETE":        UnavailableGuild{},
	"GUILD_ROLE_CREATE":   GuildRole{},
	"GUILD_ROLE_UPDATE":   GuildRole{},
	"GUILD_ROLE_DELETE":   GuildRoleDelete{},
	"GUILD_MEMBER_ADD":    Member{},
	"GUILD_MEMBER_UPDATE": Member{},
	"GUILD_MEMBER_REMOVE": MemberGone{},
	"GUILD_MEMBERS_CHUNK": MembersChunk{},
	"GUILD_BAN_ADD":       BanChange{},
	"GUILD_BAN_REMOVE":    BanChange{},
	"CHANNEL_CREATE":      Channel{},
	"CHANNEL_UPDATE":      Channel{},
	"CHANNEL_DELETE":      Channel{},
	"INVITE_CREATE":       InviteCreate{},
	"INVITE_DELETE":       InviteDelete{},
	"MESSAGE_CREATE":      Message{},
	"MESSAGE_UPDATE":      Message{},
	"MESSAGE_DELETE":      MessageDelete{},
	"MESSAGE_DELETE_BULK": MessageDeleteBulk{},
	"PRESENCE_UPDATE":     Presence{},
	"TYPING_START":        TypingStart{},
	"USER_UPDATE":         SelfUser{},
}
