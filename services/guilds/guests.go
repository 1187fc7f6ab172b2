package guilds

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

var guestsTotal = metrics.NewCounter(`xcord_guilds_guests_departed_total`)

const (
	// guestEvery is how often it is looked where the guests are.
	guestEvery = 30 * time.Second
	// guestGrace is how long somebody has after joining to come online.
	guestGrace = 2 * time.Minute
	// guestPage is how many guests are read at once.
	guestPage = 500
)

// guest is a member by a temporary invite who has no role.
type guest struct{ guild, user id.ID }

// guests sees guests off who have gone offline. The store says who is a guest, and presence who is there, so nothing is forgotten by a crash.
// Somebody has to be away at two looks in a row: a presence that has lost its memory gets it back from the gateways in between.
func (s *Service) guests(ctx context.Context) error {
	var away map[guest]bool
	for {
		timer := time.NewTimer(guestEvery/2 + rand.N(guestEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		var err error
		if away, err = s.lookForGuests(ctx, away, guestGrace); err != nil && ctx.Err() == nil {
			slog.Warn("guests cannot be seen off, which is tried again", "err", err)
		}
	}
}

// lookForGuests ends the memberships of those who are away now and were away before, and says who is away.
func (s *Service) lookForGuests(ctx context.Context, before map[guest]bool, grace time.Duration) (away map[guest]bool, failed error) {
	away = map[guest]bool{}
	for after := (guest{}); ; {
		page, err := s.store.guests(ctx, after, grace, guestPage)
		if err != nil {
			return away, errors.Join(failed, err)
		}
		for _, g := range page {
			sockets, err := s.presence.Sockets(ctx, g.user)
			if err != nil {
				return away, errors.Join(failed, err)
			}
			switch {
			case len(sockets) > 0:
			case before[g]:
				failed = errors.Join(failed, s.seeOff(ctx, g))
			default:
				away[g] = true
			}
		}
		if len(page) < guestPage {
			return away, failed
		}
		after = page[len(page)-1]
	}
}

// seeOff ends a guest's membership, unless somebody has made more of it meanwhile, or the guild is theirs by now.
func (s *Service) seeOff(ctx context.Context, g guest) error {
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	faces, err := s.roster.Users(ctx, []id.ID{g.user})
	if err != nil {
		return err
	}
	return s.changeAs(ctx, g.user, scope{guild: g.guild}, func(ctx context.Context, w *change) (event, error) {
		still, err := isGuest(ctx, w.tx, g)
		if err != nil || !still || w.guild.Owner(g.user) {
			return event{}, err
		}
		guestsTotal.Inc()
		return w.remove(ctx, faces[g.user], wire.CauseLeft)
	})
}
