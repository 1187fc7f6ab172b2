package messaging

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

func TestService_StartsAndStops(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	lifetest.Stress(t, func() life.Service {
		return New(Config{}, Deps{Log: b.log, Tail: bus.NewTail(b.log, b.svc.Checkpoint), Roster: b.roster, Reads: b.reads, Pool: b.pool})
	})
}

func TestConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	err := Config{ReadWait: -1, OverlayBytes: -1, Batch: -1, NonceTTL: time.Millisecond}.Validate()
	if err == nil || strings.Count(err.Error(), "messaging:") != 4 {
		t.Errorf("got %v", err)
	}
}

// What the sender is told, what the log has for the gateway and what the history shows are the same bytes, stored or not.
func TestMessages_AreTheSameBytesEverywhere(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	sent := b.do(memberID, "POST", path(generalID), `{"content":"a <b> & \u2028 \"é\" <@1006>","nonce":"n<1>","embeds":[{"title":"<t>"}]}`)
	m := b.message(sent)
	if m.Nonce.Text() != "n<1>" || m.Content != "a <b> & \u2028 \"é\" <@1006>" || len(m.Mentions) != 1 {
		t.Errorf("reply: %s", sent.body)
	}
	plain := bytes.Replace(sent.body, []byte(`"nonce":`+string(m.Nonce)+`,`), nil, 1)
	e, ok, err := b.log.Read(t.Context(), bus.PositionOf(m.ID))
	if err != nil || !ok {
		t.Fatalf("the log has no such entry: %v", err)
	}
	var p wire.MessageSentPayload
	if err := json.Unmarshal(e.Body, &p); err != nil {
		t.Fatal(err)
	}
	same := func(what string, got, want []byte) {
		t.Helper()
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
		}
	}
	same("gateway", wire.AppendMessage(nil, m.ID, p.Author, p.Message), sent.body)
	read := func(when string, want []byte) {
		t.Helper()
		same(when+" message", b.do(memberID, "GET", path(generalID, m.ID), nil).body, want)
		same(when+" history", b.do(memberID, "GET", path(generalID), nil).body, []byte("["+string(want)+"]"))
	}
	read("unstored", plain)
	if err := b.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stored()
	read("stored", plain)
	edited := b.do(memberID, "PATCH", path(generalID, m.ID), `{"content":"<i>"}`)
	read("edited", edited.body)
	b.stored()
	eventually(t, func() bool { return b.svc.overlay.stats().messages == 0 })
	read("edited and stored", edited.body)
}

func TestHistory_ContainsWhatNobodyHasStoredYet(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]Config{"in memory": {}, "in the log": {OverlayBytes: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, config)
			var m []wire.Message
			for i := range 5 {
				m = append(m, b.post(wire.CreateMessage{Content: fmt.Sprint(i)}))
			}
			// Half of it is stored, and then changed again where nobody stores it.
			if err := b.svc.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.stored()
			b.svc.Stop()
			if _, err := b.svc.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := 5; i < 9; i++ {
				m = append(m, b.post(wire.CreateMessage{Content: fmt.Sprint(i)}))
			}
			for _, i := range []int{1, 6} {
				b.message(b.do(memberID, "PATCH", path(generalID, m[i].ID), wire.EditMessage{Content: wire.Some(fmt.Sprint(i, " edited"))}))
			}
			for _, i := range []int{3, 7} {
				if a := b.do(memberID, "DELETE", path(generalID, m[i].ID), nil); a.status != 204 {
					t.Fatalf("delete: %d %s", a.status, a.body)
				}
			}
			check := func() {
				t.Helper()
				pages(t, b, m)
			}
			check()
			if err := b.svc.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.stored()
			check()
		})
	}
}

