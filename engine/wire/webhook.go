package wire

import "github.com/xcord/xcord/engine/id"

// WebhookIncoming is the one type of webhook that there is.
const WebhookIncoming = 1

// Webhook writes messages into a channel for whoever has its token. User is left out where it is asked for by the token, and Token where
// it cannot be told.
type Webhook struct {
	ID            id.ID   `json:"id"`
	Type          int     `json:"type"`
	GuildID       id.ID   `json:"guild_id"`
	ChannelID     id.ID   `json:"channel_id"`
	User          *User   `json:"user,omitempty"`
	Name          string  `json:"name"`
	Avatar        *string `json:"avatar"`
	Token         string  `json:"token,omitempty"`
	ApplicationID id.ID   `json:"application_id"`
}

// WebhookRecord is a webhook in the log and the read model.
type WebhookRecord struct {
	ID        id.ID   `json:"id"`
	GuildID   id.ID   `json:"guild_id"`
	ChannelID id.ID   `json:"channel_id"`
	CreatorID id.ID   `json:"creator_id"`
	Name      string  `json:"name"`
	Avatar    *string `json:"avatar,omitempty"`
	// ApplicationID is the creator's, if that is a bot.
	ApplicationID id.ID  `json:"application_id,omitempty"`
	TokenHash     string `json:"token_hash"`
}

// Public is the webhook without its creator's face and its token.
func (r WebhookRecord) Public() Webhook {
	return Webhook{ID: r.ID, Type: WebhookIncoming, GuildID: r.GuildID, ChannelID: r.ChannelID, Name: r.Name, Avatar: r.Avatar, ApplicationID: r.ApplicationID}
}

// Author is the author of a message of the webhook, under another name if there is one.
func (r WebhookRecord) Author(name string) User {
	if name == "" {
		name = r.Name
	}
	return User{ID: r.ID, Username: name, Avatar: r.Avatar, Discriminator: webhookDiscriminator, Bot: true}
}

// webhookDiscriminator is what webhooks have, whose names are not unique.
const webhookDiscriminator Discriminator = "0000"

// CreateWebhook is the body of POST /channels/{channel}/webhooks.
type CreateWebhook struct {
	Name   string           `json:"name" validate:"required,min=1,max=80,nonul"`
	Avatar Optional[string] `json:"avatar,omitzero"`
}

// UpdateWebhook is the body of PATCH /webhooks/{webhook}. By the token, the channel cannot be changed.
type UpdateWebhook struct {
	Name      *string          `json:"name,omitempty" validate:"omitnil,min=1,max=80,nonul"`
	Avatar    Optional[string] `json:"avatar,omitzero"`
	ChannelID id.ID            `json:"channel_id,omitempty"`
}

// ExecuteWebhook is POST /webhooks/{webhook}/{token}. Pictures from elsewhere are not fetched, so AvatarURL is only checked. Nonce is for
// who repeats a request that was not answered, with EnforceNonce; it is told to nobody.
type ExecuteWebhook struct {
	Wait            bool                `json:"-" query:"wait"`
	ThreadID        id.ID               `json:"-" query:"thread_id"`
	Content         string              `json:"content,omitempty" validate:"max=2000,nonul"`
	Username        string              `json:"username,omitempty" validate:"max=80,nonul"`
	AvatarURL       string              `json:"avatar_url,omitempty" validate:"omitempty,max=2048,weburl,nonul"`
	Embeds          []Embed             `json:"embeds,omitempty" validate:"max=10,embedsum,dive"`
	AllowedMentions *AllowedMentions    `json:"allowed_mentions,omitempty"`
	Attachments     []AttachmentRequest `json:"attachments,omitempty" validate:"max=10,dive"`
	TTS             bool                `json:"tts,omitempty"`
	Flags           int                 `json:"flags,omitempty" validate:"min=0,max=2147483647"`
	Nonce           Nonce               `json:"nonce,omitempty" validate:"max=25,nonul"`
	EnforceNonce    bool                `json:"enforce_nonce,omitempty"`
	ThreadName      string              `json:"thread_name,omitempty" validate:"max=100,nonul"`
}

// Message is what the webhook says.
func (in ExecuteWebhook) Message() CreateMessage {
	return CreateMessage{
		Content: in.Content, Embeds: in.Embeds, AllowedMentions: in.AllowedMentions, Attachments: in.Attachments, TTS: in.TTS, Flags: in.Flags,
		Nonce: in.Nonce, EnforceNonce: in.EnforceNonce,
	}
}

// WebhookMessage is the query of a webhook's message.
type WebhookMessage struct {
	ThreadID id.ID `json:"-" query:"thread_id"`
}

// EditWebhookMessage is PATCH /webhooks/{webhook}/{token}/messages/{message}.
type EditWebhookMessage struct {
	ThreadID id.ID `json:"-" query:"thread_id"`
	EditMessage
}

// WebhooksUpdate is WEBHOOKS_UPDATE: something is different about the webhooks of a channel.
type WebhooksUpdate struct {
	GuildID   id.ID `json:"guild_id"`
	ChannelID id.ID `json:"channel_id"`
}

// WebhookChangedPayload is the body of WEBHOOK_CHANGED.
type WebhookChangedPayload struct {
	Webhook WebhookRecord `json:"webhook"`
	// From is the channel where it was before; 0 when it has not moved.
	From id.ID `json:"from,omitempty"`
}

// WebhookDeletedPayload is the body of WEBHOOK_DELETED.
type WebhookDeletedPayload struct {
	WebhookID id.ID `json:"webhook_id"`
	ChannelID id.ID `json:"channel_id"`
}
