package auth

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

const selectAllAccounts = selectAccount + `order by u.id`

// Source reads all users, for the read model.
func Source(ctx context.Context, tx roster.Snapshot, each func(bus.Entry) error) error {
	rows, err := tx.Query(ctx, selectAllAccounts)
	if err != nil {
		return fmt.Errorf("read all accounts: %w", err)
	}
	accounts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (account, error) { return scanAccount(row) })
	if err != nil {
		return fmt.Errorf("read all accounts: %w", err)
	}
	for _, a := range accounts {
		e, err := a.entry(wire.UserCreated, a.ID)
		if err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}
