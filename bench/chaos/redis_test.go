package chaos

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xcord/xcord/engine/redis"
)

var redisFaults = []fault{
	{name: "Redis is BUSY", do: func(x *run) {
		if x.r.IntN(2) == 0 {
			x.busy("SCRIPT", "EVAL", endless, "0")
			return
		}
		x.m.redisDo("FUNCTION", "LOAD", "REPLACE", "#!lua name=chaos\nredis.register_function('chaos_endless', function() "+endless+" end)")
		x.busy("FUNCTION", "FCALL", "chaos_endless", "0")
		x.m.redisDo("FUNCTION", "DELETE", "chaos")
	}},
	{name: "DEBUG SLEEP", long: true, do: func(x *run) {
		x.m.redisDo("DEBUG", "SLEEP", fmt.Sprintf("%.1f", 2+2*x.r.Float64()))
	}},
	{name: "Redis out of memory", do: func(x *run) {
		feed := x.starve(x.r.IntN(64 << 10))
		x.last(1)
		feed()
	}},
	// The writer must go on in a full Redis, whoever leads: nothing else makes room.
	{name: "Redis out of memory, kill -9 the writer", do: func(x *run) {
		n, _ := x.m.leader()
		feed := func() {}
		x.locked(func() {
			x.m.until("the writer is held up", x.heldUp)
			feed = x.starve(-1 << 20)
			x.m.kill(n)
		})
		x.m.until("the writer has stored everything", x.idle)
		feed()
		x.m.begin(n)
	}},
	// It is made again behind what is stored.
	{name: "the writer's group destroyed", long: true, do: func(x *run) { x.m.redisInt("XGROUP", "DESTROY", "ev:{s00}", "pg") }},
	// What is stored may go; the sessions of the node that has not read it are told so.
	{name: "the log trimmed before a stopped node has read it", long: true, do: func(x *run) {
		n := x.m.nodes[0]
		if n == x.writersNode() {
			n = x.m.nodes[1]
		}
		x.m.signal(n.child.Pid(), syscall.SIGSTOP)
		x.last(1)
		x.must(func() error {
			p, err := x.progress()
			if err == nil {
				x.m.redisInt("XTRIM", "ev:{s00}", "MINID", p.stored.String())
			}
			return err
		})
		x.m.signal(n.child.Pid(), syscall.SIGCONT)
	}},
}

const endless = "while true do end"

// busy lets Redis run something without end, and ends it after a while.
func (x *run) busy(what string, command ...string) {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	killer := x.m.adminRedis(ctx) // who comes later is not let in
	defer killer.Close()
	done := make(chan error, 1)
	runner := x.m.adminRedis(ctx)
	defer runner.Close()
	go func() { done <- runner.Do(ctx, runner.B().Arbitrary(command...).Build()).Error() }()
	x.last(2)
	x.m.until("what runs is killed", func() error {
		return killer.Do(ctx, killer.B().Arbitrary(what, "KILL").Build()).Error()
	})
	if err := <-done; err == nil || !strings.Contains(err.Error(), "killed") {
		x.m.t.Errorf("what was to run without end says %v", err)
	}
}

// starve leaves Redis so many bytes, or takes them, until feed.
func (x *run) starve(spare int) (feed func()) {
	limit := x.m.redisDo("CONFIG", "GET", "maxmemory")["maxmemory"]
	refused := x.m.redisInfo("errorstats", "errorstat_OOM")
	used, err := strconv.Atoi(x.m.redisInfo("memory", "used_memory"))
	if err != nil {
		x.m.t.Fatal(err)
	}
	x.m.redisDo("CONFIG", "SET", "maxmemory", strconv.Itoa(used+spare))
	x.m.until("Redis refuses", func() error {
		if now := x.m.redisInfo("errorstats", "errorstat_OOM"); now == refused {
			return fmt.Errorf("%q refusals as before", now)
		}
		return nil
	})
	return func() { x.m.redisDo("CONFIG", "SET", "maxmemory", limit) }
}

// adminRedis is a client that may do everything, and is patient.
func (m *machine) adminRedis(ctx context.Context) redis.Client {
	m.t.Helper()
	c, err := redis.Open(ctx, redis.Config{URL: m.redis.AdminURL(), WriteTimeout: patience})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// redisDo runs a command, and answers with its map if it has one.
func (m *machine) redisDo(command ...string) map[string]string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c := m.adminRedis(ctx)
	defer c.Close()
	answer := c.Do(ctx, c.B().Arbitrary(command...).Build())
	if err := answer.Error(); err != nil {
		m.t.Fatalf("Redis, %s: %v", strings.Join(command, " "), err)
	}
	fields, err := answer.AsStrMap()
	if err != nil {
		return nil // it has none
	}
	return fields
}

// redisInt runs a command that answers with a number.
func (m *machine) redisInt(command ...string) int64 {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c := m.adminRedis(ctx)
	defer c.Close()
	n, err := c.Do(ctx, c.B().Arbitrary(command...).Build()).AsInt64()
	if err != nil {
		m.t.Fatalf("Redis, %s: %v", strings.Join(command, " "), err)
	}
	return n
}

// redisInfo is a field of INFO, "" if there is none.
func (m *machine) redisInfo(section, field string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	c := m.adminRedis(ctx)
	defer c.Close()
	info, err := c.Do(ctx, c.B().Info().Section(section).Build()).ToString()
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
