package wire

import (
	"encoding/json"

	"github.com/xcord/xcord/engine/id"
)

// InstanceSettings is the answer to GET and PATCH /admin/settings. Registration is null as long
// as the configuration's mode counts, which RegistrationDefault names.
type InstanceSettings struct {
	Registration        *string `json:"registration"`
	RegistrationDefault string  `json:"registration_default"`
}

// UpdateInstanceSettings is the body of PATCH /admin/settings; null goes back to the
// configuration.
type UpdateInstanceSettings struct {
	Registration Optional[string] `json:"registration,omitzero" validate:"omitnil,oneof=open invite closed"`
}

// AdminUser is somebody as administrators see them.
type AdminUser struct {
	User
	Email      *string `json:"email"`
	Admin      bool    `json:"admin"`
	Disabled   bool    `json:"disabled"`
	MFAEnabled bool    `json:"mfa_enabled"`
}

// ListAdminUsers is the query of GET /admin/users: by rising id behind After, those whose name,
// display name or e-mail address contains Query.
type ListAdminUsers struct {
	Query string `query:"query" validate:"max=254,nonul"`
	After id.ID  `query:"after"`
	Limit *int   `query:"limit" validate:"omitnil,min=1,max=200"` // default 50
}

// ResetLink is the answer to POST /admin/users/{user}/reset. Path is where its owner sets a new
// password, below the address of the server; ExpiresIn is in seconds.
type ResetLink struct {
	Path      string `json:"path"`
	ExpiresIn int    `json:"expires_in"`
}

// RegistrationInvite lets people register where registration is by invite. MaxUses 0 is without
// limit; ExpiresAt is null when it does not.
type RegistrationInvite struct {
	Code      string `json:"code"`
	Creator   id.ID  `json:"creator_id"`
	MaxUses   int    `json:"max_uses"`
	Uses      int    `json:"uses"`
	CreatedAt Time   `json:"created_at"`
	ExpiresAt Time   `json:"expires_at"`
}

// CreateRegistrationInvite is the body of POST /admin/invites. MaxAge is in seconds; 0 is for
// ever, absent is a week. MaxUses absent is 1.
type CreateRegistrationInvite struct {
	MaxAge  *int `json:"max_age,omitempty" validate:"omitnil,min=0,max=31536000"`
	MaxUses *int `json:"max_uses,omitempty" validate:"omitnil,min=0,max=1000"`
}

// AuditLine is one line of the audit log. Actor and Target are null when there is none; Details
// are short facts by name.
type AuditLine struct {
	ID      id.ID           `json:"id"`
	At      Time            `json:"at"`
	Actor   id.ID           `json:"actor_id"`
	Action  string          `json:"action"`
	Target  id.ID           `json:"target_id"`
	Address string          `json:"address"`
	Details json.RawMessage `json:"details"`
}

// ListAudit is the query of GET /admin/audit: newest first before Before, of one actor or
// target if they are given.
type ListAudit struct {
	Before id.ID `query:"before"`
	Actor  id.ID `query:"actor_id"`
	Target id.ID `query:"target_id"`
	Limit  *int  `query:"limit" validate:"omitnil,min=1,max=200"` // default 50
}
