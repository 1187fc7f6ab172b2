package picture

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

const (
	upsertWebhookSQL = `
INSERT INTO webhook_avatars (webhook_id, hash, type, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (webhook_id) DO UPDATE SET hash = EXCLUDED.hash, type = EXCLUDED.type, body = EXCLUDED.body`
	deleteWebhookSQL = `DELETE FROM webhook_avatars WHERE webhook_id = $1`
	selectWebhookSQL = `SELECT hash, type, body FROM webhook_avatars WHERE webhook_id = $1 AND hash = $2`
)

// KeepWebhook puts the picture of a webhook in the place of the one before; nil is none. The webhook's row has its hash.
func KeepWebhook(ctx context.Context, tx pgx.Tx, webhook id.ID, p *Picture) (err error) {
	if p == nil {
		_, err = tx.Exec(ctx, deleteWebhookSQL, int64(webhook))
	} else {
		_, err = tx.Exec(ctx, upsertWebhookSQL, int64(webhook), p.Hash, p.Type, p.Body)
	}
	if err != nil {
		return fmt.Errorf("keep the picture of webhook %s: %w", webhook, err)
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// OfWebhook finds the picture that a webhook has now, or 404. Clients look for it where the avatars of users are.
func OfWebhook(ctx context.Context, q querier, webhook id.ID, hash string) (p Picture, err error) {
	err = q.QueryRow(ctx, selectWebhookSQL, int64(webhook), hash).Scan(&p.Hash, &p.Type, &p.Body)
	if errors.Is(err, pgx.ErrNoRows) {
		return Picture{}, fault.NotFound()
	}
	return p, err
}
