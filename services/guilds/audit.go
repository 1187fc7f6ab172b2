package guilds

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// auditPage is how many entries of the audit log are given when no limit is asked for.
const auditPage = 50

// note is what a change says of itself in the audit log.
type note struct {
	action  wire.AuditAction
	target  id.ID
	changes []wire.AuditChange
	options map[string]string
}

// notesMax bounds the notes of one change.
const notesMax = 1 << 10

// auditNotes are the notes of the change that leads to a version; of one that changes a thousand things, the first. Their ids are unique
// within the guild without asking anybody: there are not 4096 versions of it in a millisecond.
func auditNotes(notes []note, actor id.ID, reason string, version int64) []wire.AuditNote {
	notes = notes[:min(len(notes), notesMax)]
	out := make([]wire.AuditNote, len(notes))
	now := uint64(time.Now().UnixMilli())
	for i, n := range notes {
		out[i] = wire.AuditNote{ID: id.FromSequence(now, version*notesMax+int64(i)), Action: n.action, Actor: actor, Target: n.target,
			Changes: n.changes, Options: n.options, Reason: reason}
	}
	return out
}

// unaudited are the keys of which the audit log tells nothing: they do not change, or are told by entries of their own.
var unaudited = map[string]bool{
	"id": true, "guild_id": true, "user_id": true, "last_message_id": true, "roles": true, "emojis": true, "stickers": true, "joined_at": true,
	"guild": true, "channel": true, "inviter": true, "created_at": true, "expires_at": true,
}

// renamed are the keys that the audit log calls by another name.
var renamed = map[string]string{"icon": "icon_hash"}

// differences are the changes that lead from one object to another of the same kind; nil stands for one that is not there.
func differences(before, after any) []wire.AuditChange {
	was, is := keysOf(before), keysOf(after)
	keys := maps.Clone(was)
	maps.Copy(keys, is)
	var out []wire.AuditChange
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if unaudited[key] || bytes.Equal(was[key], is[key]) {
			continue
		}
		c := wire.AuditChange{Key: key, Old: was[key], New: is[key]}
		if name := renamed[key]; name != "" {
			c.Key = name
		}
		out = append(out, c)
	}
	return out
}

// keysOf are the values in an object of package wire that are not null.
func keysOf(v any) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	if v == nil {
		return out
	}
	if err := json.Unmarshal(encode(v), &out); err != nil {
		panic("BUG: an object of the audit log is none: " + err.Error())
	}
	maps.DeleteFunc(out, func(_ string, raw json.RawMessage) bool { return string(raw) == "null" })
	return out
}

// encode encodes what always can be.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: it does not encode: " + err.Error())
	}
	return b
}

// auditPagesMax is how many pages are looked through to fill one, for who cannot see many of the channels that the entries are about.
const auditPagesMax = 20

// listAudit answers the newest entries first; behind after, the oldest.
func (s *Service) listAudit(c *rest.Call, in wire.ListAuditLog) (out wire.AuditLog, err error) {
	ctx, limit := c.Context(), or(in.Limit, auditPage)
	grant, err := s.roster.CanGuild(ctx, c.User(), c.ID("guild"), perm.ViewAuditLog)
	if err != nil {
		return out, err
	}
	for range auditPagesMax {
		page, err := s.store.audit(ctx, grant.Guild.ID, in, limit)
		if err != nil {
			return out, err
		}
		for _, n := range page {
			if len(out.Entries) < limit && mayRead(grant, n) {
				out.Entries = append(out.Entries, n)
			}
		}
		if len(page) < limit || len(out.Entries) == limit {
			break
		}
		if last := page[len(page)-1].ID; in.After != 0 && in.Before == 0 {
			in.After = last
		} else {
			in.Before = last
		}
	}
	var users []id.ID
	for _, n := range out.Entries {
		users = append(users, n.Actor)
		if aboutUser(n.Action) {
			users = append(users, n.Target)
		}
	}
	users = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(users))), func(u id.ID) bool { return u == 0 })
	faces, err := s.roster.Users(ctx, users)
	if err != nil {
		return out, err
	}
	for _, u := range users {
		out.Users = append(out.Users, faces[u])
	}
	out.Webhooks, err = s.auditWebhooks(ctx, grant.Guild.ID, out.Entries)
	return out, err
}

// auditWebhooks are the webhooks that notes are about, as far as there still are any, without their tokens.
func (s *Service) auditWebhooks(ctx context.Context, guild id.ID, notes []wire.AuditNote) (out wire.List[wire.Webhook], err error) {
	about := map[id.ID]bool{}
	for _, n := range notes {
		if n.Action >= wire.AuditWebhookCreate && n.Action <= wire.AuditWebhookDelete {
			about[n.Target] = true
		}
	}
	if len(about) == 0 {
		return nil, nil
	}
	rows, err := s.store.webhooks(ctx, guild, 0)
	for _, row := range rows {
		if about[row.ID] {
			out = append(out, row.Public())
		}
	}
	return out, err
}

// mayRead says whether somebody may read a note of the audit log: what it tells of a channel is for those who see the channel, and of one that is
// gone for administrators, who have seen all.
func mayRead(grant roster.Grant, n wire.AuditNote) bool {
	channel := n.Channel()
	switch {
	case channel == 0:
		return true
	case grant.Guild.Channels[channel] == nil:
		return grant.Perms.Has(perm.Administrator)
	}
	return grant.Guild.Permissions(grant.Member, channel).Has(perm.ViewChannel)
}

// aboutUser says whether an action's target is a user.
func aboutUser(a wire.AuditAction) bool {
	return a >= wire.AuditMemberKick && a <= wire.AuditBotAdd || a >= wire.AuditMessageDelete && a <= wire.AuditMessageUnpin && a != wire.AuditMessageBulkDelete
}

const (
	// forgetEvery is how often the oldest of the audit log is looked for, and forgetBatch, how much of it goes at once.
	forgetEvery = time.Hour
	forgetBatch = 1000
)

// forgetting keeps the audit log as short as it is to be. Several processes may do so at once.
func (s *Service) forgetting(ctx context.Context) error {
	for {
		timer := time.NewTimer(forgetEvery/2 + rand.N(forgetEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		n, err := int64(forgetBatch), error(nil)
		for n == forgetBatch && err == nil {
			n, err = s.store.forget(ctx, time.Now().Add(-s.config.AuditKeep), forgetBatch)
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("what is old in the audit log cannot be forgotten, which is tried again", "err", err)
		}
	}
}
