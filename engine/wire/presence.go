package wire

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/id"
)

// PresenceUpdate is the d of OpPresenceUpdate and the presence of Identify: what a client says of itself. What it sends besides is
// ignored: the game of older clients, and secrets, which nobody is to see.
type PresenceUpdate struct {
	// Status may be empty, which is as good as online, or offline, which is invisible.
	Status     string         `json:"status" validate:"omitempty,oneof=online idle dnd invisible offline"`
	Activities List[Activity] `json:"activities" validate:"max=8,dive"`
	// Since is when the client went idle, in ms; nil when it did not. Some clients send it with a fraction.
	Since *float64 `json:"since"`
	AFK   bool     `json:"afk"`
}

// Settle makes it what others are to see: activities that were not there before begin now, an emoji has a name, and only a stream has
// an address.
func (p *PresenceUpdate) Settle(before []Activity, now time.Time) {
	for i := range p.Activities {
		a := &p.Activities[i]
		if a.Emoji != nil && a.Emoji.Name == "" {
			a.Emoji = nil
		}
		if a.Type != activityStreaming {
			a.URL = nil
		}
		a.CreatedAt = ServerTime(now.UnixMilli())
		for _, b := range before {
			same := *a
			same.CreatedAt = b.CreatedAt
			if reflect.DeepEqual(same, b) {
				*a = same
			}
		}
	}
}

const activityStreaming = 1

// Activity is what somebody does. Texts are limited in code points.
type Activity struct {
	Name          string              `json:"name" validate:"required,max=128"`
	Type          int                 `json:"type" validate:"min=0,max=5"`
	URL           *string             `json:"url,omitempty" validate:"omitnil,max=512"`
	CreatedAt     ServerTime          `json:"created_at"`
	Timestamps    *ActivityTimestamps `json:"timestamps,omitempty"`
	ApplicationID id.ID               `json:"application_id,omitempty"`
	Details       *string             `json:"details,omitempty" validate:"omitnil,max=128"`
	State         *string             `json:"state,omitempty" validate:"omitnil,max=128"`
	Emoji         *ActivityEmoji      `json:"emoji,omitempty"`
	Party         *ActivityParty      `json:"party,omitempty"`
	Assets        *ActivityAssets     `json:"assets,omitempty"`
	Instance      bool                `json:"instance,omitempty"`
	Flags         int                 `json:"flags,omitempty"`
	Buttons       []string            `json:"buttons,omitempty" validate:"max=2,dive,max=32"`
}

// ServerTime is a moment in ms that is the server's word. What a client sends in its place may be of any type.
type ServerTime int64

// UnmarshalJSON reads a number; anything else is 0.
func (t *ServerTime) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		n = 0
	}
	*t = ServerTime(n)
	return nil
}

// ActivityTimestamps say since when and until when, in ms.
type ActivityTimestamps struct {
	Start int64 `json:"start,omitempty"`
	End   int64 `json:"end,omitempty"`
}

// ActivityEmoji stands before the text of a custom status.
type ActivityEmoji struct {
	Name     string `json:"name" validate:"max=64"`
	ID       id.ID  `json:"id,omitempty"`
	Animated bool   `json:"animated,omitempty"`
}

// UnmarshalJSON takes an empty id for none: there are libraries that always send the whole object.
func (e *ActivityEmoji) UnmarshalJSON(b []byte) error {
	type plain ActivityEmoji
	in := struct {
		*plain
		ID json.RawMessage `json:"id"`
	}{plain: (*plain)(e)}
	if err := json.Unmarshal(b, &in); err != nil || len(in.ID) == 0 || string(in.ID) == `""` {
		return err
	}
	return json.Unmarshal(in.ID, &e.ID)
}

// ActivityParty is with whom; Size is how many there are and how many there may be.
type ActivityParty struct {
	ID   string  `json:"id,omitempty" validate:"max=128"`
	Size *[2]int `json:"size,omitempty"`
}

// ActivityAssets are pictures, by the names that clients know them by, and the texts over them.
type ActivityAssets struct {
	LargeImage string `json:"large_image,omitempty" validate:"max=256"`
	LargeText  string `json:"large_text,omitempty" validate:"max=128"`
	SmallImage string `json:"small_image,omitempty" validate:"max=256"`
	SmallText  string `json:"small_text,omitempty" validate:"max=128"`
}

// The keys of client_status: the kinds of client that somebody is seen on.
const (
	ClientDesktop = "desktop"
	ClientMobile  = "mobile"
	ClientWeb     = "web"
)

// Client is the kind that a client says it is. Its name for itself decides; a library is a web client, as a browser is.
func (p IdentifyProperties) Client() string {
	for word := range strings.FieldsFuncSeq(strings.ToLower(p.Browser), func(r rune) bool { return r < 'a' || r > 'z' }) {
		switch word {
		case "ios", "android", "mobile":
			return ClientMobile
		case "client", "desktop":
			return ClientDesktop
		}
	}
	return ClientWeb
}

// Presence is how somebody shows: PRESENCE_UPDATE, and an element of GUILD_CREATE.
type Presence struct {
	User         UserRef           `json:"user"`
	GuildID      id.ID             `json:"guild_id,omitempty"`
	Status       string            `json:"status"`
	Activities   List[Activity]    `json:"activities"`
	ClientStatus map[string]string `json:"client_status"`
}

// UserRef is a user of whom only the id is told.
type UserRef struct {
	ID id.ID `json:"id"`
}
