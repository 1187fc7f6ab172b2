package e2e

import (
	"bytes"
	"encoding/base64"
	"errors"
	"image"
	"image/png"
	"net/http"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/wire"
)

// TestAccounts_AreSeenToChangeAndToGo: what others see of somebody who changes their name and picture, and then deletes their account.
func TestAccounts_AreSeenToChangeAndToGo(t *testing.T) {
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
			said := bob.say(t, channel, "hello")

			var picture bytes.Buffer
			if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 9, 9))); err != nil {
				t.Fatal(err)
			}
			uri := "data:image/png;base64," + base64.StdEncoding.EncodeToString(picture.Bytes())
			me, err := bob.UpdateMe(t.Context(), wire.UpdateSelf{GlobalName: wire.Some("Robert"), Avatar: wire.Some(uri)})
			if err != nil {
				t.Fatal(err)
			}
			await(t, bobs, "USER_UPDATE", func(d client.Dispatch) bool {
				u, ok := client.As[wire.User](d, d.Type)
				return ok && *u.GlobalName == "Robert" && *u.Avatar == *me.Avatar
			})
			await(t, adas, "GUILD_MEMBER_UPDATE", func(d client.Dispatch) bool {
				m, ok := client.As[wire.Member](d, d.Type)
				return ok && m.User.ID == bob.id && *m.User.Avatar == *me.Avatar
			})
			fetch(t, w.url+"/avatars/"+bob.id.String()+"/"+*me.Avatar+".png")

			if err := ada.DeleteMe(t.Context(), wire.DeleteSelf{Password: password}); !client.IsStatus(err, 400) {
				t.Errorf("the owner of a guild: %v", err)
			}
			if err := bob.DeleteMe(t.Context(), wire.DeleteSelf{Password: password}); err != nil {
				t.Fatal(err)
			}
			await(t, adas, "GUILD_MEMBER_REMOVE", func(d client.Dispatch) bool {
				gone, ok := client.As[wire.MemberGone](d, d.Type)
				return ok && gone.GuildID == guild && gone.User.ID == bob.id
			})
			for range bobs.Events() { // until it is closed
			}
			var closed *client.CloseError
			if !errors.As(bobs.Err(), &closed) || closed.Code != wire.CloseAuthenticationFailed {
				t.Errorf("the gateway ended with %v", bobs.Err())
			}
			eventually(t, func() error {
				if _, err := bob.Me(t.Context()); !client.IsStatus(err, 401) {
					return errors.Join(errors.New("the token is still good"), err)
				}
				return nil
			})
			kept, err := ada.Message(t.Context(), channel, said.ID)
			if err != nil || kept.Content != "hello" || kept.Author.ID != bob.id || kept.Author.Username != "Deleted User" || kept.Author.Avatar != nil {
				t.Errorf("the message is %+v, %v", kept, err)
			}
		})
	}
}

// fetch gets a picture, without a token, as a browser does.
func fetch(t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end
	if _, err := png.Decode(res.Body); err != nil || res.StatusCode != 200 || res.Header.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.Contains(res.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%s: %d %v, %v", url, res.StatusCode, res.Header, err)
	}
}

// TestSetup_GreetsTheFirstAdministrator takes the link from where the node prints it, and makes a second one over the socket.
func TestSetup_GreetsTheFirstAdministrator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.AdminSocket = socketPath(t)
	w.settings.Registration = "closed"
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	var greeting bytes.Buffer
	w.node.Greet(&greeting)
	_, code, ok := strings.Cut(greeting.String(), w.url+"/setup#")
	if !ok {
		t.Fatalf("no link in %s", greeting.String())
	}
	code, _, _ = strings.Cut(code, "\n")
	anybody, err := client.New(client.Config{URL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	do := func(c *client.Client, method, path string, in, out any) {
		t.Helper()
		if err := c.Do(t.Context(), method, path, in, out); err != nil {
			t.Fatal(err)
		}
	}
	var in wire.LoggedIn
	do(anybody, "POST", "/auth/setup", wire.Setup{Code: code, Username: "root", Password: password}, &in)
	root := anybody.WithToken(in.Token)
	do(root, "POST", "/auth/elevate", wire.Elevate{Password: password}, nil)
	do(root, "PATCH", "/admin/settings", wire.UpdateInstanceSettings{Registration: wire.Some("open")}, nil)
	w.register(t, "ada")

	r := launch(t, []string{"XCORD_ADMIN_SOCKET=" + w.settings.AdminSocket}, "admin", "create", "second")
	if status := r.exit(t); status != 0 {
		t.Fatalf("admin create ended with %d: %s", status, r.err.String())
	}
	_, secret, ok := strings.Cut(r.out.String(), "not told again: ")
	if !ok {
		t.Fatalf("admin create says %s", r.out.String())
	}
	got, err := anybody.Login(t.Context(), "second", strings.TrimSpace(secret))
	if err != nil || got.LoggedIn == nil {
		t.Fatalf("the second administrator: %v", err)
	}
	second := anybody.WithToken(got.Token)
	do(second, "POST", "/auth/elevate", wire.Elevate{Password: strings.TrimSpace(secret)}, nil)
	do(second, "GET", "/admin/audit", nil, nil)
}
