package guilds

import (
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// Nobody is in voice. What is asked about somebody's voice state is answered as for who is not there just now: strangers and who lacks the
// permission are told so first.

func (s *Service) getVoiceState(c *rest.Call, _ rest.None) (wire.VoiceState, error) {
	return wire.VoiceState{}, s.notInVoice(c, c.ID("user"), 0, fault.UnknownVoiceState)
}

func (s *Service) getMyVoiceState(c *rest.Call, _ rest.None) (wire.VoiceState, error) {
	return wire.VoiceState{}, s.notInVoice(c, c.User(), 0, fault.UnknownVoiceState)
}

// updateVoiceState is the body of PATCH /guilds/{guild}/voice-states/…
type updateVoiceState struct {
	ChannelID               id.ID     `json:"channel_id,omitempty"`
	Suppress                *bool     `json:"suppress,omitempty"`
	RequestToSpeakTimestamp wire.Time `json:"request_to_speak_timestamp,omitempty"`
}

func (s *Service) updateVoiceState(c *rest.Call, _ updateVoiceState) (rest.None, error) {
	return rest.None{}, s.notInVoice(c, c.ID("user"), perm.MuteMembers, fault.NotInVoice)
}

func (s *Service) updateMyVoiceState(c *rest.Call, _ updateVoiceState) (rest.None, error) {
	return rest.None{}, s.notInVoice(c, c.User(), 0, fault.NotInVoice)
}

// notInVoice answers why a member's voice state is not to be had: to members who have what they need, none.
func (s *Service) notInVoice(c *rest.Call, user id.ID, need perm.Bits, none fault.Code) error {
	if _, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), need); err != nil {
		return err
	}
	if _, err := s.roster.Member(c.Context(), c.ID("guild"), user); err != nil {
		return err
	}
	return fault.New(none)
}
