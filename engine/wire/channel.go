package wire

import (
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
)

// ChannelType says what a channel is.
type ChannelType int

// The kinds of channel that there are here.
const (
	ChannelText     ChannelType = 0
	ChannelDM       ChannelType = 1
	ChannelVoice    ChannelType = 2
	ChannelGroupDM  ChannelType = 3
	ChannelCategory ChannelType = 4
)

// Texts reports whether messages can be sent to channels of this type. A voice channel has a
// text chat of its own.
func (t ChannelType) Texts() bool { return t != ChannelCategory }

// Overwrite is a permission overwrite of a channel.
type Overwrite = perm.Overwrite

// Channel is a channel of a guild. A direct one is a PrivateChannel.
type Channel struct {
	ID                   id.ID           `json:"id"`
	Type                 ChannelType     `json:"type"`
	GuildID              id.ID           `json:"guild_id,omitempty"`
	Name                 string          `json:"name,omitempty"`
	Position             int             `json:"position"`
	Flags                int             `json:"flags"`
	ParentID             id.ID           `json:"parent_id"`
	Topic                *string         `json:"topic"`
	NSFW                 bool            `json:"nsfw"`
	LastMessageID        id.ID           `json:"last_message_id"`
	RateLimitPerUser     int             `json:"rate_limit_per_user"`
	Bitrate              int             `json:"bitrate,omitempty"`    // voice channels have at least 8000
	UserLimit            int             `json:"user_limit"`           // 0 is none
	RTCRegion            *string         `json:"rtc_region,omitempty"` // absent is automatic
	PermissionOverwrites List[Overwrite] `json:"permission_overwrites"`
}

// ChannelUpdate is CHANNEL_UPDATE: the channel but for its last message, which the change does not know, and which a null would make
// clients forget.
type ChannelUpdate struct {
	Channel
	LastMessageID *id.ID `json:"last_message_id,omitempty"` // nil
}

// SetOverwrite is the body of PUT /channels/{channel}/permissions/{overwrite}. An absent Type
// is that of the overwrite that is there, or else a role's.
type SetOverwrite struct {
	Type  *int      `json:"type,omitempty" validate:"omitnil,oneof=0 1"`
	Allow perm.Bits `json:"allow"`
	Deny  perm.Bits `json:"deny"`
}

// ChannelOverwrite is an element of permission_overwrites in a request. An absent Type is a role's.
type ChannelOverwrite struct {
	ID    id.ID     `json:"id" validate:"required"`
	Type  int       `json:"type" validate:"oneof=0 1"`
	Allow perm.Bits `json:"allow"`
	Deny  perm.Bits `json:"deny"`
}

// CreateChannel is the body of POST /guilds/{guild}/channels.
type CreateChannel struct {
	Name                 string             `json:"name" validate:"required,max=100,nonul"`
	Type                 *ChannelType       `json:"type,omitempty" validate:"omitnil,oneof=0 2 4"`
	Topic                *string            `json:"topic,omitempty" validate:"omitnil,max=4096,nonul"`
	NSFW                 *bool              `json:"nsfw,omitempty"`
	Position             *int               `json:"position,omitempty" validate:"omitnil,min=0,max=2147483647"`
	ParentID             id.ID              `json:"parent_id,omitempty"`
	RateLimitPerUser     *int               `json:"rate_limit_per_user,omitempty" validate:"omitnil,min=0,max=21600"`
	Bitrate              *int               `json:"bitrate,omitempty" validate:"omitnil,min=8000,max=384000"`
	UserLimit            *int               `json:"user_limit,omitempty" validate:"omitnil,min=0,max=99"`
	RTCRegion            *string            `json:"rtc_region,omitempty" validate:"omitnil,max=64,nonul"`
	PermissionOverwrites []ChannelOverwrite `json:"permission_overwrites,omitempty" validate:"max=100,dive"`
}

// UpdateChannel is the body of PATCH /channels/{channel}. Of a direct channel only the name counts, and only there may it be taken away.
// UpdateChannel is the body of PATCH /channels/{channel}. Type is what it is already: no kind of channel here becomes another.
type UpdateChannel struct {
	Name                 Optional[string]    `json:"name,omitzero" validate:"omitnil,min=1,max=100,nonul"`
	Type                 *ChannelType        `json:"type,omitempty"`
	Topic                Optional[string]    `json:"topic,omitzero" validate:"omitnil,max=4096,nonul"`
	NSFW                 *bool               `json:"nsfw,omitempty"`
	Position             *int                `json:"position,omitempty" validate:"omitnil,min=0,max=2147483647"`
	ParentID             Optional[id.ID]     `json:"parent_id,omitzero"`
	RateLimitPerUser     *int                `json:"rate_limit_per_user,omitempty" validate:"omitnil,min=0,max=21600"`
	Bitrate              *int                `json:"bitrate,omitempty" validate:"omitnil,min=8000,max=384000"`
	UserLimit            *int                `json:"user_limit,omitempty" validate:"omitnil,min=0,max=99"`
	RTCRegion            Optional[string]    `json:"rtc_region,omitzero" validate:"omitnil,max=64,nonul"`
	PermissionOverwrites *[]ChannelOverwrite `json:"permission_overwrites,omitempty" validate:"omitnil,max=100,dive"`
}

// MoveChannel is an element of the body of PATCH /guilds/{guild}/channels. LockPermissions gives the channel the overwrites of its category.
type MoveChannel struct {
	ID              id.ID           `json:"id"`
	Position        *int            `json:"position,omitempty" validate:"omitnil,min=0,max=2147483647"`
	ParentID        Optional[id.ID] `json:"parent_id,omitzero"`
	LockPermissions *bool           `json:"lock_permissions,omitempty"`
}

// The two kinds of Overwrite.
const (
	OverwriteRole   = perm.OverwriteRole
	OverwriteMember = perm.OverwriteMember
)
