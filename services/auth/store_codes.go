package auth

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// owner is whom a code belongs to; null in the table when nobody yet.
func owner(user id.ID) *int64 {
	if user == 0 {
		return nil
	}
	n := int64(user)
	return &n
}

const (
	deleteCodes = `delete from one_time_codes where purpose = $1 and "user" is not distinct from $2`
	insertCode  = `
insert into one_time_codes (hash, purpose, "user", expires_at) values ($1, $2, $3, now() + make_interval(secs => $4))`
)

// replaceCode makes a code, and ends those that the user (0 is nobody) had for the same purpose.
func replaceCode(ctx context.Context, tx transaction, purpose codePurpose, user id.ID) (clear string, err error) {
	if _, err := tx.Exec(ctx, deleteCodes, string(purpose), owner(user)); err != nil {
		return "", err
	}
	return addCode(ctx, tx, purpose, user)
}

func addCode(ctx context.Context, tx transaction, purpose codePurpose, user id.ID) (clear string, err error) {
	clear = random(codeBytes)
	_, err = tx.Exec(ctx, insertCode, hashCode(clear), string(purpose), owner(user), purpose.ttl().Seconds())
	return clear, err
}

const selectCodeOwner = `
select coalesce("user", 0) from one_time_codes where hash = $1 and purpose = $2 and expires_at > now()`

// codeOwner says whose a code is, without using it up; ok is false when it is nobody's or too old.
func codeOwner(ctx context.Context, tx transaction, purpose codePurpose, clear string) (user id.ID, ok bool, err error) {
	var owner int64
	err = tx.QueryRow(ctx, selectCodeOwner, hashCode(clear), string(purpose)).Scan(&owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return id.ID(owner), err == nil, err
}

const deleteCode = `delete from one_time_codes where hash = $1 and purpose = $2 and expires_at > now()`

// useCode uses a code up; ok is false when somebody has done so already.
func useCode(ctx context.Context, tx transaction, purpose codePurpose, clear string) (ok bool, err error) {
	tag, err := tx.Exec(ctx, deleteCode, hashCode(clear), string(purpose))
	return tag.RowsAffected() == 1, err
}

const deleteCodesOfUser = `delete from one_time_codes where "user" = $1`

// dropCodes ends all codes of a user.
func dropCodes(ctx context.Context, tx transaction, user id.ID) error {
	_, err := tx.Exec(ctx, deleteCodesOfUser, int64(user))
	return err
}

const insertRegistrationInvite = `
insert into registration_invites (code, creator, max_uses, created_at, expires_at)
values ($1, $2, $3, date_trunc('milliseconds', now()),
	case when $4::int > 0 then date_trunc('milliseconds', now()) + make_interval(secs => $4::int) end)
returning code, creator, max_uses, uses, created_at, expires_at`

func addInvite(ctx context.Context, tx transaction, code string, creator id.ID, maxUses int, maxAge time.Duration) (wire.RegistrationInvite, error) {
	rows, err := tx.Query(ctx, insertRegistrationInvite, code, int64(creator), maxUses, int(maxAge.Seconds()))
	if err != nil {
		return wire.RegistrationInvite{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanInvite)
}

func scanInvite(row pgx.CollectableRow) (i wire.RegistrationInvite, err error) {
	err = row.Scan(&i.Code, &i.Creator, &i.MaxUses, &i.Uses, &i.CreatedAt, &i.ExpiresAt)
	return i, err
}

// liveInvite is what an invite must be to count.
const liveInvite = `(expires_at is null or expires_at > now()) and (max_uses = 0 or uses < max_uses)`

const (
	deleteDeadInvites = `delete from registration_invites where not (` + liveInvite + `)`
	countInviteRows   = `select count(*) from registration_invites`
)

// countInvites clears away what cannot be used any more and counts the rest.
func countInvites(ctx context.Context, tx transaction) (n int, err error) {
	if _, err := tx.Exec(ctx, deleteDeadInvites); err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, countInviteRows).Scan(&n)
	return n, err
}

const selectInvites = `
select code, creator, max_uses, uses, created_at, expires_at from registration_invites where ` + liveInvite + ` order by created_at, code`

func (s store) invites(ctx context.Context) ([]wire.RegistrationInvite, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectInvites)
	if err != nil {
		return nil, outage("read invites", err)
	}
	invites, err := pgx.CollectRows(rows, scanInvite)
	return invites, outage("read invites", err)
}

const selectInvite = `select exists (select from registration_invites where code = $1 and ` + liveInvite + `)`

// inviteLives is for the answer alone: useInvite decides.
func (s store) inviteLives(ctx context.Context, code string) (lives bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, selectInvite, code).Scan(&lives)
	return lives, outage("read an invite", err)
}

const countUse = `update registration_invites set uses = uses + 1 where code = $1 and ` + liveInvite

// useInvite counts a use; ok is false when there was none left.
func useInvite(ctx context.Context, tx transaction, code string) (ok bool, err error) {
	tag, err := tx.Exec(ctx, countUse, code)
	return tag.RowsAffected() == 1, err
}

const deleteInviteRow = `delete from registration_invites where code = $1`

func deleteInvite(ctx context.Context, tx transaction, code string) (ok bool, err error) {
	tag, err := tx.Exec(ctx, deleteInviteRow, code)
	return tag.RowsAffected() == 1, err
}

const (
	selectSetting = `select value from instance_settings where name = $1`
	upsertSetting = `insert into instance_settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value`
	deleteSetting = `delete from instance_settings where name = $1`
)

// setting is what an administrator has set; "" is nothing.
func (s store) setting(ctx context.Context, name string) (value string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, selectSetting, name).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return value, outage("read a setting", err)
}

// set keeps a setting; "" forgets it.
func set(ctx context.Context, tx transaction, name, value string) error {
	if value == "" {
		_, err := tx.Exec(ctx, deleteSetting, name)
		return err
	}
	_, err := tx.Exec(ctx, upsertSetting, name, value)
	return err
}

const (
	lockAdmins   = `select pg_advisory_xact_lock(hashtext('xcord.admins'))`
	selectAdmins = `select exists (select from users where admin)`
)

// hasAdmin says whether there is an administrator, and lets nobody offer or end a setup before the transaction ends.
func hasAdmin(ctx context.Context, tx transaction) (has bool, err error) {
	if _, err := tx.Exec(ctx, lockAdmins); err != nil {
		return false, err
	}
	err = tx.QueryRow(ctx, selectAdmins).Scan(&has)
	return has, err
}

// endSetup ends the setup link: there is an administrator now.
func endSetup(ctx context.Context, tx transaction) error {
	if _, err := tx.Exec(ctx, lockAdmins); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, deleteCodes, string(codeSetup), owner(0))
	return err
}

const (
	deleteOldCodes      = `delete from one_time_codes where expires_at < now()`
	deleteOldElevations = `delete from elevations where until < now()`
	deleteOldPlaces     = `delete from totp_places where proved_at < now() - make_interval(secs => $1)`
)

// sweepCodes deletes what has expired.
func (s store) sweepCodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := s.pool.Exec(ctx, deleteOldCodes); err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, deleteOldElevations); err != nil {
		return err
	}
	_, err := s.pool.Exec(ctx, deleteOldPlaces, placeKnown.Seconds())
	return err
}
