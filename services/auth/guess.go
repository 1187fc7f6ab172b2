package auth

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/rest"
)

const (
	guessWindow = 15 * time.Minute
	knownWindow = 30 * 24 * time.Hour
)

// guesses bounds wrong passwords: of one account, from one address. An address from which somebody has logged in has a bound of its
// own for that account, so that a stranger who uses up all guesses does not lock out whom the account belongs to. No bound is for ever.
type guesses struct {
	limiter              *limit.Limiter
	account, addr, known *limit.Rule
}

func newGuesses(c Config, limiter *limit.Limiter) guesses {
	return guesses{
		limiter: limiter,
		account: limit.NewExact("wrong passwords of an account", c.GuessesPerAccount, guessWindow),
		addr:    limit.NewExact("wrong passwords from an address", c.GuessesPerAddr, guessWindow),
		known:   limit.NewExact("logins from an address", 1<<30, knownWindow),
	}
}

// verify checks a password that somebody gives for an account; login is what they call it, which may be nobody's. A guess is counted
// before it is checked, so that many at once are not more, and taken back when it was right.
func (s *Service) verify(c *rest.Call, a account, login, password string) (ok, stale bool, err error) {
	g, ctx := s.guesses, c.Context()
	who := guessed(a, login)
	client, counted := c.Client()
	home := homeOf(a, client)
	if v := g.limiter.Peek(ctx, g.known, home); v.Remaining < v.Limit {
		who = home
	}
	if counted {
		if v := g.limiter.Take(ctx, g.addr, limit.Addr(client)); !v.OK {
			return false, false, fault.RateLimited(v.Reset)
		}
	}
	if v := g.limiter.Take(ctx, g.account, who); !v.OK {
		g.takeBack(ctx, counted, client)
		return false, false, fault.RateLimited(v.Reset)
	}
	if ok, stale, err = s.hasher.verify(ctx, a.Password, password); ok || err != nil {
		g.limiter.Return(ctx, g.account, who)
		g.takeBack(ctx, counted, client)
	}
	if ok {
		g.limiter.Take(ctx, g.known, home)
	}
	return ok, stale, err
}

// guessed is whose password is guessed. Nobody's login counts as one in every spelling, as somebody's does: else the count would tell who
// there is.
func guessed(a account, login string) limit.Subject {
	if a.ID != 0 {
		return limit.User(a.ID, 0)
	}
	return limit.Text("login " + fold(strings.TrimSpace(login)))
}

func (g guesses) takeBack(ctx context.Context, counted bool, client netip.Addr) {
	if counted {
		g.limiter.Return(ctx, g.addr, limit.Addr(client))
	}
}

// homeOf is an account at an address.
func homeOf(a account, client netip.Addr) limit.Subject {
	at := limit.Addr(client)
	return limit.Text(fmt.Sprintf("home %s %x %x", a.ID, at.A, at.B))
}
