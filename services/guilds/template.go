package guilds

import (
	"context"
	"fmt"
	"slices"
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

	SystemChannelID             wire.Optional[id.ID] `json:"system_channel_id,omitzero"` // absent is the first text channel
	AFKChannelID                id.ID                `json:"afk_channel_id,omitempty"`
	AFKTimeout                  *int                 `json:"afk_timeout,omitempty" validate:"omitnil,oneof=60 300 900 1800 3600"`
	VerificationLevel           *int                 `json:"verification_level,omitempty" validate:"omitnil,min=0,max=4"`
	DefaultMessageNotifications *int                 `json:"default_message_notifications,omitempty" validate:"omitnil,min=0,max=1"`
	ExplicitContentFilter       *int                 `json:"explicit_content_filter,omitempty" validate:"omitnil,min=0,max=2"`
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
	return out, in.settle(out)
}

// settle sets what the body says of the guild itself, and of its channels that have a part in it.
func (in createGuild) settle(out *wire.ServerCreatedPayload) error {
	g := &out.Guild
	g.SystemChannelFlags = in.SystemChannelFlags
	set(&g.AFKTimeout, in.AFKTimeout)
	set(&g.VerificationLevel, in.VerificationLevel)
	set(&g.DefaultMessageNotifications, in.DefaultMessageNotifications)
	set(&g.ExplicitContentFilter, in.ExplicitContentFilter)
	var wrong []fault.Field
	pick := func(to *id.ID, path string, placeholder id.ID, kind wire.ChannelType) {
		for i, ch := range out.Channels {
			if ch.Type == kind && in.Channels[i].Placeholder == placeholder {
				*to = ch.ID
				return
			}
		}
		wrong = append(wrong, fault.Field{Path: path, Code: fault.FieldChoices, Message: "Not a channel of this guild that can be used here."})
	}
	if in.AFKChannelID != 0 {
		pick(&g.AFKChannelID, "afk_channel_id", in.AFKChannelID, wire.ChannelVoice)
	}
	if in.SystemChannelID.Value != 0 {
		pick(&g.SystemChannelID, "system_channel_id", in.SystemChannelID.Value, wire.ChannelText)
	}
	if wrong != nil {
		return fault.Invalid(wrong...)
	}
	if first := slices.IndexFunc(out.Channels, func(ch wire.Channel) bool { return ch.Type == wire.ChannelText }); first >= 0 && !in.SystemChannelID.Set {
		g.SystemChannelID = out.Channels[first].ID
	}
	return nil
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
