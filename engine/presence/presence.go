// Package presence knows who is online: the status of every socket of a user, what others see of them together, and who
// tells whom. It does not know guilds, who may see whose presence, or what a presence looks like to a client.
//
// # How it stays right
//
// A socket belongs to a gateway, and a gateway has a lease that it renews while it lives. When the lease runs out, any
// other gateway takes the dead one's sockets away. A gateway that was given up by mistake (it was stopped for a while, or
// Redis lost its memory) notices it when it renews, and sets all its sockets again. Every change of what others see goes
// into a small stream in the same step; each gateway tails it, and remembers the latest. The stream is not the log: whoever is away is
// told of each user who changed meanwhile once, and after a long time reads the statuses as they are.
package presence

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
)

//go:embed library.lua
var library string

var (
	changesTotal = metrics.NewCounter(`xcord_presence_changes_total`)
	sweptTotal   = metrics.NewCounter(`xcord_presence_swept_sockets_total`)
	failedTotal  = metrics.NewCounter(`xcord_presence_failures_total`)
)

// Status is how a user or a socket shows.
type Status string

// The statuses. Invisible is only for sockets; others see it as Offline.
const (
	Online    Status = "online"
	Idle      Status = "idle"
	DND       Status = "dnd"
	Invisible Status = "invisible"
	Offline   Status = "offline"
)

// Said is what the client of one socket says of itself.
type Said struct {
	Status Status
	// Client is the kind of client, of the client_status of the contract: one word.
	Client string
	// Activities is a JSON list, or empty for none.
	Activities string
}

// Shown is what others see of a user who is there, of all sockets together: the highest status (do not disturb, then online, then idle),
// the highest on each kind of client, and what the highest socket is doing that does anything.
type Shown struct {
	Status     Status
	Clients    map[string]Status
	Activities string // as in Said
}

// Change is a user of whom others see something else from now on. With a status that stays, it is in the details.
type Change struct {
	User   id.ID
	Status Status
}

