package auth

import (
	"strings"
	"testing"
	"time"
)

// rfcSecret is that of RFC 6238, appendix B, whose codes have eight digits; ours are the last six of them.
var rfcSecret = []byte("12345678901234567890")

func TestTOTP_MakesTheCodesOfRFC6238(t *testing.T) {
	t.Parallel()
	f := func(unix int64, want string) {
		t.Helper()
		if got := totpCode(rfcSecret, unix/30); got != want[2:] {
			t.Errorf("at %d: got %s, want %s", unix, got, want[2:])
		}
	}
	f(59, "94287082")
	f(1111111109, "07081804")
	f(1111111111, "14050471")
	f(1234567890, "89005924")
	f(2000000000, "69279037")
	f(20000000000, "65353130")
}

func TestTOTP_MatchesNearNowAndNotAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(1234567890, 0)
	present := now.Unix() / 30
	f := func(offset, last int64, want bool) {
		t.Helper()
		step, ok := totpMatch(rfcSecret, totpCode(rfcSecret, present+offset), now, last)
		if ok != want || ok && step != present+offset {
			t.Errorf("offset %d behind step %d: got %v, step %d", offset, last-present, ok, step-present)
		}
	}
	f(0, 0, true)
	f(-1, 0, true)
	f(1, 0, true)
	f(-2, 0, false)
	f(2, 0, false)
	f(0, present, false)
	f(-1, present, false)
	f(1, present, true)
	for _, bad := range []string{"", "12345", "1234567", "abcdef", strings.Repeat("0", 100)} {
		if _, ok := totpMatch(rfcSecret, bad, now, 0); ok {
			t.Errorf("%q matches", bad)
		}
	}
}
