package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// object is JSON in the making.
type object = map[string]any

// way is who writes the JSON that a schema is of: what is never null in an answer may be null in a request, where null stands for absent.
type way int

const (
	answer way = iota
	request
)

// either is a type that is written as one of several.
type either interface{ Either() []any }

// digits are ids, and sets of permissions.
func digits() object { return object{"type": "string", "pattern": "^[0-9]{1,20}$"} }

// leaves are the types whose JSON is not what reflection would say, without the null of those that have one.
var leaves = map[reflect.Type]func(way) object{
	reflect.TypeFor[id.ID](): func(way) object { return digits() },
	reflect.TypeFor[perm.Bits](): func(w way) object {
		if w == request {
			return object{"type": []string{"string", "integer"}, "pattern": "^[0-9]{1,20}$", "minimum": 0}
		}
		return digits()
	},
	reflect.TypeFor[wire.Time]():          func(way) object { return object{"type": "string", "format": "date-time"} },
	reflect.TypeFor[wire.Null]():          func(way) object { return object{"type": "null"} },
	reflect.TypeFor[wire.Discriminator](): func(way) object { return object{"type": "string"} },
	reflect.TypeFor[wire.Nonce]():         func(way) object { return object{"type": []string{"string", "integer"}, "maxLength": wire.NonceMax} },
	reflect.TypeFor[json.RawMessage]():    func(way) object { return object{} },
}

// zeroIsNull are the leaves that write null when they are none.
var zeroIsNull = map[reflect.Type]bool{reflect.TypeFor[id.ID](): true, reflect.TypeFor[wire.Time](): true}

// schemas collects the named schemas of a document while they are referred to.
type schemas struct {
	named map[string]any
	names map[typed]string
	taken map[string]bool
	wrong []error
}

// typed is a type in one of its two ways.
type typed struct {
	t reflect.Type
	w way
}

func newSchemas() *schemas {
	return &schemas{named: map[string]any{}, names: map[typed]string{}, taken: map[string]bool{}}
}

// of is the schema of a type, by reference if it is a struct with a name.
func (s *schemas) of(t reflect.Type, w way) object {
	if leaf, ok := leaves[t]; ok {
		return leaf(w)
	}
	if inner := optional(t); inner != nil {
		return orNull(s.of(inner, w))
	}
	if one, ok := reflect.Zero(t).Interface().(either); ok {
		var out []object
		for _, v := range one.Either() {
			out = append(out, s.of(reflect.TypeOf(v), w))
		}
		return object{"anyOf": out}
	}
	if t.Kind() == reflect.Pointer {
		return orNull(s.of(t.Elem(), w))
	}
	if t.Kind() != reflect.Slice && marshalsItself(t) {
		s.wrong = append(s.wrong, fmt.Errorf("%v says itself how it is written: say so in leaves, too", t))
		return object{}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		return s.list(t, w)
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem(), w)}
	case reflect.Struct:
		return s.structure(t, w)
	case reflect.Interface:
		return object{}
	}
	if v := reflect.New(t).Elem(); v.CanInt() || v.CanUint() {
		return object{"type": "integer"}
	}
	s.wrong = append(s.wrong, fmt.Errorf("%v has no JSON", t))
	return object{}
}

func (s *schemas) list(t reflect.Type, w way) object {
	out := object{"type": "array", "items": s.of(t.Elem(), w)}
	if t.Kind() == reflect.Array {
		out["minItems"], out["maxItems"] = t.Len(), t.Len()
	}
	return out
}

