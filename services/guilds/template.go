package guilds

import (
	"context"
	"fmt"
	"strings"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// createGuild is the body of POST /guilds. The ids in it are the client's own, for naming roles and categories within
// the body; the first role is @everyone.
type createGuild struct {
	wire.CreateGuild
	Channels []newChannel `json:"channels,omitempty" validate:"max=500,dive"`
	Roles    []newRole    `json:"roles,omitempty" validate:"max=250,dive"`
}

type newChannel struct {
	Placeholder id.ID `json:"id"`
	wire.CreateChannel
}

type newRole struct {
	Placeholder id.ID `json:"id"`
	wire.CreateRole
}

// build makes the whole guild, with ids from next.
func (in createGuild) build(ctx context.Context, owner id.ID, next func(context.Context) (id.ID, error)) (*wire.ServerCreatedPayload, error) {
	name := strings.TrimSpace(in.Name)
	if len([]rune(name)) < guildNameMin {
		return nil, fault.Invalid(badName)
	}
	if len(in.Channels) == 0 {
		text, voice := wire.ChannelText, wire.ChannelVoice
		in.Channels = []newChannel{
			{CreateChannel: wire.CreateChannel{Name: "general", Type: &text}},
			{CreateChannel: wire.CreateChannel{Name: "General", Type: &voice}},
		}
	}
	guild, err := next(ctx)
	if err != nil {
		return nil, outage("create a guild", err)
	}
	out := &wire.ServerCreatedPayload{Guild: wire.NewGuild(guild, name, owner), Members: []wire.MemberRecord{joined(owner)}}
	roles, err := in.buildRoles(ctx, out, next)
	if err != nil {
		return nil, err
	}
	if err := in.buildChannels(ctx, out, roles, next); err != nil {
		return nil, err
	}
	out.Guild.SystemChannelFlags = in.SystemChannelFlags
	out.Guild.SystemChannelID, err = in.systemChannel(out.Channels)
	return out, err
}

// systemChannel is the one that the body names, or else the first text channel; 0 when there is none.
func (in createGuild) systemChannel(made []wire.Channel) (id.ID, error) {
	for i, ch := range made {
		if ch.Type == wire.ChannelText && (in.SystemChannelID == 0 || in.Channels[i].Placeholder == in.SystemChannelID) {
			return ch.ID, nil
		}
	}
	if in.SystemChannelID != 0 {
		return 0, fault.Invalid(fault.Field{Path: "system_channel_id", Code: fault.FieldChoices, Message: "Not a text channel of this guild."})
	}
	return 0, nil
}

// buildRoles answers what the body's ids of roles stand for.
func (in createGuild) buildRoles(ctx context.Context, out *wire.ServerCreatedPayload, next func(context.Context) (id.ID, error)) (map[id.ID]id.ID, error) {
	everyone := wire.Role{ID: out.Guild.ID, Name: "@everyone", Permissions: perm.DefaultEveryone}
	if len(in.Roles) > 0 {
		everyone.Permissions = or(in.Roles[0].Permissions, everyone.Permissions)
	}
	out.Roles = append(out.Roles, everyone)
	known := map[id.ID]id.ID{}
	for i, r := range in.Roles {
		made := out.Guild.ID
		if i > 0 {
			var err error
			if made, err = next(ctx); err != nil {
				return nil, outage("create a guild", err)
			}
			role := newRoleOf(made, r.CreateRole)
			role.Position = i
			out.Roles = append(out.Roles, role)
		}
		if r.Placeholder != 0 {
			known[r.Placeholder] = made
		}
	}
	return known, nil
}

func (in createGuild) buildChannels(ctx context.Context, out *wire.ServerCreatedPayload, roles map[id.ID]id.ID, next func(context.Context) (id.ID, error)) error {
	categories := map[id.ID]id.ID{}
	out.Channels = make([]wire.Channel, len(in.Channels))
	for i, c := range in.Channels {
		made, err := next(ctx)
		if err != nil {
			return outage("create a guild", err)
		}
		ch := newChannelOf(made, out.Guild.ID, c.CreateChannel)
		ch.Position = or(c.Position, i)
		if ch.Type == wire.ChannelCategory && c.Placeholder != 0 {
			categories[c.Placeholder] = made
		}
		for j, o := range c.PermissionOverwrites {
			role, ok := roles[o.ID]
			if !ok || o.Type != wire.OverwriteRole {
				return fault.Invalid(fault.Field{Path: fmt.Sprintf("channels.%d.permission_overwrites.%d.id", i, j),
					Code: fault.FieldChoices, Message: "Not a role of this guild."})
			}
			ch.PermissionOverwrites = append(ch.PermissionOverwrites, wire.Overwrite{ID: role, Allow: o.Allow, Deny: o.Deny})
		}
		out.Channels[i] = ch
	}
	for i, c := range in.Channels {
		if c.ParentID == 0 {
			continue
		}
		parent, ok := categories[c.ParentID]
		if !ok || out.Channels[i].Type == wire.ChannelCategory {
			return fault.Invalid(fault.Field{Path: fmt.Sprintf("channels.%d.parent_id", i), Code: fault.FieldChoices, Message: "Not a category."})
		}
		out.Channels[i].ParentID = parent
	}
	return nil
}
