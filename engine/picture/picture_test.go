package picture

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"
)

func dataURI(kind string, body []byte) string {
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(body)
}

func imageOf(w, h int) image.Image {
	m := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black, color.White})
	m.SetColorIndex(w/2, h/2, 1)
	return m
}

func pngOf(w, h int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, imageOf(w, h)); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func jpegOf(w, h int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, imageOf(w, h), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gifOf(w, h int) []byte {
	var b bytes.Buffer
	if err := gif.Encode(&b, imageOf(w, h), nil); err != nil {
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
		p, err := parse(uri)
		if err != nil {
			t.Errorf("%.40s: %v", uri, err)
			return
		}
		m, name, err := image.Decode(bytes.NewReader(p.Body))
		if err != nil || "image/"+name != kind || p.Type != kind || m.Bounds().Dx() != w || m.Bounds().Dy() != h {
			t.Errorf("%.40s: %s (%s) %v, %v", uri, p.Type, name, m.Bounds(), err)
		}
		if bytes.Contains(p.Body, []byte("secret place")) {
			t.Errorf("%.40s: what is no picture was kept", uri)
		}
	}
	f(dataURI(typePNG, pngOf(16, 8)), typePNG, 16, 8)
	f(dataURI("image/gif", gifOf(16, 8)), typePNG, 16, 8)
	f(dataURI("image/jpg", gifOf(16, 8)), typePNG, 16, 8) // as some clients call whatever they have
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
		if p, err := parse(uri); err == nil {
			t.Errorf("%s: became %s of %d bytes", what, p.Type, len(p.Body))
		}
	}
	svg := []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)
	f("an SVG", dataURI("image/svg+xml", svg))
	f("an SVG by the name for anything", dataURI("image/jpg", svg))
	f("an SVG that says it is a PNG", dataURI(typePNG, svg))
	f("a page", dataURI("text/html", []byte("<script>alert(1)</script>")))
	f("a GIF that says it is a PNG", dataURI(typePNG, gifOf(4, 4)))
	f("an address", "http://169.254.169.254/latest/meta-data")
	f("no type", "data:;base64,AAAA")
	f("no base64", "data:image/png,AAAA")
	f("broken base64", "data:image/png;base64,!!!!")
	f("half a PNG", dataURI(typePNG, pngOf(64, 64)[:60]))
	f("nothing", dataURI(typePNG, nil))
	f("a megabyte more than nothing", dataURI(typePNG, append(pngOf(4, 4), make([]byte, bytesMax)...)))
	f("more pixels than allowed", dataURI(typePNG, pngOf(4096, 1025)))
	f("a thousand scans", dataURI(typeJPEG, append(jpegOf(8, 8), bytes.Repeat([]byte{0xff, 0xda}, 1000)...)))

	// A bomb: a PNG of 50,000 by 50,000 pixels in some hundred bytes. Only its head is looked at.
	bomb := pngOf(8, 8)
	binary.BigEndian.PutUint32(bomb[16:], 50_000)
	binary.BigEndian.PutUint32(bomb[20:], 50_000)
	f("a bomb", dataURI(typePNG, bomb))
}
