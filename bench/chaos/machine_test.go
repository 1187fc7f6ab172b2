package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/child"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
)

// patience bounds how long anything that must happen may take. It is no measure of speed: whoever reaches it has failed.
const patience = 90 * time.Second

// dirPrefix is what the directories of all runs begin with.
const dirPrefix = "xcord-chaos-"

// machine is one installation: a Redis and a Postgres, each on a disk of its own, and processes of the real binary, with relays
// between them and to their clients.
type machine struct {
	t          *testing.T
	dir        string
	binary     string
	durability redis.Durability
	loads      []time.Duration // from the start of each Redis until it served
	keys       string
	redisDisk  *disk
	shim       *shim
	wrapper    string // runs redis-server, under the shim
	redis      *redis.Local
	pgDisk     *disk
	postgres   *postgres.Local
	pool       *pgxpool.Pool
	nodes      []*process
	front      *relay // to any node that lives
}

// process is one xcord.
type process struct {
	name            string
	addr, admin     string
	env             []string // beside what every node has
	log             *os.File
	redis, postgres *relay // what it has its servers through
	clients         *relay // what its clients have it through
	child           *child.Process
}

func (n *process) relays() []*relay { return []*relay{n.redis, n.postgres, n.clients} }

// buildBinary builds xcord, with some of its files replaced if there is an overlay.
func buildBinary(t *testing.T, overlay string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "xcord")
	args := []string{"build", "-buildvcs=false", "-o", path}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", append(args, "github.com/xcord/xcord/services/cmd/xcord")...).CombinedOutput()
	if err != nil {
		t.Fatalf("build xcord: %v\n%s", err, out)
	}
	return path
}

// newMachine starts the servers and two nodes with everything on them. The default durability is D2.
func newMachine(t *testing.T, binary string, durability redis.Durability) *machine {
	t.Helper()
	// Not below t.TempDir: as root the servers run under other accounts, which cannot pass through it.
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the servers' logs, the histories and the data stay in %s", dir)
			return
		}
		_ = os.RemoveAll(dir) // what stays is in the way of nobody
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, binary: binary, durability: cmp.Or(durability, redis.D2), keys: filepath.Join(dir, "keys")}
	if out, err := exec.Command(binary, "keys", m.keys).CombinedOutput(); err != nil {
		t.Fatalf("xcord keys: %v\n%s", err, out)
	}
	m.redisDisk, m.pgDisk = m.newDisk("redis"), m.newDisk("postgres")
	m.shim = newShim(t, filepath.Join(dir, "shim"))
	m.wrapper = m.shim.wrap(t)
	m.startRedis()
	m.startPostgres()
	t.Cleanup(func() { m.redis.Stop(); m.postgres.Stop() })
	pool, err := pgxpool.New(t.Context(), m.postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	m.pool = pool
	for i := range 2 {
		m.addNode(fmt.Sprintf("node%d", i))
	}
	m.front, err = newRelay("tcp", m.nodes[0].addr, m.nodes[1].addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.front.stop)
	return m
}

