package rest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

// The codes of wrong types that are not numbers, in the form that clients know.
const (
	fieldString = "STRING_TYPE_CONVERT"
	fieldBool   = "BOOLEAN_TYPE_CONVERT"
	fieldList   = "LIST_TYPE_CONVERT"
	fieldObject = "MODEL_TYPE_CONVERT"
)

const (
	messageSnowflake = "Value is not snowflake."
	messageRegex     = "String value did not match validation regex."
)

// diagnosis goes through a body that did not decode, side by side with the type that it should have had. Members that are
// wrong are noted and taken out, so that the rest decodes.
type diagnosis struct{ wrong []fault.Field }

// diagnose is the slow way of decoding, for bodies with a mistake.
func diagnose(body []byte, v any) ([]fault.Field, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, invalidJSON(err)
	}
	var found diagnosis
	t := reflect.TypeOf(v).Elem()
	target := reflect.ValueOf(v).Elem()
	target.SetZero() // the first attempt has left half of it there
	if !found.nul(tree, "") || !found.typed(t, tree, "") {
		return found.wrong, nil
	}
	rest, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encode what is right of a body: %w", err)
	}
	if err := json.Unmarshal(rest, v); err != nil && len(found.wrong) == 0 {
		found.add(fault.Field{Code: fieldObject, Message: "Value could not be read."}) // a type which only complains in company
	}
	return found.wrong, nil
}

func (d *diagnosis) add(f fault.Field) { d.wrong = append(d.wrong, f) }

// nul notes and takes out strings with U+0000, and reports whether v itself may stay.
func (d *diagnosis) nul(v any, path string) bool {
	switch v := v.(type) {
	case string:
		if strings.IndexByte(v, 0) >= 0 {
			d.add(fault.Field{Path: path, Code: fault.FieldRegex, Message: messageRegex})
			return false
		}
	case []any:
		for i := range v {
			if !d.nul(v[i], join(path, strconv.Itoa(i))) {
				v[i] = nil
			}
		}
	case map[string]any:
		for _, k := range sortedKeys(v) {
			if strings.IndexByte(k, 0) >= 0 {
				d.add(fault.Field{Path: path, Code: fault.FieldRegex, Message: messageRegex})
				delete(v, k)
			} else if !d.nul(v[k], join(path, k)) {
				delete(v, k)
			}
		}
	}
	return true
}

// typed notes and takes out what is not of its type, and reports whether v itself may stay.
func (d *diagnosis) typed(t reflect.Type, v any, path string) bool {
	if v == nil {
		return true // null is absent, anywhere
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if inner := optionalOf(t); inner != nil {
		return d.typed(inner, v, path)
	}
	if decodesItself(t) {
		return d.leaf(t, v, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		object, ok := v.(map[string]any)
		if !ok {
			break
		}
		for _, k := range sortedKeys(object) {
			if f, ok := jsonField(t, k); ok && !d.typed(f.Type, object[k], join(path, k)) {
				delete(object, k)
			}
		}
		return true
	case reflect.Map:
		object, ok := v.(map[string]any)
		if !ok {
			break
		}
		for _, k := range sortedKeys(object) {
			if !d.typed(t.Elem(), object[k], join(path, k)) {
				delete(object, k)
			}
		}
		return true
	case reflect.Slice, reflect.Array:
		list, ok := v.([]any)
		if !ok || t.Elem().Kind() == reflect.Uint8 {
			return d.leaf(t, v, path)
		}
		for i := range list {
			if !d.typed(t.Elem(), list[i], join(path, strconv.Itoa(i))) {
				list[i] = nil
			}
		}
		return true
	case reflect.Interface:
		return true
	default:
		return d.leaf(t, v, path)
	}
	d.add(typeField(path, t))
	return false
}

// leaf tries whether the decoder takes v for a t.
func (d *diagnosis) leaf(t reflect.Type, v any, path string) bool {
	raw, err := json.Marshal(v)
	if err == nil && json.Unmarshal(raw, reflect.New(t).Interface()) == nil {
		return true
	}
	d.add(typeField(path, t))
	return false
}

// typeField says that the value at path is not a t.
func typeField(path string, t reflect.Type) fault.Field {
	if t == reflect.TypeFor[id.ID]() {
		return fault.Field{Path: path, Code: fault.FieldCoerce, Message: messageSnowflake}
	}
	switch t.Kind() {
	case reflect.String:
		return fault.Field{Path: path, Code: fieldString, Message: "Value is not a string."}
	case reflect.Bool:
		return fault.Field{Path: path, Code: fieldBool, Message: "Must be either true or false."}
	case reflect.Slice, reflect.Array:
		return fault.Field{Path: path, Code: fieldList, Message: "Only iterables may be used in a ListType."}
	case reflect.Struct, reflect.Map:
		return fault.Field{Path: path, Code: fieldObject, Message: "Only dictionaries may be used in a ModelType."}
	case reflect.Float32, reflect.Float64:
		return fault.Field{Path: path, Code: fault.FieldCoerce, Message: "Value is not a number."}
	default:
		return fault.Field{Path: path, Code: fault.FieldCoerce, Message: "Value is not int."}
	}
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// optionalOf returns T if t is a wire.Optional[T], which says so by Ptr() *T; else nil.
func optionalOf(t reflect.Type) reflect.Type {
	if t.Kind() != reflect.Struct || !decodesItself(t) {
		return nil
	}
	m, ok := t.MethodByName("Ptr")
	if !ok || m.Type.NumIn() != 1 || m.Type.NumOut() != 1 || m.Type.Out(0).Kind() != reflect.Pointer {
		return nil
	}
	return m.Type.Out(0).Elem()
}

// jsonField finds the field that the decoder would put a key into: by its exact name, else without regard to case.
func jsonField(t reflect.Type, key string) (found reflect.StructField, ok bool) {
	for _, f := range reflect.VisibleFields(t) {
		if !f.IsExported() || f.Anonymous && jsonName(f) == f.Name {
			continue
		}
		switch name := jsonName(f); {
		case name == key:
			return f, true
		case !ok && strings.EqualFold(name, key):
			found, ok = f, true
		}
	}
	return found, ok
}

// jsonName is the name of a field on the wire; "-" for none.
func jsonName(f reflect.StructField) string {
	for _, tag := range []string{"json", "query"} {
		if name, _, _ := strings.Cut(f.Tag.Get(tag), ","); name != "" && (name != "-" || tag == "query") {
			return name
		}
	}
	if f.Tag.Get("json") == "-" {
		return "-"
	}
	return f.Name
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// sortedKeys makes the order of mistakes the same every time.
func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
