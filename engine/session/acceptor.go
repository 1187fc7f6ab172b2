package session

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/wire"
)

var (
	refusedOrigin  = metrics.NewCounter(`xcord_session_refused_total{reason="origin"}`)
	refusedWaiting = metrics.NewCounter(`xcord_session_refused_total{reason="waiting"}`)
	refusedOpen    = metrics.NewCounter(`xcord_session_refused_total{reason="open"}`)
	refusedStopped = metrics.NewCounter(`xcord_session_refused_total{reason="stopped"}`)
	closedTotal    = closeCounters()
)

// closeCounters are by code; what is not ours counts as other.
func closeCounters() map[int]*metrics.Counter {
	counters := map[int]*metrics.Counter{0: metrics.NewCounter(`xcord_session_closes_total{code="other"}`)}
	for _, code := range []int{1000, 1001, 1002, 1005, 1006, 1007, 4000, 4001, 4002, 4003, 4004, 4005, 4007, 4008, 4009, 4010, 4012, 4013, 4014} {
		counters[code] = metrics.NewCounter(`xcord_session_closes_total{code="` + strconv.Itoa(code) + `"}`)
	}
	return counters
}

func countClose(code int) {
	c := closedTotal[code]
	if c == nil {
		c = closedTotal[0]
	}
	c.Inc()
}

// Acceptor upgrades requests, keeps the connections that are open and ends them when it stops. Before Start and after Stop it
// refuses with 503.
type Acceptor struct {
	cfg      Config
	gw       Gateway
	commands *wire.Commands
	upgrader websocket.FastHTTPUpgrader

	on life.Switch

	mu      sync.Mutex // guards what follows
	started bool
	open    map[*Session]*guest
	waiting map[netip.Prefix]int // connections without a session, by where they come from
	all     map[netip.Prefix]int // all connections, by where they come from
	idle    chan struct{}        // closed when stopped and nothing is open any more
}

// guest is an open connection. waits is true until it has a session.
type guest struct {
	addr  netip.Prefix
	waits bool
}

// NewAcceptor makes an Acceptor.
func NewAcceptor(cfg Config, gw Gateway) *Acceptor {
	a := &Acceptor{
		cfg: cfg.withDefaults(), gw: gw, commands: wire.NewCommands(),
		open: map[*Session]*guest{}, waiting: map[netip.Prefix]int{}, all: map[netip.Prefix]int{},
	}
	a.upgrader = websocket.FastHTTPUpgrader{
		// Both would be kept for the life of the connection. Frames of clients are small; the library writes none.
		ReadBufferSize: 512, WriteBufferSize: 256,
		WriteBufferPool: new(sync.Pool),
		CheckOrigin:     a.allowed,
		Error:           refuse,
	}
	return a
}

// Start begins to accept.
func (a *Acceptor) Start(context.Context) error {
	return a.on.Start(func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.started, a.idle = true, make(chan struct{})
		return nil
	})
}

// Stop refuses what comes, tells every client to reconnect, one after the other, and waits until all connections are gone.
func (a *Acceptor) Stop() {
	a.on.Stop(func() {
		a.mu.Lock()
		a.started = false
		idle := a.idle
		sessions := slices.Collect(maps.Keys(a.open)) // in no order
		if len(sessions) == 0 {
			close(idle)
		}
		a.mu.Unlock()
		a.drain(sessions, idle)
	})
}

const (
	// reconnectPause is how long a stop takes for each client at most: a hundred that come back in a second are no storm.
	reconnectPause = 10 * time.Millisecond
	// leaveTimeout is how long a session may take to leave in peace: as long as Redis may take to answer, and a bit.
	leaveTimeout = 3 * time.Second
)

