package sfu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"
)

func TestServer_TwoHearEachOther(t *testing.T) {
	t.Parallel()
	f := func(name string, server Config, network ...webrtc.NetworkType) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, server)
			a := join(t, s, "room", clientConfig{slots: 3, network: network})
			b := join(t, s, "room", clientConfig{slots: 3, network: network})
			a.sayUntil(b, from(a))
			b.sayUntil(a, from(b))
			if _, short := a.slots[0].writer.(*outlet); short != (network == nil) {
				t.Errorf("the short way is taken: %v", short)
			}
		})
	}
	f("ICE-lite", Config{})
	f("full ICE", Config{FullICE: true})
	f("TCP", Config{}, webrtc.NetworkTypeTCP4)
}

func TestServer_SpeakersChangeInOneSlot(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	a, b, ear := join(t, s, "room", clientConfig{slots: 1}), join(t, s, "room", clientConfig{slots: 1}), join(t, s, "room", clientConfig{slots: 1})
	before := ear.pc.RemoteDescription().SDP
	var last *heard
	for range 3 {
		for _, speaker := range []*client{a, b} {
			must(t, ear.Subscribe(Subscription{Include: []uint32{speaker.VoiceID}}))
			speaker.sayUntil(ear, func(h heard) bool {
				if last != nil && (h.slot != last.slot || int16(h.packet.SequenceNumber-last.packet.SequenceNumber) <= 0 || int32(h.packet.Timestamp-last.packet.Timestamp) < frameTicks) {
					t.Errorf("slot %d: %v after slot %d: %v", h.slot, h.packet.Header, last.slot, last.packet.Header)
				}
				last = &h
				if level := h.packet.GetExtension(ear.levelID); len(level) != 1 || level[0] != 20 {
					t.Errorf("the level came as %v", level)
				}
				return from(speaker)(h)
			})
		}
	}
	if ear.pc.RemoteDescription().SDP != before || ear.pc.SignalingState() != webrtc.SignalingStateStable {
		t.Error("something was negotiated")
	}
}

func TestServer_JoinsAndLeavesSayNothingToOthers(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	speaker, ear := join(t, s, "room", clientConfig{slots: 3}), join(t, s, "room", clientConfig{slots: 3})
	speaker.sayUntil(ear, from(speaker))
	sdp, offers := ear.pc.RemoteDescription().SDP, ear.offers
	others := make(chan *client, 50)
	var storm sync.WaitGroup
	for range 4 {
		storm.Go(func() {
			for c := range others {
				c.joinRoom(s, "room")
				c.await(c.up)
				c.Leave()
				c.await(c.Left())
			}
		})
	}
	for range cap(others) {
		others <- newClient(t, clientConfig{slots: 3})
	}
	close(others)
	storm.Wait()
	speaker.sayUntil(ear, from(speaker))
	if ear.pc.RemoteDescription().SDP != sdp || ear.offers != offers {
		t.Error("a listener had to negotiate")
	}
	if n, rooms := s.Participants(); n != 2 || rooms != 1 {
		t.Errorf("%d participants in %d rooms are left", n, rooms)
	}
	if got := len(*speaker.source.targets.Load()); got != 1 {
		t.Errorf("the speaker is sent to %d slots", got)
	}
}

func TestServer_LeavingEndsARoom(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	a, b := join(t, s, "room", clientConfig{slots: 1}), join(t, s, "room", clientConfig{slots: 1})
	must(t, a.pc.Close()) // a browser that closes says so
	a.await(a.Left())
	b.Leave()
	b.Leave()
	b.await(b.Left())
	if n, rooms := s.Participants(); n != 0 || rooms != 0 {
		t.Errorf("%d participants in %d rooms are left", n, rooms)
	}
}

func TestServer_StartsAndStopsAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	for range 3 {
		c := join(t, s, "room", clientConfig{slots: 1})
		var both sync.WaitGroup
		both.Go(s.Stop)
		both.Go(s.Stop)
		both.Wait()
		c.await(c.Left())
		if _, _, err := s.Join(t.Context(), "room", c.pc.LocalDescription().SDP); !errors.Is(err, ErrStopped) {
			t.Errorf("a stopped server answered %v", err)
		}
		must(t, s.Start(t.Context()))
		must(t, s.Start(t.Context()))
	}
}

func TestServer_PutsOutWhoNeverConnects(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{ConnectTimeout: time.Millisecond})
	c := newClient(t, clientConfig{slots: 1})
	<-webrtc.GatheringCompletePromise(c.pc)
	p, _, err := s.Join(t.Context(), "room", c.pc.LocalDescription().SDP)
	must(t, err)
	c.await(p.Left())
}

func TestServer_HasLimits(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{RoomMax: 1, ParticipantsMax: 2})
	c := newClient(t, clientConfig{slots: 1})
	offer := c.pc.LocalDescription().SDP
	enter := func(room string, want error) {
		t.Helper()
		if _, _, err := s.Join(t.Context(), room, offer); !errors.Is(err, want) {
			t.Errorf("room %s: %v", room, err)
		}
	}
	enter("a", nil)
	enter("a", ErrFull)
	enter("b", nil)
	enter("c", ErrFull)
	if n, rooms := s.Participants(); n != 2 || rooms != 2 {
		t.Errorf("%d participants in %d rooms", n, rooms)
	}
}

