package auth

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// guildOf puts a guild that somebody owns into the read model, as the guilds service would.
func (b bundle) guildOf(owner id.ID, guild id.ID, version int64, gone bool) {
	b.t.Helper()
	e := bus.Entry{Type: wire.ServerCreated, Guild: guild, Actor: owner, Version: version}
	var payload any = wire.ServerCreatedPayload{
		Guild: wire.NewGuild(guild, "house", owner), Members: wire.List[wire.MemberRecord]{{UserID: owner}},
	}
	if gone {
		e.Type, payload = wire.ServerDeleted, wire.ServerDeletedPayload{GuildID: guild}
	}
	var err error
	e.Body, err = json.Marshal(payload)
	b.must(err)
	outbox := roster.NewOutbox(b.roster, b.pool)
	b.must(pgx.BeginFunc(b.ctx, b.pool, func(tx pgx.Tx) error { return outbox.Record(b.ctx, tx, e) }))
	_, err = outbox.Settle(b.ctx, e)
	b.must(err)
}

// TestDeleteSelf_AsksForTheSecondFactor: the password alone does not end an account that has more.
func TestDeleteSelf_AsksForTheSecondFactor(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a := b.withFactor("ada")
	b.wantField(a.client.DeleteMe(b.ctx, wire.DeleteSelf{Password: password}), "code", codeTwoFactor)
	b.wantField(a.client.DeleteMe(b.ctx, wire.DeleteSelf{Password: password, Code: "000000"}), "code", codeTwoFactor)
	_, err := a.client.Me(b.ctx)
	b.must(err)
	b.must(a.client.DeleteMe(b.ctx, wire.DeleteSelf{Password: password, Code: a.code()}))
	_, err = a.client.Me(b.ctx)
	b.wantStatus(err, 401)
}

func TestDeleteSelf_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	email := "ada@example.org"
	in, err := b.client.Register(b.ctx, wire.Register{Username: "ada", Password: password, Email: &email})
	b.must(err)
	ada := b.client.WithToken(in.Token)
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Bio: wire.Some("about me"), Avatar: wire.Some(dataURI("image/png", pngOf(8, 8)))})
	b.must(err)
	app, _, bot := b.bot(ada, "robot")

	b.wantField(ada.DeleteMe(b.ctx, wire.DeleteSelf{Password: "wrong password"}), "password", codePassword)
	b.wantCode(bot.DeleteMe(b.ctx, wire.DeleteSelf{Password: password}), fault.NotForBots)
	b.guildOf(in.UserID, 77, 1, false)
	b.wantStatus(ada.DeleteMe(b.ctx, wire.DeleteSelf{Password: password}), 400)
	if _, err := ada.Me(b.ctx); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
	b.guildOf(in.UserID, 77, 2, true)
	b.must(ada.DeleteMe(b.ctx, wire.DeleteSelf{Password: password}))

	for user, versions := range map[id.ID]int{in.UserID: 3, app.ID: 3} {
		all := b.entries(user)
		last := all[len(all)-1]
		if len(all) != versions || last.Type != wire.UserDeleted || last.Version != int64(versions) {
			t.Errorf("user %s: %+v", user, last)
		}
		if users, err := b.roster.Users(b.ctx, []id.ID{user}); err != nil || users[user].Username != "Deleted User" {
			t.Errorf("user %s: %+v, %v", user, users, err)
		}
	}
	eventually(t, "the end of ada's session", func() bool { _, err := ada.Me(b.ctx); return client.IsStatus(err, 401) })
	eventually(t, "the end of the bot's token", func() bool { _, err := bot.Me(b.ctx); return client.IsStatus(err, 401) })
	_, err = b.client.Login(b.ctx, "ada", password)
	b.wantField(err, "login", codeInvalidLogin)
	_, err = b.client.Refresh(b.ctx, in.RefreshToken)
	b.wantStatus(err, 401)
	for _, table := range []string{"users", "sessions", "refresh_tokens", "applications", "avatars", "one_time_codes", "elevations"} {
		var n int
		b.must(b.pool.QueryRow(b.ctx, `select count(*) from `+table).Scan(&n))
		if n != 0 && table != "one_time_codes" || n > 1 { // the setup link's
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	_, bob := b.register("Ada") // the name is free again, and another person's
	_, err = bob.User(b.ctx, in.UserID)
	b.wantCode(err, fault.UnknownUser)
}

func TestDeleteApplication_DeletesTheBot(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, ada := b.register("ada")
	_, bob := b.register("bob")
	app, _, bot := b.bot(ada, "robot")
	b.wantStatus(bob.DeleteApplication(b.ctx, app.ID), 404)
	b.wantStatus(bob.DeleteApplication(b.ctx, 5), 404)
	b.must(ada.DeleteApplication(b.ctx, app.ID))
	b.wantStatus(ada.DeleteApplication(b.ctx, app.ID), 404)
	eventually(t, "the end of the bot's token", func() bool { _, err := bot.Me(b.ctx); return client.IsStatus(err, 401) })
	if apps, err := ada.Applications(b.ctx); err != nil || len(apps) != 0 {
		t.Errorf("got %v, %v", apps, err)
	}
}
