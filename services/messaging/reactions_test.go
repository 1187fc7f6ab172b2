package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

const (
	fox   = "🦊"
	heart = "\u2764\ufe0f"
)

func reactionPath(m id.ID, emoji string, more ...string) string {
	return path(generalID, m) + "/reactions/" + url.PathEscape(emoji) + strings.Join(append([]string{""}, more...), "/")
}

// done is a request that has to succeed with nothing to say.
func (b *bundle) done(user id.ID, method, path string) {
	b.t.Helper()
	if a := b.do(user, method, path, nil); a.status != http.StatusNoContent || len(a.body) != 0 {
		b.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
}

func (b *bundle) react(user, m id.ID, emoji string) {
	b.t.Helper()
	b.done(user, "PUT", reactionPath(m, emoji, "@me"))
}

func (b *bundle) unreact(user, m id.ID, emoji string) {
	b.t.Helper()
	b.done(user, "DELETE", reactionPath(m, emoji, "@me"))
}

// reactions is what a reader is told in the history and of the message itself, which must be the same.
func (b *bundle) reactions(reader, m id.ID) []wire.Reaction {
	b.t.Helper()
	one := b.message(b.do(reader, "GET", path(generalID, m), nil))
	var page []wire.Message
	if err := json.Unmarshal(b.do(reader, "GET", path(generalID)+"?limit=2&around="+m.String(), nil).body, &page); err != nil {
		b.t.Fatal(err)
	}
	i := slices.IndexFunc(page, func(other wire.Message) bool { return other.ID == m })
	if i < 0 {
		b.t.Fatalf("message %s is not around itself", m)
	}
	if diff := cmp.Diff(one.Reactions, page[i].Reactions); diff != "" {
		b.t.Errorf("the message and the history differ: %s", diff)
	}
	return one.Reactions
}

// reactors is who has reacted.
func (b *bundle) reactorsOf(m id.ID, emoji, query string) []id.ID {
	b.t.Helper()
	a := b.do(memberID, "GET", reactionPath(m, emoji)+query, nil)
	var users []wire.User
	if err := json.Unmarshal(a.body, &users); err != nil || a.status != http.StatusOK {
		b.t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return userIDs(users)
}

// events are the types of the entries in the log.
func (b *bundle) events(of ...wire.EventType) (entries []bus.Entry) {
	b.t.Helper()
	last, err := b.log.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	all, _, err := b.log.ReadBack(b.t.Context(), bus.Position{}, last, 10_000)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range slices.Backward(all) {
		if slices.Contains(of, e.Type) {
			entries = append(entries, e)
		}
	}
	return entries
}

// newcomers joins n more members, from version on.
func (b *bundle) newcomers(n int, version int64) (users []id.ID) {
	b.t.Helper()
	for i := range n {
		u := 2000 + id.ID(i)
		face := wire.User{ID: u, Username: fmt.Sprintf("newcomer %d", i)}
		b.cold(bus.Entry{Type: wire.UserCreated, User: u, Version: 1}, wire.UserChangedPayload{User: face})
		b.cold(bus.Entry{Type: wire.MemberJoined, Guild: guildID, User: u, Version: version + int64(i)}, wire.MemberChangedPayload{
			Member: wire.MemberRecord{UserID: u}, User: face,
		})
		users = append(users, u)
	}
	return users
}

func TestReactions_AreCountedForEachReader(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "vote"}).ID
	other := b.post(wire.CreateMessage{Content: "other"}).ID
	b.react(memberID, m, fox)
	b.react(ownerID, m, "\u2764") // the short form
	b.react(ownerID, m, fox)
	b.react(ownerID, m, fox) // again
	b.unreact(memberID, m, heart)
	b.react(ownerID, other, "1\u20e3")
	check := func(when string) {
		t.Helper()
		for reader, mine := range map[id.ID]bool{memberID: false, ownerID: true} {
			want := []wire.Reaction{tallied(fox, 2, true), tallied(heart, 1, mine)}
			if diff := cmp.Diff(want, b.reactions(reader, m)); diff != "" {
				t.Errorf("%s, for %s: %s", when, reader, diff)
			}
		}
		if diff := cmp.Diff([]id.ID{ownerID, memberID}, b.reactorsOf(m, fox, "")); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		for query, want := range map[string][]id.ID{
			"?limit=1": {ownerID}, "?after=" + ownerID.String(): {memberID}, "?limit=1&after=" + memberID.String(): nil, "?type=1": nil, "?type=0": {ownerID, memberID},
		} {
			if diff := cmp.Diff(want, b.reactorsOf(m, fox, query)); diff != "" {
				t.Errorf("%s, %s: %s", when, query, diff)
			}
		}
	}
	check("before anything is stored")
	if n := len(b.events(wire.ReactionAdded, wire.ReactionRemoved)); n != 4 {
		t.Errorf("%d entries for four changes", n)
	}
	b.start()
	b.settled()
	check("of rows")

	b.unreact(memberID, m, fox)
	if diff := cmp.Diff([]wire.Reaction{tallied(heart, 1, false), tallied(fox, 1, false)}, b.reactions(memberID, m)); diff != "" {
		t.Errorf("after one was taken away: %s", diff)
	}
	b.done(ownerID, "DELETE", reactionPath(m, fox, ownerID.String()))
	b.react(memberID, m, fox)
	b.done(ownerID, "DELETE", reactionPath(m, fox, memberID.String()))
	if diff := cmp.Diff([]wire.Reaction{tallied(heart, 1, true)}, b.reactions(ownerID, m)); diff != "" {
		t.Errorf("after others' were taken away: %s", diff)
	}
	b.react(memberID, m, fox)
	b.done(ownerID, "DELETE", reactionPath(m, heart))
	b.done(ownerID, "DELETE", reactionPath(m, heart))
	if diff := cmp.Diff([]wire.Reaction{tallied(fox, 1, false)}, b.reactions(ownerID, m)); diff != "" {
		t.Errorf("after an emoji was taken away: %s", diff)
	}
	b.done(ownerID, "DELETE", path(generalID, m)+"/reactions")
	b.done(ownerID, "DELETE", path(generalID, m)+"/reactions")
	b.settled()
	if got := b.reactions(ownerID, m); got != nil {
		t.Errorf("after all were taken away: %v", got)
	}
	if n := len(b.events(wire.ReactionsCleared)); n != 2 {
		t.Errorf("%d clears in the log, want 2", n)
	}
	if got := b.reactions(ownerID, other); len(got) != 1 || got[0].Emoji.Name != "1\ufe0f\u20e3" {
		t.Errorf("under the other message: %+v", got)
	}
	b.remove(other)
	b.settled()
	if n := b.count("SELECT count(*) FROM message_reactions WHERE message_id = $1", int64(other)); n != 0 {
		t.Errorf("%d reactions are left of a deleted message", n)
	}
}

