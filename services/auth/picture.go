package auth

import (
	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/rest"
)

// getAvatar serves /avatars/{user}/{hash}.png.
func (s *Service) getAvatar(c *rest.Call, _ rest.None) (rest.File, error) {
	hash, err := picture.HashOf(c.Param("file"))
	if err != nil {
		return rest.File{}, err
	}
	p, err := s.store.avatar(c.Context(), c.ID("user"), hash)
	if err != nil {
		return rest.File{}, err
	}
	return rest.File{Type: p.Type, Policy: picture.Policy, Cache: picture.Cache, Body: p.Body}, nil
}
