package gateway

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// TestReady_OfAGuildThatIsCopied: of a guild that somebody here watches, only the user's own record is read.
func TestReady_OfAGuildThatIsCopied(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	o, _ := b.identify(owner, wire.IntentsAll)
	b.member(wire.MemberUpdated, alice, moderator)
	o.dispatch("GUILD_MEMBER_UPDATE")
	f := func(channels int, roles ...id.ID) {
		t.Helper()
		_, guilds := b.identify(alice, wire.IntentsAll)
		if len(guilds) != 1 || len(guilds[0].Channels) != channels {
			t.Fatalf("she begins with %+v", guilds)
		}
		me := guilds[0].Members[0]
		if diff := cmp.Diff(wire.List[id.ID](roles), me.Roles, cmpopts.EquateEmpty()); diff != "" || me.User.ID != alice {
			t.Errorf("she is %+v: %s", me, diff)
		}
	}
	b.cold(wire.RoleDeleted, bus.Entry{Guild: guild}, wire.RoleDeletedPayload{RoleID: moderator}) // which is still in her record
	f(1)
	b.cold(wire.RoleCreated, bus.Entry{Guild: guild}, wire.RoleChangedPayload{Role: wire.Role{ID: 302, Name: "admin", Permissions: perm.Administrator}})
	b.member(wire.MemberUpdated, alice, 302)
	f(2, 302)
	b.kick(alice)
	if _, guilds := b.identify(alice, wire.IntentsAll); len(guilds) != 0 {
		t.Errorf("after she was kicked she begins with %+v", guilds)
	}
	b.member(wire.MemberJoined, alice)
	f(1)
}

// BenchmarkReady is a user in 100 guilds, of 10 channels, 5 roles and 20 members each, who comes again and again to a gateway that somebody else
// watches them on: from the dial to the last GUILD_CREATE.
func BenchmarkReady(b *testing.B) {
	const guilds, channels, roles, members = 100, 10, 5, 20
	harness.Unwatched(b)
	w := setup(b, Config{})
	for u := owner; u < owner+members; u++ {
		w.user(u)
	}
	for i := range id.ID(guilds) {
		g := (i + 1) << 22
		p := wire.ServerCreatedPayload{Guild: wire.NewGuild(g, "guild", owner)}
		for c := range id.ID(channels) {
			p.Channels = append(p.Channels, wire.Channel{ID: g + 1 + c, GuildID: g, Name: "channel", PermissionOverwrites: wire.List[wire.Overwrite]{
				{ID: g + 101, Type: perm.OverwriteRole, Deny: perm.SendMessages},
			}})
		}
		for r := range id.ID(roles) {
			p.Roles = append(p.Roles, wire.Role{ID: g + 100 + r, Name: "role"})
		}
		p.Roles[0] = wire.Role{ID: g, Name: "@everyone", Permissions: perm.ViewChannel}
		for u := owner; u < owner+members; u++ {
			p.Members = append(p.Members, wire.MemberRecord{UserID: u, MemberFields: wire.MemberFields{JoinedAt: 1, Roles: wire.List[id.ID]{g + 101}}})
		}
		w.cold(wire.ServerCreated, bus.Entry{Guild: g, Actor: owner}, p)
	}
	w.identify(alice, wire.IntentsAll)
	b.ReportAllocs()
	var took []time.Duration
	read := 0
	for b.Loop() {
		begun := time.Now()
		s := w.dial("/?v=10&encoding=json")
		s.send(wire.OpIdentify, wire.Identify{Token: w.token(owner)})
		for range guilds + 1 {
			_, raw, err := s.ws.ReadMessage()
			if err != nil {
				b.Fatal(err)
			}
			read += len(raw)
		}
		took = append(took, time.Since(begun))
		b.StopTimer()
		w.leave(s, 1000)
		b.StartTimer()
	}
	reportTimes(b, "READY", took, read)
}

// reportTimes says how long each took, and how many bytes were read.
func reportTimes(b *testing.B, what string, took []time.Duration, read int) {
	b.Helper()
	slices.Sort(took)
	quantile := func(q float64) float64 { return took[int(q*float64(len(took)-1))].Seconds() * 1e3 }
	b.ReportMetric(quantile(0.5), "p50-ms/"+what)
	b.ReportMetric(quantile(0.99), "p99-ms/"+what)
	b.ReportMetric(float64(read)/float64(len(took))/1024, "KB/"+what)
}
