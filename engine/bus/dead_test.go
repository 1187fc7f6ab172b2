package bus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// mortalURL tells a child of this test where its Redis is.
const mortalURL = "XCORD_TEST_MORTAL_URL"

// liveMortally is a process that works through the log and kills itself when it is handed the poison. It ends well when
// it has been handed the last entry.
func liveMortally(url string) {
	ctx := context.Background()
	client, err := redis.Open(ctx, redis.Config{URL: url})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	log := Open(client, Config{})
	done := make(chan struct{})
	g := NewGroup(log, GroupConfig{Name: "pg", Lead: lead, IsData: func(error) bool { return false },
		Handle: func(_ context.Context, entries []Entry) error {
			for _, e := range entries {
				if string(e.Body) == `"poison"` {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
			}
			for _, e := range entries {
				fmt.Println(string(e.Body))
				if string(e.Body) == `"last"` {
					close(done)
				}
			}
			return nil
		}})
	if err := g.Start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	<-done
	g.Stop()
	os.Exit(0)
}

func (b bundle) letters(t *testing.T, f LetterFilter) ([]Letter, Position) {
	t.Helper()
	letters, next, err := b.log.Dead("pg").List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return letters, next
}

func bodies(letters []Letter) []string {
	out := []string{}
	for _, l := range letters {
		out = append(out, string(l.Entry.Body))
	}
	return out
}

// The process dies of one entry of a batch, again and again, and Redis with it, as in an installation of one process.
func TestGroup_BuriesWhatKillsTheProcess(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var poison Position
	want := []string{}
	for _, text := range []string{"0", "1", "poison", "2", "last"} {
		p := mustPublish(t, b.log, post(1, text)).Pos
		if text == "poison" {
			poison = p
		} else {
			want = append(want, strconv.Quote(text))
		}
	}
	deaths, kept := 0, []string{}
	for deaths < 20 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), mortalURL+"="+b.server.URL())
		cmd.Stderr = t.Output()
		out, err := cmd.Output()
		kept = append(kept, strings.Fields(string(out))...)
		if err == nil {
			break
		}
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != -1 {
			t.Fatal(err)
		}
		deaths++
		b.server.Stop()
		if err := b.server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	slices.Sort(kept)
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("kept: %s", diff)
	}
	letters, _ := b.letters(t, LetterFilter{})
	if deaths != 5 || len(letters) != 1 || letters[0].Entry.Pos != poison || letters[0].Attempts != 5 {
		t.Errorf("%d deaths and letters %+v; want 5, and the one of %s", deaths, letters, poison)
	}
}

func TestGroup_BuriesWhatPanicsTheHandler(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for i := range 20 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
	}
	s := newStore()
	g := NewGroup(b.log, GroupConfig{Name: "pg", Lead: lead, IsData: func(error) bool { return false },
		Handle: func(ctx context.Context, entries []Entry) error {
			for _, e := range entries {
				if string(e.Body) == `"7"` {
					panic("seven")
				}
			}
			return s.handle(ctx, entries)
		}})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 19)
	g.Stop()
	letters, _ := b.letters(t, LetterFilter{})
	if len(got) != 19 || len(letters) != 1 || string(letters[0].Entry.Body) != `"7"` {
		t.Fatalf("kept %v, buried %+v", got, letters)
	}
	l := letters[0]
	if l.Group != "pg" || l.Error != "the handler panicked: seven" || l.Attempts != 5 || time.Since(l.Buried) > time.Hour || l.Undecoded != nil {
		t.Errorf("the letter says %+v", l)
	}
}

// A handler that comes back with an outage, or loses the lead, has not died of its entries, however often.
func TestGroup_ForgivesWhoCameBack(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for i := range 3 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
	}
	s := newStore()
	calls := 0
	g := NewGroup(b.log, GroupConfig{Name: "pg", Lead: lead, IsData: func(error) bool { return false },
		Handle: func(ctx context.Context, entries []Entry) error {
			if calls++; calls < 20 {
				return ErrFenced
			}
			return s.handle(ctx, entries)
		}})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wait(t, 3)
	g.Stop()
	if letters, _ := b.letters(t, LetterFilter{}); len(letters) != 0 {
		t.Errorf("buried %v", bodies(letters))
	}
}

// What cannot be decoded is buried before the rest of its batch is tried, so out of the log's order.
func TestGroup_LosesNoneThatIsBuriedAfterALaterOne(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	poison := mustPublish(t, b.log, post(1, "poison")).Pos
	id, err := b.client.Do(t.Context(), b.client.B().Xadd().Key(streamKey()).Id("*").FieldValue().FieldValue("format", "99").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b.log, post(1, "good"))
	s := newStore(`"poison"`)
	g := newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wait(t, 1)
	g.Stop()
	letters, _ := b.letters(t, LetterFilter{})
	if len(letters) != 2 || letters[0].Entry.Pos != poison || letters[1].Entry.Pos.String() != id || letters[1].Undecoded == nil {
		t.Fatalf("buried %+v, want %s and %s", letters, poison, id)
	}
	// Nor when the later one has been taken out meanwhile.
	dead := b.log.Dead("pg")
	if n, err := dead.Remove(t.Context(), []Position{letters[1].Entry.Pos, poison}); err != nil || n != 2 {
		t.Fatalf("removed %d (%v)", n, err)
	}
	if err := g.buryEntry(t.Context(), letters[0].Entry, grave{cause: errBad}); err != nil {
		t.Fatal(err)
	}
	if l, ok, err := dead.Get(t.Context(), poison); err != nil || !ok || string(l.Entry.Body) != `"poison"` {
		t.Errorf("buried again: %v, %v, %+v", ok, err, l)
	}
}

