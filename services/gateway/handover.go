package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/presence"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/resume"
	"github.com/xcord/xcord/engine/session"
	"github.com/xcord/xcord/engine/wire"
)

var (
	adoptedTotal  = metrics.NewCounter(`xcord_gateway_adopted_sessions_total`)
	releasedTotal = metrics.NewCounter(`xcord_gateway_released_sessions_total`)
)

// releaseWait is how long a gateway that lives may take to let a session go. It closes a connection within two seconds, in which the
// peer may be gone already. Beyond it the session is claimed all the same, from the checkpoint that is there.
const releaseWait = 3 * time.Second

// leaveTimeout is how long a stop waits for one checkpoint. Without it, the one that is there is as right.
const leaveTimeout = 2 * time.Second

// kept is a session as it stands in Redis, but for the view at the first mark.
type kept struct {
	Epoch   string          `json:"epoch"`
	User    id.ID           `json:"user"`
	Login   string          `json:"login,omitempty"`
	Bot     bool            `json:"bot,omitempty"`
	Intents wire.Intents    `json:"intents"`
	Shard   *[2]int         `json:"shard,omitempty"`
	Large   int             `json:"large"`
	Status  presence.Status `json:"status"`
	// Gateway is who wrote this: its note says up to where the view of the last mark is known.
	Gateway string `json:"gateway"`
	// Presence is up to when presences had been told when this was written.
	Presence int64 `json:"presence"`
	keptMark
	Behind []keptMark `json:"behind,omitempty"`
}

// keptMark is a session.Mark. View is what has changed since the mark before.
type keptMark struct {
	Seq   int64  `json:"seq"`
	Entry string `json:"entry"`
	Index int    `json:"index"`
	AsOf  string `json:"as_of"`
	Steps bool   `json:"steps,omitempty"`
	Torn  bool   `json:"torn,omitempty"`
	View  []byte `json:"view,omitempty"`
}

func keepMark(m session.Mark) keptMark {
	return keptMark{Seq: m.Seq, Entry: m.Point.Pos.String(), Index: m.Point.Index, AsOf: m.AsOf.String(), Steps: m.Steps, Torn: m.Torn}
}

func (k keptMark) mark(view *hub.View) (m session.Mark, err error) {
	m = session.Mark{Place: session.Place{Seq: k.Seq, Point: hub.Point{Index: k.Index}, View: view}, Steps: k.Steps, Torn: k.Torn}
	if m.Point.Pos, err = bus.ParsePosition(k.Entry); err != nil {
		return m, err
	}
	m.AsOf, err = bus.ParsePosition(k.AsOf)
	return m, err
}

// keep makes what is to be written of a session.
func (s *Service) keep(r *record, c session.Checkpoint) *errand {
	status, login := s.desk.said(r)
	k := kept{
		Epoch: s.deps.Tail.Epoch(), User: r.user, Login: login, Bot: r.shape.bot, Intents: r.shape.intents, Shard: r.shape.shard,
		Large: r.shape.large, Status: status, Gateway: s.deps.Resume.Gateway(), Presence: r.presence, keptMark: keepMark(c[0]),
	}
	for i, m := range c[1:] {
		behind := keepMark(m)
		if m.View != c[i].View {
			behind.View = m.View.AppendChanges(nil, c[i].View)
		}
		k.Behind = append(k.Behind, behind)
	}
	last := c[len(c)-1]
	return &errand{record: r, view: c[0].View, state: encode(k), asOf: last.AsOf, whole: last.Torn}
}

