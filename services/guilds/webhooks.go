package guilds

import (
	"context"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/picture"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

// webhooksUntold counts the tokens that cannot be told any more, because the key between services is another one.
var webhooksUntold = metrics.NewCounter(`xcord_guilds_webhooks_untold_total`)

// sealedAs is the place for which the token of a webhook is sealed.
func sealedAs(webhook id.ID) string { return "webhook " + webhook.String() }

func (s *Service) createWebhook(c *rest.Call, in wire.CreateWebhook) (out wire.Webhook, err error) {
	ctx := c.Context()
	name, err := webhookName(in.Name)
	if err != nil {
		return out, err
	}
	if _, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ManageWebhooks); err != nil {
		return out, err // before the picture is looked at
	}
	avatar, err := s.icons.Read(ctx, "avatar", in.Avatar)
	if err != nil {
		return out, err
	}
	creator, err := s.roster.User(ctx, c.User())
	if err != nil {
		return out, err
	}
	made, err := s.ids.Next(ctx)
	if err != nil {
		return out, outage("number a webhook", err)
	}
	secret, hash := token.NewWebhookToken()
	row := webhookRow{
		WebhookRecord: wire.WebhookRecord{ID: made, CreatorID: creator.ID, Name: name, Avatar: avatar.Name(), TokenHash: hash},
		sealed:        s.sealer.Seal([]byte(secret), sealedAs(made)),
	}
	if creator.Bot {
		row.ApplicationID = creator.ID
	}
	err = s.changeChannel(c, perm.ManageWebhooks, nil, func(ctx context.Context, w *change, ch wire.Channel, _ perm.Bits) (event, error) {
		row.GuildID, row.ChannelID = ch.GuildID, ch.ID
		if err := s.hasRoom(ctx, w, ch, 1); err != nil {
			return event{}, err
		}
		if err := saveWebhook(ctx, w.tx, row); err != nil {
			return event{}, err
		}
		e := event{kind: wire.WebhookChanged, channel: ch.ID, payload: wire.WebhookChangedPayload{Webhook: row.WebhookRecord}}
		e.audit = []note{webhookNote(wire.AuditWebhookCreate, nil, &row.WebhookRecord)}
		return e, picture.KeepWebhook(ctx, w.tx, row.ID, avatar)
	})
	out = row.Public()
	out.User, out.Token = &creator, secret
	return out, err
}

// webhookName is a name without the blanks around it, of which something must be left.
func webhookName(name string) (string, error) {
	if name = strings.TrimSpace(name); name == "" {
		return "", fault.Invalid(fault.Field{Path: "name", Code: fault.FieldRequired, Message: "This field is required"})
	}
	return name, nil
}

// hasRoom answers 50024 for a channel without messages, and 30007 when there are as many webhooks as may be for another one there, of which
// made are new to the guild.
func (s *Service) hasRoom(ctx context.Context, w *change, ch wire.Channel, made int) error {
	if !ch.Type.Texts() {
		return fault.New(fault.WrongChannelType)
	}
	all, there, err := countWebhooks(ctx, w.tx, ch.GuildID, ch.ID)
	if err != nil {
		return err
	}
	if all+made > s.config.WebhooksMax || there >= wire.WebhooksPerChannelMax {
		return fault.New(fault.MaxWebhooks)
	}
	return nil
}

// webhookNote says what is different about a webhook; nil stands for one that is not there. It names the channel, for those who see that.
func webhookNote(action wire.AuditAction, before, after *wire.WebhookRecord) note {
	is := after
	if is == nil {
		is = before
	}
	return note{action: action, target: is.ID, changes: differences(auditedWebhook(before), auditedWebhook(after)),
		options: map[string]string{"channel_id": is.ChannelID.String()}}
}

