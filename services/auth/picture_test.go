package auth

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/wire"
)

func dataURI(kind string, body []byte) string {
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(body)
}

func pngOf(w, h int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestAvatar_IsSetServedAndTakenAway(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, ada := b.register("ada")
	me, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{Avatar: wire.Some(dataURI("image/png", pngOf(8, 8)))})
	b.must(err)
	if me.Avatar == nil || len(*me.Avatar) != 32 {
		t.Fatalf("got %+v", me)
	}
	if u, err := b.roster.User(b.ctx, in.UserID); err != nil || *u.Avatar != *me.Avatar {
		t.Errorf("the roster has %+v, %v", u, err)
	}
	path := "/avatars/" + in.UserID.String() + "/" + *me.Avatar
	r := b.fetch(path + ".png")
	if _, err := png.Decode(bytes.NewReader(r.body)); err != nil || r.status != 200 {
		t.Errorf("%d: %v", r.status, err)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": picture.Policy, "Cache-Control": picture.Cache,
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{path, path + ".svg", path + ".html", "/avatars/5/" + *me.Avatar + ".png", path[:len(path)-1] + ".png"} {
		if r := b.fetch(bad); r.status != 404 {
			t.Errorf("%s: %d", bad, r.status)
		}
	}
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Avatar: wire.Some("data:image/svg+xml;base64,AAAA")})
	b.wantField(err, "avatar", picture.FieldImage)
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Avatar: wire.Some(dataURI("image/png", make([]byte, wire.AvatarTextMax)))})
	if err == nil {
		t.Error("an avatar of more than a megabyte was taken")
	}
	if me, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Avatar: wire.Clear[string]()}); err != nil || me.Avatar != nil {
		t.Errorf("got %+v, %v", me, err)
	}
	if r := b.fetch(path + ".png"); r.status != 404 {
		t.Errorf("a picture that was taken away: %d", r.status)
	}
}

func TestUpdateSelf_BioAndEmail(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, ada := b.register("ada")
	pass, wrong := password, "wrong password"
	_, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{Email: wire.Some("ada@example.org")})
	b.wantField(err, "password", "BASE_TYPE_REQUIRED")
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Email: wire.Some("ada@example.org"), Password: &wrong})
	b.wantField(err, "password", codePassword)
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Email: wire.Some("not an address"), Password: &pass})
	b.wantField(err, "email", codeEmail)
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Bio: wire.Some(strings.Repeat("é", 191))})
	b.wantField(err, "bio", "BASE_TYPE_MAX_LENGTH")
	bio := " two\nlines "
	me, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{Email: wire.Some("Ada@example.org"), Bio: wire.Some(bio), Password: &pass})
	if err != nil || *me.Email != "Ada@example.org" || *me.Bio != "two\nlines" {
		t.Errorf("got %+v, %v", me, err)
	}
	if got, err := b.client.Login(b.ctx, "ADA@example.org", password); err != nil || got.UserID != in.UserID {
		t.Errorf("login by the new address: %v", err)
	}
	_, bob := b.register("bob")
	_, err = bob.UpdateMe(b.ctx, wire.UpdateSelf{Email: wire.Some("ada@EXAMPLE.org"), Password: &pass})
	b.wantField(err, "email", codeEmailTaken)
	if all := b.entries(in.UserID); len(all) != 1 {
		t.Errorf("%d entries: what nobody else sees is in the log", len(all))
	}
}
