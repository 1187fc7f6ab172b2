package sfu

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

const (
	offerMax        = 32 << 10 // bytes; Chromium's with three slots is 4 KB
	handshakeMax    = 10 * time.Second
	handshakeRetry  = 100 * time.Millisecond
	iceDisconnected = 5 * time.Second
	iceFailed       = 15 * time.Second
	iceKeepalive    = 2 * time.Second
	opusParameters  = "minptime=10;useinbandfec=1;usedtx=1;stereo=0;maxaveragebitrate=32000"
)

// shape is what an offer asks for.
type shape struct {
	slots int
	ssrc  uint32 // of the microphone, 0 if it is not told
}

// readOffer checks that an offer is one microphone and one to SlotsMax slots, all of them audio.
func readOffer(offer string) (shape, error) {
	if len(offer) > offerMax {
		return shape{}, fmt.Errorf("%w: %d bytes, more than %d", ErrOffer, len(offer), offerMax)
	}
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(offer); err != nil {
		return shape{}, fmt.Errorf("%w: %w", ErrOffer, err)
	}
	media := parsed.MediaDescriptions
	if len(media) < 2 || len(media) > 1+SlotsMax {
		return shape{}, fmt.Errorf("%w: %d media, not a microphone and 1 to %d slots", ErrOffer, len(media), SlotsMax)
	}
	for i, m := range media {
		want := sdp.AttrKeyRecvOnly
		if i == 0 {
			want = sdp.AttrKeySendOnly
		}
		if _, ok := m.Attribute(want); m.MediaName.Media != "audio" || !ok {
			return shape{}, fmt.Errorf("%w: media %d is not audio and %s", ErrOffer, i, want)
		}
	}
	got := shape{slots: len(media) - 1}
	if text, ok := media[0].Attribute(sdp.AttrKeySSRC); ok {
		number, _, _ := strings.Cut(text, " ")
		ssrc, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return shape{}, fmt.Errorf("%w: SSRC %q", ErrOffer, number)
		}
		got.ssrc = uint32(ssrc)
	}
	return got, nil
}

// negotiate makes the connection and its answer, with all candidates.
func (p *Participant) negotiate(ctx context.Context, offer string) (answer string, err error) {
	api, err := p.newAPI()
	if err != nil {
		return "", err
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{p.server.certificate}})
	if err != nil {
		return "", fmt.Errorf("make a connection: %w", err)
	}
	p.pc = pc
	pc.OnConnectionStateChange(p.stateChanged)

	// In this order they become the media of the offer: the microphone, then the slots.
	mic, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
	if err != nil {
		return "", fmt.Errorf("add the microphone: %w", err)
	}
	for _, l := range p.slots {
		if _, err := pc.AddTransceiverFromTrack(l, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
			return "", fmt.Errorf("add a slot: %w", err)
		}
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", fmt.Errorf("%w: %w", ErrOffer, err)
	}
	made, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrOffer, err)
	}
	if err := p.readMicrophone(mic.Receiver().GetParameters()); err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(made); err != nil {
		return "", fmt.Errorf("%w: %w", ErrOffer, err)
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return "", fmt.Errorf("gather candidates: %w", ctx.Err())
	}
	return adapt(pc.LocalDescription().SDP), nil
}

// readMicrophone notes by what numbers the client calls Opus and the audio level.
func (p *Participant) readMicrophone(agreed webrtc.RTPParameters) error {
	for _, codec := range agreed.Codecs {
		if strings.EqualFold(codec.MimeType, webrtc.MimeTypeOpus) {
			p.source.pt = uint8(codec.PayloadType)
		}
	}
	if p.source.pt == 0 {
		return fmt.Errorf("%w: no Opus", ErrOffer)
	}
	for _, ext := range agreed.HeaderExtensions {
		if ext.URI == levelURI {
			p.source.levelID = uint8(ext.ID)
		}
	}
	return nil
}

// adapt makes of Pion's answer ours: our parameters of Opus in place of those of the offer, and requests for what was missed, which browsers
// do not offer for audio and do make when the answer has them. Candidates for RTCP go: it comes on the same port, always.
func adapt(answer string) string {
	var out strings.Builder
	opus := "\x00" // the payload type by which this media has Opus
	for line := range strings.Lines(answer) {
		if pt, ok := strings.CutSuffix(strings.TrimPrefix(line, "a=rtpmap:"), " opus/48000/2\r\n"); ok {
			opus = pt
			fmt.Fprintf(&out, "%sa=rtcp-fb:%s nack\r\na=fmtp:%s %s\r\n", line, pt, pt, opusParameters)
			continue
		}
		rtcp := strings.HasPrefix(line, "a=candidate:") && strings.HasPrefix(line[strings.IndexByte(line, ' ')+1:], "2 ")
		if !rtcp && !strings.HasPrefix(line, "a=fmtp:"+opus+" ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// newAPI sets Pion up for this participant: what it negotiates is its own, sockets are everybody's.
func (p *Participant) newAPI() (*webrtc.API, error) {
	var media webrtc.MediaEngine
	if err := media.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: clockRate, Channels: 2, SDPFmtpLine: opusParameters,
		},
		PayloadType: 111,
	}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("register Opus: %w", err)
	}
	if err := media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: levelURI}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("register the audio level: %w", err)
	}
	settings, err := p.settings()
	if err != nil {
		return nil, err
	}
	// An empty registry: Pion's default interceptors cost a third of a packet and keep a megabyte for each slot.
	return webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithSettingEngine(*settings),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{})), nil
}

func (p *Participant) settings() (*webrtc.SettingEngine, error) {
	config, listen := p.server.config, p.server.socket.LocalAddr().(*net.UDPAddr)
	e := &webrtc.SettingEngine{LoggerFactory: quiet, BufferFactory: p.newStream}
	e.SetLite(!config.FullICE)
	if err := e.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, fmt.Errorf("set the role: %w", err)
	}
	e.SetICEUDPMux(p.server.udp)
	e.SetICETCPMux(p.server.tcp)
	e.DisableActiveTCP(true)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetIncludeLoopbackCandidate(listen.IP.IsLoopback())
	if !listen.IP.IsUnspecified() {
		e.SetIPFilter(listen.IP.Equal)
	}
	var announced []string
	for _, a := range config.Announce {
		announced = append(announced, a.String())
	}
	if len(announced) > 0 {
		if err := e.SetICEAddressRewriteRules(webrtc.ICEAddressRewriteRule{
			External: announced, AsCandidateType: webrtc.ICECandidateTypeHost, Mode: webrtc.ICEAddressRewriteReplace,
		}); err != nil {
			return nil, fmt.Errorf("announce addresses: %w", err)
		}
	}
	e.SetICETimeouts(iceDisconnected, iceFailed, iceKeepalive)
	e.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	e.SetSRTPReplayProtectionWindow(ringSize) // slot.write relies on it: no packet of the last ringSize comes twice
	e.SetDTLSInsecureSkipHelloVerify(true)    // ICE has seen the address answer
	e.SetDTLSCipherSuites(cipherSuites...)
	e.SetDTLSServerHelloMessageHook(p.secrets.hello)
	e.SetDTLSKeyLogWriter(&p.secrets)
	e.SetDTLSRetransmissionInterval(handshakeRetry)
	e.SetDTLSConnectContextMaker(func() (context.Context, func()) {
		return context.WithTimeout(context.Background(), handshakeMax)
	})
	e.SetReceiveMTU(datagramMax)
	e.SetFireOnTrackBeforeFirstRTP(true) // or a goroutine waits for a packet that does not come that way
	return e, nil
}
