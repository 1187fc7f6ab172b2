package redis_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a home that every account can reach, unlike t.TempDir.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "xcord-redis-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "redis")
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, cfg redis.LocalConfig) *redis.Local {
	t.Helper()
	l := redis.NewLocal(cfg)
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

func open(t *testing.T, url string) rueidis.Client {
	t.Helper()
	client, err := redis.Open(within(t), redis.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// do runs a command given as words.
func do(t *testing.T, client rueidis.Client, words ...string) (string, error) {
	t.Helper()
	answer, err := client.Do(within(t), client.B().Arbitrary(words...).Build()).ToAny()
	return fmt.Sprint(answer), err
}

func must(t *testing.T, client rueidis.Client, words ...string) string {
	t.Helper()
	answer, err := do(t, client, words...)
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return answer
}

func TestLocal_IsAService(t *testing.T) {
	t.Parallel()
	lifetest.Stress(t, func() life.Service { return redis.NewLocal(redis.LocalConfig{Dir: place(t)}) })
}

func TestLocal_KeepsDataOverARestart(t *testing.T) {
	t.Parallel()
	l := start(t, redis.LocalConfig{Dir: place(t)})
	must(t, open(t, l.URL()), "SET", "k", "v")
	l.Stop()
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := must(t, open(t, l.URL()), "GET", "k"); got != "v" {
		t.Errorf("after the restart k is %q, want v", got)
	}
}

func TestLocal_ReportsItsDeathAndRecovers(t *testing.T) {
	t.Parallel()
	dir := place(t)
	l := start(t, redis.LocalConfig{Dir: dir})
	must(t, open(t, l.URL()), "SET", "k", "v")
	if err := syscall.Kill(l.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-l.Failed():
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("Failed() gave %v, want killed", err)
		}
	case <-within(t).Done():
		t.Fatal("Failed() said nothing")
	}
	l.Stop()

	// What a loss of power leaves of the last, never acknowledged write.
	tails, err := filepath.Glob(filepath.Join(dir, "data", "appendonlydir", "*.incr.aof"))
	if err != nil || len(tails) != 1 {
		t.Fatalf("append-only files: %v, %v", tails, err)
	}
	f, err := os.OpenFile(tails[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := must(t, open(t, l.URL()), "GET", "k"); got != "v" {
		t.Errorf("after the crash k is %q, want v", got)
	}
}

// TestLocal_LoadsTransactionsAfterItsDeath: the effects of a function stand in the append-only file as MULTI … EXEC, which
// Redis checks against the default user's permissions when it loads them.
func TestLocal_LoadsTransactionsAfterItsDeath(t *testing.T) {
	t.Parallel()
	l := start(t, redis.LocalConfig{Dir: place(t)})
	must(t, open(t, l.AdminURL()), "FUNCTION", "LOAD", "#!lua name=two\n"+
		"redis.register_function('two', function(k) redis.call('SET', k[1], 'v') redis.call('SET', k[2], 'v') return 'ok' end)")
	must(t, open(t, l.URL()), "FCALL", "two", "2", "a", "b")
	if err := syscall.Kill(l.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-l.Failed()
	l.Stop()
	if err := l.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		if got := must(t, open(t, l.URL()), "GET", key); got != "v" {
			t.Errorf("after the crash %s is %q, want v", key, got)
		}
	}
}

func TestLocal_IsPrivate(t *testing.T) {
	t.Parallel()
	dir := place(t)
	l := start(t, redis.LocalConfig{Dir: dir})
	mode := func(path string) os.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if got := mode(filepath.Join(dir, "data")); got != 0o700 {
		t.Errorf("data directory has mode %04o, want 0700", got)
	}
	if got := mode(filepath.Join(dir, "admin.password")); got != 0o600 {
		t.Errorf("password has mode %04o, want 0600", got)
	}
	_, path, _ := strings.Cut(l.URL(), "@")
	if got := mode(path); got != 0o700 {
		t.Errorf("socket has mode %04o, want 0700", got)
	}
	if _, err := redis.Open(within(t), redis.Config{URL: "unix://" + path}); err == nil {
		t.Error("the server lets strangers in")
	}
	admin := open(t, l.AdminURL())
	if got := must(t, admin, "CONFIG", "GET", "port"); got != "map[port:0]" {
		t.Errorf("the server listens on a network: %s", got)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && strings.Contains(string(status), "\nUid:\t0\t") {
		t.Error("the server runs as root")
	}
}

func TestLocal_LetsTheApplicationDoOnlyItsWork(t *testing.T) {
	t.Parallel()
	l := start(t, redis.LocalConfig{Dir: place(t)})
	app, admin := open(t, l.URL()), open(t, l.AdminURL())
	must(t, admin, "FUNCTION", "LOAD", `#!lua name=probe
redis.register_function('probe', function(keys, args)
  local now = redis.call('TIME')
  redis.call('XADD', keys[1], '*', 'at', now[1])
  return redis.call('SET', keys[2], args[1], 'EX', 60)
end)`)
	denied := func(words ...string) {
		t.Helper()
		if answer, err := do(t, app, words...); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%v: %q, %v, want NOPERM", words, answer, err)
		}
	}
	allowed := func(words ...string) {
		t.Helper()
		if _, err := do(t, app, words...); err != nil && !rueidis.IsRedisNil(err) {
			t.Errorf("%v: %v", words, err)
		}
	}
	denied("EVAL", "return 1", "0")
	denied("EVALSHA", "0000000000000000000000000000000000000000", "0")
	denied("EVAL_RO", "return 1", "0")
	denied("SCRIPT", "LOAD", "return 1")
	denied("SCRIPT", "FLUSH")
	denied("FUNCTION", "FLUSH")
	denied("FUNCTION", "LOAD", "#!lua name=x\n")
	denied("CONFIG", "GET", "*")
	denied("CONFIG", "SET", "appendfsync", "no")
	denied("FLUSHALL")
	denied("FLUSHDB")
	denied("KEYS", "*")
	denied("SHUTDOWN", "NOSAVE")
	if answer, err := do(t, admin, "ACL", "DRYRUN", "xcord", "DEBUG", "SLEEP", "0"); err != nil || !strings.Contains(answer, "no permissions") {
		t.Errorf("ACL DRYRUN of DEBUG: %q, %v", answer, err) // the server refuses DEBUG itself before it looks at the user
	}
	denied("ACL", "LIST")
	denied("ACL", "SETUSER", "xcord", "+@all")
	denied("MONITOR")
	denied("REPLICAOF", "NO", "ONE")
	denied("SAVE")
	denied("BGREWRITEAOF")
	denied("MODULE", "LIST")
	denied("CLIENT", "KILL", "TYPE", "normal")
	denied("CLIENT", "PAUSE", "1")
	denied("SORT", "k")
	denied("MIGRATE", "h", "1", "k", "0", "1")
	denied("SWAPDB", "0", "0")

	allowed("FCALL", "probe", "2", "s", "k", "v")
	allowed("XADD", "s", "*", "f", "v")
	allowed("XRANGE", "s", "-", "+")
	allowed("XTRIM", "s", "MINID", "~", "1")
	allowed("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
	allowed("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">")
	allowed("XPENDING", "s", "g")
	allowed("XINFO", "STREAM", "s")
	allowed("XINFO", "GROUPS", "s")
	allowed("SET", "k", "v", "EX", "60", "NX")
	allowed("HSET", "h", "f", "v")
	allowed("SADD", "set", "m")
	allowed("ZADD", "z", "1", "m")
	allowed("EXPIRE", "h", "60")
	allowed("DEL", "h")
	allowed("SCAN", "0")
	allowed("PUBLISH", "c", "m")
	allowed("SPUBLISH", "c", "m")
	allowed("INFO", "memory")
	allowed("MEMORY", "USAGE", "s")
	allowed("TIME")
	allowed("PING")
	allowed("SELECT", "0")
	allowed("CLIENT", "ID")
	allowed("CLIENT", "NO-EVICT", "on")
	allowed("HELLO", "3")
}

func TestLocal_LeavesAForeignServerAlone(t *testing.T) {
	t.Parallel()
	foreign := start(t, redis.LocalConfig{Dir: place(t)})
	must(t, open(t, foreign.URL()), "SET", "k", "v")
	pid := foreign.Pid()
	start(t, redis.LocalConfig{Dir: place(t)}).Stop()
	if foreign.Pid() != pid || syscall.Kill(pid, 0) != nil {
		t.Fatal("the other server is gone")
	}
	if got := must(t, open(t, foreign.URL()), "GET", "k"); got != "v" {
		t.Errorf("the other server's k is %q, want v", got)
	}
}

func TestLocal_SaysWhyItCannotStart(t *testing.T) {
	t.Parallel()
	f := func(cfg redis.LocalConfig, want string) {
		t.Helper()
		l := redis.NewLocal(cfg)
		defer l.Stop()
		if err := l.Start(within(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start: %v, want %q", err, want)
		}
	}
	f(redis.LocalConfig{Dir: place(t), Binary: "/nonexistent/redis-server"}, "apt-get install redis-server")
	f(redis.LocalConfig{Dir: place(t), RunDir: filepath.Join(filepath.Dir(place(t)), strings.Repeat("long", 25))}, "path too long")
	f(redis.LocalConfig{Dir: place(t), Durability: redis.D3}, "D3 needs replicas")
	f(redis.LocalConfig{}, "Dir is missing")
	f(redis.LocalConfig{Dir: "/proc/xcord"}, "/proc/xcord")

	// The last words of a server that ends at once.
	dir := place(t)
	start(t, redis.LocalConfig{Dir: dir}).Stop()
	manifests, err := filepath.Glob(filepath.Join(dir, "data", "appendonlydir", "*.manifest"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests: %v, %v", manifests, err)
	}
	if err := os.WriteFile(manifests[0], []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f(redis.LocalConfig{Dir: dir}, "Invalid AOF manifest file format")
}

func TestVerify_ListsEveryWrongSetting(t *testing.T) {
	t.Parallel()
	l := start(t, redis.LocalConfig{Dir: place(t)})
	admin := open(t, l.AdminURL())
	if err := redis.Verify(within(t), admin, redis.D2); err != nil {
		t.Fatalf("the private server as it comes: %v", err)
	}
	err := redis.Verify(within(t), admin, redis.D3)
	if err == nil || !strings.Contains(err.Error(), "min-replicas-to-write") {
		t.Errorf("D3 on one server: %v", err)
	}
	for setting, value := range map[string]string{
		"appendfsync": "everysec", "no-appendfsync-on-rewrite": "yes", "maxmemory-policy": "allkeys-lru", "appendonly": "no",
	} {
		must(t, admin, "CONFIG", "SET", setting, value)
	}
	err = redis.Verify(within(t), admin, redis.D2)
	if err == nil {
		t.Fatal("all settings are wrong and none was found")
	}
	for _, want := range []string{
		`appendonly is "no": want yes`, `appendfsync is "everysec": want always`,
		`no-appendfsync-on-rewrite is "yes": want no`, `maxmemory-policy is "allkeys-lru": want noeviction`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
	must(t, admin, "ACL", "SETUSER", "default", "-@all")
	if err := redis.Verify(within(t), admin, redis.D2); err == nil || !strings.Contains(err.Error(), `default user has commands "-@all"`) {
		t.Errorf("a default user without permissions: %v", err)
	}
	fast := open(t, start(t, redis.LocalConfig{Dir: place(t), Durability: redis.D0}).AdminURL())
	if err := redis.Verify(within(t), fast, redis.D0); err != nil {
		t.Errorf("D0 on a server made for it: %v", err)
	}
	if err := redis.Verify(within(t), fast, redis.D2); err == nil {
		t.Error("D2 on a server made for D0 was accepted")
	}
}

func TestVerify_SaysThatConfigIsDenied(t *testing.T) {
	t.Parallel()
	l := start(t, redis.LocalConfig{Dir: place(t)})
	if err := redis.Verify(within(t), open(t, l.URL()), redis.D2); err == nil || !strings.Contains(err.Error(), "CONFIG GET is denied") {
		t.Errorf("as the application's user: %v", err)
	}
}

func TestOpen_SpeaksTCP(t *testing.T) {
	t.Parallel()
	l := start(t, redis.LocalConfig{Dir: place(t), Durability: redis.D0})
	admin := open(t, l.AdminURL())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, admin, "CONFIG", "SET", "port", port)
	credentials, _, _ := strings.Cut(strings.TrimPrefix(l.URL(), "unix://"), "@")
	client := open(t, "redis://"+credentials+"@127.0.0.1:"+port)
	if got := must(t, client, "PING"); got != "PONG" {
		t.Errorf("PING over TCP: %q", got)
	}
}

func TestConfig_NeverShowsThePassword(t *testing.T) {
	t.Parallel()
	err := redis.Config{URL: "http://u:secret@h"}.Validate()
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Validate: %v", err)
	}
}
