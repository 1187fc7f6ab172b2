package child_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
)

// helperArg makes the test binary a parent of both servers that waits to be killed.
const helperArg = "be-a-parent"

// report is what the parent prints when both run and hold data.
type report struct{ Redis, Postgres int }

func servers(dir string) (*redis.Local, *postgres.Local) {
	return redis.NewLocal(redis.LocalConfig{Dir: filepath.Join(dir, "redis"), StopTimeout: 300 * time.Millisecond}),
		postgres.NewLocal(postgres.LocalConfig{Dir: filepath.Join(dir, "postgres")})
}

func parent(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, p := servers(dir)
	if err := run(ctx, r, p, "1"); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(report{r.Pid(), p.Pid()}) // the reader sees what is missing
	_, _ = io.Copy(io.Discard, os.Stdin)                            // until the kill
}

// run starts both and writes one thing to each. want is how many there are then.
func run(ctx context.Context, r *redis.Local, p *postgres.Local, want string) error {
	if err := r.Start(ctx); err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	client, err := redis.Open(ctx, redis.Config{URL: r.URL()})
	if err != nil {
		return err
	}
	defer client.Close()
	n, err := client.Do(ctx, client.B().Incr().Key("runs").Build()).AsInt64()
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, postgres.Config{URL: p.URL()})
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "create table if not exists runs (at timestamptz)"); err != nil {
		return err
	}
	var rows int64
	if err := pool.QueryRow(ctx, "with r as (insert into runs values (now())) select 1 + count(*) from runs").Scan(&rows); err != nil {
		return err
	}
	if got := strconv.FormatInt(n, 10); got != want || n != rows {
		return fmt.Errorf("redis has %d things and postgres %d, want %s", n, rows, want)
	}
	return nil
}

// crash runs the parent until both servers hold data, calls before, and kills it.
func crash(t *testing.T, dir string, before func(report)) report {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, helperArg, dir)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	var pids report
	if err != nil || json.Unmarshal([]byte(line), &pids) != nil {
		t.Fatalf("the parent said %q, %v", line, err)
	}
	before(pids)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	return pids
}

// gone waits for the end of a process, which as an orphan may stay a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	ctx := within(t)
	for state(pid) != "" {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d survived its parent", pid)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// state is the letter of /proc/<pid>/stat, or nothing for a dead process.
func state(pid int) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[0]
}

// stopped waits until a process that was sent SIGSTOP has heeded it: a signal that comes before that is heeded first.
func stopped(t *testing.T, pid int) {
	t.Helper()
	ctx := within(t)
	for state(pid) != "T" {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d does not stop", pid)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestServers_EndWithTheirKilledParentAndRecover(t *testing.T) {
	t.Parallel()
	dir := place(t)
	pids := crash(t, dir, func(report) {})
	gone(t, pids.Redis)
	gone(t, pids.Postgres)
	r, p := servers(dir)
	defer r.Stop()
	defer p.Stop()
	if err := run(within(t), r, p, "2"); err != nil {
		t.Fatal(err)
	}
}

func TestServers_StartWhereOrphansStillWork(t *testing.T) {
	t.Parallel()
	dir := place(t)
	pids := crash(t, dir, func(pids report) {
		// A stopped process keeps the signal of its parent's death for later.
		for _, pid := range []int{pids.Redis, pids.Postgres} {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			stopped(t, pid)
		}
	})
	if state(pids.Redis) == "" || state(pids.Postgres) == "" {
		t.Fatal("the orphans are gone already")
	}
	// Redis stays deaf and must be killed; Postgres goes on and dies of what waits for it.
	if err := syscall.Kill(pids.Postgres, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r, p := servers(dir)
	defer r.Stop()
	defer p.Stop()
	if err := run(within(t), r, p, "2"); err != nil {
		t.Fatal(err)
	}
	gone(t, pids.Redis)
	gone(t, pids.Postgres)
}
