package red

// History has the latest frames of one source, and makes payloads with copies of them. It is for one goroutine, takes
// about 2 KB, and allocates nothing: frames are copied into it.
type History struct {
	frames [LevelMax]remembered // the latest first
	count  int
}

type remembered struct {
	seq       uint16
	timestamp uint32
	size      int
	data      [sizeMax]byte
}

// Append adds to dst the payload for the packet with this sequence number and timestamp: level copies of what was pushed
// before it, and the frame. Copies are left out that are not of the packets right before this one, that are too old or too
// long to be said, or that would make the payload longer than a path may carry; a frame alone is always there. What a level
// means beyond LevelMax is LevelMax.
func (h *History) Append(dst []byte, level int, seq uint16, timestamp uint32, payloadType uint8, frame []byte) []byte {
	var copies [LevelMax]Block
	first, total := LevelMax, 1+len(frame)
	for i := range min(level, h.count) {
		f := &h.frames[i]
		age := timestamp - f.timestamp
		total += copyBytes + f.size
		if f.seq != seq-uint16(i)-1 || age == 0 || age > offsetMax || total > payloadMax {
			break
		}
		first--
		copies[first] = Block{PayloadType: payloadType, Offset: uint16(age), Data: f.data[:f.size]}
	}
	dst, err := Append(dst, copies[first:], payloadType, frame)
	if err != nil {
		panic("BUG: a history holds a copy that cannot be sent: " + err.Error())
	}
	return dst
}

// Push remembers a frame, to be called after Append for the same packet, in the order of sequence numbers. A frame that is
// no older than the latest one, a packet that came late, is not remembered.
func (h *History) Push(seq uint16, timestamp uint32, frame []byte) {
	if h.count > 0 && int16(seq-h.frames[0].seq) <= 0 && int16(seq-h.frames[0].seq) > -maxMisorder {
		return
	}
	if len(frame) > sizeMax {
		h.count = 0
		return
	}
	h.frames[1] = h.frames[0]
	latest := &h.frames[0]
	latest.seq, latest.timestamp, latest.size = seq, timestamp, copy(latest.data[:], frame)
	h.count = min(h.count+1, LevelMax)
}

// maxMisorder is how far back a number may be to be that of a late packet, and not of a source that began anew (RFC 3550, A.1).
const maxMisorder = 100
