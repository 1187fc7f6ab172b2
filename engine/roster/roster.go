package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

var (
	loadsTotal   = metrics.NewCounter(`xcord_roster_loads_total`)
	refusedTotal = metrics.NewCounter(`xcord_roster_refusals_total`)
)

// deletedName is what a user is called who is not there any more.
const deletedName = "Deleted User"

// How much a process keeps. A guild with some channels is about 10 KB, a user 1 KB.
const (
	guildsMax  = 4096
	membersMax = 20_000
	usersMax   = 65_536
)

// Roster is a service's copy of the read model. Safe for concurrent use; it does I/O only for what it does not have, and
// once more before it says no.
type Roster struct {
	log *bus.Log

	mu sync.Mutex // guards everything below; held for no I/O
	// pos is how far HandleEntries has come: what was loaded before an entry that has passed already is loaded again.
	pos      bus.Position
	guilds   *lru.Cache[id.ID, *copied]
	users    *lru.Cache[id.ID, wire.User]
	channels *lru.Cache[id.ID, id.ID]
	directs  *lru.Cache[id.ID, *Direct]
}

// copied is a guild and the records of some of its members, all at the guild's version; nil for who is no member.
type copied struct {
	guild   *Guild
	members map[id.ID]*wire.MemberRecord
}

// New makes a Roster over the log. It does no I/O.
func New(log *bus.Log) *Roster {
	r := &Roster{log: log}
	r.guilds = newCache[*copied](guildsMax)
	r.users = newCache[wire.User](usersMax)
	r.channels = newCache[id.ID](usersMax)
	r.directs = newCache[*Direct](usersMax)
	return r
}

func newCache[V any](size int) *lru.Cache[id.ID, V] {
	c, err := lru.New[id.ID, V](size)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return c
}

// HandleEntries moves the copies; subscribe it to the process's tail before whoever relies on it.
func (r *Roster) HandleEntries(_ context.Context, entries []bus.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		r.apply(e)
		if r.pos.Less(e.Pos) {
			r.pos = e.Pos
		}
	}
	return nil
}

// HandleCut drops all copies: what they were made of is not the log any more. Let the process's tail tell it, before whoever relies on it.
func (r *Roster) HandleCut(_ context.Context, c bus.Cut) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pos = c.Behind // whatever is being loaded from before it is loaded again
	r.guilds.Purge()
	r.users.Purge()
	r.channels.Purge()
	r.directs.Purge()
	return nil
}

// apply moves one copy, or drops it when it cannot be moved: then the next question loads it anew.
func (r *Roster) apply(e bus.Entry) {
	if e.Guild == 0 && e.Channel != 0 {
		r.applyDirect(e)
		return
	}
	if e.Version == 0 {
		return
	}
	if isUserEvent(e.Type) {
		r.users.Remove(e.User)
		return
	}
	c, ok := r.guilds.Peek(e.Guild)
	if !ok || e.Version <= c.guild.Version {
		return
	}
	next, err := Fold(c.guild, e)
	if err != nil || next == nil {
		r.guilds.Remove(e.Guild)
		return
	}
	for user, m := range c.members {
		changed, err := FoldMember(m, user, e)
		if err != nil {
			r.guilds.Remove(e.Guild)
			return
		}
		c.members[user] = changed
	}
	c.guild = next
}

// Grant says what a user may do, and by which version of the guild or the direct channel that was judged.
type Grant struct {
	// Guild of a direct channel is one without an id, in which nothing is.
	Guild *Guild
	// Channel is nil when the question was about the guild as a whole.
	Channel *wire.Channel
	// Direct is nil in a guild.
	Direct *Direct
	// Member is nil in a direct channel.
	Member *wire.MemberRecord
	// Version is the fence for what is done with this grant.
	Version int64
	Perms   perm.Bits
}

// To are those who get what is done in a direct channel; none in a guild.
func (g Grant) To() []id.ID {
	if g.Direct == nil {
		return nil
	}
	return g.Direct.Recipients
}

// Can asks whether a user may do something in a channel, of a guild or a direct one. It answers 10003 when there is no such channel, 50001
// when the user cannot see it, 50013 when something else is missing, and 50003 for what nobody may do in a direct one.
func (r *Roster) Can(ctx context.Context, user, channel id.ID, need perm.Bits) (Grant, error) {
	guild, err := r.GuildOf(ctx, channel)
	if err != nil {
		return Grant{}, err
	}
	if guild == 0 {
		return r.canDirect(ctx, user, channel, need)
	}
	return r.ask(ctx, guild, user, func(g *Guild, m *wire.MemberRecord) (Grant, error) {
		return judgeChannel(g, m, channel, need)
	})
}

// CanGuild asks whether a user may do something in a guild as a whole. It answers 10004 when the guild does not exist
// or the user is not in it, 50013 when a permission is missing.
func (r *Roster) CanGuild(ctx context.Context, user, guild id.ID, need perm.Bits) (Grant, error) {
	return r.ask(ctx, guild, user, func(g *Guild, m *wire.MemberRecord) (Grant, error) {
		return judgeGuild(g, m, need)
	})
}