// parse makes the session of a checkpoint.
func parse(name string, c resume.Checkpoint, known bus.Position) (*record, error) {
	var k kept
	if err := json.Unmarshal(c.State, &k); err != nil {
		return nil, fmt.Errorf("state of a session: %w", err)
	}
	r := &record{
		id: name, user: k.User, login: k.Login, status: k.Status, presence: k.Presence,
		shape: shape{bot: k.Bot, intents: k.Intents, shard: k.Shard, large: k.Large},
	}
	view, err := blind(r).Changed(c.View)
	if err != nil {
		return nil, err
	}
	r.kept = view
	var marks session.Checkpoint
	for _, km := range append([]keptMark{k.keptMark}, k.Behind...) {
		if len(km.View) > 0 {
			if view, err = view.Changed(km.View); err != nil {
				return nil, err
			}
		}
		m, err := km.mark(view)
		if err != nil {
			return nil, err
		}
		marks = append(marks, m)
	}
	if last := &marks[len(marks)-1]; last.AsOf.Less(known) {
		last.AsOf = known
	}
	r.trail = session.Restore(marks)
	return r, nil
}

// Position is up to which entry of the log everything has been offered.
func (s *Service) Position() bus.Position { return s.core.position() }

// Checkpoint takes down from where an open session could go on elsewhere.
func (s *Service) Checkpoint(sub *session.Session, c session.Checkpoint) {
	if r := s.desk.of(sub); r != nil {
		s.tellPresences(r)
		s.saver.put(s.keep(r, c))
	}
}

// Leave writes down where a session stands, of which the client is then told to reconnect: wherever it comes, it is expected.
func (s *Service) Leave(ctx context.Context, sub *session.Session, c session.Checkpoint) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	r := s.desk.of(sub)
	if r == nil || c == nil {
		return
	}
	if err := s.saver.sync(ctx, s.keep(r, c)); err != nil && ctx.Err() == nil {
		slog.Warn("a session is left with an older checkpoint", "session", r.id, "err", err)
	}
}

// adopt brings a session that is not here into the desk, as if its connection had just been lost: from the gateway that has it, or
// from what one that is dead has left behind. It answers session.ErrInvalid when there is nothing to go on with.
func (s *Service) adopt(ctx context.Context, name string, user id.ID, seq int64) error {
	// Whoever comes for the same session meanwhile waits for this one, whose connection may end before.
	_, err, _ := s.adopting.Do(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StartTimeout)
		defer cancel()
		return nil, s.fetch(ctx, name, user, seq)
	})
	return err
}

func (s *Service) fetch(ctx context.Context, name string, user id.ID, seq int64) error {
	if s.desk.has(name) {
		return nil
	}
	if len(name) != sessionIDLen || s.saver.ending(name) {
		return session.ErrInvalid
	}
	cuts := s.desk.forgotten()
	l, err := s.findLeft(ctx, name)
	if err != nil {
		return err
	}
	if l.state.User != user || l.state.Epoch != l.epoch || l.epoch == "" {
		return session.ErrInvalid
	}
	// Its gateway may have been dead when the login ended, and could not end the session.
	if login := l.state.Login; login != "" {
		stands, err := s.deps.Door.Stands(ctx, rest.Identity{User: user, Bot: l.state.Bot, Session: login})
		if err != nil {
			return err
		}
		if !stands {
			return session.ErrInvalid
		}
	}
	// The note is of whom the session belongs to, and from before the claim: of a session that it has lost, a gateway's later notes
	// know nothing.
	var known bus.Position
	if l.owner == l.state.Gateway {
		if known, err = s.knownTo(ctx, l.owner); err != nil {
			return err
		}
	}
	store := s.deps.Resume
	if l.owner != store.Gateway() {
		s.demand(ctx, l.owner, name, seq)
	}
	c, ok, err := store.Claim(ctx, name, l.owner)
	if err != nil {
		return err
	}
	if !ok {
		return session.ErrInvalid
	}
	r, err := parse(name, c, known)
	if err != nil {
		slog.Warn("a session that was left behind cannot be read", "session", name, "err", err)
		return session.ErrInvalid
	}
	// What the client has, it has got before it came here.
	if err := s.deps.Tail.WaitFor(ctx, l.last); err != nil {
		return err
	}
	if !s.desk.adopt(r, cuts, s.cfg.Now()) {
		return session.ErrInvalid
	}
	adoptedTotal.Inc()
	return nil
}

