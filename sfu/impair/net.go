package impair

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// inboxMax is how many packets wait for a reader of a port; more are lost, as in the kernel.
const inboxMax = 4096

// Net is a network in memory, a star: each port has a link up to the middle and one down from it. Time is that of package
// time, so in a bubble of testing/synctest hours pass in no time. All methods are for any goroutine.
type Net struct {
	mu    sync.RWMutex
	ports map[netip.AddrPort]*Port
	stop  chan struct{}
	done  sync.WaitGroup
	once  sync.Once
}

// NewNet makes an empty network.
func NewNet() *Net { return &Net{ports: map[netip.AddrPort]*Port{}, stop: make(chan struct{})} }

// Port is an end of the network, to be used like a UDP socket. Deadlines for reading are refused, those for writing
// have no meaning since nothing blocks.
type Port struct {
	// Up carries what the port sends, Down what it gets.
	Up, Down *Link

	net    *Net
	addr   netip.AddrPort
	inbox  chan letter
	closed chan struct{}
	once   sync.Once
}

type letter struct {
	from   netip.AddrPort
	packet []byte
}

// Listen adds a port. It fails if the address is taken.
func (n *Net) Listen(addr netip.AddrPort, seed uint64, up, down Config) (*Port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[addr] != nil {
		return nil, fmt.Errorf("listen on %s: the address is taken", addr)
	}
	p := &Port{net: n, addr: addr, inbox: make(chan letter, inboxMax), closed: make(chan struct{})}
	p.Up = newLink(seed, up, func(packet []byte, to any) { n.route(addr, to.(netip.AddrPort), packet) })
	p.Down = newLink(seed^0xd, down, func(packet []byte, from any) { p.put(from.(netip.AddrPort), packet) })
	n.ports[addr] = p
	n.done.Go(func() { p.Up.run(n.stop) })
	n.done.Go(func() { p.Down.run(n.stop) })
	return p, nil
}

// Close ends the network and waits for its goroutines; ports read until they are closed.
func (n *Net) Close() {
	n.once.Do(func() { close(n.stop) })
	n.done.Wait()
}

// route takes what nobody listens for away.
func (n *Net) route(from, to netip.AddrPort, packet []byte) {
	n.mu.RLock()
	p := n.ports[to]
	n.mu.RUnlock()
	if p != nil {
		p.Down.send(packet, from)
	}
}

func (p *Port) put(from netip.AddrPort, packet []byte) {
	select {
	case p.inbox <- letter{from: from, packet: append([]byte(nil), packet...)}:
	default:
	}
}

// ReadFrom blocks for the next packet; what does not fit into b is cut off. It fails with net.ErrClosed.
func (p *Port) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-p.closed:
		return 0, nil, net.ErrClosed
	case l := <-p.inbox:
		return copy(b, l.packet), net.UDPAddrFromAddrPort(l.from), nil
	}
}

// WriteTo sends a copy of b. It never blocks. It fails with net.ErrClosed.
func (p *Port) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
	}
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("write to %v: not an address of UDP", to)
	}
	ap := addr.AddrPort()
	p.Up.send(b, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
	return len(b), nil
}

// Close gives the address back and ends readers.
func (p *Port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.net.mu.Lock()
		delete(p.net.ports, p.addr)
		p.net.mu.Unlock()
	})
	return nil
}

// LocalAddr is the port's address, a *net.UDPAddr.
func (p *Port) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.addr) }

// SetDeadline is refused.
func (p *Port) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline is refused.
func (p *Port) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline does nothing.
func (p *Port) SetWriteDeadline(time.Time) error { return nil }
