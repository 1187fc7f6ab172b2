package gateway

import (
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// Sockets answers GET …/{user} with the connections of a user to all gateways, for the private socket of a node.
func (s *Service) Sockets() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := id.Parse(r.PathValue("user"))
		if err != nil || user == 0 {
			answer(w, http.StatusBadRequest, map[string]string{"error": "this is no id of a user"})
			return
		}
		sockets, err := s.deps.Presence.Sockets(r.Context(), user)
		if err != nil {
			slog.Warn("sockets cannot be read", "err", err)
			answer(w, http.StatusServiceUnavailable, map[string]string{"error": "presence cannot be read; the log says why"})
			return
		}
		out := make(wire.List[wire.UserSocket], len(sockets))
		for i, k := range sockets {
			out[i] = wire.UserSocket{Gateway: k.Gateway, SessionID: k.Session, Status: string(k.Status), Since: wire.At(k.Since)}
		}
		answer(w, http.StatusOK, out)
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked has gone
}