// left is a session that is not here, and the log as it is when its client comes.
type left struct {
	owner string
	state kept
	epoch string
	last  bus.Position
}

// findLeft reads it all at the same time. It answers session.ErrInvalid when there is nothing.
func (s *Service) findLeft(ctx context.Context, name string) (l left, err error) {
	var state []byte
	ok := false
	reads, ctx := errgroup.WithContext(ctx)
	reads.Go(func() (err error) { l.owner, state, ok, err = s.deps.Resume.Find(ctx, name); return err })
	reads.Go(func() (err error) { l.epoch, err = s.deps.Log.Epoch(ctx); return err })
	reads.Go(func() (err error) { l.last, err = s.deps.Log.Last(ctx); return err })
	if err := reads.Wait(); err != nil {
		return l, err
	}
	if !ok || json.Unmarshal(state, &l.state) != nil {
		return l, session.ErrInvalid
	}
	return l, nil
}

// knownTo is up to where all changes of views are in the checkpoints that a gateway has written. Whoever asks at the same time shares
// the answer.
func (s *Service) knownTo(ctx context.Context, gateway string) (bus.Position, error) {
	note, err, _ := s.adopting.Do("note "+gateway, func() (any, error) { return s.deps.Resume.Noted(ctx, gateway) })
	if err != nil || note == "" {
		return bus.Position{}, err
	}
	return bus.ParsePosition(note.(string))
}

// handover is what gateways say to each other. Without From it is the answer.
type handover struct {
	Session string `json:"session"`
	From    string `json:"from,omitempty"` // the gateway that wants the session
	Seq     int64  `json:"seq,omitempty"`  // what its client says to have
}

// gatewayTopic is where a gateway is told of handovers.
func gatewayTopic(gateway string) string { return "gateway:" + gateway }

