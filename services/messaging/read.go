package messaging

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// ackAhead is how far a message's id may be ahead of this process's clock: ids are made of that of Redis. Nobody can have read
// what is further ahead, and such an ack would stand for ever.
const ackAhead = time.Minute

// ackMessage notes that a user has read a channel up to a message.
func (s *Service) ackMessage(c *rest.Call, in wire.AckMessage) (wire.Acked, error) {
	ack, err := s.ack(c.Context(), c.User(), c.ID("channel"), c.ID("message"))
	if err != nil {
		return wire.Acked{}, err
	}
	if in.Manual { // who marks something as unread has not read it
		ack.Manual, ack.GuildID, ack.To = true, 0, nil
	}
	return wire.Acked{}, s.acks.put(ack)
}

// ackBulk is ackMessage for several channels: all, or none of them.
func (s *Service) ackBulk(c *rest.Call, in wire.BulkAck) (rest.None, error) {
	var acks []wire.Ack
	var wrong []fault.Field
	for i, r := range in.ReadStates {
		if s.isAhead(r.MessageID) {
			wrong = append(wrong, fault.Field{
				Path: "read_states." + strconv.Itoa(i) + ".message_id", Code: fault.FieldMax, Message: "There is no such message yet.",
			})
		}
	}
	if wrong != nil {
		return rest.None{}, fault.Invalid(wrong...)
	}
	for _, r := range in.ReadStates {
		ack, err := s.ack(c.Context(), c.User(), r.ChannelID, r.MessageID)
		if err != nil {
			return rest.None{}, err
		}
		acks = append(acks, ack)
	}
	return rest.None{}, s.acks.put(acks...)
}

func (s *Service) isAhead(message id.ID) bool { return message.Time().After(s.now().Add(ackAhead)) }

// ack judges an ack. The message may be gone by now: it was read all the same.
func (s *Service) ack(ctx context.Context, user, channel, message id.ID) (wire.Ack, error) {
	grant, err := s.roster.Can(ctx, user, channel, perm.ViewChannel)
	if err != nil {
		return wire.Ack{}, err
	}
	if err := mustText(grant.Channel); err != nil {
		return wire.Ack{}, err
	}
	if s.isAhead(message) {
		return wire.Ack{}, fault.New(fault.UnknownMessage)
	}
	ack := wire.Ack{UserID: user, ChannelID: channel, MessageID: message}
	few, err := s.audience.isSmall(ctx, grant)
	switch {
	case !few:
	case grant.Direct != nil:
		ack.To = grant.Direct.Others(user)
	default:
		ack.GuildID = grant.Guild.ID
	}
	return ack, err
}

// receiptsPage is how many receipts are given when no limit is asked for.
const receiptsPage = 100

// listReceipts says who of those that see a channel has read a message in it.
func (s *Service) listReceipts(c *rest.Call, in wire.ListReceipts) ([]wire.Receipt, error) {
	ctx, limit := c.Context(), receiptsPage
	if in.Limit != nil {
		limit = *in.Limit
	}
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.ReadMessageHistory)
	if err != nil {
		return nil, err
	}
	m, err := s.find(ctx, grant.Channel.ID, c.ID("message"))
	if err != nil {
		return nil, err
	}
	out := []wire.Receipt{}
	for after := sane(in.After); len(out) < limit; {
		page, err := s.reads.Receipts(ctx, grant.Channel.ID, m.id, after, limit)
		if err != nil {
			return nil, err
		}
		seeing, err := s.seeing(ctx, grant, page)
		if err != nil {
			return nil, err
		}
		out = append(out, seeing...)
		if len(page) < limit {
			break
		}
		after = page[len(page)-1].UserID
	}
	return out[:min(len(out), limit)], nil
}

// seeing are those receipts whose users see the channel now.
func (s *Service) seeing(ctx context.Context, grant roster.Grant, receipts []wire.Receipt) ([]wire.Receipt, error) {
	if grant.Direct != nil {
		return slices.DeleteFunc(receipts, func(r wire.Receipt) bool { return !grant.Direct.Has(r.UserID) }), nil
	}
	users := make([]id.ID, len(receipts))
	for i, r := range receipts {
		users[i] = r.UserID
	}
	if len(users) == 0 {
		return nil, nil
	}
	state, err := s.roster.LookGuild(ctx, grant.Guild.ID, users...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(receipts, func(r wire.Receipt) bool {
		m := state.Members[r.UserID]
		return m == nil || !state.Guild.Permissions(m, grant.Channel.ID).Has(perm.ViewChannel)
	}), nil
}

const (
	// viewersMax is up to how many viewers of a channel they are told of each other's reading.
	viewersMax = 100
	// countedMax is how large a guild may be for the viewers of a private channel to be counted; in a larger one nobody is told.
	countedMax = 10_000
	// countFresh is how long a count serves, and countsMax how many are kept; of so many guilds the members by which it is counted.
	countFresh = time.Minute
	countsMax  = 4096
	rollsMax   = 8
)

// audience knows for which channels reading is told of. The members of a guild are read once in a while for all of its channels, however many
// ask: they are megabytes. Safe for concurrent use.
type audience struct {
	roster *roster.Roster
	calls  singleflight.Group
	counts *lru.Cache[id.ID, census]
	rolls  *lru.Cache[id.ID, roll]
}

// roll is who is a member of a guild.
type roll struct {
	members []*wire.MemberRecord
	at      time.Time
}

// census is how a channel's viewers were counted.
type census struct {
	small bool
	at    time.Time
}

func newAudience(r *roster.Roster) *audience {
	counts, err1 := lru.New[id.ID, census](countsMax)
	rolls, err2 := lru.New[id.ID, roll](rollsMax)
	if err := errors.Join(err1, err2); err != nil {
		panic("BUG: " + err.Error())
	}
	return &audience{roster: r, counts: counts, rolls: rolls}
}

// isSmall says whether the channel of a grant has at most viewersMax viewers.
func (a *audience) isSmall(ctx context.Context, grant roster.Grant) (bool, error) {
	g, channel := grant.Guild, grant.Channel.ID
	if g.MemberCount <= viewersMax {
		return true, nil
	}
	// What everybody sees has more, but for who is kept out by a role of their own; then the few are told nothing.
	if g.MemberCount > countedMax || g.Permissions(&wire.MemberRecord{}, channel).Has(perm.ViewChannel) {
		return false, nil
	}
	if known, ok := a.counts.Get(channel); ok && time.Since(known.at) < countFresh {
		return known.small, nil
	}
	called, err := a.call(ctx, g)
	if err != nil {
		return false, err
	}
	n := 0
	for _, m := range called.members {
		if g.Permissions(m, channel).Has(perm.ViewChannel) {
			n++
		}
		if n > viewersMax {
			break
		}
	}
	a.counts.Add(channel, census{small: n <= viewersMax, at: called.at})
	return n <= viewersMax, nil
}

// call is the members of a guild as they were a while ago at most.
func (a *audience) call(ctx context.Context, g *roster.Guild) (roll, error) {
	if known, ok := a.rolls.Get(g.ID); ok && time.Since(known.at) < countFresh {
		return known, nil
	}
	v, err, _ := a.calls.Do(g.ID.String(), func() (any, error) {
		now := time.Now()
		members, err := a.roster.Records(context.WithoutCancel(ctx), g) // one reads for all who ask
		if err != nil {
			return nil, err
		}
		called := roll{members: members, at: now}
		a.rolls.Add(g.ID, called)
		return called, nil
	})
	if err != nil {
		return roll{}, err
	}
	return v.(roll), nil
}
