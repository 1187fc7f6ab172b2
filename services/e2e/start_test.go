package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// dataDir makes a directory for managed servers: in memory if there is some, and not below t.TempDir, which other accounts
// cannot pass.
func dataDir(t *testing.T) string {
	t.Helper()
	temp := "/dev/shm"
	var space syscall.Statfs_t
	if err := syscall.Statfs(temp, &space); err != nil || space.Bavail*uint64(space.Bsize) < 1<<30 {
		temp = "/tmp"
	}
	dir, err := os.MkdirTemp(temp, "xcord-start-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// transcript is what a process says, while it says it.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// run is one run of the binary.
type run struct {
	cmd      *exec.Cmd
	out, err transcript
	began    time.Time
}

// launch runs the binary with nothing but PATH in its environment, and kills it at the end if the test has not ended it.
func launch(t *testing.T, environ []string, args ...string) *run {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{cmd: exec.Command(path, args...), began: time.Now()}
	r.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	r.cmd.Dir = t.TempDir()
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // a test process that panics leaves nothing, either
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill() // the test has failed already; the servers end with their parent
			_ = r.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%q said\n%s%s", args, r.out.String(), r.err.String())
		}
	})
	return r
}

// serve runs it on a data directory and free ports.
func serve(t *testing.T, data string, args ...string) *run {
	t.Helper()
	return launch(t, nil, append([]string{"-data", data, "-addr", "127.0.0.1:0", "-admin-addr", "127.0.0.1:0"}, args...)...)
}

// exit waits for the end and returns the exit code.
func (r *run) exit(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.cmd.Process.Kill() })
	defer stop()
	var failed *exec.ExitError
	if err := r.cmd.Wait(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("it did not end")
	}
	return r.cmd.ProcessState.ExitCode()
}

// refuses expects an end with exit code 1 or 78 and one line for each mistake, which holds these words; everything else
// that it says is log below ERROR.
func (r *run) refuses(t *testing.T, code int, mistakes ...[]string) {
	t.Helper()
	if got := r.exit(t); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	if r.out.String() != "" {
		t.Errorf("standard output has %q", r.out.String())
	}
	var told []string
	for line := range strings.Lines(r.err.String()) {
		if mistake, ok := strings.CutPrefix(line, "xcord: "); ok {
			told = append(told, strings.TrimSuffix(mistake, "\n"))
		} else if !strings.HasPrefix(line, "time=") || strings.Contains(line, "level=ERROR") {
			t.Errorf("standard error has the line %q", line)
		}
	}
	if len(told) != len(mistakes) {
		t.Errorf("%d mistakes are told, want %d:\n%s", len(told), len(mistakes), strings.Join(told, "\n"))
	}
	for _, words := range mistakes {
		if !slices.ContainsFunc(told, func(line string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
		}) {
			t.Errorf("no mistake is told with %q in it:\n%s", words, strings.Join(told, "\n"))
		}
	}
}

var greeting = regexp.MustCompile(`(?s)XCord serves (http://[^/\s]+)/api/v10 .*Health: (http://\S+)/readyz`)

// ready waits until it serves, and says where.
func (r *run) ready(t *testing.T) (public, admin string) {
	t.Helper()
	eventually(t, func() error {
		m := greeting.FindStringSubmatch(r.out.String())
		if m == nil {
			return fmt.Errorf("no greeting yet: %s%s", r.out.String(), r.err.String())
		}
		public, admin = m[1], m[2]
		return nil
	})
	return public, admin
}

func (r *run) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// traces are the processes that work in a data directory or are told of it, and the directories of their sockets.
func traces(t *testing.T, data string) (found []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range processes {
		cwd, _ := os.Readlink(proc + "/cwd") // it may have ended by now
		cmdline, _ := os.ReadFile(proc + "/cmdline")
		if cwd == data || strings.HasPrefix(cwd, data+"/") || bytes.Contains(cmdline, []byte(data)) {
			found = append(found, fmt.Sprintf("process %s in %s: %s", filepath.Base(proc), cwd, bytes.ReplaceAll(cmdline, []byte{0}, []byte(" "))))
		}
	}
	for _, server := range []string{"redis", "postgres"} {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", os.Geteuid(), filepath.Join(data, server)))
		dir := "/tmp/xcord-" + hex.EncodeToString(sum[:6])
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			found = append(found, "directory "+dir)
		}
	}
	return found
}

