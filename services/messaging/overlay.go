package messaging

import (
	"slices"
	"sort"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

var (
	malformedTotal = metrics.NewCounter(`xcord_messaging_malformed_entries_total`)
	forgottenTotal = metrics.NewCounter(`xcord_messaging_overlay_forgotten_total`)
)

// What a change, a message and a channel take besides bodies, with what slices and maps have to spare: measured, 130 to 139 bytes for
// a message that was created, and nothing more, among 100,000 to 700,000 in one channel.
const (
	opBytes    = 48
	itemBytes  = 120
	shelfBytes = 400
	// A reaction is an op besides; the emoji in it has a string of its own.
	reactionBytes = 80
)

// overlay is what the log holds above the committed checkpoint: messages that were created, edited or deleted and of which
// the rows may not know yet. It is fed by the tail, in log order, and pruned as the checkpoint advances.
//
// For every position C between floor and the end of the tail it can say what changed after C: laid over rows that were
// read together with the checkpoint C, it gives the messages as of the end of the tail. Rows that were read at a C below
// floor are useless, because something in between has been pruned; they are read again.
//
// Safe for concurrent use. Nothing blocks, and it is bounded in bytes: beyond one bound the oldest bodies are let go of and only
// ids stay, and beyond another the oldest changes are forgotten altogether: floor is then above the checkpoint, and rows are useless
// until the writer gets there.
type overlay struct {
	bytesMax, idBytesMax int

	mu        sync.Mutex   // guards everything below; held for no I/O
	committed bus.Position // the latest checkpoint that it has heard of
	floor     bus.Position
	forgotten bus.Position // the first change that was let go of and is not committed; zero when there is none
	tip       bus.Position
	// whole is the place from which on the overlay has everything again, after it was begun anew; resets counts how often that was.
	whole    bus.Position
	resets   int
	channels map[id.ID]*shelf
	messages int
	// ops are the changes above floor, in log order from first on. Those before bodied have no body in memory.
	ops           []op
	first, bodied int
	bytes         int
	reacted       int // reactions that are kept
}

// op is one change of one message.
type op struct {
	at      bus.Position
	channel id.ID
	message id.ID
}

// shelf is one channel of the overlay.
type shelf struct {
	items   map[id.ID]*item
	created []id.ID       // created above floor, in order; deleted ones too
	deleted int           // how many of items are deleted
	pins    map[id.ID]pin // the latest change of each above floor; nil for none
}

// item is one message of which something changed above floor.
type item struct {
	author  id.ID
	changed bus.Position // the latest create or edit, where the body stands in the log; zero when there was none
	deleted bus.Position // zero: it is not
	body    []byte       // the entry's payload; nil: let go of, it stands in the log at changed

	reactions []reaction // changes above floor, in order
}

// above says whether anything of it stands above mark.
func (it *item) above(mark bus.Position) bool {
	return mark.Less(it.changed) || mark.Less(it.deleted) || len(it.reactions) > 0
}

func newOverlay(bytesMax, idBytesMax int) *overlay {
	return &overlay{bytesMax: bytesMax, idBytesMax: idBytesMax, channels: map[id.ID]*shelf{}}
}

// apply takes what the tail brings. What cannot be read is passed over: it is for the writer to set aside.
func (o *overlay) apply(entries []bus.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range entries {
		if !o.tip.Less(e.Pos) {
			continue // a tail that was started again begins at the checkpoint
		}
		o.tip = e.Pos
		if !o.floor.Less(e.Pos) {
			continue
		}
		if err := o.applyOne(e); err != nil {
			malformedTotal.Inc()
		}
	}
	o.shed()
}

func (o *overlay) applyOne(e bus.Entry) error {
	switch e.Type {
	case wire.MessageSent:
		message, ok := idOf(e.Pos)
		if !ok {
			return &malformed{at: e.Pos}
		}
		s := o.shelf(e.Channel)
		s.created = append(s.created, message)
		o.change(s, e, message, e.Actor)
	case wire.MessageUpdated, wire.PinsUpdated:
		return o.update(e)
	case wire.ReactionAdded, wire.ReactionRemoved, wire.ReactionsCleared:
		r, err := reactionOf(e)
		if err != nil {
			return err
		}
		o.react(o.shelf(e.Channel), e, r)
	case wire.MessageDeleted:
		messages, err := deletedOf(e)
		if err != nil {
			return err
		}
		for _, message := range messages {
			o.remove(o.shelf(e.Channel), e, message)
		}
	}
	return nil
}

func (o *overlay) update(e bus.Entry) error {
	message, author, err := updatedOf(e)
	if err != nil {
		return err
	}
	var p pin
	if e.Type == wire.PinsUpdated {
		if p, err = pinOf(e); err != nil {
			return err
		}
	}
	s := o.shelf(e.Channel)
	if p.message != 0 {
		if s.pins == nil {
			s.pins = map[id.ID]pin{}
		}
		s.pins[message] = p
	}
	o.change(s, e, message, author)
	return nil
}

func (o *overlay) shelf(channel id.ID) *shelf {
	s := o.channels[channel]
	if s == nil {
		s = &shelf{items: map[id.ID]*item{}}
		o.channels[channel] = s
	}
	return s
}

func (s *shelf) gone(message id.ID) bool {
	it := s.items[message]
	return it != nil && !it.deleted.IsZero()
}

// item is the message that e changes, which becomes an op. As long as the op stands above floor, the item does too.
func (o *overlay) item(s *shelf, e bus.Entry, message id.ID) *item {
	it := s.items[message]
	if it == nil {
		it = new(item)
		s.items[message] = it
		o.messages++
	}
	o.ops = append(o.ops, op{at: e.Pos, channel: e.Channel, message: message})
	return it
}

func (o *overlay) change(s *shelf, e bus.Entry, message, author id.ID) {
	if s.gone(message) {
		return // the log refuses it; an edit never brings a message back
	}
	it := o.item(s, e, message)
	o.bytes += len(e.Body) - len(it.body)
	it.author, it.changed, it.body = author, e.Pos, e.Body
}

func (o *overlay) react(s *shelf, e bus.Entry, r reaction) {
	if s.gone(r.message) {
		return
	}
	it := o.item(s, e, r.message)
	it.reactions = append(it.reactions, r)
	o.reacted++
}

func (o *overlay) remove(s *shelf, e bus.Entry, message id.ID) {
	if s.gone(message) {
		return
	}
	it := o.item(s, e, message)
	o.bytes -= len(it.body)
	o.reacted -= len(it.reactions)
	it.deleted, it.body, it.reactions = e.Pos, nil, nil
	s.deleted++
}

// shed lets go of the oldest bodies while there are too many bytes, and of the oldest changes likewise. Reads are nearly always about
// the newest.
func (o *overlay) shed() {
	for o.idBytes() > o.idBytesMax && o.first < len(o.ops) {
		if o.forgotten.IsZero() {
			o.forgotten = o.ops[o.first].at
		}
		have := len(o.ops) - o.first
		o.raise(o.ops[o.first].at)
		forgottenTotal.Add(have - (len(o.ops) - o.first))
	}
	for ; o.bytes > o.bytesMax && o.bodied < len(o.ops); o.bodied++ {
		p := o.ops[o.bodied]
		it := o.channels[p.channel].items[p.message]
		if it.changed == p.at {
			o.bytes -= len(it.body)
			it.body = nil
		}
	}
}

func (o *overlay) idBytes() int {
	return (len(o.ops)-o.first)*opBytes + o.messages*itemBytes + o.reacted*reactionBytes + len(o.channels)*shelfBytes
}

// prune lets go of what is committed, and raises the floor to there.
func (o *overlay) prune(mark bus.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.committed.Less(mark) {
		o.committed = mark
	}
	if o.floor.Less(mark) {
		o.raise(mark)
	}
	if !o.committed.Less(o.floor) {
		o.forgotten = bus.Position{}
	}
}

// raise lets go of everything up to a higher floor.
func (o *overlay) raise(mark bus.Position) {
	o.floor = mark
	for o.first < len(o.ops) && !mark.Less(o.ops[o.first].at) {
		o.drop(o.ops[o.first], mark)
		o.first++
	}
	o.bodied = max(o.bodied, o.first)
	// Moving the rest down only when it is the smaller part keeps the cost per entry constant.
	if o.first > len(o.ops)/2 {
		n := copy(o.ops, o.ops[o.first:])
		o.ops = o.ops[:n]
		o.bodied -= o.first
		o.first = 0
		if cap(o.ops) > 4*n+1024 {
			o.ops = slices.Clone(o.ops) // what an outage needed is given back
		}
	}
}

func (o *overlay) drop(p op, mark bus.Position) {
	s := o.channels[p.channel]
	if s == nil {
		return // everything of the channel is gone already
	}
	if len(s.created) > 0 && s.created[0] == p.message {
		s.created = s.created[1:]
	}
	if pin, ok := s.pins[p.message]; ok && !mark.Less(bus.PositionOf(pin.place)) {
		delete(s.pins, p.message)
	}
	it := s.items[p.message]
	if it == nil {
		return // gone with another of its changes
	}
	for len(it.reactions) > 0 && !mark.Less(bus.PositionOf(it.reactions[0].place)) {
		it.reactions = it.reactions[1:]
		o.reacted--
	}
	if !it.changed.IsZero() && !mark.Less(it.changed) {
		o.bytes -= len(it.body)
		it.changed, it.body = bus.Position{}, nil
	}
	if it.above(mark) {
		return
	}
	if !it.deleted.IsZero() {
		s.deleted--
	}
	delete(s.items, p.message)
	o.messages--
	if len(s.items) == 0 {
		delete(o.channels, p.channel)
	}
}

// reset begins anew above mark, when what the tail has brought is not the log any more, and says where what it had above mark stood. Until
// the tail has passed whole, there may be messages that it does not have.
func (o *overlay) reset(mark, whole bus.Position) (had []bus.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.ops[o.first:] {
		if mark.Less(p.at) {
			had = append(had, p.at)
		}
	}
	o.committed, o.floor, o.tip, o.whole = mark, mark, mark, whole
	o.forgotten = bus.Position{}
	o.resets++
	o.channels = map[id.ID]*shelf{}
	o.ops, o.first, o.bodied, o.messages, o.bytes, o.reacted = nil, 0, 0, 0, 0, 0
	return had
}

// state is how often the overlay was begun anew, and whether it has everything: a read is right if both are the same before and after.
func (o *overlay) state() (resets int, isWhole bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.resets, !o.tip.Less(o.whole)
}

// overlayStats is for the gauges.
type overlayStats struct {
	ops, messages  int
	bytes, idBytes int
	oldest         bus.Position // zero: everything is committed
}

func (o *overlay) stats() overlayStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := overlayStats{ops: len(o.ops) - o.first, messages: o.messages, bytes: o.bytes, idBytes: o.idBytes()}
	switch {
	case !o.forgotten.IsZero():
		s.oldest = o.forgotten
	case s.ops > 0:
		s.oldest = o.ops[o.first].at
	}
	return s
}

