package guilds

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// createGuild is a change like any other but for its beginning: there is no row to lock and nobody to be refused.
func (s *Service) createGuild(c *rest.Call, in createGuild) (wire.Guild, error) {
	ctx := c.Context()
	// A token may outlive its account by a moment.
	if _, err := s.roster.User(ctx, c.User()); err != nil {
		return wire.Guild{}, err
	}
	icon, err := s.icons.Read(ctx, "icon", in.Icon)
	if err != nil {
		return wire.Guild{}, err
	}
	made, err := in.build(ctx, c.User(), s.ids.Next)
	if err != nil {
		return wire.Guild{}, err
	}
	made.Guild.Icon = icon.Name()
	if len(made.Roles) > s.config.RolesMax {
		return wire.Guild{}, fault.New(fault.MaxRoles)
	}
	if len(made.Channels) > s.config.ChannelsMax {
		return wire.Guild{}, fault.New(fault.MaxChannels)
	}
	release, err := s.turns.take(ctx, c.User())
	if err != nil {
		return wire.Guild{}, err
	}
	defer release()
	if err := s.outbox.Ready(ctx); err != nil {
		return wire.Guild{}, err
	}
	entry := entryOf(event{kind: wire.ServerCreated, payload: made}, made.Guild.ID, c.User(), 1)
	err = s.store.transact(ctx, func(tx transaction) (bool, error) {
		if err := lockUser(ctx, tx, c.User()); err != nil {
			return false, err
		}
		if err := s.mayJoin(ctx, tx, c.User()); err != nil {
			return false, err
		}
		return true, s.insert(ctx, tx, made, icon, entry)
	})
	if err != nil {
		refusedTotal.Inc()
		return wire.Guild{}, err
	}
	if _, err := s.outbox.Settle(ctx, entry); err != nil {
		return wire.Guild{}, err
	}
	changedTotal.Inc()
	out := made.Guild
	out.Roles = made.Roles
	return out, nil
}

// mayJoin answers 30001 when a user is in as many guilds as anybody may be.
func (s *Service) mayJoin(ctx context.Context, tx transaction, user id.ID) error {
	n, err := countGuilds(ctx, tx, user)
	if err != nil {
		return err
	}
	if n >= s.config.GuildsMax {
		return fault.New(fault.MaxGuilds)
	}
	return nil
}

func (s *Service) insert(ctx context.Context, tx transaction, made *wire.ServerCreatedPayload, icon *picture.Picture, entry bus.Entry) error {
	if err := insertGuild(ctx, tx, &made.Guild); err != nil {
		return err
	}
	if err := keepIcon(ctx, tx, made.Guild.ID, icon); err != nil {
		return err
	}
	for i := range made.Roles {
		if err := saveRole(ctx, tx, made.Guild.ID, &made.Roles[i]); err != nil {
			return err
		}
	}
	for i := range made.Channels {
		if err := saveChannel(ctx, tx, &made.Channels[i]); err != nil {
			return err
		}
	}
	for i := range made.Members {
		if err := saveMember(ctx, tx, made.Guild.ID, &made.Members[i]); err != nil {
			return err
		}
	}
	return s.outbox.Record(ctx, tx, entry)
}

func (s *Service) getGuild(c *rest.Call, in wire.GetGuild) (wire.Guild, error) {
	grant, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), 0)
	if err != nil {
		return wire.Guild{}, err
	}
	out := show(grant.Guild)
	if in.WithCounts {
		out.ApproximateMemberCount = &grant.Guild.MemberCount
		out.ApproximatePresenceCount, err = s.headcount.of(c.Context(), grant.Guild.ID)
	}
	return out, err
}

// show is a guild as REST gives it: with its roles, and without channels that are gone.
func show(g *roster.Guild) wire.Guild {
	out := tidy(g)
	out.Roles = sortedRoles(g)
	return out
}

// tidy is the guild itself. A deleted channel is one change, and takes the places where the guild named it along.
func tidy(g *roster.Guild) wire.Guild {
	out := g.Meta
	if g.Channels[out.SystemChannelID] == nil {
		out.SystemChannelID = 0
	}
	if g.Channels[out.AFKChannelID] == nil {
		out.AFKChannelID = 0
	}
	return out
}

