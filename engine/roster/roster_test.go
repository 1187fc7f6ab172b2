package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const (
	guild, channel, other, role = id.ID(100), id.ID(200), id.ID(201), id.ID(300)
	owner, alice, bob           = id.ID(1), id.ID(2), id.ID(3)
)

type bundle struct {
	server *redis.Local
	log    *bus.Log
	roster *Roster
	outbox *Outbox
	pool   *pgxpool.Pool
}

func setup(t testing.TB) bundle {
	t.Helper()
	server := harness.Redis(t)
	client, err := redis.Open(t.Context(), redis.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin, err := redis.Open(t.Context(), redis.Config{URL: server.AdminURL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	log := bus.Open(client, bus.Config{Retries: 1})
	if err := log.Install(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: harness.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r := New(log)
	return bundle{server: server, log: log, roster: r, outbox: NewOutbox(r, pool), pool: pool}
}

func entry(t wire.EventType, version int64, user id.ID, payload any) bus.Entry {
	body, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	e := bus.Entry{Type: t, Version: version, User: user, Body: body}
	if !isUserEvent(t) {
		e.Guild = guild
	}
	return e
}

func serverCreated() bus.Entry {
	return entry(wire.ServerCreated, 1, 0, wire.ServerCreatedPayload{
		Guild:    wire.NewGuild(guild, "g", owner),
		Channels: []wire.Channel{{ID: channel, GuildID: guild, Name: "general"}},
		Roles:    []wire.Role{{ID: guild, Name: "@everyone", Permissions: perm.ViewChannel | perm.SendMessages}},
		Members:  []wire.MemberRecord{{UserID: owner}},
	})
}

func joined(version int64, user id.ID, roles ...id.ID) bus.Entry {
	return entry(wire.MemberJoined, version, user, wire.MemberChangedPayload{
		Member: wire.MemberRecord{UserID: user, MemberFields: wire.MemberFields{Roles: roles}}, User: wire.User{ID: user}})
}

func removed(version int64, user id.ID) bus.Entry {
	return entry(wire.MemberRemoved, version, user, wire.MemberRemovedPayload{User: wire.User{ID: user}, Cause: wire.CauseKicked})
}

func (b bundle) settle(t testing.TB, entries ...bus.Entry) (last bus.Position) {
	t.Helper()
	for _, e := range entries {
		b.record(t, e)
		var err error
		if last, err = b.outbox.Settle(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

func (b bundle) record(t testing.TB, e bus.Entry) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error { return b.outbox.Record(t.Context(), tx, e) })
	if err != nil {
		t.Fatal(err)
	}
}

func code(err error) fault.Code {
	var f *fault.Fault
	if !errors.As(err, &f) {
		return -1
	}
	return f.Code
}

func TestCan_JudgesByTheReadModel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated(), joined(2, alice))
	grant, err := b.roster.Can(t.Context(), alice, channel, perm.SendMessages)
	if err != nil || grant.Version != 2 || grant.Member.UserID != alice || grant.Channel.Name != "general" {
		t.Errorf("alice: %+v, %v", grant, err)
	}
	for name, c := range map[string]struct {
		user, channel id.ID
		need          perm.Bits
		want          fault.Code
	}{
		"a stranger":           {bob, channel, perm.SendMessages, fault.MissingAccess},
		"an unknown channel":   {alice, 999, perm.SendMessages, fault.UnknownChannel},
		"a missing permission": {alice, channel, perm.ManageMessages, fault.MissingPermissions},
	} {
		if _, err := b.roster.Can(t.Context(), c.user, c.channel, c.need); code(err) != c.want {
			t.Errorf("%s: got %v, want %d", name, err, c.want)
		}
	}
}

func TestCan_LooksAgainBeforeItSaysNo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated())
	if _, err := b.roster.Can(t.Context(), alice, channel, 0); code(err) != fault.MissingAccess {
		t.Fatalf("got %v, want 50001", err)
	}
	// Another process lets alice in; this one has no tail, so its copy does not know.
	other := NewOutbox(New(b.log), b.pool)
	if _, err := other.Settle(t.Context(), joined(2, alice)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.roster.Can(t.Context(), alice, channel, 0); err != nil {
		t.Errorf("got %v, want a grant", err)
	}
}

func TestFence_StopsAPostThatWasJudgedBeforeAKick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated(), joined(2, alice))
	grant, err := b.roster.Can(t.Context(), alice, channel, perm.SendMessages)
	if err != nil {
		t.Fatal(err)
	}
	b.settle(t, removed(3, alice))
	post := bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Guild: guild, Channel: channel, Body: []byte("{}")}, Fence: grant.Version}
	if _, err := b.log.Publish(t.Context(), post); !errors.Is(err, bus.ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
	if _, err := b.roster.Can(t.Context(), alice, channel, perm.SendMessages); code(err) != fault.MissingAccess {
		t.Errorf("after the kick: got %v, want 50001", err)
	}
}

