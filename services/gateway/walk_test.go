package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// client believes what it is told, and remembers what it believed at each number.
type client struct {
	*socket
	now  state
	then map[int64]state
}

type state struct {
	channels map[id.ID]bool
	messages []int // by their content
}

func (s state) clone() state {
	return state{channels: maps.Clone(s.channels), messages: slices.Clone(s.messages)}
}

// follow reads up to the USER_UPDATE with this name.
func (c *client) follow(name string) {
	c.t.Helper()
	c.until(func(f frame) bool {
		var u wire.User
		return f.T == "USER_UPDATE" && json.Unmarshal(f.D, &u) == nil && u.Username == name
	})
}

// until reads and believes what comes up to a frame.
func (c *client) until(last func(frame) bool) {
	c.t.Helper()
	for {
		f := c.read()
		if f.Op == wire.OpHeartbeatACK && last(f) {
			return
		}
		if f.Op != wire.OpDispatch {
			c.t.Fatalf("got op %d %s", f.Op, f.D)
		}
		if !numbered(f.T) {
			continue
		}
		if c.seq++; *f.S != c.seq {
			c.t.Fatalf("%s has s %d, want %d", f.T, *f.S, c.seq)
		}
		c.believe(f)
		c.then[c.seq] = c.now.clone()
		if last(f) {
			return
		}
	}
}

func (c *client) believe(f frame) {
	c.t.Helper()
	var d struct {
		ID       id.ID
		Content  string
		Channels []wire.Channel
	}
	if err := json.Unmarshal(f.D, &d); err != nil {
		c.t.Fatal(err)
	}
	switch f.T {
	case "GUILD_CREATE":
		if len(c.now.channels) > 0 {
			c.t.Fatal("GUILD_CREATE of a guild that one is in")
		}
		for _, ch := range d.Channels {
			c.now.channels[ch.ID] = true
		}
	case "GUILD_DELETE":
		clear(c.now.channels)
	case "CHANNEL_CREATE":
		if c.now.channels[d.ID] {
			c.t.Fatalf("CHANNEL_CREATE of %s, which is there", d.ID)
		}
		c.now.channels[d.ID] = true
	case "CHANNEL_DELETE":
		if !c.now.channels[d.ID] {
			c.t.Fatalf("CHANNEL_DELETE of %s, which is not there", d.ID)
		}
		delete(c.now.channels, d.ID)
	case "MESSAGE_CREATE":
		n, err := strconv.Atoi(d.Content)
		if last := len(c.now.messages) - 1; err != nil || last >= 0 && c.now.messages[last] >= n {
			c.t.Fatalf("message %q after %v", d.Content, c.now.messages)
		}
		c.now.messages = append(c.now.messages, n)
	}
}

// walk is a guild that changes at random.
type walk struct {
	*bundle
	rnd      *rand.Rand
	member   bool
	channels map[id.ID]wire.Channel
	fresh    id.ID
	said     map[int]id.ID // message → channel
}

func (w *walk) step() {
	all, n := slices.Sorted(maps.Keys(w.channels)), w.rnd.IntN(12)
	switch {
	case n == 0 && w.member:
		w.kick(alice)
		w.member = false
	case n == 0:
		w.bundle.member(wire.MemberJoined, alice)
		w.member = true
	case n == 1 && w.member:
		w.bundle.member(wire.MemberUpdated, alice, []id.ID{moderator}[:w.rnd.IntN(2)]...)
	case n == 2 && len(all) < 6:
		w.fresh++
		w.set(wire.ChannelCreated, w.fresh)
	case n == 3 && len(all) > 1:
		gone := all[w.rnd.IntN(len(all))]
		delete(w.channels, gone)
		w.cold(wire.ChannelDeleted, bus.Entry{Guild: guild, Channel: gone}, wire.ChannelDeletedPayload{ChannelID: gone})
	case n == 4:
		w.set(wire.ChannelUpdated, all[w.rnd.IntN(len(all))])
	case n == 5 && w.rnd.IntN(4) == 0:
		w.rename([]id.ID{alice, bob}[w.rnd.IntN(2)], "renamed")
	default:
		channel := all[w.rnd.IntN(len(all))]
		w.said[len(w.said)] = channel
		w.say(bob, channel, strconv.Itoa(len(w.said)-1))
	}
}

func (b *bundle) rename(user id.ID, name string) {
	b.t.Helper()
	b.cold(wire.UserUpdated, bus.Entry{User: user}, wire.UserChangedPayload{User: wire.User{ID: user, Username: name}})
}

// set makes or changes a channel, for everybody, for moderators or for nobody.
func (w *walk) set(kind wire.EventType, channel id.ID) {
	c := wire.Channel{ID: channel, GuildID: guild, Name: channel.String()}
	if n := w.rnd.IntN(3); n > 0 {
		c.PermissionOverwrites = append(c.PermissionOverwrites, wire.Overwrite{ID: guild, Type: perm.OverwriteRole, Deny: perm.ViewChannel})
		if n > 1 {
			c.PermissionOverwrites = append(c.PermissionOverwrites, wire.Overwrite{ID: moderator, Type: perm.OverwriteRole, Allow: perm.ViewChannel})
		}
	}
	w.channels[channel] = c
	w.cold(kind, bus.Entry{Guild: guild, Channel: channel}, wire.ChannelChangedPayload{Channel: c})
}

