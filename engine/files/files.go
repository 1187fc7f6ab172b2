// Package files keeps the bytes of attachments: in a directory of this machine, or in S3-compatible storage that several processes
// share. It does not know whose they are, how they are called or how large they may be together; that is the business of whoever
// keeps the keys.
package files

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Store keeps files by their keys. A file is never changed. Every method may be called by any number of goroutines; a context's end
// ends the call, and for Open also what it has returned.
type Store interface {
	// Put keeps the file at path, which it may take away from there. When it returns nil, the file outlasts a loss of power.
	Put(ctx context.Context, key, path string) error
	// Open gives n bytes from from on, or ErrMissing.
	Open(ctx context.Context, key string, from, n int64) (io.ReadCloser, error)
	// Delete takes files away. One that is not there is no error.
	Delete(ctx context.Context, key string) error
	// Ping says whether the store can be reached.
	Ping(ctx context.Context) error
}

// ErrMissing means that there is no file by a key.
var ErrMissing = errors.New("there is no such file")

// keyBytes is the length of a key: 130 random bits.
const keyBytes = 26

// NewKey makes a key that nobody can guess.
func NewKey() string { return strings.ToLower(rand.Text()) }

// checkKey keeps whatever is no key out of paths.
func checkKey(key string) error {
	if len(key) != keyBytes || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return fmt.Errorf("%q is no key of a file", key)
	}
	return nil
}

// spread puts a key below 1024 directories of which each has 1024, so that none of them becomes large.
func spread(key string) string { return key[:2] + "/" + key[2:4] + "/" + key }

// Spool makes the directory in which files lie until they are put, and removes what a crash has left there longer than an hour ago:
// no request takes so long.
func Spool(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the spool: %w", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	for _, e := range left {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < time.Hour {
			continue // another process has just removed it, or is writing it
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("clear the spool: %w", err)
		}
	}
	return nil
}
