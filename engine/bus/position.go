package bus

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/xcord/xcord/engine/id"
)

// Position is a place in the log: the id of an entry, which is milliseconds since 1970 and a sequence within that
// millisecond. The zero Position is the place before the first entry.
type Position struct {
	Ms  uint64
	Seq uint64
}

// ParsePosition reads the form that Redis uses, "1700000000000-3".
func ParsePosition(s string) (Position, error) {
	ms, seq, ok := strings.Cut(s, "-")
	if !ok {
		return Position{}, fmt.Errorf("position %q has no dash", s)
	}
	var p Position
	var err error
	if p.Ms, err = strconv.ParseUint(ms, 10, 64); err != nil {
		return Position{}, fmt.Errorf("position %q: %w", s, err)
	}
	if p.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return Position{}, fmt.Errorf("position %q: %w", s, err)
	}
	return p, nil
}

// PositionOf is the place of the entry that a message id was made of.
func PositionOf(i id.ID) Position {
	seq, _ := i.EntrySeq()
	return Position{Ms: i.Ms(), Seq: seq}
}

// String is the form that Redis uses.
func (p Position) String() string {
	b := make([]byte, 0, 24)
	b = strconv.AppendUint(b, p.Ms, 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, p.Seq, 10)
	return string(b)
}

// ID is the snowflake of the entry at p on a shard of the log.
func (p Position) ID(shard int) id.ID { return id.FromEntry(p.Ms, p.Seq, shard) }

// IsZero says whether p is before the first entry.
func (p Position) IsZero() bool { return p == Position{} }

// Compare orders positions as the log does.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Ms, q.Ms); c != 0 {
		return c
	}
	return cmp.Compare(p.Seq, q.Seq)
}

// Previous is the place right in front of p.
func (p Position) Previous() Position {
	switch {
	case p.Seq > 0:
		return Position{Ms: p.Ms, Seq: p.Seq - 1}
	case p.Ms > 0:
		return Position{Ms: p.Ms - 1, Seq: math.MaxUint64}
	}
	return p
}

// Less says whether p stands before q.
func (p Position) Less(q Position) bool { return p.Compare(q) < 0 }
