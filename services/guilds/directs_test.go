package guilds

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// directs is a bundle with a guild that everybody but the stranger is in.
func directs(t *testing.T) (b *bundle, guild id.ID) {
	t.Helper()
	b = setup(t)
	guild = b.guild().ID
	b.join(guild, admin, mod, alice, bob)
	b.want(201, owner, "PUT", path("/guilds/%s/members/%s", guild, robot), "")
	return b, guild
}

func (b *bundle) open(as, other id.ID) wire.PrivateChannel {
	b.t.Helper()
	return get[wire.PrivateChannel](b, 200, as, "POST", "/users/@me/channels", path(`{"recipient_id":"%s"}`, other))
}

func (b *bundle) group(as id.ID, others ...id.ID) wire.PrivateChannel {
	b.t.Helper()
	body, err := json.Marshal(wire.OpenChannel{Recipients: others})
	b.must(err)
	return get[wire.PrivateChannel](b, 200, as, "POST", "/users/@me/channels", string(body))
}

func (b *bundle) listed(as id.ID) (ids []id.ID) {
	b.t.Helper()
	for _, c := range get[[]wire.PrivateChannel](b, 200, as, "GET", "/users/@me/channels", "") {
		ids = append(ids, c.ID)
	}
	return ids
}

// say puts a message into the log as the messaging service would, and answers its id.
func (b *bundle) say(as, channel id.ID) id.ID {
	b.t.Helper()
	grant, err := b.roster.Can(b.t.Context(), as, channel, perm.SendMessages)
	b.must(err)
	r, err := b.log.Publish(b.t.Context(), bus.Post{Fence: grant.Version, Entry: bus.Entry{
		Type: wire.MessageSent, Actor: as, Channel: channel, To: grant.To(), Body: []byte(`{"message":{"content":"hi"}}`),
	}})
	b.must(err)
	return bus.MessageID(r.Pos)
}

func recipientsOf(c wire.PrivateChannel) (ids []id.ID) {
	for _, u := range c.Recipients {
		ids = append(ids, u.ID)
	}
	slices.Sort(ids)
	return ids
}

// changes are the n DIRECT_CHANGED of a channel, in the order of the log.
func (b *bundle) changes(channel id.ID, n int) (out []wire.DirectChangedPayload) {
	b.t.Helper()
	for i, e := range b.matching(n, func(e bus.Entry) bool { return e.Type == wire.DirectChanged && e.Channel == channel }) {
		if e.Version != int64(i+1) {
			b.t.Errorf("version %d stands where %d belongs", e.Version, i+1)
		}
		var p wire.DirectChangedPayload
		b.must(json.Unmarshal(e.Body, &p))
		out = append(out, p)
	}
	return out
}

func TestDM_IsOneForTwoWhoOpenItAtTheSameTime(t *testing.T) {
	t.Parallel()
	b, _ := directs(t)
	var all sync.WaitGroup
	ids := make([]id.ID, 12)
	for i := range ids {
		all.Go(func() {
			from, to := alice, bob
			if i%2 == 1 {
				from, to = bob, alice
			}
			c := b.open(from, to)
			if ids[i] = c.ID; c.Type != wire.ChannelDM || !slices.Equal(recipientsOf(c), []id.ID{to}) {
				t.Errorf("%s got %+v", from, c)
			}
		})
	}
	all.Wait()
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 || b.count(`SELECT count(*) FROM directs`) != 1 {
		t.Errorf("there is more than one channel: %v", ids)
	}
	// Both have opened it: one made it, and it was shown to the other one.
	if n := b.count(`SELECT version FROM directs`); n != 2 {
		t.Errorf("version %d", n)
	}
	for _, u := range []id.ID{alice, bob} {
		if got := b.listed(u); !slices.Equal(got, ids[:1]) {
			t.Errorf("%s lists %v", u, got)
		}
	}
}

