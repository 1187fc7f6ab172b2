package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// versionMin: 14 is the oldest that is still maintained.
const (
	versionMin  = 14
	installHint = "postgresql 14 or newer is needed: apt-get install postgresql"
)

// systemBins is where distributions keep the servers' programs, which are not in PATH: Debian's and Red Hat's places.
var systemBins = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"}

// bins is one installation.
type bins struct {
	dir   string
	major int
}

func (b bins) path(program string) string { return filepath.Join(b.dir, program) }

// findBins gives the newest installation, or the one that data was made by: a server opens no other version's files.
func findBins(ctx context.Context, dir, data string) (bins, error) {
	dirs := []string{dir}
	if dir == "" {
		dirs = candidates()
	}
	var found []bins
	var errs []error
	for _, d := range dirs {
		b, err := inspect(ctx, d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, b)
	}
	if len(found) == 0 {
		return bins{}, errors.Join(append([]error{errors.New(installHint)}, errs...)...)
	}
	slices.SortStableFunc(found, func(a, b bins) int { return b.major - a.major })
	raw, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return found[0], nil
	}
	if err != nil {
		return bins{}, err
	}
	var made int
	if _, err := fmt.Sscanf(string(raw), "%d", &made); err != nil {
		return bins{}, fmt.Errorf("%s: PG_VERSION is %q", data, raw)
	}
	for _, b := range found {
		if b.major == made {
			return b, nil
		}
	}
	return bins{}, fmt.Errorf("%s was made by PostgreSQL %d, and only %d is installed: apt-get install postgresql-%d, or bring the data over with pg_upgrade",
		data, made, found[0].major, made)
}

func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real)) // initdb is beside the program, and not always beside the link
		}
	}
	for _, pattern := range systemBins {
		matches, _ := filepath.Glob(pattern) // the only error is a bad pattern
		dirs = append(dirs, matches...)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

func inspect(ctx context.Context, dir string) (bins, error) {
	b := bins{dir: dir}
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(b.path(program)); err != nil {
			return b, err
		}
	}
	out, err := exec.CommandContext(ctx, b.path("postgres"), "--version").Output()
	if err != nil {
		return b, fmt.Errorf("%s --version: %w", b.path("postgres"), err)
	}
	// "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)"
	_, version, _ := strings.Cut(string(out), "(PostgreSQL) ")
	if _, err := fmt.Sscanf(version, "%d", &b.major); err != nil || b.major < versionMin {
		return b, fmt.Errorf("%s is too old: %s", dir, strings.TrimSpace(string(out)))
	}
	return b, nil
}
