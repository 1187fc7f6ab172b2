package guilds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
)

const setGuestSQL = `UPDATE members SET guest = true WHERE guild_id = $1 AND user_id = $2`

// setGuest makes a guest of a member. With the first role that is over: see saveMember.
func setGuest(ctx context.Context, tx transaction, g guest) error {
	if _, err := tx.Exec(ctx, setGuestSQL, number(g.guild), number(g.user)); err != nil {
		return fmt.Errorf("make a guest of %s: %w", g.user, err)
	}
	return nil
}

const isGuestSQL = `SELECT guest FROM members WHERE guild_id = $1 AND user_id = $2`

func isGuest(ctx context.Context, tx transaction, g guest) (is bool, err error) {
	err = tx.QueryRow(ctx, isGuestSQL, number(g.guild), number(g.user)).Scan(&is)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("look at member %s: %w", g.user, err)
	}
	return is, nil
}

const selectGuestsSQL = `
SELECT guild_id, user_id FROM members
WHERE guest AND (guild_id, user_id) > ($1, $2) AND joined_at < now() - make_interval(secs => $3) ORDER BY guild_id, user_id LIMIT $4`

// guests is a page of all guests who joined longer ago than grace, behind after.
func (s store) guests(ctx context.Context, after guest, grace time.Duration, limit int) ([]guest, error) {
	rows, err := s.pool.Query(ctx, selectGuestsSQL, number(after.guild), number(after.user), grace.Seconds(), limit)
	if err != nil {
		return nil, outage("read guests", err)
	}
	guests, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (guest, error) {
		var guild, user int64
		err := row.Scan(&guild, &user)
		return guest{id.ID(guild), id.ID(user)}, err
	})
	if err != nil {
		return nil, outage("read guests", err)
	}
	return guests, nil
}
