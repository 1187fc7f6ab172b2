package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/redis"
)

// posts: 64 senders post as fast as they are answered, beside a bare XADD of the same entry and a bare POST.
func (w *world) posts(b *testing.B) {
	load := w.openPosters(b, w.addr)
	for range b.N {
		closedLoop(b, senders, warmUp, func(i int) error { return load[i].post(i, time.Now()) })
		const mallocs = "go_memstats_mallocs_total"
		before := w.metrics(b)(mallocs)
		ours := w.on(b, "posts", func() (int, []time.Duration) {
			return closedLoop(b, senders, loadTime, func(i int) error { return load[i].post(i, time.Now()) })
		})
		allocs := (w.metrics(b)(mallocs) - before) / float64(ours.count)
		w.settle(b)
		xadd, post := w.bareXADD(b), w.barePost(b)

		b.ReportMetric(0, "ns/op") // a load has a fixed time, which says nothing
		b.ReportMetric(ours.perSecond(), "posts/s")
		b.ReportMetric(ours.quantile(0.5), "p50-ms")
		b.ReportMetric(ours.quantile(0.99), "p99-ms")
		b.ReportMetric(ours.perServerSecond(), "posts/xcord-cpu-s")
		b.ReportMetric(ours.perAllSecond(), "posts/all-cpu-s")
		b.ReportMetric(allocs, "xcord-allocs/post")
		w.report.ratio(b, "x-bare-XADD", "posts/s ÷ bare XADD/s", ours.perSecond(), xadd.perSecond())
		w.report.ratio(b, "x-bare-POST", "posts/s ÷ bare fasthttp POST + JSON /s", ours.perSecond(), post.perSecond())
		w.report.ratio(b, "x-bare-POST-cpu", "posts per CPU-s of xcord ÷ bare fasthttp per CPU-s (T4: 0.5)", ours.perServerSecond(), post.perServerSecond())
		w.report.ratio(b, "x-T4", "posts per CPU-s of all servers ÷ T4's 20,000", ours.perAllSecond(), 20_000)
	}
}

// Where a poster writes who and when: a slot of two digits, and nanoseconds since 1970, which have 19 digits until 2286.
// The text around it comes to the 100 bytes of a usual message.
const (
	mark    = `"content":"b:`
	stamp   = "00:0000000000000000000"
	content = "b:" + stamp + " the quick brown fox jumps over the lazy dog, and then it sleeps, as it should"
)

// write puts slot and time behind a mark.
func write(behind []byte, slot int, at time.Time) {
	behind[0], behind[1] = byte('0'+slot/10), byte('0'+slot%10)
	strconv.AppendInt(behind[3:3], at.UnixNano(), 10)
}

// read is the slot and time behind a mark; ok is false when there is none.
func read(payload []byte) (slot int, at time.Time, ok bool) {
	i := bytes.Index(payload, []byte(mark))
	if i < 0 || len(payload) < i+len(mark)+len(stamp) {
		return 0, time.Time{}, false
	}
	behind := payload[i+len(mark):]
	var ns int64
	for _, c := range behind[3:len(stamp)] {
		ns = 10*ns + int64(c-'0')
	}
	return 10*int(behind[0]-'0') + int(behind[1]-'0'), time.Unix(0, ns), true
}

// poster is a persistent connection and the one request that is sent over it. It is no HTTP client: it knows its server.
type poster struct {
	conn    net.Conn
	r       *bufio.Reader
	request []byte
	stamp   []byte // in request
	res     fasthttp.Response
}

func (w *world) openPosters(b *testing.B, addr string) []*poster {
	b.Helper()
	all := make([]*poster, senders)
	for i := range all {
		body := `{"content":"` + content + `"}`
		p := &poster{request: fmt.Appendf(nil, "POST /api/v10/channels/%d/messages HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", w.channel, addr, w.tokens[i%people], len(body), body)}
		p.stamp = p.request[bytes.Index(p.request, []byte(mark))+len(mark):]
		var err error
		p.conn, err = net.Dial("tcp", addr)
		check(b, err)
		b.Cleanup(func() { _ = p.conn.Close() })
		p.r = bufio.NewReader(p.conn)
		all[i] = p
	}
	return all
}

// post sends the request and reads the answer.
func (p *poster) post(slot int, at time.Time) error {
	write(p.stamp, slot, at)
	if _, err := p.conn.Write(p.request); err != nil {
		return err
	}
	if err := p.res.Read(p.r); err != nil {
		return err
	}
	if p.res.StatusCode() != fasthttp.StatusOK || !bytes.Contains(p.res.Body(), p.stamp[:len(stamp)]) {
		return fmt.Errorf("%d: %s", p.res.StatusCode(), p.res.Body())
	}
	return nil
}

// barePost puts the same load on a server of nothing but fasthttp and encoding/json.
func (w *world) barePost(b *testing.B) row {
	addr, pid := startBare(b, "http", "")
	load := w.openPosters(b, addr)
	closedLoop(b, senders, warmUp/2, func(i int) error { return load[i].post(i, time.Now()) })
	return w.beside(b, "bare POST", pids{server: pid}, func() (int, []time.Duration) {
		return closedLoop(b, senders, bareTime, func(i int) error { return load[i].post(i, time.Now()) })
	})
}

// bareXADD appends the log's latest entry again and again to a stream of another server of the same kind.
func (w *world) bareXADD(b *testing.B) row {
	b.Helper()
	ctx := context.Background()
	server := redis.NewLocal(redis.LocalConfig{Dir: filepath.Join(w.dir, "bare-redis")})
	check(b, server.Start(ctx))
	defer server.Stop()
	bare, err := redis.Open(ctx, redis.Config{URL: server.URL()})
	check(b, err)
	defer bare.Close()
	entry := w.latestEntry(b)
	call := func(int) error {
		cmd := bare.B().Arbitrary("XADD").Keys("bare").Args("*")
		for _, f := range entry.FieldValues {
			cmd = cmd.Args(f.Field, f.Value)
		}
		return bare.Do(ctx, cmd.Build()).Error()
	}
	closedLoop(b, senders, warmUp/2, call)
	return w.beside(b, "bare XADD", pids{redis: server.Pid()}, func() (int, []time.Duration) {
		return closedLoop(b, senders, bareTime, call)
	})
}

func (w *world) latestEntry(b *testing.B) rueidis.XRangeSlice {
	b.Helper()
	ctx := context.Background()
	c, err := redis.Open(ctx, redis.Config{URL: w.redis.AdminURL()})
	check(b, err)
	defer c.Close()
	entries, err := c.Do(ctx, c.B().Xrevrange().Key("ev:{s00}").End("+").Start("-").Count(1).Build()).AsXRangeSlices()
	if err != nil || len(entries) == 0 {
		b.Fatalf("read the log: %d entries, %v", len(entries), err)
	}
	return entries[0]
}
