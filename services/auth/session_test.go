package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/wire"
)

// entriesOf reads the log from its beginning with a tail of its own.
func entriesOf(b bundle, user id.ID) []bus.Entry {
	b.t.Helper()
	last, err := b.log.Last(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	var mu sync.Mutex
	var got []bus.Entry
	tail := bus.NewTail(b.log, func(context.Context) (bus.Position, error) { return bus.Position{}, nil })
	tail.Subscribe(func(_ context.Context, entries []bus.Entry) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range entries {
			if e.User == user {
				got = append(got, e)
			}
		}
		return nil
	})
	if err := tail.Start(b.ctx); err != nil {
		b.t.Fatal(err)
	}
	defer tail.Stop()
	if err := tail.WaitFor(b.ctx, last); err != nil {
		b.t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return got
}

// eventually repeats until what is announced has arrived.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestLogin_ByNameAndByEmail(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	email := "ada@example.org"
	in, err := b.client.Register(b.ctx, wire.Register{Username: "ada", Password: password, Email: &email})
	if err != nil {
		t.Fatal(err)
	}
	for _, login := range []string{"ada", " ADA ", "Ada@Example.org"} {
		got, err := b.client.Login(b.ctx, login, password)
		if err != nil || got.UserID != in.UserID || got.SessionID == in.SessionID {
			t.Errorf("%q: got %+v, %v", login, got, err)
		}
		if me, err := b.client.WithToken(got.Token).Me(b.ctx); err != nil || me.ID != in.UserID {
			t.Errorf("%q: got %+v, %v", login, me, err)
		}
	}
}

