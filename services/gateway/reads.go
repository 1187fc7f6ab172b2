package gateway

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/wire"
)

var readErrors = metrics.NewCounter(`xcord_gateway_read_state_errors_total`)

// addOwn adds to READY what the user alone is told, as of where the session was attached. A session begins also when that cannot be
// read: it is partial then.
func (s *Service) addOwn(ctx context.Context, ready *wire.Ready, at arrival) {
	version := int64(at.pos.Ms)
	own := reads.Own{States: wire.ReadState{Partial: true, Version: version}, Settings: wire.UserGuildSettings{Partial: true, Version: version}}
	if s.deps.Reads != nil {
		guilds := make([]reads.Guild, 0, len(at.order))
		for _, see := range at.all() {
			guilds = append(guilds, reads.Guild{ID: see.guild.ID, Joined: see.member.JoinedAt, Roles: see.member.Roles})
		}
		var err error
		if own, err = s.deps.Reads.Own(ctx, at.view.User, guilds, at.seesWith(ready.PrivateChannels), at.pos); err != nil {
			readErrors.Inc()
			slog.Warn("a session begins without read states", "user", at.view.User.String(), "err", err)
		}
	}
	ready.ReadState, ready.UserGuildSettings = &own.States, &own.Settings
}

// seesWith says whether a channel is in the view, or among direct ones.
func (a arrival) seesWith(directs []wire.PrivateChannel) func(channel id.ID) bool {
	direct := make(map[id.ID]bool, len(directs))
	for _, c := range directs {
		direct[c.ID] = true
	}
	return func(channel id.ID) bool {
		for _, class := range a.view.Guilds {
			if class.Sees(channel) {
				return true
			}
		}
		return direct[channel]
	}
}

// lasts are the last messages of the channels of guilds, as far as they can be read.
func (s *Service) lasts(ctx context.Context, guilds []id.ID) map[id.ID]id.ID {
	if s.deps.Reads == nil {
		return nil
	}
	lasts, err := s.deps.Reads.Lasts(ctx, guilds)
	if err != nil {
		readErrors.Inc()
		slog.Warn("guilds are told without the last messages of their channels", "guilds", len(guilds), "err", err)
	}
	return lasts
}

// readEvery is how often it is told at most who has read a channel.
const readEvery = time.Second

// receipts are MESSAGE_READ, told at most once in readEvery for a channel: of several readers, the first and then the latest. Safe for
// concurrent use.
type receipts struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows
	told    map[id.ID]time.Time
	waiting map[id.ID]wire.Ack
}

func newReceipts(now func() time.Time) *receipts {
	return &receipts{now: now, told: map[id.ID]time.Time{}, waiting: map[id.ID]wire.Ack{}}
}

// due are those of some acks that are told now.
func (r *receipts) due(acks []wire.Ack) (events []*hub.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, a := range acks {
		switch {
		case a.GuildID == 0 && len(a.To) == 0:
		case now.Sub(r.told[a.ChannelID]) < readEvery:
			r.waiting[a.ChannelID] = a
		default:
			events = append(events, readEvents(a)...)
			r.told[a.ChannelID] = now
			delete(r.waiting, a.ChannelID)
		}
	}
	return events
}

// late are those that have waited, and forgets what is over.
func (r *receipts) late() (events []*hub.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for channel, a := range r.waiting {
		if now.Sub(r.told[channel]) >= readEvery {
			events = append(events, readEvents(a)...)
			r.told[channel] = now
			delete(r.waiting, channel)
		}
	}
	maps.DeleteFunc(r.told, func(_ id.ID, at time.Time) bool { return now.Sub(at) >= readEvery })
	return events
}

func readEvents(a wire.Ack) []*hub.Event {
	ev := hub.Event{
		Name: "MESSAGE_READ", Intents: wire.IntentMessageRead, Guild: a.GuildID, Channel: a.ChannelID, Except: a.UserID,
		Body: encode(wire.MessageRead{ChannelID: a.ChannelID, UserID: a.UserID, MessageID: a.MessageID}),
	}
	return address(ev.Intents, a.To, &ev)
}

// tellReads tells those who see a channel who has read it.
func (s *Service) tellReads(e bus.Entry) {
	p, err := payload[wire.MessageReadPayload](e)
	if err != nil {
		return // that was told of when its acks were
	}
	s.core.send(s.receipts.due(p.Acks)...)
}
