package wire

import "github.com/xcord/xcord/engine/id"

// Register is the body of POST /auth/register. Invite is a registration code; servers with
// open registration do not ask for it.
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

// LoggedIn is the answer to POST /auth/register and POST /auth/login.
type LoggedIn struct {
	Tokens
	UserID    id.ID    `json:"user_id"`
	SessionID string   `json:"session_id"`
	User      SelfUser `json:"user"`
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
