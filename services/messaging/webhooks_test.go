package messaging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

const hookID id.ID = 5000

// hook makes a webhook of the owner's in a channel, as the service that owns them does, and returns where it is called; version is the guild's next.
func (b *bundle) hook(version int64, channel id.ID) (url string) {
	b.t.Helper()
	secret, hash := token.NewWebhookToken()
	b.cold(bus.Entry{Type: wire.WebhookChanged, Guild: guildID, Channel: channel, Version: version}, wire.WebhookChangedPayload{Webhook: wire.WebhookRecord{
		ID: hookID, GuildID: guildID, ChannelID: channel, CreatorID: ownerID, ApplicationID: botID, Name: "hook", Avatar: new("abc"), TokenHash: hash,
	}})
	return "/webhooks/" + hookID.String() + "/" + secret
}

// TestWebhook_WritesEditsAndDeletes: each answer is what the history says, above the checkpoint and below it.
func TestWebhook_WritesEditsAndDeletes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	url := b.hook(2, generalID)
	body := fmt.Sprintf(`{"content":"@everyone <@%s> <@&%s>","username":" some body ","avatar_url":"https://example.org/a.png","embeds":[{"title":"t"}],"tts":true}`, memberID, modRoleID)
	m := b.message(b.do(0, "POST", url+"?wait=true", body))
	author := wire.User{ID: hookID, Username: "some body", Avatar: new("abc"), Discriminator: "0000", Bot: true}
	if diff := cmp.Diff(author, m.Author); diff != "" {
		t.Error(diff)
	}
	if m.WebhookID != hookID || m.ApplicationID != botID || m.Type != wire.MessageDefault || !m.MentionEveryone || len(m.Mentions) != 1 ||
		len(m.MentionRoles) != 1 || len(m.Embeds) != 1 || m.Member != nil {
		t.Errorf("written %+v", m)
	}
	at := url + "/messages/" + m.ID.String()
	same := func(when string) {
		t.Helper()
		var page []json.RawMessage
		if a := b.do(memberID, "GET", path(generalID), nil); json.Unmarshal(a.body, &page) != nil || len(page) == 0 {
			t.Fatalf("%s: %s", when, a.body)
		}
		one, by := b.do(memberID, "GET", path(generalID, m.ID), nil).body, b.do(0, "GET", at, nil).body
		if !bytes.Equal(page[len(page)-1], one) || !bytes.Equal(one, by) {
			t.Errorf("%s:\n%s\n%s\n%s", when, page, one, by)
		}
		if got := b.message(answer{status: 200, body: by}); cmp.Diff(author, got.Author) != "" || got.WebhookID != hookID || got.EditedTimestamp != m.EditedTimestamp {
			t.Errorf("%s: %s", when, by)
		}
	}
	same("written")
	edited := b.message(b.do(0, "PATCH", at, `{"content":"edited","allowed_mentions":{"parse":[]}}`))
	if edited.Content != "edited" || edited.EditedTimestamp == 0 || len(edited.Embeds) != 1 || edited.MentionEveryone || cmp.Diff(author, edited.Author) != "" {
		t.Errorf("edited %+v", edited)
	}
	m = edited
	same("edited")
	if a := b.do(ownerID, "PUT", "/channels/"+generalID.String()+"/pins/"+m.ID.String(), nil); a.status != 204 {
		t.Errorf("pin: %d %s", a.status, a.body)
	}
	reply := b.post(fmt.Sprintf(`{"content":"re","message_reference":{"message_id":"%s"}}`, m.ID))
	if to := reply.Referenced.Value; cmp.Diff(author, to.Author) != "" || to.WebhookID != hookID || len(reply.Mentions) != 0 {
		t.Errorf("a reply has %+v", to)
	}
	b.start()
	b.stored()
	fresh := b.do(memberID, "GET", path(generalID, reply.ID), nil)
	if to := b.message(fresh).Referenced.Value; cmp.Diff(author, to.Author) != "" || to.WebhookID != hookID {
		t.Errorf("stored, a reply has %+v", to)
	}
	if n := b.rows("author_id = $1", int64(hookID)); n != 1 {
		t.Errorf("%d rows", n)
	}
	if a := b.do(0, "DELETE", at, nil); a.status != 204 {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	b.refused("again", b.do(0, "DELETE", at, nil), 404, int(fault.UnknownMessage))
	b.refused("of the dead", b.do(0, "PATCH", at, `{"content":"x"}`), 404, int(fault.UnknownMessage))
	if a := b.do(0, "POST", url, `{"content":"nobody waits"}`); a.status != 204 || len(a.body) != 0 {
		t.Errorf("without wait: %d %s", a.status, a.body)
	}
	if got := b.history("?limit=1"); got[0] != "nobody waits" {
		t.Errorf("the history begins with %v", got)
	}
}

