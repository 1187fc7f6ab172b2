package wire

import (
	"net/url"
	"reflect"
	"strings"

	"github.com/go-playground/validator/v10"

	"github.com/xcord/xcord/engine/id"
)

// NewValidator makes the validator that understands the tags in this package. Beyond those
// it brings along:
//
//	nonul     text without U+0000, which Postgres cannot store
//	weburl    an absolute http or https address
//	mediaurl  the same, or AttachmentScheme and the name of an attachment
//	embedsum  a list of embeds whose texts have at most EmbedTextMax code points together
//
// Fields are named as in JSON (or in the query). Optional fields are seen as pointers, so
// omitnil lets absent and null pass; lengths count code points.
func NewValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		for _, tag := range []string{"json", "query"} {
			if name, _, _ := strings.Cut(f.Tag.Get(tag), ","); name != "" && name != "-" {
				return name
			}
		}
		return f.Name
	})
	for name, check := range map[string]validator.Func{
		"nonul":  func(l validator.FieldLevel) bool { return strings.IndexByte(l.Field().String(), 0) < 0 },
		"weburl": func(l validator.FieldLevel) bool { return isWebURL(l.Field().String()) },
		"mediaurl": func(l validator.FieldLevel) bool {
			name, is := strings.CutPrefix(l.Field().String(), AttachmentScheme)
			return is && name != "" || isWebURL(l.Field().String())
		},
		"embedsum": func(l validator.FieldLevel) bool { return embedText(l.Field().Interface()) <= EmbedTextMax },
	} {
		if err := v.RegisterValidation(name, check); err != nil {
			panic("BUG: wire.NewValidator: " + err.Error())
		}
	}
	registerOptional[string](v)
	registerOptional[bool](v)
	registerOptional[int](v)
	registerOptional[id.ID](v)
	registerOptional[[]id.ID](v)
	registerOptional[Time](v)
	registerOptional[[]Embed](v)
	registerOptional[[]AttachmentRequest](v)
	v.RegisterCustomTypeFunc(func(f reflect.Value) any { return f.Interface().(Nonce).Text() }, Nonce(""))
	return v
}

func registerOptional[T any](v *validator.Validate) {
	v.RegisterCustomTypeFunc(func(f reflect.Value) any { return f.Interface().(Optional[T]).Ptr() }, Optional[T]{})
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
