package chaos

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// badge takes the badge from one guest and gives it back.
func (a *actor) badge() {
	user := a.l.cfg.Bots[badged].ID
	a.alternate(a.l.cfg.Club, user, func(ctx context.Context, c *client.Client, kind Kind) error {
		if kind == Hide {
			return c.TakeRole(ctx, a.l.cfg.ClubGuild, user, a.l.cfg.Badge)
		}
		return c.GiveRole(ctx, a.l.cfg.ClubGuild, user, a.l.cfg.Badge)
	})
}

// rule takes the badge's permission away and gives it back.
func (a *actor) rule() {
	a.alternate(a.l.cfg.Club, 0, func(ctx context.Context, c *client.Client, kind Kind) error {
		in := wire.UpdateRole{Permissions: new(perm.Bits)}
		if kind == Show {
			*in.Permissions = perm.ViewChannel
		}
		_, err := c.UpdateRole(ctx, a.l.cfg.ClubGuild, a.l.cfg.Badge, in)
		return err
	})
}

// order puts the badge above the ribbon and below it, which changes nothing of what anybody sees.
func (a *actor) order() {
	begun := time.Now()
	for kind := Raise; a.l.posting.Err() == nil; {
		if time.Since(begun) > loginEvery && a.login() == nil {
			begun = time.Now()
		}
		high, low := a.l.cfg.Badge, a.l.cfg.Ribbon
		if kind == Lower {
			high, low = low, high
		}
		_, err := a.insist(Event{Kind: kind, Message: a.l.cfg.Badge}, func(ctx context.Context, c *client.Client) (id.ID, error) {
			_, err := c.MoveRoles(ctx, a.l.cfg.ClubGuild, []wire.MoveRole{{ID: low, Position: new(1)}, {ID: high, Position: new(2)}})
			return 0, err
		})
		if err != nil {
			return // the checker tells
		}
		pause(time.Duration(500+a.r.IntN(1000)) * time.Millisecond)
		kind = map[Kind]Kind{Raise: Lower, Lower: Raise}[kind]
	}
}

// seen is what a dispatch may have that says who sees a channel.
type seen struct {
	ID         id.ID            `json:"id"`
	GuildID    id.ID            `json:"guild_id"`
	Channels   []wire.Channel   `json:"channels"`
	Overwrites []perm.Overwrite `json:"permission_overwrites"`
	User       struct {
		ID id.ID `json:"id"`
	} `json:"user"`
	Role  wire.Role `json:"role"`
	Roles []id.ID   `json:"-"` // of a member; those of a guild are objects
}

// views are the dispatches that say who may see a channel.
var views = []string{
	"CHANNEL_CREATE", "CHANNEL_UPDATE", "CHANNEL_DELETE", "GUILD_CREATE", "GUILD_DELETE", "GUILD_MEMBER_ADD", "GUILD_MEMBER_REMOVE",
	"GUILD_MEMBER_UPDATE", "GUILD_ROLE_UPDATE",
}

// view reads a dispatch that says who may see one of the channels that are hidden now and then: the session itself, all guests, or one.
func (c loadConfig) view(e *Event, raw []byte) error {
	if !slices.Contains(views, e.Type) {
		return nil
	}
	var d seen
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if e.Type == "GUILD_MEMBER_UPDATE" {
		var m struct {
			Roles []id.ID `json:"roles"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		d.Roles = m.Roles
	}
	guild := d.GuildID
	if e.Type == "GUILD_CREATE" || e.Type == "GUILD_DELETE" {
		guild = d.ID
	}
	switch guild {
	case c.FlipGuild:
		c.viewOf(c.Flip, e, &d)
	case c.ClubGuild:
		c.viewOf(c.Club, e, &d)
	}
	return nil
}

func (c loadConfig) viewOf(channel id.ID, e *Event, d *seen) {
	shown := func(is bool) {
		if e.Channel = channel; is {
			e.Kind = Show
		} else {
			e.Kind = Hide
		}
	}
	switch e.Type {
	case "CHANNEL_CREATE", "CHANNEL_DELETE":
		if d.ID == channel {
			shown(e.Type == "CHANNEL_CREATE")
		}
	case "CHANNEL_UPDATE":
		if d.ID == c.Flip {
			shown(!slices.ContainsFunc(d.Overwrites, func(o perm.Overwrite) bool { return o.ID == c.FlipGuild && o.Deny.Has(perm.ViewChannel) }))
		}
	case "GUILD_CREATE":
		shown(slices.ContainsFunc(d.Channels, func(ch wire.Channel) bool { return ch.ID == channel }))
	case "GUILD_DELETE":
		shown(false)
	case "GUILD_MEMBER_ADD", "GUILD_MEMBER_REMOVE":
		if channel == c.Flip {
			e.User = d.User.ID
			shown(e.Type == "GUILD_MEMBER_ADD")
		}
	case "GUILD_MEMBER_UPDATE":
		if channel == c.Club {
			e.User = d.User.ID
			shown(slices.Contains(d.Roles, c.Badge))
		}
	case "GUILD_ROLE_UPDATE":
		if d.Role.ID == c.Badge {
			shown(d.Role.Permissions.Has(perm.ViewChannel))
		}
	}
}
