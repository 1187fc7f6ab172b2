// Package tidy holds the rules of the house as tests: floors, where third parties may be, and the rules of style that a
// machine can judge. It has no code for programs, and it does not format or repair anything.
//
// The tables are in places_test.go. Every rule is also run on a tiny bad tree (bad_test.go), so that each is known to be
// able to fail.
package tidy
