package rest

import (
	"reflect"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
)

// FuzzDecode hands a body and a query to the decoder of several endpoints. Whatever they are, they are taken or refused with a 400 that
// tells nothing of the inside, and what is taken is within its bounds.
func FuzzDecode(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"content":"hello","nonce":5,"flags":4,"embeds":[{"title":"t","fields":[{"name":"n","value":"v"}]}]}`, ""},
		{`{"content":null,"embeds":[{"color":-1}],"allowed_mentions":{"parse":["everyone"],"users":["1","x"]}}`, "limit=5"},
		{`{"username":"ada","password":"correct horse","email":"ada@example.org"}`, ""}, {`{"username":"\u0000","password":7}`, ""},
		{`{"name":"n","type":0,"permission_overwrites":[{"id":"1","type":0,"allow":"8","deny":8}]}`, "x=%zz"},
		{`[{"id":"1","position":1},{"id":null}]`, ""}, {`[[[[[[[[`, "limit=1&limit=%00"}, {`{"content":"a","content":"b"}`, "before=1&after=18446744073709551616"},
		{`{"content":"\ud800"}`, "limit=-1"}, {"{\"content\":\"\xff\"}", "limit=\xff"}, {`{"flags":1e999}`, ""}, {"", ""}, {`{"a":{"a":{"a":{"a":{}}}}}`, ""},
	} {
		f.Add([]byte(seed[0]), seed[1])
	}
	s := New(Config{}, Deps{})
	type page struct {
		Limit  *int    `query:"limit" validate:"omitnil,min=1,max=100"`
		Before *string `query:"before"`
	}
	targets := []any{wire.CreateMessage{}, wire.Register{}, wire.CreateChannel{}, wire.UpdateGuild{}, wire.EndSessions{}, []wire.MoveRole{}, page{}}
	inputs := make([]*input, len(targets))
	for i, target := range targets {
		method := fasthttp.MethodPost
		if _, query := target.(page); query {
			method = fasthttp.MethodGet
		}
		in, err := s.newInput(method, reflect.TypeOf(target))
		if err != nil {
			f.Fatal(err)
		}
		inputs[i] = in
	}
	f.Fuzz(func(t *testing.T, body []byte, query string) {
		for i, in := range inputs {
			var ctx fasthttp.RequestCtx
			ctx.Request.Header.SetMethod(fasthttp.MethodPost)
			ctx.Request.Header.SetContentType(contentType)
			ctx.Request.URI().SetQueryString(query)
			ctx.Request.SetBody(body)
			v := reflect.New(reflect.TypeOf(targets[i]))
			err := s.decode(&ctx, in, v.Interface())
			if err != nil && fault.From(err).Status != fasthttp.StatusBadRequest {
				t.Errorf("%T: %q: %v", targets[i], body, err)
			}
			if p, ok := v.Interface().(*page); ok && err == nil && p.Limit != nil && (*p.Limit < 1 || *p.Limit > 100) {
				t.Errorf("%q: a limit of %d", query, *p.Limit)
			}
			if r, ok := v.Interface().(*wire.Register); ok && err == nil && (len(r.Username) < 2 || len(r.Password) < 8) {
				t.Errorf("%q: %+v", body, r)
			}
		}
	})
}
