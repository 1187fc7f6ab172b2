package conf

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
)

const masked = "[secret]"

// Secret is a string that prints as "[secret]" however it is printed, logged or marshalled; an unset one prints as "".
// The exception is fmt on an unexported field, where fmt may not call methods: keep a Secret in exported fields.
type Secret string

// Reveal returns the value, for whoever must use it.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// Format prints the mask for every verb, also for those that would skip String, like %d.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) } // fmt.State does not fail

// MarshalText is the mask in JSON, XML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is the mask in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func isSecret(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t == reflect.TypeFor[Secret]()
}