func (s *Service) updateGuild(c *rest.Call, in updateGuild) (out wire.Guild, err error) {
	heir := or(in.OwnerID, 0)
	icon, err := s.icons.Read(c.Context(), "icon", in.Icon)
	if err != nil {
		return out, err
	}
	err = s.change(c, scope{guild: c.ID("guild"), users: []id.ID{heir}}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(perm.ManageGuild); err != nil {
			return event{}, err
		}
		g := tidy(w.guild)
		if err := in.apply(&g, w.guild); err != nil {
			return event{}, err
		}
		if in.OwnerID != nil && !w.guild.Owner(heir) {
			if err := s.mayGive(ctx, w, heir); err != nil {
				return event{}, err
			}
			g.OwnerID = heir
		}
		if in.Icon.Set {
			g.Icon = icon.Name()
			if err := keepIcon(ctx, w.tx, g.ID, icon); err != nil {
				return event{}, err
			}
		}
		out = g
		out.Roles = sortedRoles(w.guild)
		e := event{kind: wire.ServerUpdated, payload: wire.ServerUpdatedPayload{Guild: g}}
		if changes := differences(tidy(w.guild), g); changes != nil {
			e.audit = []note{{action: wire.AuditGuildUpdate, target: g.ID, changes: changes}}
		}
		return e, updateGuildRow(ctx, w.tx, &g)
	})
	return out, err
}

// mayGive says whether the guild can become another's. Only its owner gives it away, to a member (else 10007); to no bot, from which
// nobody could get it back.
func (s *Service) mayGive(ctx context.Context, w *change, heir id.ID) error {
	if !w.guild.Owner(w.user) {
		return fault.New(fault.MissingPermissions)
	}
	if w.members[heir] == nil {
		return fault.New(fault.UnknownMember)
	}
	face, err := s.roster.User(ctx, heir)
	if err != nil {
		return err
	}
	if face.Bot {
		return fault.Invalid(fault.Field{Path: "owner_id", Code: fault.FieldChoices, Message: "A bot cannot own a guild."})
	}
	return nil
}

func (s *Service) deleteGuild(c *rest.Call, _ rest.None) (rest.None, error) {
	guild := c.ID("guild")
	return rest.None{}, s.change(c, scope{guild: guild}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(0); err != nil {
			return event{}, err
		}
		if !w.guild.Owner(c.User()) {
			return event{}, fault.New(fault.MissingPermissions)
		}
		return w.end(ctx)
	})
}

// end deletes the guild.
func (w *change) end(ctx context.Context) (event, error) {
	gone := wire.ServerDeletedPayload{GuildID: w.guild.ID, Channels: slices.Sorted(maps.Keys(w.guild.Channels))}
	return event{kind: wire.ServerDeleted, payload: gone}, deleteGuild(ctx, w.tx, w.guild.ID)
}

func (s *Service) listMyGuilds(c *rest.Call, in wire.ListGuilds) ([]wire.MyGuild, error) {
	ctx := c.Context()
	ids, err := s.roster.GuildsOf(ctx, c.User())
	if err != nil {
		return nil, err
	}
	var out []wire.MyGuild
	for _, guild := range page(ids, in) {
		grant, err := s.roster.CanGuild(ctx, c.User(), guild, 0)
		if fault.Is(err, fault.UnknownGuild) {
			continue // left or deleted since the list was read
		}
		if err != nil {
			return nil, err
		}
		meta := &grant.Guild.Meta
		my := wire.MyGuild{ID: guild, Name: meta.Name, Icon: meta.Icon, Banner: meta.Banner, Owner: grant.Guild.Owner(c.User()),
			Permissions: grant.Perms, Features: meta.Features}
		if in.WithCounts {
			my.ApproximateMemberCount = &grant.Guild.MemberCount
			if my.ApproximatePresenceCount, err = s.headcount.of(ctx, guild); err != nil {
				return nil, err
			}
		}
		out = append(out, my)
	}
	return out, nil
}

// page cuts a rising list of ids: behind after, before before; with before alone, the ones next to it.
func page(ids []id.ID, in wire.ListGuilds) []id.ID {
	limit := wire.GuildsPageMax
	if in.Limit != nil {
		limit = *in.Limit
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(i id.ID) bool { return i <= in.After || in.Before != 0 && i >= in.Before })
	if len(ids) <= limit {
		return ids
	}
	if in.Before != 0 && in.After == 0 {
		return ids[len(ids)-limit:]
	}
	return ids[:limit]
}

