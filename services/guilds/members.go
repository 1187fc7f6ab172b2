package guilds

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// listMembers pages through the rows: a guild may have more members than should be read at once.
func (s *Service) listMembers(c *rest.Call, in wire.ListMembers) ([]wire.Member, error) {
	ctx, guild := c.Context(), c.ID("guild")
	grant, err := s.roster.CanGuild(ctx, c.User(), guild, 0)
	if err != nil {
		return nil, err
	}
	return s.membersOf(ctx, grant.Guild, in.After, or(in.Limit, 1))
}

// membersOf is a page of a guild's members, by rising id, behind after.
func (s *Service) membersOf(ctx context.Context, g *roster.Guild, after id.ID, limit int) ([]wire.Member, error) {
	records, err := s.store.members(ctx, g.ID, after, limit)
	if err != nil {
		return nil, err
	}
	ids := make([]id.ID, len(records))
	for i, m := range records {
		ids[i] = m.UserID
	}
	users, err := s.roster.Users(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Member, len(records))
	for i, m := range records {
		m.Roles = slices.DeleteFunc(m.Roles, func(r id.ID) bool { return g.Roles[r] == nil })
		out[i] = m.Member(users[m.UserID])
	}
	return out, nil
}

// searchPage is how many members are looked at together.
const searchPage = 1000

// searchMembers finds those whose name or nickname begins with the query, by rising id. Names are not in this service's rows, so it goes
// through all members until it has enough.
func (s *Service) searchMembers(c *rest.Call, in wire.SearchMembers) ([]wire.Member, error) {
	ctx, guild := c.Context(), c.ID("guild")
	grant, err := s.roster.CanGuild(ctx, c.User(), guild, 0)
	if err != nil {
		return nil, err
	}
	query, limit := strings.ToLower(in.Query), or(in.Limit, 1)
	out := []wire.Member{}
	for after := id.ID(0); ; {
		page, err := s.membersOf(ctx, grant.Guild, after, searchPage)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			for _, name := range []string{m.User.Username, or(m.User.GlobalName, ""), or(m.Nick, "")} {
				if strings.HasPrefix(strings.ToLower(name), query) {
					out = append(out, m)
					break
				}
			}
			if len(out) == limit {
				return out, nil
			}
		}
		if len(page) < searchPage {
			return out, nil
		}
		after = page[len(page)-1].User.ID
	}
}

func (s *Service) getMember(c *rest.Call, _ rest.None) (wire.Member, error) {
	ctx, guild, user := c.Context(), c.ID("guild"), c.ID("user")
	if _, err := s.roster.CanGuild(ctx, c.User(), guild, 0); err != nil {
		return wire.Member{}, err
	}
	record, err := s.roster.Member(ctx, guild, user)
	if err != nil {
		return wire.Member{}, err
	}
	face, err := s.roster.User(ctx, user)
	if err != nil {
		return wire.Member{}, err
	}
	return record.Member(face), nil
}

// updateMe is the body of PATCH /guilds/{guild}/members/@me.
type updateMe struct {
	Nick wire.Optional[string] `json:"nick,omitzero" validate:"omitnil,max=32,nonul"`
}

func (s *Service) updateMe(c *rest.Call, in updateMe) (wire.Member, error) {
	return s.changeMember(c, c.User(), func(w *change, m *wire.MemberRecord) error {
		if !in.Nick.Set {
			return nil
		}
		if _, err := w.may(perm.ChangeNickname); err != nil {
			return err
		}
		m.Nick = nick(in.Nick)
		return nil
	})
}

func (s *Service) updateMember(c *rest.Call, in wire.UpdateMember) (wire.Member, error) {
	return s.changeMember(c, c.ID("user"), func(w *change, m *wire.MemberRecord) error {
		if err := w.moveInVoice(in); err != nil {
			return err
		}
		if err := w.timeOut(m, in.CommunicationDisabledUntil); err != nil {
			return err
		}
		// A client may send all that it knows: the name that somebody has already needs no permission.
		if next := nick(in.Nick); in.Nick.Set && or(next, "") != or(m.Nick, "") {
			if err := w.mayRename(m); err != nil {
				return err
			}
			m.Nick = next
		}
		if in.Roles != nil {
			return w.setRoles(m, *in.Roles)
		}
		return nil
	})
}

// nick is a nickname as it is kept; an empty one is none.
func nick(in wire.Optional[string]) *string {
	if n := strings.TrimSpace(in.Value); n != "" {
		return &n
	}
	return nil
}

// timeOutMax is how far ahead a time-out may end.
const timeOutMax = 28 * 24 * time.Hour

