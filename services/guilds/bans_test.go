package guilds

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func TestBan_FollowsTheRanks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, admin, mod, alice, bob)
	b.role(g.ID, 5, perm.BanMembers, mod)
	b.role(g.ID, 8, perm.Administrator, admin)
	at := func(u id.ID) string { return path("/guilds/%s/bans/%s", g.ID, u) }
	before := b.version(g.ID)
	b.want(50013, alice, "PUT", at(bob), "")
	b.want(10004, stranger, "PUT", at(bob), "")
	b.want(50013, mod, "PUT", at(admin), "")
	b.want(50013, mod, "PUT", at(mod), "")
	b.want(50013, mod, "PUT", at(owner), "")
	b.want(50013, admin, "PUT", at(owner), "")
	b.want(50013, owner, "PUT", at(owner), "")
	b.want(10013, mod, "PUT", at(nobody), "")
	b.want(50035, mod, "PUT", at(bob), `{"delete_message_seconds":604801}`)
	b.want(50035, mod, "PUT", at(bob), `{"delete_message_days":8}`)
	for _, method := range []string{"GET", "DELETE"} {
		b.want(50013, alice, method, at(bob), "")
		b.want(10004, stranger, method, at(bob), "")
		b.want(10026, mod, method, at(bob), "")
	}
	if after := b.version(g.ID); after != before || b.count(`SELECT count(*) FROM bans`) != 0 {
		t.Fatalf("what was refused took the guild from version %d to %d", before, after)
	}
	b.want(204, mod, "PUT", at(bob), `{"delete_message_seconds":0,"delete_message_days":null}`)
	b.want(204, mod, "PUT", at(bob), "")
	b.want(204, mod, "PUT", at(stranger), "")
	b.want(204, mod, "PUT", at(stranger), "")
	b.want(204, admin, "PUT", at(mod), "")
	b.want(10004, mod, "GET", at(bob), "")
	b.want(10007, admin, "GET", path("/guilds/%s/members/%s", g.ID, bob), "")
	b.want(204, admin, "DELETE", at(bob), "")
	b.want(10026, admin, "DELETE", at(bob), "")

	all := b.contiguous(g.ID, before+4)[before:]
	for i, want := range []struct {
		kind  wire.EventType
		user  id.ID
		cause string
	}{
		{wire.MemberRemoved, bob, wire.CauseBanned}, {wire.BanAdded, stranger, ""}, {wire.MemberRemoved, mod, wire.CauseBanned}, {wire.BanRemoved, bob, ""},
	} {
		var p wire.MemberRemovedPayload
		b.must(json.Unmarshal(all[i].Body, &p))
		if all[i].Type != want.kind || all[i].User != want.user || p.User.ID != want.user || p.Cause != want.cause {
			t.Errorf("entry %d: want %+v, got %s with %+v", i, want, all[i].Type, p)
		}
	}
}

func TestBan_KeepsOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice)
	invite := "/invites/" + get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{"max_uses":1}`).Code
	at := func(u id.ID) string { return path("/guilds/%s/bans/%s", g.ID, u) }
	bot := path("/guilds/%s/members/%s", g.ID, robot)
	for _, u := range []id.ID{alice, stranger, robot} {
		b.want(204, owner, "PUT", at(u), "")
	}
	b.want(10004, alice, "GET", path("/guilds/%s", g.ID), "")
	b.want(40007, alice, "POST", invite, "")
	b.want(40007, stranger, "POST", invite, "")
	b.want(40007, owner, "PUT", bot, "")
	b.want(204, owner, "DELETE", at(alice), "")
	b.want(204, owner, "DELETE", at(robot), "")
	// What was refused has used nothing up.
	b.want(200, alice, "POST", invite, "")
	b.want(201, owner, "PUT", bot, "")
	b.want(204, owner, "DELETE", path("/guilds/%s", g.ID), "")
	if n := b.count(`SELECT count(*) FROM bans`); n != 0 {
		t.Errorf("a deleted guild left %d bans", n)
	}
}

func TestBan_IsSeenByTheFence(t *testing.T) {
	t.Parallel()
	endsWriting(t, "PUT", "/guilds/%s/bans/%s")
}

// TestBan_RacesWithJoining: whichever comes first, in the end the banned user is out.
func TestBan_RacesWithJoining(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	invite := "/invites/" + get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{"max_age":0}`).Code
	users := []id.ID{admin, mod, alice, bob, stranger}
	var all sync.WaitGroup
	for _, u := range users {
		all.Go(func() {
			if a := b.ask(u, "POST", invite, ""); a.status != 200 && a.code != 40007 {
				t.Errorf("%s joins: %s", u, a)
			}
		})
		all.Go(func() { b.want(204, owner, "PUT", path("/guilds/%s/bans/%s", g.ID, u), "") })
	}
	all.Wait()
	if n := b.count(`SELECT count(*) FROM members WHERE guild_id = $1`, int64(g.ID)); n != 1 {
		t.Errorf("the guild has %d members, want its owner", n)
	}
	if n := b.count(`SELECT count(*) FROM bans`); n != len(users) {
		t.Errorf("%d bans, want %d", n, len(users))
	}
}

