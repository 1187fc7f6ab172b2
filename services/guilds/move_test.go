package guilds

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// channels are those of a guild by name, as its owner sees them.
func (b *bundle) channels(g id.ID) map[string]wire.Channel {
	b.t.Helper()
	out := map[string]wire.Channel{}
	for _, c := range get[[]wire.Channel](b, 200, owner, "GET", path("/guilds/%s/channels", g), "") {
		out[c.Name] = c
	}
	return out
}

// channel makes one, from what stands behind its name in the body.
func (b *bundle) channel(g id.ID, name, rest string) id.ID {
	b.t.Helper()
	return get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g), `{"name":"`+name+`"`+rest+`}`).ID
}

func TestMoveChannels_IsOneStep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod)
	b.role(g.ID, 1, perm.ManageChannels, mod)
	at := path("/guilds/%s/channels", g.ID)
	box := b.channel(g.ID, "box", fmt.Sprintf(`,"type":4,"permission_overwrites":[{"id":"%s","deny":"2048"}]`, g.ID))
	one, two := b.channel(g.ID, "one", ""), b.channel(g.ID, "two", "")
	before := b.version(g.ID)
	both := fmt.Sprintf(`[{"id":"%s","position":9,"parent_id":"%s"},{"id":"%s","position":8,"parent_id":"%s"},{"id":null}]`, one, box, two, box)
	b.want(50013, alice, "PATCH", at, both)
	b.want(10004, stranger, "PATCH", at, both)
	// One that cannot be moved keeps all where they are.
	for _, bad := range []string{`{"id":"5","position":1}`, fmt.Sprintf(`{"id":"%s","parent_id":"%s"}`, two, one), fmt.Sprintf(`{"id":"%s","parent_id":"%s"}`, box, box),
		fmt.Sprintf(`{"id":"%s","position":-1}`, two)} {
		if a := b.ask(owner, "PATCH", at, fmt.Sprintf(`[{"id":"%s","position":9},%s]`, one, bad)); a.status < 400 || a.status > 404 {
			t.Errorf("%s: %s", bad, a)
		}
	}
	// Who cannot manage a channel does not move it, nor into a category that they do not manage.
	b.want(204, owner, "PUT", path("/channels/%s/permissions/%s", two, mod), fmt.Sprintf(`{"type":1,"deny":"%s"}`, perm.ManageChannels))
	b.want(50013, mod, "PATCH", at, both)
	b.want(204, owner, "DELETE", path("/channels/%s/permissions/%s", two, mod), "")
	if got := b.version(g.ID); got != before+2 {
		t.Fatalf("what was refused took the guild from version %d to %d", before+2, got)
	}
	b.want(204, mod, "PATCH", at, both)
	b.want(204, mod, "PATCH", at, both)
	b.want(204, mod, "PATCH", at, `[]`)
	all := b.contiguous(g.ID, before+3)
	var p wire.ChannelChangedPayload
	b.must(json.Unmarshal(all[before+2].Body, &p))
	if p.Channel.ID != one || len(p.Others) != 1 || p.Others[0].ID != two {
		t.Errorf("the entry has %+v", p)
	}
	now := b.channels(g.ID)
	if c := now["one"]; c.Position != 9 || c.ParentID != box || len(c.PermissionOverwrites) != 0 {
		t.Errorf("moved %+v", c)
	}
	if c := now["two"]; c.Position != 8 || c.ParentID != box {
		t.Errorf("moved %+v", c)
	}
	if notes := b.audit(g.ID, "?action_type=11").Entries; len(notes) != 2 || notes[1].Target != one || len(notes[1].Changes) != 2 {
		t.Errorf("the audit log has %+v", notes)
	}
	b.want(204, owner, "PATCH", at, fmt.Sprintf(`[{"id":"%s","parent_id":null}]`, one))
	if c := b.channels(g.ID)["one"]; c.Position != 9 || c.ParentID != 0 {
		t.Errorf("moved %+v", c)
	}
	b.want(50035, owner, "PATCH", at, `[`+strings.Repeat(`{"id":null},`, 500)+`{"id":null}]`)
}

func TestMoveChannels_LocksToTheCategory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, mod, admin)
	b.role(g.ID, 1, perm.ManageChannels, mod)
	b.role(g.ID, 2, perm.ManageChannels|perm.ManageRoles, admin)
	at := path("/guilds/%s/channels", g.ID)
	mild := b.channel(g.ID, "mild", fmt.Sprintf(`,"type":4,"permission_overwrites":[{"id":"%s","deny":"2048"}]`, g.ID))
	grand := b.channel(g.ID, "grand", fmt.Sprintf(`,"type":4,"permission_overwrites":[{"id":"%s","allow":"%s"}]`, g.ID, perm.MentionEveryone))
	one := b.channel(g.ID, "one", "")
	into := func(category id.ID) string {
		return fmt.Sprintf(`[{"id":"%s","parent_id":"%s","lock_permissions":true}]`, one, category)
	}
	b.want(50013, mod, "PATCH", at, into(mild))
	b.want(50013, admin, "PATCH", at, into(grand))
	b.want(204, admin, "PATCH", at, into(mild))
	if c := b.channels(g.ID)["one"]; !cmp.Equal(c.PermissionOverwrites, wire.List[wire.Overwrite]{{ID: g.ID, Deny: perm.SendMessages}}) {
		t.Errorf("locked %+v", c)
	}
}