// Config of a Presence. The zero value of everything but Gateway is the default.
type Config struct {
	// Gateway names this process; it must be another one after a restart.
	Gateway string
	// Lease is how long a gateway counts as alive after it was last heard of (default 20s); it renews four times as often.
	Lease time.Duration
	// CallTimeout bounds one command (default 2s).
	CallTimeout time.Duration
	// Now is the clock (default time.Now). The clocks of all gateways must agree to within a fraction of Lease.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.Lease == 0 {
		c.Lease = 20 * time.Second
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = 2 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Presence holds the sockets of this process. Safe for concurrent use.
type Presence struct {
	redis       rueidis.Client
	cfg         Config
	subscribers []func(ctx context.Context, changes []Change)
	on          life.Switch
	loops       life.Loops
	recent      recent

	// mu guards sockets, and is held over no call. A socket's own lock orders its calls.
	mu      sync.Mutex
	sockets map[string]*socket
}

// socket is one of this process. What it says is what Redis shall have.
type socket struct {
	user  id.ID
	since time.Time

	mu   sync.Mutex // held while Redis is told, so that the last word stands
	said Said       // the zero value when it is gone
	told bool
}

// New makes a Presence. It does no I/O.
func New(client rueidis.Client, cfg Config) *Presence {
	if cfg.Gateway == "" || strings.ContainsAny(cfg.Gateway, " /") {
		panic("BUG: a presence needs the name of its gateway")
	}
	return &Presence{redis: client, cfg: cfg.withDefaults(), sockets: map[string]*socket{}}
}

// Subscribe adds a receiver of every change, also of this process's own. Call it before Start. The receivers run one after the other in
// one goroutine and may block; what piles up beyond the stream's bound is lost.
func (p *Presence) Subscribe(receive func(ctx context.Context, changes []Change)) {
	p.subscribers = append(p.subscribers, receive)
}

const tag = "presence:{p}:"

func socketsKey(user id.ID) string       { return tag + "sockets:" + user.String() }
func gatewayKey(gateway string) string   { return tag + "gateway:" + gateway }
func statusesKey() string                { return tag + "statuses" }
func detailsKey() string                 { return tag + "details" } // which the library knows as well
func changesKey() string                 { return tag + "changes" }
func leasesKey() string                  { return tag + "leases" }
func (p *Presence) name(s string) string { return p.cfg.Gateway + "/" + s }

// Install loads the functions. The admin client needs FUNCTION LOAD.
func Install(ctx context.Context, admin rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := admin.Do(ctx, admin.B().FunctionLoad().Replace().FunctionCode(library).Build()).Error(); err != nil {
		return fmt.Errorf("load the functions of presence: %w", err)
	}
	return nil
}

// Start takes the lease and begins to tail the changes.
func (p *Presence) Start(ctx context.Context) error {
	return p.on.Start(func() error {
		if _, err := p.renew(ctx); err != nil {
			return err
		}
		from, err := p.recall(ctx)
		if err != nil {
			return err
		}
		p.loops.Go("presence lease", p.keep)
		p.loops.Go("presence changes", func(ctx context.Context) error { return p.tail(ctx, from) })
		return nil
	})
}

// Stop ends both loops and gives the lease back. Sockets that are still set are swept by others.
func (p *Presence) Stop() {
	p.on.Stop(func() {
		p.loops.Stop()
		// The process ends: this is the last thing to be said, and it has a time of its own.
		ctx, cancel := context.WithTimeout(context.Background(), p.cfg.CallTimeout)
		defer cancel()
		zero := p.redis.B().Zadd().Key(leasesKey()).ScoreMember().ScoreMember(0, p.cfg.Gateway).Build()
		if err := p.redis.Do(ctx, zero).Error(); err != nil {
			slog.Warn("the presence lease could not be given back", "err", err)
			return
		}
		if err := p.sweepOne(ctx, p.cfg.Gateway); err != nil {
			slog.Warn("the sockets of this gateway could not be swept", "err", err)
		}
	})
}

// Failed reports a loop that ended by itself.
func (p *Presence) Failed() <-chan error { return p.loops.Failed() }

// Set sets how a socket of a user shows. When Redis is away the error says so, and it is repeated with the next renewal.
func (p *Presence) Set(ctx context.Context, user id.ID, session string, said Said) error {
	if said.Status == Offline {
		said.Status = Invisible // a socket that is there but wants to look as if it was not
	}
	p.mu.Lock()
	s := p.sockets[session]
	if s == nil {
		s = &socket{user: user, since: p.cfg.Now()}
		p.sockets[session] = s
	}
	p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said, s.told = said, false
	p.mu.Lock()
	p.sockets[session] = s // a Remove may have come in between
	p.mu.Unlock()
	return p.tell(ctx, session, s)
}

// Remove takes a socket away.
func (p *Presence) Remove(ctx context.Context, session string) error {
	p.mu.Lock()
	s := p.sockets[session]
	p.mu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said, s.told = Said{}, false
	return p.tell(ctx, session, s)
}

// tell brings what a socket says to Redis. The socket is locked.
func (p *Presence) tell(ctx context.Context, session string, s *socket) error {
	if err := p.set(ctx, s, p.name(session)); err != nil {
		failedTotal.Inc()
		return err
	}
	s.told = true
	if s.said.Status == "" {
		p.mu.Lock()
		if p.sockets[session] == s {
			delete(p.sockets, session)
		}
		p.mu.Unlock()
	}
	return nil
}

func (p *Presence) set(ctx context.Context, s *socket, name string) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	cmd := p.redis.B().Fcall().Function("xcord_presence_set").Numkeys(4).
		Key(socketsKey(s.user), statusesKey(), changesKey(), gatewayKey(p.cfg.Gateway)).
		Arg(s.user.String(), name, s.value()).Build()
	if err := p.redis.Do(ctx, cmd).Error(); err != nil {
		return fmt.Errorf("set presence: %w", err)
	}
	return nil
}

// value is a socket as Redis has it: what cannot have spaces comes first. It is empty for one that is gone.
func (s *socket) value() string {
	if s.said.Status == "" {
		return ""
	}
	return strings.TrimRight(strings.Join([]string{string(s.said.Status), milliseconds(s.since), s.said.Client, s.said.Activities}, " "), " ")
}

// Shown are what others see of users; who is not in the answer is offline.
func (p *Presence) Shown(ctx context.Context, users []id.ID) (map[id.ID]Shown, error) {
	out := map[id.ID]Shown{}
	if len(users) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	fields := make([]string, len(users))
	for i, u := range users {
		fields[i] = u.String()
	}
	replies := p.redis.DoMulti(ctx,
		p.redis.B().Hmget().Key(statusesKey()).Field(fields...).Build(), p.redis.B().Hmget().Key(detailsKey()).Field(fields...).Build())
	statuses, err := replies[0].ToArray()
	if err != nil {
		return nil, fmt.Errorf("read presences: %w", err)
	}
	details, err := replies[1].ToArray()
	if err != nil {
		return nil, fmt.Errorf("read the details of presences: %w", err)
	}
	for i, v := range statuses {
		status, err := v.ToString()
		if err != nil {
			continue // nil, for somebody who is not there
		}
		detail, _ := details[i].ToString() // nil when an older binary has told the status
		out[users[i]] = readShown(Status(status), detail)
	}
	return out, nil
}

// kinds are the kinds of client in the order of the details.
var kinds = [...]string{"desktop", "mobile", "web"}

