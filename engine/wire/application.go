package wire

import (
	"strconv"

	"github.com/xcord/xcord/engine/id"
)

// Application is a bot's application as its owner and the bot itself see it. Its id equals
// the bot's user id.
type Application struct {
	ID                                id.ID        `json:"id"`
	Name                              string       `json:"name"`
	Icon                              *string      `json:"icon"`
	Description                       string       `json:"description"`
	Type                              Null         `json:"type"`
	VerifyKey                         string       `json:"verify_key"`
	Flags                             int          `json:"flags"`
	FlagsNew                          string       `json:"flags_new"`
	RedirectURIs                      List[string] `json:"redirect_uris"`
	InteractionsEndpointURL           Null         `json:"interactions_endpoint_url"`
	RoleConnectionsVerificationURL    Null         `json:"role_connections_verification_url"`
	Owner                             User         `json:"owner"`
	Bot                               *User        `json:"bot,omitempty"`
	BotPublic                         bool         `json:"bot_public"`
	BotRequireCodeGrant               bool         `json:"bot_require_code_grant"`
	ApproximateGuildCount             int          `json:"approximate_guild_count"`
	ApproximateUserInstallCount       int          `json:"approximate_user_install_count"`
	ApproximateUserAuthorizationCount int          `json:"approximate_user_authorization_count"`
	ExplicitContentFilter             int          `json:"explicit_content_filter"`
	Team                              Null         `json:"team"`
	EligibleOAuth2Scopes              List[string] `json:"eligible_oauth2_scopes"`
}

// ApplicationFlags are those of every application: it may have presences, members and the content of messages, which libraries look for here.
// They are the flags of applications that need nobody's leave for that, because they are small.
const ApplicationFlags = 1<<13 | 1<<15 | 1<<19

// NewApplication is the application of a bot.
func NewApplication(bot, owner User) Application {
	return Application{
		ID: bot.ID, Name: bot.Username, Icon: bot.Avatar, Flags: ApplicationFlags, FlagsNew: strconv.Itoa(ApplicationFlags), Owner: owner, Bot: &bot,
		EligibleOAuth2Scopes: List[string]{"bot"},
	}
}

// CreateApplication is the body of POST /applications; the bot gets the same name.
type CreateApplication struct {
	Name string `json:"name" validate:"required,min=2,max=32,nonul"`
}

// BotToken is the answer to POST /applications/{application}/bot/reset: the only time
// that the token is told.
type BotToken struct {
	Token string `json:"token"`
}
