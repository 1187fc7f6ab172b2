package bus

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
)

var errBad = errors.New("bad entry")

// store is a consumer that keeps what it was given and refuses some bodies.
type store struct {
	mu     sync.Mutex
	kept   []string
	bad    []string
	outage int // how many calls fail before it works
	calls  int
	seen   chan struct{}
}

func newStore(bad ...string) *store { return &store{bad: bad, seen: make(chan struct{}, 10_000)} }

func (s *store) handle(_ context.Context, entries []Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.outage > 0 {
		s.outage--
		return errors.New("the database is away")
	}
	for _, e := range entries {
		if slices.Contains(s.bad, string(e.Body)) {
			return errBad
		}
	}
	for _, e := range entries {
		s.kept = append(s.kept, string(e.Body))
		s.seen <- struct{}{}
	}
	return nil
}

func (s *store) wait(t *testing.T, n int) []string {
	t.Helper()
	for range n {
		select {
		case <-s.seen:
		case <-t.Context().Done():
			t.Fatal("the entries did not come")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kept)
}

func lead(context.Context) (func(), error) { return func() {}, nil }

func newGroup(b bundle, s *store) *Group {
	return NewGroup(b.log, GroupConfig{Name: "pg", Lead: lead, Handle: s.handle,
		IsData: func(err error) bool { return errors.Is(err, errBad) }})
}

func (b bundle) pending(t *testing.T) int64 {
	t.Helper()
	summary, err := b.client.Do(t.Context(), b.client.B().Xpending().Key(streamKey()).Group("pg").Build()).ToArray()
	if err != nil {
		t.Fatal(err)
	}
	n, err := summary[0].AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGroup_StoresWhatWasWrittenBeforeIt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var want []string
	for i := range 50 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
		want = append(want, strconv.Quote(strconv.Itoa(i)))
	}
	s := newStore()
	g := newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 50)
	g.Stop()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := b.pending(t); n != 0 {
		t.Errorf("%d entries are pending after Stop, want 0", n)
	}
}

func TestGroup_BuriesPoisonEntryAndGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var poison Position
	for i := range 40 {
		p := mustPublish(t, b.log, post(1, strconv.Itoa(i))).Pos
		if i == 17 {
			poison = p
		}
	}
	s := newStore(`"17"`)
	g := newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 39)
	last := mustPublish(t, b.log, post(1, "after"))
	s.wait(t, 1)
	g.Stop()
	if len(got) != 39 || slices.Contains(got, `"17"`) || last.Pos.IsZero() {
		t.Errorf("kept %v", got)
	}
	dead, err := b.client.Do(t.Context(), b.client.B().Xrange().Key(deadKey("pg")).Start("-").End("+").Build()).AsXRangeSlices()
	if err != nil || len(dead) != 1 || dead[0].ID != poison.String() {
		t.Fatalf("dead letters: %v (%v), want the one of %s", dead, err, poison)
	}
	if e, err := decode(dead[0]); err != nil || string(e.Body) != `"17"` {
		t.Errorf("the dead letter does not hold the entry: %v, %v", e, err)
	}
	if n := b.pending(t); n != 0 {
		t.Errorf("%d entries are pending, want 0", n)
	}
}

func TestGroup_BuriesWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	add := b.client.B().Xadd().Key(streamKey()).Id("*").FieldValue().FieldValue("format", "99").Build()
	if err := b.client.Do(t.Context(), add).Error(); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b.log, post(1, "good"))
	s := newStore()
	g := newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 1)
	g.Stop()
	n, err := b.client.Do(t.Context(), b.client.B().Xlen().Key(deadKey("pg")).Build()).AsInt64()
	if err != nil || n != 1 || len(got) != 1 {
		t.Errorf("buried %d (%v), kept %v; want 1 and 1", n, err, got)
	}
}

