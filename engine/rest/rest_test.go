package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/life"
	"github.com/xcord/xcord/engine/life/lifetest"
	"github.com/xcord/xcord/engine/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// These end by themselves when their sleep is over, or serve the whole process.
		goleak.IgnoreTopFunction("time.Sleep"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	)
}

// tokens authenticates "user" and "bot".
type tokens struct{}

func (tokens) Authenticate(_ context.Context, authorization string) (Identity, error) {
	switch authorization {
	case "user":
		return Identity{User: 7, Session: "s7"}, nil
	case "Bot bot":
		return Identity{User: 8, Bot: true}, nil
	case "away":
		return Identity{}, errors.New("key store is away")
	}
	return Identity{}, fault.Unauthorized()
}

// site is a service whose routes show what a handler gets.
type site struct {
	name    string
	entered chan struct{} // gets one for every call of wait
	release chan struct{} // lets wait go on
}

type seen struct {
	Site, Handler                              string
	User, Channel, Message                     id.ID
	Text, Reason, RemoteAddr, RequestID, Agent string
	HostName                                   string
	Body                                       *body  `json:",omitempty"`
	Query                                      *query `json:",omitempty"`
}

type body struct {
	Name  string                      `json:"name" validate:"required,min=2,max=100"`
	Text  string                      `json:"text" validate:"max=2000"`
	Count *int                        `json:"count" validate:"omitempty,min=1,max=5"`
	Kind  string                      `json:"kind" validate:"omitempty,oneof=red green"`
	Mail  string                      `json:"mail" validate:"omitempty,email"`
	Owner id.ID                       `json:"owner_id"`
	Flag  bool                        `json:"flag"`
	Topic wire.Optional[string]       `json:"topic" validate:"omitnil,max=3"`
	Parts []part                      `json:"parts" validate:"max=2,dive"`
	Tags  []string                    `json:"tags" validate:"max=3,dive,min=1,max=4"`
	Wide  wire.Optional[[]wire.Embed] `json:"wide" validate:"omitnil,max=2,dive"`
	Map   map[string]int              `json:"map"`
	common
}

type common struct {
	Inner string `json:"inner" validate:"max=1"`
}

type part struct {
	Title string `json:"title" validate:"max=5"`
	Size  int8   `json:"size"`
}

type query struct {
	Limit  *int   `query:"limit" validate:"omitnil,min=1,max=100"`
	Before id.ID  `query:"before"`
	With   bool   `query:"with_counts"`
	Word   string `query:"query" validate:"max=3"`

	IDs   []id.ID  `query:"id" validate:"max=2"`
	Kinds []string `query:"kind" validate:"dive,oneof=red green"`
}

type moved struct {
	ID       id.ID `json:"id"`
	Position *int  `json:"position" validate:"omitnil,min=0"`
}

type picky struct {
	A int `json:"a"`
	B int `json:"b"`
}

func (p *picky) Check() error {
	if p.A == p.B {
		return fault.New(fault.EmptyMessage)
	}
	return nil
}

func (s *site) note(c *Call, handler string) seen {
	return seen{
		Site: s.name, Handler: handler, User: c.User(), Reason: c.Reason(), RemoteAddr: c.RemoteAddr(), RequestID: c.RequestID(),
		Agent: c.UserAgent(), HostName: c.Host(),
	}
}

func (s *site) me(c *Call, _ None) (seen, error) { return s.note(c, "me"), nil }

func (s *site) user(c *Call, _ None) (seen, error) {
	n := s.note(c, "user")
	n.Text = c.ID("user").String()
	return n, nil
}

func (s *site) create(c *Call, in body) (seen, error) {
	n := s.note(c, "create")
	n.Channel, n.Body = c.ID("channel"), &in
	return n, nil
}

func (s *site) list(c *Call, in query) (seen, error) {
	n := s.note(c, "list")
	n.Channel, n.Query = c.ID("channel"), &in
	return n, nil
}

func (s *site) react(c *Call, _ None) (seen, error) {
	n := s.note(c, "react")
	n.Message, n.Text = c.ID("message"), c.Param("emoji")
	return n, nil
}

