package gateway

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

func TestGateway_TellsAMessageToWhoSeesTheChannel(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, guilds := b.identify(alice, wire.IntentsAll)
	if len(guilds) != 1 || guilds[0].ID != guild || len(guilds[0].Channels) != 1 || guilds[0].Channels[0].ID != general {
		t.Fatalf("alice begins with %+v", guilds)
	}
	if len(guilds[0].Members) != 3 || guilds[0].MemberCount != 3 || len(guilds[0].Roles) != 2 {
		t.Fatalf("members %d, count %d, roles %d", len(guilds[0].Members), guilds[0].MemberCount, len(guilds[0].Roles))
	}
	o, _ := b.identify(owner, wire.IntentsAll)
	b.say(owner, hidden, "for few")
	want := b.say(bob, general, "hello")
	var m wire.Message
	a.dispatch("MESSAGE_CREATE").into(t, &m)
	if m.ID != want || m.Content != "hello" || m.Author.ID != bob {
		t.Errorf("alice got %+v", m)
	}
	if diff := cmp.Diff([]string{"for few", "hello"}, []string{o.message(), o.message()}); diff != "" {
		t.Error(diff)
	}
}

func TestGateway_TellsWhoSeesMoreOrLess(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)

	b.member(wire.MemberUpdated, alice, moderator) // she gets the role that sees the hidden channel
	var c wire.Channel
	a.dispatch("CHANNEL_CREATE").into(t, &c)
	if c.ID != hidden || c.GuildID != guild || c.Name != "hidden" {
		t.Errorf("gained %+v", c)
	}
	a.dispatch("GUILD_MEMBER_UPDATE")
	b.say(owner, hidden, "now you see it")
	if got := a.message(); got != "now you see it" {
		t.Errorf("got %q", got)
	}

	shut := wire.Channel{ID: general, GuildID: guild, Name: "general", PermissionOverwrites: wire.List[wire.Overwrite]{
		{ID: alice, Type: perm.OverwriteMember, Deny: perm.ViewChannel},
	}}
	b.cold(wire.ChannelUpdated, bus.Entry{Guild: guild, Channel: general}, wire.ChannelChangedPayload{Channel: shut})
	a.dispatch("CHANNEL_DELETE").into(t, &c)
	if c.ID != general {
		t.Errorf("lost %+v", c)
	}
	b.say(owner, general, "not for alice")

	b.cold(wire.ChannelCreated, bus.Entry{Guild: guild, Channel: 202}, wire.ChannelChangedPayload{
		Channel: wire.Channel{ID: 202, GuildID: guild, Name: "new"}})
	a.dispatch("CHANNEL_CREATE").into(t, &c)
	if c.ID != 202 {
		t.Errorf("gained %+v", c)
	}
	b.cold(wire.RoleDeleted, bus.Entry{Guild: guild}, wire.RoleDeletedPayload{RoleID: moderator})
	a.dispatch("CHANNEL_DELETE").into(t, &c)
	if c.ID != hidden {
		t.Errorf("lost %+v", c)
	}
	a.dispatch("GUILD_ROLE_DELETE")
	b.cold(wire.ChannelDeleted, bus.Entry{Guild: guild, Channel: 202}, wire.ChannelDeletedPayload{ChannelID: 202})
	a.dispatch("CHANNEL_DELETE").into(t, &c)
	if c.ID != 202 || c.Name != "new" {
		t.Errorf("lost %+v", c)
	}
}

