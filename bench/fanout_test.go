package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rates are posts a second that come whatever happens to those before them.
var rates = []int{20, 100}

// deliverTimeout is no measure of speed: what has not come by then does not come.
const deliverTimeout = 30 * time.Second

// fanout: posts into the channel that 200 sockets see; at saturation with 64 posts under way, and at fixed rates. Beside it
// a bare loop that writes frames of the same size to as many connections. A post is under way until its last delivery.
func (w *world) fanout(b *testing.B) {
	posters := w.openPosters(b, w.addr)
	post := func(slot int, at time.Time) error { return posters[slot].post(slot, at) }
	for range b.N {
		crowd := newCrowd()
		for i := range sockets {
			crowd.join(w.openSocket(b, w.tokens[i%people]))
		}
		crowd.saturate(b, warmUp, post)
		ours := w.on(b, "deliveries, saturated", func() (int, []time.Duration) { return crowd.saturate(b, loadTime, post) })
		var paced []row
		for _, rate := range rates {
			paced = append(paced, w.on(b, fmt.Sprintf("deliveries, %d posts/s", rate), func() (int, []time.Duration) {
				return crowd.pace(b, loadTime, rate, post)
			}))
		}
		w.settle(b)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(ours.perSecond(), "deliveries/s")
		b.ReportMetric(ours.perServerSecond(), "deliveries/xcord-cpu-s")
		b.ReportMetric(ours.quantile(0.99), "p99-ms")
		b.ReportMetric(paced[1].quantile(0.5), "p50-ms-at-100/s")
		b.ReportMetric(paced[1].quantile(0.99), "p99-ms-at-100/s")

		single := w.bareLoop(b, crowd.sample(), 1)
		many := w.bareLoop(b, crowd.sample(), 16)
		w.report.ratio(b, "x-bare-loop", "deliveries per CPU-s, saturated ÷ bare loop", ours.perServerSecond(), single[0].perServerSecond())
		w.report.ratio(b, "x-bare-16", "deliveries per CPU-s, saturated ÷ bare loop of ≤ 16 frames a write (T2: 0.70)",
			ours.perServerSecond(), many[0].perServerSecond())
		for i, rate := range rates {
			w.report.ratio(b, fmt.Sprintf("x-bare-at-%d/s", rate), fmt.Sprintf("deliveries per CPU-s, %d posts/s ÷ bare loop (T1: 0.85)", rate),
				paced[i].perServerSecond(), single[1+i].perServerSecond())
		}
	}
}

// bareLoop puts the same loads on the relay; the fixed rates only where it writes one frame at a time.
func (w *world) bareLoop(b *testing.B, frame []byte, frames int) (rows []row) {
	b.Helper()
	addr, pid := startBare(b, "relay", fmt.Sprintln(len(frame), frames))
	crowd := newCrowd()
	for range sockets {
		crowd.join(bufio.NewReaderSize(dialRelay(b, addr, relayReceive), socketBuffer))
	}
	conn, behind := dialRelay(b, addr, relaySend), frame[bytes.Index(frame, []byte(mark))+len(mark):]
	var mu sync.Mutex // one stream of frames
	post := func(slot int, at time.Time) error {
		mu.Lock()
		defer mu.Unlock()
		write(behind, slot, at)
		_, err := conn.Write(frame)
		return err
	}
	crowd.saturate(b, warmUp/2, post)
	rows = append(rows, w.beside(b, fmt.Sprintf("bare loop, saturated, ≤ %d a write", frames), pids{server: pid}, func() (int, []time.Duration) {
		return crowd.saturate(b, bareTime, post)
	}))
	for _, rate := range rates {
		if frames == 1 {
			rows = append(rows, w.beside(b, fmt.Sprintf("bare loop, %d posts/s", rate), pids{server: pid}, func() (int, []time.Duration) {
				return crowd.pace(b, bareTime, rate, post)
			}))
		}
	}
	return rows
}

// crowd is everybody who gets the posts of a load, and what they have got.
type crowd struct {
	receivers []*receiver
	total     atomic.Int64
	missing   [senders]atomic.Int64 // deliveries of the slot's post that have not come yet
	complete  [senders]chan struct{}
	failed    chan error
}

type receiver struct {
	mu    sync.Mutex
	lat   []time.Duration
	frame []byte // the first one that was counted, of the first receiver
}

func newCrowd() *crowd {
	c := &crowd{failed: make(chan error, sockets)}
	for i := range c.complete {
		c.complete[i] = make(chan struct{}, 1)
	}
	return c
}

// join adds a receiver. It reads until its connection ends.
func (c *crowd) join(r *bufio.Reader) {
	me := &receiver{}
	c.receivers = append(c.receivers, me)
	first := len(c.receivers) == 1
	go func() {
		for {
			frame, payload, err := nextFrame(r)
			if err != nil {
				c.failed <- err // it has room for everybody's
				return
			}
			slot, sent, ok := read(payload)
			if ok {
				me.mu.Lock()
				me.lat = append(me.lat, time.Since(sent))
				if first && me.frame == nil {
					me.frame = bytes.Clone(frame)
				}
				me.mu.Unlock()
				c.total.Add(1)
				if c.missing[slot].Add(-1) == 0 {
					c.complete[slot] <- struct{}{}
				}
			}
			_, _ = r.Discard(len(frame)) // it has been peeked
		}
	}()
}

