package bench

import (
	"bufio"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/token"
)

const (
	loginCallers   = 2 // a hash takes a core: who waits longer than half a second is told to come back
	requestCallers = 16
	revokedSockets = 1000
)

// auth: logins, the cheapest request that is authenticated with a token that the server knows and with ones that it has never seen, and
// how long it takes from the call that ends a login until its sockets are closed.
func (w *world) auth(b *testing.B) {
	anybody, err := client.New(client.Config{URL: "http://" + w.addr})
	check(b, err)
	defer anybody.CloseIdle()
	for range b.N {
		logins := w.on(b, "logins", func() (int, []time.Duration) {
			return closedLoop(b, loginCallers, loadTime, func(i int) error {
				_, err := anybody.Login(context.Background(), fmt.Sprintf("bench%d", i), "correct horse battery")
				return err
			})
		})
		cached := w.on(b, "requests, token known", func() (int, []time.Duration) {
			return w.ask(b, func(caller int) string { return w.tokens[caller] })
		})
		fresh := w.on(b, "requests, token new", func() (int, []time.Duration) { return w.ask(b, w.minted(b)) })
		closes := w.revoke(b, anybody)

		b.ReportMetric(0, "ns/op") // a load has a fixed time, which says nothing
		b.ReportMetric(logins.perServerSecond(), "logins/xcord-cpu-s")
		b.ReportMetric(cached.perServerSecond(), "known/xcord-cpu-s")
		b.ReportMetric(fresh.perServerSecond(), "new/xcord-cpu-s")
		b.ReportMetric(closes.quantile(0.5), "revoke-p50-ms")
		b.ReportMetric(closes.quantile(1), "revoke-worst-ms")
		w.report.ratio(b, "x-cache", "requests per CPU-s of xcord: token known ÷ token new", cached.perServerSecond(), fresh.perServerSecond())
	}
}

// ask asks for /gateway/bot, which needs a token and nothing else.
func (w *world) ask(b *testing.B, tokenOf func(caller int) string) (int, []time.Duration) {
	b.Helper()
	web := &fasthttp.HostClient{Addr: w.addr, MaxConns: requestCallers}
	defer web.CloseIdleConnections()
	return closedLoop(b, requestCallers, loadTime, func(i int) error {
		req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(res)
		req.SetRequestURI("http://" + w.addr + "/api/v10/gateway/bot")
		req.Header.Set("Authorization", tokenOf(i))
		if err := web.Do(req, res); err != nil {
			return err
		}
		if res.StatusCode() != fasthttp.StatusOK {
			return fmt.Errorf("got %d %s", res.StatusCode(), res.Body())
		}
		return nil
	})
}

// minted makes a new token for each request, with the server's own key.
func (w *world) minted(b *testing.B) func(int) string {
	b.Helper()
	keys, err := token.Load(filepath.Join(w.dir, "data", "keys"), true)
	check(b, err)
	minter, err := token.NewMinter(token.Config{}, keys)
	check(b, err)
	return func(int) string { return minter.Mint(token.Claims{User: 1, Session: "bench"}) }
}

// revoke opens sockets with one login and ends it. A latency is from the call to the close of one socket.
func (w *world) revoke(b *testing.B, anybody *client.Client) row {
	b.Helper()
	in, err := anybody.Login(context.Background(), "bench0", "correct horse battery")
	check(b, err)
	readers := make([]*bufio.Reader, revokedSockets)
	for i := range readers {
		readers[i] = w.openSocket(b, in.Token)
	}
	return w.on(b, fmt.Sprintf("closes of %d sockets", revokedSockets), func() (int, []time.Duration) {
		lat, errs := make([]time.Duration, len(readers)), make([]error, len(readers))
		var began time.Time
		var reading sync.WaitGroup
		start := make(chan struct{})
		for i, r := range readers {
			reading.Go(func() {
				<-start
				for errs[i] == nil {
					var frame []byte
					frame, _, errs[i] = nextFrame(r)
					_, _ = r.Discard(len(frame))
				}
				lat[i] = time.Since(began)
			})
		}
		began = time.Now()
		close(start)
		check(b, anybody.WithToken(in.Token).Logout(context.Background()))
		reading.Wait()
		for _, err := range errs {
			if !strings.Contains(err.Error(), "session ended") {
				b.Fatalf("a socket was not closed for the end of its login: %v", err)
			}
		}
		return len(lat), lat
	})
}