// pages checks every kind of page of a history of nine messages, two of them edited (1, 6) and two deleted (3, 7).
func pages(t *testing.T, b *bundle, m []wire.Message) {
	t.Helper()
	f := func(query string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(append([]string{}, want...), b.history(query)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	f("", "8", "6 edited", "5", "4", "2", "1 edited", "0")
	f("?limit=3", "8", "6 edited", "5")
	f("?limit=5", "8", "6 edited", "5", "4", "2")
	f("?limit=2&before="+m[5].ID.String(), "4", "2")
	f("?limit=4&before="+m[8].ID.String(), "6 edited", "5", "4", "2")
	f("?before=" + m[0].ID.String())
	f("?limit=2&after="+m[0].ID.String(), "2", "1 edited")
	f("?limit=4&after="+m[2].ID.String(), "8", "6 edited", "5", "4")
	f("?after=" + m[8].ID.String())
	f("?after=0&limit=1", "8") // an anchor of 0 is none
	f("?limit=1&around="+m[4].ID.String(), "4")
	f("?limit=4&around="+m[4].ID.String(), "5", "4", "2", "1 edited")
	f("?limit=3&around="+m[7].ID.String(), "8", "6 edited") // deleted itself; two places for what is newer
	f("?around=18446744073709551615", "8", "6 edited", "5", "4", "2", "1 edited", "0")
	f("?after=18446744073709551615")
	for i, status := range map[int]int{0: 200, 3: 404, 6: 200, 7: 404} {
		if a := b.do(memberID, "GET", path(generalID, m[i].ID), nil); a.status != status {
			t.Errorf("message %d: %d %s", i, a.status, a.body)
		}
	}
}

func TestHistory_IsReadFromTheOverlayWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for i := range 3 {
		b.post(wire.CreateMessage{Content: fmt.Sprint(i)})
	}
	b.pool.Close()
	if diff := cmp.Diff([]string{"2", "1"}, b.history("?limit=2")); diff != "" {
		t.Error(diff)
	}
	b.refused("beyond the overlay", b.do(memberID, "GET", path(generalID)+"?limit=4", nil), 503, 0)
	b.message(b.do(memberID, "POST", path(generalID), wire.CreateMessage{Content: "still accepted"}))
}

func TestHistory_WaitsForTheTailAndNotForEver(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{ReadWait: 20 * time.Millisecond})
	b.tail.Stop()
	m := b.post(wire.CreateMessage{Content: "nobody here has seen it"})
	b.refused("history", b.do(memberID, "GET", path(generalID), nil), 503, 0)
	b.refused("message", b.do(memberID, "GET", path(generalID, m.ID), nil), 503, 0)
	if err := b.tail.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.history(""); len(got) != 1 {
		t.Errorf("after the tail has caught up: %v", got)
	}
}

func TestNonce_GivesOneMessageForManyRequests(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	body := `{"content":"once","nonce":7,"enforce_nonce":true}`
	var wg sync.WaitGroup
	answers := make([]answer, 8)
	for i := range answers {
		wg.Go(func() { answers[i] = b.do(memberID, "POST", path(generalID), body) })
	}
	wg.Wait()
	for _, a := range answers {
		if !bytes.Equal(a.body, answers[0].body) || a.status != 200 {
			t.Errorf("%d %s, want %s", a.status, a.body, answers[0].body)
		}
	}
	if got := b.history(""); len(got) != 1 {
		t.Errorf("history: %v", got)
	}
	other := b.message(b.do(ownerID, "POST", path(generalID), body))
	if other.ID == b.message(answers[0]).ID {
		t.Error("a nonce of one author counts for another")
	}
	b.post(`{"content":"twice","nonce":"x"}`)
	b.post(`{"content":"twice","nonce":"x"}`)
	if got := b.history(""); len(got) != 4 {
		t.Errorf("a nonce that is not enforced: %v", got)
	}
}

