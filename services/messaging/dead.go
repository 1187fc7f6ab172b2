package messaging

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/singleflight"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// shownMax is how many dead letters, the newest, are laid over the history. More of them than that are an outage that somebody
// has been called for; a single message is found also beyond it.
const shownMax = 1000

// countEvery is how often the gauge of dead letters is brought up to date.
const countEvery = 5 * time.Second

var countErrors = metrics.NewCounter(`xcord_messaging_dead_letter_count_errors_total`)

// graves reads the dead letters for the history and for the writer. What they come to is kept until they change. Safe for
// concurrent use.
type graves struct {
	dead   *bus.Dead
	count  atomic.Int64
	latest atomic.Pointer[morgue]
	load   singleflight.Group
}

// morgue is what the dead letters come to, at one mark. It is immutable.
type morgue struct {
	mark     string
	hidden   bool // there are more of them
	channels map[id.ID]map[id.ID]*corpse
}

// corpse is a message of which a create or a change is a dead letter.
type corpse struct {
	created bus.Position // zero: its row is there
	author  id.ID
	changed bus.Position // the latest dead create or edit; zero when there is none
	payload []byte       // of changed
	deleted bool

	reactions []reaction
	pins      []pin
}

// view is the dead letters as of now.
func (g *graves) view(ctx context.Context) (*morgue, error) {
	n, mark, err := g.state(ctx)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return &morgue{mark: mark}, nil
	}
	if m := g.latest.Load(); m != nil && m.mark == mark {
		return m, nil
	}
	v, err, _ := g.load.Do(mark, func() (any, error) {
		letters, err := g.dead.Latest(context.WithoutCancel(ctx), shownMax) // one reads for all who ask
		if err != nil {
			return nil, err
		}
		m := newMorgue(letters)
		m.mark, m.hidden = mark, n > len(letters)
		g.latest.Store(m)
		return m, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*morgue), nil
}

func (g *graves) state(ctx context.Context) (n int, mark string, err error) {
	n, mark, err = g.dead.State(ctx)
	if err == nil {
		g.count.Store(int64(n))
	}
	return n, mark, err
}