// auditedWebhook is what the audit log tells of a webhook.
func auditedWebhook(w *wire.WebhookRecord) any {
	if w == nil {
		return nil
	}
	return struct {
		Type          int     `json:"type"`
		ChannelID     id.ID   `json:"channel_id"`
		Name          string  `json:"name"`
		Avatar        *string `json:"avatar_hash"`
		ApplicationID id.ID   `json:"application_id"`
	}{wire.WebhookIncoming, w.ChannelID, w.Name, w.Avatar, w.ApplicationID}
}

func (s *Service) listChannelWebhooks(c *rest.Call, _ rest.None) ([]wire.Webhook, error) {
	grant, err := s.roster.Can(c.Context(), c.User(), c.ID("channel"), perm.ManageWebhooks)
	if err != nil {
		return nil, err
	}
	return s.listWebhooks(c.Context(), grant, grant.Channel.ID)
}

func (s *Service) listGuildWebhooks(c *rest.Call, _ rest.None) ([]wire.Webhook, error) {
	grant, err := s.roster.CanGuild(c.Context(), c.User(), c.ID("guild"), perm.ManageWebhooks)
	if err != nil {
		return nil, err
	}
	return s.listWebhooks(c.Context(), grant, 0)
}

// listWebhooks are those of the channels in which the caller may manage them.
func (s *Service) listWebhooks(ctx context.Context, grant roster.Grant, channel id.ID) ([]wire.Webhook, error) {
	rows, err := s.store.webhooks(ctx, grant.Guild.ID, channel)
	if err != nil {
		return nil, err
	}
	var creators []id.ID
	for _, row := range rows {
		creators = append(creators, row.CreatorID)
	}
	faces, err := s.roster.Users(ctx, creators)
	if err != nil {
		return nil, err
	}
	out := []wire.Webhook{}
	for _, row := range rows {
		if grant.Guild.Permissions(grant.Member, row.ChannelID).Has(perm.ViewChannel | perm.ManageWebhooks) {
			out = append(out, s.told(row, faces))
		}
	}
	return out, nil
}

// told is a webhook as those who manage it see it.
func (s *Service) told(row webhookRow, faces map[id.ID]wire.User) wire.Webhook {
	out, creator := row.Public(), faces[row.CreatorID]
	out.User = &creator
	secret, err := s.sealer.Open(row.sealed, sealedAs(row.ID))
	if err != nil {
		webhooksUntold.Inc() // it goes on being good for who has it
		return out
	}
	out.Token = string(secret)
	return out
}

// managed is a webhook that the caller may manage.
func (s *Service) managed(c *rest.Call) (webhookRow, error) {
	row, err := s.store.webhook(c.Context(), c.ID("webhook"))
	if err != nil {
		return row, err
	}
	_, err = s.roster.Can(c.Context(), c.User(), row.ChannelID, perm.ManageWebhooks)
	return row, err
}

// byToken is a webhook by the token in the path, 10015, or 50027.
func (s *Service) byToken(c *rest.Call) (webhookRow, error) {
	row, err := s.store.webhook(c.Context(), c.ID("webhook"))
	if err != nil {
		return row, err
	}
	if !token.SameHash(row.TokenHash, token.HashWebhookToken(c.Param("token"))) {
		return row, fault.New(fault.InvalidWebhookToken)
	}
	return row, nil
}

func (s *Service) getWebhook(c *rest.Call, _ rest.None) (wire.Webhook, error) {
	row, err := s.managed(c)
	if err != nil {
		return wire.Webhook{}, err
	}
	faces, err := s.roster.Users(c.Context(), []id.ID{row.CreatorID})
	return s.told(row, faces), err
}

func (s *Service) getWebhookByToken(c *rest.Call, _ rest.None) (wire.Webhook, error) {
	row, err := s.byToken(c)
	out := row.Public()
	out.Token = c.Param("token")
	return out, err
}

func (s *Service) updateWebhook(c *rest.Call, in wire.UpdateWebhook) (wire.Webhook, error) {
	found, err := s.managed(c)
	if err != nil {
		return wire.Webhook{}, err
	}
	faces, err := s.roster.Users(c.Context(), []id.ID{found.CreatorID})
	if err != nil {
		return wire.Webhook{}, err
	}
	row, err := s.changeWebhook(c, found, in)
	return s.told(row, faces), err
}

