package messaging

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/files"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/postgres"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

// fasthttp's sweeper of workers outlives its server by up to ten seconds, and its clock is one for the process.
func TestMain(m *testing.M) {
	os.Exit(harness.Main(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1")))
}

// The one guild of these tests: the owner, a member, an outsider who is nobody's member, and a channel of each kind.
const (
	guildID id.ID = 1000 + iota
	generalID
	hiddenID // nobody but the owner sees it
	categoryID
	modRoleID
	ownerID
	memberID
	outsiderID
	botID // no member either
)

// bundle is one process's worth of messaging over real servers. The writer does not run until svc.Start.
type bundle struct {
	t      testing.TB
	client rueidis.Client
	admin  rueidis.Client // of the same Redis
	log    *bus.Log
	pool   *pgxpool.Pool
	roster *roster.Roster
	outbox *roster.Outbox
	tail   *bus.Tail
	reads  *reads.Reads
	svc    *Service
	base   string
	dir    string // of the files
}

func setup(t testing.TB, config Config) *bundle {
	t.Helper()
	return setupOn(t, config, harness.Postgres(t))
}

// setupOn is setup with a Postgres of the test's own choice.
func setupOn(t testing.TB, config Config, postgresURL string) *bundle {
	t.Helper()
	server := harness.Redis(t)
	b := &bundle{t: t, client: connect(t, server.URL()), admin: connect(t, server.AdminURL())}
	b.log = bus.Open(b.client, bus.Config{})
	if err := b.log.Install(t.Context(), b.admin); err != nil {
		t.Fatal(err)
	}
	b.pool = openPool(t, postgresURL)
	b.roster = roster.New(b.log)
	b.outbox = roster.NewOutbox(b.roster, b.pool)
	b.tail = bus.NewTail(b.log, func(ctx context.Context) (bus.Position, error) { return b.svc.Checkpoint(ctx) })
	b.tail.Subscribe(b.roster.HandleEntries)
	b.reads = reads.New(b.pool, b.tail)
	b.dir = t.TempDir()
	store, err := files.OpenLocal(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	b.svc = New(config, Deps{
		Log: b.log, Tail: b.tail, Roster: b.roster, Reads: b.reads, Pool: b.pool, Files: store, IDs: postgres.NewIDs(b.pool), Links: newLinks(t),
	})
	b.populate()
	if err := b.tail.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.tail.Stop)
	if err := b.reads.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.reads.Stop)
	t.Cleanup(b.svc.Stop)
	b.base = serve(t, b.svc, b.dir)
	return b
}

func connect(t testing.TB, url string) rueidis.Client {
	t.Helper()
	client, err := redis.Open(t.Context(), redis.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func openPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// byNumber takes the caller's id for a token.
type byNumber struct{}

func (byNumber) Authenticate(_ context.Context, authorization string) (rest.Identity, error) {
	user, err := id.Parse(authorization)
	if err != nil {
		return rest.Identity{}, fault.Unauthorized()
	}
	return rest.Identity{User: user, Bot: user == botID}, nil
}

func newLinks(t testing.TB) *token.Links {
	t.Helper()
	dir := t.TempDir()
	if err := token.Generate(dir); err != nil {
		t.Fatal(err)
	}
	keys, err := token.Load(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	links, err := token.NewLinks(keys, func() string { return "http://chat.example" }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return links
}

// serve serves a service, with small bounds for files.
func serve(t testing.TB, svc *Service, spool string) string {
	t.Helper()
	uploads := rest.Uploads{Dir: spool, FileBytesMax: 1 << 20, FormBytesMax: 3 << 20}
	srv := rest.New(rest.Config{Addr: "127.0.0.1:0", Uploads: uploads}, rest.Deps{Authenticator: byNumber{}})
	rest.Bind(srv, Routes, svc)
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	return "http://" + srv.Addr() + "/api/v10"
}

// populate makes the guild by the same way as the services that own it.
func (b *bundle) populate() {
	b.t.Helper()
	for _, u := range []id.ID{ownerID, memberID, outsiderID} {
		b.cold(bus.Entry{Type: wire.UserCreated, User: u, Version: 1}, wire.UserChangedPayload{
			User: wire.User{ID: u, Username: fmt.Sprintf("user <%d>", u)},
		})
	}
	hide := wire.List[wire.Overwrite]{{ID: guildID, Type: perm.OverwriteRole, Deny: perm.ViewChannel}}
	b.cold(bus.Entry{Type: wire.ServerCreated, Guild: guildID, Version: 1}, wire.ServerCreatedPayload{
		Guild: wire.Guild{ID: guildID, Name: "guild", OwnerID: ownerID},
		Channels: []wire.Channel{
			{ID: generalID, GuildID: guildID, Name: "general"},
			{ID: hiddenID, GuildID: guildID, Name: "hidden", PermissionOverwrites: hide},
			{ID: categoryID, GuildID: guildID, Name: "category", Type: wire.ChannelCategory},
		},
		Roles: []wire.Role{
			{ID: guildID, Name: "@everyone", Permissions: perm.DefaultEveryone},
			{ID: modRoleID, Name: "mods", Permissions: perm.ManageMessages, Position: 1, Mentionable: true},
		},
		Members: []wire.MemberRecord{{UserID: ownerID}, {UserID: memberID}},
	})
}

// cold records a change as the cold path does, and settles it.
func (b *bundle) cold(e bus.Entry, payload any) bus.Position {
	b.t.Helper()
	return settle(b.t, b.pool, b.outbox, e, payload)
}

func settle(t testing.TB, pool *pgxpool.Pool, outbox *roster.Outbox, e bus.Entry, payload any) bus.Position {
	t.Helper()
	var err error
	if e.Body, err = json.Marshal(payload); err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.Record(t.Context(), tx, e); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	pos, err := outbox.Settle(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

// everyone sets what @everyone may do; version is the guild's next.
func (b *bundle) everyone(version int64, perms perm.Bits) {
	b.t.Helper()
	b.cold(bus.Entry{Type: wire.RoleUpdated, Guild: guildID, Version: version}, wire.RoleChangedPayload{
		Role: wire.Role{ID: guildID, Name: "@everyone", Permissions: perms},
	})
}

// answer is what a request came to.
type answer struct {
	status     int
	retryAfter string
	header     http.Header
	body       []byte
}

func (a answer) code() int {
	var body struct{ Code int }
	_ = json.Unmarshal(a.body, &body) // 0 where there is none
	return body.Code
}

func (b *bundle) do(user id.ID, method, path string, body any) answer {
	b.t.Helper()
	return do(b.t, b.base, user, method, path, body)
}

func do(t testing.TB, base string, user id.ID, method, path string, body any) answer {
	t.Helper()
	var in io.Reader
	if text, ok := body.(string); ok {
		in = strings.NewReader(text)
	} else if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", user.String())
	req.Header.Set("Content-Type", "application/json")
	req.Close = true // no connection outlives its request, so none looks like a leak
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After"), body: raw}
}

func path(channel id.ID, message ...id.ID) string {
	p := "/channels/" + channel.String() + "/messages"
	for _, m := range message {
		p += "/" + m.String()
	}
	return p
}

// post sends a message as the member and returns it.
func (b *bundle) post(body any) wire.Message {
	b.t.Helper()
	return b.message(b.do(memberID, "POST", path(generalID), body))
}

func (b *bundle) message(a answer) (m wire.Message) {
	b.t.Helper()
	if a.status != http.StatusOK {
		b.t.Fatalf("status %d: %s", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// history is the contents of a page, newest first.
func (b *bundle) history(query string) []string {
	b.t.Helper()
	a := b.do(memberID, "GET", path(generalID)+query, nil)
	if a.status != http.StatusOK {
		b.t.Fatalf("status %d: %s", a.status, a.body)
	}
	var messages []wire.Message
	if err := json.Unmarshal(a.body, &messages); err != nil {
		b.t.Fatal(err)
	}
	texts := []string{}
	for _, m := range messages {
		texts = append(texts, m.Content)
	}
	return texts
}

// refused checks an answer's status and code.
func (b *bundle) refused(what string, a answer, status, code int) {
	b.t.Helper()
	if a.status != status || a.code() != code {
		b.t.Errorf("%s: got %d %s, want %d code %d", what, a.status, a.body, status, code)
	}
}

// stored waits until the writer has committed everything that is in the log now.
func (b *bundle) stored() {
	b.t.Helper()
	last, err := b.log.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, func() bool {
		mark, err := b.svc.store.checkpoint(b.t.Context())
		return err == nil && !mark.Less(last)
	})
}

// eventually asks again and again until it is so; it fails after half a minute, which no healthy machine needs.
func eventually(t testing.TB, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it never happened")
		}
	}
}

// rows is how many messages are stored.
func (b *bundle) rows(where string, args ...any) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM messages WHERE "+where, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}
