package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/redis/rueidis"
)

// locate finds out what the group was given last.
func (g *Group) locate(ctx context.Context) error {
	delivered, read, err := g.given(ctx)
	if err != nil {
		return err
	}
	state, err := g.log.Check(ctx, delivered)
	if err != nil {
		return err
	}
	g.at, g.epoch = state.cursorAt(delivered), state.Epoch
	switch {
	case delivered == state.Last, delivered.IsZero(), delivered.Less(state.Began), state.has[0]:
	case read >= 0:
		g.at.spare = read
	default:
		// The log is trimmed in front of what the group was given last. That this is gone was somebody else's doing, and what else went
		// with it cannot be counted.
		g.at.spare--
	}
	return nil
}

// given is what the group was given last, and how many entries stand up to there; -1 when Redis does not know.
func (g *Group) given(ctx context.Context) (delivered Position, read int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.log.config.CallTimeout)
	defer cancel()
	client := g.log.redis
	groups, err := client.Do(ctx, client.B().XinfoGroups().Key(streamKey()).Build()).ToArray()
	if err != nil {
		return Position{}, 0, err
	}
	for i := range groups {
		info, err := groups[i].AsMap()
		if err != nil {
			return Position{}, 0, fmt.Errorf("look at a group: %w", err)
		}
		if name, err := ptr(info["name"]).ToString(); err != nil || name != g.config.Name {
			continue
		}
		last, err := ptr(info["last-delivered-id"]).ToString()
		if err != nil {
			return Position{}, 0, fmt.Errorf("look at group %s: %w", g.config.Name, err)
		}
		if read, err = ptr(info["entries-read"]).AsInt64(); err != nil {
			read = -1
		}
		delivered, err = ParsePosition(last)
		return delivered, read, err
	}
	return Position{}, 0, errNoGroup
}

// errNoGroup: somebody has destroyed it, or the log is another one.
var errNoGroup = errors.New("the group is not there")

// follow notices entries that the group was never given and that are gone.
func (g *Group) follow(ctx context.Context, s State, raw []rueidis.XRangeSlice) {
	if s.Epoch != g.epoch || !s.Open {
		g.epoch = ""
		return
	}
	lost := s.missed(g.at)
	g.at.spare, g.at.deleted = g.at.spare+lost, s.deleted
	if len(raw) > 0 {
		if last, err := ParsePosition(raw[len(raw)-1].ID); err == nil {
			g.at = g.at.moved(last, len(raw), s)
		}
	}
	if lost == 0 {
		return
	}
	lostEntries.Add(int(lost))
	slog.Error("entries were lost: the log was trimmed before they were stored", "group", g.config.Name, "entries", lost,
		"read", g.at.pos.String(), "first", s.First.String())
	g.recount(ctx)
}

// recount tells Redis how many entries stand up to what the group was given last, which it has not counted over the hole. Else whoever has
// the lead next would count the same loss again.
func (g *Group) recount(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, g.log.config.CallTimeout)
	defer cancel()
	client := g.log.redis
	err := client.Do(ctx, client.B().XgroupSetid().Key(streamKey()).Group(g.config.Name).Id(g.at.pos.String()).
		Entriesread(g.at.spare).Build()).Error()
	if err != nil {
		slog.Warn("group cannot be counted anew", "group", g.config.Name, "err", err)
	}
}
