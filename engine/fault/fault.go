// Package fault is the one typed error of the house: what a client may know (status, code, message, fields) around a
// cause that it may not. It does not write responses (rest and session do) and it does not log.
//
// An error that is not a Fault is internal: its text never reaches a client.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// retryAfterDefault is what a client is told with a 503 when nobody knows better: breakers probe once a second.
const retryAfterDefault = time.Second

// Fault is an error that a client can tell from another one. Make one with New, Wrap or one of the functions below;
// a Fault is not changed after it has been returned.
type Fault struct {
	Status     int
	Code       Code
	Message    string
	Fields     []Field       // only with InvalidForm
	RetryAfter time.Duration // 0: the client is not told
	Global     bool          // of a 429: it is not of one route alone
	cause      error
}

// Field is one mistake in a request body. Path is "content" or "embeds.0.title"; Code is one of the constants below.
type Field struct {
	Path    string
	Code    string
	Message string
}

// The field codes that more than one package needs.
const (
	FieldRequired  = "BASE_TYPE_REQUIRED"
	FieldLength    = "BASE_TYPE_BAD_LENGTH"
	FieldMaxLength = "BASE_TYPE_MAX_LENGTH"
	FieldChoices   = "BASE_TYPE_CHOICES"
	FieldCoerce    = "NUMBER_TYPE_COERCE"
	FieldMax       = "NUMBER_TYPE_MAX"
	FieldMin       = "NUMBER_TYPE_MIN"
	FieldRegex     = "STRING_TYPE_REGEX"
)

// New returns the fault of a code, with its status and message from the table. A code that is not in the table is a
// programming mistake.
func New(c Code) *Fault { return Wrap(c, nil) }

// Wrap is New with a cause, for the log only.
func Wrap(c Code, cause error) *Fault {
	p, ok := publics[c]
	if !ok {
		panic(fmt.Sprintf("BUG: fault code %d is not in the table", int(c)))
	}
	f := &Fault{Status: p.status, Code: c, Message: p.message, cause: cause}
	if p.status == http.StatusServiceUnavailable {
		f.RetryAfter = retryAfterDefault
	}
	return f
}

// Invalid says which fields of a body are wrong.
func Invalid(fields ...Field) *Fault {
	f := New(InvalidForm)
	f.Fields = fields
	return f
}

// Unauthorized is for a missing, bad or expired token; which of them it was is not said.
func Unauthorized() *Fault { return plain(http.StatusUnauthorized) }

// NotFound is for a route that does not exist. For a thing that does not exist there is an Unknown… code.
func NotFound() *Fault { return plain(http.StatusNotFound) }

// MethodNotAllowed is for a route that exists, but not with this method.
func MethodNotAllowed() *Fault { return plain(http.StatusMethodNotAllowed) }

// UnsupportedMediaType is for a body of a type that the route does not read.
func UnsupportedMediaType() *Fault { return plain(http.StatusUnsupportedMediaType) }

// TooLarge is for a request body over the route's limit.
func TooLarge() *Fault { return New(RequestTooLarge) }

// RateLimited is a 429 of a rate limit; the limits with codes of their own are New(Slowmode) and New(ChannelWrite).
func RateLimited(retryAfter time.Duration) *Fault {
	return &Fault{Status: http.StatusTooManyRequests, Message: "You are being rate limited.", RetryAfter: retryAfter}
}

// Unavailable says that something we depend on is away and when to try again; 0 means the default of one second.
func Unavailable(cause error, retryAfter time.Duration) *Fault {
	f := plain(http.StatusServiceUnavailable)
	f.cause = cause
	f.RetryAfter = retryAfter
	if retryAfter <= 0 {
		f.RetryAfter = retryAfterDefault
	}
	return f
}

// From returns the Fault inside err. Without one, a time-out or a cancelled context is a 503, because trying again may
// help, and everything else is a 500 that tells nothing. From(nil) is nil.
func From(err error) *Fault {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unavailable(err, 0)
	}
	f := plain(http.StatusInternalServerError)
	f.cause = err
	return f
}

// Is tells whether err holds a Fault of this code.
func Is(err error, c Code) bool {
	f, ok := errors.AsType[*Fault](err)
	return ok && f.Code == c
}

// WithRetryAfter returns a copy that tells the client when to try again.
func (f *Fault) WithRetryAfter(d time.Duration) *Fault {
	g := *f
	g.RetryAfter = d
	return &g
}

// Error is for logs: the code, the public message, the fields and the cause.
func (f *Fault) Error() string {
	s := fmt.Sprintf("%d/%d %s", f.Status, int(f.Code), f.Message)
	for _, field := range f.Fields {
		s += fmt.Sprintf("; %s: %s", field.Path, field.Code)
	}
	if f.cause != nil {
		s += ": " + f.cause.Error()
	}
	return s
}

// Unwrap returns the cause, or nil.
func (f *Fault) Unwrap() error { return f.cause }

// plain is a fault of the protocol rather than of a thing: code 0 and the status as its message.
func plain(status int) *Fault {
	return &Fault{Status: status, Code: General, Message: fmt.Sprintf("%d: %s", status, http.StatusText(status))}
}
