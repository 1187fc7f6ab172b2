package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/life"
)

// office is what one process does for all: it works through the log as a group, which has a row in checkpoints, and holds an advisory lock,
// of which lock is the first half and the shard the second.
type office struct {
	group string
	lock  int32
}

var (
	writing  = office{group: groupName, lock: 0x78637067}   // "xcpg"
	indexing = office{group: searchGroup, lock: 0x78637365} // "xcse"
)

// lead is the right to an office: a connection that holds the advisory lock, and the epoch that was begun under it. Batches
// go through the same connection, so that who has lost the lock cannot commit; the epoch fences who does not know it yet.
// Whoever holds the lock shows several times in a lease that it runs, else who waits for the lead takes it away.
type lead struct {
	office office
	epoch  int64
	mark   bus.Position // the checkpoint, which moves under this epoch alone; the group's goroutine has it to itself

	beats life.Loops
	mu    sync.Mutex // guards conn, which the group's goroutine and the beat use in turn
	conn  *pgx.Conn
}

const tryLock = `SELECT pg_try_advisory_lock($1, $2)`

// Who stands still in the middle of a batch keeps Postgres waiting for the rest of it. It is found first and ended then: a planner may
// ask the conditions of one WHERE in any order.
const evictLead = `
WITH still AS MATERIALIZED (
    SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid AND l.objsubid = 2
      AND a.datname = current_database() AND (a.state <> 'active' OR a.wait_event_type = 'Client')
      AND a.state_change < clock_timestamp() - make_interval(secs => $3)
)
SELECT pid FROM still WHERE pg_terminate_backend(pid)`

const beginEpoch = `
INSERT INTO checkpoints (grp, shard, epoch) VALUES ($1, $2, 1)
ON CONFLICT (grp, shard) DO UPDATE SET epoch = checkpoints.epoch + 1, updated_at = now()
RETURNING epoch, last_ms, last_seq`

// lockEvery is how often the lock is tried. Waiting inside Postgres would hold back its vacuum for as long as the wait.
const lockEvery = 250 * time.Millisecond

// beatsPerLease is how often in a lease its holder shows that it runs.
const beatsPerLease = 4

var evictedTotal = metrics.NewCounter(`xcord_messaging_leads_evicted_total`)

// takeLead waits until the lead is free, or until who has it has stood still for a lease, and takes it.
func (s store) takeLead(ctx context.Context, o office, lease time.Duration) (*lead, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &lead{office: o, conn: conn}
	if err := l.begin(ctx, lease); err != nil {
		l.end()
		return nil, err
	}
	l.beats.Go("beat of "+o.group, func(ctx context.Context) error { return l.beat(ctx, lease/beatsPerLease) })
	return l, nil
}

func (s store) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect for the lead: %w", err)
	}
	return conn.Hijack(), nil
}

func (l *lead) begin(ctx context.Context, lease time.Duration) error {
	for {
		ok, err := l.tryLock(ctx, lease)
		if err != nil {
			return fmt.Errorf("lock the lead of %s: %w", l.office.group, err)
		}
		if ok {
			break
		}
		select {
		case <-time.After(lockEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err := l.conn.QueryRow(ctx, beginEpoch, l.office.group, shard).Scan(&l.epoch, &l.mark.Ms, &l.mark.Seq)
	if err != nil {
		return fmt.Errorf("begin the epoch of %s: %w", l.office.group, err)
	}
	return nil
}

// tryLock takes the lock if nobody has it. From who has it and has stood still for a lease it takes the connection, and so the lock,
// which is then free for the next try.
func (l *lead) tryLock(ctx context.Context, lease time.Duration) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := l.conn.QueryRow(ctx, tryLock, l.office.lock, shard).Scan(&ok); ok || err != nil {
		return ok, err
	}
	var pid int64
	switch err := l.conn.QueryRow(ctx, evictLead, l.office.lock, shard, lease.Seconds()).Scan(&pid); {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	}
	evictedTotal.Inc()
	slog.Warn("the lead is taken from a process that stands still", "group", l.office.group, "backend", pid, "lease", lease)
	return false, nil
}

// beat shows that this process runs. An error is a lost connection, which the next batch finds.
func (l *lead) beat(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.show(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *lead) show(ctx context.Context) {
	if !l.mu.TryLock() {
		return // a batch shows it as well
	}
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	_, _ = l.conn.Exec(ctx, "SELECT")
}

// end closes the connection, and with it gives up the lock.
func (l *lead) end() {
	l.beats.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.conn.Close(ctx) // it is gone either way
}
