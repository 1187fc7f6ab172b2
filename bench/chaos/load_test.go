package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/wire"
)

// loadEnv names the file with the loadConfig: the clients are another process of this binary, which no fault touches.
const loadEnv = "XCORD_CHAOS_LOAD"

type account struct {
	ID    id.ID
	Token string
}

type loadConfig struct {
	Nodes    []string // URLs
	Front    string   // leads to any node that lives
	Guild    id.ID
	Channels []id.ID // of it, that all bots always see
	// FlipGuild has one channel, Flip, which is hidden and shown by an overwrite and by kicking, and of the bots only the members and the guests.
	// So has ClubGuild, where everybody but the members needs the Badge to see the Club, and the badge its permission. Ribbon is another role.
	FlipGuild, Flip                id.ID
	ClubGuild, Club, Badge, Ribbon id.ID
	Owner                          account
	Bots                           []account
	History                        string
	Posters                        int
	Watchers                       int
	Pace                           time.Duration // between two requests of a poster, on average
	Seed                           uint64
}

// The bots' parts, by their place among them.
const (
	bots      = 6
	strangers = 3 // the first are not in the flip guild: what they may see never changes
	marshal   = 3 // always sees the flip channel
	badged    = 4 // is given the badge and has it taken, besides
	kicked    = 5 // is thrown out of the flip guild, besides
)

func sees(bot int) bool { return bot >= strangers }

// flips are the channels that are hidden and shown.
func (c loadConfig) flips() []id.ID { return []id.ID{c.Flip, c.Club} }

// guests are those from whom they are hidden.
func (c loadConfig) guests() (ids []id.ID) {
	for _, b := range c.Bots[marshal+1:] {
		ids = append(ids, b.ID)
	}
	return ids
}

// now is the machine's monotonic clock, the same for all processes.
func now() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic("BUG: no monotonic clock: " + errno.Error())
	}
	return ts.Nano()
}

// recorder writes the history. What happens at once in several clients stands one behind the other.
type recorder struct {
	mu  sync.Mutex
	out *bufio.Writer
	err error
}

func (r *recorder) note(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.T = now()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.out.Write(append(line, '\n'))
	}
	r.err = errors.Join(r.err, err)
}

func (r *recorder) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err, r.out.Flush())
}

// load is the clients' process.
type load struct {
	cfg      loadConfig
	rec      recorder
	calls    atomic.Int64
	acks     atomic.Int64
	posting  context.Context // ends when the posters shall begin nothing new
	halt     context.CancelFunc
	halted   atomic.Int64 // when; 0: not yet
	hiding   []chan id.ID
	board    board
	work     sync.WaitGroup
	posters  sync.RWMutex // held by whoever has a request under way; by rest, nobody has
	watchers []*watcher
	actors   []*actor
	marks    *actor
	settled  bool // every watcher has seen the end
	bodies   bodies
}

// runLoad does what it is told, a line at a time, and answers each with a line.
func runLoad(config string) error {
	raw, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	l := &load{}
	if err := json.Unmarshal(raw, &l.cfg); err != nil {
		return err
	}
	file, err := os.Create(l.cfg.History)
	if err != nil {
		return err
	}
	l.rec.out = bufio.NewWriterSize(file, 1<<16)
	if err := l.start(); err != nil {
		return err
	}
	fmt.Println("ok")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var err error
		switch in.Text() {
		case "acks":
			fmt.Println(l.acks.Load())
			continue
		case "cut":
			for _, w := range l.watchers {
				w.gateway.Cut()
			}
		case "rest":
			l.rest()
			l.leave()
		case "go on":
			l.posters.Unlock()
		case "settle":
			err = errors.Join(l.settle(l.cfg.Channels[0]), l.rec.flush())
			l.rest() // so that no request reaches from one round into the next
			l.posters.Unlock()
		case "halt":
			l.end()
		case "finish":
			err = errors.Join(l.finish(), l.rec.flush(), file.Close())
		}
		if err != nil {
			_ = l.rec.flush() // for whoever looks for the reason
			return err
		}
		fmt.Println("ok")
	}
	return nil
}

