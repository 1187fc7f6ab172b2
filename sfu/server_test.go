package sfu

import (
	"testing"

	"github.com/pion/webrtc/v4"
)

func TestServer_TwoHearEachOther(t *testing.T) {
	t.Parallel()
	f := func(name string, server Config, network ...webrtc.NetworkType) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, server)
			a := join(t, s, "room", clientConfig{slots: 3, network: network})
			b := join(t, s, "room", clientConfig{slots: 3, network: network})
			a.sayUntil(b, from(a))
			b.sayUntil(a, from(b))
		})
	}
	f("ICE-lite", Config{})
	f("full ICE", Config{FullICE: true})
	f("TCP", Config{}, webrtc.NetworkTypeTCP4)
}
