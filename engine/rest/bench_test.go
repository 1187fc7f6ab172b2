package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/limit"
)

type benchIn struct {
	Content string `json:"content" validate:"max=2000"`
	Nonce   string `json:"nonce" validate:"max=25"`
	TTS     bool   `json:"tts"`
}

type benchOut struct {
	ID      id.ID  `json:"id"`
	Channel id.ID  `json:"channel_id"`
	Content string `json:"content"`
}

const benchBody = `{"content":"the quick brown fox jumps over the lazy dog, twice","nonce":"1234567890123456789","tts":false}`

// BenchmarkPost measures a bound POST over one connection in memory, and its ratio to bare fasthttp that decodes and
// encodes the same bodies and to bare fasthttp that does neither. ns/op and allocs are those of the three together.
func BenchmarkPost(b *testing.B) {
	const never = 1 << 40 // limits are counted, and not reached
	s := New(Config{Limits: Limits{UserPerSecond: never, AddrMax: never}}, Deps{Authenticator: tokens{}, Limiter: limit.New(nil, limit.Config{Gateway: "g"})})
	Bind(s, Table[*site]{
		POST("/channels/{channel}/messages", func(_ *site, c *Call, in benchIn) (benchOut, error) {
			return benchOut{5, c.ID("channel"), in.Content}, nil
		}, Limit(never, time.Hour)),
	}, newSite(""))
	routed := s.newHTTP(context.Background())
	plain := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		var in benchIn
		if err := json.Unmarshal(ctx.PostBody(), &in); err != nil {
			b.Error(err)
		}
		out, err := json.Marshal(benchOut{5, 6, in.Content})
		if err != nil {
			b.Error(err)
		}
		ctx.Response.Header.SetContentType(contentType)
		ctx.SetBody(out)
	}}
	empty := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString(benchBody) }}
	peers := []*peer{newPeer(b, routed), newPeer(b, plain), newPeer(b, empty)}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		// One after the other, so that whatever else the machine does hits all three alike.
		for _, p := range peers {
			p.post(b)
		}
	}
	b.StopTimer()
	per := func(p *peer) float64 { return float64(p.took.Nanoseconds()) / float64(b.N) }
	b.ReportMetric(per(peers[0]), "routed-ns/op")
	b.ReportMetric(per(peers[0])/per(peers[1]), "x-bare-with-json")
	b.ReportMetric(per(peers[0])/per(peers[2]), "x-bare")
	for _, p := range peers {
		p.close(b)
	}
}

// peer is a server and one connection to it.
type peer struct {
	ln   *fasthttputil.InmemoryListener
	conn net.Conn
	r    *bufio.Reader
	res  fasthttp.Response
	took time.Duration
	done chan error
}

func newPeer(b *testing.B, server *fasthttp.Server) *peer {
	b.Helper()
	p := &peer{ln: fasthttputil.NewInmemoryListener(), done: make(chan error, 1)}
	go func() { p.done <- server.Serve(p.ln) }()
	var err error
	if p.conn, err = p.ln.Dial(); err != nil {
		b.Fatal(err)
	}
	p.r = bufio.NewReader(p.conn)
	return p
}

var benchRequest = fmt.Appendf(nil, "POST /api/v10/channels/1234567890123456789/messages HTTP/1.1\r\nHost: a\r\nUser-Agent: bench\r\n"+
	"Authorization: user\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(benchBody), benchBody)

func (p *peer) post(b *testing.B) {
	began := time.Now()
	if _, err := p.conn.Write(benchRequest); err != nil {
		b.Fatal(err)
	}
	if err := p.res.Read(p.r); err != nil || p.res.StatusCode() != 200 {
		b.Fatal(err, p.res.StatusCode(), string(p.res.Body()))
	}
	p.took += time.Since(began)
}

func (p *peer) close(b *testing.B) {
	b.Helper()
	if err := p.conn.Close(); err != nil {
		b.Error(err)
	}
	if err := p.ln.Close(); err != nil {
		b.Error(err)
	}
	if err := <-p.done; err != nil && err != io.EOF {
		b.Error(err)
	}
}
