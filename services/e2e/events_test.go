package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// ear keeps all that a session is told.
type ear struct {
	*client.Gateway
	mu    sync.Mutex // guards heard and more
	heard []client.Dispatch
	more  chan struct{} // closed when something is heard, and made anew
}

func listen(t *testing.T, p *person) *ear {
	t.Helper()
	e := &ear{more: make(chan struct{})}
	e.Gateway = p.connect(t, client.GatewayConfig{Handle: func(d client.Dispatch) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.heard = append(e.heard, client.Dispatch{Type: d.Type, Seq: d.Seq, Raw: slices.Clone(d.Raw)})
		close(e.more)
		e.more = make(chan struct{})
	}})
	return e
}

// has says whether something of that name was heard with the text in it.
func (e *ear) has(name, text string) (found bool, more <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	found = slices.ContainsFunc(e.heard, func(d client.Dispatch) bool { return d.Type == name && strings.Contains(string(d.Raw), text) })
	return found, e.more
}

// await waits until it is heard, or for as long as a test is patient.
func (e *ear) await(t *testing.T, name, text string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		found, more := e.has(name, text)
		if found {
			return true
		}
		select {
		case <-more:
		case <-ctx.Done():
			return false
		}
	}
}

// ears are the sessions of a court's askers. Nobody listens for anonymous.
type ears struct {
	*court
	of map[string]*ear
	n  int
}

func (c *court) listen(t *testing.T) *ears {
	t.Helper()
	e := &ears{court: c, of: map[string]*ear{}}
	for _, who := range askers[1:] {
		e.of[who] = listen(t, c.as[who])
	}
	return e
}

// settle returns when all that was durable before it has been told to everybody: each hears of a change of its own that came after.
func (e *ears) settle(t *testing.T) {
	t.Helper()
	e.n++
	name := fmt.Sprintf("settled %d", e.n)
	for who, ear := range e.of {
		if _, err := e.as[who].UpdateMe(t.Context(), wire.UpdateSelf{GlobalName: wire.Some(name)}); err != nil {
			t.Fatal(err)
		}
		if !ear.await(t, "USER_UPDATE", name) {
			t.Fatalf("%s does not hear of itself", who)
		}
	}
}

// silent says that nobody who does not see the hidden channel has heard anything of it, in whatever dispatch.
func (e *ears) silent(t *testing.T) {
	t.Helper()
	for who, ear := range e.of {
		if slices.Contains([]string{"moderator", "administrator", "owner"}, who) {
			continue
		}
		ear.mu.Lock()
		for _, d := range ear.heard {
			for _, secret := range []string{e.hidden.String(), "s3cret"} {
				if strings.Contains(string(d.Raw), secret) {
					t.Errorf("%s hears of what is hidden (%s) in %s %.500s", who, secret, d.Type, d.Raw)
				}
			}
		}
		ear.mu.Unlock()
	}
}

// deed makes an event happen, and returns what it can be told by: a text that is in no other of that name.
type deed func(t *testing.T) string

