package rest

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/limit"
)

var (
	turnedAwayAddr  = metrics.NewCounter(`xcord_rest_turned_away_total{reason="address"}`)
	turnedAwayTotal = metrics.NewCounter(`xcord_rest_turned_away_total{reason="total"}`)
	acceptShortages = metrics.NewCounter(`xcord_rest_accept_shortages_total`)
)

// tooMany is told to whoever is turned away. It fits into the buffer of a fresh connection, so that writing it does not wait.
const tooMany = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 5\r\nVia: 1.1 xcord\r\nConnection: close\r\n" +
	"Content-Length: 74\r\n\r\n" + `{"message":"Too many connections.","retry_after":5,"global":true,"code":0}`

// steady goes on when a connection cannot be taken for a reason that passes: the process may open no more files, or the kernel is short of
// memory. It waits, and clients wait in the kernel's queue. fasthttp would give up, and with it the process and all its sessions.
type steady struct {
	net.Listener
	log   *slog.Logger
	short bool // said once per shortage; of the goroutine that accepts
}

// acceptPause is also the longest that Close waits for it.
const acceptPause = 50 * time.Millisecond

func (l *steady) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if !isShortage(err) {
			l.short = false
			return conn, err
		}
		acceptShortages.Inc()
		if !l.short {
			l.short = true
			l.log.Error("no connection can be taken, and it is tried again", "err", err)
		}
		time.Sleep(acceptPause)
	}
}

func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// counter bounds the open connections, upgraded ones too: of everybody, and of one address unless it is exempt. fasthttp's own limit
// by address passes all of IPv6.
type counter struct {
	net.Listener
	server *Server

	mu     sync.Mutex // guards what follows
	open   int
	byAddr map[limit.Subject]int
}

// counted is one connection. That it is a TCPConn keeps what the net package can do for those.
type counted struct {
	*net.TCPConn
	once   sync.Once
	closed func()
}

func (c *counted) Close() error {
	c.once.Do(c.closed)
	return c.TCPConn.Close()
}

// Accept returns the next connection that is within the bounds. Others are told so and closed.
func (l *counter) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp := conn.(*net.TCPConn)
		peer := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if l.enter(peer) {
			return &counted{TCPConn: tcp, closed: func() { l.leave(peer) }}, nil
		}
		// What fails here, fails somebody who is turned away.
		_ = tcp.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		if l.server.cfg.TLS == nil {
			_, _ = tcp.Write([]byte(tooMany))
		}
		_ = tcp.Close()
	}
}

func (l *counter) enter(peer netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.server.cfg.ConnectionsMax {
		turnedAwayTotal.Inc()
		return false
	}
	if l.server.counted(peer) {
		who := limit.Addr(peer)
		if l.byAddr[who] >= l.server.cfg.ConnectionsPerAddrMax {
			turnedAwayAddr.Inc()
			return false
		}
		l.byAddr[who]++
	}
	l.open++
	return true
}

func (l *counter) leave(peer netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if !l.server.counted(peer) {
		return
	}
	who := limit.Addr(peer)
	if l.byAddr[who]--; l.byAddr[who] == 0 {
		delete(l.byAddr, who)
	}
}
