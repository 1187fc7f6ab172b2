package gateway

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

var (
	identifiesTotal = metrics.NewCounter(`xcord_gateway_identifies_total`)
	resumedTotal    = metrics.NewCounter(`xcord_gateway_resumes_total{result="resumed"}`)
	resumeUnknown   = metrics.NewCounter(`xcord_gateway_resumes_total{result="unknown"}`)
	resumeLost      = metrics.NewCounter(`xcord_gateway_resumes_total{result="lost"}`)
	resumeFuture    = metrics.NewCounter(`xcord_gateway_resumes_total{result="future"}`)
	turnsMissed     = metrics.NewCounter(`xcord_gateway_turns_missed_total`)
	attachRetries   = metrics.NewCounter(`xcord_gateway_attach_retries_total`)
	attachTime      = metrics.NewPrometheusHistogram(`xcord_gateway_attach_seconds`)
)

const (
	// largeDefault is from how many members on a guild is large for a client that does not say so; what clients say is at most largeMax.
	largeDefault, largeMax = 50, 250
	// attachTries bounds how often a session is read again because the user's guilds changed meanwhile.
	attachTries = 8
	// looksMax is how many guilds are read at once for one session.
	looksMax = 8
	// replayMax bounds what one resume may replay (DESIGN.md section 1, rule 3). What it takes to count them, over all that the ring holds,
	// is some milliseconds.
	replayMax = 20_000
)

// turn waits until not too many others begin or are resumed. What is done then has its own time.
func (s *Service) turn(ctx context.Context) (bounded context.Context, done func(), err error) {
	patience := time.NewTimer(3 * s.cfg.StartTimeout)
	defer patience.Stop()
	select {
	case s.turns <- struct{}{}:
	case <-patience.C:
		turnsMissed.Inc()
		return nil, nil, fault.Unavailable(errors.New("too many sessions begin at the same time"), time.Second)
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	bounded, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	return bounded, func() { cancel(); <-s.turns }, nil
}

// Identify begins a new session.
func (s *Service) Identify(ctx context.Context, sub *session.Session, in session.Identify) error {
	ctx, done, err := s.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	who, err := s.deps.Door.Identify(ctx, in.Token)
	if err != nil {
		return err
	}
	if err := s.allowStart(ctx, who.User); err != nil {
		return err
	}
	r := &record{id: newSessionID(), user: who.User, login: who.Session, trail: &session.Trail{}}
	r.said = s.saidOf(presence.Said{Client: in.Properties.Client()}, in.Presence)
	if r.shape, err = shapeOf(who.Bot, in); err != nil {
		return err
	}
	if err := s.announce(ctx, r); err != nil {
		return err
	}
	s.desk.enter(r, sub)
	stands, err := s.deps.Door.Stands(ctx, who)
	if err == nil && !stands { // it ended before it could be found at the desk
		err = fault.Unauthorized()
	}
	if err != nil {
		s.forsake(ctx, r)
		return err
	}
	err = s.attach(ctx, sub, r, func(at arrival) (*session.Opening, error) {
		return &session.Opening{
			Trail: r.trail, View: at.view, Point: hub.Behind(at.pos), From: session.Place{View: blind(r)},
			First: func(ctx context.Context, emit session.Emit) error {
				r.told = true
				ready := s.ready(r, in, at)
				var err error
				if ready.PrivateChannels, err = s.privates(ctx, r); err != nil {
					return err
				}
				if !r.shape.bot {
					s.addOwn(ctx, &ready, at)
					ready.Sessions = s.ownSessions(ctx, r)
				}
				return emit("READY", encode(ready))
			},
			Body: s.painter(r).steps(nil, at.guilds),
		}, nil
	})
	if err != nil {
		s.forsake(ctx, r)
		return err
	}
	identifiesTotal.Inc()
	s.show(ctx, r)
	return nil
}

// sessionIDLen is the length of a session's id: random bytes in hex.
const sessionIDLen = 32

func newSessionID() string {
	var b [sessionIDLen / 2]byte
	_, _ = cryptorand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:])
}

func shapeOf(bot bool, in session.Identify) (shape, error) {
	out := shape{bot: bot, intents: wire.IntentsAll, shard: in.Shard, large: largeDefault}
	switch {
	case in.Intents != nil:
		out.intents = *in.Intents
	case bot:
		return out, &session.CloseError{Code: wire.CloseBadIntents, Reason: "a bot has to say its intents"}
	}
	if in.LargeThreshold != nil {
		out.large = *in.LargeThreshold
	}
	return out, nil
}

