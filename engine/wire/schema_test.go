package wire

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
)

// schema is as much of JSON Schema as testdata/schemas.json needs.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       any               `json:"type"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	OneOf      []schema          `json:"oneOf"`
	Const      any               `json:"const"`
	Enum       []any             `json:"enum"`
	Pattern    string            `json:"pattern"`
	Minimum    *float64          `json:"minimum"`
	Maximum    *float64          `json:"maximum"`
}

type schemas map[string]schema

func loadSchemas(t *testing.T) schemas {
	t.Helper()
	b, err := os.ReadFile("testdata/schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schemas
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check lists where v differs from s. A key that the schema does not know is a difference,
// too: it would be a misspelt one.
func (all schemas) check(s schema, path string, v any) []string {
	if s.Ref != "" {
		named, ok := all[s.Ref]
		if !ok {
			return []string{fmt.Sprintf("%s: %s is not among the schemas", path, s.Ref)}
		}
		return all.check(named, path, v)
	}
	if len(s.OneOf) > 0 {
		var tried []string
		for _, one := range s.OneOf {
			bad := all.check(one, path, v)
			if len(bad) == 0 {
				tried = nil
				break
			}
			tried = append(tried, bad...)
		}
		if tried != nil {
			return tried
		}
	}
	if s.Const != nil && s.Const != v {
		return []string{fmt.Sprintf("%s: %v is not %v", path, v, s.Const)}
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return []string{fmt.Sprintf("%s: %v is none of %v", path, v, s.Enum)}
	}
	if s.Type != nil && !isOfType(s.Type, v) {
		return []string{fmt.Sprintf("%s: %v is not of type %v", path, v, s.Type)}
	}
	switch v := v.(type) {
	case string:
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			return []string{fmt.Sprintf("%s: %q does not match %s", path, v, s.Pattern)}
		}
	case float64:
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			return []string{fmt.Sprintf("%s: %v is out of range", path, v)}
		}
	case []any:
		var bad []string
		for i, e := range v {
			if s.Items != nil {
				bad = append(bad, all.check(*s.Items, fmt.Sprintf("%s[%d]", path, i), e)...)
			}
		}
		return bad
	case map[string]any:
		return all.checkObject(s, path, v)
	}
	return nil
}

func (all schemas) checkObject(s schema, path string, v map[string]any) []string {
	var bad []string
	for _, k := range s.Required {
		if _, ok := v[k]; !ok {
			bad = append(bad, fmt.Sprintf("%s: %s is missing", path, k))
		}
	}
	if s.Properties == nil {
		return bad
	}
	for k, e := range v {
		p, ok := s.Properties[k]
		if !ok {
			bad = append(bad, fmt.Sprintf("%s: %s is not in the schema", path, k))
			continue
		}
		bad = append(bad, all.check(p, path+"."+k, e)...)
	}
	return bad
}

