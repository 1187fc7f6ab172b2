package guilds

import (
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
)

// explainQuery is the query of GET /guilds/{guild}/permissions/explain. No user is the caller; no channel is the guild as a whole.
type explainQuery struct {
	User    id.ID `query:"user"`
	Channel id.ID `query:"channel"`
}

// explanation says what a member may do, and why.
type explanation struct {
	UserID      id.ID          `json:"user_id"`
	ChannelID   id.ID          `json:"channel_id"` // null: the guild as a whole
	Permissions perm.Bits      `json:"permissions"`
	Verdicts    []perm.Verdict `json:"verdicts"`
}

// explain is for members about themselves, and for who manages roles about others; about a channel only for who sees it. All of
// it is read at one moment.
func (s *Service) explain(c *rest.Call, in explainQuery) (explanation, error) {
	out := explanation{UserID: in.User, ChannelID: in.Channel}
	if out.UserID == 0 {
		out.UserID = c.User()
	}
	state, err := s.roster.LookGuild(c.Context(), c.ID("guild"), c.User(), out.UserID)
	if err != nil {
		return out, err
	}
	g, asking, m := state.Guild, state.Members[c.User()], state.Members[out.UserID]
	if g == nil || asking == nil {
		return out, fault.New(fault.UnknownGuild)
	}
	if out.UserID != c.User() && !g.Base(asking).Has(perm.ManageRoles) {
		return out, fault.New(fault.MissingPermissions)
	}
	if in.Channel != 0 {
		if g.Channels[in.Channel] == nil {
			return out, fault.New(fault.UnknownChannel)
		}
		if !g.Permissions(asking, in.Channel).Has(perm.ViewChannel) {
			return out, fault.New(fault.MissingAccess)
		}
	}
	if m == nil {
		return out, fault.New(fault.UnknownMember)
	}
	out.Verdicts = g.Explain(m, in.Channel)
	for _, v := range out.Verdicts {
		if v.Granted {
			out.Permissions |= v.Permission
		}
	}
	return out, nil
}
