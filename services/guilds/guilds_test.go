package guilds

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func TestService_PassesStress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lifetest.Stress(t, func() life.Service { return b.service })
}

func TestConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	err := Config{GuildsMax: -1, RolesMax: 5000}.Validate()
	if err == nil || !strings.Contains(err.Error(), "GuildsMax") || !strings.Contains(err.Error(), "RolesMax") {
		t.Errorf("Validate = %v", err)
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
}

func TestCreateGuild_MakesWhatAGuildNeeds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	if g.OwnerID != owner || g.Name != "house" || len(g.Roles) != 1 || g.Roles[0].ID != g.ID || g.Roles[0].Permissions != perm.DefaultEveryone {
		t.Errorf("guild %+v", g)
	}
	channels := get[[]wire.Channel](b, 200, owner, "GET", path("/guilds/%s/channels", g.ID), "")
	if len(channels) != 2 || channels[0].Name != "general" || channels[0].ID != g.SystemChannelID || channels[1].Type != wire.ChannelVoice || channels[1].Bitrate != wire.BitrateDefault {
		t.Errorf("channels %+v", channels)
	}
	m := get[wire.Member](b, 200, owner, "GET", path("/guilds/%s/members/%s", g.ID, owner), "")
	if m.User.ID != owner || m.User.Username != "user1001" || m.JoinedAt == 0 {
		t.Errorf("member %+v", m)
	}
	all := b.contiguous(g.ID, 1)
	if all[0].Type != wire.ServerCreated || all[0].Actor != owner {
		t.Errorf("entry %+v", all[0])
	}
	b.want(20001, robot, "POST", "/guilds", `{"name":"house"}`)
	b.want(401, 0, "POST", "/guilds", `{"name":"house"}`)
	for _, body := range []string{`{}`, `{"name":"x"}`, `{"name":" x  "}`, `{"name":"` + strings.Repeat("x", 101) + `"}`, `{"name":"a\u0000b"}`} {
		b.want(50035, owner, "POST", "/guilds", body)
	}
}

func TestCreateGuild_FollowsATemplate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := get[wire.Guild](b, 201, owner, "POST", "/guilds", `{"name":"house",
		"roles":[{"id":"1","name":"ignored","permissions":"1024"},{"id":2,"name":"crew","permissions":"8","color":255}],
		"channels":[{"name":"inner","type":0,"parent_id":"7","permission_overwrites":[{"id":1,"deny":"1024"},{"id":"2","allow":"1024"}]},{"id":7,"name":"box","type":4}]}`)
	if len(g.Roles) != 2 || g.Roles[0].Permissions != perm.ViewChannel || g.Roles[0].Name != "@everyone" || g.Roles[1].Name != "crew" ||
		g.Roles[1].Permissions != perm.Administrator || g.Roles[1].Colors.Primary != 255 || g.Roles[1].Position != 1 {
		t.Errorf("roles %+v", g.Roles)
	}
	channels := get[[]wire.Channel](b, 200, owner, "GET", path("/guilds/%s/channels", g.ID), "")
	inner, box := channels[0], channels[1]
	want := wire.List[wire.Overwrite]{{ID: g.ID, Deny: perm.ViewChannel}, {ID: g.Roles[1].ID, Allow: perm.ViewChannel}}
	if inner.ParentID != box.ID || box.Type != wire.ChannelCategory || !cmp.Equal(inner.PermissionOverwrites, want) {
		t.Errorf("channels %+v", channels)
	}
	full := get[wire.Guild](b, 201, owner, "POST", "/guilds", `{"name":"house","afk_channel_id":"3","system_channel_id":2,"afk_timeout":60,"verification_level":1,
		"default_message_notifications":1,"explicit_content_filter":2,"region":"here","channels":[{"id":1,"name":"a"},{"id":2,"name":"b"},{"id":3,"name":"c","type":2}]}`)
	if all := b.channels(full.ID); full.SystemChannelID != all["b"].ID || full.AFKChannelID != all["c"].ID || full.AFKTimeout != 60 || full.VerificationLevel != 1 ||
		full.DefaultMessageNotifications != 1 || full.ExplicitContentFilter != 2 {
		t.Errorf("guild %+v", full)
	}
	if none := get[wire.Guild](b, 201, owner, "POST", "/guilds", `{"name":"house","system_channel_id":null}`); none.SystemChannelID != 0 {
		t.Errorf("guild %+v", none)
	}
	b.want(50035, owner, "POST", "/guilds", `{"name":"house","system_channel_id":"7"}`)
	b.want(50035, owner, "POST", "/guilds", `{"name":"house","afk_channel_id":"1","channels":[{"id":1,"name":"a"}]}`)
	b.want(50035, owner, "POST", "/guilds", `{"name":"house","afk_timeout":61}`)
	b.want(50035, owner, "POST", "/guilds", `{"name":"house","channels":[{"name":"a","parent_id":5}]}`)
	b.want(50035, owner, "POST", "/guilds", `{"name":"house","channels":[{"name":"a","permission_overwrites":[{"id":5}]}]}`)
	b.want(50035, owner, "POST", "/guilds", `{"name":"house","channels":[{"name":"a","type":5}]}`)
}

