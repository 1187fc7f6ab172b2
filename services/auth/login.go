package auth

import (
	"context"
	"log/slog"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditLoggedIn     auditAction = "login.accepted"
	auditLoginRefused auditAction = "login.refused"
)

func (s *Service) login(c *rest.Call, in wire.Login) (wire.LoggedIn, error) {
	a, err := s.store.accountByLogin(c.Context(), in.Login)
	if err != nil && !fault.Is(err, fault.UnknownUser) {
		return wire.LoggedIn{}, err
	}
	// An unknown login has an empty hash, which takes as long to refuse; and it leaves a line in the audit log, too.
	ok, stale, err := s.verify(c, a, in.Login, in.Password)
	if err != nil {
		return wire.LoggedIn{}, err
	}
	if !ok {
		return wire.LoggedIn{}, s.refuseLogin(c, a)
	}
	if stale {
		s.rehash(c.Context(), a, in.Password)
	}
	fresh := s.newSession(c, a.ID)
	err = s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		if err := insertSession(ctx, tx, fresh); err != nil {
			return err
		}
		return audit(ctx, tx, auditEvent{Actor: a.ID, Action: auditLoggedIn, Target: a.ID, Address: c.RemoteAddr()})
	})
	if err != nil {
		return wire.LoggedIn{}, err
	}
	loginsOK.Inc()
	return s.loggedIn(a, fresh), nil
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
