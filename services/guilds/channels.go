package guilds

import (
	"cmp"
	"context"
	"math"
	"reflect"
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
		if err := w.place(&out, in.ParentID, nil); err != nil {
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
	ch := wire.Channel{ID: made, GuildID: guild, Name: in.Name, Type: or(in.Type, wire.ChannelText), Position: or(in.Position, 0)}
	if ch.Type != wire.ChannelCategory {
		ch.Topic, ch.NSFW, ch.RateLimitPerUser = in.Topic, or(in.NSFW, false), or(in.RateLimitPerUser, 0)
	}
	if ch.Type == wire.ChannelVoice {
		ch.Bitrate, ch.UserLimit, ch.RTCRegion = or(in.Bitrate, wire.BitrateDefault), or(in.UserLimit, 0), in.RTCRegion
	}
	return ch
}

// place puts a channel into a category, or into none. moved are channels that have another place by now than they had.
func (w *change) place(ch *wire.Channel, parent id.ID, moved map[id.ID]wire.Channel) error {
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
		for i, other := range w.guild.Channels {
			if m, ok := moved[i]; ok {
				other = &m
			}
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
		if in.Type != nil && *in.Type != ch.Type {
			return event{}, fault.Invalid(fault.Field{Path: "type", Code: fault.FieldChoices, Message: "The channel cannot become one of this type."})
		}
		edit(&ch, in)
		if in.ParentID.Set {
			if err := w.place(&ch, in.ParentID.Value, nil); err != nil {
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
		return w.update(ctx, ch)
	})
	return wire.AnyChannel{Guild: &out}, err
}

// edit sets what a body says of a channel alone, as far as its type has it.
func edit(ch *wire.Channel, in wire.UpdateChannel) {
	set(&ch.Name, in.Name.Ptr())
	set(&ch.Position, in.Position)
	if ch.Type != wire.ChannelCategory {
		set(&ch.NSFW, in.NSFW)
		set(&ch.RateLimitPerUser, in.RateLimitPerUser)
		if in.Topic.Set {
			ch.Topic = in.Topic.Ptr()
		}
	}
	if ch.Type == wire.ChannelVoice {
		set(&ch.Bitrate, in.Bitrate)
		set(&ch.UserLimit, in.UserLimit)
		if in.RTCRegion.Set {
			ch.RTCRegion = in.RTCRegion.Ptr()
		}
	}
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
		webhooks, err := selectWebhooks(ctx, w.tx, ch.GuildID, ch.ID)
		if err != nil {
			return event{}, err
		}
		gone := wire.ChannelDeletedPayload{ChannelID: ch.ID}
		for _, hook := range webhooks {
			gone.Webhooks = append(gone.Webhooks, hook.ID)
		}
		e := event{kind: wire.ChannelDeleted, channel: ch.ID, payload: gone}
		deleted := note{action: wire.AuditChannelDelete, target: ch.ID}
		if w.seenByAll(ch) {
			deleted.changes = differences(ch, nil)
		}
		e.audit = []note{deleted}
		return e, deleteChannel(ctx, w.tx, ch.GuildID, ch.ID)
	})
	return wire.AnyChannel{Guild: &out}, err
}

