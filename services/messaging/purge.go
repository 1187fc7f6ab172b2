package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

var (
	purgesTotal     = metrics.NewCounter(`xcord_messaging_purges_total`)
	purgedMessages  = metrics.NewCounter(`xcord_messaging_purged_messages_total{how="deleted"}`)
	purgedRows      = metrics.NewCounter(`xcord_messaging_purged_messages_total{how="rows"}`)
	purgesPostponed = metrics.NewCounter(`xcord_messaging_purges_postponed_total`)
)

const (
	// purgeEvery is how often it is looked for what other processes were told, or a crash has left undone.
	purgeEvery = 30 * time.Second
	// purgeTimeout is for one step: a bulk delete, or a batch of rows.
	purgeTimeout = 10 * time.Second
	// purgeScan is how many rows of a channel are looked through at once for those of an author.
	purgeScan = 5000
	// purgeRows is how many rows of a deleted channel go at once.
	purgeRows = 1000
)

// purge is many messages that are to be deleted. Those of one author, who was banned, are deleted as moderators delete: by entries of the
// log. Those of a deleted channel are rows that nobody can see any more.
type purge struct {
	guild, channel, author id.ID // channel 0: all of the guild's; author 0: everybody
	since, until           id.ID
	actor                  id.ID
}

// purgesOf are the purges that an entry asks for.
func purgesOf(e bus.Entry) ([]purge, error) {
	switch e.Type {
	case wire.ChannelDeleted, wire.ServerDeleted:
		var p struct {
			wire.ChannelDeletedPayload
			wire.ServerDeletedPayload
		}
		if err := json.Unmarshal(e.Body, &p); err != nil {
			return nil, &malformed{e.Pos, err}
		}
		var out []purge
		for _, channel := range append(p.Channels, p.ChannelID) {
			if channel != 0 {
				out = append(out, purge{guild: e.Guild, channel: channel})
			}
		}
		return out, nil
	case wire.MemberRemoved, wire.BanAdded:
		var p struct {
			Since id.ID `json:"purge_since"`
		}
		if err := json.Unmarshal(e.Body, &p); err != nil {
			return nil, &malformed{e.Pos, err}
		}
		if p.Since == 0 {
			return nil, nil
		}
		place, ok := idOf(e.Pos)
		if !ok {
			return nil, &malformed{e.Pos, errors.New("no place")}
		}
		return []purge{{guild: e.Guild, author: e.User, since: p.Since, until: place, actor: e.Actor}}, nil
	}
	return nil, nil
}

// purgeLoop does what there is to purge. Several processes may do the same at once: each message is deleted once.
func (s *Service) purgeLoop(ctx context.Context) error {
	for pause := rand.N(time.Second); ; pause = purgeEvery/2 + rand.N(purgeEvery) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.writer.purges:
			timer.Stop()
		case <-timer.C:
		}
		if err := s.purgeAll(ctx); err != nil && ctx.Err() == nil {
			purgesPostponed.Inc()
			slog.Warn("messages cannot be purged, which is tried again", "err", err)
		}
	}
}

func (s *Service) purgeAll(ctx context.Context) error {
	todo, err := s.store.purges(ctx)
	for _, p := range todo {
		do := s.purgeAuthor
		if p.author == 0 {
			do = s.purgeChannel
		}
		failed := do(ctx, p)
		if failed == nil {
			failed = s.store.purged(ctx, p)
		}
		if failed == nil {
			purgesTotal.Inc()
		}
		err = errors.Join(err, failed)
	}
	return err
}

// purgeChannel deletes the rows of a channel that is gone, and what was read in it.
func (s *Service) purgeChannel(ctx context.Context, p purge) error {
	for {
		n, err := s.store.deleteRows(ctx, p.channel, purgeRows)
		if err != nil {
			return err
		}
		purgedRows.Add(int(n))
		if n < purgeRows {
			return s.reads.Forget(ctx, p.channel)
		}
	}
}

// purgeAuthor deletes what somebody wrote in a guild's channels.
func (s *Service) purgeAuthor(ctx context.Context, p purge) error {
	g, err := s.roster.Guild(ctx, p.guild)
	if fault.Is(err, fault.UnknownGuild) {
		return nil // its channels are purged as a whole
	}
	if err != nil {
		return err
	}
	for channel, c := range g.Channels {
		if !c.Type.Texts() {
			continue
		}
		for from := p.since; from < p.until; {
			messages, next, err := s.store.authored(ctx, channel, p.author, from, p.until, purgeScan)
			if err != nil {
				return err
			}
			for chunk := range slices.Chunk(messages, wire.BulkDeleteMax) {
				if err := s.purgeMessages(ctx, p, channel, chunk); err != nil {
					return err
				}
			}
			from = next
		}
	}
	return nil
}

// purgeMessages is a bulk delete of what is still there of some messages. No permission is asked: who banned had it.
func (s *Service) purgeMessages(ctx context.Context, p purge, channel id.ID, messages []id.ID) error {
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	for range bulkTries {
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		there, err := s.findAll(ctx, channel, messages)
		if err != nil || len(there) == 0 {
			return err
		}
		ids := idsOf(there)
		payload, err := encode(wire.MessageDeletedPayload{IDs: ids})
		if err != nil {
			return err
		}
		_, err = s.log.Publish(ctx, bus.Post{
			Entry:   bus.Entry{Type: wire.MessageDeleted, Actor: p.actor, Guild: p.guild, Channel: channel, Body: payload},
			Changes: ids, Deletes: ids, Forgets: setsOf(channel, ids),
		})
		if err == nil {
			purgedMessages.Add(len(ids))
		}
		if !errors.Is(err, bus.ErrGone) {
			return err
		}
	}
	return fmt.Errorf("purge %d messages of %s: others delete from among them", len(messages), p.author)
}
