package messaging

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/wire"
)

func ackPath(channel, message id.ID) string { return path(channel, message) + "/ack" }

// own is what READY would tell a user now.
func (b *bundle) own(user id.ID) reads.Own {
	b.t.Helper()
	last, err := b.log.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return b.ownAt(user, last)
}

func (b *bundle) ownAt(user id.ID, at bus.Position) reads.Own {
	b.t.Helper()
	ctx := b.t.Context()
	if err := b.tail.WaitFor(ctx, at); err != nil {
		b.t.Fatal(err)
	}
	state, err := b.roster.LookGuild(ctx, guildID, user)
	if err != nil {
		b.t.Fatal(err)
	}
	m := state.Members[user]
	if m == nil {
		b.t.Fatalf("%s is no member", user)
	}
	own, err := b.reads.Own(ctx, user, []reads.Guild{{ID: guildID, Joined: m.JoinedAt, Roles: m.Roles}}, func(channel id.ID) bool {
		return state.Guild.Permissions(m, channel).Has(perm.ViewChannel)
	}, at)
	if err != nil {
		b.t.Fatal(err)
	}
	return own
}

// entry is the read state of a channel, without its id.
func (b *bundle) entry(user, channel id.ID) (last id.ID, mentions int) {
	b.t.Helper()
	own := b.own(user)
	if own.States.Partial {
		b.t.Error("the read states are partial")
	}
	for _, e := range own.States.Entries {
		if e.ID == channel {
			return e.LastMessageID, e.MentionCount
		}
	}
	return 0, 0
}

// logged waits until what the acker has taken is in the log.
func (b *bundle) logged() {
	b.t.Helper()
	eventually(b.t, func() bool {
		b.svc.acks.mu.Lock()
		defer b.svc.acks.mu.Unlock()
		return len(b.svc.acks.waiting) == 0 && b.svc.acks.written.IsZero()
	})
}

func (b *bundle) ack(user, channel, message id.ID, body any) {
	b.t.Helper()
	if a := b.do(user, "POST", ackPath(channel, message), body); a.status != http.StatusOK || string(a.body) != `{"token":null}` {
		b.t.Fatalf("ack: %d %s", a.status, a.body)
	}
}

func TestAck_GoesForwardAndBackOnlyByHand(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	first, second := b.post(map[string]any{"content": "1"}), b.post(map[string]any{"content": "2"})
	want := func(what string, message id.ID) {
		t.Helper()
		b.logged()
		if got, _ := b.entry(memberID, generalID); got != message {
			t.Errorf("%s: read up to %s, want %s", what, got, message)
		}
		b.stored()
		if got, _ := b.entry(memberID, generalID); got != message {
			t.Errorf("%s, stored: read up to %s, want %s", what, got, message)
		}
	}
	want("nothing", 0)
	b.ack(memberID, generalID, second.ID, map[string]any{"token": "x", "mention_count": nil})
	want("an ack", second.ID)
	b.ack(memberID, generalID, first.ID, map[string]any{})
	want("an ack of what was read long ago", second.ID)
	b.ack(memberID, generalID, first.ID, map[string]any{"manual": true, "mention_count": 3})
	want("a manual ack", first.ID)
	b.ack(memberID, generalID, second.ID, nil)
	want("an ack after it", second.ID)
	for _, entry := range b.ackEntriesOf() {
		for _, ack := range entry {
			if (ack.GuildID == guildID) == ack.Manual {
				t.Errorf("is it told of %+v?", ack)
			}
		}
	}
	if _, states := b.own(ownerID), b.own(ownerID).States.Entries; len(states) != 0 {
		t.Errorf("the owner has read nothing, and has %v", states)
	}
}