// TestGateway_TellsOfAllChannelsThatChangeTogether: what somebody cannot see any more is lost, the rest is told.
func TestGateway_TellsOfAllChannelsThatChangeTogether(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	o, _ := b.identify(owner, wire.IntentsAll)
	a, _ := b.identify(alice, wire.IntentsAll)
	b.cold(wire.ChannelUpdated, bus.Entry{Guild: guild, Channel: hidden}, wire.ChannelChangedPayload{
		Channel: wire.Channel{ID: hidden, GuildID: guild, Name: "open"},
		Others: []wire.Channel{{ID: general, GuildID: guild, Name: "shut", PermissionOverwrites: wire.List[wire.Overwrite]{
			{ID: guild, Type: perm.OverwriteRole, Deny: perm.ViewChannel}}}},
	})
	var c wire.Channel
	for s, want := range map[*socket][]string{
		o: {"CHANNEL_UPDATE open", "CHANNEL_UPDATE shut"}, a: {"CHANNEL_DELETE general", "CHANNEL_CREATE open", "CHANNEL_UPDATE open"},
	} {
		for _, told := range want {
			name, channel, _ := strings.Cut(told, " ")
			if s.dispatch(name).into(t, &c); c.Name != channel {
				t.Errorf("%s is about %s, want %s", name, c.Name, channel)
			}
		}
	}
}

func TestGateway_TellsMembersWhoComesAndGoes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	o, _ := b.identify(owner, wire.IntentsAll)
	a, _ := b.identify(alice, wire.IntentsAll)
	b.kick(alice)
	var gone wire.UnavailableGuild
	a.dispatch("GUILD_DELETE").into(t, &gone)
	if gone.ID != guild || gone.Unavailable {
		t.Errorf("got %+v", gone)
	}
	var m wire.MemberGone
	o.dispatch("GUILD_MEMBER_REMOVE").into(t, &m)
	if m.User.ID != alice {
		t.Errorf("got %+v", m)
	}
	b.say(bob, general, "behind her back")
	b.member(wire.MemberJoined, alice)
	var g wire.GuildCreate
	a.dispatch("GUILD_CREATE").into(t, &g)
	if g.ID != guild || len(g.Channels) != 1 || len(g.Members) != 3 {
		t.Errorf("got %+v", g)
	}
	if got := o.message(); got != "behind her back" {
		t.Errorf("got %q", got)
	}
	var joined wire.Member
	o.dispatch("GUILD_MEMBER_ADD").into(t, &joined)
	if joined.User.ID != alice || joined.GuildID != guild {
		t.Errorf("got %+v", joined)
	}
	b.cold(wire.ServerDeleted, bus.Entry{Guild: guild}, wire.ServerDeletedPayload{GuildID: guild})
	a.dispatch("GUILD_DELETE")
	o.dispatch("GUILD_DELETE")
}

// TestGateway_LetsJoinAGuildThatNobodyHereWatched: the copy has to be read while the entry is being taken in.
func TestGateway_LetsJoinAGuildThatNobodyHereWatched(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	const carol = id.ID(4)
	b.user(carol)
	c, guilds := b.identify(carol, wire.IntentsAll)
	if len(guilds) != 0 {
		t.Fatalf("carol is in %d guilds", len(guilds))
	}
	b.member(wire.MemberJoined, carol)
	var g wire.GuildCreate
	c.dispatch("GUILD_CREATE").into(t, &g)
	if g.ID != guild || g.MemberCount != 4 {
		t.Errorf("got %s with %d members", g.ID, g.MemberCount)
	}
	b.say(bob, general, "welcome")
	if got := c.message(); got != "welcome" {
		t.Errorf("got %q", got)
	}
	b.cold(wire.ServerCreated, bus.Entry{Guild: 101, Actor: carol}, wire.ServerCreatedPayload{
		Guild: wire.NewGuild(101, "own", carol), Members: wire.List[wire.MemberRecord]{{UserID: carol}},
		Roles: wire.List[wire.Role]{{ID: 101, Name: "@everyone"}},
	})
	c.dispatch("GUILD_CREATE").into(t, &g)
	if g.ID != 101 {
		t.Errorf("got %s", g.ID)
	}
}

