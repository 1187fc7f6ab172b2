package guilds

import (
	"context"
	"math"
	"slices"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// listChannels answers those that the caller can see.
func (s *Service) listChannels(c *rest.Call, _ rest.None) ([]wire.Channel, error) {
	grant, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), 0)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Channel, 0, len(grant.Guild.Channels))
	for _, ch := range grant.Guild.Channels {
		if grant.Guild.Permissions(grant.Member, ch.ID).Has(perm.ViewChannel) {
			out = append(out, *ch)
		}
	}
	slices.SortFunc(out, func(a, b wire.Channel) int {
		if a.Position != b.Position {
			return a.Position - b.Position
		}
		return int(int64(a.ID) - int64(b.ID))
	})
	return out, nil
}

func (s *Service) getChannel(c *rest.Call, _ rest.None) (out wire.AnyChannel, err error) {
	grant, err := s.roster.Can(c.Context(), c.User(), c.ID("channel"), perm.ViewChannel)
	if err != nil {
		return out, err
	}
	if grant.Direct != nil {
		private, err := s.showDirect(c.Context(), c.User(), &grant.Direct.Direct)
		return wire.AnyChannel{Private: &private}, err
	}
	return wire.AnyChannel{Guild: grant.Channel}, nil
}

func (s *Service) createChannel(c *rest.Call, in wire.CreateChannel) (out wire.Channel, err error) {
	made, err := s.ids.Next(c.Context()) // before the transaction: it may need a connection of its own
	if err != nil {
		return out, outage("create a channel", err)
	}
	out = newChannelOf(made, c.ID("guild"), in)
	err = s.change(c, scope{guild: out.GuildID}, func(ctx context.Context, w *change) (event, error) {
		own, err := w.may(perm.ManageChannels)
		if err != nil {
			return event{}, err
		}
		if len(w.guild.Channels) >= s.config.ChannelsMax {
			return event{}, fault.New(fault.MaxChannels)
		}
		if err := w.place(&out, in.ParentID); err != nil {
			return event{}, err
		}
		switch {
		case in.PermissionOverwrites != nil:
			if out.PermissionOverwrites, err = w.overwrites(nil, in.PermissionOverwrites, own); err != nil {
				return event{}, err
			}
		case out.ParentID != 0:
			// A channel in a private category is private, unless somebody says otherwise.
			out.PermissionOverwrites = w.guild.Channels[out.ParentID].PermissionOverwrites
		}
		if in.Position == nil {
			out.Position = min(lastPosition(w.guild, &out)+1, math.MaxInt32)
		}
		e := event{kind: wire.ChannelCreated, channel: out.ID, payload: wire.ChannelChangedPayload{Channel: out}}
		e.audit = []note{{action: wire.AuditChannelCreate, target: out.ID, changes: differences(nil, out)}}
		return e, saveChannel(ctx, w.tx, &out)
	})
	return out, err
}

// newChannelOf is a channel by what a body says of it alone: without its category and overwrites.
func newChannelOf(made, guild id.ID, in wire.CreateChannel) wire.Channel {
	ch := wire.Channel{
		ID: made, GuildID: guild, Name: in.Name, Type: or(in.Type, wire.ChannelText), Topic: in.Topic, NSFW: or(in.NSFW, false),
		Position: or(in.Position, 0), RateLimitPerUser: or(in.RateLimitPerUser, 0),
	}
	if ch.Type == wire.ChannelVoice {
		ch.Bitrate, ch.UserLimit, ch.RTCRegion = or(in.Bitrate, wire.BitrateDefault), or(in.UserLimit, 0), in.RTCRegion
	}
	return ch
}

// place puts a channel into a category, or into none.
func (w *change) place(ch *wire.Channel, parent id.ID) error {
	if parent == ch.ParentID {
		return nil
	}
	wrong := func(message string) error {
		return fault.Invalid(fault.Field{Path: "parent_id", Code: fault.FieldChoices, Message: message})
	}
	if parent != 0 {
		category := w.guild.Channels[parent]
		if category == nil || category.Type != wire.ChannelCategory {
			return wrong("Not a category of this guild.")
		}
		if ch.Type == wire.ChannelCategory {
			return wrong("A category cannot be in another one.")
		}
		if _, _, err := w.mayIn(parent, perm.ManageChannels); err != nil {
			return fault.New(fault.MissingPermissions)
		}
		children := 0
		for _, other := range w.guild.Channels {
			if other.ParentID == parent {
				children++
			}
		}
		if children >= wire.ChannelsInCategoryMax {
			return wrong("The category is full.")
		}
	}
	ch.ParentID = parent
	return nil
}

