package chaos

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// fault is one way to do harm. It returns when the harm is over and what was ended has been started again; that all are well
// again is waited for behind it.
type fault struct {
	name string
	do   func(x *run)
	// backlog: while it lasts the writer cannot write, so that afterwards it is seen how fast it catches up.
	backlog bool
	// long: it belongs to the long run alone, which has time for all.
	long bool
	// needs says what this machine lacks for it; "" is nothing.
	needs func(m *machine) string
}

var faults = slices.Concat(processFaults, lineFaults, diskFaults, powerFaults, redisFaults, postgresFaults, limitFaults)

// processFaults end and stop processes, and put into the log what cannot be stored.
var processFaults = []fault{
	{name: "kill -9 the writer's node", do: func(x *run) {
		n, _ := x.m.leader()
		x.m.kill(n)
		x.m.begin(n)
	}},
	{name: "kill -9 a node", do: func(x *run) {
		n := x.anyNode()
		x.m.kill(n)
		x.m.begin(n)
	}},
	{name: "kill -9 Redis", do: func(x *run) {
		x.m.killRedis()
		x.m.startRedis()
	}},
	{name: "kill -9 Postgres", do: func(x *run) {
		x.m.killPostgres()
		x.m.startPostgres()
	}},
	{name: "kill -9 a backend", do: func(x *run) {
		_, backend := x.m.leader()
		x.m.signal(backend, syscall.SIGKILL)
	}},
	{name: "kill -9 everything", do: func(x *run) {
		for _, n := range x.m.nodes {
			x.m.signal(n.child.Pid(), syscall.SIGKILL)
		}
		x.m.killRedis()
		x.m.killPostgres()
		x.m.startRedis()
		x.m.startPostgres()
		for _, n := range x.m.nodes {
			<-n.child.Done()
			x.m.begin(n)
		}
	}},
	{name: "SIGTERM, rolling", do: func(x *run) {
		for _, n := range x.m.nodes {
			x.m.end(n)
			x.m.begin(n)
			x.m.await(n)
		}
	}},
	{name: "SIGSTOP the writer's node", do: stallWriter},
	{name: "SIGSTOP a node", long: true, do: func(x *run) { x.stop(x.anyNode().child.Pid()) }},
	{name: "SIGSTOP Redis", do: func(x *run) { x.stop(x.m.redis.Pid()) }},
	{name: "SIGSTOP Postgres", do: func(x *run) { x.stop(family(x.m.postgres.Pid())...) }},
	{name: "Postgres away", backlog: true, do: func(x *run) {
		x.m.postgres.Stop()
		x.last(2)
		x.m.startPostgres()
	}},
	{name: "poison", do: poison},
	{name: "LOCK TABLE, kill -9 the writer", backlog: true, do: func(x *run) {
		n, _ := x.m.leader()
		x.locked(func() {
			x.m.kill(n)
			x.m.begin(n)
			x.last(1) // the batch is in Postgres' hands, which stores it without its writer
		})
	}},
	{name: "LOCK TABLE, kill the writer and its transaction", backlog: true, do: func(x *run) {
		n, backend := x.m.leader()
		x.locked(func() {
			x.m.kill(n)
			x.m.exec(`select pg_terminate_backend($1)`, backend)
			x.m.begin(n)
			x.last(1)
		})
	}},
}

// last lets a fault last for one to two times so many seconds.
func (x *run) last(seconds int) {
	pause(time.Duration(seconds*1000+x.r.IntN(seconds*1000)) * time.Millisecond)
}

// stop holds processes still for a while.
func (x *run) stop(pids ...int) {
	for _, pid := range pids {
		x.m.signal(pid, syscall.SIGSTOP)
	}
	x.last(2)
	for _, pid := range pids {
		x.m.signal(pid, syscall.SIGCONT)
	}
}

// stallWriter stops the node that writes until the other one has taken its lead behind its back: when it goes on it must notice.
func stallWriter(x *run) {
	n, _ := x.m.leader()
	x.m.signal(n.child.Pid(), syscall.SIGSTOP)
	x.m.until("the other writer leads", func() error {
		if other, _ := x.m.leader(); other == n {
			return fmt.Errorf("%s still leads", n.name)
		}
		return nil
	})
	x.last(1)
	x.m.signal(n.child.Pid(), syscall.SIGCONT)
}

// locked keeps the writer from its table meanwhile, with a batch in its hand.
func (x *run) locked(meanwhile func()) {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	x.must(func() error {
		tx, err := x.m.pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(ctx) }() // that is how the lock ends
		if _, err := tx.Exec(ctx, `lock table messages in access exclusive mode`); err != nil {
			return err
		}
		// A batch waits for the lock: something is in flight.
		x.m.until("the writer waits", func() error {
			var waiting int
			const count = `select count(*) from pg_locks where not granted and relation = 'messages'::regclass`
			if err := tx.QueryRow(ctx, count).Scan(&waiting); err != nil {
				return err
			}
			if waiting == 0 {
				return fmt.Errorf("nobody waits")
			}
			return nil
		})
		meanwhile()
		return nil
	})
}

// poison puts entries into the log, past the API, that no writer can store: a NUL in a text that Postgres refuses.
func poison(x *run) {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	x.must(func() error {
		c, err := redis.Open(ctx, redis.Config{URL: x.m.redis.URL()})
		if err != nil {
			return err
		}
		defer c.Close()
		log := bus.Open(c, bus.Config{})
		for range 3 {
			x.poisons++
			key := fmt.Sprintf("poison-%d", x.poisons)
			channel := x.cfg.Channels[x.r.IntN(len(x.cfg.Channels))]
			content := key + `/0\u0000`
			body := fmt.Sprintf(`{"message":{"channel_id":"%s","content":"%s","type":0},"author":{"id":"%s"},"channel_type":0}`,
				channel, content, x.cfg.Owner.ID)
			e := Event{Op: Send, T: now(), Client: "poison", Call: int64(x.poisons), Kind: Poison, Key: key, Channel: channel, Author: x.cfg.Owner.ID}
			x.own = append(x.own, e)
			receipt, err := log.Publish(ctx, bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Actor: x.cfg.Owner.ID, Guild: x.cfg.Guild,
				Channel: channel, Body: []byte(body)}})
			if err != nil {
				return err
			}
			x.own = append(x.own, Event{Op: Ret, T: now(), Client: "poison", Call: int64(x.poisons), Status: 200, Message: bus.MessageID(receipt.Pos)})
		}
		return nil
	})
}
