package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/wire"
)

var (
	batchEntries  = metrics.NewPrometheusHistogramExt(`xcord_messaging_batch_entries`, []float64{1, 2, 5, 10, 25, 50, 100, 250, 500})
	commitSeconds = metrics.NewPrometheusHistogram(`xcord_messaging_commit_seconds`)
	insertedRows  = metrics.NewCounter(`xcord_messaging_rows_total{op="insert"}`)
	updatedRows   = metrics.NewCounter(`xcord_messaging_rows_total{op="update"}`)
	deletedRows   = metrics.NewCounter(`xcord_messaging_rows_total{op="delete"}`)
	reactionRows  = metrics.NewCounter(`xcord_messaging_rows_total{op="reaction"}`)
	pinRows       = metrics.NewCounter(`xcord_messaging_rows_total{op="pin"}`)
	redelivered   = metrics.NewCounter(`xcord_messaging_redelivered_entries_total`)
)

// writer brings the log into Postgres: what the bus calls a group's handler. The bus calls lead, persist and release from one
// goroutine.
//
// An entry at or below the checkpoint comes again after a crash between COMMIT and XACK. It is applied again rather than
// skipped, because applying twice changes nothing (tombstones keep the deleted away, positions keep older edits away), while
// skipping would lose an entry that was handed to a process which had lost the lead without knowing it.
type writer struct {
	store   store
	timeout time.Duration   // of a batch
	lease   time.Duration   // how long who leads may stand still
	hear    chan<- struct{} // is told when there are system messages to be said
	purges  chan struct{}   // is told when there is something to purge
	held    *lead           // nil: this process does not lead
}

// lead waits for the lead and takes it.
func (w *writer) lead(ctx context.Context) (release func(), err error) {
	held, err := w.store.takeLead(ctx, writing, w.lease)
	if err != nil {
		return nil, err
	}
	w.held = held
	return func() {
		held.end()
		w.held = nil
	}, nil
}

// persist stores a batch, all or nothing.
func (w *writer) persist(ctx context.Context, entries []bus.Entry) error {
	if w.held == nil {
		panic("BUG: messaging writes without the lead")
	}
	b, err := fold(entries)
	if err != nil {
		return err
	}
	// A batch in hand is finished while the process stops, in a time of its own: cut off, it would cost the connection and
	// come again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.timeout)
	defer cancel()
	for _, e := range entries {
		if !w.held.mark.Less(e.Pos) {
			redelivered.Inc()
		}
	}
	start := time.Now()
	done, err := w.held.commit(ctx, b)
	if err != nil {
		return err
	}
	if len(b.announced) > 0 {
		select {
		case w.hear <- struct{}{}:
		default:
		}
	}
	commitSeconds.UpdateDuration(start)
	batchEntries.Update(float64(len(entries)))
	done.count()
	if len(b.purges) > 0 {
		select {
		case w.purges <- struct{}{}:
		default:
		}
	}
	return nil
}

// pass moves the checkpoint past entries that are dead letters now. After a batch that was stored it is there already.
func (w *writer) pass(ctx context.Context, to bus.Position) error {
	if !w.held.mark.Less(to) {
		return nil
	}
	_, err := w.held.commit(ctx, &batch{first: to, last: to, reads: reads.NewFold()})
	return err
}

// isData says that an entry is at fault, and not Postgres.
func isData(err error) bool {
	var m *malformed
	return errors.As(err, &m) || postgres.IsData(err)
}

// row is one message of a batch: a new one, or what an edit sets.
type row struct {
	channel, id, guild, author id.ID
	kind                       int16
	content, body              string
	edited                     id.ID // the place of the latest edit
}

// emojiOf is an emoji of a message; "" are all of it.
type emojiOf struct {
	message id.ID
	emoji   string
}

// reactorOf is a reactor of a message.
type reactorOf struct {
	message id.ID
	reactor
}

// batch is what a run of entries comes to: per message one insert, one update, or a tombstone, and per reaction and pin its latest change.
type batch struct {
	rows    []row // creates and edits; those that came to nothing have id 0
	isEdit  []bool
	at      map[id.ID]int   // message → index in rows
	deleted map[id.ID]id.ID // message → channel
	order   []id.ID         // of deleted
	lost    []int64         // channels and guilds that are gone

	reactions map[reactorOf]reaction
	clears    map[emojiOf]id.ID       // → the latest place
	pins      map[id.ID]map[id.ID]pin // by channel and message

	// announced are the system messages that follow from the entries.
	announced []announcement
	reads     *reads.Fold
	first     bus.Position // of the entries
	last      bus.Position
	purges    []purge
}

// fold works through entries in their order.
func fold(entries []bus.Entry) (*batch, error) {
	b := &batch{
		rows: make([]row, 0, len(entries)), isEdit: make([]bool, 0, len(entries)),
		at: make(map[id.ID]int, len(entries)), deleted: map[id.ID]id.ID{},
		reactions: map[reactorOf]reaction{}, clears: map[emojiOf]id.ID{}, pins: map[id.ID]map[id.ID]pin{},
		reads: reads.NewFold(),
	}
	if len(entries) > 0 {
		b.first = entries[0].Pos
	}
	for _, e := range entries {
		var err error
		switch e.Type {
		case wire.MessageSent:
			err = b.create(e)
		case wire.MessageUpdated:
			err = b.edit(e)
		case wire.MessageDeleted:
			err = b.delete(e)
		case wire.ReactionAdded, wire.ReactionRemoved, wire.ReactionsCleared:
			err = b.react(e)
		case wire.PinsUpdated:
			err = b.pin(e)
		case wire.ChannelDeleted, wire.ServerDeleted, wire.MemberRemoved, wire.BanAdded:
			var purges []purge
			purges, err = purgesOf(e)
			b.purges = append(b.purges, purges...)
			b.lose(e)
		case wire.MemberJoined, wire.DirectChanged:
			b.announced = append(b.announced, announcementsOf(e)...)
		default: // nothing to store, yet the checkpoint moves past it
		}
		if err != nil {
			return nil, err
		}
		if err := b.reads.Add(e); err != nil {
			return nil, &malformed{e.Pos, err}
		}
		b.last = e.Pos
	}
	return b, nil
}