func TestDM_IsRefused(t *testing.T) {
	t.Parallel()
	b, guild := directs(t)
	f := func(want int, as id.ID, body string) {
		t.Helper()
		b.want(want, as, "POST", "/users/@me/channels", body)
	}
	f(50033, alice, path(`{"recipient_id":"%s"}`, alice))
	f(50033, alice, path(`{"recipients":["%s"]}`, alice))
	f(50033, alice, path(`{"recipient_id":"%s"}`, nobody))
	f(50035, alice, `{}`)
	f(50035, alice, `{"recipient_id":null,"recipients":[]}`)
	f(50035, alice, `{"recipient_id":"x"}`)
	f(50035, alice, `{"recipients":["1","2","3","4","5","6","7","8","9","10"]}`)
	f(50007, alice, path(`{"recipient_id":"%s"}`, stranger))
	f(50007, stranger, path(`{"recipient_id":"%s"}`, alice))
	f(50033, alice, path(`{"recipients":["%s","%s"]}`, bob, robot))
	f(50007, alice, path(`{"recipients":["%s","%s"]}`, bob, stranger))
	f(20001, robot, path(`{"recipients":["%s","%s"]}`, alice, bob))
	if n := b.count(`SELECT count(*) FROM directs`); n != 0 {
		t.Errorf("%d channels came of it", n)
	}
	if c := b.open(robot, alice); !slices.Equal(recipientsOf(c), []id.ID{alice}) {
		t.Errorf("a bot got %+v", c)
	}
	// What there is can be opened also when there is no guild in common any more.
	dm := b.open(alice, bob).ID
	b.want(204, alice, "DELETE", path("/users/@me/guilds/%s", guild), "")
	if c := b.open(alice, bob); c.ID != dm {
		t.Errorf("got %s, want %s", c.ID, dm)
	}
}

func TestDM_IsClosedForOneUntilSomebodyWrites(t *testing.T) {
	t.Parallel()
	b, _ := directs(t)
	dm := b.open(alice, bob).ID
	shows := func(u id.ID, want bool) {
		t.Helper()
		if got := slices.Contains(b.listed(u), dm); got != want {
			t.Errorf("%s lists it: %v, want %v", u, got, want)
		}
	}
	shows(alice, true)
	shows(bob, false) // nobody has said anything to him
	first := b.say(alice, dm)
	shows(bob, true)
	if c := get[wire.PrivateChannel](b, 200, bob, "GET", path("/channels/%s", dm), ""); c.LastMessageID != first || c.Name.Set || c.OwnerID != 0 {
		t.Errorf("got %+v", c)
	}
	b.want(200, bob, "DELETE", path("/channels/%s", dm), "")
	b.want(200, bob, "DELETE", path("/channels/%s", dm), "") // once more changes nothing
	shows(bob, false)
	shows(alice, true)
	b.want(200, bob, "GET", path("/channels/%s", dm), "") // it is only not in the list
	b.say(alice, dm)
	shows(bob, true)
	b.want(200, bob, "DELETE", path("/channels/%s", dm), "")
	if c := b.open(bob, alice); c.ID != dm {
		t.Errorf("opened %s", c.ID)
	}
	shows(bob, true)
	b.want(50003, alice, "PATCH", path("/channels/%s", dm), `{"name":"ours"}`)
	b.want(50024, alice, "PUT", path("/channels/%s/recipients/%s", dm, mod), "")
	b.want(50024, alice, "DELETE", path("/channels/%s/recipients/%s", dm, bob), "")
	// Made, closed, closed, opened: what changed nothing is not in the log.
	changes := b.changes(dm, 4)
	if len(changes) != 4 || !slices.Equal(changes[1].Went, []id.ID{bob}) || !slices.Equal(changes[3].Came, []id.ID{bob}) {
		t.Errorf("got %+v", changes)
	}
}

// TestDM_IsClosedBehindWhatIsNotInTheLogYet: a change that somebody committed and did not bring to the log does not hide what was written.
func TestDM_IsClosedBehindWhatIsNotInTheLogYet(t *testing.T) {
	t.Parallel()
	b, _ := directs(t)
	dm := b.open(alice, bob).ID
	b.say(alice, dm)
	b.must(b.service.store.transact(t.Context(), func(tx transaction) (bool, error) {
		d, version, err := lockDirect(t.Context(), tx, dm)
		b.must(err)
		b.must(updateDirect(t.Context(), tx, &d, version+1))
		return true, b.outbox.Record(t.Context(), tx, directEntry(bob, version+1, wire.DirectChangedPayload{Direct: d}))
	}))
	b.want(200, bob, "DELETE", path("/channels/%s", dm), "")
	if got := b.listed(bob); len(got) != 0 {
		t.Errorf("bob lists %v", got)
	}
}

