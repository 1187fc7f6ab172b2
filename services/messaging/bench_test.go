package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/wire"
)

// durable is a Postgres that syncs every commit, as in production; the harness's does not.
func durable(b *testing.B) *pgxpool.Pool {
	b.Helper()
	dir, err := os.MkdirTemp("", "xcord-bench-")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // as root the server runs under another account
		b.Fatal(err)
	}
	server := postgres.NewLocal(postgres.LocalConfig{Dir: dir + "/pg", RunDir: dir + "/run"})
	if err := server.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		server.Stop()
		_ = os.RemoveAll(dir)
	})
	if err := postgres.Migrate(b.Context(), server.URL()); err != nil {
		b.Fatal(err)
	}
	return openPool(b, server.URL())
}

// feed makes batches of new messages of about 550 bytes on the bus, spread over ten channels.
type feed struct{ n int }

func (f *feed) batch(size int) []bus.Entry {
	member := mustEncode(wire.MemberFields{Roles: wire.List[id.ID]{1, 2}})
	author := json.RawMessage(mustEncode(wire.User{ID: memberID, Username: "somebody"}))
	entries := make([]bus.Entry, size)
	for i := range entries {
		f.n++
		channel := generalID + id.ID(f.n%10)
		entries[i] = bus.Entry{
			Pos: at(f.n), Type: wire.MessageSent, Actor: memberID, Guild: guildID, Channel: channel,
			Body: mustEncode(wire.MessageSentPayload{
				Message: mustEncode(wire.MessageBody{ChannelID: channel, Content: strings.Repeat("word ", 20)}),
				Author:  author, Member: member,
			}),
		}
	}
	return entries
}

// The writer as it is, beside a bare INSERT … unnest of the same kind of rows into the same table: the difference is what decoding,
// folding, tombstones, the checkpoint and the fence cost. Both commit durably, batch by batch, and take turns, because
// disks and shared machines have moods. Making the entries is not charged.
func BenchmarkWriter_RowsPerSecond(b *testing.B) {
	const size = 500
	pool := durable(b)
	w := &writer{store: store{pool}, timeout: 30 * time.Second, lease: time.Hour}
	takeLead(b, w)
	var f feed
	var writing, baring time.Duration
	b.ReportAllocs()
	for b.Loop() {
		entries := f.batch(size)
		start := time.Now()
		if err := w.persist(context.Background(), entries); err != nil {
			b.Fatal(err)
		}
		writing += time.Since(start)

		folded, err := fold(f.batch(size))
		if err != nil {
			b.Fatal(err)
		}
		c := folded.creates()
		start = time.Now()
		_, err = w.held.conn.Exec(context.Background(), bareInsert, c.channel, c.id, c.guild, c.author, c.kind, c.content, c.body)
		if err != nil {
			b.Fatal(err)
		}
		baring += time.Since(start)
	}
	rows := float64(b.N * size)
	b.ReportMetric(rows/writing.Seconds(), "writer-rows/s")
	b.ReportMetric(rows/baring.Seconds(), "bare-rows/s")
	b.ReportMetric(baring.Seconds()/writing.Seconds(), "writer/bare")
}

const bareInsert = `
INSERT INTO messages (channel_id, id, guild_id, author_id, type, content, body)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[], $7::text[])`

// What one message costs the writer before Postgres sees it.
func BenchmarkFold(b *testing.B) {
	var f feed
	entries := f.batch(500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fold(entries); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(entries))/b.Elapsed().Seconds(), "rows/s")
}

// Searches among 100,000 messages of one guild, after they were indexed: by a word that is in every tenth of them, by one that is in a
// hundred, and by two; and by an author, newest first. Making the entries is not charged.
func BenchmarkSearch(b *testing.B) {
	const size, batches = 500, 200
	pool := durable(b)
	x := &indexer{store: store{pool}, timeout: 30 * time.Second, lease: time.Hour}
	release, err := x.lead(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	var spent time.Duration
	for n := range batches {
		entries := make([]bus.Entry, size)
		for i := range entries {
			k := n*size + i
			text := fmt.Sprintf("word%d and some other words about number %d, seldom%d, %s", k%10, k, k%1000, strings.Repeat("more ", 10))
			entries[i] = sentEntry(at(k+1), generalID, text)
			entries[i].Actor = id.ID(k % 50)
		}
		start := time.Now()
		if err := x.index(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(start)
	}
	indexed := float64(size*batches) / spent.Seconds()
	if _, err := pool.Exec(b.Context(), "VACUUM ANALYZE message_search"); err != nil {
		b.Fatal(err)
	}
	channels := []id.ID{generalID}
	for name, q := range map[string]search{
		"common": {words: "word3"}, "all": {words: "words"}, "seldom": {words: "seldom77"}, "both": {words: "word7 seldom77"}, "relevance": {words: "word3", byRelevance: true},
		"phrase": {words: `"some other words"`}, "author": {authors: []id.ID{7}}, "everything": {}, "nothing": {words: "absent"},
	} {
		q.guild, q.channels, q.limit = guildID, channels, wire.SearchPage
		b.Run(name, func(b *testing.B) {
			total := 0
			for b.Loop() {
				if _, total, err = x.store.search(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(total), "hits")
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/search")
			b.ReportMetric(indexed, "indexed-rows/s")
		})
	}
}
