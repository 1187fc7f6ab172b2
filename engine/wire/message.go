package wire

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/xcord/xcord/engine/id"
)

// MessageType says what a message is.
type MessageType int

// The kinds of message that people write, and those that the server does.
const (
	MessageDefault MessageType = 0
	MessagePinned  MessageType = 6
	MessageReply   MessageType = 19

	MessageRecipientAdd    MessageType = 1
	MessageRecipientRemove MessageType = 2
	MessageUserJoin        MessageType = 7
)

// Written reports whether people write such messages, and may edit them.
func (t MessageType) Written() bool { return t == MessageDefault || t == MessageReply }

// Deletable reports whether such messages can be deleted: who came into a group and who went stays written there.
func (t MessageType) Deletable() bool { return t != MessageRecipientAdd && t != MessageRecipientRemove }

// Bits of MessageBody.Flags.
const (
	FlagSuppressEmbeds        = 1 << 2
	FlagSuppressNotifications = 1 << 12
)

// MessageBody is a message without its id, timestamp and author: those three are known only
// when the entry is in the log (the author's look may change later), and AppendMessage
// splices them in. Its JSON is the rest that AppendMessage takes.
type MessageBody struct {
	// Own is the author of a webhook's message, whose name and picture are those of this message alone; nil for all others. It stands first:
	// see AppendMessage.
	Own             *User                    `json:"author,omitempty"`
	Type            MessageType              `json:"type"`
	ChannelID       id.ID                    `json:"channel_id"`
	Content         string                   `json:"content"`
	Mentions        List[User]               `json:"mentions"`
	MentionRoles    List[id.ID]              `json:"mention_roles"`
	MentionEveryone bool                     `json:"mention_everyone"`
	Attachments     List[Attachment]         `json:"attachments"`
	Embeds          List[Embed]              `json:"embeds"`
	Components      List[Null]               `json:"components"`
	EditedTimestamp Time                     `json:"edited_timestamp"`
	Flags           int                      `json:"flags"`
	Pinned          bool                     `json:"pinned"`
	TTS             bool                     `json:"tts"`
	Nonce           Nonce                    `json:"nonce,omitempty"`
	Reference       *MessageReference        `json:"message_reference,omitempty"`
	Referenced      Optional[RepliedMessage] `json:"referenced_message,omitzero"` // null: deleted
	Reactions       []Reaction               `json:"reactions,omitempty"`
	WebhookID       id.ID                    `json:"webhook_id,omitempty"`
	ApplicationID   id.ID                    `json:"application_id,omitempty"`
}

// Message is a whole message. The last three fields are in gateway events alone.
type Message struct {
	ID        id.ID `json:"id"`
	Timestamp Time  `json:"timestamp"`
	Author    User  `json:"author"`
	MessageBody
	GuildID     id.ID         `json:"guild_id,omitempty"`
	Member      *MemberFields `json:"member,omitempty"`
	ChannelType *ChannelType  `json:"channel_type,omitempty"`
}

// RepliedMessage is the message that a reply answers, as it was known then. It has no
// referenced message of its own: one level is told, not a chain.
type RepliedMessage struct {
	ID        id.ID `json:"id"`
	Timestamp Time  `json:"timestamp"`
	Author    User  `json:"author"`
	RepliedBody
}

// RepliedBody is MessageBody for RepliedMessage.
type RepliedBody struct {
	Type            MessageType       `json:"type"`
	ChannelID       id.ID             `json:"channel_id"`
	Content         string            `json:"content"`
	Mentions        List[User]        `json:"mentions"`
	MentionRoles    List[id.ID]       `json:"mention_roles"`
	MentionEveryone bool              `json:"mention_everyone"`
	Attachments     List[Attachment]  `json:"attachments"`
	Embeds          List[Embed]       `json:"embeds"`
	Components      List[Null]        `json:"components"`
	EditedTimestamp Time              `json:"edited_timestamp"`
	Flags           int               `json:"flags"`
	Pinned          bool              `json:"pinned"`
	TTS             bool              `json:"tts"`
	Reference       *MessageReference `json:"message_reference,omitempty"`
	WebhookID       id.ID             `json:"webhook_id,omitempty"`
	ApplicationID   id.ID             `json:"application_id,omitempty"`
}

