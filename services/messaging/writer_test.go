package messaging

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// leading is a writer that leads, over a database of its own.
func leading(t testing.TB) (*writer, *pgxpool.Pool) {
	t.Helper()
	pool := openPool(t, harness.Postgres(t))
	w := &writer{store: store{pool}, timeout: 30 * time.Second, lease: time.Hour}
	takeLead(t, w)
	return w, pool
}

func takeLead(t testing.TB, w *writer) {
	t.Helper()
	release, err := w.lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
}

func persist(t testing.TB, w *writer, entries ...bus.Entry) {
	t.Helper()
	if err := w.persist(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

// contents are the stored messages of a channel.
func contents(t testing.TB, pool *pgxpool.Pool, channel id.ID) map[id.ID]string {
	t.Helper()
	out, err := readContents(t.Context(), pool, channel)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readContents(ctx context.Context, pool *pgxpool.Pool, channel id.ID) (map[id.ID]string, error) {
	rows, err := pool.Query(ctx, "SELECT id, content, body FROM messages WHERE channel_id = $1", int64(channel))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[id.ID]string{}
	for rows.Next() {
		var message int64
		var content, body string
		if err := rows.Scan(&message, &content, &body); err != nil {
			return nil, err
		}
		if want := string(bodyJSON(channel, content)); body != want {
			return nil, fmt.Errorf("body %s, want %s", body, want)
		}
		out[id.ID(message)] = content
	}
	return out, rows.Err()
}

// However the log is cut into batches, and whatever of it is delivered again, the rows are what the log comes to.
func TestWriter_GivesTheSameRowsForAnyBatchesAndRedeliveries(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	after, channel := 0, id.ID(5000)
	rapid.Check(t, func(t *rapid.T) {
		channel++
		n := rapid.IntRange(1, 25).Draw(t, "entries")
		s := draw(t, channel, after, n)
		after += n // ids are unique over all runs
		done := 0
		for done < n {
			from := rapid.IntRange(0, done).Draw(t, "from") // below done: delivered again
			to := rapid.IntRange(done+1, n).Draw(t, "to")
			if err := w.persist(context.Background(), s.entries[from:to]); err != nil {
				t.Fatal(err)
			}
			done = to
			got, err := readContents(context.Background(), pool, channel)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s.states[done], got); diff != "" {
				t.Fatal(diff)
			}
			if mark, err := w.store.checkpoint(context.Background()); err != nil || mark != s.pos(done) {
				t.Fatalf("checkpoint %s, want %s: %v", mark, s.pos(done), err)
			}
		}
	})
}

func TestWriter_DoesNotBringBackWhatWasDeleted(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	create := sentEntry(at(1), generalID, "secret")
	message := bus.MessageID(at(1))
	persist(t, w, create)
	persist(t, w, deleteEntry(at(2), generalID, message))
	persist(t, w, create, editEntry(at(3), generalID, message, "again"))
	if got := contents(t, pool, generalID); len(got) != 0 {
		t.Errorf("after a replayed create: %v", got)
	}
	if mark, err := w.store.checkpoint(t.Context()); err != nil || mark != at(3) {
		t.Errorf("checkpoint %s: %v", mark, err)
	}
}

func TestWriter_KeepsTheNewerEdit(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	message := bus.MessageID(at(1))
	older, newer := editEntry(at(2), generalID, message, "older"), editEntry(at(3), generalID, message, "newer")
	persist(t, w, sentEntry(at(1), generalID, "first"), newer)
	persist(t, w, older)
	persist(t, w, sentEntry(at(1), generalID, "first"))
	if diff := cmp.Diff(map[id.ID]string{message: "newer"}, contents(t, pool, generalID)); diff != "" {
		t.Error(diff)
	}
	if mark, err := w.store.checkpoint(t.Context()); err != nil || mark != at(3) {
		t.Errorf("a redelivery moved the checkpoint back to %s: %v", mark, err)
	}
}

// An entry that a process took which had lost the lead comes after its successors, and must not be lost.
func TestWriter_StoresAStragglerBelowTheCheckpoint(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	persist(t, w, sentEntry(at(2), generalID, "second"))
	persist(t, w, sentEntry(at(1), generalID, "first"))
	if got := contents(t, pool, generalID); len(got) != 2 {
		t.Errorf("stored: %v", got)
	}
}

// After a restore rows may stand beyond the checkpoint. They are no bad entries.
func TestWriter_CopesWithRowsBeyondTheCheckpoint(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	message := bus.MessageID(at(2))
	persist(t, w, sentEntry(at(1), generalID, "first"), sentEntry(at(2), generalID, "second"))
	w.held.mark = bus.Position{}
	persist(t, w, sentEntry(at(1), generalID, "first"), sentEntry(at(2), generalID, "second"), editEntry(at(3), generalID, message, "edited"))
	want := map[id.ID]string{bus.MessageID(at(1)): "first", message: "edited"}
	if diff := cmp.Diff(want, contents(t, pool, generalID)); diff != "" {
		t.Error(diff)
	}
}

func TestWriter_IsFencedByItsSuccessor(t *testing.T) {
	t.Parallel()
	old, pool := leading(t)
	persist(t, old, sentEntry(at(1), generalID, "before"))

	// The old writer keeps its connection and does not know that its lock is gone.
	if _, err := old.held.conn.Exec(t.Context(), "SELECT pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	next := &writer{store: store{pool}, timeout: 30 * time.Second, lease: time.Hour}
	takeLead(t, next)
	if next.held.mark != at(1) {
		t.Errorf("the successor begins at %s", next.held.mark)
	}
	if err := old.persist(t.Context(), []bus.Entry{sentEntry(at(2), generalID, "stale")}); !errors.Is(err, bus.ErrFenced) {
		t.Errorf("the old writer got %v", err)
	}
	persist(t, next, sentEntry(at(3), generalID, "after"))
	want := map[id.ID]string{bus.MessageID(at(1)): "before", bus.MessageID(at(3)): "after"}
	if diff := cmp.Diff(want, contents(t, pool, generalID)); diff != "" {
		t.Error(diff)
	}
}

func TestWriter_GivesTheLeadUpWithItsConnection(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	next := &writer{store: store{pool}, timeout: 30 * time.Second, lease: time.Hour}
	got := make(chan error, 1)
	go func() { // ends with the receive below
		release, err := next.lead(t.Context())
		if err == nil {
			defer release()
		}
		got <- err
	}()
	pid := w.held.conn.PgConn().PID()
	if _, err := pool.Exec(t.Context(), "SELECT pg_terminate_backend($1)", int64(pid)); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the successor: %v", err)
	}
	if err := w.persist(t.Context(), []bus.Entry{sentEntry(at(1), generalID, "stale")}); !errors.Is(err, bus.ErrFenced) {
		t.Errorf("the old writer got %v", err)
	}
}

// TestWriter_TakesTheLeadFromWhoStandsStill: a process that is stopped keeps its connection, and with it the lock.
func TestWriter_TakesTheLeadFromWhoStandsStill(t *testing.T) {
	t.Parallel()
	still, pool := leading(t)
	still.held.beats.Stop()
	next := &writer{store: store{pool}, timeout: 30 * time.Second, lease: time.Millisecond}
	takeLead(t, next)
	if err := still.persist(t.Context(), []bus.Entry{sentEntry(at(1), generalID, "stale")}); !errors.Is(err, bus.ErrFenced) {
		t.Errorf("the old writer got %v", err)
	}
	persist(t, next, sentEntry(at(2), generalID, "after"))
}

func TestWriter_KeepsTheLeadWhileItRuns(t *testing.T) {
	t.Parallel()
	pool := openPool(t, harness.Postgres(t))
	w := &writer{store: store{pool}, timeout: 30 * time.Second, lease: 40 * time.Millisecond}
	takeLead(t, w)
	persist(t, w, sentEntry(at(1), generalID, "before"))
	next, err := (store{pool}).connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiting := &lead{office: writing, conn: next}
	defer waiting.end()
	if ok, err := waiting.tryLock(t.Context(), time.Hour); ok || err != nil {
		t.Fatalf("the lead was free, or %v", err)
	}
	// It shows that it runs, again and again, without anything to write.
	var shown, last time.Time
	eventually(t, func() bool {
		const query = "SELECT state_change FROM pg_stat_activity WHERE pid = $1"
		if err := pool.QueryRow(t.Context(), query, int64(w.held.conn.PgConn().PID())).Scan(&shown); err != nil {
			t.Fatal(err)
		}
		before := last
		last = shown
		return !before.IsZero() && shown.After(before)
	})
	persist(t, w, sentEntry(at(2), generalID, "after"))
}

func TestWriter_TellsBadEntriesFromOutages(t *testing.T) {
	t.Parallel()
	w, pool := leading(t)
	nul := sentEntry(at(1), generalID, "a\x00b")
	for what, e := range map[string]bus.Entry{
		"NUL":             nul,
		"invalid UTF-8":   {Pos: at(1), Type: wire.MessageSent, Channel: generalID, Body: []byte("{\"message\":{\"content\":\"\xff\"}}")},
		"garbage":         {Pos: at(1), Type: wire.MessageSent, Channel: generalID, Body: []byte("{")},
		"no message":      {Pos: at(1), Type: wire.MessageSent, Channel: generalID, Body: []byte(`{"author":{}}`)},
		"no channel":      {Pos: at(1), Type: wire.MessageSent, Body: nul.Body},
		"wrong type":      {Pos: at(1), Type: wire.MessageSent, Channel: generalID, Body: []byte(`{"message":{"content":7}}`)},
		"edit of nothing": {Pos: at(1), Type: wire.MessageUpdated, Channel: generalID, Body: []byte(`{"message":{"content":"x"}}`)},
		"garbled delete":  {Pos: at(1), Type: wire.MessageDeleted, Channel: generalID, Body: []byte(`{"ids":[true]}`)},
		"impossible id":   {Pos: bus.Position{Ms: at(1).Ms, Seq: 4096}, Type: wire.MessageSent, Channel: generalID, Body: nul.Body},
	} {
		if err := w.persist(t.Context(), []bus.Entry{e}); !isData(err) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if w.held.conn.IsClosed() {
		t.Fatal("a bad entry cost the connection")
	}
	if _, err := pool.Exec(t.Context(), "ALTER TABLE messages RENAME TO elsewhere"); err != nil {
		t.Fatal(err)
	}
	pid := w.held.conn.PgConn().PID()
	if _, err := pool.Exec(t.Context(), "SELECT pg_terminate_backend($1)", int64(pid)); err != nil {
		t.Fatal(err)
	}
	if err := w.persist(t.Context(), []bus.Entry{nul}); isData(err) {
		t.Errorf("a lost connection was taken for a bad entry: %v", err)
	}
}

func TestWriter_SetsPoisonAsideAndGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var poison []bus.Position
	raw := func(body []byte) bus.Position {
		r, err := b.log.Publish(t.Context(), bus.Post{Entry: bus.Entry{
			Type: wire.MessageSent, Actor: memberID, Guild: guildID, Channel: generalID, Body: body,
		}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Pos
	}
	for i := range 10 {
		b.post(wire.CreateMessage{Content: fmt.Sprint(i)})
		switch i {
		case 3:
			poison = append(poison, raw(sentEntry(at(1), generalID, "\x00").Body))
		case 6:
			poison = append(poison, raw([]byte("this is no JSON")))
		}
	}
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	if got := b.rows("channel_id = $1", int64(generalID)); got != 10 {
		t.Errorf("%d rows stored", got)
	}
	dead, err := b.client.Do(t.Context(), b.client.B().Xrange().Key("dead:{s00}:pg").Start("-").End("+").Build()).AsXRange()
	if err != nil {
		t.Fatal(err)
	}
	var buried []string
	for _, e := range dead {
		buried = append(buried, e.ID)
	}
	if diff := cmp.Diff([]string{poison[0].String(), poison[1].String()}, buried); diff != "" {
		t.Error(diff)
	}
	// The one that can be read is in the history: it was acknowledged.
	if got := b.history("?limit=100"); len(got) != 11 || got[6] != "\x00" {
		t.Errorf("history: %q", got)
	}
}

// A crash between COMMIT and XACK: the batch is stored and comes again.
func TestWriter_StoresOnceWhatIsDeliveredTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "kept"})
	gone := b.post(wire.CreateMessage{Content: "deleted"})
	if a := b.do(memberID, "DELETE", path(generalID, gone.ID), nil); a.status != 204 {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	crash := errors.New("killed between COMMIT and XACK")
	calls := 0
	again := make(chan struct{})
	w := &writer{store: b.svc.store, timeout: 30 * time.Second, lease: time.Hour}
	group := bus.NewGroup(b.log, bus.GroupConfig{
		Name: groupName, Lead: w.lead, IsData: isData,
		Handle: func(ctx context.Context, entries []bus.Entry) error {
			if err := w.persist(ctx, entries); err != nil {
				return err
			}
			if calls++; calls == 1 {
				return crash
			}
			if calls == 2 {
				close(again)
			}
			return nil
		},
	})
	if err := group.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-again
	group.Stop()
	if all, kept := b.rows("true"), b.rows("id = $1 AND content = 'kept'", int64(m.ID)); all != 1 || kept != 1 {
		t.Errorf("stored: %d rows, %d of them the right one", all, kept)
	}
}

// TestWriter_IsDoneWithPoison: what is set aside is behind the checkpoint, also when nothing comes after it.
func TestWriter_IsDoneWithPoison(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, last := range []func(){
		func() { b.post(wire.CreateMessage{Content: "poison"}) },
		func() { // behind its create
			m := b.letters()[0].Entry.Pos
			b.message(b.do(memberID, "PATCH", path(generalID, bus.MessageID(m)), wire.EditMessage{Content: wire.Some("edited")}))
		},
		func() {
			// An entry that this binary cannot read.
			add := b.client.B().Xadd().Key("ev:{s00}").Id("*").FieldValue().FieldValue("format", "9").Build()
			if err := b.client.Do(t.Context(), add).Error(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		have := len(b.letters())
		last()
		b.stored()
		eventually(t, func() bool { return b.svc.overlay.stats().ops == 0 })
		if n := len(b.letters()); n != have+1 {
			t.Errorf("%d dead letters, want %d", n, have+1)
		}
	}
	if got := b.history(""); len(got) != 1 || got[0] != "edited" {
		t.Errorf("the history: %v", got)
	}
}

// TestWriter_GoesOnWhenItsGroupWasDestroyed: by hand, amid posts. Each is stored once.
func TestWriter_GoesOnWhenItsGroupWasDestroyed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 30 {
		text := fmt.Sprint("post ", i)
		b.post(map[string]any{"content": text})
		want = append([]string{text}, want...)
		if i%10 == 5 {
			destroy := b.client.B().XgroupDestroy().Key("ev:{s00}").Group(groupName).Build()
			if err := b.client.Do(t.Context(), destroy).Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.stored()
	if n := b.rows("true"); n != 30 {
		t.Errorf("%d rows, want 30", n)
	}
	if diff := cmp.Diff(want, b.history("?limit=100")); diff != "" {
		t.Error(diff)
	}
}

// TestOverlay_IsMadeAnewAfterACut: what is stored and what is not are both there, and nothing twice, when the tail had to begin anew. Until
// then a read is answered 503 and never with less than there is.
func TestOverlay_IsMadeAnewAfterACut(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.post(map[string]any{"content": "one"})
	b.post(map[string]any{"content": "two"})
	last, err := b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.svc.cut(t.Context(), bus.Cut{Behind: bus.Position{Ms: last.Ms + 1}}); err != nil {
		t.Fatal(err)
	}
	if a := b.do(memberID, "GET", path(generalID), nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("while the overlay is made anew: %d %s", a.status, a.body)
	}
	if _, err := b.log.Begin(t.Context(), 0); err != nil { // which is open already
		t.Fatal(err)
	}
	if ok, err := b.log.Close(t.Context(), b.tail.Epoch()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := b.log.Begin(t.Context(), last.Ms+1000); err != nil {
		t.Fatal(err)
	}
	if last, err = b.log.Last(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.tail.WaitFor(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"two", "one"}, b.history("")); diff != "" {
		t.Error(diff)
	}
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	if diff := cmp.Diff([]string{"two", "one"}, b.history("")); diff != "" {
		t.Error(diff)
	}
}
