package presence

import (
	"context"
	"fmt"

	"github.com/xcord/xcord/engine/id"
)

// Online is how many of some users others see as there.
func (p *Presence) Online(ctx context.Context, users []id.ID) (n int, err error) {
	if len(users) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	fields := make([]string, len(users))
	for i, u := range users {
		fields[i] = u.String()
	}
	values, err := p.redis.Do(ctx, p.redis.B().Hmget().Key(statusesKey()).Field(fields...).Build()).ToArray()
	if err != nil {
		return 0, fmt.Errorf("count presences: %w", err)
	}
	for _, v := range values {
		if !v.IsNil() {
			n++
		}
	}
	return n, nil
}
