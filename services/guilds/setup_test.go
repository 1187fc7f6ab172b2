package guilds

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m,
		// These end by themselves when their sleep is over, or serve the whole process.
		goleak.IgnoreTopFunction("time.Sleep"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	))
}

// The users of every test. nobody has no account, stranger has one and is in no guild.
const (
	owner, admin, mod, alice, bob = id.ID(1001), id.ID(1002), id.ID(1003), id.ID(1004), id.ID(1005)
	stranger, robot, nobody       = id.ID(1006), id.ID(2001), id.ID(3001)
)

// bundle is a service behind a real listener, on a Redis and a database of its own.
type bundle struct {
	t      testing.TB
	redis  *redis.Local
	log    *bus.Log
	roster *roster.Roster
	outbox *roster.Outbox
	// presence is that of a gateway.
	presence *presence.Presence
	pool     *Pool
	service  *Service
	client   *http.Client
	base     string
}

// tokens takes the user's id for a token: "Bot 5" is a bot, "5" a user.
type tokens struct{}

func (tokens) Authenticate(_ context.Context, authorization string) (rest.Identity, error) {
	raw, bot := strings.CutPrefix(authorization, "Bot ")
	user, err := id.Parse(raw)
	if err != nil {
		return rest.Identity{}, fault.Unauthorized()
	}
	return rest.Identity{User: user, Bot: bot}, nil
}

func setup(t testing.TB, extra ...rest.Route[*Service]) *bundle {
	return setupWith(t, Config{}, extra...)
}

func setupWith(t testing.TB, config Config, extra ...rest.Route[*Service]) *bundle {
	t.Helper()
	b := &bundle{t: t, redis: harness.Redis(t)}
	client, err := redis.Open(t.Context(), redis.Config{URL: b.redis.URL()})
	b.must(err)
	t.Cleanup(client.Close)
	adminClient, err := redis.Open(t.Context(), redis.Config{URL: b.redis.AdminURL()})
	b.must(err)
	t.Cleanup(adminClient.Close)
	b.log = bus.Open(client, bus.Config{Retries: 1})
	b.must(b.log.Install(t.Context(), adminClient))
	b.must(presence.Install(t.Context(), adminClient))
	b.presence = presence.New(client, presence.Config{Gateway: "gateway"})
	b.pool, err = postgres.Open(t.Context(), postgres.Config{URL: harness.Postgres(t)})
	b.must(err)
	t.Cleanup(b.pool.Close)
	b.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(b.client.CloseIdleConnections)
	b.serve(config, extra...)
	for _, u := range []id.ID{owner, admin, mod, alice, bob, stranger, robot} {
		b.user(u, u == robot)
	}
	return b
}

// serve begins a process's worth of service over the bundle's log and database.
func (b *bundle) serve(config Config, extra ...rest.Route[*Service]) {
	b.t.Helper()
	b.roster = roster.New(b.log)
	b.outbox = roster.NewOutbox(b.roster, b.pool)
	b.t.Cleanup(b.outbox.Stop)
	b.service = New(config, Deps{Pool: b.pool, IDs: postgres.NewIDs(b.pool), Log: b.log, Roster: b.roster, Outbox: b.outbox, Presence: b.presence, Sealer: newSealer(b.t)})
	b.must(b.service.Start(b.t.Context()))
	b.t.Cleanup(b.service.Stop)

	server := rest.New(rest.Config{Addr: "127.0.0.1:0"}, rest.Deps{Authenticator: tokens{}})
	rest.Bind(server, Routes, b.service)
	rest.Bind(server, extra, b.service)
	b.must(server.Start(b.t.Context()))
	b.t.Cleanup(server.Stop)
	b.base = "http://" + server.Addr() + "/api/v10"
}

func (b *bundle) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// user makes an account as the auth service would: by an entry of the user's own.
func (b *bundle) user(u id.ID, bot bool) {
	b.t.Helper()
	body, err := json.Marshal(wire.UserChangedPayload{User: wire.User{ID: u, Username: "user" + u.String(), Bot: bot}})
	b.must(err)
	e := bus.Entry{Type: wire.UserCreated, User: u, Actor: u, Version: 1, Body: body}
	b.must(pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error { return b.outbox.Record(b.t.Context(), tx, e) }))
	_, err = b.outbox.Settle(b.t.Context(), e)
	b.must(err)
}