// deeds are those of the owner, by event and place. Where an event is of a channel, there is one in the open channel and one in the hidden one.
func (c *court) deeds() map[string]deed {
	owner := c.as["owner"]
	n := 0
	mark := func() string {
		n++
		return fmt.Sprintf("mark-%d-", n)
	}
	out := map[string]deed{}
	on := func(event, place string, do deed) { out[strings.TrimSpace(event+" "+place)] = do }
	c.guildDeeds(on, mark)
	c.memberDeeds(on, mark)
	c.directDeeds(on, mark)
	for place, channel := range map[string]id.ID{"open": c.channel, "hidden": c.hidden} {
		secret := ""
		if place == "hidden" {
			secret = "s3cret "
		}
		c.channelDeeds(on, place, channel, func() string { return secret + mark() })
		on("TYPING_START", place, func(t *testing.T) string {
			c.must(t, owner.Typing(t.Context(), channel))
			return channel.String()
		})
		for _, name := range []string{"MESSAGE_ACK", "MESSAGE_READ"} {
			on(name, place, func(t *testing.T) string {
				m := c.as["administrator"].say(t, channel, secret+"read me").ID.String()
				c.must(t, owner.Do(t.Context(), "POST", "/channels/"+channel.String()+"/messages/"+m+"/ack", struct{}{}, nil))
				return m
			})
		}
		on("WEBHOOKS_UPDATE", place, func(t *testing.T) string {
			hook := c.hook(t, channel)
			c.must(t, owner.Do(t.Context(), "DELETE", "/webhooks/"+hook.ID.String(), nil, nil))
			return channel.String()
		})
		on("INVITE_CREATE", place, func(t *testing.T) string {
			in, err := owner.CreateInvite(t.Context(), channel, wire.CreateInvite{Unique: new(true)})
			c.must(t, err)
			return in.Code
		})
		on("INVITE_DELETE", place, func(t *testing.T) string {
			in, err := owner.CreateInvite(t.Context(), channel, wire.CreateInvite{Unique: new(true)})
			c.must(t, err)
			_, err = owner.DeleteInvite(t.Context(), in.Code)
			c.must(t, err)
			return in.Code
		})
		on("MESSAGE_CREATE", place, func(t *testing.T) string { return owner.say(t, channel, secret+mark()).Content })
		on("MESSAGE_UPDATE", place, func(t *testing.T) string {
			text := secret + mark()
			_, err := owner.EditMessage(t.Context(), channel, owner.say(t, channel, secret+"before").ID, wire.EditMessage{Content: wire.Some(text)})
			c.must(t, err)
			return text
		})
		on("GUILD_AUDIT_LOG_ENTRY_CREATE", place, func(t *testing.T) string {
			in, err := owner.CreateInvite(t.Context(), channel, wire.CreateInvite{Unique: new(true)})
			c.must(t, err)
			return in.Code
		})
		on("MESSAGE_DELETE", place, func(t *testing.T) string {
			m := owner.say(t, channel, secret+"gone").ID
			c.must(t, owner.DeleteMessage(t.Context(), channel, m))
			return m.String()
		})
		c.markDeeds(on, place, channel, func(t *testing.T) string { return owner.say(t, channel, secret+"marked").ID.String() })
		on("MESSAGE_DELETE_BULK", place, func(t *testing.T) string {
			one, two := owner.say(t, channel, secret+"gone").ID, owner.say(t, channel, secret+"gone").ID
			c.must(t, owner.DeleteMessages(t.Context(), channel, []id.ID{one, two}))
			return two.String()
		})
	}
	return out
}

// markDeeds are of reactions and pins, each under a message of its own.
func (c *court) markDeeds(on func(event, place string, do deed), place string, channel id.ID, message func(*testing.T) string) {
	send := func(t *testing.T, method, path string) {
		c.must(t, c.as["owner"].Do(t.Context(), method, "/channels/"+channel.String()+path, nil, nil))
	}
	on("MESSAGE_REACTION_ADD", place, func(t *testing.T) string {
		m := message(t)
		send(t, "PUT", "/messages/"+m+"/reactions/"+c.names["emoji"]+"/@me")
		return m
	})
	for event, rest := range map[string]string{"REMOVE": "/" + c.names["emoji"] + "/@me", "REMOVE_EMOJI": "/" + c.names["emoji"], "REMOVE_ALL": ""} {
		on("MESSAGE_REACTION_"+event, place, func(t *testing.T) string {
			m := message(t)
			send(t, "PUT", "/messages/"+m+"/reactions/"+c.names["emoji"]+"/@me")
			send(t, "DELETE", "/messages/"+m+"/reactions"+rest)
			return m
		})
	}
	on("CHANNEL_PINS_UPDATE", place, func(t *testing.T) string {
		send(t, "PUT", "/messages/pins/"+message(t))
		return channel.String()
	})
}

