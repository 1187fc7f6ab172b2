package guilds

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

func (s *Service) listRoles(c *rest.Call, _ rest.None) ([]wire.Role, error) {
	grant, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), 0)
	if err != nil {
		return nil, err
	}
	return sortedRoles(grant.Guild), nil
}

func (s *Service) getRole(c *rest.Call, _ rest.None) (wire.Role, error) {
	ctx, guild, role := c.Context(), c.ID("guild"), c.ID("role")
	grant, err := s.roster.CanGuild(ctx, c.User(), guild, 0)
	if err != nil {
		return wire.Role{}, err
	}
	r := grant.Guild.Roles[role]
	if r == nil {
		// Not from a copy: the role may have been made by another process a moment ago.
		if grant, err = s.roster.CanGuildFresh(ctx, c.User(), guild, 0); err != nil {
			return wire.Role{}, err
		}
		if r = grant.Guild.Roles[role]; r == nil {
			return wire.Role{}, fault.New(fault.UnknownRole)
		}
	}
	return *r, nil
}

// createRole puts the new role at the bottom, where everybody who may make one stands above it.
func (s *Service) createRole(c *rest.Call, in wire.CreateRole) (out wire.Role, err error) {
	made, err := s.ids.Next(c.Context()) // before the transaction: it may need a connection of its own
	if err != nil {
		return out, outage("create a role", err)
	}
	guild := c.ID("guild")
	err = s.change(c, scope{guild: guild}, func(ctx context.Context, w *change) (event, error) {
		own, err := w.may(perm.ManageRoles)
		if err != nil {
			return event{}, err
		}
		if len(w.guild.Roles) >= s.config.RolesMax {
			return event{}, fault.New(fault.MaxRoles)
		}
		out = newRoleOf(made, in)
		if in.Permissions == nil {
			out.Permissions = w.guild.Roles[guild].Permissions & own
		}
		if err := holds(own, out.Permissions); err != nil {
			return event{}, err
		}
		e := event{kind: wire.RoleCreated, payload: wire.RoleChangedPayload{Role: out}}
		e.audit = []note{{action: wire.AuditRoleCreate, target: out.ID, changes: differences(nil, out)}}
		return e, saveRole(ctx, w.tx, guild, &out)
	})
	return out, err
}

func newRoleOf(made id.ID, in wire.CreateRole) wire.Role {
	r := wire.Role{
		ID: made, Name: strings.TrimSpace(or(in.Name, "")), Position: 1, Permissions: or(in.Permissions, 0),
		Hoist: or(in.Hoist, false), Mentionable: or(in.Mentionable, false), UnicodeEmoji: in.UnicodeEmoji,
	}
	if r.Name == "" {
		r.Name = "new role"
	}
	colour(&r, in.Color, in.Colors)
	return r
}

// colour sets what a body says of colours; the newer form wins.
func colour(r *wire.Role, plain *int, colors *wire.SetRoleColors) {
	if plain != nil {
		r.Colors.Primary = *plain
	}
	if colors != nil {
		set(&r.Colors.Primary, colors.Primary)
		r.Colors.Secondary, r.Colors.Tertiary = colors.Secondary, colors.Tertiary
	}
	r.Color = r.Colors.Primary
}

func (s *Service) updateRole(c *rest.Call, in wire.UpdateRole) (out wire.Role, err error) {
	err = s.changeRole(c, func(ctx context.Context, w *change, r wire.Role, own perm.Bits) (event, error) {
		if in.Permissions != nil {
			if err := holds(own, r.Permissions^*in.Permissions); err != nil {
				return event{}, err
			}
			r.Permissions = *in.Permissions
		}
		if in.Name != nil && r.ID != w.guild.ID {
			if name := strings.TrimSpace(*in.Name); name != "" {
				r.Name = name
			}
		}
		set(&r.Hoist, in.Hoist)
		set(&r.Mentionable, in.Mentionable)
		if in.UnicodeEmoji.Set {
			r.UnicodeEmoji = in.UnicodeEmoji.Ptr()
		}
		colour(&r, in.Color, in.Colors)
		out = r
		return w.roleUpdated(&r), saveRole(ctx, w.tx, w.guild.ID, &r)
	})
	return out, err
}

func (s *Service) deleteRole(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.changeRole(c, func(ctx context.Context, w *change, r wire.Role, _ perm.Bits) (event, error) {
		if r.ID == w.guild.ID {
			return event{}, fault.New(fault.InvalidRole)
		}
		e := event{kind: wire.RoleDeleted, payload: wire.RoleDeletedPayload{RoleID: r.ID}}
		e.audit = []note{{action: wire.AuditRoleDelete, target: r.ID, changes: differences(r, nil)}}
		return e, deleteRole(ctx, w.tx, w.guild.ID, r.ID)
	})
}

