package messaging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

const deleteIndexed = `DELETE FROM message_search WHERE id = ANY ($4::bigint[]) AND ` + sameEpoch

// Direct channels are not searched.
const insertIndexed = `
INSERT INTO message_search (id, guild_id, channel_id, author_id, edit_id, has, mentions, words)
SELECT n.id, n.guild_id, n.channel_id, n.author_id, n.edit_id, s.has, s.mentions, s.words
FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[])
    AS n (id, guild_id, channel_id, author_id, edit_id, content, body), message_search_of(n.content, n.body) s
WHERE n.guild_id <> 0 AND ` + sameEpoch + `
AND NOT EXISTS (SELECT FROM message_tombstones t WHERE t.id = n.id)
ON CONFLICT (id) DO UPDATE SET edit_id = excluded.edit_id, has = excluded.has, mentions = excluded.mentions, words = excluded.words
WHERE message_search.edit_id < excluded.edit_id`

const updateIndexed = `
UPDATE message_search m SET edit_id = e.edit_id, has = s.has, mentions = s.mentions, words = s.words
FROM unnest($4::bigint[], $5::bigint[], $6::text[], $7::text[]) AS e (id, edit_id, content, body), message_search_of(e.content, e.body) s
WHERE m.id = e.id AND m.edit_id < e.edit_id AND ` + sameEpoch

// index brings a batch into the index and moves the checkpoint, all or nothing. It answers what commit answers.
func (l *lead) index(ctx context.Context, b *batch) (w written, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mark := l.mark
	if mark.Less(b.last) {
		mark = b.last
	}
	fenced := false
	queue := new(pgx.Batch)
	queue.Queue(moveCheckpoint, l.office.group, shard, l.epoch, int64(mark.Ms), int64(mark.Seq)).Exec(func(tag pgconn.CommandTag) error {
		fenced = tag.RowsAffected() == 0
		return nil
	})
	if _, ids := b.tombstones(); len(ids) > 0 {
		queue.Queue(deleteIndexed, l.office.group, shard, l.epoch, ids).Exec(count(&w.deleted))
	}
	if c := b.creates(); len(c.id) > 0 {
		queue.Queue(insertIndexed, l.office.group, shard, l.epoch,
			c.id, c.guild, c.channel, c.author, c.edit, c.content, c.body).Exec(count(&w.inserted))
	}
	if c := b.edits(); len(c.id) > 0 {
		queue.Queue(updateIndexed, l.office.group, shard, l.epoch, c.id, c.edit, c.content, c.body).Exec(count(&w.updated))
	}
	err = l.conn.SendBatch(ctx, queue).Close()
	switch {
	case err == nil && fenced:
		return w, bus.ErrFenced
	case err == nil:
		l.mark = mark
		return w, nil
	case l.conn.IsClosed():
		return w, fmt.Errorf("index %d messages: %w: %w", len(b.rows), bus.ErrFenced, err)
	}
	return w, fmt.Errorf("index %d messages: %w", len(b.rows), err)
}

const (
	// searchTimeout bounds what one search may cost Postgres.
	searchTimeout = 2 * time.Second
	// foundMax is how many hits a search sorts and counts, the newest or the oldest.
	foundMax = 10_000
)

// search is what is looked for. Lists that are empty do not limit; channels are all that may be found in.
type search struct {
	guild                    id.ID
	channels                 []id.ID
	words                    string
	authors, mentions, roles []id.ID
	has, hasNot              int // bits of message_search.has
	above, below             id.ID
	byRelevance, isAscending bool
	offset, limit            int
}

// hit is a message that the index has found, as it was after the edit at edited.
type hit struct{ id, channel, edited id.ID }

// statement is a search in SQL. Only what limits it stands in it, so that each is planned for what it asks.
func (q search) statement() (sql string, args []any) {
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	where := []string{"guild_id = " + arg(int64(q.guild)), "channel_id = ANY (" + arg(numbers(q.channels)) + "::bigint[])"}
	add := func(format, value string) { where = append(where, fmt.Sprintf(format, value)) }
	rank := "0"
	if q.words != "" {
		words := "websearch_to_tsquery('simple', translate(" + arg(q.words) + "::text, '<>', '  '))"
		add("words @@ %s", words)
		if q.byRelevance {
			rank = "ts_rank(words, " + words + ")"
		}
	}
	if len(q.authors) > 0 {
		add("author_id = ANY (%s::bigint[])", arg(numbers(q.authors)))
	}
	for _, named := range [][]id.ID{q.mentions, q.roles} {
		if len(named) > 0 {
			add("mentions && %s::bigint[]", arg(numbers(named)))
		}
	}
	if q.has != 0 {
		where = append(where, fmt.Sprintf("has & %d = %d", q.has, q.has))
	}
	if q.hasNot != 0 {
		where = append(where, fmt.Sprintf("has & %d = 0", q.hasNot))
	}
	if q.above != 0 {
		add("id > %s", arg(int64(sane(q.above))))
	}
	if q.below != 0 {
		add("id < %s", arg(int64(sane(q.below))))
	}
	direction := "DESC"
	if q.isAscending {
		direction = "ASC"
	}
	first, order := "id "+direction, "id "+direction
	if q.byRelevance {
		first, order = "id DESC", "rank "+direction+", id DESC"
	}
	sql = `
WITH hits AS MATERIALIZED (
    SELECT id, channel_id, edit_id, ` + rank + ` AS rank FROM message_search
    WHERE ` + strings.Join(where, " AND ") + ` ORDER BY ` + first + fmt.Sprintf(" LIMIT %d", foundMax) + `)
SELECT n.total, p.id, p.channel_id, p.edit_id FROM (SELECT count(*) AS total FROM hits) n
LEFT JOIN (SELECT * FROM hits ORDER BY ` + order + " OFFSET " + arg(q.offset) + " LIMIT " + arg(q.limit) + `) p ON true
ORDER BY ` + order
	return sql, args
}

// search asks the index for one page of hits, and for how many there are, up to foundMax.
func (s store) search(ctx context.Context, q search) (hits []hit, total int, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	sql, args := q.statement()
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", searchTimeout.Milliseconds())); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var message, channel, edit *int64
			if err := rows.Scan(&total, &message, &channel, &edit); err != nil {
				return err
			}
			if message != nil {
				hits = append(hits, hit{id: id.ID(*message), channel: id.ID(*channel), edited: id.ID(*edit)})
			}
		}
		return rows.Err()
	})
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok && strings.Contains(failure.Message, "tsquery") {
		return nil, 0, fault.Invalid(fault.Field{Path: "content", Code: fault.FieldRegex, Message: "Too many operators."})
	}
	if err != nil {
		return nil, 0, unavailable("search messages", err)
	}
	return hits, total, nil
}