func TestWebhook_IsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	url := b.hook(2, generalID)
	mine := b.message(b.do(0, "POST", url+"?wait=1", `{"content":"mine"}`))
	theirs := b.post(`{"content":"theirs"}`)
	at := func(m wire.Message) string { return url + "/messages/" + m.ID.String() }
	for _, c := range []struct {
		method, path, body string
		status, code       int
	}{
		{"POST", url, `{}`, 400, int(fault.EmptyMessage)},
		{"POST", url, `{"content":" "}`, 400, int(fault.EmptyMessage)},
		{"POST", url, `{"content":"x","username":"` + string(bytes.Repeat([]byte("x"), 81)) + `"}`, 400, int(fault.InvalidForm)},
		{"POST", url, `{"content":"x","avatar_url":"javascript:1"}`, 400, int(fault.InvalidForm)},
		{"POST", url, `{"content":"x","embeds":[{}]}`, 400, int(fault.InvalidForm)},
		{"POST", url, `{"content":"x","thread_name":"t"}`, 400, int(fault.NoForumChannel)},
		{"POST", url + "?thread_id=7", `{"content":"x"}`, 404, int(fault.UnknownChannel)},
		{"POST", url + "?wait=maybe", `{"content":"x"}`, 400, int(fault.InvalidForm)},
		{"POST", url + "x", `{"content":"x"}`, 401, int(fault.InvalidWebhookToken)},
		{"POST", "/webhooks/" + hookID.String() + "/x", `{"content":"x"}`, 401, int(fault.InvalidWebhookToken)},
		{"POST", "/webhooks/77/x", `{"content":"x"}`, 404, int(fault.UnknownWebhook)},
		{"GET", at(theirs), "", 404, int(fault.UnknownMessage)},
		{"PATCH", at(theirs), `{"content":"x"}`, 404, int(fault.UnknownMessage)},
		{"DELETE", at(theirs), "", 404, int(fault.UnknownMessage)},
		{"GET", at(mine) + "?thread_id=7", "", 404, int(fault.UnknownChannel)},
		{"PATCH", at(mine) + "?thread_id=7", `{"content":"x"}`, 404, int(fault.UnknownChannel)},
		{"DELETE", at(mine) + "?thread_id=7", "", 404, int(fault.UnknownChannel)},
		{"PATCH", at(mine), `{"content":""}`, 400, int(fault.EmptyMessage)},
		{"GET", "/webhooks/" + hookID.String() + "/x/messages/" + mine.ID.String(), "", 401, int(fault.InvalidWebhookToken)},
	} {
		b.refused(c.method+" "+c.path+" "+c.body, b.do(0, c.method, c.path, c.body), c.status, c.code)
	}
	b.refused("another's edit", b.do(ownerID, "PATCH", path(generalID, mine.ID), `{"content":"x"}`), 403, int(fault.NotYourMessage))
	b.refused("another's delete", b.do(memberID, "DELETE", path(generalID, mine.ID), nil), 403, int(fault.MissingPermissions))
	if a := b.do(ownerID, "PATCH", path(generalID, mine.ID), `{"flags":4}`); a.status != 200 || b.message(a).Author.Username != "hook" {
		t.Errorf("embeds hidden by the owner: %s", a.body)
	}
	// Where it is now is the place of its messages; the old ones are others'.
	b.cold(bus.Entry{Type: wire.WebhookDeleted, Guild: guildID, Channel: generalID, Version: 3}, wire.WebhookDeletedPayload{WebhookID: hookID, ChannelID: generalID})
	url = b.hook(4, hiddenID)
	b.refused("where it was", b.do(0, "GET", url+"/messages/"+mine.ID.String(), nil), 404, int(fault.UnknownMessage))
	hidden := b.message(b.do(0, "POST", url+"?wait=true", `{"content":"hidden"}`))
	if hidden.ChannelID != hiddenID {
		t.Errorf("written to %s", hidden.ChannelID)
	}
	b.refused("what is hidden", b.do(memberID, "GET", path(hiddenID, hidden.ID), nil), 403, int(fault.MissingAccess))
	b.cold(bus.Entry{Type: wire.ChannelDeleted, Guild: guildID, Channel: hiddenID, Version: 5}, wire.ChannelDeletedPayload{ChannelID: hiddenID, Webhooks: []id.ID{hookID}})
	b.refused("gone with its channel", b.do(0, "POST", url, `{"content":"x"}`), 404, int(fault.UnknownWebhook))
}

