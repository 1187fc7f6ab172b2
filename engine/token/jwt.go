package token

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/xcord/xcord/engine/id"
)

var (
	verifiedFresh   = metrics.NewCounter(`xcord_token_verified_total{result="fresh"}`)
	verifiedCached  = metrics.NewCounter(`xcord_token_verified_total{result="cached"}`)
	verifiedInvalid = metrics.NewCounter(`xcord_token_verified_total{result="invalid"}`)
)

// accessClaims is the payload of an access token.
type accessClaims struct {
	jwt.RegisteredClaims
	Session string `json:"sid"`
}

// Minter makes access tokens. Any number of goroutines may use it.
type Minter struct {
	cfg  Config
	sign atomic.Pointer[Keys]
}

// NewMinter makes a minter that signs with the private key of keys.
func NewMinter(cfg Config, keys Keys) (*Minter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Minter{cfg: cfg.withDefaults()}
	if err := m.SetKeys(keys); err != nil {
		return nil, err
	}
	return m, nil
}

// SetKeys replaces the key that is signed with.
func (m *Minter) SetKeys(keys Keys) error {
	if keys.private == nil {
		return errors.New("there is no private key to sign access tokens with")
	}
	m.sign.Store(&keys)
	return nil
}

// TTL is how long tokens are good that say nothing else; clients are told in expires_in.
func (m *Minter) TTL() time.Duration { return m.cfg.TTL }

// Mint makes an access token. User and Session are required.
func (m *Minter) Mint(c Claims) string {
	if c.User == 0 || c.Session == "" || len(c.Session) > sidBytesMax {
		panic("BUG: token.Mint without a user or a session")
	}
	if c.TTL == 0 {
		c.TTL = m.cfg.TTL
	}
	now := m.cfg.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, accessClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Subject: c.User.String(), ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(c.TTL)),
		},
		Session: c.Session,
	})
	t.Header["typ"] = accessType
	keys := m.sign.Load()
	t.Header["kid"] = keys.kid
	raw, err := t.SignedString(keys.private)
	if err != nil {
		panic("BUG: token.Mint: " + err.Error())
	}
	return raw
}

// Verifier checks access tokens and remembers good ones until they expire, so that a token is
// worked through once per process and not once per request. Any number of goroutines may use it.
type Verifier struct {
	cfg    Config
	parser *jwt.Parser
	trust  atomic.Pointer[trust]
}

// trust is a set of public keys with what was verified by them. They are replaced together:
// nothing that an old set accepted is remembered under a new one.
type trust struct {
	keys  map[string]ed25519.PublicKey
	cache *lru.Cache[[sha256.Size]byte, Claims]
}

// NewVerifier makes a verifier that trusts the public keys in keys.
func NewVerifier(cfg Config, keys Keys) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	v := &Verifier{cfg: cfg, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{algorithm}),
		jwt.WithIssuer(issuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(cfg.Leeway),
		jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(cfg.Now),
	)}
	if err := v.SetKeys(keys); err != nil {
		return nil, err
	}
	return v, nil
}

// SetKeys replaces the trusted keys, when keys were rotated, and forgets what was verified.
func (v *Verifier) SetKeys(keys Keys) error {
	if len(keys.public) == 0 {
		return errors.New("there is no public key to verify access tokens with")
	}
	cache, err := lru.New[[sha256.Size]byte, Claims](v.cfg.CacheEntries)
	if err != nil {
		return fmt.Errorf("make the cache of verified tokens: %w", err)
	}
	v.trust.Store(&trust{keys: keys.public, cache: cache})
	return nil
}

// Verify is the claims of a good access token (without "Bearer "), or ErrInvalid.
func (v *Verifier) Verify(raw string) (Claims, error) {
	// Before anything is decoded: neither a long token nor one of dots may cost memory.
	if len(raw) > rawBytesMax || strings.Count(raw, ".") != 2 {
		verifiedInvalid.Inc()
		return Claims{}, ErrInvalid
	}
	t, sum := v.trust.Load(), sha256.Sum256([]byte(raw))
	if c, ok := t.cache.Get(sum); ok {
		if !v.cfg.Now().Before(c.Expires.Add(v.cfg.Leeway)) {
			t.cache.Remove(sum)
			verifiedInvalid.Inc()
			return Claims{}, ErrInvalid
		}
		verifiedCached.Inc()
		return c, nil
	}
	c, err := v.verify(t, raw)
	if err != nil {
		verifiedInvalid.Inc()
		return Claims{}, ErrInvalid
	}
	t.cache.Add(sum, c)
	verifiedFresh.Inc()
	return c, nil
}

// verify says what is wrong, for tests; it stays in this package.
func (v *Verifier) verify(t *trust, raw string) (Claims, error) {
	parts := strings.SplitN(raw, ".", 3)
	for _, part := range parts[:2] {
		if err := refuseDuplicates(part); err != nil {
			return Claims{}, err
		}
	}
	var c accessClaims
	if _, err := v.parser.ParseWithClaims(raw, &c, t.key); err != nil {
		return Claims{}, err
	}
	user, err := id.Parse(c.Subject)
	switch {
	case err != nil || user == 0:
		return Claims{}, errors.New("the subject is no user")
	case c.Session == "" || len(c.Session) > sidBytesMax:
		return Claims{}, errors.New("there is no session")
	case len(c.Audience) != 1:
		return Claims{}, errors.New("the token is for others, too")
	case c.IssuedAt == nil || !c.IssuedAt.Before(c.ExpiresAt.Time):
		return Claims{}, errors.New("the token was not issued before it expires")
	}
	return Claims{User: user, Session: c.Session, Issued: c.IssuedAt.Time, Expires: c.ExpiresAt.Time}, nil
}

// key finds the public key for a token by its kid, which is the key of a map and nothing
// else: no path, no address, no query. Other headers that name keys are not looked at.
func (t *trust) key(tok *jwt.Token) (any, error) {
	if tok.Header["typ"] != accessType {
		return nil, errors.New("the token is of another type")
	}
	// An extension that must be understood, and we understand none.
	if _, ok := tok.Header["crit"]; ok {
		return nil, errors.New("the token has a critical extension")
	}
	kid, ok := tok.Header["kid"].(string)
	if !ok || len(kid) > kidBytesMax {
		return nil, errors.New("the token has no key id")
	}
	key, ok := t.keys[kid]
	if !ok {
		return nil, errors.New("the key is not known")
	}
	return key, nil
}

// refuseDuplicates checks that no member of a segment's object is there twice, also not in
// another case: encoding/json would take the last of them, another reader the first.
func refuseDuplicates(segment string) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("a segment is no object")
	}
	seen := make(map[string]bool, 8)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if name = strings.ToLower(name); !ok || seen[name] {
			return errors.New("a member is there twice")
		}
		seen[name] = true
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return err
		}
	}
	return nil
}
