package token

import (
	"bytes"
	"testing"
)

func TestWebhookToken_IsKnownByItsHashAndSealed(t *testing.T) {
	t.Parallel()
	raw, hash := NewWebhookToken()
	if len(raw) != 68 || !SameHash(hash, HashWebhookToken(raw)) || SameHash(hash, HashWebhookToken(raw[1:])) {
		t.Errorf("%s has the hash %s", raw, hash)
	}
	if again, _ := NewWebhookToken(); again == raw {
		t.Error("two tokens are the same")
	}
	dir := t.TempDir()
	if err := Generate(dir); err != nil {
		t.Fatal(err)
	}
	public, err := Load(dir, false) // where nobody signs
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewWebhookSealer(public)
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.Seal([]byte(raw), "webhook 7")
	if open, err := s.Open(sealed, "webhook 7"); err != nil || string(open) != raw || bytes.Contains(sealed, []byte(raw)) {
		t.Errorf("opened %s, %v", open, err)
	}
	if _, err := s.Open(sealed, "webhook 8"); err == nil {
		t.Error("another webhook's token was opened")
	}
	private, err := Load(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	auths, err := NewSealer(private)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auths.Open(sealed, "webhook 7"); err == nil {
		t.Error("it is sealed by the key of auth")
	}
	if _, err := NewWebhookSealer(Keys{}); err == nil {
		t.Error("it seals without a key")
	}
}
