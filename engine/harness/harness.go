// Package harness gives tests real servers: a private Redis per test, a fresh migrated database per test in one private
// Postgres per test process. It is for tests only and knows nothing of what they test. Everything it starts ends with the
// test process, however that ends; what it leaves on disk is swept by the next one.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
package harness

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/openapi"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/witness"
)

const (
	prefix = "xcord-test-"
	// startTimeout is generous: two cores may be shared by many test processes.
	startTimeout = time.Minute
	// tempPathMax leaves room for the sockets' names in their 107 bytes.
	tempPathMax = 40
)

// Main runs the tests, stops the shared server and then looks for goroutines that outlived the tests, which fail the run, as do answers and
// dispatches of servers in this process that are not as described (engine/witness). It returns the exit code.
func Main(m *testing.M, ignore ...goleak.Option) int {
	official, err := witness.Find()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := witness.New(official)
	w.Watch()
	code := m.Run()
	shared.stop()
	if err := w.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code != 0 {
		return code
	}
	if err := goleak.Find(ignore...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Unwatched lets the servers of a benchmark speak without a witness: its work would be measured with theirs. It is called before any of them
// starts, and holds until the benchmark ends.
func Unwatched(b *testing.B) {
	b.Helper()
	listening := openapi.Listening
	openapi.Listening = nil
	b.Cleanup(func() { openapi.Listening = listening })
}

// Redis starts a private redis-server with appendfsync always, without functions, and stops it after the test. Its URL and
// AdminURL are for redis.Open; Stop, Start and Pid are for tests of outages.
func Redis(t testing.TB) *redis.Local {
	t.Helper()
	dir, err := shared.home("redis")
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	server := redis.NewLocal(redis.LocalConfig{Dir: dir, RunDir: filepath.Join(dir, "run"), MaxMemoryBytes: 256 << 20})
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := server.Start(ctx); err != nil {
		t.Fatalf("harness: %v", err)
	}
	t.Cleanup(func() {
		server.Stop()
		_ = os.RemoveAll(dir) // what stays is swept with the rest
	})
	return server
}

// Postgres makes a database with the newest schema, owned by the role in the URL, and drops it after the test.
func Postgres(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := shared.postgres(ctx)
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	name := "test_" + strconv.FormatInt(shared.databases.Add(1), 10)
	if err := create(ctx, server, name); err != nil {
		t.Fatalf("harness: create %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := drop(ctx, server, name); err != nil {
			t.Errorf("harness: drop %s: %v", name, err)
		}
	})
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal("harness: BUG: URL does not parse")
	}
	u.Path = "/" + name
	return u.String()
}

// PostgresServer starts a private Postgres whose database has the newest schema, and stops it after the test. It takes a second or
// two; Stop, Start and Pid are for tests of outages, all others share one.
func PostgresServer(t testing.TB) *postgres.Local {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := shared.start(ctx)
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	t.Cleanup(server.Stop)
	return server
}

// process is what the tests of one process share.
type process struct {
	mu   sync.Mutex // guards dir and lock
	dir  string
	lock *os.File

	starting sync.Mutex // guards server and failed, held while the server starts: who wants it waits for it anyway
	server   *postgres.Local
	failed   error // the first start's, for all

	homes     atomic.Int64
	databases atomic.Int64
}

// shared is the exception to the rule against package state: a process's tests have nothing else in common.
var shared process

func (p *process) stop() {
	p.starting.Lock()
	defer p.starting.Unlock()
	if p.server != nil {
		p.server.Stop()
		p.server = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir != "" {
		_ = os.RemoveAll(p.dir) // what stays is swept by the next process
		_ = p.lock.Close()
		p.dir, p.lock = "", nil
	}
}

// home gives a new name for a server's directory.
func (p *process) home(kind string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(); err != nil {
		return "", err
	}
	return filepath.Join(p.dir, kind+strconv.FormatInt(p.homes.Add(1), 10)), nil
}

func (p *process) postgres(ctx context.Context) (*postgres.Local, error) {
	p.starting.Lock()
	defer p.starting.Unlock()
	if p.server != nil || p.failed != nil {
		return p.server, p.failed
	}
	p.server, p.failed = p.start(ctx)
	return p.server, p.failed
}

// start runs a server whose own database has the newest schema. That database becomes the template for the tests':
// nobody else ever connects to it.
func (p *process) start(ctx context.Context) (*postgres.Local, error) {
	dir, err := p.home("pg")
	if err != nil {
		return nil, err
	}
	server := postgres.NewLocal(postgres.LocalConfig{
		Dir: dir, RunDir: filepath.Join(dir, "run"), SharedBuffersMB: 64, MaxConnections: 300, Scratch: true,
	})
	if err := server.Start(ctx); err != nil {
		return nil, err
	}
	if err := postgres.Migrate(ctx, server.URL()); err != nil {
		server.Stop()
		return nil, err
	}
	return server, nil
}

// open, with mu held, makes this process's directory and sweeps those of processes that are gone: their locks are free.
func (p *process) open() error {
	if p.dir != "" {
		return nil
	}
	temp := tempDir()
	sweep(temp)
	dir, err := os.MkdirTemp(temp, prefix)
	if err != nil {
		return err
	}
	// As root the servers run under other accounts, which must pass.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	p.dir, p.lock = dir, lock
	return nil
}

// tempDir is memory if there is enough of it: making a cluster of 47 MB in 1,300 files takes 0.7 s there and 2.5 s on a
// small machine's ext4.
func tempDir() string {
	const memory, roomy = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err == nil && fs.Bavail*uint64(fs.Bsize) >= roomy && public(memory) {
		return memory
	}
	if temp := os.TempDir(); len(temp) <= tempPathMax {
		return temp
	}
	return "/tmp"
}

// public says whether everybody may make directories there, as in /tmp.
func public(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&0o003 == 0o003
}

// sweepAge keeps a directory that has no lock yet from being taken for an abandoned one.
const sweepAge = time.Minute

func sweep(temp string) {
	dirs, _ := filepath.Glob(filepath.Join(temp, prefix+"*")) // the only error is a bad pattern
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir) // the next sweep tries again
		}
		_ = lock.Close()
	}
}

// create copies the template, file by file where there is a choice, which is half the work of block by block. Two copies at once can
// meet, which the server refuses with object_in_use.
func create(ctx context.Context, server *postgres.Local, name string) error {
	const objectInUse = "55006"
	return admin(ctx, server, func(conn *pgx.Conn) error {
		statement := "create database " + name + " template xcord owner xcord"
		if conn.PgConn().ParameterStatus("server_version") >= "15" {
			statement += " strategy file_copy" // what older ones do anyway
		}
		for {
			_, err := conn.Exec(ctx, statement)
			var failure *pgconn.PgError
			if err == nil || !errors.As(err, &failure) || failure.Code != objectInUse || ctx.Err() != nil {
				return err
			}
		}
	})
}

func drop(ctx context.Context, server *postgres.Local, name string) error {
	return admin(ctx, server, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "drop database "+name+" with (force)")
		return err
	})
}

func admin(ctx context.Context, server *postgres.Local, do func(*pgx.Conn) error) (err error) {
	conn, err := pgx.Connect(ctx, server.AdminURL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	return do(conn)
}
