package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

// TestSecurity_secrets_canary uses every secret there is on the real binary, at the most talkative log level and also where they are
// refused, and then looks for them in everything that comes out of it: logs, error bodies, metrics, profiles, arguments and files.
func TestSecurity_secrets_canary(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	r := serve(t, data, "-log-level", "debug", "-registration", "open")
	public, admin := r.ready(t)
	const password, other, said = "canary-password-one", "canary-password-two", "canary-message"
	var secrets []string
	note := func(all ...string) { secrets = append(secrets, all...) }
	var bodies bytes.Buffer // of what is refused
	w := &world{url: public}

	c, err := client.New(client.Config{URL: public})
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Register(t.Context(), wire.Register{Username: "canary", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Login(t.Context(), "canary", password)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := c.Refresh(t.Context(), again.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	note(password, other, in.Token, in.RefreshToken, again.Token, again.RefreshToken, fresh.Token, fresh.RefreshToken)
	ada := &person{Client: c.WithToken(in.Token), id: in.UserID, token: in.Token}
	guild, channel := ada.guild(t, "first")
	ada.say(t, channel, said)
	app, err := ada.CreateApplication(t.Context(), "robot")
	if err != nil {
		t.Fatal(err)
	}
	bot, err := ada.CreateBot(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := ada.AddBot(t.Context(), guild, app.ID); err != nil {
		t.Fatal(err)
	}
	note(bot.Token)
	var hook wire.Webhook
	if err := ada.Do(t.Context(), "POST", "/channels/"+channel.String()+"/webhooks", wire.CreateWebhook{Name: "hook"}, &hook); err != nil {
		t.Fatal(err)
	}
	note(hook.Token)
	hooked := "/webhooks/" + hook.ID.String() + "/" + hook.Token
	if err := c.Do(t.Context(), "POST", hooked+"?wait=true", map[string]string{"content": said}, nil); err != nil {
		t.Fatal(err)
	}
	socket, _ := w.identified(t, in.Token)
	socket.until(t, wire.OpDispatch, "GUILD_CREATE")
	robot := w.dial(t, v10)
	robot.send(t, identify(bot.Token, `,"intents":1`))
	robot.ready(t)

	// Where they are refused, or half of what is said is wrong.
	refuse := func(method, path, authorization, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, public+"/api/v10"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		req.Header.Set("Content-Type", "application/json")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode < 400 {
			t.Errorf("%s %s is answered %s", method, path, res.Status)
		}
		if _, err := io.Copy(&bodies, res.Body); err != nil {
			t.Fatal(err)
		}
	}
	refuse("POST", "/auth/login", "", `{"login":"canary","password":"`+other+`"}`)
	refuse("POST", "/auth/login", "", `{"login":"canary","password":"`+other+`"`)
	refuse("POST", "/auth/login", "", `{"login":["canary"],"password":{"a":"`+other+`"}}`)
	refuse("POST", "/auth/register", "", `{"username":"canary","password":"`+other+`"}`)
	refuse("POST", "/auth/register", "", `{"username":"canary\u0000","password":"`+other+`"}`)
	refuse("POST", "/auth/refresh", "", `{"refresh_token":"`+again.RefreshToken+`x"}`)
	refuse("GET", "/users/@me", in.Token+"x", "")
	refuse("GET", "/users/@me", "Bot "+bot.Token+"x", "")
	refuse("GET", "/users/@me?token="+in.Token+"&x=%zz", "", "")
	refuse("GET", "/nowhere/"+in.Token, in.Token, "")
	refuse("POST", hooked, "", `{"content":5}`)
	refuse("POST", hooked+"x", "", `{"content":"x"}`)
	refuse("PUT", hooked, "", "")
	refuse("PATCH", hooked+"/messages/5", "", `{"content":"x"}`)
	refuse("GET", "/webhooks/5/"+hook.Token, "", "")
	refuse("GET", "/webhooks/x/"+hook.Token, "", "")
	refuse("POST", "/channels/"+channel.String()+"/messages", in.Token, `{"content":"`+said+`","embeds":5}`)
	refuse("PATCH", "/users/@me", in.Token, `{"password":"`+other+`","new_password":"`+password+`"}`)
	bad := w.dial(t, v10)
	bad.send(t, identify(in.Token+"x", ""))
	bad.closed(t, "a bad token", wire.CloseAuthenticationFailed)
	bad = w.dial(t, v10)
	bad.send(t, `{"op":2,"d":{"token":"`+in.Token+`","intents":"x"}}`)
	bad.closed(t, "a bad frame", wire.CloseBadIntents)
	if _, err := c.Refresh(t.Context(), in.RefreshToken); err != nil {
		t.Fatal(err)
	}

	shown := map[string][]byte{"error bodies": bodies.Bytes()}
	_, metrics := get(t, admin+"/metrics")
	_, ready := get(t, admin+"/readyz")
	shown["metrics"], shown["readyz"] = []byte(metrics), []byte(ready)
	for _, page := range []string{"cmdline", "goroutine?debug=2", "heap?debug=1", "allocs?debug=1", "threadcreate?debug=1", "block?debug=1", "mutex?debug=1", "symbol"} {
		shown["profile "+page] = private(t, filepath.Join(data, "admin.sock"), "/debug/pprof/"+page)
	}
	for i, pid := range append([]int{r.cmd.Process.Pid}, children(t, r.cmd.Process.Pid)...) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			t.Fatal(err)
		}
		shown[fmt.Sprint("arguments ", i)] = raw
		if i > 0 {
			raw, err = os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err != nil {
				t.Fatal(err)
			}
			shown[fmt.Sprint("environment ", i)] = raw
		}
	}
	r.signal(t, os.Interrupt)
	r.exit(t)
	shown["output"] = []byte(r.out.String() + r.err.String())
	keys := contents(t, filepath.Join(data, "keys"))
	for name, raw := range keys {
		if !strings.HasSuffix(name, ".pub") {
			note(strings.Split(string(raw), "\n")[1]) // the base64 of the PEM
		}
	}
	for name, raw := range contents(t, data) {
		if !strings.HasPrefix(name, "keys/") {
			shown["file "+name] = raw
		}
	}
	if len(shown) < 40 || len(secrets) < 12 || len(shown["output"]) < 1000 || len(shown["metrics"]) < 1000 {
		t.Errorf("looked for %d secrets in %d places: that is not all", len(secrets), len(shown))
	}
	for place, raw := range shown {
		for _, secret := range secrets {
			if bytes.Contains(raw, []byte(secret)) || bytes.Contains(raw, []byte(base64.StdEncoding.EncodeToString([]byte(secret)))) {
				t.Errorf("%s has a secret: %.24s…", place, secret)
			}
		}
		// What somebody said is in the log's file and in the database, and nowhere else.
		stored := strings.HasPrefix(place, "file redis/") || strings.HasPrefix(place, "file postgres/data/")
		if !stored && bytes.Contains(raw, []byte(said)) || strings.HasSuffix(place, "server.log") && bytes.Contains(raw, []byte(said)) {
			t.Errorf("%s has what somebody said", place)
		}
	}
	t.Logf("looked for %d secrets in %d places", len(secrets), len(shown))
}

// private asks a node over its private socket.
func private(t *testing.T, socket, path string) []byte {
	t.Helper()
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s is answered %s, %v", path, res.Status, err)
	}
	return raw
}

// contents are the files below a directory, by their path in it.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		out[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSecurity_cfg_default_secret: there are no secrets that everybody knows, those that are generated are for their owner's eyes, and
// what is not is refused.
func TestSecurity_cfg_default_secret(t *testing.T) {
	t.Parallel()
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	for _, dir := range []string{one, two} {
		if err := token.Generate(dir); err != nil {
			t.Fatal(err)
		}
	}
	theirs := contents(t, two)
	for name, raw := range contents(t, one) {
		if bytes.Equal(raw, theirs[name]) {
			t.Errorf("%s is the same in two installations", name)
		}
		info, err := os.Stat(filepath.Join(one, name))
		if err != nil || !strings.HasSuffix(name, ".pub") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
	refuses := func(what, name string, spoil func(path string) error, words ...string) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			data := dataDir(t)
			keys := filepath.Join(t.TempDir(), "keys")
			if err := token.Generate(keys); err != nil {
				t.Fatal(err)
			}
			if err := spoil(filepath.Join(keys, name)); err != nil {
				t.Fatal(err)
			}
			serve(t, data, "-keys-dir", keys).refuses(t, 1, append([]string{name}, words...))
		})
	}
	refuses("a private key for all", "access-0001.key", func(p string) error { return os.Chmod(p, 0o644) }, "0644")
	refuses("an empty peer key", "peer.key", func(p string) error { return os.WriteFile(p, nil, 0o600) })

	// Secrets come from variables and files, and are shown nowhere; as arguments they are refused.
	const secret = "hunter2"
	environ := []string{"XCORD_REDIS_URL=redis://u:" + secret + "@127.0.0.1:1", "XCORD_POSTGRES_URL=postgres://u:" + secret + "@127.0.0.1:1/x"}
	config := launch(t, environ, "config")
	if code := config.exit(t); code != 0 || strings.Contains(config.out.String()+config.err.String(), secret) {
		t.Errorf("the configuration is shown with exit code %d and secrets", code)
	}
	data := dataDir(t)
	away := launch(t, append(environ, "XCORD_LOG_LEVEL=debug"), "-data", data, "-addr", "127.0.0.1:0", "-admin-addr", "127.0.0.1:0")
	if code := away.exit(t); code != 1 || strings.Contains(away.out.String()+away.err.String(), secret) {
		t.Errorf("a server that is away: exit code %d, %s", code, away.err.String())
	}
	launch(t, nil, "-data", data, "-postgres-url", secret).refuses(t, 78, []string{"postgres-url", "XCORD_POSTGRES_URL_FILE"})
}

// TestSecurity_internal_endpoints: what is for operators is not on the public listener.
func TestSecurity_internal_endpoints(t *testing.T) {
	t.Parallel()
	w := single(t)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/livez", "/readyz", "/dlq", "/sockets/1", "/api/v10/metrics", "/api/v10/debug/pprof/"} {
		if status, body := get(t, w.url+path); status != http.StatusNotFound {
			t.Errorf("%s is answered %d %.100s", path, status, body)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/dlq", "/sockets/1"} {
		if status, body := get(t, "http://"+w.node.AdminAddr()+path); status != http.StatusNotFound {
			t.Errorf("%s on the internal listener is answered %d %.100s", path, status, body)
		}
	}
}
