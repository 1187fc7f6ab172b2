package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// TestJourney_PeopleTalk is the main job, in each topology: two people, a guild, a conversation, and the row in Postgres.
func TestJourney_PeopleTalk(t *testing.T) {
	t.Parallel()
	for name, make := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := make(t)
			ada, bob := w.register(t, "ada"), w.register(t, "bob")
			me, err := ada.Me(t.Context())
			if err != nil || me.ID != ada.id || me.Username != ada.name {
				t.Fatalf("users/@me: %+v, %v", me, err)
			}
			adas := ada.connect(t, client.GatewayConfig{})
			guild, channel := ada.guild(t, "first")
			await(t, adas, "GUILD_CREATE", nil)

			bobs := bob.connect(t, client.GatewayConfig{})
			ada.invite(t, channel, bob)
			joined := await(t, bobs, "GUILD_CREATE", nil)
			if g, ok := client.As[wire.GuildCreate](joined, "GUILD_CREATE"); !ok || g.ID != guild || len(g.Channels) != 2 || g.MemberCount != 2 {
				t.Errorf("bob's GUILD_CREATE: %s", joined.Raw)
			}
			await(t, adas, "GUILD_MEMBER_ADD", nil)

			if err := bob.Typing(t.Context(), channel); err != nil {
				t.Fatal(err)
			}
			await(t, adas, "TYPING_START", nil)
			sent := bob.say(t, channel, "hello")
			got := await(t, adas, "MESSAGE_CREATE", content("hello"))
			if m, _ := client.As[wire.Message](got, "MESSAGE_CREATE"); m.ID != sent.ID || m.Timestamp != sent.Timestamp || m.Author.ID != bob.id {
				t.Errorf("ada got %s, bob was answered %+v", got.Raw, sent)
			}
			if _, err := bob.EditMessage(t.Context(), channel, sent.ID, wire.EditMessage{Content: wire.Some("hello there")}); err != nil {
				t.Fatal(err)
			}
			await(t, adas, "MESSAGE_UPDATE", content("hello there"))
			history, err := ada.Messages(t.Context(), channel, wire.ListMessages{})
			if err != nil || len(history) != 1 || history[0].Content != "hello there" {
				t.Errorf("history: %+v, %v", history, err)
			}
			w.awaitRow(t, sent.ID, "hello there")
			if err := bob.DeleteMessage(t.Context(), channel, sent.ID); err != nil {
				t.Fatal(err)
			}
			await(t, adas, "MESSAGE_DELETE", nil)
			if _, err := ada.Message(t.Context(), channel, sent.ID); !client.IsCode(err, fault.UnknownMessage) {
				t.Errorf("the deleted message: %v, want 10008", err)
			}
			bobs.Close()
			await(t, adas, "PRESENCE_UPDATE", func(d client.Dispatch) bool {
				p, ok := client.As[wire.Presence](d, d.Type)
				return ok && p.User.ID == bob.id && p.Status == "offline"
			})
			if adas.Stats().Gaps != 0 {
				t.Errorf("ada's session has %d gaps in its numbers", adas.Stats().Gaps)
			}
		})
	}
}