// CanFresh and CanGuildFresh ask the read model itself and not the copy: for who holds the guild's row locked and must
// judge by exactly the version that they change.
func (r *Roster) CanFresh(ctx context.Context, user, guild, channel id.ID, need perm.Bits) (Grant, error) {
	state, err := r.LookGuild(ctx, guild, user)
	if err != nil {
		return Grant{}, err
	}
	return judgeChannel(state.Guild, state.Members[user], channel, need)
}

// CanGuildFresh is CanFresh for the guild as a whole.
func (r *Roster) CanGuildFresh(ctx context.Context, user, guild id.ID, need perm.Bits) (Grant, error) {
	state, err := r.LookGuild(ctx, guild, user)
	if err != nil {
		return Grant{}, err
	}
	return judgeGuild(state.Guild, state.Members[user], need)
}

func judgeChannel(g *Guild, m *wire.MemberRecord, channel id.ID, need perm.Bits) (Grant, error) {
	if g == nil || g.Channels[channel] == nil {
		return Grant{}, fault.New(fault.UnknownChannel)
	}
	if m == nil {
		return Grant{}, fault.New(fault.MissingAccess)
	}
	perms := g.Permissions(m, channel)
	if perms&perm.ViewChannel == 0 {
		return Grant{}, fault.New(fault.MissingAccess)
	}
	if perms&need != need {
		return Grant{}, fault.New(fault.MissingPermissions)
	}
	return Grant{Guild: g, Channel: g.Channels[channel], Member: m, Version: g.Version, Perms: perms}, nil
}

func judgeGuild(g *Guild, m *wire.MemberRecord, need perm.Bits) (Grant, error) {
	if g == nil || m == nil {
		return Grant{}, fault.New(fault.UnknownGuild)
	}
	perms := g.Base(m)
	if perms&need != need {
		return Grant{}, fault.New(fault.MissingPermissions)
	}
	return Grant{Guild: g, Member: m, Version: g.Version, Perms: perms}, nil
}

// ask judges by the copy, and once more by the read model before it says no: a refusal is never given from a cache.
func (r *Roster) ask(ctx context.Context, guild, user id.ID, judge func(*Guild, *wire.MemberRecord) (Grant, error)) (Grant, error) {
	if g, m, ok := r.cached(guild, user); ok {
		if grant, err := judge(g, m); err == nil {
			return grant, nil
		}
		refusedTotal.Inc()
	}
	g, m, err := r.load(ctx, guild, user)
	if err != nil {
		return Grant{}, err
	}
	return judge(g, m)
}

// Refresh loads a guild anew: after the fence has said that the copy is stale.
func (r *Roster) Refresh(ctx context.Context, guild id.ID) error {
	_, _, err := r.load(ctx, guild, 0)
	return err
}

// Guild is the present snapshot of a guild, or 10004.
func (r *Roster) Guild(ctx context.Context, guild id.ID) (*Guild, error) {
	r.mu.Lock()
	c, ok := r.guilds.Get(guild)
	r.mu.Unlock()
	if ok {
		return c.guild, nil
	}
	g, _, err := r.load(ctx, guild, 0)
	if err == nil && g == nil {
		err = fault.New(fault.UnknownGuild)
	}
	return g, err
}

// Member is a member's record, or 10007; 10004 when there is no such guild.
func (r *Roster) Member(ctx context.Context, guild, user id.ID) (*wire.MemberRecord, error) {
	if _, m, ok := r.cached(guild, user); ok && m != nil {
		return m, nil
	}
	g, m, err := r.load(ctx, guild, user)
	switch {
	case err != nil:
		return nil, err
	case g == nil:
		return nil, fault.New(fault.UnknownGuild)
	case m == nil:
		return nil, fault.New(fault.UnknownMember)
	}
	return m, nil
}

// cached is what the copy knows of a member; ok is false when it knows nothing.
func (r *Roster) cached(guild, user id.ID) (*Guild, *wire.MemberRecord, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.guilds.Get(guild)
	if !ok {
		return nil, nil, false
	}
	m, ok := c.members[user]
	return c.guild, m, ok
}

// load reads a guild, and a member unless user is 0, and keeps what it read unless the copy is newer by now.
func (r *Roster) load(ctx context.Context, guild, user id.ID) (*Guild, *wire.MemberRecord, error) {
	loadsTotal.Inc()
	for {
		var users []id.ID
		if user != 0 {
			users = []id.ID{user}
		}
		state, err := r.LookGuild(ctx, guild, users...)
		if err != nil {
			return nil, nil, err
		}
		if r.keep(guild, user, state) {
			return state.Guild, state.Members[user], nil
		}
	}
}

