package resume

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/redis"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// setup gives a client and a store for each of two gateways.
func setup(t testing.TB) (client rueidis.Client, a, b *Store) {
	t.Helper()
	server := harness.Redis(t)
	open := func(url string) rueidis.Client {
		c, err := redis.Open(t.Context(), redis.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	if err := Install(t.Context(), open(server.AdminURL())); err != nil {
		t.Fatal(err)
	}
	client = open(server.URL()) // which may do less
	return client, New(client, Config{Gateway: "a"}), New(client, Config{Gateway: "b"})
}

func apply(t *testing.T, s *Store, want error, w Write) {
	t.Helper()
	if errs := s.Apply(t.Context(), []Write{w}); len(errs) != 1 || !errors.Is(errs[0], want) {
		t.Fatalf("%+v: %v, want %v", w, errs, want)
	}
}

func whole(session, state, view string) Write {
	return Write{Session: session, Checkpoint: Checkpoint{State: []byte(state), View: []byte(view)}}
}

// TestStore_HandsASessionOverOnce: of two who think that it is the same gateway's, one gets it, and the former owner is refused.
func TestStore_HandsASessionOverOnce(t *testing.T) {
	t.Parallel()
	client, a, b := setup(t)
	c := New(client, Config{Gateway: "c"})
	apply(t, a, nil, whole("s", "1", "v\x00\xff"))
	apply(t, a, nil, Write{Session: "s", Checkpoint: Checkpoint{State: []byte("2")}, Keep: true})
	owner, state, ok, err := b.Find(t.Context(), "s")
	if owner != "a" || string(state) != "2" || !ok || err != nil {
		t.Fatalf("found %q of %q: %v, %v", state, owner, ok, err)
	}
	got, ok, err := b.Claim(t.Context(), "s", owner)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if diff := cmp.Diff(Checkpoint{State: []byte("2"), View: []byte("v\x00\xff")}, got); diff != "" {
		t.Error(diff)
	}
	if _, ok, err := c.Claim(t.Context(), "s", owner); ok || err != nil {
		t.Errorf("claimed twice: %v, %v", ok, err)
	}
	apply(t, a, ErrTaken, whole("s", "3", "w"))
	apply(t, a, nil, Write{Session: "s", End: true}) // which is not a's to end
	apply(t, b, nil, Write{Session: "s", Checkpoint: Checkpoint{State: []byte("4")}, Keep: true})
	apply(t, b, nil, Write{Session: "s", End: true})
	if _, _, ok, err := b.Find(t.Context(), "s"); ok || err != nil {
		t.Errorf("an ended session is found: %v, %v", ok, err)
	}
}

// TestStore_CheckpointsGoByThemselves: each has an end, and one that has gone is not brought back without its view.
func TestStore_CheckpointsGoByThemselves(t *testing.T) {
	t.Parallel()
	client, a, b := setup(t)
	apply(t, a, nil, whole("s", "1", "v"))
	life := func() int64 {
		t.Helper()
		ms, err := client.Do(t.Context(), client.B().Pttl().Key(key("s")).Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return ms
	}
	if ms := life(); ms <= 0 || ms > a.cfg.Window.Milliseconds() {
		t.Errorf("a checkpoint lives %d ms", ms)
	}
	if err := client.Do(t.Context(), client.B().Persist().Key(key("s")).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := b.Claim(t.Context(), "s", "a"); !ok || err != nil || life() <= 0 {
		t.Errorf("claimed: %v, %v, lives %d ms", ok, err, life())
	}
	if err := client.Do(t.Context(), client.B().Del().Key(key("s")).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	apply(t, b, ErrMissing, Write{Session: "s", Checkpoint: Checkpoint{State: []byte("2")}, Keep: true})
	if _, ok, err := b.Claim(t.Context(), "s", "b"); ok || err != nil {
		t.Errorf("claimed what is gone: %v, %v", ok, err)
	}
}

// TestStore_KeepsWhatHoldsForAll: the latest note of each gateway, for as long as its checkpoints live.
func TestStore_KeepsWhatHoldsForAll(t *testing.T) {
	t.Parallel()
	client, a, b := setup(t)
	for _, note := range []string{"1-0", "2-0"} {
		if err := a.Note(t.Context(), note); err != nil {
			t.Fatal(err)
		}
	}
	f := func(gateway, want string) {
		t.Helper()
		if got, err := b.Noted(t.Context(), gateway); got != want || err != nil {
			t.Errorf("of %s: %q, %v", gateway, got, err)
		}
	}
	f("a", "2-0")
	f("b", "")
	ms, err := client.Do(t.Context(), client.B().Pttl().Key(noteKey("a")).Build()).AsInt64()
	if err != nil || ms <= 0 || ms > a.Window().Milliseconds() {
		t.Errorf("a note lives %d ms: %v", ms, err)
	}
}

// BenchmarkStore_Apply charges for one checkpoint of a session, of some 300 bytes and with its view as before, in a batch of 512.
func BenchmarkStore_Apply(b *testing.B) {
	_, s, _ := setup(b)
	const batch = 512
	writes := make([]Write, batch)
	for i := range writes {
		writes[i] = whole(strconv.Itoa(i), strings.Repeat("x", 300), strings.Repeat("v", 1000))
	}
	for _, err := range s.Apply(b.Context(), writes) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range writes {
		writes[i].View, writes[i].Keep = nil, true
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		for _, err := range s.Apply(b.Context(), writes) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
