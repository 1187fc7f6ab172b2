package gateway

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// many is a guild of the owner and of so many members that nobody else is: their ids follow each other.
const (
	many      = id.ID(900 << 22)
	manyFirst = id.ID(1_000_000)
)

func (b *bundle) foundMany(n int) {
	b.t.Helper()
	b.cold(wire.ServerCreated, bus.Entry{Guild: many, Actor: owner}, wire.ServerCreatedPayload{
		Guild:    wire.NewGuild(many, "many", owner),
		Channels: wire.List[wire.Channel]{{ID: many + 1, GuildID: many, Name: "general"}},
		Roles:    wire.List[wire.Role]{{ID: many, Name: "@everyone", Permissions: perm.ViewChannel}},
		Members:  wire.List[wire.MemberRecord]{{UserID: owner, MemberFields: wire.MemberFields{JoinedAt: 1}}},
	})
	// Into the read model itself: nobody watches yet, and joining one after the other would take long.
	members := b.admin.B().Hset().Key(bus.Key("members", many)).FieldValue()
	for i := range n {
		user := manyFirst + id.ID(i)
		members = members.FieldValue(user.String(), string(encode(wire.MemberRecord{UserID: user, MemberFields: wire.MemberFields{JoinedAt: 1}})))
		set := b.admin.B().Hset().Key(bus.Key("user", user)).FieldValue().FieldValue("user", string(encode(person(user)))).Build()
		if err := b.admin.Do(b.t.Context(), set).Error(); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := b.admin.Do(b.t.Context(), members.Build()).Error(); err != nil {
		b.t.Fatal(err)
	}
}

// ask sends op 8 and reads all chunks of the next answer.
func (s *socket) ask(d map[string]any) (chunks []wire.MembersChunk) {
	s.t.Helper()
	s.send(wire.OpRequestGuildMembers, d)
	for {
		var c wire.MembersChunk
		s.dispatch("GUILD_MEMBERS_CHUNK").into(s.t, &c)
		if c.ChunkIndex != len(chunks) {
			s.t.Fatalf("chunk %d of %d is number %d", c.ChunkIndex, c.ChunkCount, len(chunks))
		}
		if chunks = append(chunks, c); len(chunks) >= c.ChunkCount {
			return chunks
		}
	}
}

func TestMembers_AreToldInChunks(t *testing.T) {
	t.Parallel()
	var elapsed atomic.Int64
	b := setup(t, Config{Now: func() time.Time { return time.Now().Add(time.Duration(elapsed.Load())) }})
	b.found()
	b.foundMany(2500)
	o, guilds := b.identify(owner, wire.IntentsAll)
	for _, g := range guilds {
		if g.ID == many && (!g.Large || g.MemberCount != 2501 || len(g.Members) != 1 || g.Members[0].User.ID != owner) {
			t.Errorf("large %v, %d members, of which %d are named", g.Large, g.MemberCount, len(g.Members))
		}
	}
	chunks := o.ask(map[string]any{"guild_id": many, "query": "", "limit": 0, "nonce": "n"})
	var got []id.ID
	for _, c := range chunks {
		if c.GuildID != many || c.Nonce != "n" || len(c.Members) > wire.MembersPageMax || len(c.NotFound) != 0 || c.Presences != nil {
			t.Errorf("chunk %d: guild %s, nonce %q, %d members", c.ChunkIndex, c.GuildID, c.Nonce, len(c.Members))
		}
		for _, m := range c.Members {
			got = append(got, m.User.ID)
		}
	}
	want := []id.ID{owner}
	for i := range id.ID(2500) {
		want = append(want, manyFirst+i)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(chunks) != 3 {
		t.Errorf("%d chunks: %s", len(chunks), diff)
	}
	o.send(wire.OpRequestGuildMembers, map[string]any{"guild_id": many, "query": "", "limit": 0, "nonce": "again"})
	var refused wire.RateLimited
	if o.dispatch("RATE_LIMITED").into(t, &refused); refused.Opcode != wire.OpRequestGuildMembers || refused.RetryAfter <= 0 || refused.RetryAfter > 10 ||
		refused.Meta != (wire.RateLimitedMembers{GuildID: many, Nonce: "again"}) {
		t.Errorf("refused with %+v", refused)
	}
	elapsed.Add(int64(10 * time.Second))
	if c := o.ask(map[string]any{"guild_id": many, "query": "", "limit": 1001}); len(c) != 2 || len(c[0].Members) != 1000 || len(c[1].Members) != 1 {
		t.Errorf("with a limit there are %d chunks", len(c))
	}
	// Found behind what is in the first page; and never more than a hundred.
	c := o.ask(map[string]any{"guild_id": many, "query": "USER1002499", "limit": 0})
	if len(c) != 1 || len(c[0].Members) != 1 || c[0].Members[0].User.ID != manyFirst+2499 {
		t.Errorf("by name: %+v", c)
	}
	if c := o.ask(map[string]any{"guild_id": many, "query": "user1", "limit": 1000}); len(c) != 1 || len(c[0].Members) != 100 {
		t.Errorf("by a name that many have: %d chunks, %d members", len(c), len(c[0].Members))
	}
	// Who has come or gone is in the next list.
	b.cold(wire.MemberRemoved, bus.Entry{Guild: many, User: manyFirst}, wire.MemberRemovedPayload{User: person(manyFirst), Cause: wire.CauseLeft})
	o.dispatch("GUILD_MEMBER_REMOVE")
	elapsed.Add(int64(10 * time.Second))
	if c := o.ask(map[string]any{"guild_id": many, "limit": 0}); len(c) != 3 || len(c[2].Members) != 500 || c[0].Members[1].User.ID != manyFirst+1 {
		t.Errorf("after somebody has left there are %d chunks", len(c))
	}
}

func TestMembers_AreToldToWhoMayKnow(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	b.foundMany(3)
	// Requests are answered in turn: the answer that comes shows that there was none to those before it.
	const fence = "the next answer"
	nothing := func(s *socket, why string, d map[string]any) {
		t.Helper()
		s.send(wire.OpRequestGuildMembers, d)
		c := s.ask(map[string]any{"guild_id": guild, "user_ids": alice, "nonce": fence})
		if c[0].Nonce != fence {
			t.Errorf("%s: %+v", why, c)
		}
	}
	a, _ := b.identify(alice, wire.IntentsAll)
	nothing(a, "a foreign guild", map[string]any{"guild_id": many, "query": "", "limit": 0})
	nothing(a, "members of a foreign guild", map[string]any{"guild_id": []id.ID{many}, "user_ids": []id.ID{owner, manyFirst}})
	nothing(a, "names in a foreign guild", map[string]any{"guild_id": many, "query": "user", "limit": 5})
	nothing(a, "a guild that there is not", map[string]any{"guild_id": 5, "query": "", "limit": 0, "user_ids": nil})

	few, _ := b.identify(bob, wire.IntentGuilds)
	nothing(few, "everybody without the intent", map[string]any{"guild_id": guild, "query": "", "limit": 0})
	nothing(few, "some of everybody without the intent", map[string]any{"guild_id": guild, "limit": 2})
	c := few.ask(map[string]any{"guild_id": guild, "query": "user", "limit": 2, "presences": true})
	if len(c) != 1 || len(c[0].Members) != 2 || c[0].Presences != nil {
		t.Errorf("by name, without the intents: %+v", c)
	}
	c = few.ask(map[string]any{"guild_id": guild, "user_ids": []id.ID{99, alice, 98}, "nonce": strings.Repeat("n", 33)})
	if diff := cmp.Diff(wire.List[id.ID]{99, 98}, c[0].NotFound); diff != "" || len(c[0].Members) != 1 || c[0].Nonce != "" {
		t.Errorf("by id: %s %+v", diff, c)
	}
	c = few.ask(map[string]any{"guild_id": guild, "user_ids": []id.ID{}, "nonce": strings.Repeat("n", 32)})
	if len(c) != 1 || len(c[0].Members) != 0 || c[0].Nonce != strings.Repeat("n", 32) {
		t.Errorf("of nobody: %+v", c)
	}
	b.kick(bob)
	few.dispatch("GUILD_DELETE")
	few.send(wire.OpRequestGuildMembers, map[string]any{"guild_id": guild, "user_ids": alice, "nonce": "gone"})
	b.member(wire.MemberJoined, bob)
	few.dispatch("GUILD_CREATE")
	if c := few.ask(map[string]any{"guild_id": guild, "user_ids": alice, "nonce": fence}); c[0].Nonce == "gone" {
		// The request may have been taken up when he was back, which is as well: then the answer to the next one follows.
		few.dispatch("GUILD_MEMBERS_CHUNK")
	}
}

// TestMembers_AreNotToldAsTheyWere: what changes while a chunk is made is told before it, so the chunk is made anew.
func TestMembers_AreNotToldAsTheyWere(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	b.service.desk.mu.Lock()
	var q inquiry
	for sub, r := range b.service.desk.owned {
		q = inquiry{s: b.service, sub: sub, record: r, guild: guild}
	}
	b.service.desk.mu.Unlock()
	reads := 0
	told, err := q.chunk(t.Context(), 0, 1, func(ctx context.Context, g *roster.Guild) (f found, err error) {
		f.members, _, f.pos, err = b.service.deps.Roster.MembersByID(ctx, g, []id.ID{bob})
		if reads++; reads == 1 {
			b.member(wire.MemberUpdated, bob, moderator)
		}
		return f, err
	})
	if !told || err != nil || reads != 2 {
		t.Errorf("told %v after %d reads, %v", told, reads, err)
	}
	a.dispatch("GUILD_MEMBER_UPDATE")
	var c wire.MembersChunk
	a.dispatch("GUILD_MEMBERS_CHUNK").into(t, &c)
	if len(c.Members) != 1 || len(c.Members[0].Roles) != 1 {
		t.Errorf("told as before: %+v", c.Members)
	}
	// Somewhere it ends.
	told, err = q.chunk(t.Context(), 0, 1, func(ctx context.Context, g *roster.Guild) (f found, err error) {
		f.members, _, f.pos, err = b.service.deps.Roster.MembersByID(ctx, g, []id.ID{bob})
		b.member(wire.MemberUpdated, bob)
		return f, err
	})
	if !told || err != nil {
		t.Errorf("told %v, %v", told, err)
	}
}

// BenchmarkMembers is op 8 for all 10,000 members of a guild, to a client that reads: from the request to the last chunk.
func BenchmarkMembers(b *testing.B) {
	harness.Unwatched(b)
	w := setup(b, Config{MembersEvery: time.Nanosecond})
	w.user(owner)
	w.foundMany(10_000)
	s, _ := w.identify(owner, wire.IntentsAll)
	b.ReportAllocs()
	var took []time.Duration
	read := 0
	for b.Loop() {
		begun := time.Now()
		s.send(wire.OpRequestGuildMembers, map[string]any{"guild_id": many, "query": "", "limit": 0})
		for range 11 {
			_, raw, err := s.ws.ReadMessage()
			if err != nil {
				b.Fatal(err)
			}
			read += len(raw)
		}
		took = append(took, time.Since(begun))
	}
	reportTimes(b, "op8", took, read)
}
