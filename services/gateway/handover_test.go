package gateway

import (
	"errors"
	"testing"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/wire"
)

// TestGateway_LetsATakenSessionGo: what another gateway has claimed, for want of an answer, its former owner closes as soon as it
// would write of it, and does not give back.
func TestGateway_LetsATakenSessionGo(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	other := b.another(Config{})
	s, _ := b.identify(alice, wire.IntentsAll)
	b.flush()
	if _, ok, err := other.service.deps.Resume.Claim(t.Context(), s.session, b.name); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.send(wire.OpHeartbeat, s.seq)
	for {
		_, err := s.next()
		var c *websocket.CloseError
		if errors.As(err, &c) && c.Code == int(wire.CloseUnknown) {
			break
		}
		if err != nil {
			t.Fatalf("want a close with 4000, got %v", err)
		}
	}
	b.say(bob, general, "meanwhile")
	on := other.resume(alice, s, s.seq)
	if got := on.message(); got != "meanwhile" {
		t.Errorf("got %q", got)
	}
}

// refusesElsewhere expects that alice's session, of a gateway that is dead, cannot be resumed on a new one.
func (b *bundle) refusesElsewhere(s *socket) {
	b.t.Helper()
	b.flush()
	b.abandon()
	if b.another(Config{}).resume(alice, s, s.seq).resumed() {
		b.t.Error("the session was resumed")
	}
}

// TestGateway_RefusesAnotherLog: with another epoch no position means anything.
func TestGateway_RefusesAnotherLog(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll)
	if err := b.admin.Do(t.Context(), b.admin.B().Set().Key("epoch:{s00}").Value("another").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	b.refusesElsewhere(s)
}

// TestGateway_RefusesWhatTheLogHasForgotten: where the log does not reach back to the mark, nobody can say what was missed.
func TestGateway_RefusesWhatTheLogHasForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll)
	b.flush()
	b.say(bob, general, "forgotten")
	b.say(bob, general, "last")
	s.message()
	s.message()
	trim := b.admin.B().Xtrim().Key("ev:{s00}").Maxlen().Threshold("1").Build()
	if err := b.admin.Do(t.Context(), trim).Error(); err != nil {
		t.Fatal(err)
	}
	b.refusesElsewhere(s)
}

// TestGateway_LeavesNothingOfAnEndedLogin: with the login, its sessions end everywhere.
func TestGateway_LeavesNothingOfAnEndedLogin(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll)
	b.cut(s)
	b.service.revoked(identity.Revoked{User: alice, Session: identity.AllSessions})
	if b.resume(alice, s, s.seq).resumed() {
		t.Error("the session was resumed where it had been")
	}
	b.refusesElsewhere(s)
}

// TestGateway_RefusesToCountOverAChangeOfView: the client has got beyond a change of what it sees that no checkpoint knows of. Counted
// with the view from before it, its number would be a later place, and what lies between would be lost without a word.
func TestGateway_RefusesToCountOverAChangeOfView(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll)
	b.flush()
	b.member(wire.MemberUpdated, alice, moderator)
	b.say(bob, hidden, "seen by moderators")
	s.dispatch("CHANNEL_CREATE")
	s.dispatch("GUILD_MEMBER_UPDATE")
	s.message()
	b.abandon()
	other := b.another(Config{})
	for range 5 {
		other.say(bob, general, "missed")
	}
	if other.resume(alice, s, s.seq).resumed() {
		t.Error("the session was resumed")
	}
}
