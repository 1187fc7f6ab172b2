package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/reads"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// A DM of the owner and the member, and a group of the two in which the outsider was.
const (
	dmID    id.ID = 2001
	groupID id.ID = 2002
)

// directs makes them by the same way as the service that owns them.
func (b *bundle) directs() {
	b.t.Helper()
	two := []id.ID{ownerID, memberID}
	b.direct(1, wire.DirectChangedPayload{Came: two[:1], Direct: wire.Direct{
		ID: dmID, Type: wire.ChannelDM, Recipients: two, Closed: map[id.ID]id.ID{memberID: 0},
	}})
	b.direct(1, wire.DirectChangedPayload{Direct: wire.Direct{
		ID: groupID, Type: wire.ChannelGroupDM, Recipients: append(two, outsiderID), OwnerID: ownerID,
	}})
	b.direct(2, wire.DirectChangedPayload{Went: []id.ID{outsiderID}, Direct: wire.Direct{
		ID: groupID, Type: wire.ChannelGroupDM, Recipients: two, OwnerID: ownerID,
	}})
}

func (b *bundle) direct(version int64, p wire.DirectChangedPayload) bus.Position {
	b.t.Helper()
	return b.cold(bus.Entry{Type: wire.DirectChanged, Actor: ownerID, Channel: p.Direct.ID, Version: version}, p)
}

