package presence

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/redis"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, goleak.IgnoreTopFunction("time.Sleep"))) }

// clock is one for several gateways.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type bundle struct {
	t      *testing.T
	server *redis.Local
	client rueidis.Client
	admin  rueidis.Client
	clock  *clock
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, server: harness.Redis(t), clock: &clock{now: time.Unix(1_700_000_000, 0)}}
	for url, client := range map[string]*rueidis.Client{b.server.URL(): &b.client, b.server.AdminURL(): &b.admin} {
		c, err := redis.Open(t.Context(), redis.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		*client = c
	}
	if err := Install(t.Context(), b.admin); err != nil {
		t.Fatal(err)
	}
	return b
}

// gateway makes a Presence that holds a lease but does nothing by itself.
func (b *bundle) gateway(name string) *Presence {
	b.t.Helper()
	p := New(b.client, Config{Gateway: name, Lease: 10 * time.Second, Now: b.clock.Now})
	b.round(p)
	return p
}

func (b *bundle) round(p *Presence) {
	b.t.Helper()
	if err := p.Round(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) set(p *Presence, user id.ID, session string, status Status) {
	b.t.Helper()
	b.say(p, user, session, Said{Status: status, Client: "web"})
}

func (b *bundle) say(p *Presence, user id.ID, session string, said Said) {
	b.t.Helper()
	if err := p.Set(b.t.Context(), user, session, said); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) remove(p *Presence, session string) {
	b.t.Helper()
	if err := p.Remove(b.t.Context(), session); err != nil {
		b.t.Fatal(err)
	}
}

// shows compares what others see of two users.
func (b *bundle) shows(p *Presence, want map[id.ID]Status) {
	b.t.Helper()
	shown, err := p.Shown(b.t.Context(), []id.ID{alice, bob})
	if err != nil {
		b.t.Fatal(err)
	}
	got := map[id.ID]Status{}
	for user, s := range shown {
		got[user] = s.Status
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Error(diff)
	}
}

// changes are all that were told so far.
func (b *bundle) changes() []string {
	b.t.Helper()
	raw, err := b.client.Do(b.t.Context(), b.client.B().Xrange().Key(changesKey()).Start("-").End("+").Build()).AsXRange()
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, r := range raw {
		out = append(out, r.FieldValues["user"]+" "+r.FieldValues["status"])
	}
	return out
}

const alice, bob = id.ID(2), id.ID(3)

type shown = map[id.ID]Status

func TestPresence_AddsUpAUsersSockets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.gateway("one"), b.gateway("two")
	b.shows(one, shown{})
	b.set(one, alice, "a", Idle)
	b.shows(two, shown{alice: Idle})
	b.set(two, alice, "b", Online)
	b.shows(one, shown{alice: Online})
	b.set(two, alice, "c", DND)
	b.shows(one, shown{alice: DND})
	b.set(two, alice, "c", Invisible)
	b.shows(one, shown{alice: Online})
	b.set(one, bob, "d", Offline)
	b.shows(one, shown{alice: Online})
	b.remove(two, "b")
	b.remove(two, "b")
	b.shows(one, shown{alice: Idle})
	b.remove(one, "a")
	b.shows(one, shown{})
	b.remove(two, "c")
	want := []string{"2 idle", "2 online", "2 dnd", "2 online", "2 idle", "2 offline"}
	if diff := cmp.Diff(want, b.changes()); diff != "" {
		t.Error(diff)
	}
}

// TestPresence_ShowsWhatASocketSays: on which client, and what the highest socket does that does anything; and others are told of it.
func TestPresence_ShowsWhatASocketSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.gateway("one"), b.gateway("two")
	f := func(want Shown) {
		t.Helper()
		got, err := two.Shown(t.Context(), []id.ID{alice, bob})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[id.ID]Shown{alice: want}, got); diff != "" {
			t.Error(diff)
		}
	}
	const chess, go_, song = `[{"name":"chess  and more"}]`, `[{"name":"go"}]`, `[{"name":"song"}]`
	b.say(one, alice, "a", Said{Status: Idle, Client: "desktop", Activities: chess})
	f(Shown{Status: Idle, Clients: map[string]Status{"desktop": Idle}, Activities: chess})
	b.clock.pass(time.Second)
	b.say(two, alice, "b", Said{Status: Online, Client: "mobile"})
	f(Shown{Status: Online, Clients: map[string]Status{"desktop": Idle, "mobile": Online}, Activities: chess})
	b.say(two, alice, "c", Said{Status: Online, Client: "mobile", Activities: go_})
	f(Shown{Status: Online, Clients: map[string]Status{"desktop": Idle, "mobile": Online}, Activities: go_})
	b.clock.pass(time.Second)
	b.say(one, alice, "d", Said{Status: Online, Client: "web", Activities: song})
	f(Shown{Status: Online, Clients: map[string]Status{"desktop": Idle, "mobile": Online, "web": Online}, Activities: song})
	b.say(one, alice, "d", Said{Status: Invisible, Client: "web", Activities: song})
	f(Shown{Status: Online, Clients: map[string]Status{"desktop": Idle, "mobile": Online}, Activities: go_})
	b.say(one, alice, "d", Said{Status: Invisible, Client: "web", Activities: chess}) // nobody sees that
	b.remove(two, "b")                                                                // nor that there were two
	if diff := cmp.Diff([]string{"2 idle", "2 online", "2 online", "2 online", "2 online"}, b.changes()); diff != "" {
		t.Error(diff)
	}
	b.remove(two, "c")
	b.remove(one, "a")
	if n, err := b.client.Do(t.Context(), b.client.B().Exists().Key(statusesKey(), detailsKey()).Build()).AsInt64(); err != nil || n != 0 {
		t.Errorf("%d keys are left of nobody, %v", n, err)
	}
}

