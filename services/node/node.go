// Package node is one process of XCord: it opens what its services share, starts them in order and stops them in reverse.
// It is the only one who knows everybody; it holds no logic of any service, and it does not read flags or handle signals.
//
// Two nodes can live in one process, as the tests have them: there is no package-level state.
package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/obs"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/services/auth"
	"github.com/xcord/xcord/services/messaging"
)

// startTimeout bounds a start. It is long for the recovery of a large log or database; a healthy start takes seconds.
const startTimeout = 5 * time.Minute

// socketPathMax is what the kernel takes as the path of a unix socket.
const socketPathMax = 107

// Node is one process. Start, Stop and Failed are those of a life.Service, except that a node is started once.
type Node struct {
	settings *Settings
	log      *slog.Logger
	data     string
	keysDir  string

	health  obs.Health
	admin   *obs.Admin
	lock    *dataLock
	servers life.Group // what the services stand on
	houses  life.Group // the services, and what they share
	closers []func()
	rest    *rest.Server
	auth    *auth.Service // nil when it does not run here
	loops   life.Loops
	shared  shared
}

// shared is what the services of a process have in common.
type shared struct {
	redisURL, redisAdminURL, postgresURL string

	volatile redis.Client
	keeper   *keeper
	bus      *bus.Log
	tail     *bus.Tail
	roster   *roster.Roster
	reads    *reads.Reads // nil where neither messaging nor the gateway runs
	outbox   *roster.Outbox
	keys     token.Keys
	links    *token.Links
	limiter  *limit.Limiter // nil: nothing is limited
}

// New makes a node of valid settings. It does no I/O.
func New(settings *Settings, log *slog.Logger) *Node {
	return &Node{settings: settings, log: log, servers: life.Group{Log: log}, houses: life.Group{Log: log}}
}

// Start returns when the node serves. When it fails, everything that it had started is stopped.
func (n *Node) Start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	for _, step := range []func(context.Context) error{
		n.openData, n.openAdmin, n.openServers, n.openShared, n.build, n.houses.Start,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	n.loops.Go("watch", n.watch)
	n.health.SetReady(true)
	n.log.Info("ready", "addr", n.Addr(), "admin", n.admin.Addr(), "services", strings.Join(n.running(), ","))
	return nil
}

// Stop tells the balancers first, then ends the services, then what they stood on. It blocks until done; twice is fine.
func (n *Node) Stop() {
	n.health.SetReady(false)
	n.loops.Stop()
	n.houses.Stop()
	for i := len(n.closers) - 1; i >= 0; i-- {
		n.closers[i]()
	}
	n.closers = nil
	n.servers.Stop()
	if n.admin != nil {
		n.admin.Stop()
	}
	n.lock.release()
}

// Failed reports a node that cannot go on.
func (n *Node) Failed() <-chan error { return n.loops.Failed() }

// watch ends with the first thing that has died.
func (n *Node) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.servers.Failed():
		return err
	case err := <-n.houses.Failed():
		return err
	}
}

// Addr is where the node serves, once it does.
func (n *Node) Addr() string { return n.rest.Addr() }

// AdminAddr is where the node's internal listener is.
func (n *Node) AdminAddr() string { return n.admin.Addr() }

func (n *Node) running() (names []string) {
	for _, name := range serviceNames {
		if n.settings.Runs(name) {
			names = append(names, name)
		}
	}
	return names
}

// openData takes the data directory, which a process needs that manages servers or keeps generated keys.
func (n *Node) openData(context.Context) (err error) {
	s := n.settings
	if s.RedisURL != "" && s.PostgresURL != "" && s.KeysDir != "" {
		return nil
	}
	if n.data, err = s.dataDir(); err != nil {
		return err
	}
	n.lock, err = lockData(n.data)
	return err
}

func (n *Node) openAdmin(ctx context.Context) (err error) {
	config := obs.AdminConfig{Addr: n.settings.AdminAddr}
	// Without a data directory, or with one whose name is too long for a socket, there is none unless it is asked for.
	if n.settings.AdminSocket != "" || n.data != "" {
		socket, err := n.settings.SocketPath()
		if err != nil {
			return err
		}
		if len(socket) <= socketPathMax {
			config.Socket = socket
		}
	}
	n.admin, err = obs.NewAdmin(config, obs.AdminDeps{Health: &n.health, Log: n.log})
	if err != nil {
		return err
	}
	return n.admin.Start(ctx)
}

// openServers starts the managed servers, or takes the external ones as they are.
func (n *Node) openServers(ctx context.Context) error {
	s, sh := n.settings, &n.shared
	var localRedis *redis.Local
	var localPostgres *postgres.Local
	if sh.redisURL = s.RedisURL.Reveal(); sh.redisURL == "" {
		localRedis = redis.NewLocal(redis.LocalConfig{Dir: filepath.Join(n.data, "redis"), Durability: redis.Durability(s.Durability)})
		n.servers.Add("redis", &kept{name: "redis", server: localRedis})
	}
	if sh.postgresURL = s.PostgresURL.Reveal(); sh.postgresURL == "" {
		localPostgres = postgres.NewLocal(postgres.LocalConfig{Dir: filepath.Join(n.data, "postgres")})
		n.servers.Add("postgres", &kept{name: "postgres", server: localPostgres})
	}
	if err := n.servers.Start(ctx); err != nil {
		return err
	}
	if sh.redisAdminURL = s.RedisAdminURL.Reveal(); sh.redisAdminURL == "" {
		sh.redisAdminURL = sh.redisURL
	}
	if localRedis != nil {
		sh.redisURL, sh.redisAdminURL = localRedis.URL(), localRedis.AdminURL()
	}
	if localPostgres == nil {
		return nil
	}
	sh.postgresURL = localPostgres.URL()
	return n.leaveURL(sh.postgresURL)
}

