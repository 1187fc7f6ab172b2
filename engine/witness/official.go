package witness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// SpecVariable names a file that is the official description. Where it is set, the file must be there.
const SpecVariable = "XCORD_API_SPEC"

// specBeside is where the file is looked for otherwise: beside the repository.
const specBeside = "../shared/discord-openapi.json"

// Official is the official description of API v10.
type Official struct {
	compiler *jsonschema.Compiler
	paths    map[string]found // by path without the names of its parameters
}

type found struct {
	path string
	item map[string]json.RawMessage
}

const officialURL = "official:v10"

// Find reads the official description. Without one it returns nil, unless SpecVariable names it.
func Find() (*Official, error) {
	path, named := os.LookupEnv(SpecVariable)
	if !named {
		root, err := repository()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(root, specBeside)
	}
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the official description: %w", err)
	}
	return Read(raw)
}

// repository is the folder with go.mod, from which tests are some folders away.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
	}
	return "", fmt.Errorf("no go.mod above %s", dir)
}

// Read takes a document, mended where it is known not to be what the API says.
func Read(raw []byte) (*Official, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read the official description: %w", err)
	}
	anyOf(doc)
	if err := stringCodes(doc); err != nil {
		return nil, err
	}
	o := &Official{compiler: jsonschema.NewCompiler(), paths: map[string]found{}}
	o.compiler.AssertFormat()
	if err := o.compiler.AddResource(officialURL, doc); err != nil {
		return nil, err
	}
	var d description
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("read the official description: %w", err)
	}
	for path, item := range d.Paths {
		o.paths[shape(path)] = found{path, item}
	}
	return o, nil
}

// anyOf makes every oneOf one: alternatives that differ in what they need not have are all right for the same object.
func anyOf(v any) {
	switch v := v.(type) {
	case map[string]any:
		if one, ok := v["oneOf"]; ok {
			v["anyOf"] = one
			delete(v, "oneOf")
		}
		for _, inner := range v {
			anyOf(inner)
		}
	case []any:
		for _, inner := range v {
			anyOf(inner)
		}
	}
}

// stringCodes: the codes of single fields are words, and not numbers as the document has it.
func stringCodes(doc any) error {
	at := doc
	for _, step := range []string{"components", "schemas", "InnerErrors", "properties", "_errors"} {
		o, ok := at.(map[string]any)
		if !ok || o[step] == nil {
			return fmt.Errorf("the official description has no %s: is it another version?", step)
		}
		at = o[step]
	}
	at.(map[string]any)["items"] = map[string]any{
		"type": "object", "required": []any{"code", "message"},
		"properties": map[string]any{"code": map[string]any{"type": "string"}, "message": map[string]any{"type": "string"}},
	}
	return nil
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

func shape(path string) string { return parameter.ReplaceAllString(path, "{}") }

// responses are those of an endpoint, nil if the document does not have it.
func (o *Official) responses(method, path string) (responses, error) {
	f := o.paths[shape(path)]
	op, ok := f.item[strings.ToLower(method)]
	if !ok {
		return nil, nil
	}
	return compileOperation(o.compiler, officialURL, f.path, strings.ToLower(method), op)
}

// waiver is a difference from the official description that is meant.
type waiver struct {
	where  string // how the place begins: "POST /guilds 201"
	reason string // what the judge says, or the beginning of it
	why    string
}

// waivers are all of them.
var waivers = []waiver{}

func waived(where, reason string) bool {
	for _, w := range waivers {
		if strings.HasPrefix(where, w.where) && strings.HasPrefix(reason, w.reason) {
			return true
		}
	}
	return false
}
