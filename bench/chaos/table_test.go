package chaos

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/xcord/xcord/engine/id"
)

// line is what happened in the rounds of one fault.
type line struct {
	rounds, acked, unknown int
	failed                 int // attempts to post that were not answered with success
	broken                 map[Class]int
	steady, changing       resumes
	waits                  []time.Duration // per round, the longest that a post waited for its answer
	drain                  []float64
}

// resumes counts how those sessions came back whose connections were lost. Where what a session may see never changes, a RESUME
// inside the window must succeed; where it changes in the stretch to be counted it may be refused (DESIGN.md section 1, rule 3).
type resumes struct{ resumed, invalid int }

func (r resumes) percent() string {
	if r.resumed+r.invalid == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", r.share())
}

func (r resumes) share() float64 { return 100 * float64(r.resumed) / float64(r.resumed+r.invalid) }

const (
	quiet    = "quiet"
	atTheEnd = "at the end"
)

// ledger is a history, booked by what was struck when it happened.
type ledger struct {
	rounds []round
	lines  map[string]*line
}

// round is the index of the first round that ends at t or later.
func (l *ledger) round(t int64) int {
	i, _ := slices.BinarySearchFunc(l.rounds, t, func(r round, t int64) int { return cmp.Compare(r.to, t) })
	return i
}

func (l *ledger) at(t int64) *line {
	name := quiet
	switch i := l.round(t); {
	case t == never:
		name = atTheEnd
	case i < len(l.rounds) && l.rounds[i].from <= t:
		name = l.rounds[i].fault
	}
	return l.line(name)
}

func (l *ledger) line(name string) *line {
	if l.lines[name] == nil {
		l.lines[name] = &line{broken: map[Class]int{}}
	}
	return l.lines[name]
}

func (m *model) ledger(rounds []round) *ledger {
	l := &ledger{rounds: rounds, lines: map[string]*line{}}
	for i := range m.h.Events {
		l.book(m, &m.h.Events[i])
	}
	for _, msg := range m.keys {
		if msg.acked == never {
			continue
		}
		// What was sent in one round and is answered in the next has waited because of the first.
		if i := l.round(msg.sent); i < len(rounds) && rounds[i].from < msg.acked {
			rounds[i].wait = max(rounds[i].wait, time.Duration(msg.acked-msg.sent))
		}
	}
	for _, r := range rounds {
		on := l.line(r.fault)
		on.rounds++
		on.waits = append(on.waits, r.wait)
		if r.drain > 0 {
			on.drain = append(on.drain, r.drain)
		}
	}
	return l
}

func (l *ledger) book(m *model, e *Event) {
	switch e.Op {
	case Ret:
		sent := m.calls[call{e.Client, e.Call}]
		if sent == nil || sent.Kind.isView() {
			return
		}
		on := l.at(e.T)
		switch {
		case succeeded(e):
			on.acked++
		case unknown(e):
			on.unknown++
		}
		if sent.Kind == Create && !succeeded(e) && !m.mayRefuse(sent, e) {
			on.failed++
		}
	case Resume, Invalid:
		on := l.at(e.T)
		of := &on.steady
		if m.role(m.users[e.Client]) != stranger {
			of = &on.changing
		}
		if e.Op == Resume {
			of.resumed++
		} else {
			of.invalid++
		}
	}
}

// table prints a line for each fault, and then what must be reached. What happened between rounds stands under "quiet", violations
// that belong to no time under "at the end". It returns what was missed.
func (x *run) table(out io.Writer, m *model, broken []Violation) (missed []string) {
	l := m.ledger(x.rounds)
	for _, v := range broken {
		l.at(v.At).broken[v.Class]++
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "rounds\tacknowledged\tindeterminate\tlost\tduplicated\treordered\tgaps\tother\tRESUME %\tview changes %\tfailed posts\tPOST waits p50 ms\tmax ms\tentries/s caught up\t fault")
	var all line
	names := []string{}
	for name := range l.lines {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		l.lines[name].print(w, name)
		all.add(l.lines[name])
	}
	all.print(w, "all")
	_ = w.Flush()
	received, sessions := 0, map[string]bool{}
	for _, s := range m.sessions {
		received += len(s.recv)
		sessions[s.name] = true
	}
	took := x.took.Seconds()
	_, _ = fmt.Fprintf(out, "%d events checked: %d dispatches in %d sessions, %d rows, %d dead letters, %d pages; %d violations\n",
		len(m.h.Events), received, len(sessions), len(m.h.Final.Rows), len(m.h.Final.Dead), m.pages(), len(broken))
	_, _ = fmt.Fprintf(out, "%d acknowledged in %.0f s of load: %.0f/s; checked in %.0f s\n", all.acked, took, float64(all.acked)/took, x.checked.Seconds())
	hidden := 0
	for _, v := range m.veils {
		hidden += len(v.all)
	}
	wanted := 0
	m.wishes.each(func(id.ID, wish) { wanted++ })
	_, _ = fmt.Fprintf(out, "%d reactions and pins in the end, after %d attempts to change some; history shows %d messages\n",
		len(m.h.Final.Marks), wanted, len(m.h.Final.Shown))
	_, _ = fmt.Fprintf(out, "a channel was hidden, a role taken or changed, or a guest kicked, %d times; %d dispatches came close behind, and were judged by the clock\n", hidden, m.judged)
	before, after := m.h.Final.Before, m.h.Final.After
	_, _ = fmt.Fprintf(out, "at rest, before and after: %d and %d goroutines, %d and %d open files, %d and %d MiB resident\n",
		before.Goroutines, after.Goroutines, before.Files, after.Files, before.Bytes>>20, after.Bytes>>20)
	return x.bars(out, l, float64(all.acked)/took)
}