// post returns the whole answer, as an attacker would see it.
func (b bundle) post(path, body string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.ctx, http.MethodPost, b.address()+"/api/v10"+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func TestLogin_DoesNotTellWhoExists(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.register("ada")
	_, ada := b.register("owner")
	b.bot(ada, "robot")
	status, want := b.post("/auth/login", `{"login":"ada","password":"wrong password"}`)
	if status != 400 || !strings.Contains(want, codeInvalidLogin) {
		t.Fatalf("got %d %s", status, want)
	}
	for _, login := range []string{"nobody", "nobody@example.org", "robot"} {
		if s, got := b.post("/auth/login", `{"login":"`+login+`","password":"wrong password"}`); s != status || got != want {
			t.Errorf("%s: got %d %s, want %d %s", login, s, got, status, want)
		}
	}
	_, err := b.client.Login(b.ctx, "ada", "wrong password")
	b.wantField(err, "login", codeInvalidLogin)
}

func TestRefresh_Rotates(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, _ := b.register("ada")
	first, err := b.client.Refresh(b.ctx, in.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if first.RefreshToken == in.RefreshToken || first.ExpiresIn != 900 {
		t.Errorf("got %+v", first)
	}
	if me, err := b.client.WithToken(first.Token).Me(b.ctx); err != nil || me.ID != in.UserID {
		t.Errorf("got %+v, %v", me, err)
	}
	if _, err := b.client.Refresh(b.ctx, first.RefreshToken); err != nil {
		t.Errorf("the successor does not work: %v", err)
	}
}

func TestRefresh_OnlyHashesAreStored(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, _ := b.register("ada")
	next, err := b.client.Refresh(b.ctx, in.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	var dump string
	const everything = `
select string_agg(x, ' ') from (
	select u::text x from users u union all select s::text from sessions s union all select r::text from refresh_tokens r) all_rows`
	if err := b.pool.QueryRow(b.ctx, everything).Scan(&dump); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{in.RefreshToken, next.RefreshToken, password, in.Token} {
		if strings.Contains(dump, secret) {
			t.Errorf("a secret is stored: %s", secret)
		}
	}
	sum := sha256.Sum256([]byte(next.RefreshToken))
	var hash []byte
	if err := b.pool.QueryRow(b.ctx, `select hash from refresh_tokens where spent_at is null`).Scan(&hash); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(hash, sum[:]) {
		t.Error("the live token is not stored as its SHA-256")
	}
}

func TestRefresh_RaceGivesOneSuccessor(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, _ := b.register("ada")
	var wg sync.WaitGroup
	got := make([]wire.Tokens, 20)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = b.client.Refresh(b.ctx, in.RefreshToken); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, g := range got {
		if g.RefreshToken != got[0].RefreshToken || g.RefreshToken == "" {
			t.Errorf("two successors: %q and %q", g.RefreshToken, got[0].RefreshToken)
		}
	}
	var live int
	if err := b.pool.QueryRow(b.ctx, `select count(*) from refresh_tokens where spent_at is null`).Scan(&live); err != nil || live != 1 {
		t.Errorf("%d live tokens (%v)", live, err)
	}
}

func TestRefresh_ReuseRevokesTheFamily(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	ended := make(chan identity.Revoked, 1)
	// Start was called already; a second door is as good as another process.
	door := identity.New(identity.Deps{Tokens: b.verifier(), Roster: b.roster, Log: b.log})
	door.OnRevoke(func(r identity.Revoked) { ended <- r })
	if err := door.Start(b.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Stop)

	in, ada := b.register("ada")
	first, err := b.client.Refresh(b.ctx, in.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.client.Refresh(b.ctx, first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.client.Refresh(b.ctx, in.RefreshToken) // within the grace, but the successor was used
	b.wantStatus(err, 401)
	_, err = b.client.Refresh(b.ctx, second.RefreshToken)
	b.wantStatus(err, 401)
	eventually(t, "the refusal of the access token", func() bool {
		_, err := ada.Me(b.ctx)
		return client.IsStatus(err, 401)
	})
	if got, want := <-ended, (identity.Revoked{User: in.UserID, Session: in.SessionID}); got != want {
		t.Errorf("announced %+v, want %+v", got, want)
	}
	if _, err := b.client.Login(b.ctx, "ada", password); err != nil {
		t.Errorf("the victim is locked out: %v", err)
	}
}

func TestRefresh_AfterTheGraceIsReuse(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{RefreshGrace: time.Nanosecond})
	in, _ := b.register("ada")
	next, err := b.client.Refresh(b.ctx, in.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.client.Refresh(b.ctx, in.RefreshToken)
	b.wantStatus(err, 401)
	_, err = b.client.Refresh(b.ctx, next.RefreshToken)
	b.wantStatus(err, 401)
}

func TestRefresh_RefusesWhatIsNoLiveToken(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{RefreshTTL: time.Nanosecond})
	in, _ := b.register("ada")
	for _, bad := range []string{in.RefreshToken, "nonsense", in.Token, in.SessionID} {
		_, err := b.client.Refresh(b.ctx, bad)
		b.wantStatus(err, 401)
	}
}

func TestLogout_EndsOnlyThatSession(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	first, ada := b.register("ada")
	second, err := b.client.Login(b.ctx, "ada", password)
	if err != nil {
		t.Fatal(err)
	}
	if err := ada.Logout(b.ctx); err != nil {
		t.Fatal(err)
	}
	_, err = b.client.Refresh(b.ctx, first.RefreshToken)
	b.wantStatus(err, 401)
	eventually(t, "the refusal of the access token", func() bool {
		_, err := ada.Me(b.ctx)
		return client.IsStatus(err, 401)
	})
	if _, err := b.client.WithToken(second.Token).Me(b.ctx); err != nil {
		t.Errorf("the other session: %v", err)
	}
	if _, err := b.client.Refresh(b.ctx, second.RefreshToken); err != nil {
		t.Errorf("the other session: %v", err)
	}
}

func TestPassword_ChangeWantsTheOldOneAndEndsOtherSessions(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	first, ada := b.register("ada")
	other, err := b.client.Login(b.ctx, "ada", password)
	if err != nil {
		t.Fatal(err)
	}
	old, wrong, next := password, "not the password", "another password"
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{NewPassword: &next})
	b.wantField(err, "password", fault.FieldRequired)
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Password: &wrong, NewPassword: &next})
	b.wantField(err, "password", codePassword)
	if _, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{Password: &old, NewPassword: &next}); err != nil {
		t.Fatal(err)
	}
	_, err = b.client.Login(b.ctx, "ada", old)
	b.wantField(err, "login", codeInvalidLogin)
	if _, err := b.client.Login(b.ctx, "ada", next); err != nil {
		t.Error(err)
	}
	_, err = b.client.Refresh(b.ctx, other.RefreshToken)
	b.wantStatus(err, 401)
	if _, err := b.client.Refresh(b.ctx, first.RefreshToken); err != nil {
		t.Errorf("the session that changed it: %v", err)
	}
	if got := b.entries(first.UserID); len(got) != 1 {
		t.Errorf("a password is in the log: %d entries", len(got))
	}
}