// TestBulkDelete_IsOneEvent: what is deleted together is told as one event, to who is there and to who comes back on another gateway, and
// is not in the history of either.
func TestBulkDelete_IsOneEvent(t *testing.T) {
	t.Parallel()
	w, other := pair(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	guild, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	adas, bobs := ada.connect(t, client.GatewayConfig{}), bob.connect(t, client.GatewayConfig{})
	await(t, adas, "GUILD_CREATE", nil)
	await(t, bobs, "GUILD_CREATE", nil)
	var all []id.ID
	for i := range 5 {
		all = append(all, bob.say(t, channel, fmt.Sprint(i)).ID)
	}
	await(t, bobs, "MESSAGE_CREATE", content("4"))
	state := bobs.Detach()

	if err := bob.DeleteMessages(t.Context(), channel, all[:2]); !client.IsCode(err, fault.MissingPermissions) {
		t.Errorf("by who wrote them: %v, want 50013", err)
	}
	for _, some := range [][]id.ID{all[1:4], all[:3]} { // the second finds only the first message
		if err := ada.DeleteMessages(t.Context(), channel, some); err != nil {
			t.Fatal(err)
		}
	}
	last := ada.say(t, channel, "last")
	bobs = bob.connect(t, client.GatewayConfig{URL: other, Resume: &state})
	for name, g := range map[string]*client.Gateway{"ada": adas, "bob": bobs} {
		var told []any
		for told == nil || told[len(told)-1] != last.ID {
			d := next(t, g)
			if m, ok := client.As[wire.MessageDeleteBulk](d, "MESSAGE_DELETE_BULK"); ok {
				told = append(told, m)
			}
			if m, ok := client.As[wire.MessageDelete](d, "MESSAGE_DELETE"); ok {
				told = append(told, m)
			}
			if m, ok := client.As[wire.Message](d, "MESSAGE_CREATE"); ok && !slices.Contains(all, m.ID) {
				told = append(told, m.ID)
			}
		}
		want := []any{
			wire.MessageDeleteBulk{IDs: all[1:4], ChannelID: channel, GuildID: guild},
			wire.MessageDelete{ID: all[0], ChannelID: channel, GuildID: guild}, last.ID,
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("%s was told: %s", name, diff)
		}
		if stats := g.Stats(); stats.Gaps != 0 || stats.Resumed != map[string]int64{"bob": 1}[name] {
			t.Errorf("%s: %+v", name, stats)
		}
	}
	if diff := cmp.Diff([]id.ID{all[4], last.ID}, wholeHistory(t, bob, channel)); diff != "" {
		t.Errorf("history: %s", diff)
	}
}

// awaitRow waits until the writer has stored a message.
func (w *world) awaitRow(t *testing.T, message id.ID, want string) {
	t.Helper()
	eventually(t, func() error {
		var got string
		err := w.pool.QueryRow(t.Context(), `SELECT content FROM messages WHERE id = $1`, int64(message)).Scan(&got)
		if err == nil && got != want {
			err = fmt.Errorf("the row says %q, want %q", got, want)
		}
		return err
	})
}

// TestBot_LivesInAGuild: an application, its bot, added by who manages the guild; the bot's token works on REST and gateway.
func TestBot_LivesInAGuild(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	guild, channel := ada.guild(t, "first")
	app, err := ada.CreateApplication(t.Context(), "helper")
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
	bot := &person{Client: ada.WithToken("Bot " + made.Token), id: app.ID}
	gateway := bot.connect(t, client.GatewayConfig{Intents: wire.IntentGuilds | wire.IntentGuildMessages})
	ready := await(t, gateway, "READY", nil)
	if r, ok := client.As[wire.Ready](ready, "READY"); !ok || r.Application.ID != app.ID || len(r.Guilds) != 1 || r.User.ID != app.ID {
		t.Errorf("READY: %s", ready.Raw)
	}
	await(t, gateway, "GUILD_CREATE", nil)
	ada.say(t, channel, "no mention, no content")
	d := await(t, gateway, "MESSAGE_CREATE", nil)
	if m, _ := client.As[wire.Message](d, d.Type); m.Content != "" {
		t.Errorf("without the intent the bot reads %q", m.Content)
	}
	ada.say(t, channel, fmt.Sprintf("hi <@%s>", app.ID))
	await(t, gateway, "MESSAGE_CREATE", content(fmt.Sprintf("hi <@%s>", app.ID)))
	if _, err := bot.Join(t.Context(), "x"); !client.IsCode(err, fault.NotForBots) {
		t.Errorf("a bot joins by invite: %v, want 20001", err)
	}
	if _, err := ada.ResetBot(t.Context(), app.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // The old token is remembered for a second at most.
		if _, err := bot.Me(t.Context()); !client.IsStatus(err, http.StatusUnauthorized) {
			return fmt.Errorf("the old token: %v, want 401", err)
		}
		return nil
	})
}

