// Package red puts copies of earlier Opus frames into a packet and takes them out again, as RFC 2198 lays them out. It knows
// payloads only: which payload type a packet has, and who is to get copies, is decided by others.
package red

import (
	"errors"
	"fmt"
)

const (
	// BlocksMax is how many copies a payload may have before the frame itself; Chromium sends at most that many.
	BlocksMax = 4
	// LevelMax is how many copies a History adds.
	LevelMax = 2

	sizeMax   = 1<<10 - 1 // a copy has ten bits for its length
	offsetMax = 1<<14 - 1 // and fourteen for its age: 341 ms at 48 kHz
	more      = 0x80      // the first bit of a header that is followed by another
	copyBytes = 4
	// payloadMax leaves room for headers and SRTP in what every path carries: 1,200 bytes, as libwebrtc has it.
	payloadMax = 1200
)

// Errors that Parse wraps.
var (
	ErrShort  = errors.New("the payload ends within its headers or frames")
	ErrBlocks = errors.New("the payload has too many blocks")
	ErrOffset = errors.New("a copy is older than 14 bits can say, or not older at all")
	ErrSize   = errors.New("a copy is longer than 10 bits can say")
)

// Block is one frame in a payload.
type Block struct {
	// PayloadType is the frame's, of 7 bits.
	PayloadType uint8
	// Offset is how much older a copy is than the packet, in units of its timestamp; 0 for the frame itself.
	Offset uint16
	// Data is the frame. Of what Parse returns it is a piece of the payload, not a copy.
	Data []byte
}

// Payload is what Parse found: copies, the oldest first as a rule, and then the frame itself.
type Payload struct {
	blocks [BlocksMax + 1]Block
	count  int
}

// Blocks are all of them; the last one is the frame itself. The slice belongs to p.
func (p *Payload) Blocks() []Block { return p.blocks[:p.count] }

// Primary is the frame itself.
func (p *Payload) Primary() Block { return p.blocks[p.count-1] }

// Parse takes a payload apart without copying or allocating. Whatever it is given it returns an error or a payload with at
// least one block; p is only to be used when the error is nil.
func (p *Payload) Parse(payload []byte) error {
	p.count = 0
	headers, sizes := 0, [BlocksMax]int{}
	for {
		if headers >= len(payload) {
			return ErrShort
		}
		first := payload[headers]
		block := &p.blocks[p.count]
		block.PayloadType = first &^ more
		if first&more == 0 {
			block.Offset = 0
			headers++
			break
		}
		if p.count == BlocksMax {
			return ErrBlocks
		}
		if headers+copyBytes > len(payload) {
			return ErrShort
		}
		rest := uint32(payload[headers+1])<<16 | uint32(payload[headers+2])<<8 | uint32(payload[headers+3])
		block.Offset = uint16(rest >> 10)
		if block.Offset == 0 {
			return ErrOffset
		}
		sizes[p.count] = int(rest & sizeMax)
		headers += copyBytes
		p.count++
	}
	rest := payload[headers:]
	for i := range p.count {
		if sizes[i] > len(rest) {
			return ErrShort
		}
		p.blocks[i].Data, rest = rest[:sizes[i]:sizes[i]], rest[sizes[i]:]
	}
	p.blocks[p.count].Data = rest
	p.count++
	return nil
}

// Append adds a payload with these copies before the frame to dst. It allocates only if dst has no room.
func Append(dst []byte, copies []Block, payloadType uint8, frame []byte) ([]byte, error) {
	if len(copies) > BlocksMax {
		return dst, fmt.Errorf("%d copies: %w", len(copies), ErrBlocks)
	}
	for _, c := range copies {
		switch {
		case c.Offset == 0 || c.Offset > offsetMax:
			return dst, fmt.Errorf("offset %d: %w", c.Offset, ErrOffset)
		case len(c.Data) > sizeMax:
			return dst, fmt.Errorf("%d bytes: %w", len(c.Data), ErrSize)
		}
	}
	for _, c := range copies {
		rest := uint32(c.Offset)<<10 | uint32(len(c.Data))
		dst = append(dst, more|c.PayloadType, byte(rest>>16), byte(rest>>8), byte(rest))
	}
	dst = append(dst, payloadType&^more)
	for _, c := range copies {
		dst = append(dst, c.Data...)
	}
	return append(dst, frame...), nil
}
