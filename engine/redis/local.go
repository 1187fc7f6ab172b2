package redis

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/xcord/xcord/engine/child"
	"github.com/xcord/xcord/engine/life"
)

// LocalConfig of the private server. The zero value of everything but Dir is the default.
type LocalConfig struct {
	// Dir is the server's home, made when it is missing. Two servers never share one.
	Dir string
	// RunDir is where the socket goes, in a directory of its own. Default: a short one below /tmp, named by Dir.
	RunDir string
	// Binary is the path of redis-server. Default: what PATH has.
	Binary string
	// Durability is D0 or D2. Default D2.
	Durability Durability
	// MaxMemoryBytes: above it writes are refused. Default: a quarter of the memory, up to 2 GiB.
	MaxMemoryBytes int64
	// StartTimeout bounds Start. The default of 2 minutes is for loading: a million entries take 1 to 2 s.
	StartTimeout time.Duration
	// StopTimeout bounds a polite end, before the kill. Default 10 s.
	StopTimeout time.Duration
}

const (
	appUser   = "xcord"
	adminUser = "admin"
	// memoryDefaultMax and memoryMin bound the default of MaxMemoryBytes: the log retains 512 MiB by default, and the rest
	// is for the roster, presence and growth; below 64 MiB nothing useful fits.
	memoryDefaultMax = 2 << 30
	memoryMin        = 64 << 20
	installHint      = "redis-server 7.0 or newer is needed: apt-get install redis-server"
)

// appRules are what the application may do: the kinds of keys that the bus and its neighbours use, and functions that an
// administrator loaded. The order matters, later rules win: @dangerous takes away KEYS, FLUSH, SORT and CLIENT KILL,
// @scripting takes away EVAL, SCRIPT and FUNCTION. What the application needs of those follows.
const appRules = "resetchannels &* ~* -@all " +
	"+@string +@hash +@set +@sortedset +@stream +@pubsub +@keyspace +@transaction +@connection " +
	"-@dangerous -@scripting -@admin " +
	"+fcall +fcall_ro +time +info +memory|usage +wait +client|no-evict +cluster|slots +cluster|shards"

// Local is a private redis-server, a child of this process: durable, on a unix socket only, gone when this process is
// gone. It is a life.Service; any goroutine may call any method.
type Local struct {
	cfg LocalConfig

	on      life.Switch
	loops   life.Loops
	home    *child.Home
	process *child.Process
	pid     atomic.Int64 // of process, for Pid, which may be called while it is replaced
	socket  string
	app     string // passwords
	admin   string
}

// NewLocal makes the service; nothing happens before Start.
func NewLocal(cfg LocalConfig) *Local {
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 2 * time.Minute
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 10 * time.Second
	}
	if cfg.Durability == "" {
		cfg.Durability = D2
	}
	return &Local{cfg: cfg}
}

// Validate names every mistake at once.
func (c LocalConfig) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("local redis: Dir is missing"))
	}
	if err := c.Durability.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Durability == D3 {
		errs = append(errs, errors.New("durability D3 needs replicas, which the private server does not have: give a Redis URL"))
	}
	if c.MaxMemoryBytes != 0 && c.MaxMemoryBytes < memoryMin {
		errs = append(errs, fmt.Errorf("local redis: MaxMemoryBytes %d: want at least %d", c.MaxMemoryBytes, memoryMin))
	}
	if c.StartTimeout < 0 || c.StopTimeout < 0 {
		errs = append(errs, errors.New("local redis: timeouts must not be negative"))
	}
	return errors.Join(errs...)
}

// Start runs the server on its data and returns when it has loaded them. A server that a killed parent left in the same
// home is ended first.
func (l *Local) Start(ctx context.Context) error {
	return l.on.Start(func() error {
		if err := l.cfg.Validate(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, l.cfg.StartTimeout)
		defer cancel()
		if err := l.start(ctx); err != nil {
			l.shut()
			return fmt.Errorf("start local redis: %w", err)
		}
		l.loops.Go("redis-server", l.watch)
		return nil
	})
}

// Stop ends the server in peace, with its file written, or kills it after StopTimeout.
func (l *Local) Stop() {
	l.on.Stop(func() {
		l.loops.Stop()
		l.shut()
	})
}

// Failed tells that the server died by itself.
func (l *Local) Failed() <-chan error { return l.loops.Failed() }

// URL is for the application. Only after Start.
func (l *Local) URL() string { return l.url(appUser, l.app) }

// AdminURL is for the checks at boot and for FUNCTION LOAD. Only after Start.
func (l *Local) AdminURL() string { return l.url(adminUser, l.admin) }

// Pid is the server's process id. Only between Start and Stop.
func (l *Local) Pid() int { return int(l.pid.Load()) }

func (l *Local) url(user, password string) string {
	u := url.URL{Scheme: "unix", User: url.UserPassword(user, password), Path: l.socket}
	return u.String()
}