func (b *bundle) postTo(user, channel id.ID, content string) wire.Message {
	b.t.Helper()
	a := b.do(user, "POST", path(channel), wire.CreateMessage{Content: content})
	if a.status != http.StatusOK {
		b.t.Fatalf("status %d: %s", a.status, a.body)
	}
	var m wire.Message
	if err := json.Unmarshal(a.body, &m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// last is the latest entry of a channel.
func (b *bundle) last(channel id.ID) bus.Entry {
	b.t.Helper()
	end, err := b.log.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	entries, _, err := b.log.ReadBack(b.t.Context(), bus.Position{}, end, 100)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Channel == channel {
			return e
		}
	}
	b.t.Fatal("there is nothing of the channel in the log")
	return bus.Entry{}
}

func TestDirect_IsWrittenAndReadByWhoIsInIt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	first := b.postTo(ownerID, dmID, "one <@"+memberID.String()+">")
	if first.GuildID != 0 || len(first.Mentions) != 1 {
		t.Errorf("got %+v", first)
	}
	e := b.last(dmID)
	var p wire.MessageSentPayload
	if err := json.Unmarshal(e.Body, &p); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.To, []id.ID{ownerID, memberID}) || e.Guild != 0 || p.ChannelType != wire.ChannelDM || p.Member != nil {
		t.Errorf("got %+v", e)
	}
	if p.Reopens == nil || !slices.Equal(p.Reopens.Came, []id.ID{memberID}) {
		t.Errorf("whom does the first message bring the channel? %+v", p.Reopens)
	}
	b.postTo(memberID, dmID, "two")
	if p = (wire.MessageSentPayload{}); json.Unmarshal(b.last(dmID).Body, &p) != nil || p.Reopens != nil {
		t.Errorf("the second one brings the channel to %+v", p.Reopens)
	}
	edit := b.do(ownerID, "PATCH", path(dmID, first.ID), `{"content":"uno"}`)
	if edit.status != http.StatusOK || !slices.Equal(b.last(dmID).To, e.To) {
		t.Errorf("edit: %d %s", edit.status, edit.body)
	}
	a := b.do(memberID, "GET", path(dmID), nil)
	var page []wire.Message
	if err := json.Unmarshal(a.body, &page); err != nil || len(page) != 2 || page[1].Content != "uno" {
		t.Errorf("history: %d %s", a.status, a.body)
	}
	b.refused("edit of the other's", b.do(memberID, "PATCH", path(dmID, first.ID), `{"content":"x"}`), 403, 50005)
	b.refused("delete of the other's", b.do(memberID, "DELETE", path(dmID, first.ID), nil), 403, 50003)
	bulk := wire.BulkDelete{Messages: []id.ID{page[0].ID, page[1].ID}}
	b.refused("bulk delete", b.do(ownerID, "POST", path(dmID)+"/bulk-delete", bulk), 403, 50003)
	if a := b.do(ownerID, "DELETE", path(dmID, first.ID), nil); a.status != http.StatusNoContent {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	if n := b.rows("channel_id = $1 AND guild_id = 0", int64(dmID)); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// TestDirect_OnlyWhoIsInOneGetsAtIt asks every route of this service about a DM and a group, as everybody who is not in it.
func TestDirect_OnlyWhoIsInOneGetsAtIt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	const stranger id.ID = 9999
	b.cold(bus.Entry{Type: wire.UserCreated, User: stranger, Version: 1}, wire.UserChangedPayload{User: wire.User{ID: stranger, Username: "s"}})
	for _, channel := range []id.ID{dmID, groupID} {
		m := b.postTo(ownerID, channel, "mine")
		for _, r := range []struct {
			method, path string
			body         any
		}{
			{"POST", path(channel), `{"content":"x"}`},
			{"GET", path(channel), nil},
			{"GET", path(channel, m.ID), nil},
			{"PATCH", path(channel, m.ID), `{"content":"x"}`},
			{"DELETE", path(channel, m.ID), nil},
			{"POST", path(channel) + "/bulk-delete", wire.BulkDelete{Messages: []id.ID{m.ID, m.ID}}},
			{"POST", "/channels/" + channel.String() + "/typing", nil},
			{"PUT", path(channel, m.ID) + "/reactions/%F0%9F%A6%8A/@me", nil},
			{"DELETE", path(channel, m.ID) + "/reactions/%F0%9F%A6%8A/@me", nil},
			{"DELETE", path(channel, m.ID) + "/reactions/%F0%9F%A6%8A/" + ownerID.String(), nil},
			{"DELETE", path(channel, m.ID) + "/reactions/%F0%9F%A6%8A", nil},
			{"DELETE", path(channel, m.ID) + "/reactions", nil},
			{"GET", path(channel, m.ID) + "/reactions/%F0%9F%A6%8A", nil},
			{"GET", path(channel) + "/pins", nil},
			{"PUT", path(channel) + "/pins/" + m.ID.String(), nil},
			{"DELETE", path(channel) + "/pins/" + m.ID.String(), nil},
			{"POST", path(channel, m.ID) + "/ack", "{}"},
			{"GET", path(channel, m.ID) + "/receipts", nil},
		} {
			b.refused(r.method+" "+r.path+" as a stranger", b.do(stranger, r.method, r.path, r.body), 403, 50001)
			b.refused(r.method+" "+r.path+" as who was in the group", b.do(outsiderID, r.method, r.path, r.body), 403, 50001)
		}
		if a := b.do(memberID, "GET", path(channel, m.ID), nil); a.status != http.StatusOK {
			t.Errorf("who is in it: %d %s", a.status, a.body)
		}
	}
}

func TestDirect_HasReactionsAndPins(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	m := b.postTo(ownerID, dmID, "mine")
	fox := path(dmID, m.ID) + "/reactions/%F0%9F%A6%8A"
	f := func(status int, user id.ID, method, url string) {
		t.Helper()
		if a := b.do(user, method, url, nil); a.status != status {
			t.Errorf("%s %s: %d %s", method, url, a.status, a.body)
		}
		if to := b.last(dmID).To; !slices.Equal(to, []id.ID{ownerID, memberID}) {
			t.Errorf("%s %s is told %v", method, url, to)
		}
	}
	f(204, memberID, "PUT", fox+"/@me")
	f(200, ownerID, "GET", fox)
	f(204, memberID, "DELETE", fox+"/@me")
	f(204, memberID, "PUT", fox+"/@me")
	b.refused("another's reaction", b.do(ownerID, "DELETE", fox+"/"+memberID.String(), nil), 403, 50003)
	b.refused("all reactions", b.do(ownerID, "DELETE", path(dmID, m.ID)+"/reactions", nil), 403, 50003)
	f(204, memberID, "PUT", path(dmID)+"/pins/"+m.ID.String())
	f(200, ownerID, "GET", path(dmID)+"/pins")
	if last := b.messages(ownerID, dmID)[0]; last.Type != wire.MessagePinned || last.Author.ID != memberID {
		t.Errorf("what says the pin? %+v", last)
	}
	f(204, ownerID, "DELETE", path(dmID)+"/pins/"+m.ID.String())
}