// ready is what a session begins with. The guilds follow as what it is told when it comes to see them.
func (s *Service) ready(r *record, in session.Identify, at arrival) wire.Ready {
	ready := wire.Ready{
		V: in.Version, User: selfUser(at.user), SessionID: r.id, SessionType: "normal", ResumeGatewayURL: in.Origin, Shard: r.shape.shard,
		Application: wire.ReadyApplication{ID: r.user},
	}
	if r.shape.bot {
		ready.Application.Flags = wire.ApplicationFlags
	}
	if s.public != "" {
		ready.ResumeGatewayURL = s.public
	}
	for _, guild := range at.order {
		ready.Guilds = append(ready.Guilds, wire.UnavailableGuild{ID: guild, Unavailable: true})
	}
	return ready
}

// blind is the view of a session that has not been told of anything.
func blind(r *record) *hub.View {
	return &hub.View{User: r.user, Bot: r.shape.bot, Intents: r.shape.intents, NoDirects: !r.shape.shard.Direct()}
}

func (s *Service) painter(r *record) painter {
	return painter{people: s.people, lasts: s.lasts, large: r.shape.large, presences: r.shape.intents.Has(wire.IntentGuildPresences)}
}

// Resume goes on with a session where its client left off.
func (s *Service) Resume(ctx context.Context, sub *session.Session, in wire.Resume) error {
	ctx, done, err := s.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	who, err := s.deps.Door.Identify(ctx, in.Token)
	if err != nil {
		return err
	}
	r := s.desk.claim(in.SessionID, who.User, who.Session, sub)
	if r == nil {
		if err = s.adopt(ctx, in.SessionID, who.User, in.Seq); err == nil {
			r = s.desk.claim(in.SessionID, who.User, who.Session, sub)
		}
	}
	stands := true
	if r != nil {
		stands, err = s.deps.Door.Stands(ctx, who)
	}
	switch {
	case err == nil && !stands:
		s.forsake(ctx, r)
		return fault.Unauthorized()
	case err == nil && r == nil, errors.Is(err, session.ErrInvalid):
		resumeUnknown.Inc()
		return session.ErrInvalid
	case err != nil:
		return err
	}
	place, err := s.locate(ctx, r, in.Seq)
	if err != nil {
		return s.misplaced(ctx, r, err)
	}
	r.told = false
	if err := s.secure(ctx, r, place); err != nil {
		return err
	}
	err = s.attach(ctx, sub, r, func(at arrival) (*session.Opening, error) {
		records, ok := s.core.ring.Since(place.Point) // attach holds the lock
		if !ok {
			return nil, session.ErrLost
		}
		paint := s.painter(r)
		return &session.Opening{
			Trail: r.trail, View: at.view, Point: hub.Behind(at.pos), From: place, Records: records,
			Body: paint.steps(nil, at.guilds),
			Last: s.people.presencesAfter(r, at.all(), paint.presences),
		}, nil
	})
	if errors.Is(err, session.ErrLost) {
		return s.lost(ctx, r)
	}
	if err != nil {
		return err
	}
	resumedTotal.Inc()
	s.show(ctx, r)
	return nil
}

// locate finds where the client stands, and refuses when there would be too much to replay.
func (s *Service) locate(ctx context.Context, r *record, seq int64) (session.Place, error) {
	from, ok := r.trail.Nearest(seq)
	if !ok {
		return from.Place, session.ErrLost
	}
	elsewhere := r.trail.Restored()
	if elsewhere {
		if err := s.reach(ctx, from.Point); err != nil {
			return from.Place, err
		}
	}
	place, err := r.trail.Locate(seq, s.core.since)
	if err != nil {
		return place, err
	}
	if elsewhere && from.Point.Less(place.Point) && !s.core.steady(from, place.Point.Pos) {
		return place, session.ErrLost
	}
	records, ok := s.core.since(place.Point)
	if !ok {
		return place, session.ErrLost
	}
	n := 0
	hub.After(records, place.Point, place.View, func(*hub.Event) bool {
		n++
		return n <= replayMax
	})
	if n > replayMax {
		return place, session.ErrLost
	}
	return place, nil
}

// forsake gives up a session that could not begin, or go on: that one may still show from before.
func (s *Service) forsake(ctx context.Context, r *record) {
	s.desk.drop(r)
	s.saver.put(&errand{record: r, end: true})
	s.show(ctx, r)
}

// misplaced answers a client of which it cannot be said where it stands. That may be for want of what another gateway knows, which has
// taken the session without a word: then the connection is closed, and the client comes again for what is there.
func (s *Service) misplaced(ctx context.Context, r *record, err error) error {
	if !errors.Is(err, session.ErrFuture) && !errors.Is(err, session.ErrLost) {
		return err
	}
	owner, _, ok, failed := s.deps.Resume.Find(ctx, r.id)
	switch {
	case failed != nil:
		return failed
	case ok && owner != s.deps.Resume.Gateway():
		s.taken(r)
		return &session.CloseError{Code: wire.CloseUnknown, Reason: "resumed elsewhere"}
	case errors.Is(err, session.ErrFuture):
		resumeFuture.Inc()
		return &session.CloseError{Code: wire.CloseBadSeq, Reason: "invalid seq"}
	}
	return s.lost(ctx, r)
}

