package auth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) {
	// fasthttp's own loops notice the end of their server seconds later.
	os.Exit(harness.Main(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1")))
}

const password = "correct horse battery"

// bundle is the service behind a real server, with a client that has no token.
type bundle struct {
	t        *testing.T
	ctx      context.Context
	service  *Service
	client   *client.Client
	door     *identity.Door
	presence *presence.Presence
	log      *bus.Log
	tail     *bus.Tail
	roster   *roster.Roster
	pool     *pgxpool.Pool
	redis    *redis.Local
	keys     token.Keys
	server   *rest.Server
}

func (b bundle) address() string { return "http://" + b.server.Addr() }

func (b bundle) verifier() *token.Verifier {
	b.t.Helper()
	v, err := token.NewVerifier(token.Config{}, b.keys)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// setup hashes passwords cheaply: under the race detector an honest hash takes a third of a second.
func setup(t *testing.T, config Config) bundle {
	t.Helper()
	return setupAt(t, config, cheapMemoryKiB)
}

// setupAt is setup with as much memory for a hash as is said.
func setupAt(t *testing.T, config Config, memoryKiB uint32) bundle {
	t.Helper()
	ctx := t.Context()
	b := bundle{t: t, ctx: ctx, redis: harness.Redis(t)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	app, err := redis.Open(ctx, redis.Config{URL: b.redis.URL()})
	must(err)
	t.Cleanup(app.Close)
	admin, err := redis.Open(ctx, redis.Config{URL: b.redis.AdminURL()})
	must(err)
	t.Cleanup(admin.Close)
	b.log = bus.Open(app, bus.Config{})
	must(b.log.Install(ctx, admin))
	b.pool, err = postgres.Open(ctx, postgres.Config{URL: harness.Postgres(t)})
	must(err)
	t.Cleanup(b.pool.Close)

	dir := t.TempDir()
	must(token.Generate(dir))
	b.keys, err = token.Load(dir, true)
	must(err)
	minter, err := token.NewMinter(token.Config{}, b.keys)
	must(err)

	b.roster = roster.New(b.log)
	outbox := roster.NewOutbox(b.roster, b.pool)
	b.door = identity.New(identity.Deps{Tokens: b.verifier(), Roster: b.roster, Log: b.log})
	b.tail = bus.NewTail(b.log, b.log.Last)
	b.tail.Subscribe(b.roster.HandleEntries)
	b.tail.Subscribe(b.door.HandleEntries)
	if config.HashWait == 0 {
		config.HashWait = time.Minute // the race detector makes argon2 ten times slower
	}
	sealer, err := token.NewSealer(b.keys)
	must(err)
	b.presence = presence.New(app, presence.Config{Gateway: "here"})
	must(presence.Install(ctx, admin))
	b.service = New(config, Deps{
		Presence: b.presence, Door: b.door, Outbox: outbox, Pool: b.pool, IDs: postgres.NewIDs(b.pool), Minter: minter, Roster: b.roster, Sealer: sealer,
	})
	b.service.hasher.memoryKiB = memoryKiB
	b.server = rest.New(rest.Config{Addr: "127.0.0.1:0", RequestTimeout: time.Minute, ReadTimeout: time.Minute}, rest.Deps{Authenticator: b.door})
	rest.Bind(b.server, Routes, b.service)
	var group life.Group
	group.Add("tail", b.tail)
	group.Add("door", b.door)
	group.Add("outbox", outbox)
	group.Add("auth", b.service)
	group.Add("rest", b.server)
	must(group.Start(ctx))
	t.Cleanup(group.Stop)
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	t.Cleanup(web.CloseIdleConnections)
	b.client, err = client.New(client.Config{URL: b.address(), HTTP: web, Timeout: time.Minute, AttemptsMax: 1})
	must(err)
	return b
}

// register makes an account and a client with its token.
func (b bundle) register(name string) (wire.LoggedIn, *client.Client) {
	b.t.Helper()
	in, err := b.client.Register(b.ctx, wire.Register{Username: name, Password: password})
	if err != nil {
		b.t.Fatal(err)
	}
	return in, b.client.WithToken(in.Token)
}

// bot makes an application and a client with its bot's token.
func (b bundle) bot(owner *client.Client, name string) (wire.Application, string, *client.Client) {
	b.t.Helper()
	app, err := owner.CreateApplication(b.ctx, name)
	if err != nil {
		b.t.Fatal(err)
	}
	given, err := owner.CreateBot(b.ctx, app.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	return app, given.Token, b.client.WithToken("Bot " + given.Token)
}

// entries are the user's entries in the log.
func (b bundle) entries(user id.ID) []bus.Entry {
	b.t.Helper()
	return entriesOf(b, user)
}

// got is a whole answer.
type got struct {
	status int
	header http.Header
	body   []byte
}

func (b bundle) do(req *http.Request) got {
	b.t.Helper()
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	b.must(err)
	defer func() { _ = res.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(res.Body)
	b.must(err)
	return got{res.StatusCode, res.Header, body}
}

// fetch gets a path outside the API, as a browser would.
func (b bundle) fetch(path string) got {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, b.address()+path, nil)
	b.must(err)
	return b.do(req)
}

func (b bundle) wantField(err error, path, code string) {
	b.t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Code != fault.InvalidForm || e.Field(path) != code {
		b.t.Errorf("got %v, want %s: %s", err, path, code)
	}
}

func (b bundle) wantStatus(err error, status int) {
	b.t.Helper()
	if !client.IsStatus(err, status) {
		b.t.Errorf("got %v, want status %d", err, status)
	}
}

func TestService_IsAService(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	lifetest.Stress(t, func() life.Service { return New(Config{}, b.service.deps) })
}

func TestRegister_MakesAnAccount(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	global, email := "  Ada L. ", "Ada@Example.org"
	in, err := b.client.Register(b.ctx, wire.Register{Username: "Ada", Password: password, GlobalName: &global, Email: &email})
	if err != nil {
		t.Fatal(err)
	}
	if in.Token == "" || in.RefreshToken == "" || in.ExpiresIn != 900 || in.SessionID == "" || in.UserID != in.User.ID {
		t.Errorf("got %+v", in)
	}
	me, err := b.client.WithToken("Bearer " + in.Token).Me(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if me.ID != in.UserID || me.Username != "Ada" || *me.GlobalName != "Ada L." || *me.Email != email || me.Bot {
		t.Errorf("got %+v", me)
	}
	u, err := b.client.WithToken(in.Token).User(b.ctx, in.UserID)
	if err != nil || u.Username != "Ada" {
		t.Errorf("got %+v, %v", u, err)
	}
}

func TestRegister_IsInTheLogWithVersion1(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, _ := b.register("ada")
	got := b.entries(in.UserID)
	if len(got) != 1 || got[0].Type != wire.UserCreated || got[0].Version != 1 || got[0].Actor != in.UserID {
		t.Fatalf("got %+v", got)
	}
	var p wire.UserChangedPayload
	if err := json.Unmarshal(got[0].Body, &p); err != nil || p.User.Username != "ada" || p.User.ID != in.UserID {
		t.Errorf("body %s (%v)", got[0].Body, err)
	}
	if strings.Contains(string(got[0].Body), "argon2") {
		t.Error("the password's hash is in the log")
	}
	if u, err := b.roster.User(b.ctx, in.UserID); err != nil || u.Username != "ada" {
		t.Errorf("the roster has %+v, %v", u, err)
	}
}

func TestRegister_RefusesBadFields(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	f := func(name, pass, path, code string) {
		t.Helper()
		_, err := b.client.Register(b.ctx, wire.Register{Username: name, Password: pass})
		b.wantField(err, path, code)
	}
	f("a", password, "username", fault.FieldLength)
	f(" a ", password, "username", fault.FieldLength)
	f(strings.Repeat("x", 33), password, "username", fault.FieldLength)
	f("a\u200bda", password, "username", codeUsername)
	f("a\nda", password, "username", codeUsername)
	f("ada@example.org", password, "username", codeUsername)
	f("ada", "1234567", "password", fault.FieldLength)
	f("ada", strings.Repeat("x", 129), "password", fault.FieldLength)
	f("", password, "username", fault.FieldRequired)
}

func TestRegister_RefusesWrongTypes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	f := func(path string, in map[string]any, field string) {
		t.Helper()
		err := b.client.Do(b.ctx, "POST", path, in, nil)
		e, ok := errors.AsType[*client.Error](err)
		if !ok || e.Code != fault.InvalidForm || e.Field(field) == "" {
			t.Errorf("%s %v: got %v", path, in, err)
		}
	}
	f("/auth/register", map[string]any{"username": 5, "password": password}, "username")
	f("/auth/register", map[string]any{"username": "ada", "password": []string{password}}, "password")
	f("/auth/login", map[string]any{"login": map[string]any{}, "password": password}, "login")
	f("/auth/refresh", map[string]any{"refresh_token": true}, "refresh_token")
}

func TestRegister_NamesAreUniqueInAnySpelling(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	email := "ada@example.org"
	if _, err := b.client.Register(b.ctx, wire.Register{Username: "Ada", Password: password, Email: &email}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ada", "ADA", " Ada ", "ａｄａ"} {
		_, err := b.client.Register(b.ctx, wire.Register{Username: name, Password: password})
		b.wantField(err, "username", codeUsernameTaken)
	}
	email = "ADA@example.org"
	_, err := b.client.Register(b.ctx, wire.Register{Username: "other", Password: password, Email: &email})
	b.wantField(err, "email", codeEmailTaken)
}

func TestRegister_OneOfTwentyWins(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() {
			name := "ada"
			if i%2 == 0 {
				name = "ADA"
			}
			_, errs[i] = b.client.Register(b.ctx, wire.Register{Username: name, Password: password})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		b.wantField(err, "username", codeUsernameTaken)
	}
	if won != 1 {
		t.Errorf("%d won", won)
	}
}

func TestRegister_ClosedIsClosed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Registration: RegistrationClosed})
	_, err := b.client.Register(b.ctx, wire.Register{Username: "ada", Password: password})
	b.wantStatus(err, 403)
}

func TestRegister_IsRefusedBeforeAnythingWithoutTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.redis.Stop()
	_, err := b.client.Register(b.ctx, wire.Register{Username: "ada", Password: password})
	b.wantStatus(err, 503)
	var n int
	if err := b.pool.QueryRow(b.ctx, `select count(*) from users`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d users (%v)", n, err)
	}
}

func TestConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	err := Config{Registration: "sometimes", HashWait: -1, HashSlots: -1}.Validate()
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("got %v, want three mistakes", err)
	}
}

