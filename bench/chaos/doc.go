// Package chaos proves what the README promises: real xcord processes on a real Redis and Postgres, under load, are killed,
// stopped, cut off and told lies, and afterwards everything that every client has seen is held against everything that is stored.
// It measures little and judges all: any violation makes it fail.
//
// It has two halves. The checker (history.go, model.go, check.go, order.go, veil.go) is pure: a history, written by the clients alone,
// and the final state go in, violations come out. Its own test mutates correct histories and demands that each mutant is caught. The
// run (the test files) makes such histories: four faults in `make test`, those that are worth their time, three times, in `make chaos`, and all,
// until a million events are acknowledged, in `make chaos-long`. The last two also fail when a bar is missed, such as how long posts are refused after a
// restart of Redis; those are times, and the short run only prints them. And `make chaos` runs builds that break a promise: each must
// be caught.
//
// The load posts, edits and deletes; reacts to, clears and pins the same few messages, so that all race; and changes who sees two channels, by
// overwrites, kicks, roles that are given and taken, and a role's permission.
//
// Redis and Postgres have a file system each, which can be filled. Redis runs under a shim (testdata/shim.c) that knows what was
// flushed, so that the rest can be taken away as a loss of power would, and that moves its clock. As another user than root, or
// without a C compiler, these faults are skipped, and said to be. A disk that lies about a flush is not seen here, nor a loss of
// power under Postgres, nor another clock under xcord.
package chaos
