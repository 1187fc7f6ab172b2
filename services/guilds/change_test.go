package guilds

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

func TestChange_ConcurrentOnesOfTwoProcessesMakeContiguousVersions(t *testing.T) {
	t.Parallel()
	const writers, each = 20, 5
	first := setup(t)
	other := *first
	other.serve(Config{})
	g := first.guild()
	var wg sync.WaitGroup
	for w := range writers {
		b := first
		if w%2 == 1 {
			b = &other
		}
		wg.Go(func() {
			for n := range each {
				switch w % 3 {
				case 0:
					b.want(200, owner, "PATCH", path("/guilds/%s", g.ID), fmt.Sprintf(`{"name":"house %d %d"}`, w, n))
				case 1:
					b.want(201, owner, "POST", path("/guilds/%s/channels", g.ID), `{"name":"c"}`)
				default:
					b.want(200, owner, "POST", path("/guilds/%s/roles", g.ID), `{}`)
				}
			}
		})
	}
	wg.Wait()
	first.contiguous(g.ID, 1+writers*each)
	if v := first.version(g.ID); v != 1+writers*each {
		t.Errorf("the row is at version %d", v)
	}
}

// breaking is a route whose change takes the log away after everything has been judged and before COMMIT.
func breaking(stop func()) rest.Route[*Service] {
	return rest.POST("/guilds/{guild}/break", func(s *Service, c *rest.Call, _ rest.None) (rest.None, error) {
		return rest.None{}, s.change(c, scope{guild: c.ID("guild")}, func(ctx context.Context, w *change) (event, error) {
			m := w.guild.Meta
			m.Name = "late"
			stop()
			return event{kind: wire.ServerUpdated, payload: wire.ServerUpdatedPayload{Guild: m}}, updateGuildRow(ctx, w.tx, &m)
		})
	})
}

// broken is a guild at version 2 in its row, which was answered 503, and version 1 in the log, which is away.
func broken(t *testing.T) (*bundle, wire.Guild) {
	t.Helper()
	var b *bundle
	b = setup(t, breaking(func() { b.redis.Stop() }))
	g := b.guild()
	b.want(503, owner, "POST", path("/guilds/%s/break", g.ID), "")
	if v := b.version(g.ID); v != 2 {
		t.Fatalf("the row is at version %d", v)
	}
	b.want(503, owner, "PATCH", path("/guilds/%s", g.ID), `{"name":"never"}`)
	b.want(503, owner, "POST", "/guilds", `{"name":"never"}`)
	if n := b.count(`SELECT count(*) FROM guilds WHERE name = 'never'`); n != 0 {
		t.Error("with the log away something was changed")
	}
	return b, g
}

// mend brings the log back, and waits until it is asked again.
func (b *bundle) mend() {
	b.t.Helper()
	b.must(b.redis.Start(b.t.Context()))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := b.log.Last(b.t.Context()); err == nil || b.t.Context().Err() != nil {
			break
		}
	}
}

func TestChange_CommittedWithoutTheLogIsRelayedLater(t *testing.T) {
	t.Parallel()
	b, g := broken(t)
	b.mend()
	b.must(b.outbox.Start(t.Context()))
	all := b.contiguous(g.ID, 2) // waits for the relay
	if all[1].Type != wire.ServerUpdated {
		t.Errorf("the second entry is %s", all[1].Type)
	}
	if read := get[wire.Guild](b, 200, owner, "GET", path("/guilds/%s", g.ID), ""); read.Name != "late" {
		t.Errorf("the guild is called %s", read.Name)
	}
}

func TestChange_CommittedWithoutTheLogComesBeforeTheNextChange(t *testing.T) {
	t.Parallel()
	b, g := broken(t)
	b.mend()
	r := get[wire.Role](b, 200, owner, "POST", path("/guilds/%s/roles", g.ID), `{"name":"next"}`)
	all := b.contiguous(g.ID, 3)
	if all[1].Type != wire.ServerUpdated || all[2].Type != wire.RoleCreated {
		t.Errorf("entries %s, %s", all[1].Type, all[2].Type)
	}
	read := get[wire.Guild](b, 200, owner, "GET", path("/guilds/%s", g.ID), "")
	if read.Name != "late" || read.Roles[1].ID != r.ID {
		t.Errorf("the guild is %+v", read)
	}
}

func TestChange_RefusedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	failing := rest.POST("/guilds/{guild}/break", func(s *Service, c *rest.Call, _ rest.None) (rest.None, error) {
		return rest.None{}, s.change(c, scope{guild: c.ID("guild")}, func(ctx context.Context, w *change) (event, error) {
			if err := deleteGuild(ctx, w.tx, w.guild.ID); err != nil {
				return event{}, err
			}
			return event{}, errors.New("on second thoughts")
		})
	})
	b := setup(t, failing)
	g := b.guild()
	b.want(503, owner, "POST", path("/guilds/%s/break", g.ID), "")
	if v := b.version(g.ID); v != 1 {
		t.Errorf("the row is at version %d", v)
	}
	b.want(200, owner, "PATCH", path("/guilds/%s", g.ID), `{"name":"still here"}`)
}

func TestChange_WaitsItsTurnNoLongerThanItsTime(t *testing.T) {
	t.Parallel()
	turns := newTurns()
	release, err := turns.take(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := turns.take(ctx, 7); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second one: %v", err)
	}
	release()
	again, err := turns.take(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestChange_WithRowsAheadOfTheOutboxIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	_, err := b.pool.Exec(t.Context(), `UPDATE guilds SET version = 5`)
	b.must(err)
	b.want(503, owner, "PATCH", path("/guilds/%s", g.ID), `{"name":"never"}`)
	last, err := b.log.Last(t.Context())
	b.must(err)
	if last == (bus.Position{}) || b.version(g.ID) != 5 {
		t.Errorf("the log ends at %s, the row is at %d", last, b.version(g.ID))
	}
}

func TestChange_ThatAddsAMemberHoldsTheirNumberOfGuildsStill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	i := get[wire.Invite](b, 200, owner, "POST", path("/channels/%s/invites", g.SystemChannelID), `{}`)
	for _, ask := range []func() answer{
		func() answer { return b.ask(alice, "POST", "/guilds", `{"name":"house"}`) },
		func() answer { return b.ask(alice, "POST", "/invites/"+i.Code, "") },
	} {
		elsewhere, err := b.pool.Begin(t.Context())
		b.must(err)
		b.must(lockUser(t.Context(), elsewhere, alice))
		answered := make(chan answer, 1)
		var wg sync.WaitGroup
		wg.Go(func() { answered <- ask() })
		for waiting := 0; waiting == 0; {
			waiting = b.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			if len(answered) > 0 {
				t.Fatalf("answered while another transaction held the user: %s", <-answered)
			}
		}
		b.must(elsewhere.Rollback(t.Context()))
		wg.Wait()
		if a := <-answered; a.status >= 300 {
			t.Errorf("got %s", a)
		}
	}
}
