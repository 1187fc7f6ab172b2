package sfu

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/transport/v5/packetio"
	"github.com/pion/webrtc/v4"
)

// streamsMax is how many SSRCs a connection may come with. A client has one microphone and reports about its slots; who makes up
// more is put out, since Pion keeps something for each.
const streamsMax = 64

// Participant is one connection in a room: a microphone, and slots to hear others in.
type Participant struct {
	VoiceID uint32 // the CSRC of all that this participant says; never 0, and of nobody else on this server

	server *Server
	room   *room
	pc     *webrtc.PeerConnection
	source source
	slots  []*slot

	// Guarded by room.mu.
	connected bool
	deaf      bool
	wants     Subscription

	rtt          atomic.Int64 // ns, 0 before it is known
	streams      atomic.Int32
	resendBuffer [payloadMax]byte // of the SRTCP loop
	late         *time.Timer
	secrets      secrets
	reached      sync.Once
	leaving      sync.Once
	negotiated   chan struct{} // closed when pc is what it will be
	left         chan struct{}
}

// Join lets a client with this offer into a room, which is made by its first participant and ends with its last. The answer is for the
// client; nothing else has to be negotiated while it stays. ctx bounds the making of the answer only. Errors wrap ErrOffer, ErrFull or
// ErrStopped where they are not ours.
func (s *Server) Join(ctx context.Context, room, offer string) (p *Participant, answer string, err error) {
	defer func() {
		if err != nil {
			joinsRefusedTotal.Inc()
		}
	}()
	shape, err := readOffer(offer)
	if err != nil {
		return nil, "", err
	}
	p = &Participant{VoiceID: s.newVoiceID(), server: s, negotiated: make(chan struct{}), left: make(chan struct{})}
	p.source.owner, p.source.ssrc = p, shape.ssrc
	p.source.targets.Store(&[]*slot{})
	for i := range shape.slots {
		p.slots = append(p.slots, newSlot(p, i))
	}
	p.late = time.AfterFunc(math.MaxInt64, p.Leave)
	if err := s.enter(room, p); err != nil {
		p.late.Stop()
		return nil, "", err
	}
	p.late.Reset(s.config.ConnectTimeout)
	answer, err = p.negotiate(ctx, offer)
	close(p.negotiated)
	if err != nil {
		p.Leave()
		return nil, "", err
	}
	joinsTotal.Inc()
	return p, answer, nil
}

// newVoiceID counts up, past 0.
func (s *Server) newVoiceID() uint32 {
	for {
		if id := s.voiceIDs.Add(1); id != 0 {
			return id
		}
	}
}

// SetMute stops what the participant says at the server, whatever the client does.
func (p *Participant) SetMute(on bool) { p.source.muted.Store(on) }

// SetDeaf stops everything that the participant would hear.
func (p *Participant) SetDeaf(on bool) { p.room.change(p, func() { p.deaf = on }) }

// Subscribe says whom the participant wants to hear. It is in force when it returns.
func (p *Participant) Subscribe(to Subscription) error {
	if to.Slots < 0 || len(to.Include) > choicesMax || len(to.Exclude) > choicesMax {
		return fmt.Errorf("sfu: a subscription has at most %d voice ids in a list, and no negative number of slots", choicesMax)
	}
	p.room.change(p, func() { p.wants = to })
	return nil
}

// Leave ends the participant. Nobody hears them, and they hear nobody, when it returns; the connection closes behind it. Twice is fine.
func (p *Participant) Leave() {
	p.leaving.Do(func() {
		p.late.Stop()
		p.server.exit(p)
		go p.close()
	})
}

// close waits for Pion's goroutines, which no callback of Pion may do.
func (p *Participant) close() {
	defer p.server.busy.Done()
	defer close(p.left)
	<-p.negotiated
	if p.pc != nil {
		_ = p.pc.GracefulClose() // it is gone, whatever it says
	}
}

// Left is closed when the participant has left, by itself, by a lost connection or with the server, and its connection is closed.
func (p *Participant) Left() <-chan struct{} { return p.left }

// stateChanged is called by Pion.
func (p *Participant) stateChanged(state webrtc.PeerConnectionState) {
	switch state {
	case webrtc.PeerConnectionStateConnected:
		p.late.Stop()
		p.reached.Do(func() {
			p.shorten()
			p.room.arrive(p)
		})
	case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
		p.Leave()
	}
}

// stream is what Pion writes packets of one SSRC to, from its SRTP or SRTCP loop, once it has decrypted them: nothing is copied or queued.
type stream struct {
	p      *Participant
	kind   packetio.BufferPacketType
	ended  chan struct{}
	ending sync.Once
}

// newStream is a BufferFactory.
func (p *Participant) newStream(kind packetio.BufferPacketType, ssrc uint32) io.ReadWriteCloser {
	if p.streams.Add(1) > streamsMax {
		p.Leave()
	}
	if kind == packetio.RTPBufferPacket && p.source.ssrc == 0 {
		p.source.ssrc = ssrc // called by the SRTP loop, which alone reads it
	}
	return &stream{p: p, kind: kind, ended: make(chan struct{})}
}

// Write takes a packet, whole.
func (s *stream) Write(b []byte) (int, error) {
	switch s.kind {
	case packetio.RTPBufferPacket:
		s.p.source.take(b, time.Now())
		s.p.server.socket.Flush()
	case packetio.RTCPBufferPacket:
		s.p.control(b, time.Now())
	}
	return len(b), nil
}

// Read has nothing to give: it waits for the end.
func (s *stream) Read([]byte) (int, error) {
	<-s.ended
	return 0, io.EOF
}

// Close ends Read.
func (s *stream) Close() error {
	s.ending.Do(func() { close(s.ended) })
	return nil
}
