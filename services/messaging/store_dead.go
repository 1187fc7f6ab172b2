package messaging

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
)

const selectEpoch = `SELECT epoch FROM checkpoints WHERE grp = $1 AND shard = $2`

// A replay takes the same lock as a batch of the writer and leaves the checkpoint where it is: what is replayed lies beside
// the log's progress. Under the lock the tombstones of every batch before it are seen.
const lockCheckpoint = `UPDATE checkpoints SET updated_at = now() WHERE grp = $1 AND shard = $2 AND epoch = $3`

// replayTries is how often a replay begins again because another writer has begun in the milliseconds between its statements.
const replayTries = 3

// replay stores what had been set aside, all or nothing, on a connection of its own: it may run in any process.
func (s store) replay(ctx context.Context, b *batch) (written, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return written{}, fmt.Errorf("replay: %w", err)
	}
	defer conn.Release()
	for range replayTries {
		var epoch int64
		if err := conn.QueryRow(ctx, selectEpoch, groupName, shard).Scan(&epoch); err != nil {
			return written{}, fmt.Errorf("replay: %w", err)
		}
		queue := new(pgx.Batch)
		lock := queue.Queue(lockCheckpoint, groupName, shard, epoch)
		w, err := send(ctx, conn.Conn(), queue, lock, epoch, b, insertAgain)
		if err == nil {
			return w, nil
		}
		if !errors.Is(err, bus.ErrFenced) {
			return written{}, fmt.Errorf("replay: %w", err)
		}
	}
	return written{}, errors.New("replay: the writer's lead changed again and again")
}
