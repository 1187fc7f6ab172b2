// Package perm is the permission arithmetic: the bits of API v10 and how a guild's roles and
// a channel's overwrites make a member's permissions. All of it is pure.
//
// It does not know guilds, members or who asks, does not look at role positions, and does
// not decide what an endpoint needs: engine/roster and the services do.
package perm

import (
	"encoding/json"
	"reflect"
	"strconv"

	"github.com/xcord/xcord/engine/id"
)

// Bits is a set of permissions. In JSON it is a string of decimal digits, because 64 bits do
// not fit a JavaScript number; requests may also carry an integer.
type Bits uint64

// The permissions of API v10, by bit.
const (
	CreateInstantInvite              Bits = 1 << 0
	KickMembers                      Bits = 1 << 1
	BanMembers                       Bits = 1 << 2
	Administrator                    Bits = 1 << 3
	ManageChannels                   Bits = 1 << 4
	ManageGuild                      Bits = 1 << 5
	AddReactions                     Bits = 1 << 6
	ViewAuditLog                     Bits = 1 << 7
	PrioritySpeaker                  Bits = 1 << 8
	Stream                           Bits = 1 << 9
	ViewChannel                      Bits = 1 << 10
	SendMessages                     Bits = 1 << 11
	SendTTSMessages                  Bits = 1 << 12
	ManageMessages                   Bits = 1 << 13
	EmbedLinks                       Bits = 1 << 14
	AttachFiles                      Bits = 1 << 15
	ReadMessageHistory               Bits = 1 << 16
	MentionEveryone                  Bits = 1 << 17
	UseExternalEmojis                Bits = 1 << 18
	ViewGuildInsights                Bits = 1 << 19
	Connect                          Bits = 1 << 20
	Speak                            Bits = 1 << 21
	MuteMembers                      Bits = 1 << 22
	DeafenMembers                    Bits = 1 << 23
	MoveMembers                      Bits = 1 << 24
	UseVAD                           Bits = 1 << 25
	ChangeNickname                   Bits = 1 << 26
	ManageNicknames                  Bits = 1 << 27
	ManageRoles                      Bits = 1 << 28
	ManageWebhooks                   Bits = 1 << 29
	ManageGuildExpressions           Bits = 1 << 30
	UseApplicationCommands           Bits = 1 << 31
	RequestToSpeak                   Bits = 1 << 32
	ManageEvents                     Bits = 1 << 33
	ManageThreads                    Bits = 1 << 34
	CreatePublicThreads              Bits = 1 << 35
	CreatePrivateThreads             Bits = 1 << 36
	UseExternalStickers              Bits = 1 << 37
	SendMessagesInThreads            Bits = 1 << 38
	UseEmbeddedActivities            Bits = 1 << 39
	ModerateMembers                  Bits = 1 << 40
	ViewCreatorMonetizationAnalytics Bits = 1 << 41
	UseSoundboard                    Bits = 1 << 42
	CreateGuildExpressions           Bits = 1 << 43
	CreateEvents                     Bits = 1 << 44
	UseExternalSounds                Bits = 1 << 45
	SendVoiceMessages                Bits = 1 << 46
	SetVoiceChannelStatus            Bits = 1 << 48
	SendPolls                        Bits = 1 << 49
	UseExternalApps                  Bits = 1 << 50
	PinMessages                      Bits = 1 << 51
	BypassSlowmode                   Bits = 1 << 52
)

// All is every permission there is: bits 0 to 52 without 47, which v10 does not assign.
const All = 1<<53 - 1 - Bits(1)<<47

// DefaultEveryone is what @everyone may do in a new guild: take part, not moderate.
const DefaultEveryone = CreateInstantInvite | AddReactions | Stream | ViewChannel | SendMessages |
	EmbedLinks | AttachFiles | ReadMessageHistory | UseExternalEmojis | Connect | Speak | UseVAD |
	ChangeNickname | UseApplicationCommands | RequestToSpeak | UseExternalStickers | SendMessagesInThreads |
	CreatePublicThreads | CreatePrivateThreads | UseEmbeddedActivities | UseSoundboard |
	UseExternalSounds | SendVoiceMessages | SendPolls | UseExternalApps

