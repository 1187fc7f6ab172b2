package auth

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// account is a row of users.
type account struct {
	ID         id.ID
	Version    int64
	Bot        bool
	Username   string
	GlobalName *string
	Email      *string
	Avatar     *string
	Bio        *string
	Flags      int64
	Password   string // PHC; empty for bots
	BotHash    string // of a bot's token; empty for people, and before the first token
	Admin      bool
	Disabled   bool
	MFA        bool // has a second factor
}

func (a account) user() wire.User {
	return wire.User{
		ID: a.ID, Username: a.Username, GlobalName: a.GlobalName, Avatar: a.Avatar, Bot: a.Bot,
		PublicFlags: int(a.Flags), Flags: int(a.Flags),
	}
}

func (a account) self() wire.SelfUser {
	// Nobody checks addresses yet, so that only bots, which have none, count as verified.
	return wire.SelfUser{
		User: a.user(), MFAEnabled: a.MFA, Locale: wire.LocaleDefault, Email: a.Email, Verified: a.Bot, Bio: a.Bio,
	}
}

// entry is what the log is told of an account after a change by actor.
func (a account) entry(kind wire.EventType, actor id.ID) (bus.Entry, error) {
	p := wire.UserChangedPayload{User: a.user(), BotHash: a.BotHash}
	if a.Disabled {
		p.BotHash = "" // a token that leads nowhere
	}
	body, err := json.Marshal(p)
	if err != nil {
		return bus.Entry{}, fmt.Errorf("encode %s: %w", kind, err)
	}
	return bus.Entry{Type: kind, Actor: actor, User: a.ID, Version: a.Version, Body: body}, nil
}

func (s *Service) getSelf(c *rest.Call, _ rest.None) (wire.SelfUser, error) {
	a, err := s.store.account(c.Context(), c.User())
	return a.self(), err
}

func (s *Service) getUser(c *rest.Call, _ rest.None) (wire.User, error) {
	a, err := s.store.account(c.Context(), c.ID("user"))
	return a.user(), err
}

const (
	auditPassword auditAction = "user.password_changed"
	auditEmail    auditAction = "user.email_changed"
)

// updateSelf changes a profile. Whoever only has the token for a while must not be able to keep the account, so what leads into
// it, password and e-mail address, wants the password.
func (s *Service) updateSelf(c *rest.Call, in wire.UpdateSelf) (wire.SelfUser, error) {
	var f form
	if in.Username != nil {
		*in.Username = f.username("username", *in.Username)
	}
	globalName := f.globalName("global_name", in.GlobalName.Ptr())
	bio := f.bio("bio", in.Bio.Ptr())
	email := f.email("email", in.Email.Ptr())
	if in.NewPassword != nil {
		f.password("new_password", *in.NewPassword)
	}
	guarded := in.NewPassword != nil || in.Email.Set
	if guarded && (in.Password == nil || *in.Password == "") {
		f.bad("password", fault.FieldRequired, "This field is required")
	}
	if err := f.err(); err != nil {
		return wire.SelfUser{}, err
	}
	var p proof
	if guarded {
		a, err := s.checkPassword(c, *in.Password)
		if err != nil {
			return wire.SelfUser{}, err
		}
		p.old = a.Password
	}
	if in.NewPassword != nil {
		var err error
		if p.next, err = s.hasher.hash(c.Context(), *in.NewPassword); err != nil {
			return wire.SelfUser{}, err
		}
	}
	avatar, err := s.pictures.Read(c.Context(), "avatar", in.Avatar)
	if err != nil {
		return wire.SelfUser{}, err
	}
	a, err := s.alter(c, c.User(), p, func(ctx context.Context, tx transaction, a *account) error {
		if in.Username != nil {
			a.Username = *in.Username
		}
		if in.GlobalName.Set {
			a.GlobalName = globalName
		}
		if in.Bio.Set {
			a.Bio = bio
		}
		if in.Email.Set && !same(a.Email, email) {
			a.Email = email
			if err := audit(ctx, tx, audited(c, auditEmail, a.ID)); err != nil {
				return err
			}
		}
		if !in.Avatar.Set {
			return nil
		}
		a.Avatar = avatar.Name()
		return keepAvatar(ctx, tx, a.ID, avatar)
	})
	if err != nil {
		return wire.SelfUser{}, taken(err)
	}
	return a.self(), nil
}

