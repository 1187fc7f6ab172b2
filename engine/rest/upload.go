package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

// Uploads bound forms with files. The zero value is the default.
type Uploads struct {
	Dir          string // where files lie until their handler has returned; default the system's for temporary files
	FileBytesMax int64  // of one file; default 10 MiB
	FormBytesMax int64  // of all parts of a form together; default 25 MiB
	// BytesPerSecondMin is how fast a form has to come; default 16 KiB/s. That is judged over the whole form, so a stall is not an end.
	BytesPerSecondMin int
	AtOnceMax         int // forms that are read at once; default 32
	AtOncePerUserMax  int // of one user; default 4
}

func (u Uploads) withDefaults() Uploads {
	if u.FileBytesMax == 0 {
		u.FileBytesMax = 10 << 20
	}
	if u.FormBytesMax == 0 {
		u.FormBytesMax = 25 << 20
	}
	if u.BytesPerSecondMin == 0 {
		u.BytesPerSecondMin = 16 << 10
	}
	if u.AtOnceMax == 0 {
		u.AtOnceMax = 32
	}
	if u.AtOncePerUserMax == 0 {
		u.AtOncePerUserMax = 4
	}
	return u
}

// Validate names every mistake at once.
func (u Uploads) Validate() error {
	if u.FileBytesMax < 0 || u.FormBytesMax < 0 || u.BytesPerSecondMin < 0 || u.AtOnceMax < 0 || u.AtOncePerUserMax < 0 {
		return errors.New("rest uploads: bounds must not be negative")
	}
	return nil
}

// turns are the forms that are read now. Safe for concurrent use.
type turns struct {
	mu    sync.Mutex // guards what follows
	all   int
	users map[id.ID]int
}

// take is refused to who has too many already, and to everybody when there are too many.
func (t *turns) take(user id.ID, limits Uploads) (giveBack func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users[user] >= limits.AtOncePerUserMax {
		return nil, fault.RateLimited(time.Second)
	}
	if t.all >= limits.AtOnceMax {
		return nil, fault.Unavailable(fmt.Errorf("%d uploads at once", t.all), time.Second)
	}
	if t.users == nil {
		t.users = map[id.ID]int{}
	}
	t.all++
	t.users[user]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all--
		if t.users[user]--; t.users[user] == 0 {
			delete(t.users, user)
		}
	}, nil
}

// bodies are for requests that are read whole.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// handle is what fasthttp calls. It hands over every body as a stream; those of nearly all routes are small and are read here, before
// anything else and as if fasthttp had, so that nobody further on has to know.
func (s *Server) handle(base context.Context, ctx *fasthttp.RequestCtx) {
	if !ctx.Request.IsBodyStream() || s.streams(&ctx.Request.Header) {
		s.serve(base, ctx)
		return
	}
	buf := bodies.Get().(*bytes.Buffer)
	buf.Reset()
	defer func() {
		if buf.Cap() <= bufferKeepMax {
			bodies.Put(buf)
		}
	}()
	if err := s.readWhole(ctx, buf); err != nil {
		s.refuse(ctx, err)
		ctx.SetConnectionClose()
		return
	}
	ctx.Request.SetBodyRaw(buf.Bytes())
	s.serve(base, ctx)
	ctx.Request.SetBodyRaw(nil)
}

func (s *Server) readWhole(ctx *fasthttp.RequestCtx, to *bytes.Buffer) error {
	h := &ctx.Request.Header
	n, limit := h.ContentLength(), s.limitOf(h)
	if n > limit {
		return fasthttp.ErrBodyTooLarge
	}
	got, err := to.ReadFrom(io.LimitReader(ctx.RequestBodyStream(), int64(limit)+1))
	switch {
	case err != nil:
		return err
	case got > int64(limit):
		return fasthttp.ErrBodyTooLarge
	case n >= 0 && got < int64(n):
		return io.ErrUnexpectedEOF
	}
	return nil
}

// limitOf is how large the body of a request may be that is read whole. It is asked for every request before its body is read, so it
// looks only at those that may need more than usual.
func (s *Server) limitOf(h *fasthttp.RequestHeader) int {
	if n := h.ContentLength(); s.bulkMax == 0 || n >= 0 && n <= s.cfg.BodyBytesMax {
		return s.cfg.BodyBytesMax
	}
	inner, ok := innerPath(h)
	if !ok {
		return s.cfg.BodyBytesMax
	}
	if mark, _ := s.bulk.Lookup(string(h.Method()), inner, nil); mark == nil {
		return s.cfg.BodyBytesMax
	}
	return s.bulkMax
}

