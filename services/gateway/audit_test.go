package gateway

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// ban brings a ban into the log, with its note.
func (b *bundle) ban(user, note id.ID) {
	b.t.Helper()
	body, err := wire.WithAudit(encode(wire.BanChangedPayload{User: person(user)}), []wire.AuditNote{
		{ID: note, Action: wire.AuditBanAdd, Actor: owner, Target: user, Reason: "loud"}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.cold(wire.BanAdded, bus.Entry{Guild: guild, User: user, Actor: owner}, json.RawMessage(body))
}

// note reads GUILD_AUDIT_LOG_ENTRY_CREATE and checks whose it is.
func (s *socket) note(want id.ID) {
	s.t.Helper()
	var n wire.AuditEntryCreate
	s.dispatch("GUILD_AUDIT_LOG_ENTRY_CREATE").into(s.t, &n)
	if n.ID != want || n.GuildID != guild || n.Actor != owner || n.Reason != "loud" {
		s.t.Fatalf("got %+v, want %s", n, want)
	}
}

// TestGateway_TellsTheAuditLogToWhoMaySeeIt, from the change of a role on that lets them, and again after a RESUME.
func TestGateway_TellsTheAuditLogToWhoMaySeeIt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	b.member(wire.MemberUpdated, alice, moderator)
	o, _ := b.identify(owner, wire.IntentGuilds|wire.IntentGuildModeration)
	a, _ := b.identify(alice, wire.IntentGuilds|wire.IntentGuildModeration)
	deaf, _ := b.identify(owner, wire.IntentGuilds)
	role := func(bits perm.Bits) {
		t.Helper()
		b.cold(wire.RoleUpdated, bus.Entry{Guild: guild}, wire.RoleChangedPayload{Role: wire.Role{ID: moderator, Name: "moderator", Position: 1, Permissions: bits}})
		for _, s := range []*socket{o, a, deaf} {
			s.dispatch("GUILD_ROLE_UPDATE")
		}
	}
	b.ban(901, 1)
	for _, s := range []*socket{o, a} {
		s.dispatch("GUILD_BAN_ADD")
	}
	o.note(1)
	role(perm.ViewAuditLog)
	was := a.seq
	b.ban(902, 2)
	for _, s := range []*socket{o, a} {
		s.dispatch("GUILD_BAN_ADD")
		s.note(2)
	}
	b.flush()
	b.cut(a)
	a = b.resume(alice, a, was)
	a.dispatch("GUILD_BAN_ADD")
	a.note(2)
	a.dispatch("RESUMED")
	role(0)
	b.ban(903, 3)
	for _, s := range []*socket{o, a} {
		s.dispatch("GUILD_BAN_ADD")
	}
	o.note(3)
	role(perm.ViewAuditLog) // which is the next that alice is told
}

// TestGateway_TellsNoAuditLogToWhoIsTimedOut, on an open socket and on one that is resumed; what is written when that is over is told again,
// without a word in between.
func TestGateway_TellsNoAuditLogToWhoIsTimedOut(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	b.cold(wire.RoleUpdated, bus.Entry{Guild: guild}, wire.RoleChangedPayload{
		Role: wire.Role{ID: moderator, Name: "moderator", Position: 1, Permissions: perm.ViewAuditLog}})
	timeOut := func(until time.Time) {
		t.Helper()
		b.cold(wire.MemberUpdated, bus.Entry{Guild: guild, User: alice}, wire.MemberChangedPayload{
			Member: wire.MemberRecord{UserID: alice, MemberFields: wire.MemberFields{
				JoinedAt: 1, Roles: wire.List[id.ID]{moderator}, CommunicationDisabledUntil: wire.At(until),
			}}, User: person(alice),
		})
	}
	timeOut(time.Now().Add(-time.Hour))
	a, _ := b.identify(alice, wire.IntentGuilds|wire.IntentGuildModeration)
	b.ban(901, 1)
	a.dispatch("GUILD_BAN_ADD")
	a.note(1)
	was := a.seq
	timeOut(time.Now().Add(time.Hour))
	a.dispatch("GUILD_MEMBER_UPDATE")
	b.ban(902, 2)
	a.dispatch("GUILD_BAN_ADD")
	b.flush()
	b.cut(a)
	a = b.resume(alice, a, was)
	a.dispatch("GUILD_MEMBER_UPDATE")
	a.dispatch("GUILD_BAN_ADD")
	a.dispatch("RESUMED")
	b.ban(903, 3)
	a.dispatch("GUILD_BAN_ADD")
	timeOut(time.Now().Add(-time.Hour))
	a.dispatch("GUILD_MEMBER_UPDATE")
	b.ban(904, 4)
	a.dispatch("GUILD_BAN_ADD")
	a.note(4)
}
