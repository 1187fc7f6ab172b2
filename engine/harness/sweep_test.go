package harness

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestSweep_RemovesOnlyWhatNobodyHolds(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	old := time.Now().Add(-2 * sweepAge)
	dir := func(name string, at time.Time) string {
		t.Helper()
		path := filepath.Join(temp, name)
		if err := os.MkdirAll(filepath.Join(path, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return path
	}
	held := dir(prefix+"held", old)
	lock, err := os.OpenFile(filepath.Join(held, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }() // nothing was written
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(held, old, old); err != nil {
		t.Fatal(err)
	}
	dead, fresh, foreign := dir(prefix+"dead", old), dir(prefix+"fresh", time.Now()), dir("other", old)
	sweep(temp)
	for path, want := range map[string]bool{held: true, dead: false, fresh: true, foreign: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
}