func (l *load) start() error {
	l.posting, l.halt = context.WithCancel(context.Background())
	for i := range l.cfg.Watchers {
		w, err := l.watch(i)
		if err != nil {
			return err
		}
		l.watchers = append(l.watchers, w)
	}
	l.marks = l.actor("marker", marshal, l.cfg.Bots[marshal], 0)
	for i := range l.cfg.Posters {
		a := l.actor(fmt.Sprintf("p%d", i), i%bots, l.cfg.Bots[i%bots], uint64(i+1))
		l.work.Go(a.post)
	}
	for i := range 2 * (bots - marshal - 1) {
		l.hiding = append(l.hiding, make(chan id.ID, 1))
		bot := marshal + 1 + i%(bots-marshal-1)
		a := l.actor(fmt.Sprintf("v%d", i), bot, l.cfg.Bots[bot], uint64(500+i))
		l.work.Go(func() { a.visit(l.hiding[i]) })
	}
	l.work.Go(l.actor("flipper", owner, l.cfg.Owner, 1000).flip)
	l.work.Go(l.actor("bouncer", owner, l.cfg.Owner, 1001).bounce)
	l.work.Go(l.actor("clerk", owner, l.cfg.Owner, 1002).rule)
	l.work.Go(l.actor("sorter", owner, l.cfg.Owner, 1004).order)
	l.work.Go(l.actor("doorman", owner, l.cfg.Owner, 1003).badge)
	quarrel := make(chan own)
	author, rival := l.actor("author", 0, l.cfg.Bots[0], 1005), l.actor("rival", 1, l.cfg.Bots[1], 1006)
	l.work.Go(func() { author.argue(quarrel) })
	l.work.Go(func() { rival.contradict(quarrel) })
	l.work.Go(l.cutNow)
	l.work.Go(l.beat)
	return nil
}

// late says that the load has been ending for so long that what is not answered by now never will be.
func (l *load) late() bool {
	halted := l.halted.Load()
	return halted > 0 && now()-halted > int64(patience)/2
}

// rest waits until no request is under way, and keeps it so until the load goes on.
func (l *load) rest() { l.posters.Lock() }

// leave closes the connections that nobody uses.
func (l *load) leave() {
	for _, a := range l.actors {
		for _, c := range a.nodes {
			c.CloseIdle()
		}
	}
}

// actor sends requests. It belongs to one goroutine.
type actor struct {
	l      *load
	name   string
	bot    int // its place among the bots, or owner
	who    account
	r      *rand.Rand
	nodes  []*client.Client
	turn   int
	count  int
	recent []own
	pinned []own
}

// owner is no bot.
const owner = -1

// own is a message that the actor has sent and not deleted.
type own struct {
	id, channel id.ID
	key         string
	version     int
}

func (l *load) actor(name string, bot int, who account, seed uint64) *actor {
	a := &actor{l: l, name: name, bot: bot, who: who, r: rand.New(rand.NewPCG(l.cfg.Seed, seed)), turn: int(seed)}
	for _, url := range l.cfg.Nodes {
		c, err := client.New(client.Config{URL: url, Token: who.Token, AttemptsMax: 1, Timeout: 4 * time.Second})
		if err != nil {
			panic("BUG: " + err.Error())
		}
		a.nodes = append(a.nodes, c)
	}
	l.actors = append(l.actors, a)
	return a
}

// node is where the next attempt goes.
func (a *actor) node() *client.Client { return a.nodes[a.turn%len(a.nodes)] }

