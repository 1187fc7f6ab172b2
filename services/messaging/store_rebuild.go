package messaging

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// One step of the index for each channel, and not for each message.
const selectLatest = `
WITH RECURSIVE latest AS (
    (SELECT channel_id, guild_id, id FROM messages ORDER BY channel_id DESC, id DESC LIMIT 1)
    UNION ALL
    SELECT n.channel_id, n.guild_id, n.id FROM latest l, LATERAL (
        SELECT channel_id, guild_id, id FROM messages WHERE channel_id < l.channel_id ORDER BY channel_id DESC, id DESC LIMIT 1
    ) n
)
SELECT channel_id, id FROM latest WHERE guild_id = 0`

// Source reads the latest message of each direct channel, for the read model.
func Source(ctx context.Context, tx roster.Snapshot, each func(bus.Entry) error) error {
	rows, err := tx.Query(ctx, selectLatest)
	if err != nil {
		return fmt.Errorf("read the latest messages: %w", err)
	}
	var channel, message int64
	_, err = pgx.ForEachRow(rows, []any{&channel, &message}, func() error {
		return each(bus.Entry{Type: wire.MessageSent, Channel: id.ID(channel), Pos: bus.PositionOf(id.ID(message))})
	})
	if err != nil {
		return fmt.Errorf("read the latest messages: %w", err)
	}
	return nil
}
