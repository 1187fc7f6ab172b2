package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/wire"
)

func dataURI(kind string, body []byte) string {
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(body)
}

func pictureOf(w, h int) image.Image {
	m := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black, color.White})
	m.SetColorIndex(w/2, h/2, 1)
	return m
}

func pngOf(w, h int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, pictureOf(w, h)); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func jpegOf(w, h int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, pictureOf(w, h), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gifOf(w, h int) []byte {
	var b bytes.Buffer
	if err := gif.Encode(&b, pictureOf(w, h), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// webpDot is one white pixel, lossless.
const webpDot = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="

func TestPicture_IsDrawnAnew(t *testing.T) {
	t.Parallel()
	f := func(uri, kind string, w, h int) {
		t.Helper()
		p, err := newPicture(uri)
		if err != nil {
			t.Errorf("%.40s: %v", uri, err)
			return
		}
		m, name, err := image.Decode(bytes.NewReader(p.body))
		if err != nil || "image/"+name != kind || p.kind != kind || m.Bounds().Dx() != w || m.Bounds().Dy() != h {
			t.Errorf("%.40s: %s (%s) %v, %v", uri, p.kind, name, m.Bounds(), err)
		}
		if bytes.Contains(p.body, []byte("secret place")) {
			t.Errorf("%.40s: what is no picture was kept", uri)
		}
	}
	f(dataURI(typePNG, pngOf(16, 8)), typePNG, 16, 8)
	f(dataURI("image/gif", gifOf(16, 8)), typePNG, 16, 8)
	f("data:image/webp;base64,"+webpDot, typePNG, 1, 1)
	f(dataURI(typePNG, pngOf(2048, 1024)), typePNG, 512, 256)
	f(dataURI(typeJPEG, jpegOf(2000, 1)), typeJPEG, 512, 1)
	// A comment, as cameras write one, and something behind the end, as those who smuggle do.
	comment := append([]byte{0xff, 0xfe, 0, 14}, "secret place"...)
	whole := jpegOf(16, 8)
	f(dataURI(typeJPEG, bytes.Join([][]byte{whole[:2], comment, whole[2:], []byte("secret place")}, nil)), typeJPEG, 16, 8)
}

func TestPicture_RefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	f := func(what, uri string) {
		t.Helper()
		if p, err := newPicture(uri); err == nil {
			t.Errorf("%s: became %s of %d bytes", what, p.kind, len(p.body))
		}
	}
	svg := []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)
	f("an SVG", dataURI("image/svg+xml", svg))
	f("an SVG that says it is a PNG", dataURI(typePNG, svg))
	f("a page", dataURI("text/html", []byte("<script>alert(1)</script>")))
	f("a GIF that says it is a PNG", dataURI(typePNG, gifOf(4, 4)))
	f("an address", "http://169.254.169.254/latest/meta-data")
	f("no type", "data:;base64,AAAA")
	f("no base64", "data:image/png,AAAA")
	f("broken base64", "data:image/png;base64,!!!!")
	f("half a PNG", dataURI(typePNG, pngOf(64, 64)[:60]))
	f("nothing", dataURI(typePNG, nil))
	f("a megabyte more than nothing", dataURI(typePNG, append(pngOf(4, 4), make([]byte, pictureBytesMax)...)))
	f("more pixels than allowed", dataURI(typePNG, pngOf(4096, 1025)))
	f("a thousand scans", dataURI(typeJPEG, append(jpegOf(8, 8), bytes.Repeat([]byte{0xff, 0xda}, 1000)...)))

	// A bomb: a PNG of 50,000 by 50,000 pixels in some hundred bytes. Only its head is looked at.
	bomb := pngOf(8, 8)
	binary.BigEndian.PutUint32(bomb[16:], 50_000)
	binary.BigEndian.PutUint32(bomb[20:], 50_000)
	f("a bomb", dataURI(typePNG, bomb))
}

func TestAvatar_IsSetServedAndTakenAway(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, ada := b.register("ada")
	me, err := ada.UpdateMe(b.ctx, wire.UpdateSelf{Avatar: wire.Some(dataURI(typePNG, pngOf(8, 8)))})
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
		"Content-Type": typePNG, "X-Content-Type-Options": "nosniff", "Content-Security-Policy": avatarPolicy, "Cache-Control": avatarCache,
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
	b.wantField(err, "avatar", codeImage)
	_, err = ada.UpdateMe(b.ctx, wire.UpdateSelf{Avatar: wire.Some(dataURI(typePNG, make([]byte, wire.AvatarTextMax)))})
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
