package auth

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// authenticator is what somebody has in their hand.
type authenticator struct {
	b      bundle
	login  wire.LoggedIn
	client *client.Client
	secret []byte
	codes  []string // for recovery
	used   int64    // the last step whose code was given
}

// withFactor makes an account with a second factor.
func (b bundle) withFactor(name string) *authenticator {
	b.t.Helper()
	in, c := b.register(name)
	a := &authenticator{b: b, login: in, client: c}
	var offer wire.TOTPSecret
	b.must(c.Do(b.ctx, "POST", "/users/@me/mfa/totp", wire.Password{Password: password}, &offer))
	var err error
	a.secret, err = base32Plain.DecodeString(offer.Secret)
	b.must(err)
	if !strings.Contains(offer.URI, "secret="+offer.Secret) || !strings.HasPrefix(offer.URI, "otpauth://totp/XCord:"+name+"?") {
		b.t.Errorf("got %+v", offer)
	}
	var codes wire.RecoveryCodes
	b.must(c.Do(b.ctx, "POST", "/users/@me/mfa/totp/enable", wire.EnableTOTP{Code: a.code()}, &codes))
	a.codes = codes.Codes
	return a
}

// code is one that was not given before. The newest possible one is good for a minute, which is as long as a test on a busy
// machine may need; how old a code may be is not for these tests.
func (a *authenticator) code() string {
	step := time.Now().Unix()/30 + totpDrift
	if step <= a.used {
		a.b.forgetStep(a.login)
	}
	a.used = step
	return totpCode(a.secret, step)
}

// forgetStep lets codes be used again that were used.
func (b bundle) forgetStep(in wire.LoggedIn) {
	b.t.Helper()
	_, err := b.pool.Exec(b.ctx, `update totp set last_step = 0 where "user" = $1`, int64(in.UserID))
	b.must(err)
}

func (b bundle) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// ticket is what the first step of a login leads to.
func (a *authenticator) ticket() string {
	a.b.t.Helper()
	got, err := a.b.client.Login(a.b.ctx, a.login.User.Username, password)
	a.b.must(err)
	if got.LoggedIn != nil || got.SecondFactor == nil || !got.MFA || !got.TOTP || got.Ticket == "" {
		a.b.t.Fatalf("got %+v", got)
	}
	return got.Ticket
}

func TestFactor_IsTheSecondStepOfALogin(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	if me, err := a.client.Me(b.ctx); err != nil || !me.MFAEnabled {
		t.Errorf("got %+v, %v", me, err)
	}
	ticket := a.ticket()
	code := a.code()
	in, err := b.client.LoginCode(b.ctx, ticket, code[:3]+" "+code[3:])
	if err != nil || in.UserID != a.login.UserID {
		t.Fatalf("got %+v, %v", in, err)
	}
	if _, err := b.client.WithToken(in.Token).Me(b.ctx); err != nil {
		t.Error(err)
	}
	_, err = b.client.LoginCode(b.ctx, ticket, a.code())
	b.wantField(err, "ticket", codeOnce)
	_, err = b.client.LoginCode(b.ctx, "nobody's", a.code())
	b.wantField(err, "ticket", codeOnce)
	// The code of a login is good for no other.
	code = a.code()
	if _, err = b.client.LoginCode(b.ctx, a.ticket(), code); err != nil {
		t.Fatal(err)
	}
	_, err = b.client.LoginCode(b.ctx, a.ticket(), code)
	b.wantField(err, "code", codeTwoFactor)
}

func TestFactor_RecoveryCodesAreForOneLoginEach(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	if len(a.codes) != recoveryCodes {
		t.Fatalf("got %v", a.codes)
	}
	for _, code := range []string{a.codes[0], strings.ToUpper(a.codes[1])} {
		if in, err := b.client.LoginCode(b.ctx, a.ticket(), code); err != nil || in.UserID != a.login.UserID {
			t.Errorf("%s: got %+v, %v", code, in, err)
		}
	}
	_, err := b.client.LoginCode(b.ctx, a.ticket(), a.codes[0])
	b.wantField(err, "code", codeTwoFactor)
	var n int
	b.must(b.pool.QueryRow(b.ctx, `select count(*) from recovery_codes`).Scan(&n))
	if n != recoveryCodes-2 {
		t.Errorf("%d recovery codes are left", n)
	}
}

func TestFactor_CanBeTurnedOff(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	off := func(password, code string) error {
		return a.client.Do(b.ctx, "POST", "/users/@me/mfa/totp/disable", wire.DisableTOTP{Password: password, Code: code}, nil)
	}
	b.wantStatus(a.client.Do(b.ctx, "POST", "/users/@me/mfa/totp", wire.Password{Password: password}, nil), 400)
	b.wantField(off("wrong password", a.code()), "password", codePassword)
	b.wantField(off(password, "000000"), "code", codeTwoFactor)
	b.must(off(password, a.code()))
	got, err := b.client.Login(b.ctx, "ada", password)
	if err != nil || got.LoggedIn == nil || got.LoggedIn.User.MFAEnabled {
		t.Errorf("got %+v, %v", got, err)
	}
	b.wantStatus(off(password, a.code()), 400)
}

