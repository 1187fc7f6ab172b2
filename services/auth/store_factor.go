package auth

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
)

const upsertTOTP = `
insert into totp ("user", secret) values ($1, $2)
on conflict ("user") do update set secret = excluded.secret where totp.confirmed_at is null`

// offerTOTP keeps a secret that is not confirmed yet; ok is false when one is that the user has confirmed.
func offerTOTP(ctx context.Context, tx transaction, user id.ID, sealed []byte) (ok bool, err error) {
	tag, err := tx.Exec(ctx, upsertTOTP, int64(user), sealed)
	return tag.RowsAffected() == 1, err
}

// factor is a row of totp, as it is to be judged at a place. The account's row must be locked.
type factor struct {
	sealed    []byte
	confirmed bool
	lastStep  int64

	place     string        // "": nobody's
	known     bool          // a code of this factor was right there, and not long ago
	failures  int           // at the place if it is known, else at all places that are not
	failedFor time.Duration // since the last of them
}

const (
	// placeKnown is how long a place is known after the last code that was right there; places, how many a user has.
	placeKnown = 30 * 24 * time.Hour
	places     = 20
)

const selectTOTP = `
select t.secret, t.confirmed_at is not null, t.last_step, p.place is not null, case when p.place is null then t.failures else p.failures end,
       coalesce(extract(epoch from now() - case when p.place is null then t.failed_at else p.failed_at end), 0)::float8
from totp t left join totp_places p on p."user" = t."user" and p.place = $2 and p.proved_at > now() - make_interval(secs => $3)
where t."user" = $1`

// factorOf finds a user's second factor; ok is false when there is none, not even an offer.
func factorOf(ctx context.Context, tx transaction, user id.ID, place string) (f factor, ok bool, err error) {
	var seconds float64
	f.place = place
	err = tx.QueryRow(ctx, selectTOTP, int64(user), place, placeKnown.Seconds()).
		Scan(&f.sealed, &f.confirmed, &f.lastStep, &f.known, &f.failures, &seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return factor{}, false, nil
	}
	f.failedFor = time.Duration(seconds * float64(time.Second))
	return f, err == nil, err
}

const (
	confirmStep = `
update totp set confirmed_at = coalesce(confirmed_at, now()), last_step = greatest(last_step, $2),
       failures = case when $3 then failures else 0 end, failed_at = case when $3 then failed_at end
where "user" = $1`
	upsertPlace = `
insert into totp_places ("user", place, proved_at) values ($1, $2, now())
on conflict ("user", place) do update set proved_at = now(), failures = 0, failed_at = null`
	deleteMorePlaces = `
delete from totp_places where "user" = $1 and place not in (select place from totp_places where "user" = $1 order by proved_at desc limit $2)`
)

// passed notes the step of a code that was right, 0 for a recovery code, and where that was. What was wrong at other places than a known one
// stays counted: it was somebody else.
func passed(ctx context.Context, tx transaction, user id.ID, f factor, step int64) error {
	if _, err := tx.Exec(ctx, confirmStep, int64(user), step, f.known); err != nil || f.place == "" {
		return err
	}
	if _, err := tx.Exec(ctx, upsertPlace, int64(user), f.place); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, deleteMorePlaces, int64(user), places)
	return err
}

const (
	countFailure   = `update totp set failures = failures + 1, failed_at = now() where "user" = $1`
	countFailureAt = `update totp_places set failures = failures + 1, failed_at = now() where "user" = $1 and place = $2`
)

func failed(ctx context.Context, tx transaction, user id.ID, f factor) (err error) {
	if f.known {
		_, err = tx.Exec(ctx, countFailureAt, int64(user), f.place)
	} else {
		_, err = tx.Exec(ctx, countFailure, int64(user))
	}
	return err
}

const deleteRecovery = `delete from recovery_codes where "user" = $1 and hash = $2`

// useRecovery uses a recovery code up; ok is false when it is none.
func useRecovery(ctx context.Context, tx transaction, user id.ID, hash []byte) (ok bool, err error) {
	tag, err := tx.Exec(ctx, deleteRecovery, int64(user), hash)
	return tag.RowsAffected() == 1, err
}

const insertRecovery = `insert into recovery_codes ("user", hash) select $1, unnest($2::bytea[])`

func addRecovery(ctx context.Context, tx transaction, user id.ID, hashes [][]byte) error {
	_, err := tx.Exec(ctx, insertRecovery, int64(user), hashes)
	return err
}

const (
	deleteTOTP        = `delete from totp where "user" = $1`
	deleteAllRecovery = `delete from recovery_codes where "user" = $1`
	deleteAllPlaces   = `delete from totp_places where "user" = $1`
)

// dropFactor takes the second factor away, with its recovery codes and what is known of its places.
func dropFactor(ctx context.Context, tx transaction, user id.ID) error {
	for _, q := range []string{deleteAllRecovery, deleteAllPlaces, deleteTOTP} {
		if _, err := tx.Exec(ctx, q, int64(user)); err != nil {
			return err
		}
	}
	return nil
}

const upsertElevation = `
insert into elevations (session, "user", until) values ($1, $2, now() + make_interval(secs => $3))
on conflict (session) do update set until = excluded.until`

func elevate(ctx context.Context, tx transaction, session string, user id.ID, ttl time.Duration) error {
	_, err := tx.Exec(ctx, upsertElevation, session, int64(user), ttl.Seconds())
	return err
}

const deleteElevations = `delete from elevations where "user" = $1`

// lower ends the elevations of a user's sessions.
func lower(ctx context.Context, tx transaction, user id.ID) error {
	_, err := tx.Exec(ctx, deleteElevations, int64(user))
	return err
}

const selectRank = `
select u.admin and u.disabled_at is null,
       exists (select from elevations e join sessions s on s.id = e.session
               where e.session = $2 and e."user" = u.id and e.until > now() and s.revoked_at is null)
from users u where u.id = $1`

// rank says whether a user is an administrator, and whether a session of theirs is elevated. One that has ended is not, also where that
// was not heard of.
func (s store) rank(ctx context.Context, user id.ID, session string) (admin, elevated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, selectRank, int64(user), session).Scan(&admin, &elevated)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	return admin, elevated, outage("read a rank", err)
}
