package messaging

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

var (
	acksTaken      = metrics.NewCounter(`xcord_messaging_acks_total{result="taken"}`)
	acksIdle       = metrics.NewCounter(`xcord_messaging_acks_total{result="idle"}`)
	acksRefused    = metrics.NewCounter(`xcord_messaging_acks_total{result="refused"}`)
	ackEntries     = metrics.NewCounter(`xcord_messaging_ack_entries_total`)
	ackErrors      = metrics.NewCounter(`xcord_messaging_ack_errors_total`)
	acksForsaken   = metrics.NewCounter(`xcord_messaging_acks_total{result="lost"}`)
	errAcksWait    = errors.New("acks wait for the log")
	errAcksAreFull = errors.New("too many acks wait")
)

const (
	// acksGather is how long acks are gathered: as DESIGN.md section 2 has it.
	acksGather = 250 * time.Millisecond
	// acksLate is what a 200 promises: by then an ack is in the log. While one waits longer, no more are taken.
	acksLate = time.Second
	// acksMax bounds what waits, and entryAcksMax how much of it goes into one entry: some 50 KB.
	acksMax      = 1 << 16
	entryAcksMax = 500
	// acksKnown is of how many users and channels it is remembered how far they have read, to pass over what changes nothing.
	acksKnown = 1 << 16
	// acksLast bounds how long a stop tries to write what waits.
	acksLast = 2 * time.Second
)

// acker gathers acks and writes them into the log, many in one entry. An ack that it has taken is in the log within acksLate, or is lost with
// the process when that is killed before; a stop writes what waits. Safe for concurrent use.
type acker struct {
	log  *bus.Log
	now  func() time.Time
	wake chan struct{} // has one element when something waits

	mu      sync.Mutex // guards everything below; held for no I/O
	waiting map[reader]wire.Ack
	since   time.Time // from when the oldest of them is
	written time.Time // from when the oldest is of those that are being written; zero when none are
	known   *lru.Cache[reader, id.ID]
	// reset has who marked something as unread, which known says nothing of yet: where that stands in the log, zero until it does. No ack
	// that follows it changes nothing.
	reset map[reader]bus.Position
}

// reader is a user in a channel.
type reader struct{ user, channel id.ID }

func readerOf(a wire.Ack) reader { return reader{user: a.UserID, channel: a.ChannelID} }

func newAcker(log *bus.Log) *acker {
	known, err := lru.New[reader, id.ID](acksKnown)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &acker{
		log: log, now: time.Now, wake: make(chan struct{}, 1), waiting: map[reader]wire.Ack{}, known: known, reset: map[reader]bus.Position{},
	}
}

// put takes acks, all or none. It answers 503 when what it has taken before does not get into the log.
func (a *acker) put(acks ...wire.Ack) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	oldest := a.written
	if oldest.IsZero() && len(a.waiting) > 0 {
		oldest = a.since
	}
	switch {
	case !oldest.IsZero() && a.now().Sub(oldest) > acksLate:
		acksRefused.Add(len(acks))
		return fault.Unavailable(errAcksWait, time.Second)
	case len(a.waiting)+len(acks) > acksMax:
		acksRefused.Add(len(acks))
		return fault.Unavailable(errAcksAreFull, time.Second)
	}
	for _, ack := range acks {
		a.take(ack)
	}
	return nil
}

