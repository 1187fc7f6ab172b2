// Package bench measures the real binary, in a process of its own with a Redis that keeps what it was told (`always`) and
// a Postgres, all on a real disk: posts, fan-out, the writer's rows, and logins and tokens. Beside each load it runs the bare mechanism under
// it, and prints the ratio of the two: machines differ, and a ratio of two figures from one run differs least. It judges
// nothing: no figure makes it fail, only an answer or a delivery that is wrong or missing.
//
// `make bench` runs it, in a minute. How to read the table:
//
//   - "µs" are CPU, user and system: what one post, delivery or row cost the server, Redis and Postgres. In a bare load
//     "server" is the bare one.
//   - "cores" are what all servers, the load generator and all strangers on this machine took meanwhile. The load shares
//     the machine with the server, so figures per second depend on it; those per CPU-second depend on it less. A load with
//     more than a tenth of a core of others is not to be trusted for its figures per second and its latencies.
//   - Saturation is a closed loop: the next post of a sender waits for the answer (or the last delivery) of its latest one.
//     Latencies at saturation are those of that loop and say nothing of a server that is asked more than it can do. At a
//     fixed rate a latency counts from when the post was due, however late it was sent.
//   - The kernel charges a loopback receiver's work to the sender: a write of the bare loop costs 5 to 10 µs for that alone.
//
// With XCORD_BENCH_PROFILES=DIR every load leaves the server's CPU profile there, for `go tool pprof`.
package bench
