package messaging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// at is the position of the nth entry of a made-up log.
func at(n int) bus.Position { return bus.Position{Ms: id.EpochMs + uint64(n), Seq: uint64(n % 3)} }

func mustEncode(v any) []byte {
	raw, err := encode(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func bodyJSON(channel id.ID, text string) json.RawMessage {
	return mustEncode(wire.MessageBody{ChannelID: channel, Content: text})
}

func sentEntry(p bus.Position, channel id.ID, text string) bus.Entry {
	return bus.Entry{Pos: p, Type: wire.MessageSent, Actor: memberID, Guild: guildID, Channel: channel,
		Body: mustEncode(wire.MessageSentPayload{Message: bodyJSON(channel, text), Author: json.RawMessage(`{}`)})}
}

func editEntry(p bus.Position, channel, message id.ID, text string) bus.Entry {
	return bus.Entry{Pos: p, Type: wire.MessageUpdated, Actor: memberID, Guild: guildID, Channel: channel,
		Body: mustEncode(wire.MessageUpdatedPayload{MessageID: message, Message: bodyJSON(channel, text), Author: json.RawMessage(`{}`)})}
}

func deleteEntry(p bus.Position, channel id.ID, messages ...id.ID) bus.Entry {
	return bus.Entry{Pos: p, Type: wire.MessageDeleted, Actor: memberID, Guild: guildID, Channel: channel,
		Body: mustEncode(wire.MessageDeletedPayload{IDs: messages})}
}

// script is a made-up log of one channel, and what it comes to at each of its positions.
type script struct {
	entries []bus.Entry
	states  []map[id.ID]string // states[n] is after n entries
}

// draw makes a script of n entries behind position number after. As in the log, nothing changes what is deleted.
func draw(t *rapid.T, channel id.ID, after, n int) script {
	s := script{states: []map[id.ID]string{{}}}
	for i := range n {
		p := at(after + i + 1)
		state := map[id.ID]string{}
		for m, text := range s.states[i] {
			state[m] = text
		}
		living := sortedIDs(state)
		kind := rapid.SampledFrom([]string{"send", "send", "send", "edit", "delete", "other"}).Draw(t, "kind")
		text := fmt.Sprintf("text %d", i)
		switch {
		case kind == "other":
			s.entries = append(s.entries, bus.Entry{Pos: p, Type: wire.ServerUpdated, Guild: guildID})
		case kind == "send" || len(living) == 0:
			s.entries = append(s.entries, sentEntry(p, channel, text))
			state[bus.MessageID(p)] = text
		case kind == "edit":
			m := rapid.SampledFrom(living).Draw(t, "message")
			s.entries = append(s.entries, editEntry(p, channel, m, text))
			state[m] = text
		default:
			m := rapid.SampledFrom(living).Draw(t, "message")
			s.entries = append(s.entries, deleteEntry(p, channel, m))
			delete(state, m)
		}
		s.states = append(s.states, state)
	}
	return s
}

func (s script) pos(n int) bus.Position {
	if n == 0 {
		return bus.Position{}
	}
	return s.entries[n-1].Pos
}

func (s script) payload(p bus.Position) []byte {
	for _, e := range s.entries {
		if e.Pos == p {
			return e.Body
		}
	}
	return nil
}

// rows is the page that Postgres has when n entries are committed.
func (s script) rows(n int, w window, extra int) page {
	p := page{mark: s.pos(n)}
	ids := sortedIDs(s.states[n])
	for _, m := range ids {
		if m >= w.from && len(p.upper) < more(w.upper, extra) {
			p.upper = append(p.upper, found{id: m, body: bodyJSON(generalID, s.states[n][m])})
		}
	}
	slices.Reverse(ids)
	for _, m := range ids {
		if m < w.below && len(p.lower) < more(w.lower, extra) {
			p.lower = append(p.lower, found{id: m, body: bodyJSON(generalID, s.states[n][m])})
		}
	}
	p.lowerAll, p.upperAll = len(p.lower) < more(w.lower, extra), len(p.upper) < more(w.upper, extra)
	return p
}

// want is what a window shows of a state.
func want(state map[id.ID]string, w window) []string {
	var lower, upper []string
	ids := sortedIDs(state)
	for _, m := range ids {
		if m >= w.from && len(upper) < w.upper {
			upper = append(upper, fmt.Sprint(m, state[m]))
		}
	}
	slices.Reverse(ids)
	for _, m := range ids {
		if m < w.below && len(lower) < w.lower {
			lower = append(lower, fmt.Sprint(m, state[m]))
		}
	}
	slices.Reverse(upper)
	return append(append([]string{}, upper...), lower...)
}

// got is what was found, with bodies from wherever they are.
func (s script) got(t *rapid.T, messages []found) []string {
	out := []string{}
	for _, m := range messages {
		body := m.body
		if body == nil {
			payload := m.payload
			if payload == nil {
				payload = s.payload(m.at)
			}
			var err error
			if body, err = bodyOf(m.at, payload); err != nil {
				t.Fatal(err)
			}
		}
		var b wire.MessageBody
		if err := json.Unmarshal(body, &b); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(m.id, b.Content))
	}
	return out
}

func sortedIDs(state map[id.ID]string) []id.ID {
	ids := make([]id.ID, 0, len(state))
	for m := range state {
		ids = append(ids, m)
	}
	slices.Sort(ids)
	return ids
}

func drawWindow(t *rapid.T, n int) window {
	anchor := bus.MessageID(at(rapid.IntRange(0, n+1).Draw(t, "anchor")))
	limit := rapid.IntRange(1, 6).Draw(t, "limit")
	in := wire.ListMessages{Limit: &limit}
	switch rapid.SampledFrom([]string{"", "before", "after", "around"}).Draw(t, "mode") {
	case "before":
		in.Before = anchor
	case "after":
		in.After = anchor
	case "around":
		in.Around = anchor
	}
	w, err := windowOf(in)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Whatever is committed, pruned and let go of: rows and overlay together show the log as the tail has seen it.
func TestOverlay_ShowsTheLogAtEveryInterleavingOfCheckpointAndTail(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "entries")
		s := draw(t, generalID, 0, n)
		tail := rapid.IntRange(0, n).Draw(t, "tail")
		begin := rapid.IntRange(0, tail).Draw(t, "where the tail began")
		floor := rapid.IntRange(begin, tail).Draw(t, "pruned up to")
		committed := rapid.IntRange(floor, n).Draw(t, "committed") // also beyond the tail
		w := drawWindow(t, n)

		o := newOverlay(rapid.SampledFrom([]int{1, 600, 1 << 20}).Draw(t, "bytes"),
			rapid.SampledFrom([]int{4*(opBytes+itemBytes) + shelfBytes, 1 << 20}).Draw(t, "bytes of ids"))
		o.prune(s.pos(begin))
		split := rapid.IntRange(begin, tail).Draw(t, "split")
		o.apply(s.entries[begin:split])
		if rapid.Bool().Draw(t, "prune early") {
			o.prune(s.pos(min(split, floor)))
		}
		o.apply(s.entries[begin:tail]) // a tail that is started again repeats itself
		o.prune(s.pos(floor))

		messages, ok := o.lay(generalID, w, s.rows(committed, w, o.deletions(generalID)))
		truth := want(s.states[max(committed, tail)], w)
		switch {
		case ok == o.forgets(s.pos(committed)):
			t.Fatalf("a page that is new enough and long enough: accepted %v, forgotten %v", ok, !ok)
		case ok:
			if diff := cmp.Diff(truth, s.got(t, messages)); diff != "" {
				t.Errorf("page: %s", diff)
			}
		}
		if got := o.stats(); got.idBytes > 1<<20 || o.idBytesMax < 1<<20 && got.idBytes > o.idBytesMax {
			t.Errorf("%d bytes, want at most %d", got.idBytes, o.idBytesMax)
		}
		if messages, ok := o.alone(generalID, w); ok {
			if diff := cmp.Diff(want(s.states[tail], w), s.got(t, messages)); diff != "" {
				t.Errorf("from the overlay alone: %s", diff)
			}
		}
		checkLook(t, o, s, tail, committed)
		checkEmptied(t, o, s, tail)
	})
}

