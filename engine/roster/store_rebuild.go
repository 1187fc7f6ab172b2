package roster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

var rebuiltTotal = metrics.NewCounter(`xcord_roster_rebuilt_aggregates_total`)

// Snapshot is a transaction that sees one moment.
type Snapshot = pgx.Tx

// Source reads all aggregates that a service owns, each as the entry that would make it as it is now, at its version; and who has the
// messages, the latest one of each direct channel as its MESSAGE_SENT.
type Source func(ctx context.Context, tx Snapshot, each func(bus.Entry) error) error

// ErrBusy means that another process rebuilds the read model.
var ErrBusy = errors.New("another process rebuilds the read model")

// rebuildLock is the advisory lock of a rebuild: "xcrm".
const rebuildLock = 0x7863726d

// Rebuilding says what a Rebuild begins with.
type Rebuilding struct {
	// Epoch is the one that ends, "" when there is none.
	Epoch string
	// Least is from where on the next epoch's ids are, in ms.
	Least uint64
	// IsNew says that nobody knows of any entry: unless there are rows, the log has never been used, and nothing is lost.
	IsNew bool
}

// Rebuild ends the log's epoch, makes the read model anew from Postgres, and begins the next epoch. Meanwhile the log is closed:
// everything that would write to it or look at the read model is answered 503. When it fails the log stays closed, and the next Rebuild
// begins again. It answers ErrBusy when somebody else is at it, and nothing when the epoch is another one by now: then somebody else
// has done it.
func Rebuild(ctx context.Context, log *bus.Log, pool *pgxpool.Pool, in Rebuilding, sources []Source) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("rebuild the read model: %w", err)
	}
	defer conn.Release()
	var ok bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(rebuildLock)).Scan(&ok); err != nil {
		return fmt.Errorf("lock the read model: %w", err)
	}
	if !ok {
		return ErrBusy
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, int64(rebuildLock)); err != nil {
			_ = conn.Conn().Close(ctx) // which unlocks it too
		}
	}()
	if ok, err = log.Close(ctx, in.Epoch); err != nil || !ok {
		return err
	}
	if err := drop(ctx, log); err != nil {
		return err
	}
	settled, n, err := restore(ctx, log, conn, sources)
	if err != nil {
		return err
	}
	// Before the log opens: of something that is gone from the rows, a relay would bring the past into it. Should it not open now, the
	// next Rebuild finds them in the rows again.
	if _, err := conn.Exec(ctx, markApplied, settled.kinds, settled.aggregates, settled.versions); err != nil {
		return fmt.Errorf("mark what was rebuilt as applied: %w", err)
	}
	if in.IsNew && n == 0 {
		in.Least = 0
	}
	if _, err := log.Begin(ctx, in.Least); err != nil {
		return err
	}
	if n > 0 {
		slog.Warn("the read model was made anew from Postgres", "aggregates", n)
	}
	return nil
}

// drop removes the read model of a closed log.
func drop(ctx context.Context, log *bus.Log) error {
	for _, kind := range []string{"guild", "members", "channel", "user", "guilds", "direct", "directs", "webhook", "webhooks"} {
		for from := uint64(0); ; {
			keys, next, err := log.Keys(ctx, kind, from)
			if err != nil {
				return err
			}
			var ops []bus.Op
			for _, key := range keys {
				ops = append(ops, bus.Op{Command: "UNLINK", Key: key})
			}
			if err := log.Rebuild(ctx, [][]bus.Op{ops}); err != nil {
				return err
			}
			if from = next; from == 0 {
				break
			}
		}
	}
	return nil
}

// versions are rows of the outbox.
type versions struct {
	kinds                []string
	aggregates, versions []int64
}

const selectUnapplied = `SELECT kind, aggregate, version FROM outbox WHERE applied_at IS NULL`

// restore brings all aggregates into the read model of a closed log, as they are at one moment, and says which rows of the outbox are
// contained in that.
func restore(ctx context.Context, log *bus.Log, conn *pgxpool.Conn, sources []Source) (settled versions, n int, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// A large installation takes longer over a table than a request may.
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, selectUnapplied)
		if err != nil {
			return err
		}
		var kind string
		var aggregate, version int64
		_, err = pgx.ForEachRow(rows, []any{&kind, &aggregate, &version}, func() error {
			settled.kinds = append(settled.kinds, kind)
			settled.aggregates, settled.versions = append(settled.aggregates, aggregate), append(settled.versions, version)
			return nil
		})
		if err != nil {
			return err
		}
		w := restorer{ctx: ctx, log: log}
		for _, source := range sources {
			if err := source(ctx, tx, w.add); err != nil {
				return err
			}
		}
		n = w.total
		if err := w.addGone(tx); err != nil {
			return err
		}
		return w.flush()
	})
	if err != nil {
		return settled, n, fmt.Errorf("rebuild the read model: %w", err)
	}
	return settled, n, nil
}

// restorer gathers operations.
type restorer struct {
	ctx   context.Context
	log   *bus.Log
	steps [][]bus.Op
	total int
}

const (
	// stepOps is how many operations one function call gets: Redis is busy with it for a millisecond or two.
	stepOps = 1000
	// stepsMax is how many calls go out together.
	stepsMax = 100
)

func (w *restorer) add(e bus.Entry) error {
	ops, err := restored(e)
	if err != nil {
		return err
	}
	rebuiltTotal.Inc()
	w.total++
	return w.put(ops)
}

const selectGone = `SELECT kind, aggregate, version FROM outbox WHERE type = ANY ($1)`

// addGone brings in the versions of what was deleted as far back as the outbox goes. Their rows are not there any more, and who is gone
// must not be taken for somebody who never was.
func (w *restorer) addGone(tx pgx.Tx) error {
	rows, err := tx.Query(w.ctx, selectGone, []string{string(wire.UserDeleted), string(wire.ServerDeleted)})
	if err != nil {
		return err
	}
	var kind string
	var aggregate, version int64
	var ops []bus.Op
	_, err = pgx.ForEachRow(rows, []any{&kind, &aggregate, &version}, func() error {
		ops = append(ops, restoredVersion(bus.Key(kind, id.ID(aggregate)), version))
		return nil
	})
	if err != nil {
		return err
	}
	return w.put(ops)
}

func (w *restorer) put(ops []bus.Op) error {
	for len(ops) > 0 {
		n := min(len(ops), stepOps)
		w.steps = append(w.steps, ops[:n])
		ops = ops[n:]
	}
	if len(w.steps) < stepsMax {
		return nil
	}
	return w.flush()
}

func (w *restorer) flush() error {
	if len(w.steps) == 0 {
		return nil
	}
	steps := w.steps
	w.steps = nil
	return w.log.Rebuild(w.ctx, steps)
}

// restored is what an aggregate is in the read model.
func restored(e bus.Entry) (ops []bus.Op, err error) {
	switch e.Type {
	case wire.UserCreated:
		ops, err = userOps(e)
	case wire.ServerCreated:
		ops, err = createdOps(e)
	case wire.DirectChanged:
		ops, err = directOps(e)
	case wire.MessageSent:
		return lastOps(e), nil
	default:
		panic("BUG: a source gave " + string(e.Type))
	}
	return append(ops, restoredVersion(aggregateKey(e), e.Version)), err
}

// restoredVersion is the version of an aggregate. Where its latest entry stands in the log is not known any more.
func restoredVersion(key string, version int64) bus.Op {
	return bus.Op{Command: "HSET", Key: key, Args: []string{"v", strconv.FormatInt(version, 10), "at", bus.Position{}.String()}}
}