func TestGateway_ResumesExactlyWhatWasMissed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	begin := a.seq
	var said []string
	say := func() {
		said = append(said, strconv.Itoa(len(said)))
		b.say(bob, general, said[len(said)-1])
		b.say(owner, hidden, "not for alice")
	}
	for range 100 {
		say()
		a.message()
	}
	b.cut(a)
	for range 30 {
		say()
	}
	// What the client claims to have got decides, not what was written: it may have been lost on the way. Going back further each time,
	// also behind what earlier resumes had numbered anew.
	for _, had := range []int64{100, 97, 64, 63, 3, 0} {
		s := b.resume(alice, a, begin+had)
		for _, want := range said[had:] {
			if got := s.message(); got != want {
				t.Fatalf("with %d: got %s, want %s", had, got, want)
			}
		}
		s.dispatch("RESUMED")
		say()
		if got, want := s.message(), said[len(said)-1]; got != want {
			t.Fatalf("with %d: got %s after RESUMED, want %s", had, got, want)
		}
		b.cut(s)
	}
}

func TestGateway_ResumesIntoAWorldThatHasChanged(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	b.say(bob, general, "one")
	a.message()
	b.cut(a)
	b.say(bob, general, "two")
	b.member(wire.MemberUpdated, alice, moderator)
	b.say(owner, hidden, "three")
	b.cold(wire.ChannelDeleted, bus.Entry{Guild: guild, Channel: general}, wire.ChannelDeletedPayload{ChannelID: general})

	s := b.resume(alice, a, a.seq)
	var c wire.Channel
	s.dispatch("CHANNEL_DELETE").into(t, &c)
	if c.ID != general || c.Name != "" {
		t.Errorf("lost %+v, of which nothing may be told by now", c)
	}
	s.dispatch("CHANNEL_CREATE").into(t, &c)
	if c.ID != hidden {
		t.Errorf("gained %+v", c)
	}
	// In the present she sees the hidden channel and not the other one.
	s.dispatch("GUILD_MEMBER_UPDATE")
	if got := s.message(); got != "three" {
		t.Errorf("got %q", got)
	}
	s.dispatch("RESUMED")
	b.cut(s)

	// In the middle of the steps: CHANNEL_DELETE was the last that arrived.
	again := b.resume(alice, s, a.seq+1)
	again.dispatch("CHANNEL_CREATE")
	again.dispatch("GUILD_MEMBER_UPDATE")
	again.message()
	again.dispatch("RESUMED")
	b.kick(alice)
	again.dispatch("GUILD_DELETE")
	b.cut(again)

	last := b.resume(alice, again, again.seq)
	last.dispatch("RESUMED")
}

func TestGateway_RefusesToResumeWhatIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	b.cut(a)
	invalid := func(s *socket) {
		t.Helper()
		if f := s.read(); f.Op != wire.OpInvalidSession || string(f.D) != "false" {
			t.Fatalf("got op %d %s", f.Op, f.D)
		}
	}
	s := b.resume(bob, a, a.seq) // not his
	invalid(s)
	s.send(wire.OpResume, wire.Resume{Token: b.token(bob), SessionID: "unknown", Seq: 1})
	invalid(s)
	intents := wire.IntentsAll
	s.seq = 0
	s.send(wire.OpIdentify, wire.Identify{Token: b.token(bob), Intents: &intents})
	s.dispatch("READY")

	if got := b.resume(alice, a, a.seq+1).closed(); got != int(wire.CloseBadSeq) {
		t.Errorf("a seq of the future closes with %d", got)
	}
	again := b.resume(alice, a, a.seq)
	again.dispatch("RESUMED")
	b.cut(again)
	invalid(b.resume(alice, a, 0))     // in front of the first frame
	invalid(b.resume(alice, a, a.seq)) // given up with that
}

// closed reads until the server closes, and returns the code.
func (s *socket) closed() int {
	s.t.Helper()
	for {
		_, err := s.next()
		var c *websocket.CloseError
		if errors.As(err, &c) {
			return c.Code
		}
		if err != nil {
			s.t.Fatalf("read: %v", err)
		}
	}
}

func TestGateway_TakesASessionOverFromASocketThatIsOpen(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	b.say(bob, general, "one")
	a.message()
	s := b.resume(alice, a, a.seq)
	s.dispatch("RESUMED")
	b.say(bob, general, "two")
	if got := s.message(); got != "two" {
		t.Errorf("got %q", got)
	}
	if got := a.closed(); got != int(wire.CloseUnknown) {
		t.Errorf("the old socket was closed with %d", got)
	}
}

