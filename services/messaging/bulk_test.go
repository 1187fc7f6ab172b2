package messaging

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

func (b *bundle) bulkDelete(user id.ID, messages ...id.ID) answer {
	b.t.Helper()
	return b.do(user, "POST", path(generalID)+"/bulk-delete", wire.BulkDelete{Messages: messages})
}

// cleared is bulkDelete by who may.
func (b *bundle) cleared(messages ...id.ID) {
	b.t.Helper()
	if a := b.bulkDelete(ownerID, messages...); a.status != http.StatusNoContent || len(a.body) != 0 {
		b.t.Fatalf("bulk delete: %d %s", a.status, a.body)
	}
}

// orders is what each delete in the log is about, in order.
func (b *bundle) orders() (orders [][]id.ID) {
	b.t.Helper()
	last, err := b.log.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	entries, _, err := b.log.ReadBack(b.t.Context(), bus.Position{}, last, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		if e.Type == wire.MessageDeleted {
			orders = append(orders, changed(e))
		}
	}
	return orders
}

func TestBulkDelete_TakesAwayWhatThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var all []id.ID
	for _, text := range []string{"0", "1", "2", "3", "4", "5"} {
		all = append(all, b.post(wire.CreateMessage{Content: text}).ID)
	}
	elsewhere := b.message(b.do(ownerID, "POST", path(hiddenID), wire.CreateMessage{Content: "hidden"})).ID
	unknown := elsewhere + 1
	check := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, b.history("")); diff != "" {
			t.Errorf("history %s: %s", when, diff)
		}
	}

	b.cleared(all[1], all[0], all[1], elsewhere, unknown)
	check("before anything is stored", "5", "4", "3", "2")
	b.cleared(all[0], all[1], unknown) // nothing is left to delete
	if diff := cmp.Diff([][]id.ID{{all[0], all[1]}}, b.orders()); diff != "" {
		t.Errorf("deletes in the log: %s", diff)
	}
	b.refused("edit", b.do(memberID, "PATCH", path(generalID, all[0]), `{"content":"x"}`), 404, 10008)
	b.message(b.do(ownerID, "PATCH", path(hiddenID, elsewhere), `{"content":"still here"}`))

	b.start()
	b.settled()
	check("of rows", "good", "5", "4", "3", "2")
	newer := b.post(wire.CreateMessage{Content: "6"}).ID
	b.cleared(newer, all[2], elsewhere, all[3])
	check("of rows and what is newer", "good", "5", "4")
	b.settled()
	check("at the end", "good", "good", "5", "4")
	if n := b.rows("channel_id = $1", int64(generalID)); n != 4 {
		t.Errorf("%d rows", n)
	}
	if n := b.count("SELECT count(*) FROM message_tombstones"); n != 5 {
		t.Errorf("%d tombstones", n)
	}
	if diff := cmp.Diff([][]id.ID{{all[0], all[1]}, {all[2], all[3], newer}}, b.orders()); diff != "" {
		t.Errorf("deletes in the log: %s", diff)
	}
}

func TestBulkDelete_IsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	one, two := b.post(wire.CreateMessage{Content: "1"}).ID, b.post(wire.CreateMessage{Content: "2"}).ID
	at := path(generalID) + "/bulk-delete"
	old := id.FromEntry(uint64(time.Now().Add(-bulkDeleteAge-time.Minute).UnixMilli()), 0, 0)
	young := id.FromEntry(uint64(time.Now().Add(-bulkDeleteAge+time.Hour).UnixMilli()), 0, 0)

	b.refused("by a member, of their own", b.bulkDelete(memberID, one, two), 403, 50013)
	b.refused("by an outsider", b.bulkDelete(outsiderID, one, two), 403, 50001)
	b.refused("in no channel", b.do(ownerID, "POST", path(77)+"/bulk-delete", wire.BulkDelete{Messages: []id.ID{one, two}}), 404, 10003)
	b.refused("too old", b.bulkDelete(ownerID, one, old, two), 400, 50034)
	b.refused("none", b.do(ownerID, "POST", at, `{"messages":[]}`), 400, 50016)
	b.refused("one", b.bulkDelete(ownerID, one), 400, 50016)
	b.refused("too many", b.bulkDelete(ownerID, slices.Repeat([]id.ID{one}, 101)...), 400, 50016)
	b.refused("no list", b.do(ownerID, "POST", at, `{}`), 400, 50035)
	a := b.do(ownerID, "POST", at, `{"messages":["x","`+one.String()+`",true,null]}`)
	b.refused("no ids", a, 400, 50035)
	for _, index := range []string{`"0":`, `"2":`} {
		if !strings.Contains(string(a.body), index) {
			t.Errorf("no mistake told at %s %s", index, a.body)
		}
	}
	if diff := cmp.Diff([]string{"2", "1"}, b.history("")); diff != "" || len(b.orders()) != 0 {
		t.Errorf("history after refusals: %s", diff)
	}
	b.cleared(young, one)
	b.cleared(append(slices.Repeat([]id.ID{young}, 99), two)...)
	if diff := cmp.Diff([][]id.ID{{one}, {two}}, b.orders()); diff != "" {
		t.Errorf("deletes in the log: %s", diff)
	}
}