// lost gives a session up.
func (s *Service) lost(ctx context.Context, r *record) error {
	resumeLost.Inc()
	s.desk.drop(r)
	s.end(ctx, r)
	s.show(ctx, r)
	return session.ErrInvalid
}

// arrival is what a session is attached with: the world at one position.
type arrival struct {
	pos    bus.Position
	user   wire.User
	view   *hub.View
	order  []id.ID // of guilds
	guilds map[id.ID]sight
}

func (a arrival) all() []sight {
	out := make([]sight, 0, len(a.order))
	for _, guild := range a.order {
		out = append(out, a.guilds[guild])
	}
	return out
}

// errAgain means that what was read does not fit the position any more.
var errAgain = errors.New("the user's guilds have changed meanwhile")

// attach reads what the user sees, brings it forward to the core's position, and begins the session there. open makes the opening,
// under the lock. It answers session.ErrInvalid when the session is not the connection's any more.
func (s *Service) attach(ctx context.Context, sub *session.Session, r *record, open func(arrival) (*session.Opening, error)) error {
	defer attachTime.UpdateDuration(time.Now())
	stays := func(at arrival) (*session.Opening, error) {
		if s.desk.of(sub) != r {
			return nil, session.ErrInvalid
		}
		return open(at)
	}
	for range attachTries {
		look, err := s.look(ctx, r)
		if err != nil {
			return err
		}
		if err := s.deps.Tail.WaitFor(ctx, look.pos); err != nil {
			return err
		}
		err = s.core.attach(sub, r, look, s.painter(r), stays)
		if !errors.Is(err, errAgain) {
			return err
		}
		attachRetries.Inc()
	}
	return fault.Unavailable(errAgain, time.Second)
}

// look is what was read of a user, at several positions of which pos is the latest. A guild that is copied here is not read again: of it there is
// the user's record alone.
type look struct {
	pos    bus.Position
	user   roster.UserState
	guilds map[id.ID]roster.GuildState
	copied map[id.ID]bool
}

