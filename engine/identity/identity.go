// Package identity says who a token belongs to: it is the rest.Authenticator of every process, and what a gateway asks at
// IDENTIFY. It does not make tokens (engine/token), keep accounts (services/auth) or decide what somebody may do
// (engine/roster).
//
// An access token is checked by its signature, a bot's token by its hash in the read model. Both are remembered: an access token
// until it expires or its session ends, a bot's hash for a second or until the bot changes. That a session has ended is a notice,
// which stands until no token of it can be good any more: also a process that begins later, or that was cut off from Redis, gets
// it. While it is cut off it goes by the token's life, of 15 minutes.
package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

var (
	refused      = metrics.NewCounter(`xcord_identity_refused_total`)
	revokedTotal = metrics.NewCounter(`xcord_identity_revoked_total`)
)

const (
	topic = "revoked"

	botPrefix    = "Bot "
	bearerPrefix = "Bearer "

	// botKeep is how long a bot's hash is believed without the tail's help: what it costs at most that an announcement is late,
	// for one read of Redis a second and bot.
	botKeep = time.Second
	botsMax = 4096
	// revokedMax bounds them, at some 100 MB. Ending a session takes a login, which takes 30 ms of a core; beyond it the oldest is
	// forgotten, whose token then works until it expires.
	revokedMax = 1 << 20
)

// RevokedKeep is how long a session is remembered as ended: until its last access token has expired on every clock.
const RevokedKeep = token.LifeMax + 10*time.Minute

// AllSessions as a Revoked.Session means every session of the user.
const AllSessions = ""

// Revoked says that a session has ended before its time.
type Revoked struct {
	User    id.ID  `json:"user"`
	Session string `json:"session"`
}

// Deps are what a Door works with. All are required.
type Deps struct {
	Tokens *token.Verifier
	Roster *roster.Roster
	Log    *bus.Log
}

// Door checks tokens. Any goroutine may call any method at any time, but OnRevoke only before Start.
type Door struct {
	deps     Deps
	now      func() time.Time
	onRevoke []func(Revoked)
	notices  *bus.Notices

	mu      sync.Mutex // guards what follows; no I/O under it
	bots    map[id.ID]bot
	revoked map[string]struct{} // ids of sessions, which are unguessable and never used again
	order   []ended             // what revoked has, oldest first
}

// ended is when this process heard of the end of a session.
type ended struct {
	session string
	at      time.Time
}

// bot is a remembered hash.
type bot struct {
	hash  string
	until time.Time
}

// New makes a door. It does no I/O. It panics when something of deps is missing.
func New(deps Deps) *Door {
	if deps.Tokens == nil || deps.Roster == nil || deps.Log == nil {
		panic("BUG: identity needs Tokens, Roster and Log")
	}
	d := &Door{deps: deps, now: time.Now, bots: map[id.ID]bot{}, revoked: map[string]struct{}{}}
	d.notices = bus.NewNotices(deps.Log, topic, d.receive)
	return d
}

// OnRevoke calls back when a session has ended, on the goroutine that hears of it first: receive must not block. A gateway closes
// the session's sockets then.
func (d *Door) OnRevoke(receive func(Revoked)) { d.onRevoke = append(d.onRevoke, receive) }

// Start returns when every session that has ended is known, and goes on listening.
func (d *Door) Start(ctx context.Context) error { return d.notices.Start(ctx) }

// Stop ends the listening.
func (d *Door) Stop() { d.notices.Stop() }

// Failed reports a listener that ended by itself.
func (d *Door) Failed() <-chan error { return d.notices.Failed() }

// Revoke tells every process that sessions have ended, this one at once and also when it answers a 503 fault, because Redis is
// away; then it has to be called again.
func (d *Door) Revoke(ctx context.Context, revoked ...Revoked) error {
	bodies := make([][]byte, len(revoked))
	for i, r := range revoked {
		// What is heard of twice must do no harm, and a bot may have come back with its new token.
		if r.Session != AllSessions {
			d.hear(r)
		}
		var err error
		if bodies[i], err = json.Marshal(r); err != nil {
			return fmt.Errorf("encode a revocation: %w", err)
		}
	}
	return d.deps.Log.Notify(ctx, topic, RevokedKeep, bodies...)
}

// Authenticate is for the value of an Authorization header: "Bot <token>" for a bot, the access token or "Bearer <access
// token>" for a person.
func (d *Door) Authenticate(ctx context.Context, authorization string) (rest.Identity, error) {
	if raw, ok := strings.CutPrefix(authorization, botPrefix); ok {
		return d.checked(d.bot(ctx, raw))
	}
	return d.checked(d.person(strings.TrimPrefix(authorization, bearerPrefix)))
}