func (s *site) unreact(*Call, None) (None, error) { return None{}, nil }
func (s *site) remove(*Call, None) (None, error)  { return None{}, nil }
func (s *site) file(c *Call, _ None) (File, error) {
	return File{Type: "image/png", Policy: "sandbox", Cache: "no-store", Body: []byte(c.Param("name"))}, nil
}

func (s *site) raw(*Call, None) (Raw, error)        { return Raw(`{"a":"<b>"}`), nil }
func (s *site) rawNone(*Call, None) (Raw, error)    { return nil, nil }
func (s *site) empty(*Call, None) ([]string, error) { return nil, nil }
func (s *site) html(*Call, None) (map[string]string, error) {
	return map[string]string{"a": "<&>"}, nil
}
func (s *site) unencodable(*Call, None) (chan int, error) { return make(chan int), nil }
func (s *site) panics(*Call, None) (None, error)          { panic("secret detail") }
func (s *site) move(_ *Call, in []moved) (int, error)     { return len(in), nil }
func (s *site) pick(_ *Call, in picky) (picky, error)     { return in, nil }
func (s *site) large(_ *Call, in map1) (int, error)       { return len(in.Text), nil }
func (s *site) fails(*Call, None) (None, error)           { return None{}, errors.New("secret detail") }
func (s *site) denied(*Call, None) (None, error)          { return None{}, fault.New(fault.MissingPermissions) }
func (s *site) limited(*Call, None) (None, error) {
	return None{}, fault.RateLimited(1200 * time.Millisecond)
}
func (s *site) away(*Call, None) (None, error) {
	return None{}, fault.Unavailable(errors.New("secret detail"), 1500*time.Millisecond)
}
func (s *site) deadline(c *Call, _ None) (None, error) {
	<-c.Context().Done()
	return None{}, c.Context().Err()
}
func (s *site) created(c *Call, in picky) (picky, error) { return in, nil }

type map1 struct {
	Text string `json:"text"`
}

func (s *site) wait(c *Call, _ None) (seen, error) {
	s.entered <- struct{}{}
	select {
	case <-s.release:
	case <-c.Context().Done():
		return seen{}, c.Context().Err()
	}
	return s.note(c, "wait"), nil
}

var siteRoutes = Table[*site]{
	GET("/users/@me", (*site).me),
	GET("/users/{user}", (*site).user),
	GET("/guilds/{guild}/members/@me", (*site).me),
	GET("/guilds/{guild}/members/{user}", (*site).user),
	POST("/channels/{channel}/messages", (*site).create),
	GET("/channels/{channel}/messages", (*site).list),
	PUT("/channels/{channel}/messages/{message}/reactions/{emoji}/@me", (*site).react),
	DELETE("/channels/{channel}/messages/{message}/reactions/{emoji}/{user}", (*site).unreact),
	DELETE("/channels/{channel}", (*site).remove),
	PATCH("/guilds/{guild}/channels", (*site).move),
	POST("/pick", (*site).pick),
	POST("/created", (*site).created, Status(http.StatusCreated)),
	POST("/large", (*site).large, Body(1<<20)),
	POST("/small", (*site).large, Body(64)),
	GET("/open", (*site).me, Public()),
	GET("/people", (*site).me, UsersOnly()),
	GET("/raw", (*site).raw),
	GET("/raw-none", (*site).rawNone),
	GET("/files/{name}", (*site).file, Root(), Public()),
	GET("/empty", (*site).empty),
	GET("/html", (*site).html),
	GET("/unencodable", (*site).unencodable),
	GET("/panics", (*site).panics),
	GET("/fails", (*site).fails),
	GET("/denied", (*site).denied),
	GET("/limited", (*site).limited),
	GET("/away", (*site).away),
	GET("/deadline", (*site).deadline),
	GET("/wait", (*site).wait),
	POST("/wait", (*site).wait),
}

func newSite(name string) *site {
	return &site{name: name, entered: make(chan struct{}, 16), release: make(chan struct{})}
}

