package bus

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/fault"
)

var (
	refusedBig    = metrics.NewCounter(`xcord_bus_refused_total{cause="big"}`)
	refusedMemory = metrics.NewCounter(`xcord_bus_refused_total{cause="memory"}`)
	oomTotal      = metrics.NewCounter(`xcord_bus_oom_total`)
)

// Level is what is given up because the memory of the log's Redis runs short. Each level includes those before it. Reads, sockets
// and what brings the log into Postgres go on at every level.
type Level int32

const (
	// LevelCalm gives up nothing.
	LevelCalm Level = iota
	// LevelShort trims the log earlier than Retain says: who was away for longer must load anew.
	LevelShort
	// LevelTight refuses posts in big guilds with 429.
	LevelTight
	// LevelFull refuses every write with 503.
	LevelFull
)

// watermarks are shares of the memory at which a level begins, and below which it ends: with as much between them as a second of
// posts cannot fill, nothing flaps. The rest above the last one is for what still writes then: sessions, presence, the writer.
var watermarks = [...]struct{ begin, end float64 }{
	LevelShort: {0.60, 0.55},
	LevelTight: {0.75, 0.70},
	LevelFull:  {0.85, 0.80},
}

func (l Level) next(share float64) Level {
	for l < LevelFull && share >= watermarks[l+1].begin {
		l++
	}
	for l > LevelCalm && share < watermarks[l].end {
		l--
	}
	return l
}

// budgetFactor: a Redis without maxmemory is given so many times RetainBytes, which is what the managed one has.
const budgetFactor = 4

// behindAfter is from which age on an entry that a group has not finished means that Postgres does not keep up: the writer's
// batches take well below a second.
const behindAfter = 10 * time.Second

var errPressed = errors.New("the memory of the log's Redis is nearly used up")

// pressure is the level, and what it was judged by. Publishing reads it without any I/O.
type pressure struct {
	level  atomic.Int32
	sample atomic.Pointer[sample]

	mu     sync.Mutex // guards changes of level, and warned
	warned bool       // that there is no maxmemory
}

// sample is one look at the memory and the log.
type sample struct {
	used, limit int64 // bytes
	logBytes    int64
	entries     int64
	age         time.Duration // of the oldest entry
	behind      time.Duration // age of the oldest entry that a group has not finished
}

func (s *sample) share() float64 { return float64(s.used) / float64(s.limit) }

// cause says what the memory is used up by: what waits for Postgres, or everything together.
func (s *sample) cause() string {
	if s.behind > behindAfter {
		return "backlog"
	}
	return "memory"
}

// Level is the present one.
func (l *Log) Level() Level { return Level(l.pressure.level.Load()) }

// admit refuses a write as the level says.
func (l *Log) admit(big bool) error {
	switch level := l.Level(); {
	case level >= LevelFull:
		refusedMemory.Inc()
		return fault.Unavailable(errPressed, retryAfter())
	case level >= LevelTight && big:
		refusedBig.Inc()
		return fault.Wrap(fault.ChannelWrite, errPressed).WithRetryAfter(retryAfter())
	}
	return nil
}

// Writable answers 503 when a write would be refused or the log is away: for those who have something to lose by finding that out
// later, like a transaction.
func (l *Log) Writable(ctx context.Context) error {
	if err := l.admit(false); err != nil {
		return err
	}
	return l.Ping(ctx)
}

// Pressed is an error while all writes are refused, without any I/O: a reason for not being ready.
func (l *Log) Pressed(context.Context) error {
	if l.Level() < LevelFull {
		return nil
	}
	return errPressed
}

// exhausted is told that Redis itself has refused a write, which the samples were too slow to see coming.
func (l *Log) exhausted() {
	oomTotal.Inc()
	l.setLevel(LevelFull, "oom", 1)
}

func isOOM(err error) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(reply.Error(), "OOM ")
}

// Measure looks at the memory and settles the level.
func (l *Log) Measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	s := new(sample)
	var err error
	if s.used, s.limit, err = l.memory(ctx); err != nil {
		return err
	}
	if s.logBytes, err = l.logBytes(ctx); err != nil {
		return err
	}
	if err := l.measureLog(ctx, s, time.Now()); err != nil {
		return err
	}
	l.pressure.sample.Store(s)
	l.setLevel(l.Level().next(s.share()), s.cause(), s.share())
	return nil
}

func (l *Log) setLevel(to Level, cause string, share float64) {
	l.pressure.mu.Lock()
	defer l.pressure.mu.Unlock()
	from := Level(l.pressure.level.Swap(int32(to)))
	if from == to {
		return
	}
	level, message := slog.LevelWarn, "the memory of the log's Redis runs short"
	if to < from {
		level, message = slog.LevelInfo, "the memory of the log's Redis recovers"
	}
	slog.Log(context.Background(), level, message, "level", int(to), "from", int(from), "cause", cause,
		"share", strconv.FormatFloat(share, 'f', 2, 64), "refused", refusedMemory.Get()+refusedBig.Get())
}