// Identify is for the token in a gateway's IDENTIFY and RESUME, where a bot's may come without its prefix.
func (d *Door) Identify(ctx context.Context, raw string) (rest.Identity, error) {
	if _, ok := token.BotID(raw); ok {
		return d.checked(d.bot(ctx, raw))
	}
	return d.Authenticate(ctx, raw)
}

func (d *Door) checked(i rest.Identity, err error) (rest.Identity, error) {
	if err != nil {
		refused.Inc()
		return rest.Identity{}, err
	}
	return i, nil
}

func (d *Door) person(raw string) (rest.Identity, error) {
	claims, err := d.deps.Tokens.Verify(raw)
	if err != nil {
		return rest.Identity{}, fault.Unauthorized()
	}
	who := rest.Identity{User: claims.User, Session: claims.Session}
	if d.over(claims.Session) {
		return rest.Identity{}, fault.Unauthorized()
	}
	return who, nil
}

// Stands says whether a person's session has not ended, or a bot's token is still its own: for who has to ask again after it has written
// down that they are there. Of a bot it asks Redis, and answers a 503 fault when that is away.
func (d *Door) Stands(ctx context.Context, who rest.Identity) (bool, error) {
	if !who.Bot {
		return !d.over(who.Session), nil
	}
	hash, err := d.deps.Roster.BotHash(ctx, who.User)
	if err != nil && !fault.Is(err, fault.UnknownUser) {
		return false, err
	}
	return token.SameHash(hash, who.Session), nil
}

func (d *Door) over(session string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, over := d.revoked[session]
	return over
}

func (d *Door) bot(ctx context.Context, raw string) (rest.Identity, error) {
	user, ok := token.BotID(raw)
	if !ok {
		return rest.Identity{}, fault.Unauthorized()
	}
	hash := token.HashBotToken(raw)
	d.mu.Lock()
	known := d.bots[user]
	d.mu.Unlock()
	if d.now().Before(known.until) && token.SameHash(known.hash, hash) {
		return rest.Identity{User: user, Bot: true, Session: hash}, nil
	}
	// A refusal is never given from memory: the token may be newer than what is remembered.
	asked := d.now()
	stored, err := d.deps.Roster.BotHash(ctx, user)
	if err != nil && !fault.Is(err, fault.UnknownUser) {
		return rest.Identity{}, err
	}
	if !token.SameHash(stored, hash) {
		return rest.Identity{}, fault.Unauthorized()
	}
	d.remember(user, bot{hash: stored, until: asked.Add(botKeep)})
	return rest.Identity{User: user, Bot: true, Session: hash}, nil
}

func (d *Door) remember(user id.ID, b bot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.bots) >= botsMax {
		clear(d.bots) // they all come back within a second, at one read each
	}
	d.bots[user] = b
}

// HandleEntries forgets bots that have changed. Subscribe it to the process's tail, after the roster. Without it they are
// forgotten after a second.
func (d *Door) HandleEntries(_ context.Context, entries []bus.Entry) error {
	for _, e := range entries {
		if e.Type == wire.UserUpdated || e.Type == wire.UserDeleted {
			d.forget(e.User)
		}
	}
	return nil
}

// HandleCut forgets all bots: whether they have changed is not known any more.
func (d *Door) HandleCut(context.Context, bus.Cut) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.bots)
	return nil
}

func (d *Door) forget(user id.ID) {
	d.mu.Lock()
	delete(d.bots, user)
	d.mu.Unlock()
}

func (d *Door) receive(body []byte) {
	var r Revoked
	if err := json.Unmarshal(body, &r); err != nil || r.User == 0 {
		slog.Error("a revocation cannot be read", "err", err)
		return
	}
	d.hear(r)
}

// hear takes in that a session has ended, once.
func (d *Door) hear(r Revoked) {
	if r.Session == AllSessions {
		d.forget(r.User)
	} else if !d.end(r.Session) {
		return
	}
	revokedTotal.Inc()
	for _, receive := range d.onRevoke {
		receive(r)
	}
}

// end says whether that is news.
func (d *Door) end(session string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.revoked[session]; ok {
		return false
	}
	now := d.now()
	for len(d.order) > 0 && (len(d.order) >= revokedMax || now.Sub(d.order[0].at) > RevokedKeep) {
		delete(d.revoked, d.order[0].session)
		d.order = d.order[1:]
	}
	d.revoked[session] = struct{}{}
	d.order = append(d.order, ended{session, now})
	return true
}
