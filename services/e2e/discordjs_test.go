package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"image"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// suite is what discordjs/suite.mjs is given.
type suite struct {
	API        string   `json:"api"`
	Token      string   `json:"token"`
	Guild      string   `json:"guild"`
	Channel    string   `json:"channel"`
	Owner      string   `json:"owner"`
	Friend     string   `json:"friend"` // a member
	Guests     []string `json:"guests"` // members to be kicked and banned
	Spare      string   `json:"spare"`  // a guild to leave
	Routes     []string `json:"routes"` // that the server describes
	Dispatches []string `json:"dispatches"`
	PNG        string   `json:"png"` // base64
}

// finding is a line of what it says.
type finding struct {
	Ready              bool
	Call, Event, Error string
	OK, Waits          bool
}

// dot is a PNG, in base64.
func dot(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewRGBA(image.Rect(0, 0, 16, 16))); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// TestDiscordJS_CallsAndHearsEverything runs discord.js as it is: only the address of REST is an option of it, and the gateway's it asks for. Each
// of its methods that has an endpoint here is called, each event waited for, by discordjs/suite.mjs.
func TestDiscordJS_CallsAndHearsEverything(t *testing.T) {
	t.Parallel()
	dir := modules(t)
	c := newCourt(t)
	owner := c.as["owner"]
	app, token := c.adminBot(t, "js")
	spare, err := owner.CreateGuild(t.Context(), "to be left")
	c.must(t, err)
	c.must(t, owner.AddBot(t.Context(), spare.ID, app))
	in := suite{
		API: c.url + "/api", Token: token, Guild: c.guild.String(), Channel: c.channel.String(), Owner: owner.id.String(), Friend: c.fresh["new-member"](t),
		Spare: spare.ID.String(), Routes: slices.Sorted(maps.Keys(c.routes(t))), Dispatches: slices.Sorted(maps.Keys(wire.Dispatches)), PNG: dot(t),
	}
	for range 5 {
		in.Guests = append(in.Guests, c.fresh["new-member"](t))
	}
	done := map[string]int{}
	c.suite(t, dir, in, func(f finding) {
		switch {
		case f.Ready:
			c.stir(t, app)
		case f.Error != "":
			t.Errorf("%s%s: %s", f.Call, f.Event, f.Error)
		case f.Waits:
			t.Logf("%s waits for its endpoint", f.Call)
		case f.Call != "":
			done["calls"]++
		case f.Event != "":
			done["events"]++
		}
	})
	if done["calls"] < 80 || done["events"] < 20 {
		t.Errorf("only %v", done)
	}
	t.Logf("discord.js: %v", done)
}

// modules is the folder of the suite with the library in it, as the lock file has it.
func modules(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("discordjs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "discord.js")); err != nil {
		t.Skip("DISCORD.JS IS NOT TRIED: it is not here; make test brings it")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("discord.js is here, and Node.js is not")
	}
	return dir
}

// suite runs the script and tells what it finds.
func (c *court) suite(t *testing.T, dir string, in suite, tell func(finding)) {
	t.Helper()
	given, err := json.Marshal(in)
	c.must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "suite.mjs", string(given))
	node.Dir, node.Stderr = dir, t.Output()
	out, err := node.StdoutPipe()
	c.must(t, err)
	c.must(t, node.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var f finding
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Errorf("the suite says %q", lines.Text())
			continue
		}
		tell(f)
	}
	if err := node.Wait(); err != nil {
		t.Errorf("the suite ends with %v", err)
	}
}

// stir makes others do what a bot cannot: come online, type, come and go.
func (c *court) stir(t *testing.T, bot id.ID) {
	t.Helper()
	owner, member := c.as["owner"], c.as["member"]
	brief, err := owner.CreateGuild(t.Context(), "brief")
	c.must(t, err)
	c.must(t, owner.AddBot(t.Context(), brief.ID, bot))
	member.connect(t, client.GatewayConfig{})
	c.must(t, member.Typing(t.Context(), c.channel))
	c.fresh["new-member"](t)
}
