package sfu

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"
	"golang.org/x/net/netutil"
)

const (
	// SlotsMax is how many slots an offer may have.
	SlotsMax = 8

	// tcpConnsMax bounds connections over TCP, of participants and of who only connects; those go after tcpFirstMax.
	tcpConnsMax = 4096
	tcpFirstMax = 5 * time.Second
	tcpQueue    = 64 // packets read ahead for each
	listenTries = 16
)

var (
	// ErrFull is the answer when a room, or the server, has as many participants as it may.
	ErrFull = errors.New("sfu: no room for one more")
	// ErrStopped is the answer of a server that is not running.
	ErrStopped = errors.New("sfu: not running")
	// ErrOffer is wrapped by every error that is the fault of what a client sent as SDP.
	ErrOffer = errors.New("sfu: bad offer")
)

// Config is what a server needs. Zero values are defaults, but for Listen.
type Config struct {
	// Listen is the address and port for UDP and, under the same number, ICE over TCP. Port 0 picks one.
	Listen netip.AddrPort
	// Announce are addresses that clients are told in place of the local ones, for a host behind a 1:1 NAT.
	Announce []netip.Addr
	// FullICE makes the server check paths itself. Without it (ICE-lite) it waits for clients' checks, which needs an address that
	// they can reach, and saves timers and goroutines.
	FullICE bool
	// RoomMax and ParticipantsMax bound one room and the whole server; 1000 and 5000 by default.
	RoomMax, ParticipantsMax int
	// ConnectTimeout is how long a participant may take from the answer to a connection; 20 s by default.
	ConnectTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.RoomMax == 0 {
		c.RoomMax = 1000
	}
	if c.ParticipantsMax == 0 {
		c.ParticipantsMax = 5000
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 20 * time.Second
	}
	return c
}

func (c Config) validate() error {
	var bad []error
	if !c.Listen.Addr().IsValid() {
		bad = append(bad, errors.New("sfu: no address to listen on"))
	}
	if c.RoomMax < 0 || c.ParticipantsMax < 0 || c.ConnectTimeout < 0 {
		bad = append(bad, errors.New("sfu: a limit is negative"))
	}
	for _, a := range c.Announce {
		if !a.IsValid() || a.IsUnspecified() {
			bad = append(bad, fmt.Errorf("sfu: %v cannot be announced", a))
		}
	}
	return errors.Join(bad...)
}

// Server forwards voice between the participants of its rooms. Its methods may be called by any goroutine.
type Server struct {
	config      Config
	certificate webrtc.Certificate

	life sync.Mutex // held by Start and Stop from begin to end

	mu      sync.Mutex // guards running, rooms and count
	running bool
	rooms   map[string]*room
	count   int // participants, those who are joining too

	// Set by Start, for as long as there are participants.
	socket *socket
	udp    ice.UDPMux
	tcp    ice.TCPMux
	stop   context.CancelFunc

	busy sync.WaitGroup // participants until their connections are closed, and the reporter

	voiceIDs atomic.Uint32
}

// New checks the configuration and makes the certificate that all connections share.
func New(config Config) (*Server, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	certificate, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &Server{config: config.withDefaults(), certificate: *certificate}, nil
}

// Start listens on UDP and TCP. What runs already goes on.
func (s *Server) Start(context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.stop != nil {
		return nil
	}
	udp, tcp, err := listen(s.config.Listen)
	if err != nil {
		return err
	}
	s.socket = udp
	s.udp = ice.NewUDPMuxDefault(ice.UDPMuxParams{Logger: quiet.NewLogger("ice"), UDPConn: udp})
	s.tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{
		Listener: netutil.LimitListener(tcp, tcpConnsMax), Logger: quiet.NewLogger("ice"), ReadBufferSize: tcpQueue,
		WriteBufferSize: 256 << 10, FirstStunBindTimeout: tcpFirstMax, AliveDurationForConnFromStun: tcpFirstMax,
	})
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.busy.Go(func() { s.report(ctx) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms, s.running = map[string]*room{}, true
	return nil
}

// listen opens one port number for both. Where any will do, one that is free for UDP and taken for TCP is not the last try.
func listen(at netip.AddrPort) (udp *socket, tcp net.Listener, err error) {
	for range listenTries {
		if udp, err = openSocket(at); err != nil {
			return nil, nil, err
		}
		got := udp.LocalAddr().(*net.UDPAddr)
		if tcp, err = net.ListenTCP("tcp", &net.TCPAddr{IP: got.IP, Port: got.Port, Zone: got.Zone}); err == nil {
			return udp, tcp, nil
		}
		_ = udp.Close() // nothing was sent on it
		if at.Port() != 0 {
			break
		}
	}
	return nil, nil, fmt.Errorf("listen for voice over TCP: %w", err)
}

// Stop puts everybody out and closes the sockets. It waits for what is being closed.
func (s *Server) Stop() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.stop == nil {
		return
	}
	s.mu.Lock()
	s.running = false
	var all []*Participant
	for _, r := range s.rooms {
		all = append(all, r.everybody()...)
	}
	s.mu.Unlock()
	for _, p := range all {
		p.Leave()
	}
	s.stop()
	s.stop = nil
	s.busy.Wait()
	_ = s.tcp.Close() // what is closed here has no more users who could mind
	_ = s.udp.Close()
}

// Addr is where the server listens, for UDP and TCP.
func (s *Server) Addr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return netip.AddrPort{}
	}
	return s.socket.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Participants tells how many there are, and in how many rooms.
func (s *Server) Participants() (participants, rooms int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, len(s.rooms)
}

// enter reserves a place in a room, which is made if need be.
func (s *Server) enter(name string, p *Participant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return ErrStopped
	}
	r := s.rooms[name]
	if r == nil {
		r = &room{name: name}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.count >= s.config.ParticipantsMax || len(r.members) >= s.config.RoomMax {
		return ErrFull
	}
	s.rooms[name] = r
	s.count++
	p.room = r
	r.members = append(r.members, p)
	s.busy.Add(1) // until p.close is done
	return nil
}

// exit gives the place back.
func (s *Server) exit(p *Participant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	if p.room.leave(p) && s.rooms[p.room.name] == p.room {
		delete(s.rooms, p.room.name)
	}
}

// quiet is for Pion, which would write a line for every packet that a stranger makes up.
var quiet = &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