// Direct is what everybody may do in a direct channel that they are in.
const Direct = AddReactions | ViewChannel | SendMessages | EmbedLinks | AttachFiles | ReadMessageHistory | UseExternalEmojis | PinMessages

// TimedOut is all that a time-out leaves of a member's permissions, wherever they are. Administrators and owners are above it.
const TimedOut = ViewChannel | ReadMessageHistory

// The two kinds of Overwrite.
const (
	OverwriteRole   = 0
	OverwriteMember = 1
)

// Overwrite changes what a role or a member may do in one channel.
type Overwrite struct {
	ID    id.ID `json:"id"`
	Type  int   `json:"type"`
	Allow Bits  `json:"allow"`
	Deny  Bits  `json:"deny"`
}

// Has reports whether all bits of need are in b.
func (b Bits) Has(need Bits) bool { return b&need == need }

// Guild is what a member may do in a guild before any channel's overwrites: everything for
// the owner and for whom a role makes administrator, else @everyone and the roles together.
func Guild(owner bool, everyone Bits, roles []Bits) Bits {
	if owner {
		return All
	}
	b := everyone
	for _, r := range roles {
		b |= r
	}
	if b.Has(Administrator) {
		return All
	}
	return b
}

// Channel is what a member with the guild permissions base may do in a channel. The order is
// the contract's: @everyone's overwrite, then those of the member's roles taken together
// (all denies, then all allows), then the member's own. Without ViewChannel the channel does
// not exist for the member, so nothing is left of the rest. An administrator is above all of it.
//
// everyoneID is the guild's id. It may stand among memberRoles; it is not counted twice.
func Channel(base Bits, user, everyoneID id.ID, memberRoles []id.ID, overwrites []Overwrite) Bits {
	if base.Has(Administrator) {
		return All
	}
	var everyone, role, member Overwrite
	for _, o := range overwrites {
		var into *Overwrite
		switch {
		case o.Type == OverwriteMember && o.ID == user:
			into = &member
		case o.Type != OverwriteRole:
			continue
		case o.ID == everyoneID:
			into = &everyone
		case contains(memberRoles, o.ID):
			into = &role
		default:
			continue
		}
		into.Allow |= o.Allow
		into.Deny |= o.Deny
	}
	b := base
	for _, o := range [...]Overwrite{everyone, role, member} {
		b = b&^o.Deny | o.Allow
	}
	if !b.Has(ViewChannel) {
		return 0
	}
	return b
}

// contains is a plain scan: a member has few roles, and this stands on the path of every message.
func contains(ids []id.ID, want id.ID) bool {
	for _, i := range ids {
		if i == want {
			return true
		}
	}
	return false
}

// String is the set as the API writes it: a decimal number.
func (b Bits) String() string { return strconv.FormatUint(uint64(b), 10) }

// MarshalJSON writes a string of decimal digits.
func (b Bits) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 22)
	out = append(out, '"')
	out = strconv.AppendUint(out, uint64(b), 10)
	return append(out, '"'), nil
}

// UnmarshalJSON reads a string of decimal digits, an integer, or null as no permission. Bits
// that v10 does not know are kept out: clients send sets they got elsewhere, and an unknown
// bit must neither be refused nor be granted. The error is a *json.UnmarshalTypeError, so
// that the decoder adds the path of the field to it.
func (b *Bits) UnmarshalJSON(in []byte) error {
	s := string(in)
	if s == "null" {
		*b = 0
		return nil
	}
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return &json.UnmarshalTypeError{Value: "permissions", Type: reflect.TypeFor[Bits]()}
	}
	*b = Bits(n) & All
	return nil
}
