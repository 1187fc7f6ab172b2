package session

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/wire"
)

var asksRefused = metrics.NewCounter(`xcord_session_requests_refused_total`)

// asksMax bounds the requests that wait for their answer: what a client may send in a minute. askAgain is after how many seconds one that is
// refused may come again.
const (
	asksMax  = wire.FramesPerMinuteMax
	askAgain = 10
)

// asked are the requests for members of a session, which are answered one after the other.
type asked struct {
	mu      sync.Mutex // guards what follows
	waiting []wire.RequestMembers
	stop    context.CancelFunc // of the goroutine that answers; nil when there is none

	answering sync.WaitGroup
}

// ask lets a request wait for its turn; the reader calls it. With too many that wait it is refused, and the client told so.
func (s *Session) ask(in wire.RequestMembers) {
	a := &s.asked
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= asksMax {
		asksRefused.Inc()
		body, err := json.Marshal(wire.RateLimited{
			Opcode: wire.OpRequestGuildMembers, RetryAfter: askAgain, Meta: wire.RateLimitedMembers{GuildID: in.GuildID[0], Nonce: in.Nonce},
		})
		if err != nil {
			panic("BUG: " + err.Error())
		}
		s.Say("RATE_LIMITED", body)
		return
	}
	a.waiting = append(a.waiting, in)
	if a.stop == nil {
		var ctx context.Context
		ctx, a.stop = context.WithCancel(s.ctx)
		a.answering.Go(func() { s.answer(ctx) })
	}
}

// answer answers what waits, until nothing does or ctx ends.
func (s *Session) answer(ctx context.Context) {
	defer s.guard("members")
	for {
		in, ok := s.asked.next(ctx)
		if !ok {
			return
		}
		if err := s.gw.Members(ctx, s, in); err != nil && ctx.Err() == nil {
			s.report("members that a client asked for cannot be told", err) // it can ask again
		}
	}
}

func (a *asked) next(ctx context.Context) (in wire.RequestMembers, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 || ctx.Err() != nil {
		a.stop()
		a.waiting, a.stop = nil, nil
		return in, false
	}
	in = a.waiting[0]
	a.waiting = a.waiting[1:]
	return in, true
}

// hush ends the answers, and returns when nothing more comes of them. The reader calls it.
func (s *Session) hush() {
	s.asked.mu.Lock()
	if s.asked.stop != nil {
		s.asked.stop()
	}
	s.asked.mu.Unlock()
	s.asked.answering.Wait()
}