// found is a message that a read has found. Its body is in one of three places.
type found struct {
	id, author id.ID
	body       []byte       // from a row: the message itself
	payload    []byte       // from the overlay: the payload of the entry at
	at         bus.Position // with neither, the entry to read
	edited     id.ID        // of a row: the place of its latest edit
}

// window is what a read of the history asks for: at most lower messages with ids below below, next to it, and at most
// upper messages from from on, next to it.
type window struct {
	below id.ID
	lower int
	from  id.ID
	upper int
}

// page is what Postgres has in a window, read in one snapshot with the checkpoint. lowerAll and upperAll say that there is
// nothing more on that side.
type page struct {
	mark               bus.Position
	lower, upper       []found // lower descending, upper ascending
	lowerAll, upperAll bool
}

// checkpoint is the latest one that it has heard of.
func (o *overlay) checkpoint() bus.Position {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.committed
}

// forgets says that rows as of mark lack changes that are not known here any more.
func (o *overlay) forgets(mark bus.Position) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.forgotten.IsZero() && mark.Less(o.floor)
}

// deletions is how many messages of a channel are deleted above the floor: so many rows more than wanted are to be read.
func (o *overlay) deletions(channel id.ID) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.channels[channel]; s != nil {
		return s.deleted
	}
	return 0
}

