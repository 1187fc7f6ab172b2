package gateway

import (
	cryptorand "crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/resume"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

// What runs on belongs to libraries: the dates of fasthttp, its workers for 10 s after the server, the summaries of metrics.
func TestMain(m *testing.M) {
	os.Exit(harness.Main(m,
		goleak.IgnoreTopFunction("time.Sleep"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1")))
}

const (
	guild                = id.ID(100)
	general, hidden      = id.ID(200), id.ID(201)
	moderator            = id.ID(300)
	owner, alice, bob    = id.ID(1), id.ID(2), id.ID(3)
	everythingButContent = wire.IntentsAll &^ wire.IntentMessageContent
)

// bundle is a gateway on a real Redis, and the hand that writes into the log.
type bundle struct {
	t       testing.TB
	log     *bus.Log
	outbox  *roster.Outbox
	tail    *bus.Tail
	service *Service
	minter  *token.Minter
	door    *identity.Door
	redis   string // where it is
	client  redis.Client
	admin   redis.Client
	name    string // of the gateway, and of its connections to Redis
	keys    string
	url     string
	http    string
	version map[id.ID]int64
	reads   *reads.Reads // nil: there is no Postgres
	pool    *postgres.Pool
}

func setup(t testing.TB, cfg Config) *bundle {
	t.Helper()
	return setupWith(t, cfg, nil)
}

// setupReading is setup with read states.
func setupReading(t testing.TB, cfg Config) *bundle {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: harness.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return setupWith(t, cfg, pool)
}

func setupWith(t testing.TB, cfg Config, pool *postgres.Pool) *bundle {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	server := harness.Redis(t)
	admin, err := redis.Open(t.Context(), redis.Config{URL: server.AdminURL()})
	must(err)
	t.Cleanup(admin.Close)
	must(bus.Open(admin, bus.Config{}).Install(t.Context(), admin))
	must(presence.Install(t.Context(), admin))
	must(resume.Install(t.Context(), admin))
	b := &bundle{t: t, admin: admin, redis: server.URL(), keys: t.TempDir(), version: map[id.ID]int64{}, pool: pool}
	must(token.Generate(b.keys))
	b.open(cfg)
	return b
}

// another is a second gateway on the same Redis.
func (b *bundle) another(cfg Config) *bundle {
	b.t.Helper()
	other := &bundle{t: b.t, admin: b.admin, redis: b.redis, keys: b.keys, version: b.version}
	other.open(cfg)
	return other
}

// open starts a gateway with a connection to Redis of its own.
func (b *bundle) open(cfg Config) {
	t := b.t
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b.name = cryptorand.Text()
	client, err := redis.Open(t.Context(), redis.Config{URL: b.redis, Name: b.name})
	must(err)
	t.Cleanup(client.Close)
	b.client, b.log = client, bus.Open(client, bus.Config{})
	keys, err := token.Load(b.keys, true)
	must(err)
	b.minter, err = token.NewMinter(token.Config{}, keys)
	must(err)
	verifier, err := token.NewVerifier(token.Config{}, keys)
	must(err)
	r := roster.New(b.log)
	b.outbox = roster.NewOutbox(r, nil) // Settle does not need the pool as long as there is no gap
	b.door = identity.New(identity.Deps{Tokens: verifier, Roster: r, Log: b.log})
	door := b.door
	b.tail = bus.NewTail(b.log, b.log.Last)
	b.tail.Subscribe(r.HandleEntries)
	b.tail.Subscribe(door.HandleEntries)
	if b.pool != nil {
		b.reads = reads.New(b.pool, b.tail)
	}
	b.service = New(cfg, Deps{
		Log: b.log, Tail: b.tail, Roster: r, Reads: b.reads, Door: door, Presence: presence.New(client, presence.Config{Gateway: b.name}),
		Resume: resume.New(client, resume.Config{Gateway: b.name}),
	})
	srv := rest.New(rest.Config{Addr: "127.0.0.1:0"}, rest.Deps{Authenticator: door})
	b.service.Mount(srv)
	must(b.tail.Start(t.Context()))
	t.Cleanup(b.tail.Stop)
	if b.reads != nil {
		must(b.reads.Start(t.Context()))
		t.Cleanup(b.reads.Stop)
	}
	must(door.Start(t.Context()))
	t.Cleanup(door.Stop)
	must(b.service.Start(t.Context()))
	t.Cleanup(b.service.Stop)
	must(srv.Start(t.Context()))
	t.Cleanup(srv.Stop)
	b.url, b.http = "ws://"+srv.Addr(), "http://"+srv.Addr()
}

// abandon leaves the gateway as kill -9 does: its connections are closed, and nothing that it would still say gets out.
func (b *bundle) abandon() {
	b.t.Helper()
	b.client.Close()
	list, err := b.admin.Do(b.t.Context(), b.admin.B().ClientList().Build()).ToString()
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		if strings.Contains(line, " name="+b.name+" ") {
			number := strings.TrimPrefix(strings.TrimPrefix(strings.Fields(line)[0], "txt:"), "id=")
			kill := b.admin.B().Arbitrary("CLIENT", "KILL", "ID", number).Build()
			if err := b.admin.Do(b.t.Context(), kill).Error(); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// flush returns when what was to be written of sessions is in Redis.
func (b *bundle) flush() {
	b.t.Helper()
	err := b.service.saver.sync(b.t.Context(), &errand{record: &record{id: "nobody"}, end: true})
	if err != nil {
		b.t.Fatal(err)
	}
}

// found makes the users and a guild of owner, alice and bob, with a channel for all and one for the owner.
func (b *bundle) found() {
	b.t.Helper()
	for _, u := range []id.ID{owner, alice, bob} {
		b.user(u)
	}
	p := wire.ServerCreatedPayload{
		Guild: wire.NewGuild(guild, "home", owner),
		Channels: wire.List[wire.Channel]{
			{ID: general, GuildID: guild, Name: "general"},
			{ID: hidden, GuildID: guild, Name: "hidden", PermissionOverwrites: wire.List[wire.Overwrite]{
				{ID: guild, Type: perm.OverwriteRole, Deny: perm.ViewChannel},
				{ID: moderator, Type: perm.OverwriteRole, Allow: perm.ViewChannel},
			}},
		},
		Roles: wire.List[wire.Role]{
			{ID: guild, Name: "@everyone", Permissions: perm.ViewChannel | perm.SendMessages},
			{ID: moderator, Name: "moderator", Position: 1},
		},
	}
	for _, u := range []id.ID{owner, alice, bob} {
		p.Members = append(p.Members, wire.MemberRecord{UserID: u, MemberFields: wire.MemberFields{JoinedAt: 1}})
	}
	b.cold(wire.ServerCreated, bus.Entry{Guild: guild, Actor: owner}, p)
}

func (b *bundle) user(u id.ID) {
	b.t.Helper()
	b.cold(wire.UserCreated, bus.Entry{User: u}, wire.UserChangedPayload{User: person(u)})
}

func person(u id.ID) wire.User { return wire.User{ID: u, Username: fmt.Sprintf("user%d", u)} }

// cold brings the next version of a guild or user into the log and waits until the gateway has it.
func (b *bundle) cold(kind wire.EventType, e bus.Entry, payload any) {
	b.t.Helper()
	aggregate := e.Guild
	if aggregate == 0 {
		aggregate = e.User
	}
	b.version[aggregate]++
	e.Type, e.Version, e.Body = kind, b.version[aggregate], encode(payload)
	pos, err := b.outbox.Settle(b.t.Context(), e)
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(pos)
}

func (b *bundle) reach(pos bus.Position) {
	b.t.Helper()
	if pos.IsZero() {
		b.t.Fatal("an entry did not get into the log")
	}
	if err := b.tail.WaitFor(b.t.Context(), pos); err != nil {
		b.t.Fatal(err)
	}
}

// say publishes a message and returns its id.
func (b *bundle) say(author, channel id.ID, content string, mentions ...id.ID) id.ID {
	b.t.Helper()
	body := encode(wire.MessageSentPayload{
		Message: encode(wire.MessageBody{ChannelID: channel, Content: content}), Author: encode(person(author)),
		Member: encode(wire.MemberFields{JoinedAt: 1}), Mentions: mentions,
	})
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{
		Type: wire.MessageSent, Actor: author, Guild: guild, Channel: channel, Body: body,
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(got.Pos)
	return bus.MessageID(got.Pos)
}

func (b *bundle) member(kind wire.EventType, user id.ID, roles ...id.ID) {
	b.t.Helper()
	b.cold(kind, bus.Entry{Guild: guild, User: user}, wire.MemberChangedPayload{
		Member: wire.MemberRecord{UserID: user, MemberFields: wire.MemberFields{JoinedAt: 1, Roles: roles}}, User: person(user),
	})
}

func (b *bundle) kick(user id.ID) {
	b.t.Helper()
	b.cold(wire.MemberRemoved, bus.Entry{Guild: guild, User: user}, wire.MemberRemovedPayload{User: person(user), Cause: wire.CauseKicked})
}

func (b *bundle) token(user id.ID) string {
	return b.minter.Mint(token.Claims{User: user, Session: "login-" + user.String(), TTL: time.Minute})
}

// socket is a client that looks at every frame.
type socket struct {
	t       testing.TB
	ws      *websocket.Conn
	session string
	seq     int64
	back    *frame // read before anybody wanted it
}

// frame is a frame of the server.
type frame struct {
	Op wire.Opcode     `json:"op"`
	D  json.RawMessage `json:"d"`
	S  *int64          `json:"s"`
	T  string          `json:"t"`
}

func (b *bundle) dial(path string) *socket {
	b.t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial(b.url+path, nil)
	if err != nil {
		b.t.Fatalf("dial %s: %v (%v)", path, err, resp)
	}
	_ = resp.Body.Close()
	s := &socket{t: b.t, ws: ws}
	b.t.Cleanup(func() { _ = ws.Close() })
	if f := s.read(); f.Op != wire.OpHello {
		b.t.Fatalf("the first frame is op %d", f.Op)
	}
	return s
}

// readTimeout is only how long a test that fails takes.
const readTimeout = 20 * time.Second

func (s *socket) read() frame {
	s.t.Helper()
	if f := s.back; f != nil {
		s.back = nil
		return *f
	}
	f, err := s.next()
	if err != nil {
		s.t.Fatalf("read: %v", err)
	}
	return f
}

func (s *socket) next() (f frame, err error) {
	_ = s.ws.SetReadDeadline(time.Now().Add(readTimeout))
	_, b, err := s.ws.ReadMessage()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(b, &f)
}

func (s *socket) send(op wire.Opcode, d any) {
	s.t.Helper()
	if err := s.ws.WriteMessage(websocket.TextMessage, wire.AppendFrame(nil, op, encode(d))); err != nil {
		s.t.Fatal(err)
	}
}

// numbered are the dispatches that add to s.
func numbered(name string) bool {
	switch name {
	case "TYPING_START", "PRESENCE_UPDATE", "MESSAGE_READ", "GUILD_MEMBERS_CHUNK", "RESUMED":
		return false
	}
	return true
}

// dispatch reads the next dispatch that is not ephemeral (unless it is asked for) and checks its number.
func (s *socket) dispatch(name string) frame {
	s.t.Helper()
	for {
		f := s.read()
		if f.Op != wire.OpDispatch {
			s.t.Fatalf("want %s, got op %d %s", name, f.Op, f.D)
		}
		want := s.seq
		if numbered(f.T) {
			want++
		}
		if f.S == nil || *f.S != want {
			s.t.Fatalf("%s has s %v, want %d", f.T, f.S, want)
		}
		s.seq = want
		if f.T == name {
			return f
		}
		if numbered(f.T) || !numbered(name) && f.T == "RESUMED" {
			s.t.Fatalf("want %s, got %s %s", name, f.T, f.D)
		}
	}
}

func (f frame) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(f.D, v); err != nil {
		t.Fatalf("%s: %v", f.T, err)
	}
}

// identify begins a session and reads READY and the guilds.
func (b *bundle) identify(user id.ID, intents wire.Intents) (*socket, []wire.GuildCreate) {
	b.t.Helper()
	s := b.dial("/?v=10&encoding=json")
	s.send(wire.OpIdentify, wire.Identify{Token: b.token(user), Intents: &intents})
	var ready wire.Ready
	s.dispatch("READY").into(b.t, &ready)
	s.session = ready.SessionID
	var guilds []wire.GuildCreate
	for range ready.Guilds {
		if !intents.Has(wire.IntentGuilds) {
			break
		}
		var g wire.GuildCreate
		s.dispatch("GUILD_CREATE").into(b.t, &g)
		guilds = append(guilds, g)
	}
	return s, guilds
}

// resume goes on with the session of s on a new connection, up to and without RESUMED.
func (b *bundle) resume(user id.ID, was *socket, seq int64) *socket {
	b.t.Helper()
	s := b.dial("/?v=10&encoding=json")
	s.session, s.seq = was.session, seq
	s.send(wire.OpResume, wire.Resume{Token: b.token(user), SessionID: was.session, Seq: seq})
	return s
}

// cut breaks the connection without a close, and waits until the gateway has noticed.
func (b *bundle) cut(s *socket) {
	b.t.Helper()
	var gone <-chan struct{}
	b.service.desk.mu.Lock()
	for sub, r := range b.service.desk.owned {
		if r.id == s.session {
			gone = sub.Done()
		}
	}
	b.service.desk.mu.Unlock()
	if gone == nil {
		b.t.Fatal("no such session is open")
	}
	_ = s.ws.NetConn().Close()
	<-gone
}

// resumed says whether the resume was accepted, from the first frame that comes.
func (s *socket) resumed() bool {
	s.t.Helper()
	f := s.read()
	if f.Op == wire.OpInvalidSession {
		return false
	}
	s.back = &f
	return true
}

// message reads MESSAGE_CREATE and returns its content.
func (s *socket) message() string {
	s.t.Helper()
	var m wire.Message
	s.dispatch("MESSAGE_CREATE").into(s.t, &m)
	return m.Content
}

func get(t *testing.T, url, auth string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode, resp.Header.Get("Content-Type") + " " + string(body)
}
