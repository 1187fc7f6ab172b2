package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
	"unsafe"
)

// cpu is what processes have used, in seconds.
type cpu struct{ server, redis, postgres, load, all float64 }

func (c cpu) minus(o cpu) cpu {
	return cpu{c.server - o.server, c.redis - o.redis, c.postgres - o.postgres, c.load - o.load, c.all - o.all}
}

// others is what nobody of ours has used.
func (c cpu) others() float64 { return max(0, c.all-c.server-c.redis-c.postgres-c.load) }

// pids says whose CPU a load is charged with; 0 is nobody.
type pids struct{ server, redis, postgres int }

func (p pids) read(b *testing.B) cpu {
	b.Helper()
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		b.Fatal(err)
	}
	c := cpu{load: float64(self.Utime.Nano()+self.Stime.Nano()) / 1e9, all: machineSeconds(b)}
	for pid, sum := range map[int]*float64{p.server: &c.server, p.redis: &c.redis} {
		if pid != 0 {
			var ok bool
			if *sum, ok = processSeconds(pid); !ok {
				b.Fatalf("process %d is gone", pid)
			}
		}
	}
	if p.postgres != 0 {
		c.postgres = familySeconds(b, p.postgres)
	}
	return c
}

// processSeconds asks a process's CPU clock, as clock_getcpuclockid(3) makes its number: to the nanosecond, where /proc
// counts hundredths of a second.
func processSeconds(pid int) (seconds float64, ok bool) {
	var t syscall.Timespec
	const scheduler = 2 // CPUCLOCK_SCHED
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|scheduler), uintptr(unsafe.Pointer(&t)), 0)
	return float64(t.Nano()) / 1e9, errno == 0
}

// familySeconds is a process with its children, also those that have ended.
func familySeconds(b *testing.B, pid int) float64 {
	b.Helper()
	sum, ok := processSeconds(pid)
	if !ok {
		b.Fatalf("process %d is gone", pid)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range dirs {
		raw, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		// "pid (name) state parent …"; from the state on, user and system of the children that were waited for are 13 and 14.
		f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		other, _ := strconv.Atoi(filepath.Base(dir)) // the pattern says so
		switch {
		case other == pid:
			sum += ticks(f[13:15])
		case f[1] == strconv.Itoa(pid):
			own, _ := processSeconds(other) // nothing if it ends now
			sum += own
		}
	}
	return sum
}

// machineSeconds is what all processes of the machine have used.
func machineSeconds(b *testing.B) float64 {
	b.Helper()
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	// "cpu  user nice system idle iowait irq softirq steal …"
	f := strings.Fields(string(raw[:bytes.IndexByte(raw, '\n')]))
	return ticks([]string{f[1], f[2], f[3], f[6], f[7], f[8]})
}

// ticks are hundredths of a second on every Linux that Go runs on.
func ticks(fields []string) float64 {
	sum := 0
	for _, f := range fields {
		n, _ := strconv.Atoi(f) // the kernel wrote it
		sum += n
	}
	return float64(sum) / 100
}

// row is what a load has come to.
type row struct {
	name  string
	count int // posts, deliveries or rows
	took  time.Duration
	lat   []time.Duration // sorted
	cpu   cpu
}

// measure runs a load, which returns how much it has done and its latencies.
func measure(b *testing.B, name string, p pids, load func() (count int, lat []time.Duration)) row {
	b.Helper()
	before, start := p.read(b), time.Now()
	count, lat := load()
	r := row{name: name, count: count, took: time.Since(start), lat: lat, cpu: p.read(b).minus(before)}
	if count == 0 {
		b.Fatalf("%s: nothing was done", name)
	}
	slices.Sort(r.lat)
	return r
}

func (r row) perSecond() float64 { return float64(r.count) / r.took.Seconds() }

// perServerSecond is how much one CPU-second of the server (the bare one, in a bare load) does.
func (r row) perServerSecond() float64 { return float64(r.count) / r.cpu.server }

// perAllSecond is the same for all servers together.
func (r row) perAllSecond() float64 {
	return float64(r.count) / (r.cpu.server + r.cpu.redis + r.cpu.postgres)
}

func (r row) quantile(q float64) float64 {
	if len(r.lat) == 0 {
		return 0
	}
	return r.lat[int(q*float64(len(r.lat)-1))].Seconds() * 1e3
}

func (r row) micros(seconds float64) float64 { return seconds * 1e6 / float64(r.count) }

// report collects what is printed at the end.
type report struct {
	rows  []row
	notes []string
}

func (r *report) add(x row) row {
	r.rows = append(r.rows, x)
	return x
}

// ratio notes how two figures of one run compare, and reports it as a metric.
func (r *report) ratio(b *testing.B, unit, name string, ours, bare float64) {
	b.ReportMetric(ours/bare, unit)
	r.notes = append(r.notes, fmt.Sprintf("%-86s %9.0f / %-9.0f = %.3f", name, ours, bare, ours/bare))
}

func (r *report) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\tper second\tp50 ms\tp99 ms\tµs server\tµs redis\tµs postgres\tcores: servers\tload\tothers\t")
	for _, x := range r.rows {
		s := x.took.Seconds()
		fmt.Fprintf(w, "%s\t%.0f\t%s\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", x.name, x.perSecond(), x.latency(0.5), x.latency(0.99),
			x.micros(x.cpu.server), x.micros(x.cpu.redis), x.micros(x.cpu.postgres),
			(x.cpu.server+x.cpu.redis+x.cpu.postgres)/s, x.cpu.load/s, x.cpu.others()/s)
	}
	fmt.Fprintln(w)
	_ = w.Flush() // out is the terminal
	for _, n := range r.notes {
		fmt.Fprintln(out, n)
	}
}

