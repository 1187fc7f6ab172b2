package auth

import (
	"crypto/sha256"
	"time"
)

// codePurpose is what a one-time code leads to.
type codePurpose string

const (
	codeSetup codePurpose = "setup" // the first administrator's account
	codeReset codePurpose = "reset" // a new password
	codeLogin codePurpose = "login" // the second step of a login
)

// codeBytes cannot be guessed, whoever may try and however often.
const codeBytes = 32

// ttl is how long a code of this purpose is good. A setup link is read off a terminal, a reset link is passed on by hand, and the
// second step of a login follows the first.
func (p codePurpose) ttl() time.Duration {
	if p == codeLogin {
		return 5 * time.Minute
	}
	return 24 * time.Hour
}

// hashCode is what is stored of a code.
func hashCode(code string) []byte {
	sum := sha256.Sum256([]byte(code))
	return sum[:]
}
