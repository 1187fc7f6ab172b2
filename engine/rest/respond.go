package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
)

// contentType has no charset: some clients compare it as a whole.
const contentType = "application/json"

// buffers are for encoding; what has grown beyond bufferKeepMax is not kept, so that one large answer does not stay for ever.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const bufferKeepMax = 64 << 10

// encode writes the answer of a handler.
func encode(ctx *fasthttp.RequestCtx, status int, answer any) error {
	switch a := answer.(type) {
	case None:
		ctx.SetStatusCode(status)
		return nil
	case Raw:
		if len(a) == 0 {
			ctx.SetStatusCode(fasthttp.StatusNoContent)
			return nil
		}
		writeHead(ctx, status)
		ctx.Response.SetBodyRaw(a)
		return nil
	case File:
		ctx.SetStatusCode(status)
		h := &ctx.Response.Header
		h.SetContentType(a.Type)
		h.Set(fasthttp.HeaderContentSecurityPolicy, a.Policy)
		h.Set(fasthttp.HeaderCacheControl, a.Cache)
		ctx.Response.SetBodyRaw(a.Body)
		return nil
	}
	if v := reflect.ValueOf(answer); v.Kind() == reflect.Slice && v.IsNil() {
		writeHead(ctx, status)
		ctx.Response.SetBodyString("[]") // a list without elements is never null on the wire
		return nil
	}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	defer func() {
		if buf.Cap() <= bufferKeepMax {
			buffers.Put(buf)
		}
	}()
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false) // our bodies are never part of a page
	if err := e.Encode(answer); err != nil {
		return fmt.Errorf("encode %T: %w", answer, err)
	}
	writeHead(ctx, status)
	ctx.Response.SetBody(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
	return nil
}

func writeHead(ctx *fasthttp.RequestCtx, status int) {
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType(contentType)
}

// writeFault writes the public part of a fault, and nothing else of it.
func writeFault(ctx *fasthttp.RequestCtx, f *fault.Fault) {
	body := map[string]any{"code": f.Code, "message": f.Message}
	if len(f.Fields) > 0 {
		body["errors"] = errorTree(f.Fields)
	}
	h := &ctx.Response.Header
	if f.RetryAfter > 0 {
		h.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	if f.Status == fasthttp.StatusTooManyRequests {
		body["retry_after"] = f.RetryAfter.Seconds()
		body["global"] = f.Global
		h.Set(fasthttp.HeaderVia, "1.1 xcord") // some clients take a 429 without it for one of a proxy's
		scope := "user"
		switch {
		case f.Global:
			scope = "global"
			h.Set("X-RateLimit-Global", "true")
		case f.Code == fault.ChannelWrite:
			scope = "shared"
		}
		h.Set("X-RateLimit-Scope", scope)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("BUG: a fault does not encode: %v", err))
	}
	writeHead(ctx, f.Status)
	ctx.Response.SetBody(raw)
}

// errorTree turns "embeds.0.title" into nested objects whose leaves are lists under "_errors".
func errorTree(fields []fault.Field) map[string]any {
	type leaf struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	root := map[string]any{}
	for _, f := range fields {
		at := root
		for key := range strings.SplitSeq(f.Path, ".") {
			if key == "" {
				continue // the body as a whole
			}
			next, ok := at[key].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		leaves, _ := at["_errors"].([]leaf)
		at["_errors"] = append(leaves, leaf{f.Code, f.Message})
	}
	return root
}
