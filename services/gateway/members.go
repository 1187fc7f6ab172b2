package gateway

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

const (
	// nonceMax is how many bytes of a nonce are echoed; a longer one is ignored.
	nonceMax = 32
	// foundMax is how many members are found by id or by name.
	foundMax = 100
	// pagesAtOnce is how many pages of members are read and encoded at the same time, for all sessions: each is about 1 MB for a moment.
	pagesAtOnce = 8
)

// Members answers op 8 with at least one chunk. Whoever asks for what it may not know gets no answer, as for what there is not: for a guild
// that the session does not see, and for everybody without the intent for members.
func (s *Service) Members(ctx context.Context, sub *session.Session, in wire.RequestMembers) error {
	r := s.desk.of(sub)
	if r == nil {
		return nil
	}
	in.Presences = in.Presences && r.shape.intents.Has(wire.IntentGuildPresences)
	if len(in.Nonce) > nonceMax {
		in.Nonce = ""
	}
	query := ""
	if in.Query != nil {
		query = strings.ToLower(*in.Query)
	}
	for _, guild := range in.GuildID {
		a := inquiry{s: s, sub: sub, record: r, guild: guild, in: in}
		var err error
		switch {
		case in.UserIDs != nil:
			err = a.byID(ctx, in.UserIDs[:min(len(in.UserIDs), foundMax)])
		case query != "":
			err = a.byName(ctx, query)
		case r.shape.intents.Has(wire.IntentGuildMembers):
			err = a.all(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inquiry is what a session wants to know of one guild.
type inquiry struct {
	s      *Service
	sub    *session.Session
	record *record
	guild  id.ID
	in     wire.RequestMembers
}

// found are members as of a position of the log, and those of the ids asked for that are none.
type found struct {
	members []wire.Member
	missing []id.ID
	pos     bus.Position
}

func (q inquiry) byID(ctx context.Context, ids []id.ID) error {
	_, err := q.chunk(ctx, 0, 1, func(ctx context.Context, g *roster.Guild) (f found, err error) {
		f.members, f.missing, f.pos, err = q.s.deps.Roster.MembersByID(ctx, g, ids)
		return f, err
	})
	return err
}

// all tells everybody, by rising id, of the ids as they are now. Who goes meanwhile is missing in a chunk, and who comes is told as that.
func (q inquiry) all(ctx context.Context) error {
	ids, err := q.ids(ctx)
	if err != nil {
		return err
	}
	if q.in.Limit > 0 {
		ids = ids[:min(len(ids), q.in.Limit)]
	}
	if len(ids) > wire.MembersPageMax && q.tooSoon() {
		return nil
	}
	count := max(1, (len(ids)+wire.MembersPageMax-1)/wire.MembersPageMax)
	for i := range count {
		page := ids[i*wire.MembersPageMax : min(len(ids), (i+1)*wire.MembersPageMax)]
		told, err := q.chunk(ctx, i, count, func(ctx context.Context, g *roster.Guild) (f found, err error) {
			f.members, _, f.pos, err = q.s.deps.Roster.MembersByID(ctx, g, page)
			return f, err
		})
		if err != nil || !told {
			return err
		}
	}
	return nil
}

// tooSoon says whether the session has asked for everybody of this guild a moment ago; then its client is told so.
func (q inquiry) tooSoon() bool {
	now, every := q.s.cfg.Now(), q.s.cfg.MembersEvery
	maps.DeleteFunc(q.record.listed, func(_ id.ID, at time.Time) bool { return now.Sub(at) >= every })
	if at, soon := q.record.listed[q.guild]; soon {
		q.sub.Say("RATE_LIMITED", encode(wire.RateLimited{
			Opcode: wire.OpRequestGuildMembers, RetryAfter: (every - now.Sub(at)).Seconds(),
			Meta: wire.RateLimitedMembers{GuildID: q.guild, Nonce: q.in.Nonce},
		}))
		return true
	}
	if q.record.listed == nil {
		q.record.listed = map[id.ID]time.Time{}
	}
	q.record.listed[q.guild] = now
	return false
}

// byName tells those of whose names or nick one begins with a text in lower case. It looks through all pages until enough are found.
func (q inquiry) byName(ctx context.Context, query string) error {
	limit := q.in.Limit
	if limit == 0 || limit > foundMax {
		limit = foundMax
	}
	_, err := q.chunk(ctx, 0, 1, func(ctx context.Context, g *roster.Guild) (found, error) {
		ids, err := q.s.people.everybody(ctx, g)
		if err != nil {
			return found{}, err
		}
		return q.search(ctx, g, ids, query, limit)
	})
	return err
}

func (q inquiry) search(ctx context.Context, g *roster.Guild, ids []id.ID, query string, limit int) (f found, err error) {
	for page := range slices.Chunk(ids, wire.MembersPageMax) {
		members, _, pos, err := q.s.deps.Roster.MembersByID(ctx, g, page)
		if err != nil {
			return f, err
		}
		if f.pos.IsZero() {
			f.pos = pos // the oldest
		}
		for _, m := range members {
			if begins(m, query) {
				f.members = append(f.members, m)
			}
			if len(f.members) == limit {
				return f, nil
			}
		}
	}
	return f, nil
}

// begins says whether a member may be called by a query.
func begins(m wire.Member, query string) bool {
	for _, name := range []*string{&m.User.Username, m.User.GlobalName, m.Nick} {
		if name != nil && strings.HasPrefix(strings.ToLower(*name), query) {
			return true
		}
	}
	return false
}

func (q inquiry) ids(ctx context.Context) (ids []id.ID, err error) {
	_, err = q.page(ctx, func(ctx context.Context, g *roster.Guild) error {
		ids, err = q.s.people.everybody(ctx, g)
		return err
	})
	return ids, err
}

// page reads something of the guild as the session sees it by now, when it is its turn. It answers false when the session does not see the
// guild any more.
func (q inquiry) page(ctx context.Context, read func(ctx context.Context, g *roster.Guild) error) (sees bool, err error) {
	select {
	case q.s.pages <- struct{}{}:
		defer func() { <-q.s.pages }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, q.s.cfg.StartTimeout)
	defer cancel()
	g, sees := q.s.core.sees(q.sub, q.guild)
	if !sees {
		return false, nil
	}
	return true, read(ctx, g)
}

// chunkTries bounds how often a chunk is read again because its guild's members have changed meanwhile. The last one is sent all the same: what
// a client is told a moment later mends it.
const chunkTries = 4

// chunk sends one, and waits for a client that is slower than what it asked for. It answers false when there is nobody to tell. What has
// changed since it was read has been told already, and must not be followed by how it was before.
func (q inquiry) chunk(ctx context.Context, index, count int, find func(context.Context, *roster.Guild) (found, error)) (bool, error) {
	for try := 1; ; try++ {
		var body []byte
		var at bus.Position
		sees, err := q.page(ctx, func(ctx context.Context, g *roster.Guild) (err error) {
			body, at, err = q.render(ctx, g, wire.MembersChunk{GuildID: q.guild, ChunkIndex: index, ChunkCount: count, Nonce: q.in.Nonce}, find)
			return err
		})
		if err != nil || !sees {
			return false, err
		}
		q.sub.Room(ctx, len(body))
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if try == chunkTries {
			at = bus.Position{}
		}
		if said, fresh := q.s.core.whileFresh(q.guild, at, func() bool { return q.sub.Say("GUILD_MEMBERS_CHUNK", body) }); fresh {
			return said, nil
		}
	}
}

func (q inquiry) render(
	ctx context.Context, g *roster.Guild, out wire.MembersChunk, find func(context.Context, *roster.Guild) (found, error),
) (body []byte, at bus.Position, err error) {
	f, err := find(ctx, g)
	if err != nil {
		return nil, at, err
	}
	out.Members, out.NotFound = f.members, f.missing
	if q.in.Presences {
		shown, err := q.s.people.shown(ctx, f.members)
		if err != nil {
			return nil, at, err
		}
		for _, m := range f.members {
			if how, there := shown[m.User.ID]; there {
				out.Presences = append(out.Presences, presenceOf(m.User.ID, q.guild, how))
			}
		}
	}
	return encode(out), f.pos, nil
}

// whileFresh says something of a guild's members that was read at a position, zero for what may be old, unless they have changed since.
func (c *core) whileFresh(guild id.ID, at bus.Position, say func() bool) (said, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !at.IsZero() {
		records, ok := c.cold.Since(hub.Behind(at))
		if !ok || slices.ContainsFunc(records, func(r hub.Record[bus.Entry]) bool {
			e := r.Value
			return at.Less(e.Pos) && (e.Guild == guild || e.Type == wire.UserUpdated)
		}) {
			return false, false
		}
	}
	return say(), true
}
