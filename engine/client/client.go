// Package client is the Go client of XCord: REST and the gateway, with limits respected, retries that never post twice and
// a gateway session that survives lost connections. Bots are written with it, and so are the end-to-end tests and the
// benchmarks. It does not keep a cache of guilds or channels, and it hides no event.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xcord/xcord/engine/fault"
)

const (
	apiPath = "/api/v10"

	// answerBytesMax bounds what is read of an answer; the largest one is a page of 1,000 members, below 1 MiB.
	answerBytesMax = 16 << 20

	// Between attempts: 100 ms doubled each time up to 5 s, and of that a random half to the whole.
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Config of a Client. Everything but URL may be zero.
type Config struct {
	URL   string // where the server is, "http://127.0.0.1:8080"
	Token string // "Bot <token>" for a bot, the access token for a person; empty for what needs none

	HTTP          *http.Client  // default: one with a transport of its own that keeps up to 64 idle connections
	Timeout       time.Duration // of one attempt; default 15 s
	AttemptsMax   int           // of one call, the first included; default 4
	RetryAfterMax time.Duration // a server that wants us to wait longer than this gets its error returned; default 30 s
	UserAgent     string
}

func (c Config) withDefaults() Config {
	if c.HTTP == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 64 // the default of 2 opens a connection per call as soon as three run at once
		c.HTTP = &http.Client{Transport: transport}
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.AttemptsMax == 0 {
		c.AttemptsMax = 4
	}
	if c.RetryAfterMax == 0 {
		c.RetryAfterMax = 30 * time.Second
	}
	if c.UserAgent == "" {
		c.UserAgent = "xcord-client/1"
	}
	return c
}

// Validate names every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("client URL %q: want http://host:port or https://host", c.URL))
	}
	if c.Timeout < 0 || c.RetryAfterMax < 0 {
		errs = append(errs, errors.New("client: times must not be negative"))
	}
	if c.AttemptsMax < 0 {
		errs = append(errs, errors.New("client: AttemptsMax must not be negative"))
	}
	return errors.Join(errs...)
}

// Client calls a server as one user. Any goroutine may use it at any time.
type Client struct {
	cfg     Config
	base    string
	buffers *sync.Pool // of the gateway connections; they hold one only while they write
}

// New makes a client; it does not connect.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(cfg.URL, "/") + apiPath
	return &Client{cfg: cfg.withDefaults(), base: base, buffers: &sync.Pool{}}, nil
}

// WithToken is the same client, connections included, as somebody else.
func (c *Client) WithToken(token string) *Client {
	other := *c
	other.cfg.Token = token
	return &other
}

// CloseIdle closes the connections that are not in use.
func (c *Client) CloseIdle() { c.cfg.HTTP.CloseIdleConnections() }

// Token is what the client authenticates with.
func (c *Client) Token() string { return c.cfg.Token }

// Error is an answer that is no success.
type Error struct {
	Status     int
	Code       fault.Code
	Message    string
	Errors     []fault.Field // which fields of the body are wrong, sorted by path
	RetryAfter time.Duration // 0: the server did not say
}

func (e *Error) Error() string {
	s := fmt.Sprintf("status %d, code %d: %s", e.Status, int(e.Code), e.Message)
	for _, f := range e.Errors {
		s += fmt.Sprintf("; %s: %s", f.Path, f.Code)
	}
	return s
}

// Field is the code of the first mistake in a field, or "".
func (e *Error) Field(path string) string {
	for _, f := range e.Errors {
		if f.Path == path {
			return f.Code
		}
	}
	return ""
}

// IsCode says whether err is an Error with this code.
func IsCode(err error, code fault.Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// IsStatus says whether err is an Error with this status.
func IsStatus(err error, status int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == status
}

// call is one REST call.
type call struct {
	method, path string
	in           any    // nil: no body
	safe         bool   // sending it twice is sending it once
	reason       string // for the audit log
}

// Do calls any endpoint, path being what follows /api/v10. in is encoded as JSON unless nil; the answer is decoded into
// out unless nil. A 429 is retried after the time that it says; a lost connection or a 5xx only with GET, PUT and DELETE,
// because a POST or PATCH may have been done.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, call{method: method, path: path, in: in}, out)
}

