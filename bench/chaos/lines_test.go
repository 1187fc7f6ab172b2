package chaos

import "time"

var (
	silent = weather{deaf: true}
	far    = weather{delay: 200 * time.Millisecond}
	slow   = weather{rate: 10 << 10}
	sliced = weather{sliced: true}
)

var lineFaults = []fault{
	{name: "Redis cut off", do: func(x *run) { x.cut(x.anyNode().redis) }},
	{name: "Redis' answers lost", do: func(x *run) { x.spoil(x.anyNode().redis, silent) }},
	{name: "Redis' connections reset", long: true, do: func(x *run) { x.reset(x.anyNode().redis) }},
	{name: "Redis 200 ms away", do: func(x *run) { x.spoil(x.anyNode().redis, far) }},
	{name: "Redis at 10 KB/s", long: true, do: func(x *run) { x.spoil(x.anyNode().redis, slow) }},

	{name: "Postgres cut off", long: true, do: func(x *run) { x.cut(x.writersNode().postgres) }},
	{name: "Postgres' answers lost", do: func(x *run) { x.spoil(x.writersNode().postgres, silent) }},
	{name: "Postgres' connections reset", long: true, do: func(x *run) { x.reset(x.writersNode().postgres) }},
	{name: "Postgres 200 ms away", long: true, do: func(x *run) { x.spoil(x.writersNode().postgres, far) }},
	{name: "Postgres at 10 KB/s", long: true, do: func(x *run) { x.spoil(x.writersNode().postgres, slow) }},

	{name: "clients cut off", do: func(x *run) {
		for range 3 {
			x.ask("cut")
			pause(time.Duration(100+x.r.IntN(300)) * time.Millisecond)
		}
	}},
	{name: "clients' connections reset", do: func(x *run) { x.reset(x.anyNode().clients) }},
	{name: "clients' answers lost", long: true, do: func(x *run) { x.spoil(x.anyNode().clients, silent) }},
	{name: "clients 200 ms away", long: true, do: func(x *run) { x.spoil(x.anyNode().clients, far) }},
	{name: "clients at 10 KB/s", long: true, do: func(x *run) { x.spoil(x.anyNode().clients, slow) }},
	{name: "clients' bytes one by one", long: true, do: func(x *run) { x.spoil(x.anyNode().clients, sliced) }},
}

func (x *run) anyNode() *process { return x.m.nodes[x.r.IntN(len(x.m.nodes))] }

func (x *run) writersNode() *process {
	n, _ := x.m.leader()
	return n
}

func (x *run) cut(r *relay) {
	r.cut()
	x.last(1)
	r.heal()
}

func (x *run) spoil(r *relay, w weather) {
	r.spoil(w)
	x.last(1)
	r.heal()
}

// reset breaks what is under way several times.
func (x *run) reset(r *relay) {
	for range 5 {
		r.reset()
		pause(time.Duration(50+x.r.IntN(300)) * time.Millisecond)
	}
}
