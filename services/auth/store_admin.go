package auth

import (
	"context"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

const (
	selectUsersLike = selectAccount + `
where u.id > $1 and ($2 = '' or u.username_key like $2 or u.email_key like $2 or lower(u.global_name) like $2)
order by u.id limit $3`
	likeSpecial = `\%_`
)

// users is a page of accounts by rising id behind after, whose names contain text.
func (s store) users(ctx context.Context, text string, after id.ID, limit int) ([]account, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	pattern := ""
	if text != "" {
		var b strings.Builder
		for _, r := range fold(text) {
			if strings.ContainsRune(likeSpecial, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		pattern = "%" + b.String() + "%"
	}
	rows, err := s.pool.Query(ctx, selectUsersLike, int64(min(after, math.MaxInt64)), pattern, limit)
	if err != nil {
		return nil, outage("read users", err)
	}
	users, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (account, error) { return scanAccount(row) })
	return users, outage("read users", err)
}

const selectAudit = `
select id, at, actor, action, target, address, details from audit
where ($1::bigint = 0 or id < $1) and ($2::bigint = 0 or actor = $2) and ($3::bigint = 0 or target = $3)
order by id desc limit $4`

// auditLines is a page of the audit log, newest first.
func (s store) auditLines(ctx context.Context, in wire.ListAudit, limit int) ([]wire.AuditLine, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectAudit, int64(in.Before), int64(in.Actor), int64(in.Target), limit)
	if err != nil {
		return nil, outage("read the audit log", err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l wire.AuditLine, err error) {
		err = row.Scan(&l.ID, &l.At, &l.Actor, &l.Action, &l.Target, &l.Address, &l.Details)
		return l, err
	})
	return lines, outage("read the audit log", err)
}