// changeRole is change for the role in the path, which the actor must stand above. do gets a copy of the role, and what the
// actor may do in the guild. Nobody but the owner stands above @everyone by @everyone alone.
func (s *Service) changeRole(c *rest.Call, do func(ctx context.Context, w *change, r wire.Role, own perm.Bits) (event, error)) error {
	return s.change(c, scope{guild: c.ID("guild")}, func(ctx context.Context, w *change) (event, error) {
		own, err := w.may(perm.ManageRoles)
		if err != nil {
			return event{}, err
		}
		r := w.guild.Roles[c.ID("role")]
		if r == nil {
			return event{}, fault.New(fault.UnknownRole)
		}
		if err := w.above(r); err != nil {
			return event{}, err
		}
		return do(ctx, w, *r, own)
	})
}

// moveRoles moves the roles one by one, in the order of the list, and stops at the first that must not be moved: each is
// a change of its own, judged by what the ones before it made of the guild.
func (s *Service) moveRoles(c *rest.Call, in []wire.MoveRole) ([]wire.Role, error) {
	if len(in) > s.config.RolesMax {
		return nil, fault.New(fault.InvalidForm)
	}
	moves, err := s.inOrder(c, in)
	if err != nil {
		return nil, err
	}
	for _, m := range moves {
		if err := s.moveRole(c, m.ID, *m.Position); err != nil {
			return nil, err
		}
	}
	return s.listRoles(c, rest.None{})
}

// inOrder puts moves so that no role gets in the way of another: those that go up from the highest down, then those that go down from the lowest up. Clients
// send all roles of a guild to move one.
func (s *Service) inOrder(c *rest.Call, in []wire.MoveRole) ([]wire.MoveRole, error) {
	grant, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), 0)
	if err != nil {
		return nil, err
	}
	moves := slices.DeleteFunc(slices.Clone(in), func(m wire.MoveRole) bool { return m.Position == nil })
	up := func(m wire.MoveRole) bool {
		r := grant.Guild.Roles[m.ID]
		return r != nil && *m.Position > r.Position
	}
	slices.SortStableFunc(moves, func(a, b wire.MoveRole) int {
		switch upA, upB := up(a), up(b); {
		case upA && upB:
			return *b.Position - *a.Position
		case upA:
			return -1
		case upB:
			return 1
		}
		return *a.Position - *b.Position
	})
	return moves, nil
}

func (s *Service) moveRole(c *rest.Call, role id.ID, position int) error {
	return s.change(c, scope{guild: c.ID("guild")}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(perm.ManageRoles); err != nil {
			return event{}, err
		}
		found := w.guild.Roles[role]
		switch {
		case found == nil:
			return event{}, fault.New(fault.UnknownRole)
		case found.Position == position:
			return event{}, nil
		case role == w.guild.ID || position < 1 || position > math.MaxInt32:
			// @everyone stays at 0 and is alone there.
			return event{}, fault.New(fault.InvalidRole)
		}
		r := *found
		r.Position = position
		switch err := w.above(found); {
		case err != nil && (position > len(w.guild.Roles) || !w.sameOrder(&r)):
			return event{}, err
		case err == nil && !w.guild.Owner(w.user) && position >= top(w.guild, w.actor).Position:
			return event{}, fault.New(fault.MissingPermissions)
		}
		return w.roleUpdated(&r), saveRole(ctx, w.tx, w.guild.ID, &r)
	})
}

// sameOrder says whether a role at another position stands above and below the same roles as before: clients that
// number all roles anew to move one do so with those that are above who asks, too.
func (w *change) sameOrder(moved *wire.Role) bool {
	was := w.guild.Roles[moved.ID]
	for _, r := range w.guild.Roles {
		if r.ID != moved.ID && higher(w.guild.ID, moved, r) != higher(w.guild.ID, was, r) {
			return false
		}
	}
	return true
}

// roleUpdated is the event of a role that is as r is now.
func (w *change) roleUpdated(r *wire.Role) event {
	e := event{kind: wire.RoleUpdated, payload: wire.RoleChangedPayload{Role: *r}}
	if changes := differences(*w.guild.Roles[r.ID], *r); changes != nil {
		e.audit = []note{{action: wire.AuditRoleUpdate, target: r.ID, changes: changes}}
	}
	return e
}