// proof is that a password was given, for a change of its account.
type proof struct {
	old  string // the hash that it was checked against; "" when none was asked for
	next string // of the new password; "" when it stays
}

// checkPassword finds the caller's account and judges a password of it. It is slow, so it is done outside any transaction.
func (s *Service) checkPassword(c *rest.Call, password string) (account, error) {
	if c.Identity().Bot {
		return account{}, fault.New(fault.NotForBots)
	}
	a, err := s.store.account(c.Context(), c.User())
	if err != nil {
		return account{}, err
	}
	ok, _, err := s.verify(c, a, a.Username, password)
	if err == nil && !ok {
		err = wrongPassword()
	}
	return a, err
}

func wrongPassword() error {
	return fault.Invalid(fault.Field{Path: "password", Code: codePassword, Message: "Password does not match."})
}

// alter changes an account: what others see of it, with an entry in the log, if that changes at all, and the password. A new
// password ends all other sessions.
func (s *Service) alter(c *rest.Call, user id.ID, p proof, change func(context.Context, transaction, *account) error) (account, error) {
	if err := s.deps.Outbox.Ready(c.Context()); err != nil {
		return account{}, err
	}
	var a account
	var e *bus.Entry
	var ended []string
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		var err error
		if a, err = lockAccount(ctx, tx, user); err != nil {
			return err
		}
		if p.old != "" && a.Password != p.old {
			return wrongPassword() // it was changed meanwhile
		}
		before := a
		if p.next != "" {
			if ended, err = s.replacePassword(ctx, tx, c, &a, p.next); err != nil {
				return err
			}
		}
		if err := change(ctx, tx, &a); err != nil {
			return err
		}
		if a.seenAs(before) {
			return updateAccount(ctx, tx, a)
		}
		a.Version++
		if err := updateAccount(ctx, tx, a); err != nil {
			return err
		}
		entry, err := a.entry(wire.UserUpdated, c.User())
		if err != nil {
			return err
		}
		e = &entry
		return s.deps.Outbox.Record(ctx, tx, entry)
	})
	if err != nil {
		return account{}, err
	}
	if e != nil {
		_, err = s.deps.Outbox.Settle(c.Context(), *e)
	}
	s.announceEnd(c.Context(), user, ended...)
	return a, err
}

// replacePassword puts a hash into an account, and ends what the old password has led to, but for the session of who asks.
func (s *Service) replacePassword(ctx context.Context, tx transaction, c *rest.Call, a *account, hash string) (ended []string, err error) {
	a.Password = hash
	if err := audit(ctx, tx, audited(c, auditPassword, a.ID)); err != nil {
		return nil, err
	}
	return s.shutOut(ctx, tx, a.ID, c.Identity().Session)
}

// shutOut ends a user's sessions, elevations and one-time codes; keep is the session that goes on, "" for none.
func (s *Service) shutOut(ctx context.Context, tx transaction, user id.ID, keep string) (ended []string, err error) {
	if err := dropCodes(ctx, tx, user); err != nil {
		return nil, err
	}
	if err := lower(ctx, tx, user); err != nil {
		return nil, err
	}
	return endOtherSessions(ctx, tx, user, keep)
}

// seenAs says that others see no difference.
func (a account) seenAs(b account) bool {
	return a.Username == b.Username && same(a.GlobalName, b.GlobalName) && same(a.Avatar, b.Avatar) &&
		a.Flags == b.Flags && a.BotHash == b.BotHash && a.Disabled == b.Disabled
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
