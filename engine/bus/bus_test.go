package bus

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(mortalURL); url != "" {
		liveMortally(url)
	}
	os.Exit(harness.Main(m))
}

type bundle struct {
	server *redis.Local
	client rueidis.Client
	log    *Log
}

func setup(t testing.TB, config Config) bundle {
	t.Helper()
	server := harness.Redis(t)
	b := bundle{server: server, client: connect(t, server.URL())}
	b.log = Open(b.client, config)
	if err := b.log.Install(t.Context(), connect(t, server.AdminURL())); err != nil {
		t.Fatal(err)
	}
	return b
}

func connect(t testing.TB, url string) rueidis.Client {
	t.Helper()
	client, err := redis.Open(t.Context(), redis.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func post(channel id.ID, text string) Post {
	return Post{Entry: Entry{Type: wire.MessageSent, Actor: 7, Channel: channel, Body: []byte(strconv.Quote(text))}}
}

func mustPublish(t testing.TB, l *Log, p Post) Receipt {
	t.Helper()
	r, err := l.Publish(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPublish_KeepsEveryFieldOfAnEntry(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	p := Post{Entry: Entry{Type: wire.MessageSent, Actor: 1, Guild: 2, Channel: 3, User: 4, Trace: "00-abc", Body: []byte("{\"a\":\"\x00é\"}")}}
	r := mustPublish(t, b.log, p)
	got, ok, err := b.log.Read(t.Context(), r.Pos)
	if err != nil || !ok {
		t.Fatalf("read: %v, %v", ok, err)
	}
	want := p.Entry
	want.Pos = r.Pos
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if PositionOf(MessageID(r.Pos)) != r.Pos {
		t.Errorf("position %s does not survive the message id", r.Pos)
	}
}

// TestPublish_PausesItsActorInTheChannel: nobody else, nowhere else, and a repeated nonce is answered as ever.
func TestPublish_PausesItsActorInTheChannel(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	slow := func(actor, channel id.ID, nonce string) Post {
		p := post(channel, "x")
		p.Actor, p.Nonce, p.NonceTTL, p.Pause = actor, nonce, time.Minute, time.Hour
		return p
	}
	first := mustPublish(t, b.log, slow(7, 3, "a"))
	var paused *PausedError
	if _, err := b.log.Publish(t.Context(), slow(7, 3, "b")); !errors.As(err, &paused) || paused.Left <= 59*time.Minute || paused.Left > time.Hour {
		t.Errorf("within the pause: %v", err)
	}
	if r := mustPublish(t, b.log, slow(7, 3, "a")); !r.Repeat || r.Pos != first.Pos {
		t.Errorf("the nonce repeated within the pause: %+v", r)
	}
	mustPublish(t, b.log, slow(8, 3, "c"))
	mustPublish(t, b.log, slow(7, 4, "d"))
	mustPublish(t, b.log, post(3, "an entry without a pause"))
	if err := b.client.Do(t.Context(), b.client.B().Del().Key(pauseKey(3, 7)).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	r := mustPublish(t, b.log, slow(7, 3, "b"))
	if e, ok, err := b.log.Read(t.Context(), r.Pos); !ok || err != nil || string(e.Body) != `"x"` {
		t.Errorf("the entry after the pause: %+v, %v, %v", e, ok, err)
	}
}

func TestPublish_SameNonceGivesOneEntry(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	p := post(1, "a")
	p.Nonce, p.NonceTTL = "n", 10*time.Minute
	var mu sync.Mutex
	positions := map[Position]int{}
	fresh := 0
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			r, err := b.log.Publish(t.Context(), p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			positions[r.Pos]++
			if !r.Repeat {
				fresh++
			}
		})
	}
	wg.Wait()
	if len(positions) != 1 || fresh != 1 {
		t.Errorf("got %d positions and %d fresh ones, want 1 and 1", len(positions), fresh)
	}
}

func TestPublish_RefusesAStaleVersion(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	change := Entry{Type: wire.ServerCreated, Guild: 9, Version: 1, Body: []byte("{}")}
	if _, err := b.log.Apply(t.Context(), Key("guild", 9), change, nil); err != nil {
		t.Fatal(err)
	}
	p := post(1, "a")
	p.Guild, p.Fence = 9, 1
	mustPublish(t, b.log, p)
	change.Version, change.Type = 2, wire.MemberRemoved
	if _, err := b.log.Apply(t.Context(), Key("guild", 9), change, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.log.Publish(t.Context(), p); !errors.Is(err, ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
}

func TestPublish_RefusesAChangeOfADeletedMessage(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := MessageID(mustPublish(t, b.log, post(1, "a")).Pos)
	remove := Post{Entry: Entry{Type: wire.MessageDeleted, Body: []byte("{}")}, Changes: []id.ID{m}, Deletes: []id.ID{m}}
	mustPublish(t, b.log, remove)
	if _, err := b.log.Publish(t.Context(), remove); !errors.Is(err, ErrGone) {
		t.Errorf("second delete: got %v, want ErrGone", err)
	}
	edit := Post{Entry: Entry{Type: wire.MessageUpdated, Body: []byte("{}")}, Changes: []id.ID{m}}
	if _, err := b.log.Publish(t.Context(), edit); !errors.Is(err, ErrGone) {
		t.Errorf("edit: got %v, want ErrGone", err)
	}
}

func TestPublish_RefusesToBringWhatIsVoid(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	p := post(1, "a")
	p.Brings = []id.ID{7, 8}
	mustPublish(t, b.log, p)
	if err := b.log.Void(t.Context(), 8, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := b.log.Publish(t.Context(), p); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
	p.Brings = []id.ID{7}
	mustPublish(t, b.log, p)
	p = Post{Entry: Entry{Type: wire.MessageUpdated, Body: []byte("{}")}, Changes: []id.ID{8}}
	mustPublish(t, b.log, p) // a message of the same number is another thing
}

func TestPublish_MovesToTheNextMillisecondWhenTheSequenceIsFull(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	// A stream whose last id lies ahead of the clock with a full sequence: what a clock that ran back leaves behind.
	ahead := uint64(time.Now().Add(time.Hour).UnixMilli())
	add := b.client.B().Xadd().Key(streamKey()).Id(Position{Ms: ahead, Seq: 4095}.String()).FieldValue().FieldValue("x", "y").Build()
	if err := b.client.Do(t.Context(), add).Error(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []Position{{Ms: ahead + 1}, {Ms: ahead + 1, Seq: 1}} {
		if got := mustPublish(t, b.log, post(1, "a")).Pos; got != want {
			t.Errorf("post %d: got %s, want %s", i, got, want)
		}
	}
	n, err := b.client.Do(t.Context(), b.client.B().Xlen().Key(streamKey()).Build()).AsInt64()
	if err != nil || n != 3 {
		t.Errorf("the log has %d entries (%v), want 3", n, err)
	}
}

func TestApply_TakesVersionsInOrderAndOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	key := Key("guild", 5)
	apply := func(version int64) error {
		e := Entry{Type: wire.RoleCreated, Guild: 5, Version: version, Body: []byte("{}")}
		_, err := b.log.Apply(t.Context(), key, e, []Op{{Command: "HINCRBY", Key: key, Args: []string{"changes", "1"}}})
		return err
	}
	if err := apply(2); !errors.Is(err, ErrGap) {
		t.Errorf("version 2 first: got %v, want ErrGap", err)
	}
	for _, v := range []int64{1, 1, 2, 1, 2, 3} {
		if err := apply(v); err != nil {
			t.Errorf("version %d: %v", v, err)
		}
	}
	fields, err := b.client.Do(t.Context(), b.client.B().Hgetall().Key(key).Build()).AsStrMap()
	if err != nil || fields["changes"] != "3" || fields["v"] != "3" {
		t.Errorf("got %v (%v), want 3 changes and version 3", fields, err)
	}
	n, err := b.client.Do(t.Context(), b.client.B().Xlen().Key(streamKey()).Build()).AsInt64()
	if err != nil || n != 3 {
		t.Errorf("the log has %d entries (%v), want 3", n, err)
	}
}

func TestPublish_AnswersUnavailableWhenRedisIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Retries: 1})
	b.server.Stop()
	_, err := b.log.Publish(t.Context(), post(1, "a"))
	if f := fault.From(err); f.Status != 503 || f.RetryAfter == 0 {
		t.Errorf("got %v, want 503 with Retry-After", err)
	}
}

func TestTail_SeesEverythingInOrderAndCatchesUpBeforeStart(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var want, got []Position
	for i := range 700 {
		want = append(want, mustPublish(t, b.log, post(1, strconv.Itoa(i))).Pos)
	}
	tail := NewTail(b.log, func(context.Context) (Position, error) { return Position{}, nil })
	tail.Subscribe(func(_ context.Context, entries []Entry) error {
		for _, e := range entries {
			got = append(got, e.Pos)
		}
		return nil
	})
	if err := tail.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) < 700 {
		t.Errorf("Start returned after %d entries, want 700", len(got))
	}
	last := mustPublish(t, b.log, post(1, "later")).Pos
	want = append(want, last)
	if err := tail.WaitFor(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	tail.Stop()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTail_GoesOnAfterRedisWasKilled(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var mu sync.Mutex
	var got []string
	tail := NewTail(b.log, b.log.Last)
	tail.Subscribe(func(_ context.Context, entries []Entry) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range entries {
			got = append(got, string(e.Body))
		}
		return nil
	})
	if err := tail.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer tail.Stop()
	mustPublish(t, b.log, post(1, "before"))
	process, err := os.FindProcess(b.server.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-b.server.Failed()
	b.server.Stop()
	if err := b.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := mustPublish(t, b.log, post(1, "after")).Pos
	if err := tail.WaitFor(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{`"before"`, `"after"`}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSignal_ReachesAListener(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 100)
	done := make(chan error, 1)
	go func() { done <- b.log.Listen(ctx, "typing", func(body []byte) { heard <- string(body) }) }()
	// Listening begins some time after the call: signals are sent until one is heard, which is all that is promised.
	var got string
	for got == "" {
		if err := b.log.Signal(ctx, "typing", []byte("x")); err != nil {
			t.Fatal(err)
		}
		select {
		case got = <-heard:
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil || got != "x" {
		t.Errorf("heard %q, ended with %v", got, err)
	}
}

func TestDecode_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string]string{
		"no format": "type=A", "newer format": "format=2 type=A", "no type": "format=1", "bad id": "format=1 type=A guild=x",
	} {
		raw := rueidis.XRangeSlice{ID: "1-1"}
		for _, f := range strings.Fields(fields) {
			k, v, _ := strings.Cut(f, "=")
			raw.FieldValues = append(raw.FieldValues, rueidis.XRangeFieldValue{Field: k, Value: v})
		}
		if _, err := decode(raw); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

// TestLog_ReadsBackwards: from one place down to another, both included, so many at a time; and the epoch stays.
func TestLog_ReadsBackwards(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var all []Position
	for i := range 5 {
		all = append(all, mustPublish(t, b.log, post(1, strconv.Itoa(i))).Pos)
	}
	read := func(from, to Position, count int) (got []Position, oldest Position) {
		t.Helper()
		entries, oldest, err := b.log.ReadBack(t.Context(), from, to, count)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			got = append(got, e.Pos)
		}
		return got, oldest
	}
	got, oldest := read(all[1], all[3], 10)
	if diff := cmp.Diff([]Position{all[3], all[2], all[1]}, got); diff != "" || oldest != all[1] {
		t.Errorf("down to %s: %s", oldest, diff)
	}
	got, oldest = read(all[0], all[3].Previous(), 2)
	if diff := cmp.Diff([]Position{all[2], all[1]}, got); diff != "" || oldest != all[1] {
		t.Errorf("down to %s: %s", oldest, diff)
	}
	if got, oldest = read(Position{Ms: 1}, all[0].Previous(), 2); len(got) != 0 || !oldest.IsZero() {
		t.Errorf("in front of everything are %v", got)
	}
	epoch, err := b.log.Epoch(t.Context())
	if again, err2 := b.log.Epoch(t.Context()); err != nil || err2 != nil || epoch == "" || epoch != again {
		t.Errorf("epochs %q and %q: %v, %v", epoch, again, err, err2)
	}
}
