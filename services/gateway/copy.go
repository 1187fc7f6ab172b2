package gateway

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// copied is a guild that somebody here watches, as it is at the core's position.
type copied struct {
	guild *roster.Guild
	// members are the records of those who are here, and of some who were.
	members map[id.ID]*wire.MemberRecord
	// classes has one class for each set of visible channels, so that equal ones are one.
	classes map[string]*hub.Class
	// byRoles is what members with the same roles see, as long as the guild does not change.
	byRoles map[string]*hub.Class
	// named are the users of whom some channel says something alone; nil when that is not known yet.
	named   map[id.ID]struct{}
	watched time.Time // when somebody here was last seen to watch
}

func newCopy(g *roster.Guild) *copied {
	return &copied{
		guild: g, members: map[id.ID]*wire.MemberRecord{}, classes: map[string]*hub.Class{}, byRoles: map[string]*hub.Class{},
	}
}

// move sets the guild's next snapshot. Classes that nobody has any more go with the next copy.
func (c *copied) move(g *roster.Guild) {
	if g != c.guild {
		c.guild, c.named = g, nil
		clear(c.byRoles)
	}
}

// classOf is what a user sees; nil for who is not a member.
func (c *copied) classOf(user id.ID) *hub.Class {
	m := c.members[user]
	if m == nil {
		return nil
	}
	key := c.rolesKey(m)
	if class := c.byRoles[key]; class != nil {
		return class
	}
	class := hub.NewClass(c.guild.ID, visible(c.guild, m)).Muted(muted(c.guild, m))
	if same := c.classes[class.Key()]; same != nil {
		class = same
	} else {
		c.classes[class.Key()] = class
	}
	c.byRoles[key] = class
	return class
}

// rolesKey is equal for members who certainly see the same: the same roles and time-out, and no channel says anything of them alone.
func (c *copied) rolesKey(m *wire.MemberRecord) string {
	if c.named == nil {
		c.named = named(c.guild)
	}
	roles := slices.Clone(m.Roles)
	slices.Sort(roles)
	key := make([]byte, 0, 8*len(roles)+16)
	key = binary.BigEndian.AppendUint64(key, uint64(m.CommunicationDisabledUntil))
	for _, r := range roles {
		key = binary.BigEndian.AppendUint64(key, uint64(r))
	}
	if _, special := c.named[m.UserID]; special || c.guild.Owner(m.UserID) {
		key = binary.BigEndian.AppendUint64(key, uint64(m.UserID))
	}
	return string(key)
}

func named(g *roster.Guild) map[id.ID]struct{} {
	users := map[id.ID]struct{}{}
	for _, c := range g.Channels {
		for _, o := range c.PermissionOverwrites {
			if o.Type == perm.OverwriteMember {
				users[o.ID] = struct{}{}
			}
		}
	}
	return users
}

// visible is what roles and overwrites let a member see. A time-out takes away nothing of that but the audit log: see muted.
func visible(g *roster.Guild, m *wire.MemberRecord) []id.ID {
	base := g.Granted(m)
	seen := make([]id.ID, 0, len(g.Channels)+1)
	if base.Has(perm.ViewAuditLog) {
		seen = append(seen, g.ID)
	}
	for channel, c := range g.Channels {
		if perm.Channel(base, m.UserID, g.ID, m.Roles, c.PermissionOverwrites)&perm.ViewChannel != 0 {
			seen = append(seen, channel)
		}
	}
	return seen
}

// muted is until when a time-out keeps the audit log from a member who would see it, also if that is over; 0 for never.
func muted(g *roster.Guild, m *wire.MemberRecord) wire.Time {
	if base := g.Granted(m); !base.Has(perm.ViewAuditLog) || base.Has(perm.Administrator) {
		return 0
	}
	return m.CommunicationDisabledUntil
}
