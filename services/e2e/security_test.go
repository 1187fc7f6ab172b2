package e2e

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// attack is a test within a TestSecurity_ function that has a name in security.md.
func attack(t *testing.T, name string, run func(t *testing.T)) {
	t.Helper()
	t.Run(name, run)
}

// readAnswer reads a status and a body from a connection.
func readAnswer(t *testing.T, conn net.Conn) (status int, body string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// TestSecurity_EveryAttackHasATestOrAReason holds security.md against the tests that there are, in the whole repository.
func TestSecurity_EveryAttackHasATestOrAReason(t *testing.T) {
	t.Parallel()
	listed := listedAttacks(t)
	tested := testedAttacks(t)
	for name, reason := range listed {
		if have := tested[name]; have == (reason != "") {
			t.Errorf("%s: tested %v, reason %q: want one of them", name, have, reason)
		}
	}
	for name := range tested {
		if _, ok := listed[name]; !ok {
			t.Errorf("%s is tested and not in security.md", name)
		}
	}
	if len(listed) < 40 || len(tested) < 40 {
		t.Errorf("%d listed and %d tested: this test looks in the wrong place", len(listed), len(tested))
	}
	t.Logf("%d attacks listed, %d tested", len(listed), len(tested))
}

// listedAttacks are the names in the first column of security.md, with the last column: why there is no test.
func listedAttacks(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("security.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name, ok := strings.CutPrefix(strings.TrimSpace(cells[0]), "`")
		if !ok || len(cells) != 3 {
			continue
		}
		name = strings.TrimSuffix(name, "`")
		if _, twice := out[name]; twice {
			t.Errorf("%s is listed twice", name)
		}
		out[name] = strings.TrimSpace(cells[2])
	}
	return out
}

// testedAttacks are the functions TestSecurity_x, and the calls of attack with a name.
func testedAttacks(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	note := func(file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				// Capitals are no attacks but tests of this list and groups have no line of their own.
				if name, ok := strings.CutPrefix(n.Name.Name, "TestSecurity_"); ok && name[0] >= 'a' && !slices.Contains(groups, name) {
					out[name] = true
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains(attackers, f.Name) {
					for _, arg := range n.Args {
						if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
							name, _ := strconv.Unquote(lit.Value)
							out[name] = true
							break
						}
					}
				}
			}
			return true
		})
	}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err == nil {
			note(file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// groups are functions whose attacks have names of their own, attackers those that run an attack by the name that they are given.
var (
	groups    = []string{"upload", "jwt", "text", "ws"}
	attackers = []string{"attack", "wrong"}
)
