package bus

import (
	"context"
	"errors"
	"time"

	"github.com/xcord/xcord/engine/id"
)

// What Publish answers to a change of a set.
var (
	// ErrSame means that the change would change nothing; so there is nothing to publish.
	ErrSame = errors.New("the set is like that already")
	// ErrNewKind means that there is no such kind yet, and there may be no new one.
	ErrNewKind = errors.New("the set has no such kind")
	// ErrFull means that the set has as many kinds as there may be.
	ErrFull = errors.New("the set has as many kinds as it may have")
)

// UnloadedError means that the set is not in Redis: read what is in it, with all that is in the log by now, and give it to
// LoadSet with the ticket.
type UnloadedError struct{ Ticket string }

func (e *UnloadedError) Error() string { return "the set is not loaded" }

// setTTL is how long a set stays after its latest change. It must be well above the half minute for which a ticket is good.
const setTTL = time.Hour

// Change says what is done to a set.
type Change string

// The changes of a set. SetClear takes out a kind, or with no kind all there is.
const (
	SetAdd    Change = "add"
	SetRemove Change = "remove"
	SetClear  Change = "clear"
)

// SetChange is a change of a set of members by kinds, which is in Redis for as long as it is used and decides, in the step that appends, what
// is published: only what changes it. It is loaded on first use, by whoever knows what is in it; Publish then answers *UnloadedError, and
// else ErrSame, ErrNewKind or ErrFull.
type SetChange struct {
	Key          string // from SetKey
	Change       Change
	Kind, Member string
	// KindsMax is how many kinds there may be after an Add; 0: only those that there are.
	KindsMax int
}

// SetMember is one member of a set.
type SetMember struct{ Kind, Member string }

// SetKey is the key of a set.
func SetKey(name string, i id.ID) string { return Key(name, i) }

// LoadSet fills a set with what was in it when the log ended at or above the place where it ended when the ticket was given. When something
// has changed since, or somebody else was faster, it does nothing; the publish that follows says what is to be done then.
func (l *Log) LoadSet(ctx context.Context, key, ticket string, members []SetMember) error {
	args := append(make([]string, 0, 2+2*len(members)), ticket, seconds(setTTL))
	for _, m := range members {
		args = append(args, m.Kind, m.Member)
	}
	cmd := l.redis.B().Fcall().Function("xcord_load").Numkeys(2).Key(key, epochKey()).Arg(args...).Build()
	err := l.breaker.do(ctx, l.config.CallTimeout, func(ctx context.Context) error { return l.redis.Do(ctx, cmd).Error() })
	if err != nil {
		return unavailable("load a set", err)
	}
	return nil
}
