package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/conf"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/harness"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
)

// admin is a client that may do everything with the world's Redis.
func (w *world) admin(t *testing.T) redis.Client {
	t.Helper()
	c, err := redis.Open(t.Context(), redis.Config{URL: w.redis.AdminURL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func command(t *testing.T, c redis.Client, words ...string) {
	t.Helper()
	if err := c.Do(t.Context(), c.B().Arbitrary(words...).Build()).Error(); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
}

// readModel is what Redis knows of users and guilds, without where in the log it changed last.
func readModel(t *testing.T, c redis.Client) map[string]any {
	t.Helper()
	keys, err := c.Do(t.Context(), c.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	model := map[string]any{}
	for _, key := range keys {
		kind, _, _ := strings.Cut(key, ":")
		var err error
		switch kind {
		case "guild", "members", "user":
			var fields map[string]string
			fields, err = c.Do(t.Context(), c.B().Hgetall().Key(key).Build()).AsStrMap()
			delete(fields, "at")
			if len(fields) > 1 || kind == "members" { // of what is deleted, only the version is left
				model[key] = fields
			}
		case "guilds":
			var guilds []string
			guilds, err = c.Do(t.Context(), c.B().Smembers().Key(key).Build()).AsStrSlice()
			slices.Sort(guilds)
			model[key] = guilds
		case "channel":
			model[key], err = c.Do(t.Context(), c.B().Get().Key(key).Build()).ToString()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return model
}

// furnished is a guild of ada's with a bit of everything in it, in which bob is; bobs is another one, of his own.
func furnished(t *testing.T, w *world) (ada, bob *person, guild, channel, bobs id.ID) {
	t.Helper()
	ada, bob = w.register(t, "ada"), w.register(t, "bob")
	eve := w.register(t, "eve")
	guild, channel = ada.guild(t, "first")
	ada.invite(t, channel, bob, eve)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	role, err := ada.CreateRole(ctx, guild, wire.CreateRole{Name: new("painters"), Color: new(0xff0000), UnicodeEmoji: new("🎨")})
	must(err)
	folder, err := ada.CreateChannel(ctx, guild, wire.CreateChannel{Name: "folder", Type: new(wire.ChannelCategory)})
	must(err)
	_, err = ada.CreateChannel(ctx, guild, wire.CreateChannel{
		Name: "secret", ParentID: folder.ID, Topic: new("what nobody knows"), NSFW: new(true), RateLimitPerUser: new(5),
		PermissionOverwrites: []wire.ChannelOverwrite{{ID: role.ID, Deny: 1 << 10}},
	})
	must(err)
	_, err = ada.CreateChannel(ctx, guild, wire.CreateChannel{Name: "loud", Type: new(wire.ChannelVoice), Bitrate: new(96_000), UserLimit: new(7)})
	must(err)
	must(ada.GiveRole(ctx, guild, bob.id, role.ID))
	must(ada.Kick(ctx, guild, eve.id, ""))
	app, err := ada.CreateApplication(ctx, "helper")
	must(err)
	_, err = ada.CreateBot(ctx, app.ID)
	must(err)
	must(ada.AddBot(ctx, guild, app.ID))
	bobs, _ = bob.guild(t, "second")
	gone, _ := bob.guild(t, "third")
	must(bob.DeleteGuild(ctx, gone))
	must(bob.LeaveGuild(ctx, guild))
	ada.invite(t, channel, bob)
	_, err = bob.UpdateGuild(ctx, bobs, wire.UpdateGuild{Description: wire.Some("theirs")})
	must(err)
	return ada, bob, guild, channel, bobs
}

// persist says something until it is answered. What is refused with 503 may be said again.
func (p *person) persist(t *testing.T, channel id.ID, text string) (m wire.Message) {
	t.Helper()
	eventually(t, func() (err error) {
		m, err = p.Say(t.Context(), channel, text)
		return err
	})
	return m
}

// stored waits until everything that was said is in Postgres.
func (w *world) stored(t *testing.T, last id.ID) {
	t.Helper()
	eventually(t, func() error {
		var n int
		err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM checkpoints WHERE (last_ms, last_seq) >= ($1, $2)`,
			int64(bus.PositionOf(last).Ms), int64(bus.PositionOf(last).Seq)).Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("message %s is not stored", last)
		}
		return err
	})
}

// epoch is the log's.
func epoch(t *testing.T, c redis.Client) string {
	t.Helper()
	got, err := c.Do(t.Context(), c.B().Get().Key("epoch:{s00}").Build()).ToString()
	if err != nil {
		return ""
	}
	return got
}

// newEpoch waits until the log has begun another epoch.
func newEpoch(t *testing.T, c redis.Client, before string) {
	t.Helper()
	eventually(t, func() error {
		if now := epoch(t, c); now == "" || now == before {
			return fmt.Errorf("the log's epoch is %q", now)
		}
		return nil
	})
}

// TestEpoch_AnEmptyRedisIsFilledAgain: under two running nodes Redis loses everything. Every session is told so, on its connection, and
// begins anew there; nobody is told of it that their guild or channel does not exist; who is who is as before, ids go on above all others,
// and what was stored is there.
func TestEpoch_AnEmptyRedisIsFilledAgain(t *testing.T) {
	t.Parallel()
	w, other := pair(t)
	ada, bob, _, channel, bobs := furnished(t, w)
	admin := w.admin(t)
	first := ada.say(t, channel, "before")
	w.stored(t, first.ID)
	here, _ := (&scene{world: w}).identified(t, bob.token)
	there, session := (&scene{world: &world{url: other}}).identified(t, bob.token)
	was, began := readModel(t, admin), epoch(t, admin)

	command(t, admin, "FLUSHALL")
	refusals := 0
	var second wire.Message
	eventually(t, func() (err error) {
		second, err = ada.Say(t.Context(), channel, "after")
		if err != nil && !client.IsStatus(err, http.StatusServiceUnavailable) {
			t.Fatalf("while the log was gone: %v", err)
		}
		refusals++
		return err
	})
	if second.ID <= first.ID {
		t.Errorf("the new epoch has id %s, and before it was %s", second.ID, first.ID)
	}
	newEpoch(t, admin, began)
	for name, c := range map[string]socket{"here": here, "there": there} {
		if f := c.until(t, wire.OpInvalidSession, ""); string(f.D) != "false" {
			t.Errorf("%s: op 9 has %s", name, f.D)
		}
		c.send(t, resume(bob.token, session.SessionID, 1))
		if f := c.next(t); f.Op != wire.OpInvalidSession || string(f.D) != "false" {
			t.Errorf("%s: a session of the former epoch is answered op %d %s", name, f.Op, f.D)
		}
		c.send(t, identify(bob.token, ""))
		if r := c.ready(t); len(r.Guilds) != 2 {
			t.Errorf("%s: READY has %d guilds, want 2", name, len(r.Guilds))
		}
		third := ada.say(t, channel, "to "+name)
		for {
			var m wire.Message
			if err := json.Unmarshal(c.until(t, wire.OpDispatch, "MESSAGE_CREATE").D, &m); err != nil {
				t.Fatal(err)
			}
			if m.ID == third.ID {
				break
			}
		}
	}
	if diff := cmp.Diff(was, readModel(t, admin)); diff != "" {
		t.Errorf("the read model is another one: %s", diff)
	}
	history, err := bob.Messages(t.Context(), channel, wire.ListMessages{})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range slices.Backward(history) {
		texts = append(texts, m.Content)
	}
	if !slices.Contains(texts, "before") || !slices.Contains(texts, "after") || !slices.Contains(texts, "to here") || !slices.Contains(texts, "to there") {
		t.Errorf("the history has %q", texts)
	}
	w.stored(t, history[0].ID)
	// Changes go on at the versions that they had.
	if _, err := bob.CreateChannel(t.Context(), bobs, wire.CreateChannel{Name: "later"}); err != nil {
		t.Error(err)
	}
	t.Logf("%d attempts were refused while the log was gone", refusals-1)
}

// TestEpoch_AnOlderCopyIsNotBelieved: Redis comes back with what it had some time ago. Nothing is accepted by what was permitted
// then.
func TestEpoch_AnOlderCopyIsNotBelieved(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada, bob, guild, channel, _ := furnished(t, w)
	ada.say(t, channel, "copied")
	admin := w.admin(t)
	data, err := admin.Do(t.Context(), admin.B().ConfigGet().Parameter("dir").Build()).AsStrMap()
	if err != nil {
		t.Fatal(err)
	}
	dir := data["dir"]
	w.redis.Stop()
	aside := dir + ".copy"
	if out, err := exec.Command("cp", "-a", dir, aside).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := w.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ada.persist(t, channel, "both")
	if err := ada.Kick(t.Context(), guild, bob.id, ""); err != nil {
		t.Fatal(err)
	}
	later, err := ada.CreateChannel(t.Context(), guild, wire.CreateChannel{Name: "later"})
	if err != nil {
		t.Fatal(err)
	}
	last := ada.say(t, later.ID, "not copied")
	w.stored(t, last.ID)
	was, began := readModel(t, admin), epoch(t, admin)
	c, _ := (&scene{world: w}).identified(t, ada.token)

	w.redis.Stop()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, dir); err != nil {
		t.Fatal(err)
	}
	if err := w.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// In the copy bob is a member.
	eventually(t, func() error {
		_, err := bob.Say(t.Context(), channel, "I was kicked")
		switch {
		case err == nil:
			t.Fatal("a message was accepted from one who had been kicked")
		case client.IsCode(err, fault.MissingAccess):
			return nil
		}
		return err
	})
	newEpoch(t, admin, began)
	c.until(t, wire.OpInvalidSession, "")
	after := ada.persist(t, later.ID, "after")
	if after.ID <= last.ID {
		t.Errorf("the new epoch has id %s, and before it was %s", after.ID, last.ID)
	}
	if diff := cmp.Diff(was, readModel(t, admin)); diff != "" {
		t.Errorf("the read model is another one: %s", diff)
	}
	var history []id.ID
	eventually(t, func() error {
		history = nil
		messages, err := ada.Messages(t.Context(), later.ID, wire.ListMessages{})
		for _, m := range messages {
			history = append(history, m.ID)
		}
		return err
	})
	if diff := cmp.Diff([]id.ID{after.ID, last.ID}, history); diff != "" {
		t.Error(diff)
	}
	w.stored(t, after.ID)
}

// TestEpoch_StartsWithAnEmptyRedis: a node that is started on the Postgres of before and a Redis that has nothing begins a new epoch.
func TestEpoch_StartsWithAnEmptyRedis(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada, _, _, channel, _ := furnished(t, w)
	m := ada.say(t, channel, "before")
	w.stored(t, m.ID)
	was := readModel(t, w.admin(t))
	w.node.Stop()
	w.redis = harness.Redis(t)
	w.settings.RedisURL, w.settings.RedisAdminURL = conf.Secret(w.redis.URL()), conf.Secret(w.redis.AdminURL())
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	c, err := client.New(client.Config{URL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	again := &person{Client: c.WithToken(ada.token), id: ada.id, token: ada.token}
	if diff := cmp.Diff(was, readModel(t, w.admin(t))); diff != "" {
		t.Errorf("the read model is another one: %s", diff)
	}
	if after := again.say(t, channel, "after"); after.ID <= m.ID {
		t.Errorf("the new epoch has id %s, and before it was %s", after.ID, m.ID)
	}
}

// TestDurability_IsHeldWhileTheNodeRuns: a Redis that comes back with other settings, or gets them, is not written to until they are
// right again.
func TestDurability_IsHeldWhileTheNodeRuns(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	_, channel := ada.guild(t, "first")
	admin := w.admin(t)
	readyz := func() int {
		r, err := http.Get("http://" + w.node.AdminAddr() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		return r.StatusCode
	}
	command(t, admin, "CONFIG", "SET", "appendfsync", "everysec")
	command(t, admin, "CLIENT", "KILL", "TYPE", "normal", "USER", "xcord", "SKIPME", "yes")
	// The connections are new: the first write that would be acknowledged over one of them is not.
	for range 3 {
		if _, err := ada.Say(t.Context(), channel, "in good faith"); !client.IsStatus(err, http.StatusServiceUnavailable) {
			t.Fatalf("with everysec: %v, want 503", err)
		}
	}
	eventually(t, func() error {
		if code := readyz(); code != http.StatusServiceUnavailable {
			return fmt.Errorf("readyz answers %d", code)
		}
		return nil
	})
	command(t, admin, "CONFIG", "SET", "appendfsync", "always")
	ada.persist(t, channel, "again")
	eventually(t, func() error {
		if code := readyz(); code != http.StatusOK {
			return fmt.Errorf("readyz answers %d", code)
		}
		return nil
	})
}
