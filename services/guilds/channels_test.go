package guilds

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func TestChannels_AreMadeChangedAndDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod)
	b.role(g.ID, 1, perm.ManageChannels, mod)
	url := path("/guilds/%s/channels", g.ID)
	b.want(10004, stranger, "POST", url, `{"name":"a"}`)
	b.want(50013, alice, "POST", url, `{"name":"a"}`)
	box := get[wire.Channel](b, 201, mod, "POST", url, `{"name":"box","type":4}`)
	in := get[wire.Channel](b, 201, mod, "POST", url, fmt.Sprintf(`{"name":"in","topic":"t","nsfw":true,"rate_limit_per_user":5,"parent_id":"%s"}`, box.ID))
	if in.ParentID != box.ID || *in.Topic != "t" || !in.NSFW || in.RateLimitPerUser != 5 || in.GuildID != g.ID || in.Position != 0 {
		t.Errorf("made %+v", in)
	}
	next := get[wire.Channel](b, 201, mod, "POST", url, fmt.Sprintf(`{"name":"next","parent_id":"%s"}`, box.ID))
	if next.Position != 1 {
		t.Errorf("the next one has position %d", next.Position)
	}
	one := path("/channels/%s", in.ID)
	b.want(50013, alice, "PATCH", one, `{"name":"b"}`)
	b.want(50001, stranger, "PATCH", one, `{"name":"b"}`)
	b.want(50001, stranger, "GET", one, "")
	changed := get[wire.Channel](b, 200, mod, "PATCH", one, `{"name":"b","topic":null,"nsfw":null,"position":7,"parent_id":null,"rate_limit_per_user":0}`)
	if changed.Name != "b" || changed.Topic != nil || !changed.NSFW || changed.Position != 7 || changed.ParentID != 0 || changed.RateLimitPerUser != 0 {
		t.Errorf("changed %+v", changed)
	}
	if diff := cmp.Diff(changed, get[wire.Channel](b, 200, alice, "GET", one, "")); diff != "" {
		t.Error(diff)
	}
	for _, body := range []string{`{"name":""}`, `{"position":-1}`, `{"rate_limit_per_user":21601}`, `{"parent_id":"5"}`,
		fmt.Sprintf(`{"parent_id":"%s"}`, next.ID), `{"permission_overwrites":[{"id":"5"}]}`,
		fmt.Sprintf(`{"permission_overwrites":[{"id":"%s"},{"id":"%s"}]}`, g.ID, g.ID)} {
		b.want(50035, owner, "PATCH", one, body)
	}
	b.want(50035, owner, "PATCH", path("/channels/%s", box.ID), fmt.Sprintf(`{"parent_id":"%s"}`, box.ID))
	b.want(50035, owner, "POST", url, `{"name":"a","type":1}`)
	b.want(200, mod, "PATCH", one, fmt.Sprintf(`{"parent_id":"%s"}`, box.ID))
	b.want(50013, alice, "DELETE", one, "")
	if out := get[wire.Channel](b, 200, mod, "DELETE", path("/channels/%s", box.ID), ""); out.ID != box.ID {
		t.Errorf("deleted %+v", out)
	}
	if out := get[wire.Channel](b, 200, alice, "GET", one, ""); out.ParentID != 0 {
		t.Error("a deleted category still has channels")
	}
	b.contiguous(g.ID, b.version(g.ID))
}

func TestChannels_HaveALimit(t *testing.T) {
	t.Parallel()
	b := setupWith(t, Config{ChannelsMax: 3})
	g := b.guild()
	url := path("/guilds/%s/channels", g.ID)
	b.want(201, owner, "POST", url, `{"name":"a"}`)
	b.want(30013, owner, "POST", url, `{"name":"a"}`)
	b.want(30013, owner, "POST", "/guilds", `{"name":"house","channels":[{"name":"a"},{"name":"a"},{"name":"a"},{"name":"a"}]}`)
}

