package messaging

import (
	"context"
	"slices"
	"strings"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

// named is whom a text names, each once, in the order of the text.
type named struct {
	users, roles []id.ID
	everyone     bool
}

// namesMax is how many users and roles of one text count. 2000 characters have room for some 90 real ids.
const namesMax = 100

// namesIn finds <@id>, <@!id>, <@&id>, @everyone and @here.
func namesIn(content string) named {
	var n named
	n.everyone = strings.Contains(content, "@everyone") || strings.Contains(content, "@here")
	for len(n.users)+len(n.roles) < namesMax {
		_, after, ok := strings.Cut(content, "<@")
		if !ok {
			return n
		}
		content = after
		text, isRole := strings.CutPrefix(after, "&")
		if !isRole {
			text = strings.TrimPrefix(after, "!")
		}
		digits, _, ok := strings.Cut(text, ">")
		if !ok {
			return n
		}
		i, err := id.Parse(digits)
		switch {
		case err != nil || i == 0:
		case isRole && !slices.Contains(n.roles, i):
			n.roles = append(n.roles, i)
		case !isRole && !slices.Contains(n.users, i):
			n.users = append(n.users, i)
		}
	}
	return n
}

// mention says in a message whom it notifies: who is named in it, exists, and may be mentioned by this author, as far as the
// author allows it. replied is the author of the message it answers, or 0.
func (s *Service) mention(ctx context.Context, grant roster.Grant, body *wire.MessageBody, allowed *wire.AllowedMentions, replied id.ID) error {
	n := namesIn(body.Content)
	everybody := grant.Perms.Has(perm.MentionEveryone)
	body.MentionEveryone = n.everyone && everybody && allows(allowed, "everyone")

	body.MentionRoles = nil
	for _, r := range n.roles {
		role := grant.Guild.Roles[r]
		if role == nil || r == grant.Guild.ID || !(role.Mentionable || everybody) {
			continue
		}
		if allows(allowed, "roles") || slices.Contains(allowed.Roles, r) {
			body.MentionRoles = append(body.MentionRoles, r)
		}
	}

	var users []id.ID
	for _, u := range n.users {
		if allows(allowed, "users") || slices.Contains(allowed.Users, u) {
			users = append(users, u)
		}
	}
	if replied != 0 && (allowed == nil || allowed.RepliedUser) && !slices.Contains(users, replied) {
		users = append(users, replied)
	}
	body.Mentions = nil
	if len(users) == 0 {
		return nil
	}
	var err error
	body.Mentions, err = s.existing(ctx, users)
	return err
}

// pings are whom a message counts as a mention for; in a direct channel, everybody else.
func pings(grant roster.Grant, author id.ID, body wire.MessageBody) []id.ID {
	if grant.Direct != nil {
		return grant.Direct.Others(author)
	}
	p := append(userIDs(body.Mentions), body.MentionRoles...)
	if body.MentionEveryone {
		p = append(p, grant.Guild.ID)
	}
	return p
}

// existing are those users that there are, in the same order.
func (s *Service) existing(ctx context.Context, users []id.ID) ([]wire.User, error) {
	faces, err := s.roster.Users(ctx, users) // in one go; User below is then answered from memory for who exists
	if err != nil {
		return nil, err
	}
	var out []wire.User
	for _, u := range users {
		face := faces[u]
		if face.Username == deletedName {
			if face, err = s.roster.User(ctx, u); fault.Is(err, fault.UnknownUser) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		out = append(out, face)
	}
	return out, nil
}

// deletedName is what the roster calls a user who does not exist (any more).
const deletedName = "Deleted User"

// allows says whether all mentions of a kind are allowed, or only those that are listed.
func allows(a *wire.AllowedMentions, kind string) bool {
	return a == nil || slices.Contains(a.Parse, kind)
}

func userIDs(users []wire.User) []id.ID {
	var ids []id.ID
	for _, u := range users {
		ids = append(ids, u.ID)
	}
	return ids
}