func TestMessages_AreJudgedAgainWhenTheGuildHasMoved(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	// A process whose copy of the guild stands still: it never sees an entry.
	deaf := roster.New(b.log)
	svc := New(Config{}, Deps{Log: b.log, Tail: bus.NewTail(b.log, b.svc.Checkpoint), Roster: deaf, Reads: b.reads, Pool: b.pool})
	base := serve(t, svc)
	send := func() answer { return do(t, base, memberID, "POST", path(generalID), wire.CreateMessage{Content: "x"}) }
	b.message(send())
	b.everyone(2, perm.DefaultEveryone|perm.MentionEveryone)
	b.message(send())
	b.everyone(3, perm.DefaultEveryone&^perm.SendMessages)
	b.refused("after the permission is gone", send(), 403, 50013)
	if got := b.history(""); len(got) != 2 {
		t.Errorf("history: %v", got)
	}
}

func TestMessages_AreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	mine, theirs := b.post(wire.CreateMessage{Content: "mine"}), b.message(b.do(ownerID, "POST", path(generalID), wire.CreateMessage{Content: "theirs"}))
	hidden := b.message(b.do(ownerID, "POST", path(hiddenID), wire.CreateMessage{Content: "hidden"}))
	f := func(user id.ID, method, path string, body any, status, code int) {
		t.Helper()
		b.refused(fmt.Sprint(method, " ", path, " by ", user), b.do(user, method, path, body), status, code)
	}
	f(memberID, "POST", path(generalID), `{}`, 400, 50006)
	f(memberID, "POST", path(generalID), `{"content":" \n "}`, 400, 50006)
	f(memberID, "POST", path(generalID), wire.CreateMessage{Content: strings.Repeat("é", 2001)}, 400, 50035)
	f(memberID, "POST", path(generalID), `{"content":"a\u0000b"}`, 400, 50035)
	f(memberID, "POST", path(generalID), `{"content":"x","nonce":"12345678901234567890123456"}`, 400, 50035)
	f(memberID, "POST", path(categoryID), `{"content":"x"}`, 400, 50008)
	f(memberID, "POST", path(77), `{"content":"x"}`, 404, 10003)
	f(memberID, "POST", path(hiddenID), `{"content":"x"}`, 403, 50001)
	f(outsiderID, "POST", path(generalID), `{"content":"x"}`, 403, 50001)
	f(memberID, "GET", path(hiddenID), nil, 403, 50001)
	f(memberID, "GET", path(hiddenID, hidden.ID), nil, 403, 50001)
	f(memberID, "GET", path(generalID, hidden.ID), nil, 404, 10008) // the right message by the wrong channel
	f(memberID, "GET", path(categoryID), nil, 400, 50008)
	f(memberID, "GET", path(generalID)+"?limit=0", nil, 400, 50035)
	f(memberID, "GET", path(generalID)+"?limit=101", nil, 400, 50035)
	f(memberID, "GET", path(generalID)+"?before=5&after=4", nil, 400, 50035)
	f(memberID, "PATCH", path(generalID, theirs.ID), `{"content":"x"}`, 403, 50005)
	f(ownerID, "PATCH", path(generalID, mine.ID), `{"content":"x"}`, 403, 50005)
	f(memberID, "PATCH", path(generalID, mine.ID), `{"content":null}`, 400, 50006)
	f(memberID, "PATCH", path(generalID, 99), `{"content":"x"}`, 404, 10008)
	f(memberID, "DELETE", path(generalID, theirs.ID), nil, 403, 50013)
	f(memberID, "DELETE", path(hiddenID, hidden.ID), nil, 403, 50001)
	f(memberID, "DELETE", path(generalID, 99), nil, 404, 10008)
	f(memberID, "POST", "/channels/"+hiddenID.String()+"/typing", nil, 403, 50001)
	b.message(b.do(memberID, "POST", path(generalID), wire.CreateMessage{Content: strings.Repeat("é", 2000)}))

	b.everyone(2, perm.DefaultEveryone&^perm.ReadMessageHistory&^perm.EmbedLinks)
	if got := b.history(""); len(got) != 0 {
		t.Errorf("history without READ_MESSAGE_HISTORY: %v", got)
	}
	f(memberID, "GET", path(generalID, mine.ID), nil, 403, 50013)
	f(memberID, "POST", path(generalID), `{"embeds":[{"title":"x"}]}`, 403, 50013)
	b.message(b.do(memberID, "PATCH", path(generalID, mine.ID), `{"content":"still mine"}`))
}

