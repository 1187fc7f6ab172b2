package session

import (
	"encoding/binary"
	"sync"

	"github.com/xcord/xcord/engine/wire"
)

// Frames are written by ourselves and not by the library: it would write each of them alone, and the write is what a
// message costs (PERFORMANCE.md section 1). Servers do not mask.
const (
	frameText  = 0x81
	frameClose = 0x88
	framePong  = 0x8a
)

func appendHeader(dst []byte, kind byte, length int) []byte {
	dst = append(dst, kind)
	switch {
	case length < 126:
		return append(dst, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 127), uint64(length))
	}
}

// appendDispatch appends a dispatch as a whole WebSocket frame.
func appendDispatch(dst []byte, name string, seq int64, body []byte) []byte {
	var scratch [96]byte
	head := wire.AppendDispatchHead(scratch[:0], name, seq)
	dst = appendHeader(dst, frameText, len(head)+len(body)+1)
	dst = append(dst, head...)
	dst = append(dst, body...)
	return append(dst, '}')
}

func appendText(dst, payload []byte) []byte {
	return append(appendHeader(dst, frameText, len(payload)), payload...)
}

// flushBytes is how much is gathered before it is written: beyond some ten KiB a write costs by the byte.
const flushBytes = 64 << 10

// buffers holds write buffers while nobody writes: an idle session has none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func putBuffer(b *[]byte) {
	if cap(*b) <= 2*flushBytes {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
