package reads

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// facts are what entries of the log say of reading, worked through in their order. Each knows the latest entry that it is of.
type facts struct {
	marks    map[id.ID]map[id.ID]mark // user → channel
	heads    map[id.ID]head           // by channel
	pings    []ping
	deleted  []deletion
	settings map[id.ID]map[id.ID]setting // user → guild
	erased   map[id.ID]bus.Position      // users
	count    int                         // of all of them together, but for marks and settings that took the place of others
}

// mark is what several acks of one user in one channel come to. What was before them counts unless isSet: then one of them was manual.
type mark struct {
	message id.ID
	isSet   bool
	at      bus.Position
}

// over is the last message read when it was before, without what the mark is made of.
func (m mark) over(before id.ID) id.ID {
	if m.isSet {
		return m.message
	}
	return max(before, m.message)
}

// head is the latest message of a channel. Of a direct channel it is in the read model besides, which is made anew from here.
type head struct {
	guild, message id.ID
	at             bus.Position
}

// ping is a message that mentions somebody.
type ping struct {
	at                     bus.Position
	message, channel, from id.ID
	targets                []id.ID
}

type deletion struct {
	at      bus.Position
	message id.ID
}

// setting is how a user wants to hear of a guild: the JSON of a wire.GuildSettings.
type setting struct {
	raw []byte
	at  bus.Position
}

func newFacts() facts {
	return facts{
		marks: map[id.ID]map[id.ID]mark{}, heads: map[id.ID]head{}, settings: map[id.ID]map[id.ID]setting{}, erased: map[id.ID]bus.Position{},
	}
}

// add works an entry in. What cannot be read changes nothing.
func (f *facts) add(e bus.Entry) error {
	switch e.Type {
	case wire.MessagesRead:
		return f.read(e)
	case wire.MessageSent:
		return f.sent(e)
	case wire.MessageDeleted:
		p, err := payload[wire.MessageDeletedPayload](e)
		if err != nil {
			return err
		}
		for _, m := range p.IDs {
			f.deleted = append(f.deleted, deletion{at: e.Pos, message: m})
		}
		f.count += len(p.IDs)
	case wire.SettingsUpdated:
		if !json.Valid(e.Body) {
			return fmt.Errorf("payload of %s is no JSON", e.Type)
		}
		of := f.settings[e.User]
		if of == nil {
			of = map[id.ID]setting{}
			f.settings[e.User] = of
		}
		if _, had := of[e.Guild]; !had {
			f.count++
		}
		of[e.Guild] = setting{raw: e.Body, at: e.Pos}
	case wire.UserDeleted:
		delete(f.marks, e.User)
		delete(f.settings, e.User)
		f.erased[e.User] = e.Pos
		f.count++
	}
	return nil
}

func payload[T any](e bus.Entry) (*T, error) {
	p := new(T)
	if err := json.Unmarshal(e.Body, p); err != nil {
		return nil, fmt.Errorf("payload of %s: %w", e.Type, err)
	}
	return p, nil
}

func (f *facts) read(e bus.Entry) error {
	p, err := payload[wire.MessageReadPayload](e)
	if err != nil {
		return err
	}
	for _, a := range p.Acks {
		of := f.marks[a.UserID]
		if of == nil {
			of = map[id.ID]mark{}
			f.marks[a.UserID] = of
		}
		was, had := of[a.ChannelID]
		now := mark{message: a.MessageID, isSet: true, at: e.Pos}
		if !a.Manual {
			now.message, now.isSet = max(was.message, a.MessageID), was.isSet
		}
		of[a.ChannelID] = now
		if !had {
			f.count++
		}
	}
	return nil
}

// pingsHead is how the last member of a MessageSentPayload begins. It stands in no text: there the quotes are escaped.
var pingsHead = []byte(`,"pings":`)

func (f *facts) sent(e bus.Entry) error {
	p := ping{at: e.Pos, message: place(e.Pos), channel: e.Channel, from: e.Actor}
	// Nearly all messages mention nobody, and the others are read from where it is said: the whole payload costs many times as much.
	if i := bytes.LastIndex(e.Body, pingsHead); i >= 0 {
		if err := json.NewDecoder(bytes.NewReader(e.Body[i+len(pingsHead):])).Decode(&p.targets); err != nil {
			return fmt.Errorf("pings of %s: %w", e.Type, err)
		}
		f.pings = append(f.pings, p)
		f.count++
	}
	if _, had := f.heads[e.Channel]; !had {
		f.count++
	}
	f.heads[e.Channel] = head{guild: e.Guild, message: p.message, at: e.Pos}
	return nil
}

// place is a position as an id, 0 for one from before there were any.
func place(p bus.Position) id.ID {
	if p.Ms < id.EpochMs {
		return 0
	}
	return bus.MessageID(p)
}

// prune lets go of what is of entries up to a position.
func (f *facts) prune(to bus.Position) {
	for user, of := range f.marks {
		maps.DeleteFunc(of, func(_ id.ID, m mark) bool { return !to.Less(m.at) })
		if len(of) == 0 {
			delete(f.marks, user)
		}
	}
	for user, of := range f.settings {
		maps.DeleteFunc(of, func(_ id.ID, s setting) bool { return !to.Less(s.at) })
		if len(of) == 0 {
			delete(f.settings, user)
		}
	}
	maps.DeleteFunc(f.heads, func(_ id.ID, h head) bool { return !to.Less(h.at) })
	maps.DeleteFunc(f.erased, func(_ id.ID, at bus.Position) bool { return !to.Less(at) })
	// Whoever reads holds the slices without the lock, so what is in them stays.
	f.pings = slices.Clip(f.pings[behind(len(f.pings), func(i int) bool { return to.Less(f.pings[i].at) }):])
	f.deleted = slices.Clip(f.deleted[behind(len(f.deleted), func(i int) bool { return to.Less(f.deleted[i].at) }):])
	f.recount()
}

func (f *facts) recount() {
	f.count = len(f.heads) + len(f.pings) + len(f.deleted) + len(f.erased)
	for _, of := range f.marks {
		f.count += len(of)
	}
	for _, of := range f.settings {
		f.count += len(of)
	}
}

// behind is the first of n for which is holds.
func behind(n int, is func(i int) bool) int {
	for i := range n {
		if is(i) {
			return i
		}
	}
	return n
}
