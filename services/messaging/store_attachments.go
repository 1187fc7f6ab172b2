package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

// file is a row of attachments.
type file struct {
	id, channel, guild, user id.ID
	message                  id.ID // 0: not stored yet
	key, name, contentType   string
	size                     int64
}

// everybody is under whom all usage together is counted.
const everybody = 0

// Whoever takes room takes his own row first, and everybody's last; so does whoever gives it back.
const takeRoom = `
INSERT INTO attachment_usage (user_id, bytes) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET bytes = attachment_usage.bytes + excluded.bytes
WHERE attachment_usage.bytes + excluded.bytes <= $3`

const insertAttachments = `
INSERT INTO attachments (id, channel_id, guild_id, user_id, key, name, content_type, size)
SELECT n.id, $1, $2, $3, n.key, n.name, n.content_type, n.size
FROM unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::bigint[]) AS n (id, key, name, content_type, size)`

// errRoom is the refusal of files for which there is no room.
func errRoom(message string) error {
	f := fault.TooLarge()
	f.Message = message
	return f
}

// reserve makes the rows of files of one message, which are to be put then, within the room that their sender has and that there is.
func (s store) reserve(ctx context.Context, files []file, perUser, all int64) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var ids, sizes []int64
	var keys, names, types []string
	var bytes int64
	for _, f := range files {
		ids, keys, names = append(ids, int64(f.id)), append(keys, f.key), append(names, f.name)
		types, sizes = append(types, f.contentType), append(sizes, f.size)
		bytes += f.size
	}
	first := files[0]
	if bytes > perUser {
		return errRoom("Your files take all the room that you have")
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		mine, err := tx.Exec(ctx, takeRoom, int64(first.user), bytes, perUser)
		if err == nil && mine.RowsAffected() == 0 {
			return errRoom("Your files take all the room that you have")
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertAttachments, int64(first.channel), int64(first.guild), int64(first.user), ids, keys, names, types, sizes); err != nil {
			return err
		}
		total, err := tx.Exec(ctx, takeRoom, everybody, bytes, all)
		if err == nil && total.RowsAffected() == 0 {
			return errRoom("There is no room for more files")
		}
		return err
	})
	if f := (*fault.Fault)(nil); errors.As(err, &f) || err == nil {
		return err
	}
	return unavailable("reserve attachments", err)
}

const releaseAttachments = `
UPDATE attachments SET released_at = now() WHERE id = ANY ($1) AND message_id IS NULL AND released_at IS NULL`

// release gives up files which no message has, or ever will.
func (s store) release(ctx context.Context, ids []int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	tag, err := s.pool.Exec(ctx, releaseAttachments, ids)
	if err != nil {
		return 0, unavailable("release attachments", err)
	}
	return tag.RowsAffected(), nil
}

const selectAttachment = `
SELECT coalesce(message_id, 0), key, name, content_type, size FROM attachments a
WHERE id = $1 AND channel_id = $2 AND released_at IS NULL
  AND NOT EXISTS (SELECT FROM attachment_places_gone p WHERE p.id IN (a.channel_id, a.guild_id))`

// attachment is one that may be served.
func (s store) attachment(ctx context.Context, channel, attachment id.ID) (file, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	f := file{id: attachment, channel: channel}
	err := s.pool.QueryRow(ctx, selectAttachment, int64(attachment), int64(channel)).Scan(&f.message, &f.key, &f.name, &f.contentType, &f.size)
	if errors.Is(err, pgx.ErrNoRows) {
		return file{}, fault.NotFound()
	}
	if err != nil {
		return file{}, unavailable("read an attachment", err)
	}
	return f, nil
}

// What a batch of the writer does to attachments, in its transaction and behind the messages. What it has done before it does not do
// again: an attachment belongs to the first message that is stored with it, and is released once.
const (
	attachFiles = `
UPDATE attachments a SET message_id = n.message_id FROM unnest($4::bigint[], $5::bigint[]) AS n (id, message_id)
WHERE a.id = n.id AND a.message_id IS NULL AND a.released_at IS NULL AND ` + sameEpoch + `
  AND EXISTS (SELECT FROM messages m WHERE m.channel_id = a.channel_id AND m.id = n.message_id)`

	// An edit that is delivered again says nothing of what a later one has made of the message.
	detachFiles = `
UPDATE attachments a SET released_at = now() FROM unnest($4::bigint[], $5::bigint[], $6::bigint[]) AS e (channel_id, message_id, edit_id)
WHERE a.message_id = e.message_id AND a.released_at IS NULL AND a.id <> ALL ($7::bigint[]) AND ` + sameEpoch + `
  AND EXISTS (SELECT FROM messages m WHERE m.channel_id = e.channel_id AND m.id = e.message_id AND m.edit_id = e.edit_id)`

	// $5 are the files of messages that were never stored, because they were deleted in the same batch.
	dropFiles = `
UPDATE attachments SET released_at = now()
WHERE (message_id = ANY ($4::bigint[]) OR id = ANY ($5::bigint[]) AND message_id IS NULL) AND released_at IS NULL AND ` + sameEpoch

	losePlaces = `
INSERT INTO attachment_places_gone (id) SELECT p.id FROM unnest($4::bigint[]) AS p (id)
WHERE ` + sameEpoch + ` ON CONFLICT (id) DO NOTHING`
)

