package roster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// Direct is a snapshot of a direct channel. It is immutable.
type Direct struct {
	wire.Direct
	Version int64
	// Last is its latest message, deleted or not; 0 for none. A copy may know of an earlier one.
	Last id.ID
}

// inNone is the guild of what is in none: nothing is in it, and its id is left out where clients are told of it.
func inNone(members int) *Guild { return &Guild{MemberCount: members} }

// judgeDirect is what somebody may do in a direct channel: whoever is in it may take part (perm.Direct), and nobody manages it.
func judgeDirect(d *Direct, user id.ID, need perm.Bits) (Grant, error) {
	switch {
	case d == nil:
		return Grant{}, fault.New(fault.UnknownChannel)
	case !d.Has(user):
		return Grant{}, fault.New(fault.MissingAccess)
	case !perm.Direct.Has(need):
		return Grant{}, fault.New(fault.NotOnDM)
	}
	return Grant{
		Guild: inNone(len(d.Recipients)), Channel: &wire.Channel{ID: d.ID, Type: d.Type}, Direct: d, Version: d.Version, Perms: perm.Direct,
	}, nil
}

// canDirect is Can for a direct channel.
func (r *Roster) canDirect(ctx context.Context, user, channel id.ID, need perm.Bits) (Grant, error) {
	r.mu.Lock()
	d, ok := r.directs.Get(channel)
	r.mu.Unlock()
	if ok {
		if grant, err := judgeDirect(d, user, need); err == nil {
			return grant, nil
		}
		refusedTotal.Inc()
	}
	d, err := r.loadDirect(ctx, channel)
	if err != nil {
		return Grant{}, err
	}
	return judgeDirect(d, user, need)
}

// loadDirect reads a direct channel, nil when there is none, and keeps what it read unless the copy is newer by now.
func (r *Roster) loadDirect(ctx context.Context, channel id.ID) (*Direct, error) {
	loadsTotal.Inc()
	for {
		found, pos, err := r.LookDirects(ctx, []id.ID{channel})
		if err != nil {
			return nil, err
		}
		if d, ok := r.keepDirect(channel, found, pos); ok {
			return d, nil
		}
	}
}

func (r *Roster) keepDirect(channel id.ID, found []*Direct, pos bus.Position) (*Direct, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pos.Less(r.pos) {
		return nil, false
	}
	if len(found) == 0 {
		r.directs.Remove(channel)
		return nil, true
	}
	if have, ok := r.directs.Peek(channel); ok && have.Version > found[0].Version {
		return nil, false
	}
	r.directs.Add(channel, found[0])
	return found[0], true
}

// LookDirects reads those of some direct channels that there are, and says where the log ended then.
func (r *Roster) LookDirects(ctx context.Context, channels []id.ID) ([]*Direct, bus.Position, error) {
	ops := make([]bus.Op, len(channels))
	for i, c := range channels {
		ops[i] = bus.Op{Command: "HMGET", Key: directKey(c), Args: []string{"v", fieldDirect, fieldLast}}
	}
	pos, parts, err := r.log.Look(ctx, ops)
	if err != nil {
		return nil, pos, err
	}
	out := make([]*Direct, 0, len(channels))
	for i, c := range channels {
		d, err := decodeDirect(parts[i])
		if err != nil {
			return nil, pos, fmt.Errorf("direct channel %s: %w", c, err)
		}
		if d != nil {
			out = append(out, d)
		}
	}
	return out, pos, nil
}

func decodeDirect(raw rueidis.RedisMessage) (*Direct, error) {
	fields, err := raw.ToArray()
	if err != nil || fields[1].IsNil() {
		return nil, err
	}
	d := new(Direct)
	if err := fields[1].DecodeJSON(&d.Direct); err != nil {
		return nil, err
	}
	version, err := fields[0].ToString()
	if err != nil {
		return nil, err
	}
	if d.Version, err = strconv.ParseInt(version, 10, 64); err != nil {
		return nil, err
	}
	if fields[2].IsNil() {
		return d, nil
	}
	last, err := fields[2].ToString()
	if err != nil {
		return nil, err
	}
	pos, err := bus.ParsePosition(last)
	d.Last = bus.MessageID(pos)
	return d, err
}

