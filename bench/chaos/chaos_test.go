package chaos

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
)

var (
	long     = flag.Bool("chaos", false, "strike every kind of fault, and try the bad builds")
	rounds   = flag.Int("chaos.rounds", 3, "how often each fault strikes")
	all      = flag.Bool("chaos.all", false, "strike also what only the long run has time for")
	events   = flag.Int64("chaos.events", 100_000, "how many messages and changes of them are acknowledged at least, spread over the rounds")
	watchers = flag.Int("chaos.watchers", 2*bots, "how many sessions receive it all")
	only     = flag.String("chaos.only", "", "strike only faults with this in their name")
	seedFlag = flag.Uint64("chaos.seed", 0, "repeat the run of this seed; 0 takes a new one")
)

// TestMain is also the way into the load, which runs as another process of this binary.
func TestMain(m *testing.M) {
	if config := os.Getenv(loadEnv); config != "" {
		if err := runLoad(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// run is a machine, the load on it, and what was done to it.
type run struct {
	m       *machine
	r       *rand.Rand
	cfg     loadConfig
	load    remote
	said    *bytes.Buffer // by the load, on its standard error
	cmd     *exec.Cmd
	rounds  []round
	own     []Event // what the harness itself has sent
	poisons int
	missed  []string // bars
	before  Usage
	began   time.Time
	took    time.Duration // the load
	checked time.Duration
}

// scale says how much load there is.
type scale struct {
	posters, watchers int
	pace              time.Duration
	durability        redis.Durability // default D2; the promises of D2 are checked in any case
}

// newRun starts a machine with people on it, and the load.
func newRun(t *testing.T, binary string, seed uint64, s scale) *run {
	t.Helper()
	x := &run{m: newMachine(t, binary, s.durability), began: time.Now(), r: rand.New(rand.NewPCG(seed, 0)), said: new(bytes.Buffer)}
	x.cfg = loadConfig{
		Front: "http://" + x.m.front.addr(), History: filepath.Join(x.m.dir, "history.jsonl"),
		Posters: s.posters, Watchers: s.watchers, Pace: s.pace, Seed: seed,
	}
	for _, n := range x.m.nodes {
		x.cfg.Nodes = append(x.cfg.Nodes, "http://"+n.clients.addr())
	}
	x.must(x.populate)
	raw, err := json.Marshal(x.cfg)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(x.m.dir, "load.json")
	if err := os.WriteFile(config, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	x.cmd = exec.Command(os.Args[0])
	x.cmd.Env = append(os.Environ(), loadEnv+"="+config)
	x.cmd.Stderr = x.said
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := x.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := x.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		_ = x.cmd.Wait() // it was killed, or has ended
	})
	x.load = remote{in: in, out: bufio.NewScanner(out)}
	if _, err := x.load.answer(); err != nil {
		t.Fatalf("%v\n%s", err, x.said.String())
	}
	return x
}

// idle says when the writer has stored all there is. While posts come in, it hardly ever has.
func (x *run) idle() error {
	pending, lag, err := x.group()
	if err == nil && pending+lag > 0 {
		err = fmt.Errorf("%d entries are pending, %d not read", pending, lag)
	}
	return err
}

// drained says when the writer has caught up while posts come in: what it has not stored is younger than a second.
func (x *run) drained() error {
	p, err := x.progress()
	if late := int64(p.last.Ms) - int64(p.stored.Ms); err == nil && late > 1000 {
		err = fmt.Errorf("the writer is %d ms behind", late)
	}
	return err
}

// group is how much the writer was given and has not acknowledged, and how much it was not given.
func (x *run) group() (pending, lag int64, err error) {
	p, err := x.progress()
	return p.pending, p.lag, err
}

// progress is where the writer is.
type progress struct {
	pending, lag int64
	stored, last bus.Position // up to where it has acknowledged all, and where the log ends
}

func (x *run) progress() (p progress, err error) {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), 5*time.Second)
	defer cancel()
	c, err := redis.Open(ctx, redis.Config{URL: x.m.redis.AdminURL()})
	if err != nil {
		return p, err
	}
	defer c.Close()
	const stream, group = "ev:{s00}", "pg"
	groups, err := c.Do(ctx, c.B().XinfoGroups().Key(stream).Build()).ToArray()
	if err != nil {
		return p, err
	}
	var given string
	for _, g := range groups {
		fields, err := g.AsMap()
		if err != nil {
			return p, err
		}
		name, pending, at := fields["name"], fields["pending"], fields["last-delivered-id"]
		if n, _ := name.ToString(); n != group {
			continue
		}
		if p.pending, err = pending.AsInt64(); err != nil {
			return p, err
		}
		if given, err = at.ToString(); err != nil {
			return p, err
		}
	}
	if given == "" {
		return p, fmt.Errorf("the writer has no group")
	}
	if p.stored, err = bus.ParsePosition(given); err != nil {
		return p, err
	}
	if p.pending > 0 {
		first, err := c.Do(ctx, c.B().Xpending().Key(stream).Group(group).Start("-").End("+").Count(1).Build()).ToArray()
		if err != nil || len(first) == 0 {
			return p, cmp.Or(err, errors.New("what was pending is not any more"))
		}
		fields, err := first[0].ToArray()
		if err != nil {
			return p, err
		}
		lowest, err := fields[0].ToString()
		if err != nil {
			return p, err
		}
		at, err := bus.ParsePosition(lowest)
		if err != nil {
			return p, err
		}
		p.stored = at.Previous()
	}
	// Redis' own lag is unknown behind a deleted entry: what stands behind the last one that was given is counted.
	rest, err := c.Do(ctx, c.B().Xrange().Key(stream).Start("("+given).End("+").Build()).AsXRange()
	if err != nil {
		return p, err
	}
	p.lag, p.last = int64(len(rest)), p.stored
	if p.lag > 0 {
		p.last, err = bus.ParsePosition(rest[p.lag-1].ID)
	} else if p.pending > 0 {
		p.last, err = bus.ParsePosition(given)
	}
	return p, err
}

