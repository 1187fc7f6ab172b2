package bus

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
)

// board collects what a follower receives.
type board struct {
	mu   sync.Mutex
	got  []string
	news chan struct{}
}

func (b *board) receive(body []byte) {
	b.mu.Lock()
	b.got = append(b.got, string(body))
	b.mu.Unlock()
	b.news <- struct{}{}
}

func (b *board) await(t *testing.T, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		b.mu.Lock()
		diff := cmp.Diff(want, b.got)
		b.mu.Unlock()
		if diff == "" {
			return
		}
		select {
		case <-b.news:
		case <-ctx.Done():
			t.Fatal(diff)
		}
	}
}

func follow(t *testing.T, log *Log) *board {
	t.Helper()
	b := &board{news: make(chan struct{}, 10_000)}
	n := NewNotices(log, "ended", b.receive)
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return b
}

func (b bundle) notify(t *testing.T, bodies ...string) {
	t.Helper()
	var raw [][]byte
	for _, body := range bodies {
		raw = append(raw, []byte(body))
	}
	if err := b.log.Notify(t.Context(), "ended", time.Hour, raw...); err != nil {
		t.Fatal(err)
	}
}

func TestNotices_ReachThoseWhoRunAndThoseWhoBeginLater(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	early := follow(t, b.log)
	b.notify(t, "one", "two")
	early.await(t, "one", "two")
	late := follow(t, b.log)
	if diff := cmp.Diff([]string{"one", "two"}, late.got); diff != "" { // when Start has returned, and not some time after
		t.Error(diff)
	}
	b.notify(t, "three")
	early.await(t, "one", "two", "three")
	late.await(t, "one", "two", "three")
}

func TestNotices_ReachThoseWhoWereCutOff(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	cut := follow(t, b.log)
	b.notify(t, "before")
	cut.await(t, "before")
	b.server.Stop()
	if err := b.log.Notify(t.Context(), "ended", time.Hour, []byte("lost")); err == nil {
		t.Error("told to nobody, and no error")
	}
	if err := b.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.notify(t, "after")
	cut.await(t, "before", "after")
}

func TestNotices_GoWhenTheyAreOver(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const many = 1000
	for i := range many {
		b.notify(t, fmt.Sprint(i))
	}
	if err := b.log.Notify(t.Context(), "ended", -time.Minute, []byte("last")); err != nil { // everything is over by now
		t.Fatal(err)
	}
	n, err := b.client.Do(t.Context(), b.client.B().Xlen().Key(noticeKey("ended")).Build()).AsInt64()
	if err != nil || n > many/5 { // Redis cuts off whole nodes of a hundred
		t.Errorf("%d notices stand, %v", n, err)
	}
}

func TestNotices_Live(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	lifetest.Stress(t, func() life.Service { return NewNotices(b.log, "ended", func([]byte) {}) })
}
