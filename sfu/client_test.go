package sfu

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

const patience = 20 * time.Second

// startServer starts one on a port of its own on the loopback.
func startServer(t testing.TB, config Config) *Server {
	t.Helper()
	config.Listen = loopback
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// client is a PeerConnection of Pion's as anybody would make it, with a microphone and slots.
type client struct {
	*Participant
	t       testing.TB
	pc      *webrtc.PeerConnection
	mic     *webrtc.TrackLocalStaticRTP
	levelID uint8
	seq     uint16
	ts      uint32
	heard   chan heard
	up      chan struct{}
	offers  int
}

// heard is a packet that a client received.
type heard struct {
	slot   webrtc.SSRC
	packet *rtp.Packet
}

type clientConfig struct {
	slots   int
	network []webrtc.NetworkType
	mux     ice.UDPMux // a socket of the test's own
}

// join makes a client and waits until it is connected.
func join(t testing.TB, s *Server, room string, config clientConfig) *client {
	t.Helper()
	c := newClient(t, config)
	c.joinRoom(s, room)
	c.await(c.up)
	return c
}

func newClient(t testing.TB, config clientConfig) *client {
	t.Helper()
	c := &client{t: t, heard: make(chan heard, 4096), up: make(chan struct{})}
	var media webrtc.MediaEngine
	must(t, media.RegisterDefaultCodecs())
	must(t, media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: levelURI}, webrtc.RTPCodecTypeAudio))
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.LoggerFactory = quiet
	settings.SetICEMulticastDNSMode(1)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if config.network != nil {
		settings.SetNetworkTypes(config.network)
	}
	if config.mux != nil {
		settings.SetICEUDPMux(config.mux)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithSettingEngine(settings), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	must(t, err)
	c.pc = pc
	t.Cleanup(func() { _ = pc.GracefulClose() })
	c.mic, err = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: clockRate, Channels: 2}, "mic", "mic")
	must(t, err)
	_, err = pc.AddTransceiverFromTrack(c.mic, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	must(t, err)
	for range config.slots {
		_, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		must(t, err)
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			select {
			case c.heard <- heard{track.SSRC(), p}:
			default:
			}
		}
	})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			close(c.up)
		}
	})
	pc.OnNegotiationNeeded(func() { c.offers++ })
	offer, err := pc.CreateOffer(nil)
	must(t, err)
	must(t, pc.SetLocalDescription(offer))
	return c
}

func (c *client) joinRoom(s *Server, room string) {
	c.t.Helper()
	<-webrtc.GatheringCompletePromise(c.pc)
	p, answer, err := s.Join(context.Background(), room, c.pc.LocalDescription().SDP)
	must(c.t, err)
	c.Participant = p
	must(c.t, c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}))
	for _, ext := range c.pc.GetSenders()[0].GetParameters().HeaderExtensions {
		if ext.URI == levelURI {
			c.levelID = uint8(ext.ID)
		}
	}
}

func (c *client) await(what <-chan struct{}) {
	c.t.Helper()
	select {
	case <-what:
	case <-time.After(patience):
		c.t.Fatal("nothing happened for " + patience.String())
	}
}

// say sends one packet of 20 ms with an audio level.
func (c *client) say(level uint8, payload string) {
	c.t.Helper()
	p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: c.seq, Timestamp: c.ts}, Payload: []byte(payload)}
	must(c.t, p.SetExtension(c.levelID, []byte{0x80 | level}))
	c.seq, c.ts = c.seq+1, c.ts+frameTicks
	must(c.t, c.mic.WriteRTP(p))
}

// sayUntil speaks until stop has been satisfied by what listener hears, a packet every few milliseconds.
func (c *client) sayUntil(listener *client, stop func(heard) bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		select {
		case <-tick.C:
			c.say(20, "voice of somebody")
		case h := <-listener.heard:
			if stop(h) {
				return
			}
		case <-end:
			c.t.Fatal("not heard for " + patience.String())
		}
	}
}

func from(p *client) func(heard) bool {
	return func(h heard) bool { return len(h.packet.CSRC) == 1 && h.packet.CSRC[0] == p.VoiceID }
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