func (l *Local) start(ctx context.Context) error {
	binary, err := findBinary(ctx, l.cfg.Binary)
	if err != nil {
		return err
	}
	if l.home, err = child.Open("redis", l.cfg.Dir, l.cfg.RunDir, "redis", "nobody"); err != nil {
		return err
	}
	if l.socket, err = l.home.Socket("redis.sock"); err != nil {
		return err
	}
	if err := child.Evict(ctx, binary, l.home.Data, l.ladder()); err != nil {
		return err
	}
	if err := l.home.Give(l.home.Data); err != nil {
		return err
	}
	if l.app, err = l.home.Secret("app.password"); err != nil {
		return err
	}
	if l.admin, err = l.home.Secret("admin.password"); err != nil {
		return err
	}
	l.process, err = child.Start(child.Spec{
		Path:   binary,
		Args:   []string{"-"}, // settings come on standard input: in a file or in ps they would show the passwords' hashes
		Env:    []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin"},
		Dir:    l.home.Data,
		User:   l.home.User,
		Stdin:  []byte(l.settings()),
		Output: l.home.Log,
		Orphan: syscall.SIGTERM, // with everysec a kill would lose what a polite end still writes
	})
	if err != nil {
		return err
	}
	l.pid.Store(int64(l.process.Pid()))
	return l.ready(ctx)
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

func (l *Local) ladder() []child.Step {
	return []child.Step{{Signal: syscall.SIGTERM, Wait: l.cfg.StopTimeout}}
}

func (l *Local) watch(ctx context.Context) error {
	select {
	case <-l.process.Done():
		return fmt.Errorf("local redis ended by itself (%v): %s", l.process.Err(), l.home.Reason())
	case <-ctx.Done():
		return nil
	}
}

// readyPoll: the server takes 10 to 30 ms to listen when it has little to load. When it has much, it is asked less often.
const (
	readyPoll    = 2 * time.Millisecond
	readyPollMax = 50 * time.Millisecond
)

func (l *Local) ready(ctx context.Context) error {
	for wait := readyPoll; ; wait = min(2*wait, readyPollMax) {
		state := l.ask(ctx)
		if state == nil {
			return nil
		}
		select {
		case <-l.process.Done():
			return fmt.Errorf("redis-server ended at once (%v), its log %s says: %s", l.process.Err(), l.home.Log.Name(), l.home.Reason())
		case <-ctx.Done():
			return fmt.Errorf("wait until redis-server is ready (%w), its log %s says: %s: %w", state, l.home.Log.Name(), l.home.Reason(), ctx.Err())
		case <-time.After(wait):
		}
	}
}

// ask is nil when the server serves. A plain connection is enough here, and cheaper than a client.
func (l *Local) ask(ctx context.Context) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", l.socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was written that could be lost
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s %s\r\nPING\r\n", adminUser, l.admin); err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		line, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if line = strings.TrimSpace(line); line != want {
			return fmt.Errorf("answer %q", line)
		}
	}
	return nil
}

// settings is the whole configuration; nothing else is read.
func (l *Local) settings() string {
	fsync := "always"
	if l.cfg.Durability == D0 {
		fsync = "everysec"
	}
	memory := l.cfg.MaxMemoryBytes
	if memory == 0 {
		memory = max(min(memoryBytes()/4, memoryDefaultMax), memoryMin)
	}
	return strings.Join([]string{
		"port 0",
		"unixsocket " + l.socket,
		"unixsocketperm 700",
		"daemonize no",
		"supervised no",
		"dir " + quote(l.home.Data),
		"loglevel notice",
		"databases 1",
		`save ""`,
		"appendonly yes",
		"appendfsync " + fsync,
		"no-appendfsync-on-rewrite no",
		"aof-load-truncated yes", // a torn tail was never acknowledged
		fmt.Sprintf("maxmemory %d", memory),
		"maxmemory-policy noeviction",
		"maxmemory-clients 0", // evicting a blocked client was a use after free, 7.2.0 to 8.6.2
		"busy-reply-threshold 500",
		"client-output-buffer-limit normal 256mb 64mb 60", // the default is no limit
		"client-output-buffer-limit replica 256mb 64mb 60",
		"client-output-buffer-limit pubsub 32mb 8mb 60",
		// Nobody can be the default user, yet it may do everything: Redis 7.0 loads its append-only file as that user, and
		// silently leaves out a whole MULTI (every FUNCTION's effects are one) that it has no permission for.
		"user default off ~* &* +@all",
		"user " + adminUser + " on #" + hash(l.admin) + " ~* &* +@all",
		"user " + appUser + " on #" + hash(l.app) + " " + appRules,
	}, "\n") + "\n"
}

func hash(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// quote is for a path in redis.conf.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func findBinary(ctx context.Context, path string) (string, error) {
	if path == "" {
		path = "redis-server"
	}
	binary, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", installHint, err)
	}
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", binary, err)
	}
	// "Redis server v=7.0.15 sha=…"
	_, version, _ := strings.Cut(string(out), "v=")
	var major int
	if _, err := fmt.Sscanf(version, "%d.", &major); err != nil || major < versionMin {
		return "", fmt.Errorf("%s (%s is %s)", installHint, binary, strings.TrimSpace(string(out)))
	}
	return binary, nil
}

// memoryBytes is what this machine or its container has.
func memoryBytes() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	total := int64(info.Totalram) * int64(info.Unit)
	raw, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return total
	}
	var limit int64
	if _, err := fmt.Sscanf(string(raw), "%d", &limit); err != nil {
		return total // "max"
	}
	return min(total, limit)
}