// insist repeats a request until it is answered, each time at another node, and notes every attempt.
func (a *actor) insist(e Event, do func(ctx context.Context, c *client.Client) (id.ID, error)) (id.ID, error) {
	for loose := false; ; loose = true {
		a.l.posters.RLock()
		e.Op, e.Client, e.Author, e.Call = Send, a.name, a.who.ID, a.l.calls.Add(1)
		a.l.rec.note(e)
		got, err := do(context.Background(), a.node())
		ret := Event{Op: Ret, Client: a.name, Call: e.Call, Status: http.StatusOK, Message: got}
		if failure := (*client.Error)(nil); errors.As(err, &failure) {
			ret.Status = failure.Status
		} else if err != nil {
			ret.Status = 0
		}
		a.l.rec.note(ret)
		a.l.posters.RUnlock()
		switch {
		case err == nil:
			if !e.Kind.isView() {
				a.l.acks.Add(1)
			}
			return got, nil
		case loose && e.Kind == Hide && e.User != 0 && ret.Status == http.StatusNotFound:
			return 0, nil // an attempt that was not answered has done it
		case ret.Status >= 400 && ret.Status < 500 && ret.Status != http.StatusTooManyRequests:
			return 0, err
		}
		if a.l.late() {
			a.l.rec.note(Event{Op: GiveUp, Client: a.name, Text: fmt.Sprintf("%s of %s: %v", e.Kind, e.Key, err)})
			return 0, err
		}
		a.turn++
		pause(time.Duration(20+a.r.IntN(80)) * time.Millisecond)
	}
}

// create sends a message.
func (a *actor) create(channel id.ID) (own, error) {
	a.count++
	m := own{channel: channel, key: fmt.Sprintf("%s-%d", a.name, a.count)}
	in := wire.CreateMessage{Content: text(m.key, 0), Nonce: wire.Nonce(strconv.Quote(m.key)), EnforceNonce: true}
	var err error
	m.id, err = a.insist(Event{Kind: Create, Key: m.key, Text: in.Content, Channel: channel},
		func(ctx context.Context, c *client.Client) (id.ID, error) {
			made, err := c.CreateMessage(ctx, channel, in)
			return made.ID, err
		})
	return m, err
}

// post is a poster's life.
func (a *actor) post() {
	const recentMax = 20
	for a.l.posting.Err() == nil {
		pause(time.Duration(a.r.ExpFloat64() * float64(a.l.cfg.Pace)))
		if n := len(a.recent); n > 0 && a.r.IntN(12) == 0 {
			a.change(a.r.IntN(n))
			continue
		}
		channel := a.l.cfg.Channels[a.r.IntN(len(a.l.cfg.Channels))]
		if sees(a.bot) && a.r.IntN(6) == 0 {
			channel = a.l.cfg.flips()[a.r.IntN(2)]
		}
		if a.r.IntN(5) == 0 {
			a.mark(channel)
			continue
		}
		m, err := a.create(channel)
		if err != nil {
			continue // it was refused, which the checker judges
		}
		if a.recent = append(a.recent, m); len(a.recent) > recentMax {
			a.recent = a.recent[1:]
		}
		a.l.board.put(m)
		if a.r.IntN(10) == 0 && !slices.Contains(a.l.cfg.flips(), m.channel) {
			a.read(m.channel)
		}
	}
}

// visit posts to a channel whenever it is about to be hidden, and reacts there: what was judged before stands before it, or nowhere.
func (a *actor) visit(hiding <-chan id.ID) {
	const burst = 6
	for {
		var channel id.ID
		select {
		case channel = <-hiding:
		case <-a.l.posting.Done():
			return
		}
		for i := range burst {
			if m, ok := a.l.board.pick(channel, a.r.IntN(boardMax)); ok && i%2 == 1 {
				a.react(m, React, a.r.IntN(len(emoji)))
			} else {
				_, _ = a.create(channel) // the checker judges a refusal
			}
			a.turn++
		}
	}
}

