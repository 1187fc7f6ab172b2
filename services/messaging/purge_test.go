package messaging

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// says puts a message into the log, however many there are already.
func (b *bundle) says(author, channel id.ID, content string) id.ID {
	b.t.Helper()
	message, err := encode(wire.MessageBody{ChannelID: channel, Content: content})
	if err != nil {
		b.t.Fatal(err)
	}
	payload, err := encode(wire.MessageSentPayload{Message: message, Author: roster.UserJSON(wire.User{ID: author})})
	if err != nil {
		b.t.Fatal(err)
	}
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Actor: author, Guild: guildID, Channel: channel, Body: payload}})
	if err != nil {
		b.t.Fatal(err)
	}
	return bus.MessageID(got.Pos)
}

// ban ends the member's membership, with what they wrote from an id on.
func (b *bundle) ban(since id.ID) bus.Position {
	b.t.Helper()
	return b.cold(bus.Entry{Type: wire.MemberRemoved, Guild: guildID, User: memberID, Actor: ownerID, Version: 2}, wire.MemberRemovedPayload{
		User: wire.User{ID: memberID}, Cause: wire.CauseBanned, PurgeSince: since})
}

// left is how many purges are still to be done.
func (b *bundle) left() (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM message_purges").Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// TestPurge_DeletesWhatTheBannedWrote: in all channels, from the moment on that was said and up to the ban, by bulk deletes of a hundred.
func TestPurge_DeletesWhatTheBannedWrote(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	old := b.says(memberID, generalID, "too old")
	others := b.says(ownerID, generalID, "of somebody else")
	var want []id.ID
	for i := range 230 {
		want = append(want, b.says(memberID, generalID, fmt.Sprint(i)))
		if i%50 == 0 {
			b.says(ownerID, generalID, "between")
		}
	}
	hidden := b.says(memberID, hiddenID, "where few see it")
	b.done(ownerID, "PUT", pinPath(want[3]))
	b.react(ownerID, want[3], fox)
	gone := want[7]
	if a := b.do(ownerID, "DELETE", path(generalID, gone), nil); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	b.ban(want[0])
	later := b.says(memberID, generalID, "let in again")
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	eventually(t, func() bool { return b.left() == 0 })
	b.stored()
	if n := b.rows("author_id = $1", int64(memberID)); n != 2 {
		t.Errorf("%d messages of the banned are left", n)
	}
	if n := b.rows("author_id = $1", int64(ownerID)); n != 7 { // with that something was pinned
		t.Errorf("%d messages of others are left", n)
	}
	sets := b.client.B().Exists().Key(pinSet(generalID), reactionSet(want[3])).Build()
	if n, err := b.client.Do(t.Context(), sets).AsInt64(); n != 0 || err != nil {
		t.Errorf("%d sets still have what was deleted, %v", n, err)
	}
	if n := b.rows("id = ANY ($1)", []int64{int64(old), int64(others), int64(later)}); n != 3 {
		t.Errorf("%d of those that should stay have stayed", n)
	}
	seen := map[id.ID]int{}
	for _, order := range b.orders() {
		if len(order) > wire.BulkDeleteMax {
			t.Errorf("%d messages were deleted at once", len(order))
		}
		for _, m := range order {
			seen[m]++
		}
	}
	for _, m := range append(want, hidden) {
		if seen[m] != 1 {
			t.Errorf("%s was deleted %d times", m, seen[m])
		}
	}
	if len(seen) != len(want)+1 {
		t.Errorf("%d messages were deleted", len(seen))
	}
}

// TestPurge_GoesOnAfterACrash in the middle: the first hundred are deleted, the rest not, and nobody remembers but the table.
func TestPurge_GoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var all []id.ID
	for i := range 150 {
		all = append(all, b.says(memberID, generalID, fmt.Sprint(i)))
	}
	at := b.ban(all[0])
	last, err := b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := b.log.ReadBack(t.Context(), bus.Position{}, last, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var oldestFirst []bus.Entry
	for i := range entries {
		oldestFirst = append(oldestFirst, entries[len(entries)-1-i])
	}
	b.persisted(oldestFirst...)
	b.persisted(oldestFirst...) // as after a crash before the acknowledgement
	if n := b.left(); n != 1 {
		t.Fatalf("%d purges are written down", n)
	}
	p := purge{guild: guildID, author: memberID, since: all[0], until: bus.MessageID(at), actor: ownerID}
	if err := b.svc.purgeMessages(t.Context(), p, generalID, all[:100]); err != nil {
		t.Fatal(err)
	}
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return b.left() == 0 })
	b.stored()
	if n := b.rows("true"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	if diff := cmp.Diff([][]id.ID{all[:100], all[100:]}, b.orders()); diff != "" {
		t.Error(diff)
	}
}

