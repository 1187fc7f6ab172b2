package e2e

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
)

// TestBadInput_IsAnsweredAsTheContractSays sends what no well-behaved client sends, and compares the answers with
// CONTRACT.md: also behind a gateway that forwards, which must not show.
func TestBadInput_IsAnsweredAsTheContractSays(t *testing.T) {
	t.Parallel()
	for name, make := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, make(t))
			for name, test := range map[string]func(*testing.T){
				"json": s.json, "types": s.types, "limits": s.limits, "tokens": s.tokens, "unknown": s.unknown, "permission": s.permission,
				"kinds": s.kinds, "ids": s.ids, "queries": s.queries, "media types": s.mediaTypes, "size": s.size, "routes": s.routes,
				"accounts": s.accounts, "tolerated": s.tolerated,
				"frames": s.frames, "first frames": s.firstFrames, "identify": s.identifies, "handshake": s.handshakes, "resume": s.resumes,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t)
				})
			}
		})
	}
}

// post is a message of ada's with this body.
func post(body string) query {
	return query{method: "POST", path: "/channels/$channel/messages", body: body}
}

func (s *scene) json(t *testing.T) {
	for _, body := range []string{
		`{`, `{"content":`, `{"content":"x"`, `{"content":"x"}}`, `{"content":"x"} {}`, `{"content":"x",}`, `{'content':'x'}`, `{content:"x"}`,
		`hello`, `"`, `{"content":"\x"}`, "{\"content\":\"a\nb\"}", `{"content":"x"/**/}`, `{"flags":01}`, `{"flags":NaN}`, `{"flags":0x1}`,
		"{\"content\":\"a\x00b\"}", "{\"content\":\"x\"}\x00", "\x00", // NUL as it is
		"{\"content\":\"\xff\"}", "{\"content\":\"\xc0\xaf\"}", "{\"content\":\"\xed\xa0\x80\"}", "{\"content\":\"\xf4\x90\x80\x80\"}", "{\"\xff\":1,\"content\":\"x\"}", // not UTF-8
		"\xff\xfe{\x00}\x00", // UTF-16
		strings.Repeat("[", 100_000), strings.Repeat(`{"embeds":[`, 20_000), `{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
	} {
		s.refused(t, post(body), 400, fault.InvalidJSON)
	}
	s.refused(t, query{method: "PATCH", path: "/guilds/$guild", body: `{"name":`}, 400, fault.InvalidJSON)
	s.refused(t, query{method: "PATCH", path: "/guilds/$guild/roles", body: `[{"id":"1"`}, 400, fault.InvalidJSON)
	s.refused(t, query{method: "POST", path: "/auth/login", body: `{"login":`, authorization: "-"}, 400, fault.InvalidJSON)
}

func (s *scene) types(t *testing.T) {
	f := func(body string, fields ...string) {
		t.Helper()
		s.refused(t, post(body), 400, fault.InvalidForm, fields...)
	}
	f(`{"content":5}`, "content:")
	f(`{"content":{}}`, "content:")
	f(`{"content":["x"]}`, "content:")
	f(`{"content":"x","tts":"yes"}`, "tts:")
	f(`{"content":"x","flags":"many"}`, "flags:NUMBER_TYPE_COERCE")
	f(`{"content":"x","flags":1.5}`, "flags:NUMBER_TYPE_COERCE")
	f(`{"content":"x","flags":99999999999999999999}`, "flags:NUMBER_TYPE_COERCE")
	f(`{"content":"x","nonce":{}}`, "nonce:")
	f(`{"embeds":{}}`, "embeds:")
	f(`{"embeds":["x"]}`, "embeds.0:")
	f(`{"embeds":[{"title":"fine"},{"title":5}]}`, "embeds.1.title:")
	f(`{"embeds":[{"title":"x","fields":[{"name":"n","value":1}]}]}`, "embeds.0.fields.0.value:")
	f(`{"content":"x","message_reference":{"message_id":"abc"}}`, "message_reference.message_id:NUMBER_TYPE_COERCE")
	f(`{"content":"x","allowed_mentions":{"users":["a"]}}`, "allowed_mentions.users.0:NUMBER_TYPE_COERCE")
	f(`{"content":"x","allowed_mentions":{"parse":["all"]}}`, "allowed_mentions.parse.0:BASE_TYPE_CHOICES")
	f(`{"content":5,"flags":"many","tts":"yes","embeds":[{"title":5}]}`, "content:", "flags:NUMBER_TYPE_COERCE", "tts:", "embeds.0.title:")
	f(`[]`, ":")
	f(`"text"`, ":")
	f(`5`, ":")
	f(`{"content":"a\u0000b"}`, "content:STRING_TYPE_REGEX")
	f(`{"embeds":[{"title":"\u0000"}]}`, "embeds.0.title:STRING_TYPE_REGEX")

	g := func(method, path, body string, fields ...string) {
		t.Helper()
		s.refused(t, query{method: method, path: path, body: body}, 400, fault.InvalidForm, fields...)
	}
	g("PATCH", "/channels/$channel/messages/$message", `{"content":5}`, "content:")
	g("PATCH", "/guilds/$guild/roles", `{}`, ":")
	g("PATCH", "/guilds/$guild/roles", `[{"id":"1"},{"id":"x"}]`, "1.id:NUMBER_TYPE_COERCE")
	g("POST", "/guilds/$guild/roles", `{"permissions":"all"}`, "permissions:")
	g("POST", "/guilds/$guild/roles", `{"color":16777216}`, "color:NUMBER_TYPE_MAX")
	g("POST", "/guilds/$guild/roles", `{"color":-1}`, "color:NUMBER_TYPE_MIN")
	g("POST", "/guilds/$guild/channels", `{"name":"x","type":99}`, "type:BASE_TYPE_CHOICES")
	g("POST", "/guilds/$guild/channels", `{}`, "name:BASE_TYPE_REQUIRED")
	g("POST", "/guilds/$guild/channels", `{"name":"a\u0000b"}`, "name:STRING_TYPE_REGEX")
	g("PUT", "/channels/$channel/permissions/$role", `{"allow":"-1"}`, "allow:")
	g("POST", "/guilds", `{}`, "name:BASE_TYPE_REQUIRED")
	g("POST", "/guilds", `{"name":null}`, "name:BASE_TYPE_REQUIRED")
	g("POST", "/guilds", `{"name":"a"}`, "name:BASE_TYPE_BAD_LENGTH")
}

func (s *scene) limits(t *testing.T) {
	long := func(text string, n int) string { return `{"content":"` + strings.Repeat(text, n) + `"}` }
	for _, letter := range []string{"a", "é", "😀", `\ud83d\ude00`} { // one, two and four bytes; four as escapes
		s.refused(t, post(long(letter, 2001)), 400, fault.InvalidForm, "content:BASE_TYPE_MAX_LENGTH")
		q := query{method: "PATCH", path: "/channels/$channel/messages/$message", body: long(letter, 2001)}
		s.refused(t, q, 400, fault.InvalidForm, "content:BASE_TYPE_MAX_LENGTH")
		var got wire.Message
		err := json.Unmarshal(s.accepted(t, query{method: "POST", path: "/channels/$other/messages", body: long(letter, 2000)}, 200), &got)
		if n := len([]rune(got.Content)); err != nil || n != 2000 {
			t.Errorf("2000 of %s became %d code points, %v", letter, n, err)
		}
	}
	embeds := `{"embeds":[` + strings.Repeat(`{"title":"x"},`, 10) + `{"title":"x"}]}`
	s.refused(t, post(embeds), 400, fault.InvalidForm, "embeds:BASE_TYPE_MAX_LENGTH")
	s.refused(t, post(`{"content":"x","nonce":"`+strings.Repeat("n", 26)+`"}`), 400, fault.InvalidForm, "nonce:BASE_TYPE_MAX_LENGTH")
	s.refused(t, post(`{"embeds":[{"title":"`+strings.Repeat("t", 257)+`"}]}`), 400, fault.InvalidForm, "embeds.0.title:BASE_TYPE_MAX_LENGTH")
	for _, body := range []string{`{}`, `{"content":""}`, `{"content":null}`, `{"content":" \n\t "}`, `{"embeds":[]}`, `{"content":"","embeds":null,"nonce":"1"}`} {
		s.refused(t, post(body), 400, fault.EmptyMessage)
	}
	s.refused(t, query{method: "PATCH", path: "/channels/$channel/messages/$message", body: `{"content":""}`}, 400, fault.EmptyMessage)
	s.refused(t, query{method: "POST", path: "/channels/$folder/messages", body: `{"content":"x"}`}, 400, fault.NonTextChannel)
}

func (s *scene) tokens(t *testing.T) {
	first, _, _ := strings.Cut(s.bot, ".")
	_, rest, _ := strings.Cut(s.otherBot, ".")
	head, signature, _ := strings.Cut(s.ada.token, ".")
	bad := []string{
		"-", "Bot", "Bot ", "Bearer", "Bearer ", " ", "null", "garbage", "Bearer garbage", "Bot garbage", "Basic YTpi",
		s.bot, "Bearer " + s.bot, // of a bot, as a person's
		"Bot " + s.ada.token, "Bot Bearer " + s.ada.token, "Bearer Bot " + s.bot, // the other way round
		"Bot " + first + "." + rest, // a bot's with the secret of another
		"Bot " + s.bot + "x", "Bot " + s.bot[:len(s.bot)-1], "Bot " + first, "Bot " + first + "..",
		s.ada.token + "x", s.ada.token[:len(s.ada.token)-4] + "AAAA", head + "." + signature[:10], "eyJhbGciOiJub25lIn0." + signature, "..",
		s.refresh, "Bearer " + s.refresh, // not for requests
		strings.Repeat("a", 5000),
	}
	var first401 string
	for _, token := range bad {
		for _, q := range []query{
			{method: "GET", path: "/users/@me"}, {method: "GET", path: "/gateway/bot"},
			{method: "POST", path: "/channels/$channel/messages", body: `{"content":"x"}`},
			{method: "POST", path: "/channels/$channel/messages", body: `{"content":`}, // whoever is nobody is not told what is wrong
			{method: "GET", path: "/channels/nonsense"},
		} {
			q.authorization = token
			a := s.refused(t, q, 401, fault.General)
			if first401 == "" {
				first401 = string(a.body)
			}
			if string(a.body) != first401 {
				t.Errorf("%q is refused with %s, another with %s", token, a.body, first401)
			}
		}
	}
	for _, token := range []string{s.ada.token, "Bearer " + s.ada.token, "Bot " + s.bot} {
		s.accepted(t, query{method: "GET", path: "/users/@me", authorization: token}, 200)
	}
	s.accepted(t, query{method: "GET", path: "/gateway", authorization: "garbage"}, 200)
}

func (s *scene) unknown(t *testing.T) {
	f := func(method, path, body string, code fault.Code) {
		t.Helper()
		s.refused(t, query{method: method, path: path, body: body}, 404, code)
	}
	f("GET", "/channels/$none", "", fault.UnknownChannel)
	f("PATCH", "/channels/$none", `{"name":"x"}`, fault.UnknownChannel)
	f("DELETE", "/channels/$none", "", fault.UnknownChannel)
	f("GET", "/channels/$none/messages", "", fault.UnknownChannel)
	f("POST", "/channels/$none/messages", `{"content":"x"}`, fault.UnknownChannel)
	f("POST", "/channels/$none/typing", "", fault.UnknownChannel)
	f("POST", "/channels/$none/invites", `{}`, fault.UnknownChannel)
	f("GET", "/channels/$guild", "", fault.UnknownChannel)
	f("GET", "/guilds/$none", "", fault.UnknownGuild)
	f("PATCH", "/guilds/$none", `{"name":"xx"}`, fault.UnknownGuild)
	f("DELETE", "/guilds/$none", "", fault.UnknownGuild)
	f("GET", "/guilds/$none/channels", "", fault.UnknownGuild)
	f("GET", "/guilds/$none/members", "", fault.UnknownGuild)
	f("GET", "/guilds/$channel", "", fault.UnknownGuild)
	for _, message := range []string{"$none", "1", "9223372036854775807", "18446744073709551615"} {
		f("GET", "/channels/$channel/messages/"+message, "", fault.UnknownMessage)
		f("PATCH", "/channels/$channel/messages/"+message, `{"content":"x"}`, fault.UnknownMessage)
		f("DELETE", "/channels/$channel/messages/"+message, "", fault.UnknownMessage)
	}
	f("GET", "/channels/$other/messages/$message", "", fault.UnknownMessage) // it is in another channel
	f("DELETE", "/channels/$other/messages/$message", "", fault.UnknownMessage)
	f("GET", "/users/$none", "", fault.UnknownUser)
	f("GET", "/users/$guild", "", fault.UnknownUser)
	f("GET", "/guilds/$guild/members/$eve", "", fault.UnknownMember)
	f("DELETE", "/guilds/$guild/members/$none", "", fault.UnknownMember)
	f("GET", "/guilds/$guild/roles/$none", "", fault.UnknownRole)
	f("PATCH", "/guilds/$guild/roles/$none", `{"name":"x"}`, fault.UnknownRole)
	f("DELETE", "/channels/$channel/permissions/$none", "", fault.UnknownOverwrite)
	f("GET", "/invites/nonsense", "", fault.UnknownInvite)
	f("POST", "/invites/nonsense", `{}`, fault.UnknownInvite)
	f("DELETE", "/invites/nonsense", "", fault.UnknownInvite)
}

func (s *scene) permission(t *testing.T) {
	f := func(who *person, method, path, body string, code fault.Code) {
		t.Helper()
		s.refused(t, query{method: method, path: path, body: body, authorization: who.token}, 403, code)
	}
	f(s.bob, "POST", "/channels/$quiet/messages", `{"content":"x"}`, fault.MissingPermissions)
	f(s.bob, "PATCH", "/channels/$channel/messages/$message", `{"content":"x"}`, fault.NotYourMessage)
	f(s.bob, "DELETE", "/channels/$channel/messages/$message", "", fault.MissingPermissions)
	f(s.bob, "PATCH", "/channels/$channel", `{"name":"x"}`, fault.MissingPermissions)
	f(s.bob, "DELETE", "/channels/$channel", "", fault.MissingPermissions)
	f(s.bob, "PUT", "/channels/$channel/permissions/$role", `{"deny":"1024"}`, fault.MissingPermissions)
	f(s.bob, "PATCH", "/guilds/$guild", `{"name":"bobs"}`, fault.MissingPermissions)
	f(s.bob, "DELETE", "/guilds/$guild", "", fault.MissingPermissions)
	f(s.bob, "POST", "/guilds/$guild/channels", `{"name":"x"}`, fault.MissingPermissions)
	f(s.bob, "POST", "/guilds/$guild/roles", `{"name":"x"}`, fault.MissingPermissions)
	f(s.bob, "PUT", "/guilds/$guild/members/$bob/roles/$role", "", fault.MissingPermissions)
	f(s.bob, "DELETE", "/guilds/$guild/members/"+s.ada.id.String(), "", fault.MissingPermissions)
	for _, who := range []struct {
		*person
		channel string
	}{{s.bob, "$hidden"}, {s.eve, "$channel"}} {
		at := "/channels/" + who.channel
		f(who.person, "GET", at, "", fault.MissingAccess)
		f(who.person, "GET", at+"/messages", "", fault.MissingAccess)
		f(who.person, "GET", at+"/messages/$message", "", fault.MissingAccess)
		f(who.person, "POST", at+"/messages", `{"content":"x"}`, fault.MissingAccess)
		f(who.person, "POST", at+"/messages/bulk-delete", `{"messages":["1","2"]}`, fault.MissingAccess)
		f(who.person, "POST", at+"/typing", "", fault.MissingAccess)
		f(who.person, "PATCH", at, `{"name":"x"}`, fault.MissingAccess)
		f(who.person, "DELETE", at, "", fault.MissingAccess)
	}
	// A stranger learns nothing of a guild, not even that it exists.
	for _, path := range []string{"", "/channels", "/members", "/roles", "/invites"} {
		is := s.refused(t, query{method: "GET", path: "/guilds/$guild" + path, authorization: s.eve.token}, 404, fault.UnknownGuild)
		isNot := s.refused(t, query{method: "GET", path: "/guilds/$none" + path, authorization: s.eve.token}, 404, fault.UnknownGuild)
		if !bytes.Equal(is.body, isNot.body) {
			t.Errorf("a stranger can tell a guild from none: %s, %s", is.body, isNot.body)
		}
	}
}

// kinds: what is for people or for bots alone.
func (s *scene) kinds(t *testing.T) {
	bot := "Bot " + s.bot
	s.refused(t, query{method: "POST", path: "/invites/$invite", body: `{}`, authorization: bot}, 403, fault.NotForBots)
	s.refused(t, query{method: "POST", path: "/applications", body: `{"name":"x"}`, authorization: bot}, 403, fault.NotForBots)
	s.refused(t, query{method: "POST", path: "/guilds", body: `{"name":"xx"}`, authorization: bot}, 403, fault.NotForBots)
	s.refused(t, query{method: "GET", path: "/applications/@me"}, 403, fault.OnlyForBots)
	s.refused(t, query{method: "GET", path: "/oauth2/applications/@me"}, 403, fault.OnlyForBots)
}

func (s *scene) ids(t *testing.T) {
	for _, bad := range []string{
		"abc", "-1", "+1", "1.0", "1e3", "0x10", "123456789012345678901", "18446744073709551616", "%31%32x", "%00", "%20", "١٢٣", "１２", "@you", "null", "'", "1;2", "%2e%2e",
	} {
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			body := ""
			if method == "PATCH" {
				body = `{}`
			}
			s.refused(t, query{method: method, path: "/channels/" + bad, body: body}, 400, fault.InvalidForm, "channel_id:NUMBER_TYPE_COERCE")
		}
		s.refused(t, query{method: "GET", path: "/guilds/" + bad}, 400, fault.InvalidForm, "guild_id:NUMBER_TYPE_COERCE")
		s.refused(t, query{method: "GET", path: "/users/" + bad}, 400, fault.InvalidForm, "user_id:NUMBER_TYPE_COERCE")
		q := query{method: "GET", path: "/channels/" + bad + "/messages/" + bad}
		s.refused(t, q, 400, fault.InvalidForm, "channel_id:NUMBER_TYPE_COERCE", "message_id:NUMBER_TYPE_COERCE")
	}
}

func (s *scene) queries(t *testing.T) {
	f := func(path string, fields ...string) {
		t.Helper()
		s.refused(t, query{method: "GET", path: path}, 400, fault.InvalidForm, fields...)
	}
	const history, members = "/channels/$channel/messages?", "/guilds/$guild/members?"
	f(history+"limit=0", "limit:NUMBER_TYPE_MIN")
	f(history+"limit=-1", "limit:NUMBER_TYPE_MIN")
	f(history+"limit=101", "limit:NUMBER_TYPE_MAX")
	for _, bad := range []string{"x", "", "1.5", "99999999999999999999", "1%00", "%ff"} {
		f(history+"limit="+bad, "limit:NUMBER_TYPE_COERCE")
	}
	f(history+"before=x", "before:NUMBER_TYPE_COERCE")
	f(history+"after=-1&limit=0", "after:NUMBER_TYPE_COERCE", "limit:NUMBER_TYPE_MIN")
	f(history+"before=$message&after=$message", "before:")
	f(history+"around=$message&after=$message", "before:")
	f(history+"around=$message&before=$message", "before:")
	f(history+"around=1&before=2&after=3", "before:")
	f(members+"limit=0", "limit:NUMBER_TYPE_MIN")
	f(members+"limit=1001", "limit:NUMBER_TYPE_MAX")
	f("/users/@me/guilds?limit=201", "limit:NUMBER_TYPE_MAX")
	for _, good := range []string{"limit=1", "limit=100", "before=$message", "after=18446744073709551615", "around=1", "unknown=1", "limit=1&limit=0"} {
		s.accepted(t, query{method: "GET", path: history + good}, 200)
	}
}

func (s *scene) mediaTypes(t *testing.T) {
	for _, bad := range []string{"text/plain", "text/plain; charset=utf-8", "application/xml", "text/json", "application/jsonx", "-", "nonsense", "application/json, text/plain"} {
		q := post(`{"content":"x"}`)
		q.contentType = bad
		s.refused(t, q, 415, fault.General)
	}
	for _, good := range []string{"application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"} {
		q := query{method: "POST", path: "/channels/$other/messages", body: `{"content":"x"}`, contentType: good}
		s.accepted(t, q, 200)
	}
	s.accepted(t, query{method: "POST", path: "/channels/$other/typing", contentType: "text/plain"}, 204) // no body, no type
}

// size: the largest body that can be meant is far below this one. A client reads its answer although it is still sending.
func (s *scene) size(t *testing.T) {
	body := `{"content":"` + strings.Repeat("a", 300<<10) + `"}`
	for _, chunked := range []bool{false, true} {
		q := post(body)
		q.chunked = chunked
		s.refused(t, q, 413, fault.RequestTooLarge)
		q.path = "/auth/login"
		s.refused(t, q, 413, fault.RequestTooLarge)
	}
}

func (s *scene) routes(t *testing.T) {
	for _, path := range []string{
		"/nonsense", "/channels", "/channels/", "/channels/$channel/nonsense", "/users", "/guilds/$guild/soundboard-sounds", "/interactions/1/x/callback",
		"", "/", "/api", "/api/", "/api/v9/nonsense", "/api/nonsense", "/api/v10x/users/@me",
	} {
		s.refused(t, query{method: "GET", path: path}, 404, fault.General)
		s.refused(t, query{method: "GET", path: path, authorization: "-"}, 404, fault.General)
	}
	for _, q := range []query{
		{method: "PUT", path: "/users/@me"}, {method: "DELETE", path: "/channels/$channel/messages"}, {method: "POST", path: "/channels/$channel"},
		{method: "GET", path: "/auth/login"}, {method: "POST", path: "/gateway"}, {method: "PATCH", path: "/api/v9/users/@me/guilds"},
		{method: "TRACE", path: "/users/@me"}, {method: "BREW", path: "/users/@me"},
	} {
		if a := s.refused(t, q, 405, fault.General); a.header.Get("Allow") == "" {
			t.Errorf("%s: 405 without Allow", q)
		}
	}
	for _, version := range []string{"v8", "v7", "v6", "v11", "v1", "v0", "v010", "v99999999999999999999"} {
		s.refused(t, query{method: "GET", path: "/api/" + version + "/users/@me"}, 400, fault.InvalidAPIVersion)
		s.refused(t, query{method: "GET", path: "/api/" + version + "/gateway", authorization: "-"}, 400, fault.InvalidAPIVersion)
	}
	want := s.accepted(t, query{method: "GET", path: "/api/v10/users/@me"}, 200)
	for _, base := range []string{"/api/v9", "/api"} {
		if got := s.accepted(t, query{method: "GET", path: base + "/users/@me"}, 200); !bytes.Equal(got, want) {
			t.Errorf("%s/users/@me: %s, want %s", base, got, want)
		}
		s.refused(t, query{method: "GET", path: base + "/channels/$none"}, 404, fault.UnknownChannel)
	}
}

func (s *scene) accounts(t *testing.T) {
	f := func(path, body string, fields ...string) answer {
		t.Helper()
		return s.refused(t, query{method: "POST", path: path, body: body, authorization: "-"}, 400, fault.InvalidForm, fields...)
	}
	f("/auth/register", `{}`, "username:BASE_TYPE_REQUIRED", "password:BASE_TYPE_REQUIRED")
	f("/auth/register", `{"username":"x","password":"`+password+`"}`, "username:BASE_TYPE_BAD_LENGTH")
	f("/auth/register", `{"username":"`+strings.Repeat("x", 33)+`","password":"short"}`, "username:BASE_TYPE_BAD_LENGTH", "password:BASE_TYPE_BAD_LENGTH")
	f("/auth/register", `{"username":"`+s.ada.name+`","password":"`+password+`"}`, "username:USERNAME_ALREADY_TAKEN")
	f("/auth/register", `{"username":"`+strings.ToUpper(s.ada.name)+`","password":"`+password+`"}`, "username:USERNAME_ALREADY_TAKEN")
	wrong := f("/auth/login", `{"login":"`+s.ada.name+`","password":"wrong horse"}`, "login:INVALID_LOGIN")
	nobody := f("/auth/login", `{"login":"nobody at all","password":"wrong horse"}`, "login:INVALID_LOGIN")
	if !bytes.Equal(wrong.body, nobody.body) {
		t.Errorf("a wrong password can be told from a wrong name: %s, %s", wrong.body, nobody.body)
	}
}

// tolerated is what looks wrong and is not.
func (s *scene) tolerated(t *testing.T) {
	for _, body := range []string{
		`{"content":"x","nonsense":{"deep":[1,2]},"sticker_ids":null}`,
		`{"content":"x","embeds":null,"tts":null,"flags":null,"nonce":null,"enforce_nonce":null,"allowed_mentions":null,"message_reference":null,"components":null,"attachments":null}`,
		` {"content" : "x"} ` + "\r\n",
		`{"content":"x","nonce":12345}`,
	} {
		s.accepted(t, query{method: "POST", path: "/channels/$other/messages", body: body}, 200)
	}
}
