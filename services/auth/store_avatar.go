package auth

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/picture"
)

const (
	upsertAvatar = `
insert into avatars ("user", hash, type, body) values ($1, $2, $3, $4)
on conflict ("user") do update set hash = excluded.hash, type = excluded.type, body = excluded.body`
	deleteAvatar = `delete from avatars where "user" = $1`
)

// keepAvatar puts a picture in the place of the one before; nil is none.
func keepAvatar(ctx context.Context, tx transaction, user id.ID, p *picture.Picture) error {
	if p == nil {
		_, err := tx.Exec(ctx, deleteAvatar, int64(user))
		return err
	}
	_, err := tx.Exec(ctx, upsertAvatar, int64(user), p.Hash, p.Type, p.Body)
	return err
}

const selectAvatar = `select hash, type, body from avatars where "user" = $1 and hash = $2`

// avatar finds a picture that somebody has now, a user or a webhook.
func (s store) avatar(ctx context.Context, user id.ID, hash string) (picture.Picture, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var p picture.Picture
	err := s.pool.QueryRow(ctx, selectAvatar, int64(user), hash).Scan(&p.Hash, &p.Type, &p.Body)
	if errors.Is(err, pgx.ErrNoRows) {
		p, err = picture.OfWebhook(ctx, s.pool, user, hash)
	}
	return p, outage("read an avatar", err)
}
