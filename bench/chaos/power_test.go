package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/redis"
)

var powerFaults = []fault{
	{name: "power loss of Redis", needs: shimmed, do: func(x *run) {
		x.rewriteNowAndThen()
		pause(time.Duration(x.r.IntN(500)) * time.Millisecond)
		x.m.losePower(float64(x.r.IntN(3)) / 2)
	}},
	// What is lost here is nowhere else.
	{name: "LOCK TABLE, power loss of Redis", needs: shimmed, do: func(x *run) {
		x.locked(func() {
			x.rewriteNowAndThen()
			x.m.until("the writer is held up", x.heldUp)
			x.m.losePower(0)
		})
	}},
	{name: "Redis' clock 5 min ahead and back", needs: shimmed, long: true, do: func(x *run) { x.shiftClock(5 * time.Minute) }},
	{name: "Redis' clock 5 min behind and back", needs: shimmed, long: true, do: func(x *run) { x.shiftClock(-5 * time.Minute) }},
}

// shim makes Redis tell what it has flushed, and believe another time: testdata/shim.c.
type shim struct {
	dir     string
	library string
	missing string // why there is none
}

func shimmed(m *machine) string { return m.shim.missing }

const clockFile = "clock"

func newShim(t *testing.T, dir string) *shim {
	t.Helper()
	s := &shim{dir: dir, library: filepath.Join(dir, "shim.so")}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // Redis runs under another account
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, clockFile), make([]byte, 8), 0o644); err != nil {
		t.Fatal(err)
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		s.missing = "there is no C compiler (cc)"
		return s
	}
	if out, err := exec.Command(cc, "-O2", "-Wall", "-shared", "-fPIC", "-o", s.library, "testdata/shim.c").CombinedOutput(); err != nil {
		s.missing = fmt.Sprintf("%s testdata/shim.c: %v: %s", cc, err, out)
	}
	return s
}

// wrap makes a program that runs redis-server under the shim, and with the command DEBUG.
func (s *shim) wrap(t *testing.T) string {
	t.Helper()
	server, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n"
	if s.missing == "" {
		script += fmt.Sprintf("export CHAOS_SHIM='%s' LD_PRELOAD='%s'\n", s.dir, s.library)
	}
	script += fmt.Sprintf("exec '%s' \"$@\" --enable-debug-command local\n", server)
	path := filepath.Join(s.dir, filepath.Base(server))
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// flushed is how much of a file is on the disk for certain.
func (s *shim) flushed(info os.FileInfo) (int64, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("no inode")
	}
	raw, err := os.ReadFile(filepath.Join(s.dir, strconv.FormatUint(st.Ino, 10)))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return min(n, info.Size()), err
}

// setClock puts Redis' wall clock off by so much from now on.
func (s *shim) setClock(off time.Duration) error {
	file, err := os.OpenFile(filepath.Join(s.dir, clockFile), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(off)), 0)
	return errors.Join(err, file.Close())
}

// losePower kills Redis, takes away what it has written and not flushed, and starts it again. Of that the part stays that torn
// says, from 0 to 1.
func (m *machine) losePower(torn float64) {
	m.t.Helper()
	if m.shim.missing != "" {
		m.t.Fatal("no power can be lost: ", m.shim.missing)
	}
	m.killRedis()
	files, err := os.ReadDir(filepath.Join(m.redisDisk.dir, "data", "appendonlydir"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			m.t.Fatal(err)
		}
		flushed, err := m.shim.flushed(info)
		if err != nil {
			m.t.Fatal(err)
		}
		lost := info.Size() - flushed
		if lost -= int64(torn * float64(lost)); lost == 0 {
			continue
		}
		m.t.Logf("the loss of power takes %d bytes of %s, which has %d", lost, f.Name(), info.Size())
		if err := os.Truncate(filepath.Join(m.redisDisk.dir, "data", "appendonlydir", f.Name()), info.Size()-lost); err != nil {
			m.t.Fatal(err)
		}
	}
	m.startRedis()
}

// rewriteNowAndThen begins to write Redis' file anew, every second time: what was flushed must outlive that, and a full disk must not
// end it badly.
func (x *run) rewriteNowAndThen() {
	if x.r.IntN(2) == 0 {
		x.m.redisDo("BGREWRITEAOF")
	}
}

// shiftClock lets Redis' clock jump, and back after a while. Ids come from it.
func (x *run) shiftClock(off time.Duration) {
	x.must(func() error { return x.m.shim.setClock(off) })
	x.last(2)
	x.must(func() error { return x.m.shim.setClock(0) })
}

// TestShim_TakesWhatWasNotFlushed: a Redis that flushes once a second loses something, one that flushes before it answers nothing.
func TestShim_TakesWhatWasNotFlushed(t *testing.T) {
	t.Parallel()
	const losses = 5
	for durability, keeps := range map[redis.Durability]bool{redis.D0: false, redis.D2: true} {
		m := redisAlone(t, durability)
		lost := 0
		for i := range losses {
			key := strconv.Itoa(i)
			m.redisDo("SET", key, "value")
			m.losePower(0)
			if m.redisInt("EXISTS", key) == 0 {
				lost++
			}
		}
		if keeps != (lost == 0) {
			t.Errorf("%s: %d of %d losses of power took what was answered", durability, lost, losses)
		}
	}
}

func TestShim_MovesTheClock(t *testing.T) {
	t.Parallel()
	m := redisAlone(t, redis.D2)
	const off = time.Hour
	if err := m.shim.setClock(off); err != nil {
		t.Fatal(err)
	}
	m.redisDo("SET", "key", "value", "PXAT", strconv.FormatInt(time.Now().Add(off/2).UnixMilli(), 10))
	if m.redisInt("EXISTS", "key") != 0 {
		t.Error("what ran out by the other clock is there")
	}
}

// redisAlone is a machine with a Redis and nothing else.
func redisAlone(t *testing.T, durability redis.Durability) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, durability: durability, redisDisk: &disk{dir: filepath.Join(dir, "redis")}}
	m.shim = newShim(t, filepath.Join(dir, "shim"))
	if m.shim.missing != "" {
		t.Skip(m.shim.missing)
	}
	m.wrapper = m.shim.wrap(t)
	m.startRedis()
	t.Cleanup(func() { m.redis.Stop() })
	return m
}
