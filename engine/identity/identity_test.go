package identity

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

type bundle struct {
	door   *Door
	minter *token.Minter
	outbox *roster.Outbox
	server *redis.Local
	now    time.Time
}

func setup(t *testing.T) *bundle {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b := &bundle{server: harness.Redis(t), now: time.Unix(1_700_000_000, 0)}
	app, err := redis.Open(t.Context(), redis.Config{URL: b.server.URL()})
	must(err)
	t.Cleanup(app.Close)
	admin, err := redis.Open(t.Context(), redis.Config{URL: b.server.AdminURL()})
	must(err)
	t.Cleanup(admin.Close)
	log := bus.Open(app, bus.Config{Retries: 1})
	must(log.Install(t.Context(), admin))
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: harness.Postgres(t)})
	must(err)
	t.Cleanup(pool.Close)
	dir := t.TempDir()
	must(token.Generate(dir))
	keys, err := token.Load(dir, true)
	must(err)
	b.minter, err = token.NewMinter(token.Config{}, keys)
	must(err)
	verifier, err := token.NewVerifier(token.Config{}, keys)
	must(err)
	r := roster.New(log)
	b.outbox = roster.NewOutbox(r, pool)
	b.door = New(Deps{Tokens: verifier, Roster: r, Log: log})
	b.door.now = func() time.Time { return b.now }
	return b
}

// settle brings a version of the bot into the read model, and hands the entry to the door if told.
func (b *bundle) settle(t *testing.T, bot id.ID, version int64, hash string) bus.Entry {
	t.Helper()
	body, err := json.Marshal(wire.UserChangedPayload{User: wire.User{ID: bot, Username: "robot", Bot: true}, BotHash: hash})
	if err != nil {
		t.Fatal(err)
	}
	e := bus.Entry{Type: wire.UserUpdated, User: bot, Version: version, Body: body}
	if version == 1 {
		e.Type = wire.UserCreated
	}
	if e.Pos, err = b.outbox.Settle(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return e
}

func is401(err error) bool { return err != nil && fault.From(err).Status == 401 }

func TestDoor_IsAService(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lifetest.Stress(t, func() life.Service { return New(b.door.deps) })
}

func TestDoor_RemembersABotForASecondAndForgetsItWhenItChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	raw, hash := token.NewBotToken(7)
	next, nextHash := token.NewBotToken(7)
	b.settle(t, 7, 1, hash)
	f := func(raw string, ok bool) {
		t.Helper()
		who, err := b.door.Authenticate(t.Context(), "Bot "+raw)
		if ok && (err != nil || who.User != 7 || !who.Bot) || !ok && !is401(err) {
			t.Errorf("got %+v, %v; want ok %v", who, err, ok)
		}
	}
	f(raw, true)
	b.settle(t, 7, 2, nextHash)
	f(raw, true) // still remembered
	for session, want := range map[string]bool{hash: false, nextHash: true, "": false} {
		if stands, err := b.door.Stands(t.Context(), rest.Identity{User: 7, Bot: true, Session: session}); err != nil || stands != want {
			t.Errorf("who came with the hash %.8q stands: %v, %v", session, stands, err)
		}
	}
	b.now = b.now.Add(botKeep)
	f(raw, false)
	f(next, true)

	b.settle(t, 7, 3, hash)
	f(raw, true) // newer than what is remembered: refusals are never from memory
	e := b.settle(t, 7, 4, nextHash)
	if err := b.door.HandleEntries(t.Context(), []bus.Entry{e}); err != nil {
		t.Fatal(err)
	}
	f(raw, false)
}

func TestDoor_IsUnavailableNot401WithoutRedis(t *testing.T) {
	t.Parallel()
	b := setup(t)
	raw, _ := token.NewBotToken(7)
	b.server.Stop()
	if _, err := b.door.Authenticate(t.Context(), "Bot "+raw); fault.From(err).Status != 503 {
		t.Errorf("got %v", err)
	}
	person := b.minter.Mint(token.Claims{User: 5, Session: "s"})
	if who, err := b.door.Authenticate(t.Context(), person); err != nil || who.User != 5 || who.Session != "s" {
		t.Errorf("got %+v, %v", who, err)
	}
}

