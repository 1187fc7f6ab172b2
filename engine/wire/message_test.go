package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
)

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAppendMessage_EqualsTheMarshalledMessage(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]MessageBody{"empty": {}, "full": sampleBody()} {
		want := Message{ID: sampleID, Timestamp: Time(sampleID.Ms()), Author: sampleUser(), MessageBody: body}
		got := AppendMessage([]byte("x"), sampleID, mustJSON(t, sampleUser()), mustJSON(t, body))
		if string(got) != "x"+string(mustJSON(t, want)) {
			t.Errorf("%s:\n%s\n%s", name, got[1:], mustJSON(t, want))
		}
	}
}

func TestAppendMessageEvent_AddsGuildMemberAndChannelType(t *testing.T) {
	t.Parallel()
	f := func(want Message, got []byte) {
		t.Helper()
		var back Message
		if err := json.Unmarshal(got, &back); err != nil {
			t.Errorf("%v: %s", err, got)
		}
		if diff := cmp.Diff(string(mustJSON(t, want)), string(mustJSON(t, back))); diff != "" {
			t.Error(diff)
		}
	}
	author, member, body := sampleUser(), sampleMember().MemberFields, sampleBody()
	m := Message{ID: sampleID, Timestamp: Time(sampleID.Ms()), Author: author, MessageBody: body}
	in := m
	in.GuildID, in.Member, in.ChannelType = sampleID, &member, ptr(ChannelVoice)
	f(in, AppendMessageEvent(nil, sampleID, sampleID, ChannelVoice, mustJSON(t, author), mustJSON(t, member), mustJSON(t, body)))
	dm := m
	dm.ChannelType = ptr(ChannelDM)
	f(dm, AppendMessageEvent(nil, sampleID, 0, ChannelDM, mustJSON(t, author), nil, mustJSON(t, body)))
	f(dm, AppendMessageEvent(nil, sampleID, 0, ChannelDM, mustJSON(t, author), []byte("null"), mustJSON(t, body)))
}

func TestRedact_LeavesNothingToRead(t *testing.T) {
	t.Parallel()
	body := sampleBody()
	body.Content = "secret"
	body.Embeds[0].Title = "secret"
	body.Attachments[0].Filename = "secret"
	body.Referenced.Value.Content = "secret"
	b, err := Redact(mustJSON(t, body), true, true)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "secret") {
		t.Errorf("%s", b)
	}
	var got MessageBody
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Mentions) != 1 || got.Reference == nil || got.Nonce == "" {
		t.Errorf("more than the content is gone: %s", b)
	}
	for hidden, kept := range map[bool]string{true: `"content":"","mentions"`, false: `"content":"secret","mentions"`} {
		if b, err = Redact(mustJSON(t, body), hidden, !hidden); err != nil || !strings.Contains(string(b), kept) || !strings.Contains(string(b), "secret") {
			t.Errorf("hidden %v: %s, %v", hidden, b, err)
		}
	}
	want(t, "readers", RepliedReaders(mustJSON(t, body)), []id.ID{body.Referenced.Value.Author.ID})
	want(t, "readers of none", RepliedReaders(mustJSON(t, MessageBody{Content: "x"})), nil)
	if _, err := Redact([]byte(`{"type":`), true, true); err == nil {
		t.Error("a torn body was redacted")
	}
}

// TestAppendMessage_KeepsAnAuthorOfItsOwn: once, wherever a message is told, and also when its content is not.
func TestAppendMessage_KeepsAnAuthorOfItsOwn(t *testing.T) {
	t.Parallel()
	author := WebhookRecord{ID: sampleID, Name: "hook"}.Author("own")
	body := mustJSON(t, MessageBody{Own: &author, ChannelID: sampleID, Content: "secret", WebhookID: sampleID})
	bare, err := Redact(body, true, true)
	if err != nil || bytes.Contains(bare, []byte("secret")) {
		t.Fatalf("%s %v", bare, err)
	}
	other := mustJSON(t, sampleUser())
	for what, raw := range map[string][]byte{
		"a message": AppendMessage(nil, sampleID, other, body), "a bare one": AppendMessage(nil, sampleID, other, bare),
		"an event": AppendMessageEvent(nil, sampleID, 7, ChannelText, other, nil, body),
	} {
		var m Message
		if err := json.Unmarshal(raw, &m); err != nil || bytes.Count(raw, []byte(`"author":`)) != 1 {
			t.Errorf("%s: %s %v", what, raw, err)
		}
		want(t, what, m.Author, author)
		want(t, what, m.WebhookID, sampleID)
	}
}

func TestAppendDispatch_IsAFrame(t *testing.T) {
	t.Parallel()
	var f Frame
	if err := json.Unmarshal(AppendDispatch(nil, "READY", 7, []byte(`{"v":10}`)), &f); err != nil {
		t.Fatal(err)
	}
	if f.Op != OpDispatch || f.T == nil || *f.T != "READY" || f.S == nil || *f.S != 7 || string(f.D) != `{"v":10}` {
		t.Errorf("%+v", f)
	}
	f = Frame{}
	if err := json.Unmarshal(AppendFrame(nil, OpInvalidSession, []byte("false")), &f); err != nil {
		t.Fatal(err)
	}
	if f.Op != OpInvalidSession || f.T != nil || f.S != nil || string(f.D) != "false" {
		t.Errorf("%+v", f)
	}
}

func TestIdentify_ReadsBothSpellings(t *testing.T) {
	t.Parallel()
	f := func(in string, want IdentifyProperties) {
		t.Helper()
		var got Identify
		if err := json.Unmarshal([]byte(in), &got); err != nil || got.Properties != want {
			t.Errorf("%s: %+v, %v", in, got.Properties, err)
		}
	}
	f(`{"properties":{"os":"linux","browser":"b","device":"d"}}`, IdentifyProperties{"linux", "b", "d"})
	f(`{"properties":{"$os":"linux","$browser":"b","$device":"d"}}`, IdentifyProperties{"linux", "b", "d"})
	f(`{"properties":null}`, IdentifyProperties{})
	f(`{}`, IdentifyProperties{})
}

func TestRequestMembers_TakesOneIDOrMany(t *testing.T) {
	t.Parallel()
	f := func(in string, want OneOrMany) {
		t.Helper()
		var got RequestMembers
		if err := json.Unmarshal([]byte(`{"guild_id":`+in+`}`), &got); err != nil || !cmp.Equal(got.GuildID, want) {
			t.Errorf("%s: %v, %v", in, got.GuildID, err)
		}
	}
	f(`"7"`, OneOrMany{7})
	f(`["7","8"]`, OneOrMany{7, 8})
	f(`null`, nil)
	f(`[]`, OneOrMany{})
}

func BenchmarkAppendMessage(b *testing.B) {
	b.ReportAllocs()
	author, rest := mustJSON(b, sampleUser()), mustJSON(b, MessageBody{ChannelID: sampleID, Content: "hello"})
	dst := make([]byte, 0, 4096)
	for b.Loop() {
		dst = AppendMessage(dst[:0], sampleID, author, rest)
	}
}

func BenchmarkMessageBody_Marshal(b *testing.B) {
	b.ReportAllocs()
	body := MessageBody{ChannelID: sampleID, Content: "hello"}
	for b.Loop() {
		mustJSON(b, body)
	}
}
