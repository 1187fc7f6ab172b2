package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/wire"
)

var (
	epochChanges = metrics.NewCounter(`xcord_log_epoch_changes_total`)
	lostEntries  = metrics.NewCounter(`xcord_stream_lost_entries_total`)
)

// errClosed: the log is gone, or is being made ready for its next epoch.
var errClosed = errors.New("the log is closed")

// State is how the log stands at one moment.
type State struct {
	// Epoch is random and the log's own: another one means another log, in which no position of the former means anything.
	Epoch string
	// Open says that there is a log. Without one everything is refused.
	Open bool
	// Began is where the epoch began. What was written before it is not missed.
	Began Position
	// Last is the latest position, First that of the oldest entry, zero when the log is empty.
	Last, First Position

	added, length int64    // entries ever, and now
	deleted       Position // the highest that was taken out by hand
	has           []bool   // of the positions that were asked for
}

// removed is how many entries have gone from the log.
func (s State) removed() int64 { return s.added - s.length }

// Check looks at the log, and whether the entries at some positions are in it.
func (l *Log) Check(ctx context.Context, at ...Position) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	state, err := stateOf(l.redis.Do(ctx, l.check(at...)))
	if err != nil {
		return State{}, unavailable("check the log", err)
	}
	return state, nil
}

// Missing is how many of some entries are not in the log.
func (l *Log) Missing(ctx context.Context, at []Position) (n int, err error) {
	for step := range slices.Chunk(at, checkStep) {
		state, err := l.Check(ctx, step...)
		if err != nil {
			return n, err
		}
		for i := range step {
			if i >= len(state.has) || !state.has[i] {
				n++
			}
		}
	}
	return n, nil
}

// checkStep bounds one check to a fraction of a millisecond.
const checkStep = 500

func (l *Log) check(at ...Position) rueidis.Completed {
	ids := make([]string, len(at))
	for i, p := range at {
		ids[i] = p.String()
	}
	return l.redis.B().FcallRo().Function("xcord_check").Numkeys(2).Key(streamKey(), epochKey()).Arg(ids...).Build()
}

func stateOf(reply rueidis.RedisResult) (s State, err error) {
	parts, err := reply.ToArray()
	if err != nil {
		return State{}, err
	}
	position := func(part rueidis.RedisMessage) Position {
		text, err1 := part.ToString()
		if err1 != nil || text == "" {
			err = errors.Join(err, err1)
			return Position{}
		}
		p, err1 := ParsePosition(text)
		err = errors.Join(err, err1)
		return p
	}
	number := func(part rueidis.RedisMessage) int64 {
		n, err1 := part.AsInt64()
		err = errors.Join(err, err1)
		return n
	}
	last, err1 := parts[1].ToString()
	s.Epoch, err = parts[0].ToString()
	err = errors.Join(err, err1)
	s.Open = last != "" && s.Epoch != ""
	if _, began, ok := strings.Cut(s.Epoch, "@"); ok {
		s.Began, err1 = ParsePosition(began)
		err = errors.Join(err, err1)
	}
	s.Last, s.First, s.deleted = position(parts[1]), position(parts[2]), position(parts[5])
	s.added, s.length = number(parts[3]), number(parts[4])
	for _, part := range parts[6:] {
		s.has = append(s.has, number(part) > 0)
	}
	return s, err
}

// Torn says whether the entry that was asked for as number i should be in the log and is not: it was there, and the log has lost its
// tail since. One that was trimmed is not missed.
func (s State) Torn(i int, at Position) bool {
	if !s.Open {
		return true
	}
	if at.Less(s.Began) || at.IsZero() || at == s.Last || s.has[i] {
		return false
	}
	gone := at.Less(s.First) || s.First.IsZero() || !s.deleted.Less(at)
	return s.Last.Less(at) || !gone
}

// cursor is a place up to which somebody has read the log.
type cursor struct {
	pos Position
	// spare is how many entries may go from the log before one goes that stands behind pos: so many stand up to it, at least.
	spare int64
	// deleted is the highest place from which something is known to have been taken by hand.
	deleted Position
}

// cursorAt is a cursor for who begins at pos, whatever has gone before.
func (s State) cursorAt(pos Position) cursor {
	c := cursor{pos: pos, spare: s.removed(), deleted: s.deleted}
	if pos == s.Last {
		c.spare = s.added
	}
	return c
}

// moved is the cursor behind n more entries, the last of which stands at pos, as of a check after they were read.
func (c cursor) moved(pos Position, n int, s State) cursor {
	c.pos, c.spare, c.deleted = pos, c.spare+int64(n), s.deleted
	if pos == s.Last {
		c.spare = s.added
	}
	return c
}

