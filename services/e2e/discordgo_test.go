package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bwmarrin/discordgo"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// TestDiscordgo_UnchangedBotAnswersPing runs a bot on a public client library as it is: only the addresses differ, which
// the library has as variables. They are global, so no other test may use the library against a world.
func TestDiscordgo_UnchangedBotAnswersPing(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	guild, channel := ada.guild(t, "bots welcome")
	app, err := ada.CreateApplication(t.Context(), "pong")
	if err != nil {
		t.Fatal(err)
	}
	made, err := ada.CreateBot(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := ada.AddBot(t.Context(), guild, app.ID); err != nil {
		t.Fatal(err)
	}
	adas := ada.connect(t, client.GatewayConfig{})
	await(t, adas, "GUILD_CREATE", nil)
	byBot := func(d client.Dispatch) bool {
		return strings.Contains(string(d.Raw), `"`+app.ID.String()+`"`)
	}

	point(t, w.url)
	bot := newBot(t, made.Token)
	bot.open(t)
	ready := receive(t, bot.ready)
	if ready.User.ID != app.ID.String() || ready.Application.ID != app.ID.String() || len(ready.Guilds) != 1 || ready.SessionID == "" {
		t.Errorf("READY: %+v", ready)
	}
	if g := receive(t, bot.guilds); g.ID != guild.String() || g.MemberCount != 2 || g.Unavailable {
		t.Errorf("GUILD_CREATE: %+v", g.Guild)
	}
	bot.knows(t, guild.String(), channel.String(), ada.id.String())

	// The user asks, the bot types and replies.
	ask := ada.say(t, channel, "!ping")
	heard := receive(t, bot.messages)
	if heard.ID != ask.ID.String() || heard.Content != "!ping" || heard.Author.ID != ada.id.String() || heard.GuildID != guild.String() || heard.Member == nil {
		t.Errorf("the bot heard %+v", heard.Message)
	}
	if err := bot.ChannelTyping(heard.ChannelID); err != nil {
		t.Fatal(err)
	}
	await(t, adas, "TYPING_START", byBot)
	reply, err := bot.ChannelMessageSendReply(heard.ChannelID, "pong", heard.Reference())
	if err != nil {
		t.Fatal(err)
	}
	seen, _ := client.As[wire.Message](await(t, adas, "MESSAGE_CREATE", content("pong")), "MESSAGE_CREATE")
	if seen.ID.String() != reply.ID || seen.Author.ID != app.ID || !seen.Author.Bot || seen.Reference == nil || seen.Reference.MessageID != ask.ID ||
		seen.Referenced.Value.Content != "!ping" || seen.Type != wire.MessageReply {
		t.Errorf("ada sees %+v", seen)
	}
	if own := receive(t, bot.messages); own.ID != reply.ID || own.Content != "pong" {
		t.Errorf("the bot hears itself as %+v", own.Message)
	}

	// It edits the reply, reads the history and deletes the reply.
	if edited, err := bot.ChannelMessageEdit(heard.ChannelID, reply.ID, "pong!"); err != nil || edited.Content != "pong!" || edited.EditedTimestamp == nil {
		t.Fatalf("the edit: %+v, %v", edited, err)
	}
	await(t, adas, "MESSAGE_UPDATE", content("pong!"))
	history, err := bot.ChannelMessages(heard.ChannelID, 10, "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range history {
		texts = append(texts, m.Content)
	}
	if !slices.Equal(texts, []string{"pong!", "!ping"}) {
		t.Errorf("the bot reads %q", texts)
	}
	if err := bot.ChannelMessageDelete(heard.ChannelID, reply.ID); err != nil {
		t.Fatal(err)
	}
	await(t, adas, "MESSAGE_DELETE", func(d client.Dispatch) bool {
		m, ok := client.As[wire.MessageDelete](d, d.Type)
		return ok && m.ID.String() == reply.ID
	})
	if _, err := bot.ChannelMessage(heard.ChannelID, reply.ID); !isRESTError(err, http.StatusNotFound, discordgo.ErrCodeUnknownMessage) {
		t.Errorf("the deleted reply: %v, want 404 10008", err)
	}

	bot.deletesInBulk(t, heard.ChannelID, func() {
		mods, err := ada.CreateRole(t.Context(), guild, wire.CreateRole{Name: new("mods"), Permissions: new(perm.ManageMessages)})
		if err != nil {
			t.Fatal(err)
		}
		if err := ada.GiveRole(t.Context(), guild, app.ID, mods.ID); err != nil {
			t.Fatal(err)
		}
	}, adas)

	t.Run("EveryMethod", func(t *testing.T) {
		l := newLibrary(t, newCourtIn(t, w))
		l.everyCall()
		l.happens()
		l.everyEvent()
	})

	if err := bot.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, adas, "PRESENCE_UPDATE", func(d client.Dispatch) bool {
		p, ok := client.As[wire.Presence](d, d.Type)
		return ok && p.User.ID == app.ID && p.Status == "offline"
	})
}

