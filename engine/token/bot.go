package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/xcord/xcord/engine/id"
)

// botSecretBytes make the token unguessable by themselves, which is why a plain hash of it
// is enough to store: there is nothing to try words against.
const botSecretBytes = 32

// botTokenBytesMax is generous: ours have about 90 bytes.
const botTokenBytesMax = 256

// NewBotToken makes a bot's token and the hash to store. The parts are those that client
// libraries look for: the bot's id in unpadded base64 and something random, by dots.
func NewBotToken(bot id.ID) (token, hash string) {
	var secret [botSecretBytes]byte
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand ends the program instead
	random := base64.RawURLEncoding.EncodeToString(secret[:])
	token = base64.RawStdEncoding.EncodeToString([]byte(bot.String())) + "." + random[:6] + "." + random[6:]
	return token, HashBotToken(token)
}

// BotID is whose token it claims to be: only SameHash tells whether that is true. It is false
// for anything that has not the form of a bot's token, such as a person's access token.
func BotID(token string) (id.ID, bool) {
	if len(token) > botTokenBytesMax || strings.Count(token, ".") != 2 {
		return 0, false
	}
	first, _, _ := strings.Cut(token, ".")
	text, err := base64.RawStdEncoding.Strict().DecodeString(first)
	if err != nil {
		return 0, false
	}
	bot, err := id.Parse(string(text))
	if err != nil || bot == 0 || bot.String() != string(text) {
		return 0, false
	}
	return bot, true
}

// HashBotToken is what is stored of a bot's token.
func HashBotToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// SameHash compares two hashes in constant time. An empty hash is like none.
func SameHash(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
