package roster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// The read model in Redis. All keys carry the tag of the log's shard.
//
//	guild:{s00}:<guild>    hash: v (version), at (position of the latest entry), meta, c:<channel>, r:<role>
//	members:{s00}:<guild>  hash: <user> → MemberRecord
//	channel:{s00}:<id>     string: the guild that the channel is in; 0 for a direct one
//	direct:{s00}:<id>      hash: v, at, direct (wire.Direct), last (position of the latest message)
//	webhook:{s00}:<id>     string: WebhookRecord
//	webhooks:{s00}:<guild> set of webhooks
//	user:{s00}:<user>      hash: v, at, user, bot (hash of the bot's token)
//	guilds:{s00}:<user>    set of guilds
//	directs:{s00}:<user>   set of direct channels
const (
	fieldMeta = "meta"
	fieldUser = "user"
	fieldBot  = "bot"

	fieldDirect = "direct"
	fieldLast   = "last"
)

func guildKey(g id.ID) string    { return bus.Key("guild", g) }
func membersKey(g id.ID) string  { return bus.Key("members", g) }
func channelKey(c id.ID) string  { return bus.Key("channel", c) }
func userKey(u id.ID) string     { return bus.Key("user", u) }
func guildsKey(u id.ID) string   { return bus.Key("guilds", u) }
func directKey(c id.ID) string   { return bus.Key("direct", c) }
func webhookKey(w id.ID) string  { return bus.Key("webhook", w) }
func webhooksKey(g id.ID) string { return bus.Key("webhooks", g) }
func directsKey(u id.ID) string  { return bus.Key("directs", u) }

func channelField(c id.ID) string { return "c:" + c.String() }
func roleField(r id.ID) string    { return "r:" + r.String() }

func isUserEvent(t wire.EventType) bool { return strings.HasPrefix(string(t), "USER_") }

// aggregateKey is the hash whose version an entry moves.
func aggregateKey(e bus.Entry) string {
	kind, aggregate := aggregateOf(e)
	return bus.Key(kind, aggregate)
}

// ops is the change of the read model that belongs to a cold entry.
func (r *Roster) ops(ctx context.Context, e bus.Entry) ([]bus.Op, error) {
	switch e.Type {
	case wire.UserCreated, wire.UserUpdated:
		return userOps(e)
	case wire.UserDeleted:
		// The version stays: it is how somebody who is gone differs from somebody who never was.
		return []bus.Op{{Command: "HDEL", Key: userKey(e.User), Args: []string{fieldUser, fieldBot}}}, nil
	case wire.ServerCreated:
		return createdOps(e)
	case wire.ServerDeleted:
		return r.deletedOps(ctx, e)
	case wire.MemberJoined, wire.MemberUpdated:
		p, err := payload[wire.MemberChangedPayload](e)
		if err != nil {
			return nil, err
		}
		return []bus.Op{
			{Command: "HSET", Key: membersKey(e.Guild), Args: []string{e.User.String(), mustJSON(p.Member)}},
			{Command: "SADD", Key: guildsKey(e.User), Args: []string{e.Guild.String()}},
		}, nil
	case wire.MemberRemoved:
		return []bus.Op{
			{Command: "HDEL", Key: membersKey(e.Guild), Args: []string{e.User.String()}},
			{Command: "SREM", Key: guildsKey(e.User), Args: []string{e.Guild.String()}},
		}, nil
	case wire.DirectChanged:
		return directOps(e)
	case wire.WebhookChanged, wire.WebhookDeleted:
		return webhookOps(e)
	case wire.BanAdded, wire.BanRemoved, wire.InviteCreated, wire.InviteDeleted:
		return nil, nil
	}
	return guildOps(e)
}

func userOps(e bus.Entry) ([]bus.Op, error) {
	p, err := payload[wire.UserChangedPayload](e)
	if err != nil {
		return nil, err
	}
	ops := []bus.Op{{Command: "HSET", Key: userKey(e.User), Args: []string{fieldUser, mustJSON(p.User)}}}
	switch {
	case p.BotHash != "":
		ops[0].Args = append(ops[0].Args, fieldBot, p.BotHash)
	case p.User.Bot:
		ops = append(ops, bus.Op{Command: "HDEL", Key: userKey(e.User), Args: []string{fieldBot}})
	}
	return ops, nil
}

