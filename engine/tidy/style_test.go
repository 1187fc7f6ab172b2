package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func packageDocRule(t *tree) []string {
	type docs struct {
		name  string
		files []string
		first string
	}
	packages := map[string]*docs{}
	for _, f := range t.files {
		if f.test && !strings.HasSuffix(f.ast.Name.Name, "_test") && packages[f.dir] == nil {
			packages[f.dir] = &docs{name: f.ast.Name.Name} // tests alone make a package too
		}
		if f.test {
			continue
		}
		d := packages[f.dir]
		if d == nil {
			d = &docs{}
			packages[f.dir] = d
		}
		d.name = f.ast.Name.Name
		if f.ast.Doc != nil {
			d.files = append(d.files, f.path)
			d.first = f.ast.Doc.Text()
		}
	}
	var bad []string
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		d := packages[dir]
		want := "Package " + d.name + " "
		if d.name == "main" {
			want = "Command " + dir[strings.LastIndex(dir, "/")+1:] + " "
		}
		switch {
		case len(d.files) == 0:
			bad = append(bad, fmt.Sprintf("%s has no package doc: say its duty and what it does not do, beginning with %q", dir, want))
		case len(d.files) > 1:
			bad = append(bad, fmt.Sprintf("%s has %d package docs, in %s: keep one", dir, len(d.files), strings.Join(d.files, " and ")))
		case !strings.HasPrefix(d.first, want):
			bad = append(bad, fmt.Sprintf("%s: the package doc does not begin with %q", d.files[0], want))
		}
	}
	return bad
}

// sleepRule allows time.Sleep where time is virtual: inside a call of synctest.Test.
func sleepRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		if !f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && f.calls(call.Fun, "testing/synctest", "Test") {
				return false
			}
			if f.calls(n, "time", "Sleep") {
				bad = append(bad, t.at(n)+": time.Sleep in a test: wait for a signal, or use testing/synctest")
			}
			return true
		})
	}
	return bad
}

func environmentRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		if f.test || f.dir == "engine/conf" || slices.Contains(testHelpers, f.dir) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if f.calls(n, "os", "Getenv", "LookupEnv", "ExpandEnv") || f.calls(n, "syscall", "Getenv") {
				bad = append(bad, t.at(n)+": only engine/conf reads the environment; make it a setting")
			}
			return true
		})
	}
	return bad
}

// cheapRule keeps what makes passwords easy to guess away from everything that serves.
func cheapRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if f.calls(n, module+"/services/auth", "CheapHashes") {
				bad = append(bad, t.at(n)+": auth.CheapHashes is for tests alone")
			}
			return true
		})
	}
	return bad
}

func initRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				bad = append(bad, t.at(fn)+": func init runs behind everybody's back; call it from New or Start")
			}
		}
	}
	return bad
}

// sqlText recognises a statement by its first words; prose that begins with such a word lacks the second one.
var sqlText = regexp.MustCompile(`(?is)^\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s*\(|(create|alter|drop|truncate|lock)\s+table\s)`)

func sqlRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		if f.test || isStoreFile(f.path) || inAny(f.dir, sqlPlaces) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && sqlText.MatchString(text) {
				bad = append(bad, t.at(lit)+": SQL belongs in a file named store*.go")
			}
			return true
		})
	}
	return bad
}

func sizeRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		if f.test {
			continue
		}
		if f.lines > fileLinesMax {
			bad = append(bad, fmt.Sprintf("%s has %d lines, more than %d: split it by what it is about", f.path, f.lines, fileLinesMax))
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1
			if lines > functionLinesMax {
				bad = append(bad, fmt.Sprintf("%s: func %s has %d lines, more than %d", t.at(fn), fn.Name.Name, lines, functionLinesMax))
			}
		}
	}
	return bad
}

var (
	// A marker stands at the beginning of a line of a comment; prose may speak of them.
	todo       = regexp.MustCompile(`(?m)^(?://|/\*)?\s*(TODO|FIXME|XXX)\b`)
	todoNumber = regexp.MustCompile(`(?m)^(?://|/\*)?\s*TODO\(#\d+\)`)
)

func todoRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if len(todo.FindAllString(c.Text, -1)) > len(todoNumber.FindAllString(c.Text, -1)) {
					bad = append(bad, t.at(c)+": write TODO(#123) with the number of an issue, or do it now")
				}
			}
		}
	}
	return bad
}
