package messaging

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func pinPath(m id.ID) string { return path(generalID) + "/pins/" + m.String() }

func oldPinPath(m id.ID) string { return "/channels/" + generalID.String() + "/pins/" + m.String() }

type pinPage struct {
	Items []struct {
		PinnedAt time.Time    `json:"pinned_at"`
		Message  wire.Message `json:"message"`
	} `json:"items"`
	HasMore bool `json:"has_more"`
}

func (b *bundle) pinPage(query string) (p pinPage) {
	b.t.Helper()
	a := b.do(memberID, "GET", path(generalID)+"/pins"+query, nil)
	if err := json.Unmarshal(a.body, &p); err != nil || a.status != http.StatusOK {
		b.t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return p
}

// pinnedTexts is what is pinned, by both forms of the list, which must be the same.
func (b *bundle) pinnedTexts() (texts []string) {
	b.t.Helper()
	var old []wire.Message
	a := b.do(memberID, "GET", "/channels/"+generalID.String()+"/pins", nil)
	if err := json.Unmarshal(a.body, &old); err != nil || a.status != http.StatusOK {
		b.t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	page := b.pinPage("")
	if len(old) != len(page.Items) {
		b.t.Fatalf("%d pins by one form, %d by the other", len(old), len(page.Items))
	}
	for i, item := range page.Items {
		if diff := cmp.Diff(old[i], item.Message); diff != "" {
			b.t.Errorf("the two forms differ: %s", diff)
		}
		if !item.Message.Pinned || item.PinnedAt.IsZero() {
			b.t.Errorf("not a pin: %+v", item)
		}
		texts = append(texts, item.Message.Content)
	}
	return texts
}

func TestPins_AreListedTheLatestFirst(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var m []id.ID
	for i := range 4 {
		m = append(m, b.post(wire.CreateMessage{Content: fmt.Sprint(i)}).ID)
	}
	b.react(memberID, m[1], fox)
	b.done(ownerID, "PUT", pinPath(m[1]))
	b.done(ownerID, "PUT", oldPinPath(m[3]))
	b.done(ownerID, "PUT", pinPath(m[0]))
	b.done(ownerID, "PUT", pinPath(m[3])) // again
	b.done(ownerID, "PUT", pinPath(m[2]))
	b.done(ownerID, "DELETE", pinPath(m[0]))
	b.done(ownerID, "DELETE", oldPinPath(m[0]))
	check := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, b.pinnedTexts()); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		one := b.message(b.do(memberID, "GET", path(generalID, m[0]), nil))
		if one.Pinned || one.EditedTimestamp != 0 || one.Author.ID != memberID {
			t.Errorf("%s: %+v", when, one)
		}
	}
	check("before anything is stored", "2", "3", "1")
	b.start()
	b.settled()
	check("of rows", "2", "3", "1")

	first := b.pinPage("?limit=2")
	if len(first.Items) != 2 || !first.HasMore {
		t.Fatalf("a page: %+v", first)
	}
	if second := b.pinPage("?limit=2&before=" + url.QueryEscape(first.Items[1].PinnedAt.Format(time.RFC3339Nano))); len(second.Items) != 1 || second.HasMore ||
		second.Items[0].Message.Content != "1" || len(second.Items[0].Message.Reactions) != 1 {
		t.Errorf("the next page: %+v", second)
	}
	b.edit(m[1], "1, edited")
	b.remove(m[2])
	check("after an edit and a deletion", "3", "1, edited")
	b.done(ownerID, "DELETE", pinPath(m[3]))
	b.settled()
	check("of rows at the end", "1, edited")
	if n := b.count("SELECT count(*) FROM message_pins WHERE message_id = $1", int64(m[2])); n != 0 {
		t.Errorf("%d pins are left of a deleted message", n)
	}
}

