package guilds

import (
	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// iconBodyMax has room for an icon in the body of a request.
const iconBodyMax = wire.AvatarTextMax + 256<<10

// getIcon serves /icons/{guild}/{hash}.png. The hash is as good as a token: who knows it has seen the guild, or an invite to it.
func (s *Service) getIcon(c *rest.Call, _ rest.None) (rest.File, error) {
	hash, err := picture.HashOf(c.Param("file"))
	if err != nil {
		return rest.File{}, err
	}
	p, err := s.store.icon(c.Context(), c.ID("guild"), hash)
	if err != nil {
		return rest.File{}, err
	}
	return rest.File{Type: p.Type, Policy: picture.Policy, Cache: picture.Cache, Body: p.Body}, nil
}