// TestDirect_WhoHasLeftWritesNoMore: what was judged by the version before does not get into the log.
func TestDirect_WhoHasLeftWritesNoMore(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	if a := b.do(memberID, "POST", path(groupID), `{"content":"in"}`); a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	grant, err := b.roster.Can(t.Context(), memberID, groupID, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.direct(3, wire.DirectChangedPayload{Went: []id.ID{memberID}, Direct: wire.Direct{
		ID: groupID, Type: wire.ChannelGroupDM, Recipients: []id.ID{ownerID}, OwnerID: ownerID,
	}})
	_, err = b.log.Publish(t.Context(), bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Channel: groupID, To: grant.To()}, Fence: grant.Version})
	if err != bus.ErrStale {
		t.Errorf("got %v", err)
	}
	b.refused("afterwards", b.do(memberID, "POST", path(groupID), `{"content":"out"}`), 403, 50001)
}

func TestDirect_NeedsAGuildInCommonToWrite(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	b.postTo(ownerID, dmID, "hello")
	b.cold(bus.Entry{Type: wire.MemberRemoved, Guild: guildID, User: memberID, Version: 2}, wire.MemberRemovedPayload{Cause: wire.CauseLeft})
	for _, u := range []id.ID{ownerID, memberID} {
		b.refused("message", b.do(u, "POST", path(dmID), `{"content":"x"}`), 403, 50007)
		b.refused("typing", b.do(u, "POST", "/channels/"+dmID.String()+"/typing", nil), 403, 50007)
		if a := b.do(u, "GET", path(dmID), nil); a.status != http.StatusOK {
			t.Errorf("history: %d %s", a.status, a.body)
		}
	}
	b.postTo(memberID, groupID, "a group is another thing")
	b.cold(bus.Entry{Type: wire.MemberJoined, Guild: guildID, User: memberID, Version: 3}, wire.MemberChangedPayload{Member: wire.MemberRecord{UserID: memberID}})
	b.postTo(ownerID, dmID, "again")
	b.cold(bus.Entry{Type: wire.UserDeleted, User: memberID, Version: 2}, wire.UserDeletedPayload{UserID: memberID})
	b.refused("message to nobody", b.do(ownerID, "POST", path(dmID), `{"content":"x"}`), 403, 50007)
}

// TestSource_KnowsTheLatestMessages: who had a channel closed before them finds it in the list after the log was lost.
func TestSource_KnowsTheLatestMessages(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.directs()
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.postTo(ownerID, dmID, "one")
	two := b.postTo(ownerID, dmID, "two")
	b.postTo(ownerID, generalID, "three")
	b.stored()
	look := func() []*roster.Direct {
		found, _, err := b.roster.LookDirects(t.Context(), []id.ID{dmID, groupID, generalID})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := look(); len(found) != 2 || found[0].Last != two.ID {
		t.Errorf("before: %+v", found)
	}
	b.svc.Stop()
	state, err := b.log.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows := func(_ context.Context, _ roster.Snapshot, each func(bus.Entry) error) error {
		p := wire.DirectChangedPayload{Direct: wire.Direct{ID: dmID, Type: wire.ChannelDM, Recipients: []id.ID{ownerID, memberID}}}
		body, err := encode(p)
		return errors.Join(err, each(bus.Entry{Type: wire.DirectChanged, Channel: dmID, Version: 1, Body: body}))
	}
	err = roster.Rebuild(t.Context(), b.log, b.pool, roster.Rebuilding{Epoch: state.Epoch, Least: state.Last.Ms + 1}, []roster.Source{rows, reads.Source})
	if err != nil {
		t.Fatal(err)
	}
	if found := look(); len(found) != 1 || found[0].Last != two.ID {
		t.Errorf("after: %+v", found)
	}
}
