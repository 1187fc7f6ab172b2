package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Local is a Store in a directory. Nobody but this user can read it.
type Local struct{ dir string }

// OpenLocal makes the directory if it is not there.
func OpenLocal(dir string) (*Local, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the file store: %w", err)
	}
	return &Local{dir: dir}, nil
}

func (l *Local) path(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	return filepath.Join(l.dir, filepath.FromSlash(spread(key))), nil
}

// Put takes the file at path, which must be on the same file system.
func (l *Local) Put(_ context.Context, key, path string) error {
	to, err := l.path(key)
	if err != nil {
		return err
	}
	if err := l.put(path, to); err != nil {
		return fmt.Errorf("put a file: %w", err)
	}
	return nil
}

// put syncs in the order in which it must be found again: the content, then its name, then the names of the directories above it.
func (l *Local) put(from, to string) error {
	if err := flush(from); err != nil {
		return err
	}
	parent := filepath.Dir(to)
	if err := l.makeDir(filepath.Dir(parent)); err != nil {
		return err
	}
	if err := l.makeDir(parent); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return flush(parent)
}

// makeDir makes a directory, whose name is then as safe as what is in it.
func (l *Local) makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// One that is there already may have been made a moment ago by somebody who has not synced its name yet.
	return flush(filepath.Dir(dir))
}

// flush brings a file's content, or a directory's names, to the disk.
func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Open implements Store.
func (l *Local) Open(_ context.Context, key string, from, n int64) (io.ReadCloser, error) {
	path, err := l.path(key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrMissing
	}
	if err == nil {
		_, err = f.Seek(from, io.SeekStart)
	}
	if err != nil {
		_ = f.Close() // nothing was written; nil is an error too
		return nil, fmt.Errorf("open a file: %w", err)
	}
	return section{io.LimitReader(f, n), f}, nil
}

// section is a part of something that is to be closed.
type section struct {
	io.Reader
	io.Closer
}

// Delete implements Store. A deletion that a crash takes back is made again by whoever keeps the keys.
func (l *Local) Delete(_ context.Context, key string) error {
	path, err := l.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete a file: %w", err)
	}
	return nil
}

// Ping implements Store.
func (l *Local) Ping(context.Context) error {
	_, err := os.Stat(l.dir)
	return err
}
