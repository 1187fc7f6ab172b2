package e2e

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/services/node"
)

// pair is one world with two gateways, both of which have all services.
func pair(t *testing.T) (w *world, other string) {
	t.Helper()
	w = single(t)
	second := w.settings
	second.Services = []string{node.Gateway}
	second.UpstreamAuth, second.UpstreamGuilds, second.UpstreamMessaging = []string{w.node.Addr()}, []string{w.node.Addr()}, []string{w.node.Addr()}
	return w, "http://" + w.start(t, second).Addr()
}

// read returns the ids of the messages up to last, and how often anything else came.
func read(t *testing.T, g *client.Gateway, last id.ID) (messages []id.ID, others map[string]int) {
	t.Helper()
	others = map[string]int{}
	for {
		d := next(t, g)
		m, ok := client.As[wire.Message](d, "MESSAGE_CREATE")
		if !ok {
			others[d.Type]++
			continue
		}
		if messages = append(messages, m.ID); m.ID == last {
			return messages, others
		}
	}
}

// TestResume_WorksOnAnotherGateway: a session goes to and fro between two gateways amid a stream of posts; its client gets exactly
// what was sent.
func TestResume_WorksOnAnotherGateway(t *testing.T) {
	t.Parallel()
	w, other := pair(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	_, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	urls := []string{w.url, other}
	g := bob.connect(t, client.GatewayConfig{URL: urls[0]})
	await(t, g, "GUILD_CREATE", nil)
	const rounds, posts = 12, 10
	var sent, got []id.ID
	say := func(n int) {
		for range n {
			sent = append(sent, ada.say(t, channel, fmt.Sprint(len(sent))).ID)
		}
	}
	for round := 1; round <= rounds; round++ {
		say(posts)
		seen, _ := read(t, g, sent[len(sent)-1])
		got = append(got, seen...)
		say(posts / 2) // some of which the client has and nobody has read
		state := g.Detach()
		for d := range g.Events() {
			if m, ok := client.As[wire.Message](d, "MESSAGE_CREATE"); ok {
				got = append(got, m.ID)
			}
		}
		say(posts)
		g = bob.connect(t, client.GatewayConfig{URL: urls[round%2], Resume: &state})
		seen, others := read(t, g, sent[len(sent)-1])
		got = append(got, seen...)
		if stats := g.Stats(); stats.Identifies != 0 || stats.Gaps != 0 || stats.Resumed != 1 || others["RESUMED"]+others["READY"] > 1 {
			t.Fatalf("round %d: %+v, %v", round, stats, others)
		}
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("sent and received differ: %s", diff)
	}
	t.Logf("%d of %d resumes on the other gateway succeeded", rounds, rounds)
}

// TestResume_OnAnotherGatewayShowsOnlyWhatIsPermittedNow: what happened in a channel that was taken away meanwhile is not replayed
// there either.
func TestResume_OnAnotherGatewayShowsOnlyWhatIsPermittedNow(t *testing.T) {
	t.Parallel()
	w, elsewhere := pair(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	guild, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	other, err := ada.CreateChannel(t.Context(), guild, wire.CreateChannel{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	g := bob.connect(t, client.GatewayConfig{URL: w.url})
	await(t, g, "GUILD_CREATE", nil)
	state := g.Detach()
	ada.say(t, other.ID, "before it was hidden")
	deny := wire.SetOverwrite{Type: new(perm.OverwriteRole), Deny: perm.ViewChannel}
	if err := ada.SetOverwrite(t.Context(), other.ID, guild, deny); err != nil {
		t.Fatal(err)
	}
	last := ada.say(t, channel, "last").ID
	g = bob.connect(t, client.GatewayConfig{URL: elsewhere, Resume: &state})
	messages, others := read(t, g, last)
	if len(messages) != 1 || others["CHANNEL_DELETE"] != 1 || g.Stats().Identifies != 0 {
		t.Errorf("%d messages and %v came, want one and a CHANNEL_DELETE", len(messages), others)
	}
}

// TestResume_IsRefusedToStrangers: neither the session of somebody else nor one that never was can be resumed anywhere, and who
// tries does no harm to it.
func TestResume_IsRefusedToStrangers(t *testing.T) {
	t.Parallel()
	w, other := pair(t)
	ada, eve := w.register(t, "ada"), w.register(t, "eve")
	_, channel := ada.guild(t, "first")
	g := ada.connect(t, client.GatewayConfig{URL: w.url})
	await(t, g, "GUILD_CREATE", nil)
	state := g.Detach()
	unknown := state
	unknown.SessionID = "0123456789abcdef0123456789abcdef"
	for name, try := range map[string]struct {
		who   *person
		state client.State
	}{"somebody else's": {eve, state}, "unknown": {ada, unknown}} {
		stranger := try.who.connect(t, client.GatewayConfig{URL: other, Resume: &try.state})
		if stats := stranger.Stats(); stats.Invalid != 1 || stats.Identifies != 1 || stats.Resumed != 0 {
			t.Errorf("a session that is %s: %+v", name, stats)
		}
		stranger.Close()
	}
	last := ada.say(t, channel, "last").ID
	g = ada.connect(t, client.GatewayConfig{URL: other, Resume: &state})
	if messages, _ := read(t, g, last); len(messages) != 1 || g.Stats().Identifies != 0 {
		t.Errorf("%d messages, %+v", len(messages), g.Stats())
	}
}

// TestResume_SurvivesKill9: the real binary is killed with -9 again and again, together with its servers every other time, amid a
// stream of posts; the session goes on in the next process and gets exactly what is in the channel.
func TestResume_SurvivesKill9(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start(t)
	url := "http://" + m.addr
	ada, bob := registerAt(t, url, "ada"), registerAt(t, url, "bob")
	_, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	g := bob.connect(t, client.GatewayConfig{Queue: 100_000})
	await(t, g, "GUILD_CREATE", nil)
	const rounds = 4
	for round := range rounds {
		stream := newStream(t, ada, channel, 3)
		stream.await(t, 40)
		m.checkpoint(t, g, int64(round))
		stream.await(t, 40)
		if round%2 == 0 {
			m.kill(t, m.cmd.Process.Pid)
		} else {
			m.kill(t, m.pids(t)...)
		}
		m.start(t)
		stream.await(t, 20)
		stream.stop()
	}
	last := ada.say(t, channel, "last").ID
	got, _ := read(t, g, last)
	if diff := cmp.Diff(wholeHistory(t, ada, channel), got); diff != "" {
		t.Errorf("what is in the channel and what was received differ: %s", diff)
	}
	stats := g.Stats()
	if stats.Gaps != 0 || stats.Resumed < rounds || stats.Identifies != 1 {
		t.Errorf("%+v", stats)
	}
	t.Logf("%d kills, %d resumes, %d messages", rounds, stats.Resumed, len(got))
}

// checkpoint waits until the client has come back so often, sends a heartbeat, and waits until a checkpoint is written.
func (m *machine) checkpoint(t *testing.T, g *client.Gateway, resumed int64) {
	t.Helper()
	const saved = `xcord_gateway_checkpoints_total{result="saved"}`
	var before float64
	eventually(t, func() (err error) {
		if stats := g.Stats(); stats.Resumed != resumed || stats.Identifies != 1 {
			return fmt.Errorf("%+v, want %d resumes", stats, resumed)
		}
		if before, err = m.metric(saved); err != nil {
			return err
		}
		return g.Send(wire.OpHeartbeat, g.Seq())
	})
	eventually(t, func() error {
		n, err := m.metric(saved)
		if err == nil && n == before {
			err = errors.New("no checkpoint was written")
		}
		return err
	})
}

// TestResume_SurvivesAStop: a gateway stops amid a stream of posts. Its sessions are told so, one after the other, and go on with another
// gateway; each client gets exactly what is in the channel.
func TestResume_SurvivesAStop(t *testing.T) {
	t.Parallel()
	w := single(t)
	second := w.settings
	second.Services, second.DrainTime = []string{node.Gateway}, 200*time.Millisecond
	second.UpstreamAuth, second.UpstreamGuilds, second.UpstreamMessaging = []string{w.node.Addr()}, []string{w.node.Addr()}, []string{w.node.Addr()}
	stopping := w.start(t, second)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	_, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	const clients, posts = 12, 60
	var gateways []*client.Gateway
	for range clients {
		// The first connection is to the one that stops, and the client is told to come back to it: there is nobody, so it asks around.
		g := bob.connect(t, client.GatewayConfig{URL: "http://" + stopping.Addr()})
		await(t, g, "GUILD_CREATE", nil)
		state := g.Detach()
		g = bob.connect(t, client.GatewayConfig{Resume: &state})
		if g.Stats().Resumed != 1 {
			t.Fatalf("%+v", g.Stats())
		}
		gateways = append(gateways, g)
	}
	var sent []id.ID
	var stop sync.WaitGroup
	for i := range posts {
		if i == posts/3 {
			stop.Go(stopping.Stop)
		}
		sent = append(sent, ada.say(t, channel, fmt.Sprint(i)).ID)
	}
	stop.Wait()
	sent = append(sent, ada.say(t, channel, "last").ID)
	for i, g := range gateways {
		got, _ := read(t, g, sent[len(sent)-1])
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("client %d: sent and received differ: %s", i, diff)
		}
		if stats := g.Stats(); stats.Gaps != 0 || stats.Identifies != 0 || stats.Invalid != 0 || stats.Resumed != 2 {
			t.Errorf("client %d: %+v", i, stats)
		}
	}
}

// TestResume_TellsWhoChangedMeanwhile: after RESUMED a client is told of who came and who went while it was away, on the gateway where it was as
// on another one.
func TestResume_TellsWhoChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w, other := pair(t)
	ada, bob, eve := w.register(t, "ada"), w.register(t, "bob"), w.register(t, "eve")
	_, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob, eve)
	for name, url := range map[string]string{"the same gateway": w.url, "another": other} {
		leaving := bob.connect(t, client.GatewayConfig{URL: w.url})
		g := ada.connect(t, client.GatewayConfig{URL: w.url})
		await(t, g, "GUILD_CREATE", nil)
		state := g.Detach()
		leaving.Close() // which ends the session, so that bob is seen to be gone
		coming := eve.connect(t, client.GatewayConfig{URL: w.url})
		for _, status := range []string{"idle", "dnd"} {
			if err := coming.Send(wire.OpPresenceUpdate, map[string]any{"status": status}); err != nil {
				t.Fatal(err)
			}
		}
		w.shows(t, map[id.ID]string{bob.id: "", eve.id: "dnd"})
		g = ada.connect(t, client.GatewayConfig{URL: url, Resume: &state})
		last := map[id.ID]string{} // a gateway may hear of the latest change a moment later, and tells it live
		for last[bob.id] != "offline" || last[eve.id] != "dnd" {
			p, _ := client.As[wire.Presence](await(t, g, "PRESENCE_UPDATE", nil), "PRESENCE_UPDATE")
			last[p.User.ID] = p.Status
		}
		if stats := g.Stats(); stats.Identifies != 0 {
			t.Errorf("on %s: %+v", name, stats)
		}
		g.Close()
		coming.Close()
		w.shows(t, map[id.ID]string{ada.id: "", eve.id: ""})
	}
}

// shows waits until the users show like this; "" is offline.
func (w *world) shows(t *testing.T, want map[id.ID]string) {
	t.Helper()
	c, err := redis.Open(t.Context(), redis.Config{URL: w.redis.AdminURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, func() error {
		got, err := c.Do(t.Context(), c.B().Hgetall().Key("presence:{p}:statuses").Build()).AsStrMap()
		if err != nil {
			return err
		}
		for user, status := range want {
			if got[user.String()] != status {
				return fmt.Errorf("%s is %q, want %q", user, got[user.String()], status)
			}
		}
		return nil
	})
}

// TestResume_EndsWithTheSession: nothing is left in Redis of a session that its client has closed.
func TestResume_EndsWithTheSession(t *testing.T) {
	t.Parallel()
	w, _ := pair(t)
	ada := w.register(t, "ada")
	g := ada.connect(t, client.GatewayConfig{URL: w.url})
	c, err := redis.Open(t.Context(), redis.Config{URL: w.redis.AdminURL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	kept := func(want int64) {
		t.Helper()
		key := "session:{" + g.Session() + "}"
		eventually(t, func() error {
			n, err := c.Do(t.Context(), c.B().Exists().Key(key).Build()).AsInt64()
			if err == nil && n != want {
				err = fmt.Errorf("%d of %s, want %d", n, key, want)
			}
			return err
		})
	}
	kept(1)
	g.Close()
	kept(0)
}
