package messaging

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
)

// In a batch, under the writer's epoch.
const insertPurges = `
INSERT INTO message_purges (guild_id, channel_id, author_id, since, until, actor_id)
SELECT p.* FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[]) AS p
WHERE ` + sameEpoch + ` ON CONFLICT DO NOTHING`

// queuePurges puts the purges of a batch among its statements.
func queuePurges(queue *pgx.Batch, epoch int64, purges []purge) {
	var guild, channel, author, since, until, actor []int64
	for _, p := range purges {
		guild, channel, author = append(guild, int64(p.guild)), append(channel, int64(p.channel)), append(author, int64(p.author))
		since, until, actor = append(since, int64(p.since)), append(until, int64(p.until)), append(actor, int64(p.actor))
	}
	queue.Queue(insertPurges, groupName, shard, epoch, guild, channel, author, since, until, actor)
}

const selectPurges = `SELECT guild_id, channel_id, author_id, since, until, actor_id FROM message_purges ORDER BY until, channel_id LIMIT 100`

// purges are the next that are to be done.
func (s store) purges(ctx context.Context) ([]purge, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectPurges)
	if err != nil {
		return nil, unavailable("read what is to be purged", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (purge, error) {
		var n [6]int64
		err := row.Scan(&n[0], &n[1], &n[2], &n[3], &n[4], &n[5])
		return purge{guild: id.ID(n[0]), channel: id.ID(n[1]), author: id.ID(n[2]), since: id.ID(n[3]), until: id.ID(n[4]), actor: id.ID(n[5])}, err
	})
	if err != nil {
		return nil, unavailable("read what is to be purged", err)
	}
	return out, nil
}

const deletePurge = `DELETE FROM message_purges WHERE guild_id = $1 AND channel_id = $2 AND author_id = $3 AND until = $4`

// purged says that a purge is done.
func (s store) purged(ctx context.Context, p purge) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if _, err := s.pool.Exec(ctx, deletePurge, int64(p.guild), int64(p.channel), int64(p.author), int64(p.until)); err != nil {
		return unavailable("note a purge as done", err)
	}
	return nil
}

const selectAuthors = `SELECT id, author_id FROM messages WHERE channel_id = $1 AND id >= $2 AND id < $3 ORDER BY id LIMIT $4`

// authored looks through up to limit rows of a channel from an id on for those of an author. next is where it goes on; until when there
// is no more.
func (s store) authored(ctx context.Context, channel, author, from, until id.ID, limit int) (messages []id.ID, next id.ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectAuthors, int64(channel), int64(from), int64(until), limit)
	if err != nil {
		return nil, 0, unavailable("read the authors of messages", err)
	}
	var message, by int64
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&message, &by}, func() error {
		n++
		if id.ID(by) == author {
			messages = append(messages, id.ID(message))
		}
		return nil
	})
	if err != nil {
		return nil, 0, unavailable("read the authors of messages", err)
	}
	if n < limit {
		return messages, until, nil
	}
	return messages, id.ID(message) + 1, nil
}

// A row goes with all that is stored about its message; its mentions would else be counted among the newest of whom they name.
const deleteRowsOf = `
WITH lowest AS (SELECT id FROM messages WHERE channel_id = $1 ORDER BY id LIMIT $2),
    unindexed AS (DELETE FROM message_search s USING lowest l WHERE s.id = l.id),
    unreacted AS (DELETE FROM message_reactions r USING lowest l WHERE r.message_id = l.id),
    unpinned AS (DELETE FROM message_pins p USING lowest l WHERE p.channel_id = $1 AND p.message_id = l.id),
    unnamed AS (DELETE FROM mentions m USING lowest l WHERE m.message_id = l.id)
DELETE FROM messages WHERE channel_id = $1 AND id IN (SELECT id FROM lowest)`

// deleteRows deletes up to limit rows of a channel, and says how many messages that were.
func (s store) deleteRows(ctx context.Context, channel id.ID, limit int) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	tag, err := s.pool.Exec(ctx, deleteRowsOf, int64(channel), limit)
	if err != nil {
		return 0, unavailable("delete the rows of a channel", err)
	}
	return tag.RowsAffected(), nil
}