// What clients are told: each change once, with the latest pin that there is, and each pin in the channel.
func TestPins_AreToldAndAnnounced(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	one, two := b.post(wire.CreateMessage{Content: "1"}).ID, b.post(wire.CreateMessage{Content: "2"}).ID
	b.done(ownerID, "PUT", pinPath(one))
	b.done(ownerID, "PUT", pinPath(two))
	b.done(ownerID, "PUT", pinPath(two))
	b.done(ownerID, "DELETE", pinPath(two))
	b.done(ownerID, "DELETE", pinPath(one))
	entries := b.events(wire.PinsUpdated)
	if len(entries) != 4 {
		t.Fatalf("%d entries for four changes", len(entries))
	}
	for i, want := range []struct {
		message id.ID
		pinned  bool
		last    wire.Time
	}{{one, true, 0}, {two, true, 0}, {two, false, wire.Time(entries[0].Pos.Ms)}, {one, false, 0}} {
		var p wire.PinsUpdatedPayload
		if err := json.Unmarshal(entries[i].Body, &p); err != nil {
			t.Fatal(err)
		}
		if p.MessageID != want.message || p.Pinned != want.pinned || p.LastPin != want.last {
			t.Errorf("entry %d: %+v, want %+v", i, p, want)
		}
		note := wire.AuditNote{ID: 9, Action: wire.AuditMessageUnpin, Actor: ownerID, Target: memberID,
			Options: map[string]string{"channel_id": generalID.String(), "message_id": want.message.String()}}
		if want.pinned {
			note.Action = wire.AuditMessagePin
		}
		notes, err := wire.AuditOf(entries[i].Body, 9)
		if diff := cmp.Diff([]wire.AuditNote{note}, notes); diff != "" || err != nil {
			t.Errorf("entry %d: %s, %v", i, diff, err)
		}
	}
	var page []wire.Message
	if err := json.Unmarshal(b.do(memberID, "GET", path(generalID)+"?limit=2", nil).body, &page); err != nil {
		t.Fatal(err)
	}
	for i, of := range []id.ID{two, one} {
		m := page[i]
		want := &wire.MessageReference{ChannelID: generalID, MessageID: of, GuildID: guildID}
		if diff := cmp.Diff(want, m.Reference); diff != "" || m.Type != wire.MessagePinned || m.Author.ID != ownerID || m.Content != "" {
			t.Errorf("announced: %+v, %s", m, diff)
		}
	}
	b.refused("edit of an announcement", b.do(ownerID, "PATCH", path(generalID, page[0].ID), `{"content":"x"}`), 403, 50021)
	b.refused("pin of an announcement", b.do(ownerID, "PUT", pinPath(page[0].ID), nil), 403, 50021)
	b.refused("reply to an announcement", b.do(ownerID, "POST", path(generalID), wire.CreateMessage{
		Content: "x", Reference: &wire.ReferenceRequest{MessageID: page[0].ID},
	}), 400, 50035)
	b.react(ownerID, page[0].ID, fox)
	b.done(ownerID, "DELETE", path(generalID, page[0].ID))
}

func TestPins_AreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m, gone := b.post(wire.CreateMessage{Content: "m"}).ID, b.post(wire.CreateMessage{Content: "gone"}).ID
	b.remove(gone)
	elsewhere := b.message(b.do(ownerID, "POST", path(hiddenID), wire.CreateMessage{Content: "hidden"})).ID
	put := func(user id.ID, message id.ID) answer { return b.do(user, "PUT", pinPath(message), nil) }
	b.refused("by a member", put(memberID, m), 403, 50013)
	b.refused("unpin by a member", b.do(memberID, "DELETE", pinPath(m), nil), 403, 50013)
	b.refused("by an outsider", put(outsiderID, m), 403, 50001)
	b.refused("the list by an outsider", b.do(outsiderID, "GET", path(generalID)+"/pins", nil), 403, 50001)
	b.refused("no message", put(ownerID, 77), 404, 10008)
	b.refused("a deleted message", put(ownerID, gone), 404, 10008)
	b.refused("a message of another channel", put(ownerID, elsewhere), 400, 50019)
	b.refused("in a category", b.do(ownerID, "PUT", path(categoryID)+"/pins/"+m.String(), nil), 400, 50008)
	b.refused("a page too large", b.do(memberID, "GET", path(generalID)+"/pins?limit=51", nil), 400, 50035)
	b.refused("a time", b.do(memberID, "GET", path(generalID)+"/pins?before=yesterday", nil), 400, 50035)
	b.start()
	b.settled()
	b.refused("a stored message of another channel", put(ownerID, elsewhere), 400, 50019)

	b.everyone(2, perm.DefaultEveryone|perm.PinMessages)
	b.refused("a message of a channel that is not seen", put(memberID, elsewhere), 404, 10008)
	b.done(memberID, "PUT", pinPath(m))
	b.everyone(3, perm.DefaultEveryone|perm.ManageMessages)
	b.done(memberID, "DELETE", pinPath(m))
	b.done(memberID, "PUT", pinPath(m))
	b.everyone(4, perm.DefaultEveryone&^perm.ReadMessageHistory)
	if texts := b.pinnedTexts(); len(texts) != 0 {
		t.Errorf("without the history: %v", texts)
	}
}

// TestPins_AreTwoHundredAndFifty: also when many pin at once, and messages are deleted meanwhile.
func TestPins_AreTwoHundredAndFifty(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const more = 15
	m := make([]id.ID, wire.PinsMax+more)
	for i := range m {
		m[i] = b.post(wire.CreateMessage{Content: fmt.Sprint(i)}).ID
	}
	spare := make([]id.ID, 10)
	for i := range spare {
		spare[i] = b.post(wire.CreateMessage{Content: "spare"}).ID
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	slots := make(chan struct{}, 16)
	for i := range m {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if i%30 == 0 && i/30 < len(spare) {
				b.remove(spare[i/30]) // makes the set be loaded anew
			}
			a := b.do(ownerID, "PUT", pinPath(m[i]), nil)
			mu.Lock()
			defer mu.Unlock()
			codes[a.code()]++
		})
	}
	all.Wait()
	if codes[0] != wire.PinsMax || codes[30003] != more {
		t.Fatalf("codes: %v", codes)
	}
	pins, err := b.svc.pins(t.Context(), generalID)
	if err != nil || len(pins) != wire.PinsMax {
		t.Fatalf("%d pins, %v", len(pins), err)
	}
	free := m[slices.IndexFunc(m, func(one id.ID) bool {
		return !slices.ContainsFunc(pins, func(p pin) bool { return p.message == one })
	})]
	b.refused("one more", b.do(ownerID, "PUT", pinPath(free), nil), 400, 30003)
	b.remove(pins[0].message)
	b.done(ownerID, "PUT", pinPath(free))
	b.refused("one more again", b.do(ownerID, "PUT", pinPath(spareOf(m, pins, free)), nil), 400, 30003)
}

