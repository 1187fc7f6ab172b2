package messaging

import (
	"context"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// mayReach answers 50007 to who would write to somebody in a DM whose account is gone, or with whom they have no guild in common any more. In
// a group it is not asked: who does not want to be in it leaves.
func (s *Service) mayReach(ctx context.Context, grant roster.Grant, user id.ID) error {
	if grant.Channel.Type != wire.ChannelDM {
		return nil
	}
	for _, other := range grant.Direct.Others(user) {
		if ok, err := s.roster.Reachable(ctx, user, other); err != nil {
			return err
		} else if !ok {
			return fault.New(fault.CannotMessageUser)
		}
	}
	return nil
}

// reopens is a DM for those who had closed it, and see it again with the message that follows. Of two messages at the same time both may
// bring it.
func (s *Service) reopens(ctx context.Context, grant roster.Grant) (*wire.DirectChangedPayload, error) {
	if grant.Direct == nil || len(grant.Direct.Closed) == 0 {
		return nil, nil
	}
	d := grant.Direct
	p := wire.DirectChangedPayload{Direct: d.Direct, LastMessageID: d.Last}
	for _, u := range d.Recipients {
		if !d.Shows(u, d.Last) {
			p.Came = append(p.Came, u)
		}
	}
	if len(p.Came) == 0 {
		return nil, nil
	}
	faces, err := s.roster.Users(ctx, d.Recipients)
	if err != nil {
		return nil, err
	}
	for _, u := range d.Recipients {
		p.Users = append(p.Users, faces[u])
	}
	return &p, nil
}

// memberOf is the member object of a guild's message; a direct channel has no members.
func memberOf(grant roster.Grant) ([]byte, error) {
	if grant.Member == nil {
		return nil, nil
	}
	return encode(grant.Member.MemberFields)
}