// drain lets sessions leave, spread over the time for it, and closes those that do not.
func (a *Acceptor) drain(sessions []*Session, idle <-chan struct{}) {
	slot := reconnectPause
	if n := time.Duration(len(sessions)); n > 0 {
		slot = min(slot, a.cfg.ReconnectSpread/n)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for begin, i := time.Now(), 0; i < len(sessions); i++ {
		timer.Reset(time.Until(begin.Add(time.Duration(i)*slot + time.Duration(rand.Float64()*float64(slot)))))
		select {
		case <-idle: // they have all gone by themselves
			return
		case <-timer.C:
			sessions[i].Leave()
		}
	}
	timer.Reset(leaveTimeout)
	select {
	case <-idle:
	case <-timer.C:
		for _, s := range sessions {
			s.Reconnect()
		}
		<-idle
	}
}

// Open is how many connections are open, and how many of them have no session.
func (a *Acceptor) Open() (connections, waiting int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.waiting {
		waiting += n
	}
	return len(a.open), waiting
}

// Handle upgrades a request; one that does not ask for it is answered like any path that does not exist.
func (a *Acceptor) Handle(ctx *fasthttp.RequestCtx) {
	if !websocket.FastHTTPIsWebSocketUpgrade(ctx) {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetContentType("application/json")
		ctx.SetBodyString(`{"message":"404: Not Found","code":0}`)
		return
	}
	query := ctx.QueryArgs()
	if encoding := string(query.Peek("encoding")); encoding != "" && encoding != "json" {
		refuse(ctx, fasthttp.StatusBadRequest, nil)
		return
	}
	info := Info{Version: 10, Origin: origin(ctx)}
	if v := query.Peek("v"); len(v) > 0 {
		info.Version, _ = strconv.Atoi(string(v)) // what is no number is no version either
	}
	addr := prefixOf(ctx)
	if status := a.admit(addr); status != 0 {
		refuse(ctx, status, nil)
		return
	}
	// Nothing of ctx may be used in there.
	_ = a.upgrader.Upgrade(ctx, func(ws *websocket.Conn) { a.serve(ws, info, addr) }) // answered by refuse
}

func refuse(ctx *fasthttp.RequestCtx, status int, _ error) {
	ctx.Response.Header.Set("Sec-Websocket-Version", "13")
	if status == fasthttp.StatusTooManyRequests || status == fasthttp.StatusServiceUnavailable {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "5")
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.SetBodyString(`{"message":"` + strconv.Itoa(status) + ": " + fasthttp.StatusMessage(status) + `","code":0}`)
}

func origin(ctx *fasthttp.RequestCtx) string {
	scheme := "ws://"
	if ctx.IsTLS() {
		scheme = "wss://"
	}
	return scheme + string(ctx.Host())
}

// allowed says whether a page from somewhere may connect. Without the header it is no browser; the token does not travel
// in a cookie, so that is no way around.
func (a *Acceptor) allowed(ctx *fasthttp.RequestCtx) bool {
	header := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
	if header == "" || slices.Contains(a.cfg.Origins, "*") || slices.Contains(a.cfg.Origins, header) {
		return true
	}
	u, err := url.Parse(header)
	if err == nil && u.Host != "" && strings.EqualFold(u.Host, string(ctx.Host())) {
		return true
	}
	refusedOrigin.Inc()
	return false
}

// prefixOf is what a client's address is counted by: whoever has an IPv6 address has 2^64 of them. The zero prefix is not
// counted.
func prefixOf(ctx *fasthttp.RequestCtx) netip.Prefix {
	addr, ok := netip.AddrFromSlice(ctx.RemoteIP())
	addr = addr.Unmap()
	if !ok || addr.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return p
}

// admit answers a status to refuse a connection with, or 0.
func (a *Acceptor) admit(addr netip.Prefix) (status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.started:
		refusedStopped.Inc()
		return fasthttp.StatusServiceUnavailable
	case a.full(addr):
		return fasthttp.StatusTooManyRequests
	}
	return 0
}

// full says whether an address has as many connections as it may. mu is held.
func (a *Acceptor) full(addr netip.Prefix) bool {
	switch {
	case !addr.IsValid():
		return false
	case a.waiting[addr] >= a.cfg.WaitingMax:
		refusedWaiting.Inc()
		return true
	case a.all[addr] >= a.cfg.OpenMax:
		refusedOpen.Inc()
		return true
	}
	return false
}

// serve runs in the goroutine that fasthttp gives to an upgraded connection, and which Stop waits for by the open map.
func (a *Acceptor) serve(ws *websocket.Conn, info Info, addr netip.Prefix) {
	s := newSession(a.cfg, a.gw, a.commands, info, ws)
	if !a.enter(s, addr) {
		_ = s.conn.Close() // stopped between the upgrade and now, or many were upgraded at once
		return
	}
	defer a.leave(s)
	s.serve()
}

func (a *Acceptor) enter(s *Session, addr netip.Prefix) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.started || a.full(addr) {
		return false
	}
	a.open[s] = &guest{addr: addr, waits: true}
	a.waiting[addr]++
	a.all[addr]++
	s.begun = func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.settle(a.open[s])
	}
	return true
}

// settle stops counting a connection as waiting. mu is held.
func (a *Acceptor) settle(g *guest) {
	if !g.waits {
		return
	}
	g.waits = false
	if a.waiting[g.addr]--; a.waiting[g.addr] == 0 {
		delete(a.waiting, g.addr)
	}
}

func (a *Acceptor) leave(s *Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.open[s]
	a.settle(g)
	if a.all[g.addr]--; a.all[g.addr] == 0 {
		delete(a.all, g.addr)
	}
	delete(a.open, s)
	if !a.started && len(a.open) == 0 {
		close(a.idle)
	}
}
