package sfu

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	// resendAgeMax is how old a packet may be, when it arrives, to be of use: jitter buffers wait no longer.
	resendAgeMax = 200 * time.Millisecond
	// resendShare is how many packets are sent again at most for each that is sent, resendBurst how many at once.
	resendShare = 0.4
	resendBurst = 20
)

// slot is one of the streams that a listener receives: one SSRC, one sequence, one clock, whoever speaks in it.
// It is a webrtc.TrackLocal.
type slot struct {
	listener *Participant
	index    int
	ssrc     atomic.Uint32 // 0 before it is negotiated

	mu     sync.Mutex // guards all below; taken under room.mu, and alone by who sends
	writer webrtc.TrackLocalWriter
	header rtp.Header
	csrc   [1]uint32
	level  [1]byte

	owner *source // written under room.mu as well, so either lock is enough to read it
	since time.Time
	fresh bool   // nothing of this owner was sent yet
	first uint32 // the owner's number of the first packet sent
	base  uint16 // sequence number = base + number
	shift uint32 // time stamp = shift + the owner's

	sent    bool // anything was ever sent
	seq     uint16
	ts      uint32
	newestN uint32 // the owner's number of the newest packet sent, whose sequence number is seq
	epoch   time.Time
	start   uint32 // the slot's clock at epoch

	packets, octets, reported uint32 // for sender reports

	resends  float64 // how many may be sent again now
	resentAt [ringSize]time.Time
}

func newSlot(listener *Participant, index int) *slot {
	return &slot{listener: listener, index: index, seq: uint16(rand.Uint32()), start: rand.Uint32()}
}

// assign changes who is heard in the slot; nil is nobody. The caller holds room.mu.
func (l *slot) assign(s *source, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner, l.since, l.fresh = s, now, true
}

// send forwards a packet of s, unless somebody else has the slot by now: lists of targets are replaced behind their readers' backs.
func (l *slot) send(s *source, k kept, lag uint32, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner != s || l.writer == nil {
		return
	}
	if l.fresh {
		l.takeOver(s, k, lag, now)
	}
	if int32(k.n-l.first) < 0 {
		return // from before the takeover: its sequence number belongs to the one who was here before
	}
	if seq := l.base + uint16(k.n); newer(seq, l.seq) {
		l.seq, l.ts, l.newestN = seq, l.shift+k.ts, k.n
	}
	l.resends = min(l.resends+resendShare, resendBurst)
	l.packets++
	l.octets += uint32(len(k.payload))
	l.write(k)
}

// takeOver joins the owner's sequence to what was sent last. The slot's clock runs on as the wall does, so that a listener's jitter
// buffer sees a pause and no jump, and is never turned back.
func (l *slot) takeOver(s *source, k kept, lag uint32, now time.Time) {
	if !l.sent {
		l.sent, l.epoch = true, now
		l.ts = l.start - lag - frameTicks
	}
	l.fresh, l.first = false, k.n
	l.base = l.seq + 1 - uint16(k.n)
	l.shift = l.clock(now) - lag - k.ts
	if int32(l.shift+k.ts-l.ts) < frameTicks {
		l.shift = l.ts + frameTicks - k.ts
	}
	l.csrc[0] = s.owner.VoiceID
	l.header.Marker = true
	l.resentAt = [ringSize]time.Time{}
}

func (l *slot) clock(now time.Time) uint32 {
	return l.start + uint32(now.Sub(l.epoch)*clockRate/time.Second)
}

// write sends a packet as the owner's numbers have it. It writes the same bytes for the same packet, which is what makes it right to
// send one again: in GCM, two texts under one number would give the key away.
func (l *slot) write(k kept) {
	l.header.SequenceNumber = l.base + uint16(k.n)
	l.header.Timestamp = l.shift + k.ts
	l.header.Marker = k.marker || k.n == l.first
	l.level[0] = k.level
	if _, err := l.writer.WriteRTP(&l.header, k.payload); err != nil {
		droppedTotal.Inc()
	}
}

// resend answers a request for a packet that a listener misses, if it is to be had, in time, and was not answered just now.
func (l *slot) resend(seq uint16, rtt time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	behind := l.seq - seq
	if l.owner == nil || l.fresh || behind >= ringSize || l.resends < 1 {
		return
	}
	n := l.newestN - uint32(behind)
	if int32(n-l.first) < 0 || now.Sub(l.resentAt[n%ringSize]) < max(rtt, 20*time.Millisecond) {
		return
	}
	k, ok := l.owner.ring.get(n, l.listener.resendBuffer[:])
	if !ok || now.Sub(k.at)+rtt/2 > resendAgeMax {
		return
	}
	l.resentAt[n%ringSize] = now
	l.resends--
	resentTotal.Inc()
	l.write(k)
}

// Bind implements webrtc.TrackLocal: the stream has been negotiated.
func (l *slot) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, codec := range ctx.CodecParameters() {
		if codec.MimeType != webrtc.MimeTypeOpus {
			continue
		}
		l.header = rtp.Header{Version: 2, PayloadType: uint8(codec.PayloadType), SSRC: uint32(ctx.SSRC()), CSRC: l.csrc[:]}
		for _, ext := range ctx.HeaderExtensions() {
			if ext.URI != levelURI {
				continue
			}
			if err := l.header.SetExtension(uint8(ext.ID), l.level[:]); err != nil {
				return webrtc.RTPCodecParameters{}, err
			}
		}
		l.ssrc.Store(uint32(ctx.SSRC()))
		l.writer = ctx.WriteStream()
		return codec, nil
	}
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

// redirect sends the slot's packets another way.
func (l *slot) redirect(to webrtc.TrackLocalWriter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer = to
}

// Unbind implements webrtc.TrackLocal.
func (l *slot) Unbind(webrtc.TrackLocalContext) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer = nil
	return nil
}

// ID implements webrtc.TrackLocal.
func (l *slot) ID() string { return slotNames[l.index] }

// RID implements webrtc.TrackLocal.
func (l *slot) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (l *slot) StreamID() string { return slotNames[l.index] }

// Kind implements webrtc.TrackLocal.
func (l *slot) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }

// slotNames are the ids of slots as tracks, the same for everybody: who speaks in one is no matter of SDP.
var slotNames = [SlotsMax]string{"slot0", "slot1", "slot2", "slot3", "slot4", "slot5", "slot6", "slot7"}