func TestSweep_DeletesOnlyDeadSessions(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	live, _ := b.register("ada")
	dead, err := b.client.Login(b.ctx, "ada", password)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.pool.Exec(b.ctx, `update refresh_tokens set expires_at = now() - interval '1 second' where session = $1`, dead.SessionID); err != nil {
		t.Fatal(err)
	}
	b.service.store.sweep(b.ctx)
	var left []string
	if err := b.pool.QueryRow(b.ctx, `select array_agg(id) from sessions`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0] != live.SessionID {
		t.Errorf("left %v, want %s", left, live.SessionID)
	}
}

func TestBot_TokenNamesTheBotAndWorks(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	owner, ada := b.register("ada")
	app, raw, bot := b.bot(ada, "robot")
	if app.Bot == nil || app.ID != app.Bot.ID || app.Owner.ID != owner.UserID || app.Name != "robot" || len(app.VerifyKey) != 64 {
		t.Errorf("got %+v", app)
	}
	first, _, _ := strings.Cut(raw, ".")
	if got := decodeBase64(t, first); got != app.ID.String() {
		t.Errorf("the token's first part is %q, want %s", got, app.ID)
	}
	me, err := bot.Me(b.ctx)
	if err != nil || me.ID != app.ID || !me.Bot {
		t.Fatalf("got %+v, %v", me, err)
	}
	own, err := bot.Application(b.ctx)
	if err != nil || own.ID != app.ID {
		t.Errorf("got %+v, %v", own, err)
	}
	var viaOAuth wire.Application
	if err := bot.Do(b.ctx, "GET", "/oauth2/applications/@me", nil, &viaOAuth); err != nil || viaOAuth.ID != app.ID {
		t.Errorf("got %+v, %v", viaOAuth, err)
	}
	if _, err := b.client.WithToken(raw).Me(b.ctx); !client.IsStatus(err, 401) {
		t.Errorf("without its prefix: %v", err)
	}
	if who, err := b.door.Identify(b.ctx, raw); err != nil || who.User != app.ID || !who.Bot {
		t.Errorf("at the gateway without its prefix: %+v, %v", who, err)
	}
	got := b.entries(app.ID)
	if len(got) != 2 || got[0].Type != wire.UserCreated || got[0].Version != 1 || got[1].Version != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestBot_ResetKillsTheOldToken(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, ada := b.register("ada")
	app, old, bot := b.bot(ada, "robot")
	if _, err := bot.Me(b.ctx); err != nil { // it is remembered now
		t.Fatal(err)
	}
	if _, err := ada.CreateBot(b.ctx, app.ID); !client.IsStatus(err, 400) {
		t.Errorf("a second token without a reset: %v", err)
	}
	next, err := ada.ResetBot(b.ctx, app.ID)
	if err != nil || next.Token == old {
		t.Fatalf("got %+v, %v", next, err)
	}
	last, err := b.log.Last(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.tail.WaitFor(b.ctx, last); err != nil {
		t.Fatal(err)
	}
	_, err = bot.Me(b.ctx)
	b.wantStatus(err, 401)
	if _, err := b.client.WithToken("Bot " + next.Token).Me(b.ctx); err != nil {
		t.Error(err)
	}
}

// TestBot_ResetHoldsAgainstAChangeThatWaitedForIt: whoever has the old token changes the bot's name over and over while its owner makes
// another. The change that comes right behind the reset tells the log of the new hash, and not of the one from before its wait.
func TestBot_ResetHoldsAgainstAChangeThatWaitedForIt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, ada := b.register("ada")
	app, _, bot := b.bot(ada, "robot")
	elsewhere, err := b.pool.Begin(b.ctx)
	b.must(err)
	defer func() { _ = elsewhere.Rollback(context.WithoutCancel(b.ctx)) }() // it is over already, if all went well
	_, err = lockAccount(b.ctx, elsewhere, app.ID)
	b.must(err)

	var next wire.BotToken
	var wg sync.WaitGroup
	for waiting, change := range []func() error{
		func() (err error) { next, err = ada.ResetBot(b.ctx, app.ID); return err },
		func() error {
			_, err := bot.UpdateMe(b.ctx, wire.UpdateSelf{GlobalName: wire.Some("mine")})
			return err
		},
	} {
		wg.Go(func() {
			if err := change(); err != nil {
				t.Error(err)
			}
		})
		b.awaitLocks(waiting + 1)
	}
	b.must(elsewhere.Rollback(b.ctx))
	wg.Wait()

	last, err := b.log.Last(b.ctx)
	b.must(err)
	b.must(b.tail.WaitFor(b.ctx, last))
	_, err = bot.Me(b.ctx)
	b.wantStatus(err, 401)
	if me, err := b.client.WithToken("Bot " + next.Token).Me(b.ctx); err != nil || *me.GlobalName != "mine" {
		t.Errorf("got %+v, %v", me, err)
	}
}

// awaitLocks returns when n transactions of the test wait for a lock.
func (b bundle) awaitLocks(n int) {
	b.t.Helper()
	const count = `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
	for waiting := 0; waiting < n; {
		b.must(b.pool.QueryRow(b.ctx, count).Scan(&waiting))
	}
}

func TestBot_ForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	owner, ada := b.register("ada")
	app, raw, _ := b.bot(ada, "robot")
	bare, err := ada.CreateApplication(b.ctx, "tokenless")
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(raw, ".")
	for _, bad := range []string{
		"Bot " + first + "." + strings.ToUpper(rest), "Bot " + raw + "x", "Bot " + first, "Bot ", "Bot " + owner.Token,
		"Bot " + encodeBase64(bare.ID.String()) + "." + rest, "Bot " + encodeBase64(owner.UserID.String()) + "." + rest,
		"Bearer " + raw, "bot " + raw, app.ID.String(), "", strings.Repeat(".", 4000),
	} {
		_, err := b.client.WithToken(bad).Me(b.ctx)
		b.wantStatus(err, 401)
	}
}

func TestApplications_BelongToTheirOwner(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{ApplicationsMax: 2})
	_, ada := b.register("ada")
	_, eve := b.register("eve")
	app, _, bot := b.bot(ada, "robot")
	_, err := eve.ResetBot(b.ctx, app.ID)
	b.wantStatus(err, 404)
	_, err = eve.CreateBot(b.ctx, 5)
	b.wantStatus(err, 404)
	if got, err := eve.Applications(b.ctx); err != nil || got == nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := ada.Applications(b.ctx); err != nil || len(got) != 1 || got[0].ID != app.ID {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ada.Application(b.ctx); !client.IsCode(err, fault.OnlyForBots) {
		t.Errorf("got %v", err)
	}
	if _, err := bot.CreateApplication(b.ctx, "bots"); !client.IsCode(err, fault.NotForBots) {
		t.Errorf("got %v", err)
	}
	if _, err := ada.CreateApplication(b.ctx, "second"); err != nil {
		t.Error(err)
	}
	_, err = ada.CreateApplication(b.ctx, "third")
	b.wantStatus(err, 400)
}

func TestApplications_ATakenNameGetsASuffix(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, ada := b.register("ada")
	name := strings.Repeat("é", 32)
	for range 3 {
		app, err := ada.CreateApplication(b.ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if app.Name != name || len([]rune(app.Bot.Username)) != 32 || !strings.HasPrefix(app.Bot.Username, name[:2*27]) {
			t.Errorf("application %q, bot %q", app.Name, app.Bot.Username)
		}
	}
}

func TestBot_CanRenameItself(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, ada := b.register("ada")
	app, _, bot := b.bot(ada, "robot")
	name := "android"
	if me, err := bot.UpdateMe(b.ctx, wire.UpdateSelf{Username: &name}); err != nil || me.Username != name {
		t.Fatalf("got %+v, %v", me, err)
	}
	if _, err := bot.Me(b.ctx); err != nil { // its token goes on
		t.Error(err)
	}
	if hash, err := b.roster.BotHash(b.ctx, app.ID); err != nil || hash == "" {
		t.Errorf("hash %q, %v", hash, err)
	}
	secret := "whatever it is"
	_, err := bot.UpdateMe(b.ctx, wire.UpdateSelf{Password: &secret, NewPassword: &secret})
	if !client.IsCode(err, fault.NotForBots) {
		t.Errorf("got %v", err)
	}
}

func TestLogin_TooManyAreToldToComeBack(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{HashSlots: 1, HashWait: time.Nanosecond})
	release, err := b.service.hasher.slots.Take(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, err = b.client.Login(b.ctx, "ada", password)
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != 503 || e.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
}