// TestCategory_LeadsWhatIsInStepWithIt: one entry, so that no crash leaves a channel of a private category public.
func TestCategory_LeadsWhatIsInStepWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice)
	box := b.channel(g.ID, "box", `,"type":4`)
	in := fmt.Sprintf(`,"parent_id":"%s"`, box)
	b.channel(g.ID, "synced", in)
	b.channel(g.ID, "voice", in+`,"type":2`)
	apart := b.channel(g.ID, "apart", in+fmt.Sprintf(`,"permission_overwrites":[{"id":"%s","type":1,"allow":"1024"}]`, alice))
	b.channel(g.ID, "outside", "")
	before := b.version(g.ID)
	b.want(204, owner, "PUT", path("/channels/%s/permissions/%s", box, g.ID), `{"type":0,"deny":"1024"}`)
	if after := b.version(g.ID); after != before+1 {
		t.Errorf("version %d became %d", before, after)
	}
	sees := func(want ...string) {
		t.Helper()
		got := map[string]bool{}
		for _, c := range get[[]wire.Channel](b, 200, alice, "GET", path("/guilds/%s/channels", g.ID), "") {
			got[c.Name] = true
		}
		for _, name := range want {
			if !got[name] {
				t.Errorf("alice does not see %s", name)
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("alice also sees %v", got)
		}
	}
	sees("apart", "outside", "general", "General")
	if c := b.channels(g.ID)["apart"]; len(c.PermissionOverwrites) != 1 {
		t.Errorf("it followed: %+v", c)
	}
	b.want(200, owner, "PATCH", path("/channels/%s", box), `{"permission_overwrites":[]}`)
	b.want(204, owner, "PUT", path("/channels/%s/permissions/%s", apart, alice), `{"type":1,"deny":"1024"}`)
	sees("box", "synced", "voice", "outside", "general", "General")
	for _, c := range b.channels(g.ID) {
		var rows int
		b.must(b.pool.QueryRow(t.Context(), `SELECT jsonb_array_length(overwrites) FROM channels WHERE id = $1`, int64(c.ID)).Scan(&rows))
		if rows != len(c.PermissionOverwrites) {
			t.Errorf("%s has %d overwrites in the store, %d in the read model", c.Name, rows, len(c.PermissionOverwrites))
		}
	}
}

// TestChannels_HaveWhatTheirTypeHas: the rest of a body is for other types.
func TestChannels_HaveWhatTheirTypeHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	const full = `,"topic":"t","nsfw":true,"rate_limit_per_user":5,"bitrate":8000,"user_limit":7,"rtc_region":"local","flags":4,"default_auto_archive_duration":60`
	for kind, want := range map[wire.ChannelType]wire.Channel{
		wire.ChannelText:     {Topic: new("t"), NSFW: true, RateLimitPerUser: 5},
		wire.ChannelVoice:    {Topic: new("t"), NSFW: true, RateLimitPerUser: 5, Bitrate: 8000, UserLimit: 7, RTCRegion: new("local")},
		wire.ChannelCategory: {},
	} {
		f := func(c wire.Channel) {
			t.Helper()
			got := wire.Channel{Topic: c.Topic, NSFW: c.NSFW, RateLimitPerUser: c.RateLimitPerUser, Bitrate: c.Bitrate, UserLimit: c.UserLimit, RTCRegion: c.RTCRegion}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("type %d: %s", kind, diff)
			}
		}
		f(get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), fmt.Sprintf(`{"name":"a","type":%d`, kind)+full+`}`))
		bare := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), fmt.Sprintf(`{"name":"b","type":%d}`, kind))
		at := path("/channels/%s", bare.ID)
		f(get[wire.Channel](b, 200, owner, "PATCH", at, fmt.Sprintf(`{"type":%d`, kind)+full+`}`))
		for other := range wire.ChannelType(16) {
			if other != kind {
				b.want(50035, owner, "PATCH", at, fmt.Sprintf(`{"type":%d}`, other))
			}
		}
		for _, bad := range []string{`"bitrate":7999`, `"bitrate":384001`, `"user_limit":100`, `"user_limit":-1`, `"topic":"` + strings.Repeat("é", 4097) + `"`, `"topic":5`,
			`"nsfw":"yes"`, `"name":"` + strings.Repeat("é", 101) + `"`, `"rate_limit_per_user":-1`, `"permission_overwrites":{}`} {
			b.want(50035, owner, "PATCH", at, `{`+bad+`}`)
		}
	}
}