func (c *Client) do(ctx context.Context, q call, out any) error {
	var body []byte
	if q.in != nil {
		var err error
		if body, err = json.Marshal(q.in); err != nil {
			return fmt.Errorf("%s %s: encode: %w", q.method, q.path, err)
		}
	}
	switch q.method {
	case http.MethodGet, http.MethodPut, http.MethodDelete:
		q.safe = true
	}
	for attempt := 1; ; attempt++ {
		answer, err := c.attempt(ctx, q, body)
		if err == nil {
			if out == nil || len(answer) == 0 {
				return nil
			}
			if err = json.Unmarshal(answer, out); err != nil {
				return fmt.Errorf("%s %s: decode the answer: %w", q.method, q.path, err)
			}
			return nil
		}
		wait, again := c.retry(q, attempt, err)
		if !again || !sleep(ctx, wait) {
			return fmt.Errorf("%s %s: %w", q.method, q.path, err)
		}
	}
}

// retry says whether to try again after err, and when.
func (c *Client) retry(q call, attempt int, err error) (time.Duration, bool) {
	if attempt >= c.cfg.AttemptsMax {
		return 0, false
	}
	wait := backoff(attempt)
	e, answered := errors.AsType[*Error](err)
	if answered {
		if e.Status != http.StatusTooManyRequests && (e.Status < 500 || !q.safe) {
			return 0, false
		}
		if e.RetryAfter > 0 {
			wait = e.RetryAfter
		}
		return wait, wait <= c.cfg.RetryAfterMax
	}
	return wait, q.safe
}

func (c *Client) attempt(ctx context.Context, q call, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if q.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", c.cfg.Token)
	}
	if q.reason != "" {
		req.Header.Set("X-Audit-Log-Reason", url.PathEscape(q.reason))
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	res, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end, or is given up
	answer, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(answer) > answerBytesMax {
		return nil, &Error{Status: res.StatusCode, Message: "the answer is too large"}
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return answer, nil
	}
	return nil, readError(res, answer)
}

func readError(res *http.Response, answer []byte) error {
	e := &Error{Status: res.StatusCode, Message: res.Status}
	var body struct {
		Code       fault.Code      `json:"code"`
		Message    string          `json:"message"`
		Errors     json.RawMessage `json:"errors"`
		RetryAfter float64         `json:"retry_after"`
	}
	if json.Unmarshal(answer, &body) == nil && body.Message != "" {
		e.Code, e.Message = body.Code, body.Message
		e.Errors = flatten(nil, "", body.Errors)
	}
	// The header has whole seconds; the body of a 429 has it exactly.
	e.RetryAfter = time.Duration(body.RetryAfter * float64(time.Second))
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && e.RetryAfter <= 0 {
		e.RetryAfter = time.Duration(n) * time.Second
	}
	return e
}

// flatten reads the tree of field errors: {"embeds":{"0":{"title":{"_errors":[{…}]}}}}.
func flatten(fields []fault.Field, path string, tree json.RawMessage) []fault.Field {
	var node map[string]json.RawMessage
	if json.Unmarshal(tree, &node) != nil {
		return fields
	}
	for _, key := range slices.Sorted(maps.Keys(node)) {
		if key != "_errors" {
			fields = flatten(fields, strings.TrimPrefix(path+"."+key, "."), node[key])
			continue
		}
		var leaves []struct{ Code, Message string }
		if json.Unmarshal(node[key], &leaves) != nil {
			continue
		}
		for _, l := range leaves {
			fields = append(fields, fault.Field{Path: path, Code: l.Code, Message: l.Message})
		}
	}
	return fields
}

// backoff is how long to wait after the n-th failure in a row.
func backoff(n int) time.Duration {
	d := min(backoffMin<<min(n-1, 10), backoffMax)
	return d/2 + rand.N(d/2)
}

// sleep waits unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
