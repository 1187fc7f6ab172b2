package chaos

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// line is what happened in the rounds of one fault.
type line struct {
	rounds, acked, unknown int
	broken                 map[Class]int
	resumed, invalid       int
	waits                  []time.Duration // per round, the longest that a post waited for its answer
	drain                  []float64
}

// table prints a line for each fault. What happened between rounds stands under "quiet", violations that belong to no time under
// "at the end".
func table(out io.Writer, h History, rounds []round, broken []Violation) {
	lines, order := map[string]*line{}, []string{}
	at := func(name string) *line {
		if lines[name] == nil {
			lines[name] = &line{broken: map[Class]int{}}
			order = append(order, name)
		}
		return lines[name]
	}
	name := func(t int64) string {
		for _, r := range rounds {
			if r.from <= t && t <= r.to {
				return r.fault
			}
		}
		if t == never {
			return "at the end"
		}
		return "quiet"
	}
	for _, r := range rounds {
		l := at(r.fault)
		l.rounds++
		l.waits = append(l.waits, longest(h, r))
		if r.drain > 0 {
			l.drain = append(l.drain, r.drain)
		}
	}
	slices.Sort(order)
	for _, e := range h.Events {
		l := at(name(e.T))
		switch {
		case e.Op == Ret && e.Status >= 200 && e.Status < 300:
			l.acked++
		case e.Op == Ret && (e.Status == 0 || e.Status >= 500):
			l.unknown++
		case e.Op == Resume:
			l.resumed++
		case e.Op == Invalid:
			l.invalid++
		}
	}
	for _, v := range broken {
		at(name(v.At)).broken[v.Class]++
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "rounds\tacknowledged\tindeterminate\tlost\tduplicated\treordered\tgaps\tother\tRESUME %\tINVALID_SESSION %\tPOST waits p50 ms\tmax ms\trows/s caught up\t fault")
	var all line
	for _, name := range order {
		l := lines[name]
		l.print(w, name)
		all.add(l)
	}
	all.print(w, "all")
	_ = w.Flush()
	received, sessions := 0, map[string]bool{}
	for _, e := range h.Events {
		if e.Op == Recv {
			received++
			sessions[e.Session] = true
		}
	}
	_, _ = fmt.Fprintf(out, "%d events checked: %d dispatches in %d sessions, %d rows, %d dead letters; %d violations\n",
		len(h.Events), received, len(sessions), len(h.Final.Rows), len(h.Final.Dead), len(broken))
}

func (l *line) add(o *line) {
	l.rounds += o.rounds
	l.acked += o.acked
	l.unknown += o.unknown
	l.resumed += o.resumed
	l.invalid += o.invalid
	l.waits = append(l.waits, o.waits...)
	l.drain = append(l.drain, o.drain...)
	if l.broken == nil {
		l.broken = map[Class]int{}
	}
	for class, n := range o.broken {
		l.broken[class] += n
	}
}

func (l *line) print(w io.Writer, name string) {
	resumed, invalid := "-", "-"
	if n := l.resumed + l.invalid; n > 0 {
		resumed = fmt.Sprintf("%.0f", 100*float64(l.resumed)/float64(n))
		invalid = fmt.Sprintf("%.0f", 100*float64(l.invalid)/float64(n))
	}
	p50, most, drain := "-", "-", "-"
	if n := len(l.waits); n > 0 {
		slices.Sort(l.waits)
		p50, most = fmt.Sprint(l.waits[n/2].Milliseconds()), fmt.Sprint(l.waits[n-1].Milliseconds())
	}
	if n := len(l.drain); n > 0 {
		slices.Sort(l.drain)
		drain = fmt.Sprintf("%.0f", l.drain[n/2])
	}
	_, _ = fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t %s\n", l.rounds, l.acked, l.unknown, l.broken[Lost],
		l.broken[Duplicate], l.broken[Reorder], l.broken[Gap], l.broken[Other], resumed, invalid, p50, most, drain, name)
}

// longest is how long a message that was under way in a round waited for its acknowledgement, repeats included.
func longest(h History, r round) (most time.Duration) {
	m := map[string]int64{}
	keys := map[call]string{}
	for _, e := range h.Events {
		switch {
		case e.Op == Send && e.Kind == Create:
			keys[call{e.Client, e.Call}] = e.Key
			if _, again := m[e.Key]; !again {
				m[e.Key] = e.T
			}
		case e.Op == Ret && e.Status >= 200 && e.Status < 300:
			key, ok := keys[call{e.Client, e.Call}]
			if ok && m[key] < r.to && e.T > r.from {
				most = max(most, time.Duration(e.T-m[key]))
			}
		}
	}
	return most
}
