package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

// upload is what a handler is given of a file.
type upload struct {
	Index int
	Name  string
	Text  string
}

type uploaded struct {
	Name  string
	Count *int
	Tags  []string
	Files []upload
}

// formRoutes tell what they were given.
var formRoutes = Table[*site]{
	POST("/channels/{channel}/messages", func(_ *site, c *Call, in body) (uploaded, error) {
		out := uploaded{Name: in.Name, Count: in.Count, Tags: in.Tags}
		for _, f := range c.Files() {
			text, err := os.ReadFile(f.Path)
			if err != nil || int64(len(text)) != f.Size {
				return out, fmt.Errorf("%d bytes of %d: %w", len(text), f.Size, err)
			}
			out.Files = append(out.Files, upload{f.Index, f.Name, string(text)})
		}
		return out, nil
	}, Form(3)),
	POST("/channels/{channel}/plain", (*site).create),
	GET("/downloads/{name}", func(_ *site, c *Call, _ None) (Download, error) {
		return Download{
			Type: "text/plain", Name: c.Param("name"), Size: int64(len(downloadText)), Tag: "t1", Policy: "sandbox", Cache: "private",
			Open: func(from, n int64) (io.ReadCloser, error) {
				if c.Param("name") == "broken" {
					return nil, fault.NotFound()
				}
				return io.NopCloser(strings.NewReader(downloadText[from : from+n])), nil
			},
		}, nil
	}, Root(), Public()),
}

const downloadText = "0123456789abcdef"

// formServers are one that has the routes itself, and one that forwards to another.
func formServers(t *testing.T, limits Uploads) map[string]*Server {
	t.Helper()
	limits.Dir = t.TempDir()
	mount := func(s *Server) { Bind(s, formRoutes, newSite("here")) }
	t.Cleanup(func() {
		if left, err := os.ReadDir(limits.Dir); err != nil || len(left) > 0 {
			t.Errorf("%d files are left behind, %v", len(left), err)
		}
	})
	far := start(t, Config{Internal: true, Uploads: limits}, Deps{Verifier: key}, mount)
	return map[string]*Server{
		"here": start(t, Config{Uploads: limits}, Deps{}, mount),
		"far": start(t, Config{Uploads: limits}, Deps{Signer: key}, func(s *Server) {
			Forward(s, formRoutes, &Upstream{Addrs: []string{far.Addr()}})
		}),
	}
}

