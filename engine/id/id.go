// Package id holds snowflakes: 64-bit ids that sort by time and travel as JSON strings.
//
// It does not hand out sequences: message ids come from log entries (engine/bus), all
// others from a Postgres sequence (engine/postgres). It only knows how both are laid out.
package id

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// EpochMs is 2015-01-01T00:00:00Z. Client libraries have it built in: they derive the
// age of a thing and its rate-limit route from its id.
const EpochMs = 1420070400000

// The layout: 42 bits of milliseconds since EpochMs, then 22 bits. In an id made of a log
// entry these are 10 bits of log shard and 12 bits of the entry's sequence; in any other
// they are the low bits of the Postgres sequence.
const (
	timeShift  = 22
	shardShift = 12
	shardMax   = 1 << 10
	seqMax     = 1 << shardShift
	tailMask   = 1<<timeShift - 1
	msMax      = 1<<(64-timeShift) - 1
)

// digitsMax is the length of the largest uint64 in decimal.
const digitsMax = 20

// ID is a snowflake; 0 means none. In JSON it is a string of digits, and none is null.
type ID uint64

// errSyntax says what an id must look like; Parse wraps nothing else.
var errSyntax = errors.New("an id is 1 to 20 decimal digits below 2^64")

// Parse reads 1 to 20 decimal digits. Signs, spaces and anything beyond 64 bits are refused.
func Parse(s string) (ID, error) {
	if len(s) == 0 || len(s) > digitsMax {
		return 0, errSyntax
	}
	// ParseUint takes no sign and, with an explicit base, no underscores.
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errSyntax
	}
	return ID(n), nil
}

// FromEntry makes the id of the log entry ms-seq of a shard. The publish function keeps seq
// below 4096 and there are at most 1024 shards, so anything else is a broken invariant.
func FromEntry(ms, seq uint64, shard int) ID {
	if shard < 0 || shard >= shardMax || seq >= seqMax {
		panic(fmt.Sprintf("BUG: id.FromEntry(%d, %d, %d): shard or sequence out of range", ms, seq, shard))
	}
	return ID(sinceEpoch(ms)<<timeShift | uint64(shard)<<shardShift | seq)
}

// FromSequence makes an id of a time and the low 22 bits of a sequence number: unique as
// long as fewer than four million numbers are taken within one millisecond.
func FromSequence(ms uint64, seq int64) ID {
	return ID(sinceEpoch(ms)<<timeShift | uint64(seq)&tailMask)
}

func sinceEpoch(ms uint64) uint64 {
	if ms < EpochMs || ms-EpochMs > msMax {
		panic(fmt.Sprintf("BUG: id: time %d ms is outside 2015..2154", ms))
	}
	return ms - EpochMs
}

// Ms is the time in the id, in Unix milliseconds.
func (i ID) Ms() uint64 { return uint64(i)>>timeShift + EpochMs }

// Time is the time in the id, in UTC.
func (i ID) Time() time.Time { return time.UnixMilli(int64(i.Ms())).UTC() }

// EntrySeq takes apart the low bits of an id that was made by FromEntry.
func (i ID) EntrySeq() (seq uint64, shard int) {
	return uint64(i) & (seqMax - 1), int(uint64(i)>>shardShift) & (shardMax - 1)
}

// String is the id in decimal.
func (i ID) String() string { return strconv.FormatUint(uint64(i), 10) }

// Append appends the id in decimal, without quotes.
func (i ID) Append(dst []byte) []byte { return strconv.AppendUint(dst, uint64(i), 10) }

// AppendJSON appends the id as JSON: quoted digits, or null for none.
func (i ID) AppendJSON(dst []byte) []byte {
	if i == 0 {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = i.Append(dst)
	return append(dst, '"')
}

// MarshalJSON writes quoted digits, or null for none.
func (i ID) MarshalJSON() ([]byte, error) {
	return i.AppendJSON(make([]byte, 0, digitsMax+2)), nil
}

// UnmarshalJSON reads quoted digits, a bare number of digits, or null as none. The error is
// a *json.UnmarshalTypeError, so that the decoder adds the path of the field to it.
func (i *ID) UnmarshalJSON(b []byte) error {
	s := string(b)
	if s == "null" {
		*i = 0
		return nil
	}
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	v, err := Parse(s)
	if err != nil {
		return &json.UnmarshalTypeError{Value: "id", Type: reflect.TypeFor[ID]()}
	}
	*i = v
	return nil
}

// Scan reads a bigint column; NULL is none.
func (i *ID) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*i = 0
	case int64:
		*i = ID(v)
	default:
		return fmt.Errorf("an id cannot be read from %T", src)
	}
	return nil
}

// Value is the id as a bigint; none is NULL. Ids stay below 2^63 until the year 2084.
func (i ID) Value() (driver.Value, error) {
	if i == 0 {
		return nil, nil
	}
	if int64(i) < 0 {
		return nil, fmt.Errorf("id %d does not fit a bigint", uint64(i))
	}
	return int64(i), nil
}

// Timestamp formats Unix milliseconds the way every time stands in the API.
func Timestamp(ms uint64) string { return string(AppendTimestamp(nil, ms)) }

// AppendTimestamp appends "2024-01-01T00:00:00.123000+00:00": microseconds and a numeric
// offset, because that is what client libraries were written against.
func AppendTimestamp(dst []byte, ms uint64) []byte {
	return time.UnixMilli(int64(ms)).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000-07:00")
}
