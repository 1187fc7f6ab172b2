package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
)

// storeTimeout bounds a transaction, the wait for a connection included.
const storeTimeout = 3 * time.Second

// Pool is where the tables are; the name keeps pgx inside this file.
type Pool = pgxpool.Pool

// transaction is what a change happens in. Functions that take one are steps of it.
type transaction = pgx.Tx

// store is the service's tables.
type store struct{ pool *Pool }

// outage makes a 503 of what is not the statement's own fault. Faults pass.
func outage(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Fault](err); ok {
		return err
	}
	err = fmt.Errorf("%s: %w", doing, err)
	if postgres.IsData(err) {
		return err
	}
	return fault.Unavailable(err, 0)
}

// change runs a transaction.
func (s store) change(ctx context.Context, do func(context.Context, transaction) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return outage("change accounts", pgx.BeginFunc(ctx, s.pool, func(tx transaction) error { return do(ctx, tx) }))
}

const selectAccount = `
select u.id, u.version, u.bot, u.username, u.global_name, u.email, u.avatar, u.bio, u.flags, coalesce(u.password, ''),
       coalesce(a.token_hash, ''), u.admin, u.disabled_at is not null,
       exists (select from totp where totp."user" = u.id and totp.confirmed_at is not null)
from users u left join applications a on a.id = u.id `

func scanAccount(row pgx.Row) (account, error) {
	var a account
	err := row.Scan(&a.ID, &a.Version, &a.Bot, &a.Username, &a.GlobalName, &a.Email, &a.Avatar, &a.Bio, &a.Flags, &a.Password,
		&a.BotHash, &a.Admin, &a.Disabled, &a.MFA)
	if errors.Is(err, pgx.ErrNoRows) {
		return account{}, fault.New(fault.UnknownUser)
	}
	return a, err
}

const selectAccountByID = selectAccount + `where u.id = $1`

// account returns 10013 for an id that is nobody's.
func (s store) account(ctx context.Context, user id.ID) (account, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	a, err := scanAccount(s.pool.QueryRow(ctx, selectAccountByID, int64(user)))
	return a, outage("read an account", err)
}

const (
	selectAccountByUsername = selectAccount + `where u.username_key = $1 and not u.bot`
	selectAccountByEmail    = selectAccount + `where u.email_key = $1 and not u.bot`
)

// accountByLogin finds a person by username or email; no username has an @.
func (s store) accountByLogin(ctx context.Context, login string) (account, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	query := selectAccountByUsername
	if strings.Contains(login, "@") {
		query = selectAccountByEmail
	}
	a, err := scanAccount(s.pool.QueryRow(ctx, query, fold(strings.TrimSpace(login))))
	return a, outage("read an account by login", err)
}

const selectTaken = `
select exists (select from users where username_key = $1), exists (select from users where email_key = $2)`

// free returns errUsername or errEmail or both if a's names are taken. It is for the answer alone: the constraints decide.
func (s store) free(ctx context.Context, a account) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var username, email bool
	if err := s.pool.QueryRow(ctx, selectTaken, fold(a.Username), a.emailKey()).Scan(&username, &email); err != nil {
		return outage("look for a username", err)
	}
	var errs []error
	if username {
		errs = append(errs, errUsername)
	}
	if email {
		errs = append(errs, errEmail)
	}
	return errors.Join(errs...)
}

func (a account) emailKey() *string {
	if a.Email == nil {
		return nil
	}
	key := fold(*a.Email)
	return &key
}

// lockUser must be a statement of its own, as lockFamily: a bot's token and a second factor stand in other tables, and who waited for the
// lock has to see what was done there meanwhile.
const lockUser = `select 1 from users where id = $1 for update`

func lockAccount(ctx context.Context, tx transaction, user id.ID) (account, error) {
	if _, err := tx.Exec(ctx, lockUser, int64(user)); err != nil {
		return account{}, err
	}
	return scanAccount(tx.QueryRow(ctx, selectAccountByID, int64(user)))
}

