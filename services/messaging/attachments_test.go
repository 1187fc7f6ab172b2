package messaging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/files"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// pic is a picture of w × h as PNG.
func pic(t testing.TB, w, h int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// upload sends a form: payload_json, and files as name, content, name, content and so on.
func (b *bundle) upload(user id.ID, method, path, payload string, content ...string) answer {
	b.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	err := w.WriteField("payload_json", payload)
	for i := 0; err == nil && i < len(content); i += 2 {
		var part io.Writer
		if part, err = w.CreateFormFile(fmt.Sprintf("files[%d]", i/2), content[i]); err == nil {
			_, err = io.WriteString(part, content[i+1])
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		b.t.Fatal(err)
	}
	return b.request(user, method, b.base+path, w.FormDataContentType(), &body)
}

func (b *bundle) request(user id.ID, method, url, kind string, body io.Reader) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, url, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", user.String())
	req.Header.Set("Content-Type", kind)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{status: resp.StatusCode, body: raw, header: resp.Header}
}

// fetch gets an attachment by its address, from the server of the test.
func (b *bundle) fetch(a wire.Attachment) answer {
	b.t.Helper()
	return b.get(a.URL)
}

func (b *bundle) get(address string) answer {
	b.t.Helper()
	path, ok := strings.CutPrefix(address, "http://chat.example/")
	if !ok {
		b.t.Fatalf("the address %q", address)
	}
	return b.request(0, "GET", strings.TrimSuffix(b.base, "api/v10")+path, "", nil)
}

// kept is how many files there are in the store.
func (b *bundle) kept() (n int) {
	b.t.Helper()
	err := filepath.WalkDir(b.dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bundle) used() int64 {
	b.t.Helper()
	n, err := b.svc.store.used(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// collects does what the collector does in a while.
func (b *bundle) collects() {
	b.t.Helper()
	if err := (&collector{s: b.svc}).round(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// atOnce makes everything old that has no message, and leaves collecting to the test.
var atOnce = Config{OrphanAge: time.Nanosecond, CollectEvery: time.Hour}

func TestAttachments_AreSentStoredAndServed(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	picture := pic(t, 30, 20)
	a := b.upload(memberID, "POST", path(generalID), `{"content":"look","attachments":[{"id":0,"description":"a cat","filename":"my cat.png"},{"id":"1","is_spoiler":true,"title":"T"}]}`,
		"x.png", picture, "notes.txt", "some text")
	sent := b.message(a)
	if len(sent.Attachments) != 2 {
		t.Fatalf("%s", a.body)
	}
	cat, notes := sent.Attachments[0], sent.Attachments[1]
	description, title := "a cat", "T"
	want := []wire.Attachment{
		{ID: cat.ID, Filename: "my_cat.png", Size: int64(len(picture)), URL: cat.URL, ProxyURL: cat.URL, ContentType: "image/png", Width: 30, Height: 20, Description: &description},
		{ID: notes.ID, Filename: "SPOILER_notes.txt", Size: 9, URL: notes.URL, ProxyURL: notes.URL, ContentType: "text/plain; charset=utf-8", Title: &title, Flags: wire.AttachmentSpoiler},
	}
	if diff := cmp.Diff(want, []wire.Attachment(sent.Attachments)); diff != "" {
		t.Error(diff)
	}
	f := func(when string) {
		t.Helper()
		for name, a := range map[string]answer{
			"the message": b.do(memberID, "GET", path(generalID, sent.ID), nil),
			"the history": b.do(memberID, "GET", path(generalID)+"?limit=1", nil),
		} {
			body := bytes.TrimSuffix(bytes.TrimPrefix(a.body, []byte("[")), []byte("]"))
			var got wire.Message
			if err := json.Unmarshal(body, &got); err != nil || cmp.Diff(sent.Attachments, got.Attachments) != "" {
				t.Errorf("%s, %s: %s", when, name, a.body)
			}
		}
		got := b.fetch(cat)
		if string(got.body) != picture || got.header.Get("Content-Type") != "image/png" || got.header.Get("Content-Disposition") != `inline; filename="my_cat.png"` {
			t.Errorf("%s: %d %v", when, got.status, got.header)
		}
		if got := b.fetch(notes); string(got.body) != "some text" || !strings.HasPrefix(got.header.Get("Content-Disposition"), "attachment; ") {
			t.Errorf("%s: %d %v", when, got.status, got.header)
		}
	}
	f("in the log")
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	b.collects()
	f("stored")
	if b.kept() != 2 || b.used() != int64(len(picture))+9 {
		t.Errorf("%d files, %d bytes", b.kept(), b.used())
	}
	var row string
	if err := b.pool.QueryRow(t.Context(), "SELECT body FROM messages WHERE id = $1", int64(sent.ID)).Scan(&row); err != nil || strings.Contains(row, "hm=") {
		t.Errorf("the row has an address that is good: %s, %v", row, err)
	}
}

func TestAttachments_NeedNoText(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	if m := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "")); len(m.Attachments) != 1 || m.Attachments[0].Size != 0 {
		t.Errorf("%+v", m.Attachments)
	} else if got := b.fetch(m.Attachments[0]); got.status != 200 || len(got.body) != 0 {
		t.Errorf("an empty file: %d %q", got.status, got.body)
	}
	b.refused("nothing at all", b.upload(memberID, "POST", path(generalID), `{}`), 400, 50006)
	a := b.request(memberID, "POST", b.base+path(generalID), "application/x-www-form-urlencoded", strings.NewReader("content=100%25&tts=false&nonce=7"))
	if m := b.message(a); m.Content != "100%" || m.Nonce.Text() != "7" {
		t.Errorf("%s", a.body)
	}
}

func TestAttachments_NeedThePermission(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.everyone(2, perm.DefaultEveryone&^perm.AttachFiles)
	m := b.post(map[string]any{"content": "text"})
	for what, a := range map[string]answer{
		"post":       b.upload(memberID, "POST", path(generalID), `{"content":"x"}`, "a", "A"),
		"patch":      b.upload(memberID, "PATCH", path(generalID, m.ID), `{"content":"x"}`, "a", "A"),
		"a stranger": b.upload(outsiderID, "POST", path(generalID), `{"content":"x"}`, "a", "A"),
	} {
		want := 50013
		if what == "a stranger" {
			want = 50001
		}
		b.refused(what, a, 403, want)
	}
	if b.kept() != 0 || b.used() != 0 {
		t.Errorf("%d files, %d bytes", b.kept(), b.used())
	}
}

func TestAttachments_AreWhatIsThere(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.refused("no such file", b.upload(memberID, "POST", path(generalID), `{"attachments":[{"id":1}]}`, "a", "A"), 400, 50035)
	b.refused("twice", b.upload(memberID, "POST", path(generalID), `{"attachments":[{"id":0},{"id":0}]}`, "a", "A"), 400, 50035)
	b.refused("no id", b.upload(memberID, "POST", path(generalID), `{"attachments":[{"filename":"a"}]}`, "a", "A"), 400, 50035)
	b.refused("no file", b.do(memberID, "POST", path(generalID), `{"content":"x","attachments":[{"id":0}]}`), 400, 50035)
	m := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "A"))
	other := b.post(map[string]any{"content": "x"})
	steal := fmt.Sprintf(`{"attachments":[{"id":"%s"}]}`, m.Attachments[0].ID)
	b.refused("another message's", b.do(memberID, "PATCH", path(generalID, other.ID), steal), 400, 50035)
	eleven := make([]string, 0, 22)
	for range 11 {
		eleven = append(eleven, "a", "A")
	}
	b.refused("eleven", b.upload(memberID, "POST", path(generalID), `{}`, eleven...), 400, 50035)
	b.refused("ten and one", b.upload(memberID, "PATCH", path(generalID, m.ID), `{}`, eleven[:20]...), 400, 50035)
	b.refused("a file that is too large", b.upload(memberID, "POST", path(generalID), `{}`, "a", strings.Repeat("x", 1<<20+1)), 400, 50045)
}

func TestAttachments_AreKeptAndAddedByAnEdit(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "A", "b", "B"))
	edit := func(payload string, content ...string) wire.Message {
		t.Helper()
		return b.message(b.upload(memberID, "PATCH", path(generalID, m.ID), payload, content...))
	}
	names := func(m wire.Message) (out []string) {
		for _, a := range m.Attachments {
			out = append(out, a.Filename)
		}
		return out
	}
	f := func(what string, got wire.Message, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, names(got)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	f("without a list all stay", edit(`{"content":"x"}`), "a", "b")
	f("and more come", edit(`{}`, "c", "C"), "a", "b", "c")
	now := edit(fmt.Sprintf(`{"attachments":[{"id":"%s","description":"D"},{"id":0,"filename":"e"}]}`, m.Attachments[1].ID), "d", "D")
	f("what is listed stays", now, "b", "e")
	if d := now.Attachments[0].Description; d == nil || *d != "D" {
		t.Errorf("the description is %v", d)
	}
	b.stored()
	b.collects()
	if got := b.fetch(m.Attachments[0]); got.status != 404 {
		t.Errorf("what was dropped: %d", got.status)
	}
	for _, a := range now.Attachments {
		if got := b.fetch(a); got.status != 200 {
			t.Errorf("%s: %d", a.Filename, got.status)
		}
	}
	if b.kept() != 2 || b.used() != 2 {
		t.Errorf("%d files, %d bytes", b.kept(), b.used())
	}
	f("text alone", edit(`{"content":"x","attachments":[]}`))
	b.refused("nothing at all", b.do(memberID, "PATCH", path(generalID, m.ID), `{"content":""}`), 400, 50006)
	b.refused("another's", b.upload(ownerID, "PATCH", path(generalID, m.ID), `{}`, "a", "A"), 403, 50005)
	b.stored()
	b.collects()
	if b.kept() != 0 || b.used() != 0 {
		t.Errorf("%d files, %d bytes", b.kept(), b.used())
	}
}

func TestAttachments_GoWithTheirMessage(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	quick := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "A"))
	b.do(memberID, "DELETE", path(generalID, quick.ID), nil) // in one batch with its create
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "A"))
	b.stored()
	if got := b.fetch(quick.Attachments[0]); got.status != 404 {
		t.Errorf("deleted before it was stored: %d", got.status)
	}
	b.svc.groups.Stop() // so that only the overlay knows
	b.do(memberID, "DELETE", path(generalID, m.ID), nil)
	last, err := b.log.Last(t.Context())
	if err == nil {
		err = b.tail.WaitFor(t.Context(), last)
	}
	if got := b.fetch(m.Attachments[0]); err != nil || got.status != 404 {
		t.Errorf("at once: %d, %v", got.status, err)
	}
	if err := b.svc.groups.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	b.collects()
	if b.kept() != 0 || b.used() != 0 {
		t.Errorf("%d files, %d bytes", b.kept(), b.used())
	}
}

