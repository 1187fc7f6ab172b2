package hub

import (
	"sort"

	"github.com/xcord/xcord/engine/bus"
)

// Record is an entry of the log in a Ring, with what its owner keeps of it.
type Record[T any] struct {
	Pos   bus.Position
	Value T
	bytes int
}

// Ring keeps the latest records of the log, as many as fit. What is passed to Append with nothing to keep need not be
// passed at all: the ring reaches back to the last record that it dropped, or to where it began.
type Ring[T any] struct {
	countMax, bytesMax int

	records []Record[T] // only ever appended to; what was handed out stays as it is
	bytes   int
	floor   bus.Position
}

// NewRing makes a Ring that begins behind floor and keeps so many records of so many bytes together.
func NewRing[T any](floor bus.Position, countMax, bytesMax int) *Ring[T] {
	return &Ring[T]{floor: floor, countMax: countMax, bytesMax: bytesMax}
}

// Append adds a record; positions rise.
func (r *Ring[T]) Append(p bus.Position, value T, bytes int) {
	r.records = append(r.records, Record[T]{Pos: p, Value: value, bytes: bytes})
	r.bytes += bytes
	drop := 0
	for len(r.records)-drop > r.countMax || r.bytes > r.bytesMax && len(r.records)-drop > 1 {
		r.bytes -= r.records[drop].bytes
		r.floor = r.records[drop].Pos
		drop++
	}
	r.records = r.records[drop:]
}

// Begin says that nothing up to floor will be appended: the ring reaches back to it, unless it has dropped more.
func (r *Ring[T]) Begin(floor bus.Position) {
	if r.floor.Less(floor) {
		r.floor = floor
	}
}

// Anew is an empty ring of the same size that begins behind floor.
func (r *Ring[T]) Anew(floor bus.Position) *Ring[T] { return NewRing[T](floor, r.countMax, r.bytesMax) }

// Floor is where the ring begins: it has everything behind it.
func (r *Ring[T]) Floor() bus.Position { return r.floor }

// Prepend lets the ring reach back to floor. records are all that there are behind floor up to through, which must not be before
// the ring's own floor. It answers false, and changes nothing, when there would be too many.
func (r *Ring[T]) Prepend(floor, through bus.Position, records []Record[T]) bool {
	if !floor.Less(r.floor) {
		return true
	}
	if through.Less(r.floor) {
		return false
	}
	bytes := r.bytes
	end := sort.Search(len(records), func(i int) bool { return r.floor.Less(records[i].Pos) })
	for _, rec := range records[:end] {
		bytes += rec.bytes
	}
	if end+len(r.records) > r.countMax || bytes > r.bytesMax {
		return false
	}
	// What was handed out stays as it is.
	all := make([]Record[T], 0, end+len(r.records))
	r.records = append(append(all, records[:end]...), r.records...)
	r.bytes, r.floor = bytes, floor
	return true
}

// NewRecord is a record for Prepend.
func NewRecord[T any](p bus.Position, value T, bytes int) Record[T] {
	return Record[T]{Pos: p, Value: value, bytes: bytes}
}

// Since returns the records from the one that p is in on. ok is false when the ring does not reach back that far.
func (r *Ring[T]) Since(p Point) (records []Record[T], ok bool) {
	if p.Less(Behind(r.floor)) {
		return nil, false
	}
	i := sort.Search(len(r.records), func(i int) bool { return !r.records[i].Pos.Less(p.Pos) })
	return r.records[i:len(r.records):len(r.records)], true
}

// After calls do for each durable event behind p that is visible to v, until do answers false.
func After(records []Record[[]*Event], p Point, v *View, do func(e *Event) bool) {
	for _, r := range records {
		for _, e := range r.Value {
			if p.Less(e.Point) && e.Durable && Visible(e, v) && !do(e) {
				return
			}
		}
	}
}