func guildOps(e bus.Entry) ([]bus.Op, error) {
	key := guildKey(e.Guild)
	switch e.Type {
	case wire.ServerUpdated:
		p, err := payload[wire.ServerUpdatedPayload](e)
		if err != nil {
			return nil, err
		}
		return []bus.Op{{Command: "HSET", Key: key, Args: []string{fieldMeta, mustJSON(p.Guild)}}}, nil
	case wire.ChannelCreated, wire.ChannelUpdated:
		p, err := payload[wire.ChannelChangedPayload](e)
		if err != nil {
			return nil, err
		}
		fields := []string{channelField(p.Channel.ID), mustJSON(p.Channel)}
		for _, c := range p.Others {
			fields = append(fields, channelField(c.ID), mustJSON(c))
		}
		return []bus.Op{
			{Command: "HSET", Key: key, Args: fields},
			{Command: "SET", Key: channelKey(p.Channel.ID), Args: []string{e.Guild.String()}},
		}, nil
	case wire.ChannelDeleted:
		p, err := payload[wire.ChannelDeletedPayload](e)
		if err != nil {
			return nil, err
		}
		ops := []bus.Op{
			{Command: "HDEL", Key: key, Args: []string{channelField(p.ChannelID)}},
			{Command: "DEL", Key: channelKey(p.ChannelID)},
		}
		for _, w := range p.Webhooks {
			ops = append(ops, withoutWebhook(e.Guild, w)...)
		}
		return ops, nil
	case wire.RoleCreated, wire.RoleUpdated:
		p, err := payload[wire.RoleChangedPayload](e)
		if err != nil {
			return nil, err
		}
		return []bus.Op{{Command: "HSET", Key: key, Args: []string{roleField(p.Role.ID), mustJSON(p.Role)}}}, nil
	case wire.RoleDeleted:
		p, err := payload[wire.RoleDeletedPayload](e)
		if err != nil {
			return nil, err
		}
		return []bus.Op{{Command: "HDEL", Key: key, Args: []string{roleField(p.RoleID)}}}, nil
	}
	return nil, fmt.Errorf("no change of the read model is known for %s", e.Type)
}

func createdOps(e bus.Entry) ([]bus.Op, error) {
	p, err := payload[wire.ServerCreatedPayload](e)
	if err != nil {
		return nil, err
	}
	fields := []string{fieldMeta, mustJSON(p.Guild)}
	var ops []bus.Op
	for _, c := range p.Channels {
		fields = append(fields, channelField(c.ID), mustJSON(c))
		ops = append(ops, bus.Op{Command: "SET", Key: channelKey(c.ID), Args: []string{e.Guild.String()}})
	}
	for _, r := range p.Roles {
		fields = append(fields, roleField(r.ID), mustJSON(r))
	}
	ops = append(ops, bus.Op{Command: "HSET", Key: guildKey(e.Guild), Args: fields})
	for _, m := range p.Members {
		ops = append(ops,
			bus.Op{Command: "HSET", Key: membersKey(e.Guild), Args: []string{m.UserID.String(), mustJSON(m)}},
			bus.Op{Command: "SADD", Key: guildsKey(m.UserID), Args: []string{e.Guild.String()}})
	}
	for _, w := range p.Webhooks {
		ops = append(ops, withWebhook(w)...)
	}
	return ops, nil
}