// guildDeeds are of guilds and roles.
func (c *court) guildDeeds(on func(event, place string, do deed), mark func() string) {
	owner := c.as["owner"]
	on("GUILD_CREATE", "own", func(t *testing.T) string { return c.fresh["new-guild"](t) })
	on("GUILD_DELETE", "own", func(t *testing.T) string {
		g, err := owner.CreateGuild(t.Context(), "gone")
		c.must(t, err)
		c.must(t, owner.DeleteGuild(t.Context(), g.ID))
		return g.ID.String()
	})
	on("GUILD_UPDATE", "", func(t *testing.T) string {
		text := mark()
		_, err := owner.UpdateGuild(t.Context(), c.guild, wire.UpdateGuild{Description: wire.Some(text)})
		c.must(t, err)
		return text
	})
	on("USER_GUILD_SETTINGS_UPDATE", "own", func(t *testing.T) string {
		c.must(t, owner.Do(t.Context(), "PATCH", "/users/@me/guilds/"+c.guild.String()+"/settings", map[string]any{"muted": true}, nil))
		return c.guild.String()
	})
	on("GUILD_AUDIT_LOG_ENTRY_CREATE", "", func(t *testing.T) string {
		text := mark()
		user, err := id.Parse(c.fresh["new-member"](t))
		c.must(t, err)
		c.must(t, owner.Kick(t.Context(), c.guild, user, text))
		return text
	})
	on("GUILD_ROLE_CREATE", "", func(t *testing.T) string { return c.fresh["new-role"](t) })
	on("GUILD_ROLE_UPDATE", "", func(t *testing.T) string {
		text := mark()
		_, err := owner.UpdateRole(t.Context(), c.guild, c.low, wire.UpdateRole{Name: new(text)})
		c.must(t, err)
		return text
	})
	on("GUILD_ROLE_DELETE", "", func(t *testing.T) string {
		role, err := id.Parse(c.fresh["new-role"](t))
		c.must(t, err)
		c.must(t, owner.DeleteRole(t.Context(), c.guild, role))
		return role.String()
	})
}

// directDeeds are of direct channels.
func (c *court) directDeeds(on func(event, place string, do deed), mark func() string) {
	owner := c.as["owner"]
	for _, place := range []string{"dm", "group"} {
		channel, err := id.Parse(c.names[place])
		if err != nil {
			panic("BUG: " + err.Error())
		}
		on("MESSAGE_CREATE", place, func(t *testing.T) string { return owner.say(t, channel, mark()).Content })
		on("MESSAGE_UPDATE", place, func(t *testing.T) string {
			text := mark()
			_, err := owner.EditMessage(t.Context(), channel, owner.say(t, channel, "before").ID, wire.EditMessage{Content: wire.Some(text)})
			c.must(t, err)
			return text
		})
		on("MESSAGE_DELETE", place, func(t *testing.T) string {
			m := owner.say(t, channel, "gone").ID
			c.must(t, owner.DeleteMessage(t.Context(), channel, m))
			return m.String()
		})
		on("TYPING_START", place, func(t *testing.T) string {
			c.must(t, owner.Typing(t.Context(), channel))
			return channel.String()
		})
	}
	on("CHANNEL_CREATE", "group", func(t *testing.T) string { return c.fresh["new-group"](t) })
	on("CHANNEL_UPDATE", "group", func(t *testing.T) string {
		text := mark()
		group, err := id.Parse(c.names["group"])
		c.must(t, err)
		_, err = owner.UpdateChannel(t.Context(), group, wire.UpdateChannel{Name: wire.Some(text)})
		c.must(t, err)
		return text
	})
	on("CHANNEL_DELETE", "group", func(t *testing.T) string {
		group := c.group(t, "member", "moderator")
		c.must(t, owner.RemoveRecipient(t.Context(), group, c.as["member"].id))
		return group.String()
	})
}

