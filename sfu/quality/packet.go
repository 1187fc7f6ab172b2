package quality

import (
	"encoding/binary"
	"errors"
)

// Errors of packets that are none. They say nothing else: what comes from strangers is counted, not explained.
var (
	errRTP  = errors.New("not a packet of RTP")
	errRTCP = errors.New("not a packet of RTCP")
)

// header is what is measured of a packet of RTP.
type header struct {
	ssrc, timestamp uint32
	sequence        uint16
	payloadType     uint8
	marker          bool
	// level is how loud it is in dB below the loudest, 127 for silence, noLevel if the packet does not say.
	level uint8
	// payload is where the payload begins, and size how long it is without padding.
	payload, size int
}

const (
	noLevel  = 255
	oneByte  = 0xBEDE // the profile of header extensions with a byte in front of each (RFC 8285)
	twoBytes = 0x1000 // and with two, the last four bits being free
)

// parseRTP reads a header without allocating. levelID is the id of the extension with the level, 0 for none.
func parseRTP(b []byte, levelID uint8) (h header, err error) {
	if len(b) < 12 || b[0]>>6 != 2 {
		return h, errRTP
	}
	h.marker, h.payloadType = b[1]&0x80 != 0, b[1]&0x7f
	h.sequence = binary.BigEndian.Uint16(b[2:])
	h.timestamp = binary.BigEndian.Uint32(b[4:])
	h.ssrc = binary.BigEndian.Uint32(b[8:])
	h.level = noLevel
	h.payload = 12 + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < h.payload+4 {
			return h, errRTP
		}
		profile := binary.BigEndian.Uint16(b[h.payload:])
		size := 4 * int(binary.BigEndian.Uint16(b[h.payload+2:]))
		h.payload += 4
		if len(b) < h.payload+size {
			return h, errRTP
		}
		if levelID != 0 {
			h.level = findLevel(b[h.payload:h.payload+size], profile, levelID)
		}
		h.payload += size
	}
	if len(b) < h.payload {
		return h, errRTP
	}
	h.size = len(b) - h.payload
	if b[0]&0x20 != 0 {
		padding := int(b[len(b)-1])
		if padding == 0 || padding > h.size {
			return h, errRTP
		}
		h.size -= padding
	}
	return h, nil
}

// findLevel looks through header extensions; broken ones have no level. Whether there is a voice is not read: Chromium
// says so of silence, too.
func findLevel(b []byte, profile uint16, id uint8) uint8 {
	short := profile == oneByte
	if !short && profile&0xfff0 != twoBytes {
		return noLevel
	}
	for len(b) > 0 {
		if b[0] == 0 { // padding
			b = b[1:]
			continue
		}
		this, size, head := b[0]>>4, int(b[0]&0x0f)+1, 1
		if short && this == 15 {
			return noLevel // ends the list, says the RFC
		}
		if !short {
			if len(b) < 2 {
				return noLevel
			}
			this, size, head = b[0], int(b[1]), 2
		}
		if len(b) < head+size {
			return noLevel
		}
		if this == id && size > 0 {
			return b[head] & 0x7f
		}
		b = b[head+size:]
	}
	return noLevel
}

// Kinds of RTCP packets (RFC 3550, 4585).
const (
	typeSenderReport   = 200
	typeReceiverReport = 201
	typeTransport      = 205
	formatNACK         = 1
)

// block is what a receiver says of a stream.
type block struct {
	ssrc        uint32
	fraction    uint8 // lost since the block before, of 256
	lost        int32 // all in all; 24 bits with a sign
	highest     uint32
	jitter      uint32 // in units of the timestamp
	last, delay uint32 // the middle of the NTP time of our latest report, and 1/65536 s since it came
}

// visitor is told of what is in a compound packet; each function may be nil. A request names the first packet, and by
// its bits those of the sixteen behind it that are missing, too.
type visitor struct {
	senderReport func(ssrc uint32, ntp uint64)
	report       func(block)
	nack         func(ssrc uint32, first, more uint16)
}

// parseRTCP walks through a compound packet without allocating. Packets of other kinds are passed over; what is before a
// broken one has been visited.
func parseRTCP(b []byte, v *visitor) error {
	for len(b) > 0 {
		if len(b) < 4 || b[0]>>6 != 2 {
			return errRTCP
		}
		size := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
		if len(b) < size {
			return errRTCP
		}
		if err := v.visit(b[0]&0x1f, b[1], b[4:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

func (v *visitor) visit(count, kind uint8, body []byte) error {
	switch {
	case kind == typeSenderReport:
		if len(body) < 24 {
			return errRTCP
		}
		if v.senderReport != nil {
			v.senderReport(binary.BigEndian.Uint32(body), binary.BigEndian.Uint64(body[4:]))
		}
		return v.blocks(int(count), body[24:])
	case kind == typeReceiverReport:
		if len(body) < 4 {
			return errRTCP
		}
		return v.blocks(int(count), body[4:])
	case kind == typeTransport && count == formatNACK:
		if len(body) < 8 {
			return errRTCP
		}
		if v.nack == nil {
			return nil
		}
		for pairs := body[8:]; len(pairs) >= 4; pairs = pairs[4:] {
			v.nack(binary.BigEndian.Uint32(body[4:]), binary.BigEndian.Uint16(pairs), binary.BigEndian.Uint16(pairs[2:]))
		}
	}
	return nil
}

const blockBytes = 24

func (v *visitor) blocks(count int, b []byte) error {
	if len(b) < count*blockBytes {
		return errRTCP
	}
	if v.report == nil {
		return nil
	}
	for range count {
		lost := int32(binary.BigEndian.Uint32(b[4:])<<8) >> 8
		v.report(block{
			ssrc: binary.BigEndian.Uint32(b), fraction: b[4], lost: lost, highest: binary.BigEndian.Uint32(b[8:]),
			jitter: binary.BigEndian.Uint32(b[12:]), last: binary.BigEndian.Uint32(b[16:]), delay: binary.BigEndian.Uint32(b[20:]),
		})
		b = b[blockBytes:]
	}
	return nil
}
