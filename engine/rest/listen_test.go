package rest

import (
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

// scarce is a listener in a process that may open no more files, for a while.
type scarce struct {
	net.Listener
	left atomic.Int64
}

func (l *scarce) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// TestListen_GoesOnAfterAShortageOfFiles: a server that gave up would end the process, and all its sessions.
func TestListen_GoesOnAfterAShortageOfFiles(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Internal: true}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		short := &scarce{Listener: ln}
		short.left.Store(3)
		s := &Server{cfg: cfg.withDefaults(), log: slog.New(slog.DiscardHandler)}
		wrapped, err := s.wrap(short)
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := wrapped.Accept()
		if err != nil {
			t.Fatalf("internal %v: %v", cfg.Internal, err)
		}
		_, _ = conn.Close(), client.Close()
		if err := wrapped.Close(); err != nil {
			t.Error(err)
		}
		if _, err := wrapped.Accept(); err == nil {
			t.Errorf("internal %v: a closed listener has a connection", cfg.Internal)
		}
	}
}
