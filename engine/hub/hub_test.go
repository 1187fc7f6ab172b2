package hub

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sub remembers what it was offered.
type sub struct {
	view *View
	got  []*Event
}

func (s *sub) Offer(e *Event) bool {
	s.got = append(s.got, e)
	return true
}

var (
	guilds   = []id.ID{1, 2, 3}
	channels = []id.ID{10, 11, 12}
	users    = []id.ID{100, 101, 102}
	intents  = []wire.Intents{0, wire.IntentGuilds, wire.IntentGuildMessages, wire.IntentsAll}
)

// classes has one class for each guild and set of channels, as the owner of a hub keeps them.
type classes map[string]*Class

func (c classes) draw(t *rapid.T, guild id.ID) *Class {
	class := NewClass(guild, rapid.SliceOfDistinct(rapid.SampledFrom(channels), rapid.ID).Draw(t, "channels"))
	key := fmt.Sprint(guild, class.Key())
	if c[key] == nil {
		c[key] = class
	}
	return c[key]
}

func drawView(t *rapid.T, c classes, user id.ID, have wire.Intents) *View {
	v := &View{User: user, Intents: have, Guilds: map[id.ID]*Class{}}
	for _, g := range guilds {
		if rapid.Bool().Draw(t, "member") {
			v.Guilds[g] = c.draw(t, g)
		}
	}
	return v
}

func drawEvent(t *rapid.T) *Event {
	maybe := func(from []id.ID, label string) id.ID {
		return rapid.SampledFrom(append([]id.ID{0}, from...)).Draw(t, label)
	}
	return &Event{
		Guild: maybe(guilds, "guild"), Channel: maybe(channels, "channel"), User: maybe(users, "user"), Except: maybe(users, "except"),
		Intents: rapid.SampledFrom(intents).Draw(t, "intents"), Durable: rapid.Bool().Draw(t, "durable"),
	}
}

// TestHub_SendsExactlyWhatIsVisible: walking the groups, after any history of attaching, changing and detaching, gives each
// session what Visible says of it alone.
func TestHub_SendsExactlyWhatIsVisible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, c := New(), classes{}
		var subs []*sub
		t.Repeat(map[string]func(*rapid.T){
			"attach": func(t *rapid.T) {
				s := &sub{view: drawView(t, c, rapid.SampledFrom(users).Draw(t, "user"), rapid.SampledFrom(intents).Draw(t, "intents"))}
				h.Attach(s, s.view)
				subs = append(subs, s)
			},
			"change": func(t *rapid.T) {
				if len(subs) == 0 {
					t.Skip("nobody")
				}
				s := rapid.SampledFrom(subs).Draw(t, "sub")
				s.view = drawView(t, c, s.view.User, s.view.Intents)
				h.Change(s, s.view)
			},
			"detach": func(t *rapid.T) {
				if len(subs) == 0 {
					t.Skip("nobody")
				}
				i := rapid.IntRange(0, len(subs)-1).Draw(t, "sub")
				if v := h.Detach(subs[i].view.User, subs[i]); v != subs[i].view {
					t.Fatalf("detached with view %v, want %v", v, subs[i].view)
				}
				subs = slices.Delete(subs, i, i+1)
			},
			"send": func(t *rapid.T) {
				e := drawEvent(t)
				if e.Guild == 0 && e.User == 0 {
					t.Skip("for nobody")
				}
				want := 0
				for _, s := range subs {
					s.got = nil
				}
				sent := h.Send(e)
				for i, s := range subs {
					var expect []*Event
					if Visible(e, s.view) {
						expect = []*Event{e}
						want++
					}
					if !slices.Equal(s.got, expect) {
						t.Fatalf("subscriber %d with view %+v got %d of %+v", i, s.view, len(s.got), e)
					}
				}
				if sent != want {
					t.Fatalf("sent to %d, want %d", sent, want)
				}
			},
			"": func(t *rapid.T) {
				if h.Len() != len(subs) {
					t.Fatalf("%d attached, want %d", h.Len(), len(subs))
				}
				for _, g := range guilds {
					watched := slices.ContainsFunc(subs, func(s *sub) bool { return s.view.Guilds[g] != nil })
					if h.Watched(g) != watched {
						t.Fatalf("guild %s watched: %v", g, h.Watched(g))
					}
				}
			},
		})
	})
}