// checkLook: what the overlay does not know of, the rows have right, at any checkpoint from the floor on.
func checkLook(t *rapid.T, o *overlay, s script, tail, committed int) {
	for i := range tail {
		message := bus.MessageID(s.entries[i].Pos)
		text, exists := s.states[tail][message]
		m, deleted, known := o.look(generalID, message)
		switch {
		case !known && o.forgets(o.checkpoint()): // nothing is said
		case !known:
			inRow, ok := s.states[min(committed, tail)][message]
			if ok != exists || inRow != text {
				t.Errorf("message %s: rows have %v %q, the log %v %q", message, ok, inRow, exists, text)
			}
		case deleted == exists:
			t.Errorf("message %s: deleted %v, exists %v", message, deleted, exists)
		case exists:
			if got := s.got(t, []found{m}); got[0] != fmt.Sprint(message, text) {
				t.Errorf("message: got %v, want %s", got, text)
			}
		}
	}
}

// checkEmptied: when everything is committed, nothing stays.
func checkEmptied(t *rapid.T, o *overlay, s script, tail int) {
	o.prune(s.pos(tail))
	if got := o.stats(); got != (overlayStats{}) || len(o.channels) != 0 {
		t.Errorf("left after the last prune: %+v in %d channels", got, len(o.channels))
	}
}

