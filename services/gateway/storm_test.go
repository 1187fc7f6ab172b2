package gateway

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

const (
	stormSessions = 2000
	stormUsers    = 200 // who share the sessions
	stormMissed   = 200
	observers     = 50
	postEvery     = 50 * time.Millisecond

	stormIntents = wire.IntentGuilds | wire.IntentGuildMessages | wire.IntentMessageContent
)

// BenchmarkStorm charges for what happens when a gateway dies: all of its sessions come to another one at the same time, which serves
// sessions of its own. It prints how many a second can go on, how much of the log is read for each, and how late the others get
// their messages meanwhile, beside how late before. Who is told to try again for want of a turn does. Clients and both gateways share the process. -benchtime 1x is right.
func BenchmarkStorm(b *testing.B) {
	cfg := Config{Session: session.Config{HeartbeatInterval: time.Hour}} // the clients send none
	home := setup(b, cfg)
	home.crowd()
	var clients []*socket
	for i := range stormSessions {
		s, _ := home.identify(id.ID(1000+i%stormUsers), stormIntents)
		clients = append(clients, s)
	}
	for _, s := range clients {
		go discard(s)
	}
	home.flush()
	home.abandon()
	// The clients stand where they began, so that the gateway, which began after what they miss, has to read that.
	publisher := home.another(cfg)
	for i := range stormMissed {
		publisher.say(bob, general, "missed "+strconv.Itoa(i))
	}
	there := home.another(cfg)
	watch := newWatch(b, there)
	before := watch.during(3 * time.Second)
	waiting := make([]*socket, len(clients))
	for i := range clients {
		waiting[i] = there.dial("/?v=10&encoding=json")
	}
	var invalid, again atomic.Int64
	read, began, used := pastEntries.Get(), time.Now(), cpuTime(b)
	var took, work time.Duration
	b.ResetTimer()
	storm := watch.while(func() {
		var all sync.WaitGroup
		for i, s := range waiting {
			all.Go(func() {
				resume := wire.Resume{Token: there.token(id.ID(1000 + i%stormUsers)), SessionID: clients[i].session, Seq: clients[i].seq}
				for s.send(wire.OpResume, resume); ; s.send(wire.OpResume, resume) {
					on, refused := s.goesOn()
					if refused {
						invalid.Add(1)
					}
					if on || refused {
						return
					}
					again.Add(1)
					s = there.dial("/?v=10&encoding=json")
				}
			})
		}
		all.Wait()
		took, work = time.Since(began), cpuTime(b)-used
	})
	b.StopTimer()
	if n := invalid.Load(); n > 0 {
		b.Errorf("%d of %d sessions were refused", n, stormSessions)
	}
	b.ReportMetric(stormSessions/took.Seconds(), "sessions/s")
	b.ReportMetric(float64(again.Load()), "again")
	b.ReportMetric(work.Seconds()*1000/stormSessions, "cpu-ms/session") // with the clients'
	b.ReportMetric(float64(pastEntries.Get()-read)/stormSessions, "entries/session")
	for _, q := range []float64{0.5, 0.99} {
		was, is := quantile(before, q), quantile(storm, q)
		b.ReportMetric(is/was, fmt.Sprintf("p%.0f-ratio", 100*q))
		fmt.Printf("deliveries to the others, p%.0f: before %.2f ms, during the storm %.2f ms (%d, %d)\n", 100*q, was, is, len(before), len(storm))
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// crowd is a guild of all who take part.
func (b *bundle) crowd() {
	b.t.Helper()
	users := []id.ID{owner, alice, bob}
	for i := range stormUsers {
		users = append(users, id.ID(1000+i))
	}
	p := wire.ServerCreatedPayload{
		Guild:    wire.NewGuild(guild, "home", owner),
		Channels: wire.List[wire.Channel]{{ID: general, GuildID: guild, Name: "general"}},
		Roles:    wire.List[wire.Role]{{ID: guild, Name: "@everyone", Permissions: perm.ViewChannel | perm.SendMessages}},
	}
	for i := range id.ID(50) {
		p.Channels = append(p.Channels, wire.Channel{ID: 400 + i, GuildID: guild, Name: "channel"})
	}
	for _, u := range users {
		b.user(u)
		p.Members = append(p.Members, wire.MemberRecord{UserID: u, MemberFields: wire.MemberFields{JoinedAt: 1}})
	}
	b.cold(wire.ServerCreated, bus.Entry{Guild: guild, Actor: owner}, p)
}

// discard reads what comes to the end.
func discard(s *socket) {
	for {
		if _, _, err := s.ws.ReadMessage(); err != nil {
			return
		}
	}
}

// goesOn reads up to RESUMED or INVALID_SESSION. Neither means that the gateway has closed: try again.
func (s *socket) goesOn() (on, refused bool) {
	for {
		_ = s.ws.SetReadDeadline(time.Now().Add(5 * time.Minute))
		_, frame, err := s.ws.ReadMessage()
		switch {
		case err != nil:
			return false, false
		case bytes.HasPrefix(frame, []byte(`{"op":9`)):
			return false, true
		case bytes.Contains(frame, []byte(`"RESUMED"`)):
			go discard(s)
			return true, false
		}
	}
}

// watch is observers of a channel, and how late its messages are with them.
type watch struct {
	b       *testing.B
	gateway *bundle

	mu   sync.Mutex
	late []time.Duration
}

func newWatch(b *testing.B, gateway *bundle) *watch {
	w := &watch{b: b, gateway: gateway}
	for range observers {
		s, _ := gateway.identify(alice, stormIntents)
		_ = s.ws.SetReadDeadline(time.Time{})
		go w.observe(s.ws)
	}
	return w
}

// mark is in front of when a message was sent.
const sentMark = `"content":"at `

func (w *watch) observe(ws *websocket.Conn) {
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		_, rest, ok := bytes.Cut(frame, []byte(sentMark))
		if !ok {
			continue
		}
		at, _, _ := bytes.Cut(rest, []byte(`"`))
		ns, _ := strconv.ParseInt(string(at), 10, 64)
		w.mu.Lock()
		w.late = append(w.late, time.Duration(time.Now().UnixNano()-ns))
		w.mu.Unlock()
	}
}

// during posts for a while, and returns how late the messages were.
func (w *watch) during(d time.Duration) []time.Duration { return w.while(func() { <-time.After(d) }) }

// while posts as long as do runs.
func (w *watch) while(do func()) []time.Duration {
	w.mu.Lock()
	w.late = nil
	w.mu.Unlock()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(postEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				w.gateway.say(bob, general, "at "+strconv.FormatInt(time.Now().UnixNano(), 10))
			}
		}
	}()
	do()
	close(stop)
	<-stopped
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.late)
	return w.late
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1))].Microseconds()) / 1000
}
