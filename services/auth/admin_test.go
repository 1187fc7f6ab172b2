package auth

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// setupCode is what the link of a fresh server has.
func (b bundle) setupCode() string {
	b.t.Helper()
	_, code, ok := strings.Cut(b.service.SetupPath(), "#")
	if !ok {
		b.t.Fatalf("the setup link is %q", b.service.SetupPath())
	}
	return code
}

// admin makes the first administrator, by the setup link, and lets them prove themselves.
func (b bundle) admin(name string) (wire.LoggedIn, *client.Client) {
	b.t.Helper()
	var in wire.LoggedIn
	b.must(b.client.Do(b.ctx, "POST", "/auth/setup", wire.Setup{Code: b.setupCode(), Username: name, Password: password}, &in))
	c := b.client.WithToken(in.Token)
	b.elevate(c)
	return in, c
}

func (b bundle) elevate(c *client.Client) {
	b.t.Helper()
	var out wire.Elevated
	b.must(c.Do(b.ctx, "POST", "/auth/elevate", wire.Elevate{Password: password}, &out))
	if out.ExpiresIn != 600 {
		b.t.Errorf("elevated for %d s", out.ExpiresIn)
	}
}

func (b bundle) wantCode(err error, code fault.Code) {
	b.t.Helper()
	if !client.IsCode(err, code) {
		b.t.Errorf("got %v, want code %d", err, code)
	}
}

func (b bundle) setMode(c *client.Client, mode wire.Optional[string]) (out wire.InstanceSettings) {
	b.t.Helper()
	b.must(c.Do(b.ctx, "PATCH", "/admin/settings", wire.UpdateInstanceSettings{Registration: mode}, &out))
	return out
}

// TestAdmin_IsForElevatedAdministrators asks every route below /admin.
func TestAdmin_IsForElevatedAdministrators(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, root := b.admin("root")
	_, ada := b.register("ada")
	_, _, bot := b.bot(ada, "robot")
	again, err := b.client.Login(b.ctx, "root", password)
	b.must(err)
	// The elevation is the session's, not the person's.
	fresh := b.client.WithToken(again.Token)
	for _, route := range []string{
		"GET /admin/settings", "PATCH /admin/settings", "GET /admin/users", "GET /admin/users/5/sockets", "POST /admin/users/5/disable", "POST /admin/users/5/enable",
		"POST /admin/users/5/reset", "DELETE /admin/users/5/mfa", "GET /admin/invites", "POST /admin/invites", "DELETE /admin/invites/x",
		"GET /admin/audit",
	} {
		method, path, _ := strings.Cut(route, " ")
		b.wantStatus(b.client.Do(b.ctx, method, path, nil, nil), 401)
		b.wantCode(bot.Do(b.ctx, method, path, nil, nil), fault.NotForBots)
		b.wantCode(ada.Do(b.ctx, method, path, nil, nil), fault.MissingAccess)
		b.wantCode(fresh.Do(b.ctx, method, path, nil, nil), fault.NotElevated)
	}
	b.elevate(ada)
	b.wantCode(ada.Do(b.ctx, "GET", "/admin/users", nil, nil), fault.MissingAccess)
	b.must(root.Do(b.ctx, "GET", "/admin/users", nil, nil))
	_, err = b.pool.Exec(b.ctx, `update elevations set until = now() where session = $1`, in.SessionID)
	b.must(err)
	b.wantCode(root.Do(b.ctx, "GET", "/admin/users", nil, nil), fault.NotElevated)
	b.wantField(root.Do(b.ctx, "POST", "/auth/elevate", wire.Elevate{Password: "wrong password"}, nil), "password", codePassword)
}

// TestAdmin_IsOverWithTheSession: a process that is cut off from Redis does not hear that a session has ended, but its row tells.
func TestAdmin_IsOverWithTheSession(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, root := b.admin("root")
	_, err := b.pool.Exec(b.ctx, `update sessions set revoked_at = now(), announced = true where id = $1`, in.SessionID)
	b.must(err)
	b.wantCode(root.Do(b.ctx, "GET", "/admin/users", nil, nil), fault.NotElevated)
}