func TestReactions_AreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "m"}).ID
	gone := b.post(wire.CreateMessage{Content: "gone"}).ID
	b.react(memberID, gone, fox)
	b.remove(gone)
	b.react(ownerID, m, fox)
	put := func(user, message id.ID, emoji string) answer {
		return b.do(user, "PUT", reactionPath(message, emoji, "@me"), nil)
	}
	b.refused("no emoji", put(memberID, m, "fox"), 404, 10014)
	b.refused("a custom emoji", put(memberID, m, "fox:1234567890"), 404, 10014)
	b.refused("two emoji", put(memberID, m, fox+fox), 404, 10014)
	b.refused("list of no emoji", b.do(memberID, "GET", reactionPath(m, "x"), nil), 404, 10014)
	b.refused("a deleted message", put(memberID, gone, fox), 404, 10008)
	b.refused("no message", put(memberID, 77, fox), 404, 10008)
	b.refused("in another channel", b.do(ownerID, "PUT", path(hiddenID, m)+"/reactions/"+url.PathEscape(fox)+"/@me", nil), 404, 10008)
	b.refused("no channel", b.do(ownerID, "PUT", path(78, m)+"/reactions/"+url.PathEscape(fox)+"/@me", nil), 404, 10003)
	b.refused("by an outsider", put(outsiderID, m, fox), 403, 50001)
	b.refused("in a hidden channel", b.do(memberID, "PUT", path(hiddenID, m)+"/reactions/"+url.PathEscape(fox)+"/@me", nil), 403, 50001)
	b.refused("another's by a member", b.do(memberID, "DELETE", reactionPath(m, fox, ownerID.String()), nil), 403, 50013)
	b.refused("an emoji by a member", b.do(memberID, "DELETE", reactionPath(m, fox), nil), 403, 50013)
	b.refused("all by a member", b.do(memberID, "DELETE", path(generalID, m)+"/reactions", nil), 403, 50013)
	b.refused("a limit", b.do(memberID, "GET", reactionPath(m, fox)+"?limit=101", nil), 400, 50035)
	b.refused("a type", b.do(memberID, "GET", reactionPath(m, fox)+"?type=2", nil), 400, 50035)

	b.everyone(2, perm.DefaultEveryone&^perm.AddReactions)
	b.refused("the first of a kind without the permission", put(memberID, m, heart), 403, 50013)
	b.react(memberID, m, fox) // the second of one
	b.everyone(3, perm.DefaultEveryone&^perm.ReadMessageHistory)
	b.refused("without the history", put(memberID, m, fox), 403, 50013)
	b.refused("the list without the history", b.do(memberID, "GET", reactionPath(m, fox), nil), 403, 50013)
	b.unreact(memberID, m, fox)
	if n := len(b.events(wire.ReactionAdded)); n != 3 {
		t.Errorf("%d additions in the log, want 3", n)
	}
}

