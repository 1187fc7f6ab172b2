package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

var (
	pinsChanged     = metrics.NewCounter(`xcord_messaging_pins_total{result="changed"}`)
	pinsSame        = metrics.NewCounter(`xcord_messaging_pins_total{result="same"}`)
	pinsUnannounced = metrics.NewCounter(`xcord_messaging_pins_unannounced_total`)
)

// pinSet is the set of a channel's pins: each message is a kind of its own.
func pinSet(channel id.ID) string { return bus.SetKey("pins", channel) }

// pinMember is the one member of each kind.
const pinMember = "pinned"

// pinMessage pins a message, and says so in the channel.
func (s *Service) pinMessage(c *rest.Call, _ rest.None) (rest.None, error) {
	var pinned bool
	err := s.judged(c, func() (err error) {
		pinned, err = s.tryPin(c, true)
		return err
	})
	if err != nil || !pinned {
		return rest.None{}, err
	}
	if err := s.judged(c, func() error { return s.announcePin(c) }); err != nil {
		// The pin is accepted, and asked for again it would change nothing; so that is not what the caller is told.
		pinsUnannounced.Inc()
		slog.Warn("a pin was not announced", "channel", c.ID("channel").String(), "message", c.ID("message").String(), "err", err)
	}
	return rest.None{}, nil
}

func (s *Service) unpinMessage(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.judged(c, func() error {
		_, err := s.tryPin(c, false)
		return err
	})
}

// tryPin rewrites a message as pinned or not, unless it is like that already.
func (s *Service) tryPin(c *rest.Call, pinned bool) (changes bool, err error) {
	ctx := c.Context()
	asOf, err := s.caughtUp(ctx)
	if err != nil {
		return false, err
	}
	grant, err := s.canPin(ctx, c)
	if err != nil {
		return false, err
	}
	m, err := s.find(ctx, grant.Channel.ID, c.ID("message"))
	if fault.Is(err, fault.UnknownMessage) {
		return false, s.orElsewhere(ctx, grant, c.ID("message"), err)
	}
	if err != nil {
		return false, err
	}
	var body wire.MessageBody
	if err := json.Unmarshal(m.body, &body); err != nil {
		return false, fmt.Errorf("message %s: %w", m.id, err)
	}
	if !body.Type.Written() {
		return false, fault.New(fault.SystemMessage)
	}
	body.Pinned = pinned
	update, err := s.updateOf(ctx, grant, m, body)
	if err != nil {
		return false, err
	}
	p := wire.PinsUpdatedPayload{MessageUpdatedPayload: update, Pinned: pinned}
	set := bus.SetChange{Key: pinSet(grant.Channel.ID), Change: bus.SetAdd, Kind: m.id.String(), Member: pinMember, KindsMax: wire.PinsMax}
	if !pinned {
		set.Change = bus.SetRemove
		if p.LastPin, err = s.lastPinBut(ctx, grant.Channel.ID, m.id); err != nil {
			return false, err
		}
	}
	payload, err := encode(p)
	if err == nil {
		payload, err = wire.WithAudit(payload, pinNotes(c, grant, m, pinned))
	}
	if err != nil {
		return false, err
	}
	post := bus.Post{
		Entry: entryOf(wire.PinsUpdated, grant, c.User(), payload), Fence: grant.Version, Changes: []id.ID{m.id},
		Rewrites: m.id, AsOf: asOf, Set: &set,
	}
	_, changes, err = s.decide(ctx, post, func() ([]bus.SetMember, error) { return s.pinMembers(ctx, grant.Channel.ID) })
	switch {
	case errors.Is(err, bus.ErrFull):
		return false, fault.Wrap(fault.MaxPins, err)
	case err != nil:
		return false, err
	case changes:
		pinsChanged.Inc()
	default:
		pinsSame.Inc()
	}
	return changes, nil
}

// pinNotes are for the audit log, which is written by who owns it, from the entry; a direct channel has none.
func pinNotes(c *rest.Call, grant roster.Grant, m found, pinned bool) []wire.AuditNote {
	if grant.Direct != nil {
		return nil
	}
	action := wire.AuditMessageUnpin
	if pinned {
		action = wire.AuditMessagePin
	}
	return []wire.AuditNote{{Action: action, Actor: c.User(), Target: m.author, Reason: c.Reason(),
		Options: map[string]string{"channel_id": grant.Channel.ID.String(), "message_id": m.id.String()}}}
}

