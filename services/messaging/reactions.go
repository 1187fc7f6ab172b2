package messaging

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

var (
	reactionsChanged = metrics.NewCounter(`xcord_messaging_reactions_total{result="changed"}`)
	reactionsSame    = metrics.NewCounter(`xcord_messaging_reactions_total{result="same"}`)
	setLoads         = metrics.NewCounter(`xcord_messaging_set_loads_total`)
)

// reactionSet is the set of a message's reactions: emoji are its kinds, and users its members.
func reactionSet(message id.ID) string { return bus.SetKey("reactions", message) }

// addReaction adds the caller's reaction. An emoji that nobody has used there yet needs a permission of its own.
func (s *Service) addReaction(c *rest.Call, _ rest.None) (rest.None, error) {
	return s.react(c, wire.ReactionAdded, bus.SetAdd, c.User(), perm.ReadMessageHistory)
}

func (s *Service) removeOwnReaction(c *rest.Call, _ rest.None) (rest.None, error) {
	return s.react(c, wire.ReactionRemoved, bus.SetRemove, c.User(), 0)
}

func (s *Service) removeReaction(c *rest.Call, _ rest.None) (rest.None, error) {
	if c.ID("user") == c.User() {
		return s.removeOwnReaction(c, rest.None{})
	}
	return s.react(c, wire.ReactionRemoved, bus.SetRemove, c.ID("user"), perm.ManageMessages)
}

func (s *Service) clearEmoji(c *rest.Call, _ rest.None) (rest.None, error) {
	return s.react(c, wire.ReactionsCleared, bus.SetClear, 0, perm.ManageMessages)
}

func (s *Service) clearReactions(c *rest.Call, _ rest.None) (rest.None, error) {
	change := reacting{event: wire.ReactionsCleared, change: bus.SetClear, need: perm.ManageMessages}
	return rest.None{}, s.judged(c, func() error { return s.tryReact(c, change) })
}

// reacting is a change of reactions that somebody asks for.
type reacting struct {
	event  wire.EventType
	change bus.Change
	emoji  string // of a clear of all ""
	user   id.ID
	need   perm.Bits
}

func (s *Service) react(c *rest.Call, event wire.EventType, change bus.Change, user id.ID, need perm.Bits) (rest.None, error) {
	emoji, err := emojiIn(c)
	if err != nil {
		return rest.None{}, err
	}
	r := reacting{event: event, change: change, emoji: emoji, user: user, need: need}
	return rest.None{}, s.judged(c, func() error { return s.tryReact(c, r) })
}

// emojiIn is the emoji of the path. Guilds have none of their own.
func emojiIn(c *rest.Call) (string, error) {
	emoji, ok := wire.FullEmoji(c.Param("emoji"))
	if !ok {
		return "", fault.New(fault.UnknownEmoji)
	}
	return emoji, nil
}

// judgedTries is how often something is judged again because others change the same message, after judgedPause, twice that, and so on, and up to
// as much more.
const (
	judgedTries = 20
	judgedPause = time.Millisecond
)

// judged runs do, which judges and publishes, until neither the guild nor the message has moved in between.
func (s *Service) judged(c *rest.Call, do func() error) error {
	return settled(c.Context(), func() error { return s.roster.Fenced(c.Context(), c.ID("channel"), do) })
}

// settled runs do, which is fenced, until nobody else has rewritten the message meanwhile.
func settled(ctx context.Context, do func() error) error {
	for try := range judgedTries {
		err := do()
		if !errors.Is(err, bus.ErrMoved) {
			return gone(err)
		}
		pause := time.Duration(try+1) * judgedPause
		select {
		case <-ctx.Done():
			return fault.Unavailable(ctx.Err(), time.Second)
		case <-time.After(pause + rand.N(pause)):
		}
	}
	return fault.Unavailable(fmt.Errorf("the message was rewritten by others %d times: %w", judgedTries, bus.ErrMoved), time.Second)
}

func (s *Service) tryReact(c *rest.Call, r reacting) error {
	ctx := c.Context()
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|r.need)
	if err != nil {
		return err
	}
	m, err := s.find(ctx, grant.Channel.ID, c.ID("message"))
	if err != nil {
		return err
	}
	p := wire.ReactionPayload{MessageID: m.id, Emoji: r.emoji, UserID: r.user, AuthorID: m.author}
	set := bus.SetChange{Key: reactionSet(m.id), Change: r.change, Kind: r.emoji}
	if r.user != 0 {
		set.Member = r.user.String()
	}
	if r.change == bus.SetAdd {
		face, err := s.roster.User(ctx, r.user)
		if err != nil {
			return err
		}
		if grant.Member != nil {
			member := grant.Member.Member(face)
			p.Member = &member
		}
		if grant.Perms.Has(perm.AddReactions) {
			set.KindsMax = wire.ReactionsMax
		}
	}
	payload, err := encode(p)
	if err != nil {
		return err
	}
	post := bus.Post{
		Entry: entryOf(r.event, grant, c.User(), payload), Fence: grant.Version, Changes: []id.ID{m.id}, Set: &set,
	}
	_, changes, err := s.decide(ctx, post, func() ([]bus.SetMember, error) { return s.reactors(ctx, grant.Channel.ID, m) })
	switch {
	case errors.Is(err, bus.ErrNewKind):
		return fault.Wrap(fault.MissingPermissions, err)
	case errors.Is(err, bus.ErrFull):
		return fault.Wrap(fault.MaxReactions, err)
	case err != nil:
		return err
	case changes:
		reactionsChanged.Inc()
	default:
		reactionsSame.Inc()
	}
	return nil
}

