package presence

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/id"
)

func TestSockets_OfAllGatewaysThatLive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, z := b.gateway("a"), b.gateway("z")
	first := b.clock.Now()
	b.set(a, 7, "one", Online)
	b.clock.pass(time.Second)
	second := b.clock.Now()
	b.say(z, 7, "two", Said{Invisible, "mobile", "[1, 2]"})
	b.set(z, 8, "other", Online)
	b.clock.pass(time.Second)
	b.set(a, 7, "one", DND) // it is there since before
	f := func(want ...Socket) {
		t.Helper()
		got, err := a.Sockets(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	f(Socket{"a", "one", Said{DND, "web", ""}, first}, Socket{"z", "two", Said{Invisible, "mobile", "[1, 2]"}, second})
	b.clock.pass(9 * time.Second)
	renew := b.client.B().Fcall().Function("xcord_presence_lease").Numkeys(1).Key(leasesKey()).
		Arg("a", milliseconds(b.clock.Now().Add(time.Minute)), milliseconds(b.clock.Now())).Build()
	if err := b.client.Do(t.Context(), renew).Error(); err != nil { // and nothing is swept
		t.Fatal(err)
	}
	f(Socket{"a", "one", Said{DND, "web", ""}, first})
	b.remove(a, "one")
	f()

	// An older binary does not say since when, and its sockets count all the same.
	old := b.client.B().Fcall().Function("xcord_presence_set").Numkeys(4).Key(socketsKey(7), statusesKey(), changesKey(), gatewayKey("a")).
		Arg("7", "a/old", "idle").Build()
	if err := b.client.Do(t.Context(), old).Error(); err != nil {
		t.Fatal(err)
	}
	f(Socket{"a", "old", Said{Status: Idle}, time.Time{}})
	if got, err := a.Shown(t.Context(), []id.ID{7}); err != nil || got[7].Status != Idle || got[7].Clients["web"] != Idle {
		t.Errorf("shows as %v, %v", got, err)
	}
}
