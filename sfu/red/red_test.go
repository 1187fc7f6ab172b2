package red

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestAppend_IsTheLayoutOfTheRFC(t *testing.T) {
	t.Parallel()
	got, err := Append(nil, []Block{{PayloadType: 111, Offset: 960, Data: []byte{1, 2, 3}}}, 111, []byte{9})
	if err != nil {
		t.Fatal(err)
	}
	// F=1 PT=111 | 14 bits 960, 10 bits 3 | F=0 PT=111 | copy | frame
	want := []byte{0x80 | 111, 0x0f, 0x00, 0x03, 111, 1, 2, 3, 9}
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestAppend_RefusesWhatCannotBeSaid(t *testing.T) {
	t.Parallel()
	f := func(copies []Block, want error) {
		t.Helper()
		if _, err := Append(nil, copies, 111, nil); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	f([]Block{{Offset: 0}}, ErrOffset)
	f([]Block{{Offset: 1 << 14}}, ErrOffset)
	f([]Block{{Offset: 1, Data: make([]byte, 1024)}}, ErrSize)
	f(make([]Block, BlocksMax+1), ErrBlocks)
}

func TestParse_RefusesWhatIsCutOff(t *testing.T) {
	t.Parallel()
	f := func(payload []byte, want error) {
		t.Helper()
		if err := new(Payload).Parse(payload); !errors.Is(err, want) {
			t.Errorf("%x: got %v, want %v", payload, err, want)
		}
	}
	f(nil, ErrShort)
	f([]byte{0x80 | 111, 0x0f, 0x00}, ErrShort)
	f([]byte{0x80 | 111, 0x0f, 0x00, 0x03}, ErrShort)
	f([]byte{0x80 | 111, 0x0f, 0x00, 0x03, 111, 1, 2}, ErrShort)
	f([]byte{0x80 | 111, 0x00, 0x00, 0x01, 111, 1}, ErrOffset)
	f(bytes.Repeat([]byte{0xff, 0xff, 0xff, 0x00}, BlocksMax+1), ErrBlocks)
}

func TestParse_ReadsWhatAppendWrote(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		copies := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Block {
			return Block{
				PayloadType: rapid.Uint8Max(127).Draw(t, "type"),
				Offset:      rapid.Uint16Range(1, offsetMax).Draw(t, "offset"),
				Data:        rapid.SliceOfN(rapid.Byte(), 0, sizeMax).Draw(t, "data"),
			}
		}), 0, BlocksMax).Draw(t, "copies")
		frame := rapid.SliceOf(rapid.Byte()).Draw(t, "frame")
		payload, err := Append(nil, copies, 111, frame)
		if err != nil {
			t.Fatal(err)
		}
		var got Payload
		if err := got.Parse(payload); err != nil {
			t.Fatal(err)
		}
		for i, b := range append(copies, Block{PayloadType: 111, Data: frame}) {
			g := got.Blocks()[i]
			if g.PayloadType != b.PayloadType || g.Offset != b.Offset || !bytes.Equal(g.Data, b.Data) {
				t.Fatalf("block %d: got %+v, want %+v", i, g, b)
			}
		}
	})
}

// Numbers and timestamps wrap within the run, and copies are still those of the packets right before.
func TestHistory_CopiesThePacketsRightBefore(t *testing.T) {
	t.Parallel()
	var h History
	seq, ts := uint16(65530), uint32(1<<32-3*960)
	for i := range 20 {
		frame := []byte{byte(i)}
		var got Payload
		if err := got.Parse(h.Append(nil, 2, seq, ts, 111, frame)); err != nil {
			t.Fatal(err)
		}
		blocks := got.Blocks()
		if len(blocks) != min(i, 2)+1 {
			t.Fatalf("packet %d has %d blocks", i, len(blocks))
		}
		for age, b := range blocks {
			age = len(blocks) - 1 - age
			if b.Data[0] != byte(i-age) || int(b.Offset) != age*960 {
				t.Fatalf("packet %d: block of age %d is %+v", i, age, b)
			}
		}
		h.Push(seq, ts, frame)
		seq, ts = seq+1, ts+960
	}
}

func TestHistory_LeavesOutWhatCannotBeSaid(t *testing.T) {
	t.Parallel()
	f := func(why string, seq uint16, ts uint32, size, frame, want int) {
		t.Helper()
		var h History
		h.Push(10, 9600, make([]byte, 100))
		h.Push(11, 10560, make([]byte, size))
		var got Payload
		if err := got.Parse(h.Append(nil, 2, seq, ts, 111, make([]byte, frame))); err != nil {
			t.Fatal(err)
		}
		if len(got.Blocks()) != want+1 {
			t.Errorf("%s: %d copies, want %d", why, len(got.Blocks())-1, want)
		}
	}
	f("all is well", 12, 11520, 100, 100, 2)
	f("a packet is missing in between", 13, 12480, 100, 100, 0)
	f("a pause of more than 341 ms", 12, 10560+1<<14, 100, 100, 0)
	f("the older one is too old", 12, 9600+1<<14, 100, 100, 1)
	f("copies would not fit", 12, 11520, 1000, 200, 0)
	f("the older one would not fit", 12, 11520, 1000, 100, 1)
	f("a frame beyond ten bits", 12, 11520, 1100, 100, 0)
}

func TestHistory_IsNotTurnedBackByALatePacket(t *testing.T) {
	t.Parallel()
	var h History
	h.Push(10, 9600, []byte{10})
	h.Push(11, 10560, []byte{11})
	h.Push(9, 8640, []byte{9})
	var got Payload
	if err := got.Parse(h.Append(nil, 1, 12, 11520, 111, nil)); err != nil || got.Blocks()[0].Data[0] != 11 {
		t.Errorf("got %v, %v", got.Blocks(), err)
	}
	h.Push(50000, 1, []byte{50}) // began anew
	if err := got.Parse(h.Append(nil, 1, 50001, 961, 111, nil)); err != nil || len(got.Blocks()) != 2 {
		t.Errorf("got %v, %v", got.Blocks(), err)
	}
}

func TestHistory_AllocatesNothing(t *testing.T) {
	var h History
	buf, frame := make([]byte, 0, 1500), make([]byte, 80)
	seq, ts := uint16(0), uint32(0)
	var p Payload
	if n := testing.AllocsPerRun(1000, func() {
		out := h.Append(buf, 2, seq, ts, 111, frame)
		if p.Parse(out) != nil {
			t.Fatal("not parsed")
		}
		h.Push(seq, ts, frame)
		seq, ts = seq+1, ts+960
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// FuzzParse: whatever comes is refused, or is in order and can be written again as it was.
func FuzzParse(f *testing.F) {
	f.Add([]byte{0x80 | 111, 0x0f, 0x00, 0x03, 111, 1, 2, 3, 9})
	f.Add([]byte{111})
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var p Payload
		if p.Parse(payload) != nil {
			return
		}
		blocks := p.Blocks()
		last := p.Primary()
		again, err := Append(nil, blocks[:len(blocks)-1], last.PayloadType, last.Data)
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("%x became %x, %v", payload, again, err)
		}
	})
}

func BenchmarkHistory(b *testing.B) {
	var h History
	buf, frame := make([]byte, 0, 1500), make([]byte, 80)
	b.ReportAllocs()
	seq, ts := uint16(0), uint32(0)
	for b.Loop() {
		buf = h.Append(buf[:0], 2, seq, ts, 111, frame)
		h.Push(seq, ts, frame)
		seq, ts = seq+1, ts+960
	}
}