func TestGateway_EndsASessionThatTheClientHasClosed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	b.leave(a, websocket.CloseNormalClosure)
	s := b.resume(alice, a, a.seq)
	if f := s.read(); f.Op != wire.OpInvalidSession {
		t.Errorf("after 1000: op %d", f.Op)
	}
	c, _ := b.identify(alice, wire.IntentsAll)
	b.leave(c, 4200)
	b.resume(alice, c, c.seq).dispatch("RESUMED")
}

// leave closes with a code, and waits for the server's close.
func (b *bundle) leave(s *socket, code int) {
	b.t.Helper()
	if err := s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(readTimeout)); err != nil {
		b.t.Fatal(err)
	}
	if got := s.closed(); got != code {
		b.t.Errorf("closed with %d, answered with %d", code, got)
	}
	for b.service.desk.named(s.session) {
		runtime.Gosched() // the answer comes a moment before the session is left
	}
}

// named says whether a session has an open connection.
func (d *desk) named(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.records[name]
	return r != nil && r.owner != nil
}

func TestGateway_HidesContentWithoutTheIntent(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, everythingButContent)
	b.say(bob, general, "secret")
	b.say(alice, general, "own")
	b.say(bob, general, "hey alice", alice)
	if diff := cmp.Diff([]string{"", "own", "hey alice"}, []string{a.message(), a.message(), a.message()}); diff != "" {
		t.Error(diff)
	}
}

func TestGateway_ShowsWhoIsOnline(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{PresenceGrace: time.Nanosecond})
	b.found()
	o, _ := b.identify(owner, wire.IntentsAll)
	// Her own presence is known before anybody else's can be told.
	a, guilds := b.identify(alice, wire.IntentsAll)
	if n := len(guilds[0].Presences); n != 1 || guilds[0].Presences[0].User.ID != owner {
		t.Errorf("alice begins with %+v", guilds[0].Presences)
	}
	shows := func(s *socket, user id.ID, status string) {
		t.Helper()
		var p wire.Presence
		s.dispatch("PRESENCE_UPDATE").into(t, &p)
		if p.User.ID != user || p.Status != status || p.GuildID != guild {
			t.Errorf("got %+v, want %s %s", p, user, status)
		}
	}
	shows(o, alice, "online")
	a.send(wire.OpPresenceUpdate, map[string]any{"status": "dnd", "since": nil, "activities": []any{}, "afk": false})
	shows(o, alice, "dnd")
	a.send(wire.OpPresenceUpdate, map[string]any{"status": "invisible"})
	shows(o, alice, "offline")
	a.send(wire.OpPresenceUpdate, map[string]any{"status": "idle"})
	shows(o, alice, "idle")
	b.cut(a)
	b.service.sweepOnce(t.Context())
	shows(o, alice, "offline")
	back := b.resume(alice, a, a.seq)
	back.dispatch("RESUMED")
	shows(back, owner, "online")
	shows(o, alice, "idle")
	b.leave(back, websocket.CloseGoingAway)
	shows(o, alice, "offline")
}

func TestGateway_TellsWhoTypes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	typing := func(user, channel id.ID) {
		if err := b.log.Signal(t.Context(), typingTopic, encode(wire.TypingStart{ChannelID: channel, GuildID: guild, UserID: user})); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody says when listening has begun, so it is said until it is heard.
	heard := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-heard:
				return
			default:
				typing(owner, hidden)
				typing(bob, general)
			}
		}
	})
	var got wire.TypingStart
	a.dispatch("TYPING_START").into(t, &got)
	close(heard)
	wg.Wait()
	if got.UserID != bob || got.ChannelID != general {
		t.Errorf("got %+v", got)
	}
}

