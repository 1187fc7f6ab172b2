package guilds

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
)

// Pool is the service's connection to Postgres.
type Pool = pgxpool.Pool

// transaction is one change of one guild, or its creation.
type transaction = pgx.Tx

// store is where the rows are. Its methods read; what writes is a function that wants the transaction which holds the
// guild's row.
type store struct{ pool *Pool }

// ping says whether the store can be reached and has its tables.
func (s store) ping(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, `SELECT FROM guilds LIMIT 1`); err != nil {
		return outage("look at the guilds", err)
	}
	return nil
}

// transact runs do in a transaction, and commits when do says so.
func (s store) transact(ctx context.Context, do func(tx transaction) (commit bool, err error)) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return outage("begin", err)
	}
	// After a COMMIT this does nothing; and when the request's time is over, the lock must go all the same.
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = tx.Rollback(end) // whatever its error, the server rolls back when the connection ends
	}()
	commit, err := do(tx)
	if err != nil {
		return outage("change", err)
	}
	if !commit {
		return nil
	}
	if err := tx.Commit(ctx); err != nil {
		return outage("commit", err)
	}
	return nil
}

// outage makes a 503 of what is neither a fault already nor the statement's own mistake: a lost connection, a full pool.
func outage(what string, err error) error {
	if _, ok := errors.AsType[*fault.Fault](err); ok {
		return err
	}
	err = fmt.Errorf("%s: %w", what, err)
	if postgres.IsData(err) {
		return err
	}
	return fault.Unavailable(err, time.Second)
}

// number is an id as Postgres holds it. No id of ours has the highest bit; one that a client made up may, and must not
// turn negative, because it may be where a page begins.
func number(i id.ID) int64 {
	if i > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(i)
}

func numbers(ids []id.ID) []int64 {
	out := make([]int64, len(ids))
	for i, v := range ids {
		out[i] = number(v)
	}
	return out
}

func idsOf(numbers []int64) []id.ID {
	out := make([]id.ID, len(numbers))
	for i, v := range numbers {
		out[i] = id.ID(v)
	}
	return out
}
