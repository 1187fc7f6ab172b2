package messaging

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// reaction is one change of the reactions under a message, by its place in the log. The latest change of each emoji and user counts,
// in whatever order they come: so rows, dead letters and the overlay are laid over each other as they are found, and the writer may be
// given an entry twice or late.
type reaction struct {
	message id.ID
	emoji   string // of a clear "" for all
	user    id.ID  // 0: a clear
	place   id.ID
	on      bool
}

// reactionOf reads an entry about reactions.
func reactionOf(e bus.Entry) (reaction, error) {
	var p struct {
		MessageID id.ID  `json:"message_id"`
		Emoji     string `json:"emoji"`
		UserID    id.ID  `json:"user_id"`
	}
	if err := json.Unmarshal(e.Body, &p); err != nil {
		return reaction{}, &malformed{e.Pos, err}
	}
	place, ok := idOf(e.Pos)
	isClear := e.Type == wire.ReactionsCleared
	if !ok || p.MessageID == 0 || isClear != (p.UserID == 0) || !isClear && p.Emoji == "" {
		return reaction{}, &malformed{e.Pos, errors.New("no place, message, emoji or user")}
	}
	return reaction{message: p.MessageID, emoji: p.Emoji, user: p.UserID, place: place, on: e.Type == wire.ReactionAdded}, nil
}

// reactor is somebody under one emoji.
type reactor struct {
	emoji string
	user  id.ID
}

// tally is the reactions under one message: the latest change of each reactor, and up to where was cleared.
type tally struct {
	latest  map[reactor]reaction
	cleared map[string]id.ID
}

func newTally(changes ...[]reaction) tally {
	t := tally{latest: map[reactor]reaction{}, cleared: map[string]id.ID{}}
	for _, some := range changes {
		for _, r := range some {
			t.apply(r)
		}
	}
	return t
}

func (t tally) apply(r reaction) {
	if r.user == 0 {
		t.cleared[r.emoji] = max(t.cleared[r.emoji], r.place)
		return
	}
	if by := (reactor{r.emoji, r.user}); t.latest[by].place < r.place {
		t.latest[by] = r
	}
}

// there is who has reacted, in the order in which they did.
func (t tally) there() []reaction {
	var out []reaction
	for by, r := range t.latest {
		if r.on && r.place > max(t.cleared[by.emoji], t.cleared[""]) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b reaction) int { return cmp.Compare(a.place, b.place) })
	return out
}

// counts is the tally as a reader is told it: emoji in the order of the earliest reaction that is there.
func (t tally) counts(reader id.ID) []wire.Reaction {
	var out []wire.Reaction
	at := map[string]int{}
	for _, r := range t.there() {
		i, ok := at[r.emoji]
		if !ok {
			i = len(out)
			at[r.emoji] = i
			out = append(out, tallied(r.emoji, 0, false))
		}
		out[i].Count++
		out[i].CountDetails.Normal++
		out[i].Me = out[i].Me || r.user == reader
	}
	return out
}

// users is who has reacted with an emoji, by rising id from above after on.
func (t tally) users(emoji string, after id.ID) (users []id.ID) {
	for _, r := range t.there() {
		if r.emoji == emoji && r.user > after {
			users = append(users, r.user)
		}
	}
	slices.Sort(users)
	return users
}

func tallied(emoji string, n int, me bool) wire.Reaction {
	return wire.Reaction{Emoji: wire.Emoji{Name: emoji}, Count: n, CountDetails: wire.ReactionCounts{Normal: n}, BurstColors: wire.List[string]{}, Me: me}
}

// pin is the latest change of whether a message is pinned.
type pin struct {
	message id.ID
	place   id.ID
	on      bool
}

// pinOf reads a PINS_UPDATED.
func pinOf(e bus.Entry) (pin, error) {
	var p struct {
		MessageID id.ID `json:"message_id"`
		Pinned    bool  `json:"pinned"`
	}
	if err := json.Unmarshal(e.Body, &p); err != nil {
		return pin{}, &malformed{e.Pos, err}
	}
	place, ok := idOf(e.Pos)
	if !ok || p.MessageID == 0 {
		return pin{}, &malformed{e.Pos, errors.New("no place or no message")}
	}
	return pin{message: p.MessageID, place: place, on: p.Pinned}, nil
}

// pinned is the messages that are pinned by the latest change of each, the latest pin first.
func pinned(changes ...[]pin) []pin {
	latest := map[id.ID]pin{}
	for _, some := range changes {
		for _, p := range some {
			if latest[p.message].place < p.place {
				latest[p.message] = p
			}
		}
	}
	var out []pin
	for _, p := range latest {
		if p.on {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b pin) int { return cmp.Compare(b.place, a.place) })
	return out
}
