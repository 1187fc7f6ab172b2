package guilds

import (
	"fmt"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// timeOut silences a member for so long.
func (b *bundle) timeOut(g, user id.ID, long time.Duration) wire.Member {
	b.t.Helper()
	return get[wire.Member](b, 200, owner, "PATCH", path("/guilds/%s/members/%s", g, user), until(long))
}

func until(long time.Duration) string {
	return fmt.Sprintf(`{"communication_disabled_until":"%s"}`, time.Now().Add(long).Format(time.RFC3339Nano))
}

func TestTimeOut_LeavesReading(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, bob)
	b.role(g.ID, 5, perm.KickMembers|perm.ManageRoles|perm.ManageChannels, alice)
	if m := b.timeOut(g.ID, alice, time.Hour); !m.TimedOut(time.Now()) {
		t.Errorf("alice is %+v", m)
	}
	b.want(50013, alice, "DELETE", path("/guilds/%s/members/%s", g.ID, bob), "")
	b.want(50013, alice, "POST", path("/guilds/%s/roles", g.ID), `{}`)
	b.want(50013, alice, "PATCH", path("/guilds/%s/members/@me", g.ID), `{"nick":"al"}`)
	b.want(50013, alice, "POST", "/channels/"+b.channelOf(g.ID)+"/invites", `{}`)
	b.want(200, alice, "GET", "/channels/"+b.channelOf(g.ID), "")
	b.want(200, alice, "GET", path("/guilds/%s/members/%s", g.ID, bob), "")
	for _, need := range []perm.Bits{perm.SendMessages, perm.AddReactions, perm.Connect} {
		if _, err := b.roster.Can(t.Context(), alice, g.SystemChannelID, need); err == nil {
			t.Errorf("alice may %s", need)
		}
	}
	if _, err := b.roster.Can(t.Context(), alice, g.SystemChannelID, perm.TimedOut); err != nil {
		t.Errorf("alice may not read: %v", err)
	}
	out := get[explanation](b, 200, owner, "GET", path("/guilds/%s/permissions/explain?user=%s&channel=%s", g.ID, alice, g.SystemChannelID), "")
	if out.Permissions != perm.TimedOut {
		t.Errorf("explained as %s", out.Permissions)
	}
	// No overwrite helps, and to leave one needs no permission.
	b.want(204, owner, "PUT", path("/channels/%s/permissions/%s", g.SystemChannelID, alice), fmt.Sprintf(`{"type":1,"allow":"%s"}`, perm.SendMessages))
	if _, err := b.roster.Can(t.Context(), alice, g.SystemChannelID, perm.SendMessages); err == nil {
		t.Error("alice may write by an overwrite")
	}
	m := get[wire.Member](b, 200, owner, "PATCH", path("/guilds/%s/members/%s", g.ID, alice), `{"communication_disabled_until":null}`)
	if m.CommunicationDisabledUntil != 0 {
		t.Errorf("alice is %+v", m)
	}
	b.want(204, alice, "DELETE", path("/guilds/%s/members/%s", g.ID, bob), "")
}

