package messaging

import (
	"context"
	"errors"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/wire"
)

var (
	replayedTotal = metrics.NewCounter(`xcord_bus_dead_letters_replayed_total`)
	droppedTotal  = metrics.NewCounter(`xcord_bus_dead_letters_dropped_total`)
)

// outcome is what became of one dead letter.
type outcome struct {
	letter bus.Letter
	err    error // nil: it is done, and no dead letter any more
}

// unitTries is how often a unit is made again because something has joined it meanwhile.
const unitTries = 10

// replay applies dead letters by the writer's own statements, under their original ids, and takes them out. A create takes
// with it what waits for it, in the order of the log, and so does whatever waits for a create. A letter that fails again stays. The
// error is an outage; outcomes before it are good.
func (g *graves) replay(ctx context.Context, s store, at []bus.Position) ([]outcome, error) {
	return g.settle(ctx, at, func(ctx context.Context, unit []bus.Letter) error {
		entries := make([]bus.Entry, len(unit))
		for i, l := range unit {
			if l.Undecoded != nil {
				return l.Undecoded
			}
			entries[i] = l.Entry
		}
		return apply(ctx, s, entries)
	}, nil, replayedTotal)
}

// drop forgets dead letters. A create takes with it what waits for it, and then deletes among that are applied: they
// may be about other messages, too, and are never forgotten by the way.
func (g *graves) drop(ctx context.Context, s store, at []bus.Position) ([]outcome, error) {
	chosen := map[bus.Position]bool{}
	for _, p := range at {
		chosen[p] = true
	}
	return g.settle(ctx, at, func(ctx context.Context, unit []bus.Letter) error {
		var deletes []bus.Entry
		for _, l := range unit {
			if l.Undecoded == nil && l.Entry.Type == wire.MessageDeleted && !chosen[l.Entry.Pos] {
				deletes = append(deletes, l.Entry)
			}
		}
		return apply(ctx, s, deletes)
	}, func(l bus.Letter) bool { return isChange(l.Entry) }, droppedTotal)
}

func apply(ctx context.Context, s store, entries []bus.Entry) error {
	b, err := fold(entries)
	if err != nil || b.isEmpty() {
		return err
	}
	w, err := s.replay(ctx, b)
	if err != nil {
		return err
	}
	w.count()
	return nil
}

// settle does the units of the chosen letters, one after the other. alone says of which letters the unit is only the letter itself.
func (g *graves) settle(ctx context.Context, at []bus.Position, do func(context.Context, []bus.Letter) error,
	alone func(bus.Letter) bool, done *metrics.Counter,
) (out []outcome, err error) {
	finished := map[bus.Position]bool{}
	for _, p := range at {
		for try := 0; !finished[p]; try++ {
			unit, err := g.unit(ctx, p, alone)
			if err != nil {
				return out, err
			}
			if len(unit) == 0 {
				break // done by somebody else
			}
			failed := do(ctx, unit)
			if failed != nil && !isData(failed) && !isUndecoded(unit) {
				return out, failed
			}
			if failed == nil {
				_, err := g.dead.Remove(ctx, positions(unit))
				if errors.Is(err, bus.ErrWaiting) && try < unitTries {
					continue // something has come to wait meanwhile; what is applied is applied again, which changes nothing
				}
				if err != nil {
					return out, err
				}
				done.Add(len(unit))
			}
			for _, l := range unit {
				finished[l.Entry.Pos] = true
				out = append(out, outcome{l, failed})
			}
		}
	}
	return out, nil
}

func isUndecoded(unit []bus.Letter) bool {
	return slices.ContainsFunc(unit, func(l bus.Letter) bool { return l.Undecoded != nil })
}

func positions(unit []bus.Letter) []bus.Position {
	out := make([]bus.Position, len(unit))
	for i, l := range unit {
		out[i] = l.Entry.Pos
	}
	return out
}

// unit is the letters that belong together with one, in the order of the log; none when it is not there any more. They are looked for
// from one to the next, and not among all: an order may be about very many.
func (g *graves) unit(ctx context.Context, at bus.Position, alone func(bus.Letter) bool) ([]bus.Letter, error) {
	first, ok, err := g.dead.Get(ctx, at)
	if err != nil || !ok {
		return nil, err
	}
	if alone != nil && alone(first) {
		return []bus.Letter{first}, nil
	}
	in := map[bus.Position]bool{at: true}
	unit := []bus.Letter{first}
	for i := 0; i < len(unit); i++ {
		others, err := g.related(ctx, unit[i])
		if err != nil {
			return nil, err
		}
		for _, l := range others {
			if !in[l.Entry.Pos] {
				in[l.Entry.Pos] = true
				unit = append(unit, l)
			}
		}
	}
	slices.SortFunc(unit, func(a, b bus.Letter) int { return a.Entry.Pos.Compare(b.Entry.Pos) })
	return unit, nil
}

// related are the creates that a letter waits for, or what waits for a create.
func (g *graves) related(ctx context.Context, l bus.Letter) (letters []bus.Letter, err error) {
	if l.Behind.IsZero() {
		return g.dead.Waiting(ctx, l.Entry.Pos)
	}
	for _, message := range changed(l.Entry) {
		create, ok, err := g.dead.Get(ctx, bus.PositionOf(message))
		if err != nil {
			return nil, err
		}
		if ok {
			letters = append(letters, create)
		}
	}
	return letters, nil
}
