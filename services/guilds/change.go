package guilds

import (
	"context"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

var (
	changedTotal   = metrics.NewCounter(`xcord_guilds_changes_total{result="changed"}`)
	unchangedTotal = metrics.NewCounter(`xcord_guilds_changes_total{result="unchanged"}`)
	refusedTotal   = metrics.NewCounter(`xcord_guilds_changes_total{result="refused"}`)
	changeTime     = metrics.NewPrometheusHistogram(`xcord_guilds_change_seconds`)
)

// scope names the guild that a change belongs to, and what has to be known to judge it.
type scope struct {
	guild id.ID
	// missing is the fault when the guild is gone; 0 is 10004.
	missing fault.Code
	// users are those whose records are wanted besides the actor's.
	users []id.ID
	// joins is the user who is to become a member; 0 is nobody.
	joins id.ID
	// reason is what the actor says for the audit log.
	reason string
}

// change is one version of a guild in the making: its row is locked, and everything here is as of the version before.
type change struct {
	tx    transaction
	user  id.ID // who asks
	guild *roster.Guild
	// actor is the asking user's record, nil when they are not a member.
	actor   *wire.MemberRecord
	members map[id.ID]*wire.MemberRecord
}

// event is what a change does, for the log and for the guild's audit log. One without a kind says that nothing is to be changed.
type event struct {
	kind          wire.EventType
	channel, user id.ID
	payload       any
	audit         []note
}

// change runs do with the guild locked, and answers when what do did is in the log. A fault or an empty event from do
// leaves everything as it was.
func (s *Service) change(c *rest.Call, in scope, do func(ctx context.Context, w *change) (event, error)) error {
	in.reason = c.Reason()
	return s.changeAs(c.Context(), c.User(), in, do)
}

// changeAs is change by somebody who has not asked for it.
func (s *Service) changeAs(ctx context.Context, user id.ID, in scope, do func(ctx context.Context, w *change) (event, error)) error {
	start := time.Now()
	release, err := s.turns.take(ctx, in.guild)
	if err != nil {
		return err
	}
	defer release() // after Settle: who comes next finds the read model at its version
	if err := s.outbox.Ready(ctx); err != nil {
		return err
	}
	var entry bus.Entry
	err = s.store.transact(ctx, func(tx transaction) (commit bool, err error) {
		w, err := s.begin(ctx, tx, user, in)
		if err != nil {
			return false, err
		}
		e, err := do(ctx, w)
		if err != nil || e.kind == "" {
			return false, err
		}
		notes := auditNotes(e.audit, user, in.reason, w.guild.Version+1)
		if err := insertAudit(ctx, tx, in.guild, notes); err != nil {
			return false, err
		}
		entry = entryOf(e, in.guild, user, w.guild.Version+1, notes...)
		if err := setVersion(ctx, tx, in.guild, entry.Version); err != nil {
			return false, err
		}
		return true, s.outbox.Record(ctx, tx, entry)
	})
	return s.conclude(ctx, start, entry, err)
}

// conclude counts a change whose transaction has ended with err, and answers when its entry is in the log; one without a version changed
// nothing.
func (s *Service) conclude(ctx context.Context, start time.Time, entry bus.Entry, err error) error {
	switch {
	case err != nil:
		refusedTotal.Inc()
		return err
	case entry.Version == 0:
		unchangedTotal.Inc()
		return nil
	}
	if _, err := s.outbox.Settle(ctx, entry); err != nil {
		return err
	}
	changedTotal.Inc()
	changeTime.UpdateDuration(start)
	return nil
}

// begin locks the guild and reads the read model at exactly the locked version.
func (s *Service) begin(ctx context.Context, tx transaction, user id.ID, in scope) (*change, error) {
	if in.joins != 0 {
		if err := lockUser(ctx, tx, in.joins); err != nil {
			return nil, err
		}
	}
	if in.missing == 0 {
		in.missing = fault.UnknownGuild
	}
	version, err := lockGuild(ctx, tx, in.guild, in.missing)
	if err != nil {
		return nil, err
	}
	users := append([]id.ID{user}, in.users...)
	state, err := s.roster.LookGuild(ctx, in.guild, users...)
	if err != nil {
		return nil, err
	}
	if state.Guild == nil || state.Guild.Version < version {
		// Somebody committed and did not get to the log. It has to be there before what follows from it.
		if err := s.outbox.CatchUpGuild(ctx, tx, in.guild); err != nil {
			return nil, err
		}
		if state, err = s.roster.LookGuild(ctx, in.guild, users...); err != nil {
			return nil, err
		}
	}
	if state.Guild == nil || state.Guild.Version != version {
		return nil, fault.Unavailable(fmt.Errorf("guild %s is at version %d in the store and not in the read model", in.guild, version), 0)
	}
	return &change{tx: tx, user: user, guild: state.Guild, actor: state.Members[user], members: state.Members}, nil
}

func entryOf(e event, guild, actor id.ID, version int64, notes ...wire.AuditNote) bus.Entry {
	body, err := wire.WithAudit(encode(e.payload), notes)
	if err != nil {
		panic("BUG: notes do not encode: " + err.Error())
	}
	return bus.Entry{Type: e.kind, Actor: actor, Guild: guild, Channel: e.channel, User: e.user, Version: version, Body: body}
}

// may answers what the actor may do in the guild as a whole, or 10004 to a stranger, or 50013 when need is not in it.
func (w *change) may(need perm.Bits) (perm.Bits, error) {
	if w.actor == nil {
		return 0, fault.New(fault.UnknownGuild)
	}
	bits := w.guild.Base(w.actor)
	if !bits.Has(need) {
		return 0, fault.New(fault.MissingPermissions)
	}
	return bits, nil
}

// mayIn answers a channel and what the actor may do there, or 10003 when there is none, 50001 when they cannot see it,
// 50013 when need is not in it.
func (w *change) mayIn(channel id.ID, need perm.Bits) (*wire.Channel, perm.Bits, error) {
	ch := w.guild.Channels[channel]
	if ch == nil {
		return nil, 0, fault.New(fault.UnknownChannel)
	}
	if w.actor == nil {
		return nil, 0, fault.New(fault.MissingAccess)
	}
	bits := w.guild.Permissions(w.actor, channel)
	if !bits.Has(perm.ViewChannel) {
		return nil, 0, fault.New(fault.MissingAccess)
	}
	if !bits.Has(need) {
		return nil, 0, fault.New(fault.MissingPermissions)
	}
	return ch, bits, nil
}

// holds answers 50013 when somebody with the permissions own would touch others than those.
func holds(own, touched perm.Bits) error {
	if touched&^own != 0 {
		return fault.New(fault.MissingPermissions)
	}
	return nil
}

// turns lets one change of a guild begin at a time in this process, so that those who wait for a busy guild wait here
// and do not hold connections to the database, of which there are few.
type turns []chan struct{}

// turnsCount is well above the number of connections; guilds that share a turn only wait for each other.
const turnsCount = 256

func newTurns() turns {
	t := make(turns, turnsCount)
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

// take waits for a guild's turn; release gives it back.
func (t turns) take(ctx context.Context, guild id.ID) (release func(), err error) {
	// Multiplied by 2^64 over the golden ratio: the high bits depend on all bits of the id.
	turn := t[uint64(guild)*0x9E3779B97F4A7C15>>56]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fault.Unavailable(fmt.Errorf("wait for guild %s: %w", guild, ctx.Err()), 0)
	}
}