// persisted stores entries as the writer does, who then is killed.
func (b *bundle) persisted(entries ...bus.Entry) {
	b.t.Helper()
	release, err := b.svc.writer.lead(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer release()
	if err := b.svc.writer.persist(b.t.Context(), entries); err != nil {
		b.t.Fatal(err)
	}
}

// TestPurge_ClearsDeletedChannels and guilds: rows that nobody sees any more go, without a word in the log.
func TestPurge_ClearsDeletedChannels(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *bundle){
		"a channel": func(b *bundle) {
			b.cold(bus.Entry{Type: wire.ChannelDeleted, Guild: guildID, Channel: generalID, Version: 2}, wire.ChannelDeletedPayload{ChannelID: generalID})
		},
		"a guild": func(b *bundle) {
			b.cold(bus.Entry{Type: wire.ServerDeleted, Guild: guildID, Version: 2}, wire.ServerDeletedPayload{GuildID: guildID, Channels: []id.ID{generalID, categoryID}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{})
			for i := range 5 {
				b.says(memberID, generalID, fmt.Sprint(i))
			}
			named := b.post(wire.CreateMessage{Content: "<@" + ownerID.String() + ">"}).ID
			b.react(ownerID, named, fox)
			b.unreact(ownerID, named, fox)
			b.done(ownerID, "PUT", pinPath(named))
			b.ack(ownerID, generalID, named, nil)
			b.says(memberID, hiddenID, "stays, as it was not named")
			if err := b.svc.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.logged()
			b.stored()
			end(b)
			b.stored()
			eventually(t, func() bool { return b.left() == 0 })
			if n := b.rows("channel_id = $1", int64(generalID)); n != 0 {
				t.Errorf("%d rows of the channel are left", n)
			}
			if n := b.rows("channel_id = $1", int64(hiddenID)); n != 1 {
				t.Errorf("%d rows of the other channel are left", n)
			}
			for table, of := range map[string]id.ID{
				"message_reactions WHERE message_id": named, "mentions WHERE message_id": named, "message_pins WHERE channel_id": generalID,
				"read_states WHERE channel_id": generalID, "channel_heads WHERE channel_id": generalID,
			} {
				if n := b.count("SELECT count(*) FROM "+table+" = $1", int64(of)); n != 0 {
					t.Errorf("%d are left of %s %s", n, table, of)
				}
			}
			if orders := b.orders(); orders != nil {
				t.Errorf("deletes are in the log: %v", orders)
			}
		})
	}
}

// TestStore_DeletesRowsInBatches and looks through rows in pages.
func TestStore_DeletesRowsInBatches(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var all []id.ID
	for i := range 5 {
		all = append(all, b.says([]id.ID{memberID, ownerID}[i%2], generalID, fmt.Sprint(i)))
	}
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	messages, next, err := b.svc.store.authored(t.Context(), generalID, memberID, all[0], all[4]+1, 3)
	if diff := cmp.Diff([]id.ID{all[0], all[2]}, messages); diff != "" || next != all[2]+1 || err != nil {
		t.Errorf("%s, next %s, %v", diff, next, err)
	}
	messages, next, err = b.svc.store.authored(t.Context(), generalID, memberID, next, all[4]+1, 3)
	if diff := cmp.Diff([]id.ID{all[4]}, messages); diff != "" || next != all[4]+1 || err != nil {
		t.Errorf("%s, next %s, %v", diff, next, err)
	}
	for _, want := range []int64{3, 2, 0} {
		if n, err := b.svc.store.deleteRows(t.Context(), generalID, 3); n != want || err != nil {
			t.Errorf("%d rows went, want %d, %v", n, want, err)
		}
	}
}
