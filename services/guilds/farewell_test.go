package guilds

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// deleted deletes an account as the auth service would.
func (b *bundle) deleted(u id.ID) bus.Entry {
	b.t.Helper()
	body, err := json.Marshal(wire.UserDeletedPayload{UserID: u})
	b.must(err)
	e := bus.Entry{Type: wire.UserDeleted, User: u, Actor: u, Version: 2, Body: body}
	b.must(pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error { return b.outbox.Record(b.t.Context(), tx, e) }))
	if b.outbox.Settle(b.t.Context(), e).IsZero() {
		b.t.Fatal("a deletion did not settle")
	}
	return e
}

// forget takes a user out of the read model, as if Redis had lost it.
func (b *bundle) forget(u id.ID) {
	b.t.Helper()
	client, err := redis.Open(b.t.Context(), redis.Config{URL: b.redis.AdminURL()})
	b.must(err)
	defer client.Close()
	n, err := client.Do(b.t.Context(), client.B().Del().Key(bus.Key("user", u)).Build()).AsInt64()
	b.must(err)
	if n != 1 {
		b.t.Fatalf("user %s is not in the read model", u)
	}
}

func TestFarewell_ADeletedUserLeavesAllGuilds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.guild(), b.guild()
	b.join(one.ID, alice, bob)
	b.join(two.ID, alice)
	e := b.deleted(alice)
	b.must(b.service.HandleEntries(t.Context(), []bus.Entry{e}))
	for _, g := range []id.ID{one.ID, two.ID} {
		n := 4 // the guild, an invite, alice, and that she has left
		if g == one.ID {
			n++
		}
		all := b.contiguous(g, n)
		last := all[len(all)-1]
		var p wire.MemberRemovedPayload
		b.must(json.Unmarshal(last.Body, &p))
		if last.Type != wire.MemberRemoved || last.User != alice || p.User.ID != alice || p.User.Username != "Deleted User" {
			t.Errorf("guild %s: %s %s", g, last.Type, last.Body)
		}
	}
	if n := b.count(`SELECT count(*) FROM members WHERE user_id = $1`, int64(alice)); n != 0 {
		t.Errorf("%d memberships are left", n)
	}
	b.want(10013, alice, "POST", "/guilds", `{"name":"mine"}`)
}

func TestFarewell_FindsWhatACrashHasLeftUndone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, bob)
	hers := get[wire.Guild](b, 201, alice, "POST", "/guilds", `{"name":"hers"}`)
	b.deleted(alice)
	// Somebody of whom the read model knows nothing at all is not deleted: it may be the read model that is gone.
	b.forget(bob)
	b.must(b.service.departAll(t.Context()))
	b.must(b.service.departAll(t.Context()))
	if n := b.count(`SELECT count(*) FROM members WHERE user_id = $1`, int64(alice)); n != 0 {
		t.Errorf("%d memberships are left", n)
	}
	if n := b.count(`SELECT count(*) FROM members WHERE user_id = $1`, int64(bob)); n != 1 {
		t.Errorf("bob is in %d guilds, want 1", n)
	}
	if _, err := b.roster.Guild(t.Context(), hers.ID); !fault.Is(err, fault.UnknownGuild) {
		t.Errorf("the guild of a deleted user: %v", err)
	}
	b.contiguous(g.ID, 5)
}
