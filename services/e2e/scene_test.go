package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// scene is a world in which nearly everything is refused. All its tests share it: nothing of it changes but the messages in
// other.
type scene struct {
	*world
	http *http.Client

	ada, bob, eve         *person // the owner, a member, a stranger
	guild, role           id.ID
	channel, other        id.ID
	quiet, hidden, folder id.ID // bob may read, may not see; nobody can write
	message               id.ID // ada's, in channel
	invite                string
	bot, otherBot         string // tokens
	refresh               string
}

func newScene(t *testing.T, w *world) *scene {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s := &scene{world: w, http: &http.Client{Transport: transport}, ada: w.register(t, "ada"), bob: w.register(t, "bob"), eve: w.register(t, "eve")}
	s.guild, s.channel = s.ada.guild(t, "the scene")
	s.ada.invite(t, s.channel, s.bob)
	role, err := s.ada.CreateRole(t.Context(), s.guild, wire.CreateRole{Name: new("unused")})
	if err != nil {
		t.Fatal(err)
	}
	s.role = role.ID
	category := wire.ChannelCategory
	s.folder = s.newChannel(t, wire.CreateChannel{Name: "folder", Type: &category})
	s.other = s.newChannel(t, wire.CreateChannel{Name: "other"})
	everyone := func(deny perm.Bits) []wire.ChannelOverwrite {
		return []wire.ChannelOverwrite{{ID: s.guild, Type: perm.OverwriteRole, Deny: deny}}
	}
	s.quiet = s.newChannel(t, wire.CreateChannel{Name: "quiet", PermissionOverwrites: everyone(perm.SendMessages)})
	s.hidden = s.newChannel(t, wire.CreateChannel{Name: "hidden", PermissionOverwrites: everyone(perm.ViewChannel)})
	s.message = s.ada.say(t, s.channel, "the one message").ID
	in, err := s.ada.CreateInvite(t.Context(), s.channel, wire.CreateInvite{})
	if err != nil {
		t.Fatal(err)
	}
	s.invite = in.Code
	s.bot, s.otherBot = s.newBot(t, "one"), s.newBot(t, "two")
	again, err := s.ada.Login(t.Context(), s.ada.name, password)
	if err != nil {
		t.Fatal(err)
	}
	s.refresh = again.RefreshToken
	return s
}