// point sets the library's addresses to ours, and back at the end.
func point(t *testing.T, url string) {
	t.Helper()
	api := url + "/api/v" + discordgo.APIVersion + "/"
	for variable, value := range map[*string]string{
		&discordgo.EndpointDiscord: url + "/", &discordgo.EndpointAPI: api,
		&discordgo.EndpointGuilds: api + "guilds/", &discordgo.EndpointGuildCreate: api + "guilds", &discordgo.EndpointChannels: api + "channels/",
		&discordgo.EndpointUsers: api + "users/", &discordgo.EndpointGateway: api + "gateway", &discordgo.EndpointGatewayBot: api + "gateway/bot",
		&discordgo.EndpointWebhooks: api + "webhooks/", &discordgo.EndpointStickers: api + "stickers/", &discordgo.EndpointStageInstances: api + "stage-instances",
		&discordgo.EndpointSKUs: api + "skus", &discordgo.EndpointVoice: api + "voice/", &discordgo.EndpointVoiceRegions: api + "voice/regions",
		&discordgo.EndpointApplications: api + "applications", &discordgo.EndpointOAuth2: api + "oauth2/", &discordgo.EndpointOAuth2Applications: api + "oauth2/applications",
	} {
		was := *variable
		*variable = value
		t.Cleanup(func() { *variable = was })
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections) // the library uses the default transport
}

// libraryBot is a bot on the library, with what it hears.
type libraryBot struct {
	*discordgo.Session
	ready    chan *discordgo.Ready
	guilds   chan *discordgo.GuildCreate
	messages chan *discordgo.MessageCreate
}

func newBot(t *testing.T, token string) *libraryBot {
	t.Helper()
	s, err := discordgo.New("Bot " + token)
	if err != nil {
		t.Fatal(err)
	}
	s.Identify.Intents = discordgo.IntentsAll
	const room = 16 // more than a test hears, so that no handler waits
	b := &libraryBot{s, make(chan *discordgo.Ready, room), make(chan *discordgo.GuildCreate, room), make(chan *discordgo.MessageCreate, room)}
	s.AddHandler(func(_ *discordgo.Session, e *discordgo.Ready) { b.ready <- e })
	s.AddHandler(func(_ *discordgo.Session, e *discordgo.GuildCreate) { b.guilds <- e })
	s.AddHandler(func(_ *discordgo.Session, e *discordgo.MessageCreate) { b.messages <- e })
	return b
}

func (b *libraryBot) open(t *testing.T) {
	t.Helper()
	if err := b.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // twice is fine, and the test looks at the first
}

// knows checks the state that the library has built from READY and GUILD_CREATE, and what it asks by REST.
func (b *libraryBot) knows(t *testing.T, guild, channel, owner string) {
	t.Helper()
	g, err := b.State.Guild(guild)
	if err != nil {
		t.Fatal(err)
	}
	if g.Name != "bots welcome" || g.OwnerID != owner || len(g.Channels) != 2 || len(g.Roles) != 1 || g.Roles[0].ID != guild || g.JoinedAt.IsZero() {
		t.Errorf("the state has the guild as %+v", g)
	}
	if c, err := b.State.Channel(channel); err != nil || c.GuildID != guild || c.Type != discordgo.ChannelTypeGuildText {
		t.Errorf("the state has the channel as %+v, %v", c, err)
	}
	if m, err := b.State.Member(guild, b.State.User.ID); err != nil || !m.User.Bot {
		t.Errorf("the state has the bot as %+v, %v", m, err)
	}
	const need = discordgo.PermissionViewChannel | discordgo.PermissionSendMessages | discordgo.PermissionReadMessageHistory
	if perms, err := b.State.UserChannelPermissions(b.State.User.ID, channel); err != nil || perms&need != need {
		t.Errorf("the state gives the bot permissions %d, %v", perms, err)
	}
	if me, err := b.User("@me"); err != nil || me.ID != b.State.User.ID || !me.Bot {
		t.Errorf("users/@me: %+v, %v", me, err)
	}
	if g, err := b.GatewayBot(); err != nil || g.Shards != 1 || g.SessionStartLimit.Remaining == 0 {
		t.Errorf("gateway/bot: %+v, %v", g, err)
	}
	if members, err := b.GuildMembers(guild, "", 100); err != nil || len(members) != 2 {
		t.Errorf("members: %+v, %v", members, err)
	}
}

// deletesInBulk is for who manages messages, as the bot does from promote on. adas is told.
func (b *libraryBot) deletesInBulk(t *testing.T, channel string, promote func(), adas *client.Gateway) {
	t.Helper()
	var sent []string
	for _, text := range []string{"one", "two", "three"} {
		m, err := b.ChannelMessageSend(channel, text)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, m.ID)
	}
	if err := b.ChannelMessagesBulkDelete(channel, sent[:2]); !isRESTError(err, http.StatusForbidden, discordgo.ErrCodeMissingPermissions) {
		t.Errorf("without the permission: %v, want 403 50013", err)
	}
	promote()
	if err := b.ChannelMessagesBulkDelete(channel, sent[:2]); err != nil {
		t.Fatal(err)
	}
	await(t, adas, "MESSAGE_DELETE_BULK", func(d client.Dispatch) bool {
		m, ok := client.As[wire.MessageDeleteBulk](d, d.Type)
		return ok && len(m.IDs) == 2 && m.IDs[0].String() == sent[0] && m.IDs[1].String() == sent[1] && m.ChannelID.String() == channel
	})
	left, err := b.ChannelMessages(channel, 1, "", "", "")
	if err != nil || len(left) != 1 || left[0].ID != sent[2] {
		t.Errorf("the bot reads %+v, %v", left, err)
	}
}

func isRESTError(err error, status, code int) bool {
	rest, ok := err.(*discordgo.RESTError)
	return ok && rest.Response.StatusCode == status && rest.Message != nil && rest.Message.Code == code
}

// receive takes what must come.
func receive[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(patience):
		t.Fatalf("no %T came", got)
	}
	return got
}
