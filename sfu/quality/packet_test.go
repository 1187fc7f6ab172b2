package quality

import (
	"bytes"
	"slices"
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

func rtpBytes(t testing.TB, p *rtp.Packet) []byte {
	t.Helper()
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseRTP_ReadsLevels(t *testing.T) {
	t.Parallel()
	f := func(name string, profile uint16, id uint8, want uint8) {
		t.Helper()
		p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: 7, Extension: true, ExtensionProfile: profile}, Payload: []byte{1, 2, 3}}
		for other := uint8(2); other < 5; other++ {
			if err := p.SetExtension(other, []byte{1, 2}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.SetExtension(id, []byte{0x80 | 42}); err != nil {
			t.Fatal(err)
		}
		h, err := parseRTP(rtpBytes(t, p), 10)
		if err != nil || h.level != want || h.size != 3 {
			t.Errorf("%s: got level %d of %+v, %v", name, h.level, h, err)
		}
	}
	f("one byte", oneByte, 10, 42)
	f("two bytes", twoBytes, 10, 42)
	f("another id", oneByte, 11, noLevel)
}

// FuzzRTP holds what is read against pion's parser, which allocates: whatever both take, they read alike, and nothing is read
// beyond the packet.
func FuzzRTP(f *testing.F) {
	p := &rtp.Packet{Header: rtp.Header{Version: 2, Marker: true, PayloadType: 111, CSRC: []uint32{1, 2}, Padding: true, PaddingSize: 4}, Payload: []byte{1, 2}}
	if err := p.SetExtension(1, []byte{30}); err != nil {
		f.Fatal(err)
	}
	f.Add(rtpBytes(f, p))
	f.Add([]byte{0x90, 111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseRTP(b, 1)
		NewIncoming(IncomingConfig{LevelID: 1, RedundantType: 63}).Packet(b, 1)
		if err != nil {
			return
		}
		if h.size < 0 || h.payload+h.size > len(b) || h.level > 127 && h.level != noLevel {
			t.Fatalf("%x: %+v", b, h)
		}
		var want rtp.Packet
		if want.Unmarshal(slices.Clone(b)) != nil {
			return
		}
		if h.ssrc != want.SSRC || h.sequence != want.SequenceNumber || h.timestamp != want.Timestamp || h.payloadType != want.PayloadType ||
			h.marker != want.Marker || !bytes.Equal(b[h.payload:h.payload+h.size], want.Payload) {
			t.Fatalf("%x: got %+v, pion has %+v", b, h, want)
		}
	})
}

// FuzzRTCP: blocks and requests are those that pion finds in what it takes.
func FuzzRTCP(f *testing.F) {
	seed, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: 1, NTPTime: 2, Reports: []rtcp.ReceptionReport{{SSRC: 3, TotalLost: 0xfffff0, LastSequenceNumber: 9}}},
		&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 3, FractionLost: 26}}},
		&rtcp.TransportLayerNack{MediaSSRC: 3, Nacks: []rtcp.NackPair{{PacketID: 65535, LostPackets: 5}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0x80, 200, 0, 0})
	f.Add([]byte{0x9f, 201, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var blocks []block
		var asked int
		err := parseRTCP(b, &visitor{
			senderReport: func(uint32, uint64) {},
			report:       func(b block) { blocks = append(blocks, b) },
			nack:         func(uint32, uint16, uint16) { asked++ },
		})
		p := testPeer(nil)
		p.outgoing[3] = NewOutgoing(0)
		p.outgoing[3].Packet(1, 2, 3, 4)
		p.RTCP(b)
		packets, other := rtcp.Unmarshal(b)
		if err != nil || other != nil {
			return
		}
		var want []rtcp.ReceptionReport
		wantAsked := 0
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.SenderReport:
				want = append(want, p.Reports...)
			case *rtcp.ReceiverReport:
				want = append(want, p.Reports...)
			case *rtcp.TransportLayerNack:
				wantAsked += len(p.Nacks)
			}
		}
		if len(want) != len(blocks) || asked != wantAsked {
			t.Fatalf("%x: %d blocks and %d requests, pion has %d and %d", b, len(blocks), asked, len(want), wantAsked)
		}
		for i, w := range want {
			if g := blocks[i]; g.ssrc != w.SSRC || g.fraction != w.FractionLost || uint32(g.lost)&0xffffff != w.TotalLost ||
				g.highest != w.LastSequenceNumber || g.jitter != w.Jitter || g.last != w.LastSenderReport || g.delay != w.Delay {
				t.Fatalf("%x: block %d is %+v, pion has %+v", b, i, g, w)
			}
		}
	})
}
