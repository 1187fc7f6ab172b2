package child_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/child"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == helperArg {
		parent(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m)
}

// place is a directory that every account can reach, unlike t.TempDir.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "xcord-child-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func open(t *testing.T, dir string) *child.Home {
	t.Helper()
	h, err := child.Open("thing", dir, filepath.Join(dir, "run"), "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func sleeper(t *testing.T, dir string) *child.Process {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	p, err := child.Start(child.Spec{Path: path, Args: []string{"600"}, Dir: dir, Orphan: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(nil) })
	return p
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func running(p *child.Process) bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

func TestProcess_RunsInItsOwnGroup(t *testing.T) {
	t.Parallel()
	p := sleeper(t, t.TempDir())
	group, err := syscall.Getpgid(p.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if group != p.Pid() {
		t.Errorf("process group %d, want its own, %d: a Ctrl-C would hit it", group, p.Pid())
	}
}

func TestProcess_StopGoesDownTheLadder(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, place(t))
	p, err := child.Start(child.Spec{
		Path: sh, Args: []string{"-c", `trap 'echo heard TERM' TERM; trap 'echo heard QUIT; exit 3' QUIT; echo up; while :; do sleep 0.01; done`},
		Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", Output: h.Log, Orphan: syscall.SIGKILL,
	})
	if err != nil {
		t.Fatal(err)
	}
	for h.Reason() != "up" {
		if !running(p) {
			t.Fatal("ended early: ", h.Reason())
		}
	}
	p.Stop([]child.Step{{Signal: syscall.SIGTERM, Wait: 200 * time.Millisecond}, {Signal: syscall.SIGQUIT, Wait: time.Minute}})
	raw, err := os.ReadFile(h.Log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(raw), "up\nheard TERM\nheard QUIT\n"; got != want {
		t.Errorf("the child heard %q, want %q", got, want)
	}
	if p.Err() == nil || !strings.Contains(p.Err().Error(), "3") {
		t.Errorf("Err() = %v, want exit status 3", p.Err())
	}
}

func TestEvict_EndsOnlyWhoWorksInTheDirectory(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	mine, foreign := sleeper(t, dir), sleeper(t, elsewhere)
	ladder := []child.Step{{Signal: syscall.SIGTERM, Wait: time.Minute}}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Evict(within(t), "/usr/bin/redis-server", dir, ladder); err != nil {
		t.Fatal(err)
	}
	if !running(mine) {
		t.Fatal("a process of another program was ended")
	}
	if err := child.Evict(within(t), sleep, dir, ladder); err != nil {
		t.Fatal(err)
	}
	<-mine.Done()
	if !running(foreign) {
		t.Error("a process in another directory was ended")
	}
}

func TestEvict_KillsWhoDoesNotListen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := sleeper(t, dir)
	if err := syscall.Kill(p.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Evict(within(t), sleep, dir, []child.Step{{Signal: syscall.SIGTERM, Wait: 50 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}

func TestOpen_RefusesASecondParent(t *testing.T) {
	t.Parallel()
	dir := place(t)
	first := open(t, dir)
	if _, err := child.Open("thing", dir, "", "nobody"); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second Open: %v, want in use", err)
	}
	first.Close()
	open(t, dir)
}

func TestOpen_RefusesARunDirectoryThatIsNotOurs(t *testing.T) {
	t.Parallel()
	f := func(name, want string, prepare func(run string) error) {
		t.Helper()
		dir := place(t)
		run := filepath.Join(dir, "sock")
		if err := prepare(run); err != nil {
			t.Fatal(err)
		}
		_, err := child.Open("thing", filepath.Join(dir, "home"), run, "nobody")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	f("link", "not a directory", func(run string) error { return os.Symlink("/tmp", run) })
	f("open to all", "can be written by others", func(run string) error {
		if err := os.Mkdir(run, 0o777); err != nil {
			return err
		}
		return os.Chmod(run, 0o777)
	})
	if os.Geteuid() == 0 {
		f("another's", "belongs to uid 65534", func(run string) error {
			if err := os.Mkdir(run, 0o700); err != nil {
				return err
			}
			return os.Chown(run, 65534, 65534)
		})
	}
}

func TestHome_NamesASocketPathThatIsTooLong(t *testing.T) {
	t.Parallel()
	h := open(t, place(t))
	if _, err := h.Socket(strings.Repeat("s", 107-len(h.Run)-1)); err != nil {
		t.Errorf("107 bytes: %v", err)
	}
	if _, err := h.Socket(strings.Repeat("s", 108-len(h.Run)-1)); err == nil || !strings.Contains(err.Error(), "path too long") {
		t.Errorf("108 bytes: %v, want too long", err)
	}
}

func TestHome_KeepsSecretsPrivate(t *testing.T) {
	t.Parallel()
	dir := place(t)
	h := open(t, dir)
	first, err := h.Secret("password")
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	again, err := open(t, dir).Secret("password")
	if err != nil {
		t.Fatal(err)
	}
	if first != again || len(first) < 26 {
		t.Errorf("secret %q, then %q", first, again)
	}
	info, err := os.Stat(filepath.Join(dir, "password"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o, want 0600", info.Mode().Perm())
	}
}

func TestOpen_NamesADirectoryThatCannotBeReached(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(place(t), "closed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h, err := child.Open("thing", filepath.Join(dir, "home"), "", "nobody")
	if os.Geteuid() == 0 {
		if err == nil || !strings.Contains(err.Error(), dir+" lets nobody not pass") {
			t.Errorf("as root, below a directory 0700: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	if _, err := child.Open("thing", filepath.Join(dir, "other"), "", "nobody"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("below a directory that is not writable: %v", err)
	}
}