func TestDoor_RefusesEndedSessions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := make(chan Revoked, 10)
	b.door.OnRevoke(func(r Revoked) { got <- r })
	start(t, b.door)
	elsewhere := New(b.door.deps)
	heard := make(chan Revoked, 10)
	elsewhere.OnRevoke(func(r Revoked) { heard <- r })
	start(t, elsewhere)
	raw := b.minter.Mint(token.Claims{User: 5, Session: "ended"})
	other := b.minter.Mint(token.Claims{User: 5, Session: "other"})
	for _, d := range []*Door{b.door, elsewhere} { // so that the token is remembered
		if _, err := d.Authenticate(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
	}
	want := Revoked{User: 5, Session: "ended"}
	if err := b.door.Revoke(t.Context(), want, Revoked{User: 5, Session: "another"}); err != nil {
		t.Fatal(err)
	}
	b.refuses(t, b.door, raw) // at once
	if r := <-heard; r != want {
		t.Errorf("heard %+v", r)
	}
	b.refuses(t, elsewhere, raw)
	later := New(b.door.deps)
	start(t, later)
	b.refuses(t, later, raw) // at once
	for _, d := range []*Door{b.door, elsewhere, later} {
		if _, err := d.Authenticate(t.Context(), other); err != nil || d.over("other") {
			t.Errorf("another session: %v", err)
		}
	}
	<-heard
	<-got
	<-got
	if len(got) > 0 || len(heard) > 0 {
		t.Error("it was told twice")
	}
}

func TestDoor_TellsOfEndedSessionsWhenRedisIsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start(t, b.door)
	elsewhere := New(b.door.deps)
	heard := make(chan Revoked, 10)
	elsewhere.OnRevoke(func(r Revoked) { heard <- r })
	start(t, elsewhere)
	raw := b.minter.Mint(token.Claims{User: 5, Session: "ended"})
	b.server.Stop()
	want := Revoked{User: 5, Session: "ended"}
	if err := b.door.Revoke(t.Context(), want); fault.From(err).Status != 503 {
		t.Errorf("got %v", err)
	}
	b.refuses(t, b.door, raw)
	if err := b.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.door.Revoke(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if r := <-heard; r != want {
		t.Errorf("heard %+v", r)
	}
	b.refuses(t, elsewhere, raw)
}

func start(t *testing.T, d *Door) {
	t.Helper()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
}

func (b *bundle) refuses(t *testing.T, d *Door, raw string) {
	t.Helper()
	if _, err := d.Authenticate(t.Context(), raw); !is401(err) {
		t.Errorf("got %v", err)
	}
	if _, err := d.Identify(t.Context(), "Bearer "+raw); !is401(err) {
		t.Errorf("at the gateway: got %v", err)
	}
}

func TestDoor_RemembersEndedSessionsForALimitedTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	d := &Door{now: func() time.Time { return now }, bots: map[id.ID]bot{}, revoked: map[string]struct{}{}}
	for i := range 100 {
		if session := strconv.Itoa(i); !d.end(session) || d.end(session) {
			t.Errorf("session %d ended not once", i)
		}
		now = now.Add(RevokedKeep / 50)
	}
	if n := len(d.revoked); n < 50 || n > 52 || len(d.order) != n {
		t.Errorf("%d remembered, %d in order", n, len(d.order))
	}
	if !d.over("99") || !d.over("55") || d.over("1") {
		t.Error("the wrong ones are forgotten")
	}
}

func TestDoor_RemembersABoundedNumberOfBots(t *testing.T) {
	t.Parallel()
	d := &Door{bots: map[id.ID]bot{}}
	for i := range 2 * botsMax {
		d.remember(id.ID(i+1), bot{})
	}
	if len(d.bots) > botsMax {
		t.Errorf("%d remembered", len(d.bots))
	}
}
