package messaging

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

var (
	readRetries = metrics.NewCounter(`xcord_messaging_read_retries_total`)
	readLate    = metrics.NewCounter(`xcord_messaging_reads_late_total`)

	readForgotten = metrics.NewCounter(`xcord_messaging_reads_forgotten_total`)
)

// behindRetry is when to come again for what has yet to be stored: the writer is hundreds of thousands of entries behind then.
const behindRetry = 5 * time.Second

// pageTries is how often a page is read that the overlay has moved past: once is rare, and each time takes a prune or a
// delete within the milliseconds of a query.
const pageTries = 5

// bodyReads is how many bodies are fetched from the log at once for a page that the overlay has only ids of.
const bodyReads = 8

// errTrimmed: an entry has been committed and trimmed since the overlay named it. Reading again finds the row.
var errTrimmed = errors.New("the entry is not in the log any more")

// listMessages is a page of the history, newest first.
func (s *Service) listMessages(c *rest.Call, in wire.ListMessages) (rest.Raw, error) {
	ctx := c.Context()
	w, err := windowOf(in)
	if err != nil {
		return nil, err
	}
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel)
	if err != nil {
		return nil, err
	}
	if err := mustText(grant.Channel); err != nil {
		return nil, err
	}
	if !grant.Perms.Has(perm.ReadMessageHistory) {
		return rest.Raw("[]"), nil
	}
	messages, err := s.read(ctx, grant.Channel.ID, w)
	if err != nil {
		return nil, err
	}
	return s.render(ctx, c.User(), grant.Channel.ID, messages)
}

// getMessage is one message.
func (s *Service) getMessage(c *rest.Call, _ rest.None) (rest.Raw, error) {
	ctx := c.Context()
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.ReadMessageHistory)
	if err != nil {
		return nil, err
	}
	m, err := s.find(ctx, grant.Channel.ID, c.ID("message"))
	if err != nil {
		return nil, err
	}
	r, err := s.renderer(ctx, c.User(), grant.Channel.ID, []found{m})
	if err != nil {
		return nil, err
	}
	return r.append(nil, m)
}

// windowOf is what a query asks for. The message around which one is asked belongs to the newer half.
func windowOf(in wire.ListMessages) (window, error) {
	limit := wire.HistoryPage
	if in.Limit != nil {
		limit = *in.Limit
	}
	anchors := 0
	for _, a := range []id.ID{in.Around, in.Before, in.After} {
		if a != 0 {
			anchors++
		}
	}
	switch {
	case anchors > 1:
		return window{}, fault.Invalid(fault.Field{
			Path: "before", Code: fault.FieldChoices, Message: "Only one of around, before and after may be given",
		})
	case in.Before != 0:
		return window{below: sane(in.Before), lower: limit}, nil
	case in.After != 0:
		return window{from: sane(in.After) + 1, upper: limit}, nil
	case in.Around != 0:
		around := sane(in.Around)
		return window{below: around, lower: limit / 2, from: around, upper: limit - limit/2}, nil
	}
	return window{below: math.MaxInt64, lower: limit}, nil
}

// sane keeps an anchor within what a bigint holds; no message is newer than that.
func sane(anchor id.ID) id.ID { return min(anchor, math.MaxInt64-1) }

// catchUp waits until this process has seen what the log holds now: every write that was answered before this read.
func (s *Service) catchUp(ctx context.Context) error {
	_, err := s.caughtUp(ctx)
	return err
}