func TestHandleEntries_MovesACopyAsTheReadModelMoves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated(), joined(2, alice), joined(3, bob))
	reader := New(b.log)
	for _, u := range []id.ID{owner, alice, bob} {
		if _, err := reader.Can(t.Context(), u, channel, 0); err != nil {
			t.Fatal(err)
		}
	}
	changes := []bus.Entry{
		entry(wire.RoleCreated, 4, 0, wire.RoleChangedPayload{Role: wire.Role{ID: role, Name: "r", Permissions: perm.ManageMessages, Position: 1}}),
		entry(wire.MemberUpdated, 5, alice, wire.MemberChangedPayload{Member: wire.MemberRecord{UserID: alice, MemberFields: wire.MemberFields{Roles: []id.ID{role}}}}),
		entry(wire.ChannelUpdated, 6, 0, wire.ChannelChangedPayload{Channel: wire.Channel{ID: channel, GuildID: guild, Name: "renamed",
			PermissionOverwrites: []wire.Overwrite{{ID: role, Type: wire.OverwriteRole, Deny: perm.SendMessages}}},
			Others: []wire.Channel{{ID: other, GuildID: guild, Name: "moved along"}}}),
		removed(7, bob),
		entry(wire.RoleDeleted, 8, 0, wire.RoleDeletedPayload{RoleID: role}),
	}
	for _, e := range changes {
		e.Pos = b.settle(t, e)
		if err := reader.HandleEntries(t.Context(), []bus.Entry{e}); err != nil {
			t.Fatal(err)
		}
		got, alicesCopy, ok := reader.cached(guild, alice)
		if !ok {
			t.Fatalf("%s: the copy is gone", e.Type)
		}
		want, err := b.roster.LookGuild(t.Context(), guild, alice, bob)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Guild, got); diff != "" {
			t.Errorf("%s: the copy differs from the read model: %s", e.Type, diff)
		}
		if diff := cmp.Diff(asJSON(want.Members[alice]), asJSON(alicesCopy)); diff != "" {
			t.Errorf("%s: alice's record differs: %s", e.Type, diff)
		}
		if _, bobsCopy, _ := reader.cached(guild, bob); (bobsCopy == nil) != (want.Members[bob] == nil) {
			t.Errorf("%s: bob is a member in one of the two only", e.Type)
		}
	}
}

func asJSON(v any) string { return mustJSON(v) }

func TestHandleEntries_DropsACopyThatMissedAnEntry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated(), joined(2, alice))
	reader := New(b.log)
	if _, err := reader.Guild(t.Context(), guild); err != nil {
		t.Fatal(err)
	}
	b.settle(t, joined(3, bob))
	late := removed(4, alice)
	late.Pos = b.settle(t, late)
	if err := reader.HandleEntries(t.Context(), []bus.Entry{late}); err != nil {
		t.Fatal(err)
	}
	g, err := reader.Guild(t.Context(), guild)
	if err != nil || g.Version != 4 || g.MemberCount != 2 {
		t.Errorf("got %+v, %v; want version 4 with 2 members", g, err)
	}
}

func TestServerDeleted_LeavesNothingToBeFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated(), joined(2, alice), entry(wire.ServerDeleted, 3, 0, wire.ServerDeletedPayload{GuildID: guild}))
	if _, err := b.roster.CanGuild(t.Context(), alice, guild, 0); code(err) != fault.UnknownGuild {
		t.Errorf("guild: got %v, want 10004", err)
	}
	if _, err := b.roster.Can(t.Context(), alice, channel, 0); code(err) != fault.UnknownChannel {
		t.Errorf("channel: got %v, want 10003", err)
	}
	if guilds, err := b.roster.GuildsOf(t.Context(), alice); err != nil || len(guilds) != 0 {
		t.Errorf("alice is in %v (%v)", guilds, err)
	}
	// A late repeat of an older change does not bring it back.
	if _, err := b.outbox.Settle(t.Context(), joined(2, alice)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.roster.CanGuild(t.Context(), alice, guild, 0); code(err) != fault.UnknownGuild {
		t.Errorf("an old entry brought the guild back: %v", err)
	}
}

func TestSettle_BringsWhatWasLeftBehindInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated())
	// Two changes whose processes died between COMMIT and the log.
	b.record(t, joined(2, alice))
	b.record(t, joined(3, bob))
	b.settle(t, removed(4, alice))
	state, err := b.roster.LookGuild(t.Context(), guild, alice, bob)
	if err != nil || state.Guild.Version != 4 || state.Members[alice] != nil || state.Members[bob] == nil {
		t.Errorf("got %+v, %v", state, err)
	}
}

func TestRelay_SettlesWhatACrashLeftBehind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated())
	b.server.Stop()
	b.record(t, joined(2, alice))
	if _, err := b.outbox.Settle(t.Context(), joined(2, alice)); err == nil || fault.From(err).Status != 503 {
		t.Fatalf("got %v without Redis, want a 503", err)
	}
	if err := b.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C { // the log is asked again once a second
		if _, err := b.log.Last(t.Context()); err == nil || t.Context().Err() != nil {
			break
		}
	}
	tail := bus.NewTail(b.log, b.log.Last)
	seen := make(chan bus.Entry, 10)
	tail.Subscribe(func(_ context.Context, entries []bus.Entry) error {
		for _, e := range entries {
			seen <- e
		}
		return nil
	})
	for _, s := range []life.Service{tail, b.outbox} {
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
	}
	if e := <-seen; e.Type != wire.MemberJoined || e.User != alice || e.Version != 2 {
		t.Errorf("got %+v", e)
	}
}

func TestReady_IsUnavailableWithoutTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.outbox.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.server.Stop()
	if f := fault.From(b.outbox.Ready(t.Context())); f.Status != 503 {
		t.Errorf("got %v, want 503", f)
	}
}

func TestUsers_KnowsWhoIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, entry(wire.UserCreated, 1, alice, wire.UserChangedPayload{User: wire.User{ID: alice, Username: "alice"}, BotHash: "h"}))
	users, err := b.roster.Users(t.Context(), []id.ID{alice, bob, alice})
	if err != nil || users[alice].Username != "alice" || users[bob].Username != deletedName {
		t.Errorf("got %v, %v", users, err)
	}
	if hash, err := b.roster.BotHash(t.Context(), alice); err != nil || hash != "h" {
		t.Errorf("got hash %q, %v", hash, err)
	}
	b.settle(t, entry(wire.UserUpdated, 2, alice, wire.UserChangedPayload{User: wire.User{ID: alice, Username: "renamed"}}))
	u, err := b.roster.User(t.Context(), alice)
	if hash, _ := b.roster.BotHash(t.Context(), alice); err != nil || u.Username != "renamed" || hash != "h" {
		t.Errorf("got %v, %v, hash %q", u, err, hash)
	}
	if _, err := b.roster.User(t.Context(), bob); code(err) != fault.UnknownUser {
		t.Errorf("got %v, want 10013", err)
	}
}

func TestUserDeleted_IsGoneAndNotUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	face := wire.User{ID: alice, Username: "alice", Bot: true}
	b.settle(t, entry(wire.UserCreated, 1, alice, wire.UserChangedPayload{User: face, BotHash: "h"}))
	b.settle(t, entry(wire.UserUpdated, 2, alice, wire.UserChangedPayload{User: face}))
	if hash, err := b.roster.BotHash(t.Context(), alice); err != nil || hash != "" {
		t.Errorf("a bot without a token has hash %q, %v", hash, err)
	}
	if gone, err := b.roster.Gone(t.Context(), []id.ID{alice, bob}); err != nil || len(gone) != 0 {
		t.Errorf("gone before the deletion: %v, %v", gone, err)
	}
	b.settle(t, entry(wire.UserUpdated, 3, alice, wire.UserChangedPayload{User: face, BotHash: "h"}))
	b.settle(t, entry(wire.UserDeleted, 4, alice, wire.UserDeletedPayload{UserID: alice}))
	if gone, err := b.roster.Gone(t.Context(), []id.ID{alice, bob}); err != nil || len(gone) != 1 || gone[0] != alice {
		t.Errorf("gone: %v, %v", gone, err)
	}
	if _, err := b.roster.User(t.Context(), alice); code(err) != fault.UnknownUser {
		t.Errorf("got %v, want 10013", err)
	}
	users, err := b.roster.Users(t.Context(), []id.ID{alice})
	if err != nil || users[alice].Username != deletedName || users[alice].Bot {
		t.Errorf("got %v, %v", users, err)
	}
	if hash, err := b.roster.BotHash(t.Context(), alice); err != nil || hash != "" {
		t.Errorf("a deleted bot has hash %q, %v", hash, err)
	}
}

