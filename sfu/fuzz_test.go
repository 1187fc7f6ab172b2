package sfu

import (
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// FuzzOffer: no offer hurts, and one that is let in makes an answer and a participant who can leave.
func FuzzOffer(f *testing.F) {
	c := newClient(f, clientConfig{slots: 1})
	<-webrtc.GatheringCompletePromise(c.pc)
	f.Add(c.pc.LocalDescription().SDP)
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=recvonly\r\n")
	s := startServer(f, Config{})
	f.Fuzz(func(t *testing.T, offer string) {
		p, answer, err := s.Join(t.Context(), "room", offer)
		if err != nil {
			return
		}
		if answer == "" || len(p.slots) == 0 || len(p.slots) > SlotsMax {
			t.Errorf("%d slots and the answer %q", len(p.slots), answer)
		}
		p.Leave()
		<-p.Left()
	})
}

// FuzzPacket: what a participant sends as RTP and RTCP, decrypted, is read within its bounds, and what is forwarded is what was sent.
func FuzzPacket(f *testing.F) {
	good := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SSRC: 1}, Payload: []byte("voice of somebody")}
	must(f, good.SetExtension(1, []byte{20}))
	b, err := good.Marshal()
	must(f, err)
	f.Add(b, b)
	f.Add(b, nack(1, 1, 0xffff))
	f.Add([]byte{0xbf, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0x17, 1, 2, 3, 4}, []byte{0x81, 201, 0, 7})
	socket, err := openSocket(loopback)
	must(f, err)
	f.Cleanup(func() { _ = socket.Close() })
	server := &Server{socket: socket}
	f.Fuzz(func(t *testing.T, in, control []byte) {
		s := &stage{t, server, &room{name: "stage"}}
		p, ear := s.enter(1), s.enter(1)
		now := time.Now()
		p.source.take(in, now)
		p.source.take(b, now)
		for _, got := range ear.in(0) {
			var theirs rtp.Packet
			if string(got.Payload) == string(good.Payload) {
				continue
			}
			// What Pion cannot read it does not hand over.
			if err := theirs.Unmarshal(in); err == nil && string(theirs.Payload) != string(got.Payload) {
				t.Errorf("forwarded %x of %x, which Pion reads as %x", got.Payload, in, theirs.Payload)
			}
		}
		ear.control(control, now)
	})
}
