package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// uniqueViolation is the SQLSTATE of a second row with one key.
const uniqueViolation = "23505"

// IsData says that the statement itself is at fault and would fail again: SQLSTATE classes 22 (data exception), 23
// (constraint), 42 (unknown names, types, rights) and 54 (too large). Everything else, from a lost connection to a full
// disk, is an outage: the same statement may succeed later.
func IsData(err error) bool {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) || len(failure.Code) != 5 {
		return false
	}
	switch failure.Code[:2] {
	case "22", "23", "42", "54":
		return true
	}
	return false
}

// IsUnique says that the row would be the second one under the named unique constraint or index; "" is any.
func IsUnique(err error, constraint string) bool {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) || failure.Code != uniqueViolation {
		return false
	}
	return constraint == "" || failure.ConstraintName == constraint
}
