package guilds

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

const upsertMemberSQL = `
INSERT INTO members (guild_id, user_id, nick, roles, joined_at, timed_out_until) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (guild_id, user_id) DO UPDATE SET nick = EXCLUDED.nick, roles = EXCLUDED.roles, timed_out_until = EXCLUDED.timed_out_until,
	guest = members.guest AND cardinality(EXCLUDED.roles) = 0`

// saveMember writes a member as they are to be, new or not. A guest with a role is one no more.
func saveMember(ctx context.Context, tx transaction, guild id.ID, m *wire.MemberRecord) error {
	_, err := tx.Exec(ctx, upsertMemberSQL, number(guild), number(m.UserID), m.Nick, numbers(m.Roles), m.JoinedAt.Time(),
		m.CommunicationDisabledUntil)
	if err != nil {
		return fmt.Errorf("save member %s: %w", m.UserID, err)
	}
	return nil
}

const deleteMemberSQL = `DELETE FROM members WHERE guild_id = $1 AND user_id = $2`

func deleteMember(ctx context.Context, tx transaction, guild, user id.ID) error {
	if _, err := tx.Exec(ctx, deleteMemberSQL, number(guild), number(user)); err != nil {
		return fmt.Errorf("delete member %s: %w", user, err)
	}
	return nil
}

const countGuildsSQL = `SELECT count(*) FROM members WHERE user_id = $1`

// countGuilds is in how many guilds a user is; lockUser holds it still.
func countGuilds(ctx context.Context, tx transaction, user id.ID) (n int, err error) {
	if err := tx.QueryRow(ctx, countGuildsSQL, number(user)).Scan(&n); err != nil {
		return 0, fmt.Errorf("count guilds of user %s: %w", user, err)
	}
	return n, nil
}

const selectGuildsOfSQL = `SELECT guild_id FROM members WHERE user_id = $1 ORDER BY guild_id`

// guildsOf are the guilds that a user is in.
func (s store) guildsOf(ctx context.Context, user id.ID) ([]id.ID, error) {
	return s.ids(ctx, "read the guilds of a user", selectGuildsOfSQL, number(user))
}

const selectMemberUsersSQL = `
SELECT user_id FROM (
    (SELECT DISTINCT user_id FROM members WHERE user_id > $1 ORDER BY user_id LIMIT $2)
    UNION
    (SELECT DISTINCT u FROM directs, unnest(recipients) AS u WHERE pair IS NULL AND u > $1 ORDER BY u LIMIT $2)
) AS users (user_id) ORDER BY user_id LIMIT $2`

// memberUsers is a page of all who are in any guild or group, by rising id, behind after.
func (s store) memberUsers(ctx context.Context, after id.ID, limit int) ([]id.ID, error) {
	return s.ids(ctx, "read members", selectMemberUsersSQL, number(after), limit)
}

const selectUsersOfSQL = `SELECT user_id FROM members WHERE guild_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3`

// usersOf is a page of who is in a guild, by rising id, behind after.
func (s store) usersOf(ctx context.Context, guild, after id.ID, limit int) ([]id.ID, error) {
	return s.ids(ctx, "read members", selectUsersOfSQL, number(guild), number(after), limit)
}

// ids reads a column of ids.
func (s store) ids(ctx context.Context, what, query string, args ...any) ([]id.ID, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, outage(what, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, outage(what, err)
	}
	return idsOf(found), nil
}

const selectMembersSQL = `
SELECT user_id, nick, roles, joined_at, timed_out_until FROM members WHERE guild_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3`

// members is a page of a guild's members, by rising id, behind after.
func (s store) members(ctx context.Context, guild, after id.ID, limit int) ([]wire.MemberRecord, error) {
	rows, err := s.pool.Query(ctx, selectMembersSQL, number(guild), number(after), limit)
	if err != nil {
		return nil, outage("read members", err)
	}
	members, err := pgx.CollectRows(rows, scanMember)
	if err != nil {
		return nil, outage("read members", err)
	}
	return members, nil
}

func scanMember(row pgx.CollectableRow) (m wire.MemberRecord, err error) {
	var user int64
	var roles []int64
	var joined time.Time
	err = row.Scan(&user, &m.Nick, &roles, &joined, &m.CommunicationDisabledUntil)
	m.UserID, m.Roles, m.JoinedAt = id.ID(user), idsOf(roles), wire.At(joined)
	return m, err
}
