package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

const (
	// proofLifeMax is how far ahead an expiry may lie, and proofSkew how far apart the clocks
	// of two hosts may be besides.
	proofLifeMax = 30 * time.Second
	proofSkew    = 5 * time.Second

	proofBytesMax = 1024
	// proofContext keeps a proof from being anything else that might be signed by the same key.
	proofContext = "xcord peer request v1\n"
)

// Signer makes and checks the proof that a forwarded request comes from a process of this
// installation: an HMAC over the client's address, the request's id and an expiry. Any number
// of goroutines may use it.
type Signer struct {
	key []byte
	now func() time.Time
}

// NewSigner makes a signer with the key between services; nil as now is time.Now.
func NewSigner(keys Keys, now func() time.Time) (*Signer, error) {
	if len(keys.peer) < peerKeyBytes {
		return nil, errors.New("there is no key between services")
	}
	if now == nil {
		now = time.Now
	}
	return &Signer{key: keys.peer, now: now}, nil
}

// Sign is the proof for a request, good until expiry, which may be at most 30 s ahead.
func (s *Signer) Sign(addr, requestID string, expiry time.Time) string {
	enc := base64.RawURLEncoding
	said := strconv.FormatInt(expiry.UnixMilli(), 10) + "." + enc.EncodeToString([]byte(addr)) + "." + enc.EncodeToString([]byte(requestID))
	return said + "." + enc.EncodeToString(s.mac(said))
}

// Verify is what was signed, or ErrInvalid.
func (s *Signer) Verify(proof string) (addr, requestID string, err error) {
	if len(proof) > proofBytesMax || strings.Count(proof, ".") != 3 {
		return "", "", ErrInvalid
	}
	enc := base64.RawURLEncoding.Strict()
	last := strings.LastIndexByte(proof, '.')
	mac, err := enc.DecodeString(proof[last+1:])
	if err != nil || !hmac.Equal(mac, s.mac(proof[:last])) {
		return "", "", ErrInvalid
	}
	// From here on it is ours; what follows can fail only by time.
	parts := strings.Split(proof[:last], ".")
	ms, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return "", "", ErrInvalid
	}
	ahead := time.UnixMilli(ms).Sub(s.now())
	if ahead <= -proofSkew || ahead > proofLifeMax+proofSkew {
		return "", "", ErrInvalid
	}
	a, errAddr := enc.DecodeString(parts[1])
	r, errRequest := enc.DecodeString(parts[2])
	if errAddr != nil || errRequest != nil {
		return "", "", ErrInvalid
	}
	return string(a), string(r), nil
}

func (s *Signer) mac(said string) []byte {
	h := hmac.New(sha256.New, s.key)
	_, _ = h.Write([]byte(proofContext)) // a hash never fails to write
	_, _ = h.Write([]byte(said))
	return h.Sum(nil)
}
