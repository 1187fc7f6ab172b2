package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditLoggedIn     auditAction = "login.accepted"
	auditLoginRefused auditAction = "login.refused"
	auditElevated     auditAction = "session.elevated"
)

// elevationTTL is how long an administrator who has proved themselves may go on without doing so again.
const elevationTTL = 10 * time.Minute

// errMoved means that an account is not what it was when its password was checked.
var errMoved = errors.New("the account has changed meanwhile")

func (s *Service) login(c *rest.Call, in wire.Login) (wire.LoginAnswer, error) {
	a, err := s.store.accountByLogin(c.Context(), in.Login)
	if err != nil && !fault.Is(err, fault.UnknownUser) {
		return wire.LoginAnswer{}, err
	}
	// An unknown login has an empty hash, which takes as long to refuse; and it leaves a line in the audit log, too.
	ok, stale, err := s.verify(c, a, in.Login, in.Password)
	if err != nil {
		return wire.LoginAnswer{}, err
	}
	if !ok {
		return wire.LoginAnswer{}, s.refuseLogin(c, a)
	}
	answer, err := s.accept(c, a)
	if err == nil && stale {
		s.rehash(c.Context(), a, in.Password)
	}
	return answer, err
}

// accept is the rest of a login whose password was right: the session, or the question for the second factor.
func (s *Service) accept(c *rest.Call, a account) (wire.LoginAnswer, error) {
	var answer wire.LoginAnswer
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		// Locked, so that whoever ends all sessions of the account ends this one as well, or has been before it.
		now, err := lockAccount(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		if now.Password != a.Password {
			return fault.Unavailable(errMoved, 0)
		}
		if now.MFA {
			ticket, err := addCode(ctx, tx, codeLogin, a.ID)
			answer.SecondFactor = &wire.SecondFactor{MFA: true, Ticket: ticket, TOTP: true}
			return err
		}
		answer.LoggedIn, err = s.loginAs(ctx, tx, c, now)
		return err
	})
	if err == nil && answer.LoggedIn != nil {
		loginsOK.Inc()
	}
	return answer, err
}

// loginAs ends a login in a session. The account is locked.
func (s *Service) loginAs(ctx context.Context, tx transaction, c *rest.Call, a account) (*wire.LoggedIn, error) {
	if a.Disabled {
		return nil, &fault.Fault{Status: http.StatusForbidden, Message: "This account is disabled"}
	}
	if err := audit(ctx, tx, auditEvent{Actor: a.ID, Action: auditLoggedIn, Target: a.ID, Address: c.RemoteAddr()}); err != nil {
		return nil, err
	}
	return s.begin(ctx, tx, c, a)
}

// begin makes a session.
func (s *Service) begin(ctx context.Context, tx transaction, c *rest.Call, a account) (*wire.LoggedIn, error) {
	fresh := s.newSession(c, a.ID)
	if err := insertSession(ctx, tx, fresh); err != nil {
		return nil, err
	}
	in := s.loggedIn(a, fresh)
	return &in, nil
}

// loginCode is the second step of a login.
func (s *Service) loginCode(c *rest.Call, in wire.LoginCode) (wire.LoggedIn, error) {
	var v verdict
	var answer *wire.LoggedIn
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		user, err := ownerOf(ctx, tx, codeLogin, in.Ticket, "ticket")
		if err != nil {
			return err
		}
		if v, err = s.proveFactor(ctx, tx, c, user, in.Code); err != nil || !v.ok {
			return err
		}
		if used, err := useCode(ctx, tx, codeLogin, in.Ticket); err != nil || !used {
			return errors.Join(err, notACode("ticket"))
		}
		a, err := lockAccount(ctx, tx, user)
		if err != nil {
			return err
		}
		answer, err = s.loginAs(ctx, tx, c, a)
		return err
	})
	if err == nil && !v.ok {
		loginsRefused.Inc()
		err = v.err()
	}
	if err != nil {
		return wire.LoggedIn{}, err
	}
	loginsOK.Inc()
	return *answer, nil
}

// ownerOf is whose a one-time code is; field is where it stood.
func ownerOf(ctx context.Context, tx transaction, purpose codePurpose, code, field string) (id.ID, error) {
	user, ok, err := codeOwner(ctx, tx, purpose, code)
	if err == nil && !ok {
		err = notACode(field)
	}
	return user, err
}

func notACode(field string) error {
	return fault.Invalid(fault.Field{Path: field, Code: codeOnce, Message: "This was used already, or is too old."})
}

// refuseLogin is the answer to a wrong password, and to an unknown login, whose account has no id.
func (s *Service) refuseLogin(c *rest.Call, a account) error {
	loginsRefused.Inc()
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		return audit(ctx, tx, audited(c, auditLoginRefused, a.ID))
	})
	if err != nil {
		return err
	}
	return fault.Invalid(fault.Field{Path: "login", Code: codeInvalidLogin, Message: "Login or password is invalid."})
}

// rehash stores a password under today's parameters. It may fail: the next login does it.
func (s *Service) rehash(ctx context.Context, a account, password string) {
	hash, err := s.hasher.hash(ctx, password)
	if err == nil {
		err = s.store.rehash(ctx, a.ID, a.Password, hash)
	}
	if err != nil {
		slog.Warn("password was not rehashed", "user", a.ID.String(), "err", err)
	}
}

// elevate lets somebody prove once more who they are: by a code where a second factor is on, else by the password.
func (s *Service) elevate(c *rest.Call, in wire.Elevate) (wire.Elevated, error) {
	a, err := s.store.account(c.Context(), c.User())
	if err != nil {
		return wire.Elevated{}, err
	}
	if !a.MFA {
		if a, err = s.checkPassword(c, in.Password); err != nil {
			return wire.Elevated{}, err
		}
	}
	v := verdict{ok: true}
	err = s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		now, err := lockAccount(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		if now.MFA {
			if v, err = s.proveFactor(ctx, tx, c, a.ID, in.Code); err != nil || !v.ok {
				return err
			}
		}
		if now.Password != a.Password || now.MFA != a.MFA {
			return fault.Unavailable(errMoved, 0)
		}
		if err := elevate(ctx, tx, c.Identity().Session, a.ID, elevationTTL); err != nil {
			return err
		}
		return audit(ctx, tx, audited(c, auditElevated, a.ID))
	})
	if err == nil && !v.ok {
		err = v.err()
	}
	return wire.Elevated{ExpiresIn: int(elevationTTL.Seconds())}, err
}
