package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// final reads what there is in the end: rows, the writer's group, dead letters, and what the owner is shown.
func (x *run) final(f *Final) error {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), patience)
	defer cancel()
	if err := errors.Join(x.rows(ctx, f), x.marks(ctx, f), x.dead(ctx, f)); err != nil {
		return err
	}
	var err error
	if f.Pending, f.Lag, err = x.group(); err != nil {
		return err
	}
	return x.shown(f)
}

func (x *run) rows(ctx context.Context, f *Final) error {
	rows, err := x.m.pool.Query(ctx, `select id, channel_id, author_id, type, content, body from messages order by id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var message, channel, author int64
		var kind wire.MessageType
		var r Row
		var raw []byte
		if err := rows.Scan(&message, &channel, &author, &kind, &r.Content, &raw); err != nil {
			return err
		}
		r.ID, r.Channel, r.Author = id.ID(message), id.ID(channel), id.ID(author)
		var body struct {
			Pinned    bool                  `json:"pinned"`
			Reference wire.MessageReference `json:"message_reference"`
		}
		if err := json.Unmarshal(raw, &body); err != nil {
			return fmt.Errorf("row %s: %w", r.ID, err)
		}
		if r.Pinned = body.Pinned; kind == wire.MessagePinned {
			r.Content, r.Announces = text(announced(r.ID), 0), body.Reference.MessageID
		}
		f.Rows = append(f.Rows, r)
	}
	return rows.Err()
}

func (x *run) marks(ctx context.Context, f *Final) error {
	rows, err := x.m.pool.Query(ctx, `select message_id, emoji, user_id from message_reactions where is_on
union all select message_id, '', 0 from message_pins where is_on order by 1, 2, 3`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var message, user int64
		var k Mark
		if err := rows.Scan(&message, &k.Emoji, &user); err != nil {
			return err
		}
		k.Message, k.User = id.ID(message), id.ID(user)
		f.Marks = append(f.Marks, k)
	}
	return rows.Err()
}

func (x *run) dead(ctx context.Context, f *Final) error {
	c, err := redis.Open(ctx, redis.Config{URL: x.m.redis.URL()})
	if err != nil {
		return err
	}
	defer c.Close()
	dead, err := c.Do(ctx, c.B().Xrange().Key("dead:{s00}:pg").Start("-").End("+").Build()).AsXRange()
	if err != nil {
		return err
	}
	for _, d := range dead {
		var ms, seq uint64
		if _, err := fmt.Sscanf(d.ID, "%d-%d", &ms, &seq); err != nil {
			return fmt.Errorf("dead letter %s: %w", d.ID, err)
		}
		f.Dead = append(f.Dead, id.FromEntry(ms, seq, 0))
	}
	return nil
}

// shownMax is for how long all of history is read: a million messages are 10,000 pages.
const shownMax = 10 * time.Minute

// shown reads all of history, the pins and the roles as the owner, who sees everything.
func (x *run) shown(f *Final) error {
	ctx, cancel := context.WithTimeout(x.m.t.Context(), shownMax)
	defer cancel()
	anybody, err := client.New(client.Config{URL: x.cfg.Nodes[0]})
	if err != nil {
		return err
	}
	defer anybody.CloseIdle()
	in, err := anybody.Login(ctx, ownerName, ownerPassword)
	if err != nil {
		return err
	}
	owner := anybody.WithToken(in.Token)
	f.Reader = x.cfg.Owner.ID
	var mu sync.Mutex
	var reading sync.WaitGroup
	var failed error
	for _, channel := range append(slices.Clone(x.cfg.Channels), x.cfg.flips()...) {
		reading.Go(func() {
			all, err := history(ctx, owner, channel)
			pins, pinsErr := pins(ctx, owner, channel)
			mu.Lock()
			defer mu.Unlock()
			f.Shown, f.Listed, failed = append(f.Shown, all...), append(f.Listed, pins...), errors.Join(failed, err, pinsErr)
		})
	}
	reading.Wait()
	if failed != nil {
		return failed
	}
	roles, err := owner.Roles(ctx, x.cfg.ClubGuild)
	at := func(role id.ID) int {
		return roles[slices.IndexFunc(roles, func(r wire.Role) bool { return r.ID == role })].Position
	}
	if err == nil {
		f.Badge, f.Raised = x.cfg.Badge, at(x.cfg.Badge) > at(x.cfg.Ribbon)
	}
	return err
}

func history(ctx context.Context, c *client.Client, channel id.ID) (all []Seen, err error) {
	limit, before := 100, id.ID(0)
	for {
		page, err := c.Messages(ctx, channel, wire.ListMessages{Limit: &limit, Before: before})
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", channel, err)
		}
		for _, m := range page {
			all = append(all, seenOf(m))
		}
		if len(page) < limit {
			return all, nil
		}
		before = page[len(page)-1].ID
	}
}

// pins reads all pins of a channel. A page begins where the one before ends, and not behind it: what was pinned in one millisecond may be divided.
func pins(ctx context.Context, c *client.Client, channel id.ID) (all []id.ID, err error) {
	for in := (wire.ListPins{}); ; {
		page, err := c.Pins(ctx, channel, in)
		if err != nil {
			return nil, fmt.Errorf("pins of %s: %w", channel, err)
		}
		for _, item := range page.Items {
			var m struct {
				ID id.ID `json:"id"`
			}
			if err := json.Unmarshal(item.Message, &m); err != nil {
				return nil, err
			}
			if !slices.Contains(all, m.ID) {
				all = append(all, m.ID)
			}
		}
		if !page.HasMore {
			return all, nil
		}
		last := page.Items[len(page.Items)-1].PinnedAt.Time()
		in.Before = last.Add(time.Millisecond).Format(time.RFC3339Nano)
	}
}