const insertUser = `
insert into users (id, version, bot, username, username_key, global_name, email, email_key, flags, password, admin)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, nullif($10, ''), $11)`

func (a account) row() []any {
	return []any{int64(a.ID), a.Version, a.Bot, a.Username, fold(a.Username), a.GlobalName, a.Email, a.emailKey(), a.Flags, a.Password,
		a.Admin}
}

func insertAccount(ctx context.Context, tx transaction, a account) error {
	_, err := tx.Exec(ctx, insertUser, a.row()...)
	return err
}

const insertUserIfFree = insertUser + ` on conflict (username_key) do nothing`

// insertAccountIfFree says whether the name was free; the transaction can go on if it was not.
func insertAccountIfFree(ctx context.Context, tx transaction, a account) (bool, error) {
	tag, err := tx.Exec(ctx, insertUserIfFree, a.row()...)
	return tag.RowsAffected() == 1, err
}

const updateUser = `
update users set version = $2, username = $3, username_key = $4, global_name = $5, email = $6, email_key = $7, avatar = $8, bio = $9,
                 flags = $10, password = nullif($11, ''), admin = $12,
                 disabled_at = case when $13 then coalesce(disabled_at, now()) end
where id = $1`

func updateAccount(ctx context.Context, tx transaction, a account) error {
	_, err := tx.Exec(ctx, updateUser, int64(a.ID), a.Version, a.Username, fold(a.Username), a.GlobalName, a.Email, a.emailKey(),
		a.Avatar, a.Bio, a.Flags, a.Password, a.Admin, a.Disabled)
	return err
}

const deleteUser = `delete from users where id = $1`

// deleteAccount takes along all that hangs on it: sessions, codes, the second factor, the picture; and of a bot the application.
func deleteAccount(ctx context.Context, tx transaction, user id.ID) error {
	_, err := tx.Exec(ctx, deleteUser, int64(user))
	return err
}

const updatePassword = `update users set password = $3 where id = $1 and password = $2`

// rehash replaces a hash unless the password has been changed meanwhile.
func (s store) rehash(ctx context.Context, user id.ID, old, next string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, updatePassword, int64(user), old, next)
	return outage("rehash", err)
}

const (
	insertSessionRow = `insert into sessions (id, "user", user_agent, os, platform, address) values ($1, $2, $3, $4, $5, $6)`
	insertRefresh    = `insert into refresh_tokens (hash, session, expires_at) values ($1, $2, $3)`
)

func insertSession(ctx context.Context, tx transaction, n newSession) error {
	if _, err := tx.Exec(ctx, insertSessionRow, n.id, int64(n.user), n.userAgent, n.device.os, n.device.platform, n.address); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, insertRefresh, hashRefresh(n.refresh), n.id, n.expires)
	return err
}

// refreshRow is a refresh token of a session that is not revoked.
type refreshRow struct {
	session  string
	user     id.ID
	spent    bool
	spentFor time.Duration
	salt     []byte
}

// lockFamily must be a statement of its own: what a statement waited for with FOR UPDATE it sees anew, what it joined to it
// it does not.
const (
	lockFamily = `
select s.id, s."user" from sessions s
where s.id = (select session from refresh_tokens where hash = $1) and s.revoked_at is null
for update`
	selectRefresh = `
select spent_at is not null, coalesce(extract(epoch from now() - spent_at), 0)::float8, salt
from refresh_tokens where hash = $1 and expires_at > now()`
)

func lockRefresh(ctx context.Context, tx transaction, hash []byte) (refreshRow, bool, error) {
	var t refreshRow
	err := tx.QueryRow(ctx, lockFamily, hash).Scan(&t.session, &t.user)
	if err == nil {
		var seconds float64
		err = tx.QueryRow(ctx, selectRefresh, hash).Scan(&t.spent, &seconds, &t.salt)
		t.spentFor = time.Duration(seconds * float64(time.Second))
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return refreshRow{}, false, nil
	}
	return t, err == nil, err
}

