package e2e

import (
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
)

// TestJourney_PeopleTalkInPrivate is a join that is told, a DM and a group, in each topology.
func TestJourney_PeopleTalkInPrivate(t *testing.T) {
	t.Parallel()
	for name, make := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := make(t)
			ada, bob, eve := w.register(t, "ada"), w.register(t, "bob"), w.register(t, "eve")
			adas, bobs := ada.connect(t, client.GatewayConfig{}), bob.connect(t, client.GatewayConfig{})
			if _, err := ada.OpenChannel(t.Context(), bob.id); !client.IsCode(err, fault.CannotMessageUser) {
				t.Errorf("with nothing in common: %v, want 50007", err)
			}
			g, err := ada.CreateGuild(t.Context(), "open")
			if err != nil {
				t.Fatal(err)
			}
			ada.invite(t, g.SystemChannelID, bob)
			joined := await(t, adas, "MESSAGE_CREATE", nil)
			if m, _ := client.As[wire.Message](joined, "MESSAGE_CREATE"); m.Type != wire.MessageUserJoin || m.Author.ID != bob.id || m.ChannelID != g.SystemChannelID {
				t.Errorf("got %s", joined.Raw)
			}

			dm, err := ada.OpenChannel(t.Context(), bob.id)
			if err != nil {
				t.Fatal(err)
			}
			await(t, adas, "CHANNEL_CREATE", nil)
			sent := ada.say(t, dm.ID, "just us")
			opened := await(t, bobs, "CHANNEL_CREATE", nil)
			if c, _ := client.As[wire.PrivateChannel](opened, "CHANNEL_CREATE"); c.ID != dm.ID || len(c.Recipients) != 1 || c.Recipients[0].ID != ada.id {
				t.Errorf("got %s", opened.Raw)
			}
			await(t, bobs, "MESSAGE_CREATE", content("just us"))
			if err := bob.Typing(t.Context(), dm.ID); err != nil {
				t.Fatal(err)
			}
			await(t, adas, "TYPING_START", func(d client.Dispatch) bool {
				s, ok := client.As[wire.TypingStart](d, d.Type)
				return ok && s.ChannelID == dm.ID && s.UserID == bob.id && s.GuildID == 0 && s.Member == nil
			})
			w.awaitRow(t, sent.ID, "just us")
			if _, err := eve.Messages(t.Context(), dm.ID, wire.ListMessages{}); !client.IsCode(err, fault.MissingAccess) {
				t.Errorf("a stranger reads: %v, want 50001", err)
			}
			if all, err := bob.PrivateChannels(t.Context()); err != nil || len(all) != 1 || all[0].LastMessageID != sent.ID {
				t.Errorf("bob lists %+v, %v", all, err)
			}

			ada.invite(t, g.SystemChannelID, eve)
			group, err := ada.OpenChannel(t.Context(), bob.id, eve.id)
			if err != nil {
				t.Fatal(err)
			}
			await(t, bobs, "CHANNEL_CREATE", nil)
			if err := ada.RemoveRecipient(t.Context(), group.ID, eve.id); err != nil {
				t.Fatal(err)
			}
			await(t, bobs, "CHANNEL_UPDATE", nil)
			gone := await(t, bobs, "MESSAGE_CREATE", func(d client.Dispatch) bool {
				m, ok := client.As[wire.Message](d, d.Type)
				return ok && m.ChannelID == group.ID
			})
			if m, _ := client.As[wire.Message](gone, "MESSAGE_CREATE"); m.Type != wire.MessageRecipientRemove || len(m.Mentions) != 1 || m.Mentions[0].ID != eve.id {
				t.Errorf("got %s", gone.Raw)
			}
			if _, err := eve.Say(t.Context(), group.ID, "still here?"); !client.IsCode(err, fault.MissingAccess) {
				t.Errorf("who was taken out writes: %v, want 50001", err)
			}
			for _, s := range []*client.Gateway{adas, bobs} {
				if s.Stats().Gaps != 0 {
					t.Errorf("a session has %d gaps in its numbers", s.Stats().Gaps)
				}
			}
		})
	}
}
