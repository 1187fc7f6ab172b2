package gateway

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/wire"
)

// behind brings entries into the log that the gateway of b reads only when it is let go.
func (b *bundle) behind() (letGo func()) {
	b.service.core.mu.Lock()
	return b.service.core.mu.Unlock
}

// invalidated reads op 9, behind what the tail had in hand and who has come or gone.
func (s *socket) invalidated() {
	s.t.Helper()
	for {
		f := s.read()
		switch {
		case f.Op == wire.OpInvalidSession && string(f.D) == "false":
			return
		case f.Op != wire.OpDispatch:
			s.t.Fatalf("want op 9 false, got op %d %s", f.Op, f.D)
		}
	}
}

// TestCut_OfOneGatewayEndsItsSessionsAlone: the log is trimmed by hand past one gateway, which was busy. Its sessions, open and away, are
// over and begin anew on the same connection; those of another gateway, which had read it all, go on.
func TestCut_OfOneGatewayEndsItsSessionsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	quick := b.another(Config{})
	here, _ := b.identify(alice, wire.IntentsAll)
	there, _ := quick.identify(alice, wire.IntentsAll)
	away, _ := b.identify(bob, wire.IntentsAll)
	b.cut(away)
	letGo := b.behind()
	for _, text := range []string{"1", "2", "3", "4"} {
		quick.say(owner, general, text)
	}
	if err := b.admin.Do(t.Context(), b.admin.B().Xtrim().Key("ev:{s00}").Maxlen().Exact().Threshold("1").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	letGo()
	here.invalidated()
	if b.resume(bob, away, away.seq).resumed() {
		t.Error("a session that was away has missed something and was resumed")
	}
	intents := wire.IntentsAll
	here.send(wire.OpIdentify, wire.Identify{Token: b.token(alice), Intents: &intents})
	here.seq = 0
	var ready wire.Ready
	here.dispatch("READY").into(t, &ready)
	here.session = ready.SessionID
	here.dispatch("GUILD_CREATE")
	b.say(owner, general, "after")
	if got := here.message(); got != "after" {
		t.Errorf("after the hole came %q", got)
	}
	for _, want := range []string{"1", "2", "3", "4", "after"} {
		if got := there.message(); got != want {
			t.Errorf("the other gateway told %q, want %q", got, want)
		}
	}
	// The new session is one like any other.
	was := here
	b.cut(was)
	b.say(owner, general, "while away")
	again := b.resume(alice, was, was.seq)
	if got := again.message(); got != "while away" {
		t.Errorf("resumed with %q", got)
	}
}

// TestCut_EndsASessionThatIsAboutToBegin: it is told so like the others, and is not one that nobody can resume, see or end.
func TestCut_EndsASessionThatIsAboutToBegin(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	quick := b.another(Config{})
	letGo := b.behind()
	quick.say(owner, general, "what the gateway has not read") // for which whoever begins has to wait
	s := b.dial("/?v=10&encoding=json")
	intents := wire.IntentsAll
	s.send(wire.OpIdentify, wire.Identify{Token: b.token(alice), Intents: &intents})
	for b.service.desk.open() == 0 {
		runtime.Gosched()
	}
	last, err := b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var cut sync.WaitGroup
	cut.Go(func() {
		if err := b.service.cut(t.Context(), bus.Cut{Epoch: b.tail.Epoch(), Behind: last}); err != nil {
			t.Error(err)
		}
	})
	letGo()
	cut.Wait()
	s.invalidated()
}

// TestCut_EndsASessionThatIsBeingFetched: the epoch was looked at before the cut, and the place is one of a log that is not there any more.
func TestCut_EndsASessionThatIsBeingFetched(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	other := b.another(Config{})
	s, _ := b.identify(alice, wire.IntentsAll)
	b.flush()
	letGo := other.behind()
	b.say(owner, general, "what the other one has not read") // for which the fetch has to wait
	on := other.resume(alice, s, s.seq)
	for !other.owns(s) {
		runtime.Gosched()
	}
	other.service.desk.clear(time.Now())
	letGo()
	if on.resumed() {
		t.Error("the session was resumed")
	}
}

// owns says whether Redis holds a session for the gateway of b.
func (b *bundle) owns(s *socket) bool {
	b.t.Helper()
	owner, _, _, err := b.service.deps.Resume.Find(b.t.Context(), s.session)
	if err != nil {
		b.t.Fatal(err)
	}
	return owner == b.name
}

// open is how many sessions have a connection.
func (d *desk) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.owned)
}

// TestCut_KeepsNothingOfTheFormerEpoch: neither in the desk nor in Redis; and a client that says nothing is let go in time.
func TestCut_KeepsNothingOfTheFormerEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	other := b.another(Config{})
	s, _ := b.identify(alice, wire.IntentsAll)
	session, _ := b.identify(bob, wire.IntentsAll)
	b.flush()
	epoch := b.tail.Epoch()
	last, err := b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := b.log.Close(t.Context(), epoch); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := b.log.Begin(t.Context(), last.Ms+1000); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*socket{s, session} {
		c.invalidated()
	}
	last, err = b.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.reach(last)
	other.reach(last)
	if b.tail.Epoch() == epoch || other.tail.Epoch() != b.tail.Epoch() {
		t.Errorf("epochs %q and %q after %q", b.tail.Epoch(), other.tail.Epoch(), epoch)
	}
	if n := b.service.desk.waiting(); n != 0 {
		t.Errorf("%d sessions wait for their clients", n)
	}
	if other.resume(bob, session, session.seq).resumed() {
		t.Error("a session of the former epoch was resumed elsewhere")
	}
	if got := b.say(owner, general, "after"); got == 0 {
		t.Error("no id")
	}
}
