package wire

import (
	"encoding/json"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// RecipientsMax is how many people a group has at most.
const RecipientsMax = 10

// Direct is a direct channel, of two or of a group, as the log and the store hold it: users are told by id, because what they are called
// changes without the channel's doing.
type Direct struct {
	ID   id.ID       `json:"id"`
	Type ChannelType `json:"type"` // ChannelDM or ChannelGroupDM
	// Recipients are all who are in it, also who asks; in the order in which they came.
	Recipients List[id.ID] `json:"recipients"`
	OwnerID    id.ID       `json:"owner_id"` // of a group
	Name       *string     `json:"name"`     // of a group
	// Closed are those of a DM who do not see it in their lists, each with the message that was the latest then (0: there was none): a later
	// one brings it back.
	Closed map[id.ID]id.ID `json:"closed,omitempty"`
}

// Has says whether a user is in the channel.
func (d *Direct) Has(user id.ID) bool { return slices.Contains(d.Recipients, user) }

// Others are those in the channel but one.
func (d *Direct) Others(user id.ID) []id.ID {
	return slices.DeleteFunc(slices.Clone(d.Recipients), func(r id.ID) bool { return r == user })
}

// Shows says whether the channel is in a user's lists when last is its latest message.
func (d *Direct) Shows(user, last id.ID) bool {
	behind, closed := d.Closed[user]
	return d.Has(user) && (!closed || last > behind)
}

// PrivateChannel is a direct channel as one of those in it sees it. The last fields are a group's alone.
type PrivateChannel struct {
	ID            id.ID       `json:"id"`
	Type          ChannelType `json:"type"`
	Flags         int         `json:"flags"`
	LastMessageID id.ID       `json:"last_message_id"`
	Recipients    List[User]  `json:"recipients"` // without who sees it

	Name    Optional[string] `json:"name,omitzero"`
	Icon    Optional[string] `json:"icon,omitzero"`
	OwnerID id.ID            `json:"owner_id,omitempty"`
}

// AnyChannel is a channel of a guild, or a direct one: one of the two.
type AnyChannel struct {
	Guild   *Channel
	Private *PrivateChannel
}

// MarshalJSON writes the one that it is.
func (c AnyChannel) MarshalJSON() ([]byte, error) {
	if c.Private != nil {
		return json.Marshal(c.Private)
	}
	return json.Marshal(c.Guild)
}

// Either says what it may be.
func (AnyChannel) Either() []any { return []any{Channel{}, PrivateChannel{}} }

// AnyChannelUpdate is CHANNEL_UPDATE.
type AnyChannelUpdate struct{}

// Either says what it may be.
func (AnyChannelUpdate) Either() []any { return []any{ChannelUpdate{}, PrivateChannel{}} }

// For is the channel as a user sees it, with the faces of all who are in it.
func (d *Direct) For(user, last id.ID, faces map[id.ID]User) PrivateChannel {
	out := PrivateChannel{ID: d.ID, Type: d.Type, LastMessageID: last}
	for _, r := range d.Others(user) {
		out.Recipients = append(out.Recipients, faces[r])
	}
	if d.Type == ChannelGroupDM {
		out.OwnerID, out.Icon, out.Name = d.OwnerID, Clear[string](), Clear[string]()
		if d.Name != nil {
			out.Name = Some(*d.Name)
		}
	}
	return out
}

// OpenChannel is the body of POST /users/@me/channels: one recipient, or several for a group.
type OpenChannel struct {
	RecipientID id.ID   `json:"recipient_id,omitempty"`
	Recipients  []id.ID `json:"recipients,omitempty" validate:"max=9,dive,required"`
}

// DirectChangedPayload is the body of DIRECT_CHANGED: the channel as it is now.
type DirectChangedPayload struct {
	Direct Direct `json:"direct"`
	// Users are the faces of all who are in it or went.
	Users List[User] `json:"users"`
	// Came and Went are those for whom the channel is there from now on, or is not any more. The others of a group are told what it is like.
	Came List[id.ID] `json:"came"`
	Went List[id.ID] `json:"went"`
	// LastMessageID is its latest message by then, as far as it is known.
	LastMessageID id.ID `json:"last_message_id"`
}

// Faces are the users by id.
func (p *DirectChangedPayload) Faces() map[id.ID]User {
	faces := make(map[id.ID]User, len(p.Users))
	for _, u := range p.Users {
		faces[u.ID] = u
	}
	return faces
}
