package guilds

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

func (s *Service) putOverwrite(c *rest.Call, in wire.SetOverwrite) (rest.None, error) {
	target := c.ID("overwrite")
	return rest.None{}, s.changeChannel(c, perm.ManageRoles, []id.ID{target}, func(ctx context.Context, w *change, ch wire.Channel, own perm.Bits) (event, error) {
		at := find(ch.PermissionOverwrites, target)
		next := wire.Overwrite{ID: target, Type: or(in.Type, wire.OverwriteRole), Allow: in.Allow, Deny: in.Deny}
		var before wire.Overwrite
		if at >= 0 {
			before = ch.PermissionOverwrites[at]
			next.Type = before.Type // what an id names does not change
		} else if !w.exists(next) {
			return event{}, fault.New(fault.UnknownOverwrite)
		}
		if err := holds(own, touched(before, next)); err != nil {
			return event{}, err
		}
		if before == next {
			return event{}, nil
		}
		ch.PermissionOverwrites = slices.Clone(ch.PermissionOverwrites)
		if at >= 0 {
			ch.PermissionOverwrites[at] = next
		} else {
			if len(ch.PermissionOverwrites) >= wire.OverwritesMax {
				return event{}, fault.Invalid(fault.Field{Path: "permission_overwrites", Code: fault.FieldMaxLength,
					Message: fmt.Sprintf("Must be %d or fewer in length.", wire.OverwritesMax)})
			}
			ch.PermissionOverwrites = append(ch.PermissionOverwrites, next)
		}
		return w.update(ctx, ch)
	})
}

func (s *Service) deleteOverwrite(c *rest.Call, _ rest.None) (rest.None, error) {
	target := c.ID("overwrite")
	return rest.None{}, s.changeChannel(c, perm.ManageRoles, nil, func(ctx context.Context, w *change, ch wire.Channel, own perm.Bits) (event, error) {
		at := find(ch.PermissionOverwrites, target)
		if at < 0 {
			return event{}, fault.New(fault.UnknownOverwrite)
		}
		if err := holds(own, touched(ch.PermissionOverwrites[at], wire.Overwrite{})); err != nil {
			return event{}, err
		}
		ch.PermissionOverwrites = slices.Delete(slices.Clone(ch.PermissionOverwrites), at, at+1)
		return w.update(ctx, ch)
	})
}

// overwrites is the list that replaces before. Bits which differ must be the actor's own; what stays as it was may
// exceed them, so that a client can send back a list that it was given. Overwrites of members are not checked against
// the guild here: somebody who has left keeps theirs.
func (w *change) overwrites(before []wire.Overwrite, wanted []wire.ChannelOverwrite, own perm.Bits) (wire.List[wire.Overwrite], error) {
	var out wire.List[wire.Overwrite]
	var wrong []fault.Field
	for i, o := range wanted {
		next := wire.Overwrite{ID: o.ID, Type: o.Type, Allow: o.Allow, Deny: o.Deny}
		if next.Type == wire.OverwriteRole && w.guild.Roles[next.ID] == nil || find(out, next.ID) >= 0 {
			wrong = append(wrong, fault.Field{Path: fmt.Sprintf("permission_overwrites.%d.id", i), Code: fault.FieldChoices,
				Message: "Not a role of this guild, or named twice."})
			continue
		}
		out = append(out, next)
	}
	if wrong != nil {
		return nil, fault.Invalid(wrong...)
	}
	return out, holds(own, allTouched(before, out))
}

// overwriteNotes say which overwrites of a channel are new, different or gone.
func (w *change) overwriteNotes(channel id.ID, before, after []wire.Overwrite) (out []note) {
	add := func(action wire.AuditAction, o wire.Overwrite, changes []wire.AuditChange) {
		options := map[string]string{"id": o.ID.String(), "type": strconv.Itoa(o.Type)}
		if r := w.guild.Roles[o.ID]; r != nil {
			options["role_name"] = r.Name
		}
		out = append(out, note{action: action, target: channel, changes: changes, options: options})
	}
	for _, o := range after {
		switch i := find(before, o.ID); {
		case i < 0:
			add(wire.AuditOverwriteCreate, o, differences(nil, o))
		case before[i] != o:
			add(wire.AuditOverwriteUpdate, o, differences(before[i], o))
		}
	}
	for _, o := range before {
		if find(after, o.ID) < 0 {
			add(wire.AuditOverwriteDelete, o, differences(o, nil))
		}
	}
	return out
}

// exists says whether an overwrite's role or member is there.
func (w *change) exists(o wire.Overwrite) bool {
	if o.Type == wire.OverwriteMember {
		return w.members[o.ID] != nil
	}
	return w.guild.Roles[o.ID] != nil
}

// touched are the bits in which two overwrites differ.
func touched(a, b wire.Overwrite) perm.Bits { return a.Allow ^ b.Allow | a.Deny ^ b.Deny }

// allTouched are the bits in which two lists of overwrites differ.
func allTouched(before, after []wire.Overwrite) (bits perm.Bits) {
	for _, o := range after {
		bits |= touched(byID(before, o.ID), o)
	}
	for _, o := range before {
		bits |= touched(o, byID(after, o.ID))
	}
	return bits
}

// sameOverwrites says whether two lists have the same overwrites, in whatever order.
func sameOverwrites(a, b []wire.Overwrite) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(o wire.Overwrite) bool { return !slices.Contains(b, o) })
}

func find(overwrites []wire.Overwrite, target id.ID) int {
	return slices.IndexFunc(overwrites, func(o wire.Overwrite) bool { return o.ID == target })
}

// byID is the overwrite of a role or member; without one, one that changes nothing.
func byID(overwrites []wire.Overwrite, target id.ID) wire.Overwrite {
	if i := find(overwrites, target); i >= 0 {
		return overwrites[i]
	}
	return wire.Overwrite{}
}
