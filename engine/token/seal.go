package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
)

// The key that seals what auth stores and must read again: secrets of second factors.
const (
	sealFile     = "seal.key"
	sealKeyBytes = 32
	sealBlock    = "XCORD SEAL KEY"
)

// errSealed says no more than that: a wrong key, a changed text and a wrong place look the same.
var errSealed = errors.New("sealed text cannot be opened")

// Sealer encrypts what is stored (AES-256-GCM). Any goroutine may use it.
type Sealer struct{ aead cipher.AEAD }

// NewSealer needs keys that were loaded with the private ones.
func NewSealer(keys Keys) (*Sealer, error) {
	if len(keys.seal) != sealKeyBytes {
		return nil, errors.New("there is no key to seal with: load the private keys")
	}
	return newSealer(keys.seal)
}

func newSealer(key []byte) (*Sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead: aead}, nil
}

// Seal encrypts text for one place, for example the id of a row. A nonce is random, which is safe for 2^32 texts under one key.
func (s *Sealer) Seal(text []byte, place string) []byte {
	return s.aead.Seal(nil, nil, text, []byte(place))
}

// Open decrypts what Seal made for the same place.
func (s *Sealer) Open(sealed []byte, place string) ([]byte, error) {
	text, err := s.aead.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return nil, errSealed
	}
	return text, nil
}

// random is n bytes nobody can guess.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