// TestWebhook_IsNotRepeated: who is not answered asks again under the same nonce.
func TestWebhook_IsNotRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	url := b.hook(2, generalID) + "?wait=true"
	const body = `{"content":"once","username":"x","nonce":"n","enforce_nonce":true}`
	first := b.do(0, "POST", url, body)
	if m := b.message(first); m.Nonce != "" || bytes.Count(first.body, []byte(`"author":`)) != 1 {
		t.Errorf("told %s", first.body)
	}
	if again := b.do(0, "POST", url, body); !bytes.Equal(again.body, first.body) {
		t.Errorf("again\n%s\n%s", again.body, first.body)
	}
	b.message(b.do(0, "POST", url, `{"content":"twice","nonce":"n"}`))
	if diff := cmp.Diff([]string{"twice", "once"}, b.history("")); diff != "" {
		t.Error(diff)
	}
}

// TestWebhook_WritesNothingBehindItsEnd: its deletion in the midst of a stream of messages; the log has none behind it.
func TestWebhook_WritesNothingBehindItsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	url := b.hook(2, generalID)
	begun := make(chan struct{}, 64)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				switch a := b.do(0, "POST", url, `{"content":"x"}`); a.status {
				case http.StatusNoContent:
					select {
					case begun <- struct{}{}:
					default:
					}
				case http.StatusNotFound:
					return
				default:
					t.Errorf("%d %s", a.status, a.body)
					return
				}
			}
		})
	}
	for range 8 {
		<-begun
	}
	end := b.cold(bus.Entry{Type: wire.WebhookDeleted, Guild: guildID, Channel: generalID, Version: 3}, wire.WebhookDeletedPayload{WebhookID: hookID, ChannelID: generalID})
	all.Wait()
	n := 0
	for _, e := range b.events(wire.MessageSent) {
		if n++; end.Less(e.Pos) {
			t.Errorf("a message at %s, behind the end at %s", e.Pos, end)
		}
	}
	if n < 8 {
		t.Errorf("%d messages", n)
	}
}

// TestWebhook_CountsLikeOthers: mentions, search, reactions, files and bulk deletes take its messages for what they are.
func TestWebhook_CountsLikeOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	url := b.hook(2, generalID)
	m := b.message(b.do(0, "POST", url+"?wait=true", fmt.Sprintf(`{"content":"a rare word for <@%s>","username":"zebra"}`, memberID)))
	if _, mentions := b.entry(memberID, generalID); mentions != 1 {
		t.Errorf("%d mentions", mentions)
	}
	b.react(memberID, m.ID, "🦊")
	if got := b.message(b.do(0, "GET", url+"/messages/"+m.ID.String(), nil)); len(got.Reactions) != 1 || got.Reactions[0].Me {
		t.Errorf("reactions %+v", got.Reactions)
	}
	b.indexed()
	b.finds("content=rare", "a rare word for <@"+memberID.String()+">")
	b.finds("author_id="+hookID.String(), "a rare word for <@"+memberID.String()+">")
	b.finds("content=zebra") // which nobody has written

	a := b.upload(0, "POST", url+"?wait=true", `{"content":"file","attachments":[{"id":0,"description":"d"}]}`, "a.txt", "hello")
	file := b.message(a)
	if len(file.Attachments) != 1 || *file.Attachments[0].Description != "d" {
		t.Fatalf("with a file: %s", a.body)
	}
	if got := b.fetch(file.Attachments[0]); string(got.body) != "hello" {
		t.Errorf("the file is %s", got.body)
	}
	if n := b.count(`SELECT count(*) FROM attachments WHERE user_id = $1`, int64(ownerID)); n != 1 {
		t.Errorf("%d files count as the maker's", n)
	}
	a = b.upload(0, "PATCH", url+"/messages/"+file.ID.String(), `{"attachments":[]}`, "b.txt", "other")
	if got := b.message(a); len(got.Attachments) != 1 || got.Attachments[0].Filename != "b.txt" {
		t.Errorf("with another file: %s", a.body)
	}
	b.stored()
	if a := b.bulkDelete(ownerID, m.ID, file.ID); a.status != 204 {
		t.Errorf("bulk delete: %d %s", a.status, a.body)
	}
	b.stored()
	if n := b.rows("author_id = $1", int64(hookID)); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}
