package rest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
)

// proofHeader carries the Signer's proof between processes. It is never passed on from outside.
const proofHeader = "X-Xcord-Proof"

// authorizationMax bounds the header before anybody parses it; a token of ours has about 300 bytes.
const authorizationMax = 4 << 10

// methods are those that a route can have.
var methods = []string{fasthttp.MethodDelete, fasthttp.MethodGet, fasthttp.MethodPatch, fasthttp.MethodPost, fasthttp.MethodPut}

// unrouted counts what matched no route.
var unrouted = newRouteMetrics("", "none")

// serve is every request's way: framing, request id, recover, match, and then the route. The steps are the methods
// below, in the order in which they stand there.
func (s *Server) serve(base context.Context, ctx *fasthttp.RequestCtx) {
	c := &Call{ctx: base}
	m := &unrouted
	defer func() {
		if p := recover(); p != nil {
			panicsTotal.Inc()
			s.fail(ctx, c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
		h := &ctx.Response.Header
		h.Set("X-Request-ID", c.requestID)
		if !s.cfg.Internal {
			s.secure(h)
			writeLimit(h, c.bucket, c.verdict)
			s.noteInvalid(c, &ctx.Response)
			s.allowOrigin(ctx)
		}
		overhear(c.route, &ctx.Response)
		m.observe(ctx.Response.StatusCode(), time.Since(ctx.Time()))
	}()
	if err := s.route(ctx, c, &m); err != nil {
		s.fail(ctx, c, err)
		if ctx.Request.IsBodyStream() { // refused before it was read to its end
			s.drain(ctx)
			ctx.SetConnectionClose()
		}
	}
}

func (s *Server) route(ctx *fasthttp.RequestCtx, c *Call, m **routeMetrics) error {
	if err := s.origin(ctx, c); err != nil {
		return err
	}
	if err := checkFraming(ctx); err != nil {
		return err
	}
	if err := s.allowAddr(c); err != nil {
		return err
	}
	r, err := s.match(ctx)
	if r == nil {
		return err // or the answer to a preflight is written
	}
	*m = &r.metrics
	c.route = r
	if r.raw != nil {
		r.raw(ctx)
		return nil
	}
	base := c.ctx
	deadline, cancel := context.WithTimeout(base, s.cfg.RequestTimeout)
	defer cancel()
	c.ctx = deadline
	if err := s.authenticate(ctx, c, r); err != nil {
		return err
	}
	if err := s.allow(ctx, c, r); err != nil {
		return err
	}
	if err := c.readParams(ctx, r.params); err != nil {
		return err
	}
	c.readHeaders(ctx)
	if ctx.Request.IsBodyStream() {
		return s.runForm(base, ctx, c, r)
	}
	if len(ctx.PostBody()) > r.bodyMax {
		return fault.TooLarge()
	}
	if r.filesMax > 0 && !r.forwards {
		if err := takeEncoded(ctx, r); err != nil {
			return err
		}
	}
	return r.run(c, ctx)
}

// runForm runs a route whose body is a form that has yet to be read. Its time begins when the client has sent everything.
func (s *Server) runForm(base context.Context, ctx *fasthttp.RequestCtx, c *Call, r *route) error {
	if r.forwards {
		return r.run(c, ctx)
	}
	done, err := s.takeForm(ctx, c, r)
	defer done()
	if err != nil {
		return err
	}
	deadline, cancel := context.WithTimeout(base, s.cfg.RequestTimeout)
	defer cancel()
	c.ctx = deadline
	return r.run(c, ctx)
}

// origin settles who sent the request and how it is called: by the proof on an internal server, else by the peer.
func (s *Server) origin(ctx *fasthttp.RequestCtx, c *Call) error {
	if !s.cfg.Internal {
		// A client's own X-Request-ID is not taken: ids must be unique in our logs.
		c.requestID = newRequestID()
		c.client = s.settleClient(ctx)
		c.counted = s.counted(c.client)
		c.remoteAddr = c.client.String()
		return nil
	}
	proof := ctx.Request.Header.Peek(proofHeader)
	if len(proof) == 0 || len(proof) > authorizationMax {
		c.requestID = newRequestID()
		return fault.Unauthorized()
	}
	addr, requestID, err := s.deps.Verifier.Verify(string(proof))
	if err != nil {
		c.requestID = newRequestID()
		return fault.Unauthorized()
	}
	c.remoteAddr, c.requestID = addr, requestID
	c.client, _ = netip.ParseAddr(addr)
	c.counted = s.counted(c.client)
	return nil
}

// newRequestID needs to be unique, not secret.
func newRequestID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// checkFraming refuses what a proxy in front may read in another way than fasthttp does, so that the two disagree on where the next
// request begins: a header that goes on in the next line (RFC 9112, 5.2), a version that nobody speaks, and both Content-Length and
// Transfer-Encoding. The parsed header does not tell of the last, but fasthttp marks such a request for closing.
func checkFraming(ctx *fasthttp.RequestCtx) error {
	h := &ctx.Request.Header
	raw := h.RawHeaders()
	if bytes.Contains(raw, []byte("\n ")) || bytes.Contains(raw, []byte("\n\t")) || !knownVersion(h.Protocol()) {
		ctx.SetConnectionClose()
		return fault.New(fault.General)
	}
	if !h.ConnectionClose() {
		return nil
	}
	raw = bytes.ToLower(raw)
	if hasHeader(raw, "content-length:") && hasHeader(raw, "transfer-encoding:") {
		return fault.New(fault.General)
	}
	return nil
}

func knownVersion(v []byte) bool { return string(v) == "HTTP/1.1" || string(v) == "HTTP/1.0" }

// hasHeader tells whether a line of raw begins with name, colon included.
func hasHeader(raw []byte, name string) bool {
	return bytes.HasPrefix(raw, []byte(name)) || bytes.Contains(raw, []byte("\n"+name))
}

// match finds the route. Without one it returns why not, or nil after answering a preflight.
func (s *Server) match(ctx *fasthttp.RequestCtx) (*route, error) {
	method, path := string(ctx.Method()), string(ctx.URI().PathOriginal())
	inner, isAPI, err := splitAPI(path)
	if err != nil {
		return nil, err
	}
	if !isAPI {
		if r := lookup(s.plain, method, path, ctx); r != nil {
			return r, nil
		}
		// "/gateway/" is "/gateway".
		if trimmed := strings.TrimSuffix(path, "/"); trimmed != "" && trimmed != path {
			if r := lookup(s.plain, method, trimmed, ctx); r != nil {
				return r, nil
			}
		}
		return nil, notFound(ctx, allowed(s.plain, path))
	}
	inner = strings.ReplaceAll(inner, "/%40me", "/@me") // clients that escape every part of a path
	if r := lookup(s.api, method, inner, ctx); r != nil {
		return r, nil
	}
	if r := lookup(s.plain, method, path, ctx); r != nil {
		return r, nil
	}
	allow := allowed(s.api, inner)
	if method == fasthttp.MethodOptions && allow != "" {
		preflight(ctx, allow)
		return nil, nil
	}
	return nil, notFound(ctx, allow)
}

// splitAPI takes the mount point off a path: /api/v10, /api/v9 and /api are the same API.
func splitAPI(path string) (inner string, isAPI bool, err error) {
	inner, ok := strings.CutPrefix(path, "/api")
	if !ok || inner != "" && inner[0] != '/' {
		return path, false, nil
	}
	version, ok := strings.CutPrefix(inner, "/v")
	if !ok {
		return inner, true, nil
	}
	n := 0
	for n < len(version) && version[n] >= '0' && version[n] <= '9' {
		n++
	}
	if n == 0 || n < len(version) && version[n] != '/' {
		return inner, true, nil // "/api/voice/regions"
	}
	if v := version[:n]; v != "10" && v != "9" {
		return "", true, fault.New(fault.InvalidAPIVersion)
	}
	return version[n:], true, nil
}

// lookup returns the route of a path, or nil. HEAD is a GET whose body fasthttp leaves out.
func lookup(in lookuper, method, path string, ctx *fasthttp.RequestCtx) *route {
	if path == "" {
		return nil // the router does not expect it
	}
	if method == fasthttp.MethodHead {
		method = fasthttp.MethodGet
	}
	mark, _ := in.Lookup(method, path, ctx)
	if mark == nil {
		return nil
	}
	mark(ctx)
	return ctx.UserValue(routeKey{}).(*route)
}

// allowed lists the methods that a path has, for Allow; empty when the path does not exist.
func allowed(in lookuper, path string) string {
	if path == "" {
		return ""
	}
	var have []string
	for _, method := range methods {
		if mark, _ := in.Lookup(method, path, nil); mark != nil {
			have = append(have, method)
			if method == fasthttp.MethodGet {
				have = append(have, fasthttp.MethodHead)
			}
		}
	}
	if have == nil {
		return ""
	}
	have = append(have, fasthttp.MethodOptions)
	sort.Strings(have)
	return strings.Join(have, ", ")
}

func notFound(ctx *fasthttp.RequestCtx, allow string) error {
	if allow == "" {
		return fault.NotFound()
	}
	ctx.Response.Header.Set(fasthttp.HeaderAllow, allow)
	return fault.MethodNotAllowed()
}

// secure keeps answers from being taken for a page, framed, stored or named to others. What a service says itself stays.
func (s *Server) secure(h *fasthttp.ResponseHeader) {
	for _, line := range secureHeaders {
		if len(h.Peek(line[0])) == 0 {
			h.Set(line[0], line[1])
		}
	}
	if s.cfg.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

var secureHeaders = [][2]string{
	{"X-Content-Type-Options", "nosniff"},
	{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
	{"X-Frame-Options", "DENY"},
	{"Referrer-Policy", "no-referrer"},
	{"Cache-Control", "no-store"},
}

// preflight answers a browser's question before a request from another page.
func preflight(ctx *fasthttp.RequestCtx, allow string) {
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderAllow, allow)
	h.Set(fasthttp.HeaderAccessControlAllowMethods, allow)
	h.Set(fasthttp.HeaderAccessControlAllowHeaders, "Authorization, Content-Type, X-Audit-Log-Reason")
	h.Set(fasthttp.HeaderAccessControlMaxAge, "7200") // what browsers cap it at
	ctx.SetStatusCode(fasthttp.StatusNoContent)
}

// allowOrigin lets a page of another site read the answer, if it is one of ours: the origin as it is, never a part of it. A page that
// is not on the list gets nothing to read; it could not have acted for anybody either, because the token does not travel by itself.
func (s *Server) allowOrigin(ctx *fasthttp.RequestCtx) {
	origin := ctx.Request.Header.Peek(fasthttp.HeaderOrigin)
	if len(origin) == 0 || !bytes.HasPrefix(ctx.URI().PathOriginal(), []byte("/api")) {
		return
	}
	h := &ctx.Response.Header
	h.Add(fasthttp.HeaderVary, fasthttp.HeaderOrigin)
	if !slices.Contains(s.cfg.Origins, "*") && !slices.Contains(s.cfg.Origins, string(origin)) {
		return
	}
	h.SetBytesV(fasthttp.HeaderAccessControlAllowOrigin, origin)
	h.Set(fasthttp.HeaderAccessControlExposeHeaders, "Date, Retry-After, Via, X-RateLimit-Bucket, X-RateLimit-Global, "+
		"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-RateLimit-Reset-After, X-RateLimit-Scope, X-Request-ID")
}

// authenticate sets the identity of the call.
func (s *Server) authenticate(ctx *fasthttp.RequestCtx, c *Call, r *route) error {
	if r.public {
		return nil
	}
	raw := ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)
	if len(raw) == 0 || len(raw) > authorizationMax {
		return fault.Unauthorized()
	}
	who, err := s.deps.Authenticator.Authenticate(c.ctx, string(raw))
	if err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	c.identity = who
	if r.usersOnly && who.Bot {
		return fault.New(fault.NotForBots)
	}
	return nil
}

// fail answers with the fault inside err. What is our own failure is logged, once, here; what is away is said once for all whom it
// is refused to.
func (s *Server) fail(ctx *fasthttp.RequestCtx, c *Call, err error) {
	f := fault.From(err)
	switch {
	case f.Status == fasthttp.StatusServiceUnavailable:
		s.refusals.add(time.Now(), c.requestID, err)
	case f.Status >= 500:
		s.log.Error("request failed", "status", f.Status, "request_id", c.requestID, "err", err)
	}
	allow, closing := string(ctx.Response.Header.Peek(fasthttp.HeaderAllow)), ctx.Response.ConnectionClose()
	ctx.Response.Reset()
	ctx.Response.Header.SetNoDefaultContentType(true)
	if closing {
		ctx.SetConnectionClose()
	}
	if allow != "" {
		ctx.Response.Header.Set(fasthttp.HeaderAllow, allow)
	}
	writeFault(ctx, f)
}

// refuse answers a request that fasthttp could not read; the connection is closed after it.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, err error) {
	refusedTotal.Inc()
	f := fault.New(fault.General)
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		f = fault.TooLarge()
		s.drain(ctx)
	case errors.As(err, &small):
		f.Status, f.Message = fasthttp.StatusRequestHeaderFieldsTooLarge, "431: Request Header Fields Too Large"
	case isTimeout(err):
		f.Status, f.Message = fasthttp.StatusRequestTimeout, "408: Request Timeout"
	}
	ctx.Response.Reset()
	ctx.Response.Header.SetNoDefaultContentType(true)
	ctx.Response.Header.Set("X-Request-ID", newRequestID())
	s.secure(&ctx.Response.Header)
	writeFault(ctx, f)
}