// seenByAll says whether there is nobody in the guild who may not know of a channel.
func (w *change) seenByAll(ch wire.Channel) bool {
	hides := func(o wire.Overwrite) bool { return o.Deny.Has(perm.ViewChannel) }
	return w.guild.Roles[w.guild.ID].Permissions.Has(perm.ViewChannel) && !slices.ContainsFunc(ch.PermissionOverwrites, hides)
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

// update saves channels as they are to be, all in one step, and makes the event of it. Channels that are in step with a category stay so:
// what has the same overwrites as a category before has the same afterwards.
func (w *change) update(ctx context.Context, channels ...wire.Channel) (event, error) {
	var others []wire.Channel
	for _, ch := range channels {
		others = append(others, w.inStep(ch, channels)...)
	}
	e := event{kind: wire.ChannelUpdated, channel: channels[0].ID}
	for _, ch := range channels {
		e.audit = append(e.audit, w.channelNotes(ch)...)
	}
	channels = append(channels, others...)
	e.payload = wire.ChannelChangedPayload{Channel: channels[0], Others: channels[1:]}
	for i := range channels {
		if err := saveChannel(ctx, w.tx, &channels[i]); err != nil {
			return event{}, err
		}
	}
	return e, nil
}

// inStep are the channels of a category that follow it to its new overwrites, but for those that are changed themselves.
func (w *change) inStep(category wire.Channel, changed []wire.Channel) (out []wire.Channel) {
	before := w.guild.Channels[category.ID].PermissionOverwrites
	if category.Type != wire.ChannelCategory || sameOverwrites(before, category.PermissionOverwrites) {
		return nil
	}
	for _, ch := range w.guild.Channels {
		itself := slices.ContainsFunc(changed, func(c wire.Channel) bool { return c.ID == ch.ID })
		if ch.ParentID == category.ID && !itself && sameOverwrites(before, ch.PermissionOverwrites) {
			follower := *ch
			follower.PermissionOverwrites = category.PermissionOverwrites
			out = append(out, follower)
		}
	}
	slices.SortFunc(out, func(a, b wire.Channel) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// channelNotes say what is different about a channel. What follows its category has no notes of its own.
func (w *change) channelNotes(is wire.Channel) []note {
	was := *w.guild.Channels[is.ID]
	notes := w.overwriteNotes(is.ID, was.PermissionOverwrites, is.PermissionOverwrites)
	was.PermissionOverwrites, is.PermissionOverwrites = nil, nil
	if changes := differences(was, is); changes != nil {
		notes = append(notes, note{action: wire.AuditChannelUpdate, target: is.ID, changes: changes})
	}
	return notes
}

// moveChannels moves channels, all or none.
func (s *Service) moveChannels(c *rest.Call, in []wire.MoveChannel) (rest.None, error) {
	if len(in) > s.config.ChannelsMax {
		return rest.None{}, fault.New(fault.InvalidForm)
	}
	return rest.None{}, s.change(c, scope{guild: c.ID("guild")}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(perm.ManageChannels); err != nil {
			return event{}, err
		}
		moved := map[id.ID]wire.Channel{}
		for _, m := range in {
			if m.ID == 0 {
				continue
			}
			if err := w.move(m, moved); err != nil {
				return event{}, err
			}
		}
		var channels []wire.Channel
		for _, ch := range moved {
			if !reflect.DeepEqual(ch, *w.guild.Channels[ch.ID]) {
				channels = append(channels, ch)
			}
		}
		if channels == nil {
			return event{}, nil
		}
		slices.SortFunc(channels, func(a, b wire.Channel) int { return cmp.Compare(a.ID, b.ID) })
		return w.update(ctx, channels...)
	})
}

// move puts a channel as it is to be among those that are moved.
func (w *change) move(m wire.MoveChannel, moved map[id.ID]wire.Channel) error {
	_, own, err := w.mayIn(m.ID, perm.ManageChannels)
	if err != nil {
		return err
	}
	ch, again := moved[m.ID]
	if !again {
		ch = *w.guild.Channels[m.ID]
	}
	set(&ch.Position, m.Position)
	if m.ParentID.Set {
		if err := w.place(&ch, m.ParentID.Value, moved); err != nil {
			return err
		}
	}
	if category := w.guild.Channels[ch.ParentID]; or(m.LockPermissions, false) && category != nil {
		if !own.Has(perm.ManageRoles) {
			return fault.New(fault.MissingPermissions)
		}
		if err := holds(own, allTouched(ch.PermissionOverwrites, category.PermissionOverwrites)); err != nil {
			return err
		}
		ch.PermissionOverwrites = category.PermissionOverwrites
	}
	moved[m.ID] = ch
	return nil
}