func TestVisible_JudgesByGuildChannelIntentAndUser(t *testing.T) {
	t.Parallel()
	v := &View{User: 100, Intents: wire.IntentGuildMessages, Guilds: map[id.ID]*Class{1: NewClass(1, []id.ID{10})}}
	f := func(name string, e Event, want bool) {
		t.Helper()
		if got := Visible(&e, v); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	message := Event{Guild: 1, Channel: 10, Intents: wire.IntentGuildMessages}
	f("a message", message, true)
	f("without an intent", Event{Guild: 1, Channel: 10}, true)
	f("of the guild as a whole", Event{Guild: 1}, true)
	f("about a channel", Event{Guild: 1, Channel: 10, Beside: 10}, true)
	f("about a channel that is not seen", Event{Guild: 1, Channel: 10, Beside: 11}, false)
	f("in a channel that is not seen", Event{Guild: 1, Channel: 11, Intents: wire.IntentGuildMessages}, false)
	f("in another guild", Event{Guild: 2}, false)
	f("with another intent", Event{Guild: 1, Channel: 10, Intents: wire.IntentGuildMessageTyping}, false)
	f("for the user", Event{User: 100}, true)
	f("for somebody else", Event{User: 101}, false)
	f("for the user, in a guild that is not seen", Event{User: 100, Guild: 2}, false)
	f("for all but the user", Event{Guild: 1, Except: 100}, false)
	f("for all but somebody else", Event{Guild: 1, Except: 101}, true)
}

// TestVisible_HidesTheAuditLogFromWhoIsTimedOut up to the end of that, by the place of the event.
func TestVisible_HidesTheAuditLogFromWhoIsTimedOut(t *testing.T) {
	t.Parallel()
	c := NewClass(1, []id.ID{1, 10}).Muted(100)
	v := &View{User: 5, Intents: wire.IntentsAll, Guilds: map[id.ID]*Class{1: c}}
	f := func(what string, channel id.ID, ms uint64, want bool) {
		t.Helper()
		e := &Event{Guild: 1, Channel: channel, Intents: wire.IntentGuildModeration, Point: Point{Pos: bus.Position{Ms: ms}}}
		if got := Visible(e, v); got != want {
			t.Errorf("%s: visible is %v", what, got)
		}
	}
	f("the audit log before the end", 1, 99, false)
	f("the audit log at the end", 1, 100, true)
	f("a channel before the end", 10, 99, true)
	if steps := Diff(v, v.With(1, NewClass(1, []id.ID{1, 10}))); len(steps) != 0 {
		t.Errorf("a time-out is told as %v", steps)
	}
	if c.Key() == NewClass(1, []id.ID{1, 10}).Key() {
		t.Error("who is timed out is of the class of who is not")
	}
}

func TestEvent_HidesContent(t *testing.T) {
	t.Parallel()
	bare := func(user id.ID) []byte { return []byte("bare for " + user.String()) }
	e := &Event{Guild: 1, Body: []byte("all"), Bare: bare}
	f := func(user id.ID, have wire.Intents, want string) {
		t.Helper()
		if got := string(e.For(&View{User: user, Intents: have})); got != want {
			t.Errorf("user %s with %d gets %s", user, have, got)
		}
	}
	f(102, wire.IntentMessageContent, "all")
	f(102, wire.IntentGuildMessages, "bare for 102")
	direct := &Event{Body: []byte("all"), Bare: bare}
	if got := string(direct.For(&View{User: 102})); got != "all" {
		t.Errorf("a direct message is %s", got)
	}
}

// TestDiff_LeadsFromViewToView: whoever was told all steps sees what the target shows, and after the first j of them the
// rest of the way is the rest of the steps.
func TestDiff_LeadsFromViewToView(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := classes{}
		from, to := drawView(t, c, 100, wire.IntentGuilds), drawView(t, c, 100, wire.IntentGuilds)
		steps := Diff(from, to)
		j := rapid.IntRange(0, len(steps)).Draw(t, "told")
		rest := Diff(Walk(from, to, steps[:j]), to)
		if diff := cmp.Diff(append([]Step{}, steps[j:]...), append([]Step{}, rest...)); diff != "" {
			t.Fatalf("after %d of %v: %s", j, steps, diff)
		}
		end := Walk(from, to, steps)
		if len(end.Guilds) != len(to.Guilds) {
			t.Fatalf("%d guilds at the end, want %d", len(end.Guilds), len(to.Guilds))
		}
		for g, class := range to.Guilds {
			if end.Guilds[g] == nil || end.Guilds[g].Key() != class.Key() {
				t.Fatalf("guild %s is not as it should be", g)
			}
		}
	})
}

func TestDiff_IsSilentWithoutTheIntent(t *testing.T) {
	t.Parallel()
	from := &View{User: 100, Intents: wire.IntentGuildMessages, Guilds: map[id.ID]*Class{}}
	if steps := Diff(from, from.With(1, NewClass(1, channels))); steps != nil {
		t.Errorf("got %v", steps)
	}
}

