package gateway

import (
	"context"
	"time"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

const (
	startsWindow     = 24 * time.Hour
	concurrentWindow = 5 * time.Second
)

// allowStart counts the beginning of a session: so many of a user in a day, and so many at once. Who is too fast is told so by
// INVALID_SESSION, after which clients wait for some seconds; a RESUME is never counted.
func (s *Service) allowStart(ctx context.Context, user id.ID) error {
	if !s.deps.Limiter.Take(ctx, s.concurrent, limit.User(user, 0)).OK {
		return session.ErrInvalid
	}
	if !s.deps.Limiter.Take(ctx, s.starts, limit.User(user, 0)).OK {
		return &session.CloseError{Code: wire.CloseRateLimited, Reason: "no session starts left today"}
	}
	return nil
}

// startLimit is what a bot is told of that.
func (s *Service) startLimit(ctx context.Context, user id.ID) wire.SessionStartLimit {
	out := wire.SessionStartLimit{
		Total: s.cfg.StartsPerDay, Remaining: s.cfg.StartsPerDay, ResetAfter: int(startsWindow.Milliseconds()),
		MaxConcurrency: s.cfg.StartsAtOnce,
	}
	if v := s.deps.Limiter.Peek(ctx, s.starts, limit.User(user, 0)); v.Limit > 0 {
		out.Remaining = v.Remaining
		if v.Reset > 0 {
			out.ResetAfter = int(v.Reset.Milliseconds())
		}
	}
	return out
}