// memberDeeds are of members, bans and the accounts behind them.
func (c *court) memberDeeds(on func(event, place string, do deed), mark func() string) {
	owner := c.as["owner"]
	member := func(t *testing.T) id.ID {
		user, err := id.Parse(c.fresh["new-member"](t))
		c.must(t, err)
		return user
	}
	on("USER_UPDATE", "of the member", func(t *testing.T) string {
		text := mark()
		_, err := c.as["member"].UpdateMe(t.Context(), wire.UpdateSelf{GlobalName: wire.Some(text)})
		c.must(t, err)
		return text
	})
	on("GUILD_MEMBER_ADD", "", func(t *testing.T) string { return member(t).String() })
	on("GUILD_MEMBER_UPDATE", "", func(t *testing.T) string {
		text := mark()
		_, err := owner.UpdateMember(t.Context(), c.guild, member(t), wire.UpdateMember{Nick: wire.Some(text)})
		c.must(t, err)
		return text
	})
	on("GUILD_MEMBER_REMOVE", "", func(t *testing.T) string {
		user := member(t)
		c.must(t, owner.Kick(t.Context(), c.guild, user, ""))
		return user.String()
	})
	on("GUILD_BAN_ADD", "", func(t *testing.T) string { return c.fresh["new-ban"](t) })
	on("GUILD_BAN_REMOVE", "", func(t *testing.T) string {
		user, err := id.Parse(c.fresh["new-ban"](t))
		c.must(t, err)
		c.must(t, owner.Unban(t.Context(), c.guild, user))
		return user.String()
	})
	on("PRESENCE_UPDATE", "", func(t *testing.T) string {
		app, err := owner.CreateApplication(t.Context(), "shows up")
		c.must(t, err)
		made, err := owner.CreateBot(t.Context(), app.ID)
		c.must(t, err)
		c.must(t, owner.AddBot(t.Context(), c.guild, app.ID))
		(&person{Client: owner.WithToken("Bot " + made.Token)}).connect(t, client.GatewayConfig{})
		return app.ID.String()
	})
}

// channelDeeds are of channels, seen by all or hidden like the one.
func (c *court) channelDeeds(on func(event, place string, do deed), place string, like id.ID, mark func() string) {
	owner := c.as["owner"]
	create := func(t *testing.T) (id.ID, string) {
		now, err := owner.Channel(t.Context(), like)
		c.must(t, err)
		in := wire.CreateChannel{Name: mark()}
		for _, o := range now.PermissionOverwrites {
			in.PermissionOverwrites = append(in.PermissionOverwrites, wire.ChannelOverwrite{ID: o.ID, Type: o.Type, Allow: o.Allow, Deny: o.Deny})
		}
		made, err := owner.CreateChannel(t.Context(), c.guild, in)
		c.must(t, err)
		return made.ID, made.Name
	}
	on("CHANNEL_CREATE", place, func(t *testing.T) string {
		made, _ := create(t)
		return made.String()
	})
	on("CHANNEL_UPDATE", place, func(t *testing.T) string {
		text := mark()
		_, err := owner.UpdateChannel(t.Context(), like, wire.UpdateChannel{Topic: wire.Some(text)})
		c.must(t, err)
		return text
	})
	on("CHANNEL_DELETE", place, func(t *testing.T) string {
		made, _ := create(t)
		c.must(t, owner.DeleteChannel(t.Context(), made))
		return made.String()
	})
}

// toOne are the dispatches that are told to the one session that asks.
var toOne = []string{"READY", "RESUMED", "GUILD_MEMBERS_CHUNK", "RATE_LIMITED"}

// ofChannel says whether a dispatch is of a channel, so that it has to be tried in a hidden one, too.
func ofChannel(body any) bool {
	t := reflect.TypeOf(body)
	if t == reflect.TypeFor[wire.AnyChannel]() || t == reflect.TypeFor[wire.AnyChannelUpdate]() {
		return true
	}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == "channel_id" {
			return true
		}
	}
	return false
}

