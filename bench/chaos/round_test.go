package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/xcord/xcord/engine/bus"
)

// round is one strike and what was measured of it.
type round struct {
	fault    string
	from, to int64         // from the strike until all are well again
	load     time.Duration // for how long the slowest Redis that it started loaded
	drain    float64       // entries/s
	wait     time.Duration // the longest that a post waited for its acknowledgement, repeats included
}

// plan is a random order of rounds of the faults that are wanted.
func plan(r *rand.Rand, wanted []fault, rounds int) (all []fault) {
	for range rounds {
		for _, i := range r.Perm(len(wanted)) {
			all = append(all, wanted[i])
		}
	}
	return all
}

// strikeAll carries a plan out, and spreads it over a number of acknowledged events.
func (x *run) strikeAll(plan []fault, events int64) {
	x.before = x.restingUsage(max(300, events/50))
	for i, f := range plan {
		x.reach(events * int64(i) / int64(len(plan)))
		x.strike(f)
	}
	x.reach(events)
}

// reach waits until that many events are acknowledged in all, as long as there come more.
func (x *run) reach(events int64) {
	for have := x.acks(); have < events; have = x.acks() {
		x.m.until("the load posts", func() error { return x.posted(have, min(1000, events-have)) })
	}
}

// strike does harm once, and returns when all are well again: the nodes are ready, the writer has caught up, posts are answered, and
// every watcher sees what is posted.
func (x *run) strike(f fault) {
	if f.needs != nil {
		if lacks := f.needs(x.m); lacks != "" {
			x.m.t.Logf("SKIPPED, NOT PROVEN: %s: %s", f.name, lacks)
			return
		}
	}
	before, loads := x.acks(), len(x.m.loads)
	x.m.until("the load posts", func() error { return x.posted(before, 20) })
	r := round{fault: f.name, from: now()}
	f.do(x)
	for _, n := range x.m.nodes {
		x.m.await(n)
	}
	if f.backlog {
		r.drain = x.drain()
	}
	x.m.until("the writer has caught up", x.drained)
	before = x.acks()
	x.m.until("posts are answered again", func() error { return x.posted(before, 20) })
	x.ask("settle")
	r.to = now()
	for _, load := range x.m.loads[loads:] {
		r.load = max(r.load, load)
	}
	x.rounds = append(x.rounds, r)
	x.m.t.Logf("%-48s %5.1f s", f.name, float64(r.to-r.from)/1e9)
}

// drain waits until everything is stored that stood in the log when all was well again, and returns how many entries the writer
// stored in a second of the time in which it did. What comes in meanwhile stands behind it.
func (x *run) drain() float64 {
	var first, last progress
	x.m.until("the log's end is known", func() (err error) {
		first, err = x.progress()
		return err
	})
	begun := time.Now() // when it was last seen to store nothing: the first batch counts, and so does its time
	x.m.until("the writer has caught up", func() (err error) {
		looked := time.Now()
		if last, err = x.progress(); err != nil {
			return err
		}
		if !first.stored.Less(last.stored) {
			begun = looked
		}
		if last.stored.Less(first.last) {
			return fmt.Errorf("stored up to %s of %s", last.stored, first.last)
		}
		return nil
	})
	took := time.Since(begun)
	return float64(x.entries(first.stored, last.stored)) / took.Seconds()
}

// entries counts those behind one place up to another.
func (x *run) entries(from, to bus.Position) (n int) {
	x.m.until("entries are counted", func() error {
		ctx, cancel := context.WithTimeout(x.m.t.Context(), 5*time.Second)
		defer cancel()
		c := x.m.adminRedis(ctx)
		defer c.Close()
		all, err := c.Do(ctx, c.B().Xrange().Key("ev:{s00}").Start("("+from.String()).End(to.String()).Build()).AsXRange()
		n = len(all)
		return err
	})
	return n
}

// restingUsage is what the processes use when nobody asks anything of them, after a few events.
func (x *run) restingUsage(events int64) Usage {
	x.reach(events)
	x.ask("rest")
	defer x.ask("go on")
	x.m.until("the writer has stored all", x.idle)
	return x.usage()
}

// settledUsage waits until the processes use no more than they may.
func (x *run) settledUsage() (u Usage) {
	for end := time.Now().Add(settleMax); ; pause(200 * time.Millisecond) {
		u = x.usage()
		m := &model{h: History{Final: Final{Before: x.before, After: u}}}
		if m.checkUsage(); len(m.broke) == 0 || time.Now().After(end) {
			return u
		}
	}
}

// settleMax is for how long connections may linger that nobody uses: above the servers' idle timeouts.
const settleMax = 30 * time.Second

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

func (x *run) usage() (u Usage) {
	x.m.t.Helper()
	for _, n := range x.m.nodes {
		x.m.until("usage is measured", func() error {
			one, err := n.usage()
			if err == nil {
				u.Goroutines, u.Files, u.Bytes = u.Goroutines+one.Goroutines, u.Files+one.Files, u.Bytes+one.Bytes
			}
			return err
		})
	}
	return u
}

func (n *process) usage() (u Usage, err error) {
	res, err := http.Get("http://" + n.admin + "/metrics")
	if err != nil {
		return u, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return u, err
	}
	found := goroutines.FindSubmatch(text)
	if found == nil {
		return u, fmt.Errorf("%s has no go_goroutines among its metrics", n.name)
	}
	if u.Goroutines, err = strconv.ParseInt(string(found[1]), 10, 64); err != nil {
		return u, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.child.Pid()))
	if err != nil {
		return u, err
	}
	u.Files = int64(len(files))
	u.Bytes, err = residentBytes(n.child.Pid())
	return u, err
}

// residentBytes is the memory of a process, from the second field of its statm, in pages.
func residentBytes(pid int) (int64, error) {
	statm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return 0, fmt.Errorf("statm of %d: %w", pid, err)
	}
	return resident * int64(os.Getpagesize()), nil
}

func (x *run) must(do func() error) {
	x.m.t.Helper()
	if err := do(); err != nil {
		x.m.t.Fatal(err)
	}
}

func (x *run) ask(word string) string {
	x.m.t.Helper()
	answer, err := x.load.ask(word)
	if err != nil {
		x.m.t.Fatalf("%v\n%s", err, x.said.String())
	}
	return answer
}

func (x *run) acks() int64 {
	n, err := strconv.ParseInt(x.ask("acks"), 10, 64)
	if err != nil {
		x.m.t.Fatal(err)
	}
	return n
}

func (x *run) posted(since, n int64) error {
	if got := x.acks() - since; got < n {
		return fmt.Errorf("%d requests were answered since, want %d", got, n)
	}
	return nil
}
