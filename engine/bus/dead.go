package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/wire"
)

var (
	buriedTotal = metrics.NewCounter(`xcord_bus_dead_letters_total`)
	parkedTotal = metrics.NewCounter(`xcord_bus_dead_letters_parked_total`)
	leftOut     = metrics.NewCounter(`xcord_bus_left_out_entries_total`)
)

// errorMax bounds what a dead letter says about its cause.
const errorMax = 1000

// grave is why an entry is set aside.
type grave struct {
	cause    error
	attempts int
	behind   Position // the dead letter that it waits for; zero when it is at fault itself
}

func (g *Group) buryEntry(ctx context.Context, e Entry, why grave) error {
	_, err := g.bury(ctx, e.Pos.String(), e.appendFields(nil), why)
	return err
}

// bury sets an entry aside in the group's dead letters under its own id and lets go of it, in one step; a group that leaves out what it
// cannot store only lets go of it. ok is false when the entry was to wait for a dead letter that is not there.
func (g *Group) bury(ctx context.Context, at string, fields []string, why grave) (ok bool, err error) {
	if g.config.LeavesOut {
		leftOut.Inc()
		slog.Error("entry left out", "group", g.config.Name, "entry", at, "err", why.cause, "attempts", why.attempts)
		return true, g.ackIDs(ctx, []string{at})
	}
	client := g.log.redis
	reason := why.cause.Error()
	if len(reason) > errorMax {
		reason = reason[:errorMax]
	}
	args := []string{
		g.config.Name, at, "",
		"group", g.config.Name, "error", strings.ToValidUTF8(reason, "?"), "attempts", strconv.Itoa(why.attempts),
		"buried_ms", strconv.FormatInt(time.Now().UnixMilli(), 10),
	}
	if !why.behind.IsZero() {
		args[2] = why.behind.String()
		args = append(args, "behind", args[2])
	}
	cmd := client.B().Fcall().Function("xcord_bury").Numkeys(3).
		Key(streamKey(), deadKey(g.config.Name), notesKey(g.config.Name)).Arg(append(args, fields...)...).Build().Pin()
	reply := ""
	err = g.insist(ctx, func(ctx context.Context) (err error) {
		reply, err = client.Do(ctx, cmd).ToString()
		return err
	})
	switch {
	case err != nil:
		return false, fmt.Errorf("bury entry %s: %w", at, err)
	case reply == "!free":
		return false, nil
	case reply == "=":
		return true, nil
	}
	buriedTotal.Inc()
	if !why.behind.IsZero() {
		parkedTotal.Inc()
		slog.Warn("entry waits for a dead letter", "group", g.config.Name, "entry", at, "behind", why.behind.String())
		return true, nil
	}
	slog.Error("entry buried", "group", g.config.Name, "entry", at, "err", why.cause, "attempts", why.attempts)
	return true, nil
}

// Letter is one dead letter: an entry that was set aside, under its own id, and why.
type Letter struct {
	// Entry is the original. Its Pos is always set, the rest as far as it can be read.
	Entry Entry
	// Undecoded is why the entry cannot be read by this binary, or nil.
	Undecoded error
	Group     string
	Error     string
	// Attempts is how often it was tried; 0 when it only waits.
	Attempts int
	Buried   time.Time
	// Behind is the dead letter that this one waits for; zero when it is at fault itself.
	Behind Position
}

// LetterFilter chooses dead letters. The zero value is all of them.
type LetterFilter struct {
	Error    string         // a part of the error
	Type     wire.EventType // of the entry
	From, To Position       // both included; zero is open
	After    Position       // go on behind this one
	Limit    int            // default 100
}

// scanMax is how many dead letters one List looks at, so that a filter which matches none does not hold a caller for long.
const scanMax = 10_000

// scanStep is how many of them one command reads.
const scanStep = 200

// Dead is the dead letters of a group. Safe for concurrent use.
type Dead struct {
	log   *Log
	group string
}

// Dead gives access to the dead letters of a group.
func (l *Log) Dead(group string) *Dead { return &Dead{log: l, group: group} }