func (m *model) pages() (n int) {
	for i := range m.h.Events {
		if e := &m.h.Events[i]; e.Op == Read && e.Status == 200 {
			n++
		}
	}
	return n
}

func (l *line) add(o *line) {
	l.rounds += o.rounds
	l.acked += o.acked
	l.unknown += o.unknown
	l.failed += o.failed
	l.steady.add(o.steady)
	l.changing.add(o.changing)
	l.waits = append(l.waits, o.waits...)
	l.drain = append(l.drain, o.drain...)
	if l.broken == nil {
		l.broken = map[Class]int{}
	}
	for class, n := range o.broken {
		l.broken[class] += n
	}
}

func (r *resumes) add(o resumes) {
	r.resumed += o.resumed
	r.invalid += o.invalid
}

func (l *line) print(w io.Writer, name string) {
	p50, most, drain := "-", "-", "-"
	if n := len(l.waits); n > 0 {
		slices.Sort(l.waits)
		p50, most = fmt.Sprint(l.waits[n/2].Milliseconds()), fmt.Sprint(l.waits[n-1].Milliseconds())
	}
	if len(l.drain) > 0 {
		drain = fmt.Sprintf("%.0f", median(l.drain))
	}
	_, _ = fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%d\t%s\t%s\t%s\t %s\n", l.rounds, l.acked, l.unknown, l.broken[Lost],
		l.broken[Duplicate], l.broken[Reorder], l.broken[Gap], l.broken[Other], l.steady.percent(), l.changing.percent(), l.failed, p50, most, drain, name)
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// What must be reached besides (issue #3). The faults by what they take away: the gateway of a session, Redis for as long as it takes
// to start, and Postgres alone, without which posts go on.
var (
	gatewayFaults  = []string{"kill -9 a node", "kill -9 the writer's node"}
	restartFaults  = []string{"kill -9 Redis"}
	postgresAlone  = []string{"kill -9 Postgres", "kill -9 a backend", "SIGSTOP Postgres", "Postgres away"}
	resumeShareMin = 99.0
	outageMax      = 2 * time.Second
	drainMin       = 3.0
)

// bars prints what must be reached, and returns what was missed.
func (x *run) bars(out io.Writer, l *ledger, ingest float64) (missed []string) {
	bar := func(ok bool, format string, args ...any) {
		said, verdict := fmt.Sprintf(format, args...), "reached"
		if !ok {
			verdict = "MISSED"
			missed = append(missed, said)
		}
		_, _ = fmt.Fprintf(out, "%-8s %s\n", verdict, said)
	}
	var killed line
	for _, name := range gatewayFaults {
		killed.add(l.line(name))
	}
	if r := killed.steady; r.resumed+r.invalid > 0 {
		bar(r.share() >= resumeShareMin, "RESUME after kill -9 of the gateway: %d of %d, %s %%, want %.0f %%; where the view changes %d of %d",
			r.resumed, r.resumed+r.invalid, r.percent(), resumeShareMin, killed.changing.resumed, killed.changing.resumed+killed.changing.invalid)
	}
	for _, name := range restartFaults {
		worst, load := time.Duration(-1), time.Duration(0)
		for _, r := range l.rounds {
			if r.fault == name {
				worst, load = max(worst, r.wait-r.load), max(load, r.load)
			}
		}
		if worst >= 0 {
			bar(worst <= outageMax, "POST after %s: unavailable for %d ms beside loading (up to %d ms), want at most %d ms",
				name, worst.Milliseconds(), load.Milliseconds(), outageMax.Milliseconds())
		}
	}
	var alone line
	for _, name := range postgresAlone {
		alone.add(l.line(name))
	}
	if alone.rounds > 0 {
		bar(alone.failed == 0, "posts that failed in %d losses of Postgres: %d, want none; the longest waited %d ms",
			alone.rounds, alone.failed, slices.Max(alone.waits).Milliseconds())
	}
	var drains []float64
	for _, on := range l.lines {
		drains = append(drains, on.drain...)
	}
	if len(drains) > 0 {
		rate := median(drains)
		bar(rate >= drainMin*ingest, "the writer catches up with %.0f entries/s, %.1f times the %.0f/s that come in, want %.0f times", rate, rate/ingest, ingest, drainMin)
	}
	return missed
}
