package presence

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/id"
)

// Socket is a connection of a user to some gateway. One that broke stays for as long as its user still shows as online for it.
type Socket struct {
	Gateway string
	Session string // of the gateway
	Said
	Since time.Time // when it came to that gateway; zero when that is an older binary
}

// Sockets are those of a user on all gateways that live, the oldest first.
func (p *Presence) Sockets(ctx context.Context, user id.ID) ([]Socket, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	replies := p.redis.DoMulti(ctx,
		p.redis.B().Hgetall().Key(socketsKey(user)).Build(),
		p.redis.B().Zrangebyscore().Key(leasesKey()).Min("("+milliseconds(p.cfg.Now())).Max("+inf").Build())
	values, err := replies[0].AsStrMap()
	if err != nil {
		return nil, fmt.Errorf("read the sockets of a user: %w", err)
	}
	alive, err := replies[1].AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("read which gateways live: %w", err)
	}
	var out []Socket
	for name, value := range values {
		gateway, session, _ := strings.Cut(name, "/")
		if !slices.Contains(alive, gateway) {
			continue // nobody has swept it yet
		}
		parts := append(strings.SplitN(value, " ", 4), "", "", "")
		s := Socket{Gateway: gateway, Session: session, Said: Said{Status: Status(parts[0]), Client: parts[2], Activities: parts[3]}}
		if ms, err := strconv.ParseInt(parts[1], 10, 64); err == nil {
			s.Since = time.UnixMilli(ms)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Socket) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Session, b.Session))
	})
	return out, nil
}