// TestReactions_AreOfTwentyKinds: also when many add at once, while the set is being loaded by all of them.
func TestReactions_AreOfTwentyKinds(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "m"}).ID
	var emoji []string
	for r := '🐀'; len(emoji) < 40; r++ {
		emoji = append(emoji, string(r))
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for i, e := range emoji {
		for _, user := range []id.ID{memberID, ownerID} {
			all.Go(func() {
				a := b.do(user, "PUT", reactionPath(m, emoji[i], "@me"), nil)
				mu.Lock()
				defer mu.Unlock()
				codes[a.code()]++
				if a.status != http.StatusNoContent && a.code() != 30010 {
					t.Errorf("%s: %d %s", e, a.status, a.body)
				}
			})
		}
	}
	all.Wait()
	if codes[0] != 40 || codes[30010] != 40 {
		t.Errorf("codes: %v", codes)
	}
	got := b.reactions(memberID, m)
	if len(got) != wire.ReactionsMax {
		t.Errorf("%d kinds", len(got))
	}
	for _, r := range got {
		if r.Count != 2 || !r.Me {
			t.Errorf("%+v", r)
		}
	}
	b.unreact(memberID, m, got[0].Emoji.Name)
	free := emoji[slices.IndexFunc(emoji, func(e string) bool {
		return !slices.ContainsFunc(got, func(r wire.Reaction) bool { return r.Emoji.Name == e })
	})]
	b.refused("one of two is still there", b.do(memberID, "PUT", reactionPath(m, free, "@me"), nil), 400, 30010)
	b.unreact(ownerID, m, got[0].Emoji.Name)
	b.react(memberID, m, free)
}

// writing stores what is in the log until the returned function is called, like a process that writes for a while.
func (b *bundle) writing() (stop func()) {
	b.t.Helper()
	w := &writer{store: b.svc.store, timeout: b.svc.config.CommitTimeout, lease: b.svc.config.Lease}
	g := bus.NewGroup(b.log, bus.GroupConfig{
		Name: groupName, Lead: w.lead, Handle: w.persist, IsData: isData, Batch: 3,
		Behind: b.svc.graves.behind, Pass: w.pass, Checkpoint: b.svc.store.checkpoint,
	})
	if err := g.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return sync.OnceFunc(g.Stop)
}

