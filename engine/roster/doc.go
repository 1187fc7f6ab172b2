// Package roster knows who is in which guild, with which channels and roles, and what a member may do there: the read model
// beside the log, changed with the log in one step and read together with a position in it. It does not decide about
// changes (that is for the services that own the rows), and it does not send anything to anybody.
//
// # How it stays right
//
// A guild is an aggregate with a version. Each change of it is one row in the outbox, one entry in the log and one step
// of the read model in Redis, in the order of versions. Fold makes the next snapshot from an entry, so a copy that was loaded
// at some version and has seen every entry since is equal to the read model; a copy that missed one notices it by the version.
//
// A Roster is the copy of a service: as fresh as its tail, and refreshed whenever it would say no. What it says yes to is
// protected by the fence: a publish carries the version that was judged by, and is refused when the guild has moved on.
// A gateway keeps copies of its own, which move with its tail and with nothing else; it uses only the Look functions and Fold.
package roster
