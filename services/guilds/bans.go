package guilds

import (
	"context"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// putBan keeps a user out, member or not. Who is banned already stays as they are, with the reason that there is.
func (s *Service) putBan(c *rest.Call, in wire.BanUser) (rest.None, error) {
	guild, user, reason := c.ID("guild"), c.ID("user"), c.Reason()
	return rest.None{}, s.change(c, scope{guild: guild, users: []id.ID{user}}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(perm.BanMembers); err != nil {
			return event{}, err
		}
		face, err := s.roster.User(ctx, user)
		if err != nil {
			return event{}, err
		}
		m := w.members[user]
		if m != nil {
			if err := w.aboveMember(m); err != nil {
				return event{}, err
			}
		}
		if added, err := insertBan(ctx, w.tx, guild, user, reason); err != nil || !added {
			return event{}, err
		}
		e := event{kind: wire.BanAdded, user: user, payload: wire.BanChangedPayload{User: face, PurgeSince: purgeSince(in)}}
		if m != nil {
			e.kind, e.payload = wire.MemberRemoved, wire.MemberRemovedPayload{User: face, Cause: wire.CauseBanned, PurgeSince: purgeSince(in)}
			err = deleteMember(ctx, w.tx, guild, user)
		}
		e.audit = []note{{action: wire.AuditBanAdd, target: user}}
		return e, err
	})
}

// purgeSince is from where on what the banned user wrote goes: the younger way to say it wins. 0 is nothing.
func purgeSince(in wire.BanUser) id.ID {
	seconds := or(in.DeleteMessageSeconds, or(in.DeleteMessageDays, or(in.DaysInQuery, 0))*24*60*60)
	if seconds == 0 {
		return 0
	}
	return id.FromSequence(uint64(time.Now().Add(-time.Duration(seconds)*time.Second).UnixMilli()), 0)
}

func (s *Service) deleteBan(c *rest.Call, _ rest.None) (rest.None, error) {
	guild, user := c.ID("guild"), c.ID("user")
	faces, err := s.roster.Users(c.Context(), []id.ID{user})
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.change(c, scope{guild: guild}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(perm.BanMembers); err != nil {
			return event{}, err
		}
		deleted, err := deleteBan(ctx, w.tx, guild, user)
		if err != nil {
			return event{}, err
		}
		if !deleted {
			return event{}, fault.New(fault.UnknownBan)
		}
		e := event{kind: wire.BanRemoved, user: user, payload: wire.BanChangedPayload{User: faces[user]}}
		e.audit = []note{{action: wire.AuditBanRemove, target: user}}
		return e, nil
	})
}

func (s *Service) getBan(c *rest.Call, _ rest.None) (wire.Ban, error) {
	ctx, guild, user := c.Context(), c.ID("guild"), c.ID("user")
	if _, err := s.roster.CanGuild(ctx, c.User(), guild, perm.BanMembers); err != nil {
		return wire.Ban{}, err
	}
	row, err := s.store.ban(ctx, guild, user)
	if err != nil {
		return wire.Ban{}, err
	}
	faces, err := s.roster.Users(ctx, []id.ID{user})
	if err != nil {
		return wire.Ban{}, err
	}
	return wire.Ban{Reason: row.reason, User: faces[user]}, nil
}

// listBans answers a page by rising user id; with before, the one that ends there.
func (s *Service) listBans(c *rest.Call, in wire.ListBans) ([]wire.Ban, error) {
	ctx, guild := c.Context(), c.ID("guild")
	if _, err := s.roster.CanGuild(ctx, c.User(), guild, perm.BanMembers); err != nil {
		return nil, err
	}
	rows, err := s.store.bans(ctx, guild, in.Before, in.After, or(in.Limit, wire.BansPageMax))
	if err != nil {
		return nil, err
	}
	users := make([]id.ID, len(rows))
	for i, row := range rows {
		users[i] = row.user
	}
	faces, err := s.roster.Users(ctx, users)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Ban, len(rows))
	for i, row := range rows {
		out[i] = wire.Ban{Reason: row.reason, User: faces[row.user]}
	}
	return out, nil
}
