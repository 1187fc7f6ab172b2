// Package token makes and checks the secrets that say who is asking: access tokens of
// people (JWTs), tokens of bots, and the proof by which the processes of one installation
// know each other. It also keeps the keys for that in a directory.
//
// It does not know sessions or users, does not store what it makes, and cannot revoke: an
// access token is good until it expires, and services/auth ends sessions. Refresh tokens are
// opaque and auth's own.
package token

import (
	"errors"
	"fmt"
	"time"

	"github.com/xcord/xcord/engine/id"
)

// ErrInvalid is the one answer to a token that is not good: what is wrong with it is nothing
// that its bearer should learn, or that should reach a log in the bearer's words.
var ErrInvalid = errors.New("the token is not valid")

// LifeMax bounds the life of an access token, whatever the settings: so long an ended session has to be remembered.
const LifeMax = time.Hour

const (
	issuer   = "xcord"
	audience = "xcord"
	// accessType is the header's typ, RFC 9068. It keeps any other JWT, whatever it was
	// signed for, from passing as an access token.
	accessType = "at+jwt"
	algorithm  = "EdDSA"

	// rawBytesMax bounds what is looked at. Ours have about 300 bytes; the cap is the
	// contract's for the whole Authorization header.
	rawBytesMax = 4096
	kidBytesMax = 64
	sidBytesMax = 128
)

// Config is for Minter and Verifier alike. The zero value is usable.
type Config struct {
	TTL          time.Duration    // how long an access token is good; default 15 min
	Leeway       time.Duration    // how far clocks may be apart; default 30 s
	CacheEntries int              // verified tokens to remember; default 16,384, about 4 MiB
	Now          func() time.Time // default time.Now
}

func (c Config) withDefaults() Config {
	if c.TTL == 0 {
		c.TTL = 15 * time.Minute
	}
	if c.Leeway == 0 {
		c.Leeway = 30 * time.Second
	}
	if c.CacheEntries == 0 {
		c.CacheEntries = 16384
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate returns every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.TTL < 0 || c.TTL > LifeMax {
		errs = append(errs, fmt.Errorf("access token life %v is not between 0 and %v", c.TTL, LifeMax))
	}
	if c.Leeway < 0 || c.Leeway > 5*time.Minute {
		errs = append(errs, fmt.Errorf("token leeway %v is not between 0 and 5m", c.Leeway))
	}
	if c.CacheEntries < 0 {
		errs = append(errs, fmt.Errorf("token cache of %d entries is negative", c.CacheEntries))
	}
	return errors.Join(errs...)
}

// Claims is what an access token says.
type Claims struct {
	User    id.ID
	Session string        // the login session, of which a user may have several
	TTL     time.Duration // for Mint; 0 is Config.TTL

	Issued, Expires time.Time // from Verify
}
