package wire

import (
	"encoding/json"

	"github.com/xcord/xcord/engine/id"
)

// EventType is what happened, by the domain's name for it on the bus.
type EventType string

// The durable events. Each names the body of its entry in the log.
const (
	UserCreated      EventType = "USER_CREATED"           // UserChangedPayload
	UserUpdated      EventType = "USER_UPDATED"           // UserChangedPayload
	UserDeleted      EventType = "USER_DELETED"           // UserDeletedPayload
	ServerCreated    EventType = "SERVER_CREATED"         // ServerCreatedPayload
	ServerUpdated    EventType = "SERVER_UPDATED"         // ServerUpdatedPayload
	ServerDeleted    EventType = "SERVER_DELETED"         // ServerDeletedPayload
	ChannelCreated   EventType = "CHANNEL_CREATED"        // ChannelChangedPayload
	ChannelUpdated   EventType = "CHANNEL_UPDATED"        // ChannelChangedPayload
	ChannelDeleted   EventType = "CHANNEL_DELETED"        // ChannelDeletedPayload
	RoleCreated      EventType = "ROLE_CREATED"           // RoleChangedPayload
	RoleUpdated      EventType = "ROLE_UPDATED"           // RoleChangedPayload
	RoleDeleted      EventType = "ROLE_DELETED"           // RoleDeletedPayload
	MemberJoined     EventType = "MEMBER_JOINED"          // MemberChangedPayload
	MemberUpdated    EventType = "MEMBER_UPDATED"         // MemberChangedPayload
	MemberRemoved    EventType = "MEMBER_REMOVED"         // MemberRemovedPayload
	BanAdded         EventType = "BAN_ADDED"              // BanChangedPayload; of somebody who was no member: a member's ban is MEMBER_REMOVED
	BanRemoved       EventType = "BAN_REMOVED"            // BanChangedPayload
	InviteCreated    EventType = "INVITE_CREATED"         // InviteChangedPayload
	InviteDeleted    EventType = "INVITE_DELETED"         // InviteDeletedPayload
	WebhookChanged   EventType = "WEBHOOK_CHANGED"        // WebhookChangedPayload: one was made, or is another one now
	WebhookDeleted   EventType = "WEBHOOK_DELETED"        // WebhookDeletedPayload; not of those that go with their channel
	DirectChanged    EventType = "DIRECT_CHANGED"         // DirectChangedPayload: a direct channel was opened, closed, or is another one now
	MessageSent      EventType = "MESSAGE_SENT"           // MessageSentPayload
	MessageUpdated   EventType = "MESSAGE_UPDATED"        // MessageUpdatedPayload
	MessageDeleted   EventType = "MESSAGE_DELETED"        // MessageDeletedPayload
	ReactionAdded    EventType = "REACTION_ADDED"         // ReactionPayload
	ReactionRemoved  EventType = "REACTION_REMOVED"       // ReactionPayload
	ReactionsCleared EventType = "REACTIONS_CLEARED"      // ReactionPayload; of one emoji or of all
	PinsUpdated      EventType = "PINS_UPDATED"           // PinsUpdatedPayload
	MessagesRead     EventType = "MESSAGE_READ"           // MessageReadPayload
	SettingsUpdated  EventType = "GUILD_SETTINGS_UPDATED" // GuildSettings: one user's, of one guild
	EpochBegan       EventType = "EPOCH_BEGAN"            // for the log itself: here it was opened again after it had lost something
	TypingStarted    EventType = "TYPING_STARTED"         // TypingSignal; pub/sub only
)

// Event is what the house knows about an EventType.
type Event struct {
	// Dispatches are the gateway events that clients may get for it. Which of them, and
	// how many, is for the fan-out to say.
	Dispatches []string
	// Intent lets a session have it; 0 is always. In direct channels DirectIntent counts.
	Intent, DirectIntent Intents
	// Durable events are entries of the log, add 1 to s, and are replayed on RESUME.
	Durable bool
}

// auditCreated may come with whatever is written into a guild's audit log, with IntentGuildModeration.
const auditCreated = "GUILD_AUDIT_LOG_ENTRY_CREATE"