// leavesNothing: after the end there is no process, no directory of sockets and no listener.
func leavesNothing(t *testing.T, data string, urls ...string) {
	t.Helper()
	if left := traces(t, data); left != nil {
		t.Errorf("it leaves behind:\n%s", strings.Join(left, "\n"))
	}
	for _, url := range urls {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err == nil {
			_ = conn.Close()
			t.Errorf("somebody still listens at %s", url)
		}
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// TestStart_ServesUntilInterrupted is a life: the first start, a second one beside it, the end, and the start after.
func TestStart_ServesUntilInterrupted(t *testing.T) {
	t.Parallel()
	// The servers' sockets are elsewhere, so a path of any length will do.
	data := filepath.Join(dataDir(t), strings.Repeat("long", 20), strings.Repeat("path", 20))
	r := serve(t, data)
	public, admin := r.ready(t)
	if status, body := get(t, admin+"/readyz"); status != http.StatusOK {
		t.Errorf("readyz answers %d %s", status, body)
	}
	t.Logf("the first start took %v", time.Since(r.began).Round(time.Millisecond))
	if status, body := get(t, public+"/api/v10/gateway"); status != http.StatusOK || body != `{"url":"`+strings.Replace(public, "http", "ws", 1)+`"}` {
		t.Errorf("gateway answers %d %s", status, body)
	}
	// Otherwise there would be nothing to leave behind: xcord and two servers with a directory each, at least.
	if running := traces(t, data); len(running) < 5 {
		t.Errorf("it runs with no more than:\n%s", strings.Join(running, "\n"))
	}

	serve(t, data).refuses(t, 1, []string{data, "in use"})
	if status, body := get(t, admin+"/readyz"); status != http.StatusOK {
		t.Errorf("after a second one was refused readyz answers %d %s", status, body)
	}

	r.signal(t, os.Interrupt)
	if code := r.exit(t); code != 0 {
		t.Errorf("after SIGINT exit code %d", code)
	}
	leavesNothing(t, data, public, admin)

	again := serve(t, data)
	public, admin = again.ready(t)
	t.Logf("the second start took %v", time.Since(again.began).Round(time.Millisecond))
	again.signal(t, syscall.SIGTERM)
	if code := again.exit(t); code != 0 {
		t.Errorf("after SIGTERM exit code %d", code)
	}
	leavesNothing(t, data, public, admin)
	for _, r := range []*run{r, again} {
		if log := r.err.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
			t.Errorf("a start and a stop are worth a warning:\n%s", log)
		}
	}
	log, err := os.ReadFile(filepath.Join(data, "postgres", "server.log"))
	if err != nil || bytes.Contains(log, []byte("not properly shut down")) {
		t.Errorf("Postgres was not stopped in peace: %v\n%s", err, log)
	}
}

// TestStart_CanBeInterrupted while the servers are being made.
func TestStart_CanBeInterrupted(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	r := serve(t, data)
	eventually(t, func() error {
		_, err := os.Stat(filepath.Join(data, "postgres", "server.log"))
		return err
	})
	r.signal(t, os.Interrupt)
	if code := r.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	leavesNothing(t, data)
	again := serve(t, data) // what was half made is no obstacle
	again.ready(t)
	again.signal(t, os.Interrupt)
	if code := again.exit(t); code != 0 {
		t.Errorf("the start after it ends with exit code %d", code)
	}
	leavesNothing(t, data)
}

func TestStart_SaysWhichPortIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	addr := taken.Addr().String()
	for _, flag := range []string{"-addr", "-admin-addr"} {
		t.Run(flag, func(t *testing.T) {
			data := dataDir(t)
			serve(t, data, flag, addr).refuses(t, 1, []string{addr, "address already in use"})
			leavesNothing(t, data)
		})
	}
}

func TestStart_SaysWhatIsWrongWithTheData(t *testing.T) {
	t.Parallel()
	f := func(name string, make func(t *testing.T, dir string) (data string), words ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := make(t, dataDir(t))
			serve(t, data).refuses(t, 1, append([]string{filepath.Dir(data)}, words...))
			leavesNothing(t, data)
		})
	}
	write := func(t *testing.T, path, text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f("a file", func(t *testing.T, dir string) string { return write(t, filepath.Join(dir, "file"), "") }, "not a directory")
	f("below a file", func(t *testing.T, dir string) string {
		return filepath.Join(write(t, filepath.Join(dir, "file"), ""), "data")
	}, "not a directory")
	f("in a place where nobody may write", func(*testing.T, string) string { return "/proc/xcord" })
	f("of another version", func(t *testing.T, dir string) string {
		if err := os.MkdirAll(filepath.Join(dir, "postgres", "data"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "postgres", "data", "PG_VERSION"), "9.6\n")
		return dir
	}, "PostgreSQL 9")
	f("private", func(t *testing.T, dir string) string {
		if os.Geteuid() == 0 { // which may write anywhere, but its servers are other accounts
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "data")
		}
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		return dir
	})
}

