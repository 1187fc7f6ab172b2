package tidy

import (
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// fake makes a tree of files given as path and source in turn. "Q/" stands for the module's path.
func fake(t *testing.T, pathsAndSources ...string) *tree {
	t.Helper()
	x := &tree{fset: token.NewFileSet()}
	for pair := range slices.Chunk(pathsAndSources, 2) {
		if err := x.add(pair[0], []byte(strings.ReplaceAll(pair[1], "Q/", module+"/"))); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// importing is a file that imports what is listed.
func importing(paths ...string) string {
	src := "// Package x is a fixture.\npackage x\n"
	for _, p := range paths {
		src += "import _ \"" + p + "\"\n"
	}
	return src
}

// TestRules_CanFail runs every rule on a tree that offends it, once for each way to offend, and on one that does not.
func TestRules_CanFail(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	offends := func(rule, want string, pathsAndSources ...string) {
		t.Helper()
		tried[rule] = true
		got := rules[rule](fake(t, pathsAndSources...))
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: got %q, want one offence with %q", rule, got, want)
		}
	}
	passes := func(rule string, pathsAndSources ...string) {
		t.Helper()
		if got := rules[rule](fake(t, pathsAndSources...)); len(got) != 0 {
			t.Errorf("%s: got %q, want no offence", rule, got)
		}
	}

	offends("Floors", "engine/new is on no floor", "engine/new/a.go", "package x", "engine/new/b.go", "package x")
	offends("Floors", "only lower floors", "engine/bus/a.go", importing("Q/engine/roster"))
	offends("Floors", "only lower floors", "engine/bus/a.go", importing("Q/engine/hub"))
	offends("Floors", "not for it", "services/auth/a.go", importing("Q/migrations"))
	offends("Floors", "not for it", "services/auth/a.go", importing("Q/sfu/quality"))
	offends("Floors", "knows nothing", "sfu/quality/a.go", importing("Q/engine/id"))
	offends("Floors", "only lower floors", "services/node/a.go", importing("Q/services/cmd/xcord"))
	passes("Floors", "engine/bus/a.go", importing("Q/engine/wire", "fmt"), "engine/perm/a.go", importing("Q/engine/id"),
		"engine/postgres/a.go", importing("Q/migrations"), "services/voice/a.go", importing("Q/sfu", "Q/engine/rest"),
		"services/cmd/xcord/a.go", importing("Q/services/node"), "engine/id/a_test.go", importing("Q/engine/bus"))

	offends("ServicesAreApart", "services never import each other", "services/auth/a.go", importing("Q/services/guilds"))
	passes("ServicesAreApart", "services/node/a.go", importing("Q/services/guilds"))

	offends("TestHelpersInTests", "for tests only", "engine/bus/a.go", importing("Q/engine/harness"))
	offends("TestHelpersInTests", "for tests only", "engine/bus/a.go", importing("Q/engine/life/lifetest"))
	passes("TestHelpersInTests", "engine/bus/a_test.go", importing("Q/engine/harness"), "engine/harness/a.go", importing("Q/engine/life/lifetest"))

	offends("ThirdPartyPlaces", "has no place", "engine/bus/a.go", importing("github.com/some/thing"))
	offends("ThirdPartyPlaces", "belongs in engine/redis", "engine/rest/a.go", importing("github.com/redis/rueidis/internal/cmds"))
	offends("ThirdPartyPlaces", "store*.go", "services/auth/service.go", importing("github.com/jackc/pgx/v5/pgxpool"))
	offends("ThirdPartyPlaces", "for tests only", "engine/bus/a.go", importing("github.com/google/go-cmp/cmp"))
	offends("ThirdPartyPlaces", "standard library only", "engine/life/a.go", importing("github.com/VictoriaMetrics/metrics"))
	passes("ThirdPartyPlaces", "services/auth/store_user.go", importing("github.com/jackc/pgx/v5/pgxpool"), "engine/conf/a.go",
		importing("github.com/alecthomas/kong"), "engine/id/a_test.go", importing("github.com/google/go-cmp/cmp"), "engine/hub/a.go",
		importing("github.com/VictoriaMetrics/metrics", "net/http"))

	offends("PackageDocs", "no package doc", "engine/bus/a.go", "package bus", "engine/bus/a_test.go", "// Package bus is.\npackage bus")
	offends("PackageDocs", "2 package docs", "engine/bus/a.go", "// Package bus is.\npackage bus", "engine/bus/b.go", "// Package bus is.\npackage bus")
	offends("PackageDocs", "does not begin", "engine/bus/a.go", "// The bus.\npackage bus")
	offends("PackageDocs", "does not begin", "services/cmd/xcord/main.go", "// Package main is.\npackage main")
	offends("PackageDocs", "no package doc", "services/e2e/a_test.go", "package e2e")
	passes("PackageDocs", "engine/bus/a.go", "// Package bus is.\npackage bus", "engine/bus/b.go", "// a comment\n\npackage bus",
		"services/cmd/xcord/main.go", "// Command xcord runs.\npackage main", "engine/bus/a_test.go", "package bus_test")

	offends("NoSleepsInTests", "a_test.go:3: time.Sleep", "engine/bus/a_test.go", "package bus\nimport \"time\"\nfunc f() { time.Sleep(1) }")
	offends("NoSleepsInTests", "a_test.go:3", "engine/bus/a_test.go", "package bus\nimport t \"time\"\nvar sleep = t.Sleep")
	passes("NoSleepsInTests", "engine/bus/a.go", "package bus\nimport \"time\"\nfunc f() { time.Sleep(1) }", "engine/bus/a_test.go",
		"package bus\nimport (\"testing/synctest\"; \"time\")\nfunc f() { synctest.Test(nil, func() { time.Sleep(1) }) }")

	offends("EnvironmentOnlyConf", "a.go:3", "engine/bus/a.go", "package bus\nimport \"os\"\nvar x, _ = os.LookupEnv(\"HOME\")")
	offends("EnvironmentOnlyConf", "a.go:3", "engine/bus/a.go", "package bus\nimport \"os\"\nvar x = os.Getenv(\"HOME\")")
	passes("EnvironmentOnlyConf", "engine/conf/a.go", "package conf\nimport \"os\"\nvar x = os.Getenv(\"HOME\")",
		"engine/harness/a.go", "package harness\nimport \"os\"\nvar x = os.Getenv(\"HOME\")")

	offends("NoInit", "a.go:2", "engine/bus/a.go", "package bus\nfunc init() {}")
	passes("NoInit", "engine/bus/a.go", "package bus\ntype t int\nfunc (t) init() {}")

	offends("CheapHashesInTests", "a.go:3", "services/node/a.go", "package node\nimport \"Q/services/auth\"\nfunc f() { auth.CheapHashes() }")
	passes("CheapHashesInTests", "services/e2e/a_test.go", "package e2e\nimport \"Q/services/auth\"\nfunc f() { auth.CheapHashes() }")

	offends("SQLPlaces", "a.go:2", "services/auth/a.go", "package auth\nconst q = `\n select id\n from users`")
	offends("SQLPlaces", "a.go:2", "services/auth/a.go", "package auth\nconst q = \"INSERT INTO users values (1)\"")
	passes("SQLPlaces", "services/auth/store.go", "package auth\nconst q = `select id from users`", "services/auth/a.go",
		"package auth\nconst q = \"Select a channel\"", "services/auth/a_test.go", "package auth\nconst q = `delete from users`")

	long := "package bus\nfunc f() {\n" + strings.Repeat("\n", functionLinesMax-1) + "}\n"
	offends("SizeLimits", "func f has 81 lines", "engine/bus/a.go", long)
	offends("SizeLimits", "has 601 lines", "engine/bus/a.go", "package bus\n"+strings.Repeat("\n", fileLinesMax))
	passes("SizeLimits", "engine/bus/a_test.go", long, "engine/bus/a.go", strings.Replace(long, "\n\n", "\n", 1))

	offends("TODOsHaveNumbers", "a.go:2", "engine/bus/a.go", "package bus\n// TODO: later\nvar x int")
	offends("TODOsHaveNumbers", "a.go:2", "engine/bus/a.go", "package bus\nvar x int // FIXME(#3)")
	passes("TODOsHaveNumbers", "engine/bus/a.go", "package bus\n// TODO(#12): later. A TODO has a number.\nvar x int")

	tried["TopLevelIsFixed"] = true
	if got := topLevelRule(&tree{top: []string{"engine", ".git", "go.mod", "pkg"}}); len(got) != 1 || !strings.Contains(got[0], "pkg") {
		t.Errorf("TopLevelIsFixed: got %q", got)
	}

	for name := range maps.Keys(rules) {
		if !tried[name] {
			t.Errorf("rule %s has never been seen to fail", name)
		}
	}
}