func (s *Service) look(ctx context.Context, r *record) (look, error) {
	user, err := s.deps.Roster.LookUser(ctx, r.user)
	if err != nil {
		return look{}, err
	}
	if !user.Known {
		return look{}, fault.Unauthorized()
	}
	user.Guilds = slices.DeleteFunc(user.Guilds, func(g id.ID) bool { return !r.shape.shard.Has(g) })
	copied, unread := s.core.copies(user.Guilds)
	states := make([]roster.GuildState, len(unread))
	var records map[id.ID]*wire.MemberRecord
	var at bus.Position
	var reads errgroup.Group
	reads.SetLimit(looksMax)
	if len(copied) > 0 {
		reads.Go(func() (err error) {
			records, at, err = s.deps.Roster.LookMember(ctx, r.user, copied)
			return err
		})
	}
	for i, guild := range unread {
		reads.Go(func() (err error) {
			states[i], err = s.deps.Roster.LookGuild(ctx, guild, r.user)
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return look{}, err
	}
	out := look{pos: user.Pos, user: user, guilds: map[id.ID]roster.GuildState{}, copied: map[id.ID]bool{}}
	for i, guild := range unread {
		out.guilds[guild] = states[i]
	}
	for _, guild := range copied {
		out.copied[guild] = true
		out.guilds[guild] = roster.GuildState{Pos: at, Members: map[id.ID]*wire.MemberRecord{r.user: records[guild]}}
	}
	for _, state := range out.guilds {
		if out.pos.Less(state.Pos) {
			out.pos = state.Pos
		}
	}
	return out, nil
}

// copies parts guilds into those that are copied and the others.
func (c *core) copies(guilds []id.ID) (copied, others []id.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range guilds {
		if c.guilds[g] != nil {
			copied = append(copied, g)
		} else {
			others = append(others, g)
		}
	}
	return copied, others
}

// attach begins a session at the core's position, which is not before that of the look.
func (c *core) attach(sub *session.Session, r *record, l look, paint painter, open func(arrival) (*session.Opening, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pos.Less(l.pos) {
		c.pos = l.pos // there was no entry in between
	}
	if err := c.unmoved(l.user, r.user); err != nil {
		return err
	}
	at := arrival{
		pos: c.pos, user: l.user.User, guilds: map[id.ID]sight{},
		view: blind(r),
	}
	at.view.Guilds = map[id.ID]*hub.Class{}
	for guild, state := range l.guilds {
		cp, err := c.settle(guild, state, l.copied[guild], r.user)
		if err != nil {
			return err
		}
		if cp == nil {
			continue
		}
		class := cp.classOf(r.user)
		at.view.Guilds[guild] = class
		at.guilds[guild] = sight{guild: cp.guild, member: cp.members[r.user], class: class}
	}
	at.order = slices.Sorted(maps.Keys(at.guilds))
	opening, err := open(at)
	if err != nil {
		return err
	}
	if !sub.Begin(opening) {
		return context.Canceled
	}
	c.hub.Attach(sub, at.view)
	c.seats[sub] = seat{record: r, paint: paint}
	return nil
}

// unmoved answers errAgain when the user came into a guild or went out of one since they were read.
func (c *core) unmoved(read roster.UserState, user id.ID) error {
	records, ok := c.cold.Since(hub.Behind(read.Pos))
	if !ok {
		return errAgain
	}
	for _, rec := range records {
		e := rec.Value
		if !read.Pos.Less(e.Pos) {
			continue
		}
		switch e.Type {
		case wire.MemberJoined, wire.MemberRemoved:
			if e.User == user {
				return errAgain
			}
		case wire.UserUpdated, wire.UserDeleted:
			if e.User == user {
				return errAgain
			}
		case wire.ServerCreated:
			if founded(e, user) {
				return errAgain
			}
		}
	}
	return nil
}

// founded says whether a new guild begins with a user in it.
func founded(e bus.Entry, user id.ID) bool {
	p, err := payload[wire.ServerCreatedPayload](e)
	if err != nil {
		return true // read it again from where it was understood
	}
	return slices.ContainsFunc(p.Members, func(m wire.MemberRecord) bool { return m.UserID == user })
}

// settle returns the copy of a guild with the record of a user, both at the core's position: the one that is there, or what was
// read, brought forward. nil when the user is not a member. Of a guild that was copied when it was looked at, the record alone was read.
func (c *core) settle(guild id.ID, state roster.GuildState, known bool, user id.ID) (*copied, error) {
	cp := c.guilds[guild]
	if cp != nil && cp.members[user] != nil {
		return cp, nil
	}
	if cp == nil && known {
		return nil, errAgain // it has gone since
	}
	g, m := state.Guild, state.Members[user]
	records, ok := c.cold.Since(hub.Behind(state.Pos))
	if !ok {
		return nil, errAgain
	}
	for _, rec := range records {
		e := rec.Value
		if e.Guild != guild || !state.Pos.Less(e.Pos) {
			continue
		}
		var err error
		if !known {
			g, err = roster.Fold(g, e)
		}
		if err == nil {
			m, err = roster.FoldMember(m, user, e)
		}
		if err != nil {
			slog.Warn("guild has to be read again", "guild", guild.String(), "entry", e.Pos.String(), "err", err)
			return nil, errAgain
		}
	}
	if m == nil || cp == nil && g == nil {
		return nil, nil
	}
	if cp == nil {
		cp = newCopy(g)
		c.guilds[guild] = cp
	} else {
		is := *m
		is.Roles = slices.Clone(m.Roles)
		cp.guild.WithoutDeletedRoles(&is)
		m = &is
	}
	cp.members[user] = m
	return cp, nil
}

// sees is the guild as a session sees it.
func (c *core) sees(sub *session.Session, guild id.ID) (*roster.Guild, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, attached := c.seats[sub]
	if !attached || c.hub.View(st.record.user, sub).Guilds[guild] == nil {
		return nil, false
	}
	return c.guilds[guild].guild, true
}

// detach returns the session that was attached, nil when there was none.
func (c *core) detach(sub *session.Session) *record {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, attached := c.seats[sub]
	if attached {
		delete(c.seats, sub)
		c.hub.Detach(st.record.user, sub)
	}
	return st.record
}

// Detach ends a connection's part in a session.
func (s *Service) Detach(sub *session.Session, resumable bool) {
	if r := s.core.detach(sub); r != nil {
		s.leave(r)
	}
	r := s.desk.leave(sub, resumable, s.cfg.Now())
	if r == nil || resumable {
		return // resumable ones show as online for a while, see sweep
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.StartTimeout) // the connection's own has ended
	defer cancel()
	s.end(ctx, r)
	s.show(ctx, r)
}

// leave writes down where a session stands to which nothing more is sent. Whoever claims it waits for the connection to be done, and
// writes after it; one that has been given away or has ended is refused by Redis or by the saver.
func (s *Service) leave(r *record) {
	s.tellPresences(r)
	r.trail.Stand()
	if c := r.trail.Checkpoint(); c != nil {
		e := s.keep(r, c)
		e.whole = true
		s.saver.put(e)
	} else {
		s.saver.forgive(r)
	}
}
