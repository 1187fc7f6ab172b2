package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xcord/xcord/engine/child"
	"github.com/xcord/xcord/engine/life"
)

// LocalConfig of the private server. The zero value of everything but Dir is the default.
type LocalConfig struct {
	// Dir is the server's home, made when it is missing. Two servers never share one.
	Dir string
	// RunDir is where the socket goes, in a directory of its own. Default: a short one below /tmp, named by Dir.
	RunDir string
	// BinDir is the directory of postgres and initdb. Default: the version that made the data, else the newest found.
	BinDir string
	// SharedBuffersMB is the server's own cache; the system's cache is behind it. Default 256.
	SharedBuffersMB int
	// MaxConnections bounds the pools of all processes together. Default 100.
	MaxConnections int
	// StartTimeout bounds Start. The default of 2 minutes is for recovery: after a crash the log since the last checkpoint,
	// up to 1 GiB, is applied.
	StartTimeout time.Duration
	// StopTimeout bounds a polite end, which writes a checkpoint, before the hard ones. Default 20 s.
	StopTimeout time.Duration
	// Scratch gives up all durability for speed. It is for data that dies with the process, as in tests; no setting of the
	// product leads here.
	Scratch bool
}

const (
	superUser = "postgres"
	appUser   = "xcord"
	database  = "xcord"
	port      = "5432" // names the socket file; nothing listens on a network
)

// Local is a private postgres, a child of this process: on a unix socket only, gone when this process is gone, recovered at
// the next start. It is a life.Service; any goroutine may call any method.
type Local struct {
	cfg LocalConfig

	on      life.Switch
	loops   life.Loops
	home    *child.Home
	process *child.Process
	pid     atomic.Int64 // of process, for Pid, which may be called while it is replaced
	run     string       // the directory of the socket
	app     string       // passwords
	admin   string
}

// NewLocal makes the service; nothing happens before Start.
func NewLocal(cfg LocalConfig) *Local {
	if cfg.SharedBuffersMB == 0 {
		cfg.SharedBuffersMB = 256
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 100
	}
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 2 * time.Minute
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 20 * time.Second
	}
	return &Local{cfg: cfg}
}

// Validate names every mistake at once.
func (c LocalConfig) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("local postgres: Dir is missing"))
	}
	if c.SharedBuffersMB < 0 || c.MaxConnections < 0 {
		errs = append(errs, errors.New("local postgres: SharedBuffersMB and MaxConnections must not be negative"))
	}
	if c.StartTimeout < 0 || c.StopTimeout < 0 {
		errs = append(errs, errors.New("local postgres: timeouts must not be negative"))
	}
	return errors.Join(errs...)
}

// Start makes the data at first, runs the server on it and returns when it takes queries. A server that a killed parent
// left in the same home is ended first.
func (l *Local) Start(ctx context.Context) error {
	return l.on.Start(func() error {
		if err := l.cfg.Validate(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, l.cfg.StartTimeout)
		defer cancel()
		if err := l.start(ctx); err != nil {
			l.shut()
			return fmt.Errorf("start local postgres: %w", err)
		}
		l.loops.Go("postgres", l.watch)
		return nil
	})
}

// Stop ends the server in peace, cutting its clients off, or kills it after StopTimeout.
func (l *Local) Stop() {
	l.on.Stop(func() {
		l.loops.Stop()
		l.shut()
	})
}

// Failed tells that the server died by itself.
func (l *Local) Failed() <-chan error { return l.loops.Failed() }

// URL is for the application, which owns its database and nothing else. Only after Start.
func (l *Local) URL() string { return l.url(appUser, l.app, database) }

// AdminURL is the superuser's, in the database postgres. Only after Start.
func (l *Local) AdminURL() string { return l.url(superUser, l.admin, "postgres") }

// Pid is the server's process id. Only between Start and Stop.
func (l *Local) Pid() int { return int(l.pid.Load()) }

