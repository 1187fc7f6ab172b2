package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

const (
	// membersMax is how many members of a guild GUILD_CREATE names besides who gets it: all of one that is not large for the client, and of
	// a large one so many of those who are there. For more there is op 8.
	membersMax = largeMax
	// membersFresh is how long a list of members serves, so that ten thousand sessions which come back at once do not read it ten
	// thousand times. Joining and leaving make a new version of the guild and so a new list; only names, and who is there, can be that old.
	membersFresh = 2 * time.Second
	// listsMax bounds the lists kept; the next beyond it drops all, which costs one reading each. A list of ids has 8 bytes for a member.
	listsMax, idListsMax = 1024, 64
	// marginMin is two and a half heartbeats of 41.25 s, see people.margin.
	marginMin = 104 * time.Second
	// groupsMax bounds the users whose guilds are remembered for membersFresh.
	groupsMax = 4096
)

// people reads who is in a guild and who is online. Safe for concurrent use.
type people struct {
	roster   *roster.Roster
	presence *presence.Presence
	now      func() time.Time
	// margin is how long before a gateway last knew where a client stood, the client may have stopped to get presences: two and a half
	// heartbeats. What it gets twice does no harm.
	margin time.Duration

	mu      sync.Mutex // guards what follows, held for no I/O
	members map[id.ID]*list[wire.Member]
	there   map[id.ID]*list[wire.Member]
	ids     map[id.ID]*list[id.ID]
	groups  map[id.ID]group
}

// list is something about the members of a guild, read once for all who want it at the same time.
type list[T any] struct {
	mu      sync.Mutex // held while it is read: the others wait for it anyway
	read    bool
	version int64
	at      time.Time
	items   []T
}

func newPeople(r *roster.Roster, p *presence.Presence, now func() time.Time, heartbeat time.Duration) *people {
	return &people{
		roster: r, presence: p, now: now, margin: max(marginMin, heartbeat*5/2),
		members: map[id.ID]*list[wire.Member]{}, there: map[id.ID]*list[wire.Member]{}, ids: map[id.ID]*list[id.ID]{}, groups: map[id.ID]group{},
	}
}

// listOf is the list of a guild, which may be there or not.
func listOf[T any](p *people, lists map[id.ID]*list[T], guild id.ID, limit int) *list[T] {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := lists[guild]
	if l == nil {
		if len(lists) >= limit {
			clear(lists)
		}
		l = &list[T]{}
		lists[guild] = l
	}
	return l
}

// get is the list as fresh says that it is new enough; else it is read, at a version at least.
func (l *list[T]) get(version int64, now time.Time, fresh func() bool, read func() ([]T, error)) ([]T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.read && fresh() {
		return l.items, nil
	}
	items, err := read()
	if err != nil {
		return nil, err
	}
	l.read, l.version, l.at, l.items = true, version, now, items
	return items, nil
}

// told are the members of a guild that GUILD_CREATE names: all of a small one, of a large one some of those who are there. With them is how
// they show. The slice is shared.
func (p *people) told(ctx context.Context, g *roster.Guild, large int) ([]wire.Member, map[id.ID]presence.Shown, error) {
	members, err := p.of(ctx, g, g.MemberCount > large)
	if err != nil {
		return nil, nil, err
	}
	shown, err := p.shown(ctx, members)
	return members, shown, err
}

func (p *people) of(ctx context.Context, g *roster.Guild, large bool) ([]wire.Member, error) {
	now := p.now()
	if large {
		l := listOf(p, p.there, g.ID, listsMax)
		return l.get(g.Version, now, func() bool { return now.Sub(l.at) < membersFresh }, func() ([]wire.Member, error) { return p.present(ctx, g) })
	}
	l := listOf(p, p.members, g.ID, listsMax)
	return l.get(g.Version, now, func() bool { return l.version >= g.Version && now.Sub(l.at) < membersFresh }, func() ([]wire.Member, error) {
		members, err := p.roster.Members(ctx, g, 0, membersMax)
		if err != nil {
			return nil, fmt.Errorf("read members: %w", err)
		}
		return members, nil
	})
}

// everybody are the ids of all members of a guild in rising order, as new as the snapshot at least. The slice is shared.
func (p *people) everybody(ctx context.Context, g *roster.Guild) ([]id.ID, error) {
	l := listOf(p, p.ids, g.ID, idListsMax)
	return l.get(g.Version, p.now(), func() bool { return l.version >= g.Version }, func() ([]id.ID, error) {
		return p.roster.MemberIDs(ctx, g.ID)
	})
}

// present are some of the members of a large guild who are there.
func (p *people) present(ctx context.Context, g *roster.Guild) ([]wire.Member, error) {
	ids, err := p.everybody(ctx, g)
	if err != nil {
		return nil, err
	}
	var there []id.ID
	for page := range slices.Chunk(ids, wire.MembersPageMax) {
		shown, err := p.presence.Shown(ctx, page)
		if err != nil {
			return nil, err
		}
		there = slices.AppendSeq(there, maps.Keys(shown))
		if len(there) >= membersMax {
			break
		}
	}
	slices.Sort(there)
	members, _, _, err := p.roster.MembersByID(ctx, g, there[:min(len(there), membersMax)])
	return members, err
}

// named is a member with its name, for one that is not among the first.
func (p *people) named(ctx context.Context, m *wire.MemberRecord) (wire.Member, error) {
	user, err := p.roster.User(ctx, m.UserID)
	if err != nil {
		return wire.Member{}, fmt.Errorf("read a user: %w", err)
	}
	return m.Member(user), nil
}

// shown are those of members who are online.
func (p *people) shown(ctx context.Context, members []wire.Member) (map[id.ID]presence.Shown, error) {
	users := make([]id.ID, len(members))
	for i, m := range members {
		users[i] = m.User.ID
	}
	return p.presence.Shown(ctx, users)
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
