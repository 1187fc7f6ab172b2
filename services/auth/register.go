package auth

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const auditRegistered auditAction = "user.registered"

// Registration says who may make an account.
type Registration string

// The modes of registration. What an administrator chooses at run time comes before what is configured.
const (
	RegistrationOpen   Registration = "open"
	RegistrationInvite Registration = "invite"
	RegistrationClosed Registration = "closed"
	// RegistrationLocal is open to who has asked for a host on the loopback, without a proxy, and by invite to everybody else: a page
	// of a stranger that a browser was tricked into sending here names the stranger's host, and a proxy on this host brings anybody.
	RegistrationLocal Registration = "local"
)

// settingRegistration is where an administrator's choice is kept.
const settingRegistration = "registration"

// registration is the mode that counts for a request.
func (s *Service) registration(c *rest.Call) (Registration, error) {
	chosen, err := s.store.setting(c.Context(), settingRegistration)
	mode := Registration(chosen)
	if mode == "" {
		mode = s.config.Registration
	}
	if mode == RegistrationLocal {
		mode = RegistrationInvite
		if isLoopback(c.Host()) && !c.Proxied() {
			mode = RegistrationOpen
		}
	}
	return mode, err
}

// isLoopback tells whether a Host header names this machine.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(host)
	return host == "localhost" || host == "[::1]" || ip != nil && ip.IsLoopback()
}

func (s *Service) register(c *rest.Call, in wire.Register) (wire.LoggedIn, error) {
	mode, err := s.registration(c)
	if err != nil {
		return wire.LoggedIn{}, err
	}
	if mode == RegistrationClosed {
		return wire.LoggedIn{}, &fault.Fault{Status: http.StatusForbidden, Message: "Registration is closed"}
	}
	var f form
	a := newAccount(&f, in)
	invite := ""
	if mode == RegistrationInvite {
		if invite, err = s.invited(c.Context(), &f, in.Invite); err != nil {
			return wire.LoggedIn{}, err
		}
	}
	if err := f.err(); err != nil {
		return wire.LoggedIn{}, err
	}
	return s.enrol(c, a, in.Password, func(ctx context.Context, tx transaction) error {
		if invite == "" {
			return nil
		}
		used, err := useInvite(ctx, tx, invite)
		if err == nil && !used {
			var f form
			f.badInvite()
			err = f.err()
		}
		return err
	})
}

// newAccount is a person as they want to be, with the mistakes in it.
func newAccount(f *form, in wire.Register) account {
	a := account{
		Version: 1, Username: f.username("username", in.Username), GlobalName: f.globalName("global_name", in.GlobalName),
		Email: f.email("email", in.Email),
	}
	f.password("password", in.Password)
	return a
}

// invited checks an invite before anything expensive is done for it.
func (s *Service) invited(ctx context.Context, f *form, invite *string) (string, error) {
	if invite == nil || *invite == "" {
		f.bad("invite", fault.FieldRequired, "This field is required")
		return "", nil
	}
	lives, err := s.store.inviteLives(ctx, *invite)
	if err == nil && !lives {
		f.badInvite()
	}
	return *invite, err
}

func (f *form) badInvite() { f.bad("invite", codeInvite, "The invite is invalid or has expired.") }

// enrol makes an account and begins its first session; with does what else belongs to that, in the same transaction.
func (s *Service) enrol(c *rest.Call, a account, password string, with func(context.Context, transaction) error) (wire.LoggedIn, error) {
	var in *wire.LoggedIn
	err := s.create(c.Context(), &a, password, func(ctx context.Context, tx transaction) error {
		if err := with(ctx, tx); err != nil {
			return err
		}
		e := auditEvent{Actor: a.ID, Action: auditRegistered, Target: a.ID, Address: c.RemoteAddr()}
		if err := audit(ctx, tx, e); err != nil {
			return err
		}
		var err error
		in, err = s.begin(ctx, tx, c, a)
		return err
	})
	if err != nil {
		return wire.LoggedIn{}, err
	}
	return *in, nil
}

// create makes an account with an id and a password; with does what else belongs to that, in the same transaction.
func (s *Service) create(ctx context.Context, a *account, password string, with func(context.Context, transaction) error) error {
	// What is cheap comes before the hash.
	if err := s.store.free(ctx, *a); err != nil {
		return taken(err)
	}
	if err := s.deps.Outbox.Ready(ctx); err != nil {
		return err
	}
	var err error
	if a.Password, err = s.hasher.hash(ctx, password); err != nil {
		return err
	}
	if a.ID, err = s.deps.IDs.Next(ctx); err != nil {
		return outage("make an account", err)
	}
	e, err := a.entry(wire.UserCreated, a.ID)
	if err != nil {
		return err
	}
	err = s.store.change(ctx, func(ctx context.Context, tx transaction) error {
		if err := insertAccount(ctx, tx, *a); err != nil {
			return err
		}
		if err := with(ctx, tx); err != nil {
			return err
		}
		return s.deps.Outbox.Record(ctx, tx, e)
	})
	if err != nil {
		return taken(err)
	}
	_, err = s.deps.Outbox.Settle(ctx, e)
	return err
}

// errUsername and errEmail mean that somebody has it already.
var (
	errUsername = errors.New("username is taken")
	errEmail    = errors.New("email is taken")
)

// taken tells the client which of its names is somebody else's.
func taken(err error) error {
	var f form
	if errors.Is(err, errUsername) || postgres.IsUnique(err, "users_username_key") {
		f.bad("username", codeUsernameTaken, "Username is unavailable. Try adding numbers or letters.")
	}
	if errors.Is(err, errEmail) || postgres.IsUnique(err, "users_email_key") {
		f.bad("email", codeEmailTaken, "Email is already registered.")
	}
	if len(f.fields) > 0 {
		return f.err()
	}
	return err
}
