package gateway

import (
	"strconv"
	"testing"

	"github.com/xcord/xcord/engine/resume"
)

// TestSaver_KeepsTheEndOfASession: however much waits, nothing is written of a session after its end, and nothing is owed for it for ever.
func TestSaver_KeepsTheEndOfASession(t *testing.T) {
	t.Parallel()
	v := newSaver(resume.New(nil, resume.Config{Gateway: "g"}), nil)
	for i := range errandsMax {
		v.put(&errand{record: &record{id: strconv.Itoa(i)}})
	}
	r := &record{id: "ended"}
	v.put(&errand{record: r})
	if v.waiting[r.id] != nil {
		t.Error("what waits has no bound")
	}
	v.put(&errand{record: r, end: true})
	if e := v.waiting[r.id]; e == nil || !e.end || !r.ended {
		t.Error("the end was dropped")
	}
}
