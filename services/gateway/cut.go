package gateway

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/session"
)

var invalidatedTotal = metrics.NewCounter(`xcord_gateway_invalidated_sessions_total`)

// cut is called by the tail when there is a hole in what it hands over. No session can be told what it has missed, so all of them begin anew,
// and nothing that was made of the entries before stays.
func (s *Service) cut(_ context.Context, c bus.Cut) error {
	// In one step: who begins or is resumed meanwhile is attached before it, or finds that the session is over.
	var ended []*record
	seated := s.core.reset(c.Behind, func() { ended = s.desk.clear(s.cfg.Now()) })
	// Before the tail goes on: what is written of a session under the next epoch must not be of one from before.
	for _, r := range ended {
		s.saver.put(&errand{record: r, end: true})
	}
	for _, sub := range seated {
		sub.Invalidate()
	}
	invalidatedTotal.Add(len(ended))
	slog.Error("all sessions begin anew", "open", len(seated), "away", len(ended)-len(seated), "behind", c.Behind.String())
	return nil
}

// reset empties the core and lets it begin behind a position. It returns those who were attached. forget is called under the lock.
func (c *core) reset(behind bus.Position, forget func()) []*session.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	forget()
	seated := slices.Collect(maps.Keys(c.seats))
	for sub, st := range c.seats {
		c.hub.Detach(st.record.user, sub)
	}
	c.seats = map[*session.Session]seat{}
	c.guilds = map[id.ID]*copied{}
	c.ring = c.ring.Anew(behind)
	c.cold = c.cold.Anew(behind)
	c.pos = behind
	return seated
}