// change edits or deletes a recent message.
func (a *actor) change(i int) {
	m := &a.recent[i]
	e := Event{Kind: Delete, Key: m.key, Channel: m.channel, Message: m.id}
	if a.r.IntN(3) == 0 {
		_, _ = a.insist(e, func(ctx context.Context, c *client.Client) (id.ID, error) {
			return m.id, c.DeleteMessage(ctx, m.channel, m.id)
		})
		a.recent = slices.Delete(a.recent, i, i+1)
		return
	}
	a.edit(m)
}

func (a *actor) edit(m *own) {
	m.version++
	e := Event{Kind: Edit, Key: m.key, Text: text(m.key, m.version), Channel: m.channel, Message: m.id}
	_, _ = a.insist(e, func(ctx context.Context, c *client.Client) (id.ID, error) {
		_, err := c.EditMessage(ctx, m.channel, m.id, wire.EditMessage{Content: wire.Some(e.Text)})
		return m.id, err
	})
}

// read asks for the latest page, at the node that has not answered just now.
func (a *actor) read(channel id.ID) {
	a.l.posters.RLock()
	defer a.l.posters.RUnlock()
	limit := 20
	e := Event{Op: Read, Client: a.name, Author: a.who.ID, Channel: channel, Limit: limit, T0: now(), Status: http.StatusOK}
	a.turn++
	page, err := a.node().Messages(context.Background(), channel, wire.ListMessages{Limit: &limit})
	if err != nil {
		e.Status = http.StatusServiceUnavailable // a page that did not come shows nothing wrong
	}
	for _, m := range page {
		e.Page = append(e.Page, seenOf(m))
	}
	a.l.rec.note(e)
}

// flip hides the channel from all guests and shows it.
func (a *actor) flip() {
	channel := a.l.cfg.Flip
	a.alternate(channel, 0, func(ctx context.Context, c *client.Client, kind Kind) error {
		in := wire.SetOverwrite{Type: new(perm.OverwriteRole)}
		if kind == Hide {
			in.Deny = perm.ViewChannel
		}
		return c.SetOverwrite(ctx, channel, a.l.cfg.FlipGuild, in)
	})
}

// bounce throws one guest out of the guild and lets it in.
func (a *actor) bounce() {
	user := a.l.cfg.Bots[kicked].ID
	a.alternate(a.l.cfg.Flip, user, func(ctx context.Context, c *client.Client, kind Kind) error {
		if kind == Hide {
			return c.Kick(ctx, a.l.cfg.FlipGuild, user, "")
		}
		return c.AddBot(ctx, a.l.cfg.FlipGuild, user)
	})
}

// alternate keeps somebody out of a channel and lets them in, until the load ends. It ends with having let them in.
func (a *actor) alternate(channel, user id.ID, do func(context.Context, *client.Client, Kind) error) {
	begun := time.Now()
	for kind := Hide; a.l.posting.Err() == nil || kind == Show; {
		if time.Since(begun) > loginEvery && a.login() == nil {
			begun = time.Now()
		}
		if kind == Hide {
			for _, h := range a.l.hiding {
				select {
				case h <- channel:
				default: // it is busy
				}
			}
		}
		_, err := a.insist(Event{Kind: kind, Channel: channel, User: user}, func(ctx context.Context, c *client.Client) (id.ID, error) {
			return 0, do(ctx, c, kind)
		})
		if err != nil {
			return // the checker tells
		}
		pause(time.Duration(200+a.r.IntN(600)) * time.Millisecond)
		kind = map[Kind]Kind{Hide: Show, Show: Hide}[kind]
	}
}

// loginEvery: an owner's access token is good for 15 minutes. (Those of bots do not run out.)
const loginEvery = 5 * time.Minute

func (a *actor) login() error {
	in, err := a.node().Login(context.Background(), ownerName, ownerPassword)
	if err != nil {
		return err
	}
	for i, c := range a.nodes {
		a.nodes[i] = c.WithToken(in.Token)
	}
	return nil
}