func TestGroup_LeavesOutWhatItWouldBury(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	add := b.client.B().Xadd().Key(streamKey()).Id("*").FieldValue().FieldValue("format", "99").Build()
	if err := b.client.Do(t.Context(), add).Error(); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b.log, post(1, "bad"))
	mustPublish(t, b.log, post(1, "good"))
	s := newStore(`"bad"`)
	g := newGroup(b, s)
	g.config.LeavesOut = true
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 1)
	g.Stop()
	if diff := cmp.Diff([]string{`"good"`}, got); diff != "" {
		t.Error(diff)
	}
	if n, err := b.client.Do(t.Context(), b.client.B().Exists().Key(deadKey("pg")).Build()).AsInt64(); err != nil || n != 0 {
		t.Errorf("there are dead letters (%v)", err)
	}
	if _, pending, err := b.log.firstPending(t.Context(), "pg", "0-0"); err != nil || pending {
		t.Errorf("something is still pending (%v)", err)
	}
}

func TestGroup_WaitsOutAnOutageWithoutBurying(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := newStore()
	s.outage = 6
	g := newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b.log, post(1, "a"))
	s.wait(t, 1)
	g.Stop()
	n, err := b.client.Do(t.Context(), b.client.B().Exists().Key(deadKey("pg")).Build()).AsInt64()
	if err != nil || n != 0 || s.calls != 7 {
		t.Errorf("dead letters %d (%v), calls %d; want 0 and 7", n, err, s.calls)
	}
}

func TestGroup_SuccessorFinishesWhatWasPending(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for i := range 3 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
	}
	// A predecessor that took entries and died before it stored them.
	g := newGroup(b, newStore())
	if err := g.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, _, err := g.read(t.Context()); err != nil || len(h.entries) != 3 {
		t.Fatalf("read %d entries (%v)", len(h.entries), err)
	}
	s := newStore()
	g = newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 3)
	g.Stop()
	if diff := cmp.Diff([]string{`"0"`, `"1"`, `"2"`}, got); diff != "" {
		t.Error(diff)
	}
}

func TestGroup_AsksForTheLeadAgainWhenFenced(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	leads := make(chan struct{}, 10)
	fenced := true
	s := newStore()
	g := NewGroup(b.log, GroupConfig{Name: "pg", IsData: func(error) bool { return false },
		Lead: func(context.Context) (func(), error) { leads <- struct{}{}; return func() {}, nil },
		Handle: func(ctx context.Context, entries []Entry) error {
			if fenced {
				fenced = false
				return ErrFenced
			}
			return s.handle(ctx, entries)
		}})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b.log, post(1, "a"))
	got := s.wait(t, 1)
	g.Stop()
	if len(leads) != 2 || len(got) != 1 {
		t.Errorf("asked for the lead %d times, kept %v; want 2 and one entry", len(leads), got)
	}
}

func TestTrim_KeepsWhatAGroupHasNotFinished(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var positions []Position
	for i := range 10 {
		positions = append(positions, mustPublish(t, b.log, post(1, strconv.Itoa(i))).Pos)
	}
	tomorrow := time.Now().Add(48 * time.Hour)
	if n, err := b.log.Trim(t.Context(), tomorrow); err != nil || n != 0 {
		t.Fatalf("trimmed %d (%v) of a log without a group, want 0", n, err)
	}
	g := newGroup(b, newStore())
	if err := g.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := b.log.Trim(t.Context(), tomorrow); err != nil || n != 0 {
		t.Fatalf("trimmed %d (%v) of a log that nobody has read, want 0", n, err)
	}
	h, _, err := g.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.ack(t.Context(), h.entries[:4]); err != nil {
		t.Fatal(err)
	}
	if n, err := b.log.Trim(t.Context(), tomorrow); err != nil || n != 4 {
		t.Errorf("trimmed %d (%v), want the 4 that are finished", n, err)
	}
	if _, ok, err := b.log.Read(t.Context(), positions[4]); err != nil || !ok {
		t.Errorf("entry %s is gone (%v)", positions[4], err)
	}
}

