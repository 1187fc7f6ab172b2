package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// The load's reactions and pins. Everybody wants them of the same few messages, so that they race.

var emoji = []string{"👍", "🎉", "🦊"}

// boardMax is how many of a channel's latest messages are worth a reaction: few, or nobody meets anybody.
const boardMax = 6

// board has them.
type board struct {
	mu     sync.Mutex
	latest map[id.ID][]own // by channel
}

func (b *board) put(m own) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.latest == nil {
		b.latest = map[id.ID][]own{}
	}
	all := append(b.latest[m.channel], m)
	b.latest[m.channel] = all[max(0, len(all)-boardMax):]
}

func (b *board) pick(channel id.ID, n int) (own, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.latest[channel]
	if n >= len(all) {
		return own{}, false
	}
	return all[n], true
}

// pinsMax is how many pins an actor has at a time: all together stay below what a channel may have.
const pinsMax = 2

// mark changes the reactions or the pin of one of a channel's latest messages. What is wanted is drawn before it is known of what, so that a
// seed draws the same again.
func (a *actor) mark(channel id.ID) {
	at, which, what := a.r.IntN(boardMax), a.r.IntN(len(emoji)), a.r.IntN(100)
	m, ok := a.l.board.pick(channel, at)
	if !ok {
		return
	}
	switch {
	case what < 15: // on, off and on again, within a batch of the writer's
		a.react(m, React, which)
		a.react(m, Unreact, which)
		a.react(m, React, which)
	case what < 45:
		a.react(m, React, which)
	case what < 70:
		a.react(m, Unreact, which)
	case what < 78:
		a.react(m, Clear, which)
	case what < 90 && len(a.pinned) < pinsMax:
		if a.pin(m, Pin) == nil {
			a.pinned = append(a.pinned, m)
		}
	case len(a.pinned) > 0:
		if a.pin(a.pinned[0], Unpin) == nil || a.l.posting.Err() == nil {
			a.pinned = a.pinned[1:]
		}
	default:
		_ = a.pin(m, Unpin) // the checker judges a refusal
	}
}

func (a *actor) react(m own, kind Kind, which int) {
	e := Event{Kind: kind, Key: m.key, Channel: m.channel, Message: m.id, Text: emoji[which]}
	if kind == Clear {
		e.Text = ""
	}
	_, _ = a.insist(e, func(ctx context.Context, c *client.Client) (id.ID, error) { // the checker judges a refusal
		switch kind {
		case React:
			return m.id, c.React(ctx, m.channel, m.id, e.Text)
		case Unreact:
			return m.id, c.Unreact(ctx, m.channel, m.id, e.Text)
		}
		return m.id, c.ClearReactions(ctx, m.channel, m.id)
	})
}

func (a *actor) pin(m own, kind Kind) error {
	e := Event{Kind: kind, Key: m.key, Channel: m.channel, Message: m.id}
	_, err := a.insist(e, func(ctx context.Context, c *client.Client) (id.ID, error) {
		if kind == Pin {
			return m.id, c.Pin(ctx, m.channel, m.id)
		}
		return m.id, c.Unpin(ctx, m.channel, m.id)
	})
	return err
}

// argue edits a message again and again while a rival pins and unpins it: each of them rewrites it, and must not undo what the other has done.
func (a *actor) argue(rival chan<- own) {
	const times = 4
	for a.l.posting.Err() == nil {
		pause(time.Duration(300+a.r.IntN(600)) * time.Millisecond)
		m, err := a.create(a.l.cfg.Channels[a.r.IntN(len(a.l.cfg.Channels))])
		if err != nil {
			continue // it was refused, which the checker judges
		}
		select {
		case rival <- m:
		case <-a.l.posting.Done():
			return
		}
		for range times {
			a.edit(&m)
		}
	}
}

// contradict is the rival. It leaves no pin.
func (a *actor) contradict(of <-chan own) {
	const times = 3
	for {
		select {
		case m := <-of:
			for range times {
				_, _ = a.pin(m, Pin), a.pin(m, Unpin) // the checker judges a refusal
			}
		case <-a.l.posting.Done():
			return
		}
	}
}

// mark says what a dispatch of a message makes of a mark. A pin is told twice: of the channel first, and then of the message.
func (w *watcher) mark(e Event) Kind {
	switch e.Type {
	case "MESSAGE_REACTION_ADD":
		return React
	case "MESSAGE_REACTION_REMOVE":
		return Unreact
	case "MESSAGE_REACTION_REMOVE_ALL":
		return Clear
	}
	was := w.pinning
	w.pinning = e.Type == "CHANNEL_PINS_UPDATE"
	switch {
	case !was || e.Type != "MESSAGE_UPDATE":
		return ""
	case e.Pinned:
		return Pin
	}
	return Unpin
}

// body is what there is in a dispatch of a message, or of its marks.
type body struct {
	ID        id.ID            `json:"id"`
	Type      wire.MessageType `json:"type"` // of a reaction something else
	ChannelID id.ID            `json:"channel_id"`
	MessageID id.ID            `json:"message_id"`
	UserID    id.ID            `json:"user_id"`
	Content   string           `json:"content"`
	Edited    string           `json:"edited_timestamp"`
	Pinned    bool             `json:"pinned"`
	Emoji     wire.Emoji       `json:"emoji"`
	Author    struct {
		ID id.ID `json:"id"`
	} `json:"author"`
}

func readBody(raw []byte) (Event, error) {
	var b body
	if err := json.Unmarshal(raw, &b); err != nil {
		return Event{}, err
	}
	e := Event{Channel: b.ChannelID, Message: cmp.Or(b.ID, b.MessageID), Author: cmp.Or(b.Author.ID, b.UserID), Text: b.Content + b.Emoji.Name,
		Edited: b.Edited, Pinned: b.Pinned}
	if b.ID != 0 && b.Type == wire.MessagePinned {
		e.Text = text(announced(b.ID), 0)
	}
	return e, nil
}

// seenOf is a message as a page shows it.
func seenOf(m wire.Message) Seen {
	s := Seen{Message: m.ID, Text: strings.TrimSuffix(m.Content, "\x00"), Pinned: m.Pinned}
	if m.Type == wire.MessagePinned {
		s.Text = text(announced(m.ID), 0)
	}
	for _, r := range m.Reactions {
		s.Counts = append(s.Counts, Count{Emoji: r.Emoji.Name, N: r.Count, Me: r.Me})
	}
	slices.SortFunc(s.Counts, func(a, b Count) int { return cmp.Compare(a.Emoji, b.Emoji) })
	return s
}