func TestDelete_IsForAuthorsAndModeratorsAndForGood(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	first, second := b.post(wire.CreateMessage{Content: "1"}), b.post(wire.CreateMessage{Content: "2"})
	if a := b.do(memberID, "DELETE", path(generalID, first.ID), nil); a.status != 204 || len(a.body) != 0 {
		t.Errorf("by the author: %d %s", a.status, a.body)
	}
	if a := b.do(ownerID, "DELETE", path(generalID, second.ID), nil); a.status != 204 {
		t.Errorf("by a moderator: %d %s", a.status, a.body)
	}
	for _, m := range []wire.Message{first, second} {
		b.refused("again", b.do(memberID, "DELETE", path(generalID, m.ID), nil), 404, 10008)
		b.refused("edit", b.do(memberID, "PATCH", path(generalID, m.ID), `{"content":"x"}`), 404, 10008)
	}
	if got := b.history(""); len(got) != 0 {
		t.Errorf("history: %v", got)
	}
}

func TestDelete_HappensOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "1"})
	var wg sync.WaitGroup
	answers := make([]answer, 8)
	for i := range answers {
		wg.Go(func() { answers[i] = b.do(memberID, "DELETE", path(generalID, m.ID), nil) })
	}
	wg.Wait()
	done := 0
	for _, a := range answers {
		if a.status == 204 {
			done++
		} else {
			b.refused("another", a, 404, 10008)
		}
	}
	if done != 1 {
		t.Errorf("deleted %d times", done)
	}
}

// Between looking a message up and publishing, somebody else may delete it: the marker says no, not the look-up.
func TestMessages_AreNotChangedBeyondTheDeleteMarker(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(wire.CreateMessage{Content: "1"})
	grant, err := b.roster.Can(t.Context(), memberID, generalID, perm.ViewChannel)
	if err != nil {
		t.Fatal(err)
	}
	if a := b.do(memberID, "DELETE", path(generalID, m.ID), nil); a.status != 204 {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	_, err = b.svc.publishEdit(t.Context(), grant, memberID, found{id: m.ID, author: memberID}, m.MessageBody, bus.PositionOf(m.ID))
	if !fault.Is(gone(err), fault.UnknownMessage) {
		t.Errorf("edit: got %v", err)
	}
	if err := b.svc.publishDelete(t.Context(), grant, memberID, nil, m.ID); !fault.Is(gone(err), fault.UnknownMessage) {
		t.Errorf("delete: got %v", err)
	}
}

func TestEdit_ChangesWhatItNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	m := b.post(fmt.Sprintf(`{"content":"<@%d>","embeds":[{"title":"t"}],"flags":4096}`, ownerID))
	if len(m.Mentions) != 1 || m.Mentions[0].ID != ownerID || m.Flags != 4096 || m.EditedTimestamp != 0 {
		t.Errorf("sent: %+v", m)
	}
	m = b.message(b.do(memberID, "PATCH", path(generalID, m.ID), `{"flags":4}`))
	if m.Flags != 4100 || len(m.Mentions) != 1 || len(m.Embeds) != 1 || m.EditedTimestamp == 0 {
		t.Errorf("flags: %+v", m)
	}
	m = b.message(b.do(memberID, "PATCH", path(generalID, m.ID), `{"content":"nobody"}`))
	if m.Content != "nobody" || len(m.Mentions) != 0 || len(m.Embeds) != 1 {
		t.Errorf("content: %+v", m)
	}
	m = b.message(b.do(memberID, "PATCH", path(generalID, m.ID), `{"embeds":[]}`))
	if m.Content != "nobody" || len(m.Embeds) != 0 {
		t.Errorf("embeds: %+v", m)
	}
}