// watcher is a session that lives as long as the load.
type watcher struct {
	l       *load
	name    string
	bot     int
	gateway *client.Gateway
	opened  chan struct{} // closed when gateway is set

	session string // of the reading goroutine, as invalid and pinning
	invalid int64
	pinning bool // the message that was pinned or unpinned comes next

	mu   sync.Mutex
	seen map[string]bool // markers
}

// watch opens a session: every third through the front, to whichever node, the others at one node.
func (l *load) watch(i int) (*watcher, error) {
	w := &watcher{l: l, name: fmt.Sprintf("w%d", i), bot: i % bots, opened: make(chan struct{}), seen: map[string]bool{}}
	url := l.cfg.Front
	if (i+i/bots)%3 > 0 {
		url = l.cfg.Nodes[i/3%len(l.cfg.Nodes)]
	}
	c, err := client.New(client.Config{URL: url, Token: l.cfg.Bots[w.bot].Token})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.gateway, err = c.Connect(ctx, client.GatewayConfig{
		URL: strings.Replace(url, "http", "ws", 1), Handle: w.take,
		Intents:          wire.IntentGuilds | wire.IntentGuildMembers | wire.IntentGuildMessages | wire.IntentMessageContent | wire.IntentGuildMessageReactions,
		HandshakeTimeout: 4 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("watcher %d: %w", i, err)
	}
	close(w.opened)
	return w, nil
}

// take notes a dispatch.
func (w *watcher) take(d client.Dispatch) {
	e := Event{Op: Recv, Client: w.name, Seq: d.Seq, Type: d.Type}
	var err error
	switch d.Type {
	case "READY":
		w.ready(d)
		e.Author = w.l.cfg.Bots[w.bot].ID
	case "RESUMED":
		w.l.rec.note(Event{Op: Resume, Client: w.name, Session: w.session, Seq: d.Seq})
	case "MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE",
		"MESSAGE_REACTION_ADD", "MESSAGE_REACTION_REMOVE", "MESSAGE_REACTION_REMOVE_ALL", "CHANNEL_PINS_UPDATE":
		var m Event
		m, err = w.l.bodies.read(d.Raw)
		e.Message, e.Channel, e.Author, e.Text, e.Edited, e.Pinned = m.Message, m.Channel, m.Author, m.Text, m.Edited, m.Pinned
		e.Kind = w.mark(e)
	default:
		err = w.l.cfg.view(&e, d.Raw)
	}
	if err != nil {
		e.Text = "unreadable: " + err.Error() // nobody sent that
	}
	e.Session = w.session
	w.l.rec.note(e)
	if key, ok := strings.CutPrefix(keyOf(e.Text), "marker-"); ok && e.Type == "MESSAGE_CREATE" {
		w.mu.Lock()
		w.seen[key] = true
		w.mu.Unlock()
	}
}

// bodies remembers what was read of the latest messages. Everybody is sent the same bytes, and to read them takes most of the
// clients' time; whoever is sent other bytes has them read.
type bodies struct {
	mu         sync.Mutex
	young, old map[string]Event
}

// bodiesMax is how many are young: more than are under way to the slowest watcher.
const bodiesMax = 4096

func (b *bodies) read(raw []byte) (Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, known := range []map[string]Event{b.young, b.old} {
		if e, ok := known[string(raw)]; ok {
			return e, nil
		}
	}
	e, err := readBody(raw)
	if err != nil {
		return Event{}, err
	}
	if b.young == nil || len(b.young) >= bodiesMax {
		b.young, b.old = map[string]Event{}, b.young
	}
	b.young[string(raw)] = e
	return e, nil
}

// ready notes a new session. The client does not say INVALID_SESSION in words, it counts it.
func (w *watcher) ready(d client.Dispatch) {
	if w.session != "" {
		<-w.opened
		if n := w.gateway.Stats().Invalid; n > w.invalid {
			w.invalid = n
			w.l.rec.note(Event{Op: Invalid, Client: w.name, Session: w.session})
		}
	}
	if r, ok := client.As[wire.Ready](d, "READY"); ok {
		w.session = r.SessionID
	}
}

// cutNow breaks the connection of a watcher every now and then.
func (l *load) cutNow() {
	r := rand.New(rand.NewPCG(l.cfg.Seed, 2000))
	for l.posting.Err() == nil {
		pause(time.Duration(1000+r.IntN(2000)) * time.Millisecond)
		if n := len(l.watchers); n > 0 {
			l.watchers[r.IntN(n)].gateway.Cut()
		}
	}
}

// beatEvery is how often the watchers say what they have got, instead of every 41 s: the time from one checkpoint of a session to the
// next is scaled like all times here, and so is what has to be counted off behind it.
const beatEvery = 2 * time.Second

func (l *load) beat() {
	for l.posting.Err() == nil {
		for _, w := range l.watchers {
			_ = w.gateway.Send(wire.OpHeartbeat, w.gateway.Seq()) // without a connection there is nobody to tell
			pause(beatEvery / time.Duration(len(l.watchers)))
		}
	}
}

// settle posts to a channel until every watcher who sees it has seen the latest post: then all are on again. A watcher that comes
// with a new session does not see what was posted before.
func (l *load) settle(channel id.ID) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		m, err := l.marks.create(channel)
		if err != nil {
			return err
		}
		key := strings.TrimPrefix(m.key, "marker-")
		tick := time.NewTicker(10 * time.Millisecond)
		for again := time.Now().Add(2 * time.Second); time.Now().Before(again); <-tick.C {
			if !slices.ContainsFunc(l.watchers, func(w *watcher) bool { return !w.saw(key, channel) }) {
				tick.Stop()
				return nil
			}
		}
		tick.Stop()
	}
	var behind []string
	for _, w := range l.watchers {
		behind = append(behind, fmt.Sprintf("%s %+v %v", w.name, w.gateway.Stats(), w.gateway.Err()))
	}
	return fmt.Errorf("the watchers do not all see what is posted: %s", strings.Join(behind, "; "))
}

