package sfu

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"
	"golang.org/x/net/ipv4"
)

// BenchmarkForward gives one speaker's packets to many listeners, three ways in turn: a bare loop of SRTP and sendmmsg, which is
// the ceiling; Pion as it comes (TrackLocalStaticRTP, default interceptors); and this package. What is charged is the CPU time of the
// forwarding thread, the kernel's part of it included, for packets of 120 bytes; it is all the same work but for receiving one packet for
// each pass. Every listener has a socket and a goroutine that throws away what comes.
func BenchmarkForward(b *testing.B) {
	for _, listeners := range []int{2, 10, 100} {
		b.Run(fmt.Sprint(listeners), func(b *testing.B) {
			ways := []struct {
				name string
				pass func(now time.Time)
			}{
				{"bare", bareForwarder(b, listeners)}, {"stock", stockForwarder(b, listeners)}, {"sfu", ownForwarder(b, listeners)},
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			spent := make([]time.Duration, len(ways))
			passes := 0
			for b.Loop() {
				// Short rounds in turn, so that who else uses the machine disturbs all of them alike.
				round := max(1, 20000/listeners)
				for i, way := range ways {
					begin := threadTime(b)
					for range round {
						way.pass(time.Now())
					}
					spent[i] += threadTime(b) - begin
				}
				passes += round
			}
			rate := func(i int) float64 { return float64(passes*listeners) / spent[i].Seconds() }
			for i, way := range ways {
				b.ReportMetric(rate(i), way.name+"-pkt/cpu-s")
			}
			b.ReportMetric(rate(2)/rate(0), "of-bare")
			b.ReportMetric(rate(2)/rate(1), "of-stock")
		})
	}
}

// threadTime is the CPU time of the calling thread, in the kernel and out of it.
func threadTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_THREAD, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

const benchPayload = 80 // bytes of Opus, 32 kb/s

// drain is a socket of a listener, which throws RTP away.
type drain struct{ *net.UDPConn }

func newDrain(t testing.TB) drain {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return drain{conn}
}

func (d drain) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		n, from, err := d.ReadFromUDPAddrPort(b)
		if err != nil || !isRTP(b[:n]) {
			return n, from, err
		}
	}
}

func (d drain) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return d.WriteToUDPAddrPort(b, to)
}

func drainedClient(t testing.TB) *client {
	t.Helper()
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{Logger: quiet.NewLogger("ice"), UDPConn: newDrain(t)})
	t.Cleanup(func() { _ = mux.Close() })
	return newClient(t, clientConfig{slots: 1, mux: mux})
}

func bareForwarder(b *testing.B, listeners int) func(time.Time) {
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(b, err)
	b.Cleanup(func() { _ = out.Close() })
	must(b, out.SetWriteBuffer(socketBuffer))
	batch := ipv4.NewPacketConn(out)
	type listener struct {
		srtp   *srtp.Context
		to     net.Addr
		header rtp.Header
	}
	var all []*listener
	for i := range listeners {
		d := newDrain(b)
		go func() { _, _, _ = d.ReadFromAddrPort(make([]byte, datagramMax)) }()
		key := make([]byte, 16)
		binary.BigEndian.PutUint32(key, uint32(i))
		context, err := srtp.CreateContext(key, make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
		must(b, err)
		all = append(all, &listener{context, d.LocalAddr(), rtp.Header{Version: 2, PayloadType: 111, SSRC: uint32(i + 1)}})
	}
	messages := make([]ipv4.Message, batchSize)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, datagramMax)}
	}
	plain := make([]byte, 12+benchPayload)
	flush := func(n int) {
		for at := 0; at < n; {
			sent, err := batch.WriteBatch(messages[at:n], 0)
			must(b, err)
			at += sent
		}
	}
	return func(time.Time) {
		n := 0
		for _, l := range all {
			l.header.SequenceNumber++
			l.header.Timestamp += frameTicks
			if _, err := l.header.MarshalTo(plain); err != nil {
				b.Fatal(err)
			}
			packet, err := l.srtp.EncryptRTP(messages[n].Buffers[0][:0:datagramMax], plain, &l.header)
			must(b, err)
			messages[n].Buffers[0], messages[n].Addr = packet, l.to
			if n++; n == batchSize {
				flush(n)
				n = 0
			}
		}
		flush(n)
	}
}

func stockForwarder(b *testing.B, listeners int) func(time.Time) {
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "voice", "voice")
	must(b, err)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(b, err)
	must(b, socket.SetWriteBuffer(socketBuffer))
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{Logger: quiet.NewLogger("ice"), UDPConn: socket})
	b.Cleanup(func() { _ = mux.Close() })
	for range listeners {
		var settings webrtc.SettingEngine
		settings.SetICEUDPMux(mux)
		settings.SetIncludeLoopbackCandidate(true)
		settings.LoggerFactory = quiet
		pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
		must(b, err)
		b.Cleanup(func() { _ = pc.GracefulClose() })
		c := drainedClient(b)
		<-webrtc.GatheringCompletePromise(c.pc)
		must(b, pc.SetRemoteDescription(*c.pc.LocalDescription()))
		for i, transceiver := range pc.GetTransceivers() {
			if i > 0 {
				_, err := pc.AddTrack(track)
				must(b, err)
				_ = transceiver
			}
		}
		answer, err := pc.CreateAnswer(nil)
		must(b, err)
		gathered := webrtc.GatheringCompletePromise(pc)
		must(b, pc.SetLocalDescription(answer))
		<-gathered
		must(b, c.pc.SetRemoteDescription(*pc.LocalDescription()))
		c.await(c.up)
	}
	packet := rtp.Packet{Header: rtp.Header{Version: 2}, Payload: make([]byte, benchPayload)}
	return func(time.Time) {
		packet.SequenceNumber++
		packet.Timestamp += frameTicks
		must(b, track.WriteRTP(&packet))
	}
}

func ownForwarder(b *testing.B, listeners int) func(time.Time) {
	s := startServer(b, Config{})
	speaker := drainedClient(b)
	speaker.joinRoom(s, "room")
	speaker.await(speaker.up)
	for range listeners {
		c := drainedClient(b)
		c.joinRoom(s, "room")
		c.await(c.up)
	}
	pass := voice(speaker.Participant)
	awaitTargets(speaker.Participant, listeners, pass)
	return pass
}

// awaitTargets speaks until so many hear it: clients are connected a little before the server knows.
func awaitTargets(p *Participant, listeners int, pass func(time.Time)) {
	for pass(time.Now()); len(*p.source.targets.Load()) < listeners; pass(time.Now()) {
		runtime.Gosched()
	}
}

// voice makes packets of a participant's microphone, as its SRTP loop would hand them over.
func voice(p *Participant) func(now time.Time) {
	packet := rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: p.source.pt, SSRC: p.source.ssrc},
		Payload: make([]byte, benchPayload),
	}
	if err := packet.SetExtension(p.source.levelID, []byte{20}); err != nil {
		panic(err)
	}
	b, err := packet.Marshal()
	if err != nil {
		panic(err)
	}
	return func(now time.Time) {
		binary.BigEndian.PutUint16(b[2:], binary.BigEndian.Uint16(b[2:])+1)
		binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])+frameTicks)
		p.source.take(b, now)
		p.server.socket.Flush()
	}
}