// countLoop keeps the gauge right when nobody reads.
func (g *graves) countLoop(ctx context.Context) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		if _, _, err := g.state(ctx); err != nil && ctx.Err() == nil {
			countErrors.Inc() // the log is away, which others say
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// still says that a read from view until now has missed nothing. An entry is buried before the checkpoint passes it, so as long as
// the mark by which was read is no higher than the floor before the view, the view has it or the overlay does.
func (g *graves) still(ctx context.Context, view *morgue, floor, mark bus.Position) (bool, error) {
	if !floor.Less(mark) {
		return true, nil
	}
	_, now, err := g.state(ctx)
	return now == view.mark, err
}

// created is a message whose create is a dead letter, however many there are.
func (g *graves) created(ctx context.Context, channel, message id.ID) (m found, ok bool, err error) {
	l, ok, err := g.dead.Get(ctx, bus.PositionOf(message))
	if err != nil || !ok {
		return found{}, false, err
	}
	m, ok = newMorgue([]bus.Letter{l}).over(channel, found{id: message}, false)
	return m, ok, nil
}

func newMorgue(letters []bus.Letter) *morgue {
	m := &morgue{channels: map[id.ID]map[id.ID]*corpse{}}
	for _, l := range letters {
		if l.Undecoded != nil {
			continue
		}
		e := l.Entry
		switch e.Type {
		case wire.MessageSent:
			if message, ok := idOf(e.Pos); ok {
				c := m.corpse(e.Channel, message)
				c.created, c.author, c.changed, c.payload = e.Pos, e.Actor, e.Pos, e.Body
			}
		case wire.MessageUpdated, wire.PinsUpdated:
			if message, author, err := updatedOf(e); err == nil {
				c := m.corpse(e.Channel, message)
				c.author, c.changed, c.payload = author, e.Pos, e.Body
			}
			if p, err := pinOf(e); err == nil && e.Type == wire.PinsUpdated {
				c := m.corpse(e.Channel, p.message)
				c.pins = append(c.pins, p)
			}
		case wire.ReactionAdded, wire.ReactionRemoved, wire.ReactionsCleared:
			if r, err := reactionOf(e); err == nil {
				c := m.corpse(e.Channel, r.message)
				c.reactions = append(c.reactions, r)
			}
		case wire.MessageDeleted:
			messages, _ := deletedOf(e) // none when it cannot be read
			for _, message := range messages {
				m.corpse(e.Channel, message).deleted = true
			}
		}
	}
	return m
}

func (m *morgue) corpse(channel, message id.ID) *corpse {
	shelf := m.channels[channel]
	if shelf == nil {
		shelf = map[id.ID]*corpse{}
		m.channels[channel] = shelf
	}
	if shelf[message] == nil {
		shelf[message] = new(corpse)
	}
	return shelf[message]
}

func (m *morgue) partial() bool { return m.hidden }

// reactions are the dead changes of the reactions under a message.
func (m *morgue) reactions(channel, message id.ID) []reaction {
	if c := m.channels[channel][message]; c != nil {
		return c.reactions
	}
	return nil
}

// pins are the dead changes of a channel's pins.
func (m *morgue) pins(channel id.ID) (pins []pin) {
	for _, c := range m.channels[channel] {
		pins = append(pins, c.pins...)
	}
	return pins
}

// deletions is how many rows of a channel dead letters may take away.
func (m *morgue) deletions(channel id.ID) (n int) {
	for _, c := range m.channels[channel] {
		if c.deleted {
			n++
		}
	}
	return n
}

// over is a message by its row, if it has one, and its dead letters; ok is false when there is no such message.
func (m *morgue) over(channel id.ID, row found, isRow bool) (_ found, ok bool) {
	return m.channels[channel][row.id].over(row, isRow)
}

func (c *corpse) over(row found, isRow bool) (_ found, ok bool) {
	switch {
	case c == nil:
		return row, isRow
	case c.deleted:
		return found{}, false
	case !isRow && c.created.IsZero():
		return found{}, false // an edit never brings a message back
	case !isRow:
		return found{id: row.id, author: c.author, payload: c.payload, at: c.changed}, true
	case c.changed != c.created && row.edited < bus.MessageID(c.changed):
		row.body, row.payload, row.at = nil, c.payload, c.changed
	}
	return row, true
}

// lay lays dead letters over a page of rows. What stands above the page's mark is left to the overlay.
func (m *morgue) lay(channel id.ID, w window, p page) page {
	shelf := m.channels[channel]
	if len(shelf) == 0 {
		return p
	}
	// Beyond the last row of a side that has more, nothing may be added.
	lowest, highest := id.ID(0), id.ID(math.MaxInt64)
	if n := len(p.lower); n > 0 && !p.lowerAll {
		lowest = p.lower[n-1].id
	}
	if n := len(p.upper); n > 0 && !p.upperAll {
		highest = p.upper[n-1].id
	}
	seen := map[id.ID]bool{}
	fix := func(rows []found) []found {
		kept := make([]found, 0, len(rows)+len(shelf))
		for _, row := range rows {
			seen[row.id] = true
			if row, ok := shelf[row.id].over(row, true); ok {
				kept = append(kept, row)
			}
		}
		return kept
	}
	p.lower, p.upper = fix(p.lower), fix(p.upper)
	for message, c := range shelf {
		if c.created.IsZero() || seen[message] || p.mark.Less(c.created) {
			continue
		}
		m, ok := c.over(found{id: message}, false)
		switch {
		case !ok:
		case w.lower > 0 && message < w.below && message > lowest:
			p.lower = append(p.lower, m)
		case w.upper > 0 && message >= w.from && message < highest:
			p.upper = append(p.upper, m)
		}
	}
	slices.SortFunc(p.lower, func(a, b found) int { return cmp.Compare(b.id, a.id) })
	slices.SortFunc(p.upper, func(a, b found) int { return cmp.Compare(a.id, b.id) })
	return p
}

// behind says which entries change a message whose create is a dead letter: they wait for that.
func (g *graves) behind(ctx context.Context, entries []bus.Entry) ([]bus.Position, error) {
	waits := make([]bus.Position, len(entries))
	if !slices.ContainsFunc(entries, isChange) {
		return waits, nil
	}
	n, _, err := g.state(ctx)
	if err != nil || n == 0 {
		return waits, err
	}
	targets := make([][]bus.Position, len(entries))
	var all []bus.Position
	for i, e := range entries {
		for _, message := range changed(e) {
			targets[i] = append(targets[i], bus.PositionOf(message))
		}
		all = append(all, targets[i]...)
	}
	dead := map[bus.Position]bool{}
	for chunk := range slices.Chunk(all, hasStep) {
		some, err := g.dead.Has(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("look for dead creates: %w", err)
		}
		for at, is := range some {
			dead[at] = dead[at] || is
		}
	}
	for i := range entries {
		for _, at := range targets[i] {
			if dead[at] {
				waits[i] = at
				break
			}
		}
	}
	return waits, nil
}

// hasStep is how many entries are looked for at once: each is some arguments of a function, of which Lua takes 8,000.
const hasStep = 500

func isChange(e bus.Entry) bool {
	switch e.Type {
	case wire.MessageUpdated, wire.MessageDeleted, wire.PinsUpdated, wire.ReactionAdded, wire.ReactionRemoved, wire.ReactionsCleared:
		return true
	}
	return false
}

// changed are the messages that an entry changes or deletes; none when it cannot be read, which is for the writer to say.
func changed(e bus.Entry) []id.ID {
	switch e.Type {
	case wire.MessageUpdated, wire.PinsUpdated:
		if message, _, err := updatedOf(e); err == nil {
			return []id.ID{message}
		}
	case wire.ReactionAdded, wire.ReactionRemoved, wire.ReactionsCleared:
		if r, err := reactionOf(e); err == nil {
			return []id.ID{r.message}
		}
	case wire.MessageDeleted:
		messages, _ := deletedOf(e) // as above
		return messages
	}
	return nil
}
