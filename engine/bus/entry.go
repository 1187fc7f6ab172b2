package bus

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// formatVersion is what this binary writes into an entry. A reader accepts it and everything older; a newer one is
// refused, because guessing at a format loses data.
const formatVersion = 1

// Entry is one event of the log. Pos is set by the log; everything else by the publisher.
type Entry struct {
	Pos  Position
	Type wire.EventType
	// Actor is who caused the event; Guild, Channel and User are its topic. Zero means none.
	Actor, Guild, Channel, User id.ID
	// To are the recipients of a direct channel, who get the event and nobody else; none in a guild.
	To []id.ID
	// Version is the version of the aggregate (guild or user) that a cold change leads to; 0 for hot entries.
	Version int64
	// Trace is the W3C traceparent of the request that caused the event, or "".
	Trace string
	// Body is the JSON of the payload struct that package wire names for Type.
	Body []byte
}

// Time is when Redis accepted the entry.
func (e Entry) Time() time.Time { return time.UnixMilli(int64(e.Pos.Ms)) }

// fieldNames is the one order in which entries are written. Redis stores the names once for a whole run of entries with
// the same names in the same order, so they cost nothing and every entry has all of them.
var fieldNames = [...]string{"format", "type", "actor", "guild", "channel", "user", "version", "trace", "body", "to"}

func (e Entry) appendFields(args []string) []string {
	values := [len(fieldNames)]string{
		strconv.Itoa(formatVersion), string(e.Type), e.Actor.String(), e.Guild.String(), e.Channel.String(),
		e.User.String(), strconv.FormatInt(e.Version, 10), e.Trace, rueidis.BinaryString(e.Body),
		joinIDs(e.To),
	}
	for i, name := range fieldNames {
		args = append(args, name, values[i])
	}
	return args
}

// decode reads one stream entry. Unknown fields are ignored, so that an older binary can read what a newer one of the
// same format adds.
func decode(raw rueidis.XRangeSlice) (Entry, error) {
	var e Entry
	var err error
	if e.Pos, err = ParsePosition(raw.ID); err != nil {
		return e, err
	}
	format := 0
	for _, f := range raw.FieldValues {
		switch f.Field {
		case "format":
			format, err = strconv.Atoi(f.Value)
		case "type":
			e.Type = wire.EventType(f.Value)
		case "actor":
			e.Actor, err = id.Parse(f.Value)
		case "guild":
			e.Guild, err = id.Parse(f.Value)
		case "channel":
			e.Channel, err = id.Parse(f.Value)
		case "user":
			e.User, err = id.Parse(f.Value)
		case "version":
			e.Version, err = strconv.ParseInt(f.Value, 10, 64)
		case "trace":
			e.Trace = f.Value
		case "body":
			e.Body = []byte(f.Value)
		case "to":
			e.To, err = splitIDs(f.Value)
		}
		if err != nil {
			return e, fmt.Errorf("entry %s field %s: %w", raw.ID, f.Field, err)
		}
	}
	if format < 1 || format > formatVersion {
		return e, fmt.Errorf("entry %s has format %d, this binary reads 1 to %d", raw.ID, format, formatVersion)
	}
	if e.Type == "" {
		return e, fmt.Errorf("entry %s has no type", raw.ID)
	}
	return e, nil
}

// joinIDs and splitIDs are how a list of ids stands in a field.
func joinIDs(ids []id.ID) string {
	var b []byte
	for i, v := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = v.Append(b)
	}
	return string(b)
}

func splitIDs(s string) (ids []id.ID, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		i, err := id.Parse(part)
		if err != nil {
			return nil, err
		}
		ids = append(ids, i)
	}
	return ids, nil
}