func (s *scene) newChannel(t *testing.T, in wire.CreateChannel) id.ID {
	t.Helper()
	c, err := s.ada.CreateChannel(t.Context(), s.guild, in)
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

// newBot makes a bot, which is in the guild, and returns its token.
func (s *scene) newBot(t *testing.T, name string) string {
	t.Helper()
	app, err := s.ada.CreateApplication(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.ada.CreateBot(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ada.AddBot(t.Context(), s.guild, app.ID); err != nil {
		t.Fatal(err)
	}
	return made.Token
}

// query is one request, of ada's unless it says otherwise. $g, $c and the like in its path stand for what is in the scene.
type query struct {
	method, path  string
	body          string
	authorization string // "-" for none
	contentType   string // "-" for none
	chunked       bool
}

func (q query) String() string {
	body := q.body
	if len(body) > 100 {
		body = fmt.Sprintf("%s… (%d bytes)", body[:100], len(body))
	}
	return fmt.Sprintf("%s %s %q", q.method, q.path, body)
}

// nobody is the id of nothing.
const nobody = "175928847299117063"

func (s *scene) fill(path string) string {
	return strings.NewReplacer("$guild", s.guild.String(), "$role", s.role.String(), "$channel", s.channel.String(), "$other", s.other.String(),
		"$quiet", s.quiet.String(), "$hidden", s.hidden.String(), "$folder", s.folder.String(), "$message", s.message.String(),
		"$bob", s.bob.id.String(), "$eve", s.eve.id.String(), "$invite", s.invite, "$none", nobody).Replace(path)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (s *scene) send(t *testing.T, q query) answer {
	t.Helper()
	url := s.url + s.fill(q.path)
	if !strings.HasPrefix(q.path, "/api") {
		url = s.url + "/api/v10" + s.fill(q.path)
	}
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	if q.chunked {
		body = io.MultiReader(body) // whose length nobody knows
	}
	req, err := http.NewRequestWithContext(t.Context(), q.method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	switch q.authorization {
	case "":
		req.Header.Set("Authorization", s.ada.token)
	case "-":
	default:
		req.Header.Set("Authorization", q.authorization)
	}
	if q.contentType == "" && q.body != "" {
		req.Header.Set("Content-Type", "application/json")
	} else if q.contentType != "-" && q.contentType != "" {
		req.Header.Set("Content-Type", q.contentType)
	}
	res, err := s.http.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return answer{status: res.StatusCode, header: res.Header, body: raw}
}

// refused expects an error with exactly these fields, as "path:CODE"; with "path:" any code will do, but there must be one.
func (s *scene) refused(t *testing.T, q query, status int, code fault.Code, fields ...string) answer {
	t.Helper()
	a := s.send(t, q)
	if a.status != status {
		t.Errorf("%s\n got %d %s\nwant %d code %d", q, a.status, a.body, status, code)
		return a
	}
	if got := a.header.Values("Content-Type"); !slices.Equal(got, []string{"application/json"}) || a.header.Get("Date") == "" {
		t.Errorf("%s: Content-Type %q, Date %q", q, got, a.header.Get("Date"))
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(a.body, &body); err != nil {
		t.Errorf("%s: the answer is no object: %s", q, a.body)
		return a
	}
	want := []string{"code", "message"}
	if code == fault.InvalidForm {
		want = []string{"code", "errors", "message"}
	}
	if keys := slices.Sorted(maps.Keys(body)); !slices.Equal(keys, want) {
		t.Errorf("%s: the answer has %v, want %v: %s", q, keys, want, a.body)
	}
	if string(body["code"]) != strconv.Itoa(int(code)) {
		t.Errorf("%s: code %s, want %d: %s", q, body["code"], code, a.body)
	}
	message := fault.New(code).Message
	if code == fault.General && status != http.StatusBadRequest {
		message = fmt.Sprintf("%d: %s", status, http.StatusText(status))
	}
	var got string
	if err := json.Unmarshal(body["message"], &got); err != nil || strings.TrimSuffix(got, ".") != message {
		t.Errorf("%s: message %s, want %q", q, body["message"], message)
	}
	if code == fault.InvalidForm {
		s.sameFields(t, q, body["errors"], fields)
	}
	return a
}

func (s *scene) sameFields(t *testing.T, q query, tree json.RawMessage, want []string) {
	t.Helper()
	found := map[string]string{}
	if err := flatten(found, "", tree); err != nil {
		t.Errorf("%s: errors %s: %v", q, tree, err)
		return
	}
	wanted := map[string]string{}
	for _, w := range want {
		path, code, _ := strings.Cut(w, ":")
		if wanted[path] = code; code == "" && found[path] != "" {
			wanted[path] = found[path]
		}
	}
	if diff := cmp.Diff(wanted, found); diff != "" {
		t.Errorf("%s: fields (-want +got):\n%s", q, diff)
	}
}

// flatten finds the codes in a tree of field errors, which must have nothing else in it.
func flatten(found map[string]string, path string, tree json.RawMessage) error {
	var node map[string]json.RawMessage
	if err := json.Unmarshal(tree, &node); err != nil {
		return err
	}
	for key, inner := range node {
		if key != "_errors" {
			if err := flatten(found, strings.TrimPrefix(path+"."+key, "."), inner); err != nil {
				return err
			}
			continue
		}
		d := json.NewDecoder(bytes.NewReader(inner))
		d.DisallowUnknownFields()
		var leaves []struct{ Code, Message string }
		if err := d.Decode(&leaves); err != nil {
			return err
		}
		for _, l := range leaves {
			if l.Code == "" || l.Message == "" {
				return fmt.Errorf("%s: a leaf without code or message", path)
			}
			found[path] = strings.TrimPrefix(found[path]+","+l.Code, ",")
		}
	}
	return nil
}

// accepted expects a status and returns the body.
func (s *scene) accepted(t *testing.T, q query, status int) []byte {
	t.Helper()
	a := s.send(t, q)
	if a.status != status {
		t.Errorf("%s\n got %d %s\nwant %d", q, a.status, a.body, status)
	}
	return a.body
}
