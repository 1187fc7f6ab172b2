package guilds

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func TestMembers_ArePagedFromTheStore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, bob, alice, mod)
	f := func(query string, want ...id.ID) {
		t.Helper()
		var got []id.ID
		for _, m := range get[[]wire.Member](b, 200, alice, "GET", path("/guilds/%s/members", g.ID)+query, "") {
			got = append(got, m.User.ID)
			if m.User.Username != "user"+m.User.ID.String() || m.JoinedAt == 0 {
				t.Errorf("member %+v", m)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
	f("", owner)
	f("?limit=1000", owner, mod, alice, bob)
	f("?limit=2&after="+owner.String(), mod, alice)
	f("?limit=2&after=" + bob.String())
	f("?limit=2&after=18446744073709551615")
	b.want(50035, alice, "GET", path("/guilds/%s/members?limit=1001", g.ID), "")
	b.want(10004, stranger, "GET", path("/guilds/%s/members", g.ID), "")
	b.want(10004, stranger, "GET", path("/guilds/%s/members/%s", g.ID, alice), "")
}

func TestKick_FollowsTheRanks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, admin, mod, alice, bob)
	b.role(g.ID, 5, perm.KickMembers, mod)
	b.role(g.ID, 8, perm.Administrator, admin)
	at := func(u id.ID) string { return path("/guilds/%s/members/%s", g.ID, u) }
	b.want(50013, alice, "DELETE", at(bob), "")
	b.want(10004, stranger, "DELETE", at(bob), "")
	b.want(50013, mod, "DELETE", at(admin), "")
	b.want(50013, mod, "DELETE", at(mod), "")
	b.want(50013, mod, "DELETE", at(owner), "")
	b.want(50013, admin, "DELETE", at(owner), "")
	b.want(204, mod, "DELETE", at(alice), "")
	b.want(10007, mod, "DELETE", at(alice), "")
	b.want(204, admin, "DELETE", at(mod), "")
	b.want(10004, mod, "DELETE", at(bob), "")
	all := b.contiguous(g.ID, b.version(g.ID))
	var p wire.MemberRemovedPayload
	last := all[len(all)-1]
	b.must(json.Unmarshal(last.Body, &p))
	if last.Actor != admin || last.User != mod || p.User.ID != mod || p.Cause != wire.CauseKicked {
		t.Errorf("the last entry is %+v with %+v", last, p)
	}
}

func TestKick_IsSeenByTheFence(t *testing.T) {
	t.Parallel()
	endsWriting(t, "DELETE", "/guilds/%s/members/%s")
}

// endsWriting expects that what is done to alice is seen by the fence: what she was allowed before is stale behind it.
func endsWriting(t *testing.T, method, pattern string) {
	t.Helper()
	endsWritingBy(t, func(b *bundle, g id.ID) { b.want(204, owner, method, path(pattern, g, alice), "") })
}

func endsWritingBy(t *testing.T, do func(b *bundle, g id.ID)) {
	t.Helper()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice)
	grant, err := b.roster.Can(t.Context(), alice, g.SystemChannelID, perm.SendMessages)
	b.must(err)
	post := bus.Post{Fence: grant.Version, Entry: bus.Entry{Type: wire.MessageSent, Actor: alice, Guild: g.ID, Channel: g.SystemChannelID, Body: []byte(`{}`)}}
	if _, err := b.log.Publish(t.Context(), post); err != nil {
		t.Fatalf("before: %v", err)
	}
	do(b, g.ID)
	if _, err := b.log.Publish(t.Context(), post); err != bus.ErrStale {
		t.Errorf("after: %v, want ErrStale", err)
	}
	if _, err := b.roster.Can(t.Context(), alice, g.SystemChannelID, perm.SendMessages); err == nil {
		t.Error("alice may still write")
	}
}