// keep installs what was read, and says no when an entry has passed meanwhile that it does not contain.
func (r *Roster) keep(guild, user id.ID, state GuildState) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if state.Pos.Less(r.pos) {
		return false
	}
	if state.Guild == nil {
		r.guilds.Remove(guild)
		return true
	}
	c, ok := r.guilds.Get(guild)
	if ok && c.guild.Version > state.Guild.Version {
		return false
	}
	if !ok || c.guild.Version < state.Guild.Version || len(c.members) >= membersMax {
		// The members that are known at an older version would miss the changes in between.
		c = &copied{guild: state.Guild, members: map[id.ID]*wire.MemberRecord{}}
		r.guilds.Add(guild, c)
	}
	if user != 0 {
		c.members[user] = state.Members[user]
	}
	return true
}

// GuildOf is the guild that a channel is in, 0 for a direct one, or 10003.
func (r *Roster) GuildOf(ctx context.Context, channel id.ID) (id.ID, error) {
	r.mu.Lock()
	guild, ok := r.channels.Get(channel)
	r.mu.Unlock()
	if ok {
		return guild, nil
	}
	_, parts, err := r.log.Look(ctx, []bus.Op{{Command: "GET", Key: channelKey(channel)}})
	if err != nil {
		return 0, err
	}
	s, err := parts[0].ToString()
	if rueidis.IsRedisNil(err) {
		return 0, fault.New(fault.UnknownChannel)
	}
	if err != nil {
		return 0, fmt.Errorf("guild of channel %s: %w", channel, err)
	}
	if guild, err = id.Parse(s); err != nil {
		return 0, fmt.Errorf("guild of channel %s: %w", channel, err)
	}
	// A channel never moves to another guild; one that is deleted is missing in its guild.
	r.mu.Lock()
	r.channels.Add(channel, guild)
	r.mu.Unlock()
	return guild, nil
}

// User is a user's public face, or 10013.
func (r *Roster) User(ctx context.Context, user id.ID) (wire.User, error) {
	state, err := r.users1(ctx, []id.ID{user})
	if err != nil {
		return wire.User{}, err
	}
	u, ok := state[user]
	if !ok {
		return wire.User{}, fault.New(fault.UnknownUser)
	}
	return u, nil
}

// Users are the public faces of users; who is not there any more is a "Deleted User".
func (r *Roster) Users(ctx context.Context, users []id.ID) (map[id.ID]wire.User, error) {
	found, err := r.users1(ctx, users)
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		if _, ok := found[u]; !ok {
			found[u] = wire.User{ID: u, Username: deletedName, Discriminator: "0"}
		}
	}
	return found, nil
}

// users1 finds those users that exist.
func (r *Roster) users1(ctx context.Context, users []id.ID) (map[id.ID]wire.User, error) {
	out := make(map[id.ID]wire.User, len(users))
	var ops []bus.Op
	var missing []id.ID
	r.mu.Lock()
	for _, u := range users {
		if _, seen := out[u]; seen {
			continue
		}
		if v, ok := r.users.Get(u); ok {
			out[u] = v
			continue
		}
		missing = append(missing, u)
		ops = append(ops, bus.Op{Command: "HGET", Key: userKey(u), Args: []string{fieldUser}})
	}
	r.mu.Unlock()
	if len(ops) == 0 {
		return out, nil
	}
	pos, parts, err := r.log.Look(ctx, ops)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, u := range missing {
		if parts[i].IsNil() {
			continue
		}
		var v wire.User
		if err := parts[i].DecodeJSON(&v); err != nil {
			return nil, fmt.Errorf("user %s: %w", u, err)
		}
		out[u] = v
		if !pos.Less(r.pos) {
			r.users.Add(u, v)
		}
	}
	return out, nil
}

// UserJSON encodes a user as messages carry their author.
func UserJSON(u wire.User) json.RawMessage { return json.RawMessage(mustJSON(u)) }

// GuildsOf are the guilds that a user is in, by rising id.
func (r *Roster) GuildsOf(ctx context.Context, user id.ID) ([]id.ID, error) {
	state, err := r.LookUser(ctx, user)
	return state.Guilds, err
}

// BotHash is the hash of a bot's token; "" when the user is not a bot.
func (r *Roster) BotHash(ctx context.Context, bot id.ID) (string, error) {
	state, err := r.LookUser(ctx, bot)
	return state.BotHash, err
}

// FencedTries is how often something is judged again after ErrStale: a guild whose version moves that often within
// one request is busier than any real one.
const FencedTries = 8

// Fenced runs do, which judges by the copy and publishes with its version, until the fence holds.
func (r *Roster) Fenced(ctx context.Context, channel id.ID, do func() error) error {
	for range FencedTries {
		err := do()
		if !errors.Is(err, bus.ErrStale) {
			return err
		}
		guild, err := r.GuildOf(ctx, channel)
		if err != nil {
			return err
		}
		if guild == 0 {
			_, err = r.loadDirect(ctx, channel)
		} else {
			err = r.Refresh(ctx, guild)
		}
		if err != nil {
			return err
		}
	}
	return fault.Unavailable(bus.ErrStale, time.Second)
}
