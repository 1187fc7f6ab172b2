package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// sessionsMax is how many logins a list has, those that were used last.
const sessionsMax = 100

// hashSession names a session to its owner. The id itself is in every access token.
func hashSession(session string) string {
	sum := sha256.Sum256([]byte(session))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// listSessions lists a person's logins. The last use is the last refresh: who is here refreshes every quarter of an hour, so nothing
// more has to be written.
func (s *Service) listSessions(c *rest.Call, _ rest.None) (wire.UserSessions, error) {
	list, err := s.store.sessions(c.Context(), c.User(), sessionsMax)
	return wire.UserSessions{UserSessions: list}, err
}

// endSessions ends logins of a person's own. What is none of them, or has ended, is passed over: so it shall be.
func (s *Service) endSessions(c *rest.Call, in wire.EndSessions) (rest.None, error) {
	var f form
	hashes := make([][]byte, len(in.SessionIDHashes))
	for i, text := range in.SessionIDHashes {
		var err error
		if hashes[i], err = base64.RawURLEncoding.DecodeString(text); err != nil || len(hashes[i]) != sha256.Size {
			f.bad(fmt.Sprintf("session_id_hashes.%d", i), fault.FieldRegex, "This is no hash of a session.")
		}
	}
	if err := f.err(); err != nil {
		return rest.None{}, err
	}
	var ended []string
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) (err error) {
		ended, err = endSessionsByHash(ctx, tx, c.User(), hashes)
		if err != nil || len(ended) == 0 {
			return err
		}
		e := audited(c, auditLoggedOut, c.User())
		e.Details = map[string]string{"sessions": strconv.Itoa(len(ended))}
		return audit(ctx, tx, e)
	})
	if err != nil {
		return rest.None{}, err
	}
	s.announceEnd(c.Context(), c.User(), ended...)
	return rest.None{}, nil
}

func (s *Service) logout(c *rest.Call, _ rest.None) (rest.None, error) {
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		if err := endSession(ctx, tx, c.User(), c.Identity().Session); err != nil {
			return err
		}
		return audit(ctx, tx, audited(c, auditLoggedOut, c.User()))
	})
	if err != nil {
		return rest.None{}, err
	}
	s.announceEnd(c.Context(), c.User(), c.Identity().Session)
	return rest.None{}, nil
}

// announceEnd tells every process that sessions of a user have ended, after that is committed. When it cannot, it is told later, and
// also when this process dies meanwhile.
func (s *Service) announceEnd(ctx context.Context, user id.ID, sessions ...string) {
	if len(sessions) == 0 {
		return
	}
	revoked := make([]identity.Revoked, len(sessions))
	for i, session := range sessions {
		revoked[i] = identity.Revoked{User: user, Session: session}
	}
	// What is committed is to be told, also when the client has gone away.
	if err := s.announce(context.WithoutCancel(ctx), revoked); err != nil {
		slog.Warn("the end of a session is announced later", "user", user.String(), "err", err)
		select {
		case s.untold <- struct{}{}:
		default:
		}
	}
}

func (s *Service) announce(ctx context.Context, revoked []identity.Revoked) error {
	if err := s.deps.Door.Revoke(ctx, revoked...); err != nil {
		return err
	}
	return s.store.announced(ctx, revoked)
}

const (
	// announceEvery is how often is looked for what a process that died has not announced, announceAgain how often is tried again
	// what could not be announced: whoever is to be shut out stays in until it is.
	announceEvery = 5 * time.Second
	announceAgain = 100 * time.Millisecond
	// announceMax are announced at once.
	announceMax = 500
)

// announcements announces what is still to be announced.
func (s *Service) announcements(ctx context.Context) error {
	for pause := announceEvery; ; {
		timer := time.NewTimer(pause + rand.N(pause/4))
		select {
		case <-timer.C:
		case <-s.untold:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = announceEvery
		revoked, err := s.store.unannounced(ctx, announceMax)
		if err == nil && len(revoked) > 0 {
			err = s.announce(ctx, revoked)
		}
		if err != nil || len(revoked) == announceMax {
			pause = announceAgain
		}
	}
}