func TestGroup_SaysWhatWasLost(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for i := range 4 {
		mustPublish(t, b.log, post(1, strconv.Itoa(i)))
	}
	g := newGroup(b, newStore())
	if err := g.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, _, err := g.read(t.Context())
	if err != nil || len(h.entries) != 4 {
		t.Fatalf("read %d entries (%v)", len(h.entries), err)
	}
	// Somebody trims what is pending.
	trim := b.client.B().Xtrim().Key(streamKey()).Minid().Exact().Threshold(h.entries[2].Pos.String()).Build()
	if err := b.client.Do(t.Context(), trim).Error(); err != nil {
		t.Fatal(err)
	}
	before := lostEntries.Get()
	s := newStore()
	g = newGroup(b, s)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.wait(t, 2)
	g.Stop()
	if diff := cmp.Diff([]string{`"2"`, `"3"`}, got); diff != "" {
		t.Error(diff)
	}
	// Nobody else loses anything in this process.
	if n := lostEntries.Get() - before; n != 2 {
		t.Errorf("%d entries are said to be lost, want 2", n)
	}
	if n := b.pending(t); n != 0 {
		t.Errorf("%d entries are pending", n)
	}
	if letters, _ := b.letters(t, LetterFilter{}); len(letters) != 0 {
		t.Errorf("buried %+v", letters)
	}
}

func TestDead_ListsByFilterAndPage(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	g := newGroup(b, newStore())
	var at []Position
	for i := range 450 {
		e := Entry{Pos: Position{Ms: id.EpochMs + uint64(i)}, Type: wire.MessageSent, Body: []byte(strconv.Itoa(i))}
		if i%10 == 3 {
			e.Type = wire.MessageUpdated
		}
		cause := errors.New("value too long")
		if i%100 == 7 {
			cause = errors.New("no such column")
		}
		if err := g.buryEntry(t.Context(), e, grave{cause: cause, attempts: 3}); err != nil {
			t.Fatal(err)
		}
		at = append(at, e.Pos)
	}
	f := func(f LetterFilter, want ...string) {
		t.Helper()
		letters, _ := b.letters(t, f)
		if diff := cmp.Diff(want, bodies(letters)); diff != "" {
			t.Errorf("%+v: %s", f, diff)
		}
	}
	f(LetterFilter{Limit: 2}, "0", "1")
	f(LetterFilter{Error: "no such"}, "7", "107", "207", "307", "407")
	f(LetterFilter{Type: wire.MessageUpdated, From: at[400], To: at[423]}, "403", "413", "423")
	f(LetterFilter{From: at[10], To: at[11]}, "10", "11")
	f(LetterFilter{From: at[10], To: at[12], After: at[11]}, "12")
	f(LetterFilter{From: at[10], After: at[3], Limit: 1}, "10")
	var all []string
	pages := 0
	for after := (Position{}); pages == 0 || !after.IsZero(); pages++ {
		letters, next := b.letters(t, LetterFilter{After: after, Limit: 100})
		all, after = append(all, bodies(letters)...), next
	}
	if len(all) != 450 || all[449] != "449" || pages != 5 {
		t.Errorf("%d letters on %d pages", len(all), pages)
	}
	latest, err := b.log.Dead("pg").Latest(t.Context(), 201)
	if err != nil || len(latest) != 201 || string(latest[0].Entry.Body) != "249" || string(latest[200].Entry.Body) != "449" {
		t.Errorf("the latest: %d (%v)", len(latest), err)
	}
}

func TestDead_KeepsWhatOthersWaitFor(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	g := newGroup(b, newStore())
	dead := b.log.Dead("pg")
	at := func(i int) Position { return Position{Ms: id.EpochMs + uint64(i)} }
	bury := func(i, behind int) bool {
		t.Helper()
		why := grave{cause: errBad}
		if behind > 0 {
			why.behind = at(behind)
		}
		ok, err := g.bury(t.Context(), at(i).String(), Entry{Type: wire.MessageSent}.appendFields(nil), why)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	remove := func(want int, wantErr error, is ...int) {
		t.Helper()
		var ps []Position
		for _, i := range is {
			ps = append(ps, at(i))
		}
		if n, err := dead.Remove(t.Context(), ps); n != want || !errors.Is(err, wantErr) {
			t.Errorf("remove %v: %d, %v; want %d, %v", is, n, err, want, wantErr)
		}
	}
	if bury(2, 1) {
		t.Error("an entry waits for what is not there")
	}
	_, mark, err := dead.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bury(1, 0) || !bury(2, 1) || !bury(3, 1) || !bury(3, 1) {
		t.Error("an entry does not wait")
	}
	if n, now, err := dead.State(t.Context()); n != 3 || now == mark || err != nil {
		t.Errorf("state %d %s, before %s: %v", n, now, mark, err)
	}
	remove(0, ErrWaiting, 1)
	remove(0, ErrWaiting, 1, 2, 2)
	if has, err := dead.Has(t.Context(), []Position{at(1), at(4), at(3)}); err != nil || !has[at(1)] || has[at(4)] || !has[at(3)] {
		t.Errorf("has %v (%v)", has, err)
	}
	remove(1, nil, 3)
	remove(2, nil, 1, 2, 9)
	remove(0, nil, 1, 2)
	if !bury(1, 0) {
		t.Error("what was taken out cannot be buried again")
	}
	remove(1, nil, 1)
}
