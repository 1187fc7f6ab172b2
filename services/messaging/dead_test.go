package messaging

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// sicken makes Postgres refuse every text that begins with "poison"; mend lets it be.
func (b *bundle) sicken() {
	b.exec("ALTER TABLE messages ADD CONSTRAINT sick CHECK (content NOT LIKE 'poison%') NOT VALID")
}
func (b *bundle) mend() { b.exec("ALTER TABLE messages DROP CONSTRAINT sick") }

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}

// settled sends a good message and waits until it is stored, and so everything before it stored or set aside.
func (b *bundle) settled() {
	b.t.Helper()
	b.post(wire.CreateMessage{Content: "good"})
	b.stored()
	// The overlay has let go of it: what is read comes from rows and dead letters.
	eventually(b.t, func() bool {
		if _, err := b.svc.Checkpoint(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
		return b.svc.overlay.stats().ops == 0
	})
}

func (b *bundle) letters() []bus.Letter {
	b.t.Helper()
	letters, _, err := b.svc.graves.dead.List(b.t.Context(), bus.LetterFilter{Limit: 1000})
	if err != nil {
		b.t.Fatal(err)
	}
	return letters
}

func (b *bundle) replay(at ...bus.Position) []outcome {
	b.t.Helper()
	out, err := b.svc.graves.replay(b.t.Context(), b.svc.store, at)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bundle) drop(at ...bus.Position) []outcome {
	b.t.Helper()
	out, err := b.svc.graves.drop(b.t.Context(), b.svc.store, at)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bundle) start() {
	b.t.Helper()
	if err := b.svc.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) edit(m id.ID, text string) {
	b.t.Helper()
	b.message(b.do(memberID, "PATCH", path(generalID, m), map[string]any{"content": text}))
}

func (b *bundle) remove(m id.ID) {
	b.t.Helper()
	if a := b.do(memberID, "DELETE", path(generalID, m), nil); a.status != http.StatusNoContent {
		b.t.Fatalf("delete: %d %s", a.status, a.body)
	}
}

func TestDead_IsReplayedWhenItsCauseIsMended(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	b.post(wire.CreateMessage{Content: "first"})
	dead := b.post(wire.CreateMessage{Content: "poison"})
	b.settled()
	want := []string{"good", "poison", "first"}
	check := func(when string, letters, rows int) {
		t.Helper()
		if diff := cmp.Diff(want, b.history("")); diff != "" {
			t.Errorf("history %s: %s", when, diff)
		}
		if diff := cmp.Diff(want[1:], b.history("?around="+dead.ID.String()+"&limit=2")); diff != "" {
			t.Errorf("history around it %s: %s", when, diff)
		}
		if diff := cmp.Diff(want[1:], b.history("?before="+(dead.ID+1).String())); diff != "" {
			t.Errorf("history below it %s: %s", when, diff)
		}
		if diff := cmp.Diff(want[1:2], b.history("?limit=1&after="+(dead.ID-1).String())); diff != "" {
			t.Errorf("history above it %s: %s", when, diff)
		}
		m := b.message(b.do(memberID, "GET", path(generalID, dead.ID), nil))
		if m.Content != "poison" || m.ID != dead.ID || m.Author.ID != memberID {
			t.Errorf("the message %s: %+v", when, m)
		}
		if got := len(b.letters()); got != letters {
			t.Errorf("%d letters %s, want %d", got, when, letters)
		}
		if got := b.rows("true"); got != rows {
			t.Errorf("%d rows %s, want %d", got, when, rows)
		}
	}
	check("while it is dead", 1, 2)
	at := bus.PositionOf(dead.ID)
	if l := b.letters()[0]; l.Entry.Pos != at || l.Group != "pg" || l.Attempts != 3 || !strings.Contains(l.Error, "sick") {
		t.Errorf("the letter: %+v", l)
	}
	if out := b.replay(at); len(out) != 1 || !isData(out[0].err) {
		t.Errorf("replayed before it is mended: %+v", out)
	}
	check("after a vain replay", 1, 2)
	b.mend()
	last, _ := b.log.Last(t.Context())
	if out := b.replay(at); len(out) != 1 || out[0].err != nil {
		t.Errorf("replayed: %+v", out)
	}
	check("after the replay", 0, 3)
	if out := b.replay(at); len(out) != 0 {
		t.Errorf("replayed twice: %+v", out)
	}
	check("after the second replay", 0, 3)
	if now, _ := b.log.Last(t.Context()); now != last {
		t.Errorf("a replay entered the log: %s after %s", now, last)
	}
}

// A replay whose letters could not be taken out, or that two people begin at once, is done twice.
func TestDead_ReplayIsIdempotentAndTombstonesWin(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	kept, gone := b.post(wire.CreateMessage{Content: "poison kept"}), b.post(wire.CreateMessage{Content: "poison gone"})
	b.settled()
	b.mend()
	letters := b.letters()
	for _, l := range letters {
		if err := apply(t.Context(), b.svc.store, []bus.Entry{l.Entry}); err != nil {
			t.Fatal(err)
		}
	}
	b.exec("DELETE FROM messages WHERE id = $1", int64(gone.ID))
	b.exec("INSERT INTO message_tombstones (id) VALUES ($1)", int64(gone.ID))
	b.exec("UPDATE messages SET content = 'edited', edit_id = id + 1 WHERE id = $1", int64(kept.ID))
	mark, _ := b.svc.store.checkpoint(t.Context())
	if out := b.replay(positions(letters)...); len(out) != 2 || out[0].err != nil || out[1].err != nil {
		t.Errorf("replayed: %+v", out)
	}
	if n, m := b.rows("id = $1", int64(gone.ID)), b.rows("id = $1 AND content = 'edited'", int64(kept.ID)); n != 0 || m != 1 {
		t.Errorf("%d rows of the deleted message, %d of the edited one", n, m)
	}
	if now, _ := b.svc.store.checkpoint(t.Context()); now != mark || len(b.letters()) != 0 {
		t.Errorf("the checkpoint went from %s to %s, %d letters stay", mark, now, len(b.letters()))
	}
}

// Edits and deletes of a message whose create is dead wait for it, whether they came with it or later, and whichever of
// them somebody asks for.
func TestDead_ChangesWaitForTheirCreate(t *testing.T) {
	t.Parallel()
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprintf("together %v", together), func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{})
			b.sicken()
			type sick struct {
				ops    []string
				choose []int // the letters that are asked for, in this order
				m      id.ID
			}
			var all []*sick
			for _, ops := range [][]string{{"edit"}, {"edit", "edit"}, {"delete"}, {"edit", "delete"}} {
				for choose := range permutations(len(ops) + 1) {
					all = append(all, &sick{ops: ops, choose: choose})
				}
			}
			if !together {
				b.start()
			}
			for _, s := range all {
				s.m = b.post(wire.CreateMessage{Content: "poison"}).ID
			}
			if !together {
				b.settled()
			}
			for n := range 2 {
				for _, s := range all {
					switch {
					case n >= len(s.ops):
					case s.ops[n] == "edit":
						b.edit(s.m, fmt.Sprint("poison ", n))
					default:
						b.remove(s.m)
					}
				}
				if !together {
					b.settled()
				}
			}
			if together {
				b.start()
				b.settled()
			}
			want := map[id.ID]string{}
			for _, s := range all {
				if text := fmt.Sprint("poison ", len(s.ops)-1); !slices.Contains(s.ops, "delete") {
					want[s.m] = text
				}
			}
			check := func(when string) {
				t.Helper()
				for _, s := range all {
					a := b.do(memberID, "GET", path(generalID, s.m), nil)
					text, there := want[s.m]
					if there && (a.status != 200 || b.message(a).Content != text) || !there && a.status != 404 {
						t.Errorf("%v %s: %d %s, want %q", s.ops, when, a.status, a.body, text)
					}
				}
			}
			check("while dead")
			if n := b.rows("content LIKE 'poison%'"); n != 0 {
				t.Errorf("%d rows before the replay", n)
			}
			b.mend()
			for _, s := range all {
				var mine []bus.Position
				for _, l := range b.letters() {
					if l.Entry.Pos == bus.PositionOf(s.m) || slices.Contains(changed(l.Entry), s.m) {
						mine = append(mine, l.Entry.Pos)
						if at := bus.PositionOf(s.m); l.Entry.Pos != at && l.Behind != at {
							t.Errorf("%v: %s waits for %s, want %s", s.ops, l.Entry.Pos, l.Behind, at)
						}
					}
				}
				// A fold that came to nothing leaves no letters: create and delete of one batch.
				if len(mine) != len(s.ops)+1 && !(together && slices.Contains(s.ops, "delete")) {
					t.Errorf("%v: letters %v", s.ops, mine)
				}
				for _, i := range s.choose {
					if i < len(mine) {
						b.replay(mine[i])
					}
				}
			}
			if n := len(b.letters()); n != 0 {
				t.Errorf("%d letters after the replay", n)
			}
			check("after the replay")
			if diff := cmp.Diff(len(want), b.rows("content LIKE 'poison%'")); diff != "" {
				t.Errorf("rows: %s", diff)
			}
			for _, s := range all {
				if slices.Contains(s.ops, "delete") && b.count("SELECT count(*) FROM message_tombstones WHERE id = $1", int64(s.m)) != 1 {
					t.Errorf("%v: no tombstone", s.ops)
				}
			}
		})
	}
}