// Events is the table of all events. It is never written to.
var Events = map[EventType]Event{
	UserCreated:      {Durable: true},
	UserUpdated:      {Dispatches: []string{"USER_UPDATE", "GUILD_MEMBER_UPDATE"}, Durable: true},
	UserDeleted:      {Dispatches: []string{"GUILD_MEMBER_REMOVE"}, Intent: IntentGuildMembers, Durable: true},
	ServerCreated:    {Dispatches: []string{"GUILD_CREATE"}, Intent: IntentGuilds, Durable: true},
	ServerUpdated:    {Dispatches: []string{"GUILD_UPDATE", "CHANNEL_CREATE", "CHANNEL_DELETE", auditCreated}, Intent: IntentGuilds, Durable: true},
	ServerDeleted:    {Dispatches: []string{"GUILD_DELETE"}, Intent: IntentGuilds, Durable: true},
	ChannelCreated:   {Dispatches: []string{"CHANNEL_CREATE", auditCreated}, Intent: IntentGuilds, Durable: true},
	ChannelUpdated:   {Dispatches: []string{"CHANNEL_UPDATE", "CHANNEL_CREATE", "CHANNEL_DELETE", auditCreated}, Intent: IntentGuilds, Durable: true},
	ChannelDeleted:   {Dispatches: []string{"CHANNEL_DELETE", auditCreated}, Intent: IntentGuilds, Durable: true},
	RoleCreated:      {Dispatches: []string{"GUILD_ROLE_CREATE", auditCreated}, Intent: IntentGuilds, Durable: true},
	RoleUpdated:      {Dispatches: []string{"GUILD_ROLE_UPDATE", "CHANNEL_CREATE", "CHANNEL_DELETE", auditCreated}, Intent: IntentGuilds, Durable: true},
	RoleDeleted:      {Dispatches: []string{"GUILD_ROLE_DELETE", "CHANNEL_CREATE", "CHANNEL_DELETE", auditCreated}, Intent: IntentGuilds, Durable: true},
	MemberJoined:     {Dispatches: []string{"GUILD_MEMBER_ADD", "GUILD_CREATE", auditCreated}, Intent: IntentGuildMembers, Durable: true},
	MemberUpdated:    {Dispatches: []string{"GUILD_MEMBER_UPDATE", "CHANNEL_CREATE", "CHANNEL_DELETE", auditCreated}, Intent: IntentGuildMembers, Durable: true},
	MemberRemoved:    {Dispatches: []string{"GUILD_MEMBER_REMOVE", "GUILD_BAN_ADD", "GUILD_DELETE", auditCreated}, Intent: IntentGuildMembers, Durable: true},
	BanAdded:         {Dispatches: []string{"GUILD_BAN_ADD", auditCreated}, Intent: IntentGuildModeration, Durable: true},
	BanRemoved:       {Dispatches: []string{"GUILD_BAN_REMOVE", auditCreated}, Intent: IntentGuildModeration, Durable: true},
	InviteCreated:    {Dispatches: []string{"INVITE_CREATE", auditCreated}, Intent: IntentGuildInvites, Durable: true},
	InviteDeleted:    {Dispatches: []string{"INVITE_DELETE", auditCreated}, Intent: IntentGuildInvites, Durable: true},
	WebhookChanged:   {Dispatches: []string{"WEBHOOKS_UPDATE", auditCreated}, Intent: IntentGuildWebhooks, Durable: true},
	WebhookDeleted:   {Dispatches: []string{"WEBHOOKS_UPDATE", auditCreated}, Intent: IntentGuildWebhooks, Durable: true},
	DirectChanged:    {Dispatches: []string{"CHANNEL_CREATE", "CHANNEL_UPDATE", "CHANNEL_DELETE"}, Durable: true},
	MessageSent:      {Dispatches: []string{"MESSAGE_CREATE", "CHANNEL_CREATE"}, Intent: IntentGuildMessages, DirectIntent: IntentDirectMessages, Durable: true},
	MessageUpdated:   {Dispatches: []string{"MESSAGE_UPDATE"}, Intent: IntentGuildMessages, DirectIntent: IntentDirectMessages, Durable: true},
	MessageDeleted:   {Dispatches: []string{"MESSAGE_DELETE", "MESSAGE_DELETE_BULK", auditCreated}, Intent: IntentGuildMessages, DirectIntent: IntentDirectMessages, Durable: true},
	ReactionAdded:    {Dispatches: []string{"MESSAGE_REACTION_ADD"}, Intent: IntentGuildMessageReactions, DirectIntent: IntentDirectMessageReactions, Durable: true},
	ReactionRemoved:  {Dispatches: []string{"MESSAGE_REACTION_REMOVE"}, Intent: IntentGuildMessageReactions, DirectIntent: IntentDirectMessageReactions, Durable: true},
	ReactionsCleared: {Dispatches: []string{"MESSAGE_REACTION_REMOVE_ALL", "MESSAGE_REACTION_REMOVE_EMOJI"}, Intent: IntentGuildMessageReactions, DirectIntent: IntentDirectMessageReactions, Durable: true},
	PinsUpdated:      {Dispatches: []string{"CHANNEL_PINS_UPDATE", "MESSAGE_UPDATE", auditCreated}, Intent: IntentGuilds, DirectIntent: IntentDirectMessages, Durable: true},
	MessagesRead:     {Dispatches: []string{"MESSAGE_ACK", "MESSAGE_READ"}, Durable: true},
	SettingsUpdated:  {Dispatches: []string{"USER_GUILD_SETTINGS_UPDATE"}, Durable: true},
	EpochBegan:       {Durable: true},
	TypingStarted:    {Dispatches: []string{"TYPING_START"}, Intent: IntentGuildMessageTyping, DirectIntent: IntentDirectMessageTyping},
}

// UserChangedPayload is the body of USER_CREATED and USER_UPDATED.
type UserChangedPayload struct {
	User User `json:"user"`
	// BotHash is the hash of a bot's token. It is for the log and the read model alone.
	BotHash string `json:"bot_hash,omitempty"`
}