// TestVisibility_HiddenChannelDoesNotExist: a channel without VIEW_CHANNEL, by overwrite and by role, in events and in REST.
func TestVisibility_HiddenChannelDoesNotExist(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	guild, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	bobs := bob.connect(t, client.GatewayConfig{})
	await(t, bobs, "GUILD_CREATE", nil)

	hidden, err := ada.CreateChannel(t.Context(), guild, wire.CreateChannel{Name: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	await(t, bobs, "CHANNEL_CREATE", nil)
	deny := wire.SetOverwrite{Type: new(perm.OverwriteRole), Deny: perm.ViewChannel}
	if err := ada.SetOverwrite(t.Context(), hidden.ID, guild, deny); err != nil {
		t.Fatal(err)
	}
	await(t, bobs, "CHANNEL_DELETE", nil)
	ada.say(t, hidden.ID, "among us")
	ada.say(t, channel, "for all")
	d := await(t, bobs, "MESSAGE_CREATE", nil)
	if m, _ := client.As[wire.Message](d, d.Type); m.ChannelID != channel {
		t.Errorf("bob sees %s", d.Raw)
	}
	_, historyErr := bob.Messages(t.Context(), hidden.ID, wire.ListMessages{})
	_, sayErr := bob.Say(t.Context(), hidden.ID, "me too")
	_, channelErr := bob.Channel(t.Context(), hidden.ID)
	for what, err := range map[string]error{"history": historyErr, "message": sayErr, "channel": channelErr} {
		if !client.IsCode(err, fault.MissingAccess) {
			t.Errorf("%s: %v, want 50001", what, err)
		}
	}

	role, err := ada.CreateRole(t.Context(), guild, wire.CreateRole{Name: new("insiders")})
	if err != nil {
		t.Fatal(err)
	}
	allow := wire.SetOverwrite{Type: new(perm.OverwriteRole), Allow: perm.ViewChannel}
	if err := ada.SetOverwrite(t.Context(), hidden.ID, role.ID, allow); err != nil {
		t.Fatal(err)
	}
	if err := ada.GiveRole(t.Context(), guild, bob.id, role.ID); err != nil {
		t.Fatal(err)
	}
	await(t, bobs, "CHANNEL_CREATE", nil)
	ada.say(t, hidden.ID, "welcome")
	await(t, bobs, "MESSAGE_CREATE", content("welcome"))
	if bobs.Stats().Gaps != 0 {
		t.Errorf("bob's session has %d gaps in its numbers", bobs.Stats().Gaps)
	}
}

// TestHistory_HasTheOrderOfDelivery: many people at once, one order for everybody.
func TestHistory_HasTheOrderOfDelivery(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	_, channel := ada.guild(t, "first")
	const people, each = 8, 20
	var all []*person
	for range people {
		all = append(all, w.register(t, "p"))
	}
	ada.invite(t, channel, all...)
	watcher := ada.connect(t, client.GatewayConfig{})
	await(t, watcher, "GUILD_CREATE", nil)
	errs := make(chan error, people)
	for _, p := range all {
		go func() {
			var err error
			for i := 0; i < each && err == nil; i++ {
				_, err = p.Say(t.Context(), channel, fmt.Sprintf("%s %d", p.name, i))
			}
			errs <- err
		}()
	}
	var delivered []id.ID
	for len(delivered) < people*each {
		d := await(t, watcher, "MESSAGE_CREATE", nil)
		m, _ := client.As[wire.Message](d, d.Type)
		delivered = append(delivered, m.ID)
	}
	for range people {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if !slices.IsSorted(delivered) {
		t.Error("messages were not delivered in the order of their ids")
	}
	if diff := cmp.Diff(delivered, wholeHistory(t, ada, channel)); diff != "" {
		t.Errorf("history differs from what was delivered: %s", diff)
	}
}

// wholeHistory pages through a channel, oldest first.
func wholeHistory(t *testing.T, p *person, channel id.ID) (ids []id.ID) {
	t.Helper()
	limit := 100
	for before := id.ID(0); ; {
		page, err := p.Messages(t.Context(), channel, wire.ListMessages{Before: before, Limit: &limit})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page {
			ids = append(ids, m.ID)
		}
		if len(page) < limit {
			slices.Reverse(ids)
			return ids
		}
		before = page[len(page)-1].ID
	}
}

// TestHistory_ContainsWhatWasAnswered: a read after a 200 sees the message, on the other node as well.
func TestHistory_ContainsWhatWasAnswered(t *testing.T) {
	t.Parallel()
	w := single(t)
	other := w.start(t, w.settings)
	ada := w.register(t, "ada")
	_, channel := ada.guild(t, "first")
	c, err := client.New(client.Config{URL: "http://" + other.Addr(), Token: ada.token})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		sent := ada.say(t, channel, fmt.Sprint(i))
		one := 1
		page, err := c.Messages(t.Context(), channel, wire.ListMessages{Limit: &one})
		if err != nil || len(page) != 1 || page[0].ID != sent.ID {
			t.Fatalf("message %d: the other node answers %+v, %v", i, page, err)
		}
	}
}
