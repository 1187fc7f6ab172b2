package obs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
)

type adminTest struct {
	*Admin
	health *Health
	set    *metrics.Set
	log    *bytes.Buffer
	socket string
}

func setupAdmin(t *testing.T) adminTest {
	t.Helper()
	x := adminTest{health: &Health{}, set: metrics.NewSet(), log: &bytes.Buffer{}, socket: filepath.Join(t.TempDir(), "pprof.sock")}
	log := slog.New(slog.NewTextHandler(x.log, nil))
	admin, err := NewAdmin(AdminConfig{Addr: "127.0.0.1:0", Socket: x.socket}, AdminDeps{Health: x.health, Log: log, Sets: []*metrics.Set{x.set}})
	if err != nil {
		t.Fatal(err)
	}
	x.Admin = admin
	if err := admin.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Stop)
	return x
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // so that no idle connection outlives the test
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestAdmin_ServesMetricsOfProcessAndNode(t *testing.T) {
	t.Parallel()
	x := setupAdmin(t)
	x.set.NewCounter("xcord_obs_test_total").Add(7)
	status, body := get(t, http.DefaultClient, "http://"+x.Addr()+"/metrics")
	for _, want := range []string{"xcord_obs_test_total 7\n", "go_goroutines ", "process_open_fds ", "process_resident_memory_bytes "} {
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("status %d, no %q", status, want)
		}
	}
	if n := strings.Count(body, "\nprocess_open_fds "); n != 1 {
		t.Errorf("process_open_fds is there %d times", n)
	}
}

func TestAdmin_ReadinessFollowsHealthAndLivenessDoesNot(t *testing.T) {
	t.Parallel()
	x := setupAdmin(t)
	var away atomic.Bool
	x.health.Add("redis", func(context.Context) error {
		if away.Load() {
			return fmt.Errorf("dial 10.1.2.3: %w", errAway)
		}
		return nil
	})
	f := func(path string, wantStatus int, wantBody string) {
		t.Helper()
		x.health.running.Lock()
		x.health.at = x.health.at.Add(-healthMaxAge) // as if time had passed
		x.health.running.Unlock()
		if status, body := get(t, http.DefaultClient, "http://"+x.Addr()+path); status != wantStatus || body != wantBody {
			t.Errorf("%s: %d %q, want %d %q", path, status, body, wantStatus, wantBody)
		}
	}
	f("/readyz", 503, "not ready\n")
	f("/livez", 200, "ok\n")
	x.health.SetReady(true)
	f("/readyz", 200, "ok\n")
	away.Store(true)
	f("/readyz", 503, "redis\n") // the name and not the cause
	f("/readyz", 503, "redis\n")
	f("/livez", 200, "ok\n")
	away.Store(false)
	f("/readyz", 200, "ok\n")
	x.Stop()
	log := x.log.String()
	if strings.Count(log, "node is not ready") != 1 || strings.Count(log, "node is ready") != 2 || !strings.Contains(log, "dial 10.1.2.3: away") {
		t.Errorf("want each change logged once, with its cause; got %s", log)
	}
}

func TestAdmin_ServesProfilesOnlyOnItsPrivateSocket(t *testing.T) {
	t.Parallel()
	x := setupAdmin(t)
	if status, _ := get(t, http.DefaultClient, "http://"+x.Addr()+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("over TCP: status %d", status)
	}
	info, err := os.Lstat(x.socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", x.socket)
	}}}
	if status, body := get(t, client, "http://local/debug/pprof/goroutine?debug=1"); status != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("over the socket: status %d", status)
	}
	left, err := os.ReadDir(filepath.Dir(x.socket))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the socket: %v, %v", left, err)
	}
	x.Stop()
	if _, err := os.Lstat(x.socket); err == nil {
		t.Error("the socket is still there after Stop")
	}
}

func TestAdmin_NamesTheAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	x := setupAdmin(t)
	f := func(c AdminConfig, want string) {
		t.Helper()
		other, err := NewAdmin(c, AdminDeps{Health: &Health{}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		err = other.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Start = %v, want one line with %s", err, want)
		}
		other.Stop()
	}
	f(AdminConfig{Addr: x.Addr()}, "admin listener: listen tcp "+x.Addr()+": bind: address already in use")
	file := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f(AdminConfig{Addr: "127.0.0.1:0", Socket: file}, file+" exists and is not a socket")
	f(AdminConfig{Addr: "127.0.0.1:0", Socket: "/does/not/exist/s"}, "/does/not/exist")
}

func TestAdminConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	err := AdminConfig{Addr: "8081", Socket: "rel"}.Validate()
	if err == nil || !strings.Contains(err.Error(), `"8081"`) || !strings.Contains(err.Error(), `"rel"`) {
		t.Errorf("err = %v", err)
	}
	if err := (AdminConfig{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}

func TestAdmin_PassesStress(t *testing.T) {
	t.Parallel()
	lifetest.Stress(t, func() life.Service {
		a, err := NewAdmin(AdminConfig{Addr: "127.0.0.1:0", Socket: filepath.Join(t.TempDir(), "s")},
			AdminDeps{Health: &Health{}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return a
	})
}

func TestAdmin_MountsActionsOnThePrivateSocketAlone(t *testing.T) {
	t.Parallel()
	x := setupAdmin(t)
	x.Mount("/actions", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := PeerUID(r.Context())
		fmt.Fprint(w, uid, ok)
	}))
	private := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", x.socket)
	}}}
	if status, body := get(t, private, "http://x/actions"); status != http.StatusOK || body != fmt.Sprint(os.Getuid(), true) {
		t.Errorf("on the socket: %d %s", status, body)
	}
	if status, _ := get(t, http.DefaultClient, "http://"+x.Addr()+"/actions"); status != http.StatusNotFound {
		t.Errorf("over TCP: %d", status)
	}
	if _, ok := PeerUID(t.Context()); ok {
		t.Error("nobody has a uid")
	}
}
