package messaging

import (
	"strconv"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// press makes what Redis uses now that share of what it may use.
func (b *bundle) press(share float64) {
	b.t.Helper()
	info, err := b.admin.Do(b.t.Context(), b.admin.B().Info().Section("memory").Build()).ToString()
	if err != nil {
		b.t.Fatal(err)
	}
	_, used, _ := strings.Cut(info, "used_memory:")
	used, _, _ = strings.Cut(used, "\r\n")
	n, err := strconv.ParseFloat(used, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	most := strconv.FormatInt(int64(n/share), 10)
	if err := b.admin.Do(b.t.Context(), b.admin.B().ConfigSet().ParameterValue().ParameterValue("maxmemory", most).Build()).Error(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.log.Measure(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// TestPressure_RefusesBigGuildsFirst: who posts where many are is told to wait before others are, and reading goes on throughout.
func TestPressure_RefusesBigGuildsFirst(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const bigID, crowdedID id.ID = 5000, 5001
	members := wire.List[wire.MemberRecord]{{UserID: memberID}}
	for i := range bigGuild - 1 {
		members = append(members, wire.MemberRecord{UserID: id.ID(6000 + i)})
	}
	b.cold(bus.Entry{Type: wire.ServerCreated, Guild: bigID, Version: 1}, wire.ServerCreatedPayload{
		Guild:    wire.Guild{ID: bigID, Name: "big", OwnerID: memberID},
		Channels: []wire.Channel{{ID: crowdedID, GuildID: bigID, Name: "crowded"}},
		Roles:    []wire.Role{{ID: bigID, Name: "@everyone", Permissions: perm.DefaultEveryone}},
		Members:  members,
	})
	first := b.post(wire.CreateMessage{Content: "first"})
	crowded := b.message(b.do(memberID, "POST", path(crowdedID), wire.CreateMessage{Content: "first"}))
	f := func(what string, a answer, status int, code fault.Code) {
		t.Helper()
		b.refused(what, a, status, int(code))
		if a.retryAfter == "" {
			t.Errorf("%s: no Retry-After", what)
		}
	}
	b.press(0.78)
	f("a post in a big guild", b.do(memberID, "POST", path(crowdedID), wire.CreateMessage{Content: "no"}), 429, fault.ChannelWrite)
	b.post(wire.CreateMessage{Content: "second"})
	b.message(b.do(memberID, "PATCH", path(crowdedID, crowded.ID), wire.EditMessage{Content: wire.Some("edited")}))
	b.press(0.90)
	f("a post", b.do(memberID, "POST", path(generalID), wire.CreateMessage{Content: "no"}), 503, fault.General)
	f("an edit", b.do(memberID, "PATCH", path(generalID, first.ID), wire.EditMessage{Content: wire.Some("no")}), 503, fault.General)
	f("a delete", b.do(memberID, "DELETE", path(generalID, first.ID), nil), 503, fault.General)
	if got := b.history(""); len(got) != 2 || got[1] != "first" {
		t.Errorf("the history: %v", got)
	}
	b.press(0.30)
	b.message(b.do(memberID, "POST", path(crowdedID), wire.CreateMessage{Content: "yes"}))
}