// Replied is the message as a reply to it tells it.
func (m Message) Replied() RepliedMessage {
	return RepliedMessage{ID: m.ID, Timestamp: m.Timestamp, Author: m.Author, RepliedBody: RepliedBody{
		Type: m.Type, ChannelID: m.ChannelID, Content: m.Content, Mentions: m.Mentions, MentionRoles: m.MentionRoles,
		MentionEveryone: m.MentionEveryone, Attachments: m.Attachments, Embeds: m.Embeds, Components: m.Components,
		EditedTimestamp: m.EditedTimestamp, Flags: m.Flags, Pinned: m.Pinned, TTS: m.TTS, Reference: m.Reference, WebhookID: m.WebhookID, ApplicationID: m.ApplicationID,
	}}
}

// MessageReference says which message a reply answers.
type MessageReference struct {
	Type      int   `json:"type"` // 0: a reply
	ChannelID id.ID `json:"channel_id"`
	MessageID id.ID `json:"message_id,omitempty"`
	GuildID   id.ID `json:"guild_id,omitempty"`
}

// Attachment is a file of a message. In a message that is stored, the addresses are good for nothing: token.Links makes them good when
// it is shown.
type Attachment struct {
	ID          id.ID   `json:"id"`
	Filename    string  `json:"filename"`
	Size        int64   `json:"size"`
	URL         string  `json:"url"`
	ProxyURL    string  `json:"proxy_url"`
	ContentType string  `json:"content_type,omitempty"`
	Title       *string `json:"title,omitempty"`
	Description *string `json:"description,omitempty"`
	Width       int     `json:"width,omitempty"`
	Height      int     `json:"height,omitempty"`
	Flags       int     `json:"flags,omitempty"`
}

// AttachmentSpoiler is the bit of Attachment.Flags for what is hidden until somebody wants to see it.
const AttachmentSpoiler = 1 << 3

// AttachmentRequest says more of a file in the same request, whose number among files[n] is ID, or names an attachment that an edit is to
// keep.
type AttachmentRequest struct {
	ID          *id.ID  `json:"id" validate:"required"`
	Filename    *string `json:"filename,omitempty" validate:"omitnil,min=1,max=1024,nonul"`
	Title       *string `json:"title,omitempty" validate:"omitnil,max=1024,nonul"`
	Description *string `json:"description,omitempty" validate:"omitnil,max=1024,nonul"`
	IsSpoiler   bool    `json:"is_spoiler,omitempty"`
}

// GetAttachment is the query of GET /attachments/{channel}/{attachment}/{name}: what makes an address good.
type GetAttachment struct {
	Ends      string `query:"ex" validate:"max=16"`
	Signature string `query:"hm" validate:"max=64"`
}

// Embed is a card under a message, in requests and responses alike. Type is "rich" in every
// response, whatever the request said: see Rich.
type Embed struct {
	Type        string       `json:"type" validate:"max=64,nonul"`
	Title       string       `json:"title,omitempty" validate:"max=256,nonul"`
	Description string       `json:"description,omitempty" validate:"max=4096,nonul"`
	URL         string       `json:"url,omitempty" validate:"omitempty,max=2048,weburl,nonul"`
	Timestamp   Time         `json:"timestamp,omitempty"`
	Color       *int         `json:"color,omitempty" validate:"omitnil,min=0,max=16777215"`
	Footer      *EmbedFooter `json:"footer,omitempty"`
	Image       *EmbedMedia  `json:"image,omitempty"`
	Thumbnail   *EmbedMedia  `json:"thumbnail,omitempty"`
	Author      *EmbedAuthor `json:"author,omitempty"`
	Fields      []EmbedField `json:"fields,omitempty" validate:"max=25,dive"`
}

// EmbedFooter stands under an embed.
type EmbedFooter struct {
	Text    string `json:"text" validate:"required,max=2048,nonul"`
	IconURL string `json:"icon_url,omitempty" validate:"omitempty,max=2048,weburl,nonul"`
}

// EmbedMedia is a picture in an embed. The server never fetches it.
type EmbedMedia struct {
	URL string `json:"url,omitempty" validate:"omitempty,max=2048,weburl,nonul"`
}

// EmbedAuthor stands above an embed.
type EmbedAuthor struct {
	Name    string `json:"name" validate:"required,max=256,nonul"`
	URL     string `json:"url,omitempty" validate:"omitempty,max=2048,weburl,nonul"`
	IconURL string `json:"icon_url,omitempty" validate:"omitempty,max=2048,weburl,nonul"`
}