// answer is what came back.
type answer struct {
	status int
	code   int
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// ask sends a request; body is JSON text, "" for none. It may be called by any goroutine.
func (b *bundle) ask(as id.ID, method, path, body string) answer {
	b.t.Helper()
	return b.because("", as, method, path, body)
}

// because is ask with a reason for the audit log.
func (b *bundle) because(reason string, as id.ID, method, path, body string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(body))
	if err != nil {
		b.t.Error(err)
		return answer{}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if reason != "" {
		r.Header.Set("X-Audit-Log-Reason", url.PathEscape(reason))
	}
	if as == robot {
		r.Header.Set("Authorization", "Bot "+as.String())
	} else if as != 0 {
		r.Header.Set("Authorization", as.String())
	}
	res, err := b.client.Do(r)
	if err != nil {
		b.t.Error(err)
		return answer{}
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Error(err)
	}
	out := answer{status: res.StatusCode, body: raw}
	var f struct {
		Code int `json:"code"`
	}
	if res.StatusCode >= 400 {
		_ = json.Unmarshal(raw, &f) // no body, no code
		out.code = f.Code
	}
	return out
}

// want asks and insists on a status, or on a fault code when it is above 999.
func (b *bundle) want(want int, as id.ID, method, path, body string) answer {
	b.t.Helper()
	got := b.ask(as, method, path, body)
	if want > 999 && got.code != want || want <= 999 && got.status != want {
		b.t.Errorf("%s %s as %s: want %d, got %s", method, path, as, want, got)
	}
	return got
}

// get is want whose answer is decoded.
func get[T any](b *bundle, status int, as id.ID, method, path, body string) (out T) {
	b.t.Helper()
	a := b.want(status, as, method, path, body)
	d := json.NewDecoder(bytes.NewReader(a.body))
	if err := d.Decode(&out); err != nil && a.status < 400 {
		b.t.Fatalf("%s %s: %v in %s", method, path, err, a)
	}
	return out
}

func (b *bundle) guild() wire.Guild {
	b.t.Helper()
	return get[wire.Guild](b, 201, owner, "POST", "/guilds", `{"name":"house"}`)
}

// join brings users in by an invite.
func (b *bundle) join(g id.ID, users ...id.ID) {
	b.t.Helper()
	i := get[wire.Invite](b, 200, owner, "POST", "/channels/"+b.channelOf(g)+"/invites", `{"max_age":0}`)
	for _, u := range users {
		b.want(200, u, "POST", "/invites/"+i.Code, "")
	}
}

// channelOf is the first text channel of a guild.
func (b *bundle) channelOf(g id.ID) string {
	b.t.Helper()
	for _, c := range get[[]wire.Channel](b, 200, owner, "GET", path("/guilds/%s/channels", g), "") {
		if c.Type == wire.ChannelText {
			return c.ID.String()
		}
	}
	b.t.Fatal("no text channel")
	return ""
}

// role makes a role at a position and gives it to users.
func (b *bundle) role(g id.ID, position int, bits perm.Bits, users ...id.ID) id.ID {
	b.t.Helper()
	r := get[wire.Role](b, 200, owner, "POST", path("/guilds/%s/roles", g), fmt.Sprintf(`{"name":"r%d","permissions":"%s"}`, position, bits))
	b.want(200, owner, "PATCH", path("/guilds/%s/roles", g), fmt.Sprintf(`[{"id":"%s","position":%d}]`, r.ID, position))
	for _, u := range users {
		b.want(204, owner, "PUT", path("/guilds/%s/members/%s/roles/%s", g, u, r.ID), "")
	}
	return r.ID
}

func path(format string, ids ...id.ID) string {
	args := make([]any, len(ids))
	for i, v := range ids {
		args[i] = v.String()
	}
	return fmt.Sprintf(format, args...)
}

// entries are those of a guild, in the order of the log, as soon as there are n of them.
func (b *bundle) entries(g id.ID, n int) []bus.Entry {
	b.t.Helper()
	return b.matching(n, func(e bus.Entry) bool { return e.Guild == g })
}

// matching are the entries that match, in the order of the log, as soon as there are n of them.
func (b *bundle) matching(n int, match func(bus.Entry) bool) []bus.Entry {
	b.t.Helper()
	var mu sync.Mutex
	var out []bus.Entry
	enough := make(chan struct{})
	tail := bus.NewTail(b.log, func(context.Context) (bus.Position, error) { return bus.Position{}, nil })
	tail.Subscribe(func(_ context.Context, entries []bus.Entry) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range entries {
			if !match(e) {
				continue
			}
			if out = append(out, e); len(out) == n {
				close(enough)
			}
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	b.must(tail.Start(ctx))
	defer tail.Stop()
	select {
	case <-enough:
	case <-ctx.Done():
		b.t.Fatal("the log does not get the entries")
	}
	// Whatever else is in the log by now is to be seen, too.
	last, err := b.log.Last(ctx)
	b.must(err)
	b.must(tail.WaitFor(ctx, last))
	mu.Lock()
	defer mu.Unlock()
	return out
}

// contiguous checks that the log has a guild's versions 1, 2, 3 … in order.
func (b *bundle) contiguous(g id.ID, n int) []bus.Entry {
	b.t.Helper()
	all := b.entries(g, n)
	for i, e := range all {
		if e.Version != int64(i+1) {
			b.t.Errorf("entry %d (%s) has version %d", i, e.Type, e.Version)
		}
	}
	if len(all) != n {
		b.t.Errorf("want %d entries, got %d", n, len(all))
	}
	return all
}

// version is that of the guild's row.
func (b *bundle) version(g id.ID) (v int) {
	b.t.Helper()
	b.must(b.pool.QueryRow(b.t.Context(), `SELECT version FROM guilds WHERE id = $1`, int64(g)).Scan(&v))
	return v
}

func (b *bundle) count(sql string, args ...any) (n int) {
	b.t.Helper()
	b.must(b.pool.QueryRow(b.t.Context(), sql, args...).Scan(&n))
	return n
}
