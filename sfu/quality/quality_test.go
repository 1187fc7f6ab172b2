package quality

import (
	"testing"
	"time"

	"github.com/pion/interceptor"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPeer is a peer on a clock, nil for the usual one.
func testPeer(now func() time.Time) *Peer {
	var peer *Peer
	f := NewFactory(FactoryConfig{Attach: func(_ string, p *Peer) { peer = p }, RedundantType: 63, Now: now})
	if _, err := f.NewInterceptor("one"); err != nil {
		panic(err)
	}
	return peer
}

var _ interceptor.Factory = (*Factory)(nil)
