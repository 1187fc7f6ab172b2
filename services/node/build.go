package node

import (
	"context"
	"crypto/rand"
	"path/filepath"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/resume"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/services/auth"
	"github.com/xcord/xcord/services/gateway"
	"github.com/xcord/xcord/services/guilds"
	"github.com/xcord/xcord/services/messaging"
)

// poolConns are the connections to Postgres that each service has for itself, so that a slow one starves nobody else.
const poolConns = 8

// keeperConns are for one who nearly always has nothing to ask.
const keeperConns = 2

// build makes the services of this process and says in which order they live. What stands first is started first and
// stopped last: the copies of the log, then those who answer from them, and the listener at the end.
func (n *Node) build(ctx context.Context) error {
	s, sh := n.settings, &n.shared
	pool, err := n.openPool(ctx, keeperConns)
	if err != nil {
		return err
	}
	sh.keeper.pool = pool
	n.houses.Add("keeper", sh.keeper)
	signer, err := token.NewSigner(sh.keys, nil)
	if err != nil {
		return err
	}
	verifier, err := token.NewVerifier(token.Config{}, sh.keys)
	if err != nil {
		return err
	}
	var minter *token.Minter
	if s.Runs(Auth) {
		if minter, err = token.NewMinter(token.Config{}, sh.keys); err != nil {
			return err
		}
	}
	n.houses.Add("keys", token.NewWatch(n.keysDir, s.keysEvery(), sh.keys, verifier, minter))
	door := identity.New(identity.Deps{Tokens: verifier, Roster: sh.roster, Log: sh.bus})
	// A gateway that comes back is another one: what its predecessor left behind must run out, or be claimed.
	name := rand.Text()
	sh.limiter = n.newLimiter(name)
	config, err := n.listener()
	if err != nil {
		return err
	}
	if sh.links, err = token.NewLinks(sh.keys, n.linkBase, nil); err != nil {
		return err
	}
	n.rest = rest.New(config, rest.Deps{Authenticator: door, Signer: signer, Verifier: signer, Limiter: sh.limiter, Log: n.log})

	// The roster moves before everybody who relies on it.
	from := sh.bus.Last
	sh.tail = bus.NewTail(sh.bus, func(ctx context.Context) (bus.Position, error) { return from(ctx) })
	sh.tail.Subscribe(sh.roster.HandleEntries)
	sh.tail.Subscribe(door.HandleEntries)
	sh.tail.OnCut(sh.roster.HandleCut)
	sh.tail.OnCut(door.HandleCut)

	if err := n.buildCold(ctx, door, minter); err != nil {
		return err
	}
	if s.Runs(Messaging) || s.Runs(Gateway) {
		pool, err := n.openPool(ctx, poolConns)
		if err != nil {
			return err
		}
		sh.reads = reads.New(pool, sh.tail)
	}
	if s.Runs(Messaging) {
		if from, err = n.buildMessaging(ctx); err != nil {
			return err
		}
	} else {
		n.houses.Add("tail", sh.tail)
		if sh.reads != nil {
			n.houses.Add("reads", sh.reads)
		}
		forward(n, Messaging, messaging.Routes)
	}
	n.houses.Add("trimmer", bus.NewTrimmer(sh.bus))
	n.houses.Add("identity", door)
	if s.Runs(Gateway) {
		n.buildGateway(door, name)
	}
	n.houses.Add("rest", n.rest)
	return nil
}

// buildMessaging makes the service of messages, which the tail and what it reads stand in front of, and says where the tail must start.
func (n *Node) buildMessaging(ctx context.Context) (from func(context.Context) (bus.Position, error), err error) {
	s, sh := n.settings, &n.shared
	pool, err := n.openPool(ctx, poolConns)
	if err != nil {
		return nil, err
	}
	store, err := n.openFiles()
	if err != nil {
		return nil, err
	}
	service := messaging.New(messaging.Config{Lease: s.WriterLease, FileBytes: s.FilesQuota, UserFileBytes: s.FilesUserQuota}, messaging.Deps{
		Log: sh.bus, Tail: sh.tail, Roster: sh.roster, Reads: sh.reads, Pool: pool, Files: store, IDs: postgres.NewIDs(pool), Links: sh.links,
	})
	n.houses.Add("tail", sh.tail)
	n.houses.Add("reads", sh.reads)
	n.houses.Add(Messaging, service)
	rest.Bind(n.rest, messaging.Routes, service)
	letters := service.DeadLetters()
	n.admin.Mount("/dlq", letters)
	n.admin.Mount("/dlq/", letters)
	return service.Checkpoint, nil
}

// newLimiter is nil when nothing is to be limited. It is started where requests are counted: with the gateway.
func (n *Node) newLimiter(name string) *limit.Limiter {
	if n.settings.Limits == "off" {
		return nil
	}
	return limit.New(n.shared.volatile, limit.Config{Gateway: name})
}