// history ends the load and gathers everything.
func (x *run) history() History {
	x.m.t.Helper()
	x.ask("halt")
	x.took = time.Since(x.began)
	x.m.until("the writer has stored all", x.idle)
	after := x.settledUsage()
	x.ask("finish")
	file, err := os.Open(x.cfg.History)
	if err != nil {
		x.m.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	h := History{
		Flips: x.cfg.flips(), Guests: x.cfg.guests(), Members: []id.ID{x.cfg.Owner.ID, x.cfg.Bots[marshal].ID},
		Final: Final{Before: x.before, After: after},
	}
	for _, r := range x.rounds {
		h.Troubled = append(h.Troubled, Span{r.from, r.to})
	}
	events, err := Decode(file)
	if err != nil {
		x.m.t.Fatal(err)
	}
	for i := range x.own { // the NUL stands in the text of a poison, and not in its key
		x.own[i].Text = strings.TrimSuffix(x.own[i].Text, "\x00")
	}
	for i := range events {
		events[i].Text = strings.TrimSuffix(events[i].Text, "\x00")
	}
	h.Events = merge(events, x.own)
	x.must(func() error { return x.final(&h.Final) })
	return h
}

// merge puts a few events into the order of many.
func merge(many, few []Event) []Event {
	at, total := len(many), len(many)+len(few)
	many = append(many, few...)
	for i := total - 1; len(few) > 0; i-- {
		if last := few[len(few)-1]; at == 0 || many[at-1].T <= last.T {
			many[i], few = last, few[:len(few)-1]
			continue
		}
		at--
		many[i] = many[at]
	}
	return many
}

// judge checks what has happened, and prints it.
func (x *run) judge() []Violation {
	x.m.t.Helper()
	h := x.history()
	begun := time.Now()
	m := newModel(h)
	broken := m.check()
	x.checked = time.Since(begun)
	var out strings.Builder
	x.missed = x.table(&out, m, broken)
	x.m.t.Log("\n" + out.String())
	return broken
}

func newSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: -chaos.seed=%d repeats what is struck, in this order, and what the clients want", seed, seed)
	return seed
}

// report makes a test fail for what is broken.
func report(t *testing.T, broken []Violation) {
	t.Helper()
	const shown = 20
	for i, v := range broken {
		if i == shown {
			t.Errorf("and %d more", len(broken)-shown)
			return
		}
		t.Errorf("%s [%s]", v, Invariants[v.Invariant])
	}
}

// short are the faults of the short run: each of the servers, the node that writes, and the clients.
var short = []string{"kill -9 the writer's node", "kill -9 Redis", "kill -9 Postgres", "clients cut off"}

// TestChaos_ShortRunKeepsThePromises strikes a few kinds of faults once each. It is part of make test.
func TestChaos_ShortRunKeepsThePromises(t *testing.T) {
	t.Parallel()
	seed := newSeed(t)
	x := newRun(t, buildBinary(t, ""), seed, scale{posters: 6, watchers: bots, pace: 100 * time.Millisecond})
	x.strikeAll(plan(x.r, named(short...), 1), 0)
	report(t, x.judge())
}

// TestChaos_LongRunKeepsThePromises strikes every kind of fault, round after round: make chaos, and make chaos-long.
func TestChaos_LongRunKeepsThePromises(t *testing.T) {
	if !*long {
		t.Skip("make chaos does this")
	}
	seed := newSeed(t)
	x := newRun(t, buildBinary(t, ""), seed, scale{posters: 64, watchers: *watchers, pace: 40 * time.Millisecond})
	wanted := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return !strings.Contains(f.name, *only) || f.long && !*all && *only == ""
	})
	x.strikeAll(plan(x.r, wanted, *rounds), *events)
	report(t, x.judge())
	for _, m := range x.missed {
		t.Error("MISSED: " + m)
	}
}

// named are the faults of these names.
func named(names ...string) []fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !slices.Contains(names, f.name) })
}
