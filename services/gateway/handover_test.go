package gateway

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/token"
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

// TestGateway_AsksBackWhatWasTakenWithoutAWord: a session was away when another gateway claimed it for want of an answer, and went on
// there. Its client comes back to where nobody knows of that, with a number that was never sent there.
func TestGateway_AsksBackWhatWasTakenWithoutAWord(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	other := b.another(Config{})
	s, _ := b.identify(alice, wire.IntentsAll)
	b.cut(s)
	b.flush()
	other.service.letters.hush(b.name)
	on := other.resume(alice, s, s.seq)
	on.dispatch("RESUMED")
	other.say(bob, general, "elsewhere")
	on.message()
	other.cut(on)
	b.say(bob, general, "meanwhile")
	if got := b.resume(alice, on, on.seq).closed(); got != int(wire.CloseUnknown) {
		t.Errorf("closed with %d", got)
	}
	back := b.resume(alice, on, on.seq)
	if got := back.message(); got != "meanwhile" {
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

// TestGateway_RefusesWhatALoginHasLeftBehind: its gateway was dead when the login ended. Neither its own token nor one of the user's that
// stands can go on with the session, on a gateway that heard of the end as on one that began later.
func TestGateway_RefusesWhatALoginHasLeftBehind(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll)
	b.flush()
	b.abandon()
	heard := b.another(Config{})
	if err := heard.door.Revoke(t.Context(), identity.Revoked{User: alice, Session: "login-" + alice.String()}); err != nil {
		t.Fatal(err)
	}
	for name, gateway := range map[string]*bundle{"heard of it": heard, "began later": b.another(Config{})} {
		if got := gateway.resume(alice, s, s.seq).closed(); got != int(wire.CloseAuthenticationFailed) {
			t.Errorf("one that %s closed the ended login with %d", name, got)
		}
		other := gateway.dial("/?v=10&encoding=json")
		standing := gateway.minter.Mint(token.Claims{User: alice, Session: "standing", TTL: time.Minute})
		other.send(wire.OpResume, wire.Resume{Token: standing, SessionID: s.session, Seq: s.seq})
		if other.resumed() {
			t.Errorf("one that %s lets another login go on", name)
		}
	}
}

// TestGateway_EndsWhatAnOldTokenHasBegun: a bot gets another token, and nobody announces it but the log. What the old one has begun ends
// where it is, and where its gateway was dead not even the new one goes on with it.
func TestGateway_EndsWhatAnOldTokenHasBegun(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const bot = id.ID(77)
	raw, hash := token.NewBotToken(bot)
	next, nextHash := token.NewBotToken(bot)
	robot := func(kind wire.EventType, name, hash string) {
		t.Helper()
		b.cold(kind, bus.Entry{User: bot}, wire.UserChangedPayload{User: wire.User{ID: bot, Username: name, Bot: true}, BotHash: hash})
	}
	robot(wire.UserCreated, "robot", hash)
	begin := func(raw string) *socket {
		t.Helper()
		s := b.dial("/?v=10&encoding=json")
		s.send(wire.OpIdentify, wire.Identify{Token: raw, Intents: new(wire.IntentGuilds)})
		var ready wire.Ready
		s.dispatch("READY").into(t, &ready)
		s.session = ready.SessionID
		return s
	}
	s := begin(raw)
	robot(wire.UserUpdated, "another name", hash)
	s.dispatch("USER_UPDATE")
	s.send(wire.OpHeartbeat, s.seq)
	if f := s.read(); f.Op != wire.OpHeartbeatACK {
		t.Fatalf("after a change of its name the bot gets op %d", f.Op)
	}
	robot(wire.UserUpdated, "another name", nextHash)
	if got := s.closed(); got != int(wire.CloseAuthenticationFailed) {
		t.Errorf("closed with %d", got)
	}

	s = begin(next)
	b.flush()
	b.abandon()
	b = b.another(Config{})
	last, lastHash := token.NewBotToken(bot)
	robot(wire.UserUpdated, "another name", lastHash)
	again := b.dial("/?v=10&encoding=json")
	again.send(wire.OpResume, wire.Resume{Token: last, SessionID: s.session, Seq: s.seq})
	if again.resumed() {
		t.Error("the session of the old token goes on with the new one")
	}
}

// TestGateway_ResumesFromTheMidstOfABeginning: a connection was lost behind READY, before its client had all guilds. It goes on from there,
// where it was as elsewhere.
func TestGateway_ResumesFromTheMidstOfABeginning(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	goesOn := func(on *bundle, s *socket) {
		t.Helper()
		back := on.resume(alice, s, 1)
		for _, name := range []string{"GUILD_CREATE", "MESSAGE_CREATE", "RESUMED"} {
			back.dispatch(name)
		}
	}
	s, _ := b.identify(alice, wire.IntentsAll)
	left, _ := b.identify(alice, wire.IntentsAll)
	b.cut(s)
	b.say(bob, general, "missed")
	goesOn(b, s)
	b.flush()
	b.abandon()
	goesOn(b.another(Config{}), left)
}

// TestGateway_RefusesToCountOverAChangeOfView: the client has got beyond a change of what it sees, and the gateway was killed before it
// had written that down. Counted with the view from before it, its number would be a later place, and what lies between would be lost
// without a word.
func TestGateway_RefusesToCountOverAChangeOfView(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll)
	b.flush()
	b.noted()
	restore := b.remember(s)
	b.member(wire.MemberUpdated, alice, moderator)
	b.say(bob, hidden, "seen by moderators")
	s.dispatch("CHANNEL_CREATE")
	s.dispatch("GUILD_MEMBER_UPDATE")
	s.message()
	b.abandon()
	restore()
	other := b.another(Config{})
	for range 5 {
		other.say(bob, general, "missed")
	}
	if other.resume(alice, s, s.seq).resumed() {
		t.Error("the session was resumed")
	}
}

