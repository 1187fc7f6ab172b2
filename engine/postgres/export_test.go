package postgres

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// NewIDsAt is NewIDs with a clock of the test's.
func NewIDsAt(pool *pgxpool.Pool, now func() time.Time) *IDs {
	s := NewIDs(pool)
	s.now = now
	return s
}
