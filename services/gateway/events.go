package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

var (
	fanoutTime    = metrics.NewPrometheusHistogram(`xcord_gateway_fanout_seconds`)
	panicsTotal   = metrics.NewCounter(`xcord_gateway_entry_panics_total`)
	typingDropped = metrics.NewCounter(`xcord_gateway_typing_dropped_total`)
)

// handleEntries is called by the tail, in order.
func (s *Service) handleEntries(ctx context.Context, entries []bus.Entry) error {
	defer fanoutTime.UpdateDuration(time.Now())
	for _, e := range entries {
		if err := s.handleEntry(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// handleEntry survives an entry that nobody expected: clients miss one event, which is counted, instead of all.
func (s *Service) handleEntry(ctx context.Context, e bus.Entry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			panicsTotal.Inc()
			slog.Error("BUG: entry panicked", "entry", e.Pos.String(), "type", string(e.Type), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	loaded, extra, err := s.besides(ctx, e)
	if err != nil {
		return err
	}
	if s.core.take(e, loaded, extra) {
		state, err := insist(ctx, func(ctx context.Context) (roster.GuildState, error) {
			return s.deps.Roster.LookGuild(ctx, e.Guild, s.core.members(e.Guild)...)
		})
		if err != nil {
			return err
		}
		s.core.replace(e.Guild, state)
	}
	if e.Version > 0 {
		s.saver.turn(e.Pos)
	}
	switch e.Type {
	case wire.MessagesRead:
		s.tellReads(e)
	case wire.UserDeleted:
		s.revoked(identity.Revoked{User: e.User, Session: identity.AllSessions})
	case wire.UserUpdated:
		return s.endOldTokens(ctx, e)
	}
	return nil
}

// besides reads what the entry does not say and its events need.
func (s *Service) besides(ctx context.Context, e bus.Entry) (loaded *reading, extra []*hub.Event, err error) {
	switch {
	case s.core.wants(e), e.Type == wire.ServerUpdated && !s.core.watches(e.Guild):
		state, err := insist(ctx, func(ctx context.Context) (roster.GuildState, error) {
			return s.deps.Roster.LookGuild(ctx, e.Guild, e.User)
		})
		return (*reading)(&state), nil, err
	case e.Type == wire.UserUpdated:
		extra, err = s.memberUpdates(ctx, e)
	}
	return nil, extra, err
}

// reading is a guild that was read because nobody here watches it; it may be nil.
type reading roster.GuildState

func (r *reading) guild() *roster.Guild {
	if r == nil {
		return nil
	}
	return r.Guild
}

// insist reads until it can: an outage of Redis stops the tail as well, and skipping the entry would leave a copy wrong, or the
// number of its events another one than elsewhere.
func insist[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	pause := 20 * time.Millisecond
	for {
		state, err := read(ctx)
		if err == nil {
			return state, nil
		}
		slog.Warn("the roster cannot be read", "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return state, fmt.Errorf("read the roster: %w", err)
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

// memberUpdates tells the guilds of a user that the user is called differently now, whether somebody here watches them or not: see
// expand.
func (s *Service) memberUpdates(ctx context.Context, e bus.Entry) ([]*hub.Event, error) {
	p, err := payload[wire.UserChangedPayload](e)
	if err != nil {
		slog.Error("entry cannot be told to clients", "entry", e.Pos.String(), "type", string(e.Type), "err", err)
		return nil, nil
	}
	guilds, err := insist(ctx, func(ctx context.Context) ([]id.ID, error) { return s.deps.Roster.GuildsOf(ctx, e.User) })
	if err != nil {
		return nil, err
	}
	var events []*hub.Event
	for _, guild := range slices.Sorted(slices.Values(guilds)) {
		state, err := insist(ctx, func(ctx context.Context) (roster.GuildState, error) {
			return s.deps.Roster.LookGuild(ctx, guild, e.User)
		})
		if err != nil {
			return nil, err
		}
		if m := state.Members[e.User]; m != nil {
			member := m.Member(p.User)
			member.GuildID = guild
			events = append(events, memberUpdate(guild, member)...)
		}
	}
	return events, nil
}

func (c *core) watches(guild id.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guilds[guild] != nil
}

// revoked closes the sockets of a login session that has ended. It does not block.
func (s *Service) revoked(r identity.Revoked) {
	s.shutOut(r.User, func(login string) bool { return r.Session == identity.AllSessions || login == r.Session })
}

// endOldTokens ends what a bot's token has begun that is its own no more. The read model decides: a session may have come with a token
// that is newer than the entry.
func (s *Service) endOldTokens(ctx context.Context, e bus.Entry) error {
	p, err := payload[wire.UserChangedPayload](e)
	if err != nil || !p.User.Bot {
		return nil // an entry that cannot be read was told of
	}
	hash, err := insist(ctx, func(ctx context.Context) (string, error) {
		hash, err := s.deps.Roster.BotHash(ctx, e.User)
		if fault.Is(err, fault.UnknownUser) {
			err = nil // deleted meanwhile
		}
		return hash, err
	})
	if err == nil {
		s.shutOut(e.User, func(login string) bool { return login != hash })
	}
	return err
}

// shutOut ends the sessions of a user's whose login is over.
func (s *Service) shutOut(user id.ID, over func(login string) bool) {
	records, open := s.desk.expel(user, over)
	for _, ended := range records {
		s.saver.put(&errand{record: ended, end: true})
	}
	for _, sub := range open {
		sub.Close(wire.CloseAuthenticationFailed, "session ended")
	}
}

const (
	// typingTopic is where services tell of TypingStart.
	typingTopic = "typing"
	// typingMax bounds what waits to be told; what is more is dropped, because it is over before it would be told.
	typingMax = 1024
)

// receiveTyping is called by the goroutine that reads the connection and does not block.
func (s *Service) receiveTyping(body []byte) {
	select {
	case s.typing <- body:
	default:
		typingDropped.Inc()
	}
}

func (s *Service) tellTyping(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case body := <-s.typing:
			var t wire.TypingSignal
			if err := json.Unmarshal(body, &t); err != nil || t.GuildID == 0 && len(t.To) == 0 {
				slog.Warn("a typing signal cannot be told", "err", err)
				continue
			}
			s.core.send(expandTyping(t)...)
		}
	}
}

// presenceChanged tells those who share a guild with a user, but not the user.
func (s *Service) presenceChanged(ctx context.Context, changes []presence.Change) {
	for _, c := range changes {
		guilds, err := s.deps.Roster.GuildsOf(ctx, c.User)
		if err != nil {
			// Presence is a hint: who comes later reads it as it is.
			slog.Warn("a presence cannot be told", "err", err)
			continue
		}
		events := make([]*hub.Event, 0, len(guilds))
		for _, guild := range guilds {
			events = append(events, &hub.Event{
				Name: "PRESENCE_UPDATE", Intents: wire.IntentGuildPresences, Guild: guild, Except: c.User,
				Body: encode(presenceOf(c.User, guild, c.Status)),
			})
		}
		s.core.send(events...)
	}
}
