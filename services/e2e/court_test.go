package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// The ten who ask, by the names of the columns of the matrices. "denied" is a member whose role may not see the first channel, "other bot" is a
// bot of another guild.
var askers = []string{"anonymous", "stranger", "ex-member", "banned", "member", "denied", "moderator", "administrator", "owner", "other bot"}

// moderation is what the moderator may do besides what all members may.
const moderation = perm.KickMembers | perm.BanMembers | perm.ManageMessages | perm.ModerateMembers | perm.ManageNicknames | perm.ViewAuditLog

// court is a guild in a world, seen by all who may and may not see it.
type court struct {
	*world
	as   map[string]*person // by column; anonymous has no token
	http *http.Client

	guild, channel, hidden id.ID // all but denied see channel; the moderator and those above see hidden
	low                    id.ID // the lowest role, of nobody
	names                  map[string]string
	fresh                  map[string]func(t *testing.T) string // what a row may want of its own, made by the owner

	bots atomic.Int64
}

func newCourt(t *testing.T) *court {
	t.Helper()
	return newCourtIn(t, single(t))
}

func newCourtIn(t *testing.T, w *world) *court {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: len(askers)}
	t.Cleanup(transport.CloseIdleConnections)
	c := &court{world: w, as: map[string]*person{}, http: &http.Client{Transport: transport}}
	c.enrol(t)
	owner := c.as["owner"]
	var g wire.Guild
	c.must(t, owner.Do(t.Context(), "POST", "/guilds", map[string]any{"name": "the court", "channels": []map[string]any{{"name": "open"}, {"name": "hidden"}}}, &g))
	c.guild = g.ID
	channels, err := owner.Channels(t.Context(), g.ID)
	c.must(t, err)
	for _, ch := range channels {
		if ch.Name == "hidden" {
			c.hidden = ch.ID
		} else {
			c.channel = ch.ID
		}
	}
	owner.invite(t, c.channel, c.as["ex-member"], c.as["banned"], c.as["member"], c.as["denied"], c.as["moderator"], c.as["administrator"])
	c.must(t, c.as["ex-member"].LeaveGuild(t.Context(), c.guild))
	c.must(t, owner.Ban(t.Context(), c.guild, c.as["banned"].id, wire.BanUser{}, "for the test"))
	c.low = c.role(t, "low", 0)
	denied := c.role(t, "denied", 0, "denied")
	moderators := c.role(t, "moderators", moderation, "moderator")
	c.role(t, "administrators", perm.Administrator, "administrator")
	c.must(t, owner.SetOverwrite(t.Context(), c.channel, denied, wire.SetOverwrite{Deny: perm.ViewChannel}))
	c.must(t, owner.SetOverwrite(t.Context(), c.hidden, c.guild, wire.SetOverwrite{Deny: perm.ViewChannel}))
	c.must(t, owner.SetOverwrite(t.Context(), c.hidden, moderators, wire.SetOverwrite{Allow: perm.ViewChannel}))
	c.lay(t)
	return c
}

func (c *court) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// enrol makes the accounts, and the bot that is elsewhere.
func (c *court) enrol(t *testing.T) {
	t.Helper()
	anonymous, err := client.New(client.Config{URL: c.url})
	c.must(t, err)
	c.as["anonymous"] = &person{Client: anonymous}
	for _, name := range askers[1 : len(askers)-1] { // one after the other: hashing passwords at once is refused
		as := strings.ReplaceAll(name, "-", "_")
		in, err := anonymous.Register(t.Context(), wire.Register{Username: as, Password: password})
		c.must(t, err)
		c.as[name] = &person{Client: anonymous.WithToken(in.Token), id: in.User.ID, name: as, token: in.Token}
	}
	elsewhere, _ := c.as["stranger"].guild(t, "elsewhere")
	app, err := c.as["stranger"].CreateApplication(t.Context(), "other bot")
	c.must(t, err)
	made, err := c.as["stranger"].CreateBot(t.Context(), app.ID)
	c.must(t, err)
	c.must(t, c.as["stranger"].AddBot(t.Context(), elsewhere, app.ID))
	c.as["other bot"] = &person{Client: anonymous.WithToken("Bot " + made.Token), id: app.ID, name: "other bot", token: "Bot " + made.Token}
}

