package messaging

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/wire"
)

const (
	historyRows    = 100_000 // of one channel
	historyPage    = 50
	historyReaders = 16 // at a time, each with a connection
	historyTime    = 2 * time.Second
)

// BenchmarkHistory reads pages of 50 messages of a channel of 100,000: the latest again and again (warm), and each page once after a start of
// Postgres, so that nothing of it is in Postgres' memory (cold; the kernel may have the file). Beside them the bare mechanisms: the same rows by
// pgx alone, and the same page by fasthttp and encoding/json alone. The readers are in the same process, and charged to all three alike; CPU-seconds
// are this process's, without Postgres. One operation is all loads; -benchtime 1x is right.
func BenchmarkHistory(b *testing.B) {
	h := newHistoryBench(b)
	for range b.N {
		warm := func(int) (id.ID, bool) { return 0, true }
		ours := h.load("history, warm", historyTime, warm, h.over(b, h.b.base))
		rows := h.load("SELECT of the same rows, warm", historyTime, warm, h.rows(b))
		bare := h.bareHTTP(b)
		plain := h.load("fasthttp + JSON of the same page", historyTime, warm, h.over(b, bare))
		h.restart(b)
		cold := h.load("history, cold", time.Minute, h.each(), h.over(b, h.b.base))
		h.restart(b)
		coldRows := h.load("SELECT of the same rows, cold", time.Minute, h.each(), h.rows(b))

		b.ReportMetric(0, "ns/op") // a load has a fixed time, which says nothing
		b.ReportMetric(ours.perCPU(), "warm-pages/cpu-s")
		b.ReportMetric(ours.ms(0.99), "warm-p99-ms")
		b.ReportMetric(cold.perCPU(), "cold-pages/cpu-s")
		b.ReportMetric(cold.ms(0.99), "cold-p99-ms")
		b.ReportMetric(ours.perCPU()/plain.perCPU(), "x-bare-HTTP")
		b.ReportMetric(ours.perCPU()/rows.perCPU(), "x-bare-SELECT")
		b.ReportMetric(cold.perCPU()/coldRows.perCPU(), "x-bare-SELECT-cold")
		h.print(ours, rows, plain, cold, coldRows)
	}
}

type historyBench struct {
	b      *bundle
	server *postgres.Local
	pool   *pgxpool.Pool // of the bare loads
	ids    []id.ID       // where pages begin
}

func newHistoryBench(b *testing.B) *historyBench {
	harness.Unwatched(b)
	dir, err := os.MkdirTemp("", "xcord-bench-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // as root the server runs under another account
	}
	if err != nil {
		b.Fatal(err)
	}
	h := &historyBench{server: postgres.NewLocal(postgres.LocalConfig{Dir: dir + "/pg", RunDir: dir + "/run"})}
	if err := h.server.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		h.server.Stop()
		_ = os.RemoveAll(dir)
	})
	if err := postgres.Migrate(b.Context(), h.server.URL()); err != nil {
		b.Fatal(err)
	}
	h.b = setupOn(b, Config{}, h.server.URL())
	h.b.start()
	h.pool = openPool(b, h.server.URL())
	h.fill(b)
	return h
}

