package bus

import (
	"context"
	cryptorand "crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
)

//go:embed library.lua
var library string

// What Publish and Apply answer besides faults.
var (
	// ErrStale means that the guild has moved on since the permission was judged: refresh and judge again.
	ErrStale = errors.New("the guild has changed since it was looked at")
	ErrGone  = errors.New("the message has been deleted, or an attachment is void")
	// ErrMoved means that the message to be rewritten has been rewritten since it was read: read it and judge again.
	ErrMoved = errors.New("the message has been rewritten since it was read")
	// ErrGone means that the message to be changed has been deleted, or an attachment that it is to bring is void.
	// ErrGap means that an earlier version of the aggregate has not been applied yet.
	ErrGap = errors.New("an earlier version has not been applied")
)

// latencyBounds in seconds: a synced publish takes from 0.2 ms on a good disk to some milliseconds under load.
var latencyBounds = []float64{0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5}

var (
	publishTotal = metrics.NewCounter(`xcord_bus_publish_total{result="accepted"}`)
	repeatTotal  = metrics.NewCounter(`xcord_bus_publish_total{result="repeat"}`)
	staleTotal   = metrics.NewCounter(`xcord_bus_publish_total{result="stale"}`)
	movedTotal   = metrics.NewCounter(`xcord_bus_publish_total{result="moved"}`)
	pausedTotal  = metrics.NewCounter(`xcord_bus_publish_total{result="paused"}`)
	failedTotal  = metrics.NewCounter(`xcord_bus_publish_total{result="failed"}`)
	publishTime  = metrics.NewPrometheusHistogramExt(`xcord_bus_publish_seconds`, latencyBounds)
)

// Config of the log. The zero value is ready for use.
type Config struct {
	// CallTimeout bounds one command (default 2s, the time after which rueidis gives a connection up).
	CallTimeout time.Duration
	// Retries is how often an ambiguous publish is repeated under the same nonce (default 3).
	Retries int
	// MarkerTTL is how long a delete marker refuses changes of its message (default 24h, the longest that the log
	// reaches back; by then the writer has the tombstone).
	MarkerTTL time.Duration
	// Retain is how long the log reaches back (default 24h), as far as every group has finished it.
	Retain time.Duration
	// RetainBytes is how large the log may grow before it is trimmed earlier than Retain says (default 512 MiB).
	RetainBytes int64
	// Groups are those that must be there for anything to be trimmed (default: any one).
	Groups []string
	// Replicas is how many replicas must have a write before it counts as accepted (default 0).
	Replicas int
	// ReplicaTimeout is how long a write waits for them (default 1s).
	ReplicaTimeout time.Duration
	// Assured is asked before and after each write whether Redis keeps what a 2xx promises; it may wait for the answer. An error is
	// a 503. nil: it always does.
	Assured func(ctx context.Context) error
}

func (c Config) withDefaults() Config {
	if c.CallTimeout == 0 {
		c.CallTimeout = 2 * time.Second
	}
	if c.Retries == 0 {
		c.Retries = 3
	}
	if c.MarkerTTL == 0 {
		c.MarkerTTL = 24 * time.Hour
	}
	if c.Retain == 0 {
		c.Retain = 24 * time.Hour
	}
	if c.RetainBytes == 0 {
		c.RetainBytes = 512 << 20
	}
	if c.ReplicaTimeout == 0 {
		c.ReplicaTimeout = time.Second
	}
	if c.Assured == nil {
		c.Assured = func(context.Context) error { return nil }
	}
	return c
}

// Log is the durable log and the read model that changes with it. Safe for concurrent use.
type Log struct {
	redis    rueidis.Client
	config   Config
	breaker  *breaker
	pressure pressure
	joint    joint

	mu   sync.Mutex // guards seen
	seen Position
}

// Open makes a Log of a client. It does no I/O.
func Open(client rueidis.Client, config Config) *Log {
	return &Log{redis: client, config: config.withDefaults(), breaker: newBreaker()}
}

// shard is the only shard of the log so far: one host needs one (DESIGN.md section 1, rule 6). The tag keeps all keys
// of a shard in one slot of a Redis Cluster.
const (
	shard    = 0
	shardTag = "{s00}"
)

