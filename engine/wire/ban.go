package wire

import "github.com/xcord/xcord/engine/id"

// Ban is a ban as REST gives it.
type Ban struct {
	Reason *string `json:"reason"`
	User   User    `json:"user"`
}

// BanUser is the body of PUT /guilds/{guild}/bans/{user}: how much of what the user wrote is to be deleted. Older clients say it in the query.
type BanUser struct {
	DeleteMessageSeconds *int `json:"delete_message_seconds,omitempty" validate:"omitnil,min=0,max=604800"`
	DeleteMessageDays    *int `json:"delete_message_days,omitempty" validate:"omitnil,min=0,max=7"`
	DaysInQuery          *int `query:"delete_message_days" json:"-" validate:"omitnil,min=0,max=7"`
}

// ListBans is the query of GET /guilds/{guild}/bans. Before wins over After.
type ListBans struct {
	Limit  *int  `query:"limit" validate:"omitnil,min=1,max=1000"`
	Before id.ID `query:"before"`
	After  id.ID `query:"after"`
}

// BanChange is GUILD_BAN_ADD and GUILD_BAN_REMOVE.
type BanChange struct {
	GuildID id.ID `json:"guild_id"`
	User    User  `json:"user"`
}
