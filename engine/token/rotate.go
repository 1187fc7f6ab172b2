package token

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/life"
)

// pruneAge is how long a key pair has to be there before older ones may go: until the last token that one of them signed has expired.
const pruneAge = LifeMax + 30*time.Minute

// Rotate adds a key pair to a directory that Generate made, and names it. Auth signs with it once everybody had the time to see its
// public half; where directories are not shared, that has to be brought there meanwhile.
func Rotate(dir string) (kid string, err error) {
	newest, err := newestKey(dir)
	if err != nil {
		return "", err
	}
	if newest == 0 {
		return "", fmt.Errorf("there is no private key in %s", dir)
	}
	if err := addPair(dir, newest+1); err != nil {
		return "", err
	}
	if err := publish(dir, newest+1); err != nil {
		return "", err
	}
	pub, err := readPublic(keyPath(dir, newest+1, "pub"))
	return keyID(pub), err
}

// Prune deletes the key pairs before the newest one, and returns their files. It refuses while tokens of them may still be good.
func Prune(dir string) (gone []string, err error) {
	newest, err := newestKey(dir)
	if err != nil {
		return nil, err
	}
	if newest == 0 {
		return nil, fmt.Errorf("there is no private key in %s", dir)
	}
	info, err := os.Stat(keyPath(dir, newest, "key"))
	if err != nil {
		return nil, fmt.Errorf("prune keys: %w", err)
	}
	if left := pruneAge - time.Since(info.ModTime()); left > 0 {
		return nil, fmt.Errorf("%s is too young: tokens of the keys before it may be good for another %v", filepath.Base(keyPath(dir, newest, "key")), left.Round(time.Second))
	}
	for n := 1; n < newest; n++ {
		for _, ext := range []string{"key", "pub"} { // the private one first: a crash leaves nothing that signs
			err := os.Remove(keyPath(dir, n, ext))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return gone, fmt.Errorf("prune keys: %w", err)
			}
			gone = append(gone, filepath.Base(keyPath(dir, n, ext)))
		}
	}
	return gone, syncDir(dir)
}

// Export copies what a process without auth needs to another directory: the public keys and the key between services. What is there
// already stays.
func Export(dir, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("make the keys directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the keys directory: %w", err)
	}
	for _, e := range entries {
		name, block, mode := e.Name(), publicBlock, fs.FileMode(0o644)
		switch {
		case name == peerFile:
			block, mode = peerBlock, 0o600
		case !accessFile.MatchString(name) || !strings.HasSuffix(name, ".pub"):
			continue
		}
		content, err := readPEM(filepath.Join(dir, name), block, name == peerFile)
		if err != nil {
			return err
		}
		if err := writeNew(to, name, block, content, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// signingKey is the number of the key to sign with: the newest that has been there for as long as settle, or the oldest if none has.
func signingKey(dir string, settle time.Duration) (int, error) {
	newest, err := newestKey(dir)
	if err != nil {
		return 0, err
	}
	best := 0
	for n := newest; n > 0; n-- {
		info, err := os.Stat(keyPath(dir, n, "key"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read the keys directory: %w", err)
		}
		if best = n; time.Since(info.ModTime()) >= settle {
			break
		}
	}
	if best == 0 {
		return 0, fmt.Errorf("there is no private key in %s", dir)
	}
	return best, nil
}

// same says whether tokens are signed and verified by the same keys.
func (k Keys) same(o Keys) bool {
	return k.kid == o.kid && maps.EqualFunc(k.public, o.public, func(a, b ed25519.PublicKey) bool { return a.Equal(b) })
}

// Settle is how long a new key waits until auth signs with it, when directories are looked at this often: long enough for everybody to
// have seen its public half, also who has missed a few times.
func Settle(every time.Duration) time.Duration { return 4 * every }

// Watch follows a keys directory while the process runs, so that a rotation needs no restart. It is a life.Service.
type Watch struct {
	dir      string
	every    time.Duration
	keys     Keys // guarded by being one goroutine's
	verifier *Verifier
	minter   *Minter // nil where auth does not run: the private keys are not read then

	on    life.Switch
	loops life.Loops
}

// NewWatch makes a watch over a directory of which keys were loaded last. minter is nil where auth does not run.
func NewWatch(dir string, every time.Duration, keys Keys, verifier *Verifier, minter *Minter) *Watch {
	return &Watch{dir: dir, every: every, keys: keys, verifier: verifier, minter: minter}
}

// Start begins to look.
func (w *Watch) Start(context.Context) error {
	return w.on.Start(func() error {
		w.loops.Go("keys", w.run)
		return nil
	})
}

// Stop ends it.
func (w *Watch) Stop() { w.on.Stop(w.loops.Stop) }

// Failed reports a watch that ended by itself.
func (w *Watch) Failed() <-chan error { return w.loops.Failed() }

func (w *Watch) run(ctx context.Context) error {
	for {
		timer := time.NewTimer(w.every + rand.N(w.every/4+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if err := w.look(); err != nil {
			slog.Error("the keys directory cannot be read; the keys stay as they were", "err", err)
		}
	}
}

// look takes over what has changed. The new public keys are trusted before anything is signed.
func (w *Watch) look() error {
	keys, err := LoadSettled(w.dir, w.minter != nil, Settle(w.every))
	if err != nil || keys.same(w.keys) {
		return err
	}
	if err := w.verifier.SetKeys(keys); err != nil {
		return err
	}
	if w.minter != nil {
		if err := w.minter.SetKeys(keys); err != nil {
			return err
		}
	}
	slog.Info("keys have changed", "public", len(keys.public), "signing", keys.kid)
	w.keys = keys
	return nil
}