// spareOf is a message that is neither pinned nor free.
func spareOf(m []id.ID, pins []pin, free id.ID) id.ID {
	return m[slices.IndexFunc(m, func(one id.ID) bool {
		return one != free && !slices.ContainsFunc(pins, func(p pin) bool { return p.message == one })
	})]
}

// TestPins_AndEditsAtOnceKeepEachOther: every entry has the latest content and whether it is pinned, as the entries before it say.
func TestPins_AndEditsAtOnceKeepEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "begin"}).ID
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			for n := range 12 {
				b.edit(m, fmt.Sprint(i, " ", n))
			}
		})
	}
	all.Go(func() {
		for n := range 24 {
			b.done(ownerID, []string{"PUT", "DELETE"}[n%2], pinPath(m))
		}
	})
	all.Wait()
	content, pinned := "begin", false
	entries := b.events(wire.MessageUpdated, wire.PinsUpdated)
	for _, e := range entries {
		var p wire.PinsUpdatedPayload
		var body wire.MessageBody
		if err := json.Unmarshal(e.Body, &p); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(p.Message, &body); err != nil {
			t.Fatal(err)
		}
		if e.Type == wire.PinsUpdated {
			pinned = p.Pinned
		} else {
			content = body.Content
		}
		if body.Content != content || body.Pinned != pinned {
			t.Fatalf("%s %s has %q, %v; want %q, %v", e.Type, e.Pos, body.Content, body.Pinned, content, pinned)
		}
	}
	if len(entries) != 60 {
		t.Errorf("%d entries, want 60", len(entries))
	}
}

func TestPins_WaitForADeadCreateAndAreShown(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	m := b.post(wire.CreateMessage{Content: "poison"}).ID
	b.done(ownerID, "PUT", pinPath(m))
	b.settled()
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff([]string{"poison"}, b.pinnedTexts()); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	check("of dead letters")
	b.mend()
	if out := b.replay(bus.PositionOf(m)); len(out) != 2 || len(b.letters()) != 0 {
		t.Errorf("replayed: %+v", out)
	}
	check("of rows")
}

// In a direct channel everybody may react and pin, and nobody takes away what is another's.
func TestPins_AndReactionsAreInDirectChannelsToo(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	m := b.postTo(ownerID, dmID, "just us").ID
	reactions := path(dmID, m) + "/reactions/" + url.PathEscape(fox)
	b.done(memberID, "PUT", reactions+"/@me")
	b.done(memberID, "PUT", path(dmID)+"/pins/"+m.String())
	b.refused("another's reaction", b.do(ownerID, "DELETE", reactions+"/"+memberID.String(), nil), 403, 50003)
	b.refused("all reactions", b.do(ownerID, "DELETE", path(dmID, m)+"/reactions", nil), 403, 50003)
	b.refused("another's embeds", b.do(memberID, "PATCH", path(dmID, m), `{"flags":4}`), 403, 50003)
	b.refused("by an outsider", b.do(outsiderID, "PUT", reactions+"/@me", nil), 403, 50001)
	b.refused("a pin by an outsider", b.do(outsiderID, "PUT", path(dmID)+"/pins/"+m.String(), nil), 403, 50001)
	b.refused("a pin from elsewhere", b.do(ownerID, "PUT", path(dmID)+"/pins/77", nil), 404, 10008)
	var page pinPage
	if err := json.Unmarshal(b.do(ownerID, "GET", path(dmID)+"/pins", nil).body, &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || len(page.Items[0].Message.Reactions) != 1 || page.Items[0].Message.Content != "just us" {
		t.Errorf("pins: %+v", page)
	}
	for _, e := range b.events(wire.ReactionAdded, wire.PinsUpdated) {
		if !slices.Equal(e.To, []id.ID{ownerID, memberID}) || e.Guild != 0 {
			t.Errorf("%s is for %v", e.Type, e.To)
		}
		if notes, err := wire.AuditOf(e.Body, 9); len(notes) != 0 || err != nil {
			t.Errorf("%s tells an audit log %v, %v", e.Type, notes, err)
		}
	}
	if e := b.last(dmID); e.Type != wire.MessageSent || e.Actor != memberID {
		t.Errorf("the pin is not announced, but %s by %s", e.Type, e.Actor)
	}
	b.done(ownerID, "DELETE", path(dmID)+"/pins/"+m.String())
}
