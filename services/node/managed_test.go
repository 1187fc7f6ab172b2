package node

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/redis"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestKept_StartsAServerAgainThatWasKilled(t *testing.T) {
	t.Parallel()
	server := harness.Redis(t)
	server.Stop()
	k := &kept{name: "redis", server: server}
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	client, err := redis.Open(t.Context(), redis.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Do(t.Context(), client.B().Set().Key("k").Value("v").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The client repeats a read until the server is back.
	for t.Context().Err() == nil {
		got, err := client.Do(t.Context(), client.B().Get().Key("k").Build()).ToString()
		if err == nil && got == "v" {
			return
		}
	}
}

func TestKept_Lives(t *testing.T) {
	t.Parallel()
	server := harness.Redis(t)
	server.Stop()
	lifetest.Stress(t, func() life.Service { return &kept{name: "redis", server: server} })
}

// TestLockData_RefusesASecondProcess is not parallel: a child that another test forks holds the lock, too, until it executes.
func TestLockData_RefusesASecondProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "in use by another xcord") {
		t.Errorf("the second lock: %v", err)
	}
	first.release()
	first.release()
	again, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.release()
}
