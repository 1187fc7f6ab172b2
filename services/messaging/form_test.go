package messaging

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// TestMessages_OfBadFormAreRefused: what is wrong is named, in a create and in an edit alike.
func TestMessages_OfBadFormAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "m"})
	f := func(in wire.CreateMessage, want string) {
		t.Helper()
		for method, at := range map[string]string{"POST": path(generalID), "PATCH": path(generalID, m.ID)} {
			a := b.do(memberID, method, at, in)
			b.refused(method+" "+want, a, 400, 50035)
			if !strings.Contains(string(a.body), want) {
				t.Errorf("%s: %s, want %s", method, a.body, want)
			}
		}
	}
	embeds := func(e ...wire.Embed) wire.CreateMessage { return wire.CreateMessage{Content: "x", Embeds: e} }
	text := func(n int) string { return strings.Repeat("é", n) }
	f(embeds(make([]wire.Embed, 11)...), `"embeds":{"_errors"`)
	f(embeds(wire.Embed{Title: "t"}, wire.Embed{Color: new(int)}), `"embeds":{"1":{"description":{"_errors":[{"code":"BASE_TYPE_REQUIRED"`)
	f(embeds(wire.Embed{Title: text(257)}), `"title":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Description: text(4097)}), `"description":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Fields: make([]wire.EmbedField, 26)}), `"fields":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Fields: []wire.EmbedField{{Name: text(257), Value: "v"}}}), `"name":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Fields: []wire.EmbedField{{Name: "n", Value: text(1025)}}}), `"value":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Footer: &wire.EmbedFooter{Text: text(2049)}}), `"text":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Author: &wire.EmbedAuthor{Name: text(257)}}), `"name":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Description: text(4000)}, wire.Embed{Description: text(2001)}), `"embeds":{"_errors":[{"code":"BASE_TYPE_MAX_LENGTH"`)
	f(embeds(wire.Embed{Title: "t", URL: "javascript:alert(1)"}), `"url":{"_errors"`)
	f(wire.CreateMessage{Content: "x", AllowedMentions: &wire.AllowedMentions{Parse: []string{"users"}, Users: []id.ID{ownerID}}}, "PARSE_EXCLUSIVE")
	f(wire.CreateMessage{Content: "x", AllowedMentions: &wire.AllowedMentions{Parse: []string{"roles"}, Roles: []id.ID{modRoleID}}}, "PARSE_EXCLUSIVE")
	f(wire.CreateMessage{Content: "x", AllowedMentions: &wire.AllowedMentions{Parse: []string{"nobody"}}}, "BASE_TYPE_CHOICES")
	f(wire.CreateMessage{Content: "x", AllowedMentions: &wire.AllowedMentions{Users: make([]id.ID, 101)}}, `"users"`)
	if n := len(b.events(wire.MessageSent, wire.MessageUpdated)); n != 1 {
		t.Errorf("%d entries after refusals", n)
	}
	if m := b.post(embeds(wire.Embed{Description: text(4000)}, wire.Embed{Description: text(2000)})); len(m.Embeds) != 2 {
		t.Errorf("embeds at the limit: %+v", m.Embeds)
	}
}

func TestMessages_MentionWhomTheirAuthorAllows(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	text := fmt.Sprintf("@here <@%d> <@%d> <@&%d>", ownerID, memberID, modRoleID)
	asked := b.post(wire.CreateMessage{Content: "question"})
	f := func(allowed string, everyone bool, roles int, users ...id.ID) {
		t.Helper()
		in := fmt.Sprintf(`{"content":%q,"allowed_mentions":%s,"message_reference":{"message_id":"%s"}}`, text, allowed, asked.ID)
		m := b.message(b.do(ownerID, "POST", path(generalID), in))
		if m.MentionEveryone != everyone || len(m.MentionRoles) != roles || fmt.Sprint(userIDs(m.Mentions)) != fmt.Sprint(users) {
			t.Errorf("%s: %v, %v, %v", allowed, m.MentionEveryone, m.MentionRoles, userIDs(m.Mentions))
		}
	}
	f(`null`, true, 1, ownerID, memberID)
	f(`{}`, false, 0)
	f(`{"parse":[]}`, false, 0)
	f(`{"parse":["everyone"]}`, true, 0)
	f(`{"parse":["roles","users"]}`, false, 1, ownerID, memberID)
	f(fmt.Sprintf(`{"users":["%d","424242"]}`, ownerID), false, 0, ownerID)
	f(fmt.Sprintf(`{"parse":["users"],"roles":["%d"]}`, modRoleID), false, 1, ownerID, memberID)
	f(`{"replied_user":true}`, false, 0, memberID)
}

func TestMessages_HaveTheFlagsThatTheirAuthorMaySet(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	all := wire.FlagSuppressEmbeds | wire.FlagSuppressNotifications
	m := b.post(wire.CreateMessage{Content: "m", Flags: all | 1 | 1<<6, TTS: true})
	if m.Flags != all || m.TTS {
		t.Errorf("flags %b, tts %v", m.Flags, m.TTS)
	}
	b.everyone(2, perm.DefaultEveryone|perm.SendTTSMessages)
	if m := b.post(wire.CreateMessage{Content: "m", TTS: true}); !m.TTS {
		t.Error("with the permission it is not spoken")
	}
	flags := func(user id.ID, body string) answer { return b.do(user, "PATCH", path(generalID, m.ID), body) }
	if m := b.message(flags(memberID, `{"flags":0}`)); m.Flags != wire.FlagSuppressNotifications {
		t.Errorf("flags %b after an edit", m.Flags)
	}
	edited := b.message(b.do(memberID, "GET", path(generalID, m.ID), nil)).EditedTimestamp
	if m := b.message(flags(ownerID, `{"flags":4}`)); m.Flags != all || m.Author.ID != memberID || m.EditedTimestamp != edited {
		t.Errorf("by who manages messages: %+v", m)
	}
	b.refused("content by who manages messages", flags(ownerID, `{"flags":4,"content":"x"}`), 403, 50005)
	theirs := b.message(b.do(ownerID, "POST", path(generalID), wire.CreateMessage{Content: "theirs"})).ID
	b.refused("another's flags by a member", b.do(memberID, "PATCH", path(generalID, theirs), `{"flags":4}`), 403, 50013)
}

// TestReply_ForgetsWhatIsDeleted: what somebody has deleted must not be read in the answers to it, nor be told with them again.
func TestReply_ForgetsWhatIsDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	asked := b.post(wire.CreateMessage{Content: "question"}).ID
	reply := b.post(wire.CreateMessage{Content: "answer", Reference: &wire.ReferenceRequest{MessageID: asked}}).ID
	b.edit(asked, "another question")
	shown := func(when string) {
		t.Helper()
		m := b.message(b.do(memberID, "GET", path(generalID, reply), nil))
		if to := m.Referenced.Ptr(); to == nil || to.Content != "another question" {
			t.Errorf("%s: %+v", when, m.Referenced)
		}
	}
	shown("unstored")
	b.start()
	b.settled()
	shown("stored")
	b.remove(asked)
	for _, when := range []string{"unstored", "stored"} {
		for _, at := range []string{path(generalID, reply), path(generalID) + "?limit=10"} {
			if body := string(b.do(memberID, "GET", at, nil).body); strings.Contains(body, "question") || !strings.Contains(body, `"referenced_message":null`) {
				t.Errorf("%s, %s: %s", when, at, body)
			}
		}
		b.settled()
	}
	b.edit(reply, "answer, edited")
	b.done(ownerID, "PUT", pinPath(reply))
	for _, e := range b.events(wire.MessageUpdated, wire.PinsUpdated)[1:] {
		if strings.Contains(string(e.Body), "question") {
			t.Errorf("%s tells what was deleted: %s", e.Type, e.Body)
		}
	}
	b.refused("another reply", b.do(memberID, "POST", path(generalID), wire.CreateMessage{
		Content: "x", Reference: &wire.ReferenceRequest{MessageID: asked},
	}), 400, 50035)
}

func TestSlowMode_IsForWhoIsNotExempt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.cold(bus.Entry{Type: wire.ChannelUpdated, Guild: guildID, Channel: generalID, Version: 2}, wire.ChannelChangedPayload{
		Channel: wire.Channel{ID: generalID, GuildID: guildID, Name: "general", RateLimitPerUser: 21600},
	})
	m := b.post(wire.CreateMessage{Content: "1"})
	a := b.do(memberID, "POST", path(generalID), wire.CreateMessage{Content: "2"})
	b.refused("within the pause", a, 429, 20016)
	var body struct {
		RetryAfter float64 `json:"retry_after"`
	}
	if err := json.Unmarshal(a.body, &body); err != nil || body.RetryAfter <= 21000 || a.retryAfter == "" {
		t.Errorf("retry after %v, %q: %v", body.RetryAfter, a.retryAfter, err)
	}
	b.edit(m.ID, "1, edited")
	for range 2 {
		if a := b.do(ownerID, "POST", path(generalID), wire.CreateMessage{Content: "of the owner"}); a.status != http.StatusOK {
			t.Errorf("who is exempt: %d %s", a.status, a.body)
		}
	}
	b.everyone(3, perm.DefaultEveryone|perm.PinMessages)
	b.done(memberID, "PUT", pinPath(m.ID))
	if n := len(b.events(wire.MessageSent)); n != 4 {
		t.Errorf("%d messages, want the pin announced within the pause", n)
	}
}