func TestAttachments_GoWithTheirChannelAndGuild(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	here := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "A"))
	there := b.message(b.upload(ownerID, "POST", path(hiddenID), `{}`, "b", "B"))
	b.cold(bus.Entry{Type: wire.ChannelDeleted, Guild: guildID, Channel: generalID, Version: 2}, wire.ChannelDeletedPayload{ChannelID: generalID})
	b.stored()
	if got, other := b.fetch(here.Attachments[0]), b.fetch(there.Attachments[0]); got.status != 404 || other.status != 200 {
		t.Errorf("the channel is gone: %d there, %d elsewhere", got.status, other.status)
	}
	b.collects()
	if b.kept() != 1 {
		t.Errorf("%d files", b.kept())
	}
	b.cold(bus.Entry{Type: wire.ServerDeleted, Guild: guildID, Version: 3}, wire.ServerDeletedPayload{GuildID: guildID})
	b.stored()
	if got := b.fetch(there.Attachments[0]); got.status != 404 {
		t.Errorf("the guild is gone: %d", got.status)
	}
	b.collects()
	if b.kept() != 0 || b.used() != 0 {
		t.Errorf("%d files, %d bytes", b.kept(), b.used())
	}
}

func TestAttachments_OfARepeatAreGivenUp(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	const payload = `{"content":"x","nonce":"n","enforce_nonce":true}`
	first := b.message(b.upload(memberID, "POST", path(generalID), payload, "a", "A"))
	again := b.message(b.upload(memberID, "POST", path(generalID), payload, "b", "B"))
	if again.ID != first.ID || len(again.Attachments) != 1 || again.Attachments[0].ID != first.Attachments[0].ID {
		t.Errorf("%+v, then %+v", first, again)
	}
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.collects()
	if got := b.fetch(first.Attachments[0]); got.status != 200 || b.kept() != 1 {
		t.Errorf("%d, %d files", got.status, b.kept())
	}
}

