package wire

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/id"
)

func TestOptional_TellsAbsentNullAndValueApart(t *testing.T) {
	t.Parallel()
	f := func(in string, want UpdateChannel) {
		t.Helper()
		var got UpdateChannel
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
		b, err := json.Marshal(got)
		if err != nil || string(b) != in {
			t.Errorf("%s goes out as %s, %v", in, b, err)
		}
	}
	f(`{}`, UpdateChannel{})
	f(`{"topic":null}`, UpdateChannel{Topic: Clear[string]()})
	f(`{"topic":""}`, UpdateChannel{Topic: Some("")})
	f(`{"topic":"t","parent_id":"7"}`, UpdateChannel{Topic: Some("t"), ParentID: Some(id.ID(7))})
	f(`{"parent_id":null}`, UpdateChannel{ParentID: Clear[id.ID]()})
	f(`{"permission_overwrites":[]}`, UpdateChannel{PermissionOverwrites: &[]ChannelOverwrite{}})
}

func TestOptional_WrongTypeNamesTheField(t *testing.T) {
	t.Parallel()
	f := func(body any, in, field string) {
		t.Helper()
		err := json.Unmarshal([]byte(in), body)
		var typeErr *json.UnmarshalTypeError
		if !errors.As(err, &typeErr) || typeErr.Field != field {
			t.Errorf("%s: %v does not name %s", in, err, field)
		}
	}
	f(new(UpdateChannel), `{"topic":1}`, "topic")
	f(new(UpdateChannel), `{"parent_id":"x"}`, "parent_id")
	f(new(EditMessage), `{"embeds":[{"fields":[{"name":1}]}]}`, "embeds.fields.name")
	f(new(CreateMessage), `{"nonce":1.5}`, "nonce")
	f(new(CreateMessage), `{"embeds":[{"timestamp":"soon"}]}`, "embeds.timestamp")
	f(new(CreateChannel), `{"type":"text"}`, "type")
}

func TestTime_RoundTripsAndReadsOffsets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Time(rapid.Uint64Range(1, 4e12).Draw(t, "ms"))
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Time
		if err := json.Unmarshal(b, &got); err != nil || got != want || At(want.Time()) != want {
			t.Fatalf("%s came back as %d, %v", b, got, err)
		}
	})
	var got Time
	if err := json.Unmarshal([]byte(`"2024-01-01T02:00:00.123+02:00"`), &got); err != nil || got != sampleTime {
		t.Errorf("got %d, %v", got, err)
	}
	if b, err := json.Marshal(At(time.Time{})); err != nil || string(b) != "null" {
		t.Errorf("no time goes out as %s, %v", b, err)
	}
}

func TestNonce_IsEchoedAsItCame(t *testing.T) {
	t.Parallel()
	f := func(in, out, text string) {
		t.Helper()
		var m CreateMessage
		if err := json.Unmarshal([]byte(`{"nonce":`+in+`}`), &m); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		b, err := json.Marshal(MessageBody{Nonce: m.Nonce})
		if err != nil || strings.Contains(string(b), `"nonce":`+out) != (out != "") || m.Nonce.Text() != text {
			t.Errorf("%s goes out in %s as %q, %v", in, b, m.Nonce.Text(), err)
		}
	}
	f(`"abc"`, `"abc"`, "abc")
	f(`"\u0061bc"`, `"abc"`, "abc")
	f(`"1"`, `"1"`, "1")
	f(`1`, `1`, "1")
	f(`-9223372036854775808`, `-9223372036854775808`, "-9223372036854775808")
	f(`null`, ``, "")
	for _, bad := range []string{`true`, `{}`, `1e3`, `9223372036854775808`} {
		if err := json.Unmarshal([]byte(`{"nonce":`+bad+`}`), new(CreateMessage)); err == nil {
			t.Errorf("nonce %s was accepted", bad)
		}
	}
}