func TestAck_IsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(map[string]any{"content": "x"})
	ack := func(user, channel, message id.ID) answer {
		return b.do(user, "POST", ackPath(channel, message), map[string]any{})
	}
	b.refused("a bot", ack(botID, generalID, m.ID), 403, 20001)
	b.refused("a stranger", ack(outsiderID, generalID, m.ID), 403, 50001)
	b.refused("a hidden channel", ack(memberID, hiddenID, m.ID), 403, 50001)
	b.refused("no channel", ack(memberID, 77, m.ID), 404, 10003)
	b.refused("a category", ack(memberID, categoryID, m.ID), 400, 50008)
	b.refused("a message that nobody has sent yet", ack(memberID, generalID, id.FromEntry(uint64(time.Now().Add(time.Hour).UnixMilli()), 0, 0)), 404, 10008)
	b.refused("an id that is none", ack(memberID, generalID, 1<<63), 404, 10008)
	b.refused("a count that is none", b.do(memberID, "POST", ackPath(generalID, m.ID), map[string]any{"mention_count": -1}), 400, 50035)

	bulk := func(user id.ID, states ...map[string]any) answer {
		return b.do(user, "POST", "/read-states/ack-bulk", map[string]any{"read_states": states})
	}
	good := map[string]any{"channel_id": generalID, "message_id": m.ID}
	b.refused("a bot's bulk", bulk(botID, good), 403, 20001)
	b.refused("an empty bulk", bulk(memberID), 400, 50035)
	b.refused("a bulk that is too long", bulk(memberID, slices.Repeat([]map[string]any{good}, 101)...), 400, 50035)
	b.refused("a bulk with a hidden channel", bulk(memberID, good, map[string]any{"channel_id": hiddenID, "message_id": m.ID}), 403, 50001)
	a := bulk(memberID, map[string]any{"channel_id": generalID}, good, map[string]any{"message_id": m.ID})
	b.refused("a bulk with two mistakes", a, 400, 50035)
	for _, field := range []string{`"0":{"message_id"`, `"2":{"channel_id"`} {
		if !strings.Contains(string(a.body), field) {
			t.Errorf("the mistake %s is missing in %s", field, a.body)
		}
	}
	if n := len(b.svc.acks.waiting); n != 0 {
		t.Errorf("%d acks wait, of which each was refused", n)
	}
	if a := bulk(memberID, good, good); a.status != http.StatusNoContent || len(b.svc.acks.waiting) != 1 {
		t.Errorf("a good bulk: %d %s, and %d wait", a.status, a.body, len(b.svc.acks.waiting))
	}
}

// ackEntriesOf are the entries of acks that are in the log.
func (b *bundle) ackEntriesOf() (acks [][]wire.Ack) {
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
		if e.Type == wire.MessagesRead {
			of, err := acksOf(e)
			if err != nil {
				b.t.Fatal(err)
			}
			acks = append(acks, of)
		}
	}
	return acks
}

func TestAcks_OfManyAreFewEntriesAndAStopWritesThem(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	var acks []wire.Ack
	for i := range id.ID(2*entryAcksMax + 1) {
		acks = append(acks, wire.Ack{UserID: i, ChannelID: generalID, MessageID: 5}, wire.Ack{UserID: i, ChannelID: generalID, MessageID: 4})
	}
	if err := b.svc.acks.put(acks...); err != nil {
		t.Fatal(err)
	}
	b.svc.Stop()
	var sizes []int
	for _, entry := range b.ackEntriesOf() {
		sizes = append(sizes, len(entry))
	}
	if diff := gocmp.Diff([]int{entryAcksMax, entryAcksMax, 1}, sizes); diff != "" {
		t.Errorf("acks per entry (-want +got):\n%s", diff)
	}
}

func TestAcks_ThatChangeNothingAreNotWritten(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	for range 3 {
		if err := b.svc.acks.put(wire.Ack{UserID: memberID, ChannelID: generalID, MessageID: 5}); err != nil {
			t.Fatal(err)
		}
		b.logged()
		if last, err := b.log.Last(t.Context()); err != nil || b.tail.WaitFor(t.Context(), last) != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.ackEntriesOf()); n != 1 {
		t.Errorf("%d entries, want one", n)
	}
}

