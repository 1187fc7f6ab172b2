package messaging

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// updateSettings changes how a user wants to hear of a guild. The whole of it goes into the log: changes of one user are made one
// after the other in a process, and of two processes at the same moment the later one counts.
func (s *Service) updateSettings(c *rest.Call, in wire.UpdateGuildSettings) (rest.Raw, error) {
	ctx, user, guild := c.Context(), c.User(), c.ID("guild")
	done, err := s.turns.take(ctx, user)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	grant, err := s.roster.CanGuild(ctx, user, guild, 0)
	if err != nil {
		return nil, err
	}
	if err := s.mayOverride(ctx, user, guild, in.ChannelOverrides); err != nil {
		return nil, err
	}
	before, err := s.reads.Settings(ctx, user, guild)
	if err != nil {
		return nil, err
	}
	settings := wire.GuildSettings{GuildID: guild, MessageNotifications: wire.NotifyInherit}
	if before != nil {
		if err := json.Unmarshal(before, &settings); err != nil {
			return nil, fmt.Errorf("settings of user %s: %w", user, err)
		}
	}
	changeSettings(&settings, in, grant.Guild)
	body, err := encode(settings)
	if err != nil || bytes.Equal(body, before) {
		return body, err
	}
	_, err = s.log.Publish(ctx, bus.Post{Entry: bus.Entry{
		Type: wire.SettingsUpdated, Actor: user, User: user, Guild: guild, Body: body,
	}})
	return body, err
}

// mayOverride answers 50035 for all channels that are not the guild's, or that the user cannot see.
func (s *Service) mayOverride(ctx context.Context, user, guild id.ID, overrides wire.ChannelOverrides) error {
	var wrong []fault.Field
	for i, o := range overrides {
		grant, err := s.roster.Can(ctx, user, o.ChannelID, perm.ViewChannel)
		switch {
		case fault.Is(err, fault.UnknownChannel), fault.Is(err, fault.MissingAccess), err == nil && grant.Guild.ID != guild:
			wrong = append(wrong, fault.Field{
				Path: "channel_overrides." + strconv.Itoa(i) + ".channel_id", Code: fault.FieldChoices, Message: "The guild has no such channel.",
			})
		case err != nil:
			return err
		}
	}
	if wrong != nil {
		return fault.Invalid(wrong...)
	}
	return nil
}

// changeSettings applies a request. What an override says of a channel that is not there any more goes, and so does one that says nothing.
func changeSettings(s *wire.GuildSettings, in wire.UpdateGuildSettings, guild *roster.Guild) {
	if in.Muted != nil {
		s.Muted = *in.Muted
	}
	if in.MessageNotifications != nil {
		s.MessageNotifications = *in.MessageNotifications
	}
	for _, o := range in.ChannelOverrides {
		i := slices.IndexFunc(s.ChannelOverrides, func(c wire.ChannelSettings) bool { return c.ChannelID == o.ChannelID })
		if i < 0 {
			i = len(s.ChannelOverrides)
			s.ChannelOverrides = append(s.ChannelOverrides, wire.ChannelSettings{ChannelID: o.ChannelID, MessageNotifications: wire.NotifyInherit})
		}
		if o.Muted != nil {
			s.ChannelOverrides[i].Muted = *o.Muted
		}
		if o.MessageNotifications != nil {
			s.ChannelOverrides[i].MessageNotifications = *o.MessageNotifications
		}
	}
	s.ChannelOverrides = slices.DeleteFunc(s.ChannelOverrides, func(c wire.ChannelSettings) bool {
		return guild.Channels[c.ChannelID] == nil || !c.Muted && c.MessageNotifications == wire.NotifyInherit
	})
}

// turns lets one change of a user's settings be made at a time in this process.
type turns []chan struct{}

// turnsCount is far above how many make one at the same time; users that share a turn only wait for each other.
const turnsCount = 64

func newTurns() turns {
	t := make(turns, turnsCount)
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

// take waits for a user's turn; done gives it back.
func (t turns) take(ctx context.Context, user id.ID) (done func(), err error) {
	turn := t[uint64(user)%turnsCount]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fault.Unavailable(fmt.Errorf("wait for user %s: %w", user, ctx.Err()), 0)
	}
}
