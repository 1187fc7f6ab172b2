package auth

import (
	"crypto/hmac"
	"crypto/sha1" // RFC 6238's default, and all that every authenticator knows; HMAC does not need more of it
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// RFC 6238 as authenticators have it: six digits, a new code every 30 s.
const (
	totpStep        = 30 * time.Second
	totpDigits      = 6
	totpSecretBytes = 20 // RFC 4226, section 4: as long as the hash
	// totpDrift is by how many steps a clock may be off, or a person late: RFC 6238, section 5.2, recommends one.
	totpDrift = 1
)

// totpCode is the code of a time step.
func totpCode(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	var count [8]byte
	binary.BigEndian.PutUint64(count[:], uint64(step))
	mac.Write(count[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	number := binary.BigEndian.Uint32(sum[at:at+4]) & 0x7fffffff
	return fmt.Sprintf("%0*d", totpDigits, number%1_000_000)
}

// totpMatch finds the step behind last whose code this is; ok is false when there is none near now. A code that was used once
// is never found again, nor one that is older.
func totpMatch(secret []byte, code string, now time.Time, last int64) (step int64, ok bool) {
	present := now.Unix() / int64(totpStep/time.Second)
	for s := present - totpDrift; s <= present+totpDrift; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(secret, s)), []byte(code)) == 1 && s > last {
			step, ok = s, true
		}
	}
	return step, ok
}

// base32Plain is how secrets and recovery codes are written for people.
var base32Plain = base32.StdEncoding.WithPadding(base32.NoPadding)

// totpURI is what an authenticator reads off a QR code.
func totpURI(secret []byte, account string) string {
	q := url.Values{"secret": {base32Plain.EncodeToString(secret)}, "issuer": {"XCord"}}
	// Some authenticators take a plus for itself.
	return "otpauth://totp/" + url.PathEscape("XCord:"+account) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}
