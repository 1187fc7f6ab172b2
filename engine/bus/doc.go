// Package bus is the one log: it publishes entries to a Redis Stream, lets every process tail it, and lets a group of
// consumers work through it exactly once. It does not know what an entry means, who may write it, or what it looks like
// to a client; that is for wire, roster and the services.
//
// # Ordering and durability
//
// There is one order: that of the stream. Publish and Apply return when Redis has the entry, which under
// `appendfsync always` means that it has been synced; the position they return is where it stands for good. A Tail sees
// every entry once and in order, and tells of a Cut where that cannot be. A Group may see an entry more than once (after a
// crash), always in order, so a handler must be idempotent.
//
// # When Redis is away
//
// Publish and Apply fail with a 503 fault after a bounded number of retries, and at once while it does not come back. Tail and Group
// keep trying, and go on where they were. What has come back without everything that it had is closed until it has a new
// epoch.
package bus
