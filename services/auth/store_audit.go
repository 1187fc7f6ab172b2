package auth

import (
	"context"
	"fmt"
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