// alone answers a window from the overlay, newest first; ok is false when rows are needed too.
func (o *overlay) alone(channel id.ID, w window) (messages []found, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.channels[channel]
	if s == nil {
		return nil, false
	}
	// Everything that was created above the floor is here.
	if w.upper > 0 && !o.floor.Less(bus.PositionOf(w.from)) {
		return nil, false
	}
	lower := s.lower(nil, w, o.floor)
	if len(lower) < w.lower {
		return nil, false
	}
	return newestFirst(s.upper(nil, w, o.floor), lower), true
}

// lay lays the overlay over a page, newest first; ok is false when the page is too old or too short and has to be read again.
func (o *overlay) lay(channel id.ID, w window, p page) (messages []found, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.mark.Less(o.floor) {
		return nil, false
	}
	s := o.channels[channel]
	if s == nil {
		s = new(shelf)
	}
	// Everything in the overlay that was created above the mark is newer than every row.
	lower := s.lower(nil, w, p.mark)
	for _, row := range p.lower {
		if len(lower) == w.lower {
			break
		}
		if p.mark.Less(bus.PositionOf(row.id)) {
			continue // a dead letter was replayed before the checkpoint has passed it; it is above
		}
		lower = s.add(lower, row, p.mark)
	}
	if len(lower) < w.lower && !p.lowerAll {
		return nil, false
	}
	var upper []found
	for _, row := range p.upper {
		if len(upper) == w.upper {
			break
		}
		if p.mark.Less(bus.PositionOf(row.id)) {
			p.upperAll = true // as above, and every row up to the mark has been seen
			break
		}
		upper = s.add(upper, row, p.mark)
	}
	if len(upper) < w.upper {
		if !p.upperAll {
			return nil, false
		}
		upper = s.upper(upper, w, p.mark)
	}
	return newestFirst(upper, lower), true
}

