package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/migrations"
)

func searchPath(query string) string {
	return "/guilds/" + guildID.String() + "/messages/search?" + query
}

// indexed waits until the index has everything that is in the log now.
func (b *bundle) indexed() {
	b.t.Helper()
	last, err := b.log.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, func() bool {
		mark, err := b.svc.store.checkpointOf(b.t.Context(), searchGroup)
		return err == nil && !mark.Less(last)
	})
}

// search is the texts that a user finds, and how many there are in all.
func (b *bundle) search(user id.ID, query string) (texts []string, total int) {
	b.t.Helper()
	a := b.do(user, "GET", searchPath(query), nil)
	if a.status != http.StatusOK {
		b.t.Fatalf("%s: %d %s", query, a.status, a.body)
	}
	var in wire.SearchResults
	if err := json.Unmarshal(a.body, &in); err != nil {
		b.t.Fatal(err)
	}
	texts = []string{}
	for _, one := range in.Messages {
		if len(one) != 1 || !one[0].Hit || one[0].Author.ID == 0 {
			b.t.Errorf("%s: %s", query, a.body)
		}
		texts = append(texts, one[0].Content)
	}
	return texts, in.TotalResults
}

// finds checks what the member finds, in order.
func (b *bundle) finds(query string, want ...string) {
	b.t.Helper()
	got, total := b.search(memberID, query)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" || total != len(want) {
		b.t.Errorf("%s: %d in all\n%s", query, total, diff)
	}
}

