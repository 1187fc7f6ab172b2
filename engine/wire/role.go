package wire

import (
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
)

// Role is a role of a guild. The role whose id equals the guild's is @everyone.
type Role struct {
	ID           id.ID      `json:"id"`
	Name         string     `json:"name"`
	Permissions  perm.Bits  `json:"permissions"`
	Position     int        `json:"position"`
	Color        int        `json:"color"`
	Colors       RoleColors `json:"colors"`
	Hoist        bool       `json:"hoist"`
	Managed      bool       `json:"managed"`
	Mentionable  bool       `json:"mentionable"`
	Icon         *string    `json:"icon"`
	UnicodeEmoji *string    `json:"unicode_emoji"`
	Flags        int        `json:"flags"`
}

// RoleColors are a role's colours; the primary one is also in Role.Color.
type RoleColors struct {
	Primary   int  `json:"primary_color"`
	Secondary *int `json:"secondary_color"`
	Tertiary  *int `json:"tertiary_color"`
}

// CreateRole is the body of POST /guilds/{guild}/roles; everything may be absent.
type CreateRole struct {
	Name         *string        `json:"name,omitempty" validate:"omitnil,min=1,max=100,nonul"`
	Permissions  *perm.Bits     `json:"permissions,omitempty"`
	Color        *int           `json:"color,omitempty" validate:"omitnil,min=0,max=16777215"`
	Colors       *SetRoleColors `json:"colors,omitempty"`
	Hoist        *bool          `json:"hoist,omitempty"`
	Mentionable  *bool          `json:"mentionable,omitempty"`
	UnicodeEmoji *string        `json:"unicode_emoji,omitempty" validate:"omitnil,max=100,nonul"`
}

// UpdateRole is the body of PATCH /guilds/{guild}/roles/{role}.
type UpdateRole struct {
	Name         *string          `json:"name,omitempty" validate:"omitnil,min=1,max=100,nonul"`
	Permissions  *perm.Bits       `json:"permissions,omitempty"`
	Color        *int             `json:"color,omitempty" validate:"omitnil,min=0,max=16777215"`
	Colors       *SetRoleColors   `json:"colors,omitempty"`
	Hoist        *bool            `json:"hoist,omitempty"`
	Mentionable  *bool            `json:"mentionable,omitempty"`
	UnicodeEmoji Optional[string] `json:"unicode_emoji,omitzero" validate:"omitnil,max=100,nonul"`
}

// SetRoleColors are RoleColors in a request; they win over a plain color.
type SetRoleColors struct {
	Primary   *int `json:"primary_color,omitempty" validate:"omitnil,min=0,max=16777215"`
	Secondary *int `json:"secondary_color,omitempty" validate:"omitnil,min=0,max=16777215"`
	Tertiary  *int `json:"tertiary_color,omitempty" validate:"omitnil,min=0,max=16777215"`
}

// MoveRole is an element of the body of PATCH /guilds/{guild}/roles.
type MoveRole struct {
	ID       id.ID `json:"id" validate:"required"`
	Position *int  `json:"position" validate:"omitnil,min=0"`
}

// GuildRole is GUILD_ROLE_CREATE and GUILD_ROLE_UPDATE.
type GuildRole struct {
	GuildID id.ID `json:"guild_id"`
	Role    Role  `json:"role"`
}

// GuildRoleDelete is GUILD_ROLE_DELETE.
type GuildRoleDelete struct {
	GuildID id.ID `json:"guild_id"`
	RoleID  id.ID `json:"role_id"`
}
