package wire

import (
	"bytes"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/id"
)

// List is a slice that is never null in JSON: clients iterate over what the contract calls
// an array without looking.
type List[T any] []T

// MarshalJSON writes [] for nil.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if len(l) == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// Null is the value of a key that the contract requires and that XCord has nothing for. It
// is always null, and takes no room.
type Null struct{}

// MarshalJSON writes null.
func (Null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON takes anything: an entry may be older or newer than this program.
func (*Null) UnmarshalJSON([]byte) error { return nil }

// Optional is a field of a PATCH body in which absent (leave it), null (clear it) and a
// value (set it) are three things. Where null means no more than absent, a pointer is used.
// For marshalling the field wants the option omitzero.
type Optional[T any] struct {
	Set   bool // the key was there
	Null  bool // and its value was null
	Value T
}

// Some is an Optional with a value.
func Some[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: v} }

// Clear is an Optional that is null.
func Clear[T any]() Optional[T] { return Optional[T]{Set: true, Null: true} }

// IsZero reports whether the key was absent; encoding/json's omitzero asks it.
func (o Optional[T]) IsZero() bool { return !o.Set }

// Ptr is the value, or nil if it is absent or null.
func (o Optional[T]) Ptr() *T {
	if !o.Set || o.Null {
		return nil
	}
	return &o.Value
}

// MarshalJSON writes the value or null.
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if !o.Set || o.Null {
		return []byte("null"), nil
	}
	return json.Marshal(o.Value)
}

// UnmarshalJSON is called only if the key is there.
func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	*o = Optional[T]{Set: true}
	if string(b) == "null" {
		o.Null = true
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// Time is a moment in Unix milliseconds, written the way the API writes times. 0 is none,
// and null in JSON.
type Time uint64

// At is the Time of t.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixMilli())
}

// Time is the moment in UTC; none is the zero time.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// MarshalJSON writes "2024-01-01T00:00:00.123000+00:00", or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	b := append(make([]byte, 0, 34), '"')
	return append(id.AppendTimestamp(b, uint64(t)), '"'), nil
}

// UnmarshalJSON reads any ISO-8601 time with an offset.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = 0
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, strings.Trim(string(b), `"`))
	if err != nil || at.Before(time.UnixMilli(1)) {
		return &json.UnmarshalTypeError{Value: "time", Type: reflect.TypeFor[Time]()}
	}
	*t = At(at)
	return nil
}

// Scan reads a timestamptz column; NULL is none.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = 0
	case time.Time:
		*t = At(v)
	default:
		return fmt.Errorf("a time cannot be read from %T", src)
	}
	return nil
}

// Value is the time for a timestamptz column; none is NULL.
func (t Time) Value() (driver.Value, error) {
	if t == 0 {
		return nil, nil
	}
	return t.Time(), nil
}

// Nonce is what a client sends along with a message to know it again: a string of at most 25
// characters or an integer. It holds the JSON text, so that it is echoed as it came; "" is none.
type Nonce string

// MarshalJSON writes the nonce as it came.
func (n Nonce) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("null"), nil
	}
	return []byte(n), nil
}

// UnmarshalJSON reads a string or a 64-bit integer; null is none.
func (n *Nonce) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = ""
		return nil
	}
	if b[0] == '"' {
		// Decoded and encoded again: two spellings of one string are one nonce.
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		c, err := json.Marshal(s)
		if err != nil {
			return err
		}
		*n = Nonce(c)
		return nil
	}
	if _, err := strconv.ParseInt(string(b), 10, 64); err != nil {
		return &json.UnmarshalTypeError{Value: "nonce", Type: reflect.TypeFor[Nonce]()}
	}
	*n = Nonce(bytes.Clone(b))
	return nil
}

// Text is the nonce without its JSON quotes.
func (n Nonce) Text() string {
	if n == "" || n[0] != '"' {
		return string(n)
	}
	var s string
	if err := json.Unmarshal([]byte(n), &s); err != nil {
		return string(n)
	}
	return s
}