// TestFactor_ManyWrongCodesCostTime: whoever has the password must not try a million codes, and whoever has the right code must not
// be locked out for good.
func TestFactor_ManyWrongCodesCostTime(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	ticket := a.ticket()
	for range failuresFree {
		_, err := b.client.LoginCode(b.ctx, ticket, "000000")
		b.wantField(err, "code", codeTwoFactor)
	}
	_, err := b.client.LoginCode(b.ctx, ticket, a.code())
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != 429 || e.RetryAfter <= 0 || e.RetryAfter > failurePause {
		t.Fatalf("got %v, want 429", err)
	}
	_, err = b.pool.Exec(b.ctx, `update totp set failed_at = failed_at - make_interval(secs => $1)`, failurePause.Seconds())
	b.must(err)
	if _, err := b.client.LoginCode(b.ctx, ticket, a.code()); err != nil {
		t.Error(err)
	}
	if pauseAfter(failuresFree-1) != 0 || pauseAfter(failuresFree) != failurePause || pauseAfter(1<<30) != failurePauseUp {
		t.Error("the pause does not grow as it should")
	}
}

// at is a client at another address.
func (b bundle) at(addr string) *client.Client {
	b.t.Helper()
	server := rest.New(rest.Config{Addr: "127.0.0.1:0", RequestTimeout: time.Minute, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		rest.Deps{Authenticator: b.door})
	rest.Bind(server, Routes, b.service)
	b.must(server.Start(b.ctx))
	b.t.Cleanup(server.Stop)
	web := &http.Client{Transport: forwardedFor{addr, new(http.Transport)}}
	b.t.Cleanup(web.CloseIdleConnections)
	c, err := client.New(client.Config{URL: "http://" + server.Addr(), HTTP: web, Timeout: time.Minute, AttemptsMax: 1})
	b.must(err)
	return c
}

// forwardedFor sends requests as a proxy does.
type forwardedFor struct {
	addr string
	*http.Transport
}

func (f forwardedFor) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", f.addr)
	return f.Transport.RoundTrip(r)
}

// TestFactor_WhoHasThePasswordDoesNotKeepTheOwnerOut: the pause is for strangers, as long as the owner is where they were before.
func TestFactor_WhoHasThePasswordDoesNotKeepTheOwnerOut(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	home, thief := b.at("2001:db8::1"), b.at("192.0.2.66")
	b.must(errOf(home.LoginCode(b.ctx, a.ticket(), a.code())))
	wrong := func(c *client.Client, want int) {
		t.Helper()
		b.wantStatus(errOf(c.LoginCode(b.ctx, a.ticket(), "000000")), want)
	}
	for range failuresFree {
		wrong(thief, 400)
	}
	wrong(thief, 429)
	wrong(b.at("198.51.100.7"), 429) // from wherever a stranger comes
	b.must(errOf(b.at("2001:db8::2").LoginCode(b.ctx, a.ticket(), a.code())))
	wrong(thief, 429) // that the owner came in is no new beginning for anybody else
	for range failuresFree {
		wrong(home, 400)
	}
	wrong(home, 429) // guessing is no cheaper there
	// A place is forgotten with time.
	_, err := b.pool.Exec(b.ctx, `update totp_places set failures = 0, proved_at = proved_at - make_interval(secs => $1)`, placeKnown.Seconds())
	b.must(err)
	wrong(home, 429)
	b.must(b.service.store.sweepCodes(b.ctx))
	var n int
	b.must(b.pool.QueryRow(b.ctx, `select count(*) from totp_places`).Scan(&n))
	if n != 0 {
		t.Errorf("%d places are known", n)
	}
}

func errOf(_ wire.LoggedIn, err error) error { return err }

func TestFactor_IsSealedInTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	var sealed []byte
	b.must(b.pool.QueryRow(b.ctx, `select secret from totp`).Scan(&sealed))
	if bytes.Contains(sealed, a.secret) {
		t.Error("the secret is stored as it is")
	}
	rows, err := b.pool.Query(b.ctx, `select encode(hash, 'escape') from recovery_codes`)
	b.must(err)
	defer rows.Close()
	for rows.Next() {
		var stored string
		b.must(rows.Scan(&stored))
		for _, code := range a.codes {
			if strings.Contains(strings.ToUpper(stored), plainCode(code)) {
				t.Error("a recovery code is stored as it is")
			}
		}
	}
	b.must(rows.Err())
	// Put into another's row, it is of no use.
	mallory, _ := b.register("mallory")
	b.must(b.service.store.change(b.ctx, func(ctx context.Context, tx transaction) error {
		if _, err := tx.Exec(ctx, `insert into totp ("user", secret, confirmed_at) values ($1, $2, now())`, int64(mallory.UserID), sealed); err != nil {
			return err
		}
		f, ok, err := factorOf(ctx, tx, mallory.UserID, "")
		if err != nil || !ok {
			return errors.Join(err, errors.New("there is no factor"))
		}
		if _, err := b.service.second(ctx, tx, mallory.UserID, f, a.code()); err == nil {
			t.Error("a sealed secret was opened in another's row")
		}
		return nil
	}))
}
