package token

import (
	"strings"
	"testing"
	"time"
)

func newSigner(t *testing.T, keys Keys, c *clock) *Signer {
	t.Helper()
	s, err := NewSigner(keys, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSigner_VerifiesWhatItSigned(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Unix(1704067200, 0)}
	s := newSigner(t, freshKeys(t), c)
	for _, in := range [][2]string{{"203.0.113.7", "r1"}, {"2001:db8::1", ""}, {"", "a.b.c"}, {"\x00\n", "é"}} {
		addr, request, err := s.Verify(s.Sign(in[0], in[1], c.now().Add(30*time.Second)))
		if err != nil || addr != in[0] || request != in[1] {
			t.Errorf("%q came back as %q %q, %v", in, addr, request, err)
		}
	}
}

func TestSigner_RefusesForgeries(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Unix(1704067200, 0)}
	keys := freshKeys(t)
	s := newSigner(t, keys, c)
	f := func(what, proof string) {
		t.Helper()
		if addr, request, err := s.Verify(proof); err != ErrInvalid || addr != "" || request != "" {
			t.Errorf("%s: %q %q %v", what, addr, request, err)
		}
	}
	good := s.Sign("203.0.113.7", "r1", c.now().Add(10*time.Second))
	if _, _, err := s.Verify(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := []byte(good)
		b[i] ^= 1
		f("a changed byte", string(b))
	}
	parts := strings.Split(good, ".")
	f("swapped", strings.Join([]string{parts[0], parts[2], parts[1], parts[3]}, "."))
	f("no mac", strings.Join(parts[:3], ".")+".")
	f("too few parts", strings.Join(parts[:3], "."))
	f("too many parts", good+".x")
	f("empty", "")
	f("long", strings.Repeat("a", proofBytesMax)+"...")
	f("another key", newSigner(t, freshKeys(t), c).Sign("203.0.113.7", "r1", c.now().Add(10*time.Second)))
	f("too far ahead", s.Sign("a", "r", c.now().Add(proofLifeMax+proofSkew+time.Millisecond)))
	c.add(10*time.Second + proofSkew)
	f("expired", good)
}

func TestNewSigner_NeedsAKey(t *testing.T) {
	t.Parallel()
	if _, err := NewSigner(Keys{}, nil); err == nil {
		t.Error("a signer without a key was made")
	}
}
