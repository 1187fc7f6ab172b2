package gateway

import (
	"context"
	"slices"

	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// directs says whether direct channels belong to the session's shard: the first one.
func (s shape) directs() bool { return s.shard == nil || s.shard[0] == 0 }

// privates are the direct channels of who begins a session. They are read after it was attached, so they may be newer than the rest: what has
// changed since is told once more.
func (s *Service) privates(ctx context.Context, r *record) ([]wire.PrivateChannel, error) {
	if !r.shape.directs() {
		return nil, nil
	}
	directs, err := s.deps.Roster.DirectsOf(ctx, r.user)
	if err != nil {
		return nil, err
	}
	return s.deps.Roster.Privates(ctx, r.user, directs)
}

// address gives each recipient of a direct channel an event of their own, with the intent that counts there. Whom an entry reaches stands in it, so a view has nothing to say
// about direct channels, and what was sent to somebody who is not in a group any more is theirs all the same.
func address(intent wire.Intents, to []id.ID, events ...*hub.Event) []*hub.Event {
	if len(to) == 0 {
		return events
	}
	out := make([]*hub.Event, 0, len(events)*len(to))
	for _, ev := range events {
		if ev.User != 0 {
			out = append(out, ev)
			continue
		}
		for _, user := range to {
			one := *ev
			one.User, one.Intents = user, intent
			out = append(out, &one)
		}
	}
	return out
}

// expandDirect tells of a direct channel: those for whom it is there from now on or is not any more, and the others of a group what it is like.
func expandDirect(p *wire.DirectChangedPayload) []*hub.Event {
	faces := p.Faces()
	var events []*hub.Event
	tell := func(name string, users ...id.ID) {
		for _, user := range users {
			events = append(events, &hub.Event{
				Name: name, Channel: p.Direct.ID, User: user, Body: encode(p.Direct.For(user, p.LastMessageID, faces)),
			})
		}
	}
	tell("CHANNEL_DELETE", p.Went...)
	tell("CHANNEL_CREATE", p.Came...)
	if p.Direct.Type == wire.ChannelGroupDM {
		for _, user := range p.Direct.Recipients {
			if !slices.Contains(p.Came, user) {
				tell("CHANNEL_UPDATE", user)
			}
		}
	}
	return events
}

// expandTyping makes the events of a signal.
func expandTyping(t wire.TypingSignal) []*hub.Event {
	ev := hub.Event{
		Name: "TYPING_START", Intents: wire.IntentGuildMessageTyping, Guild: t.GuildID, Channel: t.ChannelID, Body: encode(t.TypingStart),
	}
	return address(wire.IntentDirectMessageTyping, t.To, &ev)
}
