// Package limit counts what may happen only so often: requests of a user, from an address, on a route, wrong passwords. It does not
// know what it counts, and it answers nobody: rest and its neighbours turn a Verdict into headers and a 429.
//
// # Windows
//
// A Rule allows Max in a window, which begins with the first and lasts Window; so what clients are told (how many are left, and when
// there are more) is exact.
//
// # Several gateways
//
// Every gateway knows how many there are. One that is alone counts in its memory and asks nobody. Where there are several, a twentieth
// of every limit is shared out among them beforehand, so that who asks rarely is counted without Redis; the rest is in
// Redis, and is fetched by a twentieth at a time. So all of them together never allow more than 1.05 × Max, and somebody who is refused
// had at least 0.9 × Max with two gateways. A gateway serves only when all others count it.
//
// # Without Redis
//
// A gateway that cannot reach Redis allows its part of a limit, Max divided by how many they were: never more, also not when
// it lasts.
//
// # Concurrency
//
// All methods may be called by any goroutine. Take waits for Redis at most CallTimeout, and for a second after a failure not at all. A nil
// Limiter allows everything.
package limit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
)

var (
	askedTotal   = metrics.NewCounter(`xcord_limit_asked_total{result="ok"}`)
	failedTotal  = metrics.NewCounter(`xcord_limit_asked_total{result="failed"}`)
	evictedTotal = metrics.NewCounter(`xcord_limit_evicted_total`)
)

// Rule is one limit. Make it with NewRule, once, and keep it: what is counted is counted by rule.
type Rule struct {
	Name   string // in Redis and for clients; another rule has another name
	Max    int
	Window time.Duration
	// Exact asks Redis every time: for what is rare, and must be counted over restarts. Without Redis it is counted here.
	Exact bool

	refused *metrics.Counter
}

// NewRule makes a rule. Rules are few and fixed: each has a metric.
func NewRule(name string, limit int, window time.Duration) *Rule {
	if limit < 1 || window < time.Millisecond {
		panic(fmt.Sprintf("BUG: rule %s allows %d in %v", name, limit, window))
	}
	return &Rule{Name: name, Max: limit, Window: window, refused: metrics.GetOrCreateCounter(fmt.Sprintf(`xcord_limit_refused_total{rule=%q}`, name))}
}

// NewExact makes a rule that is Exact.
func NewExact(name string, limit int, window time.Duration) *Rule {
	r := NewRule(name, limit, window)
	r.Exact = true
	return r
}

// chunk is how much is shared out among all gateways beforehand, and fetched at a time: a twentieth.
func (r *Rule) chunk() int { return r.Max / 20 }

// share is what each of n gateways may allow in a window without asking.
func (r *Rule) share(n int) int {
	switch {
	case r.Exact:
		return 0
	case n == 1:
		return r.Max
	default:
		return r.chunk() / n
	}
}

// pool is what is left for Redis.
func (r *Rule) pool(n int) int { return r.Max - n*r.share(n) }

// want is how many are fetched at a time.
func (r *Rule) want() int {
	if r.Exact {
		return 1
	}
	return max(1, r.chunk())
}

// Subject is who or what is counted.
type Subject struct{ A, B uint64 }

// User counts a user, and one thing of theirs if it is not 0.
func User(user, of id.ID) Subject { return Subject{uint64(user), uint64(of)} }

