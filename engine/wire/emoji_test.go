package wire

import "testing"

func TestFullEmoji_KnowsOneFormOfEach(t *testing.T) {
	t.Parallel()
	f := func(in, want string) {
		t.Helper()
		if got, ok := FullEmoji(in); got != want || ok != (want != "") {
			t.Errorf("%+q: %+q, %v, want %+q", in, got, ok, want)
		}
	}
	f("🦊", "🦊")
	f("\u2764", "\u2764\ufe0f")
	f("\u2764\ufe0f", "\u2764\ufe0f")
	f("👍🏽", "👍🏽")
	f("1\u20e3", "1\ufe0f\u20e3")
	f("🇫🇷", "🇫🇷")
	f("🏳\u200d🌈", "🏳\ufe0f\u200d🌈")
	f("👨‍👩‍👧‍👦", "👨‍👩‍👧‍👦")
	f("🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿")
	for _, none := range []string{"", " ", "1", "a", "fox", "fox:7", ":fox:", "🦊🦊", "🦊 ", "🇫", "\ufe0f", "\u200d", "🏽‍🦊", "❤︎"} {
		f(none, "")
	}
	if n := len(emojis()); n != 3953 {
		t.Errorf("%d emoji, want Unicode's 3953", n)
	}
}