func TestGroup_Life(t *testing.T) {
	t.Parallel()
	b, _ := directs(t)
	g := b.group(alice, bob, mod)
	if g.Type != wire.ChannelGroupDM || !g.Name.Null || !g.Icon.Null || g.OwnerID != alice || !slices.Equal(recipientsOf(g), []id.ID{mod, bob}) {
		t.Fatalf("got %+v", g)
	}
	if got := b.listed(bob); !slices.Equal(got, []id.ID{g.ID}) {
		t.Errorf("who was brought in lists %v", got)
	}
	if again := b.group(alice, bob, mod); again.ID == g.ID {
		t.Error("two groups of the same people are one")
	}
	named := get[wire.PrivateChannel](b, 200, bob, "PATCH", path("/channels/%s", g.ID), `{"name":"ours"}`)
	if named.Name.Value != "ours" || !slices.Equal(recipientsOf(named), []id.ID{mod, alice}) {
		t.Errorf("got %+v", named)
	}
	if c := get[wire.PrivateChannel](b, 200, bob, "PATCH", path("/channels/%s", g.ID), `{"name":null}`); !c.Name.Null {
		t.Errorf("got %+v", c)
	}
	b.want(204, bob, "PUT", path("/channels/%s/recipients/%s", g.ID, admin), "")
	b.want(204, bob, "PUT", path("/channels/%s/recipients/%s", g.ID, admin), "") // is in it already
	b.want(50007, bob, "PUT", path("/channels/%s/recipients/%s", g.ID, stranger), "")
	b.want(50033, bob, "PUT", path("/channels/%s/recipients/%s", g.ID, nobody), "")
	b.want(50033, bob, "PUT", path("/channels/%s/recipients/%s", g.ID, robot), "")
	b.want(50013, bob, "DELETE", path("/channels/%s/recipients/%s", g.ID, admin), "")
	b.want(50033, alice, "DELETE", path("/channels/%s/recipients/%s", g.ID, owner), "")
	b.want(204, alice, "DELETE", path("/channels/%s/recipients/%s", g.ID, admin), "")
	b.want(50001, admin, "GET", path("/channels/%s", g.ID), "")
	b.want(200, alice, "DELETE", path("/channels/%s", g.ID), "")
	if c := get[wire.PrivateChannel](b, 200, bob, "GET", path("/channels/%s", g.ID), ""); c.OwnerID != bob {
		t.Errorf("whose is it now? %+v", c)
	}
	b.want(204, mod, "DELETE", path("/channels/%s/recipients/%s", g.ID, mod), "")
	b.want(200, bob, "DELETE", path("/channels/%s", g.ID), "")
	b.want(50001, bob, "GET", path("/channels/%s", g.ID), "")
	if got := b.listed(bob); len(got) != 1 {
		t.Errorf("who has left lists %v", got)
	}
	if n := len(b.changes(g.ID, 8)); n != 8 {
		t.Errorf("%d changes", n)
	}
}

func TestGroup_HasTenAtMost(t *testing.T) {
	t.Parallel()
	b, guild := directs(t)
	var others []id.ID
	for i := range id.ID(10) {
		u := 5000 + i
		b.user(u, false)
		b.join(guild, u)
		others = append(others, u)
	}
	g := b.group(alice, others[:9]...)
	b.want(50033, alice, "PUT", path("/channels/%s/recipients/%s", g.ID, others[9]), "")
	b.want(204, alice, "DELETE", path("/channels/%s/recipients/%s", g.ID, others[0]), "")
	b.want(204, alice, "PUT", path("/channels/%s/recipients/%s", g.ID, others[9]), "")
}