// decide publishes what a set decides, which it loads when nobody has: read says what is in it. changes is false when it is like that
// already, and nothing is published.
func (s *Service) decide(ctx context.Context, post bus.Post, read func() ([]bus.SetMember, error)) (_ bus.Receipt, changes bool, err error) {
	for range judgedTries {
		receipt, err := s.log.Publish(ctx, post)
		unloaded, isUnloaded := errors.AsType[*bus.UnloadedError](err)
		switch {
		case errors.Is(err, bus.ErrSame):
			return bus.Receipt{}, false, nil
		case !isUnloaded:
			return receipt, err == nil, err
		}
		if err := s.catchUp(ctx); err != nil {
			return bus.Receipt{}, false, err
		}
		members, err := read()
		if err != nil {
			return bus.Receipt{}, false, err
		}
		if err := s.log.LoadSet(ctx, post.Set.Key, unloaded.Ticket, members); err != nil {
			return bus.Receipt{}, false, err
		}
		setLoads.Inc()
	}
	return bus.Receipt{}, false, fault.Unavailable(fmt.Errorf("%s was forgotten %d times while it was loaded", post.Set.Key, judgedTries), time.Second)
}

// reactors are all reactions under a message, as its set has them. The caller has caught up.
func (s *Service) reactors(ctx context.Context, channel id.ID, m found) ([]bus.SetMember, error) {
	t, err := s.tallyOf(ctx, channel, m)
	if err != nil {
		return nil, err
	}
	var members []bus.SetMember
	for _, r := range t.there() {
		members = append(members, bus.SetMember{Kind: r.emoji, Member: r.user.String()})
	}
	return members, nil
}

// listReactions is who has reacted with an emoji, by rising id.
func (s *Service) listReactions(c *rest.Call, in wire.ListReactions) (wire.List[wire.User], error) {
	emoji, err := emojiIn(c)
	if err != nil {
		return nil, err
	}
	ctx := c.Context()
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.ReadMessageHistory)
	if err != nil {
		return nil, err
	}
	m, err := s.find(ctx, grant.Channel.ID, c.ID("message"))
	if err != nil || in.Type == wire.ReactionBurst {
		return nil, err
	}
	limit := wire.ReactionsPage
	if in.Limit != nil {
		limit = *in.Limit
	}
	t, err := s.tallyOf(ctx, grant.Channel.ID, m)
	if err != nil {
		return nil, err
	}
	users := t.users(emoji, in.After)
	users = users[:min(limit, len(users))]
	faces, err := s.roster.Users(ctx, users)
	if err != nil {
		return nil, err
	}
	out := make(wire.List[wire.User], len(users))
	for i, u := range users {
		out[i] = faces[u]
	}
	return out, nil
}

// tallyOf is all that is known of the reactions under one message. The caller has caught up.
func (s *Service) tallyOf(ctx context.Context, channel id.ID, m found) (t tally, err error) {
	err = s.steady(func() error {
		changes, older, err := s.reactionChanges(ctx, channel, []found{m})
		if err != nil || len(older) == 0 { // above the checkpoint there are no rows, and Postgres may be away
			t = newTally(changes[m.id])
			return err
		}
		_, rows, err := s.store.reactions(ctx, nil, []id.ID{m.id}, 0)
		t = newTally(rows[m.id], changes[m.id])
		return err
	})
	return t, err
}

// reactions is the reactions under messages of a channel, as a reader is told them. The caller has caught up.
func (s *Service) reactions(ctx context.Context, channel, reader id.ID, messages []found) (out map[id.ID][]wire.Reaction, err error) {
	err = s.steady(func() error {
		changes, older, err := s.reactionChanges(ctx, channel, messages)
		if err != nil {
			return err
		}
		var quiet, busy []id.ID
		for _, m := range older {
			if len(changes[m]) > 0 {
				busy = append(busy, m)
			} else {
				quiet = append(quiet, m)
			}
		}
		var rows map[id.ID][]reaction
		out = map[id.ID][]wire.Reaction{}
		if len(older) > 0 {
			if out, rows, err = s.store.reactions(ctx, quiet, busy, reader); err != nil {
				return err
			}
		}
		for message, some := range changes {
			if len(some) > 0 {
				out[message] = newTally(rows[message], some).counts(reader)
			}
		}
		return nil
	})
	return out, err
}

// reactionChanges is what is above the rows: the overlay's changes and the dead letters', asked for in this order and before the rows, so that
// what goes from one to the next meanwhile is seen at least once. older are the messages that may have rows.
func (s *Service) reactionChanges(ctx context.Context, channel id.ID, messages []found) (changes map[id.ID][]reaction, older []id.ID, err error) {
	changes, older = s.overlay.reactions(channel, messages)
	if len(older) == 0 {
		return changes, nil, nil
	}
	if err := s.mustRemember(s.overlay.checkpoint()); err != nil {
		return nil, nil, err
	}
	dead, err := s.graves.view(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range older {
		if some := dead.reactions(channel, m); len(some) > 0 {
			changes[m] = append(changes[m], some...)
		}
	}
	return changes, older, nil
}

// steady runs a read of the overlay, again when that was begun anew meanwhile.
func (s *Service) steady(read func() error) error {
	for range pageTries {
		resets, err := s.whole()
		if err != nil {
			return err
		}
		err = read()
		if now, _ := s.overlay.state(); now == resets {
			return err
		}
		readRetries.Inc()
	}
	return fault.Unavailable(fmt.Errorf("the overlay was begun anew %d times during a read", pageTries), time.Second)
}