// deletedOps looks up what there is to remove. Nothing can come in between: the function applies it only at version-1.
// The guild's hash stays with its version alone, so that a late repeat of an older entry is still known as one.
func (r *Roster) deletedOps(ctx context.Context, e bus.Entry) ([]bus.Op, error) {
	_, parts, err := r.log.Look(ctx, []bus.Op{
		{Command: "HKEYS", Key: membersKey(e.Guild)}, {Command: "HKEYS", Key: guildKey(e.Guild)}, {Command: "SMEMBERS", Key: webhooksKey(e.Guild)},
	})
	if err != nil {
		return nil, err
	}
	members, err := parts[0].AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("members of guild %s: %w", e.Guild, err)
	}
	fields, err := parts[1].AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("fields of guild %s: %w", e.Guild, err)
	}
	webhooks, err := parseIDs(parts[2])
	if err != nil {
		return nil, fmt.Errorf("webhooks of guild %s: %w", e.Guild, err)
	}
	ops := []bus.Op{{Command: "DEL", Key: membersKey(e.Guild)}, {Command: "DEL", Key: guildKey(e.Guild)}, {Command: "DEL", Key: webhooksKey(e.Guild)}}
	for _, w := range webhooks {
		ops = append(ops, bus.Op{Command: "DEL", Key: webhookKey(w)})
	}
	for _, m := range members {
		if user, err := id.Parse(m); err == nil {
			ops = append(ops, bus.Op{Command: "SREM", Key: guildsKey(user), Args: []string{e.Guild.String()}})
		}
	}
	for _, f := range fields {
		if c, ok := strings.CutPrefix(f, "c:"); ok {
			if channel, err := id.Parse(c); err == nil {
				ops = append(ops, bus.Op{Command: "DEL", Key: channelKey(channel)})
			}
		}
	}
	return ops, nil
}

// GuildState is a guild and some of its members, read together with the end of the log.
type GuildState struct {
	// Guild is nil when there is none (any more).
	Guild *Guild
	// Members has those of the users asked for that are members.
	Members map[id.ID]*wire.MemberRecord
	Pos     bus.Position
}

// LookGuild reads a guild and the records of some users at one moment.
func (r *Roster) LookGuild(ctx context.Context, guild id.ID, users ...id.ID) (GuildState, error) {
	ops := []bus.Op{{Command: "HGETALL", Key: guildKey(guild)}, {Command: "HLEN", Key: membersKey(guild)}}
	if len(users) > 0 {
		ops = append(ops, bus.Op{Command: "HMGET", Key: membersKey(guild), Args: idStrings(users)})
	}
	pos, parts, err := r.log.Look(ctx, ops)
	if err != nil {
		return GuildState{}, err
	}
	state := GuildState{Pos: pos, Members: map[id.ID]*wire.MemberRecord{}}
	if state.Guild, err = decodeGuild(guild, parts[0], parts[1]); err != nil || state.Guild == nil {
		return state, err
	}
	if len(users) == 0 {
		return state, nil
	}
	records, err := parts[2].ToArray()
	if err != nil {
		return GuildState{}, fmt.Errorf("members of guild %s: %w", guild, err)
	}
	for i, raw := range records {
		if raw.IsNil() {
			continue
		}
		m, err := decodeMember(state.Guild, raw)
		if err != nil {
			return GuildState{}, err
		}
		state.Members[users[i]] = m
	}
	return state, nil
}

// LookMember reads the records of a user in some guilds at one moment; in which the user is no member is not among them. Roles that have
// been deleted may still be in a record: WithoutDeletedRoles.
func (r *Roster) LookMember(ctx context.Context, user id.ID, guilds []id.ID) (map[id.ID]*wire.MemberRecord, bus.Position, error) {
	ops := make([]bus.Op, len(guilds))
	for i, g := range guilds {
		ops[i] = bus.Op{Command: "HGET", Key: membersKey(g), Args: []string{user.String()}}
	}
	pos, parts, err := r.log.Look(ctx, ops)
	if err != nil {
		return nil, pos, err
	}
	out := make(map[id.ID]*wire.MemberRecord, len(guilds))
	for i, g := range guilds {
		if parts[i].IsNil() {
			continue
		}
		m := new(wire.MemberRecord)
		if err := parts[i].DecodeJSON(m); err != nil {
			return nil, pos, fmt.Errorf("a member of guild %s: %w", g, err)
		}
		out[g] = m
	}
	return out, pos, nil
}