// missed is how many entries behind a cursor have gone from the log, at least; the check asked for the cursor's own entry. Entries that
// were read before the check are missed by nobody, and what goes first is at the front: so 0 means that whatever was read
// from the cursor on is complete.
func (s State) missed(c cursor) int64 {
	if c.deleted.Less(s.deleted) && c.pos.Less(s.deleted) && s.deleted.Seq <= seqMax {
		return 1
	}
	if s.has[0] || c.pos == s.Last {
		return 0
	}
	return max(0, s.removed()-c.spare)
}

// seqMax is the highest sequence that an entry keeps: what is above is taken out by the log itself and added anew.
const seqMax = 4095

// Load loads the log's functions. The admin client needs FUNCTION LOAD.
func Load(ctx context.Context, admin rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := admin.Do(ctx, admin.B().FunctionLoad().Replace().FunctionCode(library).Build()).Error(); err != nil {
		return fmt.Errorf("load the log's functions: %w", err)
	}
	return nil
}

// Install loads the functions, and makes a log where there is none. It is for who has no rows from which a read model would have to be
// rebuilt.
func (l *Log) Install(ctx context.Context, admin rueidis.Client) error {
	if err := Load(ctx, admin); err != nil {
		return err
	}
	_, err := l.Begin(ctx, 0)
	return err
}

// Close ends the present epoch if that is still the one given ("" when there is none), and says whether it is closed: then nothing is
// published, applied or looked at until Begin.
func (l *Log) Close(ctx context.Context, epoch string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	n, err := l.redis.Do(ctx, l.redis.B().Fcall().Function("xcord_close").Numkeys(3).
		Key(streamKey(), asideKey(), epochKey()).Arg(epoch).Build()).AsInt64()
	if err != nil {
		return false, unavailable("close the log", err)
	}
	return n == 1, nil
}

// Begin opens a closed log with a new epoch, whose ids are of least (in ms) or above, and of course above all that are in it. With least
// 0 a log that was never used begins. It answers the epoch that there is now, which is another one when somebody else was faster.
func (l *Log) Begin(ctx context.Context, least uint64) (epoch string, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	name := randomNonce()
	entry := Entry{Type: wire.EpochBegan, Body: []byte(`{"epoch":"` + name + `"}`)}
	args := entry.appendFields([]string{name, strconv.FormatUint(least, 10)})
	epoch, err = l.redis.Do(ctx, l.redis.B().Fcall().Function("xcord_begin").Numkeys(3).
		Key(streamKey(), asideKey(), epochKey()).Arg(args...).Build()).ToString()
	if err != nil {
		return "", unavailable("begin an epoch", err)
	}
	if least > 0 && strings.HasPrefix(epoch, name) {
		epochChanges.Inc()
		slog.Error("the log has begun a new epoch: what it had lost is lost, and all sessions begin anew", "epoch", epoch)
	}
	return epoch, nil
}

// Rebuild changes the read model of a closed log, in as many steps as there are groups of operations. It answers an error when the log
// is not closed (any more).
func (l *Log) Rebuild(ctx context.Context, steps [][]Op) error {
	ctx, cancel := context.WithTimeout(ctx, rebuildTimeout)
	defer cancel()
	commands := make(rueidis.Commands, len(steps))
	for i, ops := range steps {
		keys, args := appendOps([]string{streamKey()}, nil, ops)
		commands[i] = l.redis.B().Fcall().Function("xcord_rebuild").Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	}
	for _, reply := range l.redis.DoMulti(ctx, commands...) {
		n, err := reply.AsInt64()
		if err != nil {
			return unavailable("rebuild the read model", err)
		}
		if n != 1 {
			return errors.New("rebuild the read model: the log is not closed any more")
		}
	}
	return nil
}

// rebuildTimeout bounds some hundred steps; one of 1,000 operations takes Redis a few milliseconds.
const rebuildTimeout = 30 * time.Second

// Keys returns the keys of some kinds in the log's shard (see Key), a page at a time; the cursor of the last page is 0.
func (l *Log) Keys(ctx context.Context, kind string, from uint64) (keys []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	page, err := l.redis.Do(ctx, l.redis.B().Scan().Cursor(from).Match(kind+":"+shardTag+":*").Count(scanKeys).Build()).AsScanEntry()
	if err != nil {
		return nil, 0, unavailable("scan keys", err)
	}
	return page.Elements, page.Cursor, nil
}

// scanKeys is how many keys one step looks at: a fraction of a millisecond.
const scanKeys = 1000

// IsUnprepared says of an error that Redis does not know the functions: it is another one, or came back with nothing.
func IsUnprepared(err error) bool {
	reply, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.Contains(reply.Error(), "Function not found")
}