// caughtUp is catchUp, and says up to where.
func (s *Service) caughtUp(ctx context.Context) (bus.Position, error) {
	last, err := s.log.Last(ctx)
	if err != nil {
		return bus.Position{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.ReadWait)
	defer cancel()
	if err := s.tail.WaitFor(ctx, last); err != nil {
		readLate.Inc()
		return bus.Position{}, fault.Unavailable(err, time.Second)
	}
	return last, nil
}

// read is a window of a channel as of now, newest first, with all bodies. The caller has caught up.
func (s *Service) read(ctx context.Context, channel id.ID, w window) ([]found, error) {
	for range pageTries {
		resets, err := s.whole()
		if err != nil {
			return nil, err
		}
		messages, ok := s.overlay.alone(channel, w)
		if !ok {
			if messages, ok, err = s.readRows(ctx, channel, w); err != nil {
				return nil, err
			}
			if !ok {
				readRetries.Inc()
				continue
			}
		}
		messages, err = s.bodies(ctx, messages)
		if now, _ := s.overlay.state(); errors.Is(err, errTrimmed) || now != resets {
			readRetries.Inc()
			continue
		}
		return messages, err
	}
	return nil, fault.Unavailable(fmt.Errorf("channel %s changed %d times while it was read", channel, pageTries), time.Second)
}

// whole answers how often the overlay was begun anew, or 503 while it does not have everything.
func (s *Service) whole() (resets int, err error) {
	resets, ok := s.overlay.state()
	if !ok {
		readLate.Inc()
		return 0, fault.Unavailable(errors.New("the overlay is being made anew"), time.Second)
	}
	return resets, nil
}

// readRows lays dead letters over rows, and the overlay over both; ok is false when something has changed meanwhile.
func (s *Service) readRows(ctx context.Context, channel id.ID, w window) (messages []found, ok bool, err error) {
	floor := s.overlay.checkpoint()
	dead, err := s.graves.view(ctx)
	if err != nil {
		return nil, false, err
	}
	rows, err := s.store.page(ctx, channel, w, s.overlay.deletions(channel)+dead.deletions(channel))
	if err != nil {
		return nil, false, err
	}
	if messages, ok = s.overlay.lay(channel, w, dead.lay(channel, w, rows)); !ok {
		return nil, false, s.mustRemember(rows.mark)
	}
	ok, err = s.graves.still(ctx, dead, floor, rows.mark)
	return messages, ok, err
}

// mustRemember answers 503 when what came after mark has been forgotten here: it is in the log, and readable again when it is in
// Postgres.
func (s *Service) mustRemember(mark bus.Position) error {
	if !s.overlay.forgets(mark) {
		return nil
	}
	readForgotten.Inc()
	return fault.Unavailable(fmt.Errorf("rows as of %s are too old: Postgres is too far behind", mark), behindRetry)
}

// find is one message as of now, or 10008. The caller has caught up.
func (s *Service) find(ctx context.Context, channel, message id.ID) (found, error) {
	one, err := s.findAll(ctx, channel, []id.ID{message})
	if err != nil {
		return found{}, err
	}
	if len(one) == 0 {
		return found{}, fault.New(fault.UnknownMessage)
	}
	return one[0], nil
}

// findAll is those of some messages that there are now, in any order. The caller has caught up.
func (s *Service) findAll(ctx context.Context, channel id.ID, messages []id.ID) ([]found, error) {
	for range pageTries {
		resets, err := s.whole()
		if err != nil {
			return nil, err
		}
		there, ok, err := s.look(ctx, channel, messages)
		if err != nil {
			return nil, err
		}
		if ok {
			there, err = s.bodies(ctx, there)
		}
		if now, _ := s.overlay.state(); !ok || errors.Is(err, errTrimmed) || now != resets {
			readRetries.Inc()
			continue
		}
		return there, err
	}
	return nil, fault.Unavailable(fmt.Errorf("messages of %s changed %d times while they were read", channel, pageTries), time.Second)
}

// look is what the overlay has of messages, and findRows of the others; ok is false when something has changed meanwhile.
func (s *Service) look(ctx context.Context, channel id.ID, messages []id.ID) (there []found, ok bool, err error) {
	var below []id.ID
	for _, message := range messages {
		m, deleted, known := s.overlay.look(channel, message)
		switch {
		case !known:
			below = append(below, message)
		case !deleted:
			there = append(there, m)
		}
	}
	if len(below) == 0 {
		return there, true, nil
	}
	rows, ok, err := s.findRows(ctx, channel, below)
	return append(there, rows...), ok, err
}

// findRows is messages below the overlay: the dead letters over their rows. ok is false when something has changed meanwhile.
func (s *Service) findRows(ctx context.Context, channel id.ID, messages []id.ID) (there []found, ok bool, err error) {
	floor := s.overlay.checkpoint()
	dead, err := s.graves.view(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, message := range messages {
		if _, _, known := s.overlay.look(channel, message); known {
			return nil, false, nil // changed since it was asked
		}
	}
	if err := s.mustRemember(s.overlay.checkpoint()); err != nil {
		return nil, false, err
	}
	rows, err := s.store.messages(ctx, channel, messages)
	if err != nil {
		return nil, false, err
	}
	for _, message := range messages {
		row, isRow := rows[message]
		row.id = message
		m, known := dead.over(channel, row, isRow)
		if !known && dead.partial() {
			if m, known, err = s.graves.created(ctx, channel, message); err != nil {
				return nil, false, err
			}
		}
		if known {
			there = append(there, m)
		}
	}
	ok, err = s.graves.still(ctx, dead, floor, s.overlay.checkpoint())
	return there, ok, err
}

// bodies fills in what the overlay has only the payload or the position of. A payload that cannot be read is left out: the writer
// sets it aside.
func (s *Service) bodies(ctx context.Context, messages []found) ([]found, error) {
	g, readCtx := errgroup.WithContext(ctx)
	g.SetLimit(bodyReads)
	for i := range messages {
		m := &messages[i]
		if m.body != nil || m.payload != nil {
			continue
		}
		g.Go(func() error {
			e, ok, err := s.log.Read(readCtx, m.at)
			if err == nil && !ok {
				err = errTrimmed
			}
			m.payload = e.Body
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	kept := messages[:0]
	for _, m := range messages {
		if m.body == nil {
			body, err := bodyOf(m.at, m.payload)
			if err != nil {
				malformedTotal.Inc()
				continue
			}
			m.body = body
		}
		kept = append(kept, m)
	}
	return kept, nil
}

// render writes messages of a channel as a JSON array.
func (s *Service) render(ctx context.Context, reader, channel id.ID, messages []found) (rest.Raw, error) {
	r, err := s.renderer(ctx, reader, channel, messages)
	if err != nil {
		return nil, err
	}
	size := len("[]")
	for _, m := range messages {
		size += len(m.body) + renderOverhead
	}
	out := append(make(rest.Raw, 0, size), '[')
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = r.append(out, m); err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

// renderer is what messages are told with besides their bodies: each author and each message that is answered as they are now, and the
// reactions as the reader sees them.
type renderer struct {
	authors   map[id.ID][]byte
	replies   map[id.ID][]byte // bodies of replies, with what they answer as it is now
	reactions map[id.ID][]wire.Reaction
}

func (s *Service) renderer(ctx context.Context, reader, channel id.ID, messages []found) (r renderer, err error) {
	if r.replies, err = s.refer(ctx, channel, messages); err != nil {
		return renderer{}, err
	}
	ids := make([]id.ID, 0, len(messages))
	for _, m := range messages {
		ids = append(ids, m.author)
	}
	users, err := s.roster.Users(ctx, ids)
	if err != nil {
		return renderer{}, err
	}
	r.authors = make(map[id.ID][]byte, len(users))
	for user, u := range users {
		r.authors[user] = roster.UserJSON(u)
	}
	r.reactions, err = s.reactions(ctx, channel, reader, messages)
	return r, err
}

func (r renderer) append(to []byte, m found) ([]byte, error) {
	body := m.body
	if reply, ok := r.replies[m.id]; ok {
		body = reply
	}
	return wire.AppendReactions(wire.AppendMessage(to, m.id, r.authors[m.author], body), r.reactions[m.id])
}

// renderOverhead is about what id, timestamp and author take, so that a page is allocated once.
const renderOverhead = 320