func (l *Local) url(user, password, database string) string {
	query := url.Values{"host": {l.run}, "port": {port}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

func (l *Local) start(ctx context.Context) error {
	var err error
	if l.home, err = child.Open("postgres", l.cfg.Dir, l.cfg.RunDir, "postgres", "nobody"); err != nil {
		return err
	}
	l.run = l.home.Run
	if _, err := l.home.Socket(".s.PGSQL." + port); err != nil {
		return err
	}
	if l.admin, err = l.home.Secret("admin.password"); err != nil {
		return err
	}
	if l.app, err = l.home.Secret("app.password"); err != nil {
		return err
	}
	programs, err := findBins(ctx, l.cfg.BinDir, l.home.Data)
	if err != nil {
		return err
	}
	if err := l.prepare(ctx, programs); err != nil {
		return err
	}
	spec := l.spec(programs.path("postgres"), l.settings()...)
	spec.Dir = l.home.Data
	if l.process, err = child.Start(spec); err != nil {
		return err
	}
	l.pid.Store(int64(l.process.Pid()))
	conn, err := l.ready(ctx)
	if err != nil {
		return err
	}
	err = l.furnish(ctx, conn)
	return errors.Join(err, conn.Close(ctx))
}

// spec is the same for all programs. SIGQUIT is the server's immediate end: it takes its processes with it at once, and
// the next start recovers.
func (l *Local) spec(path string, args ...string) child.Spec {
	return child.Spec{
		Path:   path,
		Args:   args,
		Env:    []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin"}, // nothing of ours: PGDATA, PGPORT and others would count
		Dir:    "/",
		User:   l.home.User,
		Output: l.home.Log,
		Orphan: syscall.SIGQUIT,
	}
}

func (l *Local) ladder() []child.Step {
	return []child.Step{
		{Signal: syscall.SIGINT, Wait: l.cfg.StopTimeout},
		{Signal: syscall.SIGQUIT, Wait: 6 * time.Second}, // after 5 s the server kills its own processes
	}
}

// shut undoes whatever start has done.
func (l *Local) shut() {
	if l.process != nil {
		l.process.Stop(l.ladder())
		l.process = nil
	}
	if l.home != nil {
		l.home.Close()
		l.home = nil
	}
}

func (l *Local) watch(ctx context.Context) error {
	select {
	case <-l.process.Done():
		return fmt.Errorf("local postgres ended by itself (%v): %s", l.process.Err(), l.home.Reason())
	case <-ctx.Done():
		return nil
	}
}

// prepare leaves a data directory that nobody works in. It is made under another name, so that what a crash cut short is
// never taken for data.
func (l *Local) prepare(ctx context.Context, programs bins) error {
	fresh := l.home.Data + ".new"
	for _, dir := range []string{l.home.Data, fresh} {
		if err := child.Evict(ctx, programs.path("postgres"), dir, l.ladder()); err != nil {
			return err
		}
	}
	if _, err := os.Stat(l.home.Data); err == nil {
		// Nobody is at work here. A left pid file would still stop the server if its number had gone to another process.
		if err := os.Remove(filepath.Join(l.home.Data, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	err := l.initdb(ctx, programs, fresh, "C.UTF-8")
	if err != nil && ctx.Err() == nil && strings.Contains(l.home.Reason(), "locale") {
		err = l.initdb(ctx, programs, fresh, "C") // every system has it; only the case of non-ASCII letters suffers
	}
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, l.home.Data); err != nil {
		return err
	}
	return l.home.Sync()
}

func (l *Local) initdb(ctx context.Context, programs bins, dir, locale string) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := l.home.Give(dir); err != nil {
		return err
	}
	password := filepath.Join(l.home.Dir, "initdb.password") // initdb reads it under its own account
	if err := os.WriteFile(password, []byte(l.admin+"\n"), 0o600); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(password)) }()
	if err := l.home.GiveFile(password); err != nil {
		return err
	}
	args := []string{"--pgdata", dir, "--username", superUser, "--pwfile", password,
		"--encoding", "UTF8", "--locale", locale, "--data-checksums", "--no-instructions"}
	if l.cfg.Scratch {
		// The server compares what it gets over its own socket. Scram's 4096 rounds take the client 26 ms under the race detector.
		args = append(args, "--no-sync", "--auth", "password")
	} else {
		args = append(args, "--auth", "scram-sha-256")
	}
	spec := l.spec(programs.path("initdb"), args...)
	spec.Orphan = syscall.SIGKILL
	if err := child.Run(ctx, spec); err != nil {
		return fmt.Errorf("%w, its log %s says: %s", err, l.home.Log.Name(), l.home.Reason())
	}
	return nil
}

func (l *Local) settings() []string {
	durable := "on"
	if l.cfg.Scratch {
		durable = "off"
	}
	args := []string{"-D", l.home.Data}
	for _, setting := range []string{
		"listen_addresses=",
		"port=" + port,
		"unix_socket_directories=" + `"` + strings.ReplaceAll(l.run, `"`, `""`) + `"`, // a list: a comma would divide it
		"unix_socket_permissions=0700",
		"password_encryption=scram-sha-256",
		fmt.Sprintf("max_connections=%d", l.cfg.MaxConnections),
		fmt.Sprintf("shared_buffers=%dMB", l.cfg.SharedBuffersMB),
		"fsync=" + durable,
		"full_page_writes=" + durable,
		"synchronous_commit=" + durable,
		"jit=off", // compiling costs more than our short statements
		"max_logical_replication_workers=0",
		"logging_collector=off",
		"log_destination=stderr",
		// Errors are the caller's to report, and their text can hold what users wrote.
		"log_min_messages=log",
		"log_min_error_statement=panic",
		"log_checkpoints=off",
		"log_timezone=UTC",
	} {
		args = append(args, "-c", setting)
	}
	if l.cfg.Scratch {
		args = append(args, "-c", "autovacuum=off", "-c", "wal_level=minimal", "-c", "max_wal_senders=0")
	}
	return args
}

// readyPoll: the server takes 30 to 100 ms when there is nothing to recover. When there is, it is asked less often.
const (
	readyPoll    = 5 * time.Millisecond
	readyPollMax = 50 * time.Millisecond
)

// ready waits for the first connection.
func (l *Local) ready(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(l.AdminURL())
	if err != nil {
		return nil, errors.New("BUG: admin URL does not parse")
	}
	cfg.ConnectTimeout = 5 * time.Second
	for wait := readyPoll; ; wait = min(2*wait, readyPollMax) {
		if l.open() {
			conn, err := pgx.ConnectConfig(ctx, cfg)
			if failure := (*pgconn.PgError)(nil); errors.As(err, &failure) && failure.Code == "28P01" {
				return nil, fmt.Errorf("the password in %s is not the one that the data was made with: %w", l.home.Dir, err)
			}
			if err == nil {
				return conn, nil
			}
		}
		select {
		case <-l.process.Done():
			return nil, fmt.Errorf("postgres ended at once (%v), its log %s says: %s", l.process.Err(), l.home.Log.Name(), l.home.Reason())
		case <-ctx.Done():
			return nil, fmt.Errorf("wait until postgres is ready, its log %s says: %s: %w", l.home.Log.Name(), l.home.Reason(), ctx.Err())
		case <-time.After(wait):
		}
	}
}

// open reads the server's own word from its pid file. Knocking before it leaves a FATAL line in the log each time.
func (l *Local) open() bool {
	raw, err := os.ReadFile(filepath.Join(l.home.Data, "postmaster.pid"))
	return err == nil && strings.Contains(string(raw), "\nready")
}

const (
	countRole     = `select count(*) from pg_roles where rolname = $1`
	countDatabase = `select count(*) from pg_database where datname = $1`
)

// furnish makes the application's role and database, if they are missing: a crash may have come between.
func (l *Local) furnish(ctx context.Context, conn *pgx.Conn) error {
	for _, piece := range []struct{ count, name, create string }{
		{countRole, appUser, "create role " + appUser + " login password '" + l.app + "'"}, // ours: letters and digits
		{countDatabase, database, "create database " + database + " owner " + appUser},
	} {
		var n int
		if err := conn.QueryRow(ctx, piece.count, piece.name).Scan(&n); err != nil {
			return fmt.Errorf("look for %s: %w", piece.name, err)
		}
		if n > 0 {
			continue
		}
		if _, err := conn.Exec(ctx, piece.create); err != nil {
			return fmt.Errorf("make %s: %w", piece.name, err)
		}
	}
	return nil
}
