// Package reads knows what users have read: how far in each channel, what there is that mentions them behind it, where the channels
// end, and how they want to hear of their guilds. It does not decide who may see what (whoever asks says what the user sees),
// it publishes nothing, and it sends nothing to anybody.
//
// # How it stays right
//
// What happens is in the log first. The writer folds it into rows, by a Fold, in the transaction that moves the checkpoint. Every process
// that asks has the same facts above the checkpoint in memory, fed by its tail, and lays them over the rows. A mention is a row per user or
// role that the message names and one for everybody, never one per member: it is counted when somebody asks.
package reads

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/wire"
)

var partialTotal = metrics.NewCounter(`xcord_reads_partial_total`)

const (
	// queryTimeout bounds a question. It is short, because sessions that begin wait for it, and can begin without the answer.
	queryTimeout = 2 * time.Second
	// forgetTimeout bounds what nobody waits for, a little above the statement_timeout: a row for each who has read a channel is deleted.
	forgetTimeout = 6 * time.Second
	// pruneEvery is how often the checkpoint is asked for while there is something above it.
	pruneEvery = 250 * time.Millisecond
	// factsMax bounds what is kept above the checkpoint: some 40 MB, or minutes of an outage of Postgres at a normal load.
	factsMax = 200_000
)

// Reads answers for one process. Safe for concurrent use.
type Reads struct {
	store   store
	tail    *bus.Tail
	overlay *overlay

	on     life.Switch
	loops  life.Loops
	gauges *metrics.Set
}

// New makes a Reads and subscribes it to the tail. It does no I/O. Who answers sessions by it subscribes later.
func New(pool *postgres.Pool, tail *bus.Tail) *Reads {
	r := &Reads{store: store{pool}, tail: tail, overlay: newOverlay(factsMax), gauges: metrics.NewSet()}
	r.gauges.NewGauge(`xcord_reads_overlay_facts`, func() float64 { return float64(r.overlay.holds()) })
	tail.Subscribe(func(_ context.Context, entries []bus.Entry) error {
		r.overlay.apply(entries)
		return nil
	})
	tail.OnCut(func(_ context.Context, c bus.Cut) error {
		r.overlay.reset(c.Behind)
		return nil
	})
	return r
}

// Start begins to answer. The tail must have been started.
func (r *Reads) Start(context.Context) error {
	return r.on.Start(func() error {
		r.overlay.begin(r.tail.Began())
		metrics.RegisterSet(r.gauges)
		r.loops.Go("reads prune", r.prune)
		return nil
	})
}

// Stop ends it.
func (r *Reads) Stop() {
	r.on.Stop(func() {
		r.loops.Stop()
		metrics.UnregisterSet(r.gauges, false)
	})
}

// Failed reports a loop that ended by itself.
func (r *Reads) Failed() <-chan error { return r.loops.Failed() }

func (r *Reads) prune(ctx context.Context) error {
	for {
		t := time.NewTimer(pruneEvery + rand.N(pruneEvery/4))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		if r.overlay.holds() > 0 {
			r.pruneOnce(ctx)
		}
	}
}

func (r *Reads) pruneOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	// Without Postgres, which the writer tells of, there is only more to keep meanwhile.
	if mark, err := r.store.checkpoint(ctx); err == nil {
		r.overlay.prune(mark)
	}
}

// Guild is a guild as one member sees it.
type Guild struct {
	ID     id.ID
	Joined wire.Time // what mentions everybody or a role counts from there on
	Roles  []id.ID
}

// Own is what is told to a user alone.
type Own struct {
	States   wire.ReadState
	Settings wire.UserGuildSettings
}