// TestReactions_AreAsInAMap: whatever is changed by whom, while writers come and go and sets are forgotten.
func TestReactions_AreAsInAMap(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	users := append(b.newcomers(3, 2), ownerID, memberID)
	emoji := []string{fox, heart, "👍", "👍🏽"}
	model := map[id.ID]map[reactor]bool{}
	for range 3 {
		model[b.post(wire.CreateMessage{Content: "m"}).ID] = map[reactor]bool{}
	}
	messages := slices.Sorted(maps.Keys(model))
	rnd := rand.New(rand.NewPCG(uint64(messages[0]), 1))
	t.Logf("seed %d", messages[0])
	stop := func() {}
	defer func() { stop() }()
	for step := range 250 {
		m := messages[rnd.IntN(len(messages))]
		by := reactor{emoji[rnd.IntN(len(emoji))], users[rnd.IntN(len(users))]}
		switch rnd.IntN(20) {
		default:
			b.react(by.user, m, by.emoji)
			model[m][by] = true
		case 0, 1, 2, 3, 4, 5:
			b.unreact(by.user, m, by.emoji)
			delete(model[m], by)
		case 6:
			b.done(ownerID, "DELETE", reactionPath(m, by.emoji))
			maps.DeleteFunc(model[m], func(r reactor, _ bool) bool { return r.emoji == by.emoji })
		case 7:
			b.done(ownerID, "DELETE", path(generalID, m)+"/reactions")
			clear(model[m])
		case 8:
			if err := b.client.Do(t.Context(), b.client.B().Del().Key(reactionSet(m)).Build()).Error(); err != nil {
				t.Fatal(err)
			}
		case 9:
			stop()
			if stop = func() {}; rnd.IntN(3) > 0 {
				stop = b.writing()
			}
		case 10:
			if _, err := b.svc.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		m, reader := messages[rnd.IntN(len(messages))], users[rnd.IntN(len(users))]
		if diff := cmp.Diff(expected(model[m], reader), plain(b.reactions(reader, m))); diff != "" {
			t.Fatalf("step %d, message %s for %s: %s", step, m, reader, diff)
		}
	}
	stop()
	defer b.writing()()
	b.settled()
	for _, m := range messages {
		if diff := cmp.Diff(expected(model[m], memberID), plain(b.reactions(memberID, m))); diff != "" {
			t.Errorf("of rows: %s", diff)
		}
	}
	if kept := b.svc.overlay.stats(); kept != (overlayStats{}) {
		t.Errorf("the overlay keeps what is stored: %+v", kept)
	}
}

func expected(model map[reactor]bool, reader id.ID) map[string]wire.Reaction {
	out := map[string]wire.Reaction{}
	for by := range model {
		out[by.emoji] = tallied(by.emoji, out[by.emoji].Count+1, out[by.emoji].Me || by.user == reader)
	}
	return out
}

func plain(reactions []wire.Reaction) map[string]wire.Reaction {
	out := map[string]wire.Reaction{}
	for _, r := range reactions {
		out[r.Emoji.Name] = r
	}
	return out
}

// TestReactions_AreStoredAlikeInAnyOrder: a dead letter is replayed late, and a batch comes twice.
func TestReactions_AreStoredAlikeInAnyOrder(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 15 {
		message := id.ID(500 + round)
		var entries []bus.Entry
		want := newTally()
		for i := range 12 {
			p := wire.ReactionPayload{MessageID: message, Emoji: []string{fox, heart}[rnd.IntN(2)], UserID: id.ID(1 + rnd.IntN(2))}
			e := bus.Entry{Type: wire.ReactionAdded, Channel: generalID}
			switch rnd.IntN(6) {
			case 0:
				e.Type, p.UserID = wire.ReactionsCleared, 0
			case 1:
				e.Type, p.UserID, p.Emoji = wire.ReactionsCleared, 0, ""
			case 2, 3:
				e.Type = wire.ReactionRemoved
			}
			e.Pos, e.Body = at(100*round+i+1), mustEncode(p)
			entries = append(entries, e)
			r, err := reactionOf(e)
			if err != nil {
				t.Fatal(err)
			}
			want.apply(r)
		}
		shuffled := append(slices.Clone(entries), entries[rnd.IntN(len(entries))])
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for some := range slices.Chunk(shuffled, 1+rnd.IntN(4)) {
			slices.SortFunc(some, func(a, b bus.Entry) int { return a.Pos.Compare(b.Pos) })
			persist(t, w, some...)
		}
		counts, rows, err := store{pool}.reactions(context.Background(), []id.ID{message}, []id.ID{message}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.counts(1), counts[message]); diff != "" {
			t.Fatalf("round %d, counted: %s", round, diff)
		}
		if diff := cmp.Diff(want.counts(1), newTally(rows[message]).counts(1)); diff != "" {
			t.Fatalf("round %d, read: %s", round, diff)
		}
	}
}

func TestReactions_WaitForADeadCreateAndAreShown(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	m := b.post(wire.CreateMessage{Content: "poison"}).ID
	b.settled()
	b.react(memberID, m, fox)
	b.react(ownerID, m, fox)
	b.react(ownerID, m, heart)
	b.unreact(ownerID, m, heart)
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff([]wire.Reaction{tallied(fox, 2, true)}, b.reactions(memberID, m)); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	check("above the rows")
	b.settled()
	check("of dead letters")
	if n := len(b.letters()); n != 5 {
		t.Errorf("%d dead letters, want the create and what waits for it", n)
	}
	b.mend()
	if out := b.replay(b.letters()[0].Entry.Pos); len(out) != 5 {
		t.Errorf("replayed: %+v", out)
	}
	check("of rows")
	if n := b.count("SELECT count(*) FROM message_reactions WHERE is_on"); n != 2 || len(b.letters()) != 0 {
		t.Errorf("%d rows, %d letters", n, len(b.letters()))
	}
}
