package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

const (
	// membersMax is how many members of a guild GUILD_CREATE looks at: all of one that is not large for the client. For more there is
	// op 8.
	membersMax = largeMax
	// membersFresh is how long a list of members serves, so that ten thousand sessions which come back at once do not read it ten
	// thousand times. Joining and leaving make a new version of the guild and so a new list; only names can be that old.
	membersFresh = 2 * time.Second
)

// people reads who is in a guild and who is online. Safe for concurrent use.
type people struct {
	roster   *roster.Roster
	presence *presence.Presence
	now      func() time.Time
	// margin is how long before a gateway last knew where a client stood, the client may have stopped to get presences: two and a half
	// heartbeats. What it gets twice does no harm.
	margin time.Duration

	mu     sync.Mutex // guards lists and groups, held for no I/O
	lists  map[id.ID]*list
	groups map[id.ID]group
}

// list is the members of a guild, read once for all who want them at the same time.
type list struct {
	mu      sync.Mutex // held while they are read: the others wait for it anyway
	version int64
	at      time.Time
	members []wire.Member
}

func newPeople(r *roster.Roster, p *presence.Presence, now func() time.Time, heartbeat time.Duration) *people {
	return &people{roster: r, presence: p, now: now, margin: max(marginMin, heartbeat*5/2), lists: map[id.ID]*list{}, groups: map[id.ID]group{}}
}

// listsMax bounds the lists kept; the next beyond it drops all, which costs one reading each.
const listsMax = 1024

// of is the first membersMax members of a guild, as new as the snapshot at least. The slice is shared.
func (p *people) of(ctx context.Context, g *roster.Guild) ([]wire.Member, error) {
	p.mu.Lock()
	l := p.lists[g.ID]
	if l == nil {
		if len(p.lists) >= listsMax {
			clear(p.lists)
		}
		l = &list{}
		p.lists[g.ID] = l
	}
	p.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.members != nil && l.version >= g.Version && p.now().Sub(l.at) < membersFresh {
		return l.members, nil
	}
	members, err := p.roster.Members(ctx, g, 0, membersMax)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	l.version, l.at, l.members = g.Version, p.now(), members
	return members, nil
}

// named is a member with its name, for one that is not among the first.
func (p *people) named(ctx context.Context, m *wire.MemberRecord) (wire.Member, error) {
	user, err := p.roster.User(ctx, m.UserID)
	if err != nil {
		return wire.Member{}, fmt.Errorf("read a user: %w", err)
	}
	return m.Member(user), nil
}

// statuses are those of members who are online.
func (p *people) statuses(ctx context.Context, members []wire.Member) (map[id.ID]presence.Status, error) {
	users := make([]id.ID, len(members))
	for i, m := range members {
		users[i] = m.User.ID
	}
	return p.presence.Statuses(ctx, users)
}

// Members answers op 8 with at least one chunk. Who is not in the guild gets no answer, as elsewhere.
func (s *Service) Members(ctx context.Context, sub *session.Session, in wire.RequestMembers) error {
	for _, guild := range in.GuildID {
		seen, ok := s.core.sees(sub, guild)
		if !ok {
			continue
		}
		if err := s.sendMembers(ctx, sub, seen, in); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) sendMembers(ctx context.Context, sub *session.Session, g *roster.Guild, in wire.RequestMembers) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	defer cancel()
	members, missing, err := s.findMembers(ctx, g, in)
	if err != nil {
		return err
	}
	nonce := in.Nonce
	if len(nonce) > nonceMax {
		nonce = "" // longer ones are ignored
	}
	count := max(1, (len(members)+wire.MembersPageMax-1)/wire.MembersPageMax)
	for i := range count {
		page := members[i*wire.MembersPageMax : min(len(members), (i+1)*wire.MembersPageMax)]
		chunk := wire.MembersChunk{GuildID: g.ID, Members: page, ChunkIndex: i, ChunkCount: count, Nonce: nonce}
		if i == 0 {
			chunk.NotFound = missing
		}
		if in.Presences {
			statuses, err := s.people.statuses(ctx, page)
			if err != nil {
				return err
			}
			for user, status := range statuses {
				chunk.Presences = append(chunk.Presences, presenceOf(user, g.ID, status))
			}
		}
		if !sub.Say("GUILD_MEMBERS_CHUNK", encode(chunk)) {
			return nil
		}
	}
	return nil
}

// nonceMax and idsMax are the limits of op 8.
const (
	nonceMax = 32
	idsMax   = 100
	// joinedMeanwhile is how many more members there may be than the snapshot knows of.
	joinedMeanwhile = 1000
)

