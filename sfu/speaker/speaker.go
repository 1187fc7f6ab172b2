// Package speaker makes the packets of somebody who talks: RTP with valid Opus frames, audio levels and pauses in which little is
// sent, all by a seed. The frames are not speech. It sends nothing itself: each packet says when it is due. It is for tests
// and benches.
package speaker

import (
	"math/rand/v2"
	"time"

	"github.com/pion/rtp"
)

const (
	// ClockRate is that of Opus in RTP whatever is in it (RFC 7587).
	ClockRate = 48_000
	// LevelURI names the header extension with the level of a packet (RFC 6464).
	LevelURI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"

	// Silence is the level of a packet in which there is nothing, in dB below the loudest.
	Silence = 127

	// pauseSpacing is how often something is sent in a pause, as Chromium does.
	pauseSpacing = 400 * time.Millisecond
	// In front of an Opus frame stands how it was made (RFC 6716, 3.1): a configuration, mono, and one frame. These are
	// hybrid coding of the full band with frames of 20 ms, and SILK of wide band with 40 and 60 ms.
	head20, head40, head60 = 15 << 3, 10 << 3, 11 << 3
)

// Config says who talks and how. The zero value talks without a pause at 32 kb/s in frames of 20 ms.
type Config struct {
	Seed        uint64
	SSRC        uint32
	PayloadType uint8
	// Sequence and Timestamp are where the numbers begin; both wrap.
	Sequence  uint16
	Timestamp uint32
	// Talk and Pause are how long each lasts, in turn. Without Pause there is none.
	Talk, Pause time.Duration
	// Frame is how long a frame is: 20, 40 or 60 ms.
	Frame time.Duration
	// Bitrate is what frames take while there is talk, in bits a second.
	Bitrate int
	// Level is how loud talk is, in dB below the loudest, give or take 6; 0 for 30. LevelID is the extension's id, 1 to 14; 0
	// for none.
	Level, LevelID uint8
	// DTX is that only a byte is sent each 400 ms in a pause. Otherwise silence is sent as frames are.
	DTX bool
}

// Packet is one packet and when it is to be sent.
type Packet struct {
	rtp.Packet
	// At counts from when the speaker began.
	At time.Duration
	// Talk is whether something is said in it.
	Talk bool
}

// Speaker makes packets. It is for one goroutine.
type Speaker struct {
	config    Config
	random    *rand.Rand
	at        time.Duration
	sequence  uint16
	talked    bool
	headByte  byte
	frameSize int
}

// New makes a speaker. It panics if there are no such frames.
func New(config Config) *Speaker {
	if config.Frame == 0 {
		config.Frame = 20 * time.Millisecond
	}
	if config.Bitrate == 0 {
		config.Bitrate = 32_000
	}
	if config.Level == 0 {
		config.Level = 30
	}
	heads := map[time.Duration]byte{20 * time.Millisecond: head20, 40 * time.Millisecond: head40, 60 * time.Millisecond: head60}
	head, ok := heads[config.Frame]
	if !ok {
		panic("BUG: a speaker with frames of " + config.Frame.String())
	}
	return &Speaker{
		config: config, random: rand.New(rand.NewPCG(config.Seed, 0x5bea)), sequence: config.Sequence, headByte: head,
		frameSize: max(4, int(float64(config.Bitrate)/8*config.Frame.Seconds())),
	}
}

// Next is the packet that is due next. It is the caller's.
func (s *Speaker) Next() Packet {
	talks := s.talks(s.at)
	p := Packet{At: s.at, Talk: talks}
	p.Version = 2
	p.Marker = talks && !s.talked
	p.PayloadType = s.config.PayloadType
	p.SequenceNumber = s.sequence
	p.Timestamp = s.config.Timestamp + uint32(s.at.Milliseconds()*ClockRate/1000)
	p.SSRC = s.config.SSRC
	level := uint8(Silence)
	if talks {
		level = uint8(max(1, int(s.config.Level)+s.random.IntN(13)-6))
	}
	if s.config.LevelID > 0 {
		if err := p.SetExtension(s.config.LevelID, []byte{level}); err != nil {
			panic("BUG: a speaker's level: " + err.Error())
		}
	}
	p.Payload = s.frame(talks)
	s.talked = talks
	s.sequence++
	s.at = s.after(talks)
	return p
}

// Until are all packets that are due before a moment.
func (s *Speaker) Until(end time.Duration) []Packet {
	var packets []Packet
	for s.at < end {
		packets = append(packets, s.Next())
	}
	return packets
}

func (s *Speaker) talks(at time.Duration) bool {
	return s.config.Pause == 0 || at%(s.config.Talk+s.config.Pause) < s.config.Talk
}

// after is when the packet after the one that is due now is: in a pause after a while, or as soon as the pause has ended.
func (s *Speaker) after(talks bool) time.Duration {
	next := s.at + s.config.Frame
	if talks || !s.config.DTX {
		return next
	}
	for next < s.at+pauseSpacing && !s.talks(next) {
		next += s.config.Frame
	}
	return next
}

// frame is valid whatever bytes are behind its first one: those are read by a range decoder.
func (s *Speaker) frame(talks bool) []byte {
	if !talks && s.config.DTX {
		return []byte{s.headByte}
	}
	size := s.frameSize
	if !talks {
		size = min(size, 8)
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(s.random.Uint32())
	}
	b[0] = s.headByte
	return b
}
