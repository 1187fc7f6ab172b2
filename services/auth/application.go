package auth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditApplicationMade auditAction = "application.created"
	auditBotToken        auditAction = "application.token_made"
)

// application is a row of applications with its bot and owner.
type application struct {
	name      string
	verifyKey string
	bot       account
	owner     account
}

func (a application) wire() wire.Application {
	out := wire.NewApplication(a.bot.user(), a.owner.user())
	out.Name, out.VerifyKey = a.name, a.verifyKey
	return out
}

// botNameTries: the second try has 16 random bits behind the name already.
const botNameTries = 4

func (s *Service) createApplication(c *rest.Call, in wire.CreateApplication) (wire.Application, error) {
	var f form
	app := application{name: f.username("name", in.Name), verifyKey: randomHex(32)}
	if err := f.err(); err != nil {
		return wire.Application{}, err
	}
	if err := s.deps.Outbox.Ready(c.Context()); err != nil {
		return wire.Application{}, err
	}
	bot, err := s.deps.IDs.Next(c.Context())
	if err != nil {
		return wire.Application{}, outage("create an application", err)
	}
	app.bot = account{ID: bot, Version: 1, Bot: true}
	var e bus.Entry
	err = s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		var err error
		if app.owner, err = lockAccount(ctx, tx, c.User()); err != nil {
			return err
		}
		if err := s.mayOwnAnother(ctx, tx, c.User()); err != nil {
			return err
		}
		if err := insertBot(ctx, tx, &app.bot, app.name); err != nil {
			return err
		}
		if err := insertApplication(ctx, tx, app); err != nil {
			return err
		}
		if err := audit(ctx, tx, audited(c, auditApplicationMade, bot)); err != nil {
			return err
		}
		if e, err = app.bot.entry(wire.UserCreated, c.User()); err != nil {
			return err
		}
		return s.deps.Outbox.Record(ctx, tx, e)
	})
	if err != nil {
		return wire.Application{}, err
	}
	s.deps.Outbox.Settle(c.Context(), e)
	return app.wire(), nil
}

func (s *Service) mayOwnAnother(ctx context.Context, tx transaction, owner id.ID) error {
	n, err := countApplications(ctx, tx, owner)
	if err != nil {
		return err
	}
	if n >= s.config.ApplicationsMax {
		message := fmt.Sprintf("Maximum number of applications reached (%d)", s.config.ApplicationsMax)
		return &fault.Fault{Status: http.StatusBadRequest, Message: message}
	}
	return nil
}

// insertBot gives the bot the application's name, or one that begins with it if that is somebody's already.
func insertBot(ctx context.Context, tx transaction, bot *account, name string) error {
	bot.Username = name
	for range botNameTries {
		ok, err := insertAccountIfFree(ctx, tx, *bot)
		if err != nil || ok {
			return err
		}
		suffix := "-" + randomHex(2)
		short := name
		for utf8.RuneCountInString(short)+len(suffix) > usernameMax {
			_, last := utf8.DecodeLastRuneInString(short)
			short = short[:len(short)-last]
		}
		bot.Username = strings.TrimSpace(short) + suffix
	}
	return fault.Invalid(fault.Field{Path: "name", Code: codeUsernameTaken, Message: "Name is unavailable."})
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func (s *Service) listApplications(c *rest.Call, _ rest.None) (wire.List[wire.Application], error) {
	apps, err := s.store.applications(c.Context(), c.User())
	if err != nil {
		return nil, err
	}
	out := make(wire.List[wire.Application], len(apps))
	for i, a := range apps {
		out[i] = a.wire()
	}
	return out, nil
}

func (s *Service) ownApplication(c *rest.Call, _ rest.None) (wire.Application, error) {
	if !c.Identity().Bot {
		return wire.Application{}, fault.New(fault.OnlyForBots)
	}
	app, err := s.store.application(c.Context(), c.User())
	return app.wire(), err
}

func (s *Service) createBot(c *rest.Call, _ rest.None) (wire.BotToken, error) {
	return s.giveToken(c, false)
}

func (s *Service) resetBot(c *rest.Call, _ rest.None) (wire.BotToken, error) {
	return s.giveToken(c, true)
}

// giveToken makes a token for a bot. Replacing one ends the bot's gateway sessions as well.
func (s *Service) giveToken(c *rest.Call, replace bool) (wire.BotToken, error) {
	bot := c.ID("application")
	if err := s.deps.Outbox.Ready(c.Context()); err != nil {
		return wire.BotToken{}, err
	}
	clear, hash := token.NewBotToken(bot)
	var e bus.Entry
	had := false
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		owner, err := applicationOwner(ctx, tx, bot)
		if err != nil {
			return err
		}
		if owner != c.User() {
			return fault.NotFound() // as if it did not exist: ids can be guessed
		}
		a, err := lockAccount(ctx, tx, bot)
		if err != nil {
			return err
		}
		if had = a.BotHash != ""; had && !replace {
			return &fault.Fault{Status: http.StatusBadRequest, Message: "The bot has a token already; reset it to get another"}
		}
		a.Version++
		a.BotHash = hash
		if err := updateAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := updateBotHash(ctx, tx, bot, hash); err != nil {
			return err
		}
		if err := audit(ctx, tx, audited(c, auditBotToken, bot)); err != nil {
			return err
		}
		if e, err = a.entry(wire.UserUpdated, c.User()); err != nil {
			return err
		}
		return s.deps.Outbox.Record(ctx, tx, e)
	})
	if err != nil {
		return wire.BotToken{}, err
	}
	s.deps.Outbox.Settle(c.Context(), e)
	if had {
		s.announceEnd(c.Context(), bot, identity.AllSessions)
	}
	return wire.BotToken{Token: clear}, nil
}