// Addr counts an address: an IPv4 address, or an IPv6 /64, since whoever has one address of that has all of them.
func Addr(a netip.Addr) Subject {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return Subject{A: 1 << 32, B: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return Subject{A: binary.BigEndian.Uint64(b[:8]), B: 1<<32 + 6}
}

// Text counts what has no number, the same in every process.
func Text(s string) Subject {
	sum := sha256.Sum256([]byte(s))
	return Subject{A: binary.BigEndian.Uint64(sum[:8]), B: binary.BigEndian.Uint64(sum[8:16])}
}

// Verdict is what became of a Take.
type Verdict struct {
	OK        bool
	Limit     int           // 0: nothing is counted
	Remaining int           // how many are left in this window
	Reset     time.Duration // until there are Limit again
}

// Config of a Limiter. The zero value of everything but Gateway is the default.
type Config struct {
	// Gateway names this process; another one after a restart.
	Gateway string
	// CallTimeout bounds one call of Redis (default 250 ms); who waits for it is a request.
	CallTimeout time.Duration
	// BeatEvery is how often the gateways tell each other of themselves (default 500 ms); one that is not heard six times is gone.
	BeatEvery time.Duration
	// KeysMax bounds what is counted in memory (default 262,144, some 25 MB). Beyond it somebody is forgotten.
	KeysMax int
	// Now is the clock (default time.Now).
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.CallTimeout == 0 {
		c.CallTimeout = 250 * time.Millisecond
	}
	if c.BeatEvery == 0 {
		c.BeatEvery = 500 * time.Millisecond
	}
	if c.KeysMax == 0 {
		c.KeysMax = 1 << 18
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate names every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.Gateway == "" {
		errs = append(errs, errors.New("limit: a gateway needs a name"))
	}
	if c.CallTimeout < 0 || c.BeatEvery < 0 {
		errs = append(errs, errors.New("limit: times must not be negative"))
	}
	if c.KeysMax < 0 {
		errs = append(errs, errors.New("limit: KeysMax must not be negative"))
	}
	return errors.Join(errs...)
}

// Limiter counts. It is a life.Service; what is counted before Start is counted as by a gateway that is alone.
type Limiter struct {
	cfg   Config
	redis rueidis.Client

	gateways  atomic.Int64
	fewer     atomic.Int64 // beats in a row in which there were fewer
	awayUntil atomic.Int64 // in ns since 1970: Redis is not asked before
	seed      maphash.Seed
	shards    [shards]shard

	on     life.Switch
	loops  life.Loops
	gauges *metrics.Set
}

// shards make it unlikely that two requests wait for each other.
const shards = 64

type shard struct {
	mu      sync.Mutex // guards windows; held for no I/O
	windows map[key]window
}

type key struct {
	rule *Rule
	who  Subject
}

// window is one that is not over.
type window struct {
	ends int64 // in ns since 1970
	used int   // by us
	have int   // may be used without asking
	left int   // in Redis, when it was asked last: for showing
	dry  bool  // it is no use asking before it ends
}

// New makes a Limiter. It does no I/O. It panics when cfg is not valid.
func New(client rueidis.Client, cfg Config) *Limiter {
	if err := cfg.Validate(); err != nil {
		panic("BUG: " + err.Error())
	}
	l := &Limiter{cfg: cfg.withDefaults(), redis: client, seed: maphash.MakeSeed(), gauges: metrics.NewSet()}
	l.gateways.Store(1)
	for i := range l.shards {
		l.shards[i].windows = map[key]window{}
	}
	l.gauges.NewGauge(`xcord_limit_gateways`, func() float64 { return float64(l.gateways.Load()) })
	l.gauges.NewGauge(`xcord_limit_keys`, func() float64 { return float64(l.keys()) })
	return l
}

// Start joins the other gateways, and returns when all of them count this one, or after two beats: who has not by then does not live.
func (l *Limiter) Start(ctx context.Context) error {
	return l.on.Start(func() error {
		if err := l.join(ctx); err != nil {
			return fmt.Errorf("join the gateways that count together: %w", err)
		}
		metrics.RegisterSet(l.gauges)
		l.loops.Go("limit beat", l.beats)
		return nil
	})
}

// Stop leaves them.
func (l *Limiter) Stop() {
	l.on.Stop(func() {
		l.loops.Stop()
		metrics.UnregisterSet(l.gauges, false)
		l.leave()
	})
}

// Failed reports a loop that ended by itself.
func (l *Limiter) Failed() <-chan error { return l.loops.Failed() }

// Take counts one, if it is allowed. What is refused is not counted.
func (l *Limiter) Take(ctx context.Context, r *Rule, who Subject) Verdict {
	if l == nil {
		return Verdict{OK: true}
	}
	k := key{r, who}
	s, n, now := l.shard(k), int(l.gateways.Load()), l.cfg.Now().UnixNano()
	s.mu.Lock()
	w := l.window(s, k, n, now)
	if w.have == 0 && !w.dry {
		s.mu.Unlock()
		got := l.fetch(ctx, r, who, n)
		s.mu.Lock()
		w = l.window(s, k, n, now)
		w.add(r, n, now, got)
	}
	ok := w.have > 0
	if ok {
		w.have--
		w.used++
	}
	s.windows[k] = w
	s.mu.Unlock()
	if !ok {
		r.refused.Inc()
	}
	return Verdict{OK: ok, Limit: r.Max, Remaining: max(0, w.have+w.left), Reset: time.Duration(w.ends - now)}
}

// Peek says whether one would be allowed, without counting. Only of an Exact rule Redis is asked; of others it says what this gateway
// has seen.
func (l *Limiter) Peek(ctx context.Context, r *Rule, who Subject) Verdict {
	if l == nil {
		return Verdict{OK: true}
	}
	if r.Exact {
		if v, ok := l.look(ctx, r, who); ok {
			return v
		}
	}
	k := key{r, who}
	s, now := l.shard(k), l.cfg.Now().UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.windows[k]
	if !ok || now >= w.ends {
		return Verdict{OK: true, Limit: r.Max, Remaining: r.Max}
	}
	return Verdict{OK: w.have > 0 || !w.dry, Limit: r.Max, Remaining: max(0, w.have+w.left), Reset: time.Duration(w.ends - now)}
}

// Return takes one back that was counted, of an Exact rule.
func (l *Limiter) Return(ctx context.Context, r *Rule, who Subject) {
	if l == nil {
		return
	}
	l.give(ctx, r, who)
	k := key{r, who}
	s, now := l.shard(k), l.cfg.Now().UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.windows[k]; ok && now < w.ends && w.used > 0 {
		w.used--
		w.dry = false
		s.windows[k] = w
	}
}

func (l *Limiter) shard(k key) *shard { return &l.shards[maphash.Comparable(l.seed, k)%shards] }

// window is the one that is running, or one that begins now. The shard is locked.
func (l *Limiter) window(s *shard, k key, n int, now int64) window {
	w, ok := s.windows[k]
	if ok && now < w.ends {
		return w
	}
	if !ok && len(s.windows) >= max(1, l.cfg.KeysMax/shards) {
		for old := range s.windows {
			delete(s.windows, old)
			evictedTotal.Inc()
			break
		}
	}
	return window{
		ends: now + k.rule.Window.Nanoseconds(), have: k.rule.share(n), left: k.rule.pool(n),
		dry: n == 1 && !k.rule.Exact,
	}
}

// add puts into the window what Redis gave, or what is allowed without it.
func (w *window) add(r *Rule, n int, now int64, got fetched) {
	if !got.ok {
		if !w.dry { // else another has found out at the same time
			w.have = max(w.have, max(1, r.Max/n)-w.used)
		}
		w.left, w.dry = 0, true
		return
	}
	w.have += got.given
	w.left, w.dry = got.left, got.given == 0
	w.ends = now + got.ends.Nanoseconds()
}

// keys is how much is being counted.
func (l *Limiter) keys() (n int) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += len(s.windows)
		s.mu.Unlock()
	}
	return n
}

// sweep forgets the windows of one shard that are over.
func (l *Limiter) sweep(s *shard) {
	now := l.cfg.Now().UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, w := range s.windows {
		if now >= w.ends {
			delete(s.windows, k)
		}
	}
}
