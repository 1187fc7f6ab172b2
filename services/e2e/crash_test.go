package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/wire"
)

// machine is the real binary with its managed servers on a disk.
type machine struct {
	binary, data, addr, admin string
	output                    *bytes.Buffer
	cmd                       *exec.Cmd
}

// binaryDir is where binary goes; TestMain makes and removes it.
var binaryDir string

// binary is built once for all tests of the process that need it.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "xcord")
	out, err := exec.Command("go", "build", "-o", path, "github.com/xcord/xcord/services/cmd/xcord").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build xcord: %w\n%s", err, out)
	}
	return path, nil
})

func newMachine(t *testing.T) *machine {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// Not below t.TempDir: as root the servers run under other accounts, which cannot pass through it.
	data, err := os.MkdirTemp("", "xcord-data-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o711); err != nil {
		t.Fatal(err)
	}
	m := &machine{binary: path, data: data, addr: freePort(t), admin: freePort(t), output: new(bytes.Buffer)}
	t.Cleanup(func() {
		m.kill(t, m.pids(t)...)
		if t.Failed() {
			t.Log(m.output.String())
			return
		}
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	return m
}

// start runs the binary and returns when it is ready.
func (m *machine) start(t *testing.T) {
	t.Helper()
	m.cmd = exec.Command(m.binary, "--data", m.data, "--addr", m.addr, "--admin-addr", m.admin, "--registration", "open", "--limits", "off")
	m.cmd.Stdout, m.cmd.Stderr = m.output, m.output
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should the test process die first
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, m.ready)
}

func (m *machine) ready() error {
	r, err := http.Get("http://" + m.admin + "/readyz")
	if err != nil {
		return err
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz answers %d", r.StatusCode)
	}
	return nil
}

// drained says when everything in the log is in Postgres.
func (m *machine) drained() error {
	n, err := m.metric("xcord_messaging_undurable_entries")
	if err == nil && n != 0 {
		err = errors.New("the writer has not caught up")
	}
	return err
}

// metric is the value of one, with its labels.
func (m *machine) metric(name string) (float64, error) {
	r, err := http.Get("http://" + m.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// pids are xcord and its two servers: only children of the process that this test started.
func (m *machine) pids(t *testing.T) (pids []int) {
	t.Helper()
	if m.cmd == nil || m.cmd.ProcessState != nil {
		return nil
	}
	return append([]int{m.cmd.Process.Pid}, children(t, m.cmd.Process.Pid)...)
}

// server is the pid of the child with that name.
func (m *machine) server(t *testing.T, name string) int {
	t.Helper()
	for _, pid := range children(t, m.cmd.Process.Pid) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil && strings.HasPrefix(string(comm), name) {
			return pid
		}
	}
	t.Fatalf("no %s runs", name)
	return 0
}

func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// kill ends processes with -9 and waits for xcord if it is among them.
func (m *machine) kill(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	}
	if m.cmd != nil && slices.Contains(pids, m.cmd.Process.Pid) {
		_ = m.cmd.Wait() // it was killed, and says so
	}
}

// stop ends the binary as Ctrl-C does.
func (m *machine) stop(t *testing.T) {
	t.Helper()
	if err := m.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("stopped by Ctrl-C: %v", err)
	}
}

