package sfu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// batchSize is how many packets leave with one system call. From 32 on more do not make it cheaper (BenchmarkForward).
	batchSize = 64
	// batchMin is from how many on that is worth it: fewer leave one by one.
	batchMin = 4

	datagramMax  = 1500
	socketBuffer = 4 << 20 // bytes; a burst to a thousand listeners is 300 KB

	// stunMax is how many STUN packets a second one address may send, or all addresses that share its place in the table: five hundred people
	// behind one NAT who are all joining, and 0.2 % of a CPU.
	stunMax = 1000
)

// socket is the one UDP socket of a server, as Pion's mux wants it. RTP that is written is queued until Flush; all else
// leaves at once. Everybody may write and flush at any time; whoever flushes sends what all have queued. When the kernel's
// buffer is full, the writer waits: it is a matter of microseconds.
type socket struct {
	*net.UDPConn
	sender interface {
		WriteBatch(ms []ipv4.Message, flags int) (int, error)
	}
	guard guard

	mu    sync.Mutex // guards queue, never held over a system call
	queue *batch
	spare sync.Pool // of *batch
}

// batch is packets with their addresses, all in memory of its own.
type batch struct {
	n        int
	messages [batchSize]ipv4.Message
	to       [batchSize]net.UDPAddr
	ips      [batchSize][16]byte
	bytes    [batchSize][datagramMax]byte
	buffers  [batchSize][1][]byte
}

func newBatch() any {
	b := &batch{}
	for i := range b.messages {
		b.messages[i].Addr = &b.to[i]
		b.messages[i].Buffers = b.buffers[i][:]
	}
	return b
}

// openSocket listens on UDP.
func openSocket(at netip.AddrPort) (*socket, error) {
	network := "udp6"
	if at.Addr().Is4() {
		network = "udp4"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen for voice: %w", err)
	}
	// The kernel gives what it may (net.core.rmem_max); less is not worth refusing to start.
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
	s := &socket{UDPConn: conn, spare: sync.Pool{New: newBatch}}
	s.queue = s.spare.Get().(*batch)
	s.sender = ipv6.NewPacketConn(conn)
	if at.Addr().Is4() {
		s.sender = ipv4.NewPacketConn(conn)
	}
	return s, nil
}

// WriteToAddrPort implements ice.AddrPortReaderWriter.
func (s *socket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if !isRTP(b) || len(b) > datagramMax {
		return s.WriteToUDPAddrPort(b, to)
	}
	s.mu.Lock()
	s.queue.add(b, to)
	var full *batch
	if s.queue.n == batchSize {
		full = s.swap()
	}
	s.mu.Unlock()
	s.send(full)
	return len(b), nil
}

// Flush sends what is queued.
func (s *socket) Flush() {
	s.mu.Lock()
	var waiting *batch
	if s.queue.n > 0 {
		waiting = s.swap()
	}
	s.mu.Unlock()
	s.send(waiting)
}

// swap takes the queue and leaves an empty one. The caller holds mu.
func (s *socket) swap() *batch {
	full := s.queue
	s.queue = s.spare.Get().(*batch)
	return full
}

func (b *batch) add(packet []byte, to netip.AddrPort) {
	i := b.n
	b.n++
	b.buffers[i][0] = b.bytes[i][:copy(b.bytes[i][:], packet)]
	ip := to.Addr().Unmap()
	if ip.Is4() {
		four := ip.As4()
		b.to[i].IP = b.ips[i][:copy(b.ips[i][:], four[:])]
	} else {
		b.ips[i] = ip.As16()
		b.to[i].IP = b.ips[i][:]
	}
	b.to[i].Port = int(to.Port())
}

// send sends a batch, which may be nil. A packet that the kernel refuses is dropped, and the others go on.
func (s *socket) send(b *batch) {
	if b == nil {
		return
	}
	for at := 0; at < b.n; {
		sent, err := s.sendSome(b, at)
		at += sent
		switch {
		case err != nil && errors.Is(err, net.ErrClosed):
			at = b.n
		case err != nil && sent == 0:
			droppedTotal.Inc()
			at++
		}
	}
	b.n = 0
	s.spare.Put(b)
}

func (s *socket) sendSome(b *batch, at int) (sent int, err error) {
	if b.n-at >= batchMin {
		return s.sender.WriteBatch(b.messages[at:b.n], 0)
	}
	if _, err := s.WriteToUDP(b.buffers[at][0], &b.to[at]); err != nil {
		return 0, err
	}
	return 1, nil
}

// ReadFromAddrPort implements ice.AddrPortReaderWriter. It has one reader, the mux.
func (s *socket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		n, from, err := s.ReadFromUDPAddrPort(b)
		if err != nil || !isSTUN(b[:n]) || s.guard.allow(from.Addr(), time.Now()) {
			return n, from, err
		}
		floodTotal.Inc()
	}
}

// isRTP tells RTP from STUN, DTLS and RTCP as RFC 7983 and RFC 5761 do.
func isRTP(b []byte) bool {
	return len(b) >= 2 && b[0]>>6 == 2 && (b[1]&0x7f < 64 || b[1]&0x7f > 95)
}

func isSTUN(b []byte) bool { return len(b) > 0 && b[0] < 4 }

// guard counts STUN by address, in a table that does not grow: who floods may shut out who shares the place, and nobody else. It is for one
// goroutine.
type guard struct {
	places [1024]struct {
		second int64
		n      int
	}
}

func (g *guard) allow(from netip.Addr, now time.Time) bool {
	place := &g.places[hashAddr(from)%uint32(len(g.places))]
	if second := now.Unix(); place.second != second {
		place.second, place.n = second, 0
	}
	place.n++
	return place.n <= stunMax
}

// hashAddr is FNV-1a over an IPv4 address, or the network part of an IPv6 address.
func hashAddr(a netip.Addr) uint32 {
	bytes := a.Unmap().As16()
	part := bytes[:8]
	if a.Unmap().Is4() {
		part = bytes[12:]
	}
	h := uint32(2166136261)
	for _, b := range part {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}