func TestResponses_KeepNothingNullThatIsAList(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(struct {
		Guild   GuildCreate
		Message MessageBody
		Ready   Ready
		Server  ServerCreatedPayload
	}{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"roles", "emojis", "features", "channels", "threads", "members", "voice_states", "presences", "stage_instances",
		"guild_scheduled_events", "soundboard_sounds", "mentions", "mention_roles", "attachments", "embeds", "components", "guilds",
		"private_channels", "relationships", "_trace"} {
		if !strings.Contains(string(b), `"`+key+`":[]`) {
			t.Errorf("%s is not an empty list", key)
		}
	}
	if !strings.Contains(string(b), `"user_settings":{}`) {
		t.Error("user_settings is not an empty object")
	}
}

func TestUnmarshal_GivesBackWhatWasMarshalled(t *testing.T) {
	t.Parallel()
	f := func(in, out any) {
		t.Helper()
		b, err := json.Marshal(in)
		if err == nil {
			err = json.Unmarshal(b, out)
		}
		if err != nil {
			t.Errorf("%T: %v", in, err)
		}
		again, err := json.Marshal(out)
		if err != nil || string(b) != string(again) {
			t.Errorf("%T: %v\n%s\n%s", in, err, b, again)
		}
	}
	f(sampleUser(), new(User))
	f(sampleChannel(), new(Channel))
	f(sampleRole(), new(Role))
	f(sampleMember(), new(MemberRecord))
	f(sampleGuild(), new(Guild))
	f(sampleInvite(), new(Invite))
	f(sampleBody(), new(MessageBody))
	f(Message{ID: sampleID, Timestamp: sampleTime, Author: sampleUser(), MessageBody: sampleBody()}, new(Message))
	f(ServerCreatedPayload{Guild: sampleGuild(), Channels: List[Channel]{sampleChannel()}, Roles: List[Role]{sampleRole()}, Members: List[MemberRecord]{sampleMember()}}, new(ServerCreatedPayload))
	f(Ready{Guilds: List[UnavailableGuild]{{ID: sampleID, Unavailable: true}}}, new(Ready))
}

func TestUnmarshal_TakesNullForWhatMayBeLeftOut(t *testing.T) {
	t.Parallel()
	f := func(body any, keys ...string) {
		t.Helper()
		in := map[string]any{}
		for _, k := range keys {
			in[k] = nil
		}
		b, err := json.Marshal(in)
		if err == nil {
			err = json.Unmarshal(b, body)
		}
		if err != nil {
			t.Errorf("%T: %v", body, err)
		}
		if err := NewValidator().Struct(body); err != nil {
			t.Errorf("%T: %v", body, err)
		}
	}
	f(new(CreateMessage), "content", "embeds", "allowed_mentions", "message_reference", "nonce", "enforce_nonce", "tts", "flags")
	f(new(EditMessage), "content", "embeds", "allowed_mentions", "flags")
	f(&CreateChannel{Name: "x"}, "type", "topic", "nsfw", "position", "parent_id", "rate_limit_per_user", "bitrate", "user_limit", "rtc_region", "permission_overwrites")
	f(new(UpdateChannel), "name", "topic", "nsfw", "position", "parent_id", "rate_limit_per_user", "bitrate", "user_limit", "rtc_region", "permission_overwrites")
	f(new(CreateRole), "name", "permissions", "color", "colors", "hoist", "mentionable", "unicode_emoji")
	f(new(UpdateRole), "name", "permissions", "color", "colors", "hoist", "mentionable", "unicode_emoji")
	f(new(CreateInvite), "max_age", "max_uses", "temporary", "unique")
	f(new(SetOverwrite), "type", "allow", "deny")
	f(new(UpdateMember), "nick", "roles", "communication_disabled_until")
	f(new(UpdateGuild), "name", "description")
	f(new(AllowedMentions), "parse", "roles", "users", "replied_user")
}

func TestIntents_ValidAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	want := map[int]bool{20: true, 21: true, 24: true, 25: true, 40: true}
	for bit := range 17 {
		want[bit] = true
	}
	for bit := range 64 {
		if got := Intents(1 << bit).Valid(); got != want[bit] {
			t.Errorf("bit %d: valid is %v", bit, got)
		}
	}
	if Intents(math.MaxUint64).Valid() {
		t.Error("all bits are valid")
	}
}

func TestEvents_NameKnownIntentsAndSomethingToDispatch(t *testing.T) {
	t.Parallel()
	for typ, e := range Events {
		if !e.Intent.Valid() || !e.DirectIntent.Valid() {
			t.Errorf("%s: intents %b %b", typ, e.Intent, e.DirectIntent)
		}
		for _, name := range e.Dispatches {
			if w, ok := DispatchIntents[name]; !ok || !w.Guild.Valid() || !w.Direct.Valid() {
				t.Errorf("%s dispatches %s, of which it is not known who wants it", typ, name)
			}
		}
		if len(e.Dispatches) == 0 && typ != UserCreated && typ != EpochBegan {
			t.Errorf("%s dispatches nothing", typ)
		}
	}
}
