package wire

import (
	"encoding/json"

	"github.com/xcord/xcord/engine/id"
)

// User is somebody as everybody may see them: a person or a bot.
type User struct {
	ID            id.ID         `json:"id"`
	Username      string        `json:"username"`
	Avatar        *string       `json:"avatar"`
	Discriminator Discriminator `json:"discriminator"`
	PublicFlags   int           `json:"public_flags"`
	Flags         int           `json:"flags"`
	GlobalName    *string       `json:"global_name"`
	PrimaryGuild  Null          `json:"primary_guild"`
	Bot           bool          `json:"bot,omitempty"`
	Banner        *string       `json:"banner,omitempty"`
	AccentColor   *int          `json:"accent_color,omitempty"`
}

// SelfUser is a user as they see themselves.
type SelfUser struct {
	User
	MFAEnabled  bool    `json:"mfa_enabled"`
	Locale      string  `json:"locale"`
	PremiumType int     `json:"premium_type"`
	Email       *string `json:"email"`
	Verified    bool    `json:"verified"`
	Bio         *string `json:"bio,omitempty"`
}

// LocaleDefault is the locale of whoever chose none.
const LocaleDefault = "en-US"

// Discriminator is what clients once showed behind a name. Usernames are unique here, which
// clients take "0" as saying, so that is what the empty one is.
type Discriminator string

// MarshalJSON writes "0" for the empty one.
func (d Discriminator) MarshalJSON() ([]byte, error) {
	if d == "" {
		return []byte(`"0"`), nil
	}
	return json.Marshal(string(d))
}
