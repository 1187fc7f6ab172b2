package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

var (
	brief = flag.Bool("chaos.short", false, "strike four kinds of fault once: some 30 s")
	long  = flag.Bool("chaos", false, "strike every kind of fault, and try the bad builds")
	// A round of all faults takes about a minute and a half.
	rounds   = flag.Int("chaos.rounds", 3, "how often each fault strikes")
	all      = flag.Bool("chaos.all", false, "strike also what only the long run has time for")
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
}

// scale says how much load there is.
type scale struct {
	posters, watchers int
	pace              time.Duration
	durability        redis.Durability // default D2
}

// newRun starts a machine with people on it, and the load.
func newRun(t *testing.T, binary string, seed uint64, s scale) *run {
	t.Helper()
	x := &run{m: newMachine(t, binary, s.durability), r: rand.New(rand.NewPCG(seed, 0)), said: new(bytes.Buffer)}
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

const (
	ownerName     = "owner"
	ownerPassword = "correct horse battery"
)

// bots is how many accounts the load has.
const bots = 6

// populate makes a guild with three channels that all see, one that is hidden now and then, and bots, whose tokens do not
// run out.
func (x *run) populate() error {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	anybody, err := client.New(client.Config{URL: x.cfg.Nodes[0]})
	if err != nil {
		return err
	}
	defer anybody.CloseIdle()
	in, err := anybody.Register(ctx, wire.Register{Username: ownerName, Password: ownerPassword})
	if err != nil {
		return err
	}
	owner := anybody.WithToken(in.Token)
	x.cfg.Owner = account{ID: in.User.ID, Token: in.Token}
	guild, err := owner.CreateGuild(ctx, "chaos")
	if err != nil {
		return err
	}
	x.cfg.Guild = guild.ID
	for i := range 4 {
		c, err := owner.CreateChannel(ctx, guild.ID, wire.CreateChannel{Name: fmt.Sprintf("c%d", i)})
		if err != nil {
			return err
		}
		if x.cfg.Flip = c.ID; i < 3 {
			x.cfg.Channels = append(x.cfg.Channels, c.ID)
		}
	}
	for i := range bots {
		app, err := owner.CreateApplication(ctx, fmt.Sprintf("bot%d", i))
		if err != nil {
			return err
		}
		bot, err := owner.CreateBot(ctx, app.ID)
		if err != nil {
			return err
		}
		if err := owner.AddBot(ctx, guild.ID, app.ID); err != nil {
			return err
		}
		x.cfg.Bots = append(x.cfg.Bots, account{ID: app.ID, Token: "Bot " + bot.Token})
	}
	return nil
}

// drained says when the writer has stored what stood in the log when it was asked.
func (x *run) drained() error {
	pending, lag, err := x.group()
	if err == nil && pending+lag > 0 {
		err = fmt.Errorf("%d entries are pending, %d not read", pending, lag)
	}
	return err
}

// group is where the writer is: how much it was given and has not acknowledged, and how much it was not given.
func (x *run) group() (pending, lag int64, err error) {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), 5*time.Second)
	defer cancel()
	c, err := redis.Open(ctx, redis.Config{URL: x.m.redis.AdminURL()})
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	groups, err := c.Do(ctx, c.B().XinfoGroups().Key("ev:{s00}").Build()).ToArray()
	if err != nil {
		return 0, 0, err
	}
	for _, g := range groups {
		fields, err := g.AsMap()
		if err != nil {
			return 0, 0, err
		}
		name, of := fields["name"], fields["last-delivered-id"]
		if n, _ := name.ToString(); n != "pg" {
			continue
		}
		p := fields["pending"]
		if pending, err = p.AsInt64(); err != nil {
			return 0, 0, err
		}
		// Redis' own lag is unknown behind a deleted entry: what stands behind the last one that was given is counted.
		last, err := of.ToString()
		if err != nil {
			return 0, 0, err
		}
		rest, err := c.Do(ctx, c.B().Xrange().Key("ev:{s00}").Start("("+last).End("+").Build()).AsXRange()
		return pending, int64(len(rest)), err
	}
	return 0, 0, fmt.Errorf("the writer has no group")
}

