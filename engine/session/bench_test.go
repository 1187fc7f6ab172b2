package session

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/wire"
)

// BenchmarkFanout charges for one message to each of n sessions: finding and offering, numbering, writing and the reading
// of the clients, which are in the same process. burst messages are under way at once, so that several share a write.
func BenchmarkFanout(b *testing.B) {
	for _, burst := range []int{1, 32} {
		b.Run(fmt.Sprintf("500 sessions, bursts of %d", burst), func(b *testing.B) { fanout(b, 500, burst) })
	}
}

func fanout(b *testing.B, n, burst int) {
	s := setup(b, Config{})
	s.hall.left = make(chan bool, n)
	var got, target atomic.Int64
	reached := make(chan struct{}, 1)
	var reading sync.WaitGroup
	for range n {
		c, r := s.raw()
		if _, err := c.Write(maskedText(`{"op":2,"d":{"token":"good","intents":513}}`)); err != nil {
			b.Fatal(err)
		}
		reading.Go(func() {
			for {
				k, err := frameLength(r)
				if err != nil {
					return
				}
				if _, err := r.Discard(k); err != nil {
					return
				}
				if got.Add(1) == target.Load() {
					reached <- struct{}{}
				}
			}
		})
	}
	for got.Load() < int64(2*n) { // HELLO and READY
		yield()
	}
	base := got.Load()
	body := fmt.Appendf(nil, `{"content":%q}`, make([]byte, 100))
	b.ReportAllocs()
	sent := int64(0)
	for b.Loop() {
		sent += int64(n * burst)
		target.Store(base + sent)
		s.hall.mu.Lock()
		for range burst {
			s.hall.pos.Ms++
			s.hall.hub.Send(&hub.Event{
				Point: hub.Point{Pos: s.hall.pos}, Name: "MESSAGE_CREATE", Guild: guild, Channel: channel,
				Intents: wire.IntentGuildMessages, Durable: true, Body: body,
			})
		}
		s.hall.mu.Unlock()
		<-reached
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "deliveries/s")
	s.acceptor.Stop()
	reading.Wait()
}
