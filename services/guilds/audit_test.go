package guilds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func (b *bundle) audit(g id.ID, query string) wire.AuditLog {
	b.t.Helper()
	return get[wire.AuditLog](b, 200, owner, "GET", path("/guilds/%s/audit-logs", g)+query, "")
}

// TestAudit_HasEveryModeration: one call after the other, each with what it leaves in the audit log.
func TestAudit_HasEveryModeration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	text, in := b.channelOf(g.ID), path("/guilds/%s", g.ID)
	b.join(g.ID, alice, bob, mod)
	role := b.role(g.ID, 1, 0)
	seen := len(b.audit(g.ID, "?limit=100").Entries)
	f := func(method, at, body string, target id.ID, options map[string]string, want ...string) answer {
		t.Helper()
		reason := method + " wéll"
		a := b.because(reason, owner, method, at, body)
		if a.status >= 300 {
			t.Fatalf("%s %s: %s", method, at, a)
		}
		all := b.audit(g.ID, "?limit=100").Entries
		var got []string
		for _, n := range all[:len(all)-seen] {
			for _, c := range n.Changes {
				got = append(got, fmt.Sprintf("%d %s: %s -> %s", n.Action, c.Key, c.Old, c.New))
			}
			if n.Changes == nil {
				got = append(got, fmt.Sprint(n.Action))
			}
			if n.Actor != owner || n.Target != target || n.Reason != reason {
				t.Errorf("%s %s: %+v", method, at, n)
			}
			if diff := cmp.Diff(options, n.Options); diff != "" {
				t.Errorf("%s %s: options %s", method, at, diff)
			}
		}
		seen = len(all)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: %s", method, at, diff)
		}
		return a
	}
	f("PATCH", in, `{"name":"home","afk_timeout":60}`, g.ID, nil, `1 afk_timeout: 300 -> 60`, `1 name: "house" -> "home"`)
	f("PATCH", in, `{"name":"home"}`, 0, nil)
	f("PATCH", "/channels/"+text, `{"topic":"t","rate_limit_per_user":5}`, parse(text), nil, `11 rate_limit_per_user: 0 -> 5`, `11 topic:  -> "t"`)
	f("PATCH", "/channels/"+text, `{"topic":null}`, parse(text), nil, `11 topic: "t" -> `)
	over := fmt.Sprintf("/channels/%s/permissions/%s", text, role)
	options := map[string]string{"id": role.String(), "type": "0", "role_name": "r1"}
	f("PUT", over, `{"type":0,"allow":"1024"}`, parse(text), options, `13 allow:  -> "1024"`, `13 deny:  -> "0"`, `13 type:  -> 0`)
	f("PUT", over, `{"type":0,"allow":"1024","deny":"2048"}`, parse(text), options, `14 deny: "0" -> "2048"`)
	f("DELETE", over, "", parse(text), options, `15 allow: "1024" -> `, `15 deny: "2048" -> `, `15 type: 0 -> `)
	f("PATCH", path("/guilds/%s/roles/%s", g.ID, role), `{"name":"r","hoist":true}`, role, nil, `31 hoist: false -> true`, `31 name: "r1" -> "r"`)
	f("PATCH", path("/guilds/%s/members/%s", g.ID, alice), `{"nick":"al"}`, alice, nil, `24 nick:  -> "al"`)
	f("PUT", path("/guilds/%s/members/%s/roles/%s", g.ID, alice, role), "", alice, nil, fmt.Sprintf(`25 $add:  -> [{"id":"%s","name":"r"}]`, role))
	f("DELETE", path("/guilds/%s/members/%s/roles/%s", g.ID, alice, role), "", alice, nil, fmt.Sprintf(`25 $remove:  -> [{"id":"%s","name":"r"}]`, role))
	f("DELETE", path("/guilds/%s/members/%s", g.ID, bob), "", bob, nil, "20")
	f("PUT", path("/guilds/%s/bans/%s", g.ID, mod), "", mod, nil, "22")
	f("PUT", path("/guilds/%s/bans/%s", g.ID, stranger), "", stranger, nil, "22")
	f("DELETE", path("/guilds/%s/bans/%s", g.ID, mod), "", mod, nil, "23")
	f("PUT", path("/guilds/%s/members/%s", g.ID, robot), "", robot, nil, "28")
	code := get[wire.Invite](b, 200, owner, "POST", "/channels/"+text+"/invites", `{"unique":true,"max_uses":3}`).Code
	seen++
	f("DELETE", "/invites/"+code, "", 0, nil, `42 channel_id: "`+text+`" -> `, `42 code: "`+code+`" -> `, `42 inviter_id: "1001" -> `, `42 max_age: 86400 -> `,
		`42 max_uses: 3 -> `, `42 temporary: false -> `, `42 uses: 0 -> `)
	// What has the new thing's own id for a target:
	for action, call := range map[wire.AuditAction][3]string{
		wire.AuditChannelCreate: {"POST", in + "/channels", `{"name":"new"}`}, wire.AuditRoleCreate: {"POST", in + "/roles", `{"name":"new"}`},
	} {
		made := get[wire.Role](b, 201-int(action)/30, owner, call[0], call[1], call[2])
		n := b.audit(g.ID, "").Entries[0]
		if n.Action != action || n.Target != made.ID || n.Reason != "" || len(n.Changes) == 0 {
			t.Errorf("%d left %+v", action, n)
		}
	}
	b.want(200, owner, "DELETE", "/channels/"+text, "")
	b.want(204, owner, "DELETE", path("/guilds/%s/roles/%s", g.ID, role), "")
	last := b.audit(g.ID, "?limit=2").Entries
	if last[0].Action != wire.AuditRoleDelete || last[0].Target != role || last[1].Action != wire.AuditChannelDelete || last[1].Target.String() != text {
		t.Errorf("the last are %+v", last)
	}
}

