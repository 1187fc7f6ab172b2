package gateway

import (
	"sync"
	"time"

	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

// record is a session as it outlives its connection.
type record struct {
	id    string
	user  id.ID
	shape shape
	trail *session.Trail // the owner's writer's own
	// presence is up to when the client has been told presences, and told whether the present connection has been told what it missed.
	// They belong to who has the trail.
	presence int64
	told     bool

	// listed is when the client was told everybody of a large guild. It belongs to who answers its requests, one at a time.
	listed map[id.ID]time.Time

	// The saver guards what follows.
	kept  *hub.View // the view that Redis has
	ended bool      // nothing is kept of it any more

	// The desk guards what follows.
	login  string           // the login session whose token opened it or came back for it last; of a bot its token, hashed
	said   presence.Said    // what the client says of itself
	owner  *session.Session // nil: the connection is gone
	gone   time.Time        // since when
	hidden bool             // gone for so long that the user does not show as online for it
}

// shape is what a session asked for when it identified.
type shape struct {
	bot     bool
	intents wire.Intents
	shard   *wire.Shard // for which guilds; nil for all
	large   int
}

// desk keeps the sessions that are open and those that may come back. Safe for concurrent use.
type desk struct {
	window time.Duration
	max    int

	mu      sync.Mutex // guards everything below
	records map[string]*record
	owned   map[*session.Session]*record
	cuts    int // how often all sessions were forgotten
	// left are the sessions whose connection has gone, in that order; those that came back or ended meanwhile too.
	left []departure
}

type departure struct {
	record *record
	gone   time.Time
}

func newDesk(window time.Duration, limit int) *desk {
	return &desk{window: window, max: limit, records: map[string]*record{}, owned: map[*session.Session]*record{}}
}

// waiting is how many sessions could be resumed and are not open.
func (d *desk) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.records) - len(d.owned)
}

// enter adds a session that is open.
func (d *desk) enter(r *record, owner *session.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.owner = owner
	d.records[r.id] = r
	d.owned[owner] = r
}

// claim makes s, which a login has opened, the owner of a user's session and waits until a connection that had it is gone. It
// returns nil when the user has no such session.
func (d *desk) claim(name string, user id.ID, login string, s *session.Session) *record {
	d.mu.Lock()
	r := d.records[name]
	if r == nil || r.user != user {
		d.mu.Unlock()
		return nil
	}
	before := r.owner
	r.owner, r.login, r.hidden = s, login, false
	delete(d.owned, before)
	d.owned[s] = r
	d.mu.Unlock()
	if before == nil {
		return r
	}
	before.Close(wire.CloseUnknown, "resumed elsewhere")
	// Without an end of its own, also when s closes meanwhile: whoever claims the session next waits for s alone. A connection that
	// is closed goes within twice its CloseTimeout.
	<-before.Done()
	return r
}

// forgotten is how often all sessions have been forgotten, for adopt.
func (d *desk) forgotten() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cuts
}

// adopt adds a session that another gateway had, as one whose connection has just gone. It answers false when all sessions have been
// forgotten since cuts was asked for: then it is one of them.
func (d *desk) adopt(r *record, cuts int, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cuts != cuts {
		return false
	}
	r.gone = now
	d.records[r.id] = r
	d.left = append(d.left, departure{record: r, gone: now})
	return true
}

// has says whether a session is here.
func (d *desk) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.records[name] != nil
}

// of is the session that a connection has; nil when it has none (any more).
func (d *desk) of(s *session.Session) *record {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.owned[s]; r != nil && d.records[r.id] == r {
		return r
	}
	return nil
}

// clear forgets all sessions. Those that were open show for a while, until their clients have begun anew.
func (d *desk) clear(now time.Time) (ended []*record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.records {
		ended = append(ended, r)
		if r.owner != nil {
			d.let(r, now)
		}
	}
	clear(d.records)
	clear(d.owned)
	d.cuts++
	return ended
}

// latest is what the client says of itself, and the login that it says it with.
func (d *desk) latest(r *record) (said presence.Said, login string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.said, r.login
}

// release gives a session away. It returns the session and the connection that had it, nil when there was none. For a while it
// still shows, until it does elsewhere.
func (d *desk) release(name string, now time.Time) (*record, *session.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.records[name]
	if r == nil {
		return nil, nil
	}
	return r, d.let(r, now)
}

// yield is release for a session that was taken.
func (d *desk) yield(r *record, now time.Time) *session.Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records[r.id] != r {
		return nil
	}
	return d.let(r, now)
}

// let gives a session away. mu is held.
func (d *desk) let(r *record, now time.Time) *session.Session {
	sub := r.owner
	delete(d.records, r.id)
	delete(d.owned, sub)
	r.owner, r.gone = nil, now
	d.left = append(d.left, departure{record: r, gone: now})
	return sub
}

// leave notes that a connection has gone. It returns the session that it had, nil when it had none (any more), and
// forgets it unless it can be resumed.
func (d *desk) leave(s *session.Session, resumable bool, now time.Time) *record {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.owned[s]
	if r == nil {
		return nil
	}
	delete(d.owned, s)
	r.owner = nil
	if !resumable {
		delete(d.records, r.id)
		return r
	}
	r.gone = now
	d.left = append(d.left, departure{record: r, gone: now})
	return r
}

// say notes what the client of an open session says of itself.
func (d *desk) say(r *record, said presence.Said) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.said = said
}

// shown is how a session shows at present; the zero value when it does not.
func (d *desk) shown(r *record) presence.Said {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records[r.id] != r || r.hidden {
		return presence.Said{}
	}
	return r.said
}

// drop forgets a session that cannot be resumed.
func (d *desk) drop(r *record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records[r.id] == r {
		delete(d.records, r.id)
	}
	delete(d.owned, r.owner)
}

// expel forgets the sessions of a user's whose login has ended, open or away. The caller closes those that are open, which cannot be
// resumed from the moment that their clients see it.
func (d *desk) expel(user id.ID, over func(login string) bool) (ended []*record, open []*session.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, r := range d.records {
		if r.user == user && over(r.login) {
			delete(d.records, name)
			ended = append(ended, r)
			if r.owner != nil {
				open = append(open, r.owner)
			}
		}
	}
	return ended, open
}

// sweep forgets sessions that nobody came back for, and returns those that have just been away since longer than quiet.
func (d *desk) sweep(now, quiet time.Time) (silent []*record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.left) > 0 && (now.Sub(d.left[0].gone) > d.window || len(d.left) > d.max) {
		if r := d.left[0].record; r.away(d.left[0]) {
			if d.records[r.id] == r {
				delete(d.records, r.id)
			}
			if !r.hidden && d.records[r.id] == nil {
				r.hidden = true
				silent = append(silent, r)
			}
		}
		d.left = d.left[1:]
	}
	for _, l := range d.left {
		if l.gone.After(quiet) {
			break
		}
		if r := l.record; r.away(l) && !r.hidden && (d.records[r.id] == nil || d.records[r.id] == r) {
			r.hidden = true
			silent = append(silent, r)
		}
	}
	return silent
}

// away says whether a session is away since this departure.
func (r *record) away(l departure) bool { return r.owner == nil && r.gone.Equal(l.gone) }