// leaveURL writes where the managed Postgres is, for whoever wants to look into it with psql.
func (n *Node) leaveURL(url string) error {
	path := filepath.Join(n.data, "postgres.url")
	if err := os.WriteFile(path, []byte(url+"\n"), 0o600); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// openShared connects, and makes the schema ready. That Redis keeps what is promised, and has a log, is for the keeper to see to.
func (n *Node) openShared(ctx context.Context) (err error) {
	s, sh := n.settings, &n.shared
	mode := redis.Durability(s.Durability)
	sh.keeper = newKeeper(mode)
	if sh.keeper.redis, err = n.openRedis(ctx, sh.redisURL, sh.keeper.dialed); err != nil {
		return err
	}
	sh.volatile = sh.keeper.redis
	if s.RedisVolatileURL != "" {
		if sh.volatile, err = n.openRedis(ctx, s.RedisVolatileURL.Reveal(), nil); err != nil {
			return err
		}
		sh.keeper.volatile = sh.volatile
	}
	config := bus.Config{Groups: messaging.Groups, Retain: s.BusRetain, RetainBytes: s.BusRetainBytes, Assured: sh.keeper.assured}
	if mode == redis.D3 {
		config.Replicas = 1
	}
	sh.bus = bus.Open(sh.keeper.redis, config)
	sh.keeper.bus, sh.keeper.adminURL = sh.bus, sh.redisAdminURL
	if err := postgres.Migrate(ctx, sh.postgresURL); err != nil {
		return err
	}
	if err := n.openKeys(); err != nil {
		return err
	}
	sh.roster = roster.New(sh.bus)
	n.health.Add("redis", sh.bus.Ping)
	n.health.Add("redis-memory", sh.bus.Pressed)
	return nil
}

func (n *Node) openRedis(ctx context.Context, url string, onDial func()) (redis.Client, error) {
	client, err := redis.Open(ctx, redis.Config{URL: url, OnDial: onDial})
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, client.Close)
	return client, nil
}

func (n *Node) openKeys() (err error) {
	n.keysDir = n.settings.KeysDir
	if n.keysDir == "" {
		n.keysDir = filepath.Join(n.data, "keys")
		if err := token.Generate(n.keysDir); err != nil {
			return err
		}
	}
	n.shared.keys, err = token.LoadSettled(n.keysDir, n.settings.Runs(Auth), token.Settle(n.settings.keysEvery()))
	return err
}

// Migrate brings the schema up to date: of the external Postgres, or of the managed one, which is started for it.
func Migrate(ctx context.Context, s *Settings) error {
	n := New(s, slog.Default())
	defer n.Stop()
	if err := n.openData(ctx); err != nil {
		return err
	}
	if err := n.openServers(ctx); err != nil {
		return err
	}
	return postgres.Migrate(ctx, n.shared.postgresURL)
}

// Version is the version of this binary, from the module and its checkout.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "xcord (unknown)"
	}
	version, revision, dirty := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = " " + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = " with changes"
		}
	}
	return "xcord " + version + revision + dirty + " " + info.GoVersion
}

// publicURL is where people reach the installation, as far as this process knows; base is where it serves itself.
func (n *Node) publicURL(base string) string {
	switch {
	case n.settings.PublicURL != "":
		return strings.TrimSuffix(n.settings.PublicURL, "/")
	case n.settings.Runs(Gateway):
		return base
	}
	return "http://<the gateway>"
}

// Greet tells whoever started the process what to do next.
func (n *Node) Greet(out io.Writer) {
	base := "http://" + n.Addr()
	if n.settings.tls("") != nil {
		base = "https://" + n.Addr()
	}
	lines := []string{
		"XCord serves " + base + "/api/v10 (" + strings.Join(n.running(), ", ") + ").",
	}
	if n.auth != nil && n.auth.SetupPath() != "" {
		lines = append(lines, "There is no administrator yet. Whoever opens this first becomes one, within a day:",
			"  "+n.publicURL(base)+n.auth.SetupPath())
	}
	if mode := n.settings.registration(); n.settings.Runs(Gateway) && (mode == auth.RegistrationOpen || mode == auth.RegistrationLocal) {
		lines = append(lines,
			"Make an account:",
			"  curl -s "+base+"/api/v10/auth/register -H 'Content-Type: application/json' \\",
			`    -d '{"username":"ada","password":"correct horse battery"}'`,
			"The README goes on from there: a guild, a channel, a message, a bot.",
		)
	}
	last := "Health: http://" + n.AdminAddr() + "/readyz. Stop with Ctrl-C"
	if n.settings.Durability != string(redis.D0) {
		last += "; nothing that was answered is lost"
	}
	lines = append(lines, last+".")
	_, _ = io.WriteString(out, strings.Join(lines, "\n")+"\n") // a closed terminal is no reason to stop serving
}
