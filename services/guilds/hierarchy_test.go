package guilds

import (
	"fmt"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// ladder is a guild whose members stand at many heights: everybody who moderates has all permissions for it, and so what they may is a matter of
// ranks alone. alice moderates nothing.
type ladder struct {
	*bundle
	g     id.ID
	code  string
	ranks map[id.ID]int
	roles map[int]id.ID // by position
}

const (
	moderates = perm.KickMembers | perm.BanMembers | perm.ManageNicknames | perm.ManageRoles | perm.ModerateMembers | perm.ManageChannels
	topRank   = 100
)

// rungs are what the roles of a ladder may do, by position.
var rungs = map[int]perm.Bits{1: 0, 5: moderates, 7: perm.Administrator, 9: 0}

func newLadder(t *testing.T) *ladder {
	t.Helper()
	b := setup(t)
	l := &ladder{bundle: b, g: b.guild().ID, roles: map[int]id.ID{},
		ranks: map[id.ID]int{alice: 0, bob: 1, mod: 5, stranger: 5, admin: 7, robot: 9, owner: topRank}}
	l.code = get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(l.g)+"/invites", `{"max_age":0}`).Code
	for position, bits := range rungs {
		l.roles[position] = b.role(l.g, position, bits)
	}
	for u := range l.ranks {
		l.restore(u)
	}
	return l
}

// restore lets a user be what they were.
func (l *ladder) restore(u id.ID) {
	l.t.Helper()
	l.ask(owner, "DELETE", path("/guilds/%s/bans/%s", l.g, u), "")
	switch u {
	case owner:
		return
	case robot:
		l.ask(owner, "PUT", path("/guilds/%s/members/%s", l.g, u), "")
	default:
		l.want(200, u, "POST", "/invites/"+l.code, "")
	}
	roles := `[]`
	if rank := l.ranks[u]; rank > 0 {
		roles = `["` + l.roles[rank].String() + `"]`
	}
	l.want(200, owner, "PATCH", path("/guilds/%s/members/%s", l.g, u), `{"nick":null,"communication_disabled_until":null,"roles":`+roles+`}`)
}

// TestHierarchy_OfMembers: each moderation × who does it × whom it is done to, against the rule in one line.
func TestHierarchy_OfMembers(t *testing.T) {
	t.Parallel()
	l := newLadder(t)
	stands := func(actor, target id.ID) bool {
		return actor != alice && target != owner && actor != target && l.ranks[actor] > l.ranks[target]
	}
	for _, route := range []struct {
		method, at, body string
		may              func(actor, target id.ID) bool
	}{
		{"DELETE", "/guilds/%s/members/%s", "", stands},
		{"PUT", "/guilds/%s/bans/%s", "", stands},
		{"PATCH", "/guilds/%s/members/%s", `{"nick":"x"}`, func(actor, target id.ID) bool { return actor == target || stands(actor, target) }},
		{"PATCH", "/guilds/%s/members/%s", until(time.Hour), func(actor, target id.ID) bool { return target != admin && stands(actor, target) }},
	} {
		for _, actor := range []id.ID{alice, mod, admin, owner} {
			for target := range l.ranks {
				a := l.ask(actor, route.method, path(route.at, l.g, target), route.body)
				may := route.may(actor, target)
				if may && a.status >= 300 || !may && a.code != 50013 {
					t.Errorf("%s %s %s of rank %d by rank %d: may is %v, got %s", route.method, route.at, route.body, l.ranks[target], l.ranks[actor], may, a)
				}
				if a.status < 300 {
					l.restore(target)
				}
			}
		}
	}
}