// Key is the name of a key that belongs to this shard of the log, so that a FUNCTION may touch it together with the
// stream: Key("guild", 7) is "guild:{s00}:7".
func Key(kind string, i id.ID) string { return kind + ":" + shardTag + ":" + i.String() }

func streamKey() string               { return "ev:" + shardTag }
func asideKey() string                { return "aside:" + shardTag }
func epochKey() string                { return "epoch:" + shardTag }
func nonceKey(nonce string) string    { return "nonce:" + shardTag + ":" + nonce }
func markerKey(message id.ID) string  { return Key("deleted", message) }
func voidKey(attachment id.ID) string { return Key("void", attachment) }
func pauseKey(channel, user id.ID) string {
	return Key("pause", channel) + ":" + user.String()
}
func deadKey(group string) string       { return "dead:" + shardTag + ":" + group }
func notesKey(group string) string      { return "deadnotes:" + shardTag + ":" + group }
func signalChannel(topic string) string { return "signal:" + shardTag + ":" + topic }

// MessageID is the snowflake that an entry gives to the message it creates.
func MessageID(p Position) id.ID { return p.ID(shard) }

// Post is one hot publish.
type Post struct {
	Entry
	// Fence is the version of the guild, or of the direct channel, by which the permission was judged; 0 for no fence.
	Fence int64
	// Nonce makes the publish idempotent for NonceTTL. Empty: the log takes one of its own, which covers its own retries.
	Nonce    string
	NonceTTL time.Duration
	// Changes are messages that this entry changes or deletes: with a delete marker on one of them, nothing is published.
	Changes []id.ID
	// Deletes are messages that this entry deletes: their markers are set.
	Deletes []id.ID
	// Brings are attachments that this entry is the first to name: with one of them void (see Void), nothing is published.
	Brings []id.ID
	// Big says that it is for so many that it is the first to be refused when the memory runs short (LevelTight).
	Big bool
	// Rewrites is a message whose whole body this entry has, made of what it was at AsOf or later; 0 for none. So no rewrite undoes
	// another one.
	Rewrites id.ID
	AsOf     Position
	// Set is the change of a set that decides whether there is anything to publish; nil for none.
	Set *SetChange
	// Forgets are the keys of sets that are not true any more with this entry, and are loaded anew when somebody needs them.
	Forgets []string
	// Pause is how long its actor then waits before the next entry with a Pause in this channel; 0 for no pause. A repeated nonce does
	// not wait.
	Pause time.Duration
}

// fenceKey is the hash of the aggregate that the post belongs to.
func (p Post) fenceKey() string {
	if p.Guild == 0 {
		return Key("direct", p.Channel)
	}
	return Key("guild", p.Guild)
}

// PausedError means that the actor's pause in the channel is not over.
type PausedError struct{ Left time.Duration }

func (e *PausedError) Error() string {
	return fmt.Sprintf("the pause of slow mode lasts %v more", e.Left)
}

// Receipt says where a post stands in the log.
type Receipt struct {
	Pos Position
	// Repeat is set when the nonce had been used before: Pos is that of the first entry, and nothing was added.
	Repeat bool
}

// retryTTL is how long the log's own nonces live: well above all retries of one publish together.
const retryTTL = 30 * time.Second

// Publish appends a hot entry and returns when Redis has it durably. It answers ErrStale, ErrGone, ErrMoved, *PausedError, what is said at
// SetChange, or a 503 fault when the log cannot be reached; then the entry may or may not be in the log, and a caller that repeats with the
// same nonce gets one entry.
func (l *Log) Publish(ctx context.Context, p Post) (Receipt, error) {
	if err := l.admit(p.Big); err != nil {
		return Receipt{}, err
	}
	start := time.Now()
	keys, args := p.call(l.config.MarkerTTL)
	reply, err := l.call(ctx, "xcord_publish", keys, args)
	if err != nil {
		failedTotal.Inc()
		return Receipt{}, err
	}
	publishTime.UpdateDuration(start)
	if reply[0] == '!' {
		return Receipt{}, p.refused(reply)
	}
	pos, err := ParsePosition(reply[1:])
	if err != nil {
		panic("BUG: publish answered " + reply)
	}
	l.saw(pos)
	if reply[0] == '=' {
		repeatTotal.Inc()
		return Receipt{Pos: pos, Repeat: true}, nil
	}
	publishTotal.Inc()
	return Receipt{Pos: pos}, nil
}

