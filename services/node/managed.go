package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/xcord/xcord/engine/life"
)

// dataLock keeps two processes from using one data directory.
type dataLock struct{ file *os.File }

// lockData makes the data directory and takes it for this process. As root it is 0711, because the managed servers run under accounts of
// their own below it.
func lockData(dir string) (*dataLock, error) {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another xcord", dir)
	}
	return &dataLock{file: f}, nil
}

func (l *dataLock) release() {
	if l != nil && l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}

// mortal is a service that says when it has died.
type mortal interface {
	life.Service
	Failed() <-chan error
}

// kept is a managed server that is started again when it dies: what it held is on disk, and everybody who uses it tries
// again anyway. Only when it cannot be brought back does the node fail.
type kept struct {
	name   string
	server mortal
	on     life.Switch
	loops  life.Loops
}

// revivals is how often in a row a start may fail before the node gives up; with the pauses that is half a minute.
const revivals = 10

func (k *kept) Start(ctx context.Context) error {
	return k.on.Start(func() error {
		if err := k.server.Start(ctx); err != nil {
			return err
		}
		k.loops.Go("keep "+k.name, k.watch)
		return nil
	})
}

// Stop ends the watch first, so that the server's end is not taken for its death.
func (k *kept) Stop() {
	k.on.Stop(func() {
		k.loops.Stop()
		k.server.Stop()
	})
}

func (k *kept) Failed() <-chan error { return k.loops.Failed() }

func (k *kept) watch(ctx context.Context) error {
	for {
		var death error
		select {
		case <-ctx.Done():
			return nil
		case death = <-k.server.Failed():
		}
		slog.Error("a managed server has died and is started again", "server", k.name, "err", death)
		if err := k.revive(ctx); err != nil {
			return fmt.Errorf("%s died (%w) and cannot be started: %w", k.name, death, err)
		}
		slog.Info("a managed server is back", "server", k.name)
	}
}

func (k *kept) revive(ctx context.Context) (err error) {
	k.server.Stop()
	for range revivals {
		if err = k.server.Start(ctx); err == nil || ctx.Err() != nil {
			return nil
		}
		pause := time.NewTimer(2*time.Second + rand.N(2*time.Second))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
	return err
}
