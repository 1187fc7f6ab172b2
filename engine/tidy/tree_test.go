package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is the prefix of our own import paths.
const module = "github.com/xcord/xcord"

// tree is the repository, or a small piece made up by a test.
type tree struct {
	fset  *token.FileSet
	files []*file
	top   []string // names in the root
}

type file struct {
	path  string // slashed, from the root
	dir   string // the package, as the tables call it
	test  bool
	lines int
	ast   *ast.File
}

// rule returns one line for every offence.
type rule func(*tree) []string

func (t *tree) add(name string, src []byte) error {
	parsed, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	t.files = append(t.files, &file{
		path: name, dir: path.Dir(name), ast: parsed,
		test:  strings.HasSuffix(name, "_test.go"),
		lines: strings.Count(string(src), "\n"),
	})
	return nil
}

// readTree parses every Go file of the module that holds this package. Folders that go ignores, and modules of their
// own, are left out.
func readTree() (*tree, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, fmt.Errorf("find the root: %w", err)
	}
	t := &tree{fset: token.NewFileSet()}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("read the root: %w", err)
	}
	for _, e := range entries {
		t.top = append(t.top, e.Name())
	}
	err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if e.IsDir() && rel != "." {
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			if err == nil || strings.ContainsAny(e.Name()[:1], "._") || slices.Contains([]string{"testdata", "bin", "data"}, e.Name()) {
				return filepath.SkipDir
			}
		}
		if e.IsDir() || !strings.HasSuffix(rel, ".go") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return t.add(rel, src)
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	return t, nil
}

// imports are the import paths of a file.
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic("BUG: an import path that parses but has bad quotes: " + spec.Path.Value)
		}
		paths = append(paths, p)
	}
	return paths
}

// name is what the file calls an imported package, "" if it does not import it.
func (f *file) name(importPath string) string {
	for i, p := range f.imports() {
		if p != importPath {
			continue
		}
		if alias := f.ast.Imports[i].Name; alias != nil {
			return alias.Name
		}
		return path.Base(p)
	}
	return ""
}

// calls tells whether n is a use of one of the functions of an imported package.
func (f *file) calls(n ast.Node, importPath string, functions ...string) bool {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name != "_" && x.Name == f.name(importPath) && slices.Contains(functions, sel.Sel.Name)
}

func (t *tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// in tells whether a package is at a place: the package itself, or for a/... anything at or below a.
func in(dir, place string) bool {
	folder, below := strings.CutSuffix(place, "/...")
	return dir == folder || below && strings.HasPrefix(dir, folder+"/")
}

func inAny(dir string, places []string) bool {
	return slices.ContainsFunc(places, func(p string) bool { return in(dir, p) })
}

// floorOf finds a package's floor by its most exact entry.
func floorOf(dir string) (floor int, ok bool) {
	best := ""
	for place, n := range floors {
		if in(dir, place) && len(place) > len(best) {
			best, floor, ok = place, n, true
		}
	}
	return floor, ok
}

func isStoreFile(name string) bool {
	ok, err := path.Match("store*.go", path.Base(name))
	return ok && err == nil
}
