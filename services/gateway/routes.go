package gateway

import (
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// Routes are the endpoints of the gateway.
var Routes = rest.Table[*Service]{
	rest.GET("/gateway", (*Service).getGateway, rest.Public()),
	rest.GET("/gateway/bot", (*Service).getGatewayBot),
}

// Mount puts the endpoints and the WebSocket on a public server.
func (s *Service) Mount(srv *rest.Server) {
	rest.Bind(srv, Routes, s)
	srv.Raw("GET", "/", s.acceptor.Handle)
	srv.Raw("GET", "/gateway", s.acceptor.Handle) // and "/gateway/", which is the same to the server
}

func (s *Service) getGateway(c *rest.Call, _ rest.None) (wire.Gateway, error) {
	return wire.Gateway{URL: s.address(c)}, nil
}

func (s *Service) getGatewayBot(c *rest.Call, _ rest.None) (wire.GatewayBot, error) {
	return wire.GatewayBot{URL: s.address(c), Shards: 1, SessionStartLimit: s.startLimit(c.Context(), c.User())}, nil
}

// address is where a client that asked here finds the WebSocket.
func (s *Service) address(c *rest.Call) string {
	if s.public != "" {
		return s.public
	}
	if s.cfg.TLS {
		return "wss://" + c.Host()
	}
	return "ws://" + c.Host()
}