// canPin asks for either of the two permissions that let somebody pin: the older one is what it was split from.
func (s *Service) canPin(ctx context.Context, c *rest.Call) (roster.Grant, error) {
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.PinMessages)
	if fault.Is(err, fault.MissingPermissions) {
		grant, err = s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.ManageMessages)
	}
	if err != nil {
		return roster.Grant{}, err
	}
	return grant, mustText(grant.Channel)
}

// orElsewhere is 50019 instead of otherwise when the message is in another channel of the guild that the caller sees.
func (s *Service) orElsewhere(ctx context.Context, grant roster.Grant, message id.ID, otherwise error) error {
	var others []id.ID
	for channel := range grant.Guild.Channels {
		if channel != grant.Channel.ID && grant.Guild.Permissions(grant.Member, channel).Has(perm.ViewChannel) {
			others = append(others, channel)
		}
	}
	is := false
	for _, channel := range others {
		if _, deleted, known := s.overlay.look(channel, message); known {
			is = !deleted
		}
	}
	if !is {
		var err error
		if is, err = s.store.isIn(ctx, others, message); err != nil {
			return err
		}
	}
	if is {
		return fault.New(fault.PinInWrongChannel)
	}
	return otherwise
}

// updateOf is a message that is rewritten by somebody, its author or not, as clients are told it.
func (s *Service) updateOf(ctx context.Context, grant roster.Grant, m found, body wire.MessageBody) (wire.MessageUpdatedPayload, error) {
	p := wire.MessageUpdatedPayload{MessageID: m.id, ChannelType: grant.Channel.Type, Mentions: userIDs(body.Mentions)}
	authors, err := s.roster.Users(ctx, []id.ID{m.author})
	if err != nil {
		return p, err
	}
	p.Author = roster.UserJSON(authors[m.author])
	if body.Type == wire.MessageReply {
		if err := s.referAll(ctx, grant.Channel.ID, []*wire.MessageBody{&body}); err != nil {
			return p, err
		}
	}
	if p.Message, err = encode(body); err != nil || grant.Guild.ID == 0 {
		return p, err
	}
	member, err := s.roster.Member(ctx, grant.Guild.ID, m.author)
	if fault.Is(err, fault.UnknownMember) {
		return p, nil // who has left is no member any more
	}
	if err != nil {
		return p, err
	}
	p.Member, err = encode(member.MemberFields)
	return p, err
}

// pins is what is pinned in a channel, the latest first, deleted messages among it. The caller has caught up.
func (s *Service) pins(ctx context.Context, channel id.ID) (pins []pin, err error) {
	err = s.steady(func() error {
		changes := s.overlay.pins(channel)
		if err := s.mustRemember(s.overlay.checkpoint()); err != nil {
			return err
		}
		dead, err := s.graves.view(ctx)
		if err != nil {
			return err
		}
		rows, err := s.store.pins(ctx, channel)
		pins = pinned(rows, dead.pins(channel), changes)
		return err
	})
	return pins, err
}

// pinMembers are a channel's pins, as its set has them.
func (s *Service) pinMembers(ctx context.Context, channel id.ID) ([]bus.SetMember, error) {
	pins, messages, err := s.pinnedMessages(ctx, channel)
	if err != nil {
		return nil, err
	}
	var members []bus.SetMember
	for _, p := range pins {
		if _, ok := messages[p.message]; ok {
			members = append(members, bus.SetMember{Kind: p.message.String(), Member: pinMember})
		}
	}
	return members, nil
}

// pinnedMessages are a channel's pins, the latest first, and those of their messages that there are.
func (s *Service) pinnedMessages(ctx context.Context, channel id.ID) ([]pin, map[id.ID]found, error) {
	pins, err := s.pins(ctx, channel)
	if err != nil || len(pins) == 0 {
		return nil, nil, err
	}
	ids := make([]id.ID, len(pins))
	for i, p := range pins {
		ids[i] = p.message
	}
	there, err := s.findAll(ctx, channel, ids)
	messages := make(map[id.ID]found, len(there))
	for _, m := range there {
		messages[m.id] = m
	}
	return pins, messages, err
}