// compare expects that walker, who comes and goes, believes what witness does, who never left, and has all messages but the excused.
func (w *walk) compare(round int, witness, walker *client, excused map[int]bool) {
	w.t.Helper()
	if diff := cmp.Diff(witness.now.channels, walker.now.channels); diff != "" {
		w.t.Fatalf("round %d: the channels differ: %s", round, diff)
	}
	got := map[int]bool{}
	for _, n := range walker.now.messages {
		got[n] = true
	}
	for _, n := range witness.now.messages {
		switch {
		case got[n] || excused[n]:
		case witness.now.channels[w.said[n]]:
			w.t.Fatalf("round %d: message %d is missing", round, n)
		default:
			excused[n] = true // it could not be seen when the session was resumed; later it is history
		}
	}
}

// TestGateway_ResumesLikeOneWhoNeverLeft: one socket of a user stays, another is cut and resumes from where it claims to be,
// while the guild changes at random. Afterwards both believe the same, no message came twice or out of order, and none is missing
// that can be seen in the end.
func TestGateway_ResumesLikeOneWhoNeverLeft(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	b := setup(t, Config{})
	b.found()
	w := &walk{
		bundle: b, rnd: rand.New(rand.NewPCG(seed, 0)), member: true, fresh: 1000, said: map[int]id.ID{},
		channels: map[id.ID]wire.Channel{general: {}, hidden: {}},
	}
	begin := func() *client {
		s, guilds := b.identify(alice, wire.IntentsAll)
		c := &client{socket: s, now: state{channels: map[id.ID]bool{}}, then: map[int64]state{}}
		for _, ch := range guilds[0].Channels {
			c.now.channels[ch.ID] = true
		}
		c.then[c.seq] = c.now.clone()
		return c
	}
	witness, walker := begin(), begin()
	first, excused := walker.seq, map[int]bool{}
	for round := range 40 {
		for range w.rnd.IntN(8) {
			w.step()
		}
		if w.rnd.IntN(2) == 0 {
			b.cut(walker.socket)
			for range w.rnd.IntN(12) {
				w.step()
			}
			had := max(first, walker.seq-int64(w.rnd.IntN(20)))
			walker.now = walker.then[had].clone()
			walker.socket = b.resume(alice, walker.socket, had)
		}
		name := fmt.Sprintf("round%d", round)
		b.rename(alice, name)
		witness.follow(name)
		walker.follow(name)
		w.compare(round, witness, walker, excused)
	}
}

// beat sends a heartbeat, goes on until its answer, and returns the number that it carried.
func (c *client) beat() (seq int64) {
	c.t.Helper()
	seq = c.seq
	c.send(wire.OpHeartbeat, seq)
	c.until(func(f frame) bool { return f.Op == wire.OpHeartbeatACK })
	return seq
}

// sync goes on until the client has what is in the log, which is on its gateway. The heartbeat says nothing of what the client has.
func (c *client) sync(b *bundle) {
	c.t.Helper()
	last, err := b.log.Last(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	b.reach(last)
	c.send(wire.OpHeartbeat, nil)
	c.until(func(f frame) bool { return f.Op == wire.OpHeartbeatACK })
}

// begin is alice's new session on a gateway.
func (b *bundle) begin() *client {
	b.t.Helper()
	s, guilds := b.identify(alice, wire.IntentsAll)
	c := &client{socket: s, now: state{channels: map[id.ID]bool{}}, then: map[int64]state{}}
	for _, g := range guilds {
		for _, ch := range g.Channels {
			c.now.channels[ch.ID] = true
		}
	}
	c.then[c.seq] = c.now.clone()
	return c
}

// TestGateway_ResumesOnAnother: as above, but the session goes on with another gateway on the same Redis, which began after some or
// all of what is to be counted. The former one lives, or was killed without a word. What cannot be exact may be refused, but
// what is accepted is exact.
func TestGateway_ResumesOnAnother(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	home := setup(t, Config{})
	home.found()
	w := &walk{
		bundle: home, rnd: rand.New(rand.NewPCG(seed, 0)), member: true, fresh: 1000, said: map[int]id.ID{},
		channels: map[id.ID]wire.Channel{general: {}, hidden: {}},
	}
	here := home.another(Config{})
	witness, walker := home.begin(), here.begin()
	first, excused := walker.seq, map[int]bool{}
	resumed, refused := map[bool]int{}, map[bool]int{}
	steps := func(n int) {
		for range w.rnd.IntN(n) {
			w.step()
		}
	}
	for round := range 40 {
		steps(8)
		if w.rnd.IntN(2) == 0 {
			killed, there := w.rnd.IntN(2) == 0, (*bundle)(nil)
			early := w.rnd.IntN(2) == 0
			if early {
				there = home.another(Config{})
				steps(4)
			}
			if killed {
				here.reach(home.tail.Position())
				here.flush()
				here.abandon()
			}
			if !killed && w.rnd.IntN(2) == 0 {
				here.cut(walker.socket)
			}
			steps(6)
			if !early {
				there = home.another(Config{})
			}
			steps(6)
			had := max(first, walker.seq-int64(w.rnd.IntN(10)))
			was := walker.socket
			walker.now, walker.socket = walker.then[had].clone(), there.resume(alice, was, had)
			if walker.resumed() {
				resumed[killed]++
				first = had // nobody goes back behind what they have claimed to have
			} else {
				refused[killed]++
				_ = walker.ws.Close()
				walker = there.begin()
				first = walker.seq
				for n := range len(w.said) {
					excused[n] = true
				}
			}
			here = there
		}
		witness.sync(home)
		walker.sync(here)
		w.compare(round, witness, walker, excused)
		if w.rnd.IntN(2) == 0 {
			first = walker.beat()
		}
	}
	if refused[false] > 0 || resumed[true] == 0 && refused[true] > 5 {
		t.Errorf("what a living gateway gave away was refused %d times, after a kill nothing of %d was resumed", refused[false], refused[true])
	}
	t.Logf("alive: %d resumed, %d refused; killed: %d resumed, %d refused", resumed[false], refused[false], resumed[true], refused[true])
}
