package impair

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

const (
	packetMax = 1 << 16
	// peersMax is how many clients a relay serves; packets of others are dropped.
	peersMax = 4096
)

// Relay is a proxy for UDP with a bad line to each of its clients. To the target every client has an address of its own.
// All methods are for any goroutine.
type Relay struct {
	seed     uint64
	up, down Config
	only     func([]byte) bool
	target   netip.AddrPort
	conn     *net.UDPConn

	mu    sync.Mutex
	peers map[netip.AddrPort]*Peer
	stop  chan struct{}
	done  sync.WaitGroup
	once  sync.Once
}

// Peer is a client of a relay, with the links from it to the target and back.
type Peer struct {
	Up, Down *Link
	conn     *net.UDPConn
}

// NewRelay listens and carries packets to the target until Close. The n-th client has lines with seed+n. only, if there is
// one, is for Link.Only.
func NewRelay(listen, target netip.AddrPort, seed uint64, up, down Config, only func([]byte) bool) (*Relay, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(listen))
	if err != nil {
		return nil, fmt.Errorf("listen for a relay: %w", err)
	}
	r := &Relay{
		seed: seed, up: up, down: down, only: only, target: target, conn: conn,
		peers: map[netip.AddrPort]*Peer{}, stop: make(chan struct{}),
	}
	r.done.Go(r.serve)
	return r, nil
}

// Addr is where it listens.
func (r *Relay) Addr() netip.AddrPort { return r.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Set changes the lines of all clients, also of those to come.
func (r *Relay) Set(up, down Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up, r.down = up, down
	for _, p := range r.peers {
		p.Up.Set(up)
		p.Down.Set(down)
	}
}

// Peer is the client with this address, nil if it has sent nothing.
func (r *Relay) Peer(client netip.AddrPort) *Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers[client]
}

// Close ends it and waits for its goroutines.
func (r *Relay) Close() error {
	r.once.Do(func() {
		close(r.stop)
		_ = r.conn.Close() // a closed socket of UDP has nothing left to say
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.peers {
			_ = p.conn.Close()
		}
	})
	r.done.Wait()
	return nil
}

func (r *Relay) serve() {
	buf := make([]byte, packetMax)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		select {
		case <-r.stop:
			return
		default:
		}
		if err != nil {
			continue // the error of an earlier packet, which the kernel tells late
		}
		if p := r.peer(from); p != nil {
			p.Up.send(buf[:n], nil)
		}
	}
}

// peer is the client with this address, a new one if it has none yet, nil if there are too many.
func (r *Relay) peer(client netip.AddrPort) *Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.peers[client]; p != nil {
		return p
	}
	select {
	case <-r.stop:
		return nil // Close has seen all that there will be
	default:
	}
	if len(r.peers) == peersMax {
		return nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.target))
	if err != nil {
		return nil
	}
	seed := r.seed + uint64(len(r.peers))
	p := &Peer{conn: conn}
	// What cannot be sent is lost: so it is with UDP.
	p.Up = newLink(seed, r.up, func(packet []byte, _ any) { _, _ = conn.Write(packet) })
	p.Down = newLink(seed^0xd, r.down, func(packet []byte, _ any) { _, _ = r.conn.WriteToUDPAddrPort(packet, client) })
	p.Up.Only(r.only)
	p.Down.Only(r.only)
	r.peers[client] = p
	r.done.Go(func() { p.Up.run(r.stop) })
	r.done.Go(func() { p.Down.run(r.stop) })
	r.done.Go(func() { r.back(p) })
	return p
}

func (r *Relay) back(p *Peer) {
	buf := make([]byte, packetMax)
	for {
		n, err := p.conn.Read(buf)
		select {
		case <-r.stop:
			return
		default:
		}
		if err == nil {
			p.Down.send(buf[:n], nil)
		}
	}
}
