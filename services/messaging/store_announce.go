package messaging

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

const insertAnnouncements = `
INSERT INTO announcements (entry_ms, entry_seq, type, guild_id, channel_id, author_id, user_id)
SELECT n.* FROM unnest($4::bigint[], $5::bigint[], $6::smallint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]) AS n
WHERE ` + sameEpoch + ` ON CONFLICT DO NOTHING`

// announcementColumns are announcements the way unnest takes them.
type announcementColumns struct {
	ms, seq                      []int64
	kind                         []int16
	guild, channel, author, user []int64
}

func columnsOf(all []announcement) (c announcementColumns) {
	for _, a := range all {
		c.ms, c.seq, c.kind = append(c.ms, int64(a.at.Ms)), append(c.seq, int64(a.at.Seq)), append(c.kind, int16(a.kind))
		c.guild, c.channel = append(c.guild, int64(a.guild)), append(c.channel, int64(a.channel))
		c.author, c.user = append(c.author, int64(a.author)), append(c.user, int64(a.user))
	}
	return c
}

const (
	selectAnnouncements = `
SELECT entry_ms, entry_seq, type, guild_id, channel_id, author_id, user_id
FROM announcements ORDER BY entry_ms, entry_seq LIMIT $1 FOR UPDATE SKIP LOCKED`
	deleteAnnouncement = `DELETE FROM announcements WHERE entry_ms = $1 AND entry_seq = $2`
)

// takeAnnouncements takes up to limit announcements away that no other process is at, each after say has said it, and says how many.
func (s store) takeAnnouncements(ctx context.Context, limit int, say func(context.Context, announcement) error) (n int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectAnnouncements, limit)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanAnnouncement)
		if err != nil {
			return err
		}
		for _, a := range all {
			if err := say(ctx, a); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, deleteAnnouncement, int64(a.at.Ms), int64(a.at.Seq)); err != nil {
				return err
			}
		}
		n = len(all)
		return nil
	})
	if err != nil {
		return 0, unavailable("take announcements", err)
	}
	return n, nil
}

func scanAnnouncement(row pgx.CollectableRow) (a announcement, err error) {
	var ms, seq, guild, channel, author, user int64
	var kind int16
	err = row.Scan(&ms, &seq, &kind, &guild, &channel, &author, &user)
	a.at, a.kind = bus.Position{Ms: uint64(ms), Seq: uint64(seq)}, wire.MessageType(kind)
	a.guild, a.channel, a.author, a.user = id.ID(guild), id.ID(channel), id.ID(author), id.ID(user)
	return a, err
}
