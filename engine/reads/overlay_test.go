package reads

import (
	"encoding/json"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

func at(ms uint64) bus.Position { return bus.Position{Ms: id.EpochMs + ms} }

func acked(t *testing.T, ms uint64, acks ...wire.Ack) bus.Entry {
	t.Helper()
	body, err := json.Marshal(wire.MessageReadPayload{Acks: acks})
	if err != nil {
		t.Fatal(err)
	}
	return bus.Entry{Pos: at(ms), Type: wire.MessagesRead, Body: body}
}

func TestOverlay_IsNotWholeBelowWhatItForgot(t *testing.T) {
	t.Parallel()
	o := newOverlay(2)
	o.begin(at(1))
	want := func(what string, mark uint64, whole bool) {
		t.Helper()
		if o.isWhole(at(mark)) != whole {
			t.Errorf("%s: whole as of %d is not %v", what, mark, whole)
		}
	}
	o.apply([]bus.Entry{acked(t, 2, wire.Ack{UserID: 1, ChannelID: 1, MessageID: 1}, wire.Ack{UserID: 2, ChannelID: 1, MessageID: 1})})
	want("with all", 1, true)
	want("before it began", 0, false)
	o.apply([]bus.Entry{acked(t, 3, wire.Ack{UserID: 3, ChannelID: 1, MessageID: 1})})
	want("with one too many", 2, false)
	want("when the rows have it", 3, true)
	o.apply([]bus.Entry{acked(t, 4, wire.Ack{UserID: 4, ChannelID: 1, MessageID: 1})})
	want("and goes on", 3, true)
	o.reset(at(9))
	want("behind a hole", 8, false)
	want("when the rows are behind the hole", 9, true)
}

func TestOverlay_LetsGoOfWhatIsCommitted(t *testing.T) {
	t.Parallel()
	o := newOverlay(100)
	sent := func(ms uint64, channel id.ID, pings string) bus.Entry {
		return bus.Entry{Pos: at(ms), Type: wire.MessageSent, Channel: channel, Guild: 9, Body: []byte(`{"message":{"content":"\"pings\":[1]"}` + pings + `}`)}
	}
	o.apply([]bus.Entry{
		acked(t, 1, wire.Ack{UserID: 1, ChannelID: 1, MessageID: 5}), sent(2, 1, `,"pings":["1"]`), sent(3, 2, ""),
		{Pos: at(4), Type: wire.MessageDeleted, Body: []byte(`{"ids":["7"]}`)},
		{Pos: at(5), Type: wire.SettingsUpdated, User: 1, Guild: 9, Body: []byte(`{}`)},
		{Pos: at(6), Type: wire.UserDeleted, User: 2},
		acked(t, 7, wire.Ack{UserID: 1, ChannelID: 1, MessageID: 4}),
		{Pos: at(8), Type: wire.MessagesRead, Body: []byte(`{`)}, {Pos: at(8), Type: wire.SettingsUpdated, Body: []byte(`{`)},
	})
	// One mark, two heads, and one of each of the others. Two entries at position 8 cannot be read.
	for mark, facts := range []int{7, 7, 5, 4, 3, 2, 1, 0} {
		o.prune(at(uint64(mark)))
		if o.holds() != facts {
			t.Errorf("pruned to %d: %d facts, want %d", mark, o.holds(), facts)
		}
		if m := o.of(1).marks[1]; mark < 7 && m.message != 5 {
			t.Errorf("pruned to %d: the mark is at %s", mark, m.message)
		}
	}
	o.apply([]bus.Entry{acked(t, 6, wire.Ack{UserID: 1, ChannelID: 1, MessageID: 5})})
	if o.holds() != 0 {
		t.Error("what is committed came back")
	}
}