// EmbedField is one labelled text in an embed.
type EmbedField struct {
	Name   string `json:"name" validate:"required,max=256,nonul"`
	Value  string `json:"value" validate:"required,max=1024,nonul"`
	Inline bool   `json:"inline"`
}

// Rich is a request's embeds as a message holds them.
func Rich(embeds []Embed) List[Embed] {
	out := make(List[Embed], len(embeds))
	for i, e := range embeds {
		e.Type = "rich"
		out[i] = e
	}
	return out
}

// embedText counts the code points that EmbedTextMax bounds.
func embedText(v any) int {
	embeds, ok := v.([]Embed)
	if !ok {
		panic("BUG: embedsum stands on something that is no []Embed")
	}
	n := 0
	count := func(s string) { n += utf8.RuneCountInString(s) }
	for _, e := range embeds {
		count(e.Title)
		count(e.Description)
		if e.Footer != nil {
			count(e.Footer.Text)
		}
		if e.Author != nil {
			count(e.Author.Name)
		}
		for _, f := range e.Fields {
			count(f.Name)
			count(f.Value)
		}
	}
	return n
}

// CreateMessage is the body of POST /channels/{channel}/messages. That there is content or an
// embed at all is for the handler to check (50006).
type CreateMessage struct {
	Content         string              `json:"content,omitempty" validate:"max=2000,nonul"`
	Embeds          []Embed             `json:"embeds,omitempty" validate:"max=10,embedsum,dive"`
	AllowedMentions *AllowedMentions    `json:"allowed_mentions,omitempty"`
	Attachments     []AttachmentRequest `json:"attachments,omitempty" validate:"max=10,dive"`
	Reference       *ReferenceRequest   `json:"message_reference,omitempty"`
	Nonce           Nonce               `json:"nonce,omitempty" validate:"max=25,nonul"`
	EnforceNonce    bool                `json:"enforce_nonce,omitempty"`
	TTS             bool                `json:"tts,omitempty"`
	Flags           int                 `json:"flags,omitempty" validate:"min=0,max=2147483647"`
}

// EditMessage is the body of PATCH /channels/{channel}/messages/{message}; null empties.
type EditMessage struct {
	Content         Optional[string]              `json:"content,omitzero" validate:"omitnil,max=2000,nonul"`
	Embeds          Optional[[]Embed]             `json:"embeds,omitzero" validate:"omitnil,max=10,embedsum,dive"`
	AllowedMentions *AllowedMentions              `json:"allowed_mentions,omitempty"`
	Attachments     Optional[[]AttachmentRequest] `json:"attachments,omitzero" validate:"omitnil,max=10,dive"`
	Flags           *int                          `json:"flags,omitempty" validate:"omitnil,min=0,max=2147483647"`
}

// AllowedMentions narrows down whom a message notifies. A nil *AllowedMentions allows all.
type AllowedMentions struct {
	Parse       []string `json:"parse" validate:"max=3,dive,oneof=roles users everyone"`
	Roles       []id.ID  `json:"roles,omitempty" validate:"max=100"`
	Users       []id.ID  `json:"users,omitempty" validate:"max=100"`
	RepliedUser bool     `json:"replied_user,omitempty"`
}

// ReferenceRequest asks for a message to be a reply. FailIfNotExists is true when absent.
type ReferenceRequest struct {
	Type            *int  `json:"type,omitempty" validate:"omitnil,oneof=0"`
	MessageID       id.ID `json:"message_id" validate:"required"`
	ChannelID       id.ID `json:"channel_id,omitempty"`
	GuildID         id.ID `json:"guild_id,omitempty"`
	FailIfNotExists *bool `json:"fail_if_not_exists,omitempty"`
}

// ListMessages is the query of GET /channels/{channel}/messages. At most one anchor may be
// given; the handler checks that.
type ListMessages struct {
	Around id.ID `query:"around"`
	Before id.ID `query:"before"`
	After  id.ID `query:"after"`
	Limit  *int  `query:"limit" validate:"omitnil,min=1,max=100"`
}

// BulkDelete is the body of POST /channels/{channel}/messages/bulk-delete. How many there may be has
// a code of its own, which the handler answers.
type BulkDelete struct {
	Messages []id.ID `json:"messages" validate:"required,dive,required"`
}

