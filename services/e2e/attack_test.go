package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xcord/xcord/services/node"
)

// guarded is everything in one node with settings of the test's, and its limits on.
func guarded(t *testing.T, change func(*node.Settings)) *world {
	t.Helper()
	w := newWorld(t)
	w.settings.Limits = "on"
	if change != nil {
		change(&w.settings)
	}
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	return w
}

// hail is one request of an attacker, whose header lines come in pairs.
func (w *world) hail(t *testing.T, url, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	req.Close = true
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: res.StatusCode, header: res.Header, body: raw}
}

// line opens a connection to a server.
func line(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// spoken is what a server says to these bytes until it closes.
func spoken(t *testing.T, url, raw string) string {
	t.Helper()
	conn := line(t, url)
	go func() {
		_, _ = io.WriteString(conn, raw) // the server may close before it has read all
	}()
	got, err := io.ReadAll(conn)
	if failed, ok := err.(net.Error); ok && failed.Timeout() {
		t.Fatalf("the server keeps a connection that said %.100q", raw)
	}
	return string(got)
}

// statuses are those of all answers in what a server said.
func statuses(t *testing.T, said string) (all []int) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(said))
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return all
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Errorf("an answer is cut off: %v in %q", err, said)
		}
		_ = res.Body.Close()
		all = append(all, res.StatusCode)
	}
}

// alive says that the server still serves.
func (w *world) alive(t *testing.T) {
	t.Helper()
	if a := w.hail(t, w.url, "GET", "/api/v10/gateway", ""); a.status != http.StatusOK {
		t.Errorf("the server answers %d after it", a.status)
	}
}

// plain says that an error tells what the contract says, and nothing of the inside.
func plain(t *testing.T, what string, a answer) {
	t.Helper()
	var body struct {
		Code    *int
		Message string
	}
	if err := json.Unmarshal(a.body, &body); err != nil || body.Code == nil || body.Message == "" {
		t.Errorf("%s: %d %s is no error of the contract", what, a.status, a.body)
	}
	for _, inside := range []string{"goroutine", ".go:", "panic", "runtime", "pgx", "SQLSTATE", "redis", "fasthttp", "/work", "select ", "insert "} {
		if bytes.Contains(bytes.ToLower(a.body), []byte(inside)) {
			t.Errorf("%s: %d %s tells of the inside (%q)", what, a.status, a.body, inside)
		}
	}
}