// List returns dead letters in the order of the log. next is where to go on, zero at the end; there may be more also when fewer
// than the limit came.
func (d *Dead) List(ctx context.Context, f LetterFilter) (letters []Letter, next Position, err error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	from, to := "-", "+"
	if !f.From.IsZero() {
		from = f.From.String()
	}
	if !f.To.IsZero() {
		to = f.To.String()
	}
	if f.From.Less(f.After) || f.From == f.After && !f.After.IsZero() {
		from = "(" + f.After.String()
	}
	for seen := 0; seen < scanMax; {
		raw, err := d.scan(ctx, from, to)
		if err != nil {
			return nil, Position{}, err
		}
		for _, r := range raw {
			l, err := letterOf(r)
			if err != nil {
				return nil, Position{}, err
			}
			next = l.Entry.Pos
			if f.matches(l) {
				letters = append(letters, l)
			}
			if len(letters) == f.Limit {
				return letters, next, nil
			}
		}
		if len(raw) < scanStep {
			return letters, Position{}, nil
		}
		seen += len(raw)
		from = "(" + next.String()
	}
	return letters, next, nil
}

func (d *Dead) scan(ctx context.Context, from, to string) ([]rueidis.XRangeSlice, error) {
	ctx, cancel := context.WithTimeout(ctx, d.log.config.CallTimeout)
	defer cancel()
	client := d.log.redis
	raw, err := client.Do(ctx, client.B().Xrange().Key(deadKey(d.group)).Start(from).End(to).Count(scanStep).Build()).AsXRangeSlices()
	if err != nil {
		return nil, unavailable("read dead letters", err)
	}
	return raw, nil
}

func (f LetterFilter) matches(l Letter) bool {
	return (f.Type == "" || f.Type == l.Entry.Type) && strings.Contains(l.Error, f.Error)
}

// Latest returns the newest dead letters, oldest first.
func (d *Dead) Latest(ctx context.Context, limit int) ([]Letter, error) {
	var letters []Letter
	from := "+"
	for len(letters) < limit {
		n := min(limit-len(letters), scanStep)
		raw, err := d.scanBack(ctx, from, n)
		if err != nil {
			return nil, err
		}
		for _, r := range raw {
			l, err := letterOf(r)
			if err != nil {
				return nil, err
			}
			letters = append(letters, l)
		}
		if len(raw) < n {
			break
		}
		from = "(" + raw[len(raw)-1].ID
	}
	for i, j := 0, len(letters)-1; i < j; i, j = i+1, j-1 {
		letters[i], letters[j] = letters[j], letters[i]
	}
	return letters, nil
}

func (d *Dead) scanBack(ctx context.Context, from string, n int) ([]rueidis.XRangeSlice, error) {
	ctx, cancel := context.WithTimeout(ctx, d.log.config.CallTimeout)
	defer cancel()
	client := d.log.redis
	raw, err := client.Do(ctx, client.B().Xrevrange().Key(deadKey(d.group)).End(from).Start("-").Count(int64(n)).Build()).AsXRangeSlices()
	if err != nil {
		return nil, unavailable("read dead letters", err)
	}
	return raw, nil
}

// Get returns the dead letter of an entry; ok is false when there is none.
func (d *Dead) Get(ctx context.Context, at Position) (l Letter, ok bool, err error) {
	raw, err := d.scan(ctx, at.String(), at.String())
	if err != nil || len(raw) == 0 {
		return Letter{}, false, err
	}
	l, err = letterOf(raw[0])
	return l, err == nil, err
}

// Has says which of some entries are dead letters.
func (d *Dead) Has(ctx context.Context, at []Position) (map[Position]bool, error) {
	ops := make([]Op, len(at))
	for i, p := range at {
		ops[i] = Op{Command: "XRANGE", Key: deadKey(d.group), Args: []string{p.String(), p.String()}}
	}
	_, replies, err := d.log.Look(ctx, ops)
	if err != nil {
		return nil, err
	}
	has := map[Position]bool{}
	for i := range replies {
		found, err := replies[i].ToArray()
		if err != nil {
			return nil, fmt.Errorf("look for dead letters: %w", err)
		}
		has[at[i]] = len(found) > 0
	}
	return has, nil
}