func TestAdmin_SeesTheSocketsOfAUser(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, root := b.admin("root")
	b.must(b.presence.Round(b.ctx))
	b.must(b.presence.Set(b.ctx, 7, "s", presence.Said{Status: presence.Invisible}))
	var got []wire.UserSocket
	b.must(root.Do(b.ctx, "GET", "/admin/users/7/sockets", nil, &got))
	if len(got) != 1 || got[0].Gateway != "here" || got[0].SessionID != "s" || got[0].Status != "invisible" || got[0].Since == 0 {
		t.Errorf("got %+v", got)
	}
	b.must(root.Do(b.ctx, "GET", "/admin/users/8/sockets", nil, &got))
	if got == nil || len(got) != 0 {
		t.Errorf("of nobody: %+v", got)
	}
}

func TestElevate_WantsACodeWhereThereIsASecondFactor(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	b.wantField(a.client.Do(b.ctx, "POST", "/auth/elevate", wire.Elevate{Password: password}, nil), "code", codeTwoFactor)
	b.must(a.client.Do(b.ctx, "POST", "/auth/elevate", wire.Elevate{Code: a.code()}, nil))
}

func TestSetup_MakesExactlyOneAdministrator(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Registration: RegistrationClosed})
	code := b.setupCode()
	b.wantField(b.client.Do(b.ctx, "POST", "/auth/setup", wire.Setup{Code: "guess", Username: "mallory", Password: password}, nil), "code", codeOnce)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			in := wire.Setup{Code: code, Username: "root" + string(rune('a'+i)), Password: password}
			errs[i] = b.client.Do(b.ctx, "POST", "/auth/setup", in, nil)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			b.wantField(err, "code", codeOnce)
		}
	}
	var admins, users int
	b.must(b.pool.QueryRow(b.ctx, `select count(*) filter (where admin), count(*) from users`).Scan(&admins, &users))
	if won != 1 || admins != 1 || users != 1 {
		t.Errorf("%d won, and there are %d administrators among %d users", won, admins, users)
	}
	// A server that has an administrator offers nothing.
	next := New(Config{}, b.service.deps)
	b.must(next.Start(b.ctx))
	defer next.Stop()
	if next.SetupPath() != "" {
		t.Error("there is a setup link after the first administrator")
	}
}

func TestSetup_TheNewestLinkCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	old := b.setupCode()
	next := New(Config{}, b.service.deps)
	b.must(next.Start(b.ctx))
	defer next.Stop()
	b.wantField(b.client.Do(b.ctx, "POST", "/auth/setup", wire.Setup{Code: old, Username: "root", Password: password}, nil), "code", codeOnce)
	var stored int
	b.must(b.pool.QueryRow(b.ctx, `select count(*) from one_time_codes where encode(hash, 'escape') like '%' || $1 || '%'`,
		strings.TrimPrefix(next.SetupPath(), setupPath+"#")).Scan(&stored))
	if stored != 0 {
		t.Error("the code is stored as it is")
	}
}

func TestPage_RunsItsOwnScriptAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, path := range []string{setupPath, resetPath} {
		r := b.fetch(path)
		policy := r.header.Get("Content-Security-Policy")
		if r.status != 200 || r.header.Get("Content-Type") != "text/html; charset=utf-8" || r.header.Get("Cache-Control") != "no-store" ||
			!strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "script-src 'sha256-"+scriptHash(string(r.body))+"'") {
			t.Errorf("%s: %d %v", path, r.status, r.header)
		}
	}
}

func TestDesk_MakesAdministrators(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Registration: RegistrationClosed})
	made, err := b.service.makeAdmin(b.ctx, "root")
	if err != nil || len(made.Password) < 16 {
		t.Fatalf("got %v", err)
	}
	in, err := b.client.Login(b.ctx, "root", made.Password)
	b.must(err)
	c := b.client.WithToken(in.Token)
	b.must(c.Do(b.ctx, "POST", "/auth/elevate", wire.Elevate{Password: made.Password}, nil))
	b.setMode(c, wire.Some("open"))
	_, ada := b.register("ada")
	if again, err := b.service.makeAdmin(b.ctx, "ADA"); err != nil || again.Password != "" {
		t.Errorf("got %+v, %v", again, err)
	}
	b.elevate(ada)
	b.must(ada.Do(b.ctx, "GET", "/admin/users", nil, nil))
	b.wantField(b.client.Do(b.ctx, "POST", "/auth/setup", wire.Setup{Code: b.setupCode(), Username: "late", Password: password}, nil), "code", codeOnce)
	if _, err := b.service.makeAdmin(b.ctx, "a"); err == nil {
		t.Error("a name that is none made an administrator")
	}
}

