package guilds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

const selectPairSQL = `SELECT id FROM directs WHERE pair = $1`

// directOf is the DM of two users, 0 when they have none.
func (s store) directOf(ctx context.Context, pair string) (id.ID, error) {
	var channel int64
	err := s.pool.QueryRow(ctx, selectPairSQL, pair).Scan(&channel)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, outage("look for a DM", err)
	}
	return id.ID(channel), nil
}

const selectGroupsOfSQL = `SELECT id FROM directs WHERE pair IS NULL AND recipients @> ARRAY[$1::bigint] ORDER BY id`

// groupsOf are the groups that a user is in.
func (s store) groupsOf(ctx context.Context, user id.ID) ([]id.ID, error) {
	return s.ids(ctx, "read the groups of a user", selectGroupsOfSQL, number(user))
}

const insertDirectSQL = `
INSERT INTO directs (id, version, pair, recipients, body) VALUES ($1, 1, nullif($2, ''), $3, $4) ON CONFLICT (pair) DO NOTHING`

// insertDirect makes a direct channel; made is false when the pair has one. A group has no pair.
func insertDirect(ctx context.Context, tx transaction, d *wire.Direct, pair string) (made bool, err error) {
	body, err := json.Marshal(d)
	if err != nil {
		return false, fmt.Errorf("encode direct channel %s: %w", d.ID, err)
	}
	tag, err := tx.Exec(ctx, insertDirectSQL, number(d.ID), pair, numbers(d.Recipients), body)
	if err != nil {
		return false, fmt.Errorf("insert direct channel %s: %w", d.ID, err)
	}
	return tag.RowsAffected() == 1, nil
}

const lockDirectSQL = `SELECT version, body FROM directs WHERE id = $1 FOR UPDATE`

// lockDirect takes a direct channel's row until the transaction ends, or answers 10003.
func lockDirect(ctx context.Context, tx transaction, channel id.ID) (d wire.Direct, version int64, err error) {
	var body []byte
	err = tx.QueryRow(ctx, lockDirectSQL, number(channel)).Scan(&version, &body)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, 0, fault.New(fault.UnknownChannel)
	}
	if err == nil {
		err = json.Unmarshal(body, &d)
	}
	if err != nil {
		return d, 0, fmt.Errorf("lock direct channel %s: %w", channel, err)
	}
	return d, version, nil
}

const updateDirectSQL = `UPDATE directs SET version = $2, recipients = $3, body = $4 WHERE id = $1`

func updateDirect(ctx context.Context, tx transaction, d *wire.Direct, version int64) error {
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode direct channel %s: %w", d.ID, err)
	}
	if _, err := tx.Exec(ctx, updateDirectSQL, number(d.ID), version, numbers(d.Recipients), body); err != nil {
		return fmt.Errorf("update direct channel %s: %w", d.ID, err)
	}
	return nil
}

const selectDirectsSQL = `SELECT version, body FROM directs ORDER BY id`

// readDirects reads all direct channels, for the read model.
func readDirects(ctx context.Context, tx roster.Snapshot, each func(bus.Entry) error) error {
	rows, err := tx.Query(ctx, selectDirectsSQL)
	if err != nil {
		return fmt.Errorf("read all direct channels: %w", err)
	}
	var version int64
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&version, &body}, func() error {
		var p wire.DirectChangedPayload
		if err := json.Unmarshal(body, &p.Direct); err != nil {
			return err
		}
		return each(directEntry(0, version, p))
	})
	if err != nil {
		return fmt.Errorf("read all direct channels: %w", err)
	}
	return nil
}
