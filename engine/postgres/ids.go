package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/id"
)

const (
	// blockSize is the sequence's increment in the first migration.
	blockSize = 64
	// blockLife: an id holds 22 bits of its number, so numbers repeat after 65,536 blocks, in other milliseconds. A block
	// that is kept for longer than that could meet its repetition; a million ids a second would take four seconds for it.
	blockLife = time.Second
)

const takeBlock = `select nextval('ids')`

// IDs makes the ids of things that are no log entries. Any goroutine may call Next; while a new block is fetched the
// others wait for it, each until its own context ends. Within a process ids rise; across processes they are unique.
type IDs struct {
	pool *pgxpool.Pool
	now  func() time.Time

	turn  chan struct{} // holds one token: who has it owns the fields below. A mutex would wait past the context.
	next  int64
	end   int64
	taken time.Time
	last  id.ID
}

// NewIDs makes a source of ids from the sequence in that database.
func NewIDs(pool *pgxpool.Pool) *IDs {
	s := &IDs{pool: pool, now: time.Now, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// Next gives a new id.
func (s *IDs) Next(ctx context.Context) (id.ID, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return 0, fmt.Errorf("next id: %w", ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()

	now := s.now()
	if s.next == s.end || now.Sub(s.taken) > blockLife {
		if err := s.take(ctx); err != nil {
			return 0, fmt.Errorf("next id: %w", err)
		}
		now = s.now()
	}
	seq := s.next
	s.next++
	ms := uint64(now.UnixMilli())
	out := id.FromSequence(ms, seq)
	if out <= s.last { // the clock went back, or the 22 bits began anew within a millisecond
		ms = s.last.Ms()
		if out = id.FromSequence(ms, seq); out <= s.last {
			out = id.FromSequence(ms+1, seq)
		}
	}
	s.last = out
	return out, nil
}

func (s *IDs) take(ctx context.Context) error {
	var first int64
	if err := s.pool.QueryRow(ctx, takeBlock).Scan(&first); err != nil {
		return fmt.Errorf("take a block of ids: %w", err)
	}
	s.next, s.end, s.taken = first, first+blockSize, s.now()
	return nil
}
