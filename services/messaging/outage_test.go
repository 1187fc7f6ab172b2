package messaging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
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

// pending is how many entries the writer has been handed and has not finished.
func (b *bundle) pending() int64 {
	b.t.Helper()
	summary, err := b.client.Do(b.t.Context(), b.client.B().Xpending().Key("ev:{s00}").Group(groupName).Build()).ToArray()
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := summary[0].AsInt64()
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// past is a channel's messages as they should be: by age, "" for deleted ones.
type past struct {
	ids   []id.ID
	texts []string
}

func (b *bundle) say(p *past, n int) {
	b.t.Helper()
	for range n {
		text := fmt.Sprint("number ", len(p.ids))
		p.ids, p.texts = append(p.ids, b.post(wire.CreateMessage{Content: text}).ID), append(p.texts, text)
	}
}

func (b *bundle) change(p *past, i int) {
	b.t.Helper()
	p.texts[i] += ", edited"
	b.message(b.do(memberID, "PATCH", path(generalID, p.ids[i]), wire.EditMessage{Content: wire.Some(p.texts[i])}))
}

func (b *bundle) erase(p *past, i int) {
	b.t.Helper()
	p.texts[i] = ""
	if a := b.do(memberID, "DELETE", path(generalID, p.ids[i]), nil); a.status != 204 {
		b.t.Fatalf("delete: %d %s", a.status, a.body)
	}
}

// below are the n messages next below the i-th, newest first.
func (p *past) below(i, n int) []string {
	texts := []string{}
	for i--; i >= 0 && len(texts) < n; i-- {
		if p.texts[i] != "" {
			texts = append(texts, p.texts[i])
		}
	}
	return texts
}

// above are the n messages next to the i-th from it on, newest first.
func (p *past) above(i, n int) []string {
	texts := []string{}
	for ; i < len(p.texts) && len(texts) < n; i++ {
		if p.texts[i] != "" {
			texts = append(texts, p.texts[i])
		}
	}
	slices.Reverse(texts)
	return texts
}

// TestOutage_OfPostgresIsReadThroughAndThenStored: while Postgres is stopped, what was posted since is read in every direction, from
// memory and from the log; what needs older rows is refused and never shown short; and then everything is stored once.
func TestOutage_OfPostgresIsReadThroughAndThenStored(t *testing.T) {
	t.Parallel()
	const old, batch = 20, 10
	for name, config := range map[string]Config{
		"some bodies in memory": {Batch: batch, OverlayBytes: 8 << 10},
		"some ids in memory":    {Batch: batch, OverlayBytes: 8 << 10, OverlayIDBytes: 40*(opBytes+itemBytes) + shelfBytes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.PostgresServer(t)
			b := setupOn(t, config, server.URL())
			b.start()
			var p past
			b.say(&p, old)
			b.stored()
			eventually(t, func() bool { return b.svc.overlay.stats().ops == 0 })

			server.Stop()
			b.say(&p, 60)
			for _, i := range []int{45, 65, 75} {
				b.change(&p, i)
			}
			for _, i := range []int{50, 66, 78} {
				b.erase(&p, i)
			}
			at := func(i int) string { return p.ids[i].String() }
			known := old // from here on it can be read
			if config.OverlayIDBytes > 0 {
				known = 42 // 40 messages, less two for the room of six changes
			}
			check := func(query string, want []string) {
				t.Helper()
				if diff := cmp.Diff(want, b.history(query)); diff != "" {
					t.Errorf("%s: %s", query, diff)
				}
			}
			recent := func() {
				t.Helper()
				check("?limit=10", p.below(len(p.ids), 10))
				check("?limit=20&before="+at(70), p.below(70, 20))
				check("?limit=18&before="+at(known+20), p.below(known+20, 18))
				check("?limit=20&after="+at(known), p.above(known+1, 20))
				check("?limit=100&after="+at(known), p.above(known+1, 100))
				check("?limit=20&around="+at(known+12), append(p.above(known+12, 10), p.below(known+12, 10)...))
				check("?limit=20&around="+at(76), append(p.above(76, 10), p.below(76, 10)...))
			}
			recent()
			older := map[string]string{
				"before, across":  path(generalID) + "?limit=21&before=" + at(known+20),
				"before, older":   path(generalID) + "?limit=5&before=" + at(10),
				"after, across":   path(generalID) + "?limit=20&after=" + at(known-2),
				"around, across":  path(generalID) + "?limit=20&around=" + at(known+3),
				"all":             path(generalID) + "?limit=100",
				"an old message":  path(generalID, p.ids[5]),
				"an idle channel": path(hiddenID),
			}
			for what, url := range older {
				if a := b.do(ownerID, "GET", url, nil); a.status != 503 || a.retryAfter == "" {
					t.Errorf("%s: %d %.100s", what, a.status, a.body)
				}
			}
			if s := b.svc.overlay.stats(); s.bytes > config.OverlayBytes || config.OverlayIDBytes > 0 && s.idBytes > config.OverlayIDBytes {
				t.Errorf("the overlay has outgrown its bounds: %+v", s)
			}
			if n := b.pending(); n > 2*batch {
				t.Errorf("%d entries are pending", n)
			}

			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.stored()
			eventually(t, func() bool { return b.svc.overlay.stats().oldest.IsZero() })
			recent()
			check("?limit=100", p.below(len(p.ids), 100))
			check("?limit=100&before="+at(60), p.below(60, 100))
			check("?limit=100&after="+at(5), p.above(6, 100))
			check("?limit=60&around="+at(old), append(p.above(old, 30), p.below(old, 30)...))
			var rows, distinct int
			err := b.pool.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT id) FROM messages").Scan(&rows, &distinct)
			if left := len(p.below(len(p.ids), len(p.ids))); err != nil || rows != left || distinct != left {
				t.Errorf("%d rows, %d ids (%v), want %d", rows, distinct, err, left)
			}
			if n := len(b.letters()); n != 0 || b.pending() != 0 {
				t.Errorf("%d dead letters, %d pending", n, b.pending())
			}
		})
	}
}