func TestUpdateSelf_ChangesNameInLogAndRoster(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, ada := b.register("ada")
	name := "lovelace"
	me, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{Username: &name, GlobalName: wire.Some("Ada")})
	if err != nil || me.Username != name || *me.GlobalName != "Ada" {
		t.Fatalf("got %+v, %v", me, err)
	}
	got := b.entries(in.UserID)
	if len(got) != 2 || got[1].Type != wire.UserUpdated || got[1].Version != 2 {
		t.Fatalf("got %+v", got)
	}
	if u, err := b.roster.User(b.ctx, in.UserID); err != nil || u.Username != name {
		t.Errorf("the roster has %+v, %v", u, err)
	}
	// The same again changes nothing and says nothing.
	if _, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{Username: &name}); err != nil {
		t.Fatal(err)
	}
	if got := b.entries(in.UserID); len(got) != 2 {
		t.Errorf("%d entries, want 2", len(got))
	}
	if me, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{GlobalName: wire.Clear[string]()}); err != nil || me.GlobalName != nil {
		t.Errorf("got %+v, %v", me, err)
	}
}

func TestUpdateSelf_RefusesATakenName(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.register("ada")
	_, bob := b.register("bob")
	name := "Ada"
	_, err := bob.UpdateMe(b.ctx, wire.UpdateSelf{Username: &name})
	b.wantField(err, "username", codeUsernameTaken)
}

func TestUpdateSelf_ConcurrentChangesAllCount(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, ada := b.register("ada")
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{GlobalName: wire.Some("name " + string(rune('a'+i)))}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, e := range b.entries(in.UserID) {
		if e.Version != int64(i+1) {
			t.Errorf("entry %d has version %d", i, e.Version)
		}
	}
}

func TestUser_UnknownIs10013(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, ada := b.register("ada")
	if _, err := ada.User(b.ctx, 5); !client.IsCode(err, fault.UnknownUser) {
		t.Errorf("got %v", err)
	}
	_, err := b.client.User(b.ctx, 5)
	b.wantStatus(err, 401)
}