// timeOut silences a member up to a moment, or not any more. A moment that is past is none, and what stands already needs no permission:
// a client may send all that it knows.
func (w *change) timeOut(m *wire.MemberRecord, in wire.Optional[wire.Time]) error {
	until, now := in.Value, time.Now()
	if until.Time().Before(now) {
		until = 0
	}
	if !in.Set || until == m.CommunicationDisabledUntil || until == 0 && !m.TimedOut(now) {
		return nil
	}
	if _, err := w.may(perm.ModerateMembers); err != nil {
		return err
	}
	if err := w.aboveMember(m); err != nil {
		return err
	}
	if until != 0 && w.guild.Granted(m).Has(perm.Administrator) {
		return fault.New(fault.MissingPermissions)
	}
	if until.Time().After(now.Add(timeOutMax)) {
		return fault.Invalid(fault.Field{Path: "communication_disabled_until", Code: "INVALID_COMMUNICATION_DISABLED_TIMESTAMP",
			Message: "A time-out ends within 28 days."})
	}
	m.CommunicationDisabledUntil = until
	return nil
}

// moveInVoice judges what can be done only to who is in a voice channel, where nobody is.
func (w *change) moveInVoice(in wire.UpdateMember) error {
	var need perm.Bits
	if in.Mute != nil {
		need |= perm.MuteMembers
	}
	if in.Deaf != nil {
		need |= perm.DeafenMembers
	}
	if in.ChannelID.Set {
		need |= perm.MoveMembers
	}
	if need == 0 {
		return nil
	}
	if _, err := w.may(need); err != nil {
		return err
	}
	return fault.New(fault.NotInVoice)
}

// mayRename: others by who manages nicknames and stands above them, oneself by who may at least change one's own.
func (w *change) mayRename(m *wire.MemberRecord) error {
	if m.UserID != w.user {
		if _, err := w.may(perm.ManageNicknames); err != nil {
			return err
		}
		return w.aboveMember(m)
	}
	if _, err := w.may(perm.ChangeNickname); err != nil {
		_, err = w.may(perm.ManageNicknames)
		return err
	}
	return nil
}

// setRoles gives a member exactly these roles. The actor must stand above each role that comes or goes; the others may be
// any.
func (w *change) setRoles(m *wire.MemberRecord, wanted []id.ID) error {
	if _, err := w.may(perm.ManageRoles); err != nil {
		return err
	}
	next := make([]id.ID, 0, len(wanted))
	for _, r := range wanted {
		if w.guild.Roles[r] == nil || r == w.guild.ID {
			return fault.New(fault.InvalidRole)
		}
		if !slices.Contains(next, r) {
			next = append(next, r)
		}
	}
	for _, r := range slices.Concat(next, m.Roles) {
		if slices.Contains(next, r) == m.HasRole(r) {
			continue
		}
		if err := w.above(w.guild.Roles[r]); err != nil {
			return err
		}
	}
	m.Roles = next
	return nil
}

func (s *Service) giveRole(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.changeRoles(c, func(roles []id.ID, role id.ID) []id.ID {
		if slices.Contains(roles, role) {
			return roles
		}
		return append(slices.Clone(roles), role)
	})
}

func (s *Service) takeRole(c *rest.Call, _ rest.None) (rest.None, error) {
	return rest.None{}, s.changeRoles(c, func(roles []id.ID, role id.ID) []id.ID {
		return slices.DeleteFunc(slices.Clone(roles), func(r id.ID) bool { return r == role })
	})
}

func (s *Service) changeRoles(c *rest.Call, edit func(roles []id.ID, role id.ID) []id.ID) error {
	role := c.ID("role")
	_, err := s.changeMember(c, c.ID("user"), func(w *change, m *wire.MemberRecord) error {
		if _, err := w.may(perm.ManageRoles); err != nil {
			return err
		}
		r := w.guild.Roles[role]
		switch {
		case r == nil:
			return fault.New(fault.UnknownRole)
		case role == w.guild.ID:
			return fault.New(fault.InvalidRole)
		}
		// Also when nothing changes: whether somebody has a role must not decide who may ask.
		if err := w.above(r); err != nil {
			return err
		}
		return w.setRoles(m, edit(m.Roles, role))
	})
	return err
}

// changeMember is change for one member's record. edit gets a copy, and may leave it as it is; its lists are shared with the snapshot
// and must be replaced, not written.
func (s *Service) changeMember(c *rest.Call, user id.ID, edit func(w *change, m *wire.MemberRecord) error) (out wire.Member, err error) {
	// Whoever is nobody is no member either; but strangers are told first that they are strangers.
	faces, err := s.roster.Users(c.Context(), []id.ID{user})
	if err != nil {
		return out, err
	}
	face := faces[user]
	err = s.change(c, scope{guild: c.ID("guild"), users: []id.ID{user}}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(0); err != nil {
			return event{}, err
		}
		before := w.members[user]
		if before == nil {
			return event{}, fault.New(fault.UnknownMember)
		}
		m := *before
		if err := edit(w, &m); err != nil {
			return event{}, err
		}
		out = m.Member(face)
		if slices.Equal(m.Roles, before.Roles) && or(m.Nick, "") == or(before.Nick, "") &&
			m.CommunicationDisabledUntil == before.CommunicationDisabledUntil {
			return event{}, nil
		}
		e := event{kind: wire.MemberUpdated, user: user, payload: wire.MemberChangedPayload{Member: m, User: face}, audit: w.memberNotes(before, &m)}
		return e, saveMember(ctx, w.tx, w.guild.ID, &m)
	})
	return out, err
}

