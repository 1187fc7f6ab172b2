package rest

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/limit"
)

// reasonRunesMax is the length of an audit-log reason on the wire.
const reasonRunesMax = 512

// superPropertiesMax is several times what clients send.
const superPropertiesMax = 2 << 10

// idParams are the path parameters that are ids; every other one is text.
var idParams = map[string]bool{
	"application": true, "attachment": true, "bot": true, "channel": true, "guild": true, "message": true,
	"overwrite": true, "role": true, "user": true, "webhook": true,
}

// Call is one request, for its handler. Every string in it is a copy. It belongs to the handler's goroutine.
type Call struct {
	ctx        context.Context // ends when the request's time is over; in a struct because a Call lives exactly as long
	identity   Identity
	params     []param
	requestID  string
	remoteAddr string
	userAgent  string
	properties string
	host       string
	proxied    bool
	reason     string
	files      []Upload

	route   *route // nil: none
	client  netip.Addr
	counted bool          // by address
	verdict limit.Verdict // of the route's limit
	bucket  string
}

type param struct {
	name string
	text string
	id   id.ID
}

// Context ends at the request's deadline.
func (c *Call) Context() context.Context { return c.ctx }

// Identity is who calls; zero on a Public route.
func (c *Call) Identity() Identity { return c.identity }

// User is the id of who calls; 0 on a Public route.
func (c *Call) User() id.ID { return c.identity.User }

// ID is a path parameter that is an id. It was checked before the handler ran.
func (c *Call) ID(name string) id.ID {
	if !idParams[name] {
		panic(fmt.Sprintf("BUG: path parameter %q is not an id", name))
	}
	return c.param(name).id
}

// Param is a path parameter with its percent-escapes resolved: valid UTF-8 without control characters.
func (c *Call) Param(name string) string { return c.param(name).text }

func (c *Call) param(name string) param {
	for _, p := range c.params {
		if p.name == name {
			return p
		}
	}
	panic(fmt.Sprintf("BUG: the route has no path parameter %q", name))
}

// Reason is the X-Audit-Log-Reason, or else the query's reason, resolved and cut to 512 characters.
func (c *Call) Reason() string { return c.reason }

// Files are those of the request's form, in the order in which they came; none unless the route has the option Form.
func (c *Call) Files() []Upload { return c.files }

// RequestID names the request in logs and in the answer's X-Request-ID, on every process that it passes.
func (c *Call) RequestID() string { return c.requestID }

// RemoteAddr is the client's IP address, without a port.
func (c *Call) RemoteAddr() string { return c.remoteAddr }

// Client is RemoteAddr, and whether limits by address count it.
func (c *Call) Client() (addr netip.Addr, counted bool) { return c.client, c.counted }

// UserAgent is what the client says it is.
func (c *Call) UserAgent() string { return c.userAgent }

// SuperProperties is what some clients say of themselves besides: base64 of JSON, if it is what it should be; not longer than 2 KiB.
func (c *Call) SuperProperties() string { return c.properties }

// Host is the host that the client asked for, as it wrote it: not to be trusted.
func (c *Call) Host() string { return c.host }

// Proxied is whether the request says that it came by way of a proxy, whether one of ours or not.
func (c *Call) Proxied() bool { return c.proxied }

// proxyHeaders are what proxies add.
var proxyHeaders = []string{fasthttp.HeaderXForwardedFor, fasthttp.HeaderXForwardedHost, fasthttp.HeaderXForwardedProto, fasthttp.HeaderForwarded, fasthttp.HeaderVia, "X-Real-IP"}

// readHeaders copies what handlers may ask for.
func (c *Call) readHeaders(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	c.userAgent = string(h.UserAgent())
	c.host = string(h.Host())
	c.proxied = slices.ContainsFunc(proxyHeaders, func(name string) bool { return len(h.Peek(name)) > 0 })
	if raw := h.Peek("X-Super-Properties"); len(raw) <= superPropertiesMax {
		c.properties = string(raw)
	}
	if raw := h.Peek("X-Audit-Log-Reason"); len(raw) > 0 {
		reason := string(raw)
		if plain, err := url.PathUnescape(reason); err == nil {
			reason = plain
		}
		c.reason = cleanReason(reason)
	} else if raw := ctx.QueryArgs().Peek("reason"); len(raw) > 0 { // as some clients still send it
		c.reason = cleanReason(string(raw))
	}
}

func cleanReason(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if utf8.RuneCountInString(s) > reasonRunesMax {
		s = string([]rune(s)[:reasonRunesMax])
	}
	return s
}

// readParams takes the path parameters from the router and refuses malformed ones, all at once.
func (c *Call) readParams(ctx *fasthttp.RequestCtx, names []string) error {
	if len(names) == 0 {
		return nil
	}
	var wrong []fault.Field
	c.params = make([]param, len(names))
	for i, name := range names {
		raw, _ := ctx.UserValue(name).(string) // the router's own copy
		p := param{name: name, text: raw}
		if idParams[name] {
			var err error
			if p.id, err = id.Parse(raw); err != nil || p.id == 0 {
				wrong = append(wrong, fault.Field{Path: name + "_id", Code: fault.FieldCoerce, Message: messageSnowflake})
			}
		} else if text, err := url.PathUnescape(raw); err == nil && isText(text) {
			p.text = text
		} else {
			wrong = append(wrong, fault.Field{Path: name, Code: fault.FieldRegex, Message: messageRegex})
		}
		c.params[i] = p
	}
	if wrong != nil {
		return fault.Invalid(wrong...)
	}
	return nil
}

// isText tells whether s can be a name: valid UTF-8 without control characters.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
