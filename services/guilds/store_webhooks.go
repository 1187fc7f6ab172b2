package guilds

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// webhookRow is a webhook as the store has it.
type webhookRow struct {
	wire.WebhookRecord
	sealed []byte // its token
}

const webhookColumns = `id, guild_id, channel_id, creator_id, application_id, name, avatar, token_hash, token_sealed`

func scanWebhook(row pgx.CollectableRow) (w webhookRow, err error) {
	var webhook, guild, channel, creator, application int64
	err = row.Scan(&webhook, &guild, &channel, &creator, &application, &w.Name, &w.Avatar, &w.TokenHash, &w.sealed)
	w.ID, w.GuildID, w.ChannelID, w.CreatorID, w.ApplicationID = id.ID(webhook), id.ID(guild), id.ID(channel), id.ID(creator), id.ID(application)
	return w, err
}

const selectWebhookSQL = `SELECT ` + webhookColumns + ` FROM webhooks WHERE id = $1`

// selectWebhook finds a webhook, or 10015.
func selectWebhook(ctx context.Context, q querier, webhook id.ID) (webhookRow, error) {
	rows, err := q.Query(ctx, selectWebhookSQL, number(webhook))
	if err != nil {
		return webhookRow{}, outage("read a webhook", err)
	}
	w, err := pgx.CollectExactlyOneRow(rows, scanWebhook)
	if errors.Is(err, pgx.ErrNoRows) {
		return webhookRow{}, fault.New(fault.UnknownWebhook)
	}
	if err != nil {
		return webhookRow{}, outage("read a webhook", err)
	}
	return w, nil
}

func (s store) webhook(ctx context.Context, webhook id.ID) (webhookRow, error) {
	return selectWebhook(ctx, s.pool, webhook)
}

const selectWebhooksSQL = `
SELECT ` + webhookColumns + ` FROM webhooks WHERE guild_id = $1 AND ($2::bigint = 0 OR channel_id = $2::bigint) ORDER BY id`

// selectWebhooks are those of a guild, or of one channel of it. The limits of both bound them.
func selectWebhooks(ctx context.Context, q querier, guild, channel id.ID) ([]webhookRow, error) {
	rows, err := q.Query(ctx, selectWebhooksSQL, number(guild), number(channel))
	if err != nil {
		return nil, outage("read webhooks", err)
	}
	webhooks, err := pgx.CollectRows(rows, scanWebhook)
	if err != nil {
		return nil, outage("read webhooks", err)
	}
	return webhooks, nil
}

func (s store) webhooks(ctx context.Context, guild, channel id.ID) ([]webhookRow, error) {
	return selectWebhooks(ctx, s.pool, guild, channel)
}

const countWebhooksSQL = `SELECT count(*), count(*) FILTER (WHERE channel_id = $2) FROM webhooks WHERE guild_id = $1`

// countWebhooks says how many there are in a guild, and in a channel of it.
func countWebhooks(ctx context.Context, tx transaction, guild, channel id.ID) (all, there int, err error) {
	if err := tx.QueryRow(ctx, countWebhooksSQL, number(guild), number(channel)).Scan(&all, &there); err != nil {
		return 0, 0, fmt.Errorf("count webhooks: %w", err)
	}
	return all, there, nil
}

const upsertWebhookSQL = `
INSERT INTO webhooks (id, guild_id, channel_id, creator_id, application_id, name, avatar, token_hash, token_sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO UPDATE SET channel_id = EXCLUDED.channel_id, name = EXCLUDED.name, avatar = EXCLUDED.avatar`

// saveWebhook writes a webhook as it is to be, new or not.
func saveWebhook(ctx context.Context, tx transaction, w webhookRow) error {
	_, err := tx.Exec(ctx, upsertWebhookSQL, number(w.ID), number(w.GuildID), number(w.ChannelID), number(w.CreatorID), number(w.ApplicationID),
		w.Name, w.Avatar, w.TokenHash, w.sealed)
	if err != nil {
		return fmt.Errorf("save webhook %s: %w", w.ID, err)
	}
	return nil
}

const deleteWebhookSQL = `DELETE FROM webhooks WHERE id = $1`

func deleteWebhook(ctx context.Context, tx transaction, webhook id.ID) error {
	if _, err := tx.Exec(ctx, deleteWebhookSQL, number(webhook)); err != nil {
		return fmt.Errorf("delete webhook %s: %w", webhook, err)
	}
	return nil
}

const selectAllWebhooksSQL = `SELECT ` + webhookColumns + ` FROM webhooks WHERE guild_id = ANY ($1) ORDER BY id`

// readWebhooks reads those of some guilds, for the read model.
func readWebhooks(ctx context.Context, tx transaction, guilds []int64, page map[int64]*whole) error {
	rows, err := tx.Query(ctx, selectAllWebhooksSQL, guilds)
	if err != nil {
		return err
	}
	webhooks, err := pgx.CollectRows(rows, scanWebhook)
	for _, w := range webhooks {
		g := page[number(w.GuildID)]
		g.Webhooks = append(g.Webhooks, w.WebhookRecord)
	}
	return err
}
