package sfu

import (
	"sync"
	"time"
)

// ringSize is how many packets a source keeps for who missed one: 1.28 s of 20 ms, more than anybody can wait for.
const ringSize = 64

// kept is a packet of a source as it was forwarded: all that a slot needs to send it again, bit for bit.
type kept struct {
	n       uint32 // the source's own number, see source.forward
	ts      uint32
	at      time.Time
	level   uint8
	marker  bool
	payload []byte // reused by the packet that comes into this place next
}

// ring is the one memory of a source for all its listeners. The source writes, listeners' RTCP reads.
type ring struct {
	mu     sync.Mutex // guards places and their payloads
	places [ringSize]kept
}

// put keeps a packet and returns it with a payload of the ring's own, which stays as it is until ringSize more were put.
// Only the source calls it, so it may go on reading what it got.
func (r *ring) put(k kept) kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	place := &r.places[k.n%ringSize]
	k.payload = append(place.payload[:0], k.payload...)
	*place = k
	return k
}

// get copies packet n, its payload into buf, and tells whether the ring still has it.
func (r *ring) get(n uint32, buf []byte) (k kept, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k = r.places[n%ringSize]
	if k.n != n || len(k.payload) == 0 || len(k.payload) > len(buf) {
		return kept{}, false
	}
	k.payload = buf[:copy(buf, k.payload)]
	return k, true
}