// TestOutage_ReactionsToWhatIsRecentGoOn: of a message above the checkpoint there are no rows, and nobody asks Postgres for them.
func TestOutage_ReactionsToWhatIsRecentGoOn(t *testing.T) {
	t.Parallel()
	server := harness.PostgresServer(t)
	b := setupOn(t, Config{}, server.URL())
	b.start()
	old := b.post(wire.CreateMessage{Content: "old"}).ID
	b.stored()
	eventually(t, func() bool { return b.svc.overlay.stats().ops == 0 })

	server.Stop()
	recent := b.post(wire.CreateMessage{Content: "recent"}).ID
	f := func(method string, message id.ID, want int) {
		t.Helper()
		if a := b.do(memberID, method, path(generalID, message)+"/reactions/🦊/@me", nil); a.status != want {
			t.Errorf("%s of %s: %d %s, want %d", method, message, a.status, a.body, want)
		}
	}
	f("PUT", recent, 204)
	f("DELETE", recent, 204)
	f("PUT", recent, 204)
	f("PUT", old, 503)
	m := b.message(b.do(memberID, "GET", path(generalID, recent), nil))
	if len(m.Reactions) != 1 || m.Reactions[0].Count != 1 || !m.Reactions[0].Me {
		t.Errorf("the recent message has %+v", m.Reactions)
	}
}

// TestOutage_IsNeverADeadLetter: a Postgres that is there and does not serve is waited for, whatever it says.
func TestOutage_IsNeverADeadLetter(t *testing.T) {
	t.Parallel()
	server := harness.PostgresServer(t)
	b := setupOn(t, Config{}, server.URL()+"&statement_timeout=100")
	admin := func(do func(*pgx.Conn) error) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), server.AdminURL())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(do(conn), conn.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	exec := func(statements ...string) {
		t.Helper()
		admin(func(conn *pgx.Conn) error {
			for _, s := range statements {
				if _, err := conn.Exec(t.Context(), s); err != nil {
					return fmt.Errorf("%s: %w", s, err)
				}
			}
			return nil
		})
	}
	b.start()
	stored := 0
	during := func(what, code string) {
		t.Helper()
		b.post(wire.CreateMessage{Content: what})
		stored++
		eventually(t, func() bool {
			_, err := b.pool.Exec(t.Context(), "SELECT FROM messages")
			var failure *pgconn.PgError
			return errors.As(err, &failure) && failure.Code == code
		})
		b.post(wire.CreateMessage{Content: what})
		stored++
	}
	after := func(what string) {
		t.Helper()
		b.stored()
		if rows, letters := b.rows("true"), len(b.letters()); rows != stored || letters != 0 {
			t.Errorf("%s: %d rows, want %d; %d dead letters", what, rows, stored, letters)
		}
	}

	locker, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locker.Exec(t.Context(), "BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	during("a statement takes too long", "57014")
	eventually(t, func() bool { return b.pending() > 0 })
	if err := locker.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	after("a statement takes too long")

	exec("ALTER ROLE xcord CONNECTION LIMIT 0", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'xcord'")
	during("no connection is left", "53300")
	exec("ALTER ROLE xcord CONNECTION LIMIT -1")
	after("no connection is left")

	// A standby that is closed to readers, until it is promoted.
	var data string
	admin(func(conn *pgx.Conn) error { return conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&data) })
	exec("ALTER SYSTEM SET hot_standby = off")
	server.Stop()
	if err := os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- server.Start(t.Context()) }()
	during("it is in recovery", "57P03")
	if err := os.WriteFile(filepath.Join(data, "promote"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	after("it is in recovery")
}

// TestOutage_DoesNotDenyWhatWasForgotten: Postgres is back and far behind, and what lies between is in the log only.
func TestOutage_DoesNotDenyWhatWasForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{OverlayIDBytes: 3*(opBytes+itemBytes) + shelfBytes})
	var p past
	b.say(&p, 6)
	for what, a := range map[string]answer{
		"a message":             b.do(memberID, "GET", path(generalID, p.ids[1]), nil),
		"an edit":               b.do(memberID, "PATCH", path(generalID, p.ids[1]), wire.EditMessage{Content: wire.Some("x")}),
		"a page":                b.do(memberID, "GET", path(generalID)+"?limit=5", nil),
		"a channel without any": b.do(ownerID, "GET", path(hiddenID), nil),
	} {
		if a.status != 503 || a.retryAfter == "" {
			t.Errorf("%s: %d %.100s", what, a.status, a.body)
		}
	}
	if diff := cmp.Diff(p.below(6, 3), b.history("?limit=3")); diff != "" {
		t.Error(diff)
	}
	b.start()
	b.stored()
	eventually(t, func() bool { return b.svc.overlay.stats().oldest.IsZero() })
	if diff := cmp.Diff(p.below(6, 6), b.history("")); diff != "" {
		t.Error(diff)
	}
}
