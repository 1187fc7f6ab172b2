package wire

import (
	"time"

	"github.com/xcord/xcord/engine/id"
)

// MemberFields is what a guild knows about one of its members. It is the member object of a
// message, which stands beside the author and so has no user in it.
type MemberFields struct {
	Nick                       *string     `json:"nick"`
	Roles                      List[id.ID] `json:"roles"` // without @everyone
	JoinedAt                   Time        `json:"joined_at"`
	CommunicationDisabledUntil Time        `json:"communication_disabled_until"`
	Avatar                     Null        `json:"avatar"`
	Banner                     Null        `json:"banner"`
	PremiumSince               Null        `json:"premium_since"`
	Flags                      int         `json:"flags"`
	Pending                    bool        `json:"pending"`
	Mute                       bool        `json:"mute"`
	Deaf                       bool        `json:"deaf"`
}

// MemberRecord is a member as the log and the store hold it: the user is told by id, because
// what the user is called changes without the guild's doing.
type MemberRecord struct {
	UserID id.ID `json:"user_id"`
	MemberFields
}

// Member is the member object of REST, with the user, and the dispatches GUILD_MEMBER_ADD and
// GUILD_MEMBER_UPDATE, with the guild's id as well.
type Member struct {
	GuildID id.ID `json:"guild_id,omitempty"`
	User    User  `json:"user"`
	MemberFields
}

// Member is the record as clients see it.
func (m MemberRecord) Member(u User) Member {
	return Member{User: u, MemberFields: m.MemberFields}
}

// HasRole reports whether the member holds the role; everybody holds @everyone, which is
// not in Roles.
func (m MemberRecord) HasRole(role id.ID) bool {
	for _, r := range m.Roles {
		if r == role {
			return true
		}
	}
	return false
}

// TimedOut says whether the member is timed out at a moment. Who is administrator does not care.
func (m MemberFields) TimedOut(now time.Time) bool {
	return now.Before(m.CommunicationDisabledUntil.Time())
}

// UpdateMember is the body of PATCH /guilds/{guild}/members/{user}.
type UpdateMember struct {
	Nick                       Optional[string] `json:"nick,omitzero" validate:"omitnil,max=32,nonul"`
	Roles                      *[]id.ID         `json:"roles,omitempty" validate:"omitnil,max=350"`
	CommunicationDisabledUntil Optional[Time]   `json:"communication_disabled_until,omitzero"`
	Mute                       *bool            `json:"mute,omitempty"`
	Deaf                       *bool            `json:"deaf,omitempty"`
	ChannelID                  Optional[id.ID]  `json:"channel_id,omitzero"` // null puts out of voice
}

// SearchMembers is the query of GET /guilds/{guild}/members/search.
type SearchMembers struct {
	Query string `query:"query" validate:"required,max=100"`
	Limit *int   `query:"limit" validate:"omitnil,min=1,max=1000"`
}

// ListMembers is the query of GET /guilds/{guild}/members.
type ListMembers struct {
	Limit *int  `query:"limit" validate:"omitnil,min=1,max=1000"`
	After id.ID `query:"after"`
}

// MemberGone is GUILD_MEMBER_REMOVE.
type MemberGone struct {
	GuildID id.ID `json:"guild_id"`
	User    User  `json:"user"`
}
