package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// bot is the README's, letter by letter.
func bot(ctx context.Context, url, token string) error {
	c, err := client.New(client.Config{URL: url, Token: "Bot " + token})
	if err != nil {
		return err
	}
	g, err := c.Connect(ctx, client.GatewayConfig{Intents: wire.IntentGuildMessages | wire.IntentMessageContent})
	if err != nil {
		return err
	}
	defer g.Close()
	defer context.AfterFunc(ctx, g.Close)()
	for d := range g.Events() {
		if m, ok := client.As[wire.Message](d, "MESSAGE_CREATE"); ok && m.Content == "!ping" {
			if _, err := c.Say(ctx, m.ChannelID, "pong"); err != nil {
				return err
			}
		}
	}
	return g.Err()
}

// blocks are the fenced blocks of a kind in the README.
func blocks(t *testing.T, kind string) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("the README has no %s block", kind)
	}
	return out
}

// TestReadme_TellsTheTruth runs the README's shell, all of it in one go, against the real binary, and its bot.
func TestReadme_TellsTheTruth(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range blocks(t, "go") {
		if !strings.Contains(string(own), block) {
			t.Errorf("the README's bot is not the one that is tested here:\n%s", block)
		}
	}
	m := newMachine(t)
	m.start(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(m.binary, filepath.Join(dir, "bin", "xcord")); err != nil {
		t.Fatal(err)
	}
	script := strings.ReplaceAll(strings.Join(blocks(t, "sh"), "\n"), "127.0.0.1:8080", m.addr)
	script = strings.ReplaceAll(script, "/var/lib/xcord", m.data)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-eu", "-c", script+"\necho; echo values $TOKEN $CHANNEL $BOT\n")
	shell.Dir, shell.WaitDelay = dir, patience
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("the README's commands: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), "hello, world"); n != 4 {
		t.Errorf("hello, world was seen %d times, want 4: answered, in the history, as an event and as a row\n%s", n, out)
	}
	values := strings.Fields(string(out[strings.LastIndex(string(out), "values"):]))
	channel, err := id.Parse(values[2])
	if err != nil {
		t.Fatal(err)
	}

	botCtx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bot(botCtx, "http://"+m.addr, values[3]) }()
	c, err := client.New(client.Config{URL: "http://" + m.addr, Token: values[1]})
	if err != nil {
		t.Fatal(err)
	}
	ada := &person{Client: c}
	events := ada.connect(t, client.GatewayConfig{})
	// The bot may not be there yet: it is called until it answers.
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		await(t, events, "MESSAGE_CREATE", content("pong"))
	}()
	eventually(t, func() error {
		select {
		case <-answered:
			return nil
		default:
			_, err := ada.Say(t.Context(), channel, "!ping")
			if err == nil {
				err = context.DeadlineExceeded
			}
			return err
		}
	})
	stop()
	if err := <-ended; err != nil && botCtx.Err() == nil {
		t.Error(err)
	}
	events.Close()
	m.stop(t)
}
