package auth

import (
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// listSockets tells an administrator which connections a user has, on all gateways.
func (s *Service) listSockets(c *rest.Call, _ rest.None) (wire.List[wire.UserSocket], error) {
	sockets, err := s.deps.Presence.Sockets(c.Context(), c.ID("user"))
	if err != nil {
		return nil, fault.Unavailable(err, time.Second)
	}
	out := make(wire.List[wire.UserSocket], len(sockets))
	for i, k := range sockets {
		out[i] = wire.UserSocket{Gateway: k.Gateway, SessionID: k.Session, Status: string(k.Status), Since: wire.At(k.Since)}
	}
	return out, nil
}
