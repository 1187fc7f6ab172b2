package rest

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// loopback is this host.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func within(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// settleClient finds out who sent the request: the peer, or whom a proxy of ours names. From then on ctx.RemoteIP is the client's.
func (s *Server) settleClient(ctx *fasthttp.RequestCtx) netip.Addr {
	if s.cfg.Proxies == nil {
		return peerOf(ctx)
	}
	ctx.SetRemoteAddr(nil) // it may be that of the connection's last request
	peer := peerOf(ctx)
	if !within(s.cfg.Proxies, peer) {
		return peer
	}
	client := s.named(ctx, peer)
	if client != peer {
		ctx.SetRemoteAddr(net.TCPAddrFromAddrPort(netip.AddrPortFrom(client, 0)))
	}
	return client
}

func peerOf(ctx *fasthttp.RequestCtx) netip.Addr {
	a, _ := netip.AddrFromSlice(ctx.RemoteIP())
	return a.Unmap()
}

// named follows X-Forwarded-For from its end, where our own proxies wrote, to the first address that is none of them. What is further
// in front anybody may have written.
func (s *Server) named(ctx *fasthttp.RequestCtx, peer netip.Addr) netip.Addr {
	headers := ctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor)
	for _, header := range slices.Backward(headers) {
		hops := strings.Split(string(header), ",")
		for _, hop := range slices.Backward(hops) {
			a, ok := parseHop(strings.TrimSpace(hop))
			if !ok {
				return peer
			}
			if peer = a; !within(s.cfg.Proxies, a) {
				return a
			}
		}
	}
	return peer
}

// parseHop reads an address, which some proxies write with a port.
func parseHop(s string) (netip.Addr, bool) {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return p.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err == nil
}

// counted says whether limits by address count a client: not our proxies, behind whom everybody would be one, and not this host.
func (s *Server) counted(a netip.Addr) bool {
	return a.IsValid() && !within(s.cfg.Exempt, a) && !within(s.cfg.Proxies, a)
}
