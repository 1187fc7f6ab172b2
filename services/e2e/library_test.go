package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bwmarrin/discordgo"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// library is discordgo as a person and as a bot who may do everything in a guild, and what the calls of libraryCalls hand on to those after them.
type library struct {
	*court
	t         *testing.T
	bot, user *discordgo.Session

	guild, channel, other   string
	me                      string // the bot
	role, message, reply    string
	invite, friend, webhook string // friend is a member that is another bot
	token                   string // of the webhook

	mu    sync.Mutex // guards what follows
	asked []string   // method and shape of each request
	heard map[string]any
	told  []string // what was heard, as JSON behind its name
}

// libraryCall is one method of the library: which endpoint it is for, and whether what comes of it is right. The order is that of the table.
type libraryCall struct {
	method, endpoint string
	do               func(l *library) error
}

// right is nil if err is and ok.
func right(err error, ok bool, got any) error {
	if err == nil && !ok {
		err = fmt.Errorf("got %+v", got)
	}
	return err
}

// RoundTrip notes what the library asks for.
func (l *library) RoundTrip(req *http.Request) (*http.Response, error) {
	path := regexp.MustCompile(`^/api/v\d+`).ReplaceAllString(req.URL.Path, "")
	l.mu.Lock()
	l.asked = append(l.asked, req.Method+" "+path)
	l.mu.Unlock()
	return http.DefaultTransport.RoundTrip(req)
}

// open is a session of the library that notes what it asks for and hears.
func (l *library) open(token string) *discordgo.Session {
	l.t.Helper()
	s, err := discordgo.New(token)
	l.must(l.t, err)
	s.Client = &http.Client{Transport: l, Timeout: patience}
	s.ShouldRetryOnRateLimit = false
	s.Identify.Intents = discordgo.IntentsAll
	return s
}

// newLibrary makes a guild for the library, and brings its bot in.
func newLibrary(t *testing.T, c *court) *library {
	t.Helper()
	owner := c.as["owner"]
	l := &library{court: c, t: t, heard: map[string]any{}, guild: c.guild.String(), channel: c.channel.String(), other: c.hidden.String()}
	app, err := owner.CreateApplication(t.Context(), "library")
	c.must(t, err)
	made, err := owner.CreateBot(t.Context(), app.ID)
	c.must(t, err)
	c.must(t, owner.AddBot(t.Context(), c.guild, app.ID))
	roles, err := owner.Roles(t.Context(), c.guild)
	c.must(t, err)
	for _, r := range roles {
		if r.Name == "administrators" {
			c.must(t, owner.GiveRole(t.Context(), c.guild, app.ID, r.ID))
		}
	}
	l.me, l.friend = app.ID.String(), c.fresh["new-member"](t)
	l.user, l.bot = l.open(owner.token), l.open("Bot "+made.Token)
	l.bot.AddHandler(func(_ *discordgo.Session, e *discordgo.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard[e.Type] = e.Struct
		l.told = append(l.told, e.Type+" "+string(e.RawData))
	})
	c.must(t, l.bot.Open())
	t.Cleanup(func() { _ = l.bot.Close() }) // twice is fine
	return l
}

// served says whether there is a picture at a path.
func (l *library) served(path string) error {
	res, err := http.Get(l.url + path)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "image/png" {
		return fmt.Errorf("%s: %s %s", path, res.Status, res.Header.Get("Content-Type"))
	}
	return nil
}

// hasHook says whether the library's webhook is among some, with its token.
func (l *library) hasHook(all []*discordgo.Webhook) bool {
	return slices.ContainsFunc(all, func(w *discordgo.Webhook) bool { return w.ID == l.webhook && w.Token == l.token && w.User.ID == l.me })
}

// everyCall runs the table: each method against the endpoint that it is for. A call whose endpoint the server does not describe waits for it.
func (l *library) everyCall() {
	routes := l.routes(l.t)
	tabled := map[string]bool{}
	for _, call := range libraryCalls {
		tabled[call.method] = true
		endpoint := call.endpoint
		if other, ok := comesWith[call.method]; ok {
			endpoint = other
		}
		if _, served := routes[endpoint]; endpoint != "" && !served {
			l.t.Logf("%s waits for %s", call.method, endpoint)
			continue
		}
		l.mu.Lock()
		l.asked = nil
		l.mu.Unlock()
		if err := call.do(l); err != nil {
			l.t.Errorf("%s: %v", call.method, err)
			continue
		}
		if call.endpoint != "" && !l.askedFor(call.endpoint) {
			l.t.Errorf("%s asked for %v and not for %s", call.method, l.asked, call.endpoint)
		}
	}
	methods := reflect.TypeFor[*discordgo.Session]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		if _, outside := reasonFor(name); !tabled[name] && !outside {
			l.t.Errorf("discordgo has %s, which is neither in the table nor out of what there is here", name)
		}
	}
	l.t.Logf("%d calls of discordgo", len(libraryCalls))
}

