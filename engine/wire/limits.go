package wire

// Limits of API v10, in code points where they count text. What is a setting of a service
// (how many guilds somebody may own) is not here.
const (
	ContentMax     = 2000
	EmbedsMax      = 10
	EmbedTextMax   = 6000 // all texts of all embeds of a message together
	NonceMax       = 25
	AttachmentsMax = 10
	HistoryMax     = 100
	HistoryPage    = 50 // what is given when no limit is asked for
	BulkDeleteMin  = 2
	BulkDeleteMax  = 100
	ReactionsMax   = 20 // different ones under a message
	ReactionsPage  = 25 // of users who have reacted, when no limit is asked for
	PinsMax        = 250
	PinsPageMax    = 50

	MembersPageMax = 1000
	GuildsPageMax  = 200
	BansPageMax    = 1000

	ChannelsPerGuildMax   = 500
	RolesPerGuildMax      = 250
	InvitesPerGuildMax    = 1000
	WebhooksPerGuildMax   = 1000
	WebhooksPerChannelMax = 15
	OverwritesMax         = 100
	ChannelsInCategoryMax = 50

	InviteAgeDefault = 86400 // seconds; 0 is for ever

	BitrateDefault = 64000 // bit/s, what a voice channel gets that names none

	// FrameMax is the largest frame that a client may send, in bytes.
	FrameMax = 4096
	// FramesPerMinuteMax is how many frames a client may send in 60 s, heartbeats apart.
	FramesPerMinuteMax = 120
)
