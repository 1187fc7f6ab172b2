package messaging

import (
	"strings"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

// webhook is the one in the path, if the token there is its own: else 10015 or 50027.
func (s *Service) webhook(c *rest.Call) (wire.WebhookRecord, error) {
	w, err := s.roster.Webhook(c.Context(), c.ID("webhook"))
	if err != nil {
		return w, err
	}
	if !token.SameHash(w.TokenHash, token.HashWebhookToken(c.Param("token"))) {
		return w, fault.New(fault.InvalidWebhookToken)
	}
	return w, nil
}

// noThread answers 10003 to who asks for a thread: there are none.
func noThread(thread id.ID) error {
	if thread != 0 {
		return fault.New(fault.UnknownChannel)
	}
	return nil
}

// executeWebhook puts a message of a webhook into the log. It is answered with the message if somebody waits for it.
func (s *Service) executeWebhook(c *rest.Call, in wire.ExecuteWebhook) (rest.Raw, error) {
	found, err := s.webhook(c)
	if err != nil {
		return nil, err
	}
	if err := noThread(in.ThreadID); err != nil {
		return nil, err
	}
	if in.ThreadName != "" {
		return nil, fault.New(fault.NoForumChannel)
	}
	message := in.Message()
	if err := canBe(message, c.Files()); err != nil {
		return nil, err
	}
	b, err := s.bringAsWebhook(c, found, in.Attachments)
	if err != nil {
		return nil, err
	}
	var reply rest.Raw
	err = s.roster.AsWebhook(c.Context(), found, func(grant roster.Grant, w wire.WebhookRecord) error {
		if err := mustText(grant.Channel); err != nil {
			return err
		}
		body, err := s.compose(c.Context(), grant, message)
		if err != nil {
			return err
		}
		author := w.Author(strings.TrimSpace(in.Username))
		body.Own, body.WebhookID, body.ApplicationID, body.Attachments = &author, w.ID, w.ApplicationID, b.attachments
		reply, err = s.publishCreate(c.Context(), grant, author, body, message, b)
		return err
	})
	s.settle(c.Context(), b, err)
	if !in.Wait {
		return nil, err
	}
	return reply, err
}

// bringAsWebhook stores the files of a request for the channel of a webhook. They count as its creator's.
func (s *Service) bringAsWebhook(c *rest.Call, found wire.WebhookRecord, meta []wire.AttachmentRequest) (b *brought, err error) {
	if len(c.Files()) == 0 {
		return new(brought), nil
	}
	err = s.roster.AsWebhook(c.Context(), found, func(grant roster.Grant, w wire.WebhookRecord) error {
		b, err = s.bringTo(c.Context(), grant, w.CreatorID, c.Files(), meta)
		return err
	})
	return b, err
}

// getWebhookMessage is a message of the webhook in the channel where it is now.
func (s *Service) getWebhookMessage(c *rest.Call, in wire.WebhookMessage) (reply rest.Raw, err error) {
	w, err := s.webhook(c)
	if err != nil {
		return nil, err
	}
	if err := noThread(in.ThreadID); err != nil {
		return nil, err
	}
	m, err := s.webhookMessage(c, w)
	if err != nil {
		return nil, err
	}
	r, err := s.renderer(c.Context(), w.ID, w.ChannelID, []found{m})
	if err != nil {
		return nil, err
	}
	return r.append(nil, m)
}

// webhookMessage finds the message in the path, if the webhook wrote it in the channel where it is now.
func (s *Service) webhookMessage(c *rest.Call, w wire.WebhookRecord) (found, error) {
	if err := s.catchUp(c.Context()); err != nil {
		return found{}, err
	}
	m, err := s.find(c.Context(), w.ChannelID, c.ID("message"))
	if err == nil && m.author != w.ID {
		err = fault.New(fault.UnknownMessage)
	}
	return m, err
}

// editWebhookMessage changes what the webhook wrote.
func (s *Service) editWebhookMessage(c *rest.Call, in wire.EditWebhookMessage) (reply rest.Raw, err error) {
	hook, err := s.webhook(c)
	if err != nil {
		return nil, err
	}
	if err := noThread(in.ThreadID); err != nil {
		return nil, err
	}
	if err := wellFormed(in.Embeds.Value, in.AllowedMentions); err != nil {
		return nil, err
	}
	if _, err := s.webhookMessage(c, hook); err != nil {
		return nil, err // before anything is stored
	}
	b, err := s.bringAsWebhook(c, hook, in.Attachments.Value)
	if err != nil {
		return nil, err
	}
	err = settled(c.Context(), func() error {
		asOf, err := s.caughtUp(c.Context())
		if err != nil {
			return err
		}
		return s.roster.AsWebhook(c.Context(), hook, func(grant roster.Grant, w wire.WebhookRecord) error {
			m, err := s.webhookMessage(c, w)
			if err != nil {
				return err
			}
			reply, err = s.rewrite(c.Context(), rewriting{grant: grant, actor: w.ID, m: m, asOf: asOf, uploads: c.Files(), b: b}, in.EditMessage)
			return err
		})
	})
	s.settle(c.Context(), b, err)
	return reply, err
}

// deleteWebhookMessage takes away what the webhook wrote.
func (s *Service) deleteWebhookMessage(c *rest.Call, in wire.WebhookMessage) (rest.None, error) {
	hook, err := s.webhook(c)
	if err != nil {
		return rest.None{}, err
	}
	if err := noThread(in.ThreadID); err != nil {
		return rest.None{}, err
	}
	err = s.roster.AsWebhook(c.Context(), hook, func(grant roster.Grant, w wire.WebhookRecord) error {
		m, err := s.webhookMessage(c, w)
		if err != nil {
			return err
		}
		return s.publishDelete(c.Context(), grant, w.ID, nil, m.id)
	})
	return rest.None{}, gone(err)
}
