package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditLoggedOut     auditAction = "session.ended"
	auditRefreshReused auditAction = "session.token_reused"
)

const (
	refreshBytes = 32
	sessionBytes = 16
	saltBytes    = 16
	// userAgentMax is as much of a User-Agent as a list of sessions can show.
	userAgentMax = 256
	// spentKeep is how long the use of a spent token is recognised as theft; afterwards it is just not valid.
	spentKeep = 48 * time.Hour
)

// newSession is a session to be stored, with its first refresh token in the clear.
type newSession struct {
	id        string
	user      id.ID
	userAgent string
	device    device
	address   string
	refresh   string
	expires   time.Time
}

func (s *Service) newSession(c *rest.Call, user id.ID) newSession {
	agent := c.UserAgent()
	agent = strings.ReplaceAll(strings.ToValidUTF8(agent[:min(len(agent), userAgentMax)], ""), "\x00", "")
	return newSession{
		id: random(sessionBytes), user: user, userAgent: agent, device: newDevice(agent, c.SuperProperties()), address: c.RemoteAddr(),
		refresh: random(refreshBytes), expires: time.Now().Add(s.config.RefreshTTL),
	}
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// hashRefresh is what is stored of a refresh token. It has 256 random bits, so it needs neither salt nor slowness.
func hashRefresh(refresh string) []byte {
	sum := sha256.Sum256([]byte(refresh))
	return sum[:]
}

// successor derives the next refresh token: only who has the spent one and the salt can make it again.
func successor(refresh string, salt []byte) string {
	mac := hmac.New(sha256.New, []byte(refresh))
	mac.Write(salt)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (s *Service) loggedIn(a account, n newSession) wire.LoggedIn {
	return wire.LoggedIn{
		Tokens: s.tokens(a.ID, n.id, n.refresh), UserID: a.ID, SessionID: n.id, User: a.self(),
	}
}

func (s *Service) tokens(user id.ID, session, refresh string) wire.Tokens {
	access := s.deps.Minter.Mint(token.Claims{User: user, Session: session})
	return wire.Tokens{Token: access, RefreshToken: refresh, ExpiresIn: int(s.deps.Minter.TTL().Seconds())}
}

func (s *Service) refresh(c *rest.Call, in wire.Refresh) (wire.Tokens, error) {
	var out refreshed
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		var err error
		out, err = s.rotate(ctx, tx, in.RefreshToken, c.RemoteAddr())
		if err != nil || out.result != refreshIsReused {
			return err
		}
		// Who did it is not known: the user, or a thief.
		return audit(ctx, tx, audited(c, auditRefreshReused, out.user))
	})
	if err != nil {
		return wire.Tokens{}, err
	}
	switch out.result {
	case refreshIsReused:
		refreshReused.Inc()
		slog.Warn("a spent refresh token was used again, its session is revoked", "user", out.user.String(), "session", out.session)
		s.announceEnd(c.Context(), out.user, out.session)
		return wire.Tokens{}, fault.Unauthorized()
	case refreshIsRefused:
		refreshRefused.Inc()
		return wire.Tokens{}, fault.Unauthorized()
	case refreshIsRepeated:
		refreshRepeated.Inc()
	case refreshIsRotated:
		refreshRotated.Inc()
	}
	return s.tokens(out.user, out.session, out.next), nil
}

// refreshed is the outcome of rotate.
type refreshed struct {
	result  refreshResult
	user    id.ID
	session string
	next    string
}

type refreshResult int

const (
	refreshIsRefused refreshResult = iota
	refreshIsRotated
	refreshIsRepeated
	refreshIsReused
)

// rotate spends a refresh token. The session's row is locked, so that rotations of a family come one after the other.
// A revocation must be committed, so it is an outcome and not an error.
func (s *Service) rotate(ctx context.Context, tx transaction, refresh, address string) (refreshed, error) {
	t, found, err := lockRefresh(ctx, tx, hashRefresh(refresh))
	if err != nil || !found {
		return refreshed{}, err
	}
	out := refreshed{user: t.user, session: t.session}
	if t.spent {
		out.next = successor(refresh, t.salt)
		live := false
		if t.spentFor <= s.config.RefreshGrace {
			if live, err = isLive(ctx, tx, hashRefresh(out.next)); err != nil {
				return refreshed{}, err
			}
		}
		if live {
			out.result = refreshIsRepeated
			return out, nil
		}
		out.result = refreshIsReused
		return out, endSession(ctx, tx, t.user, t.session)
	}
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	out.next = successor(refresh, salt)
	out.result = refreshIsRotated
	if err := useSession(ctx, tx, t.session, address); err != nil {
		return refreshed{}, err
	}
	return out, spendRefresh(ctx, tx, t.session, hashRefresh(refresh), salt, hashRefresh(out.next), s.config.RefreshTTL)
}