// sample is a frame as it was delivered.
func (c *crowd) sample() []byte {
	r := c.receivers[0]
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.frame)
}

// drain returns how much was delivered, with the latencies, and begins anew.
func (c *crowd) drain() (int, []time.Duration) {
	var lat []time.Duration
	for _, r := range c.receivers {
		r.mu.Lock()
		lat = append(lat, r.lat...)
		r.lat = r.lat[:0]
		r.mu.Unlock()
	}
	c.total.Store(0)
	return len(lat), lat
}

func (c *crowd) wait(done <-chan struct{}) error {
	timer := time.NewTimer(deliverTimeout)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case err := <-c.failed:
		return fmt.Errorf("a receiver has ended: %w", err)
	case <-timer.C:
		return errors.New("a delivery is missing")
	}
}

// saturate keeps a post of every sender under way until its last delivery.
func (c *crowd) saturate(b *testing.B, d time.Duration, post func(slot int, at time.Time) error) (int, []time.Duration) {
	b.Helper()
	closedLoop(b, senders, d, func(slot int) error {
		c.missing[slot].Store(int64(len(c.receivers)))
		if err := post(slot, time.Now()); err != nil {
			return err
		}
		return c.wait(c.complete[slot])
	})
	return c.drain()
}

// pace sends at a fixed rate, and takes the time from when a post was due.
func (c *crowd) pace(b *testing.B, d time.Duration, rate int, post func(slot int, at time.Time) error) (int, []time.Duration) {
	b.Helper()
	for i := range c.missing {
		c.missing[i].Store(0) // nobody waits for a slot's last delivery
	}
	n := int(d.Seconds() * float64(rate))
	due := make(chan time.Time, n)
	errs := make(chan error, senders)
	for slot := range senders {
		go func() {
			var err error
			for at := range due {
				err = errors.Join(err, post(slot, at))
			}
			errs <- err
		}()
	}
	start := time.Now()
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		<-time.After(time.Until(at))
		due <- at
	}
	close(due)
	for range senders {
		check(b, <-errs)
	}
	done := make(chan struct{})
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for c.total.Load() < int64(n*len(c.receivers)) {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
		close(done)
	}()
	check(b, c.wait(done))
	return c.drain()
}

// socketBuffer holds the largest frame that comes, GUILD_CREATE.
const socketBuffer = 64 << 10

// intents are GUILDS, GUILD_MESSAGES and MESSAGE_CONTENT.
const intents = 1<<0 | 1<<9 | 1<<15

// openSocket opens a session and reads it up to its guild. It sends no heartbeat: one must come within the first minute, and
// the load is over before. A receiver is no client library, so that 200 of them leave the machine to the server.
func (w *world) openSocket(b *testing.B, token string) *bufio.Reader {
	b.Helper()
	conn, err := net.Dial("tcp", w.addr)
	check(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /?v=10&encoding=json HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n", w.addr)
	check(b, err)
	r := bufio.NewReaderSize(conn, socketBuffer)
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil || strings.HasPrefix(line, "HTTP/1.1 ") && !strings.HasPrefix(line, "HTTP/1.1 101") {
			b.Fatalf("upgrade: %q %v", line, err)
		}
	}
	identify := fmt.Sprintf(`{"op":2,"d":{"token":%q,"intents":%d,"properties":{"os":"linux","browser":"bench","device":"bench"}}}`, token, intents)
	// FIN and text; masked, as a client's frames must be, with a mask of zeros; the length in 16 bits.
	frame := append(binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(identify))), 0, 0, 0, 0)
	_, err = conn.Write(append(frame, identify...))
	check(b, err)
	for {
		frame, payload, err := nextFrame(r)
		check(b, err)
		begun := bytes.Contains(payload, []byte(`"t":"GUILD_CREATE"`))
		_, _ = r.Discard(len(frame))
		if begun {
			return r
		}
	}
}

// nextFrame looks at the next frame of a server, which is not masked. It is in the reader's buffer, and stays there until
// it is discarded.
func nextFrame(r *bufio.Reader) (frame, payload []byte, err error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, nil, err
	}
	size, length := 2, int(head[1])
	switch length {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if head, err = r.Peek(size); err != nil {
		return nil, nil, err
	}
	if size > 2 {
		length = int(binary.BigEndian.Uint64(slices.Concat(make([]byte, 8), head[2:])[size-2:]))
	}
	if frame, err = r.Peek(size + length); err != nil {
		return nil, nil, err
	}
	if payload = frame[size:]; frame[0] == 0x88 {
		return nil, nil, fmt.Errorf("closed: %q", payload)
	}
	return frame, payload, nil
}