// lastPinBut is when the latest pin was, but for one message's. Of two changes at once it may tell what was before the other.
func (s *Service) lastPinBut(ctx context.Context, channel, message id.ID) (wire.Time, error) {
	pins, there, err := s.pinnedMessages(ctx, channel)
	if err != nil {
		return 0, err
	}
	for _, p := range pins {
		if _, ok := there[p.message]; ok && p.message != message {
			return wire.Time(p.place.Ms()), nil
		}
	}
	return 0, nil
}

// announcePin says in the caller's name that a message was pinned.
func (s *Service) announcePin(c *rest.Call) error {
	ctx := c.Context()
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel)
	if err != nil {
		return err
	}
	author, err := s.roster.User(ctx, c.User())
	if err != nil {
		return err
	}
	_, err = s.publishCreate(ctx, grant, author, wire.MessageBody{
		Type: wire.MessagePinned, ChannelID: grant.Channel.ID,
		Reference: &wire.MessageReference{ChannelID: grant.Channel.ID, MessageID: c.ID("message"), GuildID: grant.Guild.ID},
	}, wire.CreateMessage{}, new(brought))
	return err
}

// listPins is a page of what is pinned, the latest pin first.
func (s *Service) listPins(c *rest.Call, in wire.ListPins) (wire.PinnedMessages, error) {
	before, err := pinsBefore(in)
	if err != nil {
		return wire.PinnedMessages{}, err
	}
	limit := wire.PinsPageMax
	if in.Limit != nil {
		limit = *in.Limit
	}
	pins, messages, more, err := s.pinPage(c, before, limit)
	if err != nil || len(messages) == 0 {
		return wire.PinnedMessages{}, err
	}
	r, err := s.renderer(c.Context(), c.User(), c.ID("channel"), messages)
	if err != nil {
		return wire.PinnedMessages{}, err
	}
	out := wire.PinnedMessages{HasMore: more}
	for i, m := range messages {
		message, err := r.append(nil, m)
		if err != nil {
			return wire.PinnedMessages{}, err
		}
		out.Items = append(out.Items, wire.PinnedMessage{PinnedAt: wire.Time(pins[i].place.Ms()), Message: s.links.Show(message)})
	}
	return out, nil
}

// listPinsPlainly is the older form: the messages of the first page.
func (s *Service) listPinsPlainly(c *rest.Call, _ rest.None) (rest.Raw, error) {
	_, messages, _, err := s.pinPage(c, 0, wire.PinsPageMax)
	if err != nil {
		return nil, err
	}
	return s.render(c.Context(), c.User(), c.ID("channel"), messages)
}

func pinsBefore(in wire.ListPins) (wire.Time, error) {
	if in.Before == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339Nano, in.Before)
	if err != nil {
		return 0, fault.Invalid(fault.Field{Path: "before", Code: fault.FieldCoerce, Message: "Value must be an ISO 8601 timestamp."})
	}
	return wire.At(at), nil
}

// pinPage is pins from before a time, 0 for all, and the message of each; more is whether there are others behind them. Without the history there
// is nothing.
func (s *Service) pinPage(c *rest.Call, before wire.Time, limit int) (pins []pin, messages []found, more bool, err error) {
	ctx := c.Context()
	if err := s.catchUp(ctx); err != nil {
		return nil, nil, false, err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel)
	if err != nil {
		return nil, nil, false, err
	}
	if err := mustText(grant.Channel); err != nil || !grant.Perms.Has(perm.ReadMessageHistory) {
		return nil, nil, false, err
	}
	all, there, err := s.pinnedMessages(ctx, grant.Channel.ID)
	if err != nil {
		return nil, nil, false, err
	}
	for _, p := range all {
		m, ok := there[p.message]
		if !ok || before != 0 && wire.Time(p.place.Ms()) >= before {
			continue
		}
		if len(messages) == limit {
			return pins, messages, true, nil
		}
		pins, messages = append(pins, p), append(messages, m)
	}
	return pins, messages, false, nil
}