// TestAttachments_StayWhenTheirOwnPublishWasARepeat: the reply to a publish was lost, the log asked again, and was told that it is there already.
func TestAttachments_StayWhenTheirOwnPublishWasARepeat(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	ctx := t.Context()
	grant, err := b.roster.Can(ctx, memberID, generalID, perm.SendMessages)
	if err != nil {
		t.Fatal(err)
	}
	in := wire.CreateMessage{Nonce: `"n"`, EnforceNonce: true}
	publish := func(attachment id.ID) *brought {
		t.Helper()
		files := &brought{attachments: []wire.Attachment{{ID: attachment, Filename: "a"}}}
		body := wire.MessageBody{ChannelID: generalID, Attachments: files.attachments}
		if _, err := b.svc.publishCreate(ctx, grant, wire.User{ID: memberID}, body, in, files); err != nil {
			t.Fatal(err)
		}
		return files
	}
	f := func(what string, attachment id.ID, want bool) {
		t.Helper()
		if got := publish(attachment).used; got != want {
			t.Errorf("%s: the files are used: %v", what, got)
		}
	}
	f("at first", 1, true)
	f("the same again", 1, true)
	f("others under the same nonce", 2, false)
}

func TestAttachments_AreAnsweredOnlyByAGoodAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a.txt", "A")).Attachments[0]
	other := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "b.txt", "B")).Attachments[0]
	address, query, _ := strings.Cut(a.URL, "?")
	_, foreign, _ := strings.Cut(other.URL, "?")
	for what, url := range map[string]string{
		"no signature":     address,
		"an empty one":     address + "?ex=&hm=",
		"another's":        address + "?" + foreign,
		"another end":      strings.Replace(a.URL, "ex=", "ex=1", 1),
		"another name":     strings.Replace(a.URL, "a.txt", "b.txt", 1),
		"another channel":  strings.Replace(a.URL, generalID.String(), hiddenID.String(), 1),
		"no such file":     strings.Replace(a.URL, a.ID.String(), "7", 1),
		"a signature more": address + "?" + query + "A",
	} {
		if got := b.get(url); got.status != 404 || got.code() != 0 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
}

