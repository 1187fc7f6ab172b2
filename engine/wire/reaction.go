package wire

import "github.com/xcord/xcord/engine/id"

// Reaction counts one emoji under a message. Me is the reader's own.
type Reaction struct {
	Emoji        Emoji          `json:"emoji"`
	Count        int            `json:"count"`
	CountDetails ReactionCounts `json:"count_details"`
	BurstColors  List[string]   `json:"burst_colors"`
	MeBurst      bool           `json:"me_burst"`
	Me           bool           `json:"me"`
}

// ReactionCounts splits a reaction's count; burst ones are not offered here.
type ReactionCounts struct {
	Normal int `json:"normal"`
	Burst  int `json:"burst"`
}

// Emoji is an emoji in a reaction: without an id its name is the character itself.
type Emoji struct {
	ID   *id.ID `json:"id"`
	Name string `json:"name"`
}

// Kinds of reaction.
const (
	ReactionNormal = 0
	ReactionBurst  = 1
)

// ListReactions is the query of GET /channels/{channel}/messages/{message}/reactions/{emoji}.
type ListReactions struct {
	After id.ID `query:"after"`
	Limit *int  `query:"limit" validate:"omitnil,min=1,max=100"`
	Type  int   `query:"type" validate:"oneof=0 1"`
}

// ReactionAdd is MESSAGE_REACTION_ADD.
type ReactionAdd struct {
	UserID          id.ID        `json:"user_id"`
	ChannelID       id.ID        `json:"channel_id"`
	MessageID       id.ID        `json:"message_id"`
	MessageAuthorID id.ID        `json:"message_author_id,omitempty"`
	GuildID         id.ID        `json:"guild_id,omitempty"`
	Member          *Member      `json:"member,omitempty"`
	Emoji           Emoji        `json:"emoji"`
	Burst           bool         `json:"burst"`
	BurstColors     List[string] `json:"burst_colors"`
	Type            int          `json:"type"`
}

// ReactionRemove is MESSAGE_REACTION_REMOVE.
type ReactionRemove struct {
	UserID    id.ID `json:"user_id"`
	ChannelID id.ID `json:"channel_id"`
	MessageID id.ID `json:"message_id"`
	GuildID   id.ID `json:"guild_id,omitempty"`
	Emoji     Emoji `json:"emoji"`
	Burst     bool  `json:"burst"`
	Type      int   `json:"type"`
}

// ReactionRemoveAll is MESSAGE_REACTION_REMOVE_ALL, and with an emoji MESSAGE_REACTION_REMOVE_EMOJI.
type ReactionRemoveAll struct {
	ChannelID id.ID  `json:"channel_id"`
	MessageID id.ID  `json:"message_id"`
	GuildID   id.ID  `json:"guild_id,omitempty"`
	Emoji     *Emoji `json:"emoji,omitempty"`
}

// ReactionPayload is the body of REACTION_ADDED, REACTION_REMOVED and REACTIONS_CLEARED, each of which has changed something.
type ReactionPayload struct {
	MessageID id.ID   `json:"message_id"`
	Emoji     string  `json:"emoji,omitempty"`   // in its full form; of a clear "" for all
	UserID    id.ID   `json:"user_id,omitempty"` // whose it is; 0 in a clear
	AuthorID  id.ID   `json:"author_id,omitempty"`
	Member    *Member `json:"member,omitempty"` // of an addition in a guild
}