// Own answers for a user as of a position of the log, to which the tail has come. What was read later may be in it already; what was sent
// later is not counted. sees says which channels may be told of. When Postgres does not answer, or is so far behind that what is
// above it has been forgotten, the answer is partial.
func (r *Reads) Own(ctx context.Context, user id.ID, guilds []Guild, sees func(channel id.ID) bool, at bus.Position) (Own, error) {
	version := int64(at.Ms)
	partial := Own{States: wire.ReadState{Partial: true, Version: version}, Settings: wire.UserGuildSettings{Partial: true, Version: version}}
	q := query{user: user, targets: []int64{int64(user)}, since: []int64{0}, until: place(at)}
	for _, g := range guilds {
		joined := int64(place(bus.Position{Ms: uint64(g.Joined)}))
		for _, target := range append([]id.ID{g.ID}, g.Roles...) {
			q.targets, q.since = append(q.targets, int64(target)), append(q.since, joined)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	up := r.overlay.of(user)
	have, err := r.store.user(ctx, q, up)
	if err != nil || !r.overlay.isWhole(have.mark) {
		partialTotal.Inc()
		return partial, err
	}
	return Own{States: have.readState(q, up, sees, version), Settings: have.guildSettings(up, version)}, nil
}

// readState lays what is above the rows over them.
func (r rows) readState(q query, up above, sees func(channel id.ID) bool, version int64) wire.ReadState {
	if up.erased {
		clear(r.states)
	}
	for channel, m := range up.marks {
		r.states[channel] = m.over(r.states[channel])
	}
	gone := map[id.ID]bool{}
	for _, d := range up.deleted {
		gone[d.message] = true
	}
	for _, p := range up.pings {
		if r.counted.Less(p.at) && p.message <= q.until && !gone[p.message] && p.from != q.user && r.states[p.channel] < p.message && q.names(p) {
			r.counts[p.channel]++
		}
	}
	out := wire.ReadState{Version: version}
	for channel, message := range r.states {
		if sees(channel) {
			out.Entries = append(out.Entries, wire.ReadStateEntry{ID: channel, LastMessageID: message, MentionCount: r.counts[channel]})
		}
	}
	for channel, count := range r.counts {
		if _, have := r.states[channel]; !have && sees(channel) {
			out.Entries = append(out.Entries, wire.ReadStateEntry{ID: channel, MentionCount: count})
		}
	}
	slices.SortFunc(out.Entries, func(a, b wire.ReadStateEntry) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// names says whether a message mentions the user of a query.
func (q query) names(p ping) bool {
	for i, target := range q.targets {
		if slices.Contains(p.targets, id.ID(target)) && int64(p.message) > q.since[i] {
			return true
		}
	}
	return false
}

func (r rows) guildSettings(up above, version int64) wire.UserGuildSettings {
	if up.erased {
		clear(r.settings)
	}
	for guild, s := range up.settings {
		r.settings[guild] = s.raw
	}
	out := wire.UserGuildSettings{Version: version}
	for _, raw := range r.settings {
		out.Entries = append(out.Entries, raw)
	}
	slices.SortFunc(out.Entries, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	return out
}

// Settings is the JSON of a wire.GuildSettings, nil when the user has set nothing. It answers 503 when Postgres does not answer, or is too far
// behind.
func (r *Reads) Settings(ctx context.Context, user, guild id.ID) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	up := r.overlay.of(user)
	if s, ok := up.settings[guild]; ok {
		return s.raw, nil
	}
	raw, mark, err := r.store.setting(ctx, user, guild)
	switch {
	case err != nil:
		return nil, fault.Unavailable(err, time.Second)
	case !r.overlay.isWhole(mark):
		return nil, fault.Unavailable(errBehind, time.Second)
	case up.erased:
		return nil, nil
	}
	return raw, nil
}

// Lasts are the latest messages of all channels of guilds, deleted or not. A channel without messages is not among them.
func (r *Reads) Lasts(ctx context.Context, guilds []id.ID) (map[id.ID]id.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	heads, err := r.store.heads(ctx, guilds)
	if err != nil {
		heads = map[id.ID]id.ID{}
	}
	r.overlay.latest(heads, guilds)
	return heads, err
}

// Forget deletes how far a channel was read, and where it ended, when it is gone and the writer is behind that. It answers 503 when Postgres does
// not.
func (r *Reads) Forget(ctx context.Context, channel id.ID) error {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	if err := r.store.forget(ctx, channel); err != nil {
		return fault.Unavailable(err, time.Second)
	}
	return nil
}

var errBehind = errors.New("the rows are too far behind the log")

// Receipts are the users behind after who have read a message, by rising id, at most limit. It answers 503 when Postgres does not, or is too
// far behind.
func (r *Reads) Receipts(ctx context.Context, channel, message, after id.ID, limit int) ([]wire.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	up := r.overlay.in(channel)
	found, mark, err := r.store.receipts(ctx, channel, message, after, limit)
	switch {
	case err != nil:
		return nil, fault.Unavailable(err, time.Second)
	case !r.overlay.isWhole(mark):
		return nil, fault.Unavailable(errBehind, time.Second)
	}
	full, end := len(found) == limit, after
	if full {
		end = found[len(found)-1].UserID
	}
	found = slices.DeleteFunc(found, func(f wire.Receipt) bool {
		m, ok := up[f.UserID]
		return ok && (m.isSet || m.message >= message)
	})
	for user, m := range up {
		if m.message >= message && user > after && (!full || user <= end) {
			found = append(found, wire.Receipt{UserID: user, ReadAt: wire.Time(m.at.Ms)})
		}
	}
	slices.SortFunc(found, func(a, b wire.Receipt) int {
		if a.UserID < b.UserID {
			return -1
		}
		return 1
	})
	return found[:min(len(found), limit)], nil
}