// TestDesk_TellsThePasswordOfWhatIsNotInTheLogYet: nobody could find it out later, and the account is there.
func TestDesk_TellsThePasswordOfWhatIsNotInTheLogYet(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	admin, err := redis.Open(b.ctx, redis.Config{URL: b.redis.AdminURL()})
	b.must(err)
	t.Cleanup(admin.Close)
	b.must(admin.Do(b.ctx, admin.B().ClientPause().Timeout(60_000).Write().Build()).Error())
	made, err := b.service.makeAdmin(b.ctx, "root")
	b.must(admin.Do(b.ctx, admin.B().ClientUnpause().Build()).Error())
	if err != nil || made.Password == "" {
		t.Fatalf("got %+v, %v", made, err)
	}
	if _, err := b.client.Login(b.ctx, "root", made.Password); err != nil {
		t.Error(err)
	}
}

func TestRegistration_ByInviteOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Registration: RegistrationClosed})
	_, root := b.admin("root")
	if s := b.setMode(root, wire.Some("invite")); *s.Registration != "invite" || s.RegistrationDefault != "closed" {
		t.Errorf("got %+v", s)
	}
	try := func(name string, code *string) error {
		_, err := b.client.Register(b.ctx, wire.Register{Username: name, Password: password, Invite: code})
		return err
	}
	wrong := "wrong"
	b.wantField(try("ada", nil), "invite", fault.FieldRequired)
	b.wantField(try("ada", &wrong), "invite", codeInvite)
	var invite wire.RegistrationInvite
	two := 2
	b.must(root.Do(b.ctx, "POST", "/admin/invites", wire.CreateRegistrationInvite{MaxUses: &two}, &invite))
	var wg sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		wg.Go(func() { errs[i] = try("user"+string(rune('a'+i)), &invite.Code) })
	}
	wg.Wait()
	joined := 0
	for _, err := range errs {
		if err == nil {
			joined++
		} else {
			b.wantField(err, "invite", codeInvite)
		}
	}
	if joined != 2 {
		t.Errorf("%d of 5 joined by an invite for two", joined)
	}
	b.must(root.Do(b.ctx, "POST", "/admin/invites", wire.CreateRegistrationInvite{}, &invite))
	_, err := b.pool.Exec(b.ctx, `update registration_invites set expires_at = now()`)
	b.must(err)
	b.wantField(try("ada", &invite.Code), "invite", codeInvite)
	b.wantCode(root.Do(b.ctx, "DELETE", "/admin/invites/nothing", nil, nil), fault.UnknownInvite)
	if s := b.setMode(root, wire.Clear[string]()); s.Registration != nil {
		t.Errorf("got %+v", s)
	}
	b.wantStatus(try("ada", nil), 403)
}

// TestRegistration_LocalGoesByTheHost: a page of a stranger, whose name was made to lead here, must not register anybody.
func TestRegistration_LocalGoesByTheHost(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Registration: RegistrationLocal})
	f := func(host string, asksForInvite bool, headers ...string) {
		t.Helper()
		// Whether the name is taken by now does not matter: what counts is whether an invite is asked for.
		body := strings.NewReader(`{"username":"ada","password":"correct horse battery"}`)
		req, err := http.NewRequestWithContext(b.ctx, "POST", b.address()+"/api/v10/auth/register", body)
		b.must(err)
		req.Host = host
		req.Header.Set("Content-Type", "application/json")
		for _, h := range headers {
			req.Header.Set(h, "for=203.0.113.7")
		}
		got := b.do(req)
		if asked := strings.Contains(string(got.body), `"invite"`); asked != asksForInvite {
			t.Errorf("%s %s: %d %s", host, headers, got.status, got.body)
		}
	}
	// A proxy on this host that nobody has named.
	for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"} {
		f("127.0.0.1:8080", true, h)
	}
	f("evil.example", true)
	f("127.0.0.1.evil.example:8080", true)
	f("localhost.evil.example", true)
	f("10.0.0.1", true)
	f("localhost:80", false)
	f("[::1]:80", false)
	f("[::1]", false)
}

func TestDisable_ShutsOutAndLetsInAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	root, admin := b.admin("root")
	in, ada := b.register("ada")
	app, _, bot := b.bot(ada, "robot")
	at := func(user id.ID, what string) string { return "/admin/users/" + user.String() + what }
	b.wantStatus(admin.Do(b.ctx, "POST", at(root.UserID, "/disable"), nil, nil), 400)
	b.wantCode(admin.Do(b.ctx, "POST", at(5, "/disable"), nil, nil), fault.UnknownUser)
	b.must(admin.Do(b.ctx, "POST", at(in.UserID, "/disable"), nil, nil))
	b.must(admin.Do(b.ctx, "POST", at(app.ID, "/disable"), nil, nil))
	eventually(t, "the end of ada's session", func() bool { _, err := ada.Me(b.ctx); return client.IsStatus(err, 401) })
	eventually(t, "the end of the bot's token", func() bool { _, err := bot.Me(b.ctx); return client.IsStatus(err, 401) })
	_, err := b.client.Refresh(b.ctx, in.RefreshToken)
	b.wantStatus(err, 401)
	_, err = b.client.Login(b.ctx, "ada", password)
	b.wantStatus(err, 403)
	_, err = b.client.Login(b.ctx, "ada", "wrong password") // which tells nothing
	b.wantField(err, "login", codeInvalidLogin)
	var users []wire.AdminUser
	b.must(admin.Do(b.ctx, "GET", "/admin/users?query=AD", nil, &users))
	if len(users) != 1 || users[0].ID != in.UserID || !users[0].Disabled || users[0].Admin {
		t.Errorf("got %+v", users)
	}
	b.must(admin.Do(b.ctx, "GET", "/admin/users?query=%25", nil, &users))
	if len(users) != 0 {
		t.Errorf("a pattern finds %+v", users)
	}
	b.must(admin.Do(b.ctx, "POST", at(in.UserID, "/enable"), nil, nil))
	b.must(admin.Do(b.ctx, "POST", at(app.ID, "/enable"), nil, nil))
	if _, err = b.client.Login(b.ctx, "ada", password); err != nil {
		t.Error(err)
	}
	if _, err := bot.Me(b.ctx); err != nil {
		t.Errorf("the bot: %v", err)
	}
}

func TestReset_SetsAPasswordOnceAndEndsSessions(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, admin := b.admin("root")
	in, ada := b.register("ada")
	var old, link wire.ResetLink
	path := "/admin/users/" + in.UserID.String() + "/reset"
	b.must(admin.Do(b.ctx, "POST", path, nil, &old))
	b.must(admin.Do(b.ctx, "POST", path, nil, &link))
	reset := func(link wire.ResetLink, password string) error {
		code := strings.TrimPrefix(link.Path, resetPath+"#")
		return b.client.Do(b.ctx, "POST", "/auth/reset", wire.Reset{Code: code, Password: password}, nil)
	}
	b.wantField(reset(old, "another password"), "code", codeOnce)
	b.wantField(reset(link, "short"), "password", fault.FieldLength)
	b.must(reset(link, "another password"))
	b.wantField(reset(link, "a third password"), "code", codeOnce)
	eventually(t, "the end of ada's session", func() bool { _, err := ada.Me(b.ctx); return client.IsStatus(err, 401) })
	_, err := b.client.Login(b.ctx, "ada", password)
	b.wantField(err, "login", codeInvalidLogin)
	if _, err := b.client.Login(b.ctx, "ada", "another password"); err != nil {
		t.Error(err)
	}
	var lines []wire.AuditLine
	b.must(admin.Do(b.ctx, "GET", "/admin/audit?target_id="+in.UserID.String(), nil, &lines))
	var actions []string
	for _, l := range lines {
		actions = append(actions, l.Action)
		if l.Address != "127.0.0.1" || l.At == 0 || strings.Contains(string(l.Details), "password") {
			t.Errorf("got %+v", l)
		}
	}
	want := []string{"login.accepted", "login.refused", "user.password_reset", "user.reset_link", "user.reset_link", "user.registered"}
	if !slices.Equal(actions, want) {
		t.Errorf("got %v, want %v", actions, want)
	}
}

func TestDropFactor_IsForWhoHasLostIt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, admin := b.admin("root")
	a := b.withFactor("ada")
	b.must(admin.Do(b.ctx, "DELETE", "/admin/users/"+a.login.UserID.String()+"/mfa", nil, nil))
	got, err := b.client.Login(b.ctx, "ada", password)
	if err != nil || got.LoggedIn == nil {
		t.Errorf("got %+v, %v", got, err)
	}
}
