package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditDeleted            auditAction = "user.deleted"
	auditApplicationDeleted auditAction = "application.deleted"
)

// deleteSelf deletes an account: everything about the person, their applications and bots. What they wrote stays, as that of a
// deleted user; their memberships end by the guilds' own doing, when those see USER_DELETED.
func (s *Service) deleteSelf(c *rest.Call, in wire.DeleteSelf) (rest.None, error) {
	a, err := s.checkPassword(c, in.Password)
	if err != nil {
		return rest.None{}, err
	}
	if err := s.ownsNothing(c.Context(), a.ID); err != nil {
		return rest.None{}, err
	}
	// The sessions end before the account does, which is deleted only when that has been announced: later nobody would know of them.
	if err := s.endAll(c, a, in.Code); err != nil {
		return rest.None{}, err
	}
	apps, err := s.store.applications(c.Context(), a.ID)
	if err != nil {
		return rest.None{}, err
	}
	for _, app := range apps {
		if err := s.erase(c, app.bot.ID, auditApplicationDeleted, s.ownedBy(a.ID)); err != nil {
			return rest.None{}, err
		}
	}
	return rest.None{}, s.erase(c, a.ID, auditDeleted, func(ctx context.Context, tx transaction, now account) error {
		if now.Password != a.Password {
			return wrongPassword()
		}
		n, err := countApplications(ctx, tx, a.ID)
		if err == nil && n > 0 {
			err = fault.Unavailable(fmt.Errorf("user %s has made another application", a.ID), 0)
		}
		return err
	})
}

// ownsNothing refuses who still owns guilds.
func (s *Service) ownsNothing(ctx context.Context, user id.ID) error {
	guilds, err := s.deps.Roster.GuildsOf(ctx, user)
	if err != nil {
		return err
	}
	for _, guild := range guilds {
		state, err := s.deps.Roster.LookGuild(ctx, guild)
		if err != nil {
			return err
		}
		if state.Guild != nil && state.Guild.Owner(user) {
			return &fault.Fault{Status: http.StatusBadRequest, Message: "Delete the guilds that you own first, or give them to somebody"}
		}
	}
	return nil
}

// endAll ends the sessions of an account whose password was checked, and whose second factor is, if it has one. When that cannot be
// announced, it answers the 503.
func (s *Service) endAll(c *rest.Call, a account, code string) error {
	if err := s.deps.Outbox.Ready(c.Context()); err != nil {
		return err
	}
	var ended []string
	v := verdict{ok: true}
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		now, err := lockAccount(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		if now.Password != a.Password {
			return wrongPassword()
		}
		if now.MFA {
			if v, err = s.proveFactor(ctx, tx, c, a.ID, code); err != nil || !v.ok {
				return err
			}
		}
		ended, err = s.shutOut(ctx, tx, a.ID, "")
		return err
	})
	if err == nil && !v.ok {
		err = v.err()
	}
	if err != nil || len(ended) == 0 {
		return err
	}
	revoked := make([]identity.Revoked, len(ended))
	for i, session := range ended {
		revoked[i] = identity.Revoked{User: a.ID, Session: session}
	}
	return s.announce(c.Context(), revoked)
}

// deleteApplication deletes an application with its bot.
func (s *Service) deleteApplication(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.erase(c, c.ID("application"), auditApplicationDeleted, s.ownedBy(c.User()))
}

// ownedBy judges whether a bot is somebody's.
func (s *Service) ownedBy(user id.ID) func(context.Context, transaction, account) error {
	return func(ctx context.Context, tx transaction, bot account) error {
		owner, err := applicationOwner(ctx, tx, bot.ID)
		if err == nil && owner != user {
			err = fault.NotFound() // as if it did not exist: ids can be guessed
		}
		return err
	}
}

// erase deletes the row of a person or bot, and all that hangs on it, if allowed says so.
func (s *Service) erase(c *rest.Call, user id.ID, action auditAction, allowed func(context.Context, transaction, account) error) error {
	if err := s.deps.Outbox.Ready(c.Context()); err != nil {
		return err
	}
	body, err := json.Marshal(wire.UserDeletedPayload{UserID: user})
	if err != nil {
		return fmt.Errorf("encode the deletion of user %s: %w", user, err)
	}
	e := bus.Entry{Type: wire.UserDeleted, Actor: c.User(), User: user, Body: body}
	err = s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		a, err := lockAccount(ctx, tx, user)
		if fault.Is(err, fault.UnknownUser) {
			return fault.NotFound()
		}
		if err != nil {
			return err
		}
		if err := allowed(ctx, tx, a); err != nil {
			return err
		}
		if err := deleteAccount(ctx, tx, user); err != nil {
			return err
		}
		if err := audit(ctx, tx, audited(c, action, user)); err != nil {
			return err
		}
		e.Version = a.Version + 1
		return s.deps.Outbox.Record(ctx, tx, e)
	})
	if err != nil {
		return err
	}
	_, err = s.deps.Outbox.Settle(c.Context(), e)
	s.announceEnd(c.Context(), user, identity.AllSessions)
	return err
}