func (a *acker) take(ack wire.Ack) {
	before, waits := a.waiting[readerOf(ack)]
	_, isReset := a.reset[readerOf(ack)]
	if !waits && !isReset && !ack.Manual {
		if far, ok := a.known.Get(readerOf(ack)); ok && far >= ack.MessageID {
			acksIdle.Inc()
			return
		}
	}
	acksTaken.Inc()
	if len(a.waiting) == 0 {
		a.since = a.now()
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	a.waiting[readerOf(ack)] = after(before, ack)
	if ack.Manual {
		a.reset[readerOf(ack)] = bus.Position{}
	}
}

// after is an ack behind another one, which may be none.
func after(before, ack wire.Ack) wire.Ack {
	if !ack.Manual {
		ack.Manual, ack.MessageID = before.Manual, max(before.MessageID, ack.MessageID)
	}
	return ack
}

// apply notes what stands in the log. Of a deleted user nothing is written any more.
func (a *acker) apply(entries []bus.Entry) {
	for _, e := range entries {
		if e.Type == wire.UserDeleted {
			a.mu.Lock()
			maps.DeleteFunc(a.waiting, func(r reader, _ wire.Ack) bool { return r.user == e.User })
			maps.DeleteFunc(a.reset, func(r reader, _ bus.Position) bool { return r.user == e.User })
			a.mu.Unlock()
		}
		if e.Type != wire.MessagesRead {
			continue
		}
		acks, err := acksOf(e)
		if err != nil {
			continue // for the writer to set aside
		}
		a.mu.Lock()
		for _, ack := range acks {
			if far, ok := a.known.Peek(readerOf(ack)); !ok || ack.Manual || far < ack.MessageID {
				a.known.Add(readerOf(ack), ack.MessageID)
			}
		}
		a.mu.Unlock()
	}
	if len(entries) > 0 {
		a.mu.Lock()
		defer a.mu.Unlock()
		last := entries[len(entries)-1].Pos
		maps.DeleteFunc(a.reset, func(_ reader, at bus.Position) bool { return !at.IsZero() && !last.Less(at) })
	}
}

// run writes what is put until ctx ends, and then what is left.
func (a *acker) run(ctx context.Context) error {
	gather := time.NewTimer(0)
	defer gather.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			a.finish(context.WithoutCancel(ctx)) // what was answered is still to be written
			return nil
		case <-a.wake:
		}
		gather.Reset(acksGather)
		select {
		case <-ctx.Done():
			continue
		case <-gather.C:
		}
		err := a.flush(ctx)
		if err != nil && ctx.Err() == nil && !failing { // said once, and not with every try of an outage
			slog.Warn("acks cannot be written and wait", "err", err)
		}
		failing = err != nil
	}
}

func (a *acker) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, acksLast)
	defer cancel()
	if err := a.flush(ctx); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		acksForsaken.Add(len(a.waiting))
		slog.Warn("the process ends and some acks are lost", "acks", len(a.waiting), "err", err)
	}
}

// flush, which run alone calls, writes all that waits. What cannot be written waits on, under what has come meanwhile.
func (a *acker) flush(ctx context.Context) error {
	a.mu.Lock()
	acks := make([]wire.Ack, 0, len(a.waiting))
	for _, ack := range a.waiting {
		acks = append(acks, ack)
	}
	clear(a.waiting)
	a.written = a.since
	a.mu.Unlock()
	slices.SortFunc(acks, func(a, b wire.Ack) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.ChannelID, b.ChannelID))
	})
	for len(acks) > 0 {
		n := min(len(acks), entryAcksMax)
		if err := a.publish(ctx, acks[:n]); err != nil {
			ackErrors.Inc()
			a.settle(acks)
			return err
		}
		acks = acks[n:]
	}
	a.settle(nil)
	return nil
}

func (a *acker) publish(ctx context.Context, acks []wire.Ack) error {
	body, err := encode(wire.MessageReadPayload{Acks: acks})
	if err != nil {
		return err
	}
	// Who cannot post because memory runs short needs no acks either.
	receipt, err := a.log.Publish(ctx, bus.Post{Entry: bus.Entry{Type: wire.MessagesRead, Body: body}, Big: true})
	if err != nil {
		return err
	}
	ackEntries.Inc()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ack := range acks {
		if r := readerOf(ack); ack.Manual && !a.waiting[r].Manual { // else another one follows
			a.reset[r] = receipt.Pos
		}
	}
	return nil
}

// settle ends a flush, and puts back what could not be written.
func (a *acker) settle(left []wire.Ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	written := a.written
	a.written = time.Time{}
	if len(left) == 0 {
		return
	}
	for _, ack := range left {
		if newer, ok := a.waiting[readerOf(ack)]; ok {
			ack = after(ack, newer)
		}
		a.waiting[readerOf(ack)] = ack
	}
	a.since = written
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// acksOf are the acks of a MESSAGE_READ.
func acksOf(e bus.Entry) ([]wire.Ack, error) {
	p, err := payloadOf[wire.MessageReadPayload](e)
	return p.Acks, err
}
