package messaging

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

const notDeleted = ` AND NOT EXISTS (SELECT FROM message_tombstones t WHERE t.id = n.message_id)`

// A clear takes away what stands before it, and stays itself, for what comes late.
const deleteCleared = `
DELETE FROM message_reactions r USING unnest($4::bigint[], $5::text[], $6::bigint[]) AS n (message_id, emoji, place)
WHERE r.message_id = n.message_id AND n.emoji IN ('', r.emoji) AND r.place < n.place AND ` + sameEpoch

const insertClears = `
INSERT INTO message_reactions (message_id, emoji, user_id, place, is_on)
SELECT n.message_id, n.emoji, 0, n.place, false FROM unnest($4::bigint[], $5::text[], $6::bigint[]) AS n (message_id, emoji, place)
WHERE ` + sameEpoch + notDeleted + `
ON CONFLICT (message_id, emoji, user_id) DO UPDATE SET place = excluded.place WHERE message_reactions.place < excluded.place`

const upsertReactions = `
INSERT INTO message_reactions (message_id, emoji, user_id, place, is_on)
SELECT n.message_id, n.emoji, n.user_id, n.place, n.is_on
FROM unnest($4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::boolean[]) AS n (message_id, emoji, user_id, place, is_on)
WHERE ` + sameEpoch + notDeleted + `
AND NOT EXISTS (
    SELECT FROM message_reactions c
    WHERE c.message_id = n.message_id AND c.emoji IN ('', n.emoji) AND c.user_id = 0 AND c.place > n.place)
ON CONFLICT (message_id, emoji, user_id) DO UPDATE SET place = excluded.place, is_on = excluded.is_on
WHERE message_reactions.place < excluded.place`

const deleteReactions = `DELETE FROM message_reactions WHERE message_id = ANY ($4::bigint[]) AND ` + sameEpoch

const upsertPins = `
INSERT INTO message_pins (channel_id, message_id, place, is_on)
SELECT n.channel_id, n.message_id, n.place, n.is_on
FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[]) AS n (channel_id, message_id, place, is_on)
WHERE ` + sameEpoch + notDeleted + `
ON CONFLICT (channel_id, message_id) DO UPDATE SET place = excluded.place, is_on = excluded.is_on
WHERE message_pins.place < excluded.place`

const deletePins = `
DELETE FROM message_pins p USING unnest($4::bigint[], $5::bigint[]) AS d (channel_id, message_id)
WHERE p.channel_id = d.channel_id AND p.message_id = d.message_id AND ` + sameEpoch

// queueMarks queues what a batch has of reactions and pins, behind its tombstones.
func (b *batch) queueMarks(queue *pgx.Batch, epoch int64, w *written) {
	if len(b.clears) > 0 {
		var messages, places []int64
		var emoji []string
		for at, place := range b.clears {
			messages, emoji, places = append(messages, int64(at.message)), append(emoji, at.emoji), append(places, int64(place))
		}
		queue.Queue(deleteCleared, groupName, shard, epoch, messages, emoji, places)
		queue.Queue(insertClears, groupName, shard, epoch, messages, emoji, places).Exec(count(&w.cleared))
	}
	if len(b.reactions) > 0 {
		var messages, users, places []int64
		var emoji []string
		var on []bool
		for _, r := range b.reactions {
			messages, emoji, users = append(messages, int64(r.message)), append(emoji, r.emoji), append(users, int64(r.user))
			places, on = append(places, int64(r.place)), append(on, r.on)
		}
		queue.Queue(upsertReactions, groupName, shard, epoch, messages, emoji, users, places, on).Exec(count(&w.reacted))
	}
	if len(b.pins) > 0 {
		var channels, messages, places []int64
		var on []bool
		for channel, pins := range b.pins {
			for _, p := range pins {
				channels, messages = append(channels, int64(channel)), append(messages, int64(p.message))
				places, on = append(places, int64(p.place)), append(on, p.on)
			}
		}
		queue.Queue(upsertPins, groupName, shard, epoch, channels, messages, places, on).Exec(count(&w.pinned))
	}
}

const selectCounts = `
SELECT message_id, emoji, count(*), coalesce(bool_or(user_id = $2), false) FROM message_reactions
WHERE message_id = ANY ($1) AND is_on GROUP BY message_id, emoji ORDER BY message_id, min(place)`

const selectReactions = `SELECT message_id, emoji, user_id, place, is_on FROM message_reactions WHERE message_id = ANY ($1)`

// reactions counts those of quiet messages, and reads all that is stored of busy ones, in one trip.
func (s store) reactions(ctx context.Context, quiet, busy []id.ID, reader id.ID) (counts map[id.ID][]wire.Reaction, rows map[id.ID][]reaction, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	counts, rows = map[id.ID][]wire.Reaction{}, map[id.ID][]reaction{}
	queue := new(pgx.Batch)
	if len(quiet) > 0 {
		queue.Queue(selectCounts, numbers(quiet), int64(reader)).Query(func(r pgx.Rows) error {
			var message int64
			var emoji string
			var n int
			var me bool
			_, err := pgx.ForEachRow(r, []any{&message, &emoji, &n, &me}, func() error {
				counts[id.ID(message)] = append(counts[id.ID(message)], tallied(emoji, n, me))
				return nil
			})
			return err
		})
	}
	if len(busy) > 0 {
		queue.Queue(selectReactions, numbers(busy)).Query(func(r pgx.Rows) error {
			var message, user, place int64
			var emoji string
			var on bool
			_, err := pgx.ForEachRow(r, []any{&message, &emoji, &user, &place, &on}, func() error {
				rows[id.ID(message)] = append(rows[id.ID(message)], reaction{id.ID(message), emoji, id.ID(user), id.ID(place), on})
				return nil
			})
			return err
		})
	}
	if err := s.pool.SendBatch(ctx, queue).Close(); err != nil {
		return nil, nil, unavailable("read reactions", err)
	}
	return counts, rows, nil
}

func numbers(ids []id.ID) []int64 {
	out := make([]int64, len(ids))
	for i, one := range ids {
		out[i] = int64(one)
	}
	return out
}

const selectPins = `SELECT message_id, place, is_on FROM message_pins WHERE channel_id = $1`

// pins is what is stored of a channel's pins.
func (s store) pins(ctx context.Context, channel id.ID) (pins []pin, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectPins, int64(channel))
	if err == nil {
		var message, place int64
		var on bool
		_, err = pgx.ForEachRow(rows, []any{&message, &place, &on}, func() error {
			pins = append(pins, pin{id.ID(message), id.ID(place), on})
			return nil
		})
	}
	if err != nil {
		return nil, unavailable("read pins", err)
	}
	return pins, nil
}

const selectIsIn = `SELECT EXISTS (SELECT FROM messages WHERE channel_id = ANY ($1) AND id = $2)`

// isIn says whether a message is in one of some channels.
func (s store) isIn(ctx context.Context, channels []id.ID, message id.ID) (is bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := s.pool.QueryRow(ctx, selectIsIn, numbers(channels), int64(message)).Scan(&is); err != nil {
		return false, unavailable("look for a message elsewhere", err)
	}
	return is, nil
}