// fill stores the messages as if they had been written long ago.
func (h *historyBench) fill(b *testing.B) {
	const batch = 2000
	body := string(mustEncode(wire.MessageBody{ChannelID: generalID, Content: strings.Repeat("word ", 20)}))
	for n := 0; n < historyRows; {
		var c columns
		for range batch {
			n++
			message := id.FromEntry(id.EpochMs+uint64(n), 0, 0)
			if n%historyPage == 0 {
				h.ids = append(h.ids, message)
			}
			c.channel, c.id = append(c.channel, int64(generalID)), append(c.id, int64(message))
			c.guild, c.author = append(c.guild, int64(guildID)), append(c.author, int64(memberID))
			c.kind, c.content, c.body = append(c.kind, 0), append(c.content, ""), append(c.body, body)
		}
		if _, err := h.pool.Exec(b.Context(), bareInsert, c.channel, c.id, c.guild, c.author, c.kind, c.content, c.body); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := h.pool.Exec(b.Context(), "ANALYZE messages"); err != nil {
		b.Fatal(err)
	}
	h.ids = h.ids[1:] // before the first there are fewer than a page
}

// each hands out every page once, at random.
func (h *historyBench) each() func(int) (id.ID, bool) {
	order := rand.Perm(len(h.ids))
	return func(n int) (id.ID, bool) {
		if n >= len(order) {
			return 0, false
		}
		return h.ids[order[n]], true
	}
}

// restart empties Postgres' memory, and comes back when a page is read again.
func (h *historyBench) restart(b *testing.B) {
	h.server.Stop()
	if err := h.server.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	eventually(b, func() bool {
		return h.b.do(memberID, "GET", h.page(h.ids[0]), nil).status == 200 && h.pool.Ping(b.Context()) == nil
	})
}

// page is where one is, the latest when before is 0.
func (h *historyBench) page(before id.ID) string {
	at := fmt.Sprintf("%s?limit=%d", path(generalID), historyPage)
	if before != 0 {
		at += "&before=" + before.String()
	}
	return at
}

// over reads pages over HTTP, each reader over a connection of its own, and returns their bytes. It is no HTTP client: it knows its server.
func (h *historyBench) over(b *testing.B, base string) func(reader int, before id.ID) int {
	host, prefix, _ := strings.Cut(strings.TrimPrefix(base, "http://"), "/")
	var conns [historyReaders]net.Conn
	var in [historyReaders]*bufio.Reader
	for i := range conns {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		conns[i], in[i] = conn, bufio.NewReader(conn)
	}
	return func(reader int, before id.ID) int {
		var res fasthttp.Response
		_, err := fmt.Fprintf(conns[reader], "GET /%s%s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n\r\n", prefix, h.page(before), host, memberID)
		if err == nil {
			err = res.Read(in[reader])
		}
		if err != nil || res.StatusCode() != fasthttp.StatusOK {
			b.Errorf("%v, %d %s", err, res.StatusCode(), res.Body())
		}
		return len(res.Body())
	}
}

// rows reads the rows of pages, and nothing else.
func (h *historyBench) rows(b *testing.B) func(int, id.ID) int {
	const query = `SELECT id, author_id, body, edit_id FROM messages WHERE channel_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`
	return func(_ int, before id.ID) (n int) {
		if before == 0 {
			before = 1<<63 - 1
		}
		rows, err := h.pool.Query(context.Background(), query, int64(generalID), int64(before), historyPage)
		if err == nil {
			var message, author, edit int64
			var body []byte
			_, err = pgx.ForEachRow(rows, []any{&message, &author, &body, &edit}, func() error {
				n += len(body)
				return nil
			})
		}
		if err != nil {
			b.Error(err)
		}
		return n
	}
}

// bareHTTP serves the latest page from memory: it is encoded each time.
func (h *historyBench) bareHTTP(b *testing.B) (base string) {
	var messages []wire.Message
	page := h.b.do(memberID, "GET", h.page(0), nil).body
	if err := json.Unmarshal(page, &messages); err != nil || len(messages) != historyPage {
		b.Fatalf("a page of %d messages: %v", len(messages), err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(c *fasthttp.RequestCtx) {
		out, err := json.Marshal(messages)
		if err != nil {
			b.Error(err)
		}
		c.SetContentType("application/json")
		c.SetBody(out)
	}}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	b.Cleanup(func() {
		_ = l.Close() // that ends it, and the readers close their connections
		serving.Wait()
	})
	return "http://" + l.Addr().String()
}

// reading is what a load has come to.
type reading struct {
	name  string
	bytes int64
	took  time.Duration
	cpu   time.Duration
	lat   []time.Duration // sorted
}

func (p reading) perCPU() float64      { return float64(len(p.lat)) / p.cpu.Seconds() }
func (p reading) ms(q float64) float64 { return p.lat[int(q*float64(len(p.lat)-1))].Seconds() * 1e3 }

// load has all readers read one page after the other, for a time or until there is none left.
func (h *historyBench) load(name string, d time.Duration, next func(int) (id.ID, bool), read func(reader int, before id.ID) int) reading {
	p := reading{name: name}
	var turn, bytes atomic.Int64
	each := make([][]time.Duration, historyReaders)
	var all sync.WaitGroup
	start, before := time.Now(), processCPU()
	for i := range historyReaders {
		all.Go(func() {
			for now := time.Now(); now.Sub(start) < d; {
				at, ok := next(int(turn.Add(1) - 1))
				if !ok {
					return
				}
				bytes.Add(int64(read(i, at)))
				then := now
				now = time.Now()
				each[i] = append(each[i], now.Sub(then))
			}
		})
	}
	all.Wait()
	p.took, p.cpu, p.bytes, p.lat = time.Since(start), processCPU()-before, bytes.Load(), slices.Concat(each...)
	slices.Sort(p.lat)
	return p
}

func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("BUG: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (h *historyBench) print(all ...reading) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "\npages of %d\tper CPU-s\tper second\tp50 ms\tp99 ms\tKB\tfirst ÷ this, per CPU-s\t\n", historyPage)
	for _, p := range all {
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.1f\t%.3f\t\n", p.name, p.perCPU(), float64(len(p.lat))/p.took.Seconds(), p.ms(0.5), p.ms(0.99),
			float64(p.bytes)/float64(len(p.lat))/1024, all[0].perCPU()/p.perCPU())
	}
	_ = w.Flush() // it is the terminal
}