// written publishes a message as it would be if its parts could be sent already.
func (b *bundle) written(author id.ID, body wire.MessageBody) id.ID {
	b.t.Helper()
	body.ChannelID = generalID
	r, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{
		Type: wire.MessageSent, Actor: author, Guild: guildID, Channel: generalID,
		Body: mustEncode(wire.MessageSentPayload{Message: mustEncode(body)}),
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	return bus.MessageID(r.Pos)
}

func TestSearch_FindsByWordsAndFilters(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	file := func(kind string) wire.List[wire.Attachment] {
		return wire.List[wire.Attachment]{{ID: 1, Filename: "f", ContentType: kind, URL: "/attachments/1/1/f", ProxyURL: "/attachments/1/1/f"}}
	}
	fox := b.written(ownerID, wire.MessageBody{Content: "the quick brown fox"})
	b.written(memberID, wire.MessageBody{Content: "a quick answer: https://example.com/Path?q=1"})
	b.written(memberID, wire.MessageBody{Content: "a brown picture", Attachments: file("image/png")})
	b.written(memberID, wire.MessageBody{Content: "a film", Attachments: file("video/mp4"), Pinned: true})
	b.written(memberID, wire.MessageBody{Content: "a song", Attachments: file("audio/ogg")})
	card := b.written(ownerID, wire.MessageBody{Content: "card", Embeds: wire.List[wire.Embed]{{Type: "rich", Title: "x"}}})
	b.written(ownerID, wire.MessageBody{Content: "hello you", Mentions: wire.List[wire.User]{{ID: memberID, Username: "m"}}})
	b.written(ownerID, wire.MessageBody{Content: "hello mods", MentionRoles: wire.List[id.ID]{modRoleID}})
	b.written(ownerID, wire.MessageBody{Content: "hello all", MentionEveryone: true})
	b.indexed()

	const link = "a quick answer: https://example.com/Path?q=1"
	f := b.finds
	f("content=quick", link, "the quick brown fox")
	f("content=QUICK+brown", "the quick brown fox")
	f("content=%22brown+fox%22", "the quick brown fox")
	f("content=%22fox+brown%22")
	f("content=brown+-fox", "a brown picture")
	f("content=fox+or+film", "a film", "the quick brown fox")
	f("content=example.com", link)
	f("content=qui")
	f("content=%21%21%21")
	f("content=hello&author_id=" + memberID.String())
	f("content=hello&author_id="+memberID.String()+"&author_id="+ownerID.String(), "hello all", "hello mods", "hello you")
	f("author_id="+ownerID.String()+"&has=embed", "card")
	f("has=link", link)
	f("has=file", "a song", "a film", "a brown picture")
	f("has=file&has=-image&has=-sound", "a film")
	f("has=image", "a brown picture")
	f("has=video", "a film")
	f("has=sound", "a song")
	for _, never := range []string{"sticker", "poll", "snapshot"} {
		f("has=" + never)
		f("content=fox&has=-"+never, "the quick brown fox")
	}
	f("mentions="+memberID.String(), "hello you")
	f("mentions="+modRoleID.String()+"&mentions="+memberID.String(), "hello mods", "hello you")
	f("mentions_role_id="+modRoleID.String(), "hello mods")
	f("mention_everyone=true", "hello all")
	f("mention_everyone=false&content=hello", "hello mods", "hello you")
	f("pinned=true", "a film")
	f("pinned=false&has=file", "a song", "a brown picture")
	f("channel_id="+generalID.String()+"&content=fox", "the quick brown fox")
	f("channel_id=" + categoryID.String() + "&content=fox")
	f("channel_id=77&content=fox")
	f("sort_order=asc&content=quick", "the quick brown fox", link)
	f("content=brown&before="+card.String(), "a brown picture", "the quick brown fox")
	f("content=brown&after="+fox.String(), "a brown picture")
	f("content=brown&min_id="+fox.String()+"&max_id="+card.String(), "a brown picture")
	f("content=brown&min_id=" + fox.String() + "&after=" + card.String())
	f("content=brown&max_id=" + fox.String() + "&before=" + card.String())
	f("content=brown&before=18446744073709551615", "a brown picture", "the quick brown fox")

	got, total := b.search(memberID, "limit=2&offset=1&sort_order=asc")
	if diff := cmp.Diff([]string{link, "a brown picture"}, got); diff != "" || total != 9 {
		t.Errorf("the second page: %d in all\n%s", total, diff)
	}
	if got, total := b.search(memberID, "offset=9975"); len(got) != 0 || total != 9 {
		t.Errorf("behind the last: %v, %d in all", got, total)
	}
	b.written(ownerID, wire.MessageBody{Content: "fox, fox and nothing but fox fox"})
	b.written(ownerID, wire.MessageBody{Content: "one fox among very many other words"})
	b.indexed()
	if got, _ := b.search(memberID, "content=fox&sort_by=relevance&limit=1"); got[0] != "fox, fox and nothing but fox fox" {
		t.Errorf("the most relevant: %q", got)
	}
	if got, _ := b.search(memberID, "content=fox&sort_by=relevance&sort_order=asc"); got[2] != "fox, fox and nothing but fox fox" {
		t.Errorf("the least relevant first: %q", got)
	}
}

func TestSearch_RefusesWhatIsNoQuery(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	f := func(query string) {
		t.Helper()
		b.refused(query, b.do(memberID, "GET", searchPath(query), nil), 400, int(fault.InvalidForm))
	}
	f("content=" + strings.Repeat("x", 1025))
	f("content=%00")
	f("content=%ff")
	f("author_id=x")
	f("author_id=1&author_id=x")
	f("author_id=1" + strings.Repeat("&author_id=1", 100))
	f("has=virus")
	f("limit=0")
	f("limit=26")
	f("offset=-1")
	f("offset=9976")
	f("sort_by=magic")
	f("sort_order=up")
	f("pinned=perhaps")
	f("min_id=x")
	b.refused("no guild", b.do(memberID, "GET", "/guilds/77/messages/search?content=x", nil), 404, 10004)
	b.refused("a stranger", b.do(outsiderID, "GET", searchPath("content=x"), nil), 404, 10004)
}

// Nothing that a text or a question may hold is taken for anything but words.
func TestSearch_TakesAnyText(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	long := strings.Repeat("x", 1999)
	for _, text := range []string{
		`'; DROP TABLE message_search; --`, `a " b ' c \ d`, "if x <y and then y> z", "<@1234> ahoy", "Iğdır ışık İzmir", "ÜBERGRÖSSE", "日本 語", "🦊 fuchs",
		strings.Repeat("😀", 2000), long, "tail \u202e\u0301 end", "100%_done & !ready | <-> (maybe):*",
	} {
		b.post(wire.CreateMessage{Content: text})
	}
	b.indexed()
	f := func(words string, want ...string) {
		t.Helper()
		b.finds("content="+url.QueryEscape(words), want...)
	}
	f(`'; DROP TABLE message_search; --`, `'; DROP TABLE message_search; --`)
	f(`drop table`, `'; DROP TABLE message_search; --`)
	f(`then <y`, "if x <y and then y> z")
	f(`1234`, "<@1234> ahoy")
	f(`ışık`, "Iğdır ışık İzmir")
	f(`ISIK`) // a dotless i is another letter
	f(`übergröße`)
	f(`Übergrösse`, "ÜBERGRÖSSE")
	f(`日本`, "日本 語")
	f(`🦊`)
	f(`fuchs 🦊`, "🦊 fuchs")
	f(long[:1024])
	f(`"unclosed`)
	f(`done & ! | <-> ( :*`, "100%_done & !ready | <-> (maybe):*")
	f(strings.Repeat(`"`, 1024))
	b.refused("nothing but signs", b.do(memberID, "GET", searchPath("content="+strings.Repeat(`-`, 1024)), nil), 400, int(fault.InvalidForm))
	f(strings.Repeat(`a or `, 200), `a " b ' c \ d`)
	f(`\`)
	b.finds("content=%20&limit=1&has=poll")
}

func TestSearch_ShowsOnlyWhatMayBeRead(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	b.message(b.do(ownerID, "POST", path(hiddenID), wire.CreateMessage{Content: "secret hidden"}))
	b.message(b.do(ownerID, "POST", path(generalID), wire.CreateMessage{Content: "secret open"}))
	b.indexed()
	b.finds("content=secret", "secret open")
	b.finds("content=secret&channel_id=" + hiddenID.String())
	if got, total := b.search(ownerID, "content=secret"); len(got) != 2 || total != 2 {
		t.Errorf("the owner: %q", got)
	}

	version := int64(1)
	change := func(e bus.Entry, payload any) {
		version++
		e.Guild, e.Version = guildID, version
		b.cold(e, payload)
	}
	seen := func(allow bool) {
		hide := wire.List[wire.Overwrite]{{ID: guildID, Type: perm.OverwriteRole, Deny: perm.ViewChannel}}
		if allow {
			hide = append(hide, wire.Overwrite{ID: modRoleID, Type: perm.OverwriteRole, Allow: perm.ViewChannel})
		}
		change(bus.Entry{Type: wire.ChannelUpdated, Channel: hiddenID}, wire.ChannelChangedPayload{
			Channel: wire.Channel{ID: hiddenID, GuildID: guildID, Name: "hidden", PermissionOverwrites: hide},
		})
	}
	roles := func(roles ...id.ID) {
		change(bus.Entry{Type: wire.MemberUpdated, User: memberID}, wire.MemberChangedPayload{
			Member: wire.MemberRecord{UserID: memberID, MemberFields: wire.MemberFields{Roles: roles}},
		})
	}
	seen(true)
	roles(modRoleID)
	b.finds("content=secret", "secret open", "secret hidden")
	roles()
	b.finds("content=secret", "secret open")
	roles(modRoleID)
	seen(false)
	b.finds("content=secret", "secret open")
	seen(true)
	b.finds("content=secret", "secret open", "secret hidden")

	// Without the history there is nothing to be found.
	version++
	b.everyone(version, perm.DefaultEveryone&^perm.ReadMessageHistory)
	b.finds("content=secret")
	version++
	b.everyone(version, perm.DefaultEveryone)
	change(bus.Entry{Type: wire.MemberRemoved, User: memberID}, wire.MemberRemovedPayload{User: wire.User{ID: memberID}})
	b.refused("an ex-member", b.do(memberID, "GET", searchPath("content=secret"), nil), 404, 10004)
}

func TestSearch_FollowsEditsAndDeletes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	first, second, third := b.post(wire.CreateMessage{Content: "apple one"}), b.post(wire.CreateMessage{Content: "apple two"}), b.post(wire.CreateMessage{Content: "apple three"})
	b.indexed()
	b.finds("content=apple", "apple three", "apple two", "apple one")
	b.edit(first.ID, "pear one")
	b.remove(second.ID)
	b.indexed()
	b.finds("content=apple", "apple three")
	b.finds("content=pear", "pear one")
	b.edit(first.ID, "see https://example.com")
	b.indexed()
	b.finds("has=link", "see https://example.com")
	if a := b.do(ownerID, "POST", path(generalID)+"/bulk-delete", wire.BulkDelete{Messages: []id.ID{first.ID, third.ID}}); a.status != 204 {
		t.Fatalf("bulk delete: %d %s", a.status, a.body)
	}
	b.indexed()
	b.finds("")
	if n := b.count("SELECT count(*) FROM message_search"); n != 0 {
		t.Errorf("%d rows are left in the index", n)
	}
}

// What the index does not know yet is not shown as it was.
func TestSearch_ShowsNothingThatHasChangedSince(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	edited, removed, kept := b.post(wire.CreateMessage{Content: "apple one"}), b.post(wire.CreateMessage{Content: "apple two"}), b.post(wire.CreateMessage{Content: "apple three"})
	b.edit(kept.ID, "apple three and a half")
	b.indexed()
	b.stored()
	b.svc.groups.Stop()
	b.edit(edited.ID, "pear one")
	b.remove(removed.ID)
	got, _ := b.search(memberID, "content=apple")
	if diff := cmp.Diff([]string{"apple three and a half"}, got); diff != "" {
		t.Error(diff)
	}
}

// A process that begins later finds what it has missed, and what is indexed outlives it.
func TestSearch_CatchesUpAfterAStop(t *testing.T) {
	t.Parallel()
	url := harness.Postgres(t)
	b := setupOn(t, Config{}, url)
	b.post(wire.CreateMessage{Content: "apple one"})
	b.finds("content=apple")
	b.start()
	b.indexed()
	b.finds("content=apple", "apple one")
	b.svc.groups.Stop()
	b.post(wire.CreateMessage{Content: "apple two"})
	b.finds("content=apple", "apple one")
	x := &indexer{store: b.svc.store, timeout: 30 * time.Second, lease: time.Hour}
	group := bus.NewGroup(b.log, x.group(1))
	if err := group.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer group.Stop()
	b.indexed()
	b.finds("content=apple", "apple two", "apple one")
}

// A crash between COMMIT and XACK: the batch is indexed and comes again.
func TestSearch_IndexesOnceWhatIsDeliveredTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	kept, gone := b.post(wire.CreateMessage{Content: "apple"}), b.post(wire.CreateMessage{Content: "apple gone"})
	b.edit(kept.ID, "apple kept")
	b.remove(gone.ID)
	x := &indexer{store: b.svc.store, timeout: 30 * time.Second, lease: time.Hour}
	config := x.group(1)
	var calls atomic.Int64
	config.Handle = func(ctx context.Context, entries []bus.Entry) error {
		if err := x.index(ctx, entries); err != nil {
			return err
		}
		if calls.Add(1)%2 == 1 {
			return errors.New("killed between COMMIT and XACK")
		}
		return nil
	}
	group := bus.NewGroup(b.log, config)
	if err := group.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.indexed()
	eventually(t, func() bool { return calls.Load()%2 == 0 })
	group.Stop()
	b.finds("content=apple", "apple kept")
}

func TestIndexer_GivesTheSameRowsForRedeliveries(t *testing.T) {
	t.Parallel()
	pool := openPool(t, harness.Postgres(t))
	x := &indexer{store: store{pool}, timeout: 30 * time.Second, lease: time.Hour}
	release, err := x.lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	create := func(n int, text string) bus.Entry { return sentEntry(at(n), generalID, text) }
	direct := create(3, "direct")
	direct.Guild = 0
	edit := func(n, of int, text string) bus.Entry {
		return editEntry(at(n), generalID, bus.MessageID(at(of)), text)
	}
	index := func(entries ...bus.Entry) {
		t.Helper()
		if err := x.index(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
	index(create(1, "first"), create(2, "second"), direct)
	index(edit(5, 1, "newer"))
	index(edit(4, 1, "older"))
	index(create(1, "first"), create(2, "second"))
	index(deleteEntry(at(6), generalID, bus.MessageID(at(2))))
	rows, err := pool.Query(t.Context(), "SELECT words::text FROM message_search")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var words string
		if err := rows.Scan(&words); err != nil {
			t.Fatal(err)
		}
		got = append(got, words)
	}
	if diff := cmp.Diff([]string{"'newer':1"}, got); diff != "" {
		t.Error(diff)
	}
	if mark, err := x.store.checkpointOf(t.Context(), searchGroup); err != nil || mark != at(6) {
		t.Errorf("the checkpoint: %s %v", mark, err)
	}

	// A successor fences it.
	if _, err := x.held.conn.Exec(t.Context(), "SELECT pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	next := &indexer{store: store{pool}, timeout: 30 * time.Second, lease: time.Hour}
	if release, err = next.lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	if err := x.index(t.Context(), []bus.Entry{create(7, "stale")}); !errors.Is(err, bus.ErrFenced) {
		t.Errorf("the old indexer got %v", err)
	}
	var n int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM message_search").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// What cannot be indexed is left out, without a dead letter; the writer has its own for it.
func TestSearch_IsNotHeldUpByPoison(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.post(wire.CreateMessage{Content: "apple before"})
	for _, body := range [][]byte{[]byte("this is no JSON"), []byte(`{"message":{"content":"\u0000 apple"}}`), []byte(`{"message":{"content":"apple","mentions":[{"id":"nobody"}]}}`)} {
		if _, err := b.log.Publish(t.Context(), bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Actor: memberID, Guild: guildID, Channel: generalID, Body: body}}); err != nil {
			t.Fatal(err)
		}
	}
	unread := b.client.B().Xadd().Key("ev:{s00}").Id("*").FieldValue().FieldValue("format", "9").Build()
	if err := b.client.Do(t.Context(), unread).Error(); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.indexed()
	b.post(wire.CreateMessage{Content: "apple after"})
	b.indexed()
	b.finds("content=apple", "apple after", "apple before")
	if n, err := b.client.Do(t.Context(), b.client.B().Exists().Key("dead:{s00}:"+searchGroup).Build()).AsInt64(); err != nil || n != 0 {
		t.Errorf("dead letters of the index: %d %v", n, err)
	}
}

// The migration's way and the indexer's come to the same, so that what the index lacks can be put in.
func TestSearch_IsMadeAnewFromRows(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	first := b.post(wire.CreateMessage{Content: "apple https://example.com", Embeds: []wire.Embed{{Title: "card"}}})
	b.post(wire.CreateMessage{Content: fmt.Sprintf("apple <@%d> <@&%d>", ownerID, modRoleID)})
	b.edit(first.ID, "pear http://example.com")
	b.stored()
	b.indexed()
	const all = "SELECT count(DISTINCT md5(m::text)), count(*) FROM (SELECT * FROM message_search UNION ALL SELECT * FROM kept) m"
	file, err := migrations.FS.ReadFile("0060_search.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, fill, _ := strings.Cut(string(file), "insert into message_search")
	fill, _, _ = strings.Cut(fill, ";")
	b.exec("CREATE TABLE kept AS SELECT * FROM message_search")
	b.exec("TRUNCATE message_search")
	b.exec("INSERT INTO message_search" + fill)
	var kinds, rows int
	if err := b.pool.QueryRow(t.Context(), all).Scan(&kinds, &rows); err != nil || kinds != 2 || rows != 4 {
		t.Errorf("%d rows of %d kinds, %v", rows, kinds, err)
	}
	b.finds("mentions="+ownerID.String(), fmt.Sprintf("apple <@%d> <@&%d>", ownerID, modRoleID))
}