// queueFiles puts that behind a batch.
func queueFiles(queue *pgx.Batch, epoch int64, b *batch) {
	var attached, to, dropped, kept []int64
	for i, r := range b.rows {
		for _, f := range filesIn(r.body) {
			switch {
			case r.id == 0:
				dropped = append(dropped, f)
			default:
				attached, to = append(attached, f), append(to, int64(r.id))
				if b.isEdit[i] {
					kept = append(kept, f)
				}
			}
		}
	}
	if len(attached) > 0 {
		queue.Queue(attachFiles, groupName, shard, epoch, attached, to)
	}
	if c := b.edits(); len(c.id) > 0 {
		queue.Queue(detachFiles, groupName, shard, epoch, c.channel, c.id, c.edit, append([]int64{}, kept...))
	}
	if len(b.deleted) > 0 {
		_, ids := b.tombstones()
		queue.Queue(dropFiles, groupName, shard, epoch, ids, append([]int64{}, dropped...))
	}
	if len(b.lost) > 0 {
		queue.Queue(losePlaces, groupName, shard, epoch, b.lost)
	}
}

// filesIn are the attachments of a message. Nearly all have none, which is seen without decoding.
func filesIn(body string) (ids []int64) {
	if !strings.Contains(body, `"attachments":[{`) {
		return nil
	}
	var m struct {
		Attachments []struct {
			ID id.ID `json:"id"`
		} `json:"attachments"`
	}
	if json.Unmarshal([]byte(body), &m) != nil {
		return nil // the message is stored as it is, and shows no files
	}
	for _, a := range m.Attachments {
		ids = append(ids, int64(a.ID))
	}
	return ids
}

const (
	// A slice of the places that are gone, and then, if nothing was found in it any more, the mark that it is done.
	selectGone = `SELECT id FROM attachment_places_gone WHERE NOT swept ORDER BY id LIMIT 100`
	sweepGone  = `
UPDATE attachments SET released_at = now() WHERE id IN (
    SELECT id FROM attachments WHERE released_at IS NULL AND (channel_id = ANY ($1) OR guild_id = ANY ($1)) LIMIT $2)`
	markSwept = `UPDATE attachment_places_gone SET swept = true WHERE id = ANY ($1)`
)

// sweep releases up to limit files of places that are gone. more says that there is more to do.
func (s store) sweep(ctx context.Context, limit int) (released int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectGone)
	if err != nil {
		return 0, false, unavailable("sweep attachments", err)
	}
	places, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(places) == 0 {
		return 0, false, err
	}
	tag, err := s.pool.Exec(ctx, sweepGone, places, limit)
	if err == nil && tag.RowsAffected() == 0 {
		_, err = s.pool.Exec(ctx, markSwept, places)
	}
	if err != nil {
		return 0, false, unavailable("sweep attachments", err)
	}
	return tag.RowsAffected(), true, nil
}

const selectPending = `
SELECT id FROM attachments
WHERE message_id IS NULL AND released_at IS NULL AND id > $1 AND created_at < now() - make_interval(secs => $2) ORDER BY id LIMIT $3`

// pending are attachments above after that have been without a message for an age, the oldest first.
func (s store) pending(ctx context.Context, after id.ID, age time.Duration, limit int) ([]id.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectPending, int64(after), age.Seconds(), limit)
	if err != nil {
		return nil, unavailable("look for orphans", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, unavailable("look for orphans", err)
	}
	out := make([]id.ID, len(ids))
	for i, n := range ids {
		out[i] = id.ID(n)
	}
	return out, nil
}

const selectReleased = `SELECT id, key FROM attachments WHERE released_at IS NOT NULL ORDER BY released_at LIMIT $1`

// released are files to be deleted.
func (s store) released(ctx context.Context, limit int) ([]file, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectReleased, limit)
	if err != nil {
		return nil, unavailable("look for released files", err)
	}
	files, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f file, err error) { return f, row.Scan(&f.id, &f.key) })
	if err != nil {
		return nil, unavailable("look for released files", err)
	}
	return files, nil
}

const (
	lockRoom = `
SELECT FROM attachment_usage WHERE user_id = 0 OR user_id IN (SELECT user_id FROM attachments WHERE id = ANY ($1))
ORDER BY user_id DESC FOR UPDATE`
	forgetFiles = `
WITH gone AS (DELETE FROM attachments WHERE id = ANY ($1) RETURNING user_id, size),
     room AS (SELECT user_id, sum(size) AS bytes FROM gone GROUP BY user_id UNION ALL SELECT 0, sum(size) FROM gone)
UPDATE attachment_usage u SET bytes = u.bytes - r.bytes FROM room r WHERE u.user_id = r.user_id AND r.bytes IS NOT NULL`
)

// forget takes out the rows of files that are deleted, and gives their room back, once whoever else does the same.
func (s store) forget(ctx context.Context, ids []int64) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRoom, ids); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, forgetFiles, ids)
		return err
	})
	if err != nil {
		return unavailable("forget files", err)
	}
	return nil
}

const selectUsage = `SELECT coalesce((SELECT bytes FROM attachment_usage WHERE user_id = 0), 0)`

// used is how many bytes all files have together.
func (s store) used(ctx context.Context) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := s.pool.QueryRow(ctx, selectUsage).Scan(&n); err != nil {
		return 0, unavailable("count the bytes of files", err)
	}
	return n, nil
}
