package roster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// ErrGap is what Fold answers when an entry is not the next one of the guild: the copy has to be loaded anew.
var ErrGap = errors.New("an entry of the guild was missed")

// Guild is a snapshot of a guild without its members. It is immutable: whoever holds one may read it for ever.
type Guild struct {
	ID      id.ID
	Version int64
	// Meta is the guild itself; its lists of roles and channels are empty, they are below.
	Meta        wire.Guild
	Channels    map[id.ID]*wire.Channel
	Roles       map[id.ID]*wire.Role
	MemberCount int
}

// Owner says whether a user owns the guild.
func (g *Guild) Owner(user id.ID) bool { return g.Meta.OwnerID == user }

// Base is what a member may do in the guild as a whole.
func (g *Guild) Base(m *wire.MemberRecord) perm.Bits {
	granted := g.Granted(m)
	if timedOut(m, granted) {
		return granted & perm.TimedOut
	}
	return granted
}

// timedOut says whether a time-out stands for a member with these permissions. It ends by itself, so the answer is about this moment.
func timedOut(m *wire.MemberRecord, granted perm.Bits) bool {
	return m.CommunicationDisabledUntil != 0 && !granted.Has(perm.Administrator) && m.TimedOut(time.Now())
}

// Granted is Base as if there were no time-outs: what does not change by itself.
func (g *Guild) Granted(m *wire.MemberRecord) perm.Bits {
	var everyone perm.Bits
	if r, ok := g.Roles[g.ID]; ok {
		everyone = r.Permissions
	}
	roles := make([]perm.Bits, 0, len(m.Roles))
	for _, r := range m.Roles {
		if role, ok := g.Roles[r]; ok {
			roles = append(roles, role.Permissions)
		}
	}
	return perm.Guild(g.Owner(m.UserID), everyone, roles)
}

// Permissions is what a member may do in a channel; nothing when the channel does not exist.
func (g *Guild) Permissions(m *wire.MemberRecord, channel id.ID) perm.Bits {
	c, ok := g.Channels[channel]
	if !ok {
		return 0
	}
	granted := g.Granted(m)
	bits := perm.Channel(granted, m.UserID, g.ID, m.Roles, c.PermissionOverwrites)
	if timedOut(m, granted) {
		return bits & perm.TimedOut
	}
	return bits
}

// Explain says what decides each of a member's permissions: in a channel that exists, or with 0 in the guild as a whole.
func (g *Guild) Explain(m *wire.MemberRecord, channel id.ID) []perm.Verdict {
	held := []perm.Held{{ID: g.ID}}
	if r, ok := g.Roles[g.ID]; ok {
		held[0].Permissions = r.Permissions
	}
	for _, r := range m.Roles {
		if role, ok := g.Roles[r]; ok && r != g.ID {
			held = append(held, perm.Held{ID: r, Permissions: role.Permissions})
		}
	}
	var overwrites []perm.Overwrite
	c, inChannel := g.Channels[channel]
	if inChannel {
		overwrites = c.PermissionOverwrites
	}
	verdicts := perm.Explain(g.Owner(m.UserID), m.UserID, held, overwrites, inChannel)
	if timedOut(m, g.Granted(m)) {
		perm.Silence(verdicts)
	}
	return verdicts
}

// Top is the position of a member's highest role; the owner stands above all roles.
func (g *Guild) Top(m *wire.MemberRecord) int {
	if g.Owner(m.UserID) {
		return int(^uint(0) >> 1)
	}
	top := 0
	for _, r := range m.Roles {
		if role, ok := g.Roles[r]; ok {
			top = max(top, role.Position)
		}
	}
	return top
}

// Fold is the guild after an entry: the same pointer when the entry is older than the snapshot or does not concern the guild, nil when
// the guild is deleted, ErrGap when an entry in between was missed. g may be nil only for SERVER_CREATED.
func Fold(g *Guild, e bus.Entry) (*Guild, error) {
	if e.Version == 0 || e.Guild == 0 || isUserEvent(e.Type) {
		return g, nil
	}
	if e.Type == wire.ServerCreated {
		if g != nil {
			return g, nil
		}
		return created(e)
	}
	if g == nil || e.Guild != g.ID || e.Version <= g.Version {
		return g, nil
	}
	if e.Version != g.Version+1 {
		return nil, fmt.Errorf("guild %s at version %d, entry %s leads to %d: %w", g.ID, g.Version, e.Pos, e.Version, ErrGap)
	}
	if e.Type == wire.ServerDeleted {
		return nil, nil
	}
	next := *g
	next.Version = e.Version
	if err := next.change(e); err != nil {
		return nil, fmt.Errorf("fold entry %s (%s): %w", e.Pos, e.Type, err)
	}
	return &next, nil
}

func created(e bus.Entry) (*Guild, error) {
	var p wire.ServerCreatedPayload
	if err := json.Unmarshal(e.Body, &p); err != nil {
		return nil, fmt.Errorf("fold entry %s: %w", e.Pos, err)
	}
	g := &Guild{ID: e.Guild, Version: e.Version, Meta: p.Guild, MemberCount: len(p.Members),
		Channels: make(map[id.ID]*wire.Channel, len(p.Channels)), Roles: make(map[id.ID]*wire.Role, len(p.Roles))}
	for i := range p.Channels {
		g.Channels[p.Channels[i].ID] = &p.Channels[i]
	}
	for i := range p.Roles {
		g.Roles[p.Roles[i].ID] = &p.Roles[i]
	}
	return g, nil
}

