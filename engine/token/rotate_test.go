package token

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
)

func rotated(t *testing.T, dir string) {
	t.Helper()
	if _, err := Rotate(dir); err != nil {
		t.Fatal(err)
	}
}

// age makes a private key as old as that.
func age(t *testing.T, dir string, n int, d time.Duration) {
	t.Helper()
	at := time.Now().Add(-d)
	if err := os.Chtimes(keyPath(dir, n, "key"), at, at); err != nil {
		t.Fatal(err)
	}
}

func TestLoadSettled_WaitsUntilEverybodyHasSeenTheKey(t *testing.T) {
	t.Parallel()
	dir := generated(t)
	first := load(t, dir, true)
	rotated(t, dir)
	rotated(t, dir)
	third := load(t, dir, true)
	signs := func(want Keys) {
		t.Helper()
		k, err := LoadSettled(dir, true, time.Hour)
		if err != nil || k.kid != want.kid || len(k.public) != 3 {
			t.Errorf("signs with %s of %d, want %s, %v", k.kid, len(k.public), want.kid, err)
		}
	}
	signs(first) // all are new: the oldest is the one that the others know
	age(t, dir, 1, 3*time.Hour)
	signs(first)
	age(t, dir, 3, 2*time.Hour)
	signs(third)
}

func TestPrune_LeavesTheNewestAndWaitsForTokens(t *testing.T) {
	t.Parallel()
	dir := generated(t)
	age(t, dir, 1, time.Hour*24)
	rotated(t, dir)
	rotated(t, dir)
	age(t, dir, 3, pruneAge-time.Minute)
	if gone, err := Prune(dir); err == nil || gone != nil || !strings.Contains(err.Error(), "access-0003.key is too young") {
		t.Errorf("pruned %v, %v", gone, err)
	}
	age(t, dir, 3, pruneAge)
	want := []string{"access-0001.key", "access-0001.pub", "access-0002.key", "access-0002.pub"}
	if gone, err := Prune(dir); err != nil || !slices.Equal(gone, want) {
		t.Errorf("pruned %v, %v", gone, err)
	}
	if k := load(t, dir, true); len(k.public) != 1 {
		t.Errorf("%d keys are left", len(k.public))
	}
	if gone, err := Prune(dir); err != nil || gone != nil {
		t.Errorf("the second time: %v, %v", gone, err)
	}
	rotated(t, dir) // goes on counting
	if _, err := os.Stat(keyPath(dir, 4, "pub")); err != nil {
		t.Error(err)
	}
}

func TestExport_LeavesThePrivateKeysBehind(t *testing.T) {
	t.Parallel()
	dir, to := generated(t), filepath.Join(t.TempDir(), "to")
	rotated(t, dir)
	for range 2 {
		if err := Export(dir, to); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) != 3 {
		t.Errorf("exported %v, %v", entries, err)
	}
	if k := load(t, to, false); len(k.public) != 2 || k.private != nil {
		t.Errorf("%d public keys", len(k.public))
	}
	if _, err := Load(to, true); err == nil {
		t.Error("there is a private key")
	}
}

func TestRotateAndPrune_NeedKeys(t *testing.T) {
	t.Parallel()
	if _, err := Rotate(t.TempDir()); err == nil {
		t.Error("rotated nothing")
	}
	if _, err := Prune(t.TempDir()); err == nil {
		t.Error("pruned nothing")
	}
}

// TestWatch_FollowsARotation through its overlap, for a process with auth and one without, on a clock of its own.
func TestWatch_FollowsARotation(t *testing.T) {
	t.Parallel()
	dir := generated(t)
	age(t, dir, 1, time.Hour)
	synctest.Test(t, func(t *testing.T) {
		// Files have the time of the host, and here it is the year 2000.
		shift := func(n int, d time.Duration) {
			at := time.Now().Add(-d)
			if err := os.Chtimes(keyPath(dir, n, "key"), at, at); err != nil {
				t.Fatal(err)
			}
		}
		shift(1, time.Hour)
		keys, public := load(t, dir, true), load(t, dir, false)
		minter, err := NewMinter(Config{}, keys)
		if err != nil {
			t.Fatal(err)
		}
		here, elsewhere := newVerifier(t, keys), newVerifier(t, public)
		const every = 30 * time.Second
		for _, w := range []*Watch{NewWatch(dir, every, keys, here, minter), NewWatch(dir, every, public, elsewhere, nil)} {
			if err := w.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
		}
		good := func(what, raw string, want error) {
			t.Helper()
			for _, v := range []*Verifier{here, elsewhere} {
				if _, err := v.Verify(raw); err != want {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
		}
		mint := func() string { return minter.Mint(Claims{User: user, Session: session}) }
		old := mint()
		kid, err := Rotate(dir)
		if err != nil {
			t.Fatal(err)
		}
		shift(2, 0)
		time.Sleep(2 * every)
		if minter.sign.Load().kid == kid {
			t.Error("signs with a key that others may not have seen")
		}
		good("before the change", mint(), nil)
		time.Sleep(4 * every)
		if minter.sign.Load().kid != kid {
			t.Error("still signs with the old key")
		}
		fresh := mint()
		good("the new key", fresh, nil)
		good("the old key within the overlap", old, nil)
		shift(2, pruneAge)
		if _, err := Prune(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * every)
		good("the old key after the overlap", old, ErrInvalid)
		good("the new key after the overlap", fresh, nil)

		if err := os.Rename(dir, dir+"x"); err != nil { // what cannot be read changes nothing
			t.Fatal(err)
		}
		time.Sleep(2 * every)
		good("without the directory", fresh, nil)
	})
}

func newVerifier(t *testing.T, keys Keys) *Verifier {
	t.Helper()
	v, err := NewVerifier(Config{}, keys)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWatch_Lives(t *testing.T) {
	t.Parallel()
	dir := generated(t)
	keys := load(t, dir, false)
	lifetest.Stress(t, func() life.Service { return NewWatch(dir, time.Millisecond, keys, newVerifier(t, keys), nil) })
}
