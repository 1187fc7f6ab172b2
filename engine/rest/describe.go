package rest

import (
	"net/http"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/openapi"
)

// ReferencePath is where the description is to be read.
const ReferencePath = "/reference"

// overhear tells the Listener of an answer.
func overhear(r *route, res *fasthttp.Response) {
	if openapi.Listening == nil || r != nil && r.raw != nil {
		return
	}
	var told *openapi.Route
	if r != nil {
		told = &r.told
	}
	openapi.Listening.Answered(told, res.StatusCode(), string(res.Header.ContentType()), res.Body())
}

// Describe serves the description of all that was bound and forwarded so far, and of itself: at /openapi.json as OpenAPI 3.1, and at
// ReferencePath as a page. Both are written when they are first asked for.
func (s *Server) Describe() {
	var document, page func() []byte
	reference := Table[*Server]{
		GET("/openapi.json", func(*Server, *Call, None) (Raw, error) { return document(), nil }, Public(), Answers[map[string]any]()),
		GET(ReferencePath, func(*Server, *Call, None) (File, error) {
			return File{Type: "text/html; charset=utf-8", Policy: openapi.PagePolicy, Cache: "no-cache", Body: page()}, nil
		}, Public(), Root()),
	}
	Bind(s, reference, s)
	d, err := openapi.New(s.told)
	if err != nil {
		s.problems = append(s.problems, err)
		return
	}
	document, page = sync.OnceValue(d.JSON), sync.OnceValue(d.Page)
}

// Routes are those that were bound and forwarded.
func (s *Server) Routes() []openapi.Route { return slices.Clone(s.told) }

// told is the route as the description tells it.
func (sp spec) told(bodyMax int) openapi.Route {
	r := openapi.Route{
		Method: sp.method, Path: sp.path, Root: sp.root, Service: sp.service, Name: sp.name, Public: sp.public, UsersOnly: sp.usersOnly,
		In: sp.in, Body: sp.method != http.MethodGet, Out: sp.out, Status: sp.status, Empty: sp.empty, BodyMax: bodyMax, Files: sp.filesMax,
		IsID: func(name string) bool { return idParams[name] },
	}
	r.Limit, r.Window = sp.limit()
	if sp.bodyMax > 0 {
		r.BodyMax = sp.bodyMax
	}
	if sp.in == reflect.TypeFor[None]() {
		r.In = nil
	}
	switch sp.out {
	case reflect.TypeFor[None](), reflect.TypeFor[Raw]():
		r.Out = nil
	case reflect.TypeFor[File](), reflect.TypeFor[Download]():
		r.Out, r.Media = nil, "*/*"
	}
	return r
}

// nameOf finds the package of a service and the name of a handler that is one of its methods.
func nameOf(service reflect.Type, handler any) (of, name string) {
	if service.Kind() == reflect.Pointer {
		service = service.Elem()
	}
	whole := runtime.FuncForPC(reflect.ValueOf(handler).Pointer()).Name() // github.com/…/auth.(*Service).login
	name = whole[strings.LastIndexByte(whole, '.')+1:]
	if !strings.Contains(whole, ").") || strings.HasPrefix(name, "func") {
		name = ""
	}
	return path.Base(service.PkgPath()), name
}