// findMembers looks for members by id, or by the beginning of a name; everybody for an empty one without a limit.
func (s *Service) findMembers(ctx context.Context, g *roster.Guild, in wire.RequestMembers) (found []wire.Member, missing []id.ID, err error) {
	if len(in.UserIDs) > 0 {
		return s.membersByID(ctx, g, in.UserIDs[:min(len(in.UserIDs), idsMax)])
	}
	query := ""
	if in.Query != nil {
		query = strings.ToLower(*in.Query)
	}
	limit := in.Limit
	if limit <= 0 || query != "" && limit > idsMax {
		limit = idsMax
		if query == "" {
			limit = g.MemberCount + joinedMeanwhile // all, also of those who have joined since
		}
	}
	all, err := s.deps.Roster.Members(ctx, g, 0, g.MemberCount+joinedMeanwhile)
	if err != nil {
		return nil, nil, fmt.Errorf("read members: %w", err)
	}
	for _, m := range all {
		if len(found) == limit {
			break
		}
		if query == "" || strings.HasPrefix(strings.ToLower(m.User.Username), query) ||
			m.Nick != nil && strings.HasPrefix(strings.ToLower(*m.Nick), query) {
			found = append(found, m)
		}
	}
	return found, nil, nil
}

func (s *Service) membersByID(ctx context.Context, g *roster.Guild, ids []id.ID) (found []wire.Member, missing []id.ID, err error) {
	state, err := s.deps.Roster.LookGuild(ctx, g.ID, ids...)
	if err != nil {
		return nil, nil, fmt.Errorf("read members: %w", err)
	}
	users, err := s.deps.Roster.Users(ctx, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("read users: %w", err)
	}
	for _, user := range ids {
		if m := state.Members[user]; m != nil {
			found = append(found, m.Member(users[user]))
		} else {
			missing = append(missing, user)
		}
	}
	return found, missing, nil
}

const (
	// onlineMax bounds what is told after RESUMED.
	onlineMax = 1000
	// marginMin is two and a half heartbeats of 41.25 s, see people.margin.
	marginMin = 104 * time.Second
	// groupsMax bounds the users whose guilds are remembered for membersFresh.
	groupsMax = 4096
)

// presencesAfter tells a session that came back of each user in its guilds who changed meanwhile, once for each guild as it is told live.
// When it is not known any more who did, it tells of all.
func (p *people) presencesAfter(r *record, guilds []sight, wanted bool) func(context.Context, session.Emit) error {
	return func(ctx context.Context, emit session.Emit) error {
		changed, ok := p.presence.Since(r.presence - p.margin.Milliseconds())
		delete(changed, r.user)
		var err error
		switch {
		case !wanted:
		case !ok, len(changed) > onlineMax:
			err = p.allPresences(ctx, r.user, guilds, emit)
		default:
			err = p.changedPresences(ctx, changed, guilds, emit)
		}
		r.told = err == nil
		return err
	}
}

func (p *people) changedPresences(ctx context.Context, changed map[id.ID]presence.Status, guilds []sight, emit session.Emit) error {
	in, err := p.guildsOf(ctx, slices.Collect(maps.Keys(changed)))
	if err != nil {
		return err
	}
	for _, s := range guilds {
		for user, status := range changed {
			if !slices.Contains(in[user], s.guild.ID) {
				continue
			}
			if err := emit("PRESENCE_UPDATE", encode(presenceOf(user, s.guild.ID, status))); err != nil {
				return err
			}
		}
	}
	return nil
}

// allPresences tells how those show whom GUILD_CREATE would name.
func (p *people) allPresences(ctx context.Context, user id.ID, guilds []sight, emit session.Emit) error {
	sent := 0
	for _, s := range guilds {
		members, err := p.of(ctx, s.guild)
		if err != nil {
			return err
		}
		statuses, err := p.statuses(ctx, members)
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.User.ID == user || sent == onlineMax {
				continue
			}
			sent++
			status, online := statuses[m.User.ID]
			if !online {
				status = presence.Offline
			}
			if err := emit("PRESENCE_UPDATE", encode(presenceOf(m.User.ID, s.guild.ID, status))); err != nil {
				return err
			}
		}
	}
	return nil
}

// group is the guilds of a user as they were a moment ago.
type group struct {
	at     time.Time
	guilds []id.ID
}

// guildsOf are the guilds of users. Of sessions that come back together, the first reads them for all.
func (p *people) guildsOf(ctx context.Context, users []id.ID) (map[id.ID][]id.ID, error) {
	out := make(map[id.ID][]id.ID, len(users))
	var missing []id.ID
	p.mu.Lock()
	for _, user := range users {
		if g, ok := p.groups[user]; ok && p.now().Sub(g.at) < membersFresh {
			out[user] = g.guilds
		} else {
			missing = append(missing, user)
		}
	}
	p.mu.Unlock()
	var reads errgroup.Group
	reads.SetLimit(looksMax)
	for _, user := range missing {
		reads.Go(func() error {
			at := p.now()
			guilds, err := p.roster.GuildsOf(ctx, user)
			if err != nil {
				return fmt.Errorf("read the guilds of a user: %w", err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.groups) >= groupsMax {
				clear(p.groups)
			}
			p.groups[user], out[user] = group{at: at, guilds: guilds}, guilds
			return nil
		})
	}
	return out, reads.Wait()
}

func presenceOf(user, guild id.ID, status presence.Status) wire.Presence {
	clients := map[string]string{}
	if status != presence.Offline {
		clients["web"] = string(status)
	}
	return wire.Presence{User: wire.UserRef{ID: user}, GuildID: guild, Status: string(status), ClientStatus: clients}
}