// lose notes a channel or guild that is gone.
func (b *batch) lose(e bus.Entry) {
	switch e.Type {
	case wire.ChannelDeleted:
		b.lost = append(b.lost, int64(e.Channel))
	case wire.ServerDeleted:
		b.lost = append(b.lost, int64(e.Guild))
	}
}

func (b *batch) create(e bus.Entry) error {
	message, ok := idOf(e.Pos)
	if !ok || e.Channel == 0 {
		return &malformed{e.Pos, errors.New("no id or no channel")}
	}
	r, err := rowOf(e)
	if err != nil {
		return err
	}
	r.id, r.guild, r.author = message, e.Guild, e.Actor
	b.put(r, false)
	return nil
}

func (b *batch) edit(e bus.Entry) error {
	place, ok := idOf(e.Pos)
	if !ok {
		return &malformed{e.Pos, errors.New("no place")}
	}
	message, _, err := updatedOf(e)
	if err != nil {
		return err
	}
	if _, gone := b.deleted[message]; gone {
		return nil
	}
	r, err := rowOf(e)
	if err != nil {
		return err
	}
	r.id, r.edited = message, place
	i, ok := b.at[message]
	if !ok {
		b.put(r, true)
		return nil
	}
	have := &b.rows[i]
	have.content, have.body, have.edited = r.content, r.body, r.edited
	return nil
}

func (b *batch) put(r row, isEdit bool) {
	b.at[r.id] = len(b.rows)
	b.rows = append(b.rows, r)
	b.isEdit = append(b.isEdit, isEdit)
}

func (b *batch) delete(e bus.Entry) error {
	messages, err := deletedOf(e)
	if err != nil {
		return err
	}
	for _, message := range messages {
		if i, ok := b.at[message]; ok {
			b.rows[i].id = 0
			delete(b.at, message)
		}
		if _, twice := b.deleted[message]; !twice {
			b.deleted[message] = e.Channel
			b.order = append(b.order, message)
		}
	}
	return nil
}

// react keeps the latest change. Whether it still counts beside a clear or a deletion is for the statements to say.
func (b *batch) react(e bus.Entry) error {
	r, err := reactionOf(e)
	if err != nil {
		return err
	}
	if r.user == 0 {
		b.clears[emojiOf{r.message, r.emoji}] = r.place
		return nil
	}
	b.reactions[reactorOf{r.message, reactor{r.emoji, r.user}}] = r
	return nil
}

// pin is an edit, too: the body says whether a message is pinned.
func (b *batch) pin(e bus.Entry) error {
	p, err := pinOf(e)
	if err != nil {
		return err
	}
	if b.pins[e.Channel] == nil {
		b.pins[e.Channel] = map[id.ID]pin{}
	}
	b.pins[e.Channel][p.message] = p
	return b.edit(e)
}

// isEmpty says that there is nothing to store.
func (b *batch) isEmpty() bool {
	return len(b.rows)+len(b.order)+len(b.announced)+len(b.purges)+len(b.lost)+len(b.reactions)+len(b.clears)+len(b.pins) == 0 && b.reads.IsEmpty()
}

// rowOf reads what of a payload is stored.
func rowOf(e bus.Entry) (row, error) {
	if m, ok := scanSent(e.Body); ok {
		return row{channel: e.Channel, kind: m.kind, content: m.content, body: string(withoutNonce(m.body))}, nil
	}
	body, err := bodyOf(e.Pos, e.Body)
	if err != nil {
		return row{}, err
	}
	var m struct {
		Type    int16  `json:"type"`
		Content string `json:"content"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return row{}, &malformed{e.Pos, fmt.Errorf("message: %w", err)}
	}
	return row{channel: e.Channel, kind: m.Type, content: m.Content, body: string(body)}, nil
}

// columns are rows the way unnest takes them.
type columns struct {
	channel, id, guild, author []int64
	kind                       []int16
	content, body              []string
	edit                       []int64
}

func (b *batch) creates() columns { return b.columns(false) }
func (b *batch) edits() columns   { return b.columns(true) }

func (b *batch) columns(edits bool) columns {
	n := 0
	for i, r := range b.rows {
		if r.id != 0 && b.isEdit[i] == edits {
			n++
		}
	}
	c := columns{
		channel: make([]int64, 0, n), id: make([]int64, 0, n), guild: make([]int64, 0, n), author: make([]int64, 0, n),
		kind: make([]int16, 0, n), content: make([]string, 0, n), body: make([]string, 0, n),
		edit: make([]int64, 0, n),
	}
	for i, r := range b.rows {
		if r.id == 0 || b.isEdit[i] != edits {
			continue
		}
		c.channel = append(c.channel, int64(r.channel))
		c.id = append(c.id, int64(r.id))
		c.guild = append(c.guild, int64(r.guild))
		c.author = append(c.author, int64(r.author))
		c.kind = append(c.kind, r.kind)
		c.content = append(c.content, r.content)
		c.body = append(c.body, r.body)
		c.edit = append(c.edit, int64(r.edited))
	}
	return c
}

func (b *batch) tombstones() (channels, ids []int64) {
	for _, message := range b.order {
		channels = append(channels, int64(b.deleted[message]))
		ids = append(ids, int64(message))
	}
	return channels, ids
}
