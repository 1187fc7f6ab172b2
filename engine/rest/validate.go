package rest

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-playground/validator/v10"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/wire"
)

// check applies the validate tags of v, a pointer to an In. What is known to be wrong already is not told again, nor
// anything inside it.
func (s *Server) check(v any, known []fault.Field) (wrong []fault.Field) {
	target := reflect.ValueOf(v).Elem()
	if target.Kind() == reflect.Slice {
		if elem := target.Type().Elem(); elem.Kind() != reflect.Struct {
			return nil // lists of ids have no tags
		}
		for i := range target.Len() {
			wrong = append(wrong, s.checkStruct(target.Index(i), strconv.Itoa(i), known)...)
		}
		return wrong
	}
	return s.checkStruct(target, "", known)
}

func (s *Server) checkStruct(target reflect.Value, prefix string, known []fault.Field) (wrong []fault.Field) {
	err := s.validate.Struct(target.Addr().Interface())
	if err == nil {
		return nil
	}
	failures, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok {
		panic(fmt.Sprintf("BUG: validator cannot look at %v: %v", target.Type(), err))
	}
	for _, failure := range failures {
		f := translate(failure, target.Type())
		f.Path = strings.TrimSuffix(join(prefix, f.Path), ".")
		if !covered(f.Path, known) {
			wrong = append(wrong, f)
		}
	}
	return wrong
}

func covered(path string, known []fault.Field) bool {
	for _, k := range known {
		if path == k.Path || k.Path == "" || strings.HasPrefix(path, k.Path+".") || strings.HasPrefix(k.Path, path+".") {
			return true
		}
	}
	return false
}

// translate says a failure in the words of the wire.
func translate(e validator.FieldError, root reflect.Type) fault.Field {
	path, rules := locate(e, root)
	f := fault.Field{Path: path, Code: fault.FieldRegex, Message: messageRegex}
	switch tag := e.Tag(); {
	case strings.HasPrefix(tag, "required"):
		f.Code, f.Message = fault.FieldRequired, "This field is required"
	case tag == "oneof":
		f.Code = fault.FieldChoices
		f.Message = "Value must be one of (" + strings.Join(strings.Fields(e.Param()), ", ") + ")."
	case tag == "embedsum":
		f.Code, f.Message = fault.FieldMaxLength, fmt.Sprintf("Must be %d or fewer in length.", wire.EmbedTextMax)
	case tag == "min", tag == "gte", tag == "max", tag == "lte", tag == "len", tag == "gt", tag == "lt":
		switch e.Kind() {
		case reflect.String, reflect.Slice, reflect.Array, reflect.Map:
			f.Code, f.Message = lengthRule(tag, e.Param(), rules)
		default:
			f.Code, f.Message = numberRule(tag, e.Param())
		}
	}
	return f
}

// lengthRule says a bound of a length together with the other one of the same field.
func lengthRule(tag, param, rules string) (code, message string) {
	low, high := bound(rules, "min", "gte"), bound(rules, "max", "lte")
	switch {
	case tag == "len":
		return fault.FieldLength, fmt.Sprintf("Must be %s in length.", param)
	case low != "" && high != "":
		return fault.FieldLength, fmt.Sprintf("Must be between %s and %s in length.", low, high)
	case tag == "max" || tag == "lte":
		return fault.FieldMaxLength, fmt.Sprintf("Must be %s or fewer in length.", param)
	case tag == "lt":
		return fault.FieldMaxLength, fmt.Sprintf("Must be fewer than %s in length.", param)
	case tag == "gt":
		return fault.FieldLength, fmt.Sprintf("Must be more than %s in length.", param)
	default:
		return fault.FieldLength, fmt.Sprintf("Must be %s or more in length.", param)
	}
}

func numberRule(tag, param string) (code, message string) {
	switch tag {
	case "max", "lte":
		return fault.FieldMax, fmt.Sprintf("int value should be less than or equal to %s.", param)
	case "lt":
		return fault.FieldMax, fmt.Sprintf("int value should be less than %s.", param)
	case "gt":
		return fault.FieldMin, fmt.Sprintf("int value should be greater than %s.", param)
	default:
		return fault.FieldMin, fmt.Sprintf("int value should be greater than or equal to %s.", param)
	}
}

// bound finds the parameter of one of two tags.
func bound(rules string, names ...string) string {
	for rule := range strings.SplitSeq(rules, ",") {
		name, param, _ := strings.Cut(rule, "=")
		for _, want := range names {
			if name == want {
				return param
			}
		}
	}
	return ""
}

// locate finds a failure's path on the wire and the rules of its field. The validator's own namespace holds the names of
// embedded structs, which the wire does not know, and it has no rules.
func locate(e validator.FieldError, root reflect.Type) (path, rules string) {
	names := strings.TrimPrefix(e.StructNamespace(), root.Name()+".")
	at := root
	for name := range strings.SplitSeq(names, ".") {
		name, indexes, _ := strings.Cut(name, "[")
		at = plainType(at)
		f, ok := reflect.StructField{}, false
		if at.Kind() == reflect.Struct {
			f, ok = at.FieldByName(name)
		}
		if !ok {
			return e.Field(), "" // a type whose validation looks elsewhere; its own name is still right
		}
		if !f.Anonymous || jsonName(f) != f.Name {
			path = join(path, jsonName(f))
		}
		at, rules = f.Type, f.Tag.Get("validate")
		for index := range strings.SplitSeq(indexes, "[") {
			if index == "" {
				continue
			}
			path = join(path, strings.TrimSuffix(index, "]"))
			_, rules, _ = strings.Cut(rules, "dive,")
			at = plainType(at)
			if k := at.Kind(); k != reflect.Slice && k != reflect.Array && k != reflect.Map {
				return path, rules
			}
			at = at.Elem()
		}
		if indexes == "" {
			rules, _, _ = strings.Cut(rules, "dive")
		}
	}
	return path, rules
}

// plainType is t without pointers and Optional around it.
func plainType(t reflect.Type) reflect.Type {
	for {
		switch {
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
		case optionalOf(t) != nil:
			t = optionalOf(t)
		default:
			return t
		}
	}
}
