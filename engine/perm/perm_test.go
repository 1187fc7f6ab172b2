package perm

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/xcord/xcord/engine/id"
	"pgregory.net/rapid"
)

// reference judges one permission bit at a time, by asking the questions in the order in
// which they win: the strongest voice first. Channel goes the other way, from the weakest
// to the strongest over whole sets, so the two share nothing but the rules.
func reference(bit Bits, owner bool, everyone Bits, roles map[id.ID]Bits, user, guild id.ID, ows []Overwrite) bool {
	held := func(want Bits) bool {
		if everyone&want != 0 {
			return true
		}
		for _, r := range roles {
			if r&want != 0 {
				return true
			}
		}
		return false
	}
	if owner || held(Administrator) {
		return All&bit != 0
	}
	says := func(allow bool, match func(Overwrite) bool) bool {
		for _, o := range ows {
			set := o.Deny
			if allow {
				set = o.Allow
			}
			if match(o) && set&bit != 0 {
				return true
			}
		}
		return false
	}
	own := func(o Overwrite) bool { return o.Type == OverwriteMember && o.ID == user }
	role := func(o Overwrite) bool {
		_, has := roles[o.ID]
		return o.Type == OverwriteRole && o.ID != guild && has
	}
	all := func(o Overwrite) bool { return o.Type == OverwriteRole && o.ID == guild }
	for _, match := range []func(Overwrite) bool{own, role, all} {
		if says(true, match) {
			return true
		}
		if says(false, match) {
			return false
		}
	}
	return held(bit)
}

func drawBits(t *rapid.T, label string) Bits {
	// Few bits are drawn often, so that overwrites collide; Administrator only now and then.
	b := Bits(rapid.Uint64().Draw(t, label)) & (ViewChannel | SendMessages | ManageMessages | Connect | PinMessages)
	if rapid.IntRange(0, 15).Draw(t, label+" admin") == 0 {
		b |= Administrator
	}
	return b
}

func TestChannel_AgreesWithTheReference(t *testing.T) {
	t.Parallel()
	const guild, user = id.ID(1), id.ID(2)
	rapid.Check(t, func(t *rapid.T) {
		owner := rapid.IntRange(0, 9).Draw(t, "owner") == 0
		everyone := drawBits(t, "everyone")
		roles := map[id.ID]Bits{}
		var ids []id.ID
		var bits []Bits
		// Ids 2..7 overlap with the user's: a role overwrite must not hit a member and vice versa.
		for r := id.ID(2); r < 8; r++ {
			if rapid.Bool().Draw(t, "has role") {
				roles[r] = drawBits(t, "role")
				ids, bits = append(ids, r), append(bits, roles[r])
			}
		}
		if rapid.Bool().Draw(t, "lists everyone") {
			ids = append(ids, guild)
		}
		var ows []Overwrite
		for i := id.ID(1); i < 10; i++ {
			for kind := OverwriteRole; kind <= OverwriteMember; kind++ {
				if rapid.IntRange(0, 2).Draw(t, "overwritten") > 0 {
					ows = append(ows, Overwrite{ID: i, Type: kind, Allow: drawBits(t, "allow"), Deny: drawBits(t, "deny")})
				}
			}
		}
		ows = rapid.Permutation(ows).Draw(t, "order")

		base := Guild(owner, everyone, bits)
		got := Channel(base, user, guild, ids, ows)
		sees := reference(ViewChannel, owner, everyone, roles, user, guild, ows)
		for bit := Bits(1); bit != 0; bit <<= 1 {
			want := sees && reference(bit, owner, everyone, roles, user, guild, ows)
			if got.Has(bit) != want {
				t.Fatalf("bit %d: got %v, want %v (base %s, channel %s)", bit, got.Has(bit), want, base, got)
			}
		}
	})
}

func TestGuild_OwnerAndAdministratorHaveAll(t *testing.T) {
	t.Parallel()
	f := func(want Bits, owner bool, everyone Bits, roles ...Bits) {
		t.Helper()
		if got := Guild(owner, everyone, roles); got != want {
			t.Errorf("Guild(%v, %s, %v) = %s, want %s", owner, everyone, roles, got, want)
		}
	}
	f(All, true, 0)
	f(All, false, 0, SendMessages, Administrator)
	f(All, false, Administrator)
	f(ViewChannel|SendMessages|KickMembers, false, ViewChannel, SendMessages, KickMembers)
	f(0, false, 0)
}

func TestChannel_AdministratorInAnOverwriteGrantsNothing(t *testing.T) {
	t.Parallel()
	ows := []Overwrite{{ID: 2, Type: OverwriteMember, Allow: Administrator}}
	if got := Channel(ViewChannel, 2, 1, nil, ows); got.Has(SendMessages) {
		t.Errorf("an overwrite made an administrator: %s", got)
	}
}

func TestChannel_WithoutViewChannelNothingIsLeft(t *testing.T) {
	t.Parallel()
	ows := []Overwrite{{ID: 1, Type: OverwriteRole, Deny: ViewChannel}}
	if got := Channel(ViewChannel|SendMessages|Connect, 2, 1, nil, ows); got != 0 {
		t.Errorf("got %s, want 0", got)
	}
}

func TestBits_TravelAsStringsAndAreReadFromBoth(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Bits(rapid.Uint64().Draw(t, "bits")) & All
		b, err := json.Marshal(want)
		if err != nil || string(b) != `"`+want.String()+`"` {
			t.Fatalf("%s, %v", b, err)
		}
		for _, in := range []string{string(b), want.String()} {
			var got Bits
			if err := json.Unmarshal([]byte(in), &got); err != nil || got != want {
				t.Fatalf("%s reads as %s, %v", in, got, err)
			}
		}
	})
}

func TestBits_UnmarshalDropsUnknownBitsAndRefusesNonsense(t *testing.T) {
	t.Parallel()
	var b Bits
	if err := json.Unmarshal([]byte(`"18446744073709551615"`), &b); err != nil || b != All {
		t.Errorf("all 64 bits read as %s, %v", b, err)
	}
	for _, in := range []string{`"-1"`, `-1`, `1.5`, `"x"`, `""`, `true`, `[]`, `"18446744073709551616"`} {
		var body struct {
			Allow Bits `json:"allow"`
		}
		err := json.Unmarshal([]byte(`{"allow":`+in+`}`), &body)
		var typeErr *json.UnmarshalTypeError
		if !errors.As(err, &typeErr) || typeErr.Field != "allow" {
			t.Errorf("%s: error %v does not name the field", in, err)
		}
	}
}

func TestAll_HoldsEveryNamedBitAndNotTheGap(t *testing.T) {
	t.Parallel()
	if All.Has(1<<47) || !All.Has(BypassSlowmode) || !All.Has(CreateInstantInvite) || All>>53 != 0 {
		t.Errorf("All is %b", uint64(All))
	}
	if !All.Has(DefaultEveryone) || DefaultEveryone&(Administrator|ManageGuild|ManageRoles|ManageChannels|ManageMessages|KickMembers|BanMembers|MentionEveryone) != 0 {
		t.Errorf("DefaultEveryone is %b", uint64(DefaultEveryone))
	}
}

func BenchmarkChannel(b *testing.B) {
	b.ReportAllocs()
	roles := []id.ID{10, 11, 12, 13, 14}
	ows := make([]Overwrite, 8)
	for i := range ows {
		ows[i] = Overwrite{ID: id.ID(8 + i), Allow: ViewChannel, Deny: SendMessages}
	}
	for b.Loop() {
		Channel(DefaultEveryone, 2, 1, roles, ows)
	}
}
