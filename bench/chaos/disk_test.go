package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

var diskFaults = []fault{
	// An append that fails ends Redis, which must not answer what it cannot keep.
	{name: "Redis' disk full", needs: func(m *machine) string { return m.redisDisk.missing }, do: func(x *run) {
		x.rewriteNowAndThen()
		x.m.redisDisk.fill(x.m)
		select {
		case <-x.m.redis.Failed():
		case <-time.After(patience):
			x.m.t.Fatal("Redis lives on a full disk")
		}
		x.m.redis.Stop()
		x.last(1)
		x.m.redisDisk.free(x.m)
		x.m.startRedis()
	}},
	// Postgres refuses rows, or dies of a log that cannot grow. Posts are answered all the same.
	{name: "Postgres' disk full", backlog: true, needs: func(m *machine) string { return m.pgDisk.missing }, do: func(x *run) {
		switchLog := func() {}
		if x.r.IntN(2) == 0 {
			switchLog = x.m.logSwitch()
		}
		x.m.pgDisk.fill(x.m)
		switchLog()
		x.m.until("the writer is held up", x.heldUp)
		before := x.acks()
		x.m.until("posts are answered", func() error { return x.posted(before, 20) })
		x.last(1)
		x.m.pgDisk.free(x.m)
		select {
		case <-x.m.postgres.Failed():
			x.m.postgres.Stop()
			x.m.startPostgres()
		default:
		}
	}},
}

// heldUp says when the writer has much before it.
func (x *run) heldUp() error {
	const much = 50
	pending, lag, err := x.group()
	if err == nil && pending+lag < much {
		err = fmt.Errorf("it has %d entries before it", pending+lag)
	}
	return err
}

// diskBytes is far above what a run writes. The images are sparse.
const diskBytes = 16 << 30

// disk is a directory with a file system of its own, which can be filled without harm to others.
type disk struct {
	dir     string
	missing string // why it is a plain directory
}

func (m *machine) newDisk(name string) *disk {
	m.t.Helper()
	d := &disk{dir: filepath.Join(m.dir, name)}
	if err := os.Mkdir(d.dir, 0o711); err != nil {
		m.t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		d.missing = "only root may mount a disk"
		return d
	}
	sweepDisks()
	image := filepath.Join(m.dir, name+".img")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, diskBytes)); err != nil {
		m.t.Fatal(err)
	}
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image}, // the file system below has a journal
		{"mount", "-o", "loop,noatime", image, d.dir},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			d.missing = fmt.Sprintf("%s: %v: %s", strings.Join(command, " "), err, out)
			return d
		}
	}
	held, err := os.Open(d.dir) // keeps the disk from others' sweeping
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = held.Close()
		if err := syscall.Unmount(d.dir, 0); err != nil {
			m.t.Errorf("unmount %s: %v", d.dir, err)
		}
	})
	if err := os.Chmod(d.dir, 0o711); err != nil {
		m.t.Fatal(err)
	}
	return d
}

// sweepDisks unmounts what runs that were killed have left. Disks in use refuse.
func sweepDisks() {
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		return
	}
	defer func() { _ = mounts.Close() }()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 1 && strings.HasPrefix(fields[1], filepath.Join(os.TempDir(), dirPrefix)) {
			_ = syscall.Unmount(fields[1], 0)
		}
	}
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// fill leaves no room.
func (d *disk) fill(m *machine) {
	m.t.Helper()
	file, err := os.Create(d.filler())
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	at := int64(0)
	for size := int64(diskBytes); size >= 4096; {
		switch err := syscall.Fallocate(int(file.Fd()), 0, at, size); {
		case err == nil:
			at += size
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case !errors.Is(err, syscall.EINTR):
			m.t.Fatal("fill the disk: ", err)
		}
	}
}

func (d *disk) free(m *machine) {
	m.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		m.t.Fatal(err)
	}
}
