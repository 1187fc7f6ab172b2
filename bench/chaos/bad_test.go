package chaos

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/redis"
)

// badBuild is an xcord in which one line is wrong, built with an overlay, so that the product has no switch for it; or one that runs
// as it should not.
type badBuild struct {
	name       string
	file       string // below the root of the repository
	old, new   string
	durability redis.Durability
	strikes    []string // what brings it to light
	rounds     int
}

var badBuilds = []badBuild{
	{
		name: "XACK before COMMIT", file: "engine/bus/group.go",
		old:     "	return rest, g.config.Handle(ctx, rest)\n",
		new:     "	_ = g.ack(ctx, rest)\n	return rest, g.config.Handle(ctx, rest)\n",
		strikes: []string{"LOCK TABLE, kill the writer and its transaction"}, rounds: 2,
	},
	{
		name: "a nonce is not looked up", file: "engine/bus/library.lua",
		old:     "  if earlier then return '=' .. earlier end\n",
		strikes: []string{"Redis' answers lost", "SIGSTOP Redis"}, rounds: 2,
	},
	{
		name: "the tail skips an entry after an outage", file: "engine/bus/tail.go",
		old:     "		pause = 0\n		unread.end(\"tail reads the log again\")\n",
		new:     "		if pause > 0 && len(batch.entries) > 0 {\n			batch.entries = batch.entries[1:]\n		}\n		pause = 0\n		unread.end(\"tail reads the log again\")\n",
		strikes: []string{"kill -9 Redis", "Redis cut off"}, rounds: 2,
	},
	{
		name: "the writer goes on behind what its predecessor was handed", file: "engine/bus/group.go",
		old:     "		if !pending && some {\n",
		new:     "		if false {\n",
		strikes: []string{"SIGSTOP the writer's node"}, rounds: 12,
	},
	{
		name: "no fence", file: "engine/bus/library.lua",
		old:     "  if args[1] ~= '' and redis.call('HGET', keys[2], 'v') ~= args[1] then return '!stale' end\n",
		strikes: []string{"Redis cut off", "SIGSTOP the writer's node"}, rounds: 3,
	},
	{
		name: "everysec under a loss of power", durability: redis.D0,
		strikes: []string{"LOCK TABLE, power loss of Redis"}, rounds: 2,
	},
	{
		name: "RESUME goes on one event late", file: "services/gateway/attach.go",
		old:     "		paint := s.painter(r)\n		return &session.Opening{\n			Trail: r.trail, View: at.view, Point: hub.Behind(at.pos), From: place",
		new:     "		if len(records) > 2 { // the first may have been told\n			records = append(records[:1:1], records[2:]...)\n		}\n		paint := s.painter(r)\n		return &session.Opening{\n			Trail: r.trail, View: at.view, Point: hub.Behind(at.pos), From: place",
		strikes: []string{"clients cut off"}, rounds: 2,
	},
	{
		name: "RESUME goes on one event early", file: "engine/session/trail.go",
		old:     "		place.Point = e.Point\n		return at < seq\n",
		new:     "		if at < seq {\n			place.Point = e.Point\n		}\n		return at < seq\n",
		strikes: []string{"clients cut off"}, rounds: 2,
	},
	{
		name: "of a batch's changes of a reaction the first one is stored", file: "services/messaging/writer.go",
		old:     "	b.reactions[reactorOf{r.message, reactor{r.emoji, r.user}}] = r\n",
		new:     "	if _, some := b.reactions[reactorOf{r.message, reactor{r.emoji, r.user}}]; !some {\n		b.reactions[reactorOf{r.message, reactor{r.emoji, r.user}}] = r\n	}\n",
		strikes: []string{"Postgres away"}, rounds: 2,
	},
	{
		name: "a guild is told of the reactions in all of its channels", file: "services/gateway/expand_marks.go",
		old:     "	ev.Channel = e.Channel\n",
		strikes: []string{"clients cut off"}, rounds: 1,
	},
	{
		name: "a rewrite does not say as of when", file: "engine/bus/library.lua",
		old:     "    if latest and before(choice.asof, latest) then return '!moved' end\n",
		strikes: []string{"Redis 200 ms away"}, rounds: 1,
	},
}

// overlay writes what go build needs to build it. The line must be there, and once: else the product has changed, and this
// build with it.
func (b badBuild) overlay(t *testing.T) string {
	t.Helper()
	if b.file == "" {
		return ""
	}
	path, err := filepath.Abs(filepath.Join("../..", b.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), b.old); n != 1 {
		t.Fatalf("%s has the line that is to go wrong %d times: %q", b.file, n, b.old)
	}
	wrong := filepath.Join(t.TempDir(), filepath.Base(b.file))
	if err := os.WriteFile(wrong, []byte(strings.Replace(string(source), b.old, b.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]map[string]string{"Replace": {path: wrong}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(overlay, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// TestBadBuilds_StillApply keeps them in step with the product, in every run of the tests.
func TestBadBuilds_StillApply(t *testing.T) {
	t.Parallel()
	for _, b := range badBuilds {
		b.overlay(t)
		for _, name := range b.strikes {
			if !slices.ContainsFunc(faults, func(f fault) bool { return f.name == name }) {
				t.Errorf("%s: there is no fault %q", b.name, name)
			}
		}
	}
}

// TestChaos_CatchesBadBuilds runs builds that break a promise. Were they not caught, a run without violations would mean nothing.
func TestChaos_CatchesBadBuilds(t *testing.T) {
	if !*long {
		t.Skip("make chaos does this")
	}
	caught := 0
	for _, b := range badBuilds {
		t.Run(b.name, func(t *testing.T) {
			x := newRun(t, buildBinary(t, b.overlay(t)), newSeed(t),
				scale{posters: 24, watchers: bots, pace: 30 * time.Millisecond, durability: b.durability})
			x.strikeAll(plan(x.r, named(b.strikes...), b.rounds), 0)
			broken := x.judge()
			if len(broken) == 0 {
				t.Fatal("not caught")
			}
			caught++
			t.Logf("caught by %d violations, the first: %v", len(broken), broken[0])
		})
	}
	t.Logf("bad builds: %d caught of %d", caught, len(badBuilds))
}
