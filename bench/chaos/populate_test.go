package chaos

import (
	"context"
	"fmt"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

const (
	ownerName     = "owner"
	ownerPassword = "correct horse battery"
)

// everyone may take reactions away and pin, besides: so all race.
const everyone = perm.DefaultEveryone | perm.ManageMessages | perm.PinMessages

// populate makes a guild with three channels that all see, two others with one each that is hidden now and then, and bots, whose tokens do
// not run out.
func (x *run) populate() error {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	anybody, err := client.New(client.Config{URL: x.cfg.Nodes[0]})
	if err != nil {
		return err
	}
	defer anybody.CloseIdle()
	in, err := anybody.Register(ctx, wire.Register{Username: ownerName, Password: ownerPassword})
	if err != nil {
		return err
	}
	owner := anybody.WithToken(in.Token)
	x.cfg.Owner = account{ID: in.User.ID, Token: in.Token}
	if x.cfg.Guild, err = guild(ctx, owner, "chaos", everyone); err != nil {
		return err
	}
	if x.cfg.FlipGuild, err = guild(ctx, owner, "flips", everyone); err != nil {
		return err
	}
	if x.cfg.ClubGuild, err = guild(ctx, owner, "club", everyone&^perm.ViewChannel); err != nil {
		return err
	}
	for i := range 3 {
		c, err := owner.CreateChannel(ctx, x.cfg.Guild, wire.CreateChannel{Name: fmt.Sprintf("c%d", i)})
		if err != nil {
			return err
		}
		x.cfg.Channels = append(x.cfg.Channels, c.ID)
	}
	for i := range bots {
		if err := x.enrol(ctx, owner, i); err != nil {
			return err
		}
	}
	if x.cfg.Flip, err = x.hideable(ctx, owner, x.cfg.FlipGuild, "flip"); err != nil {
		return err
	}
	if x.cfg.Club, err = x.hideable(ctx, owner, x.cfg.ClubGuild, "club"); err != nil {
		return err
	}
	return x.roles(ctx, owner)
}

func guild(ctx context.Context, owner *client.Client, name string, all perm.Bits) (id.ID, error) {
	g, err := owner.CreateGuildOf(ctx, wire.CreateGuild{Name: name, SystemChannelFlags: wire.SuppressJoins})
	if err != nil {
		return 0, err
	}
	_, err = owner.UpdateRole(ctx, g.ID, g.ID, wire.UpdateRole{Permissions: &all})
	return g.ID, err
}

// enrol makes a bot.
func (x *run) enrol(ctx context.Context, owner *client.Client, i int) error {
	app, err := owner.CreateApplication(ctx, fmt.Sprintf("bot%d", i))
	if err != nil {
		return err
	}
	bot, err := owner.CreateBot(ctx, app.ID)
	if err != nil {
		return err
	}
	x.cfg.Bots = append(x.cfg.Bots, account{ID: app.ID, Token: "Bot " + bot.Token})
	guilds := []id.ID{x.cfg.Guild}
	if sees(i) {
		guilds = append(guilds, x.cfg.FlipGuild, x.cfg.ClubGuild)
	}
	for _, g := range guilds {
		if err := owner.AddBot(ctx, g, app.ID); err != nil {
			return err
		}
	}
	return nil
}

// hideable makes a channel that the marshal always sees.
func (x *run) hideable(ctx context.Context, owner *client.Client, guild id.ID, name string) (id.ID, error) {
	c, err := owner.CreateChannel(ctx, guild, wire.CreateChannel{Name: name})
	if err != nil {
		return 0, err
	}
	return c.ID, owner.SetOverwrite(ctx, c.ID, x.cfg.Bots[marshal].ID, wire.SetOverwrite{Type: new(perm.OverwriteMember), Allow: perm.ViewChannel})
}

// roles makes those of the club. All guests have the badge.
func (x *run) roles(ctx context.Context, owner *client.Client) error {
	for name, role := range map[string]*id.ID{"badge": &x.cfg.Badge, "ribbon": &x.cfg.Ribbon} {
		made, err := owner.CreateRole(ctx, x.cfg.ClubGuild, wire.CreateRole{Name: &name, Permissions: new(perm.Bits)})
		if err != nil {
			return err
		}
		*role = made.ID
	}
	if _, err := owner.UpdateRole(ctx, x.cfg.ClubGuild, x.cfg.Badge, wire.UpdateRole{Permissions: new(perm.ViewChannel)}); err != nil {
		return err
	}
	for _, bot := range x.cfg.guests() {
		if err := owner.GiveRole(ctx, x.cfg.ClubGuild, bot, x.cfg.Badge); err != nil {
			return err
		}
	}
	return nil
}