func TestOverlay_RefusesAPageThatIsOlderThanWhatItKeeps(t *testing.T) {
	t.Parallel()
	o := newOverlay(1<<20, 1<<20)
	o.apply([]bus.Entry{sentEntry(at(1), generalID, "a"), sentEntry(at(2), generalID, "b")})
	o.prune(at(1))
	w := window{below: bus.MessageID(at(9)), lower: 5}
	if _, ok := o.lay(generalID, w, page{lowerAll: true, upperAll: true}); ok {
		t.Error("message a is in neither the page nor the overlay, and nobody noticed")
	}
	if _, ok := o.lay(otherChannel, w, page{lowerAll: true, upperAll: true}); ok {
		t.Error("the same for a channel of which the overlay keeps nothing any more")
	}
}

const otherChannel id.ID = 4242

func TestOverlay_RefusesAPageThatBecameTooShort(t *testing.T) {
	t.Parallel()
	o := newOverlay(1<<20, 1<<20)
	o.apply([]bus.Entry{deleteEntry(at(9), generalID, 7)}) // after the page was asked for without extra rows
	rows := page{lower: []found{{id: 7, body: bodyJSON(generalID, "gone")}}}
	if _, ok := o.lay(generalID, window{below: 100, lower: 1}, rows); ok {
		t.Error("a short page was taken for the end of the history")
	}
}

func TestOverlay_TakesARepeatedEntryOnce(t *testing.T) {
	t.Parallel()
	o := newOverlay(1<<20, 1<<20)
	a, b := sentEntry(at(1), generalID, "a"), sentEntry(at(2), generalID, "b")
	o.apply([]bus.Entry{a})
	o.apply([]bus.Entry{a, b})
	messages, ok := o.lay(generalID, window{below: bus.MessageID(at(9)), lower: 5}, page{lowerAll: true, upperAll: true})
	if !ok || len(messages) != 2 || o.stats().ops != 2 {
		t.Errorf("%d messages, %+v", len(messages), o.stats())
	}
}

func TestOverlay_LetsGoOfTheOldestBodiesFirst(t *testing.T) {
	t.Parallel()
	first, second := sentEntry(at(1), generalID, "a"), sentEntry(at(2), generalID, "b")
	o := newOverlay(len(second.Body), 1<<20)
	o.apply([]bus.Entry{first, second})
	a, _, _ := o.look(generalID, bus.MessageID(at(1)))
	b, _, _ := o.look(generalID, bus.MessageID(at(2)))
	if a.payload != nil || a.at != at(1) || b.payload == nil {
		t.Errorf("first %v at %s, second %v", a.payload != nil, a.at, b.payload != nil)
	}
	if got := o.stats(); got.bytes != len(second.Body) || got.messages != 2 || got.oldest != at(1) {
		t.Errorf("stats: %+v", got)
	}
}

