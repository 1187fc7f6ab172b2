package e2e

import (
	"fmt"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// state is what READY says that somebody has read of a channel, on a session of its own.
func (p *person) state(t *testing.T, channel id.ID) wire.ReadStateEntry {
	t.Helper()
	g := p.connect(t, client.GatewayConfig{})
	defer g.Close()
	ready, ok := client.As[wire.Ready](await(t, g, "READY", nil), "READY")
	if !ok || ready.ReadState == nil || ready.ReadState.Partial {
		t.Fatalf("READY has the read state %+v", ready.ReadState)
	}
	for _, e := range ready.ReadState.Entries {
		if e.ID == channel {
			return e
		}
	}
	return wire.ReadStateEntry{ID: channel}
}

// TestReads_AreOfTheUserOnAllDevices: what is read on one is read on the other, and at the next beginning, in each topology.
func TestReads_AreOfTheUserOnAllDevices(t *testing.T) {
	t.Parallel()
	for name, make := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := make(t)
			ada, bob := w.register(t, "ada"), w.register(t, "bob")
			guild, channel := ada.guild(t, "first")
			ada.invite(t, channel, bob)
			adas, bobs := ada.connect(t, client.GatewayConfig{}), bob.connect(t, client.GatewayConfig{})
			await(t, adas, "GUILD_CREATE", nil)
			await(t, bobs, "GUILD_CREATE", nil)
			first := ada.say(t, channel, "<@"+bob.id.String()+">")
			second := ada.say(t, channel, "@everyone")
			want := func(what string, e wire.ReadStateEntry) {
				t.Helper()
				if got := bob.state(t, channel); got != e {
					t.Errorf("%s: %+v, want %+v", what, got, e)
				}
			}
			want("nothing is read", wire.ReadStateEntry{ID: channel, MentionCount: 2})
			if err := bob.Ack(t.Context(), channel, first.ID, wire.AckMessage{}); err != nil {
				t.Fatal(err)
			}
			ack, _ := client.As[wire.MessageAck](await(t, bobs, "MESSAGE_ACK", nil), "MESSAGE_ACK")
			if ack.ChannelID != channel || ack.MessageID != first.ID {
				t.Errorf("bob's other device got %+v", ack)
			}
			read, _ := client.As[wire.MessageRead](await(t, adas, "MESSAGE_READ", nil), "MESSAGE_READ")
			if read != (wire.MessageRead{ChannelID: channel, UserID: bob.id, MessageID: first.ID}) {
				t.Errorf("ada got %+v", read)
			}
			want("one is read", wire.ReadStateEntry{ID: channel, LastMessageID: first.ID, MentionCount: 1})
			for message, readers := range map[id.ID]int{first.ID: 1, second.ID: 0} {
				if got, err := ada.Receipts(t.Context(), channel, message); err != nil || len(got) != readers {
					t.Errorf("receipts of %s: %v %v, want %d", message, got, err, readers)
				}
			}
			if err := bob.AckBulk(t.Context(), []wire.BulkAckState{{ChannelID: channel, MessageID: second.ID}}); err != nil {
				t.Fatal(err)
			}
			await(t, bobs, "MESSAGE_ACK", nil)
			want("all is read", wire.ReadStateEntry{ID: channel, LastMessageID: second.ID})
			yes := true
			if s, err := bob.UpdateGuildSettings(t.Context(), guild, wire.UpdateGuildSettings{Muted: &yes}); err != nil || !s.Muted {
				t.Errorf("settings: %+v %v", s, err)
			}
			await(t, bobs, "USER_GUILD_SETTINGS_UPDATE", nil)
		})
	}
}

// TestCrash_KeepsWhatWasRead: an ack that was told of outlives kill -9 of everything. One that was only answered is there or is not.
func TestCrash_KeepsWhatWasRead(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start(t)
	ada := registerAt(t, "http://"+m.addr, "ada")
	_, channel := ada.guild(t, "first")
	var said []id.ID
	for i := range 3 {
		said = append(said, ada.say(t, channel, fmt.Sprint(i)).ID)
	}
	g := ada.connect(t, client.GatewayConfig{})
	await(t, g, "READY", nil)
	if err := ada.Ack(t.Context(), channel, said[1], wire.AckMessage{}); err != nil {
		t.Fatal(err)
	}
	await(t, g, "MESSAGE_ACK", nil)
	g.Close()
	m.kill(t, m.pids(t)...)
	m.start(t)
	if got := ada.state(t, channel).LastMessageID; got != said[1] {
		t.Errorf("read up to %s, want %s", got, said[1])
	}
	if err := ada.Ack(t.Context(), channel, said[2], wire.AckMessage{}); err != nil {
		t.Fatal(err)
	}
	m.kill(t, m.pids(t)...)
	m.start(t)
	if got := ada.state(t, channel).LastMessageID; got != said[1] && got != said[2] {
		t.Errorf("read up to %s, want %s or %s", got, said[1], said[2])
	}
	if err := ada.Ack(t.Context(), channel, said[2], wire.AckMessage{}); err != nil {
		t.Fatal(err)
	}
	m.stop(t)
	m.start(t)
	if got := ada.state(t, channel).LastMessageID; got != said[2] {
		t.Errorf("after a stop: read up to %s, want %s", got, said[2])
	}
	m.stop(t)
}
