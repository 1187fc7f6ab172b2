package quality_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/xcord/xcord/sfu/impair"
	"github.com/xcord/xcord/sfu/quality"
	"github.com/xcord/xcord/sfu/red"
	"github.com/xcord/xcord/sfu/speaker"
)

const (
	ms         = time.Millisecond
	typeOpus   = 111
	typeRED    = 63
	reportEach = time.Second
)

var serverAddr = netip.MustParseAddrPort("10.0.0.1:5000")

// room is a server with a connection to each of its clients, all of them real ones of pion, in a network in memory. It lives
// in virtual time: everything is to be made within one call of synctest.Test.
type room struct {
	t       *testing.T
	net     *impair.Net
	mux     ice.UDPMux
	nack    bool
	clients []*client
	stop    chan struct{}
	running sync.WaitGroup
	closers []io.Closer
}

// client is one end of a connection, as the server has it and as it has itself.
type client struct {
	room      *room
	port      *impair.Port
	own, ours *webrtc.PeerConnection
	ownPeer   *quality.Peer // its measures of itself
	peer      *quality.Peer // the server's of it
	mic, slot *track
	heard     chan *rtp.Packet // what arrives on the slot
	connected chan struct{}
	once      sync.Once
}

// track is a local track whose packets have the payload type that they come with.
type track struct {
	id      string
	ssrc    uint32
	writer  webrtc.TrackLocalWriter
	bound   chan struct{}
	history red.History
	seq     uint16
	sent    int // bytes of payload
}

func newTrack(id string) *track { return &track{id: id, bound: make(chan struct{})} }

func (s *track) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	s.ssrc, s.writer = uint32(ctx.SSRC()), ctx.WriteStream()
	close(s.bound)
	for _, c := range ctx.CodecParameters() {
		if c.PayloadType == typeOpus {
			return c, nil
		}
	}
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}
func (s *track) Unbind(webrtc.TrackLocalContext) error { return nil }
func (s *track) ID() string                            { return s.id }
func (s *track) RID() string                           { return "" }
func (s *track) StreamID() string                      { return "stream" }
func (s *track) Kind() webrtc.RTPCodecType             { return webrtc.RTPCodecTypeAudio }

// write sends a frame with so many copies of those before it.
func (s *track) write(timestamp uint32, frame []byte, copies int) error {
	s.seq++
	h := &rtp.Header{Version: 2, PayloadType: typeOpus, SequenceNumber: s.seq, Timestamp: timestamp, SSRC: s.ssrc}
	payload := frame
	if copies > 0 {
		h.PayloadType = typeRED
		payload = s.history.Append(nil, copies, s.seq, timestamp, typeOpus, frame)
	}
	s.history.Push(s.seq, timestamp, frame)
	s.sent += len(payload)
	_, err := s.writer.WriteRTP(h, payload)
	return err
}

func newRoom(t *testing.T, withNACK bool) *room {
	t.Helper()
	r := &room{t: t, net: impair.NewNet(), nack: withNACK, stop: make(chan struct{})}
	port := r.listen(serverAddr, impair.Config{}, impair.Config{})
	r.mux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: port})
	return r
}

func (r *room) listen(addr netip.AddrPort, up, down impair.Config) *impair.Port {
	r.t.Helper()
	port, err := r.net.Listen(addr, uint64(len(r.clients))+1, up, down)
	if err != nil {
		r.t.Fatal(err)
	}
	return port
}

// close ends everything, and waits for it.
func (r *room) close() {
	close(r.stop)
	for _, c := range r.clients {
		for _, pc := range []*webrtc.PeerConnection{c.own, c.ours} {
			if err := pc.GracefulClose(); err != nil {
				r.t.Error(err)
			}
		}
	}
	for _, c := range r.closers {
		if err := c.Close(); err != nil {
			r.t.Error(err)
		}
	}
	if err := r.mux.Close(); err != nil {
		r.t.Error(err)
	}
	r.net.Close()
	r.running.Wait()
}

// api is one connection's: Opus and RED, one interceptor, and one socket.
func (r *room) api(mux ice.UDPMux, attach func(*quality.Peer), answersNACK bool) *webrtc.API {
	r.t.Helper()
	engine := &webrtc.MediaEngine{}
	opus := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}
	if r.nack {
		opus.RTCPFeedback = []webrtc.RTCPFeedback{{Type: "nack"}}
	}
	copies := webrtc.RTPCodecCapability{MimeType: "audio/red", ClockRate: 48_000, Channels: 2, SDPFmtpLine: "111/111"}
	registry := &interceptor.Registry{}
	registry.Add(quality.NewFactory(quality.FactoryConfig{RedundantType: typeRED, Attach: func(_ string, p *quality.Peer) { attach(p) }}))
	if answersNACK {
		responder, err := nack.NewResponderInterceptor(nack.ResponderSize(64))
		r.must(err)
		registry.Add(responder)
	}
	r.must(engine.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: opus, PayloadType: typeOpus}, webrtc.RTPCodecTypeAudio))
	r.must(engine.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: copies, PayloadType: typeRED}, webrtc.RTPCodecTypeAudio))
	r.must(engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: speaker.LevelURI}, webrtc.RTPCodecTypeAudio))
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	settings := webrtc.SettingEngine{LoggerFactory: quiet}
	settings.SetICEUDPMux(mux)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	return webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings))
}

