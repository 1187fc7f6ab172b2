package guilds

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func TestHigher_IsAStrictTotalOrderWithEveryoneBelow(t *testing.T) {
	t.Parallel()
	const guild = id.ID(1)
	draw := rapid.Custom(func(t *rapid.T) *wire.Role {
		return &wire.Role{ID: id.ID(rapid.IntRange(1, 5).Draw(t, "id")), Position: rapid.IntRange(0, 3).Draw(t, "position")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw.Draw(t, "a"), draw.Draw(t, "b"), draw.Draw(t, "c")
		// One id is one role.
		if a.ID == b.ID {
			b = a
		}
		if c.ID == a.ID {
			c = a
		} else if c.ID == b.ID {
			c = b
		}
		if a != b && higher(guild, a, b) == higher(guild, b, a) || a == b && higher(guild, a, b) {
			t.Fatalf("%+v and %+v have no order", a, b)
		}
		if higher(guild, a, b) && higher(guild, b, c) && !higher(guild, a, c) {
			t.Fatalf("%+v, %+v, %+v are not transitive", a, b, c)
		}
		if a.ID == guild && higher(guild, a, b) {
			t.Fatalf("@everyone stands above %+v", b)
		}
	})
}

func TestRoles_AreMadeChangedAndDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice)
	url := path("/guilds/%s/roles", g.ID)
	plain := get[wire.Role](b, 200, owner, "POST", url, `{}`)
	if plain.Name != "new role" || plain.Permissions != perm.DefaultEveryone || plain.Position != 1 {
		t.Errorf("made %+v", plain)
	}
	r := get[wire.Role](b, 200, owner, "POST", url, `{"name":"crew","permissions":8,"color":255,"hoist":true,"mentionable":true,"unicode_emoji":"🦊"}`)
	if r.Name != "crew" || r.Permissions != perm.Administrator || r.Color != 255 || !r.Hoist || !r.Mentionable || *r.UnicodeEmoji != "🦊" {
		t.Errorf("made %+v", r)
	}
	one := path("/guilds/%s/roles/%s", g.ID, r.ID)
	changed := get[wire.Role](b, 200, owner, "PATCH", one, `{"name":"c","permissions":"0","colors":{"primary_color":1,"secondary_color":2},"hoist":null,"unicode_emoji":null}`)
	two := 2
	want := wire.Role{ID: r.ID, Name: "c", Position: 1, Color: 1, Colors: wire.RoleColors{Primary: 1, Secondary: &two}, Hoist: true, Mentionable: true}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, get[wire.Role](b, 200, alice, "GET", one, "")); diff != "" {
		t.Error(diff)
	}
	if list := get[[]wire.Role](b, 200, alice, "GET", url, ""); len(list) != 3 || list[0].ID != g.ID || list[1].ID != r.ID || list[2].ID != plain.ID {
		t.Errorf("list %+v", list)
	}
	b.want(10004, stranger, "GET", url, "")
	for _, body := range []string{`{"color":-1}`, `{"permissions":"x"}`, `{"name":""}`, `{"hoist":1}`} {
		b.want(50035, owner, "PATCH", one, body)
	}
	everyone := path("/guilds/%s/roles/%s", g.ID, g.ID)
	if out := get[wire.Role](b, 200, owner, "PATCH", everyone, `{"name":"all","permissions":"1024"}`); out.Name != "@everyone" || out.Permissions != perm.ViewChannel {
		t.Errorf("@everyone is %+v", out)
	}
	b.want(50028, owner, "DELETE", everyone, "")
	b.want(50028, owner, "PATCH", url, fmt.Sprintf(`[{"id":"%s","position":1}]`, g.ID))
	b.want(50028, owner, "PATCH", url, fmt.Sprintf(`[{"id":"%s","position":0}]`, r.ID))
	b.want(50028, owner, "PATCH", url, fmt.Sprintf(`[{"id":"%s","position":3000000000}]`, r.ID))
	b.want(204, owner, "DELETE", one, "")
	b.want(10011, owner, "DELETE", one, "")
	b.contiguous(g.ID, b.version(g.ID))
}

func TestRoles_HaveALimit(t *testing.T) {
	t.Parallel()
	b := setupWith(t, Config{RolesMax: 2})
	g := b.guild()
	b.want(200, owner, "POST", path("/guilds/%s/roles", g.ID), `{}`)
	b.want(30005, owner, "POST", path("/guilds/%s/roles", g.ID), `{}`)
	b.want(30005, owner, "POST", "/guilds", `{"name":"house","roles":[{},{},{}]}`)
}

