package auth

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/wire"
)

const spendToken = `
update refresh_tokens set spent_at = now(), salt = $2, expires_at = least(expires_at, now() + make_interval(secs => $3))
where hash = $1`

// spendRefresh puts next in the place of spent.
func spendRefresh(ctx context.Context, tx transaction, session string, spent, salt, next []byte, ttl time.Duration) error {
	if _, err := tx.Exec(ctx, spendToken, spent, salt, spentKeep.Seconds()); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, insertRefresh, next, session, time.Now().Add(ttl))
	return err
}

const updateUse = `update sessions set last_used_at = now(), address = $2 where id = $1`

func useSession(ctx context.Context, tx transaction, session, address string) error {
	_, err := tx.Exec(ctx, updateUse, session, address)
	return err
}

const revokeSession = `update sessions set revoked_at = now() where id = $1 and "user" = $2 and revoked_at is null`

func endSession(ctx context.Context, tx transaction, user id.ID, session string) error {
	_, err := tx.Exec(ctx, revokeSession, session, int64(user))
	return err
}

const revokeOthers = `
update sessions set revoked_at = now() where "user" = $1 and id <> $2 and revoked_at is null returning id`

func endOtherSessions(ctx context.Context, tx transaction, user id.ID, keep string) ([]string, error) {
	rows, err := tx.Query(ctx, revokeOthers, int64(user), keep)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const revokeByHash = `
update sessions set revoked_at = now()
where "user" = $1 and revoked_at is null and sha256(convert_to(id, 'UTF8')) = any($2) returning id`

func endSessionsByHash(ctx context.Context, tx transaction, user id.ID, hashes [][]byte) ([]string, error) {
	rows, err := tx.Query(ctx, revokeByHash, int64(user), hashes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const selectSessions = `
select s.id, s.os, s.platform, s.address, s.last_used_at from sessions s
where s."user" = $1 and s.revoked_at is null
  and exists (select from refresh_tokens t where t.session = s.id and t.spent_at is null and t.expires_at > now())
order by s.last_used_at desc limit $2`

// sessions are those of a user that can go on, the latest first.
func (s store) sessions(ctx context.Context, user id.ID, limit int) ([]wire.UserSession, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectSessions, int64(user), limit)
	if err != nil {
		return nil, outage("read sessions", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (wire.UserSession, error) {
		var u wire.UserSession
		var session string
		err := row.Scan(&session, &u.ClientInfo.OS, &u.ClientInfo.Platform, &u.ClientInfo.Location, &u.LastUsed)
		u.IDHash = hashSession(session)
		return u, err
	})
	return list, outage("read sessions", err)
}

// selectUnannounced leaves out those whose access tokens have all expired by now.
const selectUnannounced = `
select id, "user" from sessions
where revoked_at is not null and not announced and revoked_at > now() - make_interval(secs => $1)
order by revoked_at limit $2`

func (s store) unannounced(ctx context.Context, limit int) ([]identity.Revoked, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectUnannounced, identity.RevokedKeep.Seconds(), limit)
	if err != nil {
		return nil, outage("read ended sessions", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (identity.Revoked, error) {
		var r identity.Revoked
		var user int64
		err := row.Scan(&r.Session, &user)
		r.User = id.ID(user)
		return r, err
	})
	return list, outage("read ended sessions", err)
}

const markAnnounced = `update sessions set announced = true where id = any($1)`

func (s store) announced(ctx context.Context, revoked []identity.Revoked) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	ids := make([]string, len(revoked))
	for i, r := range revoked {
		ids[i] = r.Session
	}
	_, err := s.pool.Exec(ctx, markAnnounced, ids)
	return outage("mark ended sessions", err)
}
