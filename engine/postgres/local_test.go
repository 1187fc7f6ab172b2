package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/postgres"
)

// place is a home that every account can reach, unlike t.TempDir.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "xcord-pg-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "postgres")
}

// once runs one statement on a connection of its own and gives its first column as text.
func once(t *testing.T, url, sql string) (string, error) {
	t.Helper()
	conn, err := pgx.Connect(within(t), url)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // the test is over then
	rows, err := conn.Query(within(t), sql)
	if err != nil {
		return "", err
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[any])
	if err != nil || len(values) == 0 {
		return "", err
	}
	return fmt.Sprint(values[0]), nil
}

func must(t *testing.T, url, sql string) string {
	t.Helper()
	answer, err := once(t, url, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// TestLocal_Lives goes through the life of one server with all durability on: making it is the expensive part.
func TestLocal_Lives(t *testing.T) {
	t.Parallel()
	dir := place(t)
	l := postgres.NewLocal(postgres.LocalConfig{Dir: dir})
	defer l.Stop()
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	checkPrivate(t, l, dir)
	must(t, l.URL(), "create table kept as select 1 as n")

	// A polite stop does not wait for idle clients.
	idle, err := pgx.Connect(within(t), l.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close(context.WithoutCancel(t.Context())) }() // the server has ended it
	l.Stop()
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := must(t, l.URL(), "select n from kept"); got != "1" {
		t.Errorf("after the restart n is %q, want 1", got)
	}

	must(t, l.URL(), "insert into kept values (2)")
	if err := syscall.Kill(l.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-l.Failed():
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("Failed() gave %v, want killed", err)
		}
	case <-within(t).Done():
		t.Fatal("Failed() said nothing")
	}
	l.Stop()
	// The pid file is left, and its number belongs to somebody else by now: to this test.
	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	raw, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "\n")
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n%s", os.Getpid(), rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := must(t, l.URL(), "select sum(n)::text from kept"); got != "3" {
		t.Errorf("after the crash the sum is %q, want 3", got)
	}
	l.Stop()

	// The last words of a server that ends at once, and a version that is not there.
	conf := filepath.Join(dir, "data", "postgresql.conf")
	if err := os.WriteFile(conf, []byte("nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(within(t)); err == nil || !strings.Contains(err.Error(), "FATAL:") {
		t.Errorf("with a broken configuration: %v, want the server's own words", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(within(t)); err == nil || !strings.Contains(err.Error(), "was made by PostgreSQL 9") {
		t.Errorf("with data of another version: %v", err)
	}
}

func checkPrivate(t *testing.T, l *postgres.Local, dir string) {
	t.Helper()
	f := func(url, sql, want string) {
		t.Helper()
		if got := must(t, url, sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	f(l.AdminURL(), "show listen_addresses", "")
	f(l.AdminURL(), "show fsync", "on")
	f(l.AdminURL(), "show synchronous_commit", "on")
	f(l.AdminURL(), "show full_page_writes", "on")
	f(l.URL(), "show server_encoding", "UTF8")
	f(l.URL(), "select rolsuper::text from pg_roles where rolname = current_user", "false")
	f(l.URL(), "select lower('ÄÖ')", "äö")
	if _, err := once(t, strings.Replace(l.URL(), "xcord:", "xcord:wrong", 1), "select 1"); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("a wrong password: %v, want 28P01", err)
	}
	info, err := os.Stat(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("data directory has mode %04o, want 0700", got)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && strings.Contains(string(status), "\nUid:\t0\t") {
		t.Error("the server runs as root")
	}
}

func TestLocal_IsAService(t *testing.T) {
	if testing.Short() {
		t.Skip("makes two servers and restarts them 45 times")
	}
	t.Parallel()
	lifetest.Stress(t, func() life.Service {
		return postgres.NewLocal(postgres.LocalConfig{Dir: place(t), SharedBuffersMB: 16, Scratch: true})
	})
}

func TestLocal_MakesDataAnewAfterACrashInBetween(t *testing.T) {
	t.Parallel()
	dir := place(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	l := postgres.NewLocal(postgres.LocalConfig{Dir: dir, SharedBuffersMB: 16, Scratch: true})
	defer l.Stop()
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	must(t, l.URL(), "select 1")
}

func TestLocal_SaysWhyItCannotStart(t *testing.T) {
	t.Parallel()
	f := func(cfg postgres.LocalConfig, want string) {
		t.Helper()
		l := postgres.NewLocal(cfg)
		defer l.Stop()
		if err := l.Start(within(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start: %v, want %q", err, want)
		}
	}
	f(postgres.LocalConfig{Dir: place(t), BinDir: "/nonexistent"}, "apt-get install postgresql")
	f(postgres.LocalConfig{Dir: place(t), RunDir: filepath.Join(filepath.Dir(place(t)), strings.Repeat("long", 25))}, "path too long")
	f(postgres.LocalConfig{}, "Dir is missing")
	f(postgres.LocalConfig{Dir: "/proc/xcord"}, "/proc/xcord")
}