// TestRing_GivesWhatItHasOrSaysNo against a list that forgets nothing.
func TestRing_GivesWhatItHasOrSaysNo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit, bytes := rapid.IntRange(1, 8).Draw(t, "count"), rapid.IntRange(1, 40).Draw(t, "bytes")
		floor := bus.Position{Ms: 5}
		r := NewRing[int](floor, limit, bytes)
		type entry struct {
			pos   bus.Position
			bytes int
		}
		var all []entry
		for i := range rapid.IntRange(0, 40).Draw(t, "appends") {
			e := entry{pos: bus.Position{Ms: 6 + uint64(i)}, bytes: rapid.IntRange(0, 12).Draw(t, "size")}
			all = append(all, e)
			r.Append(e.pos, i, e.bytes)
		}
		kept, sum := 0, 0
		for i := len(all) - 1; i >= 0 && kept < limit && (kept == 0 || sum+all[i].bytes <= bytes); i-- {
			sum += all[i].bytes
			kept++
		}
		for ms := uint64(4); ms < 50; ms++ {
			p := bus.Position{Ms: ms}
			records, ok := r.Since(Behind(p))
			want := !p.Less(floor) && (len(all) == kept || !p.Less(all[len(all)-kept-1].pos))
			if ok != want {
				t.Fatalf("since %s: ok %v, want %v", p, ok, want)
			}
			if !ok {
				continue
			}
			from := slices.IndexFunc(all, func(e entry) bool { return !e.pos.Less(p) })
			if from < 0 {
				from = len(all)
			}
			if len(records) != len(all)-max(from, len(all)-kept) {
				t.Fatalf("since %s: %d records", p, len(records))
			}
		}
		if _, ok := r.Since(Before(floor)); ok {
			t.Fatal("what was at the floor is not there")
		}
	})
}

// TestRing_ReachesBack: records from before the beginning come in front, each once, unless they would be too many or leave a hole.
func TestRing_ReachesBack(t *testing.T) {
	t.Parallel()
	at := func(ms uint64) bus.Position { return bus.Position{Ms: ms} }
	record := func(ms uint64) Record[int] { return NewRecord(at(ms), int(ms), 1) }
	r := NewRing[int](bus.Position{}, 6, 100)
	r.Begin(at(10))
	r.Append(at(11), 11, 1)
	before, _ := r.Since(Behind(at(10)))
	if r.Prepend(at(4), at(9), []Record[int]{record(5)}) {
		t.Error("a hole in front of the floor was accepted")
	}
	if !r.Prepend(at(7), at(11), []Record[int]{record(8), record(10), record(11)}) || r.Floor() != at(7) {
		t.Errorf("the floor is %s", r.Floor())
	}
	if !r.Prepend(at(9), at(10), []Record[int]{record(10)}) {
		t.Error("what is there already was refused")
	}
	if r.Prepend(at(1), at(7), []Record[int]{record(2), record(3), record(4), record(6)}) {
		t.Error("seven records fit into six")
	}
	got, ok := r.Since(Behind(at(7)))
	var values []int
	for _, rec := range got {
		values = append(values, rec.Value)
	}
	if !ok || !slices.Equal(values, []int{8, 10, 11}) || len(before) != 1 || before[0].Value != 11 {
		t.Errorf("the ring has %v, %v; what was handed out is %v", values, ok, before)
	}
	if _, ok := r.Since(Before(at(7))); ok {
		t.Error("the ring reaches back behind its floor")
	}
}

// TestView_SurvivesEncoding also takes each beginning of it, which must be refused and not crash.
func TestView_SurvivesEncoding(t *testing.T) {
	t.Parallel()
	v := &View{User: 5, Guilds: map[id.ID]*Class{1: NewClass(1, channels), 7: NewClass(7, nil), 9: NewClass(9, []id.ID{1 << 62, 3})}}
	for name, from := range map[string]*View{
		"nothing": {User: 5}, "itself": v, "less": v.With(9, nil), "more": v.With(11, NewClass(11, channels)),
		"others": (&View{User: 5}).With(1, NewClass(1, nil)).With(2, NewClass(2, channels)), "muted": v.With(1, v.Guilds[1].Muted(7)),
	} {
		survives(t, name, from, v)
		survives(t, name+", muted", from, v.With(9, v.Guilds[9].Muted(1<<50)))
	}
	if b := v.AppendChanges(nil, v); len(b) != 1 {
		t.Errorf("no change takes %d bytes", len(b))
	}
	if b := v.AppendChanges(nil, nil); b[0] != viewFormat {
		t.Errorf("a view without time-outs has format %d, which older gateways cannot read", b[0])
	}
}

func survives(t *testing.T, name string, from, v *View) {
	t.Helper()
	b := v.AppendChanges(nil, from)
	got, err := from.Changed(b)
	if err != nil || got.User != 5 || !equal(got, v) {
		t.Errorf("from %s: another view, or %v", name, err)
	}
	for i := range b {
		if cut, err := from.Changed(b[:i]); err == nil && equal(cut, v) {
			t.Errorf("from %s: %d of %d bytes are taken for the whole", name, i, len(b))
		}
	}
}

func equal(a, b *View) bool {
	return maps.EqualFunc(a.Guilds, b.Guilds, func(a, b *Class) bool { return a.Guild == b.Guild && a.Key() == b.Key() })
}

// BenchmarkSend charges for finding the sessions of one message in one channel and offering it to them.
func BenchmarkSend(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h, c := New(), NewClass(1, channels)
			for i := range n {
				h.Attach(&counter{}, &View{User: id.ID(1000 + i), Intents: wire.IntentsAll, Guilds: map[id.ID]*Class{1: c}})
			}
			e := &Event{Guild: 1, Channel: 10, Intents: wire.IntentGuildMessages}
			b.ReportAllocs()
			for b.Loop() {
				h.Send(e)
			}
		})
	}
}

type counter struct{ n int }

func (c *counter) Offer(*Event) bool { c.n++; return true }
