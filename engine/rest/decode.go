package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

// fieldsMax bounds how many mistakes of one body are told: the answer must not be larger than the question.
const fieldsMax = 50

// Checker is an In that knows rules which tags cannot say. Check runs after the tags have passed; its error is the answer.
type Checker interface{ Check() error }

// input is what decode knows of a route's In, found out once, in Bind.
type input struct {
	none  bool
	body  bool // JSON body, else only the query
	list  bool // In is a slice
	query []queryField
}

// queryField is one field tagged `query:"…"`.
type queryField struct {
	name  string
	index []int
	typ   reflect.Type // without its pointer; of a list: of its elements
	list  bool
}

func (s *Server) newInput(method string, t reflect.Type) (in *input, err error) {
	in = &input{none: t == reflect.TypeFor[None](), body: method != http.MethodGet, list: t.Kind() == reflect.Slice}
	if in.none {
		return in, nil
	}
	if t.Kind() != reflect.Struct && !in.list {
		return nil, fmt.Errorf("input %v is neither a struct nor a list", t)
	}
	if in.list && !in.body {
		return nil, fmt.Errorf("input %v of a GET is not a struct", t)
	}
	if in.list {
		return in, nil
	}
	for _, f := range reflect.VisibleFields(t) {
		name := f.Tag.Get("query")
		if name == "" {
			continue
		}
		q := queryField{name: name, index: f.Index, typ: f.Type}
		if q.list = q.typ.Kind() == reflect.Slice; q.list || q.typ.Kind() == reflect.Pointer {
			q.typ = q.typ.Elem()
		}
		if _, err := parseQuery(q.typ, "1"); errors.Is(err, errQueryType) {
			return nil, fmt.Errorf("query field %s: %w", f.Name, err)
		}
		in.query = append(in.query, q)
	}
	// The validator panics on tags that it does not know: better now than on the first request.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("input %v: %v", t, p)
		}
	}()
	_ = s.validate.Struct(reflect.New(t).Interface()) // the zero value may be invalid; only the panic matters
	return in, nil
}

// decode fills v, a pointer to an In, from the request and checks it: JSON, types, then tags, then Check. All mistakes of
// fields are told at once, except that Check sees only what is right by its tags.
func (s *Server) decode(ctx *fasthttp.RequestCtx, in *input, v any) error {
	if in.none {
		return nil
	}
	var wrong []fault.Field
	if in.body {
		body, err := readBody(ctx)
		if err != nil {
			return err
		}
		if wrong, err = decodeBody(body, in.list, v); err != nil {
			return err
		}
	}
	wrong = append(wrong, decodeQuery(ctx, in.query, v)...)
	wrong = append(wrong, s.check(v, wrong)...)
	if len(wrong) > 0 {
		return fault.Invalid(wrong[:min(len(wrong), fieldsMax)]...)
	}
	if c, ok := v.(Checker); ok {
		return c.Check()
	}
	return nil
}

// readBody returns the body, or nil when there is none, and refuses what is not plain JSON by its headers.
func readBody(ctx *fasthttp.RequestCtx) ([]byte, error) {
	body := ctx.PostBody()
	if len(body) == 0 {
		return nil, nil // a type without content says nothing
	}
	h := &ctx.Request.Header
	if t := h.ContentType(); string(t) != contentType {
		media, _, err := mime.ParseMediaType(string(t))
		if err != nil || media != contentType {
			return nil, fault.UnsupportedMediaType()
		}
	}
	if e := h.ContentEncoding(); len(e) > 0 && string(e) != "identity" {
		return nil, fault.UnsupportedMediaType() // also keeps decompression bombs out
	}
	return body, nil
}

// invalidJSON is one fault for everything that is not JSON as we read it.
func invalidJSON(cause error) error {
	f := fault.Wrap(fault.InvalidJSON, cause)
	f.Message = "The request body contains invalid JSON."
	return f
}

// decodeBody unmarshals a body, and if that fails finds out at which fields and decodes the rest.
func decodeBody(body []byte, list bool, v any) (wrong []fault.Field, err error) {
	if len(body) == 0 {
		if list {
			return nil, invalidJSON(errors.New("empty body"))
		}
		return nil, nil // an object without keys
	}
	if !utf8.Valid(body) {
		return nil, invalidJSON(errors.New("not UTF-8"))
	}
	nul, err := scan(body)
	if err != nil {
		return nil, invalidJSON(err)
	}
	err = json.Unmarshal(body, v)
	if err == nil && !nul {
		return nil, nil
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, invalidJSON(err)
	}
	return diagnose(body, v)
}

var errQueryType = errors.New("type cannot stand in a query")

// decodeQuery fills the fields of v that come from the query. A key that is there twice counts once, the first time, unless the field
// is a list.
func decodeQuery(ctx *fasthttp.RequestCtx, fields []queryField, v any) (wrong []fault.Field) {
	if len(fields) == 0 {
		return nil
	}
	args := ctx.QueryArgs()
	target := reflect.ValueOf(v).Elem()
	for _, q := range fields {
		if q.list {
			wrong = append(wrong, decodeList(args, q, target.FieldByIndex(q.index))...)
			continue
		}
		raw := args.Peek(q.name)
		if raw == nil {
			continue
		}
		got, err := parseQuery(q.typ, string(raw))
		if err != nil {
			wrong = append(wrong, typeField(q.name, q.typ))
			continue
		}
		at := target.FieldByIndex(q.index)
		if at.Kind() == reflect.Pointer {
			p := reflect.New(q.typ)
			p.Elem().Set(got)
			got = p
		}
		at.Set(got)
	}
	return wrong
}

// decodeList fills a list with all values of its key.
func decodeList(args *fasthttp.Args, q queryField, to reflect.Value) (wrong []fault.Field) {
	for i, raw := range args.PeekMulti(q.name) {
		got, err := parseQuery(q.typ, string(raw))
		if err != nil {
			wrong = append(wrong, typeField(q.name+"."+strconv.Itoa(i), q.typ))
			continue
		}
		to.Set(reflect.Append(to, got))
	}
	return wrong
}

// parseQuery reads one value.
func parseQuery(t reflect.Type, s string) (reflect.Value, error) {
	v := reflect.New(t).Elem()
	var err error
	switch {
	case t == reflect.TypeFor[id.ID]():
		var i id.ID
		i, err = id.Parse(s)
		v.SetUint(uint64(i))
	case t.Kind() == reflect.String:
		if !utf8.ValidString(s) || bytes.IndexByte([]byte(s), 0) >= 0 {
			err = errors.New("not text")
		}
		v.SetString(s)
	case t.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(s)
		v.SetBool(b)
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(s, 10, t.Bits())
		v.SetInt(n)
	case v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(s, 10, t.Bits())
		v.SetUint(n)
	default:
		err = fmt.Errorf("%w: %v", errQueryType, t)
	}
	return v, err
}