// received lets fasthttp read ahead no more than it must of a body that is going to be refused for what it says of its length.
func (s *Server) received(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if h.ContentLength() > s.limitOf(h) && !s.streams(h) {
		return fasthttp.RequestConfig{MaxRequestBodySize: 1}
	}
	return fasthttp.RequestConfig{}
}

// expect answers a client that asks before it sends a body. It is told by the status alone, which is all that it waits for.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	h := &ctx.Request.Header
	if h.ContentLength() > s.limitOf(h) && !s.streams(h) {
		return fasthttp.StatusRequestEntityTooLarge
	}
	return fasthttp.StatusContinue
}

// streams says whether a request has a form that is to be read as it comes.
func (s *Server) streams(h *fasthttp.RequestHeader) bool {
	if !s.hasForms || !bytes.HasPrefix(bytes.ToLower(h.ContentType()), []byte(formType)) {
		return false
	}
	inner, ok := innerPath(h)
	if !ok {
		return false
	}
	mark, _ := s.forms.Lookup(string(h.Method()), inner, nil)
	return mark != nil
}

// takeForm reads a form into c and into the request's body, which is JSON from then on. Whatever comes of it, done must be called.
func (s *Server) takeForm(ctx *fasthttp.RequestCtx, c *Call, r *route) (done func(), err error) {
	done = func() {}
	h := &ctx.Request.Header
	_, params, err := mime.ParseMediaType(string(h.ContentType()))
	if err != nil || params["boundary"] == "" {
		return done, fault.New(fault.InvalidForm)
	}
	if len(h.ContentEncoding()) > 0 {
		return done, fault.UnsupportedMediaType()
	}
	limits := s.cfg.Uploads
	if int64(h.ContentLength()) > limits.FormBytesMax {
		return done, fault.TooLarge()
	}
	giveBack, err := s.turns.take(c.identity.User, limits)
	if err != nil {
		return done, err
	}
	defer giveBack()
	f, err := readForm(s.paced(ctx), params["boundary"], formLimits{
		total: limits.FormBytesMax, file: limits.FileBytesMax, json: r.bodyMax, files: r.filesMax,
	}, limits.Dir)
	done = f.remove
	if err != nil {
		return done, err
	}
	// What stands behind the last boundary means nothing. A little of it fasthttp passes over; with more it ends the connection.
	setJSON(ctx, f.object(r.in))
	c.files = f.files
	return done, nil
}

// setJSON puts JSON in the place of a form.
func setJSON(ctx *fasthttp.RequestCtx, body []byte) {
	ctx.Request.SetBodyRaw(body)
	ctx.Request.Header.SetContentType(contentType)
}

// takeEncoded does the same with application/x-www-form-urlencoded, if it is that.
func takeEncoded(ctx *fasthttp.RequestCtx, r *route) error {
	media, _, err := mime.ParseMediaType(string(ctx.Request.Header.ContentType()))
	if err != nil || media != encodedType {
		return nil // readBody says what it is worth
	}
	f, err := encodedForm(ctx.PostBody())
	if err != nil {
		return err
	}
	setJSON(ctx, f.object(r.in))
	return nil
}

// paced is the body of a request, from a client that must not be slower than a form may come.
func (s *Server) paced(ctx *fasthttp.RequestCtx) io.Reader {
	return &pacer{from: ctx.RequestBodyStream(), conn: ctx.Conn(), end: time.Now().Add(s.cfg.ReadTimeout), rate: s.cfg.Uploads.BytesPerSecondMin}
}

type pacer struct {
	from io.Reader
	conn net.Conn
	end  time.Time // of the client's time for what it has sent so far
	rate int       // bytes per second
}

func (p *pacer) Read(b []byte) (int, error) {
	if err := p.conn.SetReadDeadline(p.end); err != nil {
		return 0, err
	}
	n, err := p.from.Read(b)
	p.end = p.end.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	return n, err
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// uploadTime is how long the slowest form takes.
func (s *Server) uploadTime() time.Duration {
	u := s.cfg.Uploads
	return s.cfg.ReadTimeout + time.Duration(u.FormBytesMax)*time.Second/time.Duration(u.BytesPerSecondMin)
}