func TestTimeOut_FollowsTheRanks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, admin, mod, alice, bob)
	b.role(g.ID, 5, perm.ModerateMembers, mod)
	b.role(g.ID, 3, perm.Administrator, admin)
	b.role(g.ID, 6, 0, bob)
	at := func(u id.ID) string { return path("/guilds/%s/members/%s", g.ID, u) }
	before := b.version(g.ID)
	b.want(50013, alice, "PATCH", at(bob), until(time.Hour))
	b.want(50013, mod, "PATCH", at(bob), until(time.Hour))   // above
	b.want(50013, mod, "PATCH", at(mod), until(time.Hour))   // oneself
	b.want(50013, mod, "PATCH", at(owner), until(time.Hour)) // the owner
	b.want(50013, mod, "PATCH", at(admin), until(time.Hour)) // an administrator, though below
	b.want(50013, owner, "PATCH", at(admin), until(time.Hour))
	b.want(50013, owner, "PATCH", at(owner), until(time.Hour))
	b.want(10007, mod, "PATCH", at(stranger), until(time.Hour))
	b.want(10004, stranger, "PATCH", at(alice), until(time.Hour))
	b.want(50035, mod, "PATCH", at(alice), until(28*24*time.Hour+time.Minute))
	b.want(50035, mod, "PATCH", at(alice), `{"communication_disabled_until":"soon"}`)
	// What changes nothing needs nothing.
	b.want(200, alice, "PATCH", at(bob), `{"communication_disabled_until":null}`)
	b.want(200, alice, "PATCH", at(bob), until(-time.Hour))
	if after := b.version(g.ID); after != before {
		t.Errorf("what was refused took the guild from version %d to %d", before, after)
	}
	b.want(200, mod, "PATCH", at(alice), until(28*24*time.Hour-time.Minute))
	b.want(50013, alice, "PATCH", at(alice), `{"communication_disabled_until":null}`)
	b.want(200, mod, "PATCH", at(alice), `{"communication_disabled_until":null}`)
}

func TestTimeOut_IsSeenByTheFence(t *testing.T) {
	t.Parallel()
	endsWritingBy(t, func(b *bundle, g id.ID) { b.timeOut(g, alice, time.Hour) })
}

func TestVoice_NobodyIsThereToBeMoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod)
	b.role(g.ID, 1, perm.MuteMembers|perm.DeafenMembers|perm.MoveMembers, mod)
	at := path("/guilds/%s/members/%s", g.ID, alice)
	for _, body := range []string{`{"mute":true}`, `{"deaf":false}`, `{"channel_id":null}`, `{"channel_id":"5"}`, `{"nick":"x","mute":true}`} {
		b.want(50013, alice, "PATCH", at, body)
		b.want(40032, mod, "PATCH", at, body)
	}
	state := path("/guilds/%s/voice-states/", g.ID)
	for _, of := range []string{"@me", bob.String(), alice.String()} {
		b.want(10004, stranger, "GET", state+of, "")
		b.want(10004, stranger, "PATCH", state+of, `{}`)
	}
	b.want(10007, mod, "GET", state+bob.String(), "")
	b.want(10065, mod, "GET", state+alice.String(), "")
	b.want(10065, mod, "GET", state+"@me", "")
	b.want(50013, alice, "PATCH", state+mod.String(), `{"suppress":true}`)
	b.want(40032, mod, "PATCH", state+alice.String(), `{"suppress":true,"channel_id":"5"}`)
	b.want(40032, alice, "PATCH", state+"@me", `{"request_to_speak_timestamp":null}`)
	b.want(50035, alice, "PATCH", state+"@me", `{"request_to_speak_timestamp":"soon"}`)
}

func TestSearchMembers_FindsByTheBeginningOfNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, bob, mod)
	b.want(200, bob, "PATCH", path("/guilds/%s/members/@me", g.ID), `{"nick":"Älbert"}`)
	f := func(query string, want ...id.ID) {
		t.Helper()
		got := get[[]wire.Member](b, 200, alice, "GET", path("/guilds/%s/members/search?query=", g.ID)+query, "")
		for i, m := range got {
			if i >= len(want) || m.User.ID != want[i] {
				t.Errorf("%q: got %+v", query, got)
				return
			}
		}
		if len(got) != len(want) {
			t.Errorf("%q: got %d", query, len(got))
		}
	}
	f("USER&limit=10", owner, mod, alice, bob)
	f("user&limit=2", owner, mod)
	f("user1004", alice)
	f("%C3%A4LB&limit=5", bob)
	f("lbert&limit=5")
	at := path("/guilds/%s/members/search", g.ID)
	b.want(50035, alice, "GET", at, "")
	b.want(50035, alice, "GET", at+"?query=x&limit=1001", "")
	b.want(10004, stranger, "GET", at+"?query=x", "")
}
