package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

const (
	// webhookSecretBytes give 68 characters, the length that client libraries look for in an address.
	webhookSecretBytes = 51
	webhookContext     = "xcord webhook seal v1\n"
)

// NewWebhookToken makes a webhook's token and the hash to look it up by. Like a bot's it cannot be guessed, so a plain hash is enough.
func NewWebhookToken() (token, hash string) {
	var secret [webhookSecretBytes]byte
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand ends the program instead
	token = base64.RawURLEncoding.EncodeToString(secret[:])
	return token, HashWebhookToken(token)
}

// HashWebhookToken is what a webhook's token is known by.
func HashWebhookToken(token string) string { return HashBotToken(token) }

// NewWebhookSealer seals the tokens of webhooks, which must be told again to who manages them. It needs the key between services
// alone: webhooks are made where nobody can sign.
func NewWebhookSealer(keys Keys) (*Sealer, error) {
	if len(keys.peer) < peerKeyBytes {
		return nil, errors.New("there is no key between services")
	}
	h := hmac.New(sha256.New, keys.peer)
	_, _ = h.Write([]byte(webhookContext)) // a hash never fails to write
	return newSealer(h.Sum(nil))
}
