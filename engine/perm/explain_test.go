package perm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/xcord/xcord/engine/id"
)

func TestExplain_GrantsWhatIsComputed(t *testing.T) {
	t.Parallel()
	const guild, user = id.ID(1), id.ID(2)
	rapid.Check(t, func(t *rapid.T) {
		owner := rapid.IntRange(0, 9).Draw(t, "owner") == 0
		held := []Held{{guild, drawBits(t, "everyone")}}
		var ids []id.ID
		var bits []Bits
		for r := id.ID(2); r < 6; r++ {
			if rapid.Bool().Draw(t, "has role") {
				h := Held{r, drawBits(t, "role")}
				held, ids, bits = append(held, h), append(ids, r), append(bits, h.Permissions)
			}
		}
		var ows []Overwrite
		for i := id.ID(1); i < 7; i++ {
			for kind := OverwriteRole; kind <= OverwriteMember; kind++ {
				if rapid.Bool().Draw(t, "overwritten") {
					ows = append(ows, Overwrite{ID: i, Type: kind, Allow: drawBits(t, "allow"), Deny: drawBits(t, "deny")})
				}
			}
		}
		f := func(want Bits, got []Verdict) {
			var sum, seen Bits
			for _, v := range got {
				seen |= v.Permission
				if v.Granted {
					sum |= v.Permission
				}
				if named := v.By != ByOwner && v.By != ByHidden && v.By != ByNone; named != (len(v.IDs) > 0) {
					t.Fatalf("%+v names the wrong ones", v)
				}
			}
			if sum != want || seen != All || !slices.IsSortedFunc(got, func(a, b Verdict) int { return int(int64(a.Permission) - int64(b.Permission)) }) {
				t.Fatalf("granted %s of %s, want %s: %+v", sum, seen, want, got)
			}
		}
		base := Guild(owner, held[0].Permissions, bits)
		f(base, Explain(owner, user, held, ows, false))
		f(Channel(base, user, guild, ids, ows), Explain(owner, user, held, ows, true))
	})
}

func TestExplain_NamesWhatDecided(t *testing.T) {
	t.Parallel()
	const guild, user, loud, quiet = id.ID(1), id.ID(2), id.ID(3), id.ID(4)
	held := []Held{{guild, ViewChannel | Connect}, {loud, SendMessages | Connect}, {quiet, 0}}
	ows := []Overwrite{
		{ID: guild, Type: OverwriteRole, Deny: SendMessages | AddReactions},
		{ID: loud, Type: OverwriteRole, Allow: SendMessages},
		{ID: quiet, Type: OverwriteRole, Deny: SendMessages | Speak},
		{ID: user, Type: OverwriteMember, Allow: Speak},
	}
	f := func(bit Bits, held []Held, ows []Overwrite, granted bool, by string, ids ...id.ID) {
		t.Helper()
		all := Explain(false, user, held, ows, ows != nil)
		v := all[slices.IndexFunc(all, func(v Verdict) bool { return v.Permission == bit })]
		if v.Granted != granted || v.By != by || !slices.Equal(v.IDs, ids) {
			t.Errorf("%s: got %+v, want %v by %s %v", bit, v, granted, by, ids)
		}
	}
	f(Connect, held, nil, true, ByRole, guild, loud)
	f(Speak, held, nil, false, ByNone)
	f(SendMessages, held, ows, true, ByRoleOverwrite, loud)
	f(Speak, held, ows, true, ByMemberOverwrite, user)
	f(AddReactions, held, ows, false, ByRoleOverwrite, guild)
	unseen := []Overwrite{{ID: user, Type: OverwriteMember, Deny: ViewChannel}}
	f(ViewChannel, held, unseen, false, ByMemberOverwrite, user)
	f(Connect, held, unseen, false, ByHidden)
	f(Connect, append(held, Held{5, Administrator}), unseen, true, ByAdministrator, 5)
}
