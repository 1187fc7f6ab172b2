package quality

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPeer is a peer on a clock, nil for the usual one.
func testPeer(now func() time.Time) *Peer {
	return NewFactory(FactoryConfig{RedundantType: 63, Now: now}).NewPeer()
}

var (
	_ interceptor.Factory     = (*Factory)(nil)
	_ interceptor.Interceptor = (*Peer)(nil)
)

func TestPeer_HasABound(t *testing.T) {
	t.Parallel()
	p := testPeer(nil)
	for ssrc := range uint32(streamsMax) {
		if p.Receives(ssrc, IncomingConfig{}) == nil || p.Sends(ssrc, 0) == nil {
			t.Fatalf("no place for stream %d", ssrc)
		}
	}
	if p.Receives(streamsMax, IncomingConfig{}) != nil || p.Sends(streamsMax, 0) != nil {
		t.Error("one stream too many is measured")
	}
	if p.Receives(1, IncomingConfig{}) == nil || p.Sends(1, 0) == nil {
		t.Error("a stream cannot begin anew")
	}
	p.Forget(2)
	if p.Incoming(2) != nil || p.Outgoing(2) != nil || p.Receives(streamsMax, IncomingConfig{}) == nil {
		t.Error("a stream was not forgotten")
	}
}

// A packet that passes the interceptor costs nothing but what pion's chain does.
func TestPeer_PassesPacketsWithoutAllocating(t *testing.T) {
	p := testPeer(nil)
	info := &interceptor.StreamInfo{SSRC: 1, ClockRate: 48_000, RTCPFeedback: []interceptor.RTCPFeedback{{Type: "nack"}}}
	n := uint16(0)
	packet := plain(0, 0)
	in := p.BindRemoteStream(info, interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n++
		binary.BigEndian.PutUint16(packet[2:], n)
		return copy(b, packet), a, nil
	}))
	out := p.BindLocalStream(info, interceptor.RTPWriterFunc(func(_ *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) {
		return len(payload), nil
	}))
	buf, header := make([]byte, 1500), &rtp.Header{}
	if allocs := testing.AllocsPerRun(1000, func() {
		if _, _, err := in.Read(buf, nil); err != nil {
			t.Fatal(err)
		}
		header.SequenceNumber = n
		if _, err := out.Write(header, buf[:80], nil); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations per packet", allocs)
	}
	if at := p.Now(); p.Incoming(1).Snapshot(at).Packets < 1000 || p.Outgoing(1).Snapshot(at).Packets < 1000 {
		t.Error("packets were not measured")
	}
}
