package token

import (
	"bytes"
	"testing"
)

func TestSealer_OpensOnlyWhatItSealedForThePlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Generate(dir); err != nil {
		t.Fatal(err)
	}
	public, err := Load(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSealer(public); err == nil {
		t.Error("there is a key to seal with among the public ones")
	}
	keys, err := Load(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSealer(keys)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("a secret")
	sealed := s.Seal(text, "one")
	if bytes.Contains(sealed, text) || bytes.Equal(sealed, s.Seal(text, "one")) {
		t.Errorf("got %x", sealed)
	}
	if got, err := s.Open(sealed, "one"); err != nil || !bytes.Equal(got, text) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := s.Open(sealed, "another"); err == nil {
		t.Error("it was opened in another place")
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open(changed, "one"); err == nil {
			t.Errorf("byte %d was changed and it was opened", i)
		}
	}
	for _, short := range [][]byte{nil, sealed[:8]} {
		if _, err := s.Open(short, "one"); err == nil {
			t.Errorf("%x was opened", short)
		}
	}
}
