package reads

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// store is the SQL that reads. What the writer does is in store_fold.go.
type store struct{ pool *pgxpool.Pool }

// What is asked about one user. Bounds, and why: a guild has 500 channels and a user may be in 100 guilds; nobody shows more than "99+".
const (
	statesMax   = 10_000
	mentionsMax = 100 // the newest, of each user, role and guild that may be mentioned
	settingsMax = 1_000
)

const selectCheckpoint = `SELECT last_ms, last_seq FROM checkpoints WHERE grp = 'pg' AND shard = 0`

func (s store) checkpoint(ctx context.Context) (mark bus.Position, err error) {
	err = s.pool.QueryRow(ctx, selectCheckpoint).Scan(&mark.Ms, &mark.Seq)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return mark, fmt.Errorf("read the checkpoint: %w", err)
	}
	return mark, nil
}

// Each statement says itself by which checkpoint its rows are: they are sent in one go, but each sees a moment of its own.
const selectStates = `
SELECT c.last_ms, c.last_seq, r.channel_id, r.message_id
FROM checkpoints c LEFT JOIN (
    SELECT channel_id, message_id FROM read_states WHERE user_id = $1 ORDER BY message_id DESC LIMIT $2
) r ON true
WHERE c.grp = 'pg' AND c.shard = 0`

// Mentions are counted per channel, behind what has been read by the row or by what lies above it ($6 to $8). $9 is deleted meanwhile.
const selectMentions = `
WITH mine AS MATERIALIZED (SELECT channel_id, message_id FROM read_states WHERE user_id = $1)
SELECT c.last_ms, c.last_seq, n.channel_id, n.count
FROM checkpoints c LEFT JOIN (
    SELECT u.channel_id, count(*) AS count FROM (
        SELECT DISTINCT m.channel_id, m.message_id
        FROM unnest($2::bigint[], $3::bigint[]) AS t (target, since)
        CROSS JOIN LATERAL (
            SELECT channel_id, message_id, author_id FROM mentions
            WHERE target = t.target AND message_id > t.since AND message_id <= $4 ORDER BY message_id DESC LIMIT $5
        ) m
        LEFT JOIN mine r ON r.channel_id = m.channel_id
        LEFT JOIN unnest($6::bigint[], $7::bigint[], $8::boolean[]) AS o (channel_id, message_id, is_set) ON o.channel_id = m.channel_id
        WHERE m.author_id <> $1 AND m.message_id <> ALL ($9::bigint[])
          AND m.message_id > CASE WHEN o.is_set THEN o.message_id ELSE greatest(r.message_id, o.message_id, 0) END
    ) u GROUP BY u.channel_id
) n ON true
WHERE c.grp = 'pg' AND c.shard = 0`

const selectSettings = `SELECT guild_id, settings FROM guild_settings WHERE user_id = $1 ORDER BY guild_id LIMIT $2`

const selectSetting = `
SELECT c.last_ms, c.last_seq, s.settings
FROM checkpoints c LEFT JOIN guild_settings s ON s.user_id = $1 AND s.guild_id = $2
WHERE c.grp = 'pg' AND c.shard = 0`

// setting is nil when there is none.
func (s store) setting(ctx context.Context, user, guild id.ID) (raw []byte, mark bus.Position, err error) {
	err = s.pool.QueryRow(ctx, selectSetting, int64(user), int64(guild)).Scan(&mark.Ms, &mark.Seq, &raw)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, mark, fmt.Errorf("read the settings of a user: %w", err)
	}
	return raw, mark, nil
}

// rows are what Postgres has of a user, as of mark or later.
type rows struct {
	mark     bus.Position // of the older of states and counts
	counted  bus.Position // of counts
	states   map[id.ID]id.ID
	counts   map[id.ID]int
	settings map[id.ID][]byte
}

// query is whom mentions are counted for: of each target those behind its since, up to until.
type query struct {
	user           id.ID
	targets, since []int64
	until          id.ID
}

