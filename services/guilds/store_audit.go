package guilds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

const insertAuditSQL = `
INSERT INTO guild_audit (guild_id, id, action, actor_id, target_id, changes, options, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING`

// insertAudit writes notes down; those that are there already stay as they are.
func insertAudit(ctx context.Context, tx transaction, guild id.ID, notes []wire.AuditNote) error {
	for _, n := range notes {
		_, err := tx.Exec(ctx, insertAuditSQL, number(guild), number(n.ID), int(n.Action), number(n.Actor), number(n.Target),
			string(encode(n.Changes)), string(encode(n.Options)), n.Reason)
		if err != nil {
			return fmt.Errorf("write the audit log: %w", err)
		}
	}
	return nil
}

const selectAuditSQL = `
SELECT id, action, actor_id, target_id, changes, options, reason FROM guild_audit
WHERE guild_id = $1 AND id > $2 AND id < $3 AND ($4::bigint = 0 OR actor_id = $4::bigint) AND ($5::bigint = 0 OR target_id = $5::bigint)
	AND ($6::int = 0 OR action = $6::int) ORDER BY id `

// audit is a page of a guild's audit log: the newest first, or with after and without before, the oldest behind it.
func (s store) audit(ctx context.Context, guild id.ID, in wire.ListAuditLog, limit int) ([]wire.AuditNote, error) {
	query := selectAuditSQL + `DESC LIMIT $7`
	if in.After != 0 && in.Before == 0 {
		query = selectAuditSQL + `LIMIT $7`
	}
	before := in.Before
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := s.pool.Query(ctx, query, number(guild), number(in.After), number(before), number(in.User), number(in.Target), int(in.Action), limit)
	if err != nil {
		return nil, outage("read the audit log", err)
	}
	notes, err := pgx.CollectRows(rows, scanAudit)
	if err != nil {
		return nil, outage("read the audit log", err)
	}
	return notes, nil
}

func scanAudit(row pgx.CollectableRow) (n wire.AuditNote, err error) {
	var note, actor, target int64
	var action int
	var changes, options []byte
	if err := row.Scan(&note, &action, &actor, &target, &changes, &options, &n.Reason); err != nil {
		return n, err
	}
	n.ID, n.Action, n.Actor, n.Target = id.ID(note), wire.AuditAction(action), id.ID(actor), id.ID(target)
	if err := json.Unmarshal(changes, &n.Changes); err != nil {
		return n, fmt.Errorf("changes of audit entry %d: %w", note, err)
	}
	if err := json.Unmarshal(options, &n.Options); err != nil {
		return n, fmt.Errorf("options of audit entry %d: %w", note, err)
	}
	return n, nil
}

const deleteAuditSQL = `
DELETE FROM guild_audit WHERE (guild_id, id) IN (SELECT guild_id, id FROM guild_audit WHERE id < $1 ORDER BY id LIMIT $2)`

// forget deletes up to limit entries from before a moment, and says how many.
func (s store) forget(ctx context.Context, before time.Time, limit int) (int64, error) {
	tag, err := s.pool.Exec(ctx, deleteAuditSQL, number(id.FromSequence(uint64(before.UnixMilli()), 0)), limit)
	if err != nil {
		return 0, outage("forget the audit log", err)
	}
	return tag.RowsAffected(), nil
}

// auditGroup is the row of checkpoints that says how far the scribe has come.
const auditGroup = "audit"

const selectAuditMarkSQL = `SELECT last_ms, last_seq FROM checkpoints WHERE grp = $1 AND shard = 0`

// auditMark is up to where the log has been followed; zero before the first time.
func (s store) auditMark(ctx context.Context) (mark bus.Position, err error) {
	err = s.pool.QueryRow(ctx, selectAuditMarkSQL, auditGroup).Scan(&mark.Ms, &mark.Seq)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return mark, outage("read how far the audit log is", err)
	}
	return mark, nil
}

const moveAuditMarkSQL = `
INSERT INTO checkpoints (grp, shard, last_ms, last_seq) VALUES ($1, 0, $2, $3)
ON CONFLICT (grp, shard) DO UPDATE SET last_ms = EXCLUDED.last_ms, last_seq = EXCLUDED.last_seq, updated_at = now()
WHERE (checkpoints.last_ms, checkpoints.last_seq) < (EXCLUDED.last_ms, EXCLUDED.last_seq)`

// moveAuditMark only ever goes on: another process may be ahead.
func moveAuditMark(ctx context.Context, tx transaction, to bus.Position) error {
	if _, err := tx.Exec(ctx, moveAuditMarkSQL, auditGroup, int64(to.Ms), int64(to.Seq)); err != nil {
		return fmt.Errorf("note how far the audit log is: %w", err)
	}
	return nil
}