func TestServer_RefusesBadOffers(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	good := newClient(t, clientConfig{slots: 2}).pc.LocalDescription().SDP
	f := func(name, offer string) {
		t.Helper()
		if _, _, err := s.Join(t.Context(), "room", offer); !errors.Is(err, ErrOffer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f("nothing", "")
	f("garbage", "hello")
	f("too long", good+strings.Repeat("a=x\r\n", offerMax))
	f("a camera", strings.Replace(good, "m=audio", "m=video", 1))
	f("no microphone", strings.Replace(good, "a=sendonly", "a=recvonly", 1))
	f("no slots", good[:strings.LastIndex(good[:strings.LastIndex(good, "m=audio")], "m=audio")])
	f("two microphones", strings.Replace(good, "a=recvonly", "a=sendonly", 1))
	f("a bad SSRC", strings.Replace(good, "a=ssrc:", "a=ssrc:x", 1))
	f("no Opus", strings.ReplaceAll(good, "opus/48000", "speex/48000"))
	f("no fingerprint", strings.ReplaceAll(good, "a=fingerprint", "a=fingertip"))
	f("no ICE", strings.ReplaceAll(good, "a=ice-ufrag", "a=ice-cream"))
	if n, rooms := s.Participants(); n != 0 || rooms != 0 {
		t.Errorf("%d participants in %d rooms are left of bad offers", n, rooms)
	}
}

func TestServer_AnswersWithWhatWasMeasuredToMatter(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{Announce: []netip.Addr{netip.MustParseAddr("192.0.2.7")}})
	c := newClient(t, clientConfig{slots: 3})
	_, answer, err := s.Join(t.Context(), "room", c.pc.LocalDescription().SDP)
	must(t, err)
	f := func(want string, times int) {
		t.Helper()
		if got := strings.Count(answer, want); got != times {
			t.Errorf("%q is there %d times, not %d", want, got, times)
		}
	}
	f("a=ice-lite", 1)
	f("a=setup:passive", 4) // else browsers take the dear cipher
	f("a=rtcp-fb:111 nack", 4)
	f("usedtx=1", 4)
	f("a=recvonly", 1)
	f("a=sendonly", 3)
	f(levelURI, 4)
	f(" 192.0.2.7 ", 2) // once for UDP and once for TCP, under one number
	f("127.0.0.1 ", 0)
	f(fmt.Sprintf(" %d typ host", s.Addr().Port()), 2)
}

func TestConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := New(Config{RoomMax: -1, Announce: []netip.Addr{netip.IPv4Unspecified()}})
	for _, want := range []string{"listen", "negative", "announced"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %q in %v", want, err)
		}
	}
}

// What a stranger sends to the port, and what a participant sends beside its voice, is no matter of the others.
func TestServer_AbuseHurtsNobodyElse(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	a, b := join(t, s, "room", clientConfig{slots: 1}), join(t, s, "room", clientConfig{slots: 1})
	a.sayUntil(b, from(a))

	stranger, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.Addr()))
	must(t, err)
	defer func() { _ = stranger.Close() }()
	binding, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("nobody:nowhere"), stun.NewShortTermIntegrity("guessed"), stun.Fingerprint)
	must(t, err)
	for i := range 3 * stunMax {
		for _, packet := range [][]byte{binding.Raw, {}, {0x80}, make([]byte, 60000), {22, 254, 253}, append([]byte{0x80, 111}, make([]byte, 40)...)} {
			if i < 100 || len(packet) > 0 && packet[0] == 0 {
				_, _ = stranger.Write(packet) // what does not fit into the socket is lost, as it would be
			}
		}
	}
	idle, err := net.Dial("tcp4", s.Addr().String())
	must(t, err)
	defer func() { _ = idle.Close() }()
	_, err = idle.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	must(t, err)

	a.sayUntil(b, from(a))
}

func TestSource_RefusesWhatWasNotNegotiated(t *testing.T) {
	t.Parallel()
	onStage(t, func(t *testing.T, s *stage) {
		p, ear := s.enter(1), s.enter(1)
		good := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SSRC: p.source.ssrc, SequenceNumber: 1}, Payload: []byte("voice of somebody")}
		take := func(change func(*rtp.Packet)) int {
			packet := *good.Clone()
			packet.SequenceNumber, good.SequenceNumber = good.SequenceNumber, good.SequenceNumber+1
			change(&packet)
			b, err := packet.Marshal()
			must(t, err)
			p.source.take(b, time.Now())
			return len(ear.in(0))
		}
		if take(func(*rtp.Packet) {}) != 1 {
			t.Error("a good packet did not come through")
		}
		if take(func(p *rtp.Packet) { p.PayloadType = 96 }) != 0 {
			t.Error("an unknown payload type came through")
		}
		if take(func(p *rtp.Packet) { p.SSRC++ }) != 0 {
			t.Error("a spoofed SSRC came through")
		}
		if take(func(p *rtp.Packet) { p.Payload = make([]byte, payloadMax+1) }) != 0 {
			t.Error("an oversized packet came through")
		}
		if take(func(p *rtp.Packet) { p.Version = 1 }) != 0 {
			t.Error("another version came through")
		}
	})
}

// Pion keeps something for every SSRC that it has seen, so there is a limit.
func TestParticipant_ManySSRCsPutItOut(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	a, b, bad := join(t, s, "room", clientConfig{slots: 1}), join(t, s, "room", clientConfig{slots: 1}), join(t, s, "room", clientConfig{slots: 1})
	for i := range streamsMax {
		must(t, bad.pc.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: uint32(i + 1), Nacks: []rtcp.NackPair{{PacketID: 1}}}}))
	}
	bad.await(bad.Left())
	a.sayUntil(b, from(a))
}
