package wire

import (
	"encoding/json"

	"github.com/xcord/xcord/engine/id"
)

// ListPins is the query of GET /channels/{channel}/messages/pins.
type ListPins struct {
	Before string `query:"before"`
	Limit  *int   `query:"limit" validate:"omitnil,min=1,max=50"`
}

// PinnedMessages is a page of pins, the latest first.
type PinnedMessages struct {
	Items   List[PinnedMessage] `json:"items"`
	HasMore bool                `json:"has_more"`
}

// PinnedMessage is a message and when it was pinned.
type PinnedMessage struct {
	PinnedAt Time            `json:"pinned_at"`
	Message  json.RawMessage `json:"message"` // of a Message
}

// ChannelPinsUpdate is CHANNEL_PINS_UPDATE. LastPinTimestamp is when the latest of those that are pinned was; null when there is none.
type ChannelPinsUpdate struct {
	GuildID          id.ID `json:"guild_id,omitempty"`
	ChannelID        id.ID `json:"channel_id"`
	LastPinTimestamp Time  `json:"last_pin_timestamp"`
}

// PinsUpdatedPayload is the body of PINS_UPDATED: a message was pinned or is not pinned any more, and is now like this.
type PinsUpdatedPayload struct {
	MessageUpdatedPayload
	Pinned bool `json:"pinned"`
	// LastPin is the latest pin that is left when one was taken away; a pin itself has the time of its entry.
	LastPin Time `json:"last_pin"`
}
