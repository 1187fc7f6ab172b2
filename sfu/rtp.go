package sfu

import "encoding/binary"

const (
	clockRate       = 48000          // of Opus over RTP, always (RFC 7587)
	frameTicks      = clockRate / 50 // 20 ms, the frame that everybody sends
	payloadMax      = 1200           // Opus frames of 20 ms end at 1275 bytes, speech at a tenth of that; what is longer does not fit one datagram everywhere
	levelSilent     = 127            // RFC 6464: digital silence
	levelUnknown    = 30             // of a packet that does not say: a voice at usual distance
	extensionOneBye = 0xBEDE         // RFC 8285: elements with heads of one byte
	levelURI        = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
)

// packet is what the media path reads of an RTP packet. Its payload lies in the reader's buffer, and is gone with it.
type packet struct {
	ssrc    uint32
	seq     uint16
	ts      uint32
	pt      uint8
	level   uint8 // 0 is the loudest, 127 silence
	payload []byte
}

// parse reads an RTP packet whose audio level is the header extension of the given id, 0 for none. What is not whole, or
// has no payload, is refused.
func parse(b []byte, levelID uint8) (p packet, ok bool) {
	const fixed = 12
	if len(b) < fixed || b[0]>>6 != 2 {
		return p, false
	}
	p.pt = b[1] & 0x7f
	p.seq = binary.BigEndian.Uint16(b[2:])
	p.ts = binary.BigEndian.Uint32(b[4:])
	p.ssrc = binary.BigEndian.Uint32(b[8:])
	p.level = levelUnknown
	at := fixed + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < at+4 {
			return p, false
		}
		profile, size := binary.BigEndian.Uint16(b[at:]), 4*int(binary.BigEndian.Uint16(b[at+2:]))
		at += 4
		if len(b) < at+size {
			return p, false
		}
		if level, found := findLevel(b[at:at+size], profile, levelID); found {
			p.level = level
		}
		at += size
	}
	end := len(b)
	if b[0]&0x20 != 0 { // padding, its length in the last byte
		end -= int(b[end-1])
	}
	if end <= at || b[0]&0x20 != 0 && b[len(b)-1] == 0 {
		return p, false
	}
	p.payload = b[at:end]
	return p, true
}

// findLevel looks for the audio level among header extensions of one byte. The bit for "voice" is left out: browsers set it always.
func findLevel(ext []byte, profile uint16, id uint8) (level uint8, ok bool) {
	if profile != extensionOneBye || id == 0 {
		return 0, false
	}
	for len(ext) > 0 {
		if ext[0] == 0 { // padding between elements
			ext = ext[1:]
			continue
		}
		size := int(ext[0]&0x0f) + 1
		if ext[0]>>4 == 15 || len(ext) < 1+size {
			return 0, false
		}
		if ext[0]>>4 == id {
			return ext[1] & 0x7f, true
		}
		ext = ext[1+size:]
	}
	return 0, false
}

// newer tells whether a sequence number comes after another, across the wrap.
func newer(a, b uint16) bool { return int16(a-b) > 0 }
