package bus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/xcord/xcord/engine/id"
)

// change publishes a change of the set that the tests use; most is how many kinds there may be.
func (b bundle) change(t testing.TB, what Change, kind, member string, most int) error {
	t.Helper()
	p := post(3, string(what))
	p.Set = &SetChange{Key: SetKey("test", 9), Change: what, Kind: kind, Member: member, KindsMax: most}
	_, err := b.log.Publish(t.Context(), p)
	return err
}

// loaded is change, after which the set is loaded with members if it has to be.
func (b bundle) loaded(t testing.TB, members ...SetMember) {
	t.Helper()
	var unloaded *UnloadedError
	if err := b.change(t, SetRemove, "no", "body", 0); !errors.As(err, &unloaded) {
		t.Fatalf("a set that nobody has loaded: %v", err)
	}
	if err := b.log.LoadSet(t.Context(), SetKey("test", 9), unloaded.Ticket, members); err != nil {
		t.Fatal(err)
	}
}

func (b bundle) entries(t testing.TB) int64 {
	t.Helper()
	n, err := b.client.Do(t.Context(), b.client.B().Xlen().Key(streamKey()).Build()).AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSet_DecidesAsAMapDoes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.loaded(t, SetMember{"a", "1"}, SetMember{"a", "2"}, SetMember{"b", "1"})
	const most = 4
	model := map[SetMember]bool{{"a", "1"}: true, {"a", "2"}: true, {"b", "1"}: true}
	kinds := func() map[string]bool {
		out := map[string]bool{}
		for m := range model {
			out[m.Kind] = true
		}
		return out
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 600 {
		m := SetMember{string(rune('a' + rnd.IntN(6))), strconv.Itoa(rnd.IntN(3))}
		what, limit := SetAdd, most
		switch rnd.IntN(20) {
		case 0:
			what, m = SetClear, SetMember{}
		case 1, 2:
			what, m.Member = SetClear, ""
		case 3, 4, 5, 6, 7:
			what = SetRemove
		case 8, 9:
			limit = 0
		}
		have := kinds()
		var want error
		switch {
		case what == SetAdd && model[m], what == SetRemove && !model[m]:
			want = ErrSame
		case what == SetAdd && !have[m.Kind] && limit == 0:
			want = ErrNewKind
		case what == SetAdd && !have[m.Kind] && len(have) == most:
			want = ErrFull
		case what == SetClear && m.Kind == "" && len(have) == 0, what == SetClear && m.Kind != "" && !have[m.Kind]:
			want = ErrSame
		}
		before := b.entries(t)
		if err := b.change(t, what, m.Kind, m.Member, limit); !errors.Is(err, want) || err != nil && want == nil {
			t.Fatalf("step %d: %s %v: %v, want %v; there is %v", i, what, m, err, want, model)
		}
		if added := b.entries(t) - before; added != map[bool]int64{true: 1}[want == nil] {
			t.Fatalf("step %d: %s %v added %d entries", i, what, m, added)
		}
		if want != nil {
			continue
		}
		switch {
		case what == SetAdd:
			model[m] = true
		case what == SetRemove:
			delete(model, m)
		default:
			for have := range model {
				if m.Kind == "" || have.Kind == m.Kind {
					delete(model, have)
				}
			}
		}
	}
}

func TestSet_IsLoadedOnlyAsOfItsTicket(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	key := SetKey("test", 9)
	ticket := func() string {
		t.Helper()
		var unloaded *UnloadedError
		if err := b.change(t, SetAdd, "a", "1", 5); !errors.As(err, &unloaded) {
			t.Fatalf("it is loaded: %v", err)
		}
		return unloaded.Ticket
	}
	load := func(ticket string, members ...SetMember) {
		t.Helper()
		if err := b.log.LoadSet(t.Context(), key, ticket, members); err != nil {
			t.Fatal(err)
		}
	}
	first := ticket()
	if second := ticket(); second != first {
		t.Errorf("two who load at once have two tickets, %s and %s", first, second)
	}
	load("another")
	if ticket() != first {
		t.Error("it was loaded with a ticket that nobody has given")
	}
	forgets := post(3, "what was read is not true any more")
	forgets.Forgets = []string{key}
	mustPublish(t, b.log, forgets)
	load(first)
	next := ticket()
	if next == first {
		t.Error("a ticket outlived what made it untrue")
	}
	load(next, SetMember{"a", "1"})
	load(next) // the slower of two
	if err := b.change(t, SetAdd, "a", "1", 5); !errors.Is(err, ErrSame) {
		t.Errorf("after two have loaded: %v", err)
	}
	mustPublish(t, b.log, forgets)
	ticket()
}

// A set was made of a log; of another one nobody knows what is in it.
func TestSet_EndsWithTheEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.loaded(t, SetMember{"a", "1"})
	epoch, err := b.log.Epoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if closed, err := b.log.Close(t.Context(), epoch); err != nil || !closed {
		t.Fatalf("close: %v, %v", closed, err)
	}
	if _, err := b.log.Begin(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.loaded(t)
	if err := b.change(t, SetAdd, "a", "1", 5); err != nil {
		t.Errorf("a member of the epoch before: %v", err)
	}
}

// A message that everybody has reacted to is more than a function takes at once.
func TestSet_IsLoadedHoweverLargeItIs(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var members []SetMember
	for i := range 9000 {
		members = append(members, SetMember{string(rune('a' + i%3)), strconv.Itoa(i)})
	}
	b.loaded(t, members...)
	for _, m := range []SetMember{members[0], members[4321], members[8999]} {
		if err := b.change(t, SetAdd, m.Kind, m.Member, 3); !errors.Is(err, ErrSame) {
			t.Errorf("%v: %v", m, err)
		}
	}
	if err := b.change(t, SetAdd, "d", "1", 3); !errors.Is(err, ErrFull) {
		t.Errorf("a fourth kind of three: %v", err)
	}
	if err := b.change(t, SetClear, "b", "", 3); err != nil {
		t.Fatal(err)
	}
	if err := b.change(t, SetAdd, "d", "1", 3); err != nil {
		t.Errorf("after a kind was cleared: %v", err)
	}
}

func TestSet_HasItsMostWhenManyRace(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.loaded(t)
	const most = 20
	var all sync.WaitGroup
	results := make([]error, 4*most)
	for i := range results {
		all.Go(func() { results[i] = b.change(t, SetAdd, fmt.Sprint(i/2), fmt.Sprint(i), most) })
	}
	all.Wait()
	full := 0
	for i := 0; i < len(results); i += 2 {
		pair := results[i : i+2]
		if slices.ContainsFunc(pair, func(err error) bool { return errors.Is(err, ErrFull) }) {
			full++
		}
		if !errors.Is(pair[0], pair[1]) {
			t.Errorf("one of a kind: %v, another: %v", pair[0], pair[1])
		}
	}
	if full != most || b.entries(t) != 2*most {
		t.Errorf("%d kinds were refused, and %d entries added; want %d and %d", full, b.entries(t), most, 2*most)
	}
}

func TestPublish_RefusesARewriteOfWhatHasBeenRewritten(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	read := mustPublish(t, b.log, post(3, "create")).Pos
	rewrite := func(message id.ID, asOf Position) (Receipt, error) {
		p := post(3, "edit")
		p.Rewrites, p.AsOf = message, asOf
		return b.log.Publish(t.Context(), p)
	}
	first, err := rewrite(5, read)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rewrite(5, read); !errors.Is(err, ErrMoved) {
		t.Errorf("a rewrite of what was read before the latest: %v", err)
	}
	if _, err := rewrite(6, read); err != nil {
		t.Errorf("of another message: %v", err)
	}
	if _, err := rewrite(5, first.Pos); err != nil {
		t.Errorf("of what was read after the latest: %v", err)
	}
}
