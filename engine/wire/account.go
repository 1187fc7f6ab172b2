package wire

// AvatarTextMax bounds an avatar as it is sent: 1 MiB of image in base64, and the tag of UpdateSelf says so, too.
const AvatarTextMax = 1_400_000

// UpdateSelf is the body of PATCH /users/@me. A new password and another e-mail address want
// the password beside them. Avatar is an image as data:image/png;base64,…
type UpdateSelf struct {
	Username    *string          `json:"username,omitempty" validate:"omitnil,min=2,max=32,nonul"`
	GlobalName  Optional[string] `json:"global_name,omitzero" validate:"omitnil,max=32,nonul"`
	Avatar      Optional[string] `json:"avatar,omitzero" validate:"omitnil,max=1400000,nonul"`
	Bio         Optional[string] `json:"bio,omitzero" validate:"omitnil,max=190,nonul"`
	Email       Optional[string] `json:"email,omitzero" validate:"omitnil,max=254,nonul"`
	Password    *string          `json:"password,omitempty" validate:"omitnil,max=128,nonul"`
	NewPassword *string          `json:"new_password,omitempty" validate:"omitnil,min=8,max=128,nonul"`
}