// drain reads, for a moment, what the client is still sending. A connection that is closed with unread bytes is reset,
// and a reset can take the answer away from a client which has not read it yet.
func (s *Server) drain(ctx *fasthttp.RequestCtx) {
	const (
		bytesMax = 4 << 20                // beyond this a client loses its answer rather than we our time
		total    = time.Second            // for all of it
		quiet    = 100 * time.Millisecond // without a byte: the client is waiting for the answer
	)
	conn, end := ctx.Conn(), time.Now().Add(total)
	buf := make([]byte, 32<<10)
	for n := 0; n < bytesMax; {
		wait := time.Now().Add(quiet)
		if wait.After(end) {
			wait = end
		}
		if conn.SetReadDeadline(wait) != nil {
			return
		}
		k, err := conn.Read(buf)
		if err != nil {
			return
		}
		n += k
	}
}

// innerPath is the path of a request under the API.
func innerPath(h *fasthttp.RequestHeader) (inner string, ok bool) {
	path, _, _ := strings.Cut(string(h.RequestURI()), "?")
	inner, _, err := splitAPI(path)
	return inner, err == nil && inner != ""
}

// bodyLimit raises the limit for the routes that have a higher one. It runs for every request before its body is read,
// so it looks only at those that may need it.
func (s *Server) bodyLimit(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if n := h.ContentLength(); s.bulkMax == 0 || n >= 0 && n <= s.cfg.BodyBytesMax {
		return fasthttp.RequestConfig{}
	}
	inner, ok := innerPath(h)
	if !ok {
		return fasthttp.RequestConfig{}
	}
	if mark, _ := s.bulk.Lookup(string(h.Method()), inner, nil); mark == nil {
		return fasthttp.RequestConfig{}
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: s.bulkMax}
}