// UserDeletedPayload is the body of USER_DELETED. Clients see it as the end of each membership, which follows as
// MEMBER_REMOVED.
type UserDeletedPayload struct {
	UserID id.ID `json:"user_id"`
}

// ServerCreatedPayload is the body of SERVER_CREATED: all that a new guild starts with.
type ServerCreatedPayload struct {
	Guild    Guild              `json:"guild"`
	Channels List[Channel]      `json:"channels"`
	Roles    List[Role]         `json:"roles"`
	Members  List[MemberRecord] `json:"members"`
	// Webhooks are none in a new guild; there may be some when one is restored.
	Webhooks []WebhookRecord `json:"webhooks,omitempty"`
}

// ServerUpdatedPayload is the body of SERVER_UPDATED.
type ServerUpdatedPayload struct {
	Guild Guild `json:"guild"`
}

// ServerDeletedPayload is the body of SERVER_DELETED, with the channels that went with it.
type ServerDeletedPayload struct {
	GuildID  id.ID   `json:"guild_id"`
	Channels []id.ID `json:"channels,omitempty"`
}

// ChannelChangedPayload is the body of CHANNEL_CREATED and CHANNEL_UPDATED.
type ChannelChangedPayload struct {
	Channel Channel `json:"channel"`
	// Others are channels of CHANNEL_UPDATED that change in the same step: moved together, or in step with their category.
	Others []Channel `json:"others,omitempty"`
}

// ChannelDeletedPayload is the body of CHANNEL_DELETED, with the webhooks that went with it.
type ChannelDeletedPayload struct {
	ChannelID id.ID   `json:"channel_id"`
	Webhooks  []id.ID `json:"webhooks,omitempty"`
}

// RoleChangedPayload is the body of ROLE_CREATED and ROLE_UPDATED.
type RoleChangedPayload struct {
	Role Role `json:"role"`
}

// RoleDeletedPayload is the body of ROLE_DELETED. Members lose the role with it.
type RoleDeletedPayload struct {
	RoleID id.ID `json:"role_id"`
}

// MemberChangedPayload is the body of MEMBER_JOINED and MEMBER_UPDATED.
type MemberChangedPayload struct {
	Member MemberRecord `json:"member"`
	User   User         `json:"user"`
}

// Why somebody is not a member any more.
const (
	CauseLeft   = "left"
	CauseKicked = "kicked"
	CauseBanned = "banned"
)

// MemberRemovedPayload is the body of MEMBER_REMOVED; Cause is one of the Cause constants. CauseBanned is the ban itself: it and the end
// of the membership are one step.
type MemberRemovedPayload struct {
	User  User   `json:"user"`
	Cause string `json:"cause"`
	// PurgeSince is from where on what a banned user wrote is to be deleted, up to here; 0 is nothing.
	PurgeSince id.ID `json:"purge_since,omitempty"`
}

// BanChangedPayload is the body of BAN_ADDED and BAN_REMOVED.
type BanChangedPayload struct {
	User       User  `json:"user"`
	PurgeSince id.ID `json:"purge_since,omitempty"` // as in MemberRemovedPayload
}

// InviteChangedPayload is the body of INVITE_CREATED.
type InviteChangedPayload struct {
	Invite Invite `json:"invite"`
}

// InviteDeletedPayload is the body of INVITE_DELETED.
type InviteDeletedPayload struct {
	Code      string `json:"code"`
	ChannelID id.ID  `json:"channel_id"`
}

// MessageSentPayload is the body of MESSAGE_SENT. It has neither the message's id nor its time:
// both come from the entry's place in the log.
type MessageSentPayload struct {
	Message     json.RawMessage `json:"message"`          // of a MessageBody
	Author      json.RawMessage `json:"author"`           // of a User
	Member      json.RawMessage `json:"member,omitempty"` // of a MemberFields; absent in direct channels
	ChannelType ChannelType     `json:"channel_type"`
	Mentions    []id.ID         `json:"mentions,omitempty"`
	// Reopens is the direct channel for those who had closed it.
	Reopens *DirectChangedPayload `json:"reopens,omitempty"`
	// Pings are the users and roles that it mentions, and the guild's id when it is for everyone. It stands last: see package reads.
	Pings []id.ID `json:"pings,omitempty"`
	// Pings are whom it counts as a mention for: users, roles, and the guild's id when it is for everyone. It stands last: see package reads.
}

// MessageUpdatedPayload is the body of MESSAGE_UPDATED: the whole message as it is now.
type MessageUpdatedPayload struct {
	MessageID   id.ID           `json:"message_id"`
	Message     json.RawMessage `json:"message"`
	Author      json.RawMessage `json:"author"`
	Member      json.RawMessage `json:"member,omitempty"`
	ChannelType ChannelType     `json:"channel_type"`
	Mentions    []id.ID         `json:"mentions,omitempty"`
}

// MessageDeletedPayload is the body of MESSAGE_DELETED: one message or up to BulkDeleteMax.
type MessageDeletedPayload struct {
	IDs List[id.ID] `json:"ids"`
}