// listener is who may come to the public listener, and how.
func (n *Node) listener() (rest.Config, error) {
	s := n.settings
	dir, err := s.dataDir()
	if err != nil {
		return rest.Config{}, err
	}
	spool, err := n.spoolDir()
	if err != nil {
		return rest.Config{}, err
	}
	proxies, err := prefixes(s.TrustedProxies)
	if err != nil {
		return rest.Config{}, err
	}
	exempt, err := prefixes(s.LimitExempt)
	if err != nil {
		return rest.Config{}, err
	}
	return rest.Config{
		Addr: s.Addr, Internal: !s.Runs(Gateway), Proxies: proxies, Exempt: exempt, Origins: s.Origins, TLS: s.tls(filepath.Join(dir, "acme")),
		ReadTimeout: s.ReadTimeout, ConnectionsPerAddrMax: s.LimitConnections,
		Uploads: rest.Uploads{Dir: spool, FileBytesMax: s.FileBytes, FormBytesMax: s.FormBytes},
		Limits:  rest.Limits{UserPerSecond: s.LimitUser, AddrMax: s.LimitAddress, InvalidMax: s.LimitInvalid},
	}, nil
}

// buildCold makes the services whose changes are rows first, and the outbox between those and the log.
func (n *Node) buildCold(ctx context.Context, door *identity.Door, minter *token.Minter) error {
	s, sh := n.settings, &n.shared
	if s.Runs(Auth) || s.Runs(Guilds) {
		pool, err := n.openPool(ctx, poolConns)
		if err != nil {
			return err
		}
		sh.outbox = roster.NewOutbox(sh.roster, pool)
		n.houses.Add("outbox", sh.outbox)
		n.health.Add("postgres", pool.Ping)
	}
	if !s.Runs(Auth) {
		forward(n, Auth, auth.Routes)
	} else if err := n.buildAuth(ctx, door, minter); err != nil {
		return err
	}
	if !s.Runs(Guilds) {
		forward(n, Guilds, guilds.Routes)
		return nil
	}
	pool, err := n.openPool(ctx, poolConns)
	if err != nil {
		return err
	}
	sealer, err := token.NewWebhookSealer(sh.keys)
	if err != nil {
		return err
	}
	service := guilds.New(guilds.Config{}, guilds.Deps{Pool: pool, IDs: postgres.NewIDs(pool), Log: sh.bus, Roster: sh.roster, Outbox: sh.outbox, Sealer: sealer,
		Presence: presence.New(sh.volatile, presence.Config{Gateway: Guilds})})
	sh.tail.Subscribe(service.HandleEntries)
	n.houses.Add(Guilds, service)
	rest.Bind(n.rest, guilds.Routes, service)
	return nil
}

func (n *Node) buildAuth(ctx context.Context, door *identity.Door, minter *token.Minter) error {
	sh := &n.shared
	pool, err := n.openPool(ctx, poolConns)
	if err != nil {
		return err
	}
	sealer, err := token.NewSealer(sh.keys)
	if err != nil {
		return err
	}
	service := auth.New(auth.Config{Registration: n.settings.registration(), GuessesPerAddr: n.settings.LimitLogins, AuditKeep: n.settings.AuditKeep}, auth.Deps{
		Door: door, Outbox: sh.outbox, Pool: pool, IDs: postgres.NewIDs(pool), Minter: minter, Roster: sh.roster, Sealer: sealer,
		Presence: presence.New(sh.volatile, presence.Config{Gateway: Auth}),
		Limiter:  sh.limiter,
	})
	n.auth = service
	n.admin.Mount("/admins", service.Desk())
	n.houses.Add(Auth, service)
	rest.Bind(n.rest, auth.Routes, service)
	return nil
}

// forward passes a service's table on to where the service lives; without the gateway nobody asks this process for it.
func forward[S any](n *Node, name string, table rest.Table[S]) {
	if n.settings.Runs(Gateway) {
		rest.Forward(n.rest, table, &rest.Upstream{Addrs: n.settings.upstream(name)})
	}
}

func (n *Node) openPool(ctx context.Context, conns int) (*postgres.Pool, error) {
	pool, err := postgres.Open(ctx, postgres.Config{URL: n.shared.postgresURL, MaxConns: conns})
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, pool.Close)
	return pool, nil
}

func (n *Node) buildGateway(door *identity.Door, name string) {
	s, sh := n.settings, &n.shared
	sessions := session.Config{
		Origins: s.Origins, OpenMax: s.LimitConnections, ReconnectSpread: s.DrainTime,
		HeartbeatInterval: s.HeartbeatInterval, IdentifyTimeout: s.IdentifyTimeout, WriteTimeout: s.SlowTimeout,
	}
	service := gateway.New(gateway.Config{PublicURL: s.PublicURL, TLS: s.tls("") != nil, StartsAtOnce: s.LimitStarts, Session: sessions}, gateway.Deps{
		Log: sh.bus, Tail: sh.tail, Roster: sh.roster, Reads: sh.reads, Door: door, Limiter: sh.limiter, Links: sh.links,
		Presence: presence.New(sh.volatile, presence.Config{Gateway: name}),
		Resume:   resume.New(sh.volatile, resume.Config{Gateway: name, Window: s.ResumeWindow}),
	})
	if sh.limiter != nil {
		n.houses.Add("limits", sh.limiter)
	}
	n.houses.Add(Gateway, service)
	n.admin.Mount("GET /sockets/{user}", service.Sockets())
	service.Mount(n.rest)
	n.rest.Describe()
}
