package hub

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// Class is what some members see of a guild: channels, and the audit log, which stands among them under the guild's own id. It is
// immutable and shared by all who see the same.
type Class struct {
	Guild id.ID
	seen  map[id.ID]struct{}
	key   string
	// muted is until when in the log nothing of the audit log is seen; 0 for who is not timed out.
	muted wire.Time
}

// NewClass is the class of those who see these channels.
func NewClass(guild id.ID, channels []id.ID) *Class {
	sorted := slices.Clone(channels)
	slices.Sort(sorted)
	c := &Class{Guild: guild, seen: make(map[id.ID]struct{}, len(sorted))}
	key := make([]byte, 0, 8*len(sorted))
	for _, channel := range sorted {
		c.seen[channel] = struct{}{}
		key = binary.BigEndian.AppendUint64(key, uint64(channel))
	}
	c.key = string(key)
	return c
}

// Muted is a class that sees the same, but of the audit log nothing that is written before until: a time-out ends without a word, so it is
// the place of an event that says whether it is over, and the same on every gateway.
func (c *Class) Muted(until wire.Time) *Class {
	next := *c
	next.muted = until
	return &next
}

// Key is equal for classes of one guild that see the same.
func (c *Class) Key() string {
	if c.muted == 0 {
		return c.key
	}
	return string(binary.BigEndian.AppendUint64(append([]byte(c.key), 'm'), uint64(c.muted)))
}

// Sees says whether a channel is visible.
func (c *Class) Sees(channel id.ID) bool {
	_, ok := c.seen[channel]
	return ok
}

// View is what one session may get. It is immutable: a change makes a new one.
type View struct {
	User id.ID
	Bot  bool
	// Intents that the session asked for; users who asked for none have all.
	Intents wire.Intents
	// NoDirects is for who gets nothing of direct channels: all shards but the first.
	NoDirects bool
	Guilds    map[id.ID]*Class
}

// With is the view with another class in a guild; nil takes the guild away.
func (v *View) With(guild id.ID, c *Class) *View {
	next := *v
	next.Guilds = make(map[id.ID]*Class, len(v.Guilds)+1)
	maps.Copy(next.Guilds, v.Guilds)
	if c == nil {
		delete(next.Guilds, guild)
	} else {
		next.Guilds[guild] = c
	}
	return &next
}

// viewFormat is the first byte of an encoded view, and mutedFormat that of one in which somebody is timed out: there each guild has 8 bytes
// more. What begins otherwise is not read.
const (
	viewFormat  = 1
	mutedFormat = 2
)

// gone is the number of channels of a guild that is not seen any more.
const gone = math.MaxUint32

// AppendChanges encodes what is different from another view of the same session, nil for one that shows nothing: 12 bytes for a guild
// and 8 for each channel that is seen of it.
func (v *View) AppendChanges(dst []byte, from *View) []byte {
	var before map[id.ID]*Class
	if from != nil {
		before = from.Guilds
	}
	format := byte(viewFormat)
	for _, c := range v.Guilds {
		if c.muted != 0 {
			format = mutedFormat
		}
	}
	dst = append(dst, format)
	for _, g := range slices.Sorted(maps.Keys(v.Guilds)) {
		c := v.Guilds[g]
		if was := before[g]; was != nil && was.key == c.key && was.muted == c.muted {
			continue
		}
		dst = binary.BigEndian.AppendUint64(dst, uint64(g))
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.seen)))
		if format == mutedFormat {
			dst = binary.BigEndian.AppendUint64(dst, uint64(c.muted))
		}
		dst = append(dst, c.key...)
	}
	for _, g := range slices.Sorted(maps.Keys(before)) {
		if v.Guilds[g] == nil {
			dst = binary.BigEndian.AppendUint64(dst, uint64(g))
			dst = binary.BigEndian.AppendUint32(dst, gone)
		}
	}
	return dst
}

