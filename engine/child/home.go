package child

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// socketPathMax: sun_path has 108 bytes with its final zero (unix(7)).
	socketPathMax = 107
	// logKeepBytes: a log above it is set aside at the next start, so that a machine that restarts daily keeps two.
	logKeepBytes = 8 << 20
	// runRoot is short on purpose; os.TempDir may be any length.
	runRoot = "/tmp"
)

// Home is where one managed server lives:
//
//	Dir/lock        held while the parent lives, so that two parents never run one home
//	Dir/<secret>    0600, the parent's account
//	Dir/server.log  0600, what the server says
//	Dir/data        0700, the server's account
//	Run             0700, the server's account: its socket
type Home struct {
	Dir  string
	Data string
	Run  string
	User User
	Log  *os.File

	runParent string // to be removed with Run; empty when it was given
	logFrom   int64
	lock      *os.File
}

// Open makes the home ready and locks it. The server's name names its directory below runDir; with no runDir a short one
// below /tmp is made for the home. users are the accounts to choose from as root.
func Open(name, dir, runDir string, users ...string) (_ *Home, err error) {
	if dir == "" {
		return nil, fmt.Errorf("%s: no data directory given", name)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	h := &Home{Dir: dir, Data: filepath.Join(dir, "data")}
	defer func() {
		if err != nil {
			h.Close()
			err = fmt.Errorf("home of %s: %w", name, err)
		}
	}()
	if err := makeOpen(dir); err != nil {
		return nil, err
	}
	if err := h.own(); err != nil {
		return nil, err
	}
	if h.User, err = pickUser(h.Data, users); err != nil {
		return nil, err
	}
	if err := h.User.reaches(h.Data); err != nil {
		return nil, err
	}
	if err := h.makeRun(name, runDir); err != nil {
		return nil, err
	}
	return h, h.openLog()
}

// Close gives the home free and removes the run directory. The server must be gone. Twice is fine.
func (h *Home) Close() {
	// Nothing is lost with a run directory that stays: the next Open empties it.
	if h.Run != "" {
		_ = os.RemoveAll(h.Run)
	}
	if h.runParent != "" {
		_ = os.Remove(h.runParent)
	}
	if h.Log != nil {
		_ = h.Log.Close()
	}
	if h.lock != nil {
		// Closing is not enough: a child that is being made at this moment holds the file until its exec.
		_ = syscall.Flock(int(h.lock.Fd()), syscall.LOCK_UN)
		_ = h.lock.Close()
	}
	h.Run, h.runParent, h.Log, h.lock = "", "", nil, nil
}

// Socket is the path of a socket in the run directory, or an error if the kernel could not take it.
func (h *Home) Socket(name string) (string, error) {
	path := filepath.Join(h.Run, name)
	if len(path) > socketPathMax {
		return "", fmt.Errorf("socket path too long: %s has %d bytes, the kernel takes %d: choose a shorter run directory", path, len(path), socketPathMax)
	}
	return path, nil
}

// Secret is the password kept in the file of that name; a new one at first.
func (h *Home) Secret(name string) (string, error) {
	path := filepath.Join(h.Dir, name)
	raw, err := os.ReadFile(path)
	if err == nil {
		if s := strings.TrimSpace(string(raw)); s != "" {
			return s, nil
		}
		return "", fmt.Errorf("secret %s is empty", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	secret := rand.Text()
	if err := h.write(path, secret); err != nil {
		return "", fmt.Errorf("keep secret: %w", err)
	}
	return secret, nil
}

// write is atomic and durable: a server must not be set up with a password that a crash then forgets.
func (h *Home) write(path, text string) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return h.Sync()
}

// Sync makes the names in Dir durable.
func (h *Home) Sync() error {
	d, err := os.Open(h.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Give makes a directory 0700 of the server's account; an existing one is kept.
func (h *Home) Give(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return h.GiveFile(path)
}

// GiveFile hands an existing file or directory to the server's account.
func (h *Home) GiveFile(path string) error { return h.User.give(path) }

// reasonLines: a server says a few more lines behind the one that matters.
const reasonLines = 5

// Reason is what the server last said since Open: of its last lines the last that calls itself an error, else the last.
func (h *Home) Reason() string {
	info, err := h.Log.Stat()
	if err != nil {
		return ""
	}
	const tail = 8 << 10
	from := max(h.logFrom, info.Size()-tail)
	raw, err := io.ReadAll(io.NewSectionReader(h.Log, from, info.Size()-from))
	if err != nil {
		return ""
	}
	lines := strings.FieldsFunc(string(raw), func(r rune) bool { return r == '\n' })
	if len(lines) == 0 {
		return ""
	}
	lines = lines[max(0, len(lines)-reasonLines):]
	for _, line := range slices.Backward(lines) {
		for _, word := range []string{"FATAL:", "PANIC:", "error:", "Fatal error"} {
			if strings.Contains(line, word) {
				return strings.TrimSpace(line)
			}
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// own checks that the directory is this account's and takes its lock.
func (h *Home) own() error {
	info, err := os.Stat(h.Dir)
	if err != nil {
		return err
	}
	if uid, _ := owner(info); uid != os.Geteuid() && os.Geteuid() != 0 {
		return fmt.Errorf("%s belongs to uid %d, and this process runs as uid %d", h.Dir, uid, os.Geteuid())
	}
	f, err := os.OpenFile(filepath.Join(h.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("data directory is not writable: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("%s is in use by another process: %w", h.Dir, err)
	}
	h.lock = f
	return nil
}

func (h *Home) openLog() error {
	path := filepath.Join(h.Dir, "server.log")
	if info, err := os.Stat(path); err == nil && info.Size() > logKeepBytes {
		if err := os.Rename(path, path+".1"); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	h.Log = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.logFrom = info.Size()
	return nil
}

// makeRun makes an empty run directory. Its parent must be ours and writable by nobody else: /tmp is everybody's, and a
// stranger's directory or link there would be a stranger's socket.
func (h *Home) makeRun(name, runDir string) error {
	parent := runDir
	if parent == "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", os.Geteuid(), h.Dir)) // another account's, left by a crash, is not ours
		parent = filepath.Join(runRoot, "xcord-"+hex.EncodeToString(sum[:6]))
		h.runParent = parent
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return err
	}
	if err := makeOpen(parent); err != nil {
		return err
	}
	info, err := os.Lstat(parent)
	if err != nil {
		return err
	}
	uid, _ := owner(info)
	switch {
	case !info.IsDir():
		return fmt.Errorf("run directory %s is not a directory", parent)
	case uid != os.Geteuid():
		return fmt.Errorf("run directory %s belongs to uid %d, and this process runs as uid %d", parent, uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("run directory %s can be written by others (mode %04o)", parent, info.Mode().Perm())
	}
	run := filepath.Join(parent, name)
	if err := os.RemoveAll(run); err != nil {
		return err
	}
	if err := h.Give(run); err != nil {
		return err
	}
	h.Run = run
	return h.User.reaches(run)
}

// makeOpen makes a directory and what is missing above it: 0711 as root, whose servers run under other accounts, else
// 0700. What exists keeps its mode.
func makeOpen(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	if err := makeOpen(filepath.Dir(dir)); err != nil {
		return err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, mode)
}
