package guilds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

const lockGuildSQL = `SELECT version FROM guilds WHERE id = $1 FOR UPDATE`

// lockGuild takes the guild's row until the transaction ends and says at which version it is; missing is the fault when
// there is no such guild.
func lockGuild(ctx context.Context, tx transaction, guild id.ID, missing fault.Code) (version int64, err error) {
	err = tx.QueryRow(ctx, lockGuildSQL, number(guild)).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fault.New(missing)
	}
	if err != nil {
		return 0, fmt.Errorf("lock guild %s: %w", guild, err)
	}
	return version, nil
}

const lockUserSQL = `SELECT pg_advisory_xact_lock($1)`

// lockUser holds the number of a user's guilds still until the transaction ends. It comes before lockGuild, always.
func lockUser(ctx context.Context, tx transaction, user id.ID) error {
	if _, err := tx.Exec(ctx, lockUserSQL, number(user)); err != nil {
		return fmt.Errorf("lock user %s: %w", user, err)
	}
	return nil
}

const setVersionSQL = `UPDATE guilds SET version = $2 WHERE id = $1`

// setVersion is the last step of a change. Of a deleted guild there is no row left, which is fine.
func setVersion(ctx context.Context, tx transaction, guild id.ID, version int64) error {
	if _, err := tx.Exec(ctx, setVersionSQL, number(guild), version); err != nil {
		return fmt.Errorf("set version of guild %s: %w", guild, err)
	}
	return nil
}

const insertGuildSQL = `
INSERT INTO guilds (id, version, owner_id, name, description, preferred_locale, verification_level,
	default_message_notifications, explicit_content_filter, afk_channel_id, afk_timeout, system_channel_id, system_channel_flags, icon)
VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

func insertGuild(ctx context.Context, tx transaction, g *wire.Guild) error {
	_, err := tx.Exec(ctx, insertGuildSQL, number(g.ID), number(g.OwnerID), g.Name, g.Description, g.PreferredLocale, g.VerificationLevel,
		g.DefaultMessageNotifications, g.ExplicitContentFilter, number(g.AFKChannelID), g.AFKTimeout, number(g.SystemChannelID),
		g.SystemChannelFlags, g.Icon)
	if err != nil {
		return fmt.Errorf("insert guild %s: %w", g.ID, err)
	}
	return nil
}

const updateGuildSQL = `
UPDATE guilds SET name = $2, description = $3, preferred_locale = $4, verification_level = $5, default_message_notifications = $6,
	explicit_content_filter = $7, afk_channel_id = $8, afk_timeout = $9, system_channel_id = $10, system_channel_flags = $11, owner_id = $12,
	icon = $13
WHERE id = $1`

func updateGuildRow(ctx context.Context, tx transaction, g *wire.Guild) error {
	_, err := tx.Exec(ctx, updateGuildSQL, number(g.ID), g.Name, g.Description, g.PreferredLocale, g.VerificationLevel,
		g.DefaultMessageNotifications, g.ExplicitContentFilter, number(g.AFKChannelID), g.AFKTimeout, number(g.SystemChannelID),
		g.SystemChannelFlags, number(g.OwnerID), g.Icon)
	if err != nil {
		return fmt.Errorf("update guild %s: %w", g.ID, err)
	}
	return nil
}

const deleteGuildSQL = `DELETE FROM guilds WHERE id = $1`

// deleteGuild removes the guild with everything that hangs on it.
func deleteGuild(ctx context.Context, tx transaction, guild id.ID) error {
	if _, err := tx.Exec(ctx, deleteGuildSQL, number(guild)); err != nil {
		return fmt.Errorf("delete guild %s: %w", guild, err)
	}
	return nil
}

const upsertChannelSQL = `
INSERT INTO channels (id, guild_id, type, name, position, parent_id, topic, nsfw, rate_limit_per_user, bitrate, user_limit,
	rtc_region, overwrites)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, position = EXCLUDED.position, parent_id = EXCLUDED.parent_id,
	topic = EXCLUDED.topic, nsfw = EXCLUDED.nsfw, rate_limit_per_user = EXCLUDED.rate_limit_per_user, bitrate = EXCLUDED.bitrate,
	user_limit = EXCLUDED.user_limit, rtc_region = EXCLUDED.rtc_region, overwrites = EXCLUDED.overwrites`

// saveChannel writes a channel as it is to be, new or not.
func saveChannel(ctx context.Context, tx transaction, c *wire.Channel) error {
	overwrites, err := json.Marshal(c.PermissionOverwrites)
	if err != nil {
		return fmt.Errorf("encode overwrites of channel %s: %w", c.ID, err)
	}
	_, err = tx.Exec(ctx, upsertChannelSQL, number(c.ID), number(c.GuildID), int(c.Type), c.Name, c.Position, number(c.ParentID),
		c.Topic, c.NSFW, c.RateLimitPerUser, c.Bitrate, c.UserLimit, c.RTCRegion, overwrites)
	if err != nil {
		return fmt.Errorf("save channel %s: %w", c.ID, err)
	}
	return nil
}

const (
	deleteChannelSQL   = `DELETE FROM channels WHERE id = $1`
	releaseChildrenSQL = `UPDATE channels SET parent_id = 0 WHERE guild_id = $1 AND parent_id = $2`
	releaseChannelSQL  = `