// lower adds messages created above mark with ids below w.below, newest first, up to w.lower.
func (s *shelf) lower(to []found, w window, mark bus.Position) []found {
	end := sort.Search(len(s.created), func(i int) bool { return s.created[i] >= w.below })
	for i := end - 1; i >= 0 && len(to) < w.lower && mark.Less(bus.PositionOf(s.created[i])); i-- {
		to = s.addCreated(to, s.created[i])
	}
	return to
}

// upper adds messages created above mark with ids from w.from on, oldest first, up to w.upper.
func (s *shelf) upper(to []found, w window, mark bus.Position) []found {
	i := sort.Search(len(s.created), func(i int) bool {
		return s.created[i] >= w.from && mark.Less(bus.PositionOf(s.created[i]))
	})
	for ; i < len(s.created) && len(to) < w.upper; i++ {
		to = s.addCreated(to, s.created[i])
	}
	return to
}

func (s *shelf) addCreated(to []found, message id.ID) []found {
	it := s.items[message]
	if !it.deleted.IsZero() {
		return to
	}
	return append(to, found{id: message, author: it.author, payload: it.body, at: it.changed})
}

// add adds a row as it is now, unless it has been deleted since mark.
func (s *shelf) add(to []found, row found, mark bus.Position) []found {
	it := s.items[row.id]
	switch {
	case it == nil:
		return append(to, row)
	case mark.Less(it.deleted):
		return to
	case mark.Less(it.changed):
		row.body, row.payload, row.at = nil, it.body, it.changed
	}
	return append(to, row)
}

func newestFirst(upper, lower []found) []found {
	slices.Reverse(upper)
	return append(upper, lower...)
}

// look says what the overlay knows of one message: known is false when it was not written, rewritten or deleted above the floor, and then
// rows that are read from now on are right.
func (o *overlay) look(channel, message id.ID) (m found, deleted, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.channels[channel]
	if s == nil || s.items[message] == nil {
		return found{}, false, false
	}
	it := s.items[message]
	isDeleted := !it.deleted.IsZero()
	return found{id: message, author: it.author, payload: it.body, at: it.changed}, isDeleted, isDeleted || !it.changed.IsZero()
}

// reactions are the changes of the reactions under messages above the floor, and older are those that were created below it: of these there
// may be rows.
func (o *overlay) reactions(channel id.ID, messages []found) (changes map[id.ID][]reaction, older []id.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	changes = map[id.ID][]reaction{}
	s := o.channels[channel]
	for _, m := range messages {
		if !o.floor.Less(bus.PositionOf(m.id)) {
			older = append(older, m.id)
		}
		if s != nil && s.items[m.id] != nil {
			changes[m.id] = slices.Clone(s.items[m.id].reactions)
		}
	}
	return changes, older
}

// pins are the changes of a channel's pins above the floor.
func (o *overlay) pins(channel id.ID) (changes []pin) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.channels[channel]; s != nil {
		for _, p := range s.pins {
			changes = append(changes, p)
		}
	}
	return changes
}
