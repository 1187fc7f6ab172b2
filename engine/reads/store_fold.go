package reads

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
)

// Fold is what a batch of the writer's comes to here. It belongs to the writer's goroutine.
type Fold struct{ facts facts }

// NewFold makes an empty Fold.
func NewFold() *Fold { return &Fold{facts: newFacts()} }

// Add works an entry in, of whatever type. An error means that its payload cannot be read, and would not be the next time.
func (f *Fold) Add(e bus.Entry) error { return f.facts.add(e) }

// IsEmpty says that there is nothing to store.
func (f *Fold) IsEmpty() bool { return f.facts.count == 0 }

// All statements do nothing unless the checkpoint's row is of the writer's epoch ($1 to $3), and nothing twice.
const sameEpoch = `EXISTS (SELECT FROM checkpoints c WHERE c.grp = $1 AND c.shard = $2 AND c.epoch = $3)`

const eraseStates = `DELETE FROM read_states WHERE user_id = ANY ($4) AND ` + sameEpoch

const eraseSettings = `DELETE FROM guild_settings WHERE user_id = ANY ($4) AND ` + sameEpoch

const eraseMentions = `DELETE FROM mentions WHERE target = ANY ($4) AND ` + sameEpoch

const upsertStates = `
INSERT INTO read_states (user_id, channel_id, message_id, ack_id, read_at)
SELECT n.user_id, n.channel_id, n.message_id, n.ack_id, n.read_at
FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::boolean[])
    AS n (user_id, channel_id, message_id, ack_id, read_at, is_set)
WHERE NOT n.is_set AND ` + sameEpoch + `
ON CONFLICT (user_id, channel_id) DO UPDATE
SET message_id = greatest(read_states.message_id, excluded.message_id), ack_id = excluded.ack_id, read_at = excluded.read_at
WHERE read_states.ack_id < excluded.ack_id`

const setStates = `
INSERT INTO read_states (user_id, channel_id, message_id, ack_id, read_at)
SELECT n.user_id, n.channel_id, n.message_id, n.ack_id, n.read_at
FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::boolean[])
    AS n (user_id, channel_id, message_id, ack_id, read_at, is_set)
WHERE n.is_set AND ` + sameEpoch + `
ON CONFLICT (user_id, channel_id) DO UPDATE
SET message_id = excluded.message_id, ack_id = excluded.ack_id, read_at = excluded.read_at
WHERE read_states.ack_id < excluded.ack_id`

const upsertHeads = `
INSERT INTO channel_heads (channel_id, guild_id, message_id)
SELECT n.channel_id, n.guild_id, n.message_id FROM unnest($4::bigint[], $5::bigint[], $6::bigint[]) AS n (channel_id, guild_id, message_id)
WHERE ` + sameEpoch + `
ON CONFLICT (channel_id) DO UPDATE SET message_id = excluded.message_id WHERE channel_heads.message_id < excluded.message_id`

// What is deleted stays away, also when its create comes again: the writer has put the tombstones in front of these statements.
const insertMentions = `
INSERT INTO mentions (target, message_id, channel_id, author_id)
SELECT n.target, n.message_id, n.channel_id, n.author_id
FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS n (target, message_id, channel_id, author_id)
WHERE NOT EXISTS (SELECT FROM message_tombstones t WHERE t.id = n.message_id) AND ` + sameEpoch + `
ON CONFLICT (target, message_id) DO NOTHING`

const deleteMentions = `DELETE FROM mentions WHERE message_id = ANY ($4) AND ` + sameEpoch

const upsertSettings = `
INSERT INTO guild_settings (user_id, guild_id, place, settings)
SELECT n.user_id, n.guild_id, n.place, n.settings
FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::text[]) AS n (user_id, guild_id, place, settings)
WHERE ` + sameEpoch + `
ON CONFLICT (user_id, guild_id) DO UPDATE SET place = excluded.place, settings = excluded.settings
WHERE guild_settings.place < excluded.place`

// Queue adds the statements to a batch of the writer's, which is one transaction, behind its tombstones.
func (f *Fold) Queue(batch *pgx.Batch, group string, shard int, epoch int64) {
	put := func(sql string, columns ...any) { batch.Queue(sql, append([]any{group, shard, epoch}, columns...)...) }
	if len(f.facts.erased) > 0 {
		var users []int64
		for user := range f.facts.erased {
			users = append(users, int64(user))
		}
		put(eraseStates, users)
		put(eraseSettings, users)
		put(eraseMentions, users)
	}
	f.queueStates(put)
	f.queueMessages(put)
	f.queueSettings(put)
}

func (f *Fold) queueStates(put func(sql string, columns ...any)) {
	var users, channels, messages, acks []int64
	var read []time.Time
	var set []bool
	sets := 0
	for user, of := range f.facts.marks {
		for channel, m := range of {
			users, channels = append(users, int64(user)), append(channels, int64(channel))
			messages, acks = append(messages, int64(m.message)), append(acks, int64(place(m.at)))
			read, set = append(read, time.UnixMilli(int64(m.at.Ms))), append(set, m.isSet)
			if m.isSet {
				sets++
			}
		}
	}
	if sets < len(users) {
		put(upsertStates, users, channels, messages, acks, read, set)
	}
	if sets > 0 {
		put(setStates, users, channels, messages, acks, read, set)
	}
}

func (f *Fold) queueMessages(put func(sql string, columns ...any)) {
	if len(f.facts.heads) > 0 {
		var channels, guilds, messages []int64
		for channel, h := range f.facts.heads {
			channels, guilds, messages = append(channels, int64(channel)), append(guilds, int64(h.guild)), append(messages, int64(h.message))
		}
		put(upsertHeads, channels, guilds, messages)
	}
	if len(f.facts.pings) > 0 {
		var targets, messages, channels, authors []int64
		for _, p := range f.facts.pings {
			for _, target := range p.targets {
				targets, messages = append(targets, int64(target)), append(messages, int64(p.message))
				channels, authors = append(channels, int64(p.channel)), append(authors, int64(p.from))
			}
		}
		put(insertMentions, targets, messages, channels, authors)
	}
	if len(f.facts.deleted) > 0 {
		var messages []int64
		for _, d := range f.facts.deleted {
			messages = append(messages, int64(d.message))
		}
		put(deleteMentions, messages)
	}
}

func (f *Fold) queueSettings(put func(sql string, columns ...any)) {
	var users, guilds, places []int64
	var settings []string
	for user, of := range f.facts.settings {
		for guild, s := range of {
			users, guilds = append(users, int64(user)), append(guilds, int64(guild))
			places, settings = append(places, int64(place(s.at))), append(settings, string(s.raw))
		}
	}
	if len(users) > 0 {
		put(upsertSettings, users, guilds, places, settings)
	}
}
