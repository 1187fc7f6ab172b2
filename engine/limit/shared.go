package limit

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

//go:embed library.lua
var library string

const (
	// missedMax is how many beats a gateway may miss before it counts as gone.
	missedMax = 6
	// awayFor is how long Redis is not asked after it failed.
	awayFor = time.Second
)

// Install loads the functions. The admin client needs FUNCTION LOAD.
func Install(ctx context.Context, admin rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := admin.Do(ctx, admin.B().FunctionLoad().Replace().FunctionCode(library).Build()).Error(); err != nil {
		return fmt.Errorf("load the functions of limits: %w", err)
	}
	return nil
}

// beatsKey and countsKey are in one slot, because one function touches both; every window has a slot of its own.
const (
	beatsKey  = "limit:{gateways}:beats"
	countsKey = "limit:{gateways}:counts"
)

func windowKey(r *Rule, who Subject) string {
	return "limit:" + r.Name + ":" + strconv.FormatUint(who.A, 36) + ":" + strconv.FormatUint(who.B, 36)
}

// fetched is what Redis gave; ok is false when it could not be asked.
type fetched struct {
	ok          bool
	given, left int
	ends        time.Duration
}

func (l *Limiter) fetch(ctx context.Context, r *Rule, who Subject, n int) fetched {
	if l.away() {
		return fetched{}
	}
	got, err := l.call(ctx, l.redis.B().Fcall().Function("xcord_limit_take").Numkeys(1).Key(windowKey(r, who)).
		Arg(strconv.Itoa(r.want()), strconv.Itoa(r.pool(n)), strconv.FormatInt(r.Window.Milliseconds(), 10)).Build())
	if err != nil || len(got) != 3 {
		return fetched{}
	}
	return fetched{ok: true, given: int(got[0]), left: int(got[1]), ends: time.Duration(max(1, got[2])) * time.Millisecond}
}

func (l *Limiter) give(ctx context.Context, r *Rule, who Subject) {
	if l.away() {
		return
	}
	cmd := l.redis.B().Fcall().Function("xcord_limit_give").Numkeys(1).Key(windowKey(r, who)).Build()
	_, _ = l.call(ctx, cmd) // whoever loses it has one less in this window
}

// look reads the window of an Exact rule.
func (l *Limiter) look(ctx context.Context, r *Rule, who Subject) (v Verdict, ok bool) {
	if l.away() {
		return v, false
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.CallTimeout)
	defer cancel()
	k := windowKey(r, who)
	got := l.redis.DoMulti(ctx, l.redis.B().Get().Key(k).Build(), l.redis.B().Pttl().Key(k).Build())
	used, err := got[0].AsInt64()
	if err != nil && !rueidis.IsRedisNil(err) {
		l.failed(err)
		return v, false
	}
	ms, err := got[1].AsInt64()
	if err != nil {
		l.failed(err)
		return v, false
	}
	askedTotal.Inc()
	left := r.Max - int(used)
	return Verdict{OK: left > 0, Limit: r.Max, Remaining: max(0, left), Reset: time.Duration(max(0, ms)) * time.Millisecond}, true
}

func (l *Limiter) away() bool { return l.cfg.Now().UnixNano() < l.awayUntil.Load() }

func (l *Limiter) failed(err error) {
	failedTotal.Inc()
	now := l.cfg.Now()
	if l.awayUntil.Swap(now.Add(awayFor).UnixNano()) < now.Add(-awayFor).UnixNano() {
		slog.Warn("limits are not shared while redis is away", "err", err)
	}
}

// call is not cut short by the end of the request: a failure here would count as Redis being away.
func (l *Limiter) call(ctx context.Context, cmd rueidis.Completed) ([]int64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.CallTimeout)
	defer cancel()
	reply := l.redis.Do(ctx, cmd)
	got, err := reply.AsIntSlice()
	if err != nil {
		if _, single := reply.AsInt64(); single == nil {
			err = nil
		}
	}
	if err != nil {
		l.failed(err)
		return nil, err
	}
	askedTotal.Inc()
	return got, nil
}

// join beats until every gateway counts this one. One that has not within two beats does not live.
func (l *Limiter) join(ctx context.Context) error {
	tick := time.NewTicker(max(time.Millisecond, l.cfg.BeatEvery/10))
	defer tick.Stop()
	end := time.After(2 * l.cfg.BeatEvery)
	for {
		n, least, err := l.beat(ctx)
		if err != nil {
			return err
		}
		if least >= n {
			return nil
		}
		select {
		case <-tick.C:
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Limiter) patience() time.Duration { return missedMax * l.cfg.BeatEvery }

// beat tells of this gateway, and learns how many there are. When that is another number than before, it says so at once.
func (l *Limiter) beat(ctx context.Context) (n, least int64, err error) {
	for range 2 {
		knows := l.gateways.Load()
		cmd := l.redis.B().Fcall().Function("xcord_limit_beat").Numkeys(2).Key(beatsKey, countsKey).
			Arg(l.cfg.Gateway, strconv.FormatInt(knows, 10), strconv.FormatInt(l.patience().Milliseconds(), 10)).Build()
		// The clock of a test may stand still, and a beat is no request: it has the time that its loop has.
		callCtx, cancel := context.WithTimeout(ctx, max(l.cfg.CallTimeout, l.cfg.BeatEvery))
		got, err := l.redis.Do(callCtx, cmd).AsIntSlice()
		cancel()
		if err != nil {
			return 0, 0, err
		}
		n, least = l.believe(knows, got[0]), got[1]
		l.gateways.Store(n)
		if n == knows {
			break
		}
	}
	return n, least, nil
}

// believe is how many gateways there are when this one knew of some and Redis now says heard. That there are fewer is believed when it has
// said so for a while: after an outage of Redis each is heard of only when it has beaten again.
func (l *Limiter) believe(knows, heard int64) int64 {
	if heard >= knows {
		l.fewer.Store(0)
		return heard
	}
	if l.fewer.Add(1) < missedMax {
		return knows
	}
	l.fewer.Store(0)
	return heard
}

// beats keeps the number of gateways, and forgets what is over: all shards in half a minute.
func (l *Limiter) beats(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.BeatEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		l.sweep(&l.shards[i%shards])
		if _, _, err := l.beat(ctx); err != nil && ctx.Err() == nil {
			failedTotal.Inc() // the number stays: nobody allows more because Redis is away
		}
	}
}

func (l *Limiter) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.CallTimeout)
	defer cancel()
	cmd := l.redis.B().Fcall().Function("xcord_limit_leave").Numkeys(2).Key(beatsKey, countsKey).Arg(l.cfg.Gateway).Build()
	_ = l.redis.Do(ctx, cmd).Error() // who does not get away is forgotten
}