func parse(text string) id.ID {
	i, _ := id.Parse(text)
	return i
}

func TestAudit_IsForWhoMaySeeIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	at := path("/guilds/%s/audit-logs", g.ID)
	b.join(g.ID, alice, mod)
	b.role(g.ID, 2, perm.ViewAuditLog|perm.ManageChannels, mod)
	b.want(50013, alice, "GET", at, "")
	b.want(10004, stranger, "GET", at, "")
	b.want(401, 0, "GET", at, "")
	b.want(50035, mod, "GET", at+"?limit=101", "")
	b.want(50035, mod, "GET", at+"?action_type=x", "")
	out := get[wire.AuditLog](b, 200, mod, "GET", at+"?limit=100", "")
	var users []id.ID
	for _, u := range out.Users {
		users = append(users, u.ID)
	}
	if diff := cmp.Diff([]id.ID{owner, mod}, users); diff != "" {
		t.Errorf("users: %s", diff)
	}
	b.timeOut(g.ID, mod, time.Hour)
	b.want(50013, mod, "GET", at, "")
}

func TestAudit_IsPagedAndFiltered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod)
	b.role(g.ID, 2, perm.BanMembers, mod)
	for _, u := range []id.ID{alice, bob, stranger} {
		b.want(204, mod, "PUT", path("/guilds/%s/bans/%s", g.ID, u), "")
	}
	b.want(204, owner, "DELETE", path("/guilds/%s/bans/%s", g.ID, bob), "")
	all := b.audit(g.ID, "?limit=100").Entries
	for i, n := range all[1:] {
		if n.ID >= all[i].ID {
			t.Fatalf("%s comes behind %s", n.ID, all[i].ID)
		}
	}
	f := func(query string, want ...id.ID) {
		t.Helper()
		var got []id.ID
		for _, n := range b.audit(g.ID, query).Entries {
			got = append(got, n.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
	f("?limit=2", all[0].ID, all[1].ID)
	f("?limit=2&before="+all[1].ID.String(), all[2].ID, all[3].ID)
	f("?limit=2&after="+all[3].ID.String(), all[2].ID, all[1].ID)
	f("?user_id="+mod.String(), all[1].ID, all[2].ID, all[3].ID)
	f("?action_type=22&limit=1", all[1].ID)
	f("?target_id="+bob.String(), all[0].ID, all[2].ID)
	f("?user_id=" + stranger.String())
	f("?after=18446744073709551615")
}

// TestAudit_StandsInTheLog: the same notes are in the entry, from which the gateway tells them.
func TestAudit_StandsInTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.because("why", owner, "PUT", path("/guilds/%s/bans/%s", g.ID, stranger), "")
	all := b.entries(g.ID, b.version(g.ID))
	notes, err := wire.AuditOf(all[len(all)-1].Body, 5)
	b.must(err)
	if diff := cmp.Diff([]wire.AuditNote(b.audit(g.ID, "").Entries), notes); diff != "" || len(notes) != 1 || notes[0].Reason != "why" {
		t.Errorf("%+v: %s", notes, diff)
	}
}

func TestAudit_CutsTheReason(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.because(strings.Repeat("é", 600), owner, "PUT", path("/guilds/%s/bans/%s", g.ID, stranger), "")
	if got := b.audit(g.ID, "").Entries[0].Reason; got != strings.Repeat("é", 512) {
		t.Errorf("the reason is %q", got)
	}
}

func TestAudit_RefusedChangesLeaveNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice)
	before := len(b.audit(g.ID, "").Entries)
	b.want(50013, alice, "PUT", path("/guilds/%s/bans/%s", g.ID, owner), "")
	b.want(50035, owner, "PATCH", path("/guilds/%s", g.ID), `{"system_channel_id":"5"}`)
	if after := len(b.audit(g.ID, "").Entries); after != before {
		t.Errorf("%d entries became %d", before, after)
	}
}

