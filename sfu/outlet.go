package sfu

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"
)

// outlet is the short way of a listener's packets: SRTP with the keys of its connection, and the socket's queue. Pion's own way leads
// through five more objects of each connection, which are in nobody's cache when a thousand listeners take turns (0023).
// It is a webrtc.TrackLocalWriter, for any goroutine.
type outlet struct {
	socket *socket

	mu     sync.Mutex // guards all below; the last lock, but for the queue's
	srtp   *srtp.Context
	to     netip.AddrPort
	header rtp.Header // EncryptRTP reads it from the packet
	packet [datagramMax]byte
}

// WriteRTP implements webrtc.TrackLocalWriter.
func (o *outlet) WriteRTP(header *rtp.Header, payload []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := header.MarshalTo(o.packet[:])
	if err != nil {
		return 0, err
	}
	n += copy(o.packet[n:], payload)
	sealed, err := o.srtp.EncryptRTP(o.packet[:], o.packet[:n], &o.header)
	if err != nil {
		return 0, err
	}
	return o.socket.WriteToAddrPort(sealed, o.to)
}

// Write is of the interface, and of no use here.
func (o *outlet) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }

func (o *outlet) move(to netip.AddrPort) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = to
}

// shorten gives the participant an outlet, if its connection is over UDP. It is called once, before anything was sent: SRTP counts what it
// has sent, so nobody can take over from another in the middle. Where it cannot be done Pion's way stays, which knows TCP as well.
func (p *Participant) shorten() {
	ice := p.pc.GetSenders()[0].Transport().ICETransport()
	pair, err := ice.GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return
	}
	to, ok := remoteUDP(pair)
	if !ok {
		return
	}
	context, err := p.secrets.context()
	if err != nil {
		return
	}
	out := &outlet{socket: p.server.socket, srtp: context, to: to}
	for _, l := range p.slots {
		l.redirect(out)
	}
	// The client's address may change, and with it the pair; one that goes over to TCP has to come back by a new connection.
	ice.OnSelectedCandidatePairChange(func(pair *webrtc.ICECandidatePair) {
		if to, ok := remoteUDP(pair); ok {
			out.move(to)
		} else {
			p.Leave()
		}
	})
}

// remoteUDP is where the other end of a pair is, if it is reached over UDP.
func remoteUDP(pair *webrtc.ICECandidatePair) (netip.AddrPort, bool) {
	if pair.Remote.Protocol != webrtc.ICEProtocolUDP {
		return netip.AddrPort{}, false
	}
	ip, err := netip.ParseAddr(pair.Remote.Address)
	return netip.AddrPortFrom(ip, pair.Remote.Port), err == nil
}

// secrets overhears a handshake of Pion's, which gives the keys of SRTP to nobody else. It forgets what it heard once they are made.
type secrets struct {
	mu           sync.Mutex // guards all below; a handshake runs beside everything
	profile      srtp.ProtectionProfile
	serverRandom [handshake.RandomLength]byte
	clientRandom []byte
	master       []byte
}

// hello reads the server's part of the handshake, and leaves it as it is.
func (s *secrets) hello(m handshake.MessageServerHello) handshake.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serverRandom = m.Random.MarshalFixed()
	for _, ext := range m.Extensions {
		if chosen, ok := ext.(*extension.UseSRTP); ok && len(chosen.ProtectionProfiles) == 1 {
			s.profile = srtp.ProtectionProfile(chosen.ProtectionProfiles[0])
		}
	}
	return &m
}

// Write reads a line of a key log, as NSS began them: a label, the client's random, the master secret.
func (s *secrets) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields := bytes.Fields(line)
	if len(fields) != 3 || string(fields[0]) != "CLIENT_RANDOM" {
		return 0, errors.New("sfu: a line of another key log")
	}
	var err error
	if s.clientRandom, err = hex.AppendDecode(nil, fields[1]); err != nil {
		return 0, fmt.Errorf("read the client's random: %w", err)
	}
	if s.master, err = hex.AppendDecode(nil, fields[2]); err != nil {
		return 0, fmt.Errorf("read the master secret: %w", err)
	}
	return len(line), nil
}

// context makes SRTP for what the server sends (RFC 5764, 4.2).
func (s *secrets) context() (*srtp.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { clear(s.master) }()
	if len(s.master) == 0 || s.profile == 0 {
		return nil, errors.New("sfu: nothing was heard of the handshake")
	}
	key, err := s.profile.KeyLen()
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	salt, err := s.profile.SaltLen()
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	seed := append(append([]byte("EXTRACTOR-dtls_srtp"), s.clientRandom...), s.serverRandom[:]...)
	material, err := prf.PHash(s.master, seed, 2*(key+salt), sha256.New)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	// The client's key, the server's key, the client's salt, the server's salt.
	return srtp.CreateContext(material[key:2*key], material[2*key+salt:], s.profile)
}

// cipherSuites is the one that every client of WebRTC has to have (RFC 8827, 6.5). Its hash is what context derives with.
var cipherSuites = []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
