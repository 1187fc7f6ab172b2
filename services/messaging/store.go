package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
)

// groupName is the writer's group on the bus and its row in checkpoints, searchGroup that of the index; shard is the only one so far.
const (
	groupName   = "pg"
	searchGroup = "search"
	shard       = 0
)

// Groups are the service's groups: nothing is trimmed from the log that one of them has not finished.
var Groups = []string{groupName, searchGroup}

// queryTimeout stands a little above the pool's statement_timeout of 5 s: a query that ends with its context costs the
// connection.
const queryTimeout = 6 * time.Second

// store is all SQL of the service.
type store struct{ pool *pgxpool.Pool }

const selectCheckpoint = `SELECT last_ms, last_seq FROM checkpoints WHERE grp = $1 AND shard = $2`

// checkpoint is the last entry that the writer has committed; zero before the first.
func (s store) checkpoint(ctx context.Context) (bus.Position, error) {
	return s.checkpointOf(ctx, groupName)
}

func (s store) checkpointOf(ctx context.Context, group string) (bus.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var mark bus.Position
	err := s.pool.QueryRow(ctx, selectCheckpoint, group, shard).Scan(&mark.Ms, &mark.Seq)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return bus.Position{}, unavailable("read the checkpoint", err)
	}
	return mark, nil
}

// unavailable is a 503 for an outage: a reader is told to come again, and never that there is nothing.
func unavailable(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if postgres.IsData(err) {
		return err
	}
	return fault.Unavailable(err, time.Second)
}

// One statement, so one snapshot: rows and checkpoint belong together.
const selectPage = `
SELECT c.last_ms, c.last_seq, m.is_upper, m.id, m.author_id, m.body, m.edit_id
FROM checkpoints c LEFT JOIN (
    (SELECT false AS is_upper, id, author_id, body, edit_id FROM messages WHERE channel_id = $3 AND id < $4 ORDER BY id DESC LIMIT $5)
    UNION ALL
    (SELECT true, id, author_id, body, edit_id FROM messages WHERE channel_id = $3 AND id >= $6 ORDER BY id LIMIT $7)
) m ON true
WHERE c.grp = $1 AND c.shard = $2
ORDER BY m.id DESC`

// page reads a window with extra rows on each side that is wanted, for those that turn out to be deleted.
func (s store) page(ctx context.Context, channel id.ID, w window, extra int) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	lowerMax, upperMax := more(w.lower, extra), more(w.upper, extra)
	var p page
	err := func() error {
		rows, err := s.pool.Query(ctx, selectPage, groupName, shard, int64(channel), int64(w.below), lowerMax, int64(w.from), upperMax)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var isUpper *bool
			var message, author, edit *int64
			var body []byte
			if err := rows.Scan(&p.mark.Ms, &p.mark.Seq, &isUpper, &message, &author, &body, &edit); err != nil {
				return err
			}
			switch {
			case message == nil: // the checkpoint alone
			case *isUpper:
				p.upper = append(p.upper, found{id: id.ID(*message), author: id.ID(*author), body: body, edited: id.ID(*edit)})
			default:
				p.lower = append(p.lower, found{id: id.ID(*message), author: id.ID(*author), body: body, edited: id.ID(*edit)})
			}
		}
		return rows.Err()
	}()
	if err != nil {
		return page{}, unavailable("read messages", err)
	}
	for i, j := 0, len(p.upper)-1; i < j; i, j = i+1, j-1 {
		p.upper[i], p.upper[j] = p.upper[j], p.upper[i] // the statement's order is for both sides
	}
	p.lowerAll, p.upperAll = len(p.lower) < lowerMax, len(p.upper) < upperMax
	return p, nil
}

func more(n, extra int) int {
	if n == 0 {
		return 0
	}
	return n + extra
}

const selectMessages = `SELECT id, author_id, body, edit_id FROM messages WHERE channel_id = $1 AND id = ANY ($2)`

// messages reads those of some messages that have a row.
func (s store) messages(ctx context.Context, channel id.ID, ids []id.ID) (map[id.ID]found, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	have := make(map[id.ID]found, len(ids))
	err := func() error {
		rows, err := s.pool.Query(ctx, selectMessages, int64(channel), numbers(ids))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m found
			var message, author, edit int64
			if err := rows.Scan(&message, &author, &m.body, &edit); err != nil {
				return err
			}
			m.id, m.author, m.edited = id.ID(message), id.ID(author), id.ID(edit)
			have[m.id] = m
		}
		return rows.Err()
	}()
	if err != nil {
		return nil, unavailable("read messages by id", err)
	}
	return have, nil
}

// A batch is sent in one go and is one transaction: moveCheckpoint first, which locks the checkpoint's row, and then the rest, which
// does nothing unless the row is of this epoch. A fenced batch so comes to nothing without a second trip to Postgres.
const moveCheckpoint = `
UPDATE checkpoints SET last_ms = $4, last_seq = $5, updated_at = now() WHERE grp = $1 AND shard = $2 AND epoch = $3`

const sameEpoch = `EXISTS (SELECT FROM checkpoints c WHERE c.grp = $1 AND c.shard = $2 AND c.epoch = $3)`

const insertTombstones = `
INSERT INTO message_tombstones (id) SELECT d.id FROM unnest($4::bigint[]) AS d (id)
WHERE ` + sameEpoch + ` ON CONFLICT (id) DO NOTHING`