func TestMembers_PagesByID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated(), joined(2, bob), joined(3, alice))
	g, err := b.roster.Guild(t.Context(), guild)
	if err != nil {
		t.Fatal(err)
	}
	page, err := b.roster.Members(t.Context(), g, owner, 1)
	if err != nil || len(page) != 1 || page[0].User.ID != alice {
		t.Errorf("got %+v, %v; want alice alone", page, err)
	}
}

// TestFold_NeverWritesToASnapshot: whoever holds a snapshot reads it without a lock.
func TestFold_NeverWritesToASnapshot(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g, err := Fold(nil, serverCreated())
		if err != nil {
			t.Fatal(err)
		}
		for v := int64(2); v < 12; v++ {
			before := mustJSON(g)
			next, err := Fold(g, anyChange(t, v))
			if err != nil {
				t.Fatal(err)
			}
			if after := mustJSON(g); after != before {
				t.Fatalf("the snapshot was %s and became %s", before, after)
			}
			if next.Version != v {
				t.Fatalf("version %d after folding %d", next.Version, v)
			}
			g = next
		}
	})
}

func anyChange(t *rapid.T, version int64) bus.Entry {
	some := id.ID(rapid.IntRange(200, 204).Draw(t, "id"))
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		return entry(wire.ChannelCreated, version, 0, wire.ChannelChangedPayload{Channel: wire.Channel{ID: some, ParentID: 200,
			PermissionOverwrites: []wire.Overwrite{{ID: some, Type: wire.OverwriteRole}, {ID: 201, Type: wire.OverwriteRole}}}})
	case 1:
		return entry(wire.ChannelDeleted, version, 0, wire.ChannelDeletedPayload{ChannelID: some})
	case 2:
		return entry(wire.RoleUpdated, version, 0, wire.RoleChangedPayload{Role: wire.Role{ID: some, Name: fmt.Sprint(version)}})
	case 3:
		return entry(wire.RoleDeleted, version, 0, wire.RoleDeletedPayload{RoleID: some})
	case 4:
		return joined(version, some)
	case 5:
		return removed(version, some)
	}
	return entry(wire.ServerUpdated, version, 0, wire.ServerUpdatedPayload{Guild: wire.NewGuild(guild, fmt.Sprint(version), owner)})
}

func TestOutbox_Lives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lifetest.Stress(t, func() life.Service { return NewOutbox(b.roster, b.pool) })
}

// TestPermissions_TimeOutsEndByThemselves: no entry tells of it.
func TestPermissions_TimeOutsEndByThemselves(t *testing.T) {
	t.Parallel()
	const channel = 7
	g := &Guild{ID: guild, Meta: wire.NewGuild(guild, "g", bob), Channels: map[id.ID]*wire.Channel{channel: {ID: channel}},
		Roles: map[id.ID]*wire.Role{guild: {ID: guild, Permissions: perm.DefaultEveryone}, 8: {ID: 8, Permissions: perm.Administrator}}}
	f := func(user id.ID, left time.Duration, want perm.Bits, roles ...id.ID) {
		t.Helper()
		m := &wire.MemberRecord{UserID: user, MemberFields: wire.MemberFields{Roles: roles, CommunicationDisabledUntil: wire.At(time.Now().Add(left))}}
		if base, in := g.Base(m), g.Permissions(m, channel); base != want || in != want {
			t.Errorf("%s, %v left: got %s and %s, want %s", user, left, base, in, want)
		}
		if got := g.Granted(m); got&perm.DefaultEveryone != perm.DefaultEveryone {
			t.Errorf("granted are %s", got)
		}
	}
	f(alice, time.Hour, perm.TimedOut)
	f(alice, -time.Second, perm.DefaultEveryone)
	f(alice, time.Hour, perm.All, 8)
	f(bob, time.Hour, perm.All)
}
