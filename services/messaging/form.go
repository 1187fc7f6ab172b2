package messaging

import (
	"slices"
	"strconv"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// wellFormed refuses what each field of a request may be by itself, and no message can be made of.
func wellFormed(embeds []wire.Embed, allowed *wire.AllowedMentions) error {
	var wrong []fault.Field
	for i, e := range embeds {
		if isBlank(e) {
			wrong = append(wrong, fault.Field{
				Path: "embeds." + strconv.Itoa(i) + ".description", Code: fault.FieldRequired, Message: "This field is required",
			})
		}
	}
	if allowed != nil {
		for kind, listed := range map[string][]id.ID{"users": allowed.Users, "roles": allowed.Roles} {
			if len(listed) > 0 && slices.Contains(allowed.Parse, kind) {
				wrong = append(wrong, fault.Field{
					Path: "allowed_mentions", Code: "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE",
					Message: "parse:[\"" + kind + "\"] and " + kind + ": [ids...] are mutually exclusive.",
				})
			}
		}
	}
	if wrong != nil {
		return fault.Invalid(wrong...)
	}
	return nil
}

// isBlank says that there is nothing to see in an embed.
func isBlank(e wire.Embed) bool {
	return e.Title == "" && e.Description == "" && len(e.Fields) == 0 && e.Footer == nil && e.Author == nil && hasNoMedia(e.Image) && hasNoMedia(e.Thumbnail)
}

func hasNoMedia(m *wire.EmbedMedia) bool { return m == nil || m.URL == "" }