// user reads what there is of a user, in one trip.
func (s store) user(ctx context.Context, q query, up above) (rows, error) {
	r := rows{states: map[id.ID]id.ID{}, counts: map[id.ID]int{}, settings: map[id.ID][]byte{}}
	var channels, messages, deleted []int64
	var set []bool
	for channel, m := range up.marks {
		channels, messages, set = append(channels, int64(channel)), append(messages, int64(m.message)), append(set, m.isSet)
	}
	for _, d := range up.deleted {
		deleted = append(deleted, int64(d.message))
	}
	if deleted == nil {
		deleted = []int64{} // with null, <> ALL is never true
	}
	batch := new(pgx.Batch)
	batch.Queue(selectStates, int64(q.user), statesMax).Query(func(got pgx.Rows) (err error) {
		r.mark, err = each(got, func(channel, message int64) { r.states[id.ID(channel)] = id.ID(message) })
		return err
	})
	batch.Queue(selectMentions, int64(q.user), q.targets, q.since, int64(q.until), mentionsMax, channels, messages, set, deleted).Query(
		func(got pgx.Rows) (err error) {
			r.counted, err = each(got, func(channel, count int64) { r.counts[id.ID(channel)] = int(count) })
			return err
		})
	batch.Queue(selectSettings, int64(q.user), settingsMax).Query(func(got pgx.Rows) error {
		var guild int64
		var raw []byte
		_, err := pgx.ForEachRow(got, []any{&guild, &raw}, func() error {
			r.settings[id.ID(guild)] = append([]byte{}, raw...)
			return nil
		})
		return err
	})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return rows{}, fmt.Errorf("read the read states of a user: %w", err)
	}
	if r.counted.Less(r.mark) {
		r.mark = r.counted
	}
	return r, nil
}

// each hands over rows of a checkpoint and two numbers, which are null in the one row that there is when there are none.
func each(got pgx.Rows, do func(a, b int64)) (mark bus.Position, err error) {
	var a, b *int64
	_, err = pgx.ForEachRow(got, []any{&mark.Ms, &mark.Seq, &a, &b}, func() error {
		if a != nil {
			do(*a, *b)
		}
		return nil
	})
	return mark, err
}

const selectHeads = `SELECT channel_id, message_id FROM channel_heads WHERE guild_id = ANY ($1)`

func (s store) heads(ctx context.Context, guilds []id.ID) (map[id.ID]id.ID, error) {
	heads := map[id.ID]id.ID{}
	got, err := s.pool.Query(ctx, selectHeads, keys(guilds))
	if err == nil {
		var channel, message int64
		_, err = pgx.ForEachRow(got, []any{&channel, &message}, func() error {
			heads[id.ID(channel)] = id.ID(message)
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the last messages of channels: %w", err)
	}
	return heads, nil
}

func keys(ids []id.ID) []int64 {
	out := make([]int64, len(ids))
	for i, v := range ids {
		out[i] = int64(v)
	}
	return out
}

const selectReceipts = `
SELECT c.last_ms, c.last_seq, r.user_id, r.read_at
FROM checkpoints c LEFT JOIN (
    SELECT user_id, read_at FROM read_states WHERE channel_id = $1 AND message_id >= $2 AND user_id > $3 ORDER BY user_id LIMIT $4
) r ON true
WHERE c.grp = 'pg' AND c.shard = 0
ORDER BY r.user_id`

// receipts reads who has read a message, behind a user and by rising id.
func (s store) receipts(ctx context.Context, channel, message, after id.ID, limit int) (found []wire.Receipt, mark bus.Position, err error) {
	got, err := s.pool.Query(ctx, selectReceipts, int64(channel), int64(message), int64(after), limit)
	if err == nil {
		var user *int64
		var at *time.Time
		_, err = pgx.ForEachRow(got, []any{&mark.Ms, &mark.Seq, &user, &at}, func() error {
			if user != nil {
				found = append(found, wire.Receipt{UserID: id.ID(*user), ReadAt: wire.At(*at)})
			}
			return nil
		})
	}
	if err != nil {
		return nil, mark, fmt.Errorf("read receipts: %w", err)
	}
	return found, mark, nil
}

const forgetChannel = `
WITH head AS (DELETE FROM channel_heads WHERE channel_id = $1)
DELETE FROM read_states WHERE channel_id = $1`

func (s store) forget(ctx context.Context, channel id.ID) error {
	if _, err := s.pool.Exec(ctx, forgetChannel, int64(channel)); err != nil {
		return fmt.Errorf("forget what was read in a channel: %w", err)
	}
	return nil
}

const selectDirectHeads = `SELECT channel_id, message_id FROM channel_heads WHERE guild_id = 0`

// Source reads the latest message of each direct channel, for the read model of the roster.
func Source(ctx context.Context, tx pgx.Tx, each func(bus.Entry) error) error {
	got, err := tx.Query(ctx, selectDirectHeads)
	if err != nil {
		return fmt.Errorf("read the latest messages: %w", err)
	}
	var channel, message int64
	_, err = pgx.ForEachRow(got, []any{&channel, &message}, func() error {
		return each(bus.Entry{Type: wire.MessageSent, Channel: id.ID(channel), Pos: bus.PositionOf(id.ID(message))})
	})
	if err != nil {
		return fmt.Errorf("read the latest messages: %w", err)
	}
	return nil
}
