package guilds

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

var departedTotal = metrics.NewCounter(`xcord_guilds_departed_total`)

const (
	// farewellEvery is how often all members are looked through for those whose account is gone: what a crash has left undone, and
	// who joined in the moment of leaving. Most leave at once, by their entry in the log.
	farewellEvery = time.Hour
	// farewellAgain is how soon it is tried again when it could not be done.
	farewellAgain = 10 * time.Second
	// farewellPage is how many users are looked at together; farewellQueue, how many wait for their turn. Who finds it full leaves
	// with the next look through all.
	farewellPage  = 500
	farewellQueue = 1024
	// farewellTimeout is for one user and one guild.
	farewellTimeout = 10 * time.Second
)

// HandleEntries notices deleted accounts, and what the audit log is told by the hot path. Subscribe it to the process's tail.
func (s *Service) HandleEntries(_ context.Context, entries []bus.Entry) error {
	s.scribe.follow(entries)
	for _, e := range entries {
		if e.Type != wire.UserDeleted {
			continue
		}
		select {
		case s.departing <- e.User:
		default:
		}
	}
	return nil
}

// farewells ends the memberships of those whose accounts were deleted. Several processes may do so at once: each membership ends
// once.
func (s *Service) farewells(ctx context.Context) error {
	for next := time.Now().Add(rand.N(farewellAgain)); ; {
		timer := time.NewTimer(time.Until(next))
		var err error
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case user := <-s.departing:
			timer.Stop()
			err = s.depart(ctx, user)
		case <-timer.C:
			next = time.Now().Add(farewellEvery/2 + rand.N(farewellEvery))
			err = s.departAll(ctx)
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("a deleted user has not left all guilds, which is tried again", "err", err)
			next = time.Now().Add(farewellAgain/2 + rand.N(farewellAgain))
		}
	}
}

// departAll looks for members whose accounts are gone.
func (s *Service) departAll(ctx context.Context) error {
	for after := id.ID(0); ; {
		users, err := s.store.memberUsers(ctx, after, farewellPage)
		if err != nil || len(users) == 0 {
			return err
		}
		gone, err := s.roster.Gone(ctx, users)
		if err != nil {
			return err
		}
		for _, user := range gone {
			if err := s.depart(ctx, user); err != nil {
				return err
			}
		}
		after = users[len(users)-1]
	}
}

// depart lets a user leave all guilds and groups.
func (s *Service) depart(ctx context.Context, user id.ID) error {
	guilds, err := s.store.guildsOf(ctx, user)
	if err != nil {
		return err
	}
	for _, guild := range guilds {
		if err := s.departFrom(ctx, guild, user); err != nil {
			return err
		}
	}
	groups, err := s.store.groupsOf(ctx, user)
	if err != nil {
		return err
	}
	for _, group := range groups {
		if err := s.departGroup(ctx, group, user); err != nil {
			return err
		}
	}
	return nil
}

// departGroup takes a user out of a group. Their DMs stay for the others, who cannot write to them any more.
func (s *Service) departGroup(ctx context.Context, group, user id.ID) error {
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	err := s.changeDirect(ctx, user, group, func(w *directChange) error {
		w.leave(user)
		return nil
	})
	if fault.Is(err, fault.MissingAccess) {
		return nil // gone meanwhile
	}
	return err
}

// departFrom ends one membership. A guild that is the user's own goes with them: nobody else could ever manage it. Accounts that
// own guilds are not deleted, so it was made, or given to them, in the very moment.
func (s *Service) departFrom(ctx context.Context, guild, user id.ID) error {
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	faces, err := s.roster.Users(ctx, []id.ID{user})
	if err != nil {
		return err
	}
	return s.changeAs(ctx, user, scope{guild: guild}, func(ctx context.Context, w *change) (event, error) {
		switch {
		case w.actor == nil:
			return event{}, nil
		case w.guild.Owner(user):
			return w.end(ctx)
		}
		departedTotal.Inc()
		return w.remove(ctx, faces[user], wire.CauseLeft)
	})
}
