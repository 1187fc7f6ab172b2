package quality

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// streamsMax is how many streams of a connection are measured each way; more pass without.
const streamsMax = 64

// FactoryConfig says what is to be measured and who gets to know.
type FactoryConfig struct {
	// Attach is told of every connection of pion before its streams begin. It must not block; nil if there is none.
	Attach func(id string, p *Peer)
	// RedundantType is the payload type of packets with copies, 0 for none.
	RedundantType uint8
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Factory makes an interceptor for each connection. It implements interceptor.Factory of pion.
type Factory struct {
	config FactoryConfig
	begin  time.Time
}

// NewFactory makes one.
func NewFactory(config FactoryConfig) *Factory {
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Factory{config: config, begin: config.Now()}
}

// NewInterceptor makes the one of a connection, a *Peer, and hands it to Attach. It does not fail.
func (f *Factory) NewInterceptor(id string) (interceptor.Interceptor, error) {
	p := f.NewPeer()
	if f.config.Attach != nil {
		f.config.Attach(id, p)
	}
	return p, nil
}

// NewPeer makes the measures of a connection whose packets do not pass interceptors: its owner calls Receives and Sends, hands
// each packet to what they return, and what comes by RTCP to RTCP.
func (f *Factory) NewPeer() *Peer {
	p := &Peer{factory: f, incoming: map[uint32]*Incoming{}, outgoing: map[uint32]*Outgoing{}}
	p.visitor = visitor{senderReport: p.senderReport, report: p.report, nack: p.nack}
	return p
}

// Peer measures all streams of a connection. It has no goroutine: who owns it calls Report once in a while. All methods are
// for any goroutine.
type Peer struct {
	interceptor.NoOp
	factory *Factory
	visitor visitor
	writer  atomic.Pointer[interceptor.RTCPWriter]
	rtt     atomic.Int64 // of the stream that was answered last; nanoseconds

	mu       sync.RWMutex
	incoming map[uint32]*Incoming
	outgoing map[uint32]*Outgoing

	malformed atomic.Uint64
}

// Now is the time on the clock that all of the peer's measures have.
func (p *Peer) Now() time.Duration { return p.factory.config.Now().Sub(p.factory.begin) }

// RTT is the way to the other side and back as it was answered last, 0 if it is not known.
func (p *Peer) RTT() time.Duration { return time.Duration(p.rtt.Load()) }

// Malformed is how many packets of RTCP could not be read.
func (p *Peer) Malformed() uint64 { return p.malformed.Load() }

// Incoming is the stream with this SSRC, nil if there is none.
func (p *Peer) Incoming(ssrc uint32) *Incoming {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.incoming[ssrc]
}

// Outgoing is the stream with this SSRC, nil if there is none.
func (p *Peer) Outgoing(ssrc uint32) *Outgoing {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.outgoing[ssrc]
}

// Receives begins to measure a stream that arrives, anew if there is one. It returns nil if there are too many.
func (p *Peer) Receives(ssrc uint32, config IncomingConfig) *Incoming {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.incoming) >= streamsMax && p.incoming[ssrc] == nil {
		return nil
	}
	in := NewIncoming(config)
	p.incoming[ssrc] = in
	return in
}

// Sends begins to measure a stream that is sent, anew if there is one. It returns nil if there are too many.
func (p *Peer) Sends(ssrc, clockRate uint32) *Outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.outgoing) >= streamsMax && p.outgoing[ssrc] == nil {
		return nil
	}
	out := NewOutgoing(clockRate)
	p.outgoing[ssrc] = out
	return out
}

// Forget ends what is measured of a stream.
func (p *Peer) Forget(ssrc uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.incoming, ssrc)
	delete(p.outgoing, ssrc)
}

// BindRemoteStream measures what arrives. A stream for which NACK was negotiated is asked for again what is missing.
func (p *Peer) BindRemoteStream(info *interceptor.StreamInfo, reader interceptor.RTPReader) interceptor.RTPReader {
	in := p.Receives(info.SSRC, IncomingConfig{
		ClockRate: info.ClockRate, LevelID: levelID(info), RedundantType: p.factory.config.RedundantType,
	})
	if in == nil {
		return reader
	}
	asks := slices.ContainsFunc(info.RTCPFeedback, func(f interceptor.RTCPFeedback) bool { return f.Type == "nack" && f.Parameter == "" })
	var missing [askGapMax]uint16
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := reader.Read(b, a)
		if err != nil || n > len(b) {
			return n, a, err
		}
		at := p.Now()
		in.Packet(b[:n], at)
		if !asks {
			return n, a, nil
		}
		if ask := in.Ask(missing[:0], p.RTT(), at); len(ask) > 0 {
			// What cannot be asked for is lost, and counted as such.
			_ = p.write(&rtcp.TransportLayerNack{MediaSSRC: info.SSRC, Nacks: rtcp.NackPairsFromSequenceNumbers(ask)})
		}
		return n, a, nil
	})
}

