package impair

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var addrA, addrB = netip.MustParseAddrPort("10.0.0.1:5000"), netip.MustParseAddrPort("10.0.0.2:6000")

// rtp is a packet that RTP takes for one of RTP.
func rtp(n int) []byte { return binary.BigEndian.AppendUint64([]byte{0x80, 111, 0, 0}, uint64(n)) }

func number(packet []byte) int { return int(binary.BigEndian.Uint64(packet[4:])) }

func TestNet_CarriesAsItsLinesDecide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNet()
		defer n.Close()
		a, err := n.Listen(addrA, 1, Config{Delay: 30 * time.Millisecond}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.Listen(addrB, 2, Config{}, Config{Loss: Random(0.2), Delay: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b.Down.Only(RTP)
		var fates []int
		b.Down.Watch(func(f Fate) {
			if len(f.Arrivals) == 1 {
				fates = append(fates, number(f.Packet))
			}
		})
		begin := time.Now()
		for i := range 500 {
			if _, err := a.WriteTo(rtp(i), b.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.WriteTo([]byte{1, 2}, b.LocalAddr()); err != nil { // is no RTP: 30 ms, and never lost
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		if size, from, err := b.ReadFrom(buf); err != nil || size != 2 || from.String() != addrA.String() || time.Since(begin) != 30*time.Millisecond {
			t.Fatalf("got %d bytes from %v after %v, %v", size, from, time.Since(begin), err)
		}
		var got []int
		for range fates {
			size, _, err := b.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, number(buf[:size]))
		}
		if took := time.Since(begin); took != 50*time.Millisecond || !slices.Equal(got, fates) {
			t.Errorf("%d packets after %v, want %d after 50 ms", len(got), took, len(fates))
		}
		if truth := b.Down.Truth(); truth.Packets != 500 || int(truth.Lost) != 500-len(got) {
			t.Errorf("%+v, but %d arrived", truth, len(got))
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read from a closed port: %v", err)
		}
		if _, err := b.WriteTo(nil, a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("written to a closed port: %v", err)
		}
	})
}

func TestNet_RefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	n := NewNet()
	defer n.Close()
	p, err := n.Listen(addrA, 1, Config{}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := n.Listen(addrA, 1, Config{}, Config{}); err == nil {
		t.Error("an address was given away twice")
	}
	if err := p.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("a deadline was taken: %v", err)
	}
	if _, err := p.WriteTo(nil, &net.TCPAddr{}); err == nil {
		t.Error("an address of TCP was taken")
	}
	if _, err := p.WriteTo(nil, net.UDPAddrFromAddrPort(addrB)); err != nil {
		t.Errorf("a packet to nobody: %v", err)
	}
}

// The packet that ends each round is no RTP, and passes whatever the lines are like.
func TestRelay_IsABadLineBetweenSockets(t *testing.T) {
	t.Parallel()
	target := listen(t)
	r, err := NewRelay(loopback, target.LocalAddr().(*net.UDPAddr).AddrPort(), 1, Config{Loss: Random(0.3)}, Config{Loss: Random(0.1)}, RTP)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	client := listen(t)
	send := func(from *net.UDPConn, to net.Addr, n int) {
		t.Helper()
		for i := range n {
			packet := rtp(i)
			if i == n-1 {
				packet = []byte{0}
			}
			if _, err := from.WriteTo(packet, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(conn *net.UDPConn) (packets int, from net.Addr) {
		t.Helper()
		buf := make([]byte, 100)
		for {
			size, addr, err := conn.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if from = addr; size == 1 {
				return packets, from
			}
			packets++
		}
	}
	send(client, net.UDPAddrFromAddrPort(r.Addr()), 101)
	got, back := read(target)
	peer := r.Peer(client.LocalAddr().(*net.UDPAddr).AddrPort())
	if truth := peer.Up.Truth(); truth.Packets != 100 || truth.Lost == 0 || got != 100-int(truth.Lost) {
		t.Errorf("up: %+v, and %d arrived", truth, got)
	}
	send(target, back, 101)
	got, _ = read(client)
	if truth := peer.Down.Truth(); truth.Packets != 100 || truth.Lost == 0 || got != 100-int(truth.Lost) {
		t.Errorf("down: %+v, and %d arrived", truth, got)
	}
	r.Set(Config{}, Config{})
	send(client, net.UDPAddrFromAddrPort(r.Addr()), 101)
	if got, _ = read(target); got != 100 {
		t.Errorf("%d of 100 passed a line that was made perfect", got)
	}
	if r.Peer(addrA) != nil {
		t.Error("a client that there is not")
	}
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// listen opens a socket that gives up after a minute.
func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}