func decodeGuild(guild id.ID, hash, count rueidis.RedisMessage) (*Guild, error) {
	fields, err := hash.AsStrMap()
	if err != nil {
		return nil, fmt.Errorf("guild %s: %w", guild, err)
	}
	if fields[fieldMeta] == "" {
		return nil, nil
	}
	g := &Guild{ID: guild, Channels: map[id.ID]*wire.Channel{}, Roles: map[id.ID]*wire.Role{}}
	if g.Version, err = strconv.ParseInt(fields["v"], 10, 64); err != nil {
		return nil, fmt.Errorf("guild %s: version: %w", guild, err)
	}
	n, err := count.AsInt64()
	if err != nil {
		return nil, fmt.Errorf("guild %s: members: %w", guild, err)
	}
	g.MemberCount = int(n)
	for name, value := range fields {
		switch {
		case name == fieldMeta:
			err = json.Unmarshal([]byte(value), &g.Meta)
		case strings.HasPrefix(name, "c:"):
			c := new(wire.Channel)
			err = json.Unmarshal([]byte(value), c)
			g.Channels[c.ID] = c
		case strings.HasPrefix(name, "r:"):
			role := new(wire.Role)
			err = json.Unmarshal([]byte(value), role)
			g.Roles[role.ID] = role
		}
		if err != nil {
			return nil, fmt.Errorf("guild %s field %s: %w", guild, name, err)
		}
	}
	g.tidy()
	return g, nil
}

// tidy takes out what deleted roles and categories left behind: the read model removes only the role or category itself, and a
// channel or member that still names it is corrected when it is read. Ids are never used again, so this is exact.
func (g *Guild) tidy() {
	g.Meta = withoutChannels(g.Meta, g.Channels)
	for _, c := range g.Channels {
		if c.ParentID != 0 && g.Channels[c.ParentID] == nil {
			c.ParentID = 0
		}
		c.PermissionOverwrites = slices.DeleteFunc(c.PermissionOverwrites, func(o wire.Overwrite) bool {
			return o.Type == wire.OverwriteRole && g.Roles[o.ID] == nil
		})
	}
}

func decodeMember(g *Guild, raw rueidis.RedisMessage) (*wire.MemberRecord, error) {
	m := new(wire.MemberRecord)
	if err := raw.DecodeJSON(m); err != nil {
		return nil, fmt.Errorf("a member of guild %s: %w", g.ID, err)
	}
	g.WithoutDeletedRoles(m)
	return m, nil
}

// WithoutDeletedRoles takes from a record that was just read the roles that the guild does not have any more.
func (g *Guild) WithoutDeletedRoles(m *wire.MemberRecord) {
	m.Roles = slices.DeleteFunc(m.Roles, func(r id.ID) bool { return g.Roles[r] == nil })
}

// UserState is a user and the guilds that they are in, read together with the end of the log.
type UserState struct {
	// Known is false when there is no such user.
	Known   bool
	User    wire.User
	BotHash string
	Guilds  []id.ID
	Pos     bus.Position
}

// LookUser reads a user at one moment.
func (r *Roster) LookUser(ctx context.Context, user id.ID) (UserState, error) {
	pos, parts, err := r.log.Look(ctx, []bus.Op{
		{Command: "HMGET", Key: userKey(user), Args: []string{fieldUser, fieldBot}},
		{Command: "SMEMBERS", Key: guildsKey(user)},
	})
	if err != nil {
		return UserState{}, err
	}
	state := UserState{Pos: pos}
	fields, err := parts[0].ToArray()
	if err != nil {
		return UserState{}, fmt.Errorf("user %s: %w", user, err)
	}
	if fields[0].IsNil() {
		return state, nil
	}
	state.Known = true
	if err := fields[0].DecodeJSON(&state.User); err != nil {
		return UserState{}, fmt.Errorf("user %s: %w", user, err)
	}
	if !fields[1].IsNil() {
		if state.BotHash, err = fields[1].ToString(); err != nil {
			return UserState{}, fmt.Errorf("user %s: %w", user, err)
		}
	}
	if state.Guilds, err = parseIDs(parts[1]); err != nil {
		return UserState{}, fmt.Errorf("guilds of user %s: %w", user, err)
	}
	return state, nil
}

