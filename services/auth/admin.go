package auth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditRegistration  auditAction = "settings.registration"
	auditDisabled      auditAction = "user.disabled"
	auditEnabled       auditAction = "user.enabled"
	auditResetMade     auditAction = "user.reset_link"
	auditFactorDropped auditAction = "mfa.dropped"
	auditInviteMade    auditAction = "invite.created"
	auditInviteGone    auditAction = "invite.deleted"
)

const (
	adminPage = 50
	// invitesMax bounds what a list answers.
	invitesMax       = 1000
	inviteCodeBytes  = 16
	inviteAgeDefault = 7 * 24 * time.Hour
)

// asAdmin lets a handler be called by administrators only who have proved themselves lately.
func asAdmin[In, Out any](do func(*Service, *rest.Call, In) (Out, error)) func(*Service, *rest.Call, In) (Out, error) {
	return func(s *Service, c *rest.Call, in In) (out Out, err error) {
		admin, elevated, err := s.store.rank(c.Context(), c.User(), c.Identity().Session)
		switch {
		case err != nil:
			return out, err
		case !admin:
			return out, fault.New(fault.MissingAccess)
		case !elevated:
			return out, fault.New(fault.NotElevated)
		}
		return do(s, c, in)
	}
}

func (s *Service) getSettings(c *rest.Call, _ rest.None) (wire.InstanceSettings, error) {
	out := wire.InstanceSettings{RegistrationDefault: string(s.config.Registration)}
	chosen, err := s.store.setting(c.Context(), settingRegistration)
	if chosen != "" {
		out.Registration = &chosen
	}
	return out, err
}

func (s *Service) updateSettings(c *rest.Call, in wire.UpdateInstanceSettings) (wire.InstanceSettings, error) {
	if in.Registration.Set {
		err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
			if err := set(ctx, tx, settingRegistration, in.Registration.Value); err != nil {
				return err
			}
			e := audited(c, auditRegistration, 0)
			e.Details = map[string]string{"registration": in.Registration.Value}
			return audit(ctx, tx, e)
		})
		if err != nil {
			return wire.InstanceSettings{}, err
		}
	}
	return s.getSettings(c, rest.None{})
}

func (s *Service) listUsers(c *rest.Call, in wire.ListAdminUsers) (wire.List[wire.AdminUser], error) {
	users, err := s.store.users(c.Context(), in.Query, in.After, pageOf(in.Limit))
	if err != nil {
		return nil, err
	}
	out := make(wire.List[wire.AdminUser], len(users))
	for i, a := range users {
		out[i] = wire.AdminUser{User: a.user(), Email: a.Email, Admin: a.Admin, Disabled: a.Disabled, MFAEnabled: a.MFA}
	}
	return out, nil
}

func pageOf(limit *int) int {
	if limit == nil {
		return adminPage
	}
	return *limit
}

func (s *Service) disableUser(c *rest.Call, _ rest.None) (rest.None, error) {
	if c.ID("user") == c.User() {
		return rest.None{}, &fault.Fault{Status: http.StatusBadRequest, Message: "You cannot disable yourself"}
	}
	return rest.None{}, s.setDisabled(c, true, auditDisabled)
}

func (s *Service) enableUser(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.setDisabled(c, false, auditEnabled)
}

// setDisabled shuts somebody out, or lets them in again. A bot's token is good again then.
func (s *Service) setDisabled(c *rest.Call, disabled bool, action auditAction) error {
	user := c.ID("user")
	var ended []string
	a, err := s.alter(c, user, proof{}, func(ctx context.Context, tx transaction, a *account) (err error) {
		a.Disabled = disabled
		if disabled {
			if ended, err = s.shutOut(ctx, tx, user, ""); err != nil {
				return err
			}
		}
		return audit(ctx, tx, audited(c, action, user))
	})
	if err != nil {
		return err
	}
	if a.Bot && disabled {
		ended = []string{identity.AllSessions}
	}
	s.announceEnd(c.Context(), user, ended...)
	return nil
}

// makeReset makes a link by which somebody sets a new password, for an administrator to pass on.
func (s *Service) makeReset(c *rest.Call, _ rest.None) (wire.ResetLink, error) {
	var code string
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		a, err := s.lockPerson(ctx, tx, c.ID("user"))
		if err != nil {
			return err
		}
		if code, err = replaceCode(ctx, tx, codeReset, a.ID); err != nil {
			return err
		}
		return audit(ctx, tx, audited(c, auditResetMade, a.ID))
	})
	if err != nil {
		return wire.ResetLink{}, err
	}
	return wire.ResetLink{Path: resetPath + "#" + code, ExpiresIn: int(codeReset.ttl().Seconds())}, nil
}

// lockPerson is lockAccount for what bots do not have.
func (s *Service) lockPerson(ctx context.Context, tx transaction, user id.ID) (account, error) {
	a, err := lockAccount(ctx, tx, user)
	if err == nil && a.Bot {
		err = fault.New(fault.UnknownUser)
	}
	return a, err
}

// dropUserFactor is for somebody who has lost both the authenticator and the recovery codes.
func (s *Service) dropUserFactor(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		a, err := s.lockPerson(ctx, tx, c.ID("user"))
		if err != nil {
			return err
		}
		if err := dropFactor(ctx, tx, a.ID); err != nil {
			return err
		}
		return audit(ctx, tx, audited(c, auditFactorDropped, a.ID))
	})
}

func (s *Service) createInvite(c *rest.Call, in wire.CreateRegistrationInvite) (out wire.RegistrationInvite, err error) {
	uses, age := 1, inviteAgeDefault
	if in.MaxUses != nil {
		uses = *in.MaxUses
	}
	if in.MaxAge != nil {
		age = time.Duration(*in.MaxAge) * time.Second
	}
	err = s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		n, err := countInvites(ctx, tx)
		if err != nil {
			return err
		}
		if n >= invitesMax {
			return fault.New(fault.MaxInvites)
		}
		if out, err = addInvite(ctx, tx, random(inviteCodeBytes), c.User(), uses, age); err != nil {
			return err
		}
		return audit(ctx, tx, audited(c, auditInviteMade, 0))
	})
	return out, err
}

func (s *Service) listInvites(c *rest.Call, _ rest.None) (wire.List[wire.RegistrationInvite], error) {
	return s.store.invites(c.Context())
}

func (s *Service) deleteInvite(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		ok, err := deleteInvite(ctx, tx, c.Param("code"))
		if err != nil || !ok {
			return errors.Join(err, fault.New(fault.UnknownInvite))
		}
		return audit(ctx, tx, audited(c, auditInviteGone, 0))
	})
}

func (s *Service) listAudit(c *rest.Call, in wire.ListAudit) (wire.List[wire.AuditLine], error) {
	return s.store.auditLines(c.Context(), in, pageOf(in.Limit))
}
