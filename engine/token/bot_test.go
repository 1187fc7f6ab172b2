package token

import (
	"encoding/base64"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/id"
)

func TestBotToken_NamesItsBotAndHashesAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bot := id.ID(rapid.Uint64Min(1).Draw(t, "bot"))
		raw, hash := NewBotToken(bot)
		got, ok := BotID(raw)
		if !ok || got != bot {
			t.Fatalf("%s is of %d, %v; want %d", raw, got, ok, bot)
		}
		first, _, _ := strings.Cut(raw, ".")
		if first != base64.RawStdEncoding.EncodeToString([]byte(bot.String())) {
			t.Fatalf("the first part is %s", first)
		}
		if !SameHash(hash, HashBotToken(raw)) || SameHash(hash, HashBotToken(raw+"x")) || strings.Contains(hash, raw) {
			t.Fatalf("hash %s", hash)
		}
		if again, other := NewBotToken(bot); again == raw || SameHash(hash, other) {
			t.Fatal("two tokens are the same")
		}
	})
}

func TestBotID_RefusesWhatIsNoBotToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	enc := base64.RawStdEncoding.EncodeToString
	for _, s := range []string{
		"", "..", "a.b.c", b.minter.Mint(Claims{User: user, Session: session}),
		enc([]byte("0")) + ".a.b", enc([]byte("07")) + ".a.b", enc([]byte("-7")) + ".a.b", enc([]byte("x")) + ".a.b",
		enc([]byte("7")) + ".a", enc([]byte("7")) + ".a.b.c", base64.StdEncoding.EncodeToString([]byte("7")) + ".a.b",
		enc([]byte("7")) + ".a." + strings.Repeat("b", botTokenBytesMax),
	} {
		if bot, ok := BotID(s); ok {
			t.Errorf("%.40q is a token of %d", s, bot)
		}
	}
}

func TestSameHash_EmptyIsLikeNothing(t *testing.T) {
	t.Parallel()
	if SameHash("", "") || SameHash("", "a") || SameHash("a", "") {
		t.Error("an empty hash matched")
	}
}