// askedFor says whether a request went to the endpoint, whose parameters are {}.
func (l *library) askedFor(endpoint string) bool {
	pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(endpoint), `\{\}`, "[^/]+") + "$")
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, asked := range l.asked {
		if pattern.MatchString(asked) {
			return true
		}
	}
	return false
}

// comesWith are calls that an endpoint does not answer before there is another one, too.
var comesWith = map[string]string{
	"ChannelFileSend": "GET /attachments/{}/{}/{}", "ChannelFileSendWithMessage": "GET /attachments/{}/{}/{}", "GuildMemberTimeout": "GET /guilds/{}/audit-logs",
}

// wasTold says whether an event of that name came with all of these texts in it. The library's state has it then.
func (l *library) wasTold(name string, texts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.told, func(told string) bool {
		return strings.HasPrefix(told, name+" ") && !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(told, text) })
	})
}

// outsideOf are the methods that have no endpoint here, by how their names begin, and why.
var outsideOf = []struct{ prefix, why string }{
	{"Lock", "no endpoint"}, {"RLock", "no endpoint"}, {"TryLock", "no endpoint"}, {"TryRLock", "no endpoint"}, {"Unlock", "no endpoint"}, {"RUnlock", "no endpoint"},
	{"AddHandler", "no endpoint"}, {"Request", "what all others are made of"}, {"HeartbeatLatency", "no endpoint"}, {"GatewayWriteStruct", "no endpoint"},
	{"ApplicationCommand", "no commands"}, {"GuildApplicationCommands", "no commands"}, {"ApplicationEmoji", "no emoji of one's own"},
	{"ApplicationRoleConnection", "no linked roles"}, {"UserApplicationRoleConnection", "no linked roles"}, {"ApplicationAssets", "no assets"},
	{"ApplicationBotCreate", "bots are made by POST /applications"}, {"ApplicationCreate", "bots are made by POST /applications"},
	{"ApplicationUpdate", "bots change themselves by PATCH /users/@me"}, {"ApplicationDelete", "DELETE /applications/{id} is XCord's own"},
	{"Applications", "GET /applications is XCord's own"},
	{"AutoModeration", "no automod"}, {"ChannelMessageCrosspost", "no announcement channels"}, {"ChannelNewsFollow", "no announcement channels"},
	{"ChannelVoiceJoin", "no voice yet"}, {"GuildMemberMove", "no voice yet"}, {"GuildMemberMute", "no voice yet"}, {"GuildMemberDeafen", "no voice yet"},
	{"Entitlement", "no monetisation"}, {"SKUs", "no monetisation"}, {"Subscription", "no monetisation"},
	{"Followup", "no interactions"}, {"Interaction", "no interactions"}, {"Forum", "no threads"}, {"Thread", "no threads"}, {"MessageThreadStart", "no threads"},
	{"WebhookThreadExecute", "no threads"}, {"GuildCreateWithTemplate", "no templates"}, {"GuildTemplate", "no templates"},
	{"GuildEmbed", "no widget"}, {"GuildEmojiCreate", "no emoji of one's own"}, {"GuildEmojiDelete", "no emoji of one's own"}, {"GuildEmojiEdit", "no emoji of one's own"},
	{"GuildIntegration", "no integrations"}, {"GuildOnboarding", "no onboarding"}, {"GuildPreview", "no discovery"}, {"GuildPrune", "no pruning"},
	{"GuildSplash", "no splash"}, {"GuildIcon", "asks the library's own address for files"}, {"UserAvatar", "asks the library's own address for files"},
	{"GuildScheduledEvent", "no scheduled events"}, {"Poll", "no polls"}, {"StageInstance", "no stages"}, {"UserConnections", "no connections"},
	{"UserGuildMember", "GET /users/@me/guilds/{id}/member is not in the contract"}, {"GuildMemberAdd", "people join by invite"},
}

// together are the methods that begin like what is outside, and are not.
var together = []string{"GuildScheduledEvents", "GuildThreadsActive"}

func reasonFor(name string) (string, bool) {
	for _, own := range together {
		if name == own {
			return "", false
		}
	}
	if name == "GuildEmoji" {
		return "no emoji of one's own", true
	}
	for _, o := range outsideOf {
		if strings.HasPrefix(name, o.prefix) {
			return o.why, true
		}
	}
	return "", false
}

// everyEvent: what the library has a handler for and the gateway can tell has come, in the library's own types.
func (l *library) everyEvent() {
	file, _ := runtime.FuncForPC(reflect.ValueOf(discordgo.New).Pointer()).FileLine(0)
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(file), "eventhandlers.go"))
	l.must(l.t, err)
	names := regexp.MustCompile(`EventType += "([A-Z_]+)"`).FindAllStringSubmatch(string(raw), -1)
	if len(names) < 50 {
		l.t.Fatalf("the library has only %d events", len(names))
	}
	heard := 0
	for _, m := range names {
		name := m[1]
		if _, told := wire.Dispatches[name]; !told || name == "RESUMED" { // TestDiscordgo's bot does not lose its connection
			continue
		}
		heard++
		eventually(l.t, func() error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.heard[name] == nil || reflect.TypeOf(l.heard[name]).Kind() != reflect.Pointer {
				return fmt.Errorf("%s was not heard, or not as what the library knows: %T", name, l.heard[name])
			}
			return nil
		})
	}
	l.t.Logf("%d events of discordgo", heard)
}