// TestSecurity_event_matrix makes every event happen before nine sessions, and holds who hears of it against events.md. A dispatch that has no row
// fails, and one of channels has to have two. Then nobody has heard of the hidden channel in anything at all, also not after a RESUME.
func TestSecurity_event_matrix(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	e := c.listen(t)
	rows := matrix(t, "events.md")
	deeds := c.deeds()
	marks := map[string]string{}
	for _, row := range rows {
		key := strings.TrimSpace(row.key + " " + row.what)
		do, ok := deeds[key]
		if !ok {
			t.Errorf("%s is in events.md, and nothing makes it happen", key)
			continue
		}
		marks[key] = do(t)
		for _, who := range askers[1:] { // what is ephemeral is told at once or never
			if row.cells[who] == "yes" && !e.of[who].await(t, row.key, marks[key]) {
				t.Errorf("%s does not hear %s", who, key)
			}
		}
	}
	e.settle(t)
	for _, row := range rows {
		key := strings.TrimSpace(row.key + " " + row.what)
		got := row
		got.cells = map[string]string{"anonymous": "–"}
		differs := false
		for _, who := range askers[1:] {
			got.cells[who] = "–"
			if found, _ := e.of[who].has(row.key, marks[key]); found {
				got.cells[who] = "yes"
			}
			differs = differs || got.cells[who] != row.cells[who]
		}
		if differs {
			t.Errorf("%s: the row would be\n%s", key, got.markdown())
		}
	}
	for name, body := range wire.Dispatches {
		places := 0
		for _, row := range rows {
			if row.key == name {
				places++
			}
		}
		if want := 1; !slices.Contains(toOne, name) && (places < want || ofChannel(body) && places < want+1) {
			t.Errorf("%s has %d rows in events.md; one of channels needs an open and a hidden one", name, places)
		}
	}
	e.silent(t)
	t.Logf("%d events before %d sessions", len(rows), len(e.of))

	e.resume(t)
	e.silent(t)
	attack(t, "perm_revoke_latency", e.revoke)
}

// resume has every session away while things happen, and come back.
func (e *ears) resume(t *testing.T) {
	t.Helper()
	owner := e.as["owner"]
	for _, ear := range e.of {
		ear.Hold()
		ear.Cut()
	}
	open := owner.say(t, e.channel, "while you were away").Content
	owner.say(t, e.hidden, "s3cret while you were away")
	for _, ear := range e.of {
		ear.Release()
	}
	for who, ear := range e.of {
		if !ear.await(t, "RESUMED", "") {
			t.Fatalf("%s does not resume", who)
		}
	}
	e.settle(t)
	for who, ear := range e.of {
		may := slices.Contains([]string{"member", "moderator", "administrator", "owner"}, who)
		if found, _ := ear.has("MESSAGE_CREATE", open); found != may {
			t.Errorf("%s hears what was said meanwhile: %v, want %v", who, found, may)
		}
	}
}

// revoke takes from a member what it sees, while somebody talks: nothing that is said after the answer reaches it, in any way.
func (e *ears) revoke(t *testing.T) {
	owner, talker, ear := e.as["owner"], e.as["administrator"], e.of["member"]
	stop := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if _, err := talker.Say(t.Context(), e.channel, fmt.Sprintf("talk %d", i)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	heard := ear.await(t, "MESSAGE_CREATE", "talk 3")
	err := owner.SetOverwrite(t.Context(), e.channel, e.as["member"].id, wire.SetOverwrite{Type: new(perm.OverwriteMember), Deny: perm.ViewChannel})
	after := owner.say(t, e.channel, "behind your back").ID
	close(stop)
	talking.Wait()
	if err != nil || !heard {
		t.Fatalf("heard %v, %v", heard, err)
	}
	if !ear.await(t, "CHANNEL_DELETE", e.channel.String()) {
		t.Error("the channel does not go")
	}
	e.settle(t)
	ear.mu.Lock()
	defer ear.mu.Unlock()
	gone := false
	for _, d := range ear.heard {
		var m struct {
			ID id.ID `json:"id"`
		}
		_ = json.Unmarshal(d.Raw, &m) // what has no id is none of them
		gone = gone || d.Type == "CHANNEL_DELETE" && m.ID == e.channel
		if gone && d.Type != "CHANNEL_DELETE" && strings.Contains(string(d.Raw), e.channel.String()) || d.Type == "MESSAGE_CREATE" && m.ID >= after {
			t.Errorf("after it was hidden comes %s %.300s", d.Type, d.Raw)
		}
	}
}
