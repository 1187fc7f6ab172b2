package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/child"
	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// TestMain is also the way into the bare servers, which run as processes of this binary.
func TestMain(m *testing.M) {
	if kind := os.Getenv(bareEnv); kind != "" {
		fmt.Fprintln(os.Stderr, serveBare(kind))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	senders = 64 // concurrent ones, each with a connection of its own
	people  = 16 // accounts that they share: a password costs some 40 ms to hash
	sockets = 200

	warmUp   = time.Second
	loadTime = 5 * time.Second // of the server
	bareTime = 3 * time.Second // of what runs beside it

	startTimeout = 2 * time.Minute
)

// BenchmarkServer starts one installation and puts one load after the other on it. A load is one operation and takes a
// fixed time; -benchtime 1x is right. What is charged: everything that the server's processes do from the first post to the
// last answer or delivery; the writer's rows of the latest half second fall behind that, and it has caught up before the
// next load begins. Allocations are the server's, from its own metrics.
func BenchmarkServer(b *testing.B) {
	w := newWorld(b)
	b.Run("Posts", w.posts)
	b.Run("Fanout", w.fanout)
	b.Run("Writer", w.writer)
	b.Run("Auth", w.auth)
	fmt.Println()
	w.report.print(os.Stdout)
}

// world is one installation and the people in it. Redis and Postgres are those that the binary would run itself, with the
// same settings, but run from here: so their CPU can be told apart, and Postgres can be taken away.
type world struct {
	dir      string
	redis    *redis.Local
	postgres *postgres.Local
	server   *child.Process
	pool     *pgxpool.Pool // to look at what the server writes

	noPostgres bool // it is away

	addr, admin string
	tokens      []string
	channel     id.ID
	report      report
}

func newWorld(b *testing.B) *world {
	b.Helper()
	w := &world{dir: diskDir(b)}
	w.redis = redis.NewLocal(redis.LocalConfig{Dir: filepath.Join(w.dir, "redis")})
	w.postgres = postgres.NewLocal(postgres.LocalConfig{Dir: filepath.Join(w.dir, "postgres")})
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, s := range []interface {
		Start(context.Context) error
		Stop()
	}{w.redis, w.postgres} {
		if err := s.Start(ctx); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(s.Stop)
	}
	w.startServer(b, ctx)
	var err error
	w.pool, err = pgxpool.New(ctx, w.postgres.URL())
	check(b, err)
	b.Cleanup(w.pool.Close)
	w.populate(b, ctx)
	return w
}

// ramdisks are the file systems on which a sync costs nothing.
var ramdisks = []int64{0x01021994 /* tmpfs */, 0x858458f6 /* ramfs */}

// diskDir makes a directory on a disk, which the servers' accounts may pass.
func diskDir(b *testing.B) string {
	b.Helper()
	for _, parent := range []string{os.TempDir(), "/var/tmp", "."} {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(parent, &fs); err != nil || fs.Type == ramdisks[0] || fs.Type == ramdisks[1] {
			continue
		}
		dir, err := os.MkdirTemp(parent, "xcord-bench-")
		if err != nil {
			continue
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o711); err != nil {
			b.Fatal(err)
		}
		return dir
	}
	b.Fatal("no directory on a disk: set TMPDIR to one")
	return ""
}

func (w *world) startServer(b *testing.B, ctx context.Context) {
	b.Helper()
	binary := filepath.Join(w.dir, "xcord")
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", binary, "../services/cmd/xcord").CombinedOutput(); err != nil {
		b.Fatalf("build the server: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(w.dir, "xcord.log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	w.addr, w.admin = freePort(b), freePort(b)
	w.server, err = child.Start(child.Spec{
		Path: binary,
		Args: []string{"serve", "--addr", w.addr, "--admin-addr", w.admin, "--data", filepath.Join(w.dir, "data"), "--limits", "off"},
		Env: []string{
			"XCORD_REDIS_URL=" + w.redis.URL(), "XCORD_REDIS_ADMIN_URL=" + w.redis.AdminURL(), "XCORD_POSTGRES_URL=" + w.postgres.URL(),
		},
		Dir: w.dir, Output: log, Orphan: syscall.SIGKILL,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		w.server.Stop([]child.Step{{Signal: syscall.SIGTERM, Wait: 10 * time.Second}})
		if said, _ := os.ReadFile(log.Name()); b.Failed() || bytes.Contains(said, []byte("level=ERROR")) {
			fmt.Printf("the server said:\n%s\n", said)
		}
	})
	w.until(b, "the server is ready", func() error {
		res, err := http.Get("http://" + w.admin + "/readyz")
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

func freePort(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// until tries every 10 ms until it works.
func (w *world) until(b *testing.B, what string, try func() error) {
	b.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(startTimeout); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("wait until %s: %v", what, err)
		}
		select {
		case <-tick.C:
		case <-w.server.Done():
			b.Fatalf("the server has ended: %v", w.server.Err())
		}
	}
}

// populate makes one guild with one channel, and everybody a member.
func (w *world) populate(b *testing.B, ctx context.Context) {
	b.Helper()
	anybody, err := client.New(client.Config{URL: "http://" + w.addr})
	check(b, err)
	defer anybody.CloseIdle()
	var invite string
	for i := range people {
		in, err := anybody.Register(ctx, wire.Register{Username: fmt.Sprintf("bench%d", i), Password: "correct horse battery"})
		check(b, err)
		w.tokens = append(w.tokens, in.Token)
		c := anybody.WithToken(in.Token)
		if i > 0 {
			_, err = c.Join(ctx, invite)
			check(b, err)
			continue
		}
		guild, err := c.CreateGuildOf(ctx, wire.CreateGuild{Name: "bench", SystemChannelFlags: wire.SuppressJoins})
		check(b, err)
		channel, err := c.CreateChannel(ctx, guild.ID, wire.CreateChannel{Name: "bench"})
		check(b, err)
		w.channel = channel.ID
		made, err := c.CreateInvite(ctx, channel.ID, wire.CreateInvite{})
		check(b, err)
		invite = made.Code
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// settle waits until the writer has caught up, so that a load does not pay for the one before it. It asks Postgres for the
// checkpoint, which costs the servers next to nothing.
func (w *world) settle(b *testing.B) {
	b.Helper()
	var wantMs, wantSeq uint64
	_, err := fmt.Sscanf(w.latestEntry(b).ID, "%d-%d", &wantMs, &wantSeq)
	check(b, err)
	w.until(b, "the writer has caught up", func() error {
		ms, seq, err := w.checkpoint()
		if err == nil && (ms < wantMs || ms == wantMs && seq < wantSeq) {
			err = fmt.Errorf("it is at %d-%d, and the log at %d-%d", ms, seq, wantMs, wantSeq)
		}
		return err
	})
}

// checkpoint is how far the writer has come.
func (w *world) checkpoint() (ms, seq uint64, err error) {
	const query = `select last_ms, last_seq from checkpoints where grp = 'pg' and shard = 0`
	err = w.pool.QueryRow(context.Background(), query).Scan(&ms, &seq)
	return ms, seq, err
}