func TestAudit_IsForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.want(204, owner, "PUT", path("/guilds/%s/bans/%s", g.ID, stranger), "")
	if n, err := b.service.store.forget(t.Context(), time.Now().Add(-time.Hour), 10); n != 0 || err != nil {
		t.Errorf("%d of them were forgotten before their time, %v", n, err)
	}
	if n, err := b.service.store.forget(t.Context(), time.Now().Add(time.Hour), 10); n != 1 || err != nil {
		t.Errorf("%d were forgotten, %v", n, err)
	}
}

// TestAudit_TellsNothingOfHiddenChannels to who may see the audit log and not the channel.
func TestAudit_TellsNothingOfHiddenChannels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod)
	b.role(g.ID, 2, perm.ViewAuditLog|perm.ManageGuild, mod)
	hide := fmt.Sprintf(`,"permission_overwrites":[{"id":"%s","deny":"1024"}]`, g.ID)
	open, hidden, gone := b.channel(g.ID, "open", ""), b.channel(g.ID, "hidden", hide), b.channel(g.ID, "gone", hide)
	for _, channel := range []id.ID{open, hidden, gone} {
		at := path("/channels/%s", channel)
		b.want(200, owner, "PATCH", at, `{"topic":"t"}`)
		b.want(204, owner, "PUT", at+"/permissions/"+mod.String(), `{"type":1,"allow":"2048"}`)
		b.want(204, owner, "DELETE", at+"/permissions/"+mod.String(), "")
		code := get[wire.Invite](b, 200, owner, "POST", at+"/invites", `{}`).Code
		b.want(200, owner, "DELETE", "/invites/"+code, "")
	}
	b.want(200, owner, "DELETE", path("/channels/%s", gone), "")
	before := len(b.audit(g.ID, "?limit=100").Entries)
	var told []wire.AuditNote
	for last := ""; ; {
		page := get[wire.AuditLog](b, 200, mod, "GET", path("/guilds/%s/audit-logs?limit=2", g.ID)+last, "").Entries
		told = append(told, page...)
		if len(page) < 2 {
			break
		}
		last = "&before=" + page[1].ID.String()
	}
	for _, n := range told {
		if text := string(encode(n)); strings.Contains(text, hidden.String()) || n.Target == gone && n.Action != wire.AuditChannelDelete || strings.Contains(text, `"gone"`) {
			t.Errorf("told %s", text)
		}
	}
	// All but six notes of each, of which the end of one is told: create, change, overwrite on and off, invite and its end.
	if want := before - 12; len(told) != want {
		t.Errorf("told %d of %d, want %d", len(told), before, want)
	}
}