func TestMention_CountsOnlyWhoExistsAndMayBe(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	text := fmt.Sprintf("@everyone <@%d> <@!%d> <@%d> <@&%d> <@&%d> <@x> <@&> <@", ownerID, memberID, 424242, modRoleID, guildID)
	m := b.post(wire.CreateMessage{Content: text})
	if m.MentionEveryone || len(m.Mentions) != 2 || len(m.MentionRoles) != 1 || m.MentionRoles[0] != modRoleID {
		t.Errorf("member: %+v", m.MessageBody)
	}
	m = b.message(b.do(ownerID, "POST", path(generalID), wire.CreateMessage{Content: text}))
	if !m.MentionEveryone {
		t.Error("who may mention everyone did not")
	}
	m = b.message(b.do(ownerID, "POST", path(generalID), wire.CreateMessage{
		Content: text, AllowedMentions: &wire.AllowedMentions{Users: []id.ID{memberID}},
	}))
	if m.MentionEveryone || len(m.MentionRoles) != 0 || len(m.Mentions) != 1 || m.Mentions[0].ID != memberID {
		t.Errorf("narrowed down: %+v", m.MessageBody)
	}
	if _, err := b.roster.User(t.Context(), 424242); err == nil {
		t.Error("the unknown user is known")
	}
}

func TestReply_TellsWhatItAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	first := b.message(b.do(ownerID, "POST", path(generalID), wire.CreateMessage{Content: "question"}))
	reply := func(to id.ID, more string) answer {
		return b.do(memberID, "POST", path(generalID), fmt.Sprintf(`{"content":"answer","message_reference":{"message_id":"%s"%s}}`, to, more))
	}
	m := b.message(reply(first.ID, ""))
	to := m.Referenced.Ptr()
	if m.Type != wire.MessageReply || to == nil || to.ID != first.ID || to.Content != "question" || to.Author.ID != ownerID {
		t.Errorf("reply: %+v", m.MessageBody)
	}
	if m.Reference == nil || m.Reference.MessageID != first.ID || len(m.Mentions) != 1 || m.Mentions[0].ID != ownerID {
		t.Errorf("reference: %+v, mentions %+v", m.Reference, m.Mentions)
	}
	again := b.message(reply(m.ID, ""))
	if got := string(mustEncode(again)); strings.Count(got, "referenced_message") != 1 {
		t.Errorf("a chain of references: %s", got)
	}
	b.refused("unknown", reply(5, ""), 400, 50035)
	b.refused("elsewhere", reply(first.ID, fmt.Sprintf(`,"channel_id":"%d"`, hiddenID)), 400, 50035)
	if m := b.message(reply(5, `,"fail_if_not_exists":false`)); m.Type != wire.MessageDefault || m.Reference != nil {
		t.Errorf("not minding: %+v", m.MessageBody)
	}
	b.everyone(2, perm.DefaultEveryone&^perm.ReadMessageHistory)
	b.refused("without history", reply(first.ID, ""), 403, 50013)
}

func TestTyping_IsSignalled(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan []byte, 100)
	var loops life.Loops
	loops.Go("listen", func(context.Context) error {
		return b.log.Listen(ctx, typingTopic, func(body []byte) {
			select {
			case heard <- body:
			default: // the test has what it wants
			}
		})
	})
	defer loops.Stop()
	defer cancel()
	var got wire.TypingStart
	eventually(t, func() bool { // the listener may not have subscribed yet
		if a := b.do(memberID, "POST", "/channels/"+generalID.String()+"/typing", nil); a.status != 204 || len(a.body) != 0 {
			t.Fatalf("typing: %d %s", a.status, a.body)
		}
		select {
		case body := <-heard:
			return json.Unmarshal(body, &got) == nil
		default:
			return false
		}
	})
	if got.UserID != memberID || got.ChannelID != generalID || got.GuildID != guildID || got.Member == nil || got.Member.User.ID != memberID {
		t.Errorf("got %+v", got)
	}
}
