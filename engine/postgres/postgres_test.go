package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(within(t), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) error {
	t.Helper()
	_, err := pool.Exec(within(t), sql, args...)
	return err
}

func TestOpen_BoundsStatements(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(within(t), postgres.Config{URL: harness.Postgres(t), StatementTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	err = exec(t, pool, "select pg_sleep(60)")
	if err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("a statement of a minute: %v, want 57014", err)
	}
	if postgres.IsData(err) {
		t.Error("a statement time-out counts as a data error")
	}
}

func TestConfig_NeverShowsThePassword(t *testing.T) {
	t.Parallel()
	err := postgres.Config{URL: "postgres://u:secret@h:port/"}.Validate()
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Validate: %v", err)
	}
}

func TestIsData_TellsPoisonFromOutage(t *testing.T) {
	t.Parallel()
	pool := open(t, harness.Postgres(t))
	if err := exec(t, pool, "create table things (id bigint primary key, name text not null, extra jsonb, small varchar(3), constraint named unique (name))"); err != nil {
		t.Fatal(err)
	}
	if err := exec(t, pool, "insert into things values (1, 'one')"); err != nil {
		t.Fatal(err)
	}
	data := func(code, sql string, args ...any) error {
		t.Helper()
		err := exec(t, pool, sql, args...)
		if err == nil || !strings.Contains(err.Error(), code) {
			t.Fatalf("%s: %v, want %s", sql, err, code)
		}
		if !postgres.IsData(fmt.Errorf("wrapped: %w", err)) {
			t.Errorf("%s is not a data error", code)
		}
		return err
	}
	data("22021", "insert into things values (2, $1)", "a\x00b")
	data("22P05", "insert into things values (2, 'two', $1)", `{"a":"\u0000"}`)
	data("22001", "insert into things values (2, 'two', null, 'long')")
	data("23502", "insert into things values (2, null)")
	data("42P01", "insert into nothing values (2)")
	unique := data("23505", "insert into things values (2, 'one')")
	if !postgres.IsUnique(unique, "named") || !postgres.IsUnique(unique, "") || postgres.IsUnique(unique, "things_pkey") {
		t.Errorf("IsUnique does not tell the constraint of %v", unique)
	}

	outage := func(name string, err error) {
		t.Helper()
		if err == nil || postgres.IsData(err) || postgres.IsUnique(err, "") {
			t.Errorf("%s: %v counts as a data error", name, err)
		}
	}
	outage("nothing", errors.New("nothing of Postgres"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := pool.Exec(ended, "select 1")
	outage("ended context", err)

	conn, err := pool.Acquire(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var pid int
	if err := conn.QueryRow(within(t), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if err := exec(t, pool, "select pg_terminate_backend($1, 10000)", pid); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(within(t), "insert into things values (3, 'three')")
	outage("killed backend", err)
}

func TestMigrate_MayRunEverywhereAtOnce(t *testing.T) {
	t.Parallel()
	url := harness.Postgres(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := postgres.Migrate(within(t), url); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// A binary that is older than the schema must run on it.
	pool := open(t, url)
	if err := exec(t, pool, "insert into goose_db_version (version_id, is_applied) values (999999, true)"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(within(t), url); err != nil {
		t.Errorf("on a newer schema: %v", err)
	}
}

func TestIDs_AreUniqueAndRise(t *testing.T) {
	t.Parallel()
	pool := open(t, harness.Postgres(t))
	const sources, callers, each = 2, 4, 500
	all := make([][]id.ID, sources*callers)
	var wg sync.WaitGroup
	for s := range sources {
		ids := postgres.NewIDs(pool)
		for c := range callers {
			mine := &all[s*callers+c]
			wg.Go(func() {
				for range each {
					next, err := ids.Next(within(t))
					if err != nil {
						t.Error(err)
						return
					}
					*mine = append(*mine, next)
				}
			})
		}
	}
	wg.Wait()
	for _, mine := range all {
		if !slices.IsSorted(mine) {
			t.Error("one caller's ids do not rise")
		}
	}
	got := slices.Concat(all...)
	slices.Sort(got)
	if unique := len(slices.Compact(slices.Clone(got))); unique != sources*callers*each {
		t.Errorf("%d different ids, want %d", unique, sources*callers*each)
	}
	if age := time.Since(got[len(got)-1].Time()); age < -time.Minute || age > time.Minute {
		t.Errorf("the last id is from %v ago", age)
	}
}

func TestIDs_WaitNoLongerThanTheContext(t *testing.T) {
	t.Parallel()
	pool := open(t, harness.Postgres(t))
	ids := postgres.NewIDs(pool)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ids.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with an ended context: %v", err)
	}
	if _, err := ids.Next(within(t)); err != nil {
		t.Errorf("Next after it: %v", err)
	}
}

func TestIDs_RiseWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	pool := open(t, harness.Postgres(t))
	now := time.Now()
	ids := postgres.NewIDsAt(pool, func() time.Time {
		now = now.Add(-time.Second)
		return now
	})
	// Two blocks below the end of the 22 bits: the number begins anew while the clock stands.
	const block = 64
	if err := exec(t, pool, "select setval('ids', $1)", 1<<22-2*block); err != nil {
		t.Fatal(err)
	}
	var last id.ID
	for range 3 * block {
		next, err := ids.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if next <= last {
			t.Fatalf("%d after %d", next, last)
		}
		last = next
	}
}
