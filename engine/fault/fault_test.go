package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestNew_TakesStatusAndMessageFromTheTable(t *testing.T) {
	t.Parallel()
	f := func(c Code, status int, message string) {
		t.Helper()
		got := New(c)
		if got.Status != status || got.Code != c || got.Message != message {
			t.Errorf("New(%d) = %d %q, want %d %q", c, got.Status, got.Message, status, message)
		}
	}
	f(UnknownChannel, 404, "Unknown Channel")
	f(UnknownBan, 404, "Unknown Ban")
	f(Slowmode, 429, "This action cannot be performed due to slowmode rate limit")
	f(RequestTooLarge, 413, "Request entity too large")
	f(MissingPermissions, 403, "Missing Permissions")
	f(InvalidForm, 400, "Invalid Form Body")
	f(Overloaded, 503, "API resource is currently overloaded. Try again a little later")
}

func TestNew_PanicsOnACodeWithoutAPublicMessage(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("New(12345) did not panic")
		}
	}()
	_ = New(12345)
}

func TestTable_HasAClientStatusForEveryCode(t *testing.T) {
	t.Parallel()
	for code, p := range publics {
		if http.StatusText(p.status) == "" || p.status < 400 || p.message == "" {
			t.Errorf("code %d: status %d, message %q", code, p.status, p.message)
		}
		if code >= 10000 && code < 20000 && p.status != http.StatusNotFound {
			t.Errorf("code %d is an unknown thing, so its status must be 404, not %d", code, p.status)
		}
	}
}

func TestProtocolFaults_HaveCodeZeroAndTheStatusAsMessage(t *testing.T) {
	t.Parallel()
	f := func(got *Fault, status int, message string) {
		t.Helper()
		if got.Status != status || got.Code != General || got.Message != message {
			t.Errorf("got %d/%d %q, want %d/0 %q", got.Status, got.Code, got.Message, status, message)
		}
	}
	f(Unauthorized(), 401, "401: Unauthorized")
	f(NotFound(), 404, "404: Not Found")
	f(MethodNotAllowed(), 405, "405: Method Not Allowed")
	f(UnsupportedMediaType(), 415, "415: Unsupported Media Type")
	f(RateLimited(time.Second), 429, "You are being rate limited.")
	f(Unavailable(nil, 0), 503, "503: Service Unavailable")
}

func TestFrom_FindsTheFaultInsideAnError(t *testing.T) {
	t.Parallel()
	want := New(UnknownMessage)
	if got := From(fmt.Errorf("load message: %w", want)); got != want {
		t.Errorf("From = %v, want the wrapped fault", got)
	}
	if From(nil) != nil {
		t.Error("From(nil) is not nil")
	}
}

func TestFrom_HidesWhatIsNotAFault(t *testing.T) {
	t.Parallel()
	cause := errors.New("password=hunter2")
	got := From(cause)
	if got.Status != 500 || got.Message != "500: Internal Server Error" || got.Code != General {
		t.Errorf("From = %d/%d %q", got.Status, got.Code, got.Message)
	}
	if !errors.Is(got, cause) {
		t.Error("the cause is lost to the log")
	}
}

func TestFrom_MakesTimeoutsRetryable(t *testing.T) {
	t.Parallel()
	for _, err := range []error{context.DeadlineExceeded, context.Canceled} {
		got := From(fmt.Errorf("publish: %w", err))
		if got.Status != 503 || got.RetryAfter != time.Second || !errors.Is(got, err) {
			t.Errorf("From(%v) = %d, retry after %v", err, got.Status, got.RetryAfter)
		}
	}
}

func TestWrap_KeepsTheCauseForTheLogOnly(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such row")
	f := Wrap(UnknownUser, cause)
	if !errors.Is(f, cause) || f.Message != "Unknown User" {
		t.Errorf("Wrap = %v", f)
	}
	if want := "404/10013 Unknown User: no such row"; f.Error() != want {
		t.Errorf("Error() = %q, want %q", f.Error(), want)
	}
	if !Is(fmt.Errorf("x: %w", f), UnknownUser) || Is(f, UnknownGuild) || Is(cause, UnknownUser) {
		t.Error("Is does not tell codes apart")
	}
}

func TestInvalid_NamesTheFields(t *testing.T) {
	t.Parallel()
	f := Invalid(Field{Path: "embeds.0.title", Code: FieldMaxLength, Message: "Must be 256 or fewer in length."})
	if f.Status != 400 || f.Code != InvalidForm || len(f.Fields) != 1 {
		t.Errorf("Invalid = %+v", f)
	}
	if want := "400/50035 Invalid Form Body; embeds.0.title: BASE_TYPE_MAX_LENGTH"; f.Error() != want {
		t.Errorf("Error() = %q, want %q", f.Error(), want)
	}
}

func TestWithRetryAfter_LeavesTheOriginalAlone(t *testing.T) {
	t.Parallel()
	f := New(Slowmode)
	if g := f.WithRetryAfter(3 * time.Second); g.RetryAfter != 3*time.Second || f.RetryAfter != 0 {
		t.Errorf("copy %v, original %v", g.RetryAfter, f.RetryAfter)
	}
}