// listening returns when this gateway is told of handovers.
func (s *Service) listening(ctx context.Context) error {
	topic := gatewayTopic(s.deps.Resume.Gateway())
	s.loops.Go("gateway letters", func(ctx context.Context) error { return s.deps.Log.Listen(ctx, topic, s.letters.receive) })
	tick := time.NewTicker(listenPoll)
	defer tick.Stop()
	for {
		listeners, err := s.deps.Log.Tell(ctx, topic, encode(handover{}))
		if err != nil || listeners > 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listenPoll is how often a start looks whether it is being listened: subscribing takes one round trip on a new connection.
const listenPoll = 5 * time.Millisecond

// letters are those of this gateway: demands that wait for their turn, and who waits for an answer.
type letters struct {
	demands chan handover

	mu    sync.Mutex // guards what follows
	waits map[string]chan struct{}
	// silent are gateways that are dead or stuck, and since when: each of their sessions comes, and need not find that out anew.
	silent map[string]time.Time
}

// silentFor is how long a gateway that did not answer is not asked again.
const silentFor = 10 * time.Second

// demandsMax bounds the demands that wait. What is more is not answered, and claimed after releaseWait.
const demandsMax = 4096

func newLetters() *letters {
	return &letters{demands: make(chan handover, demandsMax), waits: map[string]chan struct{}{}, silent: map[string]time.Time{}}
}

// hush notes that a gateway does not answer.
func (l *letters) hush(gateway string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.silent, func(_ string, since time.Time) bool { return time.Since(since) > silentFor })
	l.silent[gateway] = time.Now()
}

// hushed says whether a gateway has just not answered.
func (l *letters) hushed(gateway string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, ok := l.silent[gateway]
	return ok && time.Since(since) < silentFor
}

// receive is called by the goroutine that reads the connection and does not block.
func (l *letters) receive(body []byte) {
	var h handover
	if json.Unmarshal(body, &h) != nil {
		return
	}
	if h.From != "" {
		select {
		case l.demands <- h:
		default:
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.waits[h.Session]; c != nil {
		close(c)
		delete(l.waits, h.Session)
	}
}

// demand tells a gateway to let a session go, and waits until it has or is seen to be dead. When neither happens in time, the claim
// takes the session from it.
func (s *Service) demand(ctx context.Context, owner, name string, seq int64) {
	if s.letters.hushed(owner) {
		return
	}
	answered := make(chan struct{})
	s.letters.mu.Lock()
	s.letters.waits[name] = answered // there is one at a time, see adopt
	s.letters.mu.Unlock()
	defer func() {
		s.letters.mu.Lock()
		delete(s.letters.waits, name)
		s.letters.mu.Unlock()
	}()
	demand := handover{Session: name, From: s.deps.Resume.Gateway(), Seq: seq}
	listeners, err := s.deps.Log.Tell(ctx, gatewayTopic(owner), encode(demand))
	if err != nil {
		return
	}
	if listeners == 0 {
		s.letters.hush(owner)
		return
	}
	timeout := time.NewTimer(releaseWait)
	defer timeout.Stop()
	select {
	case <-answered:
	case <-timeout.C:
		s.letters.hush(owner)
		slog.Warn("a gateway does not let a session go", "session", name, "gateway", owner)
	case <-ctx.Done():
	}
}

// obey lets sessions go that others demand.
func (s *Service) obey(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case h := <-s.letters.demands:
			// Waiting for a connection to end must not keep others waiting; those are as many as connections here.
			s.loops.Go("gateway release", func(ctx context.Context) error {
				s.release(ctx, h)
				return nil
			})
		}
	}
}

func (s *Service) release(ctx context.Context, h handover) {
	ctx, cancel := context.WithTimeout(ctx, releaseWait)
	defer cancel()
	if r, sub := s.desk.release(h.Session, s.cfg.Now()); r != nil {
		if sub != nil {
			sub.Close(wire.CloseUnknown, "resumed elsewhere")
			<-sub.Done() // within twice its CloseTimeout
		}
		c := r.trail.Checkpoint()
		if place, err := r.trail.Locate(h.Seq, s.core.since); err == nil {
			// Who has the session in memory knows it exactly, and nothing has to be counted.
			c = torn(place)
		}
		if c != nil {
			if err := s.saver.sync(ctx, s.keep(r, c)); err != nil && ctx.Err() == nil {
				slog.Warn("a session is let go without its last checkpoint", "session", h.Session, "err", err)
			}
		}
		releasedTotal.Inc()
	}
	// Without an answer the other one waits in vain, and then goes on.
	_ = s.deps.Log.Signal(ctx, gatewayTopic(h.From), encode(handover{Session: h.Session}))
}

// taken forgets a session that another gateway has by now.
func (s *Service) taken(r *record) {
	if sub := s.desk.yield(r, s.cfg.Now()); sub != nil {
		sub.Close(wire.CloseUnknown, "resumed elsewhere")
	}
}

// secure writes down, before a session goes on from a place, that nobody can count beyond it any more: what it is told now depends
// on what it may see at present. The checkpoint that follows the opening undoes that.
func (s *Service) secure(ctx context.Context, r *record, place session.Place) error {
	err := s.saver.sync(ctx, s.keep(r, torn(place)))
	if errors.Is(err, resume.ErrTaken) {
		return session.ErrInvalid
	}
	return err
}

// announce writes down that a new session is here, so that it can be demanded before there is a checkpoint of it. Nobody can go on
// from this one.
func (s *Service) announce(ctx context.Context, r *record) error {
	return s.saver.sync(ctx, s.keep(r, torn(session.Place{Seq: -1, View: blind(r)})))
}

// torn is a checkpoint for who has exactly what is up to a place.
func torn(place session.Place) session.Checkpoint {
	return session.Checkpoint{{Place: place, Torn: true}}
}

// end deletes what is kept of a session that has ended.
func (s *Service) end(ctx context.Context, r *record) {
	if err := s.saver.sync(ctx, &errand{record: r, end: true}); err != nil && ctx.Err() == nil {
		slog.Warn("the checkpoint of a session that has ended is deleted later", "session", r.id, "err", err)
	}
}