// Every message is deleted by one entry, whoever else deletes it at the same time.
func TestBulkDelete_DeletesEachMessageOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var all []id.ID
	for range 12 {
		all = append(all, b.post(wire.CreateMessage{Content: "x"}).ID)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if a := b.bulkDelete(ownerID, all[3*i:]...); a.status != http.StatusNoContent {
				t.Errorf("bulk delete: %d %s", a.status, a.body)
			}
		})
		wg.Go(func() { b.do(memberID, "DELETE", path(generalID, all[4*i]), nil) })
	}
	wg.Wait()
	deleted := slices.Concat(b.orders()...)
	slices.Sort(deleted)
	if diff := cmp.Diff(all, slices.Compact(slices.Clone(deleted))); diff != "" || len(deleted) != len(all) {
		t.Errorf("deleted: %v, of %v", deleted, all)
	}
	if got := b.history(""); len(got) != 0 {
		t.Errorf("history: %v", got)
	}
}

// An order that is also about a message whose create is a dead letter waits for that whole, and is seen all the same.
func TestBulkDelete_WaitsForADeadCreate(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	healthy, first := b.post(wire.CreateMessage{Content: "healthy"}).ID, b.post(wire.CreateMessage{Content: "poison 1"}).ID
	second := b.post(wire.CreateMessage{Content: "poison 2"}).ID
	b.settled()
	b.cleared(healthy, first, second)
	b.settled()
	check := func(when string, letters, rows int) {
		t.Helper()
		if diff := cmp.Diff([]string{"good", "good"}, b.history("")); diff != "" {
			t.Errorf("history %s: %s", when, diff)
		}
		if got := len(b.letters()); got != letters {
			t.Errorf("%d letters %s, want %d", got, when, letters)
		}
		if got := b.rows("true"); got != rows {
			t.Errorf("%d rows %s, want %d", got, when, rows)
		}
		b.refused(when, b.do(memberID, "GET", path(generalID, healthy), nil), 404, 10008)
		b.refused(when, b.do(memberID, "GET", path(generalID, second), nil), 404, 10008)
	}
	check("while it waits", 3, 3)
	b.mend()
	b.replay(bus.PositionOf(first))
	check("after the replay", 0, 2)
	if n := b.count("SELECT count(*) FROM message_tombstones"); n != 3 {
		t.Errorf("%d tombstones", n)
	}
}

// TestDelete_TellsTheAuditLogOfModerators: the entry has who deleted whose message and why; of one's own there is nothing to tell.
func TestDelete_TellsTheAuditLogOfModerators(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var ids []id.ID
	for range 5 {
		ids = append(ids, b.post(wire.CreateMessage{Content: "x"}).ID)
	}
	b.do(memberID, "DELETE", path(generalID, ids[0]), nil)
	b.do(ownerID, "DELETE", path(generalID, ids[1]), nil)
	b.cleared(ids[2], ids[3], ids[0])
	last, err := b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := b.log.ReadBack(t.Context(), bus.Position{}, last, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]wire.AuditNote{
		{{ID: 9, Action: wire.AuditMessageBulkDelete, Actor: ownerID, Target: generalID, Options: map[string]string{"count": "2"}}},
		{{ID: 9, Action: wire.AuditMessageDelete, Actor: ownerID, Target: memberID, Options: map[string]string{"count": "1", "channel_id": generalID.String()}}},
		nil,
	} {
		got, err := wire.AuditOf(entries[i].Body, 9)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %s, %v", entries[i].Type, diff, err)
		}
	}
}

// TestEdit_IsNotForWhoIsTimedOut: everything else that they might do asks for a permission.
func TestEdit_IsNotForWhoIsTimedOut(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "x"})
	b.cold(bus.Entry{Type: wire.MemberUpdated, Guild: guildID, User: memberID, Version: 2}, wire.MemberChangedPayload{
		Member: wire.MemberRecord{UserID: memberID, MemberFields: wire.MemberFields{CommunicationDisabledUntil: wire.At(time.Now().Add(time.Hour))}}})
	b.refused("post", b.do(memberID, "POST", path(generalID), wire.CreateMessage{Content: "y"}), 403, 50013)
	b.refused("edit", b.do(memberID, "PATCH", path(generalID, m.ID), `{"content":"y"}`), 403, 50013)
	b.refused("typing", b.do(memberID, "POST", "/channels/"+generalID.String()+"/typing", nil), 403, 50013)
	if got := b.history(""); len(got) != 1 {
		t.Errorf("the history has %v", got)
	}
}
