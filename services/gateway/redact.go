package gateway

import (
	"slices"
	"sync"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// redacted makes the bodies of a message's event for those who may not read content; whole is the event with everything, of which the message
// begins behind head. Each message is judged for itself: its author and whom it mentions may read it, and so may those of the message
// that it answers read that one. For all others it is made once, when the first of them gets it.
func redacted(whole []byte, head int, author id.ID, mentions []id.ID) func(user id.ID) []byte {
	message := func() []byte { return append([]byte{'{'}, whole[head:]...) }
	without := func(hideMessage, hideReplied bool) []byte {
		rest, err := wire.Redact(message(), hideMessage, hideReplied)
		if err != nil {
			// It is an object, or it could not have been spliced in; what is odd in it stays in it.
			rest = []byte(`{"content":"","embeds":[],"attachments":[],"components":[],"mentions":[],"mention_roles":[]}`)
		}
		return append(whole[:head:head], rest[1:]...)
	}
	bare := sync.OnceValue(func() []byte { return without(true, true) })
	readers := sync.OnceValue(func() []id.ID { return wire.RepliedReaders(message()) })
	return func(user id.ID) []byte {
		reads, readsReplied := user == author || slices.Contains(mentions, user), slices.Contains(readers(), user)
		switch {
		case !reads && !readsReplied:
			return bare()
		case reads && (readsReplied || len(readers()) == 0):
			return whole
		}
		return without(!reads, !readsReplied)
	}
}
