package guilds

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
)

const (
	// headcountLife is how old a count of who is online may be: approximate is its name.
	headcountLife = time.Minute
	// headcountMax bounds the guilds whose counts are kept.
	headcountMax = 4096
	// headcountPage is how many members are counted at once.
	headcountPage = 1000
)

// headcount knows about how many members of a guild are online. Safe for concurrent use: who asks for the same at the same time is answered
// together.
type headcount struct {
	store    store
	presence *presence.Presence
	counts   *lru.Cache[id.ID, counted]
	flight   singleflight.Group
}

// counted is how many there were at a moment.
type counted struct {
	n  int
	at time.Time
}

func newHeadcount(s store, p *presence.Presence) *headcount {
	counts, err := lru.New[id.ID, counted](headcountMax)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &headcount{store: s, presence: p, counts: counts}
}

// of is about how many members of a guild others see as online.
func (h *headcount) of(ctx context.Context, guild id.ID) (*int, error) {
	if c, ok := h.counts.Get(guild); ok && time.Since(c.at) < headcountLife {
		return &c.n, nil
	}
	n, err, _ := h.flight.Do(guild.String(), func() (any, error) {
		n, err := h.count(ctx, guild)
		if err == nil {
			h.counts.Add(guild, counted{n, time.Now()})
		}
		return n, err
	})
	if err != nil {
		return nil, outage("count who is online", err)
	}
	count := n.(int)
	return &count, nil
}

func (h *headcount) count(ctx context.Context, guild id.ID) (n int, err error) {
	for after := id.ID(0); ; {
		users, err := h.store.usersOf(ctx, guild, after, headcountPage)
		if err != nil {
			return 0, err
		}
		online, err := h.presence.Online(ctx, users)
		if err != nil {
			return 0, err
		}
		n += online
		if len(users) < headcountPage {
			return n, nil
		}
		after = users[len(users)-1]
	}
}