UPDATE guilds SET system_channel_id = CASE system_channel_id WHEN $2 THEN 0 ELSE system_channel_id END,
	afk_channel_id = CASE afk_channel_id WHEN $2 THEN 0 ELSE afk_channel_id END
WHERE id = $1 AND $2 IN (system_channel_id, afk_channel_id)`
)

// deleteChannel removes a channel with its invites and webhooks, and from where it is named.
func deleteChannel(ctx context.Context, tx transaction, guild, channel id.ID) error {
	if _, err := tx.Exec(ctx, deleteChannelSQL, number(channel)); err != nil {
		return fmt.Errorf("delete channel %s: %w", channel, err)
	}
	if _, err := tx.Exec(ctx, releaseChildrenSQL, number(guild), number(channel)); err != nil {
		return fmt.Errorf("release the channels in category %s: %w", channel, err)
	}
	if _, err := tx.Exec(ctx, releaseChannelSQL, number(guild), number(channel)); err != nil {
		return fmt.Errorf("release channel %s from its guild: %w", channel, err)
	}
	return nil
}

const upsertRoleSQL = `
INSERT INTO roles (id, guild_id, name, permissions, position, color, color_secondary, color_tertiary, hoist, mentionable, unicode_emoji)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, permissions = EXCLUDED.permissions, position = EXCLUDED.position,
	color = EXCLUDED.color, color_secondary = EXCLUDED.color_secondary, color_tertiary = EXCLUDED.color_tertiary,
	hoist = EXCLUDED.hoist, mentionable = EXCLUDED.mentionable, unicode_emoji = EXCLUDED.unicode_emoji`

// saveRole writes a role as it is to be, new or not.
func saveRole(ctx context.Context, tx transaction, guild id.ID, r *wire.Role) error {
	_, err := tx.Exec(ctx, upsertRoleSQL, number(r.ID), number(guild), r.Name, int64(r.Permissions), r.Position, r.Color,
		r.Colors.Secondary, r.Colors.Tertiary, r.Hoist, r.Mentionable, r.UnicodeEmoji)
	if err != nil {
		return fmt.Errorf("save role %s: %w", r.ID, err)
	}
	return nil
}

const (
	deleteRoleSQL     = `DELETE FROM roles WHERE id = $1`
	takeRoleSQL       = `UPDATE members SET roles = array_remove(roles, $2) WHERE guild_id = $1 AND $2 = ANY (roles)`
	takeOverwritesSQL = `
UPDATE channels SET overwrites = (
	SELECT coalesce(jsonb_agg(o ORDER BY n), '[]') FROM jsonb_array_elements(overwrites) WITH ORDINALITY AS e (o, n) WHERE o->>'id' <> $2)
WHERE guild_id = $1 AND overwrites @> jsonb_build_array(jsonb_build_object('id', $2::text))`
)

// deleteRole removes a role, and from members and channels that have it.
func deleteRole(ctx context.Context, tx transaction, guild, role id.ID) error {
	if _, err := tx.Exec(ctx, deleteRoleSQL, number(role)); err != nil {
		return fmt.Errorf("delete role %s: %w", role, err)
	}
	if _, err := tx.Exec(ctx, takeRoleSQL, number(guild), number(role)); err != nil {
		return fmt.Errorf("take role %s from members: %w", role, err)
	}
	if _, err := tx.Exec(ctx, takeOverwritesSQL, number(guild), role.String()); err != nil {
		return fmt.Errorf("take role %s from channels: %w", role, err)
	}
	return nil
}
