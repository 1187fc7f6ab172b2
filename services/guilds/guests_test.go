package guilds

import (
	"fmt"
	"slices"
	"testing"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/wire"
)

// online gives users a socket on the gateway.
func (b *bundle) online(status presence.Status, users ...id.ID) {
	b.t.Helper()
	b.must(b.presence.Start(b.t.Context()))
	b.t.Cleanup(b.presence.Stop)
	for _, u := range users {
		b.must(b.presence.Set(b.t.Context(), u, "socket of "+u.String(), presence.Said{Status: status}))
	}
}

// TestGuests_LeaveWhenTheyAreOffline, seen so twice, unless they were given a role.
func TestGuests_LeaveWhenTheyAreOffline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.online(presence.Invisible, alice, owner)
	for _, u := range []id.ID{alice, bob, mod, admin} {
		i := get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{"max_age":0,"temporary":true}`)
		if !i.Temporary {
			t.Errorf("invite %+v", i)
		}
		b.want(200, u, "POST", "/invites/"+i.Code, "")
	}
	b.join(g.ID, stranger)
	role := b.role(g.ID, 1, perm.ViewChannel, mod)
	b.want(204, owner, "DELETE", path("/guilds/%s/members/%s/roles/%s", g.ID, mod, role), "") // once is for ever
	look := func(before map[guest]bool) map[guest]bool {
		t.Helper()
		away, err := b.service.lookForGuests(t.Context(), before, 0)
		b.must(err)
		return away
	}
	if away, err := b.service.lookForGuests(t.Context(), map[guest]bool{{g.ID, bob}: true}, guestGrace); len(away) != 0 || err != nil {
		t.Errorf("away are %v of those who just came, %v", away, err)
	}
	away := look(nil)
	if len(away) != 2 || !away[guest{g.ID, bob}] || !away[guest{g.ID, admin}] {
		t.Errorf("away are %v", away)
	}
	b.role(g.ID, 2, perm.ViewChannel, admin) // in between
	before := b.version(g.ID)
	if away = look(away); len(away) != 0 {
		t.Errorf("away are %v", away)
	}
	look(away)
	var left []id.ID
	for _, m := range get[[]wire.Member](b, 200, owner, "GET", path("/guilds/%s/members?limit=10", g.ID), "") {
		left = append(left, m.User.ID)
	}
	if !slices.Equal(left, []id.ID{owner, admin, mod, alice, stranger}) {
		t.Errorf("members are %v", left)
	}
	all := b.contiguous(g.ID, before+1)
	if last := all[before]; last.Type != wire.MemberRemoved || last.User != bob || last.Actor != bob {
		t.Errorf("the last entry is %+v", last)
	}
	// Who comes back is a guest again, and by another invite is none.
	b.join(g.ID, bob)
	if n := b.count(`SELECT count(*) FROM members WHERE guest`); n != 1 {
		t.Errorf("%d guests", n)
	}
	if a := get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{"max_age":0}`); a.Temporary {
		t.Errorf("a temporary invite is given for one that is not: %+v", a)
	}
}

func TestGuests_CannotBeSeenOffTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	i := get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{"temporary":true}`)
	b.want(200, bob, "POST", "/invites/"+i.Code, "")
	b.role(g.ID, 1, 0, bob)
	before := b.version(g.ID)
	b.must(b.service.seeOff(t.Context(), guest{g.ID, bob}))
	b.must(b.service.seeOff(t.Context(), guest{g.ID, stranger}))
	if after := b.version(g.ID); after != before {
		t.Errorf("version %d became %d", before, after)
	}
}

// TestGuests_StayWhenTheGuildIsTheirs: a guild whose owner is no member could be managed by nobody.
func TestGuests_StayWhenTheGuildIsTheirs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	i := get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{"temporary":true}`)
	b.want(200, bob, "POST", "/invites/"+i.Code, "")
	b.want(200, owner, "PATCH", path("/guilds/%s", g.ID), fmt.Sprintf(`{"owner_id":"%s"}`, bob))
	b.must(b.service.seeOff(t.Context(), guest{g.ID, bob}))
	b.want(200, bob, "GET", path("/guilds/%s", g.ID), "")
}

func TestCounts_SayHowManyAreOnline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, bob)
	b.online(presence.Idle, owner, alice, stranger)
	i := get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{"target_type":1,"target_user_id":"5","role_ids":["7"]}`)
	type counts struct {
		Members *int `json:"approximate_member_count"`
		Online  *int `json:"approximate_presence_count"`
	}
	f := func(got counts) {
		t.Helper()
		if got.Members == nil || *got.Members != 3 || got.Online == nil || *got.Online != 2 {
			t.Errorf("got %+v", got)
		}
	}
	f(get[counts](b, 200, 0, "GET", "/invites/"+i.Code+"?with_counts=true", ""))
	f(get[counts](b, 200, owner, "GET", path("/guilds/%s?with_counts=true", g.ID), ""))
	f(get[[]counts](b, 200, owner, "GET", "/users/@me/guilds?with_counts=1", "")[0])
	for _, at := range []string{"/invites/" + i.Code, path("/guilds/%s", g.ID)} {
		if got := get[counts](b, 200, owner, "GET", at, ""); got.Members != nil || got.Online != nil {
			t.Errorf("%s: counted unasked", at)
		}
	}
	// About a minute old at most, and not counted by everybody anew.
	b.want(200, stranger, "POST", "/invites/"+i.Code, "")
	if got := get[counts](b, 200, 0, "GET", fmt.Sprintf("/invites/%s?with_counts=true", i.Code), ""); *got.Online != 2 {
		t.Errorf("%d online", *got.Online)
	}
}
