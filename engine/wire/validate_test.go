package wire

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-playground/validator/v10"
)

func TestValidator_NamesFieldAndRule(t *testing.T) {
	t.Parallel()
	v := NewValidator()
	f := func(body any, namespace, tag string) {
		t.Helper()
		err := v.Struct(body)
		if namespace == "" {
			if err != nil {
				t.Errorf("%+v: %v", body, err)
			}
			return
		}
		var bad validator.ValidationErrors
		if !errors.As(err, &bad) || len(bad) != 1 {
			t.Errorf("%.80v: got %v, want %s %s", body, err, namespace, tag)
			return
		}
		if bad[0].Namespace() != namespace || bad[0].Tag() != tag {
			t.Errorf("got %s %s, want %s %s", bad[0].Namespace(), bad[0].Tag(), namespace, tag)
		}
	}
	full := strings.Repeat("é", ContentMax)
	f(CreateMessage{Content: full}, "", "")
	f(CreateMessage{Content: full + "x"}, "CreateMessage.content", "max")
	f(CreateMessage{Content: strings.Repeat("👩‍👩‍👧", ContentMax/5)}, "", "") // five code points each
	f(CreateMessage{Content: "a\x00b"}, "CreateMessage.content", "nonul")
	f(CreateMessage{Nonce: Nonce(`"` + strings.Repeat("n", 25) + `"`)}, "", "")
	f(CreateMessage{Nonce: Nonce(`"` + strings.Repeat("n", 26) + `"`)}, "CreateMessage.nonce", "max")
	f(CreateMessage{Nonce: `-9223372036854775808`}, "", "")
	f(CreateMessage{Reference: &ReferenceRequest{}}, "CreateMessage.message_reference.message_id", "required")
	f(CreateMessage{AllowedMentions: &AllowedMentions{Parse: []string{"everyone", "all"}}}, "CreateMessage.allowed_mentions.parse[1]", "oneof")

	f(CreateMessage{Embeds: make([]Embed, EmbedsMax+1)}, "CreateMessage.embeds", "max")
	f(CreateMessage{Embeds: []Embed{{}, {Title: strings.Repeat("t", 257)}}}, "CreateMessage.embeds[1].title", "max")
	f(CreateMessage{Embeds: []Embed{{Fields: []EmbedField{{Name: "n"}}}}}, "CreateMessage.embeds[0].fields[0].value", "required")
	f(CreateMessage{Embeds: []Embed{{Footer: &EmbedFooter{Text: "\x00"}}}}, "CreateMessage.embeds[0].footer.text", "nonul")
	for _, u := range []string{"javascript:alert(1)", "data:text/html,x", "//x", "x", "http:", "file:///etc/passwd"} {
		f(CreateMessage{Embeds: []Embed{{URL: u}}}, "CreateMessage.embeds[0].url", "weburl")
	}
	f(CreateMessage{Embeds: []Embed{{URL: "https://example.org/?q=1", Image: &EmbedMedia{URL: "http://example.org"}}}}, "", "")
	long := Embed{Description: strings.Repeat("d", 3000)}
	f(CreateMessage{Embeds: []Embed{long, long}}, "", "")
	f(CreateMessage{Embeds: []Embed{long, long, {Title: "x"}}}, "CreateMessage.embeds", "embedsum")
	f(EditMessage{Embeds: Some([]Embed{long, long, {Title: "x"}})}, "EditMessage.embeds", "embedsum")
	f(EditMessage{Embeds: Some([]Embed{{Color: ptr(-1)}})}, "EditMessage.embeds[0].color", "min")
	f(EditMessage{Content: Some(full + "x")}, "EditMessage.content", "max")
	f(EditMessage{Content: Clear[string](), Embeds: Clear[[]Embed]()}, "", "")
	f(EditMessage{}, "", "")

	f(CreateGuild{}, "CreateGuild.name", "required")
	f(CreateGuild{Name: "x"}, "CreateGuild.name", "min")
	f(UpdateGuild{Name: ptr("")}, "UpdateGuild.name", "min")
	f(CreateChannel{Name: "c", Type: ptr(ChannelDM)}, "CreateChannel.type", "oneof")
	f(CreateChannel{Name: "c", Type: ptr(ChannelText)}, "", "")
	f(CreateChannel{Name: "c", UserLimit: ptr(100)}, "CreateChannel.user_limit", "max")
	f(CreateChannel{Name: "c", PermissionOverwrites: []ChannelOverwrite{{ID: 1}, {}}}, "CreateChannel.permission_overwrites[1].id", "required")
	f(UpdateChannel{PermissionOverwrites: &[]ChannelOverwrite{{ID: 1, Type: 2}}}, "UpdateChannel.permission_overwrites[0].type", "oneof")
	f(UpdateChannel{Topic: Some(strings.Repeat("t", 4097))}, "UpdateChannel.topic", "max")
	f(UpdateChannel{Topic: Some("\x00")}, "UpdateChannel.topic", "nonul")
	f(UpdateRole{UnicodeEmoji: Some("\x00")}, "UpdateRole.unicode_emoji", "nonul")
	f(CreateRole{Color: ptr(1 << 24)}, "CreateRole.color", "max")
	f(CreateRole{Colors: &SetRoleColors{Primary: ptr(-1)}}, "CreateRole.colors.primary_color", "min")
	f(CreateInvite{MaxUses: ptr(101)}, "CreateInvite.max_uses", "max")
	f(CreateInvite{MaxAge: ptr(0), MaxUses: ptr(0)}, "", "")
	f(UpdateMember{Nick: Some(strings.Repeat("n", 33))}, "UpdateMember.nick", "max")
	f(ListMessages{Limit: ptr(0)}, "ListMessages.limit", "min")
	f(ListMessages{Limit: ptr(101)}, "ListMessages.limit", "max")

	f(BanUser{DeleteMessageSeconds: ptr(604801)}, "BanUser.delete_message_seconds", "max")
	f(BanUser{DeleteMessageDays: ptr(8)}, "BanUser.delete_message_days", "max")
	f(ListBans{Limit: ptr(1001)}, "ListBans.limit", "max")

	f(Register{Username: "ann", Password: "correct horse"}, "", "")
	f(Register{Username: "a", Password: "correct horse"}, "Register.username", "min")
	f(Register{Username: "ann", Password: "short"}, "Register.password", "min")
	f(Register{Username: "ann", Password: "correct horse", Email: ptr("ann")}, "Register.email", "email")
	f(Login{Login: "ann", Password: "x"}, "", "")
}