func TestRoles_NobodyClimbsByThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, admin, mod, alice)
	low := b.role(g.ID, 1, 0)
	mods := b.role(g.ID, 5, perm.ManageRoles, mod)
	admins := b.role(g.ID, 8, perm.Administrator, admin)
	url := path("/guilds/%s/roles", g.ID)
	at := func(r id.ID) string { return path("/guilds/%s/roles/%s", g.ID, r) }
	member := func(u, r id.ID) string { return path("/guilds/%s/members/%s/roles/%s", g.ID, u, r) }

	// Without MANAGE_ROLES: nothing.
	b.want(50013, alice, "POST", url, `{}`)
	b.want(50013, alice, "PATCH", at(low), `{"name":"x"}`)
	b.want(50013, alice, "DELETE", at(low), "")
	b.want(50013, alice, "PUT", member(alice, low), "")
	b.want(10004, stranger, "PUT", member(stranger, low), "")

	// Bits that one lacks.
	b.want(50013, mod, "POST", url, fmt.Sprintf(`{"permissions":"%s"}`, perm.Administrator))
	b.want(50013, mod, "POST", url, fmt.Sprintf(`{"permissions":"%s"}`, perm.ManageGuild))
	b.want(50013, mod, "PATCH", at(low), fmt.Sprintf(`{"permissions":"%s"}`, perm.BanMembers))
	b.want(50013, mod, "PATCH", at(g.ID), fmt.Sprintf(`{"permissions":"%s"}`, perm.DefaultEveryone|perm.KickMembers))
	mine := get[wire.Role](b, 200, mod, "POST", url, fmt.Sprintf(`{"permissions":"%s"}`, perm.ManageRoles|perm.SendMessages))

	// Roles at one's own height or above: not edited, deleted, moved, given or taken.
	for _, r := range []id.ID{mods, admins} {
		b.want(50013, mod, "PATCH", at(r), `{"name":"x"}`)
		b.want(50013, mod, "DELETE", at(r), "")
		b.want(50013, mod, "PATCH", url, fmt.Sprintf(`[{"id":"%s","position":1}]`, r))
		b.want(50013, mod, "PUT", member(mod, r), "")
		b.want(50013, mod, "PUT", member(alice, r), "")
		b.want(50013, mod, "PATCH", path("/guilds/%s/members/%s", g.ID, mod), fmt.Sprintf(`{"roles":["%s","%s"]}`, mods, admins))
	}
	b.want(50013, mod, "DELETE", member(admin, admins), "")
	b.want(50013, admin, "PATCH", at(admins), `{"name":"x"}`)
	b.want(50013, admin, "PUT", member(alice, admins), "")
	// One's own role is not moved up, nor another one next to it.
	b.want(50013, mod, "PATCH", url, fmt.Sprintf(`[{"id":"%s","position":9}]`, mods))
	b.want(50013, mod, "PATCH", url, fmt.Sprintf(`[{"id":"%s","position":5}]`, low))
	b.want(200, mod, "PATCH", url, fmt.Sprintf(`[{"id":"%s","position":4},{"id":"%s","position":null}]`, low, mods))

	// Below, all is allowed; also what somebody above made.
	b.want(200, mod, "PATCH", at(mine.ID), `{"name":"x"}`)
	b.want(200, mod, "PATCH", at(g.ID), fmt.Sprintf(`{"permissions":"%s"}`, perm.DefaultEveryone&^perm.SendMessages))
	b.want(204, mod, "PUT", member(alice, low), "")
	b.want(204, mod, "PUT", member(alice, low), "")
	b.want(204, mod, "PUT", member(admin, low), "")
	b.want(204, admin, "DELETE", at(mods), "")
	b.want(50013, mod, "POST", url, `{}`)
}

func TestRoles_AtOnePositionTheOlderIsHigher(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod)
	mods := b.role(g.ID, 1, perm.ManageRoles, mod)
	young := get[wire.Role](b, 200, mod, "POST", path("/guilds/%s/roles", g.ID), `{"permissions":"0"}`)
	if young.Position != 1 {
		t.Fatalf("position %d", young.Position)
	}
	b.want(200, mod, "PATCH", path("/guilds/%s/roles/%s", g.ID, young.ID), `{"name":"x"}`)
	b.want(50013, mod, "PATCH", path("/guilds/%s/roles/%s", g.ID, mods), `{"name":"x"}`)
}

// Clients move one role by sending all of them with new numbers, those above themselves included.
func TestMoveRoles_WhoKeepsItsPlaceNeedsNoRank(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod, alice)
	low, mods, admins := b.role(g.ID, 1, 0), b.role(g.ID, 2, perm.ManageRoles, mod), b.role(g.ID, 3, perm.ManageRoles)
	young := get[wire.Role](b, 200, mod, "POST", path("/guilds/%s/roles", g.ID), `{"permissions":"0"}`).ID // below low
	move := func(want int, as id.ID, order ...id.ID) {
		t.Helper()
		var parts []string
		for i, r := range append([]id.ID{g.ID}, order...) {
			parts = append(parts, fmt.Sprintf(`{"id":"%s","position":%d}`, r, i))
		}
		b.want(want, as, "PATCH", path("/guilds/%s/roles", g.ID), "["+strings.Join(parts, ",")+"]")
	}
	move(200, mod, low, young, mods, admins)
	at := map[id.ID]int{}
	for _, r := range get[[]wire.Role](b, 200, owner, "GET", path("/guilds/%s/roles", g.ID), "") {
		at[r.ID] = r.Position
	}
	if want := map[id.ID]int{g.ID: 0, low: 1, young: 2, mods: 3, admins: 4}; !maps.Equal(at, want) {
		t.Errorf("the roles stand at %v, want %v", at, want)
	}
	move(200, mod, young, low, mods, admins)
	move(50013, mod, young, mods, low, admins) // above oneself
	move(50013, mod, young, low, admins, mods)
	move(50013, mod, mods, young, low, admins)
	move(50013, alice, low, young, mods, admins)
}

func TestDeleteRole_TakesItFromMembersAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod, alice)
	mods := b.role(g.ID, 1, perm.KickMembers, mod, alice)
	b.want(204, owner, "DELETE", path("/guilds/%s/roles/%s", g.ID, mods), "")
	b.want(50013, mod, "DELETE", path("/guilds/%s/members/%s", g.ID, alice), "")
	for _, m := range get[[]wire.Member](b, 200, owner, "GET", path("/guilds/%s/members?limit=10", g.ID), "") {
		if len(m.Roles) != 0 {
			t.Errorf("member %s has roles %v", m.User.ID, m.Roles)
		}
	}
	if m := get[wire.Member](b, 200, owner, "GET", path("/guilds/%s/members/%s", g.ID, alice), ""); len(m.Roles) != 0 {
		t.Errorf("alice has roles %v", m.Roles)
	}
}