func (s *Service) updateWebhookByToken(c *rest.Call, in wire.UpdateWebhook) (wire.Webhook, error) {
	found, err := s.byToken(c)
	if err != nil {
		return wire.Webhook{}, err
	}
	in.ChannelID = 0
	row, err := s.changeWebhook(c, found, in)
	out := row.Public()
	out.Token = c.Param("token")
	return out, err
}

// changeWebhook makes a webhook that was found what a body says, unless it is that already.
func (s *Service) changeWebhook(c *rest.Call, found webhookRow, in wire.UpdateWebhook) (row webhookRow, err error) {
	if in.Name != nil {
		name, err := webhookName(*in.Name)
		if err != nil {
			return row, err
		}
		in.Name = &name
	}
	avatar, err := s.icons.Read(c.Context(), "avatar", in.Avatar)
	if err != nil {
		return row, err
	}
	err = s.change(c, scope{guild: found.GuildID, missing: fault.UnknownWebhook}, func(ctx context.Context, w *change) (event, error) {
		if row, err = w.webhook(ctx, found.ID); err != nil {
			return event{}, err
		}
		was := row.WebhookRecord
		set(&row.Name, in.Name)
		if in.Avatar.Set {
			row.Avatar = avatar.Name()
			if err := picture.KeepWebhook(ctx, w.tx, row.ID, avatar); err != nil {
				return event{}, err
			}
		}
		e := wire.WebhookChangedPayload{}
		if in.ChannelID != 0 && in.ChannelID != was.ChannelID {
			ch, _, err := w.mayIn(in.ChannelID, perm.ManageWebhooks)
			if err != nil {
				return event{}, err
			}
			if err := s.hasRoom(ctx, w, *ch, 0); err != nil {
				return event{}, err
			}
			row.ChannelID, e.From = ch.ID, was.ChannelID
		}
		n := webhookNote(wire.AuditWebhookUpdate, &was, &row.WebhookRecord)
		if n.changes == nil {
			return event{}, nil
		}
		e.Webhook = row.WebhookRecord
		return event{kind: wire.WebhookChanged, channel: row.ChannelID, payload: e, audit: []note{n}}, saveWebhook(ctx, w.tx, row)
	})
	return row, err
}

// webhook is a webhook now that nobody else can change it, which the actor may manage. Nobody is who came by its token.
func (w *change) webhook(ctx context.Context, webhook id.ID) (webhookRow, error) {
	row, err := selectWebhook(ctx, w.tx, webhook)
	if err == nil && w.user != 0 {
		_, _, err = w.mayIn(row.ChannelID, perm.ManageWebhooks)
	}
	return row, err
}

func (s *Service) deleteWebhook(c *rest.Call, _ rest.None) (rest.None, error) {
	found, err := s.managed(c)
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.endWebhook(c, found)
}

func (s *Service) deleteWebhookByToken(c *rest.Call, _ rest.None) (rest.None, error) {
	found, err := s.byToken(c)
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.endWebhook(c, found)
}

// endWebhook deletes a webhook that was found; what it wrote stays.
func (s *Service) endWebhook(c *rest.Call, found webhookRow) error {
	return s.change(c, scope{guild: found.GuildID, missing: fault.UnknownWebhook}, func(ctx context.Context, w *change) (event, error) {
		row, err := w.webhook(ctx, found.ID)
		if err != nil {
			return event{}, err
		}
		e := event{kind: wire.WebhookDeleted, channel: row.ChannelID, payload: wire.WebhookDeletedPayload{WebhookID: row.ID, ChannelID: row.ChannelID}}
		e.audit = []note{webhookNote(wire.AuditWebhookDelete, &row.WebhookRecord, nil)}
		return e, deleteWebhook(ctx, w.tx, row.ID)
	})
}
