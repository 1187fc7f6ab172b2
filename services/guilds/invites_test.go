package guilds

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func TestNewCode_DrawsFromItsAlphabet(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		c := newCode()
		if len(c) != codeLength || strings.Trim(c, codeAlphabet) != "" || seen[c] {
			t.Fatalf("code %q", c)
		}
		seen[c] = true
	}
}

func TestInvites_LetPeopleIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	channel := g.SystemChannelID
	url := path("/channels/%s/invites", channel)
	b.want(50001, stranger, "POST", url, `{}`)
	b.want(50035, owner, "POST", url, `{"max_uses":101}`)
	i := get[wire.Invite](b, 200, owner, "POST", url, `{"temporary":false}`)
	if i.MaxAge != 86400 || i.ExpiresAt-i.CreatedAt != 86400_000 || i.Inviter.ID != owner || i.GuildID != g.ID || i.Guild.Name != "house" ||
		i.Channel.ID != channel || i.Channel.Name != "general" {
		t.Errorf("made %+v", i)
	}
	face := get[wire.Invite](b, 200, 0, "GET", "/invites/"+i.Code+"?with_counts=true", "")
	if face.Code != i.Code || face.Guild.ID != g.ID || *face.ApproximateMemberCount != 1 || face.ExpiresAt != i.ExpiresAt {
		t.Errorf("public %+v", face)
	}
	if raw := b.want(200, stranger, "GET", "/invites/"+i.Code, ""); strings.Contains(string(raw.body), "uses") || strings.Contains(string(raw.body), "temporary") {
		t.Errorf("a stranger learns %s", raw)
	}
	b.want(20001, robot, "POST", "/invites/"+i.Code, "")
	b.want(401, 0, "POST", "/invites/"+i.Code, "")
	joined := get[wire.Invite](b, 200, alice, "POST", "/invites/"+i.Code, "{}")
	if joined.Guild.ID != g.ID {
		t.Errorf("joined %+v", joined)
	}
	n := b.version(g.ID)
	b.want(200, alice, "POST", "/invites/"+i.Code, "")
	if all := b.contiguous(g.ID, n); all[n-1].Type != wire.MemberJoined || all[n-1].User != alice {
		t.Errorf("the last entry is %+v", all[n-1])
	}
	list := get[[]wire.Invite](b, 200, owner, "GET", url, "")
	if len(list) != 1 || list[0].Uses != 1 || list[0].Inviter.Username != "user1001" {
		t.Errorf("list %+v", list)
	}
}

func TestInvites_AreManagedByWhoMay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod, bob)
	b.role(g.ID, 1, perm.ManageChannels, mod)
	b.role(g.ID, 1, perm.ManageGuild, bob)
	url, all := path("/channels/%s/invites", g.SystemChannelID), path("/guilds/%s/invites", g.ID)
	voice := get[[]wire.Channel](b, 200, owner, "GET", path("/guilds/%s/channels", g.ID), "")[1]
	i := get[wire.Invite](b, 200, alice, "POST", path("/channels/%s/invites", voice.ID), `{"max_age":60,"unique":true}`)
	b.want(50013, alice, "GET", url, "")
	b.want(50013, alice, "GET", all, "")
	b.want(50013, mod, "GET", all, "")
	b.want(10004, stranger, "GET", all, "")
	if n := len(get[[]wire.Invite](b, 200, mod, "GET", url, "")); n != 1 {
		t.Errorf("%d invites of the channel", n)
	}
	if n := len(get[[]wire.Invite](b, 200, bob, "GET", all, "")); n != 2 {
		t.Errorf("%d invites of the guild", n)
	}
	b.want(50013, alice, "DELETE", "/invites/"+i.Code, "")
	b.want(50013, stranger, "DELETE", "/invites/"+i.Code, "")
	if out := get[wire.Invite](b, 200, bob, "DELETE", "/invites/"+i.Code, ""); out.Code != i.Code {
		t.Errorf("deleted %+v", out)
	}
	b.want(10006, mod, "DELETE", "/invites/"+i.Code, "")
	b.want(10006, stranger, "POST", "/invites/"+i.Code, "")
	box := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), `{"name":"box","type":4}`)
	b.want(50024, owner, "POST", path("/channels/%s/invites", box.ID), `{}`)
	b.want(200, owner, "PATCH", path("/guilds/%s/roles/%s", g.ID, g.ID), fmt.Sprintf(`{"permissions":"%s"}`, perm.ViewChannel))
	b.want(50013, alice, "POST", url, `{}`)
	b.contiguous(g.ID, b.version(g.ID))
}

func TestInvites_AreReusedOnlyWithoutLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	url := path("/channels/%s/invites", g.SystemChannelID)
	make := func(body string) string { return get[wire.Invite](b, 200, owner, "POST", url, body).Code }
	ever := make(`{"max_age":0}`)
	if again := make(`{"max_age":0,"unique":false}`); again != ever {
		t.Error("an invite without limits is made twice")
	}
	if other := make(`{"max_age":0,"unique":true}`); other == ever {
		t.Error("a unique invite is not")
	}
	if ends := make(`{}`); make(`{}`) == ends {
		t.Error("an invite that ends is used again")
	}
}

func TestInvites_HaveALimit(t *testing.T) {
	t.Parallel()
	b := setupWith(t, Config{InvitesMax: 2})
	g := b.guild()
	url := path("/channels/%s/invites", g.SystemChannelID)
	i := get[wire.Invite](b, 200, owner, "POST", url, `{}`)
	b.want(200, owner, "POST", url, `{}`)
	b.want(30016, owner, "POST", url, `{}`)
	// One that has run out makes room.
	_, err := b.pool.Exec(t.Context(), `UPDATE invites SET expires_at = now() - interval '1 second' WHERE code = $1`, i.Code)
	b.must(err)
	b.want(200, owner, "POST", url, `{}`)
}

func TestInvites_RunOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	i := get[wire.Invite](b, 200, owner, "POST", path("/channels/%s/invites", g.SystemChannelID), `{}`)
	_, err := b.pool.Exec(t.Context(), `UPDATE invites SET expires_at = now() WHERE code = $1`, i.Code)
	b.must(err)
	for _, method := range []string{"GET", "POST"} {
		b.want(10006, alice, method, "/invites/"+i.Code, "")
	}
	if list := b.want(200, owner, "GET", path("/guilds/%s/invites", g.ID), ""); string(list.body) != "[]" {
		t.Errorf("list %s", list)
	}
	gone := get[wire.Invite](b, 200, owner, "POST", path("/channels/%s/invites", g.SystemChannelID), `{}`)
	b.want(200, owner, "DELETE", path("/channels/%s", g.SystemChannelID), "")
	b.want(10006, alice, "POST", "/invites/"+gone.Code, "")
}

func TestInvites_RacedByManyAdmitExactlySoMany(t *testing.T) {
	t.Parallel()
	const racers, uses = 50, 7
	b := setup(t)
	g := b.guild()
	i := get[wire.Invite](b, 200, owner, "POST", path("/channels/%s/invites", g.SystemChannelID), fmt.Sprintf(`{"max_uses":%d}`, uses))
	users := make([]id.ID, racers)
	for n := range users {
		users[n] = id.ID(5000 + n)
		b.user(users[n], false)
	}
	var in, out atomic.Int64
	var wg sync.WaitGroup
	for _, u := range users {
		wg.Go(func() {
			switch a := b.ask(u, "POST", "/invites/"+i.Code, ""); {
			case a.status == 200:
				in.Add(1)
			case a.code == 10006:
				out.Add(1)
			default:
				t.Errorf("got %s", a)
			}
		})
	}
	wg.Wait()
	if in.Load() != uses || out.Load() != racers-uses {
		t.Errorf("%d in, %d out", in.Load(), out.Load())
	}
	if n := b.count(`SELECT count(*) FROM members`); n != uses+1 {
		t.Errorf("%d members", n)
	}
	b.contiguous(g.ID, uses+2)
}