// TestOverlay_ForgetsTheOldestChanges: beyond the second bound it keeps the newest, and knows that it does not know the rest.
func TestOverlay_ForgetsTheOldestChanges(t *testing.T) {
	t.Parallel()
	o := newOverlay(1<<20, 2*(opBytes+itemBytes)+shelfBytes)
	o.prune(at(1))
	o.apply([]bus.Entry{sentEntry(at(2), generalID, "a"), sentEntry(at(3), generalID, "b"), sentEntry(at(4), generalID, "c")})
	f := func(w window, ok bool) {
		t.Helper()
		if messages, got := o.alone(generalID, w); got != ok {
			t.Errorf("window %+v: %d messages, complete %v", w, len(messages), got)
		}
	}
	f(window{below: bus.MessageID(at(9)), lower: 2}, true)
	f(window{below: bus.MessageID(at(9)), lower: 3}, false)
	f(window{from: bus.MessageID(at(3)), upper: 5}, true)
	f(window{from: bus.MessageID(at(2)), upper: 5}, false)
	if got := o.stats(); got.oldest != at(2) || got.ops != 2 || !o.forgets(at(1)) {
		t.Errorf("%+v", got)
	}
	o.prune(at(2))
	if got := o.stats(); got.oldest != at(3) || o.forgets(at(1)) {
		t.Errorf("when the writer is there: %+v", got)
	}
}

func TestOverlay_PassesOverWhatItCannotRead(t *testing.T) {
	t.Parallel()
	o := newOverlay(1<<20, 1<<20)
	bad := bus.Entry{Pos: at(1), Type: wire.MessageUpdated, Channel: generalID, Body: []byte("{")}
	o.apply([]bus.Entry{bad, {Pos: at(2), Type: wire.MessageDeleted, Channel: generalID, Body: []byte("7")},
		{Pos: bus.Position{Ms: 5, Seq: 9999}, Type: wire.MessageSent, Channel: generalID}, sentEntry(at(3), generalID, "good")})
	if got := o.stats(); got.messages != 1 {
		t.Errorf("stats: %+v", got)
	}
}

func TestNonce_IsCutOffAsItWasPutOn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var nonce wire.Nonce
		raw := mustEncode(rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.Int64(), func(n int64) any { return n }),
		).Draw(t, "nonce"))
		if err := json.Unmarshal(raw, &nonce); err != nil {
			t.Fatal(err)
		}
		plain := bodyJSON(generalID, rapid.String().Draw(t, "content"))
		dressed := withNonce(plain, nonce)
		var m wire.MessageBody
		if err := json.Unmarshal(dressed, &m); err != nil || m.Nonce != nonce {
			t.Errorf("nonce %s in %s: %v", m.Nonce, dressed, err)
		}
		if got := withoutNonce(dressed); string(got) != string(plain) {
			t.Errorf("got %s, want %s", got, plain)
		}
	})
}

// Whatever is in an entry: what the fast way accepts, encoding/json reads in the same way.
func FuzzScanSent(f *testing.F) {
	f.Add([]byte(`{"message":{"nonce":"a","type":19,"content":"x\\u0041\\n","e":[-1.5e+3,true,{"a":null}],"z":{}},"author":{}}`))
	f.Add([]byte(`{"message":{"nonce":"\`))
	f.Add([]byte(`{"message":{"type":1}}`))
	f.Add([]byte(`{"message":{"type":01,"content":"\\x"}}`))
	f.Add(sentEntry(at(1), generalID, "ab\\c \x00 \u2028 é").Body)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if body, err := bodyOf(at(1), payload); err == nil && (len(body) < 3 || body[0] != '{') {
			t.Errorf("%q gave %q", payload, body)
		}
		got, ok := scanSent(payload)
		if !ok {
			return
		}
		if !json.Valid(got.body) {
			t.Fatalf("%q was accepted", got.body)
		}
		var slow struct {
			Type    int16  `json:"type"`
			Content string `json:"content"`
		}
		if err := json.Unmarshal(got.body, &slow); err != nil {
			t.Fatalf("%q: %v", got.body, err)
		}
		plain := utf8.Valid(got.body)                            // Postgres refuses anything else
		folded := bytes.Equal(bytes.ToLower(got.body), got.body) // encoding/json takes "Content" for "content"
		if plain && folded && (slow.Type != got.kind || slow.Content != got.content) {
			t.Errorf("%q: got %d %q, want %d %q", got.body, got.kind, got.content, slow.Type, slow.Content)
		}
	})
}

func TestScanSent_AcceptsWhatTheServiceWrites(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "plain", "q\"uo\\te\n\x00 \u2028 é <@1>"} {
		got, ok := scanSent(sentEntry(at(1), generalID, content).Body)
		if !ok || got.content != content || string(got.body) != string(bodyJSON(generalID, content)) {
			t.Errorf("%q: %v %+v", content, ok, got)
		}
	}
}
