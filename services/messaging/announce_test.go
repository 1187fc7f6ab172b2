package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// joins lets the outsider join the guild, whose system channel and flags are set before.
func (b *bundle) joins(version int64, system id.ID, flags int) {
	b.t.Helper()
	b.cold(bus.Entry{Type: wire.ServerUpdated, Guild: guildID, Version: version}, wire.ServerUpdatedPayload{
		Guild: wire.Guild{ID: guildID, Name: "guild", OwnerID: ownerID, SystemChannelID: system, SystemChannelFlags: flags},
	})
	b.cold(bus.Entry{Type: wire.MemberJoined, Guild: guildID, User: outsiderID, Actor: outsiderID, Version: version + 1}, wire.MemberChangedPayload{
		Member: wire.MemberRecord{UserID: outsiderID}, User: wire.User{ID: outsiderID},
	})
}

// announced returns when nothing is left to be said.
func (b *bundle) announced() {
	b.t.Helper()
	b.stored()
	eventually(b.t, func() bool { return b.announcements() == 0 })
}

func (b *bundle) announcements() (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), `SELECT count(*) FROM announcements`).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bundle) messages(user, channel id.ID) (out []wire.Message) {
	b.t.Helper()
	a := b.do(user, "GET", path(channel), nil)
	if err := json.Unmarshal(a.body, &out); err != nil {
		b.t.Fatalf("%v in %s", err, a.body)
	}
	return out
}

func TestAnnounce_AJoinIsSaidInTheSystemChannel(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.joins(2, hiddenID, 0)
	b.announced()
	all := b.messages(ownerID, hiddenID)
	if len(all) != 1 || all[0].Type != wire.MessageUserJoin || all[0].Author.ID != outsiderID || all[0].Content != "" {
		t.Fatalf("got %+v", all)
	}
	m := all[0]
	b.refused("edit", b.do(outsiderID, "PATCH", path(hiddenID, m.ID), `{"content":"x"}`), 403, 50001)
	b.joins(4, generalID, 0)
	b.announced()
	m = b.messages(memberID, generalID)[0]
	b.refused("edit by who has joined", b.do(outsiderID, "PATCH", path(generalID, m.ID), `{"content":"x"}`), 403, 50021)
	b.refused("edit by somebody else", b.do(memberID, "PATCH", path(generalID, m.ID), `{"content":"x"}`), 403, 50005)
	if a := b.do(ownerID, "DELETE", path(generalID, m.ID), nil); a.status != 204 {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
}

func TestAnnounce_NothingIsSaidWhereItIsNotWanted(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.joins(2, generalID, wire.SuppressJoins)
	b.announced() // where it is said is judged when it is said
	b.joins(4, 0, 0)
	b.announced()
	b.joins(6, 4711, 0) // which is not there any more
	b.announced()
	b.joins(8, generalID, 1<<1) // another flag
	b.announced()
	if all := b.messages(memberID, generalID); len(all) != 1 {
		t.Errorf("got %+v", all)
	}
}

// TestAnnounce_IsOnceWhenItIsRepeated: a crash between saying and taking the row away, and an entry that is delivered again.
func TestAnnounce_IsOnceWhenItIsRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.joins(2, generalID, 0)
	pos, err := b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{store: b.svc.store, timeout: b.svc.config.CommitTimeout, lease: b.svc.config.Lease}
	release, err := w.lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	join := []bus.Entry{{Pos: pos, Type: wire.MemberJoined, Guild: guildID, User: outsiderID}}
	if err := errors.Join(w.persist(t.Context(), join), w.persist(t.Context(), join)); err != nil {
		t.Fatal(err)
	}
	if n := b.announcements(); n != 1 {
		t.Fatalf("%d announcements", n)
	}
	crash := errors.New("crashed")
	_, err = b.svc.store.takeAnnouncements(t.Context(), 10, func(ctx context.Context, a announcement) error {
		return errors.Join(b.svc.announce(ctx, a), crash)
	})
	if !errors.Is(err, crash) || b.announcements() != 1 {
		t.Fatalf("got %v, and %d are left", err, b.announcements())
	}
	if err := b.svc.announceAll(t.Context()); err != nil || b.announcements() != 0 {
		t.Errorf("got %v, and %d are left", err, b.announcements())
	}
	if err := errors.Join(w.persist(t.Context(), join), b.svc.announceAll(t.Context())); err != nil {
		t.Error(err)
	}
	release()
	if all := b.messages(memberID, generalID); len(all) != 1 {
		t.Errorf("said %d times", len(all))
	}
}

func TestAnnounce_AGroupIsToldWhoComesAndGoes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs() // the outsider has gone from the group
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.direct(3, wire.DirectChangedPayload{Came: []id.ID{outsiderID}, Direct: wire.Direct{
		ID: groupID, Type: wire.ChannelGroupDM, Recipients: []id.ID{ownerID, memberID, outsiderID}, OwnerID: ownerID,
	}})
	b.direct(2, wire.DirectChangedPayload{Went: []id.ID{ownerID}, Direct: wire.Direct{
		ID: dmID, Type: wire.ChannelDM, Recipients: []id.ID{ownerID, memberID}, Closed: map[id.ID]id.ID{ownerID: 0, memberID: 0},
	}})
	b.announced()
	all := b.messages(outsiderID, groupID)
	if len(all) != 2 || all[0].Type != wire.MessageRecipientAdd || all[1].Type != wire.MessageRecipientRemove {
		t.Fatalf("got %+v", all)
	}
	for _, m := range all {
		if m.Author.ID != ownerID || len(m.Mentions) != 1 || m.Mentions[0].ID != outsiderID {
			t.Errorf("got %+v", m)
		}
		b.refused("delete", b.do(ownerID, "DELETE", path(groupID, m.ID), nil), 403, 50021)
		b.refused("edit", b.do(ownerID, "PATCH", path(groupID, m.ID), `{"content":"x"}`), 403, 50021)
	}
	if to := b.last(groupID).To; !slices.Equal(to, []id.ID{ownerID, memberID, outsiderID}) {
		t.Errorf("told %v", to)
	}
	if all := b.messages(memberID, dmID); len(all) != 0 {
		t.Errorf("closing a DM says %+v", all)
	}
}
