package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var postgresFaults = []fault{
	{name: "Postgres recovers for long", long: true, backlog: true, do: recovery},
	{name: "Postgres has no connection left", backlog: true, long: true, do: crowd},
	{name: "LOCK TABLE beyond the statement timeout", backlog: true, long: true, do: func(x *run) {
		const timeout = 5 * time.Second // engine/postgres
		x.locked(func() { pause(timeout + time.Duration(x.r.IntN(2000))*time.Millisecond) })
	}},
	// What a statement timeout does, at any moment.
	{name: "statements are cancelled", do: func(x *run) {
		for range 50 {
			x.m.exec(`select pg_cancel_backend(pid) from pg_stat_activity where application_name like 'node%'`)
			pause(time.Duration(x.r.IntN(80)) * time.Millisecond)
		}
	}},
}

// What Postgres says when it takes nobody in.
const (
	cannotConnectNow   = "57P03"
	tooManyConnections = "53300"
)

func refused(err error, code string) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && failure.Code == code
}

// recovery kills Postgres, and holds it while it recovers: it listens, and takes nobody in.
func recovery(x *run) {
	const tries = 20
	for range tries {
		x.m.killPostgres()
		x.m.newPostgres()
		started := make(chan error, 1)
		go func() { started <- x.m.postgres.Start(x.m.t.Context()) }()
		startup := x.m.holdStartup(started)
		if startup == 0 {
			continue // it was faster
		}
		x.m.until("Postgres takes nobody in", func() error {
			err := x.m.pool.Ping(x.m.t.Context())
			if refused(err, cannotConnectNow) {
				return nil
			}
			return fmt.Errorf("it says %v", err)
		})
		x.last(2)
		x.m.signal(startup, syscall.SIGCONT)
		x.must(func() error { return <-started })
		return
	}
	x.m.t.Fatalf("Postgres has recovered %d times before it was held", tries)
}

// holdStartup stops the process that recovers, and says which it is: 0 if Postgres has started before.
func (m *machine) holdStartup(started <-chan error) int {
	m.t.Helper()
	for tick := time.Tick(time.Millisecond); ; <-tick {
		select {
		case err := <-started:
			if err != nil {
				m.t.Fatal(err)
			}
			return 0
		default:
		}
		if m.postgres.Pid() == 0 {
			continue
		}
		for _, pid := range family(m.postgres.Pid()) {
			title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err == nil && strings.HasPrefix(string(title), "postgres: startup") {
				m.signal(pid, syscall.SIGSTOP)
				return pid
			}
		}
	}
}

// crowd takes every connection that Postgres has, those of the nodes too.
func crowd(x *run) {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	var own *pgx.Conn // there is none to be had later
	x.m.until("Postgres takes a connection", func() (err error) {
		own, err = pgx.Connect(ctx, x.m.postgres.URL())
		return err
	})
	idle := []*pgx.Conn{own}
	defer func() {
		for _, c := range idle {
			_ = c.Close(ctx)
		}
	}()
	for range 3 {
		for {
			c, err := pgx.Connect(ctx, x.m.postgres.URL())
			if refused(err, tooManyConnections) {
				break
			}
			x.must(func() error { return err })
			idle = append(idle, c)
		}
		x.must(func() error {
			_, err := own.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'node%'`)
			return err
		})
	}
	x.last(1)
}

// logSwitch connects to Postgres, while that is possible. What it returns makes Postgres begin new files of its log, which it does not
// survive when there is no room.
func (m *machine) logSwitch() (begin func()) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, m.postgres.AdminURL())
	if err != nil {
		m.t.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(m.t.Context(), patience)
		defer cancel()
		for err == nil { // the next files may be there already
			_, err = c.Exec(ctx, `select pg_switch_wal(), pg_logical_emit_message(false, '', '')`)
		}
		_ = c.Close(ctx) // it is gone
	}
}
