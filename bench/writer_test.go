package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// fillTime is how long posts pile up in the log while Postgres is away.
const fillTime = 6 * time.Second

// writer: Postgres goes away, posts pile up, Postgres comes back: how fast the log gets into the table. It is timed from the
// first row after the outage on, so that neither the start of Postgres nor the pause of a retry counts. Beside it the same
// rows, 500 a statement, from one connection into a table of the same kind.
func (w *world) writer(b *testing.B) {
	ctx := context.Background()
	load := w.openPosters(b, w.addr)
	for range b.N {
		w.settle(b)
		w.postgres.Stop()
		w.noPostgres = true
		fill := w.on(b, "posts, Postgres away", func() (int, []time.Duration) {
			return closedLoop(b, senders, fillTime, func(i int) error { return load[i].post(i, time.Now()) })
		})
		check(b, w.postgres.Start(ctx))
		w.noPostgres = false
		stored := w.metrics(b)(rowsMetric)
		w.until(b, "the writer is back", func() error {
			if w.metrics(b)(rowsMetric) == stored {
				return fmt.Errorf("%d rows wait", fill.count)
			}
			return nil
		})
		drain := w.on(b, "rows, drained", func() (int, []time.Duration) {
			first := w.metrics(b)(rowsMetric)
			w.settle(b)
			return int(w.metrics(b)(rowsMetric) - first), nil
		})
		bare := w.bareInsert(b, fill.count)

		b.ReportMetric(0, "ns/op")
		b.ReportMetric(drain.perSecond(), "rows/s")
		b.ReportMetric(drain.perAllSecond(), "rows/all-cpu-s")
		w.report.ratio(b, "x-bare-unnest", "rows/s, drained ÷ bare INSERT … unnest of 500 (T6: 0.75)", drain.perSecond(), bare.perSecond())
		w.report.ratio(b, "x-ingest", "rows/s, drained ÷ posts/s, Postgres away (T6: 3)", drain.perSecond(), fill.perSecond())
	}
}

const (
	countMessages = `select count(*) from messages`
	makeBare      = `drop table if exists bare; create table bare (like messages including all)`
	selectLatest  = `select channel_id, id, guild_id, author_id, type, content, body, edit_id from messages order by channel_id, id desc limit $1`
	insertBare    = `insert into bare (channel_id, id, guild_id, author_id, type, content, body, edit_id)
select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[], $7::text[], $8::bigint[])`
	bareBatch = 500
)

const rowsMetric = `xcord_messaging_rows_total{op="insert"}`

// columns are rows the way unnest takes them.
type columns struct {
	channel, id, guild, author []int64
	kind                       []int16
	content, body              []string
	edit                       []int64
}

// bareInsert writes the latest rows again. It also counts them all: what was answered is there.
func (w *world) bareInsert(b *testing.B, n int) row {
	b.Helper()
	ctx := context.Background()
	conn, err := w.pool.Acquire(ctx)
	check(b, err)
	defer conn.Release()
	var stored int
	check(b, conn.QueryRow(ctx, countMessages).Scan(&stored))
	if posted := int(w.metrics(b)(`xcord_messaging_posts_total{op="create"}`)); stored != posted {
		b.Fatalf("%d messages were accepted, and %d are stored", posted, stored)
	}
	_, err = conn.Exec(ctx, makeBare)
	check(b, err)
	batches := readBatches(b, conn, n)
	return w.beside(b, "bare INSERT … unnest", pids{postgres: w.postgres.Pid()}, func() (done int, _ []time.Duration) {
		for _, c := range batches {
			tag, err := conn.Exec(ctx, insertBare, c.channel, c.id, c.guild, c.author, c.kind, c.content, c.body, c.edit)
			check(b, err)
			done += int(tag.RowsAffected())
		}
		return done, nil
	})
}

// readBatches reads the latest n messages, oldest first.
func readBatches(b *testing.B, conn *pgxpool.Conn, n int) []columns {
	b.Helper()
	rows, err := conn.Query(context.Background(), "select * from ("+selectLatest+") latest order by id", n)
	check(b, err)
	defer rows.Close()
	var batches []columns
	for i := 0; rows.Next(); i++ {
		if i%bareBatch == 0 {
			batches = append(batches, columns{})
		}
		c := &batches[len(batches)-1]
		var channel, id, guild, author, edit int64
		var kind int16
		var content, body string
		check(b, rows.Scan(&channel, &id, &guild, &author, &kind, &content, &body, &edit))
		c.channel, c.id, c.guild, c.author = append(c.channel, channel), append(c.id, id), append(c.guild, guild), append(c.author, author)
		c.kind, c.content, c.body = append(c.kind, kind), append(c.content, content), append(c.body, body)
		c.edit = append(c.edit, edit)
	}
	check(b, rows.Err())
	return batches
}