func (s *schemas) structure(t reflect.Type, w way) object {
	if t.Name() == "" {
		return s.fields(t, w)
	}
	key := typed{t, w}
	name, ok := s.names[key]
	if !ok {
		name = s.free(t, w)
		s.names[key] = name
		s.named[name] = nil // whoever refers to itself finds the name
		s.named[name] = s.fields(t, w)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// free is a name that no other type has: the type's own, else with what it is for or whose it is.
func (s *schemas) free(t reflect.Type, w way) string {
	plain, _, _ := strings.Cut(t.Name(), "[")
	name := capital(plain)
	if s.taken[name] && w == request {
		name += "Request"
	}
	if s.taken[name] {
		name = capital(path.Base(t.PkgPath())) + name
	}
	for n, base := 2, name; s.taken[name]; n++ {
		name = base + strconv.Itoa(n)
	}
	s.taken[name] = true
	return name
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// fields is the schema of a struct's JSON.
func (s *schemas) fields(t reflect.Type, w way) object {
	properties, required := object{}, []string{}
	for _, f := range jsonFields(t) {
		if f.Tag.Get("query") != "" {
			continue
		}
		schema := s.field(f, w)
		properties[f.name] = schema
		if w == answer && !f.maybe || w == request && hasRule(f.Tag.Get("validate"), "required") {
			required = append(required, f.name)
		}
	}
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// field is the schema of one value of a struct.
func (s *schemas) field(f jsonField, w way) object {
	t := f.Type
	if w == answer {
		if f.maybe && t.Kind() == reflect.Pointer {
			t = t.Elem() // nil is absent
		}
		out := s.of(t, w)
		if zeroIsNull[t] && !f.maybe && f.name != "id" {
			out = orNull(out)
		}
		return out
	}
	out := s.of(t, w)
	s.restrict(out, t, f.Tag.Get("validate"))
	if !hasRule(f.Tag.Get("validate"), "required") {
		out = orNull(out)
	}
	return out
}

// jsonField is a field as encoding/json sees it.
type jsonField struct {
	reflect.StructField
	name  string
	maybe bool // left out when it is zero, or when what it is embedded by is nil
}

// jsonFields are a struct's, with those of the structs that are embedded in it; what is nearer wins.
func jsonFields(t reflect.Type) []jsonField {
	var own, inner []jsonField
	for f := range fieldsOf(t) {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if f.Anonymous && name == "" {
			embedded := f.Type
			if embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			for _, g := range jsonFields(embedded) {
				g.maybe = g.maybe || f.Type.Kind() == reflect.Pointer
				inner = append(inner, g)
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		own = append(own, jsonField{f, name, strings.Contains(options, "omit")})
	}
	for _, g := range inner {
		if !hasName(own, g.name) {
			own = append(own, g)
		}
	}
	return own
}

func fieldsOf(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

func hasName(fields []jsonField, name string) bool {
	for _, f := range fields {
		if f.name == name {
			return true
		}
	}
	return false
}

// restrict adds what the validator demands.
func (s *schemas) restrict(schema object, t reflect.Type, rules string) {
	if _, ok := leaves[t]; ok || rules == "" || schema["$ref"] != nil {
		return
	}
	own, inner, dives := strings.Cut(rules, "dive")
	target, t := within(schema, t)
	if items, ok := target["items"].(object); ok && dives {
		s.restrict(items, t.Elem(), strings.TrimPrefix(inner, ","))
	}
	for rule := range strings.SplitSeq(own, ",") {
		name, param, _ := strings.Cut(rule, "=")
		switch name {
		case "min", "gte", "max", "lte", "len":
			n, err := strconv.Atoi(param)
			if err != nil {
				s.wrong = append(s.wrong, fmt.Errorf("rule %s of a %v: %w", rule, t, err))
				continue
			}
			for _, keyword := range bounds(name, t) {
				target[keyword] = n
			}
		case "oneof":
			target["enum"] = choices(param, t)
			if _, nullable := target["type"].([]string); nullable {
				target["enum"] = append(choices(param, t), nil)
			}
		}
	}
}

// within takes the null off a schema, and what stands for it off its type.
func within(schema object, t reflect.Type) (object, reflect.Type) {
	for {
		switch inner := optional(t); {
		case inner != nil:
			t = inner
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
		default:
			if either, ok := schema["anyOf"].([]object); ok {
				schema = either[0]
			}
			return schema, t
		}
	}
}

// bounds are the keywords of a bound, which depend on what it bounds.
func bounds(rule string, t reflect.Type) []string {
	low, high := "minimum", "maximum"
	switch t.Kind() {
	case reflect.String:
		low, high = "minLength", "maxLength"
	case reflect.Slice, reflect.Array:
		low, high = "minItems", "maxItems"
	}
	switch rule {
	case "min", "gte":
		return []string{low}
	case "max", "lte":
		return []string{high}
	}
	return []string{low, high}
}

func choices(param string, t reflect.Type) (out []any) {
	for choice := range strings.FieldsSeq(param) {
		if n, err := strconv.Atoi(choice); err == nil && t.Kind() != reflect.String {
			out = append(out, n)
		} else {
			out = append(out, choice)
		}
	}
	return out
}

func hasRule(rules, want string) bool {
	rules, _, _ = strings.Cut(rules, "dive")
	for rule := range strings.SplitSeq(rules, ",") {
		if rule == want {
			return true
		}
	}
	return false
}

// orNull lets a schema be null, too. One that only says its type stays flat.
func orNull(schema object) object {
	var kinds []string
	switch kind := schema["type"].(type) {
	case string:
		kinds = []string{kind}
	case []string:
		kinds = kind
	}
	_, alternatives := schema["anyOf"]
	_, chosen := schema["enum"]
	switch {
	case slices.Contains(kinds, "null"), alternatives, len(schema) == 0:
		return schema
	case kinds == nil || chosen:
		return object{"anyOf": []object{schema, {"type": "null"}}}
	}
	out := maps.Clone(schema)
	out["type"] = append(slices.Clone(kinds), "null")
	return out
}

// optional returns T if t is a wire.Optional[T], which says so by Ptr() *T; else nil.
func optional(t reflect.Type) reflect.Type {
	if t.Kind() != reflect.Struct {
		return nil
	}
	m, ok := t.MethodByName("Ptr")
	if !ok || m.Type.NumIn() != 1 || m.Type.NumOut() != 1 || m.Type.Out(0).Kind() != reflect.Pointer {
		return nil
	}
	return m.Type.Out(0).Elem()
}

var (
	marshaler   = reflect.TypeFor[json.Marshaler]()
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
)

func marshalsItself(t reflect.Type) bool {
	return t.Implements(marshaler) || reflect.PointerTo(t).Implements(unmarshaler)
}
