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
	Channels []id.ID
	Flip     id.ID
	Owner    account
	Bots     []account
	History  string
	Posters  int
	Watchers int
	Pace     time.Duration // between two requests of a poster, on average
	Seed     uint64
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
	work     sync.WaitGroup
	watchers []*watcher
	marks    *actor
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
		case "settle":
			err = errors.Join(l.settle(l.cfg.Channels[:1]), l.rec.flush())
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
	l.marks = l.actor("marker", l.cfg.Bots[0], 0)
	for i := range l.cfg.Posters {
		a := l.actor(fmt.Sprintf("p%d", i), l.cfg.Bots[i%len(l.cfg.Bots)], uint64(i+1))
		l.work.Go(a.post)
	}
	flipper := l.actor("flipper", l.cfg.Owner, 1000)
	l.work.Go(flipper.flip)
	l.work.Go(l.cutNow)
	return nil
}

// actor sends requests. It belongs to one goroutine.
type actor struct {
	l      *load
	name   string
	who    account
	r      *rand.Rand
	nodes  []*client.Client
	turn   int
	count  int
	recent []own
}

// own is a message that the actor has sent and not deleted.
type own struct {
	id, channel id.ID
	key         string
	version     int
}

func (l *load) actor(name string, who account, seed uint64) *actor {
	a := &actor{l: l, name: name, who: who, r: rand.New(rand.NewPCG(l.cfg.Seed, seed)), turn: int(seed)}
	for _, url := range l.cfg.Nodes {
		c, err := client.New(client.Config{URL: url, Token: who.Token, AttemptsMax: 1, Timeout: 4 * time.Second})
		if err != nil {
			panic("BUG: " + err.Error())
		}
		a.nodes = append(a.nodes, c)
	}
	return a
}

// node is where the next attempt goes.
func (a *actor) node() *client.Client { return a.nodes[a.turn%len(a.nodes)] }

