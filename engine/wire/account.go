package wire

// UpdateSelf is the body of PATCH /users/@me. A new password wants the old one beside it.
type UpdateSelf struct {
	Username    *string          `json:"username,omitempty" validate:"omitnil,min=2,max=32,nonul"`
	GlobalName  Optional[string] `json:"global_name,omitzero" validate:"omitnil,max=32,nonul"`
	Password    *string          `json:"password,omitempty" validate:"omitnil,max=128,nonul"`
	NewPassword *string          `json:"new_password,omitempty" validate:"omitnil,min=8,max=128,nonul"`
}