func (m *machine) addNode(name string) {
	m.t.Helper()
	n := &process{name: name, addr: freePort(m.t), admin: freePort(m.t)}
	var err error
	if n.log, err = os.Create(filepath.Join(m.dir, name+".log")); err != nil {
		m.t.Fatal(err)
	}
	if n.redis, err = newRelay("unix", parse(m.t, m.redis.URL()).Path); err != nil {
		m.t.Fatal(err)
	}
	server := parse(m.t, m.postgres.URL()).Query()
	if n.postgres, err = newRelay("unix", fmt.Sprintf("%s/.s.PGSQL.%s", server.Get("host"), server.Get("port"))); err != nil {
		m.t.Fatal(err)
	}
	if n.clients, err = newRelay("tcp", n.addr); err != nil {
		m.t.Fatal(err)
	}
	m.nodes = append(m.nodes, n)
	m.t.Cleanup(func() {
		for _, r := range n.relays() {
			r.heal()
		}
		m.end(n)
		for _, r := range n.relays() {
			r.stop()
		}
		_ = n.log.Close()
	})
	m.begin(n)
	m.await(n)
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// redisURL leads through the node's relay.
func (n *process) redisURL(t *testing.T, raw string) string {
	t.Helper()
	u := url.URL{Scheme: "redis", User: parse(t, raw).User, Host: n.redis.addr()}
	return u.String()
}

// postgresURL leads through the node's relay. Its name in Postgres is the node's: it tells whose connections are whose.
func (n *process) postgresURL(t *testing.T, raw string) string {
	t.Helper()
	from := parse(t, raw)
	query := url.Values{"sslmode": {"disable"}, "application_name": {n.name}}
	u := url.URL{Scheme: "postgres", User: from.User, Host: n.postgres.addr(), Path: from.Path, RawQuery: query.Encode()}
	return u.String()
}

// begin runs a node; it does not wait until it is ready.
func (m *machine) begin(n *process) {
	m.t.Helper()
	var err error
	n.child, err = child.Start(child.Spec{
		Path: m.binary,
		Args: []string{"serve", "--addr", n.addr, "--admin-addr", n.admin, "--keys-dir", m.keys, "--registration", "open", "--limits", "off",
			"--durability", string(m.durability), "--writer-lease", "1s", "--files-dir", filepath.Join(m.dir, "files")},
		Env: append([]string{
			"XCORD_REDIS_URL=" + n.redisURL(m.t, m.redis.URL()), "XCORD_REDIS_ADMIN_URL=" + n.redisURL(m.t, m.redis.AdminURL()),
			"XCORD_POSTGRES_URL=" + n.postgresURL(m.t, m.postgres.URL()),
		}, n.env...),
		Dir: m.dir, Output: n.log, Orphan: syscall.SIGKILL,
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// await waits until a node is ready. A node that cannot start is started again, as a supervisor would: its servers may have
// been away.
func (m *machine) await(n *process) {
	m.t.Helper()
	m.until(n.name+" is ready", func() error {
		select {
		case <-n.child.Done():
			m.begin(n)
		default:
		}
		res, err := http.Get("http://" + n.admin + "/readyz")
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
}

// end stops a node as an operator does.
func (m *machine) end(n *process) {
	if n.child != nil {
		_ = syscall.Kill(n.child.Pid(), syscall.SIGCONT) // a stopped one takes no other signal
		n.child.Stop([]child.Step{{Signal: syscall.SIGTERM, Wait: 20 * time.Second}})
	}
}

// kill ends a node with -9.
func (m *machine) kill(n *process) { n.child.Stop(nil) }

func (m *machine) startRedis() {
	m.t.Helper()
	m.redis = redis.NewLocal(redis.LocalConfig{Dir: m.redisDisk.dir, Binary: m.wrapper, Durability: m.durability})
	begun := time.Now()
	if err := m.redis.Start(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	m.loads = append(m.loads, time.Since(begun))
}

func (m *machine) newPostgres() {
	m.postgres = postgres.NewLocal(postgres.LocalConfig{Dir: m.pgDisk.dir, SharedBuffersMB: 64})
}

func (m *machine) startPostgres() {
	m.t.Helper()
	m.newPostgres()
	if err := m.postgres.Start(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// killRedis ends Redis with -9; startRedis brings it back on its data.
func (m *machine) killRedis() {
	m.signal(m.redis.Pid(), syscall.SIGKILL)
	<-m.redis.Failed()
	m.redis.Stop()
}

func (m *machine) killPostgres() {
	m.signal(m.postgres.Pid(), syscall.SIGKILL)
	<-m.postgres.Failed()
	m.postgres.Stop()
}

// signal goes to a process that this test has started, or to a child of one.
func (m *machine) signal(pid int, s syscall.Signal) {
	m.t.Helper()
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		m.t.Errorf("signal %d: %v", pid, err)
	}
}

// family is a process and its children.
func family(pid int) []int {
	pids := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// leader is the node whose writer has the lead, and the process id of its connection.
func (m *machine) leader() (n *process, backend int) {
	m.t.Helper()
	const who = `select a.application_name, a.pid from pg_locks l join pg_stat_activity a using (pid)
		where l.locktype = 'advisory' and l.granted and l.classid = 2019782759` // 0x78637067
	m.until("a writer leads", func() error {
		ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
		defer cancel()
		var name string
		if err := m.pool.QueryRow(ctx, who).Scan(&name, &backend); err != nil {
			return err
		}
		for _, p := range m.nodes {
			if p.name == name {
				n = p
				return nil
			}
		}
		return fmt.Errorf("%q leads", name)
	})
	return n, backend
}

func (m *machine) exec(sql string, args ...any) {
	m.t.Helper()
	m.until("Postgres does "+sql, func() error {
		ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
		defer cancel()
		_, err := m.pool.Exec(ctx, sql, args...)
		return err
	})
}

// until tries every 20 ms until it works.
func (m *machine) until(what string, try func() error) {
	m.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("wait until %s: %v", what, err)
		}
		<-tick.C
	}
}

// pause lets a fault last.
func pause(d time.Duration) { <-time.After(d) }

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