func TestGateway_AnswersRequestsForMembers(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	ask := func(d map[string]any) wire.MembersChunk {
		t.Helper()
		a.send(wire.OpRequestGuildMembers, d)
		var c wire.MembersChunk
		a.dispatch("GUILD_MEMBERS_CHUNK").into(t, &c)
		return c
	}
	c := ask(map[string]any{"guild_id": guild, "query": "", "limit": 0, "nonce": "n", "presences": true})
	if len(c.Members) != 3 || c.ChunkCount != 1 || c.Nonce != "n" || len(c.Presences) != 1 {
		t.Errorf("all: %+v", c)
	}
	c = ask(map[string]any{"guild_id": []id.ID{guild}, "query": "USER3", "limit": 5})
	if len(c.Members) != 1 || c.Members[0].User.ID != bob {
		t.Errorf("by name: %+v", c)
	}
	c = ask(map[string]any{"guild_id": guild, "user_ids": []id.ID{owner, 99}})
	if len(c.Members) != 1 || len(c.NotFound) != 1 || c.NotFound[0] != 99 {
		t.Errorf("by id: %+v", c)
	}
}

func TestGateway_ClosesTheSocketsOfALoginThatHasEnded(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	b.service.revoked(identity.Revoked{User: alice, Session: "another"})
	b.say(bob, general, "still there")
	a.message()
	b.service.revoked(identity.Revoked{User: alice, Session: "login-" + alice.String()})
	if got := a.closed(); got != int(wire.CloseAuthenticationFailed) {
		t.Errorf("closed with %d", got)
	}
	s := b.resume(alice, a, a.seq)
	if f := s.read(); f.Op != wire.OpInvalidSession {
		t.Errorf("resumed with op %d", f.Op)
	}
}

// TestGateway_ClosesWhatALoginHasResumed: a session that one login began and another came back for ends with the latter.
func TestGateway_ClosesWhatALoginHasResumed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, wire.IntentsAll)
	b.cut(a)
	s := b.dial("/?v=10&encoding=json")
	s.seq = a.seq
	raw := b.minter.Mint(token.Claims{User: alice, Session: "later", TTL: time.Minute})
	s.send(wire.OpResume, wire.Resume{Token: raw, SessionID: a.session, Seq: a.seq})
	s.dispatch("RESUMED")
	b.service.revoked(identity.Revoked{User: alice, Session: "login-" + alice.String()})
	b.say(bob, general, "still there")
	s.message()
	b.service.revoked(identity.Revoked{User: alice, Session: "later"})
	if got := s.closed(); got != int(wire.CloseAuthenticationFailed) {
		t.Errorf("closed with %d", got)
	}
}

// TestGateway_ClosesWhatBeginsWhileALoginEnds: whatever comes first, no session of the login stays open.
func TestGateway_ClosesWhatBeginsWhileALoginEnds(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	for round := range 20 {
		login := fmt.Sprint("login ", round)
		raw := b.minter.Mint(token.Claims{User: alice, Session: login, TTL: time.Minute})
		var sockets []*socket
		for range 4 {
			sockets = append(sockets, b.dial("/?v=10&encoding=json"))
		}
		var ended sync.WaitGroup
		ended.Go(func() {
			if err := b.door.Revoke(t.Context(), identity.Revoked{User: alice, Session: login}); err != nil {
				t.Error(err)
			}
		})
		for _, s := range sockets {
			s.send(wire.OpIdentify, wire.Identify{Token: raw})
		}
		ended.Wait()
		for _, s := range sockets {
			if got := s.closed(); got != int(wire.CloseAuthenticationFailed) {
				t.Fatalf("closed with %d", got)
			}
		}
	}
}

func TestGateway_FiltersByShard(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	for shard := range 2 {
		s := b.dial("/gateway/?v=9&encoding=json")
		intents := wire.IntentsAll
		s.send(wire.OpIdentify, wire.Identify{Token: b.token(alice), Intents: &intents, Shard: &[2]int{shard, 2}})
		var ready wire.Ready
		s.dispatch("READY").into(t, &ready)
		want := 0
		if uint64(guild)>>22%2 == uint64(shard) {
			want = 1
		}
		if len(ready.Guilds) != want || ready.V != 9 || ready.Shard == nil || ready.Shard[0] != shard {
			t.Errorf("shard %d: %+v", shard, ready)
		}
	}
}