// UnbindRemoteStream forgets the stream.
func (p *Peer) UnbindRemoteStream(info *interceptor.StreamInfo) { p.Forget(info.SSRC) }

// BindLocalStream measures what is sent.
func (p *Peer) BindLocalStream(info *interceptor.StreamInfo, writer interceptor.RTPWriter) interceptor.RTPWriter {
	out := p.Sends(info.SSRC, info.ClockRate)
	if out == nil {
		return writer
	}
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		out.Packet(h.SequenceNumber, h.Timestamp, len(payload), p.Now())
		return writer.Write(h, payload, a)
	})
}

// UnbindLocalStream forgets the stream.
func (p *Peer) UnbindLocalStream(info *interceptor.StreamInfo) { p.Forget(info.SSRC) }

// BindRTCPReader reads what the other side says. pion calls it once for each stream, and hands one packet to several.
func (p *Peer) BindRTCPReader(reader interceptor.RTCPReader) interceptor.RTCPReader {
	return interceptor.RTCPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := reader.Read(b, a)
		if err == nil && n <= len(b) {
			p.RTCP(b[:n])
		}
		return n, a, err
	})
}

// RTCP takes a compound packet as it came, decrypted. The same one twice does no harm.
func (p *Peer) RTCP(b []byte) {
	if parseRTCP(b, &p.visitor) != nil {
		p.malformed.Add(1)
	}
}

// BindRTCPWriter keeps the way to the other side.
func (p *Peer) BindRTCPWriter(writer interceptor.RTCPWriter) interceptor.RTCPWriter {
	p.writer.Store(&writer)
	return writer
}

func (p *Peer) senderReport(ssrc uint32, ntp uint64) {
	if in := p.Incoming(ssrc); in != nil {
		in.SenderReport(uint32(ntp>>16), p.Now())
	}
}

func (p *Peer) report(b block) {
	out := p.Outgoing(b.ssrc)
	if out == nil {
		return
	}
	at := p.Now()
	out.received(b, at)
	if rtt := out.Snapshot(at).RTT; rtt > 0 {
		p.rtt.Store(int64(rtt))
	}
}

func (p *Peer) nack(ssrc uint32, first, more uint16) {
	if out := p.Outgoing(ssrc); out != nil {
		out.requested(first, more, p.Now())
	}
}

// Report sends one compound packet: what was sent on each stream, and what came of each, with a loss of worst at least. A
// connection without streams sends nothing. It fails if the packet cannot be sent.
func (p *Peer) Report(worst float64) error {
	wall := p.factory.config.Now()
	at := wall.Sub(p.factory.begin)
	var blocks []rtcp.ReceptionReport
	var packets []rtcp.Packet
	var from uint32
	p.mu.RLock()
	for ssrc, in := range p.incoming {
		if block, ok := in.Reception(ssrc, worst, at); ok && len(blocks) < blocksMax {
			blocks = append(blocks, block)
		}
	}
	for ssrc, out := range p.outgoing {
		if report := out.Report(ssrc, wall, at); report != nil {
			packets = append(packets, report)
			from = ssrc
		}
	}
	p.mu.RUnlock()
	if len(blocks) > 0 {
		packets = append(packets, &rtcp.ReceiverReport{SSRC: from, Reports: blocks})
	}
	if len(packets) == 0 {
		return nil
	}
	return p.write(packets...)
}

// blocksMax is how many blocks a report has room for.
const blocksMax = 31

func (p *Peer) write(packets ...rtcp.Packet) error {
	writer := p.writer.Load()
	if writer == nil {
		return nil
	}
	if _, err := (*writer).Write(packets, interceptor.Attributes{}); err != nil {
		return fmt.Errorf("send %d packets of RTCP: %w", len(packets), err)
	}
	return nil
}

func levelID(info *interceptor.StreamInfo) uint8 {
	for _, e := range info.RTPHeaderExtensions {
		if e.URI == levelURI && e.ID > 0 && e.ID < 256 {
			return uint8(e.ID)
		}
	}
	return 0
}

// levelURI names the header extension with the audio level (RFC 6464).
const levelURI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
