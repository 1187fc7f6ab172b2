package reads

import (
	"os"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/redis"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestReads_StartsAndStops(t *testing.T) {
	t.Parallel()
	client, err := redis.Open(t.Context(), redis.Config{URL: harness.Redis(t).URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: harness.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	log := bus.Open(client, bus.Config{})
	lifetest.Stress(t, func() life.Service { return New(pool, bus.NewTail(log, log.Last)) })
}
