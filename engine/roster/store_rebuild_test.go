package roster

import (
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// rebuild makes the read model anew from nothing but the outbox.
func (b bundle) rebuild(t *testing.T) error {
	t.Helper()
	state := b.state(t)
	return Rebuild(t.Context(), b.log, b.pool, Rebuilding{Epoch: state.Epoch, Least: state.Last.Ms + 1}, nil)
}

func (b bundle) state(t *testing.T) bus.State {
	t.Helper()
	state, err := b.log.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (b bundle) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// TestRebuild_OpensTheLogWhenTheOutboxKnowsOfIt: what the rows contain would else be brought into the log once more.
func TestRebuild_OpensTheLogWhenTheOutboxKnowsOfIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated())
	b.record(t, joined(2, alice))
	b.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$`)
	b.exec(t, `CREATE TRIGGER refuse BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()`)
	if err := b.rebuild(t); err == nil || b.state(t).Open {
		t.Errorf("got %v, and the log is open: %v", err, b.state(t).Open)
	}
	b.exec(t, `DROP TRIGGER refuse ON outbox`)
	if err := b.rebuild(t); err != nil || !b.state(t).Open {
		t.Errorf("got %v, and the log is open: %v", err, b.state(t).Open)
	}
	var left int
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE version = 2 AND applied_at IS NULL`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows are to be brought into the log, %v", left, err)
	}
}

// TestRebuild_KnowsWhoIsGone: who had not left all guilds by then has to leave them all the same.
func TestRebuild_KnowsWhoIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, entry(wire.UserCreated, 1, alice, wire.UserChangedPayload{User: wire.User{ID: alice, Username: "alice"}}))
	b.settle(t, entry(wire.UserDeleted, 2, alice, wire.UserDeletedPayload{UserID: alice}))
	b.settle(t, serverCreated(), entry(wire.ServerDeleted, 2, 0, wire.ServerDeletedPayload{GuildID: guild}))
	if err := b.rebuild(t); err != nil {
		t.Fatal(err)
	}
	if gone, err := b.roster.Gone(t.Context(), []id.ID{alice, bob}); err != nil || len(gone) != 1 || gone[0] != alice {
		t.Errorf("gone: %v, %v", gone, err)
	}
	// A late repeat of an older entry is known as one.
	if pos, err := b.outbox.apply(t.Context(), serverCreated()); err != nil || !pos.IsZero() {
		t.Errorf("a deleted guild was made again at %s, %v", pos, err)
	}
}

// TestHandleCut_RefusesWhatWasReadBeforeIt, however late that comes to be kept.
func TestHandleCut_RefusesWhatWasReadBeforeIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.settle(t, serverCreated(), joined(2, alice))
	read, err := b.roster.LookGuild(t.Context(), guild, alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.rebuild(t); err != nil {
		t.Fatal(err)
	}
	state := b.state(t)
	if err := b.roster.HandleCut(t.Context(), bus.Cut{Epoch: state.Epoch, Behind: state.Last}); err != nil {
		t.Fatal(err)
	}
	// The tail begins anew in front of the cut.
	if err := b.roster.HandleEntries(t.Context(), []bus.Entry{{Pos: read.Pos}}); err != nil {
		t.Fatal(err)
	}
	if b.roster.keep(guild, alice, read) {
		t.Error("a guild of the former epoch is kept")
	}
}
