package roster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

func webhookOps(e bus.Entry) ([]bus.Op, error) {
	if e.Type == wire.WebhookDeleted {
		p, err := payload[wire.WebhookDeletedPayload](e)
		if err != nil {
			return nil, err
		}
		return withoutWebhook(e.Guild, p.WebhookID), nil
	}
	p, err := payload[wire.WebhookChangedPayload](e)
	if err != nil {
		return nil, err
	}
	return withWebhook(p.Webhook), nil
}

func withWebhook(w wire.WebhookRecord) []bus.Op {
	return []bus.Op{
		{Command: "SET", Key: webhookKey(w.ID), Args: []string{mustJSON(w)}},
		{Command: "SADD", Key: webhooksKey(w.GuildID), Args: []string{w.ID.String()}},
	}
}

func withoutWebhook(guild, webhook id.ID) []bus.Op {
	return []bus.Op{
		{Command: "DEL", Key: webhookKey(webhook)},
		{Command: "SREM", Key: webhooksKey(guild), Args: []string{webhook.String()}},
	}
}

// Webhook is what a webhook is now, or 10015. It asks the read model: there is no copy.
func (r *Roster) Webhook(ctx context.Context, webhook id.ID) (wire.WebhookRecord, error) {
	_, parts, err := r.log.Look(ctx, []bus.Op{{Command: "GET", Key: webhookKey(webhook)}})
	if err != nil {
		return wire.WebhookRecord{}, err
	}
	var w wire.WebhookRecord
	switch err := parts[0].DecodeJSON(&w); {
	case rueidis.IsRedisNil(err):
		return w, fault.New(fault.UnknownWebhook)
	case err != nil:
		return w, fmt.Errorf("webhook %s: %w", webhook, err)
	}
	return w, nil
}

// AsWebhook runs do, which acts as a webhook that was found in its channel and publishes with the version of its grant, until the fence holds. Nothing
// holds a webhook back in its channel: its grant has every permission and no member. It answers 10015 when the webhook is gone by now.
func (r *Roster) AsWebhook(ctx context.Context, found wire.WebhookRecord, do func(Grant, wire.WebhookRecord) error) error {
	g, err := r.Guild(ctx, found.GuildID)
	for range FencedTries {
		if fault.Is(err, fault.UnknownGuild) || err == nil && g == nil {
			return fault.New(fault.UnknownWebhook)
		}
		if err != nil {
			return err
		}
		if err := r.tryWebhook(ctx, g, found.ID, do); !errors.Is(err, bus.ErrStale) {
			return err
		}
		g, _, err = r.load(ctx, found.GuildID, 0)
	}
	return fault.Unavailable(bus.ErrStale, time.Second)
}

// tryWebhook reads the webhook behind the guild: it is as of the guild's version or of a later one, which the fence does not let pass.
func (r *Roster) tryWebhook(ctx context.Context, g *Guild, webhook id.ID, do func(Grant, wire.WebhookRecord) error) error {
	w, err := r.Webhook(ctx, webhook)
	if err != nil {
		return err
	}
	ch := g.Channels[w.ChannelID]
	if ch == nil {
		return bus.ErrStale // the copy has yet to hear of the channel; with one that is gone the webhook goes, too
	}
	return do(Grant{Guild: g, Channel: ch, Version: g.Version, Perms: perm.All}, w)
}