func (b *bundle) count(sql string, args ...any) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), sql, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// permutations gives every order of 0 to n-1.
func permutations(n int) func(func([]int) bool) {
	return func(yield func([]int) bool) {
		var grow func(have []int) bool
		grow = func(have []int) bool {
			if len(have) == n {
				return yield(slices.Clone(have))
			}
			for i := range n {
				if !slices.Contains(have, i) && !grow(append(slices.Clone(have), i)) {
					return false
				}
			}
			return true
		}
		grow(nil)
	}
}

// An edit that is at fault itself is shown over its row, until a newer one is stored; a later delete does not wait for it.
func TestDead_EditsAreShown(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	shown, newer, gone := b.post(wire.CreateMessage{Content: "a"}), b.post(wire.CreateMessage{Content: "b"}), b.post(wire.CreateMessage{Content: "c"})
	b.settled()
	for _, m := range []wire.Message{shown, newer, gone} {
		b.edit(m.ID, "poison")
	}
	b.settled()
	b.edit(newer.ID, "newer")
	b.remove(gone.ID)
	b.settled()
	want := []string{"good", "good", "good", "newer", "poison"}
	if diff := cmp.Diff(want, b.history("")); diff != "" {
		t.Error(diff)
	}
	if m := b.message(b.do(memberID, "GET", path(generalID, shown.ID), nil)); m.Content != "poison" {
		t.Errorf("shown: %q", m.Content)
	}
	if a := b.do(memberID, "GET", path(generalID, gone.ID), nil); a.status != 404 {
		t.Errorf("gone: %d", a.status)
	}
	letters := b.letters()
	if len(letters) != 3 {
		t.Fatalf("letters: %+v", letters)
	}
	b.mend()
	b.replay(positions(letters)...)
	if diff := cmp.Diff(want, b.history("")); diff != "" || len(b.letters()) != 0 {
		t.Errorf("after the replay, %d letters: %s", len(b.letters()), diff)
	}
}