func (r *room) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// join connects a client over these lines, which leave alone what is no RTP.
func (r *room) join(up, down impair.Config) *client {
	r.t.Helper()
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(len(r.clients) + 1)}), 5000)
	c := &client{
		room: r, port: r.listen(addr, up, down), mic: newTrack("mic"), slot: newTrack("slot"),
		heard: make(chan *rtp.Packet, 10_000), connected: make(chan struct{}),
	}
	c.port.Up.Only(impair.RTP)
	c.port.Down.Only(impair.RTP)
	r.clients = append(r.clients, c)
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: c.port})
	r.closers = append(r.closers, mux)
	var err error
	c.own, err = r.api(mux, func(p *quality.Peer) { c.ownPeer = p }, true).NewPeerConnection(webrtc.Configuration{})
	r.must(err)
	c.ours, err = r.api(r.mux, func(p *quality.Peer) { c.peer = p }, false).NewPeerConnection(webrtc.Configuration{})
	r.must(err)
	c.own.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			c.once.Do(func() { close(c.connected) })
		}
	})
	c.own.OnTrack(func(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) { c.readSlot(remote, receiver) })
	c.ours.OnTrack(func(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) { c.readMic(remote, receiver) })

	sender, err := c.own.AddTransceiverFromTrack(c.mic, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	r.must(err)
	_, err = c.own.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
	r.must(err)
	_, err = c.ours.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
	r.must(err)
	back, err := c.ours.AddTransceiverFromTrack(c.slot, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	r.must(err)
	r.readReports(sender.Sender())
	r.readReports(back.Sender())
	r.negotiate(c)
	<-c.connected
	<-c.mic.bound
	<-c.slot.bound
	for _, p := range []*quality.Peer{c.ownPeer, c.peer} {
		r.running.Go(func() { r.report(p) })
	}
	return c
}

func (r *room) negotiate(c *client) {
	r.t.Helper()
	offer, err := c.own.CreateOffer(nil)
	r.must(err)
	gathered := webrtc.GatheringCompletePromise(c.own)
	r.must(c.own.SetLocalDescription(offer))
	<-gathered
	r.must(c.ours.SetRemoteDescription(*c.own.LocalDescription()))
	answer, err := c.ours.CreateAnswer(nil)
	r.must(err)
	gathered = webrtc.GatheringCompletePromise(c.ours)
	r.must(c.ours.SetLocalDescription(answer))
	<-gathered
	r.must(c.own.SetRemoteDescription(*c.ours.LocalDescription()))
}

// readReports lets the interceptor see what is said of a sender's stream.
func (r *room) readReports(from interface {
	Read([]byte) (int, interceptor.Attributes, error)
}) {
	r.running.Go(func() {
		buf := make([]byte, 1500)
		for {
			if _, _, err := from.Read(buf); err != nil {
				return
			}
		}
	})
}

func (r *room) report(p *quality.Peer) {
	tick := time.NewTicker(reportEach)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			if err := p.Report(0); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				r.t.Error(err)
				return
			}
		}
	}
}

func (c *client) readMic(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	c.room.readReports(receiver)
	for {
		if _, _, err := remote.ReadRTP(); err != nil {
			return
		}
	}
}

func (c *client) readSlot(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	c.room.readReports(receiver)
	for {
		p, _, err := remote.ReadRTP()
		if err != nil {
			return
		}
		c.heard <- p
	}
}

// talk sends what a speaker says for so long, to each of these tracks with as many copies as is asked for.
func talk(t *testing.T, length time.Duration, copies func(i int) int, tracks ...*track) {
	t.Helper()
	begin := time.Now()
	for _, p := range speaker.New(speaker.Config{Seed: 1, Timestamp: 1<<32 - 48_000}).Until(length) {
		<-time.After(p.At - time.Since(begin))
		for i, s := range tracks {
			if err := s.write(p.Timestamp, p.Payload, copies(i)); err != nil {
				t.Fatal(fmt.Errorf("after %v: %w", p.At, err))
			}
		}
	}
}

func plain(int) int { return 0 }
