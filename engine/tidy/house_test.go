package tidy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rules are all of them, by name.
var rules = map[string]rule{
	"Floors":              floorsRule,
	"ServicesAreApart":    servicesRule,
	"TestHelpersInTests":  testHelpersRule,
	"ThirdPartyPlaces":    thirdPartyRule,
	"TopLevelIsFixed":     topLevelRule,
	"PackageDocs":         packageDocRule,
	"NoSleepsInTests":     sleepRule,
	"EnvironmentOnlyConf": environmentRule,
	"NoInit":              initRule,
	"CheapHashesInTests":  cheapRule,
	"SQLPlaces":           sqlRule,
	"SizeLimits":          sizeRule,
	"TODOsHaveNumbers":    todoRule,
}

func TestHouse_KeepsItsRules(t *testing.T) {
	t.Parallel()
	house, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(house.files) < 10 {
		t.Fatalf("found only %d Go files: this test looks in the wrong place", len(house.files))
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, offence := range rule(house) {
				t.Error(offence)
			}
		})
	}
}

func floorsRule(t *tree) []string {
	var bad []string
	unknown := map[string]bool{}
	for _, f := range t.files {
		from, ok := floorOf(f.dir)
		if !ok && !unknown[f.dir] {
			unknown[f.dir] = true
			bad = append(bad, fmt.Sprintf("%s is on no floor: add it to floors in engine/tidy/places_test.go", f.dir))
		}
		if !ok || f.test {
			continue
		}
		for _, p := range f.imports() {
			dir, ours := strings.CutPrefix(p, module+"/")
			if !ours || slices.Contains(testHelpers, dir) {
				continue // testHelpersRule judges those
			}
			to, ok := floorOf(dir)
			switch {
			case ok && !mayImport(f.dir, dir):
				bad = append(bad, fmt.Sprintf("%s imports %s, which is not for it", f.path, dir))
			case from == sideFloor && !in(dir, "sfu/..."):
				bad = append(bad, fmt.Sprintf("%s imports %s, but what stands beside the house knows nothing of it", f.path, dir))
			case ok && to >= from && to != sideFloor && !slices.Contains(sameFloor[f.dir], dir) && !oneProgram(f.dir, dir):
				bad = append(bad, fmt.Sprintf("%s (floor %d) imports %s (floor %d): only lower floors may be imported", f.path, from, dir, to))
			}
		}
	}
	return bad
}

// oneProgram tells whether both are parts of the benches, which have one entry in the table and may use one another.
func oneProgram(from, to string) bool { return in(from, "bench/...") && in(to, "bench/...") }

// mayImport asks onlyImportedBy.
func mayImport(from, to string) bool {
	for place, importers := range onlyImportedBy {
		if in(to, place) && !inAny(from, importers) {
			return false
		}
	}
	return true
}

func servicesRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		from, ok := floorOf(f.dir)
		if !ok || from != 4 || !strings.HasPrefix(f.dir, "services/") || f.test {
			continue
		}
		for _, p := range f.imports() {
			dir, ours := strings.CutPrefix(p, module+"/services/")
			if ours && "services/"+dir != f.dir {
				bad = append(bad, fmt.Sprintf("%s imports services/%s: services never import each other; publish an event or ask the roster", f.path, dir))
			}
		}
	}
	return bad
}

func testHelpersRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		if f.test || slices.Contains(testHelpers, f.dir) {
			continue
		}
		for _, p := range f.imports() {
			if dir, ours := strings.CutPrefix(p, module+"/"); ours && slices.Contains(testHelpers, dir) {
				bad = append(bad, fmt.Sprintf("%s imports %s, which is for tests only", f.path, dir))
			}
		}
	}
	return bad
}

func thirdPartyRule(t *tree) []string {
	var bad []string
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, p := range f.imports() {
			first, _, _ := strings.Cut(p, "/")
			if !strings.Contains(first, ".") || p == module || strings.HasPrefix(p, module+"/") {
				continue
			}
			mod, places, ok := placeOf(p)
			floor, _ := floorOf(f.dir)
			switch {
			case !ok:
				bad = append(bad, fmt.Sprintf("%s imports %s, which has no place: add it to thirdParties in engine/tidy/places_test.go, with a decision record", f.path, p))
			case floor == 0 && !slices.Contains(testHelpers, f.dir) && floorZeroThirdParties[f.dir] != mod:
				bad = append(bad, fmt.Sprintf("%s imports %s, but floor 0 has the standard library only", f.path, p))
			case slices.Contains(places, anywhere) || inAny(f.dir, places):
			case slices.Contains(places, storeFiles) && isStoreFile(f.path):
			case len(places) == 0:
				bad = append(bad, fmt.Sprintf("%s imports %s, which is for tests only", f.path, mod))
			default:
				bad = append(bad, fmt.Sprintf("%s imports %s, which belongs in %s only", f.path, mod, strings.Join(places, ", ")))
			}
		}
	}
	return bad
}

// placeOf finds the module of an import path and where it may be.
func placeOf(importPath string) (mod string, places []string, ok bool) {
	for m, ps := range thirdParties {
		if importPath == m || strings.HasPrefix(importPath, m+"/") {
			return m, ps, true
		}
	}
	return "", nil, false
}

func topLevelRule(t *tree) []string {
	var bad []string
	for _, name := range t.top {
		if name[0] != '.' && !slices.Contains(topLevel, name) {
			bad = append(bad, fmt.Sprintf("%s does not belong in the root; the top level is fixed", name))
		}
	}
	return bad
}
