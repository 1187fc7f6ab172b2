package guilds

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// cleared brings a moderator's delete into the log, as the messaging service does.
func (b *bundle) cleared(g id.ID, reason string) bus.Entry {
	b.t.Helper()
	body, err := wire.WithAudit(encode(wire.MessageDeletedPayload{IDs: []id.ID{7}}), []wire.AuditNote{
		{Action: wire.AuditMessageDelete, Actor: mod, Target: alice, Reason: reason, Options: map[string]string{"channel_id": "5", "count": "1"}}})
	b.must(err)
	e := bus.Entry{Type: wire.MessageDeleted, Actor: mod, Guild: g, Channel: 5, Body: body}
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: e})
	b.must(err)
	e.Pos = got.Pos
	return e
}

// scribed is what the audit log has of moderators' deletes, the newest first.
func (b *bundle) scribed(g id.ID) (reasons []string) {
	b.t.Helper()
	for _, n := range b.audit(g, "?limit=100").Entries {
		if n.Action == wire.AuditMessageDelete {
			reasons = append(reasons, n.Reason)
		}
	}
	return reasons
}

func TestScribe_WritesWhatTheHotPathSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	tail := bus.NewTail(b.log, func(context.Context) (bus.Position, error) { return bus.Position{}, nil })
	tail.Subscribe(b.service.HandleEntries)
	b.must(tail.Start(t.Context()))
	t.Cleanup(tail.Stop)
	e := b.cleared(g.ID, "spam")
	b.must(tail.WaitFor(t.Context(), e.Pos))
	b.must(b.service.scribeNow(t.Context()))
	out := b.audit(g.ID, "")
	want := wire.AuditNote{ID: bus.MessageID(e.Pos), Action: wire.AuditMessageDelete, Actor: mod, Target: alice, Reason: "spam",
		Options: map[string]string{"channel_id": "5", "count": "1"}}
	if diff := cmp.Diff(want, out.Entries[0]); diff != "" || len(out.Users) != 2 {
		t.Errorf("%v %s", out.Users, diff)
	}
}

// TestScribe_GoesOnAfterACrash from the mark, out of the log, and writes nothing twice.
func TestScribe_GoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.service.Stop() // what follows is by hand
	g := b.guild()
	tell := func(s *Service, entries ...bus.Entry) { b.must(s.HandleEntries(t.Context(), entries)) }
	process := func() *Service {
		return New(Config{}, Deps{Pool: b.pool, IDs: b.service.ids, Log: b.log, Roster: b.roster, Outbox: b.outbox, Presence: b.presence, Sealer: newSealer(t)})
	}
	one := process()
	b.must(one.scribeNow(t.Context())) // without a tail
	tell(one, b.cleared(g.ID, "1"))
	b.must(one.scribeNow(t.Context()))
	two := b.cleared(g.ID, "2")
	tell(one, two) // and is killed
	missed := b.cleared(g.ID, "3")
	next := process()
	tell(next, missed)
	b.must(next.scribeNow(t.Context()))
	if diff := cmp.Diff([]string{"3", "2", "1"}, b.scribed(g.ID)); diff != "" {
		t.Error(diff)
	}
	// Who is slow comes last, and takes nothing back.
	b.must(one.scribeNow(t.Context()))
	if mark, err := next.store.auditMark(t.Context()); mark != missed.Pos || err != nil {
		t.Errorf("the mark is at %s, want %s, %v", mark, missed.Pos, err)
	}
	// More than it keeps are read again.
	var want []string
	for i := range scribePending + 2 {
		e := b.cleared(g.ID, fmt.Sprint(i))
		tell(next, e)
		want = append(want, e.Pos.String())
	}
	b.must(next.scribeNow(t.Context()))
	if n := b.count(`SELECT count(*) FROM guild_audit WHERE action = 72`); n != 3+len(want) {
		t.Errorf("%d notes, want %d", n, 3+len(want))
	}
}