func TestPresence_SweepsDeadGateways(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.gateway("one"), b.gateway("two")
	b.set(one, alice, "a", Online)
	b.set(one, bob, "b", Online)
	b.set(two, bob, "c", Idle)
	b.clock.pass(9 * time.Second)
	b.round(two)
	b.shows(two, shown{alice: Online, bob: Online})
	b.clock.pass(2 * time.Second) // one has not renewed for 11 s
	b.round(two)
	b.shows(two, shown{bob: Idle})
	// One was only slow: it renews, learns that it was given up, and says everything again.
	b.round(one)
	b.shows(two, shown{alice: Online, bob: Online})
	if diff := cmp.Diff([]string{"2 online", "3 online", "2 offline", "3 idle", "2 online", "3 online"}, sorted(b.changes())); diff != "" {
		t.Error(diff)
	}
}

// sorted brings each pair of changes that a sweep makes in any order into one order.
func sorted(changes []string) []string {
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i][0] > changes[i+1][0] {
			changes[i], changes[i+1] = changes[i+1], changes[i]
		}
	}
	return changes
}

// TestPresence_DoesNotSweepWhoLives: a sweep that was under way when the gateway renewed takes nothing.
func TestPresence_DoesNotSweepWhoLives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.gateway("one"), b.gateway("two")
	b.set(one, alice, "a", Online)
	if err := two.sweepOne(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	b.shows(two, shown{alice: Online})
}

func TestPresence_SaysEverythingAgainToARedisThatForgot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.gateway("one")
	b.set(one, alice, "a", DND)
	if err := b.admin.Do(t.Context(), b.admin.B().Flushall().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	b.shows(one, shown{})
	b.round(one)
	b.shows(one, shown{alice: DND})
}

func TestPresence_RepeatsWhatDidNotGetThrough(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.gateway("one")
	b.set(one, alice, "a", Online)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if one.Set(ended, bob, "b", Said{Status: Idle}) == nil || one.Remove(ended, "a") == nil {
		t.Fatal("a call whose context has ended got through")
	}
	b.shows(one, shown{alice: Online})
	b.round(one)
	b.shows(one, shown{bob: Idle})
	if len(one.sockets) != 1 {
		t.Errorf("%d sockets are remembered", len(one.sockets))
	}
}

func TestPresence_TellsChangesToEveryGateway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	quiet := New(b.client, Config{Gateway: "quiet", Now: b.clock.Now})
	b.set(quiet, bob, "before", Online) // history, which nobody is told
	heard := make(chan Change, 16)
	var gateways []*Presence
	for _, name := range []string{"one", "two"} {
		p := New(b.client, Config{Gateway: name, Now: b.clock.Now})
		p.Subscribe(func(_ context.Context, changes []Change) {
			for _, c := range changes {
				heard <- c
			}
		})
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		gateways = append(gateways, p)
	}
	b.set(gateways[0], alice, "a", Online)
	for range 2 {
		if got := <-heard; got != (Change{User: alice, Status: Online}) {
			t.Errorf("got %+v", got)
		}
	}
	// A gateway that stops takes its sockets with it.
	gateways[0].Stop()
	if got := <-heard; got != (Change{User: alice, Status: Offline}) {
		t.Errorf("got %+v", got)
	}
}

// TestPresence_RemembersWhoChanged: once for each user, with what is seen by now, on a gateway that was there as on one that began later;
// and it says so when it does not know any more.
func TestPresence_RemembersWhoChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := New(b.client, Config{Gateway: "one", Now: b.clock.Now})
	heard := make(chan Change, 16)
	one.Subscribe(func(_ context.Context, changes []Change) {
		for _, c := range changes {
			heard <- c
		}
	})
	if err := one.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.Stop)
	before := one.Latest()
	b.set(one, alice, "a", Online)
	b.set(one, bob, "b", Online)
	b.set(one, alice, "a", Idle)
	b.set(one, bob, "b", Invisible)
	for range 4 {
		<-heard
	}
	later := New(b.client, Config{Gateway: "later", Now: b.clock.Now})
	if err := later.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(later.Stop)
	for name, p := range map[string]*Presence{"one": one, "later": later} {
		got, ok := p.Since(before)
		if diff := cmp.Diff(map[id.ID]Status{alice: Idle, bob: Offline}, got); diff != "" || !ok {
			t.Errorf("%s: %v %s", name, ok, diff)
		}
		if got, ok := p.Since(p.Latest()); len(got) != 0 || !ok {
			t.Errorf("%s: %v changed behind the end, %v", name, got, ok)
		}
	}
	for i := range recentMax {
		one.recent.add(dated{Change{User: id.ID(i), Status: Online}, one.Latest() + 1})
	}
	if _, ok := one.Since(before); ok {
		t.Error("everything is remembered")
	}
}

func TestPresence_IsAService(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lifetest.Stress(t, func() life.Service { return New(b.client, Config{Gateway: "one", Lease: time.Second}) })
}
