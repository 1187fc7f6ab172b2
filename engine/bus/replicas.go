package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"
)

var unreplicated = metrics.NewCounter(`xcord_bus_unreplicated_batches_total`)

// errUnreplicated: Redis has the write, and the replicas do not. Whoever repeats it under its nonce waits for them again.
var errUnreplicated = errors.New("too few replicas have the write")

// joint lets writes that wait for replicas do so together: while one batch is under way, those that come gather for the next. WAIT looks at
// its own connection only, so a batch and its WAIT go over one (a repeat under the same nonce writes nothing, yet Redis takes the end
// of everything that it has written so far for what is waited for).
type joint struct {
	mu      sync.Mutex // guards what follows
	waiting []*joined
	busy    bool
}

// joined is one write of a batch.
type joined struct {
	cmd   rueidis.Completed
	reply string
	err   error
	done  chan struct{} // closed when reply and err are there
	lead  chan struct{} // gets one element when this one is to send the next batch
}

// jointMax bounds a batch, so that the first of it does not wait long for the last.
const jointMax = 256

func (j *joint) do(ctx context.Context, l *Log, cmd rueidis.Completed) (string, error) {
	me := &joined{cmd: cmd, done: make(chan struct{}), lead: make(chan struct{}, 1)}
	j.mu.Lock()
	j.waiting = append(j.waiting, me)
	if !j.busy {
		j.busy = true
		me.lead <- struct{}{}
	}
	j.mu.Unlock()
	select {
	case <-me.lead:
		j.send(ctx, l)
	case <-me.done:
	case <-ctx.Done():
		if j.leave(me) {
			return "", ctx.Err()
		}
		<-me.done // it is under way, which has an end of its own
	}
	return me.reply, me.err
}

// leave takes one out that still waits.
func (j *joint) leave(me *joined) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.Index(j.waiting, me)
	if i < 0 {
		return false
	}
	j.waiting = slices.Delete(slices.Clone(j.waiting), i, i+1)
	select {
	case <-me.lead:
		j.pass()
	default:
	}
	return true
}

// pass gives the lead to the first that waits. mu is held.
func (j *joint) pass() {
	if j.busy = len(j.waiting) > 0; j.busy {
		j.waiting[0].lead <- struct{}{}
	}
}

// send sends what waits, and passes the lead on. It is called by one at a time, who is the first of those who wait.
func (j *joint) send(ctx context.Context, l *Log) {
	j.mu.Lock()
	n := min(len(j.waiting), jointMax)
	batch := j.waiting[:n:n]
	j.waiting = j.waiting[n:]
	j.mu.Unlock()
	// The others' writes do not end with the context of who sends them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.config.CallTimeout)
	defer cancel()
	l.replicate(ctx, batch)
	for _, w := range batch {
		close(w.done)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pass()
}

// replicate runs a batch and waits until the replicas have it.
func (l *Log) replicate(ctx context.Context, batch []*joined) {
	commands := make(rueidis.Commands, 0, len(batch)+1)
	for _, w := range batch {
		commands = append(commands, w.cmd)
	}
	commands = append(commands, l.redis.B().Wait().Numreplicas(int64(l.config.Replicas)).Timeout(l.config.ReplicaTimeout.Milliseconds()).Build())
	conn, release := l.redis.Dedicate()
	defer release()
	replies := conn.DoMulti(ctx, commands...)
	have, err := replies[len(batch)].AsInt64()
	if err == nil && have < int64(l.config.Replicas) {
		unreplicated.Inc()
		err = fmt.Errorf("%w: %d of %d have it", errUnreplicated, have, l.config.Replicas)
	}
	for i, w := range batch {
		if w.reply, w.err = replies[i].ToString(); w.err == nil {
			w.err = err
		}
	}
}
