package rest

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// Download as Out is a file that is sent as it is read, whole or a range of it (RFC 9110, 14), or not at all to who has it already.
type Download struct {
	Type   string // of the content; browsers are told not to guess another
	Name   string // for the client's disk: what FileName makes
	Inline bool   // a browser may show it; else it saves it
	Size   int64  // in bytes
	Tag    string // names this content: another content has another tag
	Policy string // its Content-Security-Policy
	Cache  string // its Cache-Control
	// Open gives n bytes from from on. They are closed when they are sent, or cannot be.
	Open func(from, n int64) (io.ReadCloser, error)
}

// downloadPace is how many bytes a client must take in a second, over all of a file.
const downloadPace = 16 << 10

// DownloadTime is how long a client may take for n bytes, besides what every answer has.
func DownloadTime(n int64) time.Duration { return time.Duration(n) * time.Second / downloadPace }

func allowTime(ctx *fasthttp.RequestCtx, usual time.Duration, n int64) error {
	return ctx.SetWriteDeadline(time.Now().Add(usual + DownloadTime(n)))
}

func (d Download) write(ctx *fasthttp.RequestCtx, usual time.Duration) error {
	h := &ctx.Response.Header
	h.SetContentType(d.Type)
	h.Set(fasthttp.HeaderContentSecurityPolicy, d.Policy)
	h.Set(fasthttp.HeaderCacheControl, d.Cache)
	h.Set(fasthttp.HeaderContentDisposition, d.disposition())
	h.Set(fasthttp.HeaderAcceptRanges, "bytes")
	tag := `"` + d.Tag + `"`
	h.Set(fasthttp.HeaderETag, tag)
	if names(ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch), tag) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return nil
	}
	from, n, part, ok := d.span(&ctx.Request.Header, tag)
	if !ok {
		h.Set(fasthttp.HeaderContentRange, "bytes */"+strconv.FormatInt(d.Size, 10))
		ctx.SetStatusCode(fasthttp.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	if part {
		ctx.SetStatusCode(fasthttp.StatusPartialContent)
		h.Set(fasthttp.HeaderContentRange, fmt.Sprintf("bytes %d-%d/%d", from, from+n-1, d.Size))
	}
	if ctx.IsHead() {
		ctx.Response.SkipBody = true
		h.SetContentLength(int(n))
		return nil
	}
	body, err := d.Open(from, n)
	if err != nil {
		return err
	}
	ctx.Response.SetBodyStream(body, int(n))
	return allowTime(ctx, usual, n)
}

// disposition names the file also to who reads only ASCII.
func (d Download) disposition() string {
	kind := "attachment"
	if d.Inline {
		kind = "inline"
	}
	ascii := strings.Map(func(r rune) rune {
		if r > 0x7e || r == '"' || r == '\\' || r < ' ' {
			return '_'
		}
		return r
	}, d.Name)
	out := kind + `; filename="` + ascii + `"`
	if ascii != d.Name {
		out += "; filename*=UTF-8''" + url.PathEscape(d.Name)
	}
	return out
}

// names says whether a list of tags has one in it.
func names(list []byte, tag string) bool {
	for each := range bytes.SplitSeq(list, []byte(",")) {
		each = bytes.TrimPrefix(bytes.TrimSpace(each), []byte("W/"))
		if string(each) == tag || string(each) == "*" {
			return true
		}
	}
	return false
}

// span is what part of the file is wanted. What is no single range of bytes, or one of another content, means all of it.
func (d Download) span(h *fasthttp.RequestHeader, tag string) (from, n int64, part, ok bool) {
	raw := h.Peek(fasthttp.HeaderRange)
	if d.Size == 0 || !bytes.HasPrefix(raw, []byte("bytes=")) || bytes.IndexByte(raw, ',') >= 0 {
		return 0, d.Size, false, true
	}
	if other := h.Peek(fasthttp.HeaderIfRange); len(other) > 0 && string(other) != tag {
		return 0, d.Size, false, true
	}
	first, last, err := fasthttp.ParseByteRange(raw, int(d.Size))
	if err != nil {
		return 0, 0, false, false
	}
	return int64(first), int64(last-first) + 1, true, true
}