func (s *Service) leaveGuild(c *rest.Call, _ rest.None) (rest.None, error) {
	guild := c.ID("guild")
	user, err := s.roster.User(c.Context(), c.User())
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.change(c, scope{guild: guild}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(0); err != nil {
			return event{}, err
		}
		if w.guild.Owner(c.User()) {
			return event{}, fault.Invalid(fault.Field{Path: "guild_id", Code: "GUILD_OWNER_CANNOT_LEAVE",
				Message: "The owner cannot leave; the guild can be deleted, or given to another member."})
		}
		return w.remove(ctx, user, wire.CauseLeft)
	})
}

// updateGuild is the body of PATCH /guilds/{guild}. What else v10 has there means nothing here, and is not looked at: splashes, banners, the
// region, features, and the channels of a community.
type updateGuild struct {
	wire.UpdateGuild
	OwnerID                     *id.ID               `json:"owner_id,omitempty"`
	SystemChannelID             wire.Optional[id.ID] `json:"system_channel_id,omitzero"`
	SystemChannelFlags          *int                 `json:"system_channel_flags,omitempty" validate:"omitnil,min=0,max=2147483647"`
	AFKChannelID                wire.Optional[id.ID] `json:"afk_channel_id,omitzero"`
	AFKTimeout                  *int                 `json:"afk_timeout,omitempty" validate:"omitnil,oneof=60 300 900 1800 3600"`
	VerificationLevel           *int                 `json:"verification_level,omitempty" validate:"omitnil,min=0,max=4"`
	DefaultMessageNotifications *int                 `json:"default_message_notifications,omitempty" validate:"omitnil,min=0,max=1"`
	ExplicitContentFilter       *int                 `json:"explicit_content_filter,omitempty" validate:"omitnil,min=0,max=2"`
	PreferredLocale             *string              `json:"preferred_locale,omitempty" validate:"omitnil,oneof=ar bg cs da de el en-GB en-US es-419 es-ES fi fr he hi hr hu id it ja ko lt nl no pl pt-BR ro ru sv-SE th tr uk vi zh-CN zh-TW"`
}

func (in updateGuild) apply(g *wire.Guild, now *roster.Guild) error {
	var wrong []fault.Field
	if in.Name != nil {
		if g.Name = strings.TrimSpace(*in.Name); len([]rune(g.Name)) < guildNameMin {
			wrong = append(wrong, badName)
		}
	}
	if in.Description.Set {
		g.Description = in.Description.Ptr()
	}
	pick := func(to *id.ID, from wire.Optional[id.ID], path string, kind wire.ChannelType) {
		if !from.Set {
			return
		}
		if ch := now.Channels[from.Value]; from.Value != 0 && (ch == nil || ch.Type != kind) {
			wrong = append(wrong, fault.Field{Path: path, Code: fault.FieldChoices, Message: "Not a channel of this guild that can be used here."})
			return
		}
		*to = from.Value
	}
	pick(&g.SystemChannelID, in.SystemChannelID, "system_channel_id", wire.ChannelText)
	pick(&g.AFKChannelID, in.AFKChannelID, "afk_channel_id", wire.ChannelVoice)
	set(&g.SystemChannelFlags, in.SystemChannelFlags)
	set(&g.AFKTimeout, in.AFKTimeout)
	set(&g.VerificationLevel, in.VerificationLevel)
	set(&g.DefaultMessageNotifications, in.DefaultMessageNotifications)
	set(&g.ExplicitContentFilter, in.ExplicitContentFilter)
	set(&g.PreferredLocale, in.PreferredLocale)
	if wrong != nil {
		return fault.Invalid(wrong...)
	}
	return nil
}

const guildNameMin = 2

var badName = fault.Field{Path: "name", Code: fault.FieldLength, Message: "Must be between 2 and 100 in length."}

// set is for the fields of a PATCH body in which null means no more than absent.
func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// or is what a field of a body says, or else a default.
func or[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

// joined is the record of somebody who becomes a member now.
func joined(user id.ID) wire.MemberRecord {
	return wire.MemberRecord{UserID: user, MemberFields: wire.MemberFields{JoinedAt: wire.At(time.Now())}}
}
