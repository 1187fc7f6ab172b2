package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// Durability is what an accepted write survives.
type Durability string

// The modes. D2, the default, survives kill -9 of everything and the loss of power; D0 may lose the last two seconds of a
// dying Redis; D3 is D2 with a replica that has the write.
const (
	D0 Durability = "D0"
	D2 Durability = "D2"
	D3 Durability = "D3"
)

// Validate accepts the three modes and the empty string, which is D2.
func (d Durability) Validate() error {
	switch d {
	case "", D0, D2, D3:
		return nil
	}
	return fmt.Errorf("durability %q: want D0, D2 or D3", string(d))
}

// rule is one setting that a mode needs.
type rule struct {
	setting string
	want    string
	ok      func(got string) bool
}

// Unkept says what is wrong with a server that does not keep what a mode promises. Other errors of Verify mean that it could not be asked.
type Unkept struct {
	Mode Durability
	Err  error
}

// Error names the mode and everything that is wrong.
func (u *Unkept) Error() string {
	return fmt.Sprintf("durability %s cannot be kept: %v", u.Mode, u.Err)
}

// Unwrap returns what is wrong.
func (u *Unkept) Unwrap() error { return u.Err }

// versionMin: the bus is a library of functions, which came with Redis 7.0.
const versionMin = 7

// Verify asks every node that takes writes for its settings, and fails with an *Unkept of all that are wrong for the mode. The client's
// user must be allowed CONFIG GET and INFO.
func Verify(ctx context.Context, admin rueidis.Client, mode Durability) error {
	if err := mode.Validate(); err != nil {
		return err
	}
	nodes := admin.Nodes()
	var wrong []error
	for _, addr := range slices.Sorted(maps.Keys(nodes)) {
		faults, err := verifyNode(ctx, nodes[addr], rules(mode))
		if err != nil {
			return fmt.Errorf("redis %s: %w", addr, err)
		}
		if faults != nil {
			wrong = append(wrong, fmt.Errorf("redis %s: %w", addr, faults))
		}
	}
	if len(wrong) > 0 {
		return &Unkept{Mode: mode, Err: errors.Join(wrong...)}
	}
	return nil
}

func rules(mode Durability) []rule {
	is := func(setting string, values ...string) rule {
		return rule{setting, strings.Join(values, " or "), func(got string) bool { return slices.Contains(values, got) }}
	}
	within := func(setting string, low, high int, want string) rule {
		return rule{setting, want, func(got string) bool {
			n, err := strconv.Atoi(got)
			return err == nil && n >= low && n <= high
		}}
	}
	list := []rule{
		is("appendonly", "yes"),
		// Any other policy may evict the stream, which is one key.
		is("maxmemory-policy", "noeviction"),
	}
	if mode == D0 {
		return append(list, is("appendfsync", "everysec", "always"))
	}
	list = append(list,
		is("appendfsync", "always"),
		// yes cancels always in silence while the file is rewritten.
		is("no-appendfsync-on-rewrite", "no"))
	if mode == D3 {
		list = append(list,
			within("min-replicas-to-write", 1, 1<<30, "1 or more"),
			within("min-replicas-max-lag", 1, 10, "1 to 10"))
	}
	return list
}

// verifyNode says what is wrong, or that the node could not be asked.
func verifyNode(ctx context.Context, node rueidis.Client, rules []rule) (wrong, err error) {
	info, err := node.Do(ctx, node.B().Info().Section("server", "replication").Build()).ToString()
	if err != nil {
		return nil, fmt.Errorf("ask for INFO: %w", err)
	}
	if infoField(info, "role") == "slave" {
		return nil, nil
	}
	version := infoField(info, "redis_version")
	if major, _, _ := strings.Cut(version, "."); len(major) == 0 || (len(major) == 1 && major < strconv.Itoa(versionMin)) {
		return fmt.Errorf("version %s is too old: want %d.0 or newer", version, versionMin), nil
	}
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.setting
	}
	got, err := node.Do(ctx, node.B().ConfigGet().Parameter(names...).Build()).AsStrMap()
	if err != nil {
		if failure, ok := rueidis.IsRedisErr(err); ok && (strings.HasPrefix(failure.Error(), "NOPERM") || strings.Contains(failure.Error(), "unknown command")) {
			return fmt.Errorf("CONFIG GET is denied, so its durability cannot be checked (let this user have +config|get): %w", err), nil
		}
		return nil, fmt.Errorf("ask for CONFIG: %w", err)
	}
	var errs []error
	for _, r := range rules {
		if value := got[r.setting]; !r.ok(value) {
			errs = append(errs, fmt.Errorf("%s is %q: want %s", r.setting, value, r.want))
		}
	}
	return errors.Join(append(errs, verifyLoader(ctx, node))...), nil
}

// verifyLoader looks at the default user, as whom Redis 7.0 loads its append-only file: what that user may not do inside
// MULTI, and every effect of a function stands inside one, is left out of the load without a word.
func verifyLoader(ctx context.Context, node rueidis.Client) error {
	user, err := node.Do(ctx, node.B().AclGetuser().Username("default").Build()).AsMap()
	if err != nil {
		return fmt.Errorf("ask for ACL GETUSER default (let this user have +acl|getuser): %w", err)
	}
	for field, want := range map[string]string{"commands": "+@all", "keys": "~*"} {
		m := user[field]
		if got, err := m.ToString(); err != nil || got != want {
			return fmt.Errorf("the default user has %s %q, want %q: a restart would lose what functions wrote (switch the user off, but leave it its permissions: off ~* &* +@all)", field, got, want)
		}
	}
	return nil
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