// lastPosition is that of the last channel which is sorted together with ch; -1 when there is none. Clients sort voice
// channels behind the others of their category.
func lastPosition(g *roster.Guild, ch *wire.Channel) int {
	last := -1
	for _, other := range g.Channels {
		if other.ParentID == ch.ParentID && (other.Type == wire.ChannelVoice) == (ch.Type == wire.ChannelVoice) {
			last = max(last, other.Position)
		}
	}
	return last
}

func (s *Service) updateChannel(c *rest.Call, in wire.UpdateChannel) (wire.AnyChannel, error) {
	var out wire.Channel
	guild, err := s.roster.GuildOf(c.Context(), c.ID("channel"))
	if err == nil && guild == 0 {
		private, err := s.renameDirect(c, in)
		return wire.AnyChannel{Private: &private}, err
	}
	err = s.changeChannel(c, perm.ManageChannels, nil, func(ctx context.Context, w *change, ch wire.Channel, own perm.Bits) (event, error) {
		set(&ch.Name, in.Name.Ptr())
		set(&ch.NSFW, in.NSFW)
		set(&ch.Position, in.Position)
		set(&ch.RateLimitPerUser, in.RateLimitPerUser)
		if in.Topic.Set {
			ch.Topic = in.Topic.Ptr()
		}
		if ch.Type == wire.ChannelVoice {
			set(&ch.Bitrate, in.Bitrate)
			set(&ch.UserLimit, in.UserLimit)
			if in.RTCRegion.Set {
				ch.RTCRegion = in.RTCRegion.Ptr()
			}
		}
		if in.ParentID.Set {
			if err := w.place(&ch, in.ParentID.Value); err != nil {
				return event{}, err
			}
		}
		if in.PermissionOverwrites != nil {
			if !own.Has(perm.ManageRoles) {
				return event{}, fault.New(fault.MissingPermissions)
			}
			var err error
			if ch.PermissionOverwrites, err = w.overwrites(ch.PermissionOverwrites, *in.PermissionOverwrites, own); err != nil {
				return event{}, err
			}
		}
		out = ch
		return w.channelUpdated(&ch), saveChannel(ctx, w.tx, &ch)
	})
	return wire.AnyChannel{Guild: &out}, err
}

func (s *Service) deleteChannel(c *rest.Call, _ rest.None) (wire.AnyChannel, error) {
	var out wire.Channel
	guild, err := s.roster.GuildOf(c.Context(), c.ID("channel"))
	if err == nil && guild == 0 {
		private, err := s.closeDirect(c)
		return wire.AnyChannel{Private: &private}, err
	}
	err = s.changeChannel(c, perm.ManageChannels, nil, func(ctx context.Context, w *change, ch wire.Channel, _ perm.Bits) (event, error) {
		out = ch
		e := event{kind: wire.ChannelDeleted, channel: ch.ID, payload: wire.ChannelDeletedPayload{ChannelID: ch.ID}}
		e.audit = []note{{action: wire.AuditChannelDelete, target: ch.ID, changes: differences(ch, nil)}}
		return e, deleteChannel(ctx, w.tx, ch.GuildID, ch.ID)
	})
	return wire.AnyChannel{Guild: &out}, err
}

// changeChannel is change for the channel of a guild in the path, in which the actor needs need. do gets a copy of the channel and
// what the actor may do there; the channel's lists are shared with the snapshot and must be replaced, not written.
func (s *Service) changeChannel(c *rest.Call, need perm.Bits, users []id.ID, do func(ctx context.Context, w *change, ch wire.Channel, own perm.Bits) (event, error)) error {
	channel := c.ID("channel")
	guild, err := s.roster.GuildOf(c.Context(), channel)
	if err != nil {
		return err
	}
	if guild == 0 {
		if _, err := s.roster.Can(c.Context(), c.User(), channel, 0); err != nil {
			return err
		}
		return fault.New(fault.NotOnDM)
	}
	return s.change(c, scope{guild: guild, missing: fault.UnknownChannel, users: users}, func(ctx context.Context, w *change) (event, error) {
		ch, own, err := w.mayIn(channel, need)
		if err != nil {
			return event{}, err
		}
		return do(ctx, w, *ch, own)
	})
}

// channelUpdated is the event of a channel that is as ch is now.
func (w *change) channelUpdated(ch *wire.Channel) event {
	was := *w.guild.Channels[ch.ID]
	e := event{kind: wire.ChannelUpdated, channel: ch.ID, payload: wire.ChannelChangedPayload{Channel: *ch}}
	e.audit = w.overwriteNotes(ch.ID, was.PermissionOverwrites, ch.PermissionOverwrites)
	is := *ch
	was.PermissionOverwrites, is.PermissionOverwrites = nil, nil
	if changes := differences(was, is); changes != nil {
		e.audit = append(e.audit, note{action: wire.AuditChannelUpdate, target: ch.ID, changes: changes})
	}
	return e
}