// saw says that a watcher has seen a marker, or cannot.
func (w *watcher) saw(key string, channel id.ID) bool {
	if slices.Contains(w.l.cfg.flips(), channel) && !sees(w.bot) {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[key]
}

// end lets every poster have its answer, and every watcher see the end.
func (l *load) end() {
	l.halted.Store(now())
	l.halt()
	l.work.Wait()
	l.settled = true
	for _, channel := range append(slices.Clone(l.cfg.Channels), l.cfg.flips()...) {
		if err := l.settle(channel); err != nil {
			l.settled = false
			l.rec.note(Event{Op: GiveUp, Client: l.marks.name, Text: err.Error()})
		}
	}
	l.rest()
	l.leave()
}

// finish closes the sessions.
func (l *load) finish() error {
	var closing sync.WaitGroup
	for _, w := range l.watchers {
		closing.Go(func() {
			w.gateway.Close()
			if l.settled {
				l.rec.note(Event{Op: End, Client: w.name})
			}
		})
	}
	closing.Wait()
	return nil
}

// remote is the load as the harness sees it.
type remote struct {
	in  io.Writer
	out *bufio.Scanner
}

// ask says a word and waits for the answer.
func (r *remote) ask(word string) (string, error) {
	if _, err := fmt.Fprintln(r.in, word); err != nil {
		return "", fmt.Errorf("ask the load to %s: %w", word, err)
	}
	return r.answer()
}

func (r *remote) answer() (string, error) {
	if !r.out.Scan() {
		return "", fmt.Errorf("the load has ended: %w", errors.Join(r.out.Err(), io.ErrUnexpectedEOF))
	}
	return r.out.Text(), nil
}
