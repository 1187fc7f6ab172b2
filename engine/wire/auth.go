package wire

import "github.com/xcord/xcord/engine/id"

// Register is the body of POST /auth/register. Invite is the code of a RegistrationInvite;
// servers with open registration do not ask for it.
type Register struct {
	Username   string  `json:"username" validate:"required,min=2,max=32,nonul"`
	Password   string  `json:"password" validate:"required,min=8,max=128,nonul"`
	Email      *string `json:"email,omitempty" validate:"omitnil,max=254,email,nonul"`
	GlobalName *string `json:"global_name,omitempty" validate:"omitnil,min=1,max=32,nonul"`
	Invite     *string `json:"invite,omitempty" validate:"omitnil,max=128,nonul"`
}

// Login is the body of POST /auth/login; Login is a username or an e-mail address. A password
// is only bounded here, so that a wrong one is always answered as wrong.
type Login struct {
	Login    string `json:"login" validate:"required,max=254,nonul"`
	Password string `json:"password" validate:"required,max=128,nonul"`
}

// Refresh is the body of POST /auth/refresh.
type Refresh struct {
	RefreshToken string `json:"refresh_token" validate:"required,max=512,nonul"`
}

// Tokens is the answer to POST /auth/refresh. ExpiresIn is in seconds, of the access token.
type Tokens struct {
	Token        string `json:"token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
}

// LoggedIn is the answer to POST /auth/register, and of a login.
type LoggedIn struct {
	Tokens
	UserID    id.ID    `json:"user_id"`
	SessionID string   `json:"session_id"`
	User      SelfUser `json:"user"`
}

// LoginAnswer is the answer to POST /auth/login: one of the two.
type LoginAnswer struct {
	*LoggedIn
	*SecondFactor
}

// SecondFactor asks for a code: POST /auth/mfa/totp takes it, with the ticket.
type SecondFactor struct {
	MFA    bool   `json:"mfa"`
	Ticket string `json:"ticket"`
	TOTP   bool   `json:"totp"`
}

// LoginCode is the body of POST /auth/mfa/totp; Code is of the authenticator, or a recovery code.
type LoginCode struct {
	Ticket string `json:"ticket" validate:"required,max=128,nonul"`
	Code   string `json:"code" validate:"required,max=32,nonul"`
}

// Elevate is the body of POST /auth/elevate: the password, or a code where a second factor is on.
type Elevate struct {
	Password string `json:"password,omitempty" validate:"max=128,nonul"`
	Code     string `json:"code,omitempty" validate:"max=32,nonul"`
}

// Elevated is the answer to POST /auth/elevate. ExpiresIn is in seconds.
type Elevated struct {
	ExpiresIn int `json:"expires_in"`
}

// Setup is the body of POST /auth/setup, which makes the first administrator. Code is from the
// setup link.
type Setup struct {
	Code     string  `json:"code" validate:"required,max=128,nonul"`
	Username string  `json:"username" validate:"required,min=2,max=32,nonul"`
	Password string  `json:"password" validate:"required,min=8,max=128,nonul"`
	Email    *string `json:"email,omitempty" validate:"omitnil,max=254,email,nonul"`
}

// Reset is the body of POST /auth/reset, which sets a new password. Code is from a ResetLink.
type Reset struct {
	Code     string `json:"code" validate:"required,max=128,nonul"`
	Password string `json:"password" validate:"required,min=8,max=128,nonul"`
}

// Password is the body of requests that want it again.
type Password struct {
	Password string `json:"password" validate:"required,max=128,nonul"`
}

// DeleteSelf is the body of DELETE /users/@me: the password, and a code where a second factor is on.
type DeleteSelf struct {
	Password string `json:"password" validate:"required,max=128,nonul"`
	Code     string `json:"code,omitempty" validate:"max=32,nonul"`
}

// TOTPSecret is the answer to POST /users/@me/mfa/totp: what an authenticator is given. Nothing
// is asked for at a login before POST /users/@me/mfa/totp/enable.
type TOTPSecret struct {
	Secret string `json:"secret"` // base32
	URI    string `json:"uri"`    // otpauth://…, for a QR code
}

// EnableTOTP is the body of POST /users/@me/mfa/totp/enable; Code proves that the authenticator
// has the secret.
type EnableTOTP struct {
	Code string `json:"code" validate:"required,max=32,nonul"`
}

// RecoveryCodes is the answer to POST /users/@me/mfa/totp/enable: the only time that they are
// told. Each is good for one login instead of a code.
type RecoveryCodes struct {
	Codes List[string] `json:"recovery_codes"`
}

// DisableTOTP is the body of POST /users/@me/mfa/totp/disable.
type DisableTOTP struct {
	Password string `json:"password" validate:"required,max=128,nonul"`
	Code     string `json:"code" validate:"required,max=32,nonul"`
}

// UserSessions is the answer to GET /auth/sessions.
type UserSessions struct {
	UserSessions List[UserSession] `json:"user_sessions"`
}

// UserSession is one login of a user. IDHash names it to POST /auth/sessions/logout.
type UserSession struct {
	IDHash     string     `json:"id_hash"`
	LastUsed   Time       `json:"approx_last_used_time"`
	ClientInfo ClientInfo `json:"client_info"`
}

// ClientInfo is where somebody has logged in, as far as it is known. Location is an address of the network.
type ClientInfo struct {
	OS       string `json:"os"`
	Platform string `json:"platform"`
	Location string `json:"location"`
}

// EndSessions is the body of POST /auth/sessions/logout.
type EndSessions struct {
	SessionIDHashes []string `json:"session_id_hashes" validate:"required,min=1,max=64,dive,required,max=64,nonul"`
}