func TestDead_DropTakesAlongWhatWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	edited, removed, one := b.post(wire.CreateMessage{Content: "poison 1"}), b.post(wire.CreateMessage{Content: "poison 2"}), b.post(wire.CreateMessage{Content: "poison 3"})
	b.settled()
	b.edit(edited.ID, "poison edit")
	b.remove(removed.ID)
	b.edit(one.ID, "poison edit")
	b.settled()
	if out := b.drop(bus.PositionOf(edited.ID), bus.PositionOf(removed.ID)); len(out) != 4 {
		t.Errorf("dropped %+v", out)
	}
	// The edit alone may be dropped; the message then is what it was.
	for _, l := range b.letters() {
		if l.Entry.Type == wire.MessageUpdated {
			if out := b.drop(l.Entry.Pos); len(out) != 1 {
				t.Errorf("dropped %+v", out)
			}
		}
	}
	if diff := cmp.Diff([]string{"good", "good", "poison 3"}, b.history("")); diff != "" {
		t.Error(diff)
	}
	if n := b.count("SELECT count(*) FROM message_tombstones WHERE id = $1", int64(removed.ID)); n != 1 {
		t.Error("a delete was forgotten with the create that it waited for")
	}
	b.mend()
	b.replay(bus.PositionOf(one.ID))
	if n := b.rows("content LIKE 'poison%'"); n != 1 || len(b.letters()) != 0 {
		t.Errorf("%d rows, %d letters", n, len(b.letters()))
	}
}

// Whoever reads sees every message that was acknowledged before, while messages die, are replayed and are stored.
func TestDead_EveryReadHasWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{PruneEvery: 1e6}) // 1 ms
	b.sicken()
	b.start()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop, below
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			letters, _, err := b.svc.graves.dead.List(t.Context(), bus.LetterFilter{Limit: 2})
			if err == nil {
				// Under another name the constraint does not see them.
				for _, l := range letters {
					l.Entry.Body = []byte(strings.Replace(string(l.Entry.Body), `"content":"poison`, `"content":"cured `, 1))
					if err = apply(t.Context(), b.svc.store, []bus.Entry{l.Entry}); err == nil {
						_, err = b.svc.graves.dead.Remove(t.Context(), []bus.Position{l.Entry.Pos})
					}
				}
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	var first id.ID
	for i := range 150 {
		text := fmt.Sprint("good ", i)
		if i%3 == 0 {
			text = fmt.Sprint("poison ", i)
		}
		m := b.post(wire.CreateMessage{Content: text})
		if got := b.history("?limit=100"); len(got) != min(i+1, 100) {
			t.Fatalf("%d messages after %d posts", len(got), i+1)
		}
		if i == 0 {
			first = m.ID
		} else if got := b.history("?limit=100&after=" + first.String()); len(got) != min(i, 100) {
			t.Fatalf("%d messages above the first after %d posts", len(got), i+1)
		}
		if i >= 2 {
			if got := b.history("?limit=3&before=" + m.ID.String()); len(got) != min(i, 3) {
				t.Fatalf("%v before post %d", got, i)
			}
		}
		b.message(b.do(memberID, "GET", path(generalID, m.ID), nil))
	}
	close(stop)
	<-done
}

