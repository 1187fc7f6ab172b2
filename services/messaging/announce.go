package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

var (
	announcedTotal   = metrics.NewCounter(`xcord_messaging_announcements_total{result="said"}`)
	unannouncedTotal = metrics.NewCounter(`xcord_messaging_announcements_total{result="dropped"}`)
)

const (
	// announceEvery is how often announcements are looked for that another process, or one that is gone, has left.
	announceEvery = time.Second
	// announceBatch is how many are said in one go, and announceTimeout how long that may take.
	announceBatch   = 100
	announceTimeout = 10 * time.Second
	// announceTTL is how long it is known which entry a message was said for: above any time for which a row is left behind a crash.
	announceTTL = 24 * time.Hour
)

// announcement is a system message that follows from an entry.
type announcement struct {
	at             bus.Position // of the entry
	kind           wire.MessageType
	guild, channel id.ID // a guild's system channel, or a group
	author, user   id.ID
}

// announcementsOf is what follows from an entry: that somebody joined, came into a group or went.
func announcementsOf(e bus.Entry) []announcement {
	if e.Type == wire.MemberJoined {
		return []announcement{{at: e.Pos, kind: wire.MessageUserJoin, guild: e.Guild, author: e.User}}
	}
	var p wire.DirectChangedPayload
	if err := json.Unmarshal(e.Body, &p); err != nil || p.Direct.Type != wire.ChannelGroupDM || e.Version == 1 {
		return nil
	}
	a := announcement{at: e.Pos, kind: wire.MessageRecipientAdd, channel: e.Channel, author: e.Actor}
	switch {
	case len(p.Came) > 0:
		a.user = p.Came[0]
	case len(p.Went) > 0:
		a.kind, a.user = wire.MessageRecipientRemove, p.Went[0]
	default:
		return nil
	}
	return []announcement{a}
}

// announceLoop says what is to be said. Several processes may do so at once: each row is one's at a time.
func (s *Service) announceLoop(ctx context.Context) error {
	for failed := false; ; {
		t := time.NewTimer(announceEvery + rand.N(announceEvery/4))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-s.hear:
			t.Stop()
		case <-t.C:
		}
		err := s.announceAll(ctx)
		if err != nil && !failed && ctx.Err() == nil { // said once, not with every round of an outage
			slog.Warn("system messages cannot be said and are tried again", "err", err)
		}
		failed = err != nil
	}
}

// announceAll says what has been stored. A crash between saying something and taking its row away says it once more under the same nonce,
// which changes nothing.
func (s *Service) announceAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	for {
		n, err := s.store.takeAnnouncements(ctx, announceBatch, s.announce)
		if err != nil || n < announceBatch {
			return err
		}
	}
}

// announce says one, or nothing when there is nowhere to say it (any more). What is no outage would fail again and stand in everybody's way.
func (s *Service) announce(ctx context.Context, a announcement) error {
	for range roster.FencedTries {
		post, err := s.composeAnnouncement(ctx, a)
		if err == nil && post != nil {
			_, err = s.log.Publish(ctx, *post)
		}
		switch {
		case errors.Is(err, bus.ErrStale):
			continue
		case err == nil && post != nil:
			announcedTotal.Inc()
		case err == nil:
			unannouncedTotal.Inc()
		case fault.From(err).Status != http.StatusServiceUnavailable:
			unannouncedTotal.Inc()
			slog.Error("a system message cannot be said", "entry", a.at.String(), "guild", a.guild.String(), "channel", a.channel.String(), "err", err)
			return nil
		}
		return err
	}
	return fault.Unavailable(bus.ErrStale, time.Second)
}

// composeAnnouncement judges by the read model itself where something is to be said; nil is nowhere.
func (s *Service) composeAnnouncement(ctx context.Context, a announcement) (*bus.Post, error) {
	grant, err := s.venue(ctx, a)
	if err != nil || grant.Channel == nil {
		return nil, err
	}
	users := []id.ID{a.author}
	if a.user != 0 {
		users = append(users, a.user)
	}
	faces, err := s.roster.Users(ctx, users)
	if err != nil {
		return nil, err
	}
	body := wire.MessageBody{Type: a.kind, ChannelID: grant.Channel.ID}
	for _, u := range users[1:] {
		body.Mentions = append(body.Mentions, faces[u])
	}
	raw, err := encode(body)
	if err != nil {
		return nil, err
	}
	member, err := memberOf(grant)
	if err != nil {
		return nil, err
	}
	payload, err := encode(wire.MessageSentPayload{
		Message: raw, Author: roster.UserJSON(faces[a.author]), Member: member, ChannelType: grant.Channel.Type, Mentions: userIDs(body.Mentions),
		Pings: userIDs(body.Mentions),
	})
	return &bus.Post{
		Entry: entryOf(wire.MessageSent, grant, a.author, payload), Fence: grant.Version, Nonce: "a:" + a.at.String(), NonceTTL: announceTTL,
	}, err
}

// venue is where an announcement is made: a guild's system channel, unless it is not to be told who joins, or the group. Its Channel is nil
// when that is nowhere.
func (s *Service) venue(ctx context.Context, a announcement) (roster.Grant, error) {
	if a.guild == 0 {
		found, _, err := s.roster.LookDirects(ctx, []id.ID{a.channel})
		if err != nil || len(found) == 0 || len(found[0].Recipients) == 0 {
			return roster.Grant{}, err
		}
		return roster.Grant{Guild: &roster.Guild{}, Channel: &wire.Channel{ID: a.channel, Type: found[0].Type}, Direct: found[0], Version: found[0].Version}, nil
	}
	state, err := s.roster.LookGuild(ctx, a.guild, a.author)
	if err != nil || state.Guild == nil || state.Guild.Meta.SystemChannelFlags&wire.SuppressJoins != 0 {
		return roster.Grant{}, err
	}
	g := state.Guild
	return roster.Grant{Guild: g, Channel: g.Channels[g.Meta.SystemChannelID], Member: state.Members[a.author], Version: g.Version}, nil
}