func (r row) latency(q float64) string {
	if len(r.lat) == 0 {
		return "–"
	}
	return strconv.FormatFloat(r.quantile(q), 'f', 2, 64)
}

// closedLoop calls from several goroutines, each as soon as its latest call has returned, for a while.
func closedLoop(b *testing.B, callers int, d time.Duration, call func(caller int) error) (count int, lat []time.Duration) {
	b.Helper()
	end := time.Now().Add(d)
	each, errs := make([][]time.Duration, callers), make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for now := time.Now(); now.Before(end) && errs[i] == nil; {
				errs[i] = call(i)
				then := now
				now = time.Now()
				each[i] = append(each[i], now.Sub(then))
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			b.Fatalf("caller %d: %v", i, err)
		}
	}
	lat = slices.Concat(each...)
	return len(lat), lat
}

// metrics reads the server's metrics.
func (w *world) metrics(b *testing.B) func(name string) float64 {
	b.Helper()
	res, err := http.Get("http://" + w.admin + "/metrics")
	check(b, err)
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	check(b, err)
	return func(name string) float64 {
		b.Helper()
		_, rest, ok := strings.Cut("\n"+string(page), "\n"+name+" ")
		line, _, _ := strings.Cut(rest, "\n")
		v, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if !ok || err != nil {
			b.Fatalf("the server has no metric %s: %v", name, err)
		}
		return v
	}
}

// on measures a load on the server, for the report.
func (w *world) on(b *testing.B, name string, load func() (count int, lat []time.Duration)) row {
	b.Helper()
	p := pids{server: w.server.Pid(), redis: w.redis.Pid()}
	if !w.noPostgres {
		p.postgres = w.postgres.Pid()
	}
	profiled := w.profile(b, name)
	r := w.report.add(measure(b, name, p, load))
	profiled()
	return r
}

// beside measures a bare load, for the report.
func (w *world) beside(b *testing.B, name string, p pids, load func() (count int, lat []time.Duration)) row {
	b.Helper()
	return w.report.add(measure(b, name, p, load))
}

// profilesEnv names a directory that gets the server's CPU profile of every load. Taking them costs the server a percent
// or two.
const profilesEnv = "XCORD_BENCH_PROFILES"

// profile begins a profile, when they are wanted, and returns how to wait for it.
func (w *world) profile(b *testing.B, name string) (wait func()) {
	dir := os.Getenv(profilesEnv)
	if dir == "" {
		return func() {}
	}
	done := make(chan error, 1)
	go func() {
		private := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(w.dir, "data", "admin.sock"))
		}}}
		res, err := private.Get(fmt.Sprintf("http://server/debug/pprof/profile?seconds=%d", int(loadTime.Seconds())))
		if err != nil {
			done <- err
			return
		}
		defer res.Body.Close()
		out, err := os.Create(filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(name)+".pprof"))
		if err == nil {
			_, err = io.Copy(out, res.Body)
			err = errors.Join(err, out.Close())
		}
		done <- err
	}()
	return func() { check(b, <-done) }
}
