package auth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// lines are the actions in the audit log, oldest first.
func (b bundle) lines() (actions []string) {
	b.t.Helper()
	const q = `select coalesce(array_agg(action order by id), '{}') from audit`
	if err := b.pool.QueryRow(b.ctx, q).Scan(&actions); err != nil {
		b.t.Fatal(err)
	}
	return actions
}

func TestAudit_IsOnlyEverAddedTo(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := b.service.store
	if err := s.change(b.ctx, func(ctx context.Context, tx transaction) error {
		return audit(ctx, tx, auditEvent{Action: "test.done", Target: 5, Address: "::1", Details: map[string]string{"how": "well"}})
	}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`update audit set actor = 6`, `update audit set actor = 6 where false`, `delete from audit`, `truncate audit`, `truncate audit cascade`,
	} {
		if _, err := b.pool.Exec(b.ctx, q); err == nil {
			t.Errorf("%s: it was done", q)
		}
	}
	if got := b.lines(); len(got) != 1 || got[0] != "test.done" {
		t.Errorf("got %v", got)
	}
}

// TestAudit_ForgetsWhatIsOld, and nothing that is young, whoever asks.
func TestAudit_ForgetsWhatIsOld(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const insert = `insert into audit (at, actor, action, target, address, details) select now() - make_interval(days => $2), 0, $1, 0, '', '{}' from generate_series(1, $3)`
	for _, l := range []struct {
		action  string
		days, n int
	}{{"test.old", 91, auditBatch + 1}, {"test.young", 89, 1}} {
		if _, err := b.pool.Exec(b.ctx, insert, l.action, l.days, l.n); err != nil {
			t.Fatal(err)
		}
	}
	s := b.service.store
	if err := s.forget(b.ctx, time.Hour); err == nil {
		t.Error("a young line was deleted")
	}
	if got := b.lines(); !slices.Contains(got, "test.young") {
		t.Errorf("left are %v", got)
	}
	if err := s.forget(b.ctx, AuditKeepMin); err != nil {
		t.Fatal(err)
	}
	if got := b.lines(); !slices.Equal(got, []string{"test.young"}) {
		t.Errorf("left are %d lines", len(got))
	}
}

func TestAudit_IsNotThereWithoutWhatItTells(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	undone := errors.New("undone")
	err := b.service.store.change(b.ctx, func(ctx context.Context, tx transaction) error {
		return errors.Join(audit(ctx, tx, auditEvent{Action: "test.done"}), undone)
	})
	if got := b.lines(); !errors.Is(err, undone) || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAudit_HasLogins(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.register("ada")
	if _, err := b.client.Login(b.ctx, "ada", password); err != nil {
		t.Fatal(err)
	}
	for _, login := range []string{"ada", "nobody"} {
		_, err := b.client.Login(b.ctx, login, "wrong password")
		b.wantField(err, "login", codeInvalidLogin)
	}
	want := []string{string(auditRegistered), string(auditLoggedIn), string(auditLoginRefused), string(auditLoginRefused)}
	if got := b.lines(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
