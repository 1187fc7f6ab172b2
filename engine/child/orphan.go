package child

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// orphanPoll: an orphan that was told to go is looked for this often. A look at /proc costs 1 to 2 ms.
const orphanPoll = 20 * time.Millisecond

// Evict ends the servers that an earlier parent left behind in dir, and waits until they are gone. A process counts only
// if its program has one of the binary's names and dir is its working directory. The caller holds the home's lock, so no
// living parent owns them.
func Evict(ctx context.Context, binary, dir string, ladder []Step) error {
	home, err := os.Stat(dir)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	names := []string{filepath.Base(binary)}
	if real, err := filepath.EvalSymlinks(binary); err == nil {
		names = append(names, filepath.Base(real)) // Debian's redis-server is a link to redis-check-rdb
	}
	ladder = append(slices.Clone(ladder), Step{syscall.SIGKILL, 5 * time.Second})
	for _, step := range ladder {
		told := map[int]bool{}
		for end := time.Now().Add(step.Wait); time.Now().Before(end); {
			pids := tenants(names, home)
			if len(pids) == 0 {
				return nil
			}
			tell(pids, told, step.Signal, names, home)
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for the end of an earlier %s (pid %v) in %s: %w", names[0], pids, dir, ctx.Err())
			case <-time.After(orphanPoll):
			}
		}
	}
	return fmt.Errorf("an earlier %s (pid %v) in %s does not end", names[0], tenants(names, home), dir)
}

// tell signals those of pids whose parent is not among them: the head of a server with several processes ends the others.
func tell(pids []int, told map[int]bool, sig syscall.Signal, names []string, home os.FileInfo) {
	for _, pid := range pids {
		if told[pid] || slices.Contains(pids, parentOf(pid)) {
			continue
		}
		// The handle is of the process and not of the number; what it names is checked once more behind it.
		p, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if isTenant(pid, names, home) {
			told[pid] = true
			_ = p.Signal(sig) // an error means that it has ended
		}
		_ = p.Release()
	}
}

// tenants are the processes at work in the directory. Other accounts' processes cannot be seen into except as root, and
// are passed over.
func tenants(names []string, home os.FileInfo) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && isTenant(pid, names, home) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func isTenant(pid int, names []string, home os.FileInfo) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(proc + "/exe")
	if err != nil || !slices.Contains(names, filepath.Base(strings.TrimSuffix(exe, " (deleted)"))) {
		return false
	}
	cwd, err := os.Stat(proc + "/cwd")
	return err == nil && os.SameFile(cwd, home)
}

// parentOf is field 4 of /proc/<pid>/stat, counted behind the name, which may hold anything.
func parentOf(pid int) int {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return ppid
}