// logs is where a server of a test logs to.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// start runs a server with siteRoutes, or with what mount does.
func start(t *testing.T, cfg Config, deps Deps, mount func(*Server)) *Server {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if deps.Authenticator == nil {
		deps.Authenticator = tokens{}
	}
	if deps.Log == nil {
		deps.Log = new(logs).logger()
	}
	s := New(cfg, deps)
	mount(s)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func startSite(t *testing.T) *Server {
	t.Helper()
	return start(t, Config{}, Deps{}, func(s *Server) { Bind(s, siteRoutes, newSite("here")) })
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return m
}

func (a answer) seen(t *testing.T) seen {
	t.Helper()
	var n seen
	if a.status != http.StatusOK {
		t.Fatalf("status %d, body %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &n); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return n
}

// client has connections of its own, so that none is left behind by a test.
func client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: tr, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do sends one request as "user"; headers are pairs, of which an empty value removes.
func do(t *testing.T, s *Server, method, path, body string, headers ...string) answer {
	t.Helper()
	a, err := try(t, s, method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func try(t *testing.T, s *Server, method, path, body string, headers ...string) (answer, error) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "user")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := client(t).Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{res.StatusCode, res.Header, string(raw)}, nil
}

func TestServer_LivesLikeAService(t *testing.T) {
	t.Parallel()
	lifetest.Stress(t, func() life.Service {
		s := New(Config{Addr: "127.0.0.1:0"}, Deps{Authenticator: tokens{}})
		Bind(s, siteRoutes, newSite("here"))
		return s
	})
}

func TestStart_SaysWhichPortIsInUse(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	s := New(Config{Addr: ln.Addr().String()}, Deps{})
	err = s.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Start = %v", err)
	}
	s.Stop()
}

func TestStart_NamesEveryMistakeAtOnce(t *testing.T) {
	t.Parallel()
	s := New(Config{Addr: "nowhere", ReadTimeout: -1, Internal: true}, Deps{})
	Bind(s, siteRoutes[:1], newSite(""))
	Bind(s, Table[*site]{
		GET("/open", (*site).me, Public()),
		GET("/open", (*site).me, Public()),
		GET("/list", func(*site, *Call, []int) (None, error) { return None{}, nil }, Public()),
		GET("/float", func(*site, *Call, struct {
			F float64 `query:"f"`
		}) (None, error) {
			return None{}, nil
		}, Public()),
		POST("/tag", func(*site, *Call, struct {
			F string `validate:"nosuchrule"`
		}) (None, error) {
			return None{}, nil
		}, Public()),
	}, newSite(""))
	Forward(s, Table[*site]{}, &Upstream{Addrs: []string{"a:1"}})
	err := s.Start(t.Context())
	if err == nil {
		s.Stop()
		t.Fatal("Start succeeded")
	}
	for _, want := range []string{"nowhere", "read timeout", "Verifier", "Authenticator", "GET /open", "GET /list", "GET /float", "POST /tag", "Signer"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestStop_LetsRequestsInFlightFinish(t *testing.T) {
	t.Parallel()
	here := newSite("here")
	s := start(t, Config{}, Deps{}, func(s *Server) { Bind(s, siteRoutes, here) })
	got := make(chan answer, 1)
	go func() { got <- do(t, s, "GET", "/api/wait", "") }()
	<-here.entered
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	// The listener closes first: a new connection is refused while the old request is still waiting.
	for {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case <-stopped:
		t.Error("Stop did not wait for the request")
	default:
	}
	close(here.release)
	if a := <-got; a.status != http.StatusOK {
		t.Errorf("request in flight got %d %s", a.status, a.body)
	}
	<-stopped
	s.Stop()
}

func TestStop_CutsOffWhatOutlivesTheTimeout(t *testing.T) {
	t.Parallel()
	here := newSite("here")
	s := start(t, Config{StopTimeout: time.Millisecond, RequestTimeout: time.Hour}, Deps{}, func(s *Server) { Bind(s, siteRoutes, here) })
	got := make(chan error, 1)
	go func() {
		_, err := try(t, s, "GET", "/api/wait", "")
		got <- err
	}()
	<-here.entered
	s.Stop()
	if err := <-got; err == nil {
		t.Error("the request was answered although its time was over")
	}
}

func TestServer_StartsAgainAfterStop(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	for range 3 {
		if a := do(t, s, "GET", "/api/users/@me", ""); a.status != http.StatusOK {
			t.Fatalf("status %d", a.status)
		}
		s.Stop()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