// MessageDelete is MESSAGE_DELETE.
type MessageDelete struct {
	ID        id.ID `json:"id"`
	ChannelID id.ID `json:"channel_id"`
	GuildID   id.ID `json:"guild_id,omitempty"`
}

// MessageDeleteBulk is MESSAGE_DELETE_BULK.
type MessageDeleteBulk struct {
	IDs       List[id.ID] `json:"ids"`
	ChannelID id.ID       `json:"channel_id"`
	GuildID   id.ID       `json:"guild_id,omitempty"`
}

// AppendMessage appends a message as JSON: {"id":…,"timestamp":…,"author":…,<rest>}, where
// author is the JSON of a User and rest that of a MessageBody. A body that has an author of its own
// keeps it. It is the one splice by which a message gets its id and time, for REST, history and the
// gateway alike.
func AppendMessage(dst []byte, message id.ID, author, rest []byte) []byte {
	return appendBody(appendHead(dst, message, author, rest), rest)
}

// ownHead is how a body begins that has an author of its own.
const ownHead = `{"author":`

// AppendMessageEvent appends the d of MESSAGE_CREATE or MESSAGE_UPDATE: the same message with
// guild_id and member (the JSON of MemberFields), which are left out when there are none, and
// channel_type.
func AppendMessageEvent(dst []byte, message, guild id.ID, kind ChannelType, author, member, rest []byte) []byte {
	dst = appendHead(dst, message, author, rest)
	if guild != 0 {
		dst = append(dst, `"guild_id":`...)
		dst = guild.AppendJSON(dst)
		dst = append(dst, ',')
	}
	if len(member) > 0 && string(member) != "null" {
		dst = append(dst, `"member":`...)
		dst = append(dst, member...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"channel_type":`...)
	dst = id.ID(kind).Append(dst)
	dst = append(dst, ',')
	return appendBody(dst, rest)
}

func appendHead(dst []byte, message id.ID, author, rest []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = message.AppendJSON(dst)
	dst = append(dst, `,"timestamp":"`...)
	dst = id.AppendTimestamp(dst, message.Ms())
	dst = append(dst, `",`...)
	if bytes.HasPrefix(rest, []byte(ownHead)) {
		return dst
	}
	dst = append(dst, `"author":`...)
	dst = append(dst, author...)
	return append(dst, ',')
}

// AppendReactions adds reactions to the end of a message's JSON; none leaves it as it is.
func AppendReactions(message []byte, reactions []Reaction) ([]byte, error) {
	if len(reactions) == 0 {
		return message, nil
	}
	b, err := json.Marshal(reactions)
	if err != nil {
		return nil, err
	}
	message = append(message[:len(message)-1], `,"reactions":`...)
	return append(append(message, b...), '}'), nil
}

// appendBody appends an object without its opening brace. A MessageBody is never empty, so
// the comma before it is always right.
func appendBody(dst, rest []byte) []byte {
	if len(rest) < 3 || rest[0] != '{' {
		panic("BUG: a message body is no JSON object with members")
	}
	return append(dst, rest[1:]...)
}

// Redact is a MessageBody's JSON for those who may not read content (intent
// MESSAGE_CONTENT): without content, embeds, attachments and components of the message, of the
// one that it answers, or of both.
func Redact(rest []byte, hideMessage, hideReplied bool) ([]byte, error) {
	var b MessageBody
	if err := json.Unmarshal(rest, &b); err != nil {
		return nil, err
	}
	if hideMessage {
		b.Content, b.Embeds, b.Attachments, b.Components = "", nil, nil, nil
	}
	if hideReplied && b.Referenced.Set && !b.Referenced.Null {
		r := &b.Referenced.Value
		r.Content, r.Embeds, r.Attachments, r.Components = "", nil, nil, nil
	}
	return json.Marshal(b)
}

// RepliedReaders are those who may read the content of the message that a MessageBody answers
// without the intent: who wrote it and whom it mentions. Where it answers none there are none.
func RepliedReaders(rest []byte) []id.ID {
	var b struct {
		Replied *struct {
			Author   UserRef   `json:"author"`
			Mentions []UserRef `json:"mentions"`
		} `json:"referenced_message"`
	}
	if json.Unmarshal(rest, &b) != nil || b.Replied == nil {
		return nil
	}
	users := []id.ID{b.Replied.Author.ID}
	for _, m := range b.Replied.Mentions {
		users = append(users, m.ID)
	}
	return users
}