func TestStart_SaysWhatIsNotInstalled(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	r := launch(t, []string{"PATH=" + t.TempDir()}, "-data", data, "-addr", "127.0.0.1:0", "-admin-addr", "127.0.0.1:0")
	r.refuses(t, 1, []string{"redis-server", "apt-get install redis-server"})
	leavesNothing(t, data)
}

func TestStart_NamesEveryWrongSetting(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	const secret = "hunter2"
	r := launch(t, []string{"XCORD_DURABILITY=D9", "XCORD_LOG_LEVEL=loud", "XCORD_POSTGRES_URL_FILE=/nonexistent"},
		"-data", data, "-addr", "nonsense", "--admin-addr=127.0.0.1", "-services", "gateway,auth,cooking", "-public-url", "ftp://here", "-colour", "blue",
		"-redis-url", secret)
	r.refuses(t, 78,
		[]string{"XCORD_DURABILITY", "D9", "D0", "D2", "D3"}, []string{"XCORD_LOG_LEVEL", "loud"}, []string{"XCORD_POSTGRES_URL_FILE", "/nonexistent"},
		[]string{"addr", "nonsense", "host:port"}, []string{"admin-addr", "127.0.0.1", "host:port"}, []string{"services", "cooking"},
		[]string{"public-url", "ftp://here"}, []string{"-colour"}, []string{"redis-url", "XCORD_REDIS_URL_FILE"},
		[]string{"upstream-guilds", "missing"}, []string{"upstream-messaging", "missing"}, []string{"keys-dir", "missing"},
		[]string{"XCORD_REDIS_URL", "missing"}, []string{"XCORD_POSTGRES_URL", "missing"})
	if strings.Contains(r.err.String(), secret) {
		t.Error("it tells a secret")
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) > 0 {
		t.Errorf("it has made %v in the data directory, %v", entries, err)
	}
	leavesNothing(t, data)
	launch(t, nil, "-durability", "D3", "-data", data).refuses(t, 78, []string{"D3", "XCORD_REDIS_URL"})
	launch(t, nil, "cook").refuses(t, 78, []string{"cook"})
}

func TestCommands_SayWhatIsAsked(t *testing.T) {
	t.Parallel()
	f := func(args []string, words ...string) string {
		t.Helper()
		r := launch(t, []string{"XCORD_REDIS_URL=redis://:hunter2@127.0.0.1:1"}, args...)
		if code := r.exit(t); code != 0 || r.err.String() != "" {
			t.Errorf("%q: exit code %d, %s", args, code, r.err.String())
		}
		out := r.out.String()
		for _, word := range words {
			if !strings.Contains(out, word) {
				t.Errorf("%q does not say %q:\n%s", args, word, out)
			}
		}
		if strings.Contains(out, "hunter2") {
			t.Errorf("%q tells a secret", args)
		}
		return out
	}
	if out := f([]string{"version"}, "xcord ", "go1."); strings.Count(out, "\n") != 1 {
		t.Errorf("the version has several lines: %q", out)
	}
	settings := []string{"XCORD_ADDR", "XCORD_ADMIN_ADDR", "XCORD_DATA", "XCORD_SERVICES", "XCORD_DURABILITY", "127.0.0.1:8080", "D2"}
	f([]string{"config"}, append(settings, "XCORD_REDIS_URL", "XCORD_POSTGRES_URL", "XCORD_KEYS_DIR")...)
	f([]string{"--help"}, append(settings, "serve", "migrate", "keys", "config", "version", "Usage")...)
	f([]string{"serve", "-h"}, "XCORD_ADDR")

	dir := filepath.Join(t.TempDir(), "keys")
	f([]string{"keys", dir})
	made, err := os.ReadDir(dir)
	if err != nil || len(made) == 0 {
		t.Fatalf("the keys: %v, %v", made, err)
	}
	was := map[string]string{}
	for _, e := range made {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		was[e.Name()] = string(raw)
		info, err := e.Info()
		if err != nil || bytes.Contains(raw, []byte("PRIVATE")) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %s, %v", e.Name(), info.Mode(), err)
		}
	}
	f([]string{"keys", dir}) // makes none where there are some
	for name, text := range was {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(raw) != text {
			t.Errorf("the second time changes %s: %v", name, err)
		}
	}
}
