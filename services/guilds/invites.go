package guilds

import (
	"context"
	cryptorand "crypto/rand"
	"errors"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// codeLength: 62^8 codes; with a million of them, whoever guesses finds one in 200 million tries.
const (
	codeLength   = 8
	codeAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// codeTries is how many taken codes in a row are bad luck; after that, something else is wrong.
	codeTries = 3
)

// newCode draws evenly: bytes that would favour the first letters are drawn again.
func newCode() string {
	const even = 256 - 256%len(codeAlphabet)
	code := make([]byte, 0, codeLength)
	var b [2 * codeLength]byte
	for len(code) < codeLength {
		_, _ = cryptorand.Read(b[:]) // crypto/rand never fails.
		for _, v := range b {
			if int(v) < even && len(code) < codeLength {
				code = append(code, codeAlphabet[int(v)%len(codeAlphabet)])
			}
		}
	}
	return string(code)
}

func (s *Service) createInvite(c *rest.Call, in wire.CreateInvite) (out wire.Invite, err error) {
	face, err := s.roster.User(c.Context(), c.User())
	if err != nil {
		return out, err
	}
	err = s.changeChannel(c, perm.CreateInstantInvite, nil, func(ctx context.Context, w *change, ch wire.Channel, _ perm.Bits) (event, error) {
		if ch.Type == wire.ChannelCategory {
			return event{}, fault.New(fault.WrongChannelType)
		}
		want := inviteRow{guild: ch.GuildID, channel: ch.ID, inviter: c.User(), maxAge: or(in.MaxAge, wire.InviteAgeDefault), maxUses: or(in.MaxUses, 0),
			temporary: or(in.Temporary, false)}
		if !or(in.Unique, false) && want.maxAge == 0 && want.maxUses == 0 && !want.temporary {
			// Only an invite without limits gives as much tomorrow as it does now.
			found, ok, err := similarInvite(ctx, w.tx, want)
			if err != nil || ok {
				out = inviteOf(found, w.guild, face)
				return event{}, err
			}
		}
		n, err := countInvites(ctx, w.tx, ch.GuildID)
		if err != nil {
			return event{}, err
		}
		if n >= s.config.InvitesMax {
			return event{}, fault.New(fault.MaxInvites)
		}
		made, err := newInvite(ctx, w.tx, want)
		if err != nil {
			return event{}, err
		}
		out = inviteOf(made, w.guild, face)
		e := event{kind: wire.InviteCreated, channel: ch.ID, payload: wire.InviteChangedPayload{Invite: out}}
		e.audit = []note{{action: wire.AuditInviteCreate, changes: differences(nil, auditedInvite(out))}}
		return e, nil
	})
	return out, err
}

func newInvite(ctx context.Context, tx transaction, want inviteRow) (inviteRow, error) {
	for range codeTries {
		want.code = newCode()
		made, ok, err := insertInvite(ctx, tx, want)
		if err != nil || ok {
			return made, err
		}
	}
	return inviteRow{}, errors.New("every new code is taken")
}

// inviteOf is an invite as those who manage it see it.
func inviteOf(i inviteRow, g *roster.Guild, inviter wire.User) wire.Invite {
	out := wire.Invite{
		Code: i.code, GuildID: i.guild, Guild: g.Meta.InviteGuild(), Channel: wire.InviteChannel{ID: i.channel}, Inviter: &inviter,
		CreatedAt: i.created, ExpiresAt: i.expires, MaxAge: i.maxAge, MaxUses: i.maxUses, Uses: i.uses, Temporary: i.temporary,
	}
	if ch := g.Channels[i.channel]; ch != nil {
		out.Channel = wire.InviteChannel{ID: ch.ID, Type: ch.Type, Name: ch.Name}
	}
	return out
}

// auditedInvite is what the audit log tells of an invite.
func auditedInvite(i wire.Invite) any {
	return struct {
		Code      string `json:"code"`
		ChannelID id.ID  `json:"channel_id"`
		InviterID id.ID  `json:"inviter_id"`
		MaxAge    int    `json:"max_age"`
		MaxUses   int    `json:"max_uses"`
		Uses      int    `json:"uses"`
		Temporary bool   `json:"temporary"`
	}{i.Code, i.Channel.ID, i.Inviter.ID, i.MaxAge, i.MaxUses, i.Uses, i.Temporary}
}

// publicInvite is an invite as anybody sees it who knows its code.
type publicInvite struct {
	Type      int                `json:"type"`
	Code      string             `json:"code"`
	GuildID   id.ID              `json:"guild_id"`
	Guild     wire.InviteGuild   `json:"guild"`
	Channel   wire.InviteChannel `json:"channel"`
	Inviter   *wire.User         `json:"inviter,omitempty"`
	ExpiresAt wire.Time          `json:"expires_at"`
	Flags     int                `json:"flags"`

	ApproximateMemberCount   *int `json:"approximate_member_count,omitempty"`
	ApproximatePresenceCount *int `json:"approximate_presence_count,omitempty"`
}

func publicOf(i wire.Invite) publicInvite {
	return publicInvite{Type: i.Type, Code: i.Code, GuildID: i.GuildID, Guild: i.Guild, Channel: i.Channel, Inviter: i.Inviter,
		ExpiresAt: i.ExpiresAt, Flags: i.Flags}
}

func (s *Service) getInvite(c *rest.Call, in wire.GetInvite) (publicInvite, error) {
	ctx := c.Context()
	row, err := s.store.invite(ctx, c.Param("code"))
	if err != nil {
		return publicInvite{}, err
	}
	g, err := s.roster.Guild(ctx, row.guild)
	if err != nil {
		if fault.Is(err, fault.UnknownGuild) {
			err = fault.New(fault.UnknownInvite)
		}
		return publicInvite{}, err
	}
	faces, err := s.roster.Users(ctx, []id.ID{row.inviter})
	if err != nil {
		return publicInvite{}, err
	}
	out := publicOf(inviteOf(row, g, faces[row.inviter]))
	if in.WithCounts {
		out.ApproximateMemberCount = &g.MemberCount
		out.ApproximatePresenceCount, err = s.headcount.of(ctx, g.ID)
	}
	return out, err
}

// acceptInvite makes the caller a member. Who is one already uses nothing up.
func (s *Service) acceptInvite(c *rest.Call, _ rest.None) (out publicInvite, err error) {
	ctx, code := c.Context(), c.Param("code")
	row, err := s.store.invite(ctx, code)
	if err != nil {
		return out, err
	}
	face, err := s.roster.User(ctx, c.User())
	if err != nil {
		return out, err
	}
	faces, err := s.roster.Users(ctx, []id.ID{row.inviter})
	if err != nil {
		return out, err
	}
	in := scope{guild: row.guild, missing: fault.UnknownInvite, joins: c.User()}
	err = s.change(c, in, func(ctx context.Context, w *change) (event, error) {
		// Again, now that nobody else can use it at the same time.
		row, err := selectInvite(ctx, w.tx, code)
		if err != nil {
			return event{}, err
		}
		out = publicOf(inviteOf(row, w.guild, faces[row.inviter]))
		if w.actor != nil {
			return event{}, nil
		}
		e, _, err := s.join(ctx, w, face)
		if err == nil && row.temporary {
			err = setGuest(ctx, w.tx, guest{row.guild, c.User()})
		}
		if err != nil {
			return event{}, err
		}
		return e, useInvite(ctx, w.tx, code)
	})
	return out, err
}

// deleteInvite is for who manages the invite's channel or the guild.
func (s *Service) deleteInvite(c *rest.Call, _ rest.None) (out wire.Invite, err error) {
	ctx, code := c.Context(), c.Param("code")
	row, err := s.store.invite(ctx, code)
	if err != nil {
		return out, err
	}
	faces, err := s.roster.Users(ctx, []id.ID{row.inviter})
	if err != nil {
		return out, err
	}
	err = s.change(c, scope{guild: row.guild, missing: fault.UnknownInvite}, func(ctx context.Context, w *change) (event, error) {
		if _, _, err := w.mayIn(row.channel, perm.ManageChannels); err != nil {
			if _, err := w.may(perm.ManageGuild); err != nil {
				return event{}, fault.New(fault.MissingPermissions)
			}
		}
		row, err := selectInvite(ctx, w.tx, code)
		if err != nil {
			return event{}, err
		}
		out = inviteOf(row, w.guild, faces[row.inviter])
		e := event{kind: wire.InviteDeleted, channel: row.channel, payload: wire.InviteDeletedPayload{Code: code, ChannelID: row.channel}}
		e.audit = []note{{action: wire.AuditInviteDelete, changes: differences(auditedInvite(out), nil)}}
		return e, deleteInvite(ctx, w.tx, code)
	})
	return out, err
}

func (s *Service) listGuildInvites(c *rest.Call, _ rest.None) ([]wire.Invite, error) {
	grant, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), perm.ManageGuild)
	if err != nil {
		return nil, err
	}
	return s.listInvites(c.Context(), grant.Guild, 0)
}

func (s *Service) listChannelInvites(c *rest.Call, _ rest.None) ([]wire.Invite, error) {
	grant, err := s.roster.Can(c.Context(), c.User(), c.ID("channel"), perm.ManageChannels)
	if err != nil {
		return nil, err
	}
	return s.listInvites(c.Context(), grant.Guild, grant.Channel.ID)
}

func (s *Service) listInvites(ctx context.Context, g *roster.Guild, channel id.ID) ([]wire.Invite, error) {
	rows, err := s.store.invites(ctx, g.ID, channel)
	if err != nil {
		return nil, err
	}
	inviters := make([]id.ID, len(rows))
	for i, row := range rows {
		inviters[i] = row.inviter
	}
	faces, err := s.roster.Users(ctx, inviters)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Invite, len(rows))
	for i, row := range rows {
		out[i] = inviteOf(row, g, faces[row.inviter])
	}
	return out, nil
}