// pieces are parts of a form: name, file name ("-" for none), content.
func formOf(t testing.TB, pieces ...[3]string) (body, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range pieces {
		part, err := w.CreateFormField(p[0])
		if p[1] != "-" {
			part, err = w.CreateFormFile(p[0], p[1])
		}
		if err == nil {
			_, err = io.WriteString(part, p[2])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

const formPath = "/api/v10" + "/channels/7/messages"

func TestForm_GivesTheHandlerJSONAndFiles(t *testing.T) {
	t.Parallel()
	for name, s := range formServers(t, Uploads{}) {
		f := func(want uploaded, pieces ...[3]string) {
			t.Helper()
			body, kind := formOf(t, pieces...)
			a := do(t, s, "POST", formPath, body, "Content-Type", kind)
			var got uploaded
			if err := json.Unmarshal([]byte(a.body), &got); err != nil {
				t.Fatalf("%s: %v", a.body, err)
			}
			if diff := cmp.Diff(want, got); diff != "" || a.status != 200 {
				t.Errorf("%s: %d %s", name, a.status, diff)
			}
		}
		large := strings.Repeat("0123456789", 200_000)
		two := 2
		f(uploaded{Name: "ada", Files: []upload{{0, "a.txt", "A"}, {2, "b.bin", large}}},
			[3]string{"payload_json", "-", `{"name":"ada"}`}, [3]string{"files[0]", "a.txt", "A"}, [3]string{"files[2]", "b.bin", large})
		f(uploaded{Name: "42", Count: &two, Tags: []string{"x"}, Files: []upload{{0, "old.txt", ""}, {1, "older.txt", "O"}}},
			[3]string{"name", "-", "42"}, [3]string{"count", "-", "2"}, [3]string{"tags", "-", `["x"]`},
			[3]string{"file", "old.txt", ""}, [3]string{"file1", "older.txt", "O"})
		f(uploaded{Name: "ada"}, [3]string{"payload_json", "-", `{"name":"ada"}`}, [3]string{"name", "-", "other"})

		a := do(t, s, "POST", formPath, "name=ada+l&count=2&unknown=1", "Content-Type", "application/x-www-form-urlencoded")
		var got uploaded
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
		if diff := cmp.Diff(uploaded{Name: "ada l", Count: &two}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestForm_RefusesWhatIsBeyondItsBounds(t *testing.T) {
	t.Parallel()
	limits := Uploads{FileBytesMax: 40 << 10, FormBytesMax: 90 << 10}
	for name, s := range formServers(t, limits) {
		f := func(what string, status, code int, body, kind string, headers ...string) {
			t.Helper()
			a := do(t, s, "POST", formPath, body, append([]string{"Content-Type", kind}, headers...)...)
			if a.status != status || int(a.json(t)["code"].(float64)) != code {
				t.Errorf("%s: %s: %d %s", name, what, a.status, a.body)
			}
		}
		ok := [3]string{"payload_json", "-", `{"name":"ada"}`}
		file := func(field string, n int) [3]string { return [3]string{field, "f", strings.Repeat("x", n)} }
		with := func(pieces ...[3]string) (body, kind string) { return formOf(t, append([][3]string{ok}, pieces...)...) }
		try := func(what string, status, code int, pieces ...[3]string) {
			t.Helper()
			body, kind := with(pieces...)
			f(what, status, code, body, kind)
		}
		body, kind := with(file("files[0]", 40<<10))
		if a := do(t, s, "POST", formPath, body, "Content-Type", kind); a.status != 200 {
			t.Errorf("%s: a file as large as may be: %d %s", name, a.status, a.body)
		}
		try("a file that is a byte too large", 400, 50045, file("files[0]", 40<<10+1))
		try("a file that is much too large", 400, 50045, file("files[0]", 80<<10))
		try("a form that is too large", 413, 40005, file("files[0]", 40<<10), file("files[1]", 40<<10), file("files[2]", 40<<10))
		try("fields that are too large", 413, 40005, [3]string{"tags", "-", strings.Repeat("x", 80<<10)}, [3]string{"text", "-", strings.Repeat("x", 200<<10)})
		try("too many files", 400, 50035, file("files[3]", 1))
		try("a number that is none", 400, 50035, file("files[-1]", 1))
		try("a number twice", 400, 50035, file("files[1]", 1), file("files[1]", 1))
		try("too many by another name", 400, 50035, file("file", 1), file("file", 1), file("file", 1), file("file", 1))
		many := make([][3]string, fieldsOfFormMax+1)
		for i := range many {
			many[i] = [3]string{"f", "-", ""}
		}
		try("too many fields", 400, 50035, many...)
		body, kind = formOf(t, [3]string{"payload_json", "-", `{"name":`}, file("files[0]", 1))
		f("broken JSON", 400, 50109, body, kind)
		body, kind = formOf(t, [3]string{"payload_json", "-", `{}`}, file("files[0]", 1))
		f("JSON that is wrong", 400, 50035, body, kind)
		body, kind = formOf(t, [3]string{"name", "-", "a\xff"})
		f("no UTF-8", 400, 50035, body, kind)
		body, kind = with(file("files[0]", 1000))
		f("a torn form", 400, 50035, body[:len(body)-600], kind)
		f("no last boundary", 400, 50035, strings.TrimSuffix(body, "--\r\n"), kind)
		f("no boundary", 400, 50035, body, "multipart/form-data")
		f("another boundary", 400, 50035, body, "multipart/form-data; boundary=other")
		f("compressed", 415, 0, body, kind, "Content-Encoding", "gzip")
		f("nobody", 401, 0, body, kind, "Authorization", "")
		f("a header without an end", 400, 50035, "--b\r\nX: "+strings.Repeat("x", 80<<10), "multipart/form-data; boundary=b")
		f("a preamble without an end", 400, 50035, strings.Repeat("x\r\n", 20<<10), "multipart/form-data; boundary=b")

		if a := do(t, s, "POST", "/api/v10/channels/7/plain", body, "Content-Type", kind); a.status != 415 {
			t.Errorf("%s: a route without forms: %d %s", name, a.status, a.body)
		}
	}
}

func TestForm_NeverReadsMoreAtOnceThanItMay(t *testing.T) {
	t.Parallel()
	var turn turns
	limits := Uploads{AtOnceMax: 3, AtOncePerUserMax: 2}
	first, err := turn.take(1, limits)
	second, err2 := turn.take(1, limits)
	third, err3 := turn.take(2, limits)
	if err != nil || err2 != nil || err3 != nil {
		t.Fatal(err, err2, err3)
	}
	status := func(user uint64) int {
		_, err := turn.take(id.ID(user), limits)
		return fault.From(err).Status
	}
	if got := status(1); got != http.StatusTooManyRequests {
		t.Errorf("a third of one user: %d", got)
	}
	if got := status(3); got != http.StatusServiceUnavailable {
		t.Errorf("a fourth of all: %d", got)
	}
	first()
	second()
	third()
	if turn.all != 0 || len(turn.users) != 0 {
		t.Errorf("%d of %d users are left", turn.all, len(turn.users))
	}
}

// A client that stops in the middle of a file is not waited for; one that is slow but goes on is.
func TestForm_EndsAFormThatDoesNotComeForward(t *testing.T) {
	t.Parallel()
	s := formServers(t, Uploads{})["here"]
	s.cfg.ReadTimeout = 1 // of the server's own reads fasthttp has a copy
	conn := dial(t, s)
	_, _ = io.WriteString(conn, "POST "+formPath+" HTTP/1.1\r\nHost: a\r\nAuthorization: user\r\nContent-Type: multipart/form-data; boundary=b\r\n"+
		"Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"a\"\r\n\r\n"+strings.Repeat("x", 9000))
	if got := readAll(t, conn); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("%.200q", got)
	}
}

func TestForm_AnswersADiskThatTakesNothing(t *testing.T) {
	t.Parallel()
	s := formServers(t, Uploads{})["here"]
	s.cfg.Uploads.Dir = filepath.Join(t.TempDir(), "missing")
	body, kind := formOf(t, [3]string{"files[0]", "a", "A"})
	if a := do(t, s, "POST", formPath, body, "Content-Type", kind); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestFileName_IsTameEverywhere(t *testing.T) {
	t.Parallel()
	f := func(from, want string) {
		t.Helper()
		if got := FileName(from); got != want {
			t.Errorf("%q: %q, not %q", from, got, want)
		}
	}
	f("cat.png", "cat.png")
	f("SPOILER_cat.png", "SPOILER_cat.png")
	f("my cat (2).png", "my_cat__2_.png")
	f("../../etc/passwd", "passwd")
	f(`C:\temp\a.exe`, "a.exe")
	f("...hidden", "hidden")
	f("", "file")
	f("..", "file")
	f("a/", "file")
	f("Füße 🐈.png", "Füße__.png")
	f("a\r\nSet-Cookie: x", "a__Set-Cookie__x")
	f("a\u202egnp.exe", "a_gnp.exe")
	f("\xff.png", "_.png")
	if got := FileName(strings.Repeat("ä", 300) + ".tar"); len(got) > nameBytesMax || !strings.HasSuffix(got, "ä.tar") || !utf8.ValidString(got) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestDownload_SendsRanges(t *testing.T) {
	t.Parallel()
	for name, s := range formServers(t, Uploads{}) {
		f := func(method string, status int, text, contentRange string, headers ...string) {
			t.Helper()
			a := do(t, s, method, "/downloads/caf%C3%A9.txt", "", headers...)
			if a.status != status || a.body != text || a.header.Get("Content-Range") != contentRange {
				t.Errorf("%s: %s %v: %d %q %v", name, method, headers, a.status, a.body, a.header)
			}
			if got := a.header.Get("Content-Disposition"); got != `attachment; filename="caf_.txt"; filename*=UTF-8''caf%C3%A9.txt` {
				t.Errorf("%s: %s", name, got)
			}
			if a.header.Get("Content-Security-Policy") != "sandbox" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Etag") != `"t1"` {
				t.Errorf("%s: %v", name, a.header)
			}
		}
		f("GET", 200, downloadText, "")
		f("GET", 206, "0123", "bytes 0-3/16", "Range", "bytes=0-3")
		f("GET", 206, "ef", "bytes 14-15/16", "Range", "bytes=-2")
		f("GET", 206, "f", "bytes 15-15/16", "Range", "bytes=15-99")
		f("GET", 206, "0123", "bytes 0-3/16", "Range", "bytes=0-3", "If-Range", `"t1"`)
		f("GET", 200, downloadText, "", "Range", "bytes=0-3", "If-Range", `"t0"`)
		f("GET", 200, downloadText, "", "Range", "bytes=0-3,5-6")
		f("GET", 200, downloadText, "", "Range", "lines=0-3")
		f("GET", 416, "", "bytes */16", "Range", "bytes=16-")
		f("GET", 416, "", "bytes */16", "Range", "bytes=5-3")
		f("GET", 304, "", "", "If-None-Match", `"t0", W/"t1"`)
		f("HEAD", 200, "", "")
		if a := do(t, s, "HEAD", "/downloads/a", ""); a.header.Get("Content-Length") != "16" {
			t.Errorf("%s: HEAD: %v", name, a.header)
		}
		if a := do(t, s, "GET", "/downloads/broken", ""); a.status != 404 || a.header.Get("Etag") != "" {
			t.Errorf("%s: what cannot be opened: %d %v", name, a.status, a.header)
		}
	}
}

// FuzzForm hands bytes to the reader of forms. Whatever they are, it keeps within its bounds, and leaves nothing on the disk.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"--b\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\r\n{}\r\n--b\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"a\"\r\n\r\nA\r\n--b--\r\n",
		"--b\r\nContent-Disposition: form-data; name=content\r\n\r\n\xff\r\n--b--", "--b--", "--b", "", "preamble\r\n--b\r\n\r\n\r\n--b--",
		"--b\nContent-Disposition: form-data; name=x; filename*=UTF-8''%00%2f\n\ny\n--b--\n", "--b\r\n: \r\n\r\n--b--",
	} {
		f.Add([]byte(seed))
	}
	limits := formLimits{total: 600, file: 100, json: 50, files: 2}
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		read, err := readForm(bytes.NewReader(raw), "b", limits, dir)
		if len(read.files) > limits.files {
			t.Errorf("%d files", len(read.files))
		}
		for _, u := range read.files {
			if u.Name != FileName(u.Name) || err == nil && u.Size > limits.file {
				t.Errorf("%+v", u)
			}
		}
		if err != nil {
			if status := fault.From(err).Status; status != 400 && status != 413 {
				t.Errorf("%v", err)
			}
		}
		if object := read.object(reflect.TypeFor[body]()); err == nil && read.json == nil && object != nil {
			if _, scanErr := scan(object); scanErr != nil && !errors.Is(scanErr, errDuplicate) {
				t.Errorf("%q: %v", object, scanErr)
			}
		}
		read.remove()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%d files are left, %v", len(left), err)
		}
	})
}