// role makes a role above those that there are and gives it to askers.
func (c *court) role(t *testing.T, name string, bits perm.Bits, to ...string) id.ID {
	t.Helper()
	owner := c.as["owner"]
	r, err := owner.CreateRole(t.Context(), c.guild, wire.CreateRole{Name: new(name), Permissions: new(bits)})
	c.must(t, err)
	roles, err := owner.Roles(t.Context(), c.guild)
	c.must(t, err)
	_, err = owner.MoveRoles(t.Context(), c.guild, []wire.MoveRole{{ID: r.ID, Position: new(len(roles) - 1)}})
	c.must(t, err)
	for _, who := range to {
		c.must(t, owner.GiveRole(t.Context(), c.guild, c.as[who].id, r.ID))
	}
	return r.ID
}

// lay fills in what rows may speak of.
func (c *court) lay(t *testing.T) {
	t.Helper()
	owner := c.as["owner"]
	in, err := owner.CreateInvite(t.Context(), c.channel, wire.CreateInvite{MaxAge: new(0)})
	c.must(t, err)
	app, err := owner.CreateApplication(t.Context(), "owners app")
	c.must(t, err)
	c.names = map[string]string{
		"guild": c.guild.String(), "channel": c.channel.String(), "hidden": c.hidden.String(), "role": c.low.String(), "code": in.Code,
		"message": owner.say(t, c.channel, "in the open").ID.String(), "secret": owner.say(t, c.hidden, "s3cret").ID.String(),
		"application": app.ID.String(), "banned": c.as["banned"].id.String(), "nobody": nobody, "none": "none", "stranger": c.as["stranger"].id.String(),
		"owner": owner.id.String(), "emoji": "%F0%9F%A6%8A",
	}
	for _, who := range []string{"member", "denied"} {
		c.names[who] = c.as[who].id.String()
	}
	hook := c.hook(t, c.channel)
	c.names["webhook"], c.names["wh-token"] = hook.ID.String(), hook.Token
	c.names["hooked"] = c.says(t, hook).ID.String()
	c.names["wh-hidden"] = c.hook(t, c.hidden).ID.String()
	// A DM of the owner and the member, and a group of these and the moderator, in which the administrator was.
	dm, err := owner.OpenChannel(t.Context(), c.as["member"].id)
	c.must(t, err)
	group := c.group(t, "member", "moderator", "administrator")
	c.must(t, owner.RemoveRecipient(t.Context(), group, c.as["administrator"].id))
	c.names["dm"], c.names["group"] = dm.ID.String(), group.String()
	c.names["private"], c.names["crowded"] = owner.say(t, dm.ID, "for two").ID.String(), owner.say(t, group, "for three").ID.String()
	c.fresh = map[string]func(*testing.T) string{
		"new-private": func(t *testing.T) string { return owner.say(t, dm.ID, "for two").ID.String() },
		"new-crowded": func(t *testing.T) string { return owner.say(t, group, "for three").ID.String() },
		"new-group":   func(t *testing.T) string { return c.group(t, "member", "moderator").String() },
		"new-channel": func(t *testing.T) string {
			ch, err := owner.CreateChannel(t.Context(), c.guild, wire.CreateChannel{Name: "fresh"})
			c.must(t, err)
			return ch.ID.String()
		},
		"new-hidden": func(t *testing.T) string {
			ch, err := owner.CreateChannel(t.Context(), c.guild, wire.CreateChannel{Name: "fresh", PermissionOverwrites: []wire.ChannelOverwrite{
				{ID: c.guild, Type: perm.OverwriteRole, Deny: perm.ViewChannel},
			}})
			c.must(t, err)
			return ch.ID.String()
		},
		"new-secret":  func(t *testing.T) string { return owner.say(t, c.hidden, "s3cret").ID.String() },
		"new-message": func(t *testing.T) string { return owner.say(t, c.channel, "fresh").ID.String() },
		"new-role": func(t *testing.T) string {
			r, err := owner.CreateRole(t.Context(), c.guild, wire.CreateRole{Name: new("fresh")})
			c.must(t, err)
			return r.ID.String()
		},
		"new-guild": func(t *testing.T) string {
			g, err := owner.CreateGuild(t.Context(), "fresh")
			c.must(t, err)
			return g.ID.String()
		},
		"new-invite": func(t *testing.T) string {
			in, err := owner.CreateInvite(t.Context(), c.channel, wire.CreateInvite{Unique: new(true)})
			c.must(t, err)
			return in.Code
		},
		"new-webhook": func(t *testing.T) string { return c.newHook(t).ID.String() },
		"new-wh-hidden": func(t *testing.T) string {
			return c.hook(t, c.hidden).ID.String()
		},
		"new-webhook-address": func(t *testing.T) string {
			hook := c.newHook(t)
			return hook.ID.String() + "/" + hook.Token
		},
		"new-hooked":      func(t *testing.T) string { return c.says(t, hook).ID.String() },
		"new-application": func(t *testing.T) string { return c.botOf(t, owner).String() },
		"new-bot":         func(t *testing.T) string { return c.bot(t).String() },
		"new-member": func(t *testing.T) string {
			bot := c.bot(t)
			c.must(t, owner.AddBot(t.Context(), c.guild, bot))
			return bot.String()
		},
		"new-ban": func(t *testing.T) string {
			bot := c.bot(t)
			c.must(t, owner.Ban(t.Context(), c.guild, bot, wire.BanUser{}, ""))
			return bot.String()
		},
	}
}