// rows reads all messages from the managed Postgres after the end of the binary.
func (m *machine) rows(t *testing.T) map[id.ID]string {
	t.Helper()
	server := postgres.NewLocal(postgres.LocalConfig{Dir: filepath.Join(m.data, "postgres")})
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	rows, err := pool.Query(t.Context(), `SELECT id, content FROM messages`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[id.ID]string{}
	for rows.Next() {
		var i int64
		var content string
		if err := rows.Scan(&i, &content); err != nil {
			t.Fatal(err)
		}
		all[id.ID(i)] = content
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCrash_LosesNothingThatWasAnswered kills xcord, its Redis and its Postgres with -9 amid a stream of posts, all together
// and one at a time. Whoever posts repeats with the same nonce until they are answered. In the end the channel has each answered
// message once, nothing twice, in the order in which it was delivered, and so has Postgres.
func TestCrash_LosesNothingThatWasAnswered(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start(t)
	url := "http://" + m.addr
	ada := registerAt(t, url, "ada")
	_, channel := ada.guild(t, "first")
	watcher := newWatcher(t, ada, channel)
	stream := newStream(t, ada, channel, 6)
	stream.join(t, ada, channel)

	rounds := []string{"all", "all", "redis", "all", "postgres", "all", "xcord", "all"}
	for i, victim := range rounds {
		stream.await(t, 40)
		switch victim {
		case "redis", "postgres":
			m.kill(t, m.server(t, victim))
			eventually(t, m.ready)
			continue
		case "all":
			m.kill(t, m.pids(t)...)
		case "xcord":
			m.kill(t, m.cmd.Process.Pid)
		}
		m.start(t)
		t.Logf("round %d: %s killed and back, %d posts answered so far", i, victim, stream.answered.Load())
	}
	stream.await(t, 40)
	stream.stop()
	answered := stream.acks

	history := wholeHistory(t, ada, channel)
	if !slices.IsSorted(history) {
		t.Error("the history is not in order")
	}
	for i := 1; i < len(history); i++ {
		if history[i] == history[i-1] {
			t.Errorf("message %s is in the history twice", history[i])
		}
	}
	delivered := watcher.seen()
	if !slices.IsSorted(delivered) {
		t.Error("the watcher was not served in the order of the history")
	}
	for _, d := range delivered {
		if _, ok := slices.BinarySearch(history, d); !ok {
			t.Errorf("message %s was delivered, but is not in the history", d)
		}
	}
	eventually(t, m.drained)
	m.stop(t)
	rows := m.rows(t)
	if diff := cmp.Diff(len(history), len(rows)); diff != "" {
		t.Errorf("history and rows: %s", diff)
	}
	contents := map[string]int{}
	for _, content := range rows {
		contents[content]++
	}
	for message, content := range answered {
		if rows[message] != content {
			t.Errorf("message %s was answered 200 and is lost: the row says %q, want %q", message, rows[message], content)
		}
		if contents[content] != 1 {
			t.Errorf("%q is stored %d times", content, contents[content])
		}
	}
	t.Logf("%d rounds: %d posts answered, %d rows, %d delivered live, %d attempts failed; 0 lost", len(rounds), len(answered), len(rows), len(delivered), stream.failed.Load())
	if len(answered) < 40*len(rounds) || len(delivered) == 0 {
		t.Errorf("only %d posts were answered and %d delivered: the test tests nothing", len(answered), len(delivered))
	}
}

// stream is some goroutines that post without a break.
type stream struct {
	answered, failed atomic.Int64
	ctx              context.Context // ends with the stream
	cancel           context.CancelFunc
	done             sync.WaitGroup
	more             chan struct{}

	mu   sync.Mutex
	acks map[id.ID]string
}

func newStream(t *testing.T, p *person, channel id.ID, posters int) *stream {
	ctx, cancel := context.WithCancel(t.Context())
	s := &stream{ctx: ctx, cancel: cancel, more: make(chan struct{}, 1_000_000), acks: map[id.ID]string{}}
	for poster := range posters {
		s.done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				s.post(p, channel, fmt.Sprintf("poster %d post %d", poster, i))
			}
		})
	}
	t.Cleanup(s.stop)
	return s
}

// join lets a webhook post as well.
func (s *stream) join(t *testing.T, p *person, channel id.ID) {
	t.Helper()
	var hook wire.Webhook
	if err := p.Do(t.Context(), "POST", "/channels/"+channel.String()+"/webhooks", wire.CreateWebhook{Name: "hook"}, &hook); err != nil {
		t.Fatal(err)
	}
	path := "/webhooks/" + hook.ID.String() + "/" + hook.Token + "?wait=true"
	s.done.Go(func() {
		for i := 0; s.ctx.Err() == nil; i++ {
			text := fmt.Sprintf("webhook post %d", i)
			s.repeat(text, func() (m wire.Message, err error) {
				in := wire.ExecuteWebhook{Content: text, Nonce: wire.Nonce(strconv.Quote(text)), EnforceNonce: true}
				err = p.Do(s.ctx, "POST", path, in, &m)
				return m, err
			})
		}
	})
}

// post repeats one message under one nonce until it is answered, as a client does that shows "sending…".
func (s *stream) post(p *person, channel id.ID, text string) {
	in := wire.CreateMessage{Content: text, Nonce: wire.Nonce(strconv.Quote(text)), EnforceNonce: true}
	s.repeat(text, func() (wire.Message, error) { return p.CreateMessage(s.ctx, channel, in) })
}

func (s *stream) repeat(text string, say func() (wire.Message, error)) {
	for s.ctx.Err() == nil {
		m, err := say()
		if err != nil {
			s.failed.Add(1)
			continue
		}
		s.mu.Lock()
		s.acks[m.ID] = text
		s.mu.Unlock()
		s.answered.Add(1)
		s.more <- struct{}{}
		return
	}
}

// await waits until n more posts were answered.
func (s *stream) await(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	for range n {
		select {
		case <-s.more:
		case <-ctx.Done():
			t.Fatalf("no more posts are answered: %d were, %d attempts failed", s.answered.Load(), s.failed.Load())
		}
	}
}

func (s *stream) stop() {
	s.cancel()
	s.done.Wait()
}

// watcher is somebody who is online and comes back by themselves.
type watcher struct {
	mu  sync.Mutex
	ids []id.ID
}

func newWatcher(t *testing.T, p *person, channel id.ID) *watcher {
	t.Helper()
	w := &watcher{}
	p.connect(t, client.GatewayConfig{Handle: func(d client.Dispatch) {
		m, ok := client.As[wire.Message](d, "MESSAGE_CREATE")
		if !ok || m.ChannelID != channel {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ids = append(w.ids, m.ID)
	}})
	return w
}

func (w *watcher) seen() []id.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ids)
}