func TestNick_OwnAndOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod, admin, alice, bob)
	b.role(g.ID, 3, perm.ManageNicknames, mod)
	b.role(g.ID, 4, perm.ManageNicknames, admin)
	at := func(u id.ID) string { return path("/guilds/%s/members/%s", g.ID, u) }
	me := path("/guilds/%s/members/@me", g.ID)
	if m := get[wire.Member](b, 200, alice, "PATCH", me, `{"nick":" al "}`); *m.Nick != "al" || m.User.ID != alice {
		t.Errorf("alice is %+v", m)
	}
	before := b.version(g.ID)
	b.want(200, alice, "PATCH", me, `{"nick":"al"}`)
	b.want(200, alice, "PATCH", me, `{}`)
	if after := b.version(g.ID); after != before {
		t.Errorf("nothing changed, and the version went from %d to %d", before, after)
	}
	if m := get[wire.Member](b, 200, alice, "PATCH", me, `{"nick":null}`); m.Nick != nil {
		t.Errorf("alice is %+v", m)
	}
	b.want(200, alice, "PATCH", at(alice), `{"nick":"al"}`)
	b.want(50035, alice, "PATCH", me, `{"nick":"`+strings.Repeat("x", 33)+`"}`)
	b.want(50013, alice, "PATCH", at(bob), `{"nick":"b"}`)
	b.want(200, mod, "PATCH", at(bob), `{"nick":"b"}`)
	b.want(50013, mod, "PATCH", at(admin), `{"nick":"b"}`)
	b.want(50013, mod, "PATCH", at(owner), `{"nick":"b"}`)
	b.want(200, owner, "PATCH", at(admin), `{"nick":"b"}`)
	b.want(200, owner, "PATCH", me, `{"nick":"boss"}`)
	b.want(10004, stranger, "PATCH", me, `{"nick":"b"}`)
	// Without CHANGE_NICKNAME oneself is no exception.
	b.want(200, owner, "PATCH", path("/guilds/%s/roles/%s", g.ID, g.ID), fmt.Sprintf(`{"permissions":"%s"}`, perm.DefaultEveryone&^perm.ChangeNickname))
	b.want(50013, alice, "PATCH", me, `{"nick":"b"}`)
	b.want(50013, alice, "PATCH", at(alice), `{"nick":"b"}`)
	b.want(200, mod, "PATCH", at(mod), `{"nick":"b"}`)
}

func TestUpdateMember_SetsRoles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod, alice)
	b.role(g.ID, 5, perm.ManageRoles, mod)
	one, two, high := b.role(g.ID, 1, 0), b.role(g.ID, 2, 0), b.role(g.ID, 9, 0, alice)
	at := path("/guilds/%s/members/%s", g.ID, alice)
	// What stands above the moderator stays, and must be named.
	m := get[wire.Member](b, 200, mod, "PATCH", at, fmt.Sprintf(`{"roles":["%s","%s","%s"],"nick":null}`, one, high, one))
	if !cmp.Equal(m.Roles, wire.List[id.ID]{one, high}) {
		t.Errorf("roles %v", m.Roles)
	}
	b.want(50013, mod, "PATCH", at, fmt.Sprintf(`{"roles":["%s"]}`, two))
	b.want(50013, alice, "PATCH", at, `{"roles":[]}`)
	b.want(50028, mod, "PATCH", at, fmt.Sprintf(`{"roles":["%s"]}`, g.ID))
	b.want(50028, mod, "PATCH", at, `{"roles":["5"]}`)
	b.want(204, mod, "DELETE", path("/guilds/%s/members/%s/roles/%s", g.ID, alice, one), "")
	b.want(204, mod, "DELETE", path("/guilds/%s/members/%s/roles/%s", g.ID, alice, one), "")
	b.want(50028, mod, "PUT", path("/guilds/%s/members/%s/roles/%s", g.ID, alice, g.ID), "")
	if m := get[wire.Member](b, 200, alice, "GET", at, ""); !cmp.Equal(m.Roles, wire.List[id.ID]{high}) {
		t.Errorf("roles %v", m.Roles)
	}
}

func TestAddBot_IsForWhoManagesTheGuild(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod)
	b.role(g.ID, 1, perm.ManageGuild, mod)
	at := path("/guilds/%s/members/%s", g.ID, robot)
	b.want(50013, alice, "PUT", at, "")
	b.want(10004, stranger, "PUT", at, "")
	b.want(20001, robot, "PUT", at, "")
	b.want(10004, robot, "GET", path("/guilds/%s", g.ID), "")
	b.want(50035, owner, "PUT", path("/guilds/%s/members/%s", g.ID, stranger), "")
	m := get[wire.Member](b, 201, mod, "PUT", at, `{"permissions":"8"}`)
	if m.User.ID != robot || !m.User.Bot {
		t.Errorf("member %+v", m)
	}
	n := b.version(g.ID)
	b.want(204, mod, "PUT", at, "")
	b.want(200, robot, "GET", path("/guilds/%s", g.ID), "")
	if all := b.contiguous(g.ID, n); all[n-1].Type != wire.MemberJoined || all[n-1].User != robot {
		t.Errorf("the last entry is %+v", all[n-1])
	}
	b.want(204, robot, "DELETE", path("/users/@me/guilds/%s", g.ID), "")
}
