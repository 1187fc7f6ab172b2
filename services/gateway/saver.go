package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/resume"
	"github.com/xcord/xcord/engine/session"
)

var (
	savedTotal   = metrics.NewCounter(`xcord_gateway_checkpoints_total{result="saved"}`)
	takenTotal   = metrics.NewCounter(`xcord_gateway_checkpoints_total{result="taken"}`)
	unsavedTotal = metrics.NewCounter(`xcord_gateway_checkpoints_total{result="failed"}`)
	droppedTotal = metrics.NewCounter(`xcord_gateway_checkpoints_total{result="dropped"}`)
	savedBytes   = metrics.NewCounter(`xcord_gateway_checkpoint_bytes_total`)
	flushTime    = metrics.NewPrometheusHistogram(`xcord_gateway_checkpoint_flush_seconds`)
)

const (
	// flushEvery is how long checkpoints are gathered before they are written together, give or take a fifth, so that gateways do not
	// write in step.
	flushEvery = 50 * time.Millisecond
	// flushMax is how many are written in one round trip: some hundred KiB.
	flushMax = 512
	// errandsMax bounds what waits while Redis is away. What is dropped beyond it leaves an older checkpoint, which is as right. The last
	// words of sessions are not dropped: those are as many as have been here.
	errandsMax = 1 << 16
)

// errand is the latest that is to be written of a session.
type errand struct {
	record *record
	state  []byte
	view   *hub.View
	// asOf is up to where the checkpoint has every change of the view.
	asOf bus.Position
	// whole means that the session has got no change of its view beyond the checkpoint, and gets none before the next one is written.
	whole bool
	end   bool
	done  []chan error // whoever waits for it; each has room for one
}

// saver writes checkpoints behind everybody's back. One goroutine writes, so what is put later is written later. Safe for concurrent
// use; nothing but sync waits.
//
// A checkpoint is good for counting up to the first change of the view that it does not have. Most entries that could be one change the
// view of few sessions or of none. So that not each of the others has to be written for it, there is a note for all sessions of this
// gateway: up to where all changes are in the checkpoints. It is written behind them.
type saver struct {
	store  *resume.Store
	taken  func(r *record) // another gateway has the session; must not block
	wake   chan struct{}   // has one element when there is something to write
	urgent chan struct{}   // has one element when somebody waits for it

	mu       sync.Mutex // guards everything below, and kept and ended of the records
	waiting  map[string]*errand
	underway map[string]*errand
	failing  bool
	turned   bus.Position // the latest entry that could change a view, whose changes are all handed out
	owed     map[*record]debt

	// The writing goroutine's own: what was noted, and when.
	noted   bus.Position
	notedAt time.Time
}

// debt is what Redis does not know yet of a session: it knows the changes of its view up to saved, and not the one at last.
type debt struct{ saved, last bus.Position }

func newSaver(store *resume.Store, taken func(*record)) *saver {
	return &saver{
		store: store, taken: taken, wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		waiting: map[string]*errand{}, underway: map[string]*errand{}, owed: map[*record]debt{},
	}
}

// owe says that a session is handed a change of its view. Whoever calls it calls turn for the entry later.
func (v *saver) owe(r *record, p bus.Position) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d, ok := v.owed[r]
	if !ok {
		d.saved = p.Previous()
	}
	d.last = p
	v.owed[r] = d
}

// turn says that all sessions have been handed what an entry changes for them.
func (v *saver) turn(p bus.Position) {
	v.mu.Lock()
	v.turned = p
	v.mu.Unlock()
	signal(v.wake)
}

// known is up to where all changes of views are in Redis.
func (v *saver) known() bus.Position {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.turned
	for _, d := range v.owed {
		if d.saved.Less(p) {
			p = d.saved
		}
	}
	return p
}

// note writes up to where all changes are known, when that is news or the last note gets old.
func (v *saver) note(ctx context.Context) error {
	p, now := v.known(), time.Now()
	if p == v.noted && now.Sub(v.notedAt) < v.store.Window()/4 {
		return nil
	}
	if err := v.store.Note(ctx, p.String()); err != nil {
		return err // as the checkpoints will fail, which are told of
	}
	v.noted, v.notedAt = p, now
	return nil
}

// forgive forgets what is owed for a session that nobody can go on with.
func (v *saver) forgive(r *record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.owed, r)
}