func (x *run) stored() (n int64) {
	x.m.until("rows are counted", func() error {
		ctx, cancel := context.WithTimeout(x.m.t.Context(), 5*time.Second)
		defer cancel()
		return x.m.pool.QueryRow(ctx, `select count(*) from messages`).Scan(&n)
	})
	return n
}

// history ends the load and gathers everything.
func (x *run) history() History {
	x.m.t.Helper()
	x.ask("finish")
	x.m.until("the writer has caught up", x.drained)
	file, err := os.Open(x.cfg.History)
	if err != nil {
		x.m.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	h := History{Flips: []id.ID{x.cfg.Flip}}
	if h.Events, err = Decode(file); err != nil {
		x.m.t.Fatal(err)
	}
	h.Events = append(h.Events, x.own...)
	for i := range h.Events { // the NUL stands in the text of a poison, and not in its key
		h.Events[i].Text = strings.TrimSuffix(h.Events[i].Text, "\x00")
	}
	slices.SortStableFunc(h.Events, func(a, b Event) int { return int(min(max(a.T-b.T, -1), 1)) })
	x.must(func() error { return x.final(&h.Final) })
	return h
}

func (x *run) final(f *Final) error {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	rows, err := x.m.pool.Query(ctx, `select id, channel_id, author_id, content from messages order by id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var message, channel, author int64
		var r Row
		if err := rows.Scan(&message, &channel, &author, &r.Content); err != nil {
			return err
		}
		r.ID, r.Channel, r.Author = id.ID(message), id.ID(channel), id.ID(author)
		f.Rows = append(f.Rows, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if f.Pending, f.Lag, err = x.group(); err != nil {
		return err
	}
	c, err := redis.Open(ctx, redis.Config{URL: x.m.redis.URL()})
	if err != nil {
		return err
	}
	defer c.Close()
	dead, err := c.Do(ctx, c.B().Xrange().Key("dead:{s00}:pg").Start("-").End("+").Build()).AsXRange()
	if err != nil {
		return err
	}
	for _, d := range dead {
		var ms, seq uint64
		if _, err := fmt.Sscanf(d.ID, "%d-%d", &ms, &seq); err != nil {
			return fmt.Errorf("dead letter %s: %w", d.ID, err)
		}
		f.Dead = append(f.Dead, id.FromEntry(ms, seq, 0))
	}
	return nil
}

// judge checks what has happened, and prints it.
func (x *run) judge() []Violation {
	x.m.t.Helper()
	h := x.history()
	broken := Check(h)
	var out strings.Builder
	table(&out, h, x.rounds, broken)
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

// short are the faults of the short run: one that kills, one that fences, one that loses answers, one that hands the writer
// what it cannot store.
var short = []string{"kill -9 everything", "SIGSTOP the writer's node", "Redis' answers lost", "poison"}

// TestChaos_ShortRunKeepsThePromises strikes a few kinds of faults once each.
func TestChaos_ShortRunKeepsThePromises(t *testing.T) {
	t.Parallel()
	if !*brief {
		t.Skip("make chaos-short does this")
	}
	seed := newSeed(t)
	x := newRun(t, buildBinary(t, ""), seed, scale{posters: 8, watchers: 6, pace: 100 * time.Millisecond})
	wanted := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return !slices.Contains(short, f.name)
	})
	for _, f := range plan(x.r, wanted, 1) {
		x.strike(f)
	}
	report(t, x.judge())
}

// TestChaos_LongRunKeepsThePromises strikes every kind of fault, round after round: make chaos.
func TestChaos_LongRunKeepsThePromises(t *testing.T) {
	if !*long {
		t.Skip("make chaos does this")
	}
	seed := newSeed(t)
	x := newRun(t, buildBinary(t, ""), seed, scale{posters: 30, watchers: 12, pace: 150 * time.Millisecond})
	wanted := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return !strings.Contains(f.name, *only) || f.long && !*all && *only == ""
	})
	for _, f := range plan(x.r, wanted, *rounds) {
		x.strike(f)
	}
	report(t, x.judge())
}
