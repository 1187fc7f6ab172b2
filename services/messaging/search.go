package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

var searchSeconds = metrics.NewPrometheusHistogram(`xcord_search_seconds`)

// searchesMax is how many searches one process has under way at once: they must not take the connections of everybody else's reads.
const searchesMax = 4

// searchMessages finds messages of a guild in the channels whose history the caller may read. The index says which messages to look at,
// and they are read as in any history: what was deleted or changed since it was indexed is not shown.
func (s *Service) searchMessages(c *rest.Call, in wire.SearchMessages) (rest.Raw, error) {
	ctx, user, guild := c.Context(), c.User(), c.ID("guild")
	if err := s.catchUp(ctx); err != nil { // so that permissions are those of now as well
		return nil, err
	}
	channels, err := s.readable(ctx, user, guild)
	if err != nil {
		return nil, err
	}
	q := searchOf(in)
	q.guild, q.channels = guild, channels
	if len(in.ChannelIDs) > 0 {
		q.channels = slices.DeleteFunc(channels, func(c id.ID) bool { return !slices.Contains(in.ChannelIDs, c) })
	}
	hits, total, err := s.hits(ctx, q)
	if err != nil {
		return nil, err
	}
	messages, err := s.present(ctx, hits)
	if err != nil {
		return nil, err
	}
	if channels, err = s.readable(ctx, user, guild); err != nil { // one may have been hidden meanwhile
		return nil, err
	}
	messages = slices.DeleteFunc(messages, func(m match) bool { return !slices.Contains(channels, m.channel) })
	return s.results(ctx, user, messages, total)
}

// readable are the channels of a guild in which a user may read the history.
func (s *Service) readable(ctx context.Context, user, guild id.ID) (channels []id.ID, err error) {
	grant, err := s.roster.CanGuild(ctx, user, guild, 0)
	if err != nil {
		return nil, err
	}
	for channel := range grant.Guild.Channels {
		if grant.Guild.Permissions(grant.Member, channel).Has(perm.ViewChannel | perm.ReadMessageHistory) {
			channels = append(channels, channel)
		}
	}
	return channels, nil
}

// The bits of message_search.has. Nothing has what is left out for now.
var hasBits = map[string]int{
	"link": 1, "embed": 2, "file": 4, "image": 8, "video": 16, "sound": 32, "sticker": 1 << 28, "poll": 1 << 29, "snapshot": 1 << 30,
}

const (
	hasPinned   = 64
	hasEveryone = 128
)

// searchOf is what a query looks for.
func searchOf(in wire.SearchMessages) search {
	q := search{
		words: strings.TrimSpace(in.Content), authors: in.AuthorIDs, mentions: in.Mentions, roles: in.MentionRoles,
		above: max(in.MinID, in.After), below: in.MaxID, isAscending: in.SortOrder == "asc",
		offset: in.Offset, limit: wire.SearchPage,
	}
	q.byRelevance = in.SortBy == "relevance" && q.words != ""
	if in.Limit != nil {
		q.limit = *in.Limit
	}
	if in.Before != 0 && (q.below == 0 || in.Before < q.below) {
		q.below = in.Before
	}
	want := func(bit int, is bool) {
		if is {
			q.has |= bit
		} else {
			q.hasNot |= bit
		}
	}
	for _, what := range in.Has {
		what, isNot := strings.CutPrefix(what, "-")
		want(hasBits[what], !isNot)
	}
	if in.Pinned != nil {
		want(hasPinned, *in.Pinned)
	}
	if in.MentionEveryone != nil {
		want(hasEveryone, *in.MentionEveryone)
	}
	return q
}

// hits asks the index, when it is this search's turn.
func (s *Service) hits(ctx context.Context, q search) (hits []hit, total int, err error) {
	if len(q.channels) == 0 {
		return nil, 0, nil
	}
	turn, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	select {
	case s.searches <- struct{}{}:
	case <-turn.Done():
		return nil, 0, fault.Unavailable(turn.Err(), time.Second)
	}
	defer func() { <-s.searches }()
	start := time.Now()
	hits, total, err = s.store.search(ctx, q)
	searchSeconds.UpdateDuration(start)
	return hits, total, err
}

// match is a hit as it is now.
type match struct {
	found
	channel id.ID
}

// present reads hits, in their order. Those that are gone or were changed since they were indexed are left out.
func (s *Service) present(ctx context.Context, hits []hit) (messages []match, err error) {
	byChannel, now := map[id.ID][]id.ID{}, map[id.ID]found{}
	for _, h := range hits {
		byChannel[h.channel] = append(byChannel[h.channel], h.id)
	}
	for channel, ids := range byChannel {
		there, err := s.findAll(ctx, channel, ids)
		if err != nil {
			return nil, err
		}
		for _, m := range there {
			now[m.id] = m
		}
	}
	for _, h := range hits {
		if m, ok := now[h.id]; ok && m.version() == h.edited {
			messages = append(messages, match{m, h.channel})
		}
	}
	return messages, nil
}

// version is the place of a message's latest edit, 0 before the first.
func (m found) version() id.ID {
	if m.at.IsZero() {
		return m.edited
	}
	if at := bus.MessageID(m.at); at != m.id {
		return at
	}
	return 0
}

// results writes wire.SearchResults.
func (s *Service) results(ctx context.Context, reader id.ID, messages []match, total int) (rest.Raw, error) {
	byChannel, written := map[id.ID][]found{}, map[id.ID]json.RawMessage{}
	for _, m := range messages {
		byChannel[m.channel] = append(byChannel[m.channel], m.found)
	}
	for channel, there := range byChannel {
		raw, err := s.render(ctx, reader, channel, there)
		if err != nil {
			return nil, err
		}
		var each []json.RawMessage
		if err := json.Unmarshal(raw, &each); err != nil {
			return nil, fmt.Errorf("split a page: %w", err)
		}
		for i, m := range there {
			written[m.id] = each[i]
		}
	}
	out := rest.Raw(`{"messages":[`)
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		one := written[m.id]
		out = append(append(out, '['), one[:len(one)-len("}")]...)
		out = append(out, `,"hit":true}]`...)
	}
	out = append(out, `],"doing_deep_historical_index":false,"total_results":`...)
	return append(strconv.AppendInt(out, int64(total), 10), '}'), nil
}
