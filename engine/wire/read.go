package wire

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// Ack is what a user has read in a channel: everything up to a message. It only ever goes forward, unless it is manual.
type Ack struct {
	UserID    id.ID `json:"user_id"`
	ChannelID id.ID `json:"channel_id"`
	MessageID id.ID `json:"message_id"`
	Manual    bool  `json:"manual,omitempty"`
	// GuildID says that those who see the channel are told, too, and in which guild it is; absent where nobody is told.
	GuildID id.ID `json:"guild_id,omitempty"`
	// To are the others in a direct channel, who are told.
	To []id.ID `json:"to,omitempty"`
}

// MessageReadPayload is the body of MESSAGE_READ: the acks of many users, each of which is for its own user's sessions.
type MessageReadPayload struct {
	Acks List[Ack] `json:"acks"`
}

// AckMessage is the body of POST /channels/{channel}/messages/{message}/ack. A manual ack may go back. The count is what clients
// think; the server counts by itself.
type AckMessage struct {
	Manual       bool `json:"manual,omitempty"`
	MentionCount *int `json:"mention_count,omitempty" validate:"omitnil,min=0"`
}

// Acked is the answer to AckMessage.
type Acked struct {
	Token Null `json:"token"`
}

// BulkAck is the body of POST /read-states/ack-bulk.
type BulkAck struct {
	ReadStates []BulkAckState `json:"read_states" validate:"required,min=1,max=100,dive"`
}

// BulkAckState is one channel of a BulkAck.
type BulkAckState struct {
	ChannelID id.ID `json:"channel_id" validate:"required"`
	MessageID id.ID `json:"message_id" validate:"required"`
}

// MessageAck is MESSAGE_ACK. Of two about one channel, the one with the higher Version is newer.
type MessageAck struct {
	ChannelID id.ID `json:"channel_id"`
	MessageID id.ID `json:"message_id"`
	Version   int64 `json:"version"`
}

// MessageRead is MESSAGE_READ.
type MessageRead struct {
	ChannelID id.ID `json:"channel_id"`
	UserID    id.ID `json:"user_id"`
	MessageID id.ID `json:"message_id"`
}

// ReadState is READY.read_state. It is partial when not everything is known at the moment: a client then keeps what it has.
type ReadState struct {
	Entries List[ReadStateEntry] `json:"entries"`
	Partial bool                 `json:"partial"`
	Version int64                `json:"version"`
}

// ReadStateEntry is what a user has read in a channel, whose id it has. LastMessageID is the last message read, null before the first.
type ReadStateEntry struct {
	ID            id.ID `json:"id"`
	LastMessageID id.ID `json:"last_message_id"`
	MentionCount  int   `json:"mention_count"`
}

// ListReceipts is the query of GET /channels/{channel}/messages/{message}/receipts.
type ListReceipts struct {
	After id.ID `query:"after"`
	Limit *int  `query:"limit" validate:"omitnil,min=1,max=1000"`
}

// Receipt says that somebody has read a message, and when they last read in its channel.
type Receipt struct {
	UserID id.ID `json:"user_id"`
	ReadAt Time  `json:"read_at"`
}

// What a user wants to be told of in a guild or channel.
const (
	NotifyAll      = 0
	NotifyMentions = 1
	NotifyNothing  = 2
	NotifyInherit  = 3 // what the guild says, and of a guild what it has for everybody
)

// GuildSettings is how a user wants to hear of a guild: an element of READY.user_guild_settings, and USER_GUILD_SETTINGS_UPDATE.
type GuildSettings struct {
	GuildID              id.ID                 `json:"guild_id"`
	Muted                bool                  `json:"muted"`
	MessageNotifications int                   `json:"message_notifications"`
	ChannelOverrides     List[ChannelSettings] `json:"channel_overrides"`
}

// ChannelSettings is GuildSettings for one channel.
type ChannelSettings struct {
	ChannelID            id.ID `json:"channel_id"`
	Muted                bool  `json:"muted"`
	MessageNotifications int   `json:"message_notifications"`
}

// UserGuildSettings is READY.user_guild_settings; each entry is the JSON of a GuildSettings. It is partial as a ReadState is.
type UserGuildSettings struct {
	Entries List[json.RawMessage] `json:"entries"`
	Partial bool                  `json:"partial"`
	Version int64                 `json:"version"`
}

// UpdateGuildSettings is the body of PATCH /users/@me/guilds/{guild}/settings.
type UpdateGuildSettings struct {
	Muted                *bool            `json:"muted,omitempty"`
	MessageNotifications *int             `json:"message_notifications,omitempty" validate:"omitnil,oneof=0 1 2 3"`
	ChannelOverrides     ChannelOverrides `json:"channel_overrides,omitempty" validate:"max=500,dive"`
}

// ChannelOverrides are changes of ChannelSettings: a list, or an object by the channel's id.
type ChannelOverrides []ChannelOverride

// ChannelOverride changes the settings of one channel.
type ChannelOverride struct {
	ChannelID            id.ID `json:"channel_id" validate:"required"`
	Muted                *bool `json:"muted,omitempty"`
	MessageNotifications *int  `json:"message_notifications,omitempty" validate:"omitnil,oneof=0 1 2 3"`
}

// UnmarshalJSON reads both forms.
func (o *ChannelOverrides) UnmarshalJSON(b []byte) error {
	if b[0] != '{' {
		return json.Unmarshal(b, (*[]ChannelOverride)(o))
	}
	var byID map[id.ID]ChannelOverride
	if err := json.Unmarshal(b, &byID); err != nil {
		return err
	}
	*o = make(ChannelOverrides, 0, len(byID))
	for _, channel := range slices.Sorted(maps.Keys(byID)) {
		one := byID[channel]
		one.ChannelID = channel
		*o = append(*o, one)
	}
	return nil
}