// Gone finds those of some users whose accounts were deleted. Whom the read model knows nothing of is not among them.
func (r *Roster) Gone(ctx context.Context, users []id.ID) ([]id.ID, error) {
	ops := make([]bus.Op, len(users))
	for i, u := range users {
		ops[i] = bus.Op{Command: "HMGET", Key: userKey(u), Args: []string{"v", fieldUser}}
	}
	_, parts, err := r.log.Look(ctx, ops)
	if err != nil {
		return nil, err
	}
	var gone []id.ID
	for i, u := range users {
		fields, err := parts[i].ToArray()
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", u, err)
		}
		if !fields[0].IsNil() && fields[1].IsNil() {
			gone = append(gone, u)
		}
	}
	return gone, nil
}

// Records reads the records of all members of a guild, in no order.
func (r *Roster) Records(ctx context.Context, g *Guild) ([]*wire.MemberRecord, error) {
	_, parts, err := r.log.Look(ctx, []bus.Op{{Command: "HVALS", Key: membersKey(g.ID)}})
	if err != nil {
		return nil, err
	}
	raw, err := parts[0].ToArray()
	if err != nil {
		return nil, fmt.Errorf("members of guild %s: %w", g.ID, err)
	}
	records := make([]*wire.MemberRecord, len(raw))
	for i, v := range raw {
		if records[i], err = decodeMember(g, v); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// Members reads up to limit members of a guild, by rising id, behind after. It reads the whole list: for guilds with
// many thousands of members, page from the service that has the rows.
func (r *Roster) Members(ctx context.Context, g *Guild, after id.ID, limit int) ([]wire.Member, error) {
	records, err := r.Records(ctx, g)
	if err != nil {
		return nil, err
	}
	records = slices.DeleteFunc(records, func(m *wire.MemberRecord) bool { return m.UserID <= after })
	slices.SortFunc(records, func(a, b *wire.MemberRecord) int {
		if a.UserID < b.UserID {
			return -1
		}
		return 1
	})
	records = records[:min(len(records), limit)]
	ids := make([]id.ID, len(records))
	for i, m := range records {
		ids[i] = m.UserID
	}
	users, err := r.Users(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Member, len(records))
	for i, m := range records {
		out[i] = m.Member(users[m.UserID])
	}
	return out, nil
}

// MemberIDs are the ids of all members of a guild, in rising order: 8 bytes each, to page through with MembersByID.
func (r *Roster) MemberIDs(ctx context.Context, guild id.ID) ([]id.ID, error) {
	_, parts, err := r.log.Look(ctx, []bus.Op{{Command: "HKEYS", Key: membersKey(guild)}})
	if err != nil {
		return nil, err
	}
	raw, err := parts[0].ToArray()
	if err != nil {
		return nil, fmt.Errorf("members of guild %s: %w", guild, err)
	}
	ids := make([]id.ID, len(raw))
	for i, v := range raw {
		s, err := v.ToString()
		if err == nil {
			ids[i], err = id.Parse(s)
		}
		if err != nil {
			return nil, fmt.Errorf("members of guild %s: %w", guild, err)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// MembersByID are those of some users, at most wire.MembersPageMax, who are members of a guild, and those who are not, both in the order asked
// for; and the end of the log when they were read.
func (r *Roster) MembersByID(ctx context.Context, g *Guild, ids []id.ID) (members []wire.Member, missing []id.ID, pos bus.Position, err error) {
	if len(ids) == 0 {
		return nil, nil, pos, nil
	}
	pos, parts, err := r.log.Look(ctx, []bus.Op{{Command: "HMGET", Key: membersKey(g.ID), Args: idStrings(ids)}})
	if err != nil {
		return nil, nil, pos, err
	}
	raw, err := parts[0].ToArray()
	if err != nil {
		return nil, nil, pos, fmt.Errorf("members of guild %s: %w", g.ID, err)
	}
	users, err := r.Users(ctx, ids)
	if err != nil {
		return nil, nil, pos, err
	}
	for i, v := range raw {
		if v.IsNil() {
			missing = append(missing, ids[i])
			continue
		}
		m, err := decodeMember(g, v)
		if err != nil {
			return nil, nil, pos, err
		}
		members = append(members, m.Member(users[m.UserID]))
	}
	return members, missing, pos, nil
}

func idStrings(ids []id.ID) []string {
	out := make([]string, len(ids))
	for i, v := range ids {
		out[i] = v.String()
	}
	return out
}

// mustJSON encodes a struct of package wire, which always can be.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(b)
}