// memory is what Redis uses and may use, in bytes; of several nodes that of the one with the least left. The buffers that Redis does
// not count against its maxmemory are not counted here either.
func (l *Log) memory(ctx context.Context) (used, limit int64, err error) {
	worst := -1.0
	for _, node := range l.redis.Nodes() {
		info, err := node.Do(ctx, node.B().Info().Section("memory").Build()).ToString()
		if err != nil {
			return 0, 0, unavailable("measure the memory", err)
		}
		u, most := infoInt(info, "used_memory")-infoInt(info, "mem_not_counted_for_evict"), infoInt(info, "maxmemory")
		if most == 0 {
			l.warnUnlimited()
			most = budgetFactor * l.config.RetainBytes
		}
		if share := float64(u) / float64(most); share > worst {
			worst, used, limit = share, u, most
		}
	}
	if worst < 0 {
		return 0, 0, unavailable("measure the memory", errors.New("the client knows no node"))
	}
	return used, limit, nil
}

func (l *Log) warnUnlimited() {
	l.pressure.mu.Lock()
	defer l.pressure.mu.Unlock()
	if l.pressure.warned {
		return
	}
	l.pressure.warned = true
	slog.Warn("Redis has no maxmemory: the log goes by a multiple of what it retains", "bytes", budgetFactor*l.config.RetainBytes)
}

// infoInt reads a number of INFO; 0 when it is not there.
func infoInt(info, name string) int64 {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64) // 0, as documented
			return n
		}
	}
	return 0
}

func (l *Log) logBytes(ctx context.Context) (int64, error) {
	n, err := l.redis.Do(ctx, l.redis.B().MemoryUsage().Key(streamKey()).Build()).AsInt64()
	if err != nil && !rueidis.IsRedisNil(err) {
		return 0, unavailable("measure the log", err)
	}
	return n, nil
}

// measureLog fills in how long the log is, and how far behind its groups are.
func (l *Log) measureLog(ctx context.Context, s *sample, now time.Time) error {
	var err error
	if s.entries, err = l.redis.Do(ctx, l.redis.B().Xlen().Key(streamKey()).Build()).AsInt64(); err != nil {
		return unavailable("measure the log", err)
	}
	floor, isOpen, err := l.unfinished(ctx)
	if err != nil {
		return err
	}
	from := floor.String()
	if !isOpen {
		from = "(" + from
	}
	if s.behind, err = l.ageFrom(ctx, from, now); err != nil {
		return err
	}
	s.age, err = l.ageFrom(ctx, "-", now)
	return err
}

// ageFrom is the age of the first entry from a place on; 0 when there is none.
func (l *Log) ageFrom(ctx context.Context, from string, now time.Time) (time.Duration, error) {
	raw, err := l.redis.Do(ctx, l.redis.B().Xrange().Key(streamKey()).Start(from).End("+").Count(1).Build()).AsXRangeSlices()
	if err != nil || len(raw) == 0 {
		return 0, err
	}
	at, err := ParsePosition(raw[0].ID)
	return now.Sub(time.UnixMilli(int64(at.Ms))), err
}

// newGauges are for one process's Trimmer, which keeps the sample fresh.
func (l *Log) newGauges() *metrics.Set {
	set := metrics.NewSet()
	gauge := func(name string, read func(s *sample) float64) {
		set.NewGauge(name, func() float64 {
			if s := l.pressure.sample.Load(); s != nil {
				return read(s)
			}
			return 0
		})
	}
	for _, cause := range []string{"memory", "backlog"} {
		gauge(`xcord_bus_pressure_level{cause="`+cause+`"}`, func(s *sample) float64 {
			if s.cause() != cause {
				return 0
			}
			return float64(l.Level())
		})
	}
	gauge(`xcord_bus_memory_used_bytes`, func(s *sample) float64 { return float64(s.used) })
	gauge(`xcord_bus_memory_limit_bytes`, func(s *sample) float64 { return float64(s.limit) })
	gauge(`xcord_bus_log_bytes`, func(s *sample) float64 { return float64(s.logBytes) })
	gauge(`xcord_bus_log_entries`, func(s *sample) float64 { return float64(s.entries) })
	gauge(`xcord_bus_log_age_seconds`, func(s *sample) float64 { return s.age.Seconds() })
	gauge(`xcord_bus_behind_seconds`, func(s *sample) float64 { return s.behind.Seconds() })
	return set
}