// Waiting returns the dead letters that wait for the one at a position, in the order of the log. The notes say how many there are, so
// it looks no further than the last of them, and nowhere when there are none.
func (d *Dead) Waiting(ctx context.Context, at Position) (letters []Letter, err error) {
	_, replies, err := d.log.Look(ctx, []Op{{Command: "HGET", Key: notesKey(d.group), Args: []string{at.String()}}})
	if err != nil {
		return nil, err
	}
	want, err := replies[0].AsInt64()
	if err != nil && !rueidis.IsRedisNil(err) {
		return nil, fmt.Errorf("count who waits for a dead letter: %w", err)
	}
	for after := at; int64(len(letters)) < want; {
		raw, err := d.scan(ctx, "("+after.String(), "+")
		if err != nil {
			return nil, err
		}
		for _, r := range raw {
			l, err := letterOf(r)
			if err != nil {
				return nil, err
			}
			if after = l.Entry.Pos; l.Behind == at {
				letters = append(letters, l)
			}
		}
		if len(raw) < scanStep {
			break // some were taken out meanwhile
		}
	}
	return letters, nil
}

// State is how many dead letters there are, and a mark that is another one after every change of them.
func (d *Dead) State(ctx context.Context) (n int, mark string, err error) {
	_, replies, err := d.log.Look(ctx, []Op{
		{Command: "XLEN", Key: deadKey(d.group)}, {Command: "HGET", Key: notesKey(d.group), Args: []string{"v"}},
	})
	if err != nil {
		return 0, "", err
	}
	count, err := replies[0].AsInt64()
	if err != nil {
		return 0, "", fmt.Errorf("count dead letters: %w", err)
	}
	changes, err := replies[1].ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return 0, "", fmt.Errorf("count dead letters: %w", err)
	}
	return int(count), changes + "/" + strconv.FormatInt(count, 10), nil
}

// ErrWaiting means that other dead letters wait for one that was to be taken out.
var ErrWaiting = errors.New("other dead letters wait for this one")

// Remove takes dead letters out, all or none, and says how many there were. It answers ErrWaiting when others wait for one of
// them that are not taken out with it.
func (d *Dead) Remove(ctx context.Context, at []Position) (int, error) {
	if len(at) == 0 {
		return 0, nil
	}
	seen := make(map[Position]bool, len(at))
	var ids []string
	for _, p := range at {
		if !seen[p] {
			seen[p] = true
			ids = append(ids, p.String())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.log.config.CallTimeout)
	defer cancel()
	client := d.log.redis
	n, err := client.Do(ctx, client.B().Fcall().Function("xcord_exhume").Numkeys(2).
		Key(deadKey(d.group), notesKey(d.group)).Arg(ids...).Build()).AsInt64()
	switch {
	case err != nil:
		return 0, unavailable("take out dead letters", err)
	case n < 0:
		return 0, ErrWaiting
	}
	return int(n), nil
}

// letterOf reads a dead letter. Only an id that is none is an error: whatever else is wrong is what the letter is about.
func letterOf(raw rueidis.XRangeSlice) (Letter, error) {
	var l Letter
	l.Entry, l.Undecoded = decode(raw)
	at, err := ParsePosition(raw.ID)
	if err != nil {
		return Letter{}, err
	}
	l.Entry.Pos = at
	for _, f := range raw.FieldValues {
		switch f.Field {
		case "group":
			l.Group = f.Value
		case "error":
			l.Error = f.Value
		case "attempts":
			l.Attempts, _ = strconv.Atoi(f.Value) // 0 when somebody else wrote it
		case "buried_ms":
			ms, _ := strconv.ParseInt(f.Value, 10, 64) // 1970, likewise
			l.Buried = time.UnixMilli(ms)
		case "behind":
			l.Behind, _ = ParsePosition(f.Value) // none, likewise
		}
	}
	return l, nil
}
