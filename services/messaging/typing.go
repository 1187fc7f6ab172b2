package messaging

import (
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// typingTopic is where gateways listen for TypingStart.
const typingTopic = "typing"

// startTyping tells whoever looks at the channel. Nothing of it is kept.
func (s *Service) startTyping(c *rest.Call, _ rest.None) (rest.None, error) {
	ctx := c.Context()
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.SendMessages)
	if err != nil {
		return rest.None{}, err
	}
	if err := mustText(grant.Channel); err != nil {
		return rest.None{}, err
	}
	if err := s.mayReach(ctx, grant, c.User()); err != nil {
		return rest.None{}, err
	}
	user, err := s.roster.User(ctx, c.User())
	if err != nil {
		return rest.None{}, err
	}
	typing := wire.TypingStart{ChannelID: grant.Channel.ID, GuildID: grant.Guild.ID, UserID: c.User(), Timestamp: s.now().Unix()}
	if grant.Member != nil {
		member := grant.Member.Member(user)
		typing.Member = &member
	}
	body, err := encode(wire.TypingSignal{TypingStart: typing, To: grant.To()})
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.log.Signal(ctx, typingTopic, body)
}