func TestAttachments_KeepWithinTheRoomThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{UserFileBytes: 10, FileBytes: 15, OrphanAge: time.Nanosecond, CollectEvery: time.Hour})
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.refused("more than one may have", b.upload(memberID, "POST", path(generalID), `{}`, "a", "12345", "b", "123456"), 413, 40005)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var sent []wire.Message
	for range 8 {
		wg.Go(func() {
			a := b.upload(memberID, "POST", path(generalID), `{}`, "a", "123")
			mu.Lock()
			defer mu.Unlock()
			if a.status == http.StatusOK {
				sent = append(sent, b.message(a))
			} else if a.status != http.StatusRequestEntityTooLarge && a.status != http.StatusTooManyRequests {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if len(sent) == 0 || len(sent) > 3 || b.used() != int64(3*len(sent)) {
		t.Errorf("%d sent, %d bytes", len(sent), b.used())
	}
	for len(sent) < 3 { // those that were too many at once
		sent = append(sent, b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "123")))
	}
	b.refused("no room for all", b.upload(ownerID, "POST", path(generalID), `{}`, "a", "1234567"), 413, 40005)
	b.do(memberID, "DELETE", path(generalID, sent[0].ID), nil)
	b.stored()
	b.collects()
	b.message(b.upload(ownerID, "POST", path(generalID), `{}`, "a", "1234567"))
	if b.used() != 13 {
		t.Errorf("%d bytes", b.used())
	}
}

// A message is in the log, and the writer has not stored it yet: its file is no orphan, however long that takes.
func TestCollector_WaitsForTheWriter(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	m := b.message(b.upload(memberID, "POST", path(generalID), `{}`, "a", "A"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := (&collector{s: b.svc}).round(ctx); err == nil {
		t.Error("it has not waited")
	}
	if got := b.fetch(m.Attachments[0]); got.status != 200 {
		t.Errorf("not stored yet: %d", got.status)
	}
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.collects()
	if got := b.fetch(m.Attachments[0]); got.status != 200 || b.kept() != 1 {
		t.Errorf("%d, %d files", got.status, b.kept())
	}
}

// A process has stored a file and then stood still. When it goes on, the collector has been there, and its message is refused.
func TestCollector_IsNeverOvertakenByALatePublish(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	orphan := file{id: 77, channel: generalID, guild: guildID, user: memberID, key: files.NewKey(), name: "a", contentType: octets, size: 5}
	if err := b.svc.store.reserve(t.Context(), []file{orphan}, 100, 100); err != nil {
		t.Fatal(err)
	}
	b.collects()
	if b.used() != 0 {
		t.Errorf("%d bytes", b.used())
	}
	_, err := b.log.Publish(t.Context(), bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Guild: guildID, Channel: generalID, Body: []byte("{}")}, Brings: []id.ID{orphan.id}})
	if !errors.Is(err, bus.ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

// What a message shows that waits as a dead letter is no orphan.
func TestCollector_LeavesTheFilesOfDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	m := b.message(b.upload(memberID, "POST", path(generalID), `{"content":"poison"}`, "a", "A"))
	b.sicken()
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	if n, _, err := b.svc.graves.state(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d dead letters, %v", n, err)
	}
	b.collects()
	if got := b.fetch(m.Attachments[0]); got.status != 200 || b.kept() != 1 {
		t.Errorf("%d, %d files", got.status, b.kept())
	}
	b.mend()
	b.replay(bus.PositionOf(m.ID))
	b.collects()
	if got := b.fetch(m.Attachments[0]); got.status != 200 || b.kept() != 1 {
		t.Errorf("replayed: %d, %d files", got.status, b.kept())
	}
}

// TestAttachments_StandInEmbeds where they are named, also when an edit names one that is there already.
func TestAttachments_StandInEmbeds(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	good := func(url string) {
		t.Helper()
		if got := b.get(url); got.status != 200 {
			t.Errorf("%s: %d %s", url, got.status, got.body)
		}
	}
	const everywhere = `{"content":"x","embeds":[{"title":"t","image":{"url":"attachment://a b.png"},"thumbnail":{"url":"https://a.example/b.png"},
		"footer":{"text":"f","icon_url":"attachment://c.png"},"author":{"name":"n","url":"https://a.example","icon_url":"attachment://c.png"}}]}`
	m := b.message(b.upload(memberID, "POST", path(generalID), everywhere, "a b.png", pic(t, 1, 1), "c.png", pic(t, 2, 1)))
	e := m.Embeds[0]
	if e.Image.URL != m.Attachments[0].URL || e.Footer.IconURL != m.Attachments[1].URL || e.Author.IconURL != e.Footer.IconURL ||
		e.Thumbnail.URL != "https://a.example/b.png" || e.Author.URL != "https://a.example" {
		t.Fatalf("%+v of %+v", e, m.Attachments)
	}
	good(e.Image.URL)
	edited := b.message(b.do(memberID, "PATCH", path(generalID, m.ID), `{"embeds":[{"title":"t","image":{"url":"attachment://c.png"}}]}`))
	if got := edited.Embeds[0].Image.URL; got != e.Footer.IconURL {
		t.Errorf("got %s, want %s", got, e.Footer.IconURL)
	}
	b.start()
	b.settled()
	good(b.message(b.do(ownerID, "GET", path(generalID, m.ID), nil)).Embeds[0].Image.URL)
	for _, image := range []string{"attachment://other.png", "attachment://", "/attachments/1/2/a.png", "attachment:c.png"} {
		b.refused(image, b.do(memberID, "PATCH", path(generalID, m.ID), `{"embeds":[{"image":{"url":"`+image+`"}}]}`), 400, 50035)
	}
	b.refused("as a link", b.do(memberID, "PATCH", path(generalID, m.ID), `{"embeds":[{"title":"t","url":"attachment://c.png"}]}`), 400, 50035)
	b.refused("of no file", b.do(memberID, "POST", path(generalID), `{"embeds":[{"image":{"url":"attachment://c.png"}}]}`), 400, 50035)
}
