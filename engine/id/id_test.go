package id

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

func TestID_RoundTripsThroughTextAndJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := ID(rapid.Uint64().Draw(t, "id"))
		got, err := Parse(want.String())
		if err != nil || got != want {
			t.Fatalf("Parse(%q) = %d, %v", want.String(), got, err)
		}
		if s := string(want.Append([]byte("x"))); s != "x"+want.String() {
			t.Fatalf("Append: %q", s)
		}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var back ID
		if err := json.Unmarshal(b, &back); err != nil || back != want {
			t.Fatalf("%s came back as %d, %v", b, back, err)
		}
		if err := json.Unmarshal([]byte(want.String()), &back); err != nil || back != want {
			t.Fatalf("bare %s came back as %d, %v", want, back, err)
		}
	})
}

func TestFromEntry_KeepsItsPartsAndTheirOrder(t *testing.T) {
	t.Parallel()
	ms := rapid.Uint64Range(EpochMs, EpochMs+msMax)
	seq := rapid.Uint64Range(0, seqMax-1)
	rapid.Check(t, func(t *rapid.T) {
		m, s, shard := ms.Draw(t, "ms"), seq.Draw(t, "seq"), rapid.IntRange(0, shardMax-1).Draw(t, "shard")
		i := FromEntry(m, s, shard)
		gotSeq, gotShard := i.EntrySeq()
		if i.Ms() != m || gotSeq != s || gotShard != shard {
			t.Fatalf("%d-%d@%d came back as %d-%d@%d", m, s, shard, i.Ms(), gotSeq, gotShard)
		}
		m2, s2 := ms.Draw(t, "ms2"), seq.Draw(t, "seq2")
		before := m < m2 || m == m2 && s < s2
		if (i < FromEntry(m2, s2, shard)) != before {
			t.Fatalf("id order is not entry order: %d-%d and %d-%d", m, s, m2, s2)
		}
	})
}

func TestFromEntry_PanicsOutsideItsLayout(t *testing.T) {
	t.Parallel()
	f := func(ms, seq uint64, shard int) {
		t.Helper()
		defer func() {
			r, _ := recover().(string)
			if !strings.HasPrefix(r, "BUG:") {
				t.Errorf("FromEntry(%d, %d, %d) did not panic with BUG but %q", ms, seq, shard, r)
			}
		}()
		FromEntry(ms, seq, shard)
	}
	f(EpochMs, seqMax, 0)
	f(EpochMs, 0, shardMax)
	f(EpochMs, 0, -1)
	f(EpochMs-1, 0, 0)
	f(EpochMs+msMax+1, 0, 0)
}

func TestFromSequence_KeepsTimeAndLowBits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Uint64Range(EpochMs, EpochMs+msMax).Draw(t, "ms")
		seq := rapid.Int64Min(0).Draw(t, "seq")
		i := FromSequence(ms, seq)
		if i.Ms() != ms || uint64(i)&tailMask != uint64(seq)%(1<<22) {
			t.Fatalf("FromSequence(%d, %d) = %d", ms, seq, i)
		}
	})
}

func TestID_TimeMatchesAKnownSnowflake(t *testing.T) {
	t.Parallel()
	// 2016-04-30T11:18:25.796Z is the worked example of the public API documentation.
	i, err := Parse("175928847299117063")
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2016, 4, 30, 11, 18, 25, 796e6, time.UTC); !i.Time().Equal(want) {
		t.Errorf("time is %v, want %v", i.Time(), want)
	}
}

func TestParse_RefusesWhatIsNoID(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", " 1", "1 ", "+1", "-1", "0x1", "1_0", "1e3", "1.0", "abc", "١", "18446744073709551616", strings.Repeat("0", 21), strings.Repeat("9", 64<<10)} {
		if v, err := Parse(s); err == nil {
			t.Errorf("Parse(%.40q) = %d, want an error", s, v)
		}
	}
}

func TestID_UnmarshalNamesTheField(t *testing.T) {
	t.Parallel()
	for _, v := range []string{`"abc"`, `""`, `-1`, `1.5`, `true`, `{}`, `["1"]`, `"18446744073709551616"`} {
		var body struct {
			Inner struct {
				Parent ID `json:"parent_id"`
			} `json:"inner"`
		}
		err := json.Unmarshal([]byte(`{"inner":{"parent_id":`+v+`}}`), &body)
		var typeErr *json.UnmarshalTypeError
		if !errors.As(err, &typeErr) || typeErr.Field != "inner.parent_id" {
			t.Errorf("%s: error %#v does not name inner.parent_id", v, err)
		}
	}
}

func TestID_NoneIsNull(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(struct {
		A ID `json:"a"`
		B ID `json:"b,omitempty"`
	}{})
	if err != nil || string(b) != `{"a":null}` {
		t.Errorf("none marshals as %s, %v", b, err)
	}
	i := ID(7)
	if err := json.Unmarshal([]byte("null"), &i); err != nil || i != 0 {
		t.Errorf("null reads as %d, %v", i, err)
	}
}

func TestID_WorksAsAMapKey(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(map[ID]int{175928847299117063: 1})
	if err != nil || string(b) != `{"175928847299117063":1}` {
		t.Fatalf("%s, %v", b, err)
	}
	var m map[ID]int
	if err := json.Unmarshal(b, &m); err != nil || m[175928847299117063] != 1 {
		t.Errorf("%v, %v", m, err)
	}
}

func TestID_TravelsAsABigintThroughPgx(t *testing.T) {
	t.Parallel()
	m := pgtype.NewMap()
	for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
		b, err := m.Encode(pgtype.Int8OID, format, ID(175928847299117063), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got ID
		if err := m.Scan(pgtype.Int8OID, format, b, &got); err != nil || got != 175928847299117063 {
			t.Errorf("format %d: read back %d, %v", format, got, err)
		}
		if b, err := m.Encode(pgtype.Int8OID, format, ID(0), nil); err != nil || b != nil {
			t.Errorf("format %d: none is %v, %v, want NULL", format, b, err)
		}
		if err := m.Scan(pgtype.Int8OID, format, nil, &got); err != nil || got != 0 {
			t.Errorf("format %d: NULL reads as %d, %v", format, got, err)
		}
		list := []ID{1, 2, 175928847299117063}
		b, err = m.Encode(pgtype.Int8ArrayOID, format, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		var back []ID
		if err := m.Scan(pgtype.Int8ArrayOID, format, b, &back); err != nil || !cmp.Equal(list, back) {
			t.Errorf("format %d: array reads back as %v, %v", format, back, err)
		}
	}
	if _, err := ID(1 << 63).Value(); err == nil {
		t.Error("an id of 64 bits was accepted as a bigint")
	}
}

func TestTimestamp_HasMicrosecondsAndAnOffset(t *testing.T) {
	t.Parallel()
	if got, want := Timestamp(1704067200123), "2024-01-01T00:00:00.123000+00:00"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Uint64Range(EpochMs, EpochMs+msMax).Draw(t, "ms")
		at, err := time.Parse(time.RFC3339Nano, Timestamp(ms))
		if err != nil || uint64(at.UnixMilli()) != ms {
			t.Fatalf("%d reads back as %v, %v", ms, at, err)
		}
	})
}

func BenchmarkAppendTimestamp(b *testing.B) {
	b.ReportAllocs()
	buf := make([]byte, 0, 64)
	for b.Loop() {
		buf = AppendTimestamp(buf[:0], 1704067200123)
	}
}