// readShown reads the details beside a status; without, it is on the web.
func readShown(status Status, detail string) Shown {
	out := Shown{Status: status, Clients: map[string]Status{}}
	parts := strings.SplitN(detail, " ", len(kinds)+1)
	if len(parts) <= len(kinds) {
		out.Clients["web"] = status
		return out
	}
	for i, kind := range kinds {
		if parts[i] != "-" {
			out.Clients[kind] = Status(parts[i])
		}
	}
	out.Activities = parts[len(kinds)]
	return out
}

// renew extends the lease, and says whether it had been given up meanwhile.
func (p *Presence) renew(ctx context.Context) (fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	now := p.cfg.Now()
	till := milliseconds(now.Add(p.cfg.Lease))
	cmd := p.redis.B().Fcall().Function("xcord_presence_lease").Numkeys(1).Key(leasesKey()).Arg(p.cfg.Gateway, till, milliseconds(now)).Build()
	known, err := p.redis.Do(ctx, cmd).AsInt64()
	if err != nil {
		return false, fmt.Errorf("renew the presence lease: %w", err)
	}
	return known == 0, nil
}

func (p *Presence) keep(ctx context.Context) error {
	tick := time.NewTicker(p.cfg.Lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := p.Round(ctx); err != nil && ctx.Err() == nil {
			failedTotal.Inc()
			slog.Warn("presence could not be renewed", "err", err)
		}
	}
}

// Round renews the lease, tells Redis what it does not know of this process's sockets, and sweeps those of dead gateways.
// Started, it runs by itself.
func (p *Presence) Round(ctx context.Context) error {
	fresh, err := p.renew(ctx)
	if err != nil {
		return err
	}
	return errors.Join(p.retell(ctx, fresh), p.sweep(ctx))
}

// retell repeats what did not get through; everything when this gateway had been given up.
func (p *Presence) retell(ctx context.Context, all bool) error {
	p.mu.Lock()
	sockets := make(map[string]*socket, len(p.sockets))
	for name, s := range p.sockets {
		sockets[name] = s
	}
	p.mu.Unlock()
	for name, s := range sockets {
		s.mu.Lock()
		var err error
		if all || !s.told {
			err = p.tell(ctx, name, s)
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepBatch bounds what one command of a sweep touches.
const sweepBatch = 256

// sweep takes away the sockets of gateways whose lease has run out.
func (p *Presence) sweep(ctx context.Context) error {
	now := milliseconds(p.cfg.Now())
	call, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	dead, err := p.redis.Do(call, p.redis.B().Zrangebyscore().Key(leasesKey()).Min("-inf").Max(now).Build()).AsStrSlice()
	if err != nil {
		return fmt.Errorf("look for dead gateways: %w", err)
	}
	for _, gateway := range dead {
		if err := p.sweepOne(ctx, gateway); err != nil {
			return err
		}
	}
	return nil
}

func (p *Presence) sweepOne(ctx context.Context, gateway string) error {
	for {
		sockets, err := p.some(ctx, gateway)
		if err != nil {
			return err
		}
		for _, member := range sockets {
			user, socket, _ := strings.Cut(member, " ")
			u, err := id.Parse(user)
			if err != nil {
				return fmt.Errorf("sweep gateway %s: %w", gateway, err)
			}
			alive, err := p.sweepSocket(ctx, gateway, u, socket)
			if err != nil || alive {
				return err
			}
			sweptTotal.Inc()
		}
		if len(sockets) == 0 {
			return p.bury(ctx, gateway)
		}
	}
}

func (p *Presence) sweepSocket(ctx context.Context, gateway string, user id.ID, socket string) (alive bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	cmd := p.redis.B().Fcall().Function("xcord_presence_sweep").Numkeys(5).
		Key(socketsKey(user), statusesKey(), changesKey(), gatewayKey(gateway), leasesKey()).
		Arg(user.String(), socket, gateway, milliseconds(p.cfg.Now())).Build()
	reply, err := p.redis.Do(ctx, cmd).AsInt64()
	if err != nil {
		return false, fmt.Errorf("sweep a socket: %w", err)
	}
	return reply < 0, nil
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func (p *Presence) some(ctx context.Context, gateway string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	out, err := p.redis.Do(ctx, p.redis.B().Srandmember().Key(gatewayKey(gateway)).Count(sweepBatch).Build()).AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("read the sockets of gateway %s: %w", gateway, err)
	}
	return out, nil
}

func (p *Presence) bury(ctx context.Context, gateway string) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	now := milliseconds(p.cfg.Now())
	cmd := p.redis.B().Fcall().Function("xcord_presence_bury").Numkeys(2).Key(leasesKey(), gatewayKey(gateway)).Arg(gateway, now).Build()
	if err := p.redis.Do(ctx, cmd).Error(); err != nil {
		return fmt.Errorf("bury gateway %s: %w", gateway, err)
	}
	return nil
}