// put replaces what was to be written of the session. An end is final.
func (v *saver) put(e *errand) {
	v.mu.Lock()
	before := v.waiting[e.record.id]
	switch {
	case e.record.ended && !e.end:
		delete(v.owed, e.record)
		for _, d := range e.done {
			d <- session.ErrInvalid
		}
	case before == nil && len(v.waiting) >= errandsMax && len(e.done) == 0 && !e.whole && !e.end:
		droppedTotal.Inc()
	default:
		if before != nil {
			e.done = append(e.done, before.done...)
		}
		v.waiting[e.record.id], e.record.ended = e, e.end
	}
	v.mu.Unlock()
	signal(v.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sync is put and waits until it is written.
func (v *saver) sync(ctx context.Context, e *errand) error {
	done := make(chan error, 1)
	e.done = []chan error{done}
	v.put(e)
	signal(v.urgent)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ending says whether the checkpoint of a session is about to be deleted.
func (v *saver) ending(session string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range []*errand{v.waiting[session], v.underway[session]} {
		if e != nil && e.end {
			return true
		}
	}
	return false
}

// run writes until ctx ends, and then what is left.
func (v *saver) run(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			v.last(context.WithoutCancel(ctx)) // the sessions have ended, and their last places are still to be written
			return nil
		case <-v.wake:
		}
		pause.Reset(flushEvery*4/5 + rand.N(flushEvery*2/5))
		select {
		case <-ctx.Done():
			continue
		case <-v.urgent:
		case <-pause.C:
		}
		if v.flush(ctx) != nil {
			signal(v.wake)
		}
	}
}

// lastTimeout bounds how long a stop tries to write what is left.
const lastTimeout = 5 * time.Second

func (v *saver) last(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	for {
		err := v.flush(ctx)
		if err == nil {
			return
		}
		if errors.Is(err, redis.ErrClosed) { // nothing gets through it ever again
			cancel()
		}
		select {
		case <-time.After(50*time.Millisecond + rand.N(50*time.Millisecond)):
		case <-ctx.Done():
			slog.Warn("the process ends without the last checkpoints of some sessions", "sessions", v.left())
			return
		}
	}
}

func (v *saver) left() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.waiting)
}

// flush writes what waits, until something fails, which it returns.
func (v *saver) flush(ctx context.Context) error {
	for {
		batch, writes := v.next()
		if len(batch) == 0 {
			return v.note(ctx)
		}
		start := time.Now()
		errs := v.store.Apply(ctx, writes)
		flushTime.UpdateDuration(start)
		var failed error
		for i, e := range batch {
			if !v.finish(e, errs[i]) {
				failed = errs[i]
			}
		}
		if failed != nil {
			return failed
		}
	}
}

// next takes what is to be written now.
func (v *saver) next() (batch []*errand, writes []resume.Write) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.underway)
	for session, e := range v.waiting {
		w := resume.Write{Session: session, End: e.end}
		if !e.end {
			w.State, w.Keep = e.state, e.record.kept == e.view
			if !w.Keep {
				w.View = e.view.AppendChanges(nil, nil)
			}
		}
		savedBytes.Add(len(w.State) + len(w.View))
		batch, writes = append(batch, e), append(writes, w)
		v.underway[session] = e
		delete(v.waiting, session)
		if len(batch) == flushMax {
			break
		}
	}
	return batch, writes
}

// finish notes what became of an errand. It answers false when it has to be repeated after a while.
func (v *saver) finish(e *errand, err error) bool {
	switch {
	case err == nil:
		savedTotal.Inc()
	case errors.Is(err, resume.ErrTaken):
		takenTotal.Inc()
		v.taken(e.record)
	default:
		unsavedTotal.Inc()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.underway, e.record.id)
	v.settle(e, err)
	e.record.kept = nil
	failed := err != nil && !errors.Is(err, resume.ErrTaken)
	switch {
	case err == nil && !e.end:
		e.record.kept = e.view
	case failed && errors.Is(err, resume.ErrMissing):
		// The view was thought to be there and has gone by itself: the next try writes it.
		if next := v.waiting[e.record.id]; next == nil {
			v.waiting[e.record.id] = e
		} else {
			next.done = append(next.done, e.done...)
		}
		return true
	case failed:
		if !v.failing {
			slog.Warn("checkpoints cannot be written", "err", err)
		}
		if v.waiting[e.record.id] == nil {
			again := *e
			again.done = nil
			v.waiting[e.record.id] = &again
		}
	}
	v.failing = failed
	for _, d := range e.done {
		d <- err
	}
	return !failed
}

// settle notes what is not owed any more. mu is held.
func (v *saver) settle(e *errand, err error) {
	d, ok := v.owed[e.record]
	switch {
	case !ok, err != nil && !errors.Is(err, resume.ErrTaken):
	case err != nil, e.whole, e.end, !e.asOf.Less(d.last):
		delete(v.owed, e.record)
	case d.saved.Less(e.asOf):
		d.saved = e.asOf
		v.owed[e.record] = d
	}
}
