package guilds

import (
	"context"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// putBan keeps a user out, member or not. Who is banned already stays as they are, with the reason that there is.
func (s *Service) putBan(c *rest.Call, in wire.BanUser) (rest.None, error) {
	if err := nothingDeleted(in); err != nil {
		return rest.None{}, err
	}
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
		if m != nil {
			return w.remove(ctx, face, wire.CauseBanned, note{action: wire.AuditBanAdd, target: user})
		}
		e := event{kind: wire.BanAdded, user: user, payload: wire.BanChangedPayload{User: face}}
		e.audit = []note{{action: wire.AuditBanAdd, target: user}}
		return e, nil
	})
}

// nothingDeleted refuses to promise what is not done yet: deleting what the banned user wrote.
func nothingDeleted(in wire.BanUser) error {
	var wrong []fault.Field
	for path, n := range map[string]*int{"delete_message_seconds": in.DeleteMessageSeconds, "delete_message_days": in.DeleteMessageDays} {
		if or(n, 0) != 0 {
			wrong = append(wrong, fault.Field{Path: path, Code: fault.FieldChoices, Message: "Messages cannot be deleted with a ban here."})
		}
	}
	if wrong != nil {
		return fault.Invalid(wrong...)
	}
	return nil
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
