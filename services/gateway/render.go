package gateway

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// stepBody renders one step of a change of view.
type stepBody func(ctx context.Context, step hub.Step) ([]byte, error)

// sight is a guild as one member sees it. It is immutable.
type sight struct {
	guild  *roster.Guild
	member *wire.MemberRecord
	class  *hub.Class
}

func one(g *roster.Guild, m *wire.MemberRecord, class *hub.Class) map[id.ID]sight {
	if g == nil {
		return nil
	}
	return map[id.ID]sight{g.ID: {guild: g, member: m, class: class}}
}

// painter renders guilds for one session, outside the lock.
type painter struct {
	people *people
	lasts  func(ctx context.Context, guilds []id.ID) map[id.ID]id.ID
	large  int // from how many members on a guild is large for the client
	// presences is whether the client wants to know them.
	presences bool
}

// steps renders the steps to what is seen by now. was is the guild as it was seen before, for what is lost with its name; nil
// when that is not known.
func (p painter) steps(was *roster.Guild, now map[id.ID]sight) stepBody {
	var lasts map[id.ID]id.ID
	return func(ctx context.Context, step hub.Step) ([]byte, error) {
		if lasts == nil && (step.Kind == hub.GuildGained || step.Kind == hub.ChannelGained) {
			lasts = p.lasts(ctx, slices.Collect(maps.Keys(now))) // in one go for all of them
		}
		switch step.Kind {
		case hub.GuildLost:
			return encode(wire.UnavailableGuild{ID: step.Guild}), nil
		case hub.GuildGained:
			return p.guild(ctx, now[step.Guild], lasts)
		case hub.ChannelGained:
			channel := publicChannel(now[step.Guild].guild, now[step.Guild].guild.Channels[step.Channel])
			channel.LastMessageID = lasts[step.Channel]
			return encode(channel), nil
		}
		// What has happened to a channel since one could see it is nothing that one may see.
		lost := &wire.Channel{ID: step.Channel}
		if was != nil && was.Channels[step.Channel] != nil {
			lost = was.Channels[step.Channel]
		}
		return encode(publicChannel(&roster.Guild{ID: step.Guild}, lost)), nil
	}
}

func publicChannel(g *roster.Guild, c *wire.Channel) wire.Channel {
	out := *c
	out.GuildID = g.ID
	return out
}

// publicGuild is the guild as GUILD_UPDATE and GUILD_CREATE show it: with its roles.
func publicGuild(g *roster.Guild) wire.Guild {
	out := g.Meta
	out.Roles = make(wire.List[wire.Role], 0, len(g.Roles))
	for _, r := range g.Roles {
		out.Roles = append(out.Roles, *r)
	}
	slices.SortFunc(out.Roles, func(a, b wire.Role) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// guild renders GUILD_CREATE. The members and the last messages are read now, so they may be newer than the rest.
func (p painter) guild(ctx context.Context, s sight, lasts map[id.ID]id.ID) ([]byte, error) {
	out := wire.GuildCreate{
		Guild:       publicGuild(s.guild),
		JoinedAt:    s.member.JoinedAt,
		Large:       s.guild.MemberCount > p.large,
		MemberCount: s.guild.MemberCount,
	}
	for _, channel := range slices.Sorted(maps.Keys(s.guild.Channels)) {
		if s.class.Sees(channel) {
			c := publicChannel(s.guild, s.guild.Channels[channel])
			c.LastMessageID = lasts[channel]
			out.Channels = append(out.Channels, c)
		}
	}
	members, err := p.people.of(ctx, s.guild)
	if err != nil {
		return nil, err
	}
	statuses, err := p.people.statuses(ctx, members)
	if err != nil {
		return nil, err
	}
	self := false
	for _, m := range members {
		status, online := statuses[m.User.ID]
		me := m.User.ID == s.member.UserID
		self = self || me
		// A large guild is told without those who are not there.
		if !out.Large || online || me {
			out.Members = append(out.Members, m)
		}
		if online && p.presences && !me {
			out.Presences = append(out.Presences, presenceOf(m.User.ID, 0, status))
		}
	}
	if !self {
		m, err := p.people.named(ctx, s.member)
		if err != nil {
			return nil, err
		}
		out.Members = append(out.Members, m)
	}
	return encode(out), nil
}

func selfUser(u wire.User) wire.SelfUser {
	return wire.SelfUser{User: u, Locale: wire.LocaleDefault, Verified: true}
}
