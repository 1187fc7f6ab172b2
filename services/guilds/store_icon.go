package guilds

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/picture"
)

const (
	upsertIconSQL = `
INSERT INTO guild_icons (guild_id, hash, type, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (guild_id) DO UPDATE SET hash = EXCLUDED.hash, type = EXCLUDED.type, body = EXCLUDED.body`
	deleteIconSQL = `DELETE FROM guild_icons WHERE guild_id = $1`
)

// keepIcon puts a picture in the place of the one before; nil is none. The guild's row has its hash.
func keepIcon(ctx context.Context, tx transaction, guild id.ID, p *picture.Picture) (err error) {
	if p == nil {
		_, err = tx.Exec(ctx, deleteIconSQL, number(guild))
	} else {
		_, err = tx.Exec(ctx, upsertIconSQL, number(guild), p.Hash, p.Type, p.Body)
	}
	if err != nil {
		return fmt.Errorf("keep the icon of guild %s: %w", guild, err)
	}
	return nil
}

const selectIconSQL = `SELECT hash, type, body FROM guild_icons WHERE guild_id = $1 AND hash = $2`

// icon finds a picture that a guild has now, or 404.
func (s store) icon(ctx context.Context, guild id.ID, hash string) (p picture.Picture, err error) {
	err = s.pool.QueryRow(ctx, selectIconSQL, number(guild), hash).Scan(&p.Hash, &p.Type, &p.Body)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, fault.NotFound()
	}
	if err != nil {
		return p, outage("read an icon", err)
	}
	return p, nil
}