func TestBan_KeepsTheFirstReason(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	at := path("/guilds/%s/bans/%s", g.ID, stranger)
	for _, reason := range []string{"too loud", "again"} {
		if a := b.because(reason, owner, "PUT", at, ""); a.status != 204 {
			t.Errorf("got %s", a)
		}
	}
	if ban := get[wire.Ban](b, 200, owner, "GET", at, ""); ban.Reason == nil || *ban.Reason != "too loud" || ban.User.ID != stranger {
		t.Errorf("got %+v", ban)
	}
	other := path("/guilds/%s/bans/%s", g.ID, alice)
	b.want(204, owner, "PUT", other, "")
	if ban := get[wire.Ban](b, 200, owner, "GET", other, ""); ban.Reason != nil {
		t.Errorf("got %+v", ban)
	}
}

func TestBans_ArePaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	for _, u := range []id.ID{bob, mod, stranger, alice} {
		b.want(204, owner, "PUT", path("/guilds/%s/bans/%s", g.ID, u), "")
	}
	f := func(query string, want ...id.ID) {
		t.Helper()
		var got []id.ID
		for _, ban := range get[[]wire.Ban](b, 200, owner, "GET", path("/guilds/%s/bans", g.ID)+query, "") {
			got = append(got, ban.User.ID)
			if ban.User.Username != "user"+ban.User.ID.String() {
				t.Errorf("ban %+v", ban)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
	f("", mod, alice, bob, stranger)
	f("?limit=2", mod, alice)
	f("?limit=2&after="+alice.String(), bob, stranger)
	f("?limit=2&before="+stranger.String(), alice, bob)
	f("?after="+bob.String()+"&before="+alice.String(), mod)
	f("?after=18446744073709551615")
	b.want(50035, owner, "GET", path("/guilds/%s/bans?limit=1001", g.ID), "")
	b.want(50035, owner, "GET", path("/guilds/%s/bans?limit=0", g.ID), "")
	b.want(10004, alice, "GET", path("/guilds/%s/bans", g.ID), "")
	b.join(g.ID, admin)
	b.want(50013, admin, "GET", path("/guilds/%s/bans", g.ID), "")
}

// TestBan_SaysWhatIsToBePurged: the writer of messages reads it in the log.
func TestBan_SaysWhatIsToBePurged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, bob, mod)
	f := func(user id.ID, body string, want time.Duration, query ...string) {
		t.Helper()
		before := time.Now()
		b.want(204, owner, "PUT", path("/guilds/%s/bans/%s", g.ID, user)+strings.Join(query, ""), body)
		after := time.Now()
		all := b.entries(g.ID, b.version(g.ID))
		var p wire.MemberRemovedPayload
		b.must(json.Unmarshal(all[len(all)-1].Body, &p))
		if want == 0 && p.PurgeSince != 0 {
			t.Errorf("%s: %+v", body, p)
		}
		if since := p.PurgeSince.Time(); want != 0 && (since.Before(before.Add(-want-time.Millisecond)) || since.After(after.Add(-want))) {
			t.Errorf("%s: since %v", body, since)
		}
	}
	f(alice, `{"delete_message_seconds":60}`, time.Minute)
	f(bob, `{"delete_message_days":7}`, 7*24*time.Hour)
	f(mod, `{"delete_message_seconds":0,"delete_message_days":7}`, 0)
	f(stranger, `{"delete_message_seconds":604800}`, 7*24*time.Hour)
	f(admin, "", 0)
	f(robot, "", 24*time.Hour, "?delete_message_days=1")
	b.want(50035, owner, "PUT", path("/guilds/%s/bans/%s?delete_message_days=8", g.ID, mod), "")
}