// applyDirect moves the copy of a direct channel. mu is held.
func (r *Roster) applyDirect(e bus.Entry) {
	d, ok := r.directs.Peek(e.Channel)
	switch {
	case !ok:
	case e.Type == wire.MessageSent:
		next := *d
		next.Last = max(d.Last, bus.MessageID(e.Pos))
		r.directs.Add(e.Channel, &next)
	case e.Type == wire.DirectChanged && e.Version > d.Version:
		p, err := payload[wire.DirectChangedPayload](e)
		if err != nil || e.Version != d.Version+1 {
			r.directs.Remove(e.Channel)
			return
		}
		r.directs.Add(e.Channel, &Direct{Direct: p.Direct, Version: e.Version, Last: d.Last})
	}
}

// directOps is the change of the read model that belongs to a DIRECT_CHANGED.
func directOps(e bus.Entry) ([]bus.Op, error) {
	p, err := payload[wire.DirectChangedPayload](e)
	if err != nil {
		return nil, err
	}
	ops := []bus.Op{
		{Command: "HSET", Key: directKey(e.Channel), Args: []string{fieldDirect, mustJSON(p.Direct)}},
		{Command: "SET", Key: channelKey(e.Channel), Args: []string{id.ID(0).String()}},
	}
	for _, u := range p.Direct.Recipients {
		ops = append(ops, bus.Op{Command: "SADD", Key: directsKey(u), Args: []string{e.Channel.String()}})
	}
	for _, u := range p.Went {
		if !p.Direct.Has(u) {
			ops = append(ops, bus.Op{Command: "SREM", Key: directsKey(u), Args: []string{e.Channel.String()}})
		}
	}
	return ops, nil
}

// lastOps makes a message the latest of its direct channel.
func lastOps(e bus.Entry) []bus.Op {
	return []bus.Op{{Command: "HSET", Key: directKey(e.Channel), Args: []string{fieldLast, e.Pos.String()}}}
}

// DirectsOf are the direct channels that a user is in, also those that they have closed, by rising id.
func (r *Roster) DirectsOf(ctx context.Context, user id.ID) ([]*Direct, error) {
	pos, parts, err := r.log.Look(ctx, []bus.Op{{Command: "SMEMBERS", Key: directsKey(user)}})
	if err != nil {
		return nil, err
	}
	channels, err := parseIDs(parts[0])
	if err != nil {
		return nil, fmt.Errorf("direct channels of user %s as of %s: %w", user, pos, err)
	}
	found, _, err := r.LookDirects(ctx, channels)
	return slices.DeleteFunc(found, func(d *Direct) bool { return !d.Has(user) }), err
}

// Reachable says whether a user may write to another one: both have an account and share a guild. It is asked of the read model.
func (r *Roster) Reachable(ctx context.Context, from, to id.ID) (bool, error) {
	_, parts, err := r.log.Look(ctx, []bus.Op{
		{Command: "HEXISTS", Key: userKey(to), Args: []string{fieldUser}},
		{Command: "SMEMBERS", Key: guildsKey(from)}, {Command: "SMEMBERS", Key: guildsKey(to)},
	})
	if err != nil {
		return false, err
	}
	exists, err := parts[0].AsInt64()
	if err != nil || exists == 0 {
		return false, err
	}
	mine, err := parts[1].AsStrSlice()
	if err != nil {
		return false, err
	}
	theirs, err := parts[2].AsStrSlice()
	return slices.ContainsFunc(mine, func(g string) bool { return slices.Contains(theirs, g) }), err
}

func parseIDs(raw rueidis.RedisMessage) ([]id.ID, error) {
	texts, err := raw.AsStrSlice()
	if err != nil {
		return nil, err
	}
	out := make([]id.ID, len(texts))
	for i, text := range texts {
		if out[i], err = id.Parse(text); err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return out, nil
}

// PrivatesMax is how many direct channels a list has at most: those with the latest messages.
const PrivatesMax = 500

// Privates are direct channels as a user sees them who is in them: those that they have not closed, the ones with the latest messages
// first.
func (r *Roster) Privates(ctx context.Context, user id.ID, directs []*Direct) ([]wire.PrivateChannel, error) {
	shown := slices.DeleteFunc(slices.Clone(directs), func(d *Direct) bool { return !d.Shows(user, d.Last) })
	slices.SortFunc(shown, func(a, b *Direct) int { return cmp.Compare(max(b.Last, b.ID), max(a.Last, a.ID)) })
	shown = shown[:min(len(shown), PrivatesMax)]
	var users []id.ID
	for _, d := range shown {
		users = append(users, d.Recipients...)
	}
	faces, err := r.Users(ctx, users)
	if err != nil {
		return nil, err
	}
	out := make([]wire.PrivateChannel, len(shown))
	for i, d := range shown {
		out[i] = d.For(user, d.Last, faces)
	}
	return out, nil
}
