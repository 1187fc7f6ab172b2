package harness_test

import (
	"os"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestRedis_IsPrivateToTheTest(t *testing.T) {
	t.Parallel()
	t0 := time.Now()
	a, b := harness.Redis(t), harness.Redis(t)
	t.Log("two redis", time.Since(t0))
	ctx := t.Context()
	for _, server := range []*redis.Local{a, b} {
		client, err := redis.Open(ctx, redis.Config{URL: server.URL()})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		fresh, err := client.Do(ctx, client.B().Set().Key("k").Value("v").Nx().Build()).ToString()
		if err != nil || fresh != "OK" {
			t.Errorf("set nx on a private server: %q, %v", fresh, err)
		}
	}
}

func TestPostgres_IsPrivateToTheTest(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("database", func(t *testing.T) {
			t.Parallel()
			t0 := time.Now()
			url := harness.Postgres(t)
			t.Log("database", time.Since(t0))
			pool, err := postgres.Open(t.Context(), postgres.Config{URL: url})
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			var block int64
			if err := pool.QueryRow(t.Context(), "select nextval('ids')").Scan(&block); err != nil || block != 0 {
				t.Errorf("first block of a fresh database: %d, %v", block, err)
			}
		})
	}
}
