package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// TestKick_IsNeverFollowedByTheMembersMessage: while a member posts as fast as they can, they are kicked; behind the kick the log
// has no message of theirs, and what was answered 200 stands before it.
func TestKick_IsNeverFollowedByTheMembersMessage(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	guild, channel := ada.guild(t, "first")
	const rounds, posters = 5, 4
	for round := range rounds {
		bob := w.register(t, "bob")
		ada.invite(t, channel, bob)
		posted := make(chan error, posters)
		started := make(chan struct{}, 1000)
		for range posters {
			go func() {
				for i := 0; ; i++ {
					if _, err := bob.Say(t.Context(), channel, fmt.Sprintf("round %d post %d", round, i)); err != nil {
						posted <- err
						return
					}
					select {
					case started <- struct{}{}:
					default:
					}
				}
			}()
		}
		for range 20 {
			<-started
		}
		if err := ada.Kick(t.Context(), guild, bob.id, "test"); err != nil {
			t.Fatal(err)
		}
		for range posters {
			if err := <-posted; !client.IsCode(err, fault.MissingAccess) && !client.IsCode(err, fault.UnknownChannel) {
				t.Errorf("a post after the kick: %v, want 50001", err)
			}
		}
	}
	kicked := map[id.ID]bool{}
	messages := 0
	for _, e := range w.entries(t) {
		switch {
		case e.Type == wire.MemberRemoved:
			kicked[e.User] = true
		case e.Type == wire.MessageSent && kicked[e.Actor]:
			t.Errorf("entry %s is a message of %s, who was kicked before it", e.Pos, e.Actor)
		case e.Type == wire.MessageSent:
			messages++
		}
	}
	if len(kicked) != rounds || messages < rounds*20 {
		t.Errorf("the log has %d kicks and %d messages: the test tests nothing", len(kicked), messages)
	}
}

// entries is the whole log.
func (w *world) entries(t *testing.T) []bus.Entry {
	t.Helper()
	c, err := redis.Open(t.Context(), redis.Config{URL: w.redis.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var all []bus.Entry
	tail := bus.NewTail(bus.Open(c, bus.Config{}), func(context.Context) (bus.Position, error) { return bus.Position{}, nil })
	tail.Subscribe(func(_ context.Context, entries []bus.Entry) error {
		all = append(all, entries...)
		return nil
	})
	if err := tail.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	tail.Stop()
	return all
}

// TestEvents_StandInTheLog: the services tell each other by events, in the order in which things happened.
func TestEvents_StandInTheLog(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	guild, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	m := bob.say(t, channel, "hello")
	if _, err := bob.EditMessage(t.Context(), channel, m.ID, wire.EditMessage{Content: wire.Some("edited")}); err != nil {
		t.Fatal(err)
	}
	if err := bob.DeleteMessage(t.Context(), channel, m.ID); err != nil {
		t.Fatal(err)
	}
	if err := ada.Kick(t.Context(), guild, bob.id, ""); err != nil {
		t.Fatal(err)
	}
	if err := ada.DeleteGuild(t.Context(), guild); err != nil {
		t.Fatal(err)
	}
	var got []wire.EventType
	for _, e := range w.entries(t) {
		got = append(got, e.Type)
	}
	want := []wire.EventType{wire.UserCreated, wire.UserCreated, wire.ServerCreated, wire.InviteCreated, wire.MemberJoined,
		wire.MessageSent, wire.MessageUpdated, wire.MessageDeleted, wire.MemberRemoved, wire.ServerDeleted}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestResume_MissesNothingAndRepeatsNothing: the connection breaks again and again amid a stream of posts, edits and changes of
// what the watcher may see; the session goes on without a gap.
func TestResume_MissesNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for name, make := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := make(t)
			ada, bob := w.register(t, "ada"), w.register(t, "bob")
			guild, channel := ada.guild(t, "first")
			ada.invite(t, channel, bob)
			watcher := bob.connect(t, client.GatewayConfig{Queue: 10_000})
			await(t, watcher, "GUILD_CREATE", nil)
			const posts, cutEvery = 400, 40
			var sent []id.ID
			for i := range posts {
				if i%cutEvery == cutEvery/2 {
					watcher.Cut()
				}
				if i%100 == 50 {
					if _, err := ada.CreateChannel(t.Context(), guild, wire.CreateChannel{Name: fmt.Sprintf("c%d", i)}); err != nil {
						t.Fatal(err)
					}
				}
				sent = append(sent, ada.say(t, channel, fmt.Sprint(i)).ID)
			}
			last := ada.say(t, channel, "last").ID
			sent = append(sent, last)
			var got []id.ID
			channels := 0
			for len(got) == 0 || got[len(got)-1] != last {
				d := next(t, watcher)
				switch d.Type {
				case "MESSAGE_CREATE":
					m, _ := client.As[wire.Message](d, d.Type)
					got = append(got, m.ID)
				case "CHANNEL_CREATE":
					channels++
				case "READY":
					t.Fatal("the session was lost")
				}
			}
			if diff := cmp.Diff(sent, got); diff != "" {
				t.Errorf("sent and received differ: %s", diff)
			}
			stats := watcher.Stats()
			if channels < posts/100 || stats.Gaps != 0 || stats.Resumed < 2 || stats.Identifies != 1 {
				t.Errorf("%d new channels seen, %+v", channels, stats)
			}
			t.Logf("%d cuts were resumed, %d dispatches", stats.Resumed, stats.Dispatches)
		})
	}
}