// insist repeats a request until it is answered, each time at another node, and notes every attempt.
func (a *actor) insist(e Event, do func(ctx context.Context, c *client.Client) (id.ID, error)) (id.ID, error) {
	for {
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
		switch {
		case err == nil:
			a.l.acks.Add(1)
			return got, nil
		case ret.Status >= 400 && ret.Status < 500 && ret.Status != http.StatusTooManyRequests:
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
		m, err := a.create(a.l.cfg.Channels[a.r.IntN(len(a.l.cfg.Channels))])
		if err != nil {
			continue // it was refused, which the checker judges
		}
		if a.recent = append(a.recent, m); len(a.recent) > recentMax {
			a.recent = a.recent[1:]
		}
		if a.r.IntN(10) == 0 {
			a.read(m.channel)
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
	m.version++
	e.Kind, e.Text = Edit, text(m.key, m.version)
	_, _ = a.insist(e, func(ctx context.Context, c *client.Client) (id.ID, error) {
		_, err := c.EditMessage(ctx, m.channel, m.id, wire.EditMessage{Content: wire.Some(e.Text)})
		return m.id, err
	})
}

// read asks for the latest page, at the node that has not answered just now.
func (a *actor) read(channel id.ID) {
	limit := 20
	e := Event{Op: Read, Client: a.name, Channel: channel, Limit: limit, T0: now(), Status: http.StatusOK}
	a.turn++
	page, err := a.node().Messages(context.Background(), channel, wire.ListMessages{Limit: &limit})
	if err != nil {
		e.Status = http.StatusServiceUnavailable // a page that did not come shows nothing wrong
	}
	for _, m := range page {
		e.Page = append(e.Page, Seen{Message: m.ID, Text: m.Content})
	}
	a.l.rec.note(e)
}

// flip hides and shows a channel, and goes on posting in it.
func (a *actor) flip() {
	channel := a.l.cfg.Flip
	begun := time.Now()
	for kind := Hide; a.l.posting.Err() == nil || kind == Show; {
		if time.Since(begun) > loginEvery && a.login() == nil {
			begun = time.Now()
		}
		in := wire.SetOverwrite{Type: new(perm.OverwriteRole)}
		if kind == Hide {
			in.Deny = perm.ViewChannel
		}
		_, err := a.insist(Event{Kind: kind, Channel: channel}, func(ctx context.Context, c *client.Client) (id.ID, error) {
			return 0, c.SetOverwrite(ctx, channel, a.l.cfg.Guild, in)
		})
		if err != nil {
			return // the checker tells
		}
		for range 1 + a.r.IntN(5) {
			if _, err := a.create(channel); err != nil {
				return
			}
			pause(a.l.cfg.Pace)
		}
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
	gateway *client.Gateway
	opened  chan struct{} // closed when gateway is set

	session string // of the reading goroutine, as invalid
	invalid int64

	mu   sync.Mutex
	seen map[string]bool // markers
}

// watch opens a session: every third through the front, to whichever node, the others at one node.
func (l *load) watch(i int) (*watcher, error) {
	w := &watcher{l: l, name: fmt.Sprintf("w%d", i), opened: make(chan struct{}), seen: map[string]bool{}}
	url := l.cfg.Front
	if i%3 > 0 {
		url = l.cfg.Nodes[i%len(l.cfg.Nodes)]
	}
	c, err := client.New(client.Config{URL: url, Token: l.cfg.Bots[i%len(l.cfg.Bots)].Token})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.gateway, err = c.Connect(ctx, client.GatewayConfig{
		URL: strings.Replace(url, "http", "ws", 1), Handle: w.take,
		Intents: wire.IntentGuilds | wire.IntentGuildMessages | wire.IntentMessageContent, HandshakeTimeout: 4 * time.Second,
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
	switch d.Type {
	case "READY":
		w.ready(d)
	case "RESUMED":
		w.l.rec.note(Event{Op: Resume, Client: w.name, Session: w.session, Seq: d.Seq})
	case "MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE":
		var m struct {
			ID        id.ID  `json:"id"`
			ChannelID id.ID  `json:"channel_id"`
			Content   string `json:"content"`
			Edited    string `json:"edited_timestamp"`
			Author    struct {
				ID id.ID `json:"id"`
			} `json:"author"`
		}
		if err := json.Unmarshal(d.Raw, &m); err != nil {
			e.Text = "unreadable: " + err.Error() // nobody sent that
		} else {
			e.Text = m.Content
		}
		e.Message, e.Channel, e.Author, e.Edited = m.ID, m.ChannelID, m.Author.ID, m.Edited
	}
	e.Session = w.session
	w.l.rec.note(e)
	if key, ok := strings.CutPrefix(keyOf(e.Text), "marker-"); ok && e.Type == "MESSAGE_CREATE" {
		w.mu.Lock()
		w.seen[key] = true
		w.mu.Unlock()
	}
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

// settle posts to the channels until every watcher has seen the latest post in each: then all are on again. A watcher that
// comes with a new session does not see what was posted before.
func (l *load) settle(channels []id.ID) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var latest []string
		for _, channel := range channels {
			m, err := l.marks.create(channel)
			if err != nil {
				return err
			}
			latest = append(latest, strings.TrimPrefix(m.key, "marker-"))
		}
		tick := time.NewTicker(10 * time.Millisecond)
		for again := time.Now().Add(2 * time.Second); time.Now().Before(again); <-tick.C {
			if l.allSaw(latest) {
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

func (l *load) allSaw(keys []string) bool {
	for _, w := range l.watchers {
		w.mu.Lock()
		all := true
		for _, key := range keys {
			all = all && w.seen[key]
		}
		w.mu.Unlock()
		if !all {
			return false
		}
	}
	return true
}

// finish lets every poster have its answer, and every watcher see the end.
func (l *load) finish() error {
	l.halt()
	l.work.Wait()
	if err := l.settle(append(slices.Clone(l.cfg.Channels), l.cfg.Flip)); err != nil {
		return err
	}
	var closing sync.WaitGroup
	for _, w := range l.watchers {
		closing.Go(func() {
			w.gateway.Close()
			l.rec.note(Event{Op: End, Client: w.name})
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
