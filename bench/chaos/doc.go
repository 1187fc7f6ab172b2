// Package chaos proves what the README promises: real xcord processes on a real Redis and Postgres, under load, are killed,
// stopped, cut off and told lies, and afterwards everything that every client has seen is held against everything that is stored.
// It measures little and judges all: any violation makes it fail.
//
// It has two halves. The checker (history.go, model.go, check.go, order.go, veil.go) is pure: a history, written by the clients alone,
// and the final state go in, violations come out. Its own test mutates correct histories and demands that each mutant is caught. The
// run (the test files) makes such histories: four faults in `make test`, all of them, three times, in `make chaos`, and until a million
// events are acknowledged in `make chaos-long`. The last two also fail when a bar is missed, such as how long posts are refused after a
// restart of Redis; those are times, and the short run only prints them. And `make chaos` runs builds that break a promise: each must
// be caught.
//
// It does not break disks, clocks or memory, and it does not lose power: a disk that lies about a flush is not seen here.
package chaos