// Changed is the view with what AppendChanges wrote.
func (v *View) Changed(b []byte) (*View, error) {
	if len(b) == 0 || b[0] != viewFormat && b[0] != mutedFormat {
		return nil, errors.New("a view of another format")
	}
	isMuted := b[0] == mutedFormat
	next := *v
	next.Guilds = make(map[id.ID]*Class, len(v.Guilds))
	maps.Copy(next.Guilds, v.Guilds)
	for b = b[1:]; len(b) > 0; {
		if len(b) < 12 {
			return nil, errCut
		}
		guild, count := id.ID(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:])
		b = b[12:]
		if count == gone {
			delete(next.Guilds, guild)
			continue
		}
		var muted wire.Time
		if isMuted {
			if len(b) < 8 {
				return nil, errCut
			}
			muted, b = wire.Time(binary.BigEndian.Uint64(b)), b[8:]
		}
		if uint64(len(b))/8 < uint64(count) {
			return nil, errCut
		}
		channels := make([]id.ID, count)
		for i := range channels {
			channels[i] = id.ID(binary.BigEndian.Uint64(b))
			b = b[8:]
		}
		next.Guilds[guild] = NewClass(guild, channels).Muted(muted)
	}
	return &next, nil
}

var errCut = errors.New("a view that is cut short")

// Visible says whether a session with this view gets the event. It is pure: the live fan-out, counting and replay all rest
// on the same answer.
func Visible(e *Event, v *View) bool {
	if e.Guild == 0 {
		return e.User == v.User && e.User != e.Except && !(v.NoDirects && e.Channel != 0) && wants(e, v.Intents)
	}
	c, in := v.Guilds[e.Guild]
	return in && reaches(e, v.User) && shows(e, c, v.Intents)
}

// shows is the part of Visible that is the same for a whole group.
func shows(e *Event, c *Class, have wire.Intents) bool {
	return wants(e, have) && (e.Channel == 0 || c.Sees(e.Channel)) && (e.Beside == 0 || c.Sees(e.Beside)) &&
		(e.Channel != c.Guild || uint64(c.muted) <= e.Point.Pos.Ms)
}

func wants(e *Event, have wire.Intents) bool { return e.Intents == 0 || e.Intents&have != 0 }

// reaches is the part of Visible that is about the single user.
func reaches(e *Event, user id.ID) bool {
	return user != e.Except && (e.User == 0 || e.User == user)
}

// Kind says what a Step does.
type Kind int

// The kinds of Step, in the order in which they are dispatched.
const (
	GuildLost Kind = iota
	ChannelLost
	GuildGained
	ChannelGained
)

// Step is one dispatch of a change of view. Channel is 0 when the step is about a guild.
type Step struct {
	Kind           Kind
	Guild, Channel id.ID
}

// Diff is what a session must be told to come from one view to another, always in the same order. Without the intent for
// guilds it is told nothing.
func Diff(from, to *View) []Step {
	if from == to || !to.Intents.Has(wire.IntentGuilds) {
		return nil
	}
	var steps []Step
	for g, c := range from.Guilds {
		next, stays := to.Guilds[g]
		switch {
		case !stays:
			steps = append(steps, Step{Kind: GuildLost, Guild: g})
		case next != c:
			steps = appendMissing(steps, ChannelLost, c, next)
			steps = appendMissing(steps, ChannelGained, next, c)
		}
	}
	for g := range to.Guilds {
		if _, had := from.Guilds[g]; !had {
			steps = append(steps, Step{Kind: GuildGained, Guild: g})
		}
	}
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Guild, b.Guild), cmp.Compare(a.Channel, b.Channel))
	})
	return steps
}

// appendMissing appends a step for each channel that a sees and b does not. Of the audit log clients are told nothing but what is written
// into it.
func appendMissing(steps []Step, kind Kind, a, b *Class) []Step {
	for channel := range a.seen {
		if channel != a.Guild && !b.Sees(channel) {
			steps = append(steps, Step{Kind: kind, Guild: a.Guild, Channel: channel})
		}
	}
	return steps
}

// Walk is the view of somebody who was told these first steps of Diff(from, to).
func Walk(from, to *View, steps []Step) *View {
	v := from
	for _, s := range steps {
		switch s.Kind {
		case GuildLost:
			v = v.With(s.Guild, nil)
		case GuildGained:
			v = v.With(s.Guild, to.Guilds[s.Guild])
		case ChannelLost, ChannelGained:
			v = v.With(s.Guild, v.Guilds[s.Guild].toggled(s.Channel, s.Kind == ChannelGained))
		}
	}
	return v
}

func (c *Class) toggled(channel id.ID, visible bool) *Class {
	channels := make([]id.ID, 0, len(c.seen)+1)
	for have := range c.seen {
		if have != channel {
			channels = append(channels, have)
		}
	}
	if visible {
		channels = append(channels, channel)
	}
	return NewClass(c.Guild, channels).Muted(c.muted)
}