// memberNotes say what a change of a member is.
func (w *change) memberNotes(before, after *wire.MemberRecord) (out []note) {
	if changes := differences(before, after); changes != nil {
		out = append(out, note{action: wire.AuditMemberUpdate, target: after.UserID, changes: changes})
	}
	var changes []wire.AuditChange
	add := func(key string, from, without *wire.MemberRecord) {
		var roles []roleRef
		for _, r := range from.Roles {
			if role := w.guild.Roles[r]; role != nil && !without.HasRole(r) {
				roles = append(roles, roleRef{ID: r, Name: role.Name})
			}
		}
		if roles != nil {
			changes = append(changes, wire.AuditChange{Key: key, New: encode(roles)})
		}
	}
	add("$add", after, before)
	add("$remove", before, after)
	if changes != nil {
		out = append(out, note{action: wire.AuditMemberRoleUpdate, target: after.UserID, changes: changes})
	}
	return out
}

// roleRef is a role as the audit log names it.
type roleRef struct {
	ID   id.ID  `json:"id"`
	Name string `json:"name"`
}

func (s *Service) kickMember(c *rest.Call, _ rest.None) (rest.None, error) {
	guild, user := c.ID("guild"), c.ID("user")
	faces, err := s.roster.Users(c.Context(), []id.ID{user})
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.change(c, scope{guild: guild, users: []id.ID{user}}, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(perm.KickMembers); err != nil {
			return event{}, err
		}
		m := w.members[user]
		if m == nil {
			return event{}, fault.New(fault.UnknownMember)
		}
		if err := w.aboveMember(m); err != nil {
			return event{}, err
		}
		return w.remove(ctx, faces[user], wire.CauseKicked, note{action: wire.AuditMemberKick, target: user})
	})
}

// remove ends a membership.
func (w *change) remove(ctx context.Context, user wire.User, cause string, audit ...note) (event, error) {
	e := event{kind: wire.MemberRemoved, user: user.ID, payload: wire.MemberRemovedPayload{User: user, Cause: cause}, audit: audit}
	return e, deleteMember(ctx, w.tx, w.guild.ID, user.ID)
}

// join begins a membership, or answers 40007 to who is banned. Bots may be in any number of guilds.
func (s *Service) join(ctx context.Context, w *change, user wire.User) (event, wire.MemberRecord, error) {
	m := joined(user.ID)
	// The rows decide, not the read model: they are held still by the guild's lock.
	switch _, err := selectBan(ctx, w.tx, w.guild.ID, user.ID); {
	case err == nil:
		return event{}, m, fault.New(fault.Banned)
	case !fault.Is(err, fault.UnknownBan):
		return event{}, m, err
	}
	if !user.Bot {
		if err := s.mayJoin(ctx, w.tx, user.ID); err != nil {
			return event{}, m, err
		}
	}
	e := event{kind: wire.MemberJoined, user: user.ID, payload: wire.MemberChangedPayload{Member: m, User: user}}
	return e, m, saveMember(ctx, w.tx, w.guild.ID, &m)
}

// addBot makes a bot a member, for who manages the guild. It answers the member, or nothing when the bot is one already.
func (s *Service) addBot(c *rest.Call, _ rest.None) (out rest.Raw, err error) {
	bot, err := s.roster.User(c.Context(), c.ID("user"))
	if err != nil {
		return nil, err
	}
	in := scope{guild: c.ID("guild"), users: []id.ID{bot.ID}, joins: bot.ID}
	err = s.change(c, in, func(ctx context.Context, w *change) (event, error) {
		if _, err := w.may(perm.ManageGuild); err != nil {
			return event{}, err
		}
		if !bot.Bot {
			return event{}, fault.Invalid(fault.Field{Path: "user_id", Code: fault.FieldChoices, Message: "Only bots can be added; people join by invite."})
		}
		if w.members[bot.ID] != nil {
			return event{}, nil
		}
		e, m, err := s.join(ctx, w, bot)
		if err != nil {
			return event{}, err
		}
		e.audit = []note{{action: wire.AuditBotAdd, target: bot.ID}}
		if out, err = json.Marshal(m.Member(bot)); err != nil {
			return event{}, fmt.Errorf("encode a member: %w", err)
		}
		return e, nil
	})
	return out, err
}
