package guilds

import (
	"slices"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// higher says whether role a stands above role b: by position, and at the same position the older one, which is how
// clients sort them. @everyone is below all others.
func higher(guild id.ID, a, b *wire.Role) bool {
	switch {
	case a.ID == b.ID || a.ID == guild:
		return false
	case b.ID == guild:
		return true
	case a.Position != b.Position:
		return a.Position > b.Position
	}
	return a.ID < b.ID
}

// top is a member's highest role.
func top(g *roster.Guild, m *wire.MemberRecord) *wire.Role {
	best := g.Roles[g.ID]
	for _, r := range m.Roles {
		if role := g.Roles[r]; role != nil && higher(g.ID, role, best) {
			best = role
		}
	}
	return best
}

// above answers 50013 unless the actor stands above a role. Being administrator does not lift anybody; owning the guild
// does.
func (w *change) above(role *wire.Role) error {
	if w.guild.Owner(w.user) || higher(w.guild.ID, top(w.guild, w.actor), role) {
		return nil
	}
	return fault.New(fault.MissingPermissions)
}

// aboveMember answers 50013 unless the actor stands above another member.
func (w *change) aboveMember(m *wire.MemberRecord) error {
	if w.guild.Owner(m.UserID) {
		return fault.New(fault.MissingPermissions)
	}
	return w.above(top(w.guild, m))
}

// sortedRoles are a guild's roles, the lowest first.
func sortedRoles(g *roster.Guild) []wire.Role {
	out := make([]wire.Role, 0, len(g.Roles))
	for _, r := range g.Roles {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b wire.Role) int {
		switch {
		case higher(g.ID, &b, &a):
			return -1
		case higher(g.ID, &a, &b):
			return 1
		}
		return 0
	})
	return out
}
