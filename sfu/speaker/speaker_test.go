package speaker

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/pion/rtp/codecs"
)

func TestSpeaker_TalksAndPauses(t *testing.T) {
	t.Parallel()
	s := New(Config{Seed: 1, Talk: 1200 * time.Millisecond, Pause: 1800 * time.Millisecond, DTX: true, LevelID: 1, Sequence: 65530, Timestamp: 1<<32 - 960})
	var talk, quiet, marked int
	seq, last := uint16(65530), Packet{}
	for i, p := range s.Until(30 * time.Second) {
		if p.SequenceNumber != seq {
			t.Fatalf("number %d, want %d", p.SequenceNumber, seq)
		}
		seq++
		if i > 0 {
			if gap := p.Timestamp - last.Timestamp; time.Duration(gap)*time.Second/ClockRate != p.At-last.At || p.At-last.At > pauseSpacing {
				t.Fatalf("the timestamp moved by %d in %v", gap, p.At-last.At)
			}
		}
		level := p.GetExtension(1)[0]
		if p.Talk {
			talk++
			if level > 36 || level < 24 {
				t.Fatalf("talk at -%d dB", level)
			}
		} else {
			quiet++
			if level != Silence || len(p.Payload) != 1 {
				t.Fatalf("a pause of %d bytes at -%d dB", len(p.Payload), level)
			}
		}
		if p.Marker {
			marked++
		}
		last = p
	}
	if talk != 10*60 || quiet != 10*5 || marked != 10 {
		t.Errorf("%d packets of talk, %d of silence, %d marked", talk, quiet, marked)
	}
}

func TestSpeaker_SendsValidOpus(t *testing.T) {
	t.Parallel()
	f := func(frame time.Duration, bitrate int) {
		t.Helper()
		bytes := 0
		for _, p := range New(Config{Frame: frame, Bitrate: bitrate}).Until(10 * time.Second) {
			if _, err := new(codecs.OpusPacket).Unmarshal(p.Payload); err != nil {
				t.Fatal(err)
			}
			if p.Payload[0]&3 != 0 || p.Payload[0]&4 != 0 {
				t.Fatalf("more than one frame, or stereo: %08b", p.Payload[0])
			}
			bytes += len(p.Payload)
		}
		if got := float64(bytes) * 8 / 10; math.Abs(got-float64(bitrate)) > float64(bitrate)/50 {
			t.Errorf("%v: %.0f bits a second, want %d", frame, got, bitrate)
		}
	}
	f(20*time.Millisecond, 32_000)
	f(40*time.Millisecond, 24_000)
	f(60*time.Millisecond, 16_000)
}

func TestSpeaker_IsTheSameForTheSameSeed(t *testing.T) {
	t.Parallel()
	config := Config{Seed: 3, Talk: time.Second, Pause: time.Second, LevelID: 1}
	a, b := New(config).Until(4*time.Second), New(config).Until(4*time.Second)
	if !reflect.DeepEqual(a, b) {
		t.Error("two speakers of one seed differ")
	}
}