// change applies a payload to a fresh copy; maps and the objects in them are shared with the predecessor and replaced, never written.
func (g *Guild) change(e bus.Entry) error {
	switch e.Type {
	case wire.ServerUpdated:
		p, err := payload[wire.ServerUpdatedPayload](e)
		if err != nil {
			return err
		}
		g.Meta = p.Guild
	case wire.ChannelCreated, wire.ChannelUpdated:
		p, err := payload[wire.ChannelChangedPayload](e)
		if err != nil {
			return err
		}
		g.Channels = maps.Clone(g.Channels)
		g.Channels[p.Channel.ID] = &p.Channel
		for i := range p.Others {
			g.Channels[p.Others[i].ID] = &p.Others[i]
		}
	case wire.ChannelDeleted:
		p, err := payload[wire.ChannelDeletedPayload](e)
		if err != nil {
			return err
		}
		g.Channels = withoutChannel(g.Channels, p.ChannelID)
		g.Meta = withoutChannels(g.Meta, g.Channels)
	case wire.RoleCreated, wire.RoleUpdated:
		p, err := payload[wire.RoleChangedPayload](e)
		if err != nil {
			return err
		}
		g.Roles = maps.Clone(g.Roles)
		g.Roles[p.Role.ID] = &p.Role
	case wire.RoleDeleted:
		p, err := payload[wire.RoleDeletedPayload](e)
		if err != nil {
			return err
		}
		g.Roles = maps.Clone(g.Roles)
		delete(g.Roles, p.RoleID)
		g.Channels = withoutOverwrites(g.Channels, p.RoleID)
	case wire.MemberJoined:
		g.MemberCount++
	case wire.MemberRemoved:
		g.MemberCount--
	}
	return nil
}

// withoutChannels takes the guild's references to channels that are not there.
func withoutChannels(meta wire.Guild, channels map[id.ID]*wire.Channel) wire.Guild {
	for _, ref := range []*id.ID{&meta.SystemChannelID, &meta.AFKChannelID} {
		if channels[*ref] == nil {
			*ref = 0
		}
	}
	return meta
}

// withoutChannel also takes the channel, which may be a category, from those that it was the parent of.
func withoutChannel(channels map[id.ID]*wire.Channel, gone id.ID) map[id.ID]*wire.Channel {
	out := maps.Clone(channels)
	delete(out, gone)
	for i, c := range out {
		if c.ParentID == gone {
			moved := *c
			moved.ParentID = 0
			out[i] = &moved
		}
	}
	return out
}

// withoutOverwrites takes a deleted role's overwrites from all channels.
func withoutOverwrites(channels map[id.ID]*wire.Channel, gone id.ID) map[id.ID]*wire.Channel {
	out, cloned := channels, false
	for i, c := range channels {
		for j, o := range c.PermissionOverwrites {
			if o.ID != gone {
				continue
			}
			if !cloned {
				out, cloned = maps.Clone(channels), true
			}
			changed := *c
			changed.PermissionOverwrites = append(append([]perm.Overwrite{}, c.PermissionOverwrites[:j]...), c.PermissionOverwrites[j+1:]...)
			out[i] = &changed
			break
		}
	}
	return out
}

// FoldMember is a member's record after an entry of the guild: the same pointer when the entry does not concern it, nil
// when the user is not a member any more. m may be nil: then only joining makes a record.
func FoldMember(m *wire.MemberRecord, user id.ID, e bus.Entry) (*wire.MemberRecord, error) {
	switch e.Type {
	case wire.MemberJoined, wire.MemberUpdated:
		if e.User != user {
			return m, nil
		}
		p, err := payload[wire.MemberChangedPayload](e)
		if err != nil {
			return nil, err
		}
		return &p.Member, nil
	case wire.MemberRemoved:
		if e.User == user {
			return nil, nil
		}
	case wire.ServerCreated:
		p, err := payload[wire.ServerCreatedPayload](e)
		if err != nil {
			return nil, err
		}
		for i := range p.Members {
			if p.Members[i].UserID == user {
				return &p.Members[i], nil
			}
		}
	case wire.ServerDeleted:
		return nil, nil
	case wire.RoleDeleted:
		p, err := payload[wire.RoleDeletedPayload](e)
		if err != nil {
			return nil, err
		}
		return withoutRole(m, p.RoleID), nil
	}
	return m, nil
}

func withoutRole(m *wire.MemberRecord, role id.ID) *wire.MemberRecord {
	if m == nil {
		return nil
	}
	for i, r := range m.Roles {
		if r == role {
			changed := *m
			changed.Roles = append(append([]id.ID{}, m.Roles[:i]...), m.Roles[i+1:]...)
			return &changed
		}
	}
	return m
}

func payload[T any](e bus.Entry) (*T, error) {
	p := new(T)
	if err := json.Unmarshal(e.Body, p); err != nil {
		return nil, fmt.Errorf("payload of entry %s (%s): %w", e.Pos, e.Type, err)
	}
	return p, nil
}