// happens makes what the library has no call for.
func (l *library) happens() {
	owner := l.as["owner"]
	guest, err := id.Parse(l.fresh["new-member"](l.t))
	l.must(l.t, err)
	l.must(l.t, owner.Kick(l.t.Context(), l.court.guild, guest, ""))
	l.must(l.t, owner.DeleteChannel(l.t.Context(), mustID(l.fresh["new-channel"](l.t))))
	l.as["member"].connect(l.t, client.GatewayConfig{})
	elsewhere, err := owner.CreateGuild(l.t.Context(), "away")
	l.must(l.t, err)
	l.must(l.t, owner.AddBot(l.t.Context(), elsewhere.ID, mustID(l.me)))
	l.must(l.t, owner.DeleteGuild(l.t.Context(), elsewhere.ID))
	if _, err := l.bot.UserUpdate("library2", "", ""); err != nil {
		l.t.Error(err)
	}
}

func mustID(text string) id.ID {
	i, err := id.Parse(text)
	if err != nil {
		panic(err)
	}
	return i
}

var libraryCalls = []libraryCall{
	{"Open", "", func(l *library) error { return right(nil, l.bot.State.User.ID == l.me, l.bot.State.User) }},
	{"Gateway", "GET /gateway", func(l *library) error {
		url, err := l.bot.Gateway()
		return right(err, strings.HasPrefix(url, "ws://"), url)
	}},
	{"GatewayBot", "GET /gateway/bot", func(l *library) error {
		g, err := l.bot.GatewayBot()
		return right(err, err == nil && g.Shards == 1 && g.SessionStartLimit.MaxConcurrency > 0, g)
	}},
	{"User", "GET /users/{}", func(l *library) error {
		u, err := l.bot.User(l.friend)
		return right(err, err == nil && u.ID == l.friend && u.Bot, u)
	}},
	{"UserUpdate", "PATCH /users/@me", func(l *library) error {
		u, err := l.bot.UserUpdate("renamed", "", "")
		return right(err, err == nil && u.Username == "renamed", u)
	}},
	{"Application", "GET /oauth2/applications/@me", func(l *library) error {
		a, err := l.bot.Application("@me")
		return right(err, err == nil && a.ID == l.me && a.Owner.ID == l.as["owner"].id.String(), a)
	}},
	{"UserGuilds", "GET /users/@me/guilds", func(l *library) error {
		g, err := l.bot.UserGuilds(10, "", "", true)
		return right(err, len(g) == 1 && g[0].ID == l.guild && g[0].ApproximateMemberCount > 0, g)
	}},
	{"Guild", "GET /guilds/{}", func(l *library) error {
		g, err := l.bot.Guild(l.guild)
		return right(err, err == nil && g.Name == "the court" && len(g.Roles) > 3, g)
	}},
	{"GuildWithCounts", "GET /guilds/{}", func(l *library) error {
		g, err := l.bot.GuildWithCounts(l.guild)
		return right(err, err == nil && g.ApproximateMemberCount > 5, g)
	}},
	{"GuildCreate", "POST /guilds", func(l *library) error {
		g, err := l.user.GuildCreate("made by the library")
		if err = right(err, err == nil && g.OwnerID == l.as["owner"].id.String(), g); err != nil {
			return err
		}
		l.webhook = g.ID // for GuildDelete
		return nil
	}},
	{"GuildDelete", "DELETE /guilds/{}", func(l *library) error { return l.user.GuildDelete(l.webhook) }},
	{"GuildEdit", "PATCH /guilds/{}", func(l *library) error {
		level := discordgo.VerificationLevelLow
		g, err := l.bot.GuildEdit(l.guild, &discordgo.GuildParams{Description: "edited", VerificationLevel: &level, AfkTimeout: 60})
		return right(err, err == nil && g.Description == "edited" && g.VerificationLevel == level && g.AfkTimeout == 60, g)
	}},
	{"GuildChannels", "GET /guilds/{}/channels", func(l *library) error {
		c, err := l.bot.GuildChannels(l.guild)
		return right(err, len(c) == 2, c)
	}},
	{"GuildChannelCreate", "POST /guilds/{}/channels", func(l *library) error {
		c, err := l.bot.GuildChannelCreate(l.guild, "made", discordgo.ChannelTypeGuildVoice)
		return right(err, err == nil && c.Name == "made" && c.Type == discordgo.ChannelTypeGuildVoice, c)
	}},
	{"GuildChannelCreateComplex", "POST /guilds/{}/channels", func(l *library) error {
		c, err := l.bot.GuildChannelCreateComplex(l.guild, discordgo.GuildChannelCreateData{
			Name: "complex", Topic: "t", NSFW: true, RateLimitPerUser: 3, PermissionOverwrites: []*discordgo.PermissionOverwrite{{ID: l.guild, Deny: discordgo.PermissionSendMessages}},
		})
		if err = right(err, err == nil && c.Topic == "t" && c.NSFW && c.RateLimitPerUser == 3 && len(c.PermissionOverwrites) == 1, c); err != nil {
			return err
		}
		l.other = c.ID
		return nil
	}},
	{"GuildChannelsReorder", "PATCH /guilds/{}/channels", func(l *library) error {
		return l.bot.GuildChannelsReorder(l.guild, []*discordgo.Channel{{ID: l.channel, Position: 1}, {ID: l.other, Position: 0}})
	}},
	{"Channel", "GET /channels/{}", func(l *library) error {
		c, err := l.bot.Channel(l.other)
		return right(err, err == nil && c.ID == l.other && c.GuildID == l.guild, c)
	}},
	{"ChannelEdit", "PATCH /channels/{}", func(l *library) error {
		c, err := l.bot.ChannelEdit(l.other, &discordgo.ChannelEdit{Name: "edited"})
		return right(err, err == nil && c.Name == "edited", c)
	}},
	{"ChannelEditComplex", "PATCH /channels/{}", func(l *library) error {
		c, err := l.bot.ChannelEditComplex(l.other, &discordgo.ChannelEdit{Topic: "edited"})
		return right(err, err == nil && c.Topic == "edited", c)
	}},
	{"ChannelPermissionSet", "PUT /channels/{}/permissions/{}", func(l *library) error {
		return l.bot.ChannelPermissionSet(l.other, l.friend, discordgo.PermissionOverwriteTypeMember, discordgo.PermissionSendMessages, discordgo.PermissionAttachFiles)
	}},
	{"UserChannelPermissions", "", func(l *library) error {
		// It asks its own state, which hears of the change a moment later, and may not be asked meanwhile.
		eventually(l.t, func() error { return right(nil, l.wasTold("CHANNEL_UPDATE", l.other, l.friend), "no CHANNEL_UPDATE") })
		p, err := l.bot.UserChannelPermissions(l.friend, l.other)
		return right(err, p&discordgo.PermissionSendMessages != 0 && p&discordgo.PermissionAttachFiles == 0, p)
	}},
	{"ChannelPermissionDelete", "DELETE /channels/{}/permissions/{}", func(l *library) error { return l.bot.ChannelPermissionDelete(l.other, l.friend) }},
	{"ChannelInviteCreate", "POST /channels/{}/invites", func(l *library) error {
		i, err := l.bot.ChannelInviteCreate(l.channel, discordgo.Invite{MaxAge: 600, MaxUses: 2, Unique: true})
		if err = right(err, err == nil && i.MaxAge == 600 && i.MaxUses == 2 && i.Guild.ID == l.guild && i.Channel.ID == l.channel && i.Inviter.ID == l.me, i); err != nil {
			return err
		}
		l.invite = i.Code
		return nil
	}},
	{"ChannelInvites", "GET /channels/{}/invites", func(l *library) error {
		i, err := l.bot.ChannelInvites(l.channel)
		return right(err, len(i) > 0, i)
	}},
	{"GuildInvites", "GET /guilds/{}/invites", func(l *library) error {
		i, err := l.bot.GuildInvites(l.guild)
		return right(err, len(i) > 0, i)
	}},
	{"Invite", "GET /invites/{}", func(l *library) error {
		i, err := l.bot.Invite(l.invite)
		return right(err, err == nil && i.Code == l.invite && i.Guild.Name == "the court", i)
	}},
	{"InviteWithCounts", "GET /invites/{}", func(l *library) error {
		i, err := l.bot.InviteWithCounts(l.invite)
		return right(err, err == nil && i.ApproximateMemberCount > 5, i)
	}},
	{"InviteComplex", "GET /invites/{}", func(l *library) error {
		i, err := l.bot.InviteComplex(l.invite, "", true, true)
		return right(err, err == nil && i.ExpiresAt != nil, i)
	}},
	{"InviteAccept", "POST /invites/{}", func(l *library) error {
		i, err := l.open(l.as["ex-member"].token).InviteAccept(l.invite)
		return right(err, err == nil && i.Guild.ID == l.guild, i)
	}},
	{"GuildLeave", "DELETE /users/@me/guilds/{}", func(l *library) error { return l.open(l.as["ex-member"].token).GuildLeave(l.guild) }},
	{"InviteDelete", "DELETE /invites/{}", func(l *library) error {
		i, err := l.bot.InviteDelete(l.invite)
		return right(err, err == nil && i.Code == l.invite, i)
	}},
	{"GuildRoles", "GET /guilds/{}/roles", func(l *library) error {
		r, err := l.bot.GuildRoles(l.guild)
		return right(err, len(r) > 3, r)
	}},
	{"GuildRoleCreate", "POST /guilds/{}/roles", func(l *library) error {
		r, err := l.bot.GuildRoleCreate(l.guild, &discordgo.RoleParams{
			Name: "made", Color: new(0xff0000), Hoist: new(true), Permissions: new(int64(discordgo.PermissionSendMessages)), Mentionable: new(true),
		})
		if err = right(err, err == nil && r.Name == "made" && r.Color == 0xff0000 && r.Hoist && r.Mentionable && r.Permissions == discordgo.PermissionSendMessages, r); err != nil {
			return err
		}
		l.role = r.ID
		return nil
	}},
	{"GuildRoleEdit", "PATCH /guilds/{}/roles/{}", func(l *library) error {
		r, err := l.bot.GuildRoleEdit(l.guild, l.role, &discordgo.RoleParams{Name: "edited"})
		return right(err, err == nil && r.Name == "edited" && r.Color == 0xff0000, r)
	}},
	{"GuildRoleReorder", "PATCH /guilds/{}/roles", func(l *library) error {
		r, err := l.bot.GuildRoleReorder(l.guild, []*discordgo.Role{{ID: l.role, Position: 1}})
		return right(err, len(r) > 3, r)
	}},
	{"GuildMemberRoleAdd", "PUT /guilds/{}/members/{}/roles/{}", func(l *library) error { return l.bot.GuildMemberRoleAdd(l.guild, l.friend, l.role) }},
	{"GuildMember", "GET /guilds/{}/members/{}", func(l *library) error {
		m, err := l.bot.GuildMember(l.guild, l.friend)
		return right(err, err == nil && m.User.ID == l.friend && len(m.Roles) == 1 && m.Roles[0] == l.role && !m.JoinedAt.IsZero(), m)
	}},
	{"GuildMemberRoleRemove", "DELETE /guilds/{}/members/{}/roles/{}", func(l *library) error { return l.bot.GuildMemberRoleRemove(l.guild, l.friend, l.role) }},
	{"GuildMembers", "GET /guilds/{}/members", func(l *library) error {
		m, err := l.bot.GuildMembers(l.guild, "", 1000)
		return right(err, len(m) > 5, m)
	}},
	{"GuildMembersSearch", "GET /guilds/{}/members/search", func(l *library) error {
		m, err := l.bot.GuildMembersSearch(l.guild, "moder", 10)
		return right(err, len(m) == 1 && m[0].User.Username == "moderator", m)
	}},
	{"GuildMemberNickname", "PATCH /guilds/{}/members/{}", func(l *library) error { return l.bot.GuildMemberNickname(l.guild, l.friend, "nick") }},
	{"GuildMemberEdit", "PATCH /guilds/{}/members/{}", func(l *library) error {
		m, err := l.bot.GuildMemberEdit(l.guild, l.friend, &discordgo.GuildMemberParams{Nick: "edited", Roles: &[]string{l.role}})
		return right(err, err == nil && m.Nick == "edited" && len(m.Roles) == 1, m)
	}},
	{"GuildMemberEditComplex", "PATCH /guilds/{}/members/{}", func(l *library) error {
		m, err := l.bot.GuildMemberEditComplex(l.guild, l.friend, &discordgo.GuildMemberParams{Roles: &[]string{}})
		return right(err, err == nil && len(m.Roles) == 0, m)
	}},
	{"GuildMemberTimeout", "PATCH /guilds/{}/members/{}", func(l *library) error {
		until := time.Now().Add(time.Hour)
		if err := l.bot.GuildMemberTimeout(l.guild, l.friend, &until); err != nil {
			return err
		}
		return l.bot.GuildMemberTimeout(l.guild, l.friend, nil)
	}},
	{"GuildRoleDelete", "DELETE /guilds/{}/roles/{}", func(l *library) error { return l.bot.GuildRoleDelete(l.guild, l.role) }},
	{"ChannelMessageSend", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSend(l.channel, "sent")
		if err = right(err, err == nil && m.Content == "sent" && m.Author.ID == l.me && m.ChannelID == l.channel && !m.Timestamp.IsZero(), m); err != nil {
			return err
		}
		l.message = m.ID
		return nil
	}},
	{"ChannelMessageSendComplex", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSendComplex(l.channel, &discordgo.MessageSend{
			Content: "<@" + l.friend + ">", Embeds: []*discordgo.MessageEmbed{{Title: "t", Fields: []*discordgo.MessageEmbedField{{Name: "n", Value: "v"}}}},
			AllowedMentions: &discordgo.MessageAllowedMentions{Parse: []discordgo.AllowedMentionType{discordgo.AllowedMentionTypeUsers}}, Flags: discordgo.MessageFlagsSuppressNotifications,
		})
		return right(err, err == nil && len(m.Mentions) == 1 && len(m.Embeds) == 1 && m.Embeds[0].Fields[0].Value == "v" && m.Flags&discordgo.MessageFlagsSuppressNotifications != 0, m)
	}},
	{"ChannelMessageSendTTS", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSendTTS(l.channel, "spoken")
		return right(err, err == nil && m.TTS, m)
	}},
	{"ChannelMessageSendEmbed", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSendEmbed(l.channel, &discordgo.MessageEmbed{Description: "d"})
		return right(err, err == nil && len(m.Embeds) == 1 && m.Embeds[0].Type == discordgo.EmbedTypeRich, m)
	}},
	{"ChannelMessageSendEmbeds", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSendEmbeds(l.channel, []*discordgo.MessageEmbed{{Description: "d"}, {Description: "e"}})
		return right(err, err == nil && len(m.Embeds) == 2, m)
	}},
	{"ChannelMessageSendReply", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSendReply(l.channel, "reply", &discordgo.MessageReference{MessageID: l.message, ChannelID: l.channel})
		if err = right(err, err == nil && m.Type == discordgo.MessageTypeReply && m.ReferencedMessage.Content == "sent", m); err != nil {
			return err
		}
		l.reply = m.ID
		return nil
	}},
	{"ChannelMessageSendEmbedReply", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSendEmbedReply(l.channel, &discordgo.MessageEmbed{Description: "d"}, &discordgo.MessageReference{MessageID: l.message})
		return right(err, err == nil && m.MessageReference.MessageID == l.message && len(m.Embeds) == 1, m)
	}},
	{"ChannelMessageSendEmbedsReply", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessageSendEmbedsReply(l.channel, []*discordgo.MessageEmbed{{Description: "d"}}, &discordgo.MessageReference{MessageID: l.message})
		return right(err, err == nil && m.MessageReference.MessageID == l.message, m)
	}},
	{"ChannelFileSend", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelFileSend(l.channel, "a.txt", strings.NewReader("the file"))
		return right(err, err == nil && len(m.Attachments) == 1 && m.Attachments[0].Filename == "a.txt" && m.Attachments[0].Size == 8, m)
	}},
	{"ChannelFileSendWithMessage", "POST /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelFileSendWithMessage(l.channel, "text", "a.txt", strings.NewReader("the file"))
		return right(err, err == nil && len(m.Attachments) == 1 && m.Content == "text", m)
	}},
	{"ChannelMessage", "GET /channels/{}/messages/{}", func(l *library) error {
		m, err := l.bot.ChannelMessage(l.channel, l.reply)
		return right(err, err == nil && m.Content == "reply" && m.ReferencedMessage.ID == l.message, m)
	}},
	{"ChannelMessages", "GET /channels/{}/messages", func(l *library) error {
		m, err := l.bot.ChannelMessages(l.channel, 3, l.reply, "", "")
		return right(err, len(m) == 3 && m[0].ID < l.reply && m[0].ID > m[1].ID, m)
	}},
	{"ChannelMessageEdit", "PATCH /channels/{}/messages/{}", func(l *library) error {
		m, err := l.bot.ChannelMessageEdit(l.channel, l.message, "edited")
		return right(err, err == nil && m.Content == "edited" && m.EditedTimestamp != nil, m)
	}},
	{"ChannelMessageEditComplex", "PATCH /channels/{}/messages/{}", func(l *library) error {
		m, err := l.bot.ChannelMessageEditComplex(discordgo.NewMessageEdit(l.channel, l.message).SetContent("complex").SetEmbed(&discordgo.MessageEmbed{Title: "t"}))
		return right(err, err == nil && m.Content == "complex" && len(m.Embeds) == 1, m)
	}},
	{"ChannelMessageEditEmbed", "PATCH /channels/{}/messages/{}", func(l *library) error {
		m, err := l.bot.ChannelMessageEditEmbed(l.channel, l.message, &discordgo.MessageEmbed{Title: "other"})
		return right(err, err == nil && m.Embeds[0].Title == "other", m)
	}},
	{"ChannelMessageEditEmbeds", "PATCH /channels/{}/messages/{}", func(l *library) error {
		m, err := l.bot.ChannelMessageEditEmbeds(l.channel, l.message, []*discordgo.MessageEmbed{{Title: "1"}, {Title: "2"}})
		return right(err, err == nil && len(m.Embeds) == 2, m)
	}},
	{"MessageReactionAdd", "PUT /channels/{}/messages/{}/reactions/{}/@me", func(l *library) error { return l.bot.MessageReactionAdd(l.channel, l.message, "🦊") }},
	{"MessageReactions", "GET /channels/{}/messages/{}/reactions/{}", func(l *library) error {
		u, err := l.bot.MessageReactions(l.channel, l.message, "🦊", 10, "", "")
		return right(err, len(u) == 1 && u[0].ID == l.me, u)
	}},
	{"MessageReactionRemove", "DELETE /channels/{}/messages/{}/reactions/{}/{}", func(l *library) error {
		return l.bot.MessageReactionRemove(l.channel, l.message, "🦊", l.me)
	}},
	{"MessageReactionsRemoveEmoji", "DELETE /channels/{}/messages/{}/reactions/{}", func(l *library) error {
		if err := l.bot.MessageReactionAdd(l.channel, l.message, "🐻"); err != nil {
			return err
		}
		return l.bot.MessageReactionsRemoveEmoji(l.channel, l.message, "🐻")
	}},
	{"MessageReactionsRemoveAll", "DELETE /channels/{}/messages/{}/reactions", func(l *library) error {
		if err := l.bot.MessageReactionAdd(l.channel, l.message, "🐻"); err != nil {
			return err
		}
		return l.bot.MessageReactionsRemoveAll(l.channel, l.message)
	}},
	{"ChannelMessagePin", "PUT /channels/{}/pins/{}", func(l *library) error { return l.bot.ChannelMessagePin(l.channel, l.message) }},
	{"ChannelMessagesPinned", "GET /channels/{}/pins", func(l *library) error {
		m, err := l.bot.ChannelMessagesPinned(l.channel)
		return right(err, len(m) == 1 && m[0].ID == l.message && m[0].Pinned, m)
	}},
	{"ChannelMessageUnpin", "DELETE /channels/{}/pins/{}", func(l *library) error { return l.bot.ChannelMessageUnpin(l.channel, l.message) }},
	{"ChannelTyping", "POST /channels/{}/typing", func(l *library) error { return l.bot.ChannelTyping(l.channel) }},
	{"ChannelMessagesBulkDelete", "POST /channels/{}/messages/bulk-delete", func(l *library) error {
		m, err := l.bot.ChannelMessages(l.channel, 2, "", "", "")
		if err != nil {
			return err
		}
		return l.bot.ChannelMessagesBulkDelete(l.channel, []string{m[0].ID, m[1].ID})
	}},
	{"ChannelMessageDelete", "DELETE /channels/{}/messages/{}", func(l *library) error { return l.bot.ChannelMessageDelete(l.channel, l.message) }},
	{"UserChannelCreate", "POST /users/@me/channels", func(l *library) error {
		c, err := l.bot.UserChannelCreate(l.as["owner"].id.String())
		if err = right(err, err == nil && c.Type == discordgo.ChannelTypeDM && len(c.Recipients) == 1, c); err != nil {
			return err
		}
		_, err = l.bot.ChannelMessageSend(c.ID, "in private")
		return err
	}},
	{"GuildBanCreate", "PUT /guilds/{}/bans/{}", func(l *library) error { return l.bot.GuildBanCreate(l.guild, l.friend, 0) }},
	{"GuildBan", "GET /guilds/{}/bans/{}", func(l *library) error {
		b, err := l.bot.GuildBan(l.guild, l.friend)
		return right(err, err == nil && b.User.ID == l.friend, b)
	}},
	{"GuildBans", "GET /guilds/{}/bans", func(l *library) error {
		b, err := l.bot.GuildBans(l.guild, 10, "", "")
		return right(err, len(b) == 2, b)
	}},
	{"GuildBanDelete", "DELETE /guilds/{}/bans/{}", func(l *library) error { return l.bot.GuildBanDelete(l.guild, l.friend) }},
	{"GuildBanCreateWithReason", "PUT /guilds/{}/bans/{}", func(l *library) error {
		if err := l.bot.GuildBanCreateWithReason(l.guild, l.friend, "why not", 1); err != nil {
			return err
		}
		b, err := l.bot.GuildBan(l.guild, l.friend)
		return right(err, err == nil && b.Reason == "why not", b)
	}},
	{"GuildMemberDelete", "DELETE /guilds/{}/members/{}", func(l *library) error { return l.bot.GuildMemberDelete(l.guild, l.fresh["new-member"](l.t)) }},
	{"GuildMemberDeleteWithReason", "DELETE /guilds/{}/members/{}", func(l *library) error {
		return l.bot.GuildMemberDeleteWithReason(l.guild, l.fresh["new-member"](l.t), "for the log")
	}},
	{"GuildAuditLog", "GET /guilds/{}/audit-logs", func(l *library) error {
		log, err := l.bot.GuildAuditLog(l.guild, "", "", int(discordgo.AuditLogActionMemberKick), 10)
		return right(err, err == nil && len(log.AuditLogEntries) > 0 && log.AuditLogEntries[0].Reason == "for the log", log)
	}},
	{"GuildEmojis", "GET /guilds/{}/emojis", func(l *library) error {
		e, err := l.bot.GuildEmojis(l.guild)
		return right(err, len(e) == 0, e)
	}},
	{"GuildScheduledEvents", "GET /guilds/{}/scheduled-events", func(l *library) error {
		e, err := l.bot.GuildScheduledEvents(l.guild, false)
		return right(err, len(e) == 0, e)
	}},
	{"GuildThreadsActive", "GET /guilds/{}/threads/active", func(l *library) error {
		th, err := l.bot.GuildThreadsActive(l.guild)
		return right(err, err == nil && len(th.Threads) == 0, th)
	}},
	{"VoiceRegions", "GET /voice/regions", func(l *library) error {
		r, err := l.bot.VoiceRegions()
		return right(err, len(r) == 1, r)
	}},
	{"WebhookCreate", "POST /channels/{}/webhooks", func(l *library) error {
		w, err := l.bot.WebhookCreate(l.channel, "hook", "")
		if err = right(err, err == nil && w.Name == "hook" && w.Token != "", w); err != nil {
			return err
		}
		l.webhook, l.token = w.ID, w.Token
		return nil
	}},
	{"ChannelWebhooks", "GET /channels/{}/webhooks", func(l *library) error {
		w, err := l.bot.ChannelWebhooks(l.channel)
		return right(err, l.hasHook(w), w)
	}},
	{"GuildWebhooks", "GET /guilds/{}/webhooks", func(l *library) error {
		w, err := l.bot.GuildWebhooks(l.guild)
		return right(err, l.hasHook(w), w)
	}},
	{"Webhook", "GET /webhooks/{}", func(l *library) error {
		w, err := l.bot.Webhook(l.webhook)
		return right(err, err == nil && w.ChannelID == l.channel, w)
	}},
	{"WebhookWithToken", "GET /webhooks/{}/{}", func(l *library) error {
		w, err := l.bot.WebhookWithToken(l.webhook, l.token)
		return right(err, err == nil && w.ID == l.webhook, w)
	}},
	{"WebhookEdit", "PATCH /webhooks/{}", func(l *library) error {
		w, err := l.bot.WebhookEdit(l.webhook, "renamed", "data:image/png;base64,"+dot(l.t), l.channel)
		if err = right(err, err == nil && w.Name == "renamed" && w.Avatar != "", w); err != nil {
			return err
		}
		return l.served("/avatars/" + w.ID + "/" + w.Avatar + ".png")
	}},
	{"WebhookEditWithToken", "PATCH /webhooks/{}/{}", func(l *library) error {
		w, err := l.bot.WebhookEditWithToken(l.webhook, l.token, "again", "")
		return right(err, err == nil && w.Name == "again", w)
	}},
	{"WebhookExecute", "POST /webhooks/{}/{}", func(l *library) error {
		file := []*discordgo.File{{Name: "hook.txt", Reader: strings.NewReader("file")}}
		m, err := l.bot.WebhookExecute(l.webhook, l.token, true, &discordgo.WebhookParams{Content: "by hook", Username: "other", Files: file})
		if err = right(err, err == nil && m.Content == "by hook" && m.WebhookID == l.webhook && m.Author.Username == "other" && m.Author.Bot &&
			len(m.Attachments) == 1 && m.Member == nil, m); err != nil {
			return err
		}
		if silent, err := l.bot.WebhookExecute(l.webhook, l.token, false, &discordgo.WebhookParams{Content: "by hook"}); err != nil || silent != nil {
			return fmt.Errorf("without wait: %+v, %w", silent, err)
		}
		l.message = m.ID
		return nil
	}},
	{"WebhookMessage", "GET /webhooks/{}/{}/messages/{}", func(l *library) error {
		m, err := l.bot.WebhookMessage(l.webhook, l.token, l.message)
		return right(err, err == nil && m.Content == "by hook", m)
	}},
	{"WebhookMessageEdit", "PATCH /webhooks/{}/{}/messages/{}", func(l *library) error {
		m, err := l.bot.WebhookMessageEdit(l.webhook, l.token, l.message, &discordgo.WebhookEdit{Content: new("edited")})
		return right(err, err == nil && m.Content == "edited", m)
	}},
	{"WebhookMessageDelete", "DELETE /webhooks/{}/{}/messages/{}", func(l *library) error { return l.bot.WebhookMessageDelete(l.webhook, l.token, l.message) }},
	{"WebhookDelete", "DELETE /webhooks/{}", func(l *library) error {
		w, err := l.bot.WebhookCreate(l.channel, "hook", "")
		if err != nil {
			return err
		}
		return l.bot.WebhookDelete(w.ID)
	}},
	{"WebhookDeleteWithToken", "DELETE /webhooks/{}/{}", func(l *library) error {
		// The library wants an object where the answer is a 204, also of the server that it was written for.
		_, err := l.bot.WebhookDeleteWithToken(l.webhook, l.token)
		if _, gone := l.bot.Webhook(l.webhook); gone == nil || !strings.Contains(gone.Error(), `"code":10015`) {
			return fmt.Errorf("it is still there: %w", errors.Join(err, gone))
		}
		return nil
	}},
	{"RequestGuildMembers", "", func(l *library) error { return l.bot.RequestGuildMembers(l.guild, "", 0, "nonce", true) }},
	{"UpdateCustomStatus", "", func(l *library) error { return l.bot.UpdateCustomStatus("here") }},
	{"UpdateGameStatus", "", func(l *library) error { return l.bot.UpdateGameStatus(0, "chess") }},
	{"UpdateListeningStatus", "", func(l *library) error { return l.bot.UpdateListeningStatus("birds") }},
	{"UpdateStreamingStatus", "", func(l *library) error { return l.bot.UpdateStreamingStatus(0, "live", "https://example.org") }},
	{"UpdateWatchStatus", "", func(l *library) error { return l.bot.UpdateWatchStatus(0, "you") }},
	{"UpdateStatusComplex", "", func(l *library) error { return l.bot.UpdateStatusComplex(discordgo.UpdateStatusData{Status: "dnd"}) }},
	{"ChannelDelete", "DELETE /channels/{}", func(l *library) error {
		c, err := l.bot.ChannelDelete(l.other)
		return right(err, err == nil && c.ID == l.other, c)
	}},
	{"Close", "", func(l *library) error { return nil }},         // at the end of the test
	{"CloseWithCode", "", func(l *library) error { return nil }}, // which is what Close does
}
