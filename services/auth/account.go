package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
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
	Flags      int64
	Password   string // PHC; empty for bots
	BotHash    string // of a bot's token; empty for people, and before the first token
}

func (a account) user() wire.User {
	return wire.User{
		ID: a.ID, Username: a.Username, GlobalName: a.GlobalName, Avatar: a.Avatar, Bot: a.Bot,
		PublicFlags: int(a.Flags), Flags: int(a.Flags),
	}
}

func (a account) self() wire.SelfUser {
	// Nobody checks addresses yet, so that only bots, which have none, count as verified.
	return wire.SelfUser{User: a.user(), Locale: wire.LocaleDefault, Email: a.Email, Verified: a.Bot}
}

// entry is what the log is told of an account after a change by actor.
func (a account) entry(kind wire.EventType, actor id.ID) (bus.Entry, error) {
	body, err := json.Marshal(wire.UserChangedPayload{User: a.user(), BotHash: a.BotHash})
	if err != nil {
		return bus.Entry{}, fmt.Errorf("encode %s: %w", kind, err)
	}
	return bus.Entry{Type: kind, Actor: actor, User: a.ID, Version: a.Version, Body: body}, nil
}

func (s *Service) register(c *rest.Call, in wire.Register) (wire.LoggedIn, error) {
	if s.config.Registration == RegistrationClosed {
		return wire.LoggedIn{}, &fault.Fault{Status: http.StatusForbidden, Message: "Registration is closed"}
	}
	var f form
	a := account{
		Version: 1, Username: f.username("username", in.Username), GlobalName: f.globalName("global_name", in.GlobalName),
		Email: f.email("email", in.Email),
	}
	f.password("password", in.Password)
	if err := f.err(); err != nil {
		return wire.LoggedIn{}, err
	}
	// What is cheap comes before the hash.
	if err := s.store.free(c.Context(), a); err != nil {
		return wire.LoggedIn{}, taken(err)
	}
	if err := s.deps.Outbox.Ready(c.Context()); err != nil {
		return wire.LoggedIn{}, err
	}
	var err error
	if a.Password, err = s.hasher.hash(c.Context(), in.Password); err != nil {
		return wire.LoggedIn{}, err
	}
	if a.ID, err = s.deps.IDs.Next(c.Context()); err != nil {
		return wire.LoggedIn{}, outage("register", err)
	}
	e, err := a.entry(wire.UserCreated, a.ID)
	if err != nil {
		return wire.LoggedIn{}, err
	}
	fresh := s.newSession(c, a.ID)
	err = s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		if err := insertAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := insertSession(ctx, tx, fresh); err != nil {
			return err
		}
		return s.deps.Outbox.Record(ctx, tx, e)
	})
	if err != nil {
		return wire.LoggedIn{}, taken(err)
	}
	s.deps.Outbox.Settle(c.Context(), e)
	return s.loggedIn(a, fresh), nil
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

func (s *Service) getSelf(c *rest.Call, _ rest.None) (wire.SelfUser, error) {
	a, err := s.store.account(c.Context(), c.User())
	return a.self(), err
}

func (s *Service) getUser(c *rest.Call, _ rest.None) (wire.User, error) {
	a, err := s.store.account(c.Context(), c.ID("user"))
	return a.user(), err
}

func (s *Service) updateSelf(c *rest.Call, in wire.UpdateSelf) (wire.SelfUser, error) {
	var f form
	if in.Username != nil {
		*in.Username = f.username("username", *in.Username)
	}
	globalName := f.globalName("global_name", in.GlobalName.Ptr())
	if in.NewPassword != nil {
		f.password("new_password", *in.NewPassword)
		if in.Password == nil || *in.Password == "" {
			f.bad("password", fault.FieldRequired, "This field is required")
		}
	}
	if err := f.err(); err != nil {
		return wire.SelfUser{}, err
	}
	var secret *newPassword
	if in.NewPassword != nil {
		var err error
		if secret, err = s.preparePassword(c, *in.Password, *in.NewPassword); err != nil {
			return wire.SelfUser{}, err
		}
	}
	a, err := s.alter(c, c.User(), secret, func(a *account) {
		if in.Username != nil {
			a.Username = *in.Username
		}
		if in.GlobalName.Set {
			a.GlobalName = globalName
		}
	})
	if err != nil {
		return wire.SelfUser{}, taken(err)
	}
	return a.self(), nil
}

// newPassword is a checked change of a password: old is the hash that the old one was checked against.
type newPassword struct {
	old, hash string
	keep      string // the session that goes on
}

// preparePassword does the slow part, outside any transaction.
func (s *Service) preparePassword(c *rest.Call, old, next string) (*newPassword, error) {
	if c.Identity().Bot {
		return nil, fault.New(fault.NotForBots)
	}
	a, err := s.store.account(c.Context(), c.User())
	if err != nil {
		return nil, err
	}
	ok, _, err := s.verify(c, a, a.Username, old)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, wrongPassword()
	}
	hash, err := s.hasher.hash(c.Context(), next)
	if err != nil {
		return nil, err
	}
	return &newPassword{old: a.Password, hash: hash, keep: c.Identity().Session}, nil
}

func wrongPassword() error {
	return fault.Invalid(fault.Field{Path: "password", Code: codePassword, Message: "Password does not match."})
}

// alter changes an account: what others see of it, with an entry in the log, if that changes at all, and the password. A new
// password ends all other sessions.
func (s *Service) alter(c *rest.Call, user id.ID, secret *newPassword, change func(*account)) (account, error) {
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
		if secret != nil {
			if a.Password != secret.old {
				return wrongPassword() // it was changed meanwhile
			}
			a.Password = secret.hash
			if ended, err = endOtherSessions(ctx, tx, user, secret.keep); err != nil {
				return err
			}
		}
		before := a
		change(&a)
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
		s.deps.Outbox.Settle(c.Context(), *e)
	}
	s.announceEnd(c.Context(), user, ended...)
	return a, nil
}

// seenAs says that others see no difference.
func (a account) seenAs(b account) bool {
	return a.Username == b.Username && same(a.GlobalName, b.GlobalName) && same(a.Avatar, b.Avatar) &&
		a.Flags == b.Flags && a.BotHash == b.BotHash
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
