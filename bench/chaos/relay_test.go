package chaos

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// relay stands between two who talk, and does to what passes whatever the weather is. It listens on TCP, so that its clients can
// be reset.
type relay struct {
	listener net.Listener
	network  string // of the targets
	targets  []string
	turn     atomic.Int64
	done     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	shut   bool // takes no connections
	closed bool
	state  weather
	healed chan struct{} // closed when all is well again
}

// weather says how bad a connection is. The zero value is a good one.
type weather struct {
	// deaf keeps back what the targets answer: what was asked of them is done, and nobody learns of it.
	deaf bool
	// delay of every piece of an answer. What comes meanwhile waits for up to twice as long.
	delay time.Duration
	// rate in bytes a second, both ways; 0 is no limit.
	rate int
	// sliced: what is asked comes one byte at a time.
	sliced bool
}

// newRelay listens and passes on to whichever target takes the connection, in turn.
func newRelay(network string, targets ...string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, network: network, targets: targets, conns: map[net.Conn]bool{}, healed: make(chan struct{})}
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
	both.Go(func() { r.pass(out, in, false) })
	both.Go(func() { r.pass(in, out, true) })
	both.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, in)
	delete(r.conns, out)
}

// pass hands on what comes until one of the two is gone.
func (r *relay) pass(to, from net.Conn, answers bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !r.hand(to, buffer[:n], answers) || err != nil {
			return
		}
	}
}

// hand writes a piece as slowly as the weather lets, looking again behind every part of it, and says whether it could.
func (r *relay) hand(to net.Conn, piece []byte, answers bool) bool {
	const partsEach = 100 * time.Millisecond
	delayed := false
	for len(piece) > 0 {
		w, healed := r.now()
		part := len(piece)
		switch {
		case w.deaf && answers:
			<-healed
			continue
		case w.delay > 0 && answers && !delayed:
			delayed = true
			wait(w.delay, healed)
			continue
		case w.sliced && !answers:
			part = 1
		case w.rate > 0:
			part = min(part, max(1, int(float64(w.rate)*partsEach.Seconds())))
		}
		if _, err := to.Write(piece[:part]); err != nil {
			return false
		}
		piece = piece[part:]
		if w.rate > 0 {
			wait(time.Duration(float64(part)/float64(w.rate)*float64(time.Second)), healed)
		}
	}
	return true
}

func wait(d time.Duration, healed <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-healed:
	}
}

func (r *relay) now() (weather, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.healed
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

// reset breaks all connections with a reset. Others can be made at once.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns { // all of them first: whoever passes on for one closes the other
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so Close sends RST, and drops what was not sent
		}
	}
	for c := range r.conns {
		_ = c.Close()
	}
}

// spoil makes the weather bad until heal.
func (r *relay) spoil(w weather) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = w
}

// heal ends what was begun. Connections whose answers were kept back are cut: a gateway between would have forgotten them.
func (r *relay) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.deaf {
		for c := range r.conns {
			_ = c.Close()
		}
	}
	r.shut, r.state = false, weather{}
	close(r.healed)
	r.healed = make(chan struct{})
}

func (r *relay) stop() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	_ = r.listener.Close()
	r.heal()
	r.cut()
	r.done.Wait()
}

// TestRelay_DoesHarm: what does none proves nothing.
func TestRelay_DoesHarm(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	reads := make(chan int, 100)
	go func() {
		for conn, err := server.Accept(); err == nil; conn, err = server.Accept() {
			go func() {
				buffer := make([]byte, 100)
				for n, err := conn.Read(buffer); err == nil; n, err = conn.Read(buffer) {
					reads <- n
					_, _ = conn.Write(buffer[:n])
				}
			}()
		}
	}()
	r, err := newRelay("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	say := func(conn net.Conn, text string) error {
		_, err := conn.Write([]byte(text))
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, len(text)))
		}
		return err
	}
	conn := dial()
	defer func() { _ = conn.Close() }()
	if err := say(conn, "hello"); err != nil || <-reads != 5 {
		t.Fatalf("in good weather: %v", err)
	}
	begun := time.Now()
	r.spoil(weather{delay: 50 * time.Millisecond, rate: 100, sliced: true})
	if err := say(conn, "0123456789"); err != nil || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("in bad weather 10 bytes took %v: %v", time.Since(begun), err)
	}
	if n := <-reads; n != 1 {
		t.Errorf("the server read %d bytes at once", n)
	}
	r.heal()
	r.spoil(weather{deaf: true})
	go func() {
		for n := 0; n < 14; { // the rest of the ten, and these
			n += <-reads
		}
		r.heal()
	}()
	if err := say(conn, "hello"); err == nil {
		t.Error("an answer that was kept back was heard")
	}
	conn = dial()
	if err := say(conn, "hello"); err != nil {
		t.Errorf("after all: %v", err)
	}
	r.reset()
	if err := say(conn, "hello"); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a reset is %v", err)
	}
}