func TestAcks_AreRefusedWhileOthersWaitTooLong(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := newAcker(nil)
	a.now = func() time.Time { return now }
	put := func(user id.ID) error { return a.put(wire.Ack{UserID: user, ChannelID: 1, MessageID: 1}) }
	if err := put(1); err != nil {
		t.Fatal(err)
	}
	now = now.Add(acksLate)
	if err := put(2); err != nil {
		t.Errorf("nothing waits too long yet: %v", err)
	}
	now = now.Add(time.Millisecond)
	if err := put(3); err == nil {
		t.Error("an ack was taken that cannot be in the log in time")
	}
	clear(a.waiting)
	for i := range id.ID(acksMax) {
		if err := put(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(acksMax); err == nil {
		t.Error("an ack was taken beyond the bound")
	}
}

// TestAcks_KnowNothingOfWhoMarkedAsUnread until the tail has brought that: whatever was read before does not make the next ack idle, and neither
// does an older ack that the tail brings late.
func TestAcks_KnowNothingOfWhoMarkedAsUnread(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := newAcker(b.log)
	read := func(message id.ID, isManual bool) wire.Ack {
		return wire.Ack{UserID: memberID, ChannelID: generalID, MessageID: message, Manual: isManual}
	}
	put := func(ack wire.Ack) {
		t.Helper()
		if err := a.put(ack); err != nil {
			t.Fatal(err)
		}
	}
	flush := func() (at bus.Position) {
		t.Helper()
		if err := a.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		at, err := b.log.Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	bring := func(at bus.Position, ack wire.Ack) {
		t.Helper()
		body, err := encode(wire.MessageReadPayload{Acks: []wire.Ack{ack}})
		if err != nil {
			t.Fatal(err)
		}
		a.apply([]bus.Entry{{Pos: at, Type: wire.MessagesRead, Body: body}})
	}
	waits := func(what string, want bool) {
		t.Helper()
		if _, waits := a.waiting[reader{memberID, generalID}]; waits != want {
			t.Errorf("%s: the ack waits: %v", what, waits)
		}
	}
	put(read(10, false))
	first := flush()
	put(read(5, true))
	bring(first, read(10, false))
	second := flush()
	put(read(8, false))
	waits("in front of what the tail has brought", true)
	third := flush()
	bring(second, read(5, true))
	bring(third, read(8, false))
	put(read(8, false))
	waits("when the tail has brought all", false)
	if n := len(a.reset); n != 0 {
		t.Errorf("%d are remembered for nothing", n)
	}
	put(read(3, true))
	a.apply([]bus.Entry{{Pos: third, Type: wire.UserDeleted, User: memberID}})
	if n := len(a.reset); n != 0 {
		t.Errorf("%d are remembered of a user who is gone", n)
	}
}

// An ack that was not in the log yet is lost with its process, and one that was is not. Devices see what all of them together have read.
func TestAck_AgreesWithAModel(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Batch: 3}) // so that rows are written over often
	b.start()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	base := b.post(map[string]any{"content": "x"}).ID
	type key struct{ user, channel id.ID }
	model := map[key]id.ID{}
	users, channels := []id.ID{ownerID, memberID}, []id.ID{generalID, generalID + 1000, generalID + 2000}
	all := func(id.ID) bool { return true }
	rows := reads.New(b.pool, bus.NewTail(b.log, b.log.Last)) // knows nothing of the log
	check := func(when string, from *reads.Reads) {
		t.Helper()
		got := map[key]id.ID{}
		last, err := b.log.Last(t.Context())
		if err != nil || b.tail.WaitFor(t.Context(), last) != nil {
			t.Fatal(err)
		}
		for _, user := range users {
			own, err := from.Own(t.Context(), user, nil, all, last)
			if err != nil || own.States.Partial {
				t.Fatalf("%s: partial %v: %v", when, own.States.Partial, err)
			}
			for _, e := range own.States.Entries {
				got[key{user, e.ID}] = e.LastMessageID
			}
		}
		if diff := gocmp.Diff(model, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	for range 400 {
		k := key{users[r.IntN(len(users))], channels[r.IntN(len(channels))]}
		ack := wire.Ack{UserID: k.user, ChannelID: k.channel, MessageID: base - 1000 + id.ID(r.IntN(1000)), Manual: r.IntN(4) == 0}
		if k.user == ownerID {
			if err := b.svc.acks.put(ack); err != nil {
				t.Fatal(err)
			}
		} else { // one by one and by another process, which does not know what was read before
			if err := newAcker(b.log).publish(t.Context(), []wire.Ack{ack}); err != nil {
				t.Fatal(err)
			}
		}
		if model[k] < ack.MessageID || ack.Manual {
			model[k] = ack.MessageID
		}
		switch r.IntN(40) {
		case 0:
			b.logged()
			check("in between", b.reads)
		case 1:
			b.svc.groups.Stop()
		case 2:
			if err := b.svc.groups.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 3: // the writer dies, with whatever it has in hand
			b.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::bigint::oid
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, int64(writing.lock))
		}
	}
	b.logged()
	check("in the log", b.reads)
	if err := b.svc.groups.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	check("stored", b.reads)
	check("in rows", rows)
	// As after a crash between COMMIT and XACK: all comes again, as a whole and in parts.
	var entries []bus.Entry
	last, _ := b.log.Last(t.Context())
	back, _, err := b.log.ReadBack(t.Context(), bus.Position{}, last, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(back) {
		if e.Type == wire.MessagesRead {
			entries = append(entries, e)
		}
	}
	for range 30 {
		from := r.IntN(len(entries))
		if err := apply(t.Context(), b.svc.store, entries[from:from+r.IntN(len(entries)-from)+1]); err != nil {
			t.Fatal(err)
		}
	}
	check("applied again", rows)
}

func TestMentions_AreCountedBehindWhatWasRead(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.cold(bus.Entry{Type: wire.MemberUpdated, Guild: guildID, User: memberID, Version: 2}, wire.MemberChangedPayload{
		Member: wire.MemberRecord{UserID: memberID, MemberFields: wire.MemberFields{Roles: wire.List[id.ID]{modRoleID}}},
	})
	say := func(user id.ID, body map[string]any) wire.Message {
		t.Helper()
		return b.message(b.do(user, "POST", path(generalID), body))
	}
	named := "<@" + memberID.String() + ">"
	mine := say(memberID, map[string]any{"content": "to " + named + " and @everyone"})
	direct := say(ownerID, map[string]any{"content": named})
	say(ownerID, map[string]any{"content": "<@&" + modRoleID.String() + "> and " + named})
	everyone := say(ownerID, map[string]any{"content": "@everyone"})
	say(ownerID, map[string]any{"content": "an answer", "message_reference": map[string]any{"message_id": mine.ID}})
	say(ownerID, map[string]any{"content": "a quiet answer", "message_reference": map[string]any{"message_id": mine.ID},
		"allowed_mentions": map[string]any{"parse": []string{}}})
	say(ownerID, map[string]any{"content": "@everyone " + named, "allowed_mentions": map[string]any{"parse": []string{}}})
	say(ownerID, map[string]any{"content": "nobody"})
	want := func(what string, user id.ID, count int) {
		t.Helper()
		if _, got := b.entry(user, generalID); got != count {
			t.Errorf("%s: %d mentions, want %d", what, got, count)
		}
	}
	all := func(what string, member, owner int) {
		t.Helper()
		want("member, "+what, memberID, member)
		want("owner, "+what, ownerID, owner)
	}
	asOfTheSecond := func(what string) {
		t.Helper()
		own := b.ownAt(memberID, bus.PositionOf(direct.ID))
		if e := own.States.Entries; len(e) != 1 || e[0].MentionCount != 1 {
			t.Errorf("%s as of the second message: %v, want one mention", what, e)
		}
	}
	remove := func(m wire.Message) {
		t.Helper()
		if a := b.do(ownerID, "DELETE", path(generalID, m.ID), nil); a.status != http.StatusNoContent {
			t.Fatalf("delete: %d %s", a.status, a.body)
		}
	}
	all("above the checkpoint", 4, 0)
	asOfTheSecond("above the checkpoint")
	extra := say(ownerID, map[string]any{"content": named})
	all("with one more", 5, 0)
	remove(extra)
	all("without it", 4, 0)

	// Each change is looked at twice: while it lies above the rows, and when it is in them.
	b.start()
	twice := func(what string, member int, change func()) {
		t.Helper()
		b.stored()
		b.svc.groups.Stop()
		change()
		b.logged()
		all(what, member, 0)
		if err := b.svc.groups.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.stored()
		all(what+", stored", member, 0)
	}
	twice("the same", 4, func() {})
	asOfTheSecond("in rows")
	twice("after an ack", 3, func() { b.ack(memberID, generalID, direct.ID, nil) })
	twice("after a delete", 2, func() { remove(everyone) })
	twice("marked as unread", 3, func() { b.ack(memberID, generalID, mine.ID, map[string]any{"manual": true}) })
	twice("with an answer more", 4, func() {
		say(ownerID, map[string]any{"content": "an answer", "message_reference": map[string]any{"message_id": mine.ID}})
	})
}

func TestMentions_FromBeforeOneCameAreNotCounted(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	b.message(b.do(ownerID, "POST", path(generalID), map[string]any{"content": "@everyone"}))
	early := bus.Entry{Type: wire.MemberUpdated, Guild: guildID, User: memberID, Version: 2}
	b.cold(early, wire.MemberChangedPayload{Member: wire.MemberRecord{UserID: memberID, MemberFields: wire.MemberFields{
		JoinedAt: wire.At(time.Now().Add(time.Minute)),
	}}})
	if _, n := b.entry(memberID, generalID); n != 0 {
		t.Errorf("above the checkpoint: %d mentions", n)
	}
	b.stored()
	if _, n := b.entry(memberID, generalID); n != 0 {
		t.Errorf("in rows: %d mentions", n)
	}
}

func TestReadStates_ShowNothingOfHiddenChannels(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	b.message(b.do(ownerID, "POST", path(hiddenID), map[string]any{"content": "@everyone <@" + memberID.String() + ">"}))
	if err := b.svc.acks.put(wire.Ack{UserID: memberID, ChannelID: hiddenID, MessageID: 5}); err != nil {
		t.Fatal(err)
	}
	b.logged()
	b.stored()
	if states := b.own(memberID).States.Entries; len(states) != 0 {
		t.Errorf("the member is told of %v", states)
	}
}

func TestReceipts_AreOfThoseWhoSeeTheChannel(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	first, second := b.post(map[string]any{"content": "1"}), b.post(map[string]any{"content": "2"})
	list := func(message id.ID, query string) (users []id.ID) {
		t.Helper()
		a := b.do(memberID, "GET", path(generalID, message)+"/receipts"+query, nil)
		var got []wire.Receipt
		if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK {
			t.Fatalf("receipts: %d %s", a.status, a.body)
		}
		for _, r := range got {
			if time.Since(r.ReadAt.Time()) > time.Minute {
				t.Errorf("%s read at %s", r.UserID, r.ReadAt.Time())
			}
			users = append(users, r.UserID)
		}
		return users
	}
	want := func(what string, got []id.ID, users ...id.ID) {
		t.Helper()
		if !slices.Equal(got, users) {
			t.Errorf("%s: %v, want %v", what, got, users)
		}
	}
	want("nobody", list(first.ID, ""))
	put := func(user, message id.ID, manual bool) {
		t.Helper()
		if err := b.svc.acks.put(wire.Ack{UserID: user, ChannelID: generalID, MessageID: message, Manual: manual}); err != nil {
			t.Fatal(err)
		}
		b.logged()
	}
	put(ownerID, second.ID, false)
	put(memberID, first.ID, false)
	put(outsiderID, second.ID, false) // was a member then
	for range 2 {
		want("the first", list(first.ID, ""), ownerID, memberID)
		want("the second", list(second.ID, ""), ownerID)
		want("a page", list(first.ID, "?limit=1"), ownerID)
		want("the next page", list(first.ID, "?limit=1&after="+ownerID.String()), memberID)
		b.stored()
	}
	put(ownerID, first.ID-1, true)
	for range 2 {
		want("marked as unread", list(first.ID, ""), memberID)
		b.stored()
	}
	receipts := func(user, channel, message id.ID) answer {
		return b.do(user, "GET", path(channel, message)+"/receipts", nil)
	}
	b.refused("a stranger", receipts(outsiderID, generalID, first.ID), 403, 50001)
	b.refused("a hidden channel", receipts(memberID, hiddenID, first.ID), 403, 50001)
	b.refused("no channel", receipts(memberID, 77, first.ID), 404, 10003)
	b.refused("no message", receipts(memberID, generalID, 78), 404, 10008)
	b.refused("a page that is too long", b.do(memberID, "GET", path(generalID, first.ID)+"/receipts?limit=1001", nil), 400, 50035)
}

func TestReads_AreErasedWithTheAccount(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	m := b.message(b.do(ownerID, "POST", path(generalID), map[string]any{"content": "<@" + memberID.String() + ">"}))
	b.ack(memberID, generalID, m.ID, nil)
	b.logged()
	b.stored()
	b.cold(bus.Entry{Type: wire.UserDeleted, User: memberID, Version: 2}, wire.UserDeletedPayload{UserID: memberID})
	b.stored()
	for _, table := range []string{"read_states WHERE user_id", "mentions WHERE target", "guild_settings WHERE user_id"} {
		if n := b.count("SELECT count(*) FROM "+table+" = $1", int64(memberID)); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

func TestLasts_AreThoseOfRowsAndOfTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	want := func(what string, message id.ID) {
		t.Helper()
		got, err := b.reads.Lasts(t.Context(), []id.ID{guildID})
		if err != nil || len(got) != 1 || got[generalID] != message {
			t.Errorf("%s: %v %v, want %s", what, got, err, message)
		}
	}
	sync := func(m wire.Message) id.ID {
		t.Helper()
		if err := b.tail.WaitFor(t.Context(), bus.PositionOf(m.ID)); err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	first := sync(b.post(map[string]any{"content": "1"}))
	want("above the checkpoint", first)
	b.start()
	b.stored()
	want("in rows", first)
	second := sync(b.post(map[string]any{"content": "2"}))
	want("of both", second)
	b.stored()
	want("stored", second)
}

func TestAcks_ThatCannotBeStoredAreDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.exec("ALTER TABLE read_states ADD CONSTRAINT sick CHECK (message_id <> 13)")
	b.start()
	put := func(user, message id.ID) {
		t.Helper()
		if err := b.svc.acks.put(wire.Ack{UserID: user, ChannelID: generalID, MessageID: message}); err != nil {
			t.Fatal(err)
		}
		b.logged()
	}
	put(memberID, 13)
	put(ownerID, 5)
	b.settled()
	letters := b.letters()
	if len(letters) != 1 || letters[0].Entry.Type != wire.MessagesRead {
		t.Fatalf("dead letters: %v", letters)
	}
	if got, _ := b.entry(ownerID, generalID); got != 5 {
		t.Errorf("the other ack is at %s", got)
	}
	b.exec("ALTER TABLE read_states DROP CONSTRAINT sick")
	if out := b.replay(letters[0].Entry.Pos); len(out) != 1 || out[0].err != nil {
		t.Fatalf("replay: %v", out)
	}
	if got, _ := b.entry(memberID, generalID); got != 13 {
		t.Errorf("the replayed ack is at %s", got)
	}
}

// What READY and its guilds take of a user's reading: in guilds of 20 channels that are all read, with 50 unread mentions each, or none.
func BenchmarkReads_OwnOfAUser(b *testing.B) {
	for _, guilds := range []int{5, 100} {
		for _, mentions := range []int{0, 50} {
			b.Run(fmt.Sprintf("guilds=%d/mentions=%d", guilds, mentions*guilds), func(b *testing.B) { benchmarkOwn(b, guilds, mentions) })
		}
	}
}

func benchmarkOwn(b *testing.B, count, mentions int) {
	w := setup(b, Config{})
	w.exec(`INSERT INTO channel_heads SELECT g * 1000 + c, g, g * 1000 + c FROM generate_series(1, $1) g, generate_series(1, 20) c`, count)
	w.exec(`INSERT INTO read_states SELECT $1, channel_id, message_id, 1, now() FROM channel_heads`, int64(memberID))
	w.exec(`INSERT INTO mentions SELECT t, 10000000 + t * 1000 + m, t * 1000 + m % 20 + 1, 7
		FROM generate_series(1, $1) t, generate_series(1, $2) m`, count, mentions)
	w.exec(`VACUUM ANALYZE channel_heads, read_states, mentions`)
	w.start()
	w.stored()
	var guilds []reads.Guild
	var ids []id.ID
	for g := range id.ID(count) {
		guilds, ids = append(guilds, reads.Guild{ID: g + 1, Roles: []id.ID{g + 2000, g + 3000}}), append(ids, g+1)
	}
	at := bus.Position{Ms: uint64(time.Now().UnixMilli())}
	b.ReportAllocs()
	for b.Loop() {
		own, err := w.reads.Own(b.Context(), memberID, guilds, func(id.ID) bool { return true }, at)
		if err != nil || len(own.States.Entries) != 20*count || (own.States.Entries[0].MentionCount > 0) != (mentions > 0) {
			b.Fatal(len(own.States.Entries), err)
		}
		if heads, err := w.reads.Lasts(b.Context(), ids); err != nil || len(heads) != 20*count {
			b.Fatal(len(heads), err)
		}
	}
}

func TestSettings_ArePatchedAndKept(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	patch := func(user, guild id.ID, body string) answer {
		return b.do(user, "PATCH", "/users/@me/guilds/"+guild.String()+"/settings", body)
	}
	general := `{"channel_id":"` + generalID.String() + `","muted":true,"message_notifications":3}`
	want := func(what, body, settings string) {
		t.Helper()
		a := patch(memberID, guildID, body)
		if settings = `{"guild_id":"` + guildID.String() + `",` + settings + `}`; a.status != http.StatusOK || string(a.body) != settings {
			t.Errorf("%s: %d %s, want %s", what, a.status, a.body, settings)
		}
		own := b.own(memberID).Settings
		if len(own.Entries) != 1 || string(own.Entries[0]) != settings || own.Partial {
			t.Errorf("%s: READY has %s, want %s", what, own.Entries, settings)
		}
	}
	for _, started := range []bool{false, true} {
		if started {
			b.start()
			b.stored()
		}
		want("muted", `{"muted":true,"suppress_everyone":true}`, `"muted":true,"message_notifications":3,"channel_overrides":[]`)
		want("level", `{"message_notifications":1,"muted":null}`, `"muted":true,"message_notifications":1,"channel_overrides":[]`)
		want("a channel", `{"channel_overrides":{"`+generalID.String()+`":{"muted":true}}}`,
			`"muted":true,"message_notifications":1,"channel_overrides":[`+general+`]`)
		want("the guild again", `{"muted":false,"message_notifications":3}`, `"muted":false,"message_notifications":3,"channel_overrides":[`+general+`]`)
		want("the channel as it was", `{"channel_overrides":[{"channel_id":"`+generalID.String()+`","muted":false}]}`,
			`"muted":false,"message_notifications":3,"channel_overrides":[]`)
	}
	before, err := b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want("nothing new", `{"muted":false}`, `"muted":false,"message_notifications":3,"channel_overrides":[]`)
	if last, err := b.log.Last(t.Context()); err != nil || last != before {
		t.Errorf("what changes nothing was written: %v %v", last, err)
	}
	b.stored()
	if n := b.count("SELECT count(*) FROM guild_settings WHERE user_id = $1", int64(memberID)); n != 1 {
		t.Errorf("%d rows", n)
	}

	b.refused("a stranger", patch(outsiderID, guildID, `{}`), 404, 10004)
	b.refused("a bot", patch(botID, guildID, `{}`), 403, 20001)
	b.refused("a level that there is not", patch(memberID, guildID, `{"message_notifications":4}`), 400, 50035)
	a := patch(memberID, guildID, `{"channel_overrides":[{"channel_id":"`+hiddenID.String()+`"},{"channel_id":"`+generalID.String()+`"},{"channel_id":"7"}]}`)
	b.refused("channels that are not there", a, 400, 50035)
	if !strings.Contains(string(a.body), `"0":{"channel_id"`) || !strings.Contains(string(a.body), `"2":{"channel_id"`) || strings.Contains(string(a.body), `"1":`) {
		t.Errorf("channels that are not there: %s", a.body)
	}
}

func TestSettings_ChangedTogetherAreAllThere(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	bodies := []string{`{"muted":true}`, `{"message_notifications":2}`, `{"channel_overrides":{"` + generalID.String() + `":{"muted":true}}}`}
	var wg sync.WaitGroup
	for _, body := range bodies {
		wg.Go(func() {
			if a := b.do(memberID, "PATCH", "/users/@me/guilds/"+guildID.String()+"/settings", body); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", body, a.status, a.body)
			}
		})
	}
	wg.Wait()
	var got wire.GuildSettings
	if err := json.Unmarshal(b.own(memberID).Settings.Entries[0], &got); err != nil {
		t.Fatal(err)
	}
	if !got.Muted || got.MessageNotifications != 2 || len(got.ChannelOverrides) != 1 {
		t.Errorf("something was lost: %+v", got)
	}
}

func TestReads_OfADirectChannel(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	b.start()
	first := b.postTo(ownerID, dmID, "1")
	second := b.postTo(ownerID, dmID, "2")
	b.postTo(memberID, dmID, "3")
	want := func(what string, user id.ID, e wire.ReadStateEntry) {
		t.Helper()
		last, err := b.log.Last(t.Context())
		if err != nil || b.tail.WaitFor(t.Context(), last) != nil {
			t.Fatal(err)
		}
		own, err := b.reads.Own(t.Context(), user, nil, func(channel id.ID) bool { return channel == dmID }, last)
		if err != nil || len(own.States.Entries) != 1 || own.States.Entries[0] != e {
			t.Errorf("%s: %+v %v, want %+v", what, own.States.Entries, err, e)
		}
	}
	want("each message is for the other", memberID, wire.ReadStateEntry{ID: dmID, MentionCount: 2})
	want("also the member's", ownerID, wire.ReadStateEntry{ID: dmID, MentionCount: 1})
	b.ack(memberID, dmID, first.ID, nil)
	b.logged()
	want("one is read", memberID, wire.ReadStateEntry{ID: dmID, LastMessageID: first.ID, MentionCount: 1})
	var sent wire.MessageSentPayload
	if err := json.Unmarshal(b.last(dmID).Body, &sent); err != nil || !slices.Equal(sent.Pings, []id.ID{ownerID}) {
		t.Errorf("the member's message pings %v", sent.Pings)
	}
	told := b.ackEntriesOf()
	if len(told) != 1 || !slices.Equal(told[0][0].To, []id.ID{ownerID}) {
		t.Errorf("whom is it told? %+v", told)
	}
	for message, readers := range map[id.ID]int{first.ID: 1, second.ID: 0} {
		a := b.do(ownerID, "GET", path(dmID, message)+"/receipts", nil)
		var got []wire.Receipt
		if err := json.Unmarshal(a.body, &got); err != nil || len(got) != readers || readers == 1 && got[0].UserID != memberID {
			t.Errorf("receipts of %s: %d %s, want %d", message, a.status, a.body, readers)
		}
	}
	b.refused("who was in the group", b.do(outsiderID, "POST", ackPath(groupID, first.ID), nil), 403, 50001)
}

func TestAcks_OfADeletedUserAreNotWritten(t *testing.T) {
	t.Parallel()
	a := newAcker(nil)
	if err := a.put(wire.Ack{UserID: 1, ChannelID: 1, MessageID: 1}, wire.Ack{UserID: 2, ChannelID: 1, MessageID: 1}); err != nil {
		t.Fatal(err)
	}
	a.apply([]bus.Entry{{Type: wire.UserDeleted, User: 1}})
	if len(a.waiting) != 1 || a.waiting[reader{2, 1}].MessageID != 1 {
		t.Errorf("waiting: %v", a.waiting)
	}
}

// A guild of a hundred and one: what everybody sees is told to nobody, and so is a private channel that a hundred and one see.
func TestReading_IsToldToAHundredViewersAtMost(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const (
		crowdID id.ID = 5000 + iota
		openID
		fewID
		nearlyID
		manyID
		fewRole
		nearlyRole
		manyRole
		firstUser
	)
	only := func(role id.ID) wire.List[wire.Overwrite] {
		return wire.List[wire.Overwrite]{
			{ID: crowdID, Type: perm.OverwriteRole, Deny: perm.ViewChannel}, {ID: role, Type: perm.OverwriteRole, Allow: perm.ViewChannel},
		}
	}
	var members wire.List[wire.MemberRecord]
	for i := range id.ID(viewersMax + 1) {
		m := wire.MemberRecord{UserID: firstUser + i}
		m.Roles = append(m.Roles, manyRole)
		if i > 0 {
			m.Roles = append(m.Roles, nearlyRole)
		}
		if i > viewersMax-2 {
			m.Roles = append(m.Roles, fewRole)
		}
		members = append(members, m)
	}
	reader := firstUser + viewersMax // sees all
	b.cold(bus.Entry{Type: wire.ServerCreated, Guild: crowdID, Version: 1}, wire.ServerCreatedPayload{
		Guild: wire.Guild{ID: crowdID, Name: "crowd", OwnerID: reader},
		Channels: []wire.Channel{
			{ID: openID, GuildID: crowdID, Name: "open"}, {ID: fewID, GuildID: crowdID, Name: "few", PermissionOverwrites: only(fewRole)},
			{ID: nearlyID, GuildID: crowdID, Name: "nearly", PermissionOverwrites: only(nearlyRole)},
			{ID: manyID, GuildID: crowdID, Name: "many", PermissionOverwrites: only(manyRole)},
		},
		Roles:   []wire.Role{{ID: crowdID, Permissions: perm.DefaultEveryone}, {ID: fewRole}, {ID: nearlyRole}, {ID: manyRole}},
		Members: members,
	})
	f := func(channel id.ID, told bool) {
		t.Helper()
		for range 2 { // counted, and as it was counted
			ack, err := b.svc.ack(t.Context(), reader, channel, 1)
			if err != nil || (ack.GuildID == crowdID) != told {
				t.Errorf("channel %s: told in %s, want %v: %v", channel, ack.GuildID, told, err)
			}
		}
	}
	f(openID, false)
	f(fewID, true)
	// All channels are counted by the members as they were read for the first: nobody can have them read for each.
	if err := b.admin.Do(t.Context(), b.admin.B().Del().Key(bus.Key("members", crowdID)).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	f(nearlyID, true)
	f(manyID, false)
	if ack, err := b.svc.ack(t.Context(), memberID, generalID, 1); err != nil || ack.GuildID != guildID {
		t.Errorf("a small guild: told in %s: %v", ack.GuildID, err)
	}
}
