package wire

import "github.com/xcord/xcord/engine/id"

// Invite is an invite to a guild, as REST gives it and the log holds it.
type Invite struct {
	Type      int           `json:"type"` // 0: to a guild
	Code      string        `json:"code"`
	GuildID   id.ID         `json:"guild_id"`
	Guild     InviteGuild   `json:"guild"`
	Channel   InviteChannel `json:"channel"`
	Inviter   *User         `json:"inviter,omitempty"`
	CreatedAt Time          `json:"created_at"`
	ExpiresAt Time          `json:"expires_at"` // null: never
	MaxAge    int           `json:"max_age"`    // seconds; 0 is for ever
	MaxUses   int           `json:"max_uses"`   // 0 is without end
	Uses      int           `json:"uses"`
	Temporary bool          `json:"temporary"`
	Flags     int           `json:"flags"`

	ApproximateMemberCount   *int `json:"approximate_member_count,omitempty"`
	ApproximatePresenceCount *int `json:"approximate_presence_count,omitempty"`
}

// InviteGuild is what an invite tells of its guild.
type InviteGuild struct {
	ID                       id.ID        `json:"id"`
	Name                     string       `json:"name"`
	Icon                     *string      `json:"icon"`
	Description              *string      `json:"description"`
	Banner                   *string      `json:"banner"`
	Splash                   Null         `json:"splash"`
	Features                 List[string] `json:"features"`
	VerificationLevel        int          `json:"verification_level"`
	VanityURLCode            Null         `json:"vanity_url_code"`
	NSFW                     bool         `json:"nsfw"`
	NSFWLevel                int          `json:"nsfw_level"`
	PremiumSubscriptionCount int          `json:"premium_subscription_count"`
}

// InviteGuild is the part of a guild that somebody outside may know.
func (g Guild) InviteGuild() InviteGuild {
	return InviteGuild{
		ID: g.ID, Name: g.Name, Icon: g.Icon, Description: g.Description, Banner: g.Banner,
		Features: g.Features, VerificationLevel: g.VerificationLevel, NSFW: g.NSFW, NSFWLevel: g.NSFWLevel,
		PremiumSubscriptionCount: g.PremiumSubscriptionCount,
	}
}

// InviteChannel is what an invite tells of its channel.
type InviteChannel struct {
	ID   id.ID       `json:"id"`
	Type ChannelType `json:"type"`
	Name string      `json:"name"`
}

// CreateInvite is the body of POST /channels/{channel}/invites. An absent MaxAge is
// InviteAgeDefault; an absent or zero MaxUses is without end.
type CreateInvite struct {
	MaxAge    *int  `json:"max_age,omitempty" validate:"omitnil,min=0,max=5184000"`
	MaxUses   *int  `json:"max_uses,omitempty" validate:"omitnil,min=0,max=100"`
	Temporary *bool `json:"temporary,omitempty"`
	Unique    *bool `json:"unique,omitempty"`
}

// GetInvite is the query of GET /invites/{code}.
type GetInvite struct {
	WithCounts bool `query:"with_counts"`
}

// InviteCreate is INVITE_CREATE.
type InviteCreate struct {
	ChannelID id.ID  `json:"channel_id"`
	GuildID   id.ID  `json:"guild_id"`
	Code      string `json:"code"`
	Type      int    `json:"type"`
	Inviter   *User  `json:"inviter,omitempty"`
	CreatedAt Time   `json:"created_at"`
	ExpiresAt Time   `json:"expires_at"`
	MaxAge    int    `json:"max_age"`
	MaxUses   int    `json:"max_uses"`
	Uses      int    `json:"uses"`
	Temporary bool   `json:"temporary"`
}

// Created is the invite as INVITE_CREATE tells it.
func (i Invite) Created() InviteCreate {
	return InviteCreate{
		ChannelID: i.Channel.ID, GuildID: i.GuildID, Code: i.Code, Type: i.Type, Inviter: i.Inviter,
		CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt, MaxAge: i.MaxAge, MaxUses: i.MaxUses,
		Uses: i.Uses, Temporary: i.Temporary,
	}
}

// InviteDelete is INVITE_DELETE.
type InviteDelete struct {
	ChannelID id.ID  `json:"channel_id"`
	GuildID   id.ID  `json:"guild_id"`
	Code      string `json:"code"`
}