const deleteMessages = `
DELETE FROM messages m USING unnest($4::bigint[], $5::bigint[]) AS d (channel_id, id)
WHERE m.channel_id = d.channel_id AND m.id = d.id AND ` + sameEpoch

// The usual insert, for messages above the checkpoint: nothing about them can be stored yet.
const insertNew = `
INSERT INTO messages (channel_id, id, guild_id, author_id, type, content, body, edit_id)
SELECT n.channel_id, n.id, n.guild_id, n.author_id, n.type, n.content, n.body, n.edit_id
FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::smallint[], $9::text[], $10::text[], $11::bigint[])
    AS n (channel_id, id, guild_id, author_id, type, content, body, edit_id)
WHERE ` + sameEpoch

// The insert of what is delivered again: what has been deleted stays away, and a row that is there already stays as it is, but for an
// edit that it has not had. That costs a third more, whether anything is there or not.
const insertAgain = insertNew + `
AND NOT EXISTS (SELECT FROM message_tombstones t WHERE t.id = n.id)
ON CONFLICT (channel_id, id) DO UPDATE SET content = excluded.content, body = excluded.body, edit_id = excluded.edit_id
WHERE messages.edit_id < excluded.edit_id`

const updateMessages = `
UPDATE messages m SET content = e.content, body = e.body, edit_id = e.edit_id
FROM unnest($4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bigint[]) AS e (channel_id, id, content, body, edit_id)
WHERE m.channel_id = e.channel_id AND m.id = e.id AND m.edit_id < e.edit_id AND ` + sameEpoch

// written is what a batch did.
type written struct{ inserted, updated, deleted, reacted, cleared, pinned int64 }

func (w written) count() {
	insertedRows.Add(int(w.inserted))
	updatedRows.Add(int(w.updated))
	deletedRows.Add(int(w.deleted))
	reactionRows.Add(int(w.reacted + w.cleared))
	pinRows.Add(int(w.pinned))
}

// commit stores a batch and moves the checkpoint, all or nothing. It answers bus.ErrFenced when another lead has begun,
// or the connection of this one is lost.
func (l *lead) commit(ctx context.Context, b *batch) (written, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mark := l.mark
	if mark.Less(b.last) {
		mark = b.last
	}
	insert := insertAgain
	if l.mark.Less(b.first) {
		insert = insertNew
	}
	w, err := l.write(ctx, b, insert, mark)
	if insert == insertNew && postgres.IsUnique(err, "") {
		w, err = l.write(ctx, b, insertAgain, mark) // rows beyond the checkpoint, as after a restore
	}
	switch {
	case err == nil:
		l.mark = mark
		return w, nil
	case l.conn.IsClosed():
		return w, fmt.Errorf("store %d messages: %w: %w", len(b.rows), bus.ErrFenced, err)
	}
	return w, fmt.Errorf("store %d messages: %w", len(b.rows), err)
}

func (l *lead) write(ctx context.Context, b *batch, insert string, mark bus.Position) (w written, err error) {
	queue := new(pgx.Batch)
	lock := queue.Queue(moveCheckpoint, groupName, shard, l.epoch, int64(mark.Ms), int64(mark.Seq))
	return send(ctx, l.conn, queue, lock, l.epoch, b, insert)
}

// send sends a batch behind the statement in queue that locks the checkpoint's row, which must find it under the epoch.
func send(ctx context.Context, conn *pgx.Conn, queue *pgx.Batch, lock *pgx.QueuedQuery, epoch int64, b *batch, insert string) (w written, err error) {
	fenced := false
	lock.Exec(func(tag pgconn.CommandTag) error {
		fenced = tag.RowsAffected() == 0
		return nil
	})
	if len(b.deleted) > 0 {
		channels, ids := b.tombstones()
		queue.Queue(insertTombstones, groupName, shard, epoch, ids)
		queue.Queue(deleteMessages, groupName, shard, epoch, channels, ids).Exec(count(&w.deleted))
		queue.Queue(deleteReactions, groupName, shard, epoch, ids)
		queue.Queue(deletePins, groupName, shard, epoch, channels, ids)
	}
	if len(b.purges) > 0 {
		queuePurges(queue, epoch, b.purges)
	}
	if c := b.creates(); len(c.id) > 0 {
		queue.Queue(insert, groupName, shard, epoch,
			c.channel, c.id, c.guild, c.author, c.kind, c.content, c.body, c.edit).Exec(count(&w.inserted))
	}
	if c := b.edits(); len(c.id) > 0 {
		queue.Queue(updateMessages, groupName, shard, epoch, c.channel, c.id, c.content, c.body, c.edit).Exec(count(&w.updated))
	}
	b.queueMarks(queue, epoch, &w)
	queueFiles(queue, epoch, b)
	if len(b.announced) > 0 {
		c := columnsOf(b.announced)
		queue.Queue(insertAnnouncements, groupName, shard, epoch, c.ms, c.seq, c.kind, c.guild, c.channel, c.author, c.user)
	}
	b.reads.Queue(queue, groupName, shard, epoch)
	err = conn.SendBatch(ctx, queue).Close() // reads all answers
	if err == nil && fenced {
		err = bus.ErrFenced
	}
	return w, err
}

func count(to *int64) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		*to = tag.RowsAffected()
		return nil
	}
}
