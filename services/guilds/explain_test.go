package guilds

import (
	"fmt"
	"slices"
	"testing"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func TestExplain_SaysWhatDecided(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod, alice)
	b.role(g.ID, 5, perm.ManageRoles, mod)
	speaker := b.role(g.ID, 2, perm.PrioritySpeaker, alice)
	at := path("/guilds/%s/permissions/explain", g.ID)
	of := func(u, channel id.ID) string { return at + fmt.Sprintf("?user=%s&channel=%s", u, channel) }
	channel := g.SystemChannelID
	b.want(204, owner, "PUT", path("/channels/%s/permissions/%s", channel, alice), `{"type":1,"allow":"0","deny":"2048"}`)
	f := func(as id.ID, path string, bit perm.Bits, granted bool, by string, ids ...id.ID) {
		t.Helper()
		got := get[explanation](b, 200, as, "GET", path, "")
		i := slices.IndexFunc(got.Verdicts, func(v perm.Verdict) bool { return v.Permission == bit })
		if i < 0 || got.Verdicts[i].Granted != granted || got.Verdicts[i].By != by || !slices.Equal(got.Verdicts[i].IDs, ids) || got.Permissions.Has(bit) != granted {
			t.Errorf("%s as %s: want %v by %s %v, got %+v", path, as, granted, by, ids, got)
		}
	}
	f(alice, at, perm.SendMessages, true, perm.ByRole, g.ID)
	f(alice, at, perm.PrioritySpeaker, true, perm.ByRole, speaker)
	f(alice, at, perm.BanMembers, false, perm.ByNone)
	f(mod, of(alice, channel), perm.SendMessages, false, perm.ByMemberOverwrite, alice)
	f(mod, of(owner, channel), perm.BanMembers, true, perm.ByOwner)

	hidden := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), fmt.Sprintf(
		`{"name":"hidden","permission_overwrites":[{"id":"%s","type":0,"deny":"1024"}]}`, g.ID)).ID
	f(owner, of(alice, hidden), perm.ViewChannel, false, perm.ByRoleOverwrite, g.ID)
	f(owner, of(alice, hidden), perm.SendMessages, false, perm.ByHidden)
	b.want(50001, alice, "GET", of(alice, hidden), "")
	b.want(50001, mod, "GET", of(alice, hidden), "")
	b.want(50013, alice, "GET", of(mod, channel), "")
	b.want(50013, alice, "GET", of(stranger, channel), "")
	b.want(10007, mod, "GET", of(stranger, channel), "")
	b.want(10003, mod, "GET", of(alice, 5), "")
	b.want(10004, stranger, "GET", of(alice, channel), "")
	b.want(50035, mod, "GET", at+"?user=alice", "")
}
