package wire

import (
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
)

// Guild is the guild object of REST and the first part of GUILD_CREATE. The log and the store
// hold it without roles, which are aggregates of their own.
//
// It is long because the contract is: what is Null or a constant here is required by clients.
// Make one with NewGuild.
type Guild struct {
	ID                          id.ID        `json:"id"`
	Name                        string       `json:"name"`
	OwnerID                     id.ID        `json:"owner_id"`
	Icon                        *string      `json:"icon"`
	Description                 *string      `json:"description"`
	Banner                      *string      `json:"banner"`
	Splash                      Null         `json:"splash"`
	DiscoverySplash             Null         `json:"discovery_splash"`
	HomeHeader                  Null         `json:"home_header"`
	Features                    List[string] `json:"features"`
	ApplicationID               Null         `json:"application_id"`
	Region                      string       `json:"region"`
	AFKChannelID                id.ID        `json:"afk_channel_id"`
	AFKTimeout                  int          `json:"afk_timeout"`
	SystemChannelID             id.ID        `json:"system_channel_id"`
	SystemChannelFlags          int          `json:"system_channel_flags"`
	WidgetEnabled               bool         `json:"widget_enabled"`
	WidgetChannelID             Null         `json:"widget_channel_id"`
	VerificationLevel           int          `json:"verification_level"`
	DefaultMessageNotifications int          `json:"default_message_notifications"`
	MFALevel                    int          `json:"mfa_level"`
	ExplicitContentFilter       int          `json:"explicit_content_filter"`
	MaxPresences                Null         `json:"max_presences"`
	MaxMembers                  int          `json:"max_members"`
	MaxStageVideoChannelUsers   int          `json:"max_stage_video_channel_users"`
	MaxVideoChannelUsers        int          `json:"max_video_channel_users"`
	VanityURLCode               Null         `json:"vanity_url_code"`
	PremiumTier                 int          `json:"premium_tier"`
	PremiumSubscriptionCount    int          `json:"premium_subscription_count"`
	PremiumProgressBarEnabled   bool         `json:"premium_progress_bar_enabled"`
	PreferredLocale             string       `json:"preferred_locale"`
	RulesChannelID              Null         `json:"rules_channel_id"`
	SafetyAlertsChannelID       Null         `json:"safety_alerts_channel_id"`
	PublicUpdatesChannelID      Null         `json:"public_updates_channel_id"`
	NSFW                        bool         `json:"nsfw"`
	NSFWLevel                   int          `json:"nsfw_level"`
	IncidentsData               Null         `json:"incidents_data"`
	Roles                       List[Role]   `json:"roles"`
	Emojis                      List[Null]   `json:"emojis"`
	Stickers                    List[Null]   `json:"stickers"`

	// The counts are in the answer to with_counts=true alone.
	ApproximateMemberCount   *int `json:"approximate_member_count,omitempty"`
	ApproximatePresenceCount *int `json:"approximate_presence_count,omitempty"`
}

// SuppressJoins is the bit of Guild.SystemChannelFlags with which nobody is told there who joins.
const SuppressJoins = 1 << 0

// NewGuild is a guild with everything at its default.
func NewGuild(guild id.ID, name string, owner id.ID) Guild {
	return Guild{
		ID: guild, Name: name, OwnerID: owner,
		Region:          "automatic",
		AFKTimeout:      300,    // one of the five values that v10 has
		MaxMembers:      500000, // what clients are told; the real ceiling is the host's
		PreferredLocale: LocaleDefault,
	}
}

// GuildCreate is GUILD_CREATE: the guild with all that one member sees of it.
type GuildCreate struct {
	Guild
	JoinedAt             Time             `json:"joined_at"`
	Large                bool             `json:"large"`
	Unavailable          bool             `json:"unavailable"`
	MemberCount          int              `json:"member_count"`
	VoiceStates          List[VoiceState] `json:"voice_states"`
	Members              List[Member]     `json:"members"`
	Channels             List[Channel]    `json:"channels"`
	Threads              List[Null]       `json:"threads"`
	Presences            List[Presence]   `json:"presences"`
	StageInstances       List[Null]       `json:"stage_instances"`
	GuildScheduledEvents List[Null]       `json:"guild_scheduled_events"`
	SoundboardSounds     List[Null]       `json:"soundboard_sounds"`
}

// VoiceState is where somebody is in voice and how.
type VoiceState struct {
	GuildID                 id.ID   `json:"guild_id,omitempty"` // not in GUILD_CREATE
	ChannelID               id.ID   `json:"channel_id"`
	UserID                  id.ID   `json:"user_id"`
	Member                  *Member `json:"member,omitempty"`
	SessionID               string  `json:"session_id"`
	Deaf                    bool    `json:"deaf"`
	Mute                    bool    `json:"mute"`
	SelfDeaf                bool    `json:"self_deaf"`
	SelfMute                bool    `json:"self_mute"`
	SelfStream              bool    `json:"self_stream"`
	SelfVideo               bool    `json:"self_video"`
	Suppress                bool    `json:"suppress"`
	RequestToSpeakTimestamp Null    `json:"request_to_speak_timestamp"`
}

// Presence is how somebody shows: PRESENCE_UPDATE, and an element of GUILD_CREATE.
type Presence struct {
	User         UserRef           `json:"user"`
	GuildID      id.ID             `json:"guild_id,omitempty"`
	Status       string            `json:"status"`
	Activities   List[Null]        `json:"activities"`
	ClientStatus map[string]string `json:"client_status"`
}

// UserRef is a user of whom only the id is told.
type UserRef struct {
	ID id.ID `json:"id"`
}

// UnavailableGuild is an element of READY.guilds, and GUILD_DELETE: there the flag says that
// the guild is only away for a while, and its absence that one is not in it any more.
type UnavailableGuild struct {
	ID          id.ID `json:"id"`
	Unavailable bool  `json:"unavailable,omitempty"`
}

// MyGuild is an element of GET /users/@me/guilds.
type MyGuild struct {
	ID          id.ID        `json:"id"`
	Name        string       `json:"name"`
	Icon        *string      `json:"icon"`
	Banner      *string      `json:"banner"`
	Owner       bool         `json:"owner"`
	Permissions perm.Bits    `json:"permissions"`
	Features    List[string] `json:"features"`

	ApproximateMemberCount   *int `json:"approximate_member_count,omitempty"`
	ApproximatePresenceCount *int `json:"approximate_presence_count,omitempty"`
}

// CreateGuild is the body of POST /guilds.
type CreateGuild struct {
	Name               string           `json:"name" validate:"required,min=2,max=100,nonul"`
	SystemChannelFlags int              `json:"system_channel_flags,omitempty" validate:"min=0,max=2147483647"`
	Icon               Optional[string] `json:"icon,omitzero" validate:"omitnil,max=1400000"`
}

// UpdateGuild is the body of PATCH /guilds/{guild}.
type UpdateGuild struct {
	Name        *string          `json:"name,omitempty" validate:"omitnil,min=2,max=100,nonul"`
	Description Optional[string] `json:"description,omitzero" validate:"omitnil,max=300,nonul"`
	Icon        Optional[string] `json:"icon,omitzero" validate:"omitnil,max=1400000"`
}

// GetGuild is the query of GET /guilds/{guild}.
type GetGuild struct {
	WithCounts bool `query:"with_counts"`
}

// ListGuilds is the query of GET /users/@me/guilds.
type ListGuilds struct {
	Before     id.ID `query:"before"`
	After      id.ID `query:"after"`
	Limit      *int  `query:"limit" validate:"omitnil,min=1,max=200"`
	WithCounts bool  `query:"with_counts"`
}
