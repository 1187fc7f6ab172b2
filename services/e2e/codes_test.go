package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/fault"
)

// TestCodes_EachHasATestOrAReason holds codes.md against the codes that there are, and against the source: a code that the server answers with needs
// a test that names it; one that nobody uses yet needs a reason.
func TestCodes_EachHasATestOrAReason(t *testing.T) {
	t.Parallel()
	src := readSource(t)
	listed := map[fault.Code]bool{}
	raw, err := os.ReadFile("codes.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		n, err := strconv.Atoi(strings.Trim(cells[0], " `"))
		if err != nil || len(cells) != 3 {
			continue
		}
		code, test, reason := fault.Code(n), strings.Trim(cells[1], " `"), strings.TrimSpace(cells[2])
		listed[code] = true
		name := src.names[n]
		switch {
		case (test == "") == (reason == ""):
			t.Errorf("%d: a test or a reason, and not both: %q, %q", n, test, reason)
		case reason != "" && src.uses[name]:
			t.Errorf("%d: the server answers with fault.%s, so there has to be a test of it", n, name)
		case test != "" && !regexp.MustCompile(fmt.Sprintf(`\b(%d|fault\.%s)\b`, n, name)).MatchString(src.tests[test]):
			t.Errorf("%d: there is no test %s that speaks of %d or fault.%s", n, test, n, name)
		}
	}
	for _, code := range fault.Codes() {
		if !listed[code] {
			t.Errorf("%d (fault.%s) is not in codes.md", int(code), src.names[int(code)])
		}
	}
	if len(listed) != len(fault.Codes()) {
		t.Errorf("%d codes in codes.md, %d in engine/fault", len(listed), len(fault.Codes()))
	}
}

// source is what the test needs to know of the repository.
type source struct {
	names map[int]string    // of the constants of engine/fault, by code
	uses  map[string]bool   // which of them stand in what is no test
	tests map[string]string // what stands in a test: fault's names, and literals
}

func readSource(t *testing.T) *source {
	t.Helper()
	s := &source{names: map[int]string{}, uses: map[string]bool{}, tests: map[string]string{}}
	for _, folder := range []string{"../../engine", "../../services"} {
		err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			s.read(path, file)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *source) read(path string, file *ast.File) {
	inFault := file.Name.Name == "fault"
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			if inFault && strings.HasSuffix(path, "code.go") {
				ast.Inspect(decl, s.constant)
			}
			continue
		}
		words := map[string]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "fault" {
					words["fault."+n.Sel.Name] = true
				}
			case *ast.Ident:
				if inFault {
					words["fault."+n.Name] = true
				}
			case *ast.BasicLit:
				words[n.Value] = true
			}
			return true
		})
		if !strings.HasSuffix(path, "_test.go") {
			for word := range words {
				if name, ok := strings.CutPrefix(word, "fault."); ok {
					s.uses[name] = true
				}
			}
		} else if strings.HasPrefix(f.Name.Name, "Test") {
			s.tests[f.Name.Name] = strings.Join(slices.Collect(maps.Keys(words)), " ")
		}
	}
}

// constant notes a constant of type Code.
func (s *source) constant(n ast.Node) bool {
	v, ok := n.(*ast.ValueSpec)
	if !ok || len(v.Values) != 1 {
		return true
	}
	if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Code" {
		if n, err := strconv.Atoi(v.Values[0].(*ast.BasicLit).Value); err == nil {
			s.names[n] = v.Names[0].Name
		}
	}
	return true
}
