package guilds

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/wire"
)

// iconOf is a picture as clients send it.
func iconOf(side int) string {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, side, side))); err != nil {
		panic(err)
	}
	return `"data:image/png;base64,` + base64.StdEncoding.EncodeToString(b.Bytes()) + `"`
}

// fetch gets what is not below /api, without a token.
func (b *bundle) fetch(path string) (*http.Response, []byte) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "GET", strings.TrimSuffix(b.base, "/api/v10")+path, nil)
	b.must(err)
	res, err := b.client.Do(r)
	b.must(err)
	defer func() { _ = res.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(res.Body)
	b.must(err)
	return res, body
}

func TestIcon_IsSetServedAndTakenAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := get[wire.Guild](b, 201, owner, "POST", "/guilds", `{"name":"house","icon":`+iconOf(8)+`}`)
	if g.Icon == nil || len(*g.Icon) != 32 {
		t.Fatalf("got %+v", g)
	}
	in, first := path("/guilds/%s", g.ID), path("/icons/%s/", g.ID)+*g.Icon
	res, body := b.fetch(first + ".png")
	if m, err := png.Decode(bytes.NewReader(body)); err != nil || res.StatusCode != 200 || m.Bounds().Dx() != 8 {
		t.Errorf("%d: %v", res.StatusCode, err)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": picture.Policy, "Cache-Control": picture.Cache,
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	b.join(g.ID, alice)
	b.want(50013, alice, "PATCH", in, `{"icon":null}`)
	for _, bad := range []string{`"data:image/svg+xml;base64,AAAA"`, `"http://127.0.0.1/"`, `"data:image/png;base64,AAAA"`, `7`, iconOf(4200)} {
		b.want(50035, owner, "PATCH", in, `{"icon":`+bad+`}`)
		b.want(50035, owner, "POST", "/guilds", `{"name":"house","icon":`+bad+`}`)
	}
	if same := get[wire.Guild](b, 200, owner, "PATCH", in, `{"name":"other"}`); *same.Icon != *g.Icon {
		t.Errorf("got %+v", same)
	}
	second := get[wire.Guild](b, 200, owner, "PATCH", in, `{"icon":`+iconOf(9)+`}`)
	if *second.Icon == *g.Icon || *get[[]wire.MyGuild](b, 200, alice, "GET", "/users/@me/guilds", "")[0].Icon != *second.Icon {
		t.Errorf("got %+v", second)
	}
	if n := b.audit(g.ID, "?limit=1").Entries[0]; n.Changes[0].Key != "icon_hash" {
		t.Errorf("the audit log has %+v", n)
	}
	if out := get[wire.Guild](b, 200, owner, "PATCH", in, `{"icon":null}`); out.Icon != nil {
		t.Errorf("got %+v", out)
	}
	for _, gone := range []string{first + ".png", path("/icons/%s/", g.ID) + *second.Icon + ".png", first, first + ".svg", "/icons/5/" + *g.Icon + ".png"} {
		if res, _ := b.fetch(gone); res.StatusCode != 404 {
			t.Errorf("%s: %d", gone, res.StatusCode)
		}
	}
}

// TestSource_ReadsGuildsAsTheyAre: the read model made anew from the rows is the one that there was.
func TestSource_ReadsGuildsAsTheyAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := get[wire.Guild](b, 201, owner, "POST", "/guilds", `{"name":"house","icon":`+iconOf(8)+`}`)
	b.join(g.ID, alice)
	b.timeOut(g.ID, alice, time.Hour)
	b.want(200, owner, "PATCH", path("/channels/%s", g.SystemChannelID), `{"topic":"t"}`)
	var made wire.ServerCreatedPayload
	b.must(pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		return Source(t.Context(), tx, func(e bus.Entry) error { return json.Unmarshal(e.Body, &made) })
	}))
	state, err := b.roster.LookGuild(t.Context(), g.ID, owner, alice)
	b.must(err)
	if diff := cmp.Diff(state.Guild.Meta, made.Guild); diff != "" {
		t.Error(diff)
	}
	for _, ch := range made.Channels {
		if diff := cmp.Diff(encode(state.Guild.Channels[ch.ID]), encode(ch)); diff != "" {
			t.Error(diff)
		}
	}
	for i, u := range []id.ID{owner, alice} {
		if diff := cmp.Diff(encode(state.Members[u]), encode(made.Members[i])); diff != "" {
			t.Error(diff)
		}
	}
}