func isOfType(want any, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return isOfType(w, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case string:
		return want == "string"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

func ptr[T any](v T) *T { return &v }

const (
	sampleID   id.ID = 175928847299117063
	sampleTime Time  = 1704067200123
)

// The samples are each given twice: zero as far as that can be, and full.
func sampleUser() User {
	return User{ID: sampleID, Username: "ann", Avatar: ptr("a"), GlobalName: ptr("Ann"), Bot: true, Banner: ptr("b"), AccentColor: ptr(1)}
}

func sampleChannel() Channel {
	return Channel{
		ID: sampleID, Type: ChannelVoice, GuildID: sampleID, Name: "voice", Position: 1, ParentID: sampleID, Topic: ptr("t"),
		LastMessageID: sampleID, Bitrate: BitrateDefault, UserLimit: 5, RTCRegion: ptr("here"),
		PermissionOverwrites: List[Overwrite]{{ID: sampleID, Type: OverwriteMember, Allow: perm.All, Deny: 1}},
	}
}

func sampleDirect(kind ChannelType) *Direct {
	d := &Direct{ID: sampleID, Type: kind, Recipients: []id.ID{sampleID, 1}}
	if kind == ChannelGroupDM {
		d.OwnerID, d.Name = sampleID, ptr("group")
	}
	return d
}

func sampleRole() Role {
	return Role{
		ID: sampleID, Name: "mods", Permissions: perm.All, Position: 1, Color: 0xffffff,
		Colors: RoleColors{Primary: 0xffffff, Secondary: ptr(1), Tertiary: ptr(2)}, UnicodeEmoji: ptr("🦊"),
	}
}

func sampleMember() MemberRecord {
	return MemberRecord{UserID: sampleID, MemberFields: MemberFields{
		Nick: ptr("annie"), Roles: List[id.ID]{sampleID}, JoinedAt: sampleTime, CommunicationDisabledUntil: sampleTime, Pending: true,
	}}
}

func sampleGuild() Guild {
	g := NewGuild(sampleID, "guild", sampleID)
	g.Icon, g.Description, g.AFKChannelID, g.SystemChannelID = ptr("i"), ptr("d"), sampleID, sampleID
	g.Roles = List[Role]{sampleRole()}
	return g
}

func sampleBody() MessageBody {
	reply := Message{ID: sampleID, Timestamp: sampleTime, Author: sampleUser(), MessageBody: MessageBody{ChannelID: sampleID, Content: "q"}}
	return MessageBody{
		Type: MessageReply, ChannelID: sampleID, Content: "héllo \u2028 <&>", Mentions: List[User]{sampleUser()}, MentionRoles: List[id.ID]{sampleID},
		MentionEveryone: true, EditedTimestamp: sampleTime, Flags: FlagSuppressEmbeds, Pinned: true, TTS: true, Nonce: `"n"`,
		Attachments: List[Attachment]{{ID: sampleID, Filename: "f.txt", Size: 3, URL: "https://x/f", ProxyURL: "https://x/f", ContentType: "text/plain", Description: ptr("d"), Width: 1, Height: 1}},
		Embeds: Rich([]Embed{{
			Title: "t", Description: "d", URL: "https://x", Timestamp: sampleTime, Color: ptr(0), Footer: &EmbedFooter{Text: "f", IconURL: "https://x"},
			Image: &EmbedMedia{URL: "https://x"}, Thumbnail: &EmbedMedia{URL: "https://x"}, Author: &EmbedAuthor{Name: "a"}, Fields: []EmbedField{{Name: "n", Value: "v"}},
		}}),
		Reference:  &MessageReference{ChannelID: sampleID, MessageID: sampleID, GuildID: sampleID},
		Referenced: Some(reply.Replied()),
		Reactions:  []Reaction{{Emoji: Emoji{Name: "🦊"}, Count: 1, CountDetails: ReactionCounts{Normal: 1}, Me: true}},
	}
}

func sampleInvite() Invite {
	return Invite{
		Code: "abc", GuildID: sampleID, Guild: sampleGuild().InviteGuild(), Channel: InviteChannel{ID: sampleID, Name: "general"}, Inviter: ptr(sampleUser()),
		CreatedAt: sampleTime, ExpiresAt: sampleTime, MaxAge: 1, MaxUses: 1, Uses: 1, Temporary: true, ApproximateMemberCount: ptr(1), ApproximatePresenceCount: ptr(1),
	}
}

func TestResponses_HaveTheShapeOfTheOfficialSchemas(t *testing.T) {
	t.Parallel()
	all := loadSchemas(t)
	f := func(name string, v any) {
		t.Helper()
		s, ok := all[name]
		if !ok {
			t.Errorf("there is no schema %s", name)
			return
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		var got any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		for _, bad := range all.check(s, name, got) {
			t.Error(bad)
		}
	}
	f("UserResponse", User{ID: sampleID})
	f("UserResponse", sampleUser())
	f("UserPIIResponse", SelfUser{User: User{ID: sampleID}, Locale: LocaleDefault})
	f("UserPIIResponse", SelfUser{User: sampleUser(), Locale: LocaleDefault, Email: ptr("a@example.org"), Verified: true})
	f("GuildRoleResponse", Role{ID: sampleID})
	f("GuildRoleResponse", sampleRole())
	f("GuildChannelResponse", Channel{ID: sampleID, GuildID: sampleID, Name: "general"})
	f("GuildChannelResponse", sampleChannel())
	f("PrivateChannelResponse", sampleDirect(ChannelDM).For(sampleID, 0, map[id.ID]User{1: {ID: sampleID}}))
	f("PrivateChannelResponse", sampleDirect(ChannelDM).For(sampleID, sampleID, map[id.ID]User{1: sampleUser()}))
	f("PrivateGroupChannelResponse", sampleDirect(ChannelGroupDM).For(sampleID, 0, map[id.ID]User{1: {ID: sampleID}}))
	f("PrivateGroupChannelResponse", sampleDirect(ChannelGroupDM).For(1, sampleID, map[id.ID]User{sampleID: sampleUser()}))
	f("GuildMemberResponse", MemberRecord{MemberFields: MemberFields{JoinedAt: sampleTime}}.Member(User{ID: sampleID}))
	f("GuildMemberResponse", sampleMember().Member(sampleUser()))
	f("GuildBanResponse", Ban{User: User{ID: sampleID}})
	f("GuildBanResponse", Ban{Reason: ptr("spam"), User: sampleUser()})
	f("GuildAuditLogResponse", AuditLog{Entries: List[AuditNote]{{ID: sampleID, Action: AuditInviteCreate, Actor: sampleID}, {
		ID: sampleID, Action: AuditOverwriteUpdate, Actor: sampleID, Target: sampleID, Reason: "r", Options: map[string]string{"id": "1"},
		Changes: []AuditChange{{Key: "allow", New: json.RawMessage(`"8"`)}},
	}}, Users: List[User]{sampleUser()}})
	f("GuildResponse", NewGuild(sampleID, "guild", sampleID))
	f("GuildResponse", sampleGuild())
	counted := sampleGuild()
	counted.ApproximateMemberCount, counted.ApproximatePresenceCount = ptr(0), ptr(0)
	f("GuildWithCountsResponse", counted)
	f("MyGuildResponse", MyGuild{ID: sampleID})
	f("MyGuildResponse", MyGuild{ID: sampleID, Icon: ptr("i"), Permissions: perm.All, ApproximateMemberCount: ptr(1)})
	f("GuildInviteResponse", Invite{Code: "c", GuildID: sampleID, CreatedAt: sampleTime, Guild: InviteGuild{ID: sampleID}, Channel: InviteChannel{ID: sampleID}})
	f("GuildInviteResponse", sampleInvite())
	f("MessageResponse", Message{ID: sampleID, Timestamp: sampleTime, Author: User{ID: sampleID}, MessageBody: MessageBody{ChannelID: sampleID}})
	f("MessageResponse", Message{ID: sampleID, Timestamp: sampleTime, Author: sampleUser(), MessageBody: sampleBody()})
	f("PinnedMessagesResponse", PinnedMessages{})
	pinned := mustJSON(t, Message{ID: sampleID, Timestamp: sampleTime, Author: sampleUser(), MessageBody: sampleBody()})
	f("PinnedMessagesResponse", PinnedMessages{Items: List[PinnedMessage]{{PinnedAt: sampleTime, Message: pinned}}, HasMore: true})
	f("PrivateApplicationResponse", NewApplication(User{ID: sampleID}, User{ID: sampleID}))
	f("VoiceStateResponse", VoiceState{GuildID: sampleID, UserID: sampleID})
	f("GatewayResponse", Gateway{URL: "ws://x"})
	f("GatewayBotResponse", GatewayBot{URL: "ws://x", Shards: 1, SessionStartLimit: SessionStartLimit{Total: 1000, Remaining: 1000, MaxConcurrency: 1}})
}

func TestSchemaCheck_SeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	all := loadSchemas(t)
	for _, bad := range []string{`{}`, `{"url":null}`, `{"url":1}`, `{"url":"x","extra":1}`, `[]`} {
		var v any
		if err := json.Unmarshal([]byte(bad), &v); err != nil {
			t.Fatal(err)
		}
		if len(all.check(all["GatewayResponse"], "", v)) == 0 {
			t.Errorf("%s passes as a GatewayResponse", bad)
		}
	}
}
