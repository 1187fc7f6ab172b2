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

// inviteRow is an invite as the store has it.
type inviteRow struct {
	code                    string
	guild, channel, inviter id.ID
	maxAge, maxUses, uses   int
	created, expires        wire.Time
	temporary               bool
}

const inviteColumns = `code, guild_id, channel_id, inviter_id, max_age, max_uses, uses, created_at, expires_at, temporary`

// live is what an invite must be to count. The clock is that of Postgres: one for all processes.
const live = `(expires_at IS NULL OR expires_at > now()) AND (max_uses = 0 OR uses < max_uses)`

func scanInvite(row pgx.CollectableRow) (i inviteRow, err error) {
	var guild, channel, inviter int64
	err = row.Scan(&i.code, &guild, &channel, &inviter, &i.maxAge, &i.maxUses, &i.uses, &i.created, &i.expires, &i.temporary)
	i.guild, i.channel, i.inviter = id.ID(guild), id.ID(channel), id.ID(inviter)
	return i, err
}

// querier is what a pool and a transaction have in common here.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const selectInviteSQL = `SELECT ` + inviteColumns + ` FROM invites WHERE code = $1 AND ` + live

// selectInvite finds an invite that can be used, or 10006.
func selectInvite(ctx context.Context, q querier, code string) (inviteRow, error) {
	rows, err := q.Query(ctx, selectInviteSQL, code)
	if err != nil {
		return inviteRow{}, outage("read an invite", err)
	}
	i, err := pgx.CollectExactlyOneRow(rows, scanInvite)
	if errors.Is(err, pgx.ErrNoRows) {
		return inviteRow{}, fault.New(fault.UnknownInvite)
	}
	if err != nil {
		return inviteRow{}, outage("read an invite", err)
	}
	return i, nil
}

func (s store) invite(ctx context.Context, code string) (inviteRow, error) {
	return selectInvite(ctx, s.pool, code)
}

const selectInvitesSQL = `
SELECT ` + inviteColumns + ` FROM invites WHERE guild_id = $1 AND ($2::bigint = 0 OR channel_id = $2::bigint) AND ` + live + ` ORDER BY created_at, code`

// invites are those of a guild, or of one channel of it. The limit per guild bounds them.
func (s store) invites(ctx context.Context, guild, channel id.ID) ([]inviteRow, error) {
	rows, err := s.pool.Query(ctx, selectInvitesSQL, number(guild), number(channel))
	if err != nil {
		return nil, outage("read invites", err)
	}
	invites, err := pgx.CollectRows(rows, scanInvite)
	if err != nil {
		return nil, outage("read invites", err)
	}
	return invites, nil
}

const selectSimilarSQL = `
SELECT ` + inviteColumns + ` FROM invites
WHERE guild_id = $1 AND channel_id = $2 AND inviter_id = $3 AND max_age = 0 AND max_uses = 0 AND NOT temporary ORDER BY created_at LIMIT 1`

// similarInvite finds an invite without limits by the same inviter to the same channel.
func similarInvite(ctx context.Context, tx transaction, i inviteRow) (found inviteRow, ok bool, err error) {
	rows, err := tx.Query(ctx, selectSimilarSQL, number(i.guild), number(i.channel), number(i.inviter))
	if err != nil {
		return inviteRow{}, false, fmt.Errorf("look for a similar invite: %w", err)
	}
	found, err = pgx.CollectExactlyOneRow(rows, scanInvite)
	if errors.Is(err, pgx.ErrNoRows) {
		return inviteRow{}, false, nil
	}
	if err != nil {
		return inviteRow{}, false, fmt.Errorf("look for a similar invite: %w", err)
	}
	return found, true, nil
}

const (
	deleteDeadInvitesSQL = `DELETE FROM invites WHERE guild_id = $1 AND NOT (` + live + `)`
	countInvitesSQL      = `SELECT count(*) FROM invites WHERE guild_id = $1`
)

// countInvites clears away what cannot be used any more and counts the rest.
func countInvites(ctx context.Context, tx transaction, guild id.ID) (n int, err error) {
	if _, err := tx.Exec(ctx, deleteDeadInvitesSQL, number(guild)); err != nil {
		return 0, fmt.Errorf("clear invites: %w", err)
	}
	if err := tx.QueryRow(ctx, countInvitesSQL, number(guild)).Scan(&n); err != nil {
		return 0, fmt.Errorf("count invites: %w", err)
	}
	return n, nil
}

const insertInviteSQL = `
INSERT INTO invites (code, guild_id, channel_id, inviter_id, max_age, max_uses, created_at, expires_at, temporary)
VALUES ($1, $2, $3, $4, $5::int, $6, date_trunc('milliseconds', now()),
	CASE WHEN $5::int > 0 THEN date_trunc('milliseconds', now()) + make_interval(secs => $5::int) END, $7)
ON CONFLICT (code) DO NOTHING
RETURNING ` + inviteColumns

// insertInvite makes an invite; ok is false when the code is taken.
func insertInvite(ctx context.Context, tx transaction, i inviteRow) (made inviteRow, ok bool, err error) {
	rows, err := tx.Query(ctx, insertInviteSQL, i.code, number(i.guild), number(i.channel), number(i.inviter), i.maxAge, i.maxUses, i.temporary)
	if err != nil {
		return inviteRow{}, false, fmt.Errorf("insert an invite: %w", err)
	}
	made, err = pgx.CollectExactlyOneRow(rows, scanInvite)
	if errors.Is(err, pgx.ErrNoRows) {
		return inviteRow{}, false, nil
	}
	if err != nil {
		return inviteRow{}, false, fmt.Errorf("insert an invite: %w", err)
	}
	return made, true, nil
}

const useInviteSQL = `UPDATE invites SET uses = uses + 1 WHERE code = $1`

func useInvite(ctx context.Context, tx transaction, code string) error {
	if _, err := tx.Exec(ctx, useInviteSQL, code); err != nil {
		return fmt.Errorf("use an invite: %w", err)
	}
	return nil
}

const deleteInviteSQL = `DELETE FROM invites WHERE code = $1`

func deleteInvite(ctx context.Context, tx transaction, code string) error {
	if _, err := tx.Exec(ctx, deleteInviteSQL, code); err != nil {
		return fmt.Errorf("delete an invite: %w", err)
	}
	return nil
}
