package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/xcord/xcord/engine/fault"
)

func encodeBase64(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }

func decodeBase64(t *testing.T, s string) string {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHasher_WritesOWASPParameters(t *testing.T) {
	t.Parallel()
	h := newHasher(1, time.Minute)
	got, err := h.hash(context.Background(), password)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePHC(got)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got, "$argon2id$v=19$m=19456,t=2,p=1$") || len(p.salt) != 16 || len(p.key) != 32 {
		t.Errorf("got %s", got)
	}
	again, err := h.hash(context.Background(), password)
	if err != nil || again == got {
		t.Error("two hashes of a password are the same: the salt is not random")
	}
}

func TestHasher_VerifiesOnlyThePassword(t *testing.T) {
	t.Parallel()
	h := newHasher(1, time.Minute)
	ctx := context.Background()
	stored, err := h.hash(ctx, "pässword \u00e9")
	if err != nil {
		t.Fatal(err)
	}
	f := func(stored, password string, want bool) {
		t.Helper()
		if ok, stale, err := h.verify(ctx, stored, password); err != nil || ok != want || stale {
			t.Errorf("%q: got %v, stale %v, %v", password, ok, stale, err)
		}
	}
	f(stored, "pässword \u00e9", true)
	f(stored, "pässword e\u0301", true) // the same characters from another keyboard
	f(stored, "pässword e", false)
	f(stored, "", false)
	f("", "", false)
	f("", "pässword \u00e9", false)
}

func TestHasher_TellsStaleParameters(t *testing.T) {
	t.Parallel()
	h := newHasher(1, time.Minute)
	salt := []byte("0123456789abcdef")
	key := argon2.IDKey([]byte(password), salt, 1, 1024, 1, 32)
	enc := base64.RawStdEncoding
	old := phc(1024, 1, 1, enc.EncodeToString(salt), enc.EncodeToString(key))
	if ok, stale, err := h.verify(context.Background(), old, password); !ok || !stale || err != nil {
		t.Errorf("got %v, stale %v, %v", ok, stale, err)
	}
}

func TestHasher_RefusesMalformedHashes(t *testing.T) {
	t.Parallel()
	h := newHasher(1, time.Minute)
	salt, key := encodeBase64("0123456789abcdef"), encodeBase64(strings.Repeat("k", 32))
	for _, bad := range []string{
		"x", "$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key, "$argon2id$v=18$m=19456,t=2,p=1$" + salt + "$" + key,
		phc(19456, 0, 1, salt, key), phc(19456, 2, 0, salt, key), phc(19456, 2, 1, salt, ""), phc(19456, 2, 1, "!", key),
	} {
		if ok, _, err := h.verify(context.Background(), bad, password); ok || !errors.Is(err, errHash) {
			t.Errorf("%s: got %v, %v", bad, ok, err)
		}
	}
}

func TestHasher_IsBounded(t *testing.T) {
	t.Parallel()
	h := newHasher(2, time.Millisecond)
	ctx := context.Background()
	var held []func()
	for range 2 {
		release, err := h.slots.Take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, release)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := h.hash(ctx, password); !fault.Is(err, fault.Overloaded) {
				t.Errorf("got %v, want 130000", err)
			}
		})
	}
	wg.Wait()
	held[0]()
	if _, err := h.hash(ctx, password); err != nil {
		t.Errorf("after a slot became free: %v", err)
	}
	held[1]()
	if n := h.slots.Waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

func TestFold_MakesOneOfVariants(t *testing.T) {
	t.Parallel()
	f := func(a, b string) {
		t.Helper()
		if fold(a) != fold(b) {
			t.Errorf("%q and %q differ: %q, %q", a, b, fold(a), fold(b))
		}
	}
	f("ADA", "ada")
	f("ａｄａ", "ada")
	f("e\u0301", "\u00c9")
	f("\u212a", "k") // the Kelvin sign
	f("ß", "SS")
	f("\u0345\u0391", "\u03b9\u03b1")
	if fold("ada") == fold("adá") {
		t.Error("an accent is lost")
	}
}