// TestTrim_WaitsForAllGroups that there must be, and not only for those that are there.
func TestTrim_WaitsForAllGroups(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Groups: []string{"pg", "search"}})
	for i := range 3 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
	}
	tomorrow := time.Now().Add(48 * time.Hour)
	mustDo(t, b.client, "XGROUP", "CREATE", streamKey(), "pg", "$")
	if n, err := b.log.Trim(t.Context(), tomorrow); err != nil || n != 0 {
		t.Errorf("trimmed %d (%v) while a group is missing, want 0", n, err)
	}
	mustDo(t, b.client, "XGROUP", "CREATE", streamKey(), "search", "$")
	if n, err := b.log.Trim(t.Context(), tomorrow); err != nil || n == 0 {
		t.Errorf("trimmed %d (%v)", n, err)
	}
}

func TestTrim_KeepsTheLogBelowItsSize(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{RetainBytes: 64 << 10})
	for i := range 600 {
		p := post(1, strconv.Itoa(i))
		p.Body = make([]byte, 500)
		mustPublish(t, b.log, p)
	}
	mustDo(t, b.client, "XGROUP", "CREATE", streamKey(), "pg", "$") // which has finished all of it
	n, err := b.log.Trim(t.Context(), time.Now())
	if err != nil || n == 0 {
		t.Fatalf("trimmed %d (%v)", n, err)
	}
	usage, err := b.client.Do(t.Context(), b.client.B().MemoryUsage().Key(streamKey()).Build()).AsInt64()
	if err != nil || usage > 64<<10 {
		t.Errorf("the log has %d bytes (%v), want at most %d", usage, err, 64<<10)
	}
}

func TestTail_And_Group_Live(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	lifetest.Stress(t, func() life.Service { return NewTail(b.log, b.log.Last) })
	lifetest.Stress(t, func() life.Service { return newGroup(b, newStore()) })
	lifetest.Stress(t, func() life.Service { return NewTrimmer(b.log) })
}

// TestGroup_FindsWhatAProcessWithoutTheLeadWasHanded: a read that began before the lead was lost is answered afterwards.
func TestGroup_FindsWhatAProcessWithoutTheLeadWasHanded(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	former := newGroup(b, newStore())
	if err := former.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newStore()
	g := newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	mustPublish(t, b.log, post(1, "a"))
	s.wait(t, 1) // From here on it reads what is new.
	mustPublish(t, b.log, post(1, "b"))
	s.wait(t, 1)
	taken := false
	for !taken { // The two race for new entries until the former leader gets one.
		mustPublish(t, b.log, post(1, "c"))
		h, _, err := former.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = len(h.entries) > 0
		s.wait(t, 1) // Whoever was handed it, the leader stores it.
	}
}

// TestGroup_KeepsTheOrderOfWhatAProcessWithoutTheLeadWasHanded: what comes behind such an entry is not stored before it, because
// the checkpoint would pass it, and until it is found nobody would see it.
func TestGroup_KeepsTheOrderOfWhatAProcessWithoutTheLeadWasHanded(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	former := newGroup(b, newStore())
	s := newStore()
	atWork, goOn := make(chan struct{}), make(chan struct{})
	g := NewGroup(b.log, GroupConfig{Name: "pg", Lead: lead, IsData: func(error) bool { return false },
		Handle: func(ctx context.Context, entries []Entry) error {
			if string(entries[0].Body) == `"first"` {
				close(atWork)
				<-goOn
			}
			return s.handle(ctx, entries)
		}})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	mustPublish(t, b.log, post(1, "first"))
	<-atWork
	mustPublish(t, b.log, post(1, "second"))
	if h, _, err := former.read(t.Context()); err != nil || len(h.entries) != 1 {
		t.Fatalf("the former leader was handed %v, %v", h.entries, err)
	}
	mustPublish(t, b.log, post(1, "third"))
	close(goOn)
	if diff := cmp.Diff([]string{`"first"`, `"second"`, `"third"`}, s.wait(t, 3)); diff != "" {
		t.Error(diff)
	}
}
