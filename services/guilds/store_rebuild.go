package guilds

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// rebuildPage is how many guilds are read at once: with all their members they have to fit into memory.
const rebuildPage = 100

// Source reads all guilds with what is in them, and all direct channels, for the read model.
func Source(ctx context.Context, tx roster.Snapshot, each func(bus.Entry) error) error {
	if err := readDirects(ctx, tx, each); err != nil {
		return err
	}
	for after := int64(0); ; {
		page, order, err := readGuilds(ctx, tx, after)
		if err != nil {
			return fmt.Errorf("read all guilds: %w", err)
		}
		if len(order) == 0 {
			return nil
		}
		for _, read := range []func(context.Context, transaction, []int64, map[int64]*whole) error{readChannels, readRoles, readMembers, readWebhooks} {
			if err := read(ctx, tx, order, page); err != nil {
				return fmt.Errorf("read all guilds: %w", err)
			}
		}
		for _, guild := range order {
			g := page[guild]
			if err := each(entryOf(event{kind: wire.ServerCreated, payload: g.ServerCreatedPayload}, id.ID(guild), 0, g.version)); err != nil {
				return err
			}
		}
		after = order[len(order)-1]
	}
}

// whole is a guild with what is in it.
type whole struct {
	wire.ServerCreatedPayload
	version int64
}

const selectGuildsSQL = `
SELECT id, version, owner_id, name, description, preferred_locale, verification_level, default_message_notifications,
	explicit_content_filter, afk_channel_id, afk_timeout, system_channel_id, system_channel_flags, icon
FROM guilds WHERE id > $1 ORDER BY id LIMIT $2`

func readGuilds(ctx context.Context, tx transaction, after int64) (page map[int64]*whole, order []int64, err error) {
	rows, err := tx.Query(ctx, selectGuildsSQL, after, rebuildPage)
	if err != nil {
		return nil, nil, err
	}
	page = map[int64]*whole{}
	var guild, version, owner, afk, system int64
	var name string
	g := wire.NewGuild(0, "", 0)
	_, err = pgx.ForEachRow(rows, []any{&guild, &version, &owner, &name, &g.Description, &g.PreferredLocale, &g.VerificationLevel,
		&g.DefaultMessageNotifications, &g.ExplicitContentFilter, &afk, &g.AFKTimeout, &system, &g.SystemChannelFlags, &g.Icon}, func() error {
		one := g
		one.ID, one.OwnerID, one.Name, one.AFKChannelID, one.SystemChannelID = id.ID(guild), id.ID(owner), name, id.ID(afk), id.ID(system)
		page[guild] = &whole{ServerCreatedPayload: wire.ServerCreatedPayload{Guild: one}, version: version}
		order = append(order, guild)
		g.Description, g.Icon = nil, nil // the next row's must not be written into this one's
		return nil
	})
	return page, order, err
}

const selectChannelsSQL = `
SELECT id, guild_id, type, name, position, parent_id, topic, nsfw, rate_limit_per_user, bitrate, user_limit, rtc_region, overwrites
FROM channels WHERE guild_id = ANY ($1) ORDER BY id`

func readChannels(ctx context.Context, tx transaction, guilds []int64, page map[int64]*whole) error {
	rows, err := tx.Query(ctx, selectChannelsSQL, guilds)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c wire.Channel
		var channel, guild, parent int64
		var kind int
		var overwrites []byte
		err := rows.Scan(&channel, &guild, &kind, &c.Name, &c.Position, &parent, &c.Topic, &c.NSFW, &c.RateLimitPerUser, &c.Bitrate,
			&c.UserLimit, &c.RTCRegion, &overwrites)
		if err == nil {
			err = json.Unmarshal(overwrites, &c.PermissionOverwrites)
		}
		if err != nil {
			return fmt.Errorf("channel %d: %w", channel, err)
		}
		c.ID, c.GuildID, c.Type, c.ParentID = id.ID(channel), id.ID(guild), wire.ChannelType(kind), id.ID(parent)
		page[guild].Channels = append(page[guild].Channels, c)
	}
	return rows.Err()
}

const selectRolesSQL = `
SELECT id, guild_id, name, permissions, position, color, color_secondary, color_tertiary, hoist, mentionable, unicode_emoji
FROM roles WHERE guild_id = ANY ($1) ORDER BY id`

func readRoles(ctx context.Context, tx transaction, guilds []int64, page map[int64]*whole) error {
	rows, err := tx.Query(ctx, selectRolesSQL, guilds)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r wire.Role
		var role, guild, permissions int64
		err := rows.Scan(&role, &guild, &r.Name, &permissions, &r.Position, &r.Color, &r.Colors.Secondary, &r.Colors.Tertiary, &r.Hoist,
			&r.Mentionable, &r.UnicodeEmoji)
		if err != nil {
			return fmt.Errorf("role %d: %w", role, err)
		}
		r.ID, r.Permissions, r.Colors.Primary = id.ID(role), perm.Bits(permissions), r.Color
		page[guild].Roles = append(page[guild].Roles, r)
	}
	return rows.Err()
}

const selectAllMembersSQL = `
SELECT guild_id, user_id, nick, roles, joined_at, timed_out_until FROM members WHERE guild_id = ANY ($1) ORDER BY guild_id, user_id`

func readMembers(ctx context.Context, tx transaction, guilds []int64, page map[int64]*whole) error {
	rows, err := tx.Query(ctx, selectAllMembersSQL, guilds)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var m wire.MemberRecord
		var guild, user int64
		var roles []int64
		var joined time.Time
		if err := rows.Scan(&guild, &user, &m.Nick, &roles, &joined, &m.CommunicationDisabledUntil); err != nil {
			return fmt.Errorf("member %d: %w", user, err)
		}
		m.UserID, m.Roles, m.JoinedAt = id.ID(user), idsOf(roles), wire.At(joined)
		page[guild].Members = append(page[guild].Members, m)
	}
	return rows.Err()
}
