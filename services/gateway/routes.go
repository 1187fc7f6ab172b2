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

// sessionStarts is what bots are told of how often they may identify in a day. Nothing is counted: what protects the
// gateway is the limit of waiting connections.
const sessionStarts = 1000

func (s *Service) getGatewayBot(c *rest.Call, _ rest.None) (wire.GatewayBot, error) {
	return wire.GatewayBot{
		URL: s.address(c), Shards: 1,
		SessionStartLimit: wire.SessionStartLimit{Total: sessionStarts, Remaining: sessionStarts, ResetAfter: 86_400_000, MaxConcurrency: 16},
	}, nil
}

// address is where a client that asked here finds the WebSocket. Without a public URL there is no TLS in front.
func (s *Service) address(c *rest.Call) string {
	if s.public != "" {
		return s.public
	}
	return "ws://" + c.Host()
}
