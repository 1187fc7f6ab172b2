package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/conf"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/services/auth"
	"github.com/xcord/xcord/services/node"
)

// TestMain makes passwords cheap, but for those of the binary's own processes: services/auth proves what they cost. It also looks for goroutines that outlive the nodes. fasthttp's are let be: they sleep up to 10 s before they notice
// that their server has stopped.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "xcord-binary-")
	if err != nil {
		panic(err)
	}
	binaryDir = dir
	auth.CheapHashes()
	code := harness.Main(m, goleak.IgnoreTopFunction("time.Sleep"))
	_ = os.RemoveAll(dir) // what stays is in the way of nobody
	os.Exit(code)
}

// world is one installation: its servers, its nodes and where clients reach it.
type world struct {
	redis *redis.Local
	pool  *pgxpool.Pool
	node  *node.Node // the one with the gateway
	url   string
	users atomic.Int64

	settings node.Settings // of a node with everything
}

// topologies are the ways in which the same installation may be cut into processes.
var topologies = map[string]func(*testing.T) *world{"single": single, "split": split}

// single is everything in one node.
func single(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	return w
}

// worlds counts the divided ones.
var worlds atomic.Int64

// split is the gateway in one node and all other services in another.
func split(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.divide(t)
	return w
}

// divide starts the world as split does.
func (w *world) divide(t *testing.T) {
	t.Helper()
	// Where people come in is told to the processes behind before it is open. Nobody else takes a port of an address that no other world has.
	n := worlds.Add(1)
	entrance := freePortOf(t, fmt.Sprintf("127.1.%d.%d", n/250, n%250+1))
	back := w.settings
	back.Services, back.PublicURL = []string{node.Auth, node.Guilds, node.Messaging}, "http://"+entrance
	behind := w.start(t, back).Addr()
	front := w.settings
	front.Addr = entrance
	front.Services = []string{node.Gateway}
	front.UpstreamAuth, front.UpstreamGuilds, front.UpstreamMessaging = []string{behind}, []string{behind}, []string{behind}
	w.node = w.start(t, front)
	w.url = "http://" + w.node.Addr()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{redis: harness.Redis(t)}
	url := harness.Postgres(t)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w.pool = pool
	keys := filepath.Join(t.TempDir(), "keys")
	if err := token.Generate(keys); err != nil {
		t.Fatal(err)
	}
	w.settings = node.Settings{
		Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0", KeysDir: keys, Durability: "D2", Registration: "open", Limits: "off",
		FilesDir: filepath.Join(t.TempDir(), "files"),
		RedisURL: conf.Secret(w.redis.URL()), RedisAdminURL: conf.Secret(w.redis.AdminURL()), PostgresURL: conf.Secret(url),
	}
	return w
}

// start runs a node until the test ends.
func (w *world) start(t *testing.T, s node.Settings) *node.Node {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	n := node.New(&s, logger(t))
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

// logger shows what a node says when its test fails.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// person is somebody with an account.
type person struct {
	*client.Client
	id    id.ID
	name  string
	token string
}

const password = "correct horse battery"

// register makes an account with a name of its own.
func (w *world) register(t *testing.T, name string) *person {
	t.Helper()
	return registerAt(t, w.url, fmt.Sprintf("%s%d", name, w.users.Add(1)))
}

func registerAt(t *testing.T, url, name string) *person {
	t.Helper()
	c, err := client.New(client.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Register(t.Context(), wire.Register{Username: name, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return &person{Client: c.WithToken(in.Token), id: in.User.ID, name: name, token: in.Token}
}

// guild makes a guild of the person's and returns it with its first text channel, where nobody is told who joins.
func (p *person) guild(t *testing.T, name string) (guild, channel id.ID) {
	t.Helper()
	g, err := p.CreateGuildOf(t.Context(), wire.CreateGuild{Name: name, SystemChannelFlags: wire.SuppressJoins})
	if err != nil {
		t.Fatal(err)
	}
	channels, err := p.Channels(t.Context(), g.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range channels {
		if c.Type == wire.ChannelText {
			return g.ID, c.ID
		}
	}
	t.Fatal("the guild has no text channel")
	return 0, 0
}

// invite lets others into a channel's guild.
func (p *person) invite(t *testing.T, channel id.ID, others ...*person) {
	t.Helper()
	in, err := p.CreateInvite(t.Context(), channel, wire.CreateInvite{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range others {
		if _, err := o.Join(t.Context(), in.Code); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *person) say(t *testing.T, channel id.ID, text string) wire.Message {
	t.Helper()
	m, err := p.Say(t.Context(), channel, text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// connect opens a gateway session and closes it with the test.
func (p *person) connect(t *testing.T, cfg client.GatewayConfig) *client.Gateway {
	t.Helper()
	g, err := p.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// patience bounds how long a test waits for what must happen. It is no measure of speed: whoever reaches it has failed.
const patience = 30 * time.Second

// await returns the first dispatch of that name for which ok says yes; dispatches before it are passed over.
func await(t *testing.T, g *client.Gateway, name string, ok func(client.Dispatch) bool) client.Dispatch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	for {
		select {
		case d, open := <-g.Events():
			if !open {
				t.Fatalf("the gateway ended before %s: %v", name, g.Err())
			}
			if d.Type == name && (ok == nil || ok(d)) {
				return d
			}
			seen = append(seen, d.Type)
		case <-ctx.Done():
			t.Fatalf("no %s came, but %s", name, strings.Join(seen, " "))
		}
	}
}

// content says yes to a message of that text.
func content(text string) func(client.Dispatch) bool {
	return func(d client.Dispatch) bool {
		m, ok := client.As[wire.Message](d, d.Type)
		return ok && m.Content == text
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	return freePortOf(t, "127.0.0.1")
}

func freePortOf(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// eventually tries until it works.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}
