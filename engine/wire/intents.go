package wire

// Wanted says which intent lets a session have a dispatch: in guilds, and in direct channels; 0 is always. What is told to a single session, or
// to somebody about themselves, needs none.
type Wanted struct{ Guild, Direct Intents }

// DispatchIntents are the intents of all dispatches that are for more than one session. It is never written to.
var DispatchIntents = map[string]Wanted{
	"GUILD_CREATE":        {Guild: IntentGuilds},
	"GUILD_UPDATE":        {Guild: IntentGuilds},
	"GUILD_DELETE":        {Guild: IntentGuilds},
	"GUILD_ROLE_CREATE":   {Guild: IntentGuilds},
	"GUILD_ROLE_UPDATE":   {Guild: IntentGuilds},
	"GUILD_ROLE_DELETE":   {Guild: IntentGuilds},
	"CHANNEL_CREATE":      {Guild: IntentGuilds},
	"CHANNEL_UPDATE":      {Guild: IntentGuilds},
	"CHANNEL_DELETE":      {Guild: IntentGuilds},
	"CHANNEL_PINS_UPDATE": {Guild: IntentGuilds, Direct: IntentDirectMessages},

	"GUILD_MEMBER_ADD":    {Guild: IntentGuildMembers},
	"GUILD_MEMBER_UPDATE": {Guild: IntentGuildMembers}, // of oneself always
	"GUILD_MEMBER_REMOVE": {Guild: IntentGuildMembers},

	"GUILD_BAN_ADD":                {Guild: IntentGuildModeration},
	"GUILD_BAN_REMOVE":             {Guild: IntentGuildModeration},
	"GUILD_AUDIT_LOG_ENTRY_CREATE": {Guild: IntentGuildModeration},

	"WEBHOOKS_UPDATE":    {Guild: IntentGuildWebhooks},
	"INVITE_CREATE":      {Guild: IntentGuildInvites},
	"INVITE_DELETE":      {Guild: IntentGuildInvites},
	"VOICE_STATE_UPDATE": {Guild: IntentGuildVoiceStates},
	"PRESENCE_UPDATE":    {Guild: IntentGuildPresences},

	"MESSAGE_CREATE":                {Guild: IntentGuildMessages, Direct: IntentDirectMessages},
	"MESSAGE_UPDATE":                {Guild: IntentGuildMessages, Direct: IntentDirectMessages},
	"MESSAGE_DELETE":                {Guild: IntentGuildMessages, Direct: IntentDirectMessages},
	"MESSAGE_DELETE_BULK":           {Guild: IntentGuildMessages, Direct: IntentDirectMessages},
	"MESSAGE_REACTION_ADD":          {Guild: IntentGuildMessageReactions, Direct: IntentDirectMessageReactions},
	"MESSAGE_REACTION_REMOVE":       {Guild: IntentGuildMessageReactions, Direct: IntentDirectMessageReactions},
	"MESSAGE_REACTION_REMOVE_ALL":   {Guild: IntentGuildMessageReactions, Direct: IntentDirectMessageReactions},
	"MESSAGE_REACTION_REMOVE_EMOJI": {Guild: IntentGuildMessageReactions, Direct: IntentDirectMessageReactions},
	"TYPING_START":                  {Guild: IntentGuildMessageTyping, Direct: IntentDirectMessageTyping},
	"MESSAGE_READ":                  {Guild: IntentMessageRead, Direct: IntentMessageRead},

	"USER_UPDATE":                {},
	"USER_GUILD_SETTINGS_UPDATE": {},
	"MESSAGE_ACK":                {},
}
