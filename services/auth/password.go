package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/xcord/xcord/engine/limit"
)

// The OWASP password storage cheat sheet's parameters for argon2id: 19 MiB, two passes, one lane.
const (
	argonMemoryKiB = 19456
	argonTime      = 2
	argonThreads   = 1
	argonSaltBytes = 16
	argonKeyBytes  = 32
)

// hashWaitersMax bounds those who wait for a slot, which is taken for about 30 ms.
const hashWaitersMax = 256

// errHash means that a stored hash is not one that this package wrote.
var errHash = errors.New("stored password hash is malformed")

// hashMemoryKiB is argonMemoryKiB, but after CheapHashes.
var hashMemoryKiB atomic.Uint32

// CheapHashes makes the hashes of every Service that New makes from now on worthless and cheap, for the tests of whole nodes, which need
// hundreds of accounts: under the race detector an honest hash takes a tenth of a second. Nothing but a test calls it (engine/tidy).
func CheapHashes() { hashMemoryKiB.Store(cheapMemoryKiB) }

// cheapMemoryKiB is for tests that are not about hashes.
const cheapMemoryKiB = 64

// hasher computes argon2id, few at a time: every computation takes argonMemoryKiB and a core. Any goroutine may call it.
type hasher struct {
	slots     *limit.Slots
	memoryKiB uint32
}

func newHasher(slots int, wait time.Duration) *hasher {
	memory := cmp.Or(hashMemoryKiB.Load(), argonMemoryKiB)
	return &hasher{slots: limit.NewSlots(slots, wait, hashWaitersMax, hashRefused), memoryKiB: memory}
}

// dummy is verified when there is no such user, so that the answer takes as long. It needs a well-formed salt and key, not a secret
// one: the result of its verification is never used.
func (h *hasher) dummy() string {
	key := base64.RawStdEncoding.EncodeToString(make([]byte, argonKeyBytes))
	salt := base64.RawStdEncoding.EncodeToString(make([]byte, argonSaltBytes))
	return phc(h.memoryKiB, argonTime, argonThreads, salt, key)
}

func phc(memory uint32, passes uint32, threads uint8, salt, key string) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, threads, salt, key)
}

// hash returns the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	release, err := h.slots.Take(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	salt := make([]byte, argonSaltBytes)
	_, _ = rand.Read(salt) // never fails
	hashesTotal.Inc()
	key := argon2.IDKey(normal(password), salt, argonTime, h.memoryKiB, argonThreads, argonKeyBytes)
	enc := base64.RawStdEncoding
	return phc(h.memoryKiB, argonTime, argonThreads, enc.EncodeToString(salt), enc.EncodeToString(key)), nil
}

// verify says whether password belongs to the stored hash, and whether the hash was made with other parameters than
// today's. With an empty stored hash it does the same work and says no.
func (h *hasher) verify(ctx context.Context, stored, password string) (ok, stale bool, err error) {
	known := stored != ""
	if !known {
		stored = h.dummy()
	}
	p, err := parsePHC(stored)
	if err != nil {
		return false, false, err
	}
	release, err := h.slots.Take(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	hashesTotal.Inc()
	key := argon2.IDKey(normal(password), p.salt, p.passes, p.memory, p.threads, uint32(len(p.key)))
	ok = subtle.ConstantTimeCompare(key, p.key) == 1 && known
	stale = p.memory != h.memoryKiB || p.passes != argonTime || p.threads != argonThreads
	return ok, stale, nil
}

// normal makes one password of what different keyboards send for the same characters (NIST SP 800-63B).
func normal(password string) []byte { return norm.NFKC.Bytes([]byte(password)) }

type parameters struct {
	memory, passes uint32
	threads        uint8
	salt, key      []byte
}

func parsePHC(s string) (parameters, error) {
	var p parameters
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, errHash
	}
	var version int
	if n, err := fmt.Sscanf(parts[2], "v=%d", &version); n != 1 || err != nil || version != argon2.Version {
		return p, errHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.threads); n != 3 || err != nil {
		return p, errHash
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return p, errHash
	}
	if p.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return p, errHash
	}
	// argon2.IDKey panics without a pass or a lane, and a hash of no bytes would match every password.
	if p.passes < 1 || p.threads < 1 || len(p.key) < 16 || len(p.salt) < 8 {
		return p, errHash
	}
	return p, nil
}
