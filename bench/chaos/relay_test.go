package chaos

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// relay stands between two who talk, and breaks what passes.
type relay struct {
	listener net.Listener
	network  string
	targets  []string
	turn     atomic.Int64
	done     sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	shut  bool // takes no connections
	// deaf keeps back what the targets answer: what was asked of them is done, and nobody learns of it.
	deaf   chan struct{}
	closed bool
}

// newRelay listens and passes on to whichever target takes the connection, in turn.
func newRelay(network, addr string, targets ...string) (*relay, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, network: network, targets: targets, conns: map[net.Conn]bool{}}
	r.done.Go(r.accept)
	return r, nil
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.done.Go(func() { r.serve(in) })
	}
}

func (r *relay) serve(in net.Conn) {
	defer func() { _ = in.Close() }()
	var out net.Conn
	for range r.targets {
		target := r.targets[int(r.turn.Add(1))%len(r.targets)]
		conn, err := net.Dial(r.network, target)
		if err == nil {
			out = conn
			break
		}
	}
	if out == nil {
		return
	}
	defer func() { _ = out.Close() }()
	if !r.add(in, out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(out, in)
		_, _ = in.Close(), out.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(in, heard{r, out})
		_, _ = in.Close(), out.Close()
	})
	both.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, in)
	delete(r.conns, out)
}

// heard is a target whose answers may be kept back.
type heard struct {
	r *relay
	io.Reader
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	h.r.mu.Lock()
	deaf := h.r.deaf
	h.r.mu.Unlock()
	if deaf != nil {
		<-deaf
	}
	return n, err
}

func (r *relay) add(in, out net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut || r.closed {
		return false
	}
	r.conns[in], r.conns[out] = true, true
	return true
}

// cut breaks all connections, and lets none be made until heal.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	for c := range r.conns {
		_ = c.Close()
	}
}

// hush keeps all answers back until heal.
func (r *relay) hush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf == nil {
		r.deaf = make(chan struct{})
	}
}

// heal ends what was begun. Connections whose answers were kept back are cut: a gateway between would have forgotten them.
func (r *relay) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = false
	if r.deaf == nil {
		return
	}
	for c := range r.conns {
		_ = c.Close()
	}
	close(r.deaf)
	r.deaf = nil
}

func (r *relay) stop() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	_ = r.listener.Close()
	r.heal()
	r.cut()
	r.done.Wait()
	if r.network == "unix" {
		_ = os.Remove(r.addr())
	}
}