// remember notes what is in Redis of a session and of its gateway, and returns how to bring that back.
func (b *bundle) remember(s *socket) (restore func()) {
	b.t.Helper()
	kept := map[string]string{}
	for _, key := range []string{"session:{" + s.session + "}", "sessions:{" + b.name + "}"} {
		dump, err := b.admin.Do(b.t.Context(), b.admin.B().Dump().Key(key).Build()).ToString()
		if err != nil {
			b.t.Fatalf("%s: %v", key, err)
		}
		kept[key] = dump
	}
	return func() {
		b.t.Helper()
		for key, dump := range kept {
			again := b.admin.B().Restore().Key(key).Ttl(0).SerializedValue(dump).Replace().Build()
			if err := b.admin.Do(b.t.Context(), again).Error(); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// TestGateway_ResumesElsewhereBehindChangesOfView: what a session saw between two heartbeats changed, and the gateway was killed. Wherever
// its client stands, also between the steps of a change, it gets what it has not got.
func TestGateway_ResumesElsewhereBehindChangesOfView(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	var clients []*socket
	names := []string{"MESSAGE_CREATE", "CHANNEL_CREATE", "GUILD_MEMBER_UPDATE", "MESSAGE_CREATE", "CHANNEL_DELETE", "GUILD_MEMBER_UPDATE", "MESSAGE_CREATE"}
	for range names {
		s, _ := b.identify(alice, wire.IntentsAll)
		clients = append(clients, s)
	}
	b.say(bob, general, "before")
	b.member(wire.MemberUpdated, alice, moderator)
	b.say(bob, hidden, "seen by moderators")
	b.member(wire.MemberUpdated, alice)
	b.say(bob, general, "after")
	for _, s := range clients {
		for _, name := range names {
			s.dispatch(name)
		}
	}
	b.flush()
	b.abandon()
	other := b.another(Config{})
	other.say(bob, general, "missed")
	for had, s := range clients {
		on := other.resume(alice, s, s.seq-int64(len(names)-1-had))
		// What she may not see any more is not replayed, and what she has been told to see she is told not to.
		var want []string
		for i := had + 1; i < len(names); i++ {
			switch names[i] {
			case "CHANNEL_CREATE", "CHANNEL_DELETE":
			case "MESSAGE_CREATE":
				if i != 3 {
					want = append(want, names[i])
				}
			default:
				want = append(want, names[i])
			}
		}
		if had >= 1 && had < 4 {
			want = append([]string{"CHANNEL_DELETE"}, want...)
		}
		for _, name := range append(want, "MESSAGE_CREATE", "RESUMED") {
			on.dispatch(name)
		}
	}
}

// TestGateway_ResumesElsewhereOverWhatChangedNothing: an entry that could have changed what a session saw did not, and that is known of
// all sessions without a word of each.
func TestGateway_ResumesElsewhereOverWhatChangedNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	s, _ := b.identify(alice, wire.IntentsAll)
	b.flush()
	b.cold(wire.RoleUpdated, bus.Entry{Guild: guild}, wire.RoleChangedPayload{Role: wire.Role{ID: moderator, Name: "mods", Position: 1}})
	b.say(bob, general, "one")
	s.dispatch("GUILD_ROLE_UPDATE")
	s.message()
	b.noted()
	b.abandon()
	other := b.another(Config{})
	other.say(bob, general, "missed")
	on := other.resume(alice, s, s.seq)
	if got := on.message(); got != "missed" {
		t.Errorf("got %q", got)
	}
}

// noted returns when the gateway's note tells of everything that could have changed a view.
func (b *bundle) noted() {
	b.t.Helper()
	want := b.service.saver.known().String()
	for {
		switch got, err := b.service.deps.Resume.Noted(b.t.Context(), b.name); {
		case err != nil:
			b.t.Fatal(err)
		case got == want:
			return
		}
		runtime.Gosched()
	}
}