func TestGateway_SaysWhereItIs(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{PublicURL: "https://chat.example.com"})
	b.user(alice)
	code, body := get(t, b.http+"/api/v10/gateway", "")
	if code != 200 || body != `application/json {"url":"wss://chat.example.com"}` {
		t.Errorf("got %d %s", code, body)
	}
	if code, body = get(t, b.http+"/api/v10/gateway/bot", "Bot nonsense"); code != 401 {
		t.Errorf("got %d %s", code, body)
	}
	if code, body = get(t, b.http+"/api/v10/gateway/bot", b.token(alice)); code != 200 || !strings.Contains(body, `"session_start_limit":{"total":1000`) {
		t.Errorf("got %d %s", code, body)
	}
	if code, body = get(t, b.http+"/gateway", ""); code != 404 || !strings.HasPrefix(body, "application/json {") {
		t.Errorf("got %d %s", code, body)
	}
}

func TestService_IsAService(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.service.Stop()
	lifetest.Stress(t, func() life.Service { return b.service })
}

func TestConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	err := Config{PublicURL: "ftp://x", RingMax: -1, Session: session.Config{QueueMax: -1}}.Validate()
	for _, want := range []string{"ftp", "limits", "queue"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestGateway_ShowsAGuildToItsNewOwner(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	o, _ := b.identify(owner, wire.IntentsAll)
	a, _ := b.identify(alice, wire.IntentsAll)
	b.cold(wire.ServerUpdated, bus.Entry{Guild: guild, Actor: owner}, wire.ServerUpdatedPayload{Guild: wire.NewGuild(guild, "hers", alice)})
	var c wire.Channel
	a.dispatch("CHANNEL_CREATE").into(t, &c)
	if c.ID != hidden {
		t.Errorf("the new owner gained %+v", c)
	}
	o.dispatch("CHANNEL_DELETE").into(t, &c)
	if c.ID != hidden {
		t.Errorf("the former owner lost %+v", c)
	}
	for _, s := range []*socket{o, a} {
		var g wire.Guild
		s.dispatch("GUILD_UPDATE").into(t, &g)
		if g.OwnerID != alice {
			t.Errorf("the guild is told as %+v", g)
		}
	}
}

func TestGateway_TellsOfBansByTheirIntent(t *testing.T) {
	t.Parallel()
	const carol = id.ID(4)
	b := setup(t, Config{})
	b.found()
	moderation, _ := b.identify(owner, wire.IntentGuilds|wire.IntentGuildModeration)
	members, _ := b.identify(bob, wire.IntentGuilds|wire.IntentGuildMembers|wire.IntentGuildMessages|wire.IntentMessageContent)
	a, _ := b.identify(alice, wire.IntentsAll)
	b.cold(wire.MemberRemoved, bus.Entry{Guild: guild, User: alice}, wire.MemberRemovedPayload{User: person(alice), Cause: wire.CauseBanned})
	b.cold(wire.BanAdded, bus.Entry{Guild: guild, User: carol}, wire.BanChangedPayload{User: person(carol)})
	b.cold(wire.BanRemoved, bus.Entry{Guild: guild, User: alice}, wire.BanChangedPayload{User: person(alice)})
	a.dispatch("GUILD_DELETE")
	f := func(name string, user id.ID) {
		t.Helper()
		var got wire.BanChange
		moderation.dispatch(name).into(t, &got)
		if got.GuildID != guild || got.User.ID != user {
			t.Errorf("%s: got %+v, want user %s", name, got, user)
		}
	}
	f("GUILD_BAN_ADD", alice)
	f("GUILD_BAN_ADD", carol)
	f("GUILD_BAN_REMOVE", alice)
	members.dispatch("GUILD_MEMBER_REMOVE")
	b.say(bob, general, "nothing of bans in between")
	if got := members.message(); got != "nothing of bans in between" {
		t.Errorf("got %q", got)
	}
}