// call is a post as the function takes it.
func (p Post) call(markerTTL time.Duration) (keys, args []string) {
	ttl, nonce := p.NonceTTL, p.Nonce
	if nonce == "" {
		nonce, ttl = randomNonce(), retryTTL
	}

	fence := ""
	if p.Fence != 0 {
		fence = strconv.FormatInt(p.Fence, 10)
	}
	keys = append(make([]string, 0, 8+len(p.Changes)+len(p.Brings)+len(p.Deletes)+len(p.Forgets)), streamKey(), p.fenceKey(), nonceKey(nonce))
	for _, m := range p.Changes {
		keys = append(keys, markerKey(m))
	}
	for _, a := range p.Brings {
		keys = append(keys, voidKey(a))
	}
	for _, m := range p.Deletes {
		keys = append(keys, markerKey(m))
	}
	args = append(make([]string, 0, 16+2*len(fieldNames)), fence, seconds(ttl), strconv.Itoa(len(p.Changes)+len(p.Brings)), strconv.Itoa(len(p.Deletes)),
		seconds(markerTTL), strconv.Itoa(2*len(fieldNames)))
	args = p.appendFields(args)
	choose := func(name, key string, rest ...string) {
		keys = append(keys, key)
		args = append(append(args, name, strconv.Itoa(len(keys))), rest...)
	}
	if p.Pause > 0 {
		choose("pause", pauseKey(p.Channel, p.Actor), seconds(p.Pause))
	}
	if p.Rewrites != 0 {
		choose("rewrite", Key("rewritten", p.Rewrites), p.AsOf.String())
	}
	if s := p.Set; s != nil {
		keys = append(keys, epochKey())
		choose("set", s.Key, strconv.Itoa(len(keys)), string(s.Change), s.Kind, s.Member, strconv.Itoa(s.KindsMax), seconds(setTTL))
	}
	for _, key := range p.Forgets {
		choose("forget", key)
	}
	return keys, args
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// refused is what a reply means that begins with an exclamation mark.
func (p Post) refused(reply string) error {
	what, rest, _ := strings.Cut(reply, " ")
	switch what {
	case "!stale":
		staleTotal.Inc()
		return ErrStale
	case "!gone":
		return ErrGone
	case "!moved":
		movedTotal.Inc()
		return ErrMoved
	case "!same":
		return ErrSame
	case "!new":
		return ErrNewKind
	case "!full":
		return ErrFull
	case "!load":
		return &UnloadedError{Ticket: rest}
	case "!pause":
		pausedTotal.Inc()
		if ms, err := strconv.Atoi(rest); err == nil {
			return &PausedError{Left: time.Duration(ms) * time.Millisecond}
		}
	}
	panic("BUG: publish answered " + reply)
}

// Void sees to it that no entry will bring these attachments any more. Whether one has brought them stands in the log up to its end as it
// is after Void. It lasts for the MarkerTTL, and a publish is over long before that.
func (l *Log) Void(ctx context.Context, attachments ...id.ID) error {
	return l.breaker.do(ctx, l.config.CallTimeout, func(ctx context.Context) error {
		cmds := make(rueidis.Commands, 0, len(attachments))
		for _, a := range attachments {
			cmds = append(cmds, l.redis.B().Set().Key(voidKey(a)).Value("1").Ex(l.config.MarkerTTL).Build())
		}
		for _, reply := range l.redis.DoMulti(ctx, cmds...) {
			if err := reply.Error(); err != nil {
				return unavailable("void attachments", err)
			}
		}
		return nil
	})
}

// Op is one change of the read model: a Redis command on one key of the log's shard.
type Op struct {
	Command string
	Key     string
	Args    []string
}

// Apply appends a cold entry of the aggregate whose hash is at key, and changes the read model in the same step. It
// requires that the aggregate stands at e.Version-1: a repeat changes nothing and answers the aggregate's latest position,
// and a gap answers ErrGap.
func (l *Log) Apply(ctx context.Context, key string, e Entry, ops []Op) (Position, error) {
	keys := []string{streamKey(), key}
	fields := e.appendFields(nil)
	args := append([]string{strconv.FormatInt(e.Version, 10), strconv.Itoa(len(fields))}, fields...)
	keys, args = appendOps(keys, args, ops)
	reply, err := l.call(ctx, "xcord_apply", keys, args)
	if err != nil {
		return Position{}, err
	}
	if strings.HasPrefix(reply, "!gap") {
		return Position{}, fmt.Errorf("%s at %s, want %d: %w", key, strings.TrimPrefix(reply, "!gap "), e.Version-1, ErrGap)
	}
	pos, err := ParsePosition(reply[1:])
	if err != nil {
		panic("BUG: apply answered " + reply)
	}
	l.saw(pos)
	return pos, nil
}

// saw remembers the highest place of which this process knows.
func (l *Log) saw(p Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen.Less(p) {
		l.seen = p
	}
}

// Seen is the highest place that this process has written to or read: the log had an entry there.
func (l *Log) Seen() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

func appendOps(keys, args []string, ops []Op) ([]string, []string) {
	number := map[string]int{}
	for _, op := range ops {
		n, ok := number[op.Key]
		if !ok {
			keys = append(keys, op.Key)
			n = len(keys)
			number[op.Key] = n
		}
		args = append(args, op.Command, strconv.Itoa(n), strconv.Itoa(len(op.Args)))
		args = append(args, op.Args...)
	}
	return keys, args
}

// Look runs read-only commands on the read model at one moment, and says where the log ended then.
func (l *Log) Look(ctx context.Context, ops []Op) (Position, []rueidis.RedisMessage, error) {
	keys, args := appendOps([]string{streamKey()}, nil, ops)
	var parts []rueidis.RedisMessage
	err := l.breaker.do(ctx, l.config.CallTimeout, func(ctx context.Context) (err error) {
		cmd := l.redis.B().FcallRo().Function("xcord_look").Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
		parts, err = l.redis.Do(ctx, cmd).ToArray()
		return err
	})
	if err != nil {
		return Position{}, nil, unavailable("look at the log", err)
	}
	last, err := parts[0].ToString()
	if err != nil {
		return Position{}, nil, fmt.Errorf("look at the log: %w", err)
	}
	pos, err := ParsePosition(last)
	return pos, parts[1:], err
}

// Last is the position of the latest entry.
func (l *Log) Last(ctx context.Context) (Position, error) {
	pos, _, err := l.Look(ctx, nil)
	return pos, err
}

// Read returns the entry at a position. ok is false when it is not in the log any more.
func (l *Log) Read(ctx context.Context, pos Position) (e Entry, ok bool, err error) {
	at := pos.String()
	var raw []rueidis.XRangeSlice
	err = l.breaker.do(ctx, l.config.CallTimeout, func(ctx context.Context) (err error) {
		raw, err = l.redis.Do(ctx, l.redis.B().Xrange().Key(streamKey()).Start(at).End(at).Build()).AsXRangeSlices()
		return err
	})
	if err != nil {
		return Entry{}, false, unavailable("read an entry", err)
	}
	if len(raw) == 0 {
		return Entry{}, false, nil
	}
	e, err = decode(raw[0])
	return e, err == nil, err
}

// ReadBack returns entries from to on backwards, the latest first, down to from, both included, and at most count of them. An entry
// that cannot be decoded is passed over, as by the Tail. oldest is the position of the last one read, zero when there was none.
func (l *Log) ReadBack(ctx context.Context, from, to Position, count int) (entries []Entry, oldest Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	cmd := l.redis.B().Xrevrange().Key(streamKey()).End(to.String()).Start(from.String()).Count(int64(count)).Build()
	raw, err := l.redis.Do(ctx, cmd).AsXRangeSlices()
	if err != nil {
		return nil, Position{}, unavailable("read the log backwards", err)
	}
	for _, r := range raw {
		e, err := decode(r)
		if e.Pos.IsZero() {
			return nil, Position{}, fmt.Errorf("read the log backwards: %w", err)
		}
		if oldest = e.Pos; err == nil {
			entries = append(entries, e)
		}
	}
	return entries, oldest, nil
}

// Epoch is that of the log, "" when it has none.
func (l *Log) Epoch(ctx context.Context) (string, error) {
	state, err := l.Check(ctx)
	return state.Epoch, err
}

// Ping says whether the log can be written to.
func (l *Log) Ping(ctx context.Context) error {
	state, err := l.Check(ctx)
	if err != nil {
		return err
	}
	if !state.Open {
		return unavailable("ping", errClosed)
	}
	if err := l.config.Assured(ctx); err != nil {
		return unavailable("ping", err)
	}
	return nil
}

// call runs a writing function, and repeats it when the reply was lost: both functions are idempotent (publish by its
// nonce, apply by its version).
func (l *Log) call(ctx context.Context, name string, keys, args []string) (string, error) {
	var last error
	for attempt := 0; attempt <= l.config.Retries; attempt++ {
		if attempt > 0 {
			// 50, 100, 200 ms and up to half as much again: a restart of Redis takes some hundred milliseconds.
			wait := 50 * time.Millisecond << (attempt - 1)
			if !sleep(ctx, wait+rand.N(wait/2)) {
				break
			}
		}
		reply, err := l.try(ctx, name, keys, args)
		if err == nil {
			return reply, nil
		}
		last = err
		if !retriable(err) {
			break
		}
	}
	if isOOM(last) {
		l.exhausted()
	}
	return "", unavailable(name, last)
}

// errLacking: Redis is there, and who only reads from it can go on, but it does not keep what a 2xx promises.
var errLacking = errors.New("the log lacks what is promised")

// try runs a writing function once. Of a Redis that has just come back it must be known what it keeps before anybody is told that it
// has something; so it is asked for in front and behind, and a Redis that hangs costs no more here than elsewhere.
func (l *Log) try(ctx context.Context, name string, keys, args []string) (reply string, err error) {
	var lacking error
	err = l.breaker.do(ctx, l.config.CallTimeout, func(ctx context.Context) (err error) {
		if lacking, err = l.assured(ctx); lacking != nil || err != nil {
			return err
		}
		defer func() {
			if lacking == nil && err == nil {
				lacking, err = l.assured(ctx)
			}
		}()
		cmd := l.redis.B().Fcall().Function(name).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
		if l.config.Replicas == 0 {
			reply, err = l.redis.Do(ctx, cmd).ToString()
			return err
		}
		if reply, err = l.joint.do(ctx, l, cmd); errors.Is(err, errUnreplicated) {
			lacking, err = err, nil
		}
		return err
	})
	switch {
	case err == nil && lacking != nil:
		err = fmt.Errorf("%w: %w", errLacking, lacking)
	case reply == "!closed":
		err = errClosed
	}
	return reply, err
}

// assured is why nothing can be promised at present, or that there was no answer in time.
func (l *Log) assured(ctx context.Context) (lacking, err error) {
	if err = l.config.Assured(ctx); err == nil || ctx.Err() != nil {
		return nil, err
	}
	return err, nil
}

// block runs a blocking command on a connection of its own, which is closed when ctx ends: the client by itself heeds
// a context's deadline, but not its cancellation, and a stop would wait for the block to run out.
func (l *Log) block(ctx context.Context, cmd ...rueidis.Completed) []rueidis.RedisResult {
	conn, release := l.redis.Dedicate()
	defer release()
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	return conn.DoMulti(ctx, cmd...)
}

// blockChecked is block with a check right behind the command. Redis has the check when the block ends, so it costs no way there and back.
func (l *Log) blockChecked(ctx context.Context, cmd rueidis.Completed, at Position) (rueidis.RedisResult, State, error) {
	replies := l.block(ctx, cmd, l.check(at))
	state, err := stateOf(replies[1])
	return replies[0], state, err
}

// retriable says whether the command may be repeated: it either did not run, or is protected by a nonce or a version.
func retriable(err error) bool {
	if errors.Is(err, errAway) {
		return false
	}
	reply, isReply := rueidis.IsRedisErr(err)
	if !isReply {
		return !errors.Is(err, errLacking)
	}
	return reply.IsLoading() || strings.HasPrefix(reply.Error(), "BUSY ")
}

func unavailable(what string, err error) error {
	after := time.Second
	if errors.Is(err, errAway) || isOOM(err) {
		after = retryAfter()
	}
	return fault.Unavailable(fmt.Errorf("%s: %w", what, err), after)
}

func isBusyGroup(err error) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(reply.Error(), "BUSYGROUP")
}

func randomNonce() string {
	var b [12]byte
	_, _ = cryptorand.Read(b[:]) // crypto/rand never fails.
	return hex.EncodeToString(b[:])
}

// sleep waits, and says whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