func TestChannels_ThatOneCannotSeeDoNotExist(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod)
	crew := b.role(g.ID, 1, perm.ManageChannels, mod)
	url := path("/guilds/%s/channels", g.ID)
	box := get[wire.Channel](b, 201, owner, "POST", url, fmt.Sprintf(
		`{"name":"box","type":4,"permission_overwrites":[{"id":"%s","deny":"1024"},{"id":"%s","allow":"1024"}]}`, g.ID, crew))
	in := get[wire.Channel](b, 201, mod, "POST", url, fmt.Sprintf(`{"name":"in","parent_id":"%s"}`, box.ID))
	if !cmp.Equal(in.PermissionOverwrites, box.PermissionOverwrites) {
		t.Errorf("a channel in a private category has %+v", in.PermissionOverwrites)
	}
	see := func(as id.ID) (n int) { return len(get[[]wire.Channel](b, 200, as, "GET", url, "")) }
	if see(owner) != 4 || see(mod) != 4 || see(alice) != 2 {
		t.Errorf("owner sees %d, mod %d, alice %d", see(owner), see(mod), see(alice))
	}
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		b.want(50001, alice, method, path("/channels/%s", in.ID), "")
	}
	b.want(50001, alice, "POST", path("/channels/%s/invites", in.ID), "{}")
	b.want(50001, alice, "PUT", path("/channels/%s/permissions/%s", in.ID, g.ID), "{}")
	// The administrator of other channels has no say in this one either.
	b.role(g.ID, 2, perm.ManageChannels, alice)
	b.want(204, owner, "PUT", path("/channels/%s/permissions/%s", box.ID, alice), `{"type":1,"deny":"1024"}`)
	b.want(50013, alice, "POST", url, fmt.Sprintf(`{"name":"in","parent_id":"%s"}`, box.ID))
	b.want(50001, alice, "DELETE", path("/channels/%s", in.ID), "")
}

func TestOverwrites_GiveNobodyMoreThanTheGiverHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, bob, mod)
	crew := b.role(g.ID, 1, perm.ManageRoles|perm.ManageChannels, mod)
	channel := g.SystemChannelID
	at := func(i id.ID) string { return path("/channels/%s/permissions/%s", channel, i) }
	b.want(50013, alice, "PUT", at(alice), `{"type":1,"allow":"2048"}`)
	b.want(50013, alice, "DELETE", at(alice), "")
	b.want(204, mod, "PUT", at(alice), `{"type":1,"allow":"2048"}`)
	b.want(50013, mod, "PUT", at(alice), fmt.Sprintf(`{"type":1,"allow":"%s"}`, perm.ManageMessages))
	b.want(50013, mod, "PUT", at(alice), fmt.Sprintf(`{"type":1,"deny":"%s"}`, perm.ManageMessages))
	b.want(50013, mod, "PUT", at(mod), fmt.Sprintf(`{"type":1,"allow":"%s"}`, perm.Administrator))
	b.want(10009, mod, "PUT", at(stranger), `{"type":1}`)
	b.want(10009, mod, "PUT", at(alice+100), `{}`)
	b.want(50035, mod, "PUT", at(alice), `{"type":2}`)

	// What the owner denied, who lacks it can neither lift, nor delete, nor drop in a list.
	b.want(204, owner, "PUT", at(crew), fmt.Sprintf(`{"allow":"%s","deny":"%s"}`, perm.ManageRoles, perm.SendMessages))
	b.want(50013, mod, "PUT", at(crew), fmt.Sprintf(`{"allow":"%s"}`, perm.ManageRoles))
	b.want(50013, mod, "DELETE", at(crew), "")
	url := path("/channels/%s", channel)
	b.want(50013, mod, "PATCH", url, `{"permission_overwrites":[]}`)
	b.want(50013, mod, "PATCH", url, fmt.Sprintf(`{"permission_overwrites":[{"id":"%s","type":1,"allow":"%s"}]}`, mod, perm.SendMessages))
	// What a client was given, it may send back, with more of what is its own.
	kept := fmt.Sprintf(`{"id":"%s","type":0,"allow":"%s","deny":"%s"},{"id":"%s","type":1,"allow":"2048"}`, crew, perm.ManageRoles, perm.SendMessages, alice)
	out := get[wire.Channel](b, 200, mod, "PATCH", url, fmt.Sprintf(`{"permission_overwrites":[%s,{"id":"%s","type":1,"deny":"1024"}]}`, kept, bob))
	if len(out.PermissionOverwrites) != 3 {
		t.Errorf("overwrites %+v", out.PermissionOverwrites)
	}
	b.want(50001, bob, "GET", url, "")
	b.want(204, mod, "DELETE", at(bob), "")
	b.want(200, bob, "GET", url, "")
	b.want(10009, mod, "DELETE", at(bob), "")

	// Without MANAGE_ROLES the list is closed, and the rest is open.
	b.role(g.ID, 2, perm.ManageChannels, bob)
	b.want(50013, bob, "PATCH", url, fmt.Sprintf(`{"permission_overwrites":[%s,{"id":"%s","type":1,"deny":"2048"}]}`, kept, bob))
	b.want(200, bob, "PATCH", url, `{"topic":"t"}`)
	b.want(50013, bob, "POST", path("/guilds/%s/channels", g.ID), fmt.Sprintf(`{"name":"a","permission_overwrites":[{"id":"%s","allow":"%s"}]}`, g.ID, perm.Administrator))

	// Saying again what is so changes nothing.
	before := b.version(g.ID)
	b.want(204, mod, "PUT", at(alice), `{"type":1,"allow":"2048"}`)
	if after := b.version(g.ID); after != before {
		t.Errorf("version went from %d to %d", before, after)
	}
}
