package auth

import (
	"context"
	"fmt"
	"time"
)

const insertAudit = `insert into audit (actor, action, target, address, details) values ($1, $2, $3, $4, $5)`

// audit adds a line to the audit log, in the transaction of what it tells: neither is there without the other.
func audit(ctx context.Context, tx transaction, e auditEvent) error {
	details := e.Details
	if details == nil {
		details = map[string]string{}
	}
	if _, err := tx.Exec(ctx, insertAudit, int64(e.Actor), string(e.Action), int64(e.Target), e.Address, details); err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	return nil
}

const (
	deleteAudit = `delete from audit where id in (select id from audit where at < now() - make_interval(secs => $1) order by at limit $2)`
	// auditBatch is how many lines are deleted at once.
	auditBatch = 1000
)

// forget deletes what is older in the audit log than it is kept. The table refuses it for what is younger than AuditKeepMin.
func (s store) forget(ctx context.Context, keep time.Duration) error {
	for {
		n, err := s.forgetSome(ctx, keep)
		if err != nil || n < auditBatch {
			return err
		}
	}
}

func (s store) forgetSome(ctx context.Context, keep time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	tag, err := s.pool.Exec(ctx, deleteAudit, keep.Seconds(), auditBatch)
	return tag.RowsAffected(), err
}