// Between the look at the dead letters and that at the rows an entry may die, and the checkpoint pass it.
func TestDead_AReadKnowsThatItMissedABurial(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	b.settled()
	still := func(view *morgue, floor bus.Position, want bool) {
		t.Helper()
		mark, err := b.svc.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := b.svc.graves.still(t.Context(), view, floor, mark); err != nil || ok != want {
			t.Errorf("from %s to %s: %v, %v; want %v", floor, mark, ok, err, want)
		}
	}
	look := func() (*morgue, bus.Position) {
		t.Helper()
		floor := b.svc.overlay.checkpoint()
		view, err := b.svc.graves.view(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return view, floor
	}
	view, floor := look()
	still(view, floor, true)
	b.settled()
	still(view, floor, true) // the checkpoint has moved, and nothing has died
	b.post(wire.CreateMessage{Content: "poison"})
	b.settled()
	still(view, floor, false)
	view, floor = look()
	still(view, floor, true)
}

func TestDead_DeskFiltersPagesAndRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	var ids []string
	for i := range 5 {
		ids = append(ids, bus.PositionOf(b.post(wire.CreateMessage{Content: fmt.Sprint("poison ", i)}).ID).String())
	}
	b.settled()
	srv := httptest.NewServer(b.svc.DeadLetters())
	t.Cleanup(srv.Close)
	ask := func(method, path, body string, want int, out any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s %s: %d, want %d", method, path, resp.StatusCode, want)
		}
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Error(err)
		}
	}
	var page DeadPage
	var got []string
	for cursor := ""; cursor != "" || len(got) == 0; cursor = page.Next {
		page = DeadPage{}
		ask("GET", "/dlq?limit=2&error=sick&type=MESSAGE_SENT&cursor="+cursorOr(cursor), "", 200, &page)
		for _, l := range page.Letters {
			if l.Body != "" {
				t.Error("a list shows what is in the letters")
			}
			got = append(got, l.ID)
		}
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Error(diff)
	}
	page = DeadPage{}
	ask("GET", "/dlq?"+url.Values{"from": {ids[1]}, "to": {ids[2]}}.Encode(), "", 200, &page)
	if len(page.Letters) != 2 {
		t.Errorf("from %s to %s: %+v", ids[1], ids[2], page)
	}
	var letter DeadLetter
	ask("GET", "/dlq/"+ids[3], "", 200, &letter)
	if letter.ID != ids[3] || !strings.Contains(letter.Body, "poison 3") || letter.Actor != memberID {
		t.Errorf("shown: %+v", letter)
	}
	var failure struct{ Error string }
	ask("GET", "/dlq/1-1", "", 404, &failure)
	for _, bad := range []string{"/dlq?limit=0", "/dlq?limit=x", "/dlq?from=7", "/dlq?colour=red", "/dlq?group=other", "/dlq/x"} {
		ask("GET", bad, "", 400, &failure)
	}
	for _, bad := range []string{"", "{}", `{"ids":["x"]}`, `{"ids":["1-1"],"filter":{}}`} {
		ask("POST", "/dlq/drop", bad, 400, &failure)
	}
	var report DeadReport
	ask("POST", "/dlq/replay", `{"ids":["`+ids[0]+`","1-1"]}`, 200, &report)
	if len(report.Done) != 0 || len(report.Failed) != 1 || len(report.Missing) != 1 {
		t.Errorf("vain replay: %+v", report)
	}
	b.mend()
	report = DeadReport{}
	ask("POST", "/dlq/replay", `{"filter":{"to":["`+ids[1]+`"]}}`, 200, &report)
	if diff := cmp.Diff(ids[:2], report.Done); diff != "" {
		t.Error(diff)
	}
	report = DeadReport{}
	ask("POST", "/dlq/drop", `{"filter":{}}`, 200, &report)
	if diff := cmp.Diff(ids[2:], report.Done); diff != "" || len(b.letters()) != 0 {
		t.Errorf("dropped: %s", diff)
	}
}

func cursorOr(cursor string) string {
	if cursor == "" {
		return "0-0"
	}
	return cursor
}