const selectLive = `select exists (select from refresh_tokens where hash = $1 and spent_at is null and expires_at > now())`

func isLive(ctx context.Context, tx transaction, hash []byte) (live bool, err error) {
	err = tx.QueryRow(ctx, selectLive, hash).Scan(&live)
	return live, err
}

const (
	deleteTokens   = `delete from refresh_tokens where hash in (select hash from refresh_tokens where expires_at < now() limit 5000)`
	deleteSessions = `
delete from sessions where id in (
	select s.id from sessions s
	where s.revoked_at < now() - make_interval(secs => $1)
	   or not exists (select from refresh_tokens t where t.session = s.id)
	limit 1000)`
)

// sweep deletes what has expired. A revoked session stays for as long as the theft of its tokens is told from a mistake.
func (s store) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := s.pool.Exec(ctx, deleteTokens)
	if err == nil {
		_, err = s.pool.Exec(ctx, deleteSessions, spentKeep.Seconds())
	}
	if err != nil && ctx.Err() == nil {
		slog.Warn("dead sessions were not swept", "err", err)
	}
}

const countOwned = `select count(*) from applications where owner = $1`

func countApplications(ctx context.Context, tx transaction, owner id.ID) (n int, err error) {
	err = tx.QueryRow(ctx, countOwned, int64(owner)).Scan(&n)
	return n, err
}

const insertApplicationRow = `insert into applications (id, owner, name, verify_key) values ($1, $2, $3, $4)`

func insertApplication(ctx context.Context, tx transaction, a application) error {
	_, err := tx.Exec(ctx, insertApplicationRow, int64(a.bot.ID), int64(a.owner.ID), a.name, a.verifyKey)
	return err
}

const selectOwner = `select owner from applications where id = $1`

func applicationOwner(ctx context.Context, tx transaction, bot id.ID) (id.ID, error) {
	var owner int64
	err := tx.QueryRow(ctx, selectOwner, int64(bot)).Scan(&owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fault.NotFound()
	}
	return id.ID(owner), err
}

const updateTokenHash = `update applications set token_hash = $2 where id = $1`

func updateBotHash(ctx context.Context, tx transaction, bot id.ID, hash string) error {
	_, err := tx.Exec(ctx, updateTokenHash, int64(bot), hash)
	return err
}

const selectApplications = `
select a.name, a.verify_key,
       b.id, b.username, b.global_name, b.avatar, b.flags,
       o.id, o.username, o.global_name, o.avatar, o.flags
from applications a join users b on b.id = a.id join users o on o.id = a.owner `

func scanApplication(row pgx.CollectableRow) (application, error) {
	a := application{bot: account{Bot: true}}
	err := row.Scan(&a.name, &a.verifyKey,
		&a.bot.ID, &a.bot.Username, &a.bot.GlobalName, &a.bot.Avatar, &a.bot.Flags,
		&a.owner.ID, &a.owner.Username, &a.owner.GlobalName, &a.owner.Avatar, &a.owner.Flags)
	return a, err
}

const selectApplicationsByOwner = selectApplications + `where a.owner = $1 order by a.id`

func (s store) applications(ctx context.Context, owner id.ID) ([]application, error) {
	return s.findApplications(ctx, selectApplicationsByOwner, owner)
}

const selectApplicationByID = selectApplications + `where a.id = $1`

func (s store) application(ctx context.Context, bot id.ID) (application, error) {
	apps, err := s.findApplications(ctx, selectApplicationByID, bot)
	if err == nil && len(apps) == 0 {
		err = fault.NotFound()
	}
	if err != nil {
		return application{}, err
	}
	return apps[0], nil
}

func (s store) findApplications(ctx context.Context, query string, key id.ID) ([]application, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, query, int64(key))
	if err != nil {
		return nil, outage("read applications", err)
	}
	apps, err := pgx.CollectRows(rows, scanApplication)
	return apps, outage("read applications", err)
}