// hook makes a webhook of the owner's.
func (c *court) hook(t *testing.T, channel id.ID) (made wire.Webhook) {
	t.Helper()
	c.must(t, c.as["owner"].Do(t.Context(), "POST", "/channels/"+channel.String()+"/webhooks", wire.CreateWebhook{Name: "hook"}, &made))
	return made
}

// newHook is one in a channel of its own, so that there is room for any number.
func (c *court) newHook(t *testing.T) wire.Webhook {
	t.Helper()
	ch, err := c.as["owner"].CreateChannel(t.Context(), c.guild, wire.CreateChannel{Name: "fresh"})
	c.must(t, err)
	return c.hook(t, ch.ID)
}

// says lets a webhook write.
func (c *court) says(t *testing.T, hook wire.Webhook) (m wire.Message) {
	t.Helper()
	c.must(t, c.as["anonymous"].Do(t.Context(), "POST", "/webhooks/"+hook.ID.String()+"/"+hook.Token+"?wait=true", map[string]string{"content": "by hook"}, &m))
	return m
}

// group makes one of the owner's with askers.
func (c *court) group(t *testing.T, with ...string) id.ID {
	t.Helper()
	var others []id.ID
	for _, who := range with {
		others = append(others, c.as[who].id)
	}
	g, err := c.as["owner"].OpenChannel(t.Context(), others...)
	c.must(t, err)
	return g.ID
}

// bot makes a bot, which is the cheapest somebody. Nobody may have many, so all persons take turns.
func (c *court) bot(t *testing.T) id.ID {
	t.Helper()
	n := c.bots.Add(1)
	return c.botOf(t, c.as[askers[1+int(n)%(len(askers)-2)]])
}

func (c *court) botOf(t *testing.T, maker *person) id.ID {
	t.Helper()
	app, err := maker.CreateApplication(t.Context(), fmt.Sprintf("bot %d", c.bots.Add(1)))
	c.must(t, err)
	return app.ID
}

// matrix reads a table of Markdown whose last columns are the askers: cells by the first columns, which name the row.
func matrix(t *testing.T, file string) (rows []matrixRow) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		row := matrixRow{key: cells[0], what: cells[1], cells: map[string]string{}}
		for i, who := range askers {
			if i+2 < len(cells) {
				row.cells[who] = cells[i+2]
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// matrixRow is a row: what is tried and what is said along, and what each asker gets.
type matrixRow struct {
	key, what string
	cells     map[string]string
}

// markdown is the row as it would stand in the file.
func (r matrixRow) markdown() string {
	out := "| `" + r.key + "` | "
	if r.what != "" {
		out += "`" + r.what + "` "
	}
	for _, who := range askers {
		out += "| " + r.cells[who] + " "
	}
	return out + "|"
}
