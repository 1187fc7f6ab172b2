package openapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
)

var (
	//go:embed page.html
	pageSource string
	//go:embed page.css
	pageStyle string

	pageTemplate = template.Must(template.New("page").Parse(pageSource))
)

// PagePolicy is the Content-Security-Policy of the page: its own style, and nothing else. There is no script in it.
var PagePolicy = func() string {
	hash := sha256.Sum256([]byte(pageStyle))
	return fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(hash[:]))
}()

// word is a piece of how a schema is told; a link is to a schema by its name.
type word struct {
	Text string
	Link bool
}

type pageField struct {
	Name   string
	Schema []word
	Note   string
}

type pageOperation struct {
	ID, Method, Path, Summary, Note, Limit string
	Public                                 bool
	Status                                 int
	Parameters                             []pageField
	Body, Answer                           []word
}

type pageGroup struct {
	Name       string
	Operations []pageOperation
}

type pageDispatch struct {
	Name    string
	Schema  []word
	Durable bool
}

// Page is the document to be read: HTML without scripts, whose Content-Security-Policy is PagePolicy.
func (d *Document) Page() []byte {
	data := struct {
		Style      template.CSS
		Base       string
		Groups     []*pageGroup
		Dispatches []pageDispatch
		Schemas    []pageSchema
		Codes      []errorCode
	}{Style: template.CSS(pageStyle), Base: Base, Groups: d.groups(), Schemas: d.schemas(), Codes: errorCodes()}
	dispatches := d.root["x-dispatches"].(object)
	for _, name := range slices.Sorted(maps.Keys(dispatches)) {
		told := dispatches[name].(object)
		durable, _ := told["durable"].(bool)
		data.Dispatches = append(data.Dispatches, pageDispatch{name, words(told["schema"]), durable})
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, data); err != nil {
		panic("BUG: the page of the description: " + err.Error())
	}
	return b.Bytes()
}

// groups are the operations by service, in the order of the tables.
func (d *Document) groups() (out []*pageGroup) {
	for i, r := range d.routes {
		at := slices.IndexFunc(out, func(g *pageGroup) bool { return g.Name == r.Service })
		if at < 0 {
			at = len(out)
			out = append(out, &pageGroup{Name: r.Service})
		}
		op := d.ops[i]
		told := pageOperation{
			ID: op["operationId"].(string), Method: r.Method, Path: pathOf(r), Summary: op["summary"].(string), Public: r.Public, Status: r.Status,
			Limit: fmt.Sprintf("%d requests in %v.", r.Limit, r.Window),
		}
		told.Note, _ = op["description"].(string)
		if r.Root {
			told.Note += " Not under " + Base + "."
		}
		parameters, _ := op["parameters"].([]object)
		for _, p := range parameters {
			told.Parameters = append(told.Parameters, pageField{Name: p["name"].(string), Schema: words(p["schema"]), Note: "in the " + p["in"].(string)})
		}
		if body, ok := op["requestBody"].(object); ok {
			told.Body = words(schemaIn(body))
		}
		for status, res := range op["responses"].(object) {
			if status[0] == '2' && schemaIn(res.(object)) != nil {
				told.Answer = words(schemaIn(res.(object)))
			}
		}
		out[at].Operations = append(out[at].Operations, told)
	}
	return out
}

func schemaIn(o object) any {
	content, _ := o["content"].(object)
	media, _ := content[contentType].(object)
	return media["schema"]
}

type pageSchema struct {
	Name   string
	Fields []pageField
}

func (d *Document) schemas() (out []pageSchema) {
	named := d.root["components"].(object)["schemas"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(named)) {
		schema := named[name].(object)
		required, _ := schema["required"].([]string)
		properties, _ := schema["properties"].(object)
		told := pageSchema{Name: name}
		for _, key := range slices.Sorted(maps.Keys(properties)) {
			note := ""
			if slices.Contains(required, key) {
				note = "always"
			}
			told.Fields = append(told.Fields, pageField{key, words(properties[key]), note})
		}
		out = append(out, told)
	}
	return out
}

// words tells a schema in a line.
func words(schema any) (out []word) {
	o, _ := schema.(object)
	say := func(text string) { out = append(out, word{Text: text}) }
	if ref, ok := o["$ref"].(string); ok {
		return []word{{ref[strings.LastIndexByte(ref, '/')+1:], true}}
	}
	if either, ok := o["anyOf"].([]object); ok {
		for i, one := range either {
			if i > 0 {
				say(" or ")
			}
			out = append(out, words(one)...)
		}
		return out
	}
	switch kind := o["type"].(type) {
	case string:
		say(kind)
	case []string:
		say(strings.Join(kind, " or "))
	default:
		say("anything")
	}
	if items, ok := o["items"]; ok {
		say(" of ")
		out = append(out, words(items)...)
	}
	if choices, ok := o["enum"]; ok {
		say(fmt.Sprintf(": one of %v", choices))
	}
	for _, bound := range []struct{ keyword, text string }{
		{"format", ", %v"}, {"minLength", ", at least %v long"}, {"maxLength", ", at most %v long"}, {"minItems", ", at least %v"}, {"maxItems", ", at most %v"},
		{"minimum", ", from %v"}, {"maximum", ", to %v"},
	} {
		if v, ok := o[bound.keyword]; ok {
			say(fmt.Sprintf(bound.text, v))
		}
	}
	return out
}
