// Package e2e tests XCord from outside: real nodes on a real Redis and Postgres, real clients. It has no code of its own
// beside its tests, and it does not test what a package can test by itself.
package e2e