// TestDirects_OnlyWhoIsInOneGetsAtIt asks every route of this service about a DM and a group, as everybody.
func TestDirects_OnlyWhoIsInOneGetsAtIt(t *testing.T) {
	t.Parallel()
	b, _ := directs(t)
	dm := b.open(alice, bob).ID
	group := b.group(alice, bob, mod, admin).ID
	b.want(200, admin, "DELETE", path("/channels/%s", group), "")
	const anonymous = id.ID(0)
	routes := []struct {
		method, path, body string
		in, owns           int // what a recipient gets, and the owner of a group if that is something else
	}{
		{"GET", "/channels/%s", "", 200, 0},
		{"PATCH", "/channels/%s", `{"name":"x"}`, 200, 0},
		{"PUT", "/channels/%s/recipients/" + owner.String(), "", 204, 0},
		{"DELETE", "/channels/%s/recipients/" + owner.String(), "", 50013, 204},
		{"PUT", "/channels/%s/permissions/" + bob.String(), `{"type":1}`, 50003, 0},
		{"DELETE", "/channels/%s/permissions/" + bob.String(), "", 50003, 0},
		{"GET", "/channels/%s/invites", "", 50003, 0},
		{"POST", "/channels/%s/invites", "{}", 50003, 0},
	}
	for _, r := range routes {
		for _, channel := range []id.ID{dm, group} {
			b.want(401, anonymous, r.method, path(r.path, channel), r.body)
			b.want(50001, stranger, r.method, path(r.path, channel), r.body)
			b.want(50001, admin, r.method, path(r.path, channel), r.body) // shares a guild, and has been in the group
		}
		b.want(r.in, bob, r.method, path(r.path, group), r.body)
		if r.owns == 0 {
			r.owns = r.in
		}
		b.want(r.owns, alice, r.method, path(r.path, group), r.body)
	}
	for _, u := range []id.ID{stranger, admin} {
		b.want(50001, u, "DELETE", path("/channels/%s", dm), "")
		if got := b.listed(u); len(got) != 0 {
			t.Errorf("%s lists %v", u, got)
		}
	}
}

func TestFarewell_ADeletedUserLeavesGroups(t *testing.T) {
	t.Parallel()
	b, _ := directs(t)
	dm, group := b.open(bob, alice).ID, b.group(alice, bob, mod).ID
	e := b.deleted(alice)
	b.must(b.service.HandleEntries(t.Context(), []bus.Entry{e}))
	b.changes(group, 2)
	c := get[wire.PrivateChannel](b, 200, bob, "GET", path("/channels/%s", group), "")
	if c.OwnerID != bob || !slices.Equal(recipientsOf(c), []id.ID{mod}) {
		t.Errorf("got %+v", c)
	}
	c = get[wire.PrivateChannel](b, 200, bob, "GET", path("/channels/%s", dm), "")
	if len(c.Recipients) != 1 || c.Recipients[0].Username != "Deleted User" {
		t.Errorf("got %+v", c)
	}
	b.want(50033, bob, "POST", "/users/@me/channels", path(`{"recipient_id":"%s"}`, alice))
}

// TestFarewell_FindsWhoIsInAGroupAlone: what a crash has left behind of somebody who is in no guild any more.
func TestFarewell_FindsWhoIsInAGroupAlone(t *testing.T) {
	t.Parallel()
	b, guild := directs(t)
	group := b.group(alice, bob, mod).ID
	b.want(204, alice, "DELETE", path("/users/@me/guilds/%s", guild), "")
	b.deleted(alice)
	b.must(b.service.departAll(t.Context()))
	if c := get[wire.PrivateChannel](b, 200, bob, "GET", path("/channels/%s", group), ""); slices.Contains(recipientsOf(c), alice) {
		t.Errorf("got %+v", c)
	}
}

func TestSource_HasTheDirectChannels(t *testing.T) {
	t.Parallel()
	b, _ := directs(t)
	dm, group := b.open(alice, bob).ID, b.group(alice, bob, mod).ID
	b.want(200, alice, "DELETE", path("/channels/%s", dm), "")
	b.want(200, mod, "DELETE", path("/channels/%s", group), "")
	look := func() (out []string) {
		found, _, err := b.roster.LookDirects(t.Context(), []id.ID{dm, group})
		b.must(err)
		for _, d := range found {
			out = append(out, fmt.Sprintf("%+v", *d))
		}
		for _, u := range []id.ID{alice, bob, mod} {
			of, err := b.roster.DirectsOf(t.Context(), u)
			b.must(err)
			out = append(out, fmt.Sprint(u, len(of)))
		}
		return out
	}
	before := look()
	state, err := b.log.Check(t.Context())
	b.must(err)
	b.must(roster.Rebuild(t.Context(), b.log, b.pool, roster.Rebuilding{Epoch: state.Epoch, Least: state.Last.Ms + 1}, []roster.Source{Source}))
	if after := look(); !slices.Equal(before, after) || len(after) != 5 {
		t.Errorf("before %v\nafter  %v", before, after)
	}
	b.want(200, bob, "PATCH", path("/channels/%s", group), `{"name":"goes on"}`)
	b.want(50001, mod, "GET", path("/channels/%s", group), "")
}
