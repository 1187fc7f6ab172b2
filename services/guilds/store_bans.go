package guilds

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

// banRow is a ban as the store has it.
type banRow struct {
	user   id.ID
	reason *string
}

func scanBan(row pgx.CollectableRow) (b banRow, err error) {
	var user int64
	err = row.Scan(&user, &b.reason)
	b.user = id.ID(user)
	return b, err
}

const insertBanSQL = `INSERT INTO bans (guild_id, user_id, reason) VALUES ($1, $2, nullif($3, '')) ON CONFLICT DO NOTHING`

// insertBan says whether the ban is new.
func insertBan(ctx context.Context, tx transaction, guild, user id.ID, reason string) (added bool, err error) {
	tag, err := tx.Exec(ctx, insertBanSQL, number(guild), number(user), reason)
	if err != nil {
		return false, fmt.Errorf("ban user %s: %w", user, err)
	}
	return tag.RowsAffected() > 0, nil
}

const deleteBanSQL = `DELETE FROM bans WHERE guild_id = $1 AND user_id = $2`

// deleteBan says whether there was a ban.
func deleteBan(ctx context.Context, tx transaction, guild, user id.ID) (deleted bool, err error) {
	tag, err := tx.Exec(ctx, deleteBanSQL, number(guild), number(user))
	if err != nil {
		return false, fmt.Errorf("unban user %s: %w", user, err)
	}
	return tag.RowsAffected() > 0, nil
}

const selectBanSQL = `SELECT user_id, reason FROM bans WHERE guild_id = $1 AND user_id = $2`

// selectBan finds a ban, or 10026.
func selectBan(ctx context.Context, q querier, guild, user id.ID) (banRow, error) {
	rows, err := q.Query(ctx, selectBanSQL, number(guild), number(user))
	if err != nil {
		return banRow{}, outage("read a ban", err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, scanBan)
	if errors.Is(err, pgx.ErrNoRows) {
		return banRow{}, fault.New(fault.UnknownBan)
	}
	if err != nil {
		return banRow{}, outage("read a ban", err)
	}
	return b, nil
}

func (s store) ban(ctx context.Context, guild, user id.ID) (banRow, error) {
	return selectBan(ctx, s.pool, guild, user)
}

const (
	selectBansAfterSQL  = `SELECT user_id, reason FROM bans WHERE guild_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3`
	selectBansBeforeSQL = `SELECT user_id, reason FROM bans WHERE guild_id = $1 AND user_id < $2 ORDER BY user_id DESC LIMIT $3`
)

// bans is a page of a guild's bans by rising user id: next to before when there is one, else behind after.
func (s store) bans(ctx context.Context, guild, before, after id.ID, limit int) ([]banRow, error) {
	query, edge := selectBansAfterSQL, after
	if before != 0 {
		query, edge = selectBansBeforeSQL, before
	}
	rows, err := s.pool.Query(ctx, query, number(guild), number(edge), limit)
	if err != nil {
		return nil, outage("read bans", err)
	}
	bans, err := pgx.CollectRows(rows, scanBan)
	if err != nil {
		return nil, outage("read bans", err)
	}
	if before != 0 {
		slices.Reverse(bans)
	}
	return bans, nil
}
