// Package quality says how good every path between people in a room is, whose fault it is when it is not, and what to do: it
// measures each stream of RTP, scores paths with the E-model, raises and clears alerts, and decides on remedies. It forwards
// nothing, sends nothing but the reports of RTCP, and decides only: what is decided is done by others.
//
//   - Incoming and Outgoing measure a stream packet by packet; an SFU calls them from where packets pass.
//   - Factory binds them to pion's chain of interceptors, for whoever has one.
//   - A Window is what happened between two Snapshots; Path.Rate scores it; Watch makes reports and alerts of windows.
//   - Redundancy and Congestion decide on remedies, one level at a time, each with what it brought; Frame and Restart on advice.
//
// # Concurrency
//
// Measuring is locked per stream: packets are the business of one goroutine as a rule, and snapshots may be taken by any.
// What decides (Grader, Watch, the remedies) is for one goroutine, pure, and takes the time from its caller.
package quality
