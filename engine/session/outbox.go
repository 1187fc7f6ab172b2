package session

import (
	"sync"

	"github.com/xcord/xcord/engine/hub"
)

// task is something to be written that is not an event.
type task interface {
	write(w *writer) error
}

// item is one of event and task.
type item struct {
	event *hub.Event
	task  task
}

func (i item) bytes() int {
	if i.event != nil {
		return len(i.event.Body)
	}
	return 0
}

// outbox is the queue between everybody and the writer. Full means closed: who cannot keep up comes back and resumes.
type outbox struct {
	countMax, bytesMax int

	mu     sync.Mutex // guards everything below
	items  []item
	count  int // items that wait or are being written
	bytes  int
	closed bool
	freed  chan struct{} // closed when something has been written; nil when nobody waits for that

	wake chan struct{} // has one element when there is something to do
}

func newOutbox(countMax, bytesMax int) *outbox {
	return &outbox{countMax: countMax, bytesMax: bytesMax, wake: make(chan struct{}, 1)}
}

// put adds an item. ok is false when the outbox was closed before, full when this item would be one too many.
func (o *outbox) put(i item) (ok, full bool) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return false, false
	}
	if o.count >= o.countMax || o.bytes+i.bytes() > o.bytesMax && o.count > 0 {
		o.closed = true
		o.mu.Unlock()
		return false, true
	}
	o.items = append(o.items, i)
	o.count++
	o.bytes += i.bytes()
	first := len(o.items) == 1
	o.mu.Unlock()
	if first {
		o.signal()
	}
	return true, false
}

// room is for who can wait: nil when this much more is no more than a quarter of what may wait, or when the outbox is closed; else it is
// closed when it is worth to ask again.
func (o *outbox) room(bytes int) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.count == 0 || o.bytes+bytes <= o.bytesMax/4 && o.count < o.countMax/4 {
		return nil
	}
	if o.freed == nil {
		o.freed = make(chan struct{})
	}
	return o.freed
}

// free wakes those who wait for room. mu is held.
func (o *outbox) free() {
	if o.freed != nil {
		close(o.freed)
		o.freed = nil
	}
}

// shut refuses everything from now on.
func (o *outbox) shut() {
	o.mu.Lock()
	o.closed = true
	o.free()
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// spareMax is the capacity beyond which an empty queue is given back, so that one burst does not stay for ever.
const spareMax = 64

// take returns everything that waits, and keeps spare for what comes next.
func (o *outbox) take(spare []item) []item {
	if cap(spare) > spareMax {
		spare = nil
	}
	clear(spare)
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items = spare[:0]
	return items
}

// written says that these items wait no more.
func (o *outbox) written(items []item) {
	bytes := 0
	for _, i := range items {
		bytes += i.bytes()
	}
	o.mu.Lock()
	o.count -= len(items)
	o.bytes -= bytes
	o.free()
	o.mu.Unlock()
}