// TestHierarchy_OfRoles: each change of a role, and of who has it, × who does it × where the role stands.
func TestHierarchy_OfRoles(t *testing.T) {
	t.Parallel()
	l := newLadder(t)
	has := path("/guilds/%s/members/%s/roles/", l.g, alice)
	for _, actor := range []id.ID{alice, mod, admin, owner} {
		for position, role := range l.roles {
			may := actor != alice && l.ranks[actor] > position
			f := func(method, at, body string) {
				t.Helper()
				a := l.ask(actor, method, at, body)
				if may && a.status >= 300 || !may && a.code != 50013 {
					t.Errorf("%s %s by rank %d, role at %d: may is %v, got %s", method, body, l.ranks[actor], position, may, a)
				}
			}
			at := path("/guilds/%s/roles/%s", l.g, role)
			f("PATCH", at, `{"name":"x"}`)
			f("PATCH", at, `{"permissions":null,"hoist":true}`)
			// Whoever stands above a role moves it anywhere below themselves.
			f("PATCH", path("/guilds/%s/roles", l.g), fmt.Sprintf(`[{"id":"%s","position":%d}]`, role, position+20*bit(!may)))
			f("PUT", has+role.String(), "")
			f("DELETE", has+role.String(), "")
			f("PATCH", path("/guilds/%s/members/%s", l.g, alice), `{"roles":["`+role.String()+`"]}`)
			l.restore(alice)
			if may {
				f("DELETE", at, "")
				l.roles[position] = l.role(l.g, position, rungs[position])
				for u, rank := range l.ranks {
					if rank == position {
						l.restore(u)
					}
				}
				continue
			}
			f("DELETE", at, "")
		}
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestHierarchy_NobodyGivesWhatTheyDoNotHave: a permission that the moderator lacks, on every way to hand it out or to take it away.
func TestHierarchy_NobodyGivesWhatTheyDoNotHave(t *testing.T) {
	t.Parallel()
	l := newLadder(t)
	text := l.channelOf(l.g)
	box := l.channel(l.g, "box", fmt.Sprintf(`,"type":4,"permission_overwrites":[{"id":"%s","allow":"%s"}]`, l.roles[9], perm.ManageGuild))
	const lacks = "32" // MANAGE_GUILD
	low := l.roles[1].String()
	for _, call := range []struct{ method, at, body string }{
		{"POST", path("/guilds/%s/roles", l.g), `{"permissions":"` + lacks + `"}`},
		{"POST", path("/guilds/%s/roles", l.g), `{"permissions":"8"}`},
		{"PATCH", path("/guilds/%s/roles/", l.g) + low, `{"permissions":"` + lacks + `"}`},
		{"PATCH", path("/guilds/%s/roles/%s", l.g, l.g), `{"permissions":"8"}`},
		{"PATCH", path("/guilds/%s/roles", l.g), `[{"id":"` + low + `","position":5}]`},
		{"PATCH", path("/guilds/%s/roles", l.g), `[{"id":"` + low + `","position":6}]`},
		{"PUT", "/channels/" + text + "/permissions/" + low, `{"allow":"` + lacks + `"}`},
		{"PUT", "/channels/" + text + "/permissions/" + low, `{"deny":"` + lacks + `"}`},
		{"PUT", "/channels/" + text + "/permissions/" + mod.String(), `{"type":1,"allow":"` + lacks + `"}`},
		{"PATCH", "/channels/" + text, `{"permission_overwrites":[{"id":"` + low + `","allow":"` + lacks + `"}]}`},
		{"PATCH", "/channels/" + box.String(), `{"permission_overwrites":[]}`},
		{"DELETE", path("/channels/%s/permissions/%s", box, l.roles[9]), ""},
		{"POST", path("/guilds/%s/channels", l.g), `{"name":"a","permission_overwrites":[{"id":"` + low + `","allow":"` + lacks + `"}]}`},
		{"PATCH", path("/guilds/%s/channels", l.g), `[{"id":"` + text + `","parent_id":"` + box.String() + `","lock_permissions":true}]`},
		{"DELETE", path("/guilds/%s", l.g), ""},
		{"PATCH", path("/guilds/%s", l.g), `{"owner_id":"` + mod.String() + `"}`},
		{"PATCH", path("/guilds/%s/members/%s", l.g, mod), `{"roles":["` + l.roles[9].String() + `"]}`},
		{"PUT", path("/guilds/%s/members/%s/roles/%s", l.g, mod, l.roles[7]), ""},
	} {
		l.want(50013, mod, call.method, call.at, call.body)
	}
	// An administrator has all permissions, and is still not the owner.
	l.want(50013, admin, "DELETE", path("/guilds/%s", l.g), "")
	l.want(50013, admin, "PATCH", path("/guilds/%s", l.g), `{"owner_id":"`+admin.String()+`"}`)
	// Who was banned does not let themselves in again.
	l.want(204, owner, "PUT", path("/guilds/%s/bans/%s", l.g, mod), "")
	l.want(10004, mod, "DELETE", path("/guilds/%s/bans/%s", l.g, mod), "")
	l.want(40007, mod, "POST", "/invites/"+l.code, "")
}
