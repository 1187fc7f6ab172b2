package perm

import "github.com/xcord/xcord/engine/id"

// What can decide a permission.
const (
	ByOwner           = "owner"            // owners have all
	ByAdministrator   = "administrator"    // so have administrators; IDs are the roles that make one
	ByMemberOverwrite = "member_overwrite" // IDs has the member
	ByRoleOverwrite   = "role_overwrite"   // IDs are the roles whose overwrites say so, @everyone only when no other does
	ByRole            = "role"             // IDs are the roles that have it
	ByHidden          = "hidden"           // it would be there, but the channel cannot be seen
	ByTimeOut         = "time_out"         // it would be there, but the member is timed out
	ByNone            = "none"             // no role has it
)

// Verdict says whether a member has one permission, and what decided that.
type Verdict struct {
	Permission Bits    `json:"permission"`
	Granted    bool    `json:"granted"`
	By         string  `json:"by"` // one of the By constants
	IDs        []id.ID `json:"ids"`
}

// Held is a role that a member has. The first of several is @everyone.
type Held struct {
	ID          id.ID
	Permissions Bits
}

// Explain judges each permission of All by itself, the lowest bit first. What it grants is what Guild answers, and with inChannel, what
// Channel makes of that with the overwrites. held has at least @everyone.
func Explain(owner bool, user id.ID, held []Held, overwrites []Overwrite, inChannel bool) []Verdict {
	if !inChannel {
		overwrites = nil
	}
	var out []Verdict
	for bit := Bits(1); bit <= All; bit <<= 1 {
		if All.Has(bit) {
			out = append(out, decide(bit, owner, user, held, overwrites))
		}
	}
	if inChannel && !decide(ViewChannel, owner, user, held, overwrites).Granted {
		for i := range out {
			if out[i].Granted {
				out[i] = Verdict{Permission: out[i].Permission, By: ByHidden, IDs: []id.ID{}}
			}
		}
	}
	return out
}

// Silence takes from verdicts what a time-out takes.
func Silence(verdicts []Verdict) {
	for i, v := range verdicts {
		if v.Granted && !TimedOut.Has(v.Permission) {
			verdicts[i] = Verdict{Permission: v.Permission, By: ByTimeOut, IDs: []id.ID{}}
		}
	}
}

// decide asks the strongest voice first.
func decide(bit Bits, owner bool, user id.ID, held []Held, overwrites []Overwrite) Verdict {
	if owner {
		return Verdict{Permission: bit, Granted: true, By: ByOwner, IDs: []id.ID{}}
	}
	if admins := holders(held, Administrator); len(admins) > 0 {
		return Verdict{Permission: bit, Granted: true, By: ByAdministrator, IDs: admins}
	}
	for _, voice := range []struct {
		by   string
		kind int
		of   []Held
	}{
		{ByMemberOverwrite, OverwriteMember, []Held{{ID: user}}},
		{ByRoleOverwrite, OverwriteRole, held[1:]},
		{ByRoleOverwrite, OverwriteRole, held[:1]},
	} {
		var allow, deny []id.ID
		for _, h := range voice.of {
			for _, o := range overwrites {
				if o.Type != voice.kind || o.ID != h.ID {
					continue
				}
				if o.Allow.Has(bit) {
					allow = append(allow, o.ID)
				}
				if o.Deny.Has(bit) {
					deny = append(deny, o.ID)
				}
			}
		}
		switch {
		case allow != nil:
			return Verdict{Permission: bit, Granted: true, By: voice.by, IDs: allow}
		case deny != nil:
			return Verdict{Permission: bit, By: voice.by, IDs: deny}
		}
	}
	if roles := holders(held, bit); len(roles) > 0 {
		return Verdict{Permission: bit, Granted: true, By: ByRole, IDs: roles}
	}
	return Verdict{Permission: bit, By: ByNone, IDs: []id.ID{}}
}

func holders(held []Held, bit Bits) (roles []id.ID) {
	for _, h := range held {
		if h.Permissions.Has(bit) {
			roles = append(roles, h.ID)
		}
	}
	return roles
}
