package guilds

import (
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// What XCord does not have is answered with nothing, so that client libraries which ask for it at start-up go on.

// listNothing answers an empty list to members.
func (s *Service) listNothing(c *rest.Call, _ rest.None) (wire.List[wire.Null], error) {
	_, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), 0)
	return nil, err
}

// threads is the answer about active threads.
type threads struct {
	Threads wire.List[wire.Null] `json:"threads"`
	Members wire.List[wire.Null] `json:"members"`
	HasMore bool                 `json:"has_more"`
}

func (s *Service) listThreads(c *rest.Call, _ rest.None) (threads, error) {
	_, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), 0)
	return threads{}, err
}

// region is where voice is served from.
type region struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Custom     bool   `json:"custom"`
	Deprecated bool   `json:"deprecated"`
	Optimal    bool   `json:"optimal"`
}

// listRegions: a self-hosted installation is one place.
func (s *Service) listRegions(*rest.Call, rest.None) ([]region, error) {
	return []region{{ID: "local", Name: "This host", Optimal: true}}, nil
}
