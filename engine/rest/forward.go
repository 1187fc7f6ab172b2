package rest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
)

const (
	// upstreamConnsMax bounds the connections to one address. Each carries one request at a time, so at 10 ms a request
	// this is 25,000 requests a second.
	upstreamConnsMax = 256
	// upstreamConnWait is how long a request waits for one of them before the next address is tried.
	upstreamConnWait = time.Second
	// upstreamDialTimeout: processes of one installation are near each other.
	upstreamDialTimeout = time.Second
	// upstreamIdleTimeout is shorter than the server's IdleTimeout, so that it is we who close and no request meets a
	// connection that is just being closed.
	upstreamIdleTimeout = 30 * time.Second
	// upstreamStall is how long nothing may come of a download that has begun. Its pace is its client's, and its end the other process's
	// to say.
	upstreamStall = time.Minute
	// upstreamBodyMax bounds an answer: a thousand members have about 1 MiB.
	upstreamBodyMax = 16 << 20
	// proofLife is how long a proof is good; the services must not accept more than 30 s.
	proofLife = 30 * time.Second
	// forwardGrace is what the forwarding process waits longer than the request's own time, so that the upstream's own
	// answer about that arrives.
	forwardGrace = time.Second
)

// Upstream is another process that serves a table, at one or more addresses. It may be given to several Forward of one
// server.
type Upstream struct {
	Addrs []string // host:port

	once sync.Once
	// clients and downloads have one for each address. A download has its connection for as long as its client takes, so they have
	// others, and as many: slow clients cannot use up what requests need.
	clients, downloads []*fasthttp.HostClient
	next               atomic.Uint32 // round robin
}

// errDial marks a request that was surely not sent.
var errDial = errors.New("connect")

func (u *Upstream) open() {
	u.once.Do(func() {
		dial := func(addr string) (net.Conn, error) {
			conn, err := net.DialTimeout("tcp", addr, upstreamDialTimeout)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errDial, err)
			}
			return conn, nil
		}
		open := func(addr string, dial fasthttp.DialFunc) *fasthttp.HostClient {
			return &fasthttp.HostClient{
				Addr: addr, Dial: dial,
				MaxConns: upstreamConnsMax, MaxConnWaitTimeout: upstreamConnWait,
				MaxIdleConnDuration:       upstreamIdleTimeout,
				MaxResponseBodySize:       upstreamBodyMax, // not of downloads
				MaxIdemponentCallAttempts: 1,               // attempts are ours to count
				NoDefaultUserAgentHeader:  true,
				DisablePathNormalizing:    true, // "%2F" in a path must arrive as it came
				SecureErrorLogMessage:     true,
			}
		}
		for _, addr := range u.Addrs {
			u.clients = append(u.clients, open(addr, dial))
			u.downloads = append(u.downloads, open(addr, func(addr string) (net.Conn, error) {
				conn, err := dial(addr)
				return lasting{conn}, err
			}))
		}
	})
}

// lasting is a connection whose deadline for reading is for the next bytes, not for all that come: an answer's head has the time that was
// set, each piece of its body upstreamStall.
type lasting struct{ net.Conn }

func (c lasting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(upstreamStall))
	}
	return n, err
}

func (u *Upstream) closeIdle() {
	for _, c := range slices.Concat(u.clients, u.downloads) {
		c.CloseIdleConnections()
	}
}

// do sends a request to one address after another until one answers; the body of an answer that is streamed comes later. A request that may have been received is sent again
// only if that changes nothing.
func (u *Upstream) do(req *fasthttp.Request, resp *fasthttp.Response, deadline time.Time) error {
	clients := u.clients
	if resp.StreamBody {
		clients = u.downloads
	}
	if len(clients) == 0 {
		return errors.New("no address is configured")
	}
	var errs []error
	first := u.next.Add(1)
	// A single address gets a second attempt too: its kept connections may all be dead after a restart.
	for i := range uint32(max(len(clients), 2)) {
		client := clients[(first+i)%uint32(len(clients))]
		err := client.DoDeadline(req, resp, deadline)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", client.Addr, err))
		if errors.Is(err, errDial) || errors.Is(err, fasthttp.ErrNoFreeConns) {
			continue // it was not sent
		}
		if !req.Header.IsGet() && !req.Header.IsHead() || time.Now().After(deadline) {
			break
		}
		client.CloseIdleConnections() // kept connections die together
	}
	return errors.Join(errs...)
}

// forward passes a request on to another process, and its answer back as it is.
func (s *Server) forward(c *Call, ctx *fasthttp.RequestCtx, up *Upstream) error {
	req := fasthttp.AcquireRequest()
	defer fasthttp.ReleaseRequest(req)
	req.Header.SetMethodBytes(ctx.Method())
	copyHeaders(ctx, req)
	uri := string(ctx.URI().PathOriginal())
	if query := ctx.URI().QueryString(); len(query) > 0 {
		uri += "?" + string(query)
	}
	req.SetRequestURI(uri)
	req.UseHostHeader = true // the name that the client asked for; where the request goes is the pool's to know
	req.Header.Set("X-Request-ID", c.requestID)
	if c.proxied {
		req.Header.Set(fasthttp.HeaderVia, "1.1 xcord") // where the client came from stands in the proof, but not by which way
	}
	req.Header.Set(proofHeader, s.deps.Signer.Sign(c.remoteAddr, c.requestID, time.Now().Add(proofLife)))
	deadline := time.Now().Add(s.cfg.RequestTimeout + forwardGrace)
	if ctx.Request.IsBodyStream() {
		deadline = deadline.Add(s.uploadTime())
		req.SetBodyStream(s.paced(ctx), ctx.Request.Header.ContentLength())
	} else {
		req.SetBodyRaw(ctx.PostBody())
	}
	if err := up.do(req, &ctx.Response, deadline); err != nil {
		if c.ctx.Err() != nil {
			err = errors.Join(err, context.Cause(c.ctx))
		}
		return fault.Unavailable(fmt.Errorf("forward %s: %w", ctx.Method(), err), 0)
	}
	h := &ctx.Response.Header
	for _, name := range append(listed(h.PeekAll(fasthttp.HeaderConnection)), hopByHop...) {
		h.Del(name)
	}
	h.Del(fasthttp.HeaderDate) // the server writes its own
	h.ResetConnectionClose()
	if ctx.Response.IsBodyStream() {
		return allowTime(ctx, s.cfg.WriteTimeout, int64(max(0, h.ContentLength())))
	}
	return nil
}

// hopByHop are the headers that belong to one connection (RFC 9110, section 7.6.1), with the old ones of that kind.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// ours are headers which another process must not take from a client, or which are set anew for it.
var ours = []string{"Content-Length", "Expect", "Forwarded", "X-Request-Id", proofHeader}

// copyHeaders copies what is meant for the other end.
func copyHeaders(ctx *fasthttp.RequestCtx, req *fasthttp.Request) {
	drop := slices.Concat(hopByHop, ours, listed(ctx.Request.Header.PeekAll(fasthttp.HeaderConnection)))
	for k, v := range ctx.Request.Header.All() {
		name := http.CanonicalHeaderKey(string(k))
		if !slices.Contains(drop, name) && !strings.HasPrefix(name, "X-Forwarded-") {
			req.Header.AddBytesKV(k, v)
		}
	}
}

// listed are the headers that a Connection header names: they end here too.
func listed(connection [][]byte) (names []string) {
	for _, value := range connection {
		for name := range strings.SplitSeq(string(value), ",") {
			names = append(names, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	return names
}
