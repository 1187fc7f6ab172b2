package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// tell publishes an entry about a message with everything in it that is content, and what it answers.
func (b *bundle) tell(kind wire.EventType, content string, author id.ID, mentions []id.ID, replied *wire.RepliedMessage) {
	b.t.Helper()
	body := wire.MessageBody{
		ChannelID: general, Content: content, Embeds: wire.List[wire.Embed]{{Type: "rich"}}, Attachments: wire.List[wire.Attachment]{{ID: 5, Filename: content}},
		Components: wire.List[wire.Null]{{}},
	}
	if replied != nil {
		body.Type, body.Referenced = wire.MessageReply, wire.Some(*replied)
	}
	var p any = wire.MessageSentPayload{Message: encode(body), Author: encode(person(author)), Mentions: mentions}
	if kind == wire.MessageUpdated {
		p = wire.MessageUpdatedPayload{MessageID: 7, Message: encode(body), Author: encode(person(author)), Mentions: mentions}
	}
	got, err := b.log.Publish(b.t.Context(), bus.Post{Entry: bus.Entry{Type: kind, Actor: author, Guild: guild, Channel: general, Body: encode(p)}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.reach(got.Pos)
}

func TestContent_IsJudgedMessageByMessage(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.found()
	a, _ := b.identify(alice, everythingButContent)
	all, _ := b.identify(owner, wire.IntentsAll)
	said := func(author id.ID, mentions ...id.ID) *wire.RepliedMessage {
		r := &wire.RepliedMessage{ID: 5, Author: person(author), RepliedBody: wire.RepliedBody{Content: "before", Embeds: wire.List[wire.Embed]{{Type: "rich"}}}}
		for _, m := range mentions {
			r.Mentions = append(r.Mentions, person(m))
		}
		return r
	}
	type seen struct{ Content, Replied string }
	var told []seen
	look := func(s *socket, name string) (out seen) {
		t.Helper()
		var m wire.Message
		s.dispatch(name).into(t, &m)
		out.Content = m.Content
		if full := m.Content != ""; full != (len(m.Embeds) == 1) || full != (len(m.Attachments) == 1) || full != (len(m.Components) == 1) {
			t.Errorf("content %q with %d embeds, %d attachments, %d components", m.Content, len(m.Embeds), len(m.Attachments), len(m.Components))
		}
		if r := m.Referenced.Ptr(); r != nil {
			out.Replied = r.Content
			if full := r.Content != ""; full != (len(r.Embeds) == 1) || r.Author.ID == 0 {
				t.Errorf("replied %q with %d embeds", r.Content, len(r.Embeds))
			}
		}
		return out
	}
	f := func(want seen, author id.ID, mentions []id.ID, replied *wire.RepliedMessage) {
		t.Helper()
		for kind, name := range map[wire.EventType]string{wire.MessageSent: "MESSAGE_CREATE", wire.MessageUpdated: "MESSAGE_UPDATE"} {
			b.tell(kind, "now", author, mentions, replied)
			if diff := cmp.Diff(want, look(a, name)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			whole := seen{Content: "now"}
			if replied != nil {
				whole.Replied = "before"
			}
			if diff := cmp.Diff(whole, look(all, name)); diff != "" {
				t.Errorf("%s with the intent: %s", name, diff)
			}
		}
		told = append(told, want)
	}
	f(seen{}, bob, nil, nil)
	f(seen{"now", ""}, alice, nil, nil)
	f(seen{"now", ""}, bob, []id.ID{owner, alice}, nil)
	f(seen{}, bob, nil, said(owner))
	f(seen{"now", ""}, alice, nil, said(bob)) // her own answer to what she may not read
	f(seen{"", "before"}, bob, nil, said(alice))
	f(seen{"now", "before"}, bob, []id.ID{alice}, said(alice))
	f(seen{"now", "before"}, alice, nil, said(bob, alice))

	// The same when it is replayed.
	seq := a.seq
	b.cut(a)
	back := b.resume(alice, a, seq-int64(2*len(told)))
	for _, want := range told {
		for range 2 {
			next := back.read()
			back.back = &next
			if diff := cmp.Diff(want, look(back, next.T)); diff != "" {
				t.Errorf("replayed: %s", diff)
			}
		}
	}
	back.dispatch("RESUMED")
}