func TestCreateGuild_SaysWhereItIsToldWhoJoins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const channels = `"channels":[{"id":"1","name":"hall","type":2},{"id":"2","name":"first"},{"id":"3","name":"second"}]`
	f := func(body, want string, flags int) {
		t.Helper()
		g := get[wire.Guild](b, 201, owner, "POST", "/guilds", `{"name":"house",`+channels+body+`}`)
		for _, c := range get[[]wire.Channel](b, 200, owner, "GET", path("/guilds/%s/channels", g.ID), "") {
			if (c.ID == g.SystemChannelID) != (c.Name == want) || g.SystemChannelFlags != flags {
				t.Errorf("%s: %s is told it, with flags %d", body, c.Name, g.SystemChannelFlags)
			}
		}
	}
	f(``, "first", 0)
	f(`,"system_channel_id":null,"system_channel_flags":1`, "", 1)
	f(`,"system_channel_id":"3"`, "second", 0)
	for _, bad := range []string{`,"system_channel_id":"1"`, `,"system_channel_id":"4"`, `,"system_channel_flags":-1`, `,"system_channel_flags":"x"`} {
		b.want(50035, owner, "POST", "/guilds", `{"name":"house",`+channels+bad+`}`)
	}
}

func TestCreateGuild_StopsAtTheLimitUnderContention(t *testing.T) {
	t.Parallel()
	b := setupWith(t, Config{GuildsMax: 3})
	other := *b
	other.serve(Config{GuildsMax: 3})
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	for n := range 12 {
		at := b
		if n%2 == 1 {
			at = &other // the limit holds for all processes together
		}
		wg.Go(func() {
			switch a := at.ask(alice, "POST", "/guilds", `{"name":"house"}`); {
			case a.status == 201:
				made.Add(1)
			case a.code == 30001:
				refused.Add(1)
			default:
				t.Errorf("got %s", a)
			}
		})
	}
	wg.Wait()
	if made.Load() != 3 || refused.Load() != 9 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
	g := b.guild()
	i := get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{}`)
	b.want(30001, alice, "POST", "/invites/"+i.Code, "")
	if n := len(get[[]wire.MyGuild](b, 200, alice, "GET", "/users/@me/guilds", "")); n != 3 {
		t.Errorf("alice is in %d guilds", n)
	}
}

func TestUpdateGuild_ChangesWhatManagersSay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod)
	b.role(g.ID, 1, perm.ManageGuild, mod)
	url := path("/guilds/%s", g.ID)
	b.want(50013, alice, "PATCH", url, `{"name":"mine"}`)
	b.want(10004, stranger, "PATCH", url, `{"name":"mine"}`)
	b.want(10004, stranger, "GET", url, "")
	out := get[wire.Guild](b, 200, mod, "PATCH", url, `{"name":" home ","description":"d","system_channel_id":null,"afk_timeout":60,"preferred_locale":"de","verification_level":2}`)
	if out.Name != "home" || *out.Description != "d" || out.SystemChannelID != 0 || out.AFKTimeout != 60 || out.PreferredLocale != "de" || len(out.Roles) != 2 {
		t.Errorf("updated %+v", out)
	}
	read := get[wire.Guild](b, 200, alice, "GET", url+"?with_counts=true", "")
	if *read.ApproximateMemberCount != 3 {
		t.Errorf("%d members", *read.ApproximateMemberCount)
	}
	read.ApproximateMemberCount, read.ApproximatePresenceCount = nil, nil
	if diff := cmp.Diff(out, read); diff != "" {
		t.Error(diff)
	}
	for _, body := range []string{`{"name":"x"}`, `{"afk_timeout":7}`, `{"preferred_locale":"xx"}`, `{"system_channel_id":"5"}`, `{"verification_level":9}`,
		`{"description":"` + strings.Repeat("x", 301) + `"}`} {
		b.want(50035, owner, "PATCH", url, body)
	}
	cleared := get[wire.Guild](b, 200, owner, "PATCH", url, `{"description":null,"name":null}`)
	if cleared.Description != nil || cleared.Name != "home" {
		t.Errorf("cleared %+v", cleared)
	}
}

func TestDeleteGuild_IsTheOwnersAndLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, admin)
	b.role(g.ID, 1, perm.Administrator, admin)
	channel := b.channelOf(g.ID)
	url := path("/guilds/%s", g.ID)
	b.want(10004, stranger, "DELETE", url, "")
	b.want(50013, admin, "DELETE", url, "")
	n := b.version(g.ID)
	b.want(204, owner, "DELETE", url, "")
	all := b.contiguous(g.ID, n+1)
	if last := all[n]; last.Type != wire.ServerDeleted {
		t.Errorf("the last entry is %s", last.Type)
	}
	for _, as := range []id.ID{owner, alice} {
		b.want(10004, as, "GET", url, "")
		b.want(10004, as, "DELETE", url, "")
		b.want(10004, as, "GET", url+"/channels", "")
		b.want(10003, as, "GET", "/channels/"+channel, "")
		b.want(10003, as, "DELETE", "/channels/"+channel, "")
		if list := b.want(200, as, "GET", "/users/@me/guilds", ""); string(list.body) != "[]" {
			t.Errorf("guilds of %s: %s", as, list)
		}
	}
	for _, table := range []string{"guilds", "channels", "roles", "members", "invites"} {
		if left := b.count("SELECT count(*) FROM " + table); left != 0 {
			t.Errorf("%d rows left in %s", left, table)
		}
	}
}

func TestLeaveGuild_NotForTheOwner(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice)
	url := path("/users/@me/guilds/%s", g.ID)
	b.want(50035, owner, "DELETE", url, "")
	b.want(10004, stranger, "DELETE", url, "")
	b.want(204, alice, "DELETE", url, "")
	b.want(10004, alice, "DELETE", url, "")
	b.want(10004, alice, "GET", path("/guilds/%s", g.ID), "")
	all := b.contiguous(g.ID, b.version(g.ID))
	var p wire.MemberRemovedPayload
	last := all[len(all)-1]
	b.must(json.Unmarshal(last.Body, &p))
	if last.Type != wire.MemberRemoved || p.Cause != wire.CauseLeft || last.User != alice {
		t.Errorf("the last entry is %+v with %+v", last, p)
	}
}

func TestListMyGuilds_Pages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ids []id.ID
	for range 4 {
		ids = append(ids, b.guild().ID)
	}
	f := func(query string, want ...id.ID) {
		t.Helper()
		var got []id.ID
		for _, g := range get[[]wire.MyGuild](b, 200, owner, "GET", "/users/@me/guilds"+query, "") {
			got = append(got, g.ID)
			if !g.Owner || g.Permissions != perm.All {
				t.Errorf("guild %+v", g)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	f("", ids...)
	f("?limit=2", ids[0], ids[1])
	f("?limit=2&after="+ids[0].String(), ids[1], ids[2])
	f("?limit=2&before="+ids[3].String(), ids[1], ids[2])
	f(fmt.Sprintf("?after=%s&before=%s", ids[0], ids[2]), ids[1])
	b.want(50035, owner, "GET", "/users/@me/guilds?limit=201", "")
	one := get[[]wire.MyGuild](b, 200, owner, "GET", "/users/@me/guilds?limit=1&with_counts=true", "")
	if *one[0].ApproximateMemberCount != 1 {
		t.Errorf("counts %+v", one[0])
	}
}

func TestReadsOfWhatIsLeftOut_AreEmpty(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	for _, what := range []string{"emojis", "stickers", "scheduled-events"} {
		if a := b.want(200, owner, "GET", path("/guilds/%s/", g.ID)+what, ""); string(a.body) != "[]" {
			t.Errorf("%s: %s", what, a)
		}
		b.want(10004, stranger, "GET", path("/guilds/%s/", g.ID)+what, "")
	}
	if a := b.want(200, owner, "GET", path("/guilds/%s/threads/active", g.ID), ""); string(a.body) != `{"threads":[],"members":[],"has_more":false}` {
		t.Errorf("threads: %s", a)
	}
	if r := get[[]region](b, 200, owner, "GET", "/voice/regions", ""); len(r) != 1 {
		t.Errorf("regions %+v", r)
	}
	b.want(404, owner, "GET", path("/guilds/%s/auto-moderation/rules", g.ID), "")
}

func TestUnknownIDs_HaveTheirCodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	c := b.channelOf(g.ID)
	for _, x := range []struct {
		want               int
		method, path, body string
	}{
		{10004, "GET", "/guilds/5", ""}, {10004, "PATCH", "/guilds/5", `{"name":"abc"}`}, {10004, "DELETE", "/guilds/5", ""},
		{10004, "GET", "/guilds/18446744073709551615", ""}, {10004, "DELETE", "/guilds/18446744073709551615", ""},
		{10004, "GET", "/guilds/5/channels", ""}, {10004, "POST", "/guilds/5/channels", `{"name":"abc"}`},
		{10004, "GET", "/guilds/5/roles", ""}, {10004, "POST", "/guilds/5/roles", `{}`}, {10004, "GET", "/guilds/5/members", ""},
		{10004, "GET", "/guilds/5/members/1001", ""}, {10004, "GET", "/guilds/5/invites", ""}, {10004, "DELETE", "/users/@me/guilds/5", ""},
		{10003, "GET", "/channels/5", ""}, {10003, "PATCH", "/channels/5", `{}`}, {10003, "DELETE", "/channels/5", ""},
		{10003, "PUT", "/channels/5/permissions/5", `{}`}, {10003, "DELETE", "/channels/5/permissions/5", ""},
		{10003, "GET", "/channels/5/invites", ""}, {10003, "POST", "/channels/5/invites", `{}`},
		{10006, "GET", "/invites/nope", ""}, {10006, "POST", "/invites/nope", ""}, {10006, "DELETE", "/invites/nope", ""},
		{10007, "GET", path("/guilds/%s/members/5", g.ID), ""}, {10007, "DELETE", path("/guilds/%s/members/5", g.ID), ""},
		{10007, "PATCH", path("/guilds/%s/members/5", g.ID), `{"nick":"x"}`}, {10007, "GET", path("/guilds/%s/members/%s", g.ID, stranger), ""},
		{10007, "PUT", path("/guilds/%s/members/5/roles/%s", g.ID, g.ID), ""}, {10013, "PUT", path("/guilds/%s/members/5", g.ID), ""},
		{10011, "GET", path("/guilds/%s/roles/5", g.ID), ""}, {10011, "PATCH", path("/guilds/%s/roles/5", g.ID), `{}`},
		{10011, "DELETE", path("/guilds/%s/roles/5", g.ID), ""}, {10011, "PUT", path("/guilds/%s/members/%s/roles/5", g.ID, owner), ""},
		{10011, "PATCH", path("/guilds/%s/roles", g.ID), `[{"id":"5","position":1}]`},
		{10009, "PUT", "/channels/" + c + "/permissions/5", `{}`}, {10009, "PUT", "/channels/" + c + "/permissions/5", `{"type":1}`},
		{10009, "DELETE", "/channels/" + c + "/permissions/5", ""}, {50035, "GET", "/guilds/house", ""},
	} {
		b.want(x.want, owner, x.method, x.path, x.body)
	}
	if v := b.version(g.ID); v != 1 {
		t.Errorf("the guild is at version %d after nothing but refusals", v)
	}
}

func TestStore_AgreesWithTheReadModel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, bob, mod)
	gone := b.role(g.ID, 1, perm.ViewChannel, alice, bob)
	kept := b.role(g.ID, 2, perm.ManageChannels, alice, mod)
	box := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), `{"name":"box","type":4}`)
	in := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), fmt.Sprintf(
		`{"name":"in","parent_id":"%s","topic":"t","permission_overwrites":[{"id":"%s","deny":"1024"},{"id":"%s","allow":1024},{"id":"%s","type":1,"allow":"2048"}]}`, box.ID, gone, kept, bob))
	b.want(200, owner, "DELETE", path("/channels/%s", box.ID), "")
	b.want(204, owner, "DELETE", path("/guilds/%s/roles/%s", g.ID, gone), "")
	b.want(200, owner, "PATCH", path("/guilds/%s/members/%s", g.ID, alice), `{"nick":"al"}`)
	b.want(204, owner, "DELETE", path("/guilds/%s/members/%s", g.ID, mod), "")
	b.want(200, owner, "DELETE", path("/channels/%s", g.SystemChannelID), "")

	state, err := b.roster.LookGuild(context.Background(), g.ID, owner, alice, bob, mod)
	b.must(err)
	if int(state.Guild.Version) != b.version(g.ID) {
		t.Errorf("version %d in the read model, %d in the store", state.Guild.Version, b.version(g.ID))
	}
	rows, err := b.service.store.members(context.Background(), g.ID, 0, 100)
	b.must(err)
	stored := map[id.ID]*wire.MemberRecord{}
	for i := range rows {
		stored[rows[i].UserID] = &rows[i]
	}
	for _, records := range []map[id.ID]*wire.MemberRecord{stored, state.Members} {
		for _, m := range records {
			if len(m.Roles) == 0 {
				m.Roles = nil // an empty list and none are the same
			}
		}
	}
	if diff := cmp.Diff(stored, state.Members); diff != "" {
		t.Errorf("members, store against read model: %s", diff)
	}
	var parent int64
	var raw []byte
	b.must(b.pool.QueryRow(context.Background(), `SELECT parent_id, overwrites FROM channels WHERE id = $1`, int64(in.ID)).Scan(&parent, &raw))
	var overwrites wire.List[wire.Overwrite]
	b.must(json.Unmarshal(raw, &overwrites))
	ch := state.Guild.Channels[in.ID]
	if parent != 0 || ch.ParentID != 0 {
		t.Errorf("parent %d in the store, %s in the read model", parent, ch.ParentID)
	}
	want := wire.List[wire.Overwrite]{{ID: kept, Allow: perm.ViewChannel}, {ID: bob, Type: 1, Allow: perm.SendMessages}}
	if !cmp.Equal(overwrites, want) || !cmp.Equal(ch.PermissionOverwrites, want) {
		t.Errorf("overwrites %+v in the store, %+v in the read model", overwrites, ch.PermissionOverwrites)
	}
	if n := b.count(`SELECT count(*) FROM guilds WHERE system_channel_id <> 0`); n != 0 {
		t.Error("the store names a channel that is gone")
	}
	if out := get[wire.Guild](b, 200, owner, "GET", path("/guilds/%s", g.ID), ""); out.SystemChannelID != 0 {
		t.Errorf("the guild names channel %s, which is gone", out.SystemChannelID)
	}
	if n := b.count(`SELECT count(*) FROM roles`); n != len(state.Guild.Roles) {
		t.Errorf("%d roles in the store, %d in the read model", n, len(state.Guild.Roles))
	}
}

func TestGuild_IsGivenAwayByItsOwner(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, admin, alice)
	b.role(g.ID, 8, perm.Administrator, admin)
	b.want(201, owner, "PUT", path("/guilds/%s/members/%s", g.ID, robot), "")
	at := path("/guilds/%s", g.ID)
	to := func(u id.ID) string { return fmt.Sprintf(`{"owner_id":"%s"}`, u) }
	before := b.version(g.ID)
	b.want(50013, admin, "PATCH", at, to(admin))
	b.want(50013, alice, "PATCH", at, to(alice))
	b.want(10004, stranger, "PATCH", at, to(stranger))
	b.want(10007, owner, "PATCH", at, to(stranger))
	b.want(10007, owner, "PATCH", at, to(0))
	b.want(50035, owner, "PATCH", at, to(robot))
	b.want(50035, owner, "PATCH", at, `{"owner_id":"alice"}`)
	if after := b.version(g.ID); after != before {
		t.Fatalf("what was refused took the guild from version %d to %d", before, after)
	}
	// A client may send all that it knows.
	b.want(200, admin, "PATCH", at, to(owner))

	grant, err := b.roster.Can(t.Context(), owner, g.SystemChannelID, perm.SendMessages)
	b.must(err)
	if got := get[wire.Guild](b, 200, owner, "PATCH", at, `{"name":"hers","owner_id":"`+alice.String()+`"}`); got.OwnerID != alice || got.Name != "hers" {
		t.Errorf("the guild is now %+v", got)
	}
	if n := b.count(`SELECT count(*) FROM guilds WHERE id = $1 AND owner_id = $2`, int64(g.ID), int64(alice)); n != 1 {
		t.Error("the row names another owner")
	}
	post := bus.Post{Fence: grant.Version, Entry: bus.Entry{Type: wire.MessageSent, Actor: owner, Guild: g.ID, Channel: g.SystemChannelID, Body: []byte(`{}`)}}
	if _, err := b.log.Publish(t.Context(), post); err != bus.ErrStale {
		t.Errorf("what the former owner was allowed before: %v, want ErrStale", err)
	}
	b.want(50013, owner, "PATCH", at, to(owner))
	b.want(50013, owner, "DELETE", at, "")
	b.want(50013, admin, "DELETE", path("/guilds/%s/members/%s", g.ID, alice), "")
	b.want(204, admin, "DELETE", path("/guilds/%s/members/%s", g.ID, owner), "")
	b.want(204, alice, "DELETE", at, "")
	all := b.contiguous(g.ID, before+4)
	if e := all[before+1]; e.Type != wire.ServerUpdated || e.Actor != owner {
		t.Errorf("the log has %+v", e)
	}
}
