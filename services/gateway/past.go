package gateway

import (
	"context"
	"log/slog"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

var pastEntries = metrics.NewCounter(`xcord_gateway_past_entries_total`)

// reachBatch is how many entries are read at once, backwards.
const reachBatch = 1000

// begin says where the tail began: behind it, the rings have everything.
func (c *core) begin(floor bus.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring.Begin(floor)
	c.cold.Begin(floor)
}

func (c *core) floor() bus.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.Floor()
}

// extend lets the rings reach back to floor. What has no room in the ring of cold entries is missed by steady.
func (c *core) extend(floor, through bus.Position, events []hub.Record[[]*hub.Event], cold []hub.Record[bus.Entry]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cold.Prepend(floor, through, cold)
	return c.ring.Prepend(floor, through, events)
}

// reach brings the rings back to a place from before this gateway began, from the log. It is read once for all sessions: each
// goes on where the one before it stopped. It answers session.ErrLost when the log or the rings do not reach back so far: what the rings
// hold bounds what is read.
func (s *Service) reach(ctx context.Context, p hub.Point) error {
	select {
	case s.reaching <- struct{}{}:
		defer func() { <-s.reaching }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		floor := s.core.floor()
		if !p.Less(hub.Behind(floor)) {
			return nil
		}
		if p.Pos.IsZero() {
			return session.ErrLost
		}
		entries, oldest, err := s.deps.Log.ReadBack(ctx, p.Pos, floor, reachBatch)
		if err != nil {
			return err
		}
		pastEntries.Add(len(entries))
		if oldest.IsZero() {
			return session.ErrLost // the place itself is an entry, which is not there any more
		}
		slices.Reverse(entries)
		var events []hub.Record[[]*hub.Event]
		var cold []hub.Record[bus.Entry]
		for _, e := range entries {
			if e.Version > 0 {
				cold = append(cold, hub.NewRecord(e.Pos, e, len(e.Body)))
			}
			told, err := s.past(ctx, e)
			if err != nil {
				return err
			}
			if len(told) > 0 {
				events = append(events, hub.NewRecord(e.Pos, told, place(told, e.Pos)))
			}
		}
		if !s.core.extend(oldest.Previous(), floor, events, cold) {
			return session.ErrLost
		}
	}
}

// past makes the events of an entry from before this gateway began.
func (s *Service) past(ctx context.Context, e bus.Entry) ([]*hub.Event, error) {
	loaded, extra, err := s.besides(ctx, e)
	if err != nil {
		return nil, err
	}
	e.Body = s.deps.Links.Show(e.Body)
	events, err := expand(e, loaded.guild())
	if err != nil {
		unexpandable.Inc()
		slog.Error("entry cannot be told to clients", "entry", e.Pos.String(), "type", string(e.Type), "err", err)
	}
	return append(events, extra...), nil
}

// steady says whether what a session was told behind a mark, up to an entry, can be counted off with the mark's view and the events
// as they are here: nothing may have changed what it saw, or how many events a change of a name was.
func (c *core) steady(from session.Mark, end bus.Position) bool {
	c.mu.Lock()
	records, ok := c.cold.Since(from.Point)
	c.mu.Unlock()
	if !ok {
		return false
	}
	renamed := map[id.ID]bool{}
	for _, rec := range records {
		e := rec.Value
		counted := !end.Less(e.Pos)
		if counted && from.AsOf.Less(e.Pos) && mayShow(e, from.View) {
			return false
		}
		switch e.Type {
		case wire.UserUpdated:
			renamed[e.User] = renamed[e.User] || counted
		case wire.MemberJoined, wire.MemberRemoved:
			// Each guild of a renamed user is told; those that they were in at that time are not known any more.
			if renamed[e.User] && from.View.Guilds[e.Guild] != nil {
				return false
			}
		case wire.UserDeleted:
			if renamed[e.User] {
				return false
			}
		case wire.ServerCreated, wire.ServerDeleted:
			if len(renamed) > 0 {
				return false
			}
		}
	}
	return true
}

// mayShow says whether an entry could have changed what a view shows.
func mayShow(e bus.Entry, v *hub.View) bool {
	switch e.Type {
	case wire.MemberJoined, wire.MemberUpdated, wire.MemberRemoved, wire.UserDeleted:
		return e.User == v.User
	case wire.ServerCreated:
		return founded(e, v.User)
	case wire.UserCreated, wire.UserUpdated, wire.RoleCreated, wire.BanAdded, wire.BanRemoved, wire.InviteCreated, wire.InviteDeleted,
		wire.WebhookChanged, wire.WebhookDeleted:
		return false
	}
	return v.Guilds[e.Guild] != nil
}