// next returns the next dispatch.
func next(t *testing.T, g *client.Gateway) (d client.Dispatch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case d, ok := <-g.Events():
		if !ok {
			t.Fatalf("the gateway ended: %v", g.Err())
		}
		return d
	case <-ctx.Done():
		t.Fatal("no dispatch came")
	}
	return d
}

// TestResume_SeesOnlyWhatIsPermittedNow: what happened in a channel that was taken away meanwhile is not replayed.
func TestResume_SeesOnlyWhatIsPermittedNow(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	guild, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	other, err := ada.CreateChannel(t.Context(), guild, wire.CreateChannel{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	watcher := bob.connect(t, client.GatewayConfig{})
	await(t, watcher, "GUILD_CREATE", nil)
	watcher.Hold()
	watcher.Cut()
	ada.say(t, other.ID, "before it was hidden")
	deny := wire.SetOverwrite{Type: new(perm.OverwriteRole), Deny: perm.ViewChannel}
	if err := ada.SetOverwrite(t.Context(), other.ID, guild, deny); err != nil {
		t.Fatal(err)
	}
	ada.say(t, channel, "last")
	watcher.Release()
	var types []string
	for {
		d := next(t, watcher)
		types = append(types, d.Type)
		if m, ok := client.As[wire.Message](d, "MESSAGE_CREATE"); ok {
			if m.ChannelID == other.ID {
				t.Error("a message of the hidden channel was replayed")
			}
			if m.Content == "last" {
				break
			}
		}
	}
	if !slices.Contains(types, "CHANNEL_DELETE") || slices.Contains(types, "READY") {
		t.Errorf("after the cut came %v", types)
	}
}

// TestWriter_PoisonDoesNotStallIt: an entry that Postgres refuses is set aside; what stands behind it is stored.
func TestWriter_PoisonDoesNotStallIt(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	guild, channel := ada.guild(t, "first")
	c, err := redis.Open(t.Context(), redis.Config{URL: w.redis.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	log := bus.Open(c, bus.Config{})
	// Past the API, which refuses it: a NUL, which Postgres cannot store.
	for _, body := range []string{`{"message":{"content":"\u0000","type":0},"author":{"id":"1"},"channel_type":0}`, `{"message":`} {
		post := bus.Post{Entry: bus.Entry{Type: wire.MessageSent, Actor: ada.id, Guild: guild, Channel: channel, Body: []byte(body)}}
		if _, err := log.Publish(t.Context(), post); err != nil {
			t.Fatal(err)
		}
	}
	w.awaitRow(t, ada.say(t, channel, "behind it").ID, "behind it")
	eventually(t, func() error {
		n, err := c.Do(t.Context(), c.B().Xlen().Key("dead:{s00}:pg").Build()).AsInt64()
		if err == nil && n != 2 {
			err = fmt.Errorf("%d dead letters, want 2", n)
		}
		return err
	})
}
