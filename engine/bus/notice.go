package bus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/life"
)

// noticeBatch is how many notices one read takes at most.
const noticeBatch = 512

func noticeKey(topic string) string { return "notices:" + shardTag + ":" + topic }

// Notify tells every process something that it has to know for as long as keep: those that run, those that are cut off as soon as
// they are back, and those that begin later. It is a stream of its own, because what it says is of no interest after that time, and
// is durable like the log. It answers a 503 fault when Redis is away; some of the bodies may have been told then.
func (l *Log) Notify(ctx context.Context, topic string, keep time.Duration, bodies ...[]byte) error {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	over := strconv.FormatInt(time.Now().Add(-keep).UnixMilli(), 10)
	cmds := make(rueidis.Commands, len(bodies))
	for i, body := range bodies {
		cmds[i] = l.redis.B().Xadd().Key(noticeKey(topic)).Minid().Almost().Threshold(over).Id("*").
			FieldValue().FieldValue("body", rueidis.BinaryString(body)).Build()
	}
	for _, reply := range l.redis.DoMulti(ctx, cmds...) {
		if err := reply.Error(); err != nil {
			return unavailable("notify", err)
		}
	}
	return nil
}

// Notices follows a topic of Notify: every notice is received at least once, in order, also those from before Start. receive runs on
// one goroutine and must not block for long.
type Notices struct {
	log     *Log
	topic   string
	receive func(body []byte)

	on    life.Switch
	loops life.Loops
}

// NewNotices makes a follower. It does no I/O.
func NewNotices(log *Log, topic string, receive func(body []byte)) *Notices {
	return &Notices{log: log, topic: topic, receive: receive}
}

// Start returns when everything that stands has been received.
func (n *Notices) Start(ctx context.Context) error {
	return n.on.Start(func() error {
		for from := "0"; ; {
			next, err := n.standing(ctx, from)
			if err != nil {
				return fmt.Errorf("read the notices of %s: %w", n.topic, err)
			}
			if next == from {
				n.loops.Go("notices", func(ctx context.Context) error { return n.follow(ctx, from) })
				return nil
			}
			from = next
		}
	})
}

// Stop ends the following and waits for it.
func (n *Notices) Stop() { n.on.Stop(n.loops.Stop) }

// Failed reports a follower that ended by itself.
func (n *Notices) Failed() <-chan error { return n.loops.Failed() }

// follow reads for as long as ctx lasts. While Redis is away it tries several times a second: whoever is to be shut out stays in
// until it is back.
func (n *Notices) follow(ctx context.Context, from string) error {
	var unread spell
	for ctx.Err() == nil {
		next, err := n.coming(ctx, from)
		if err == nil {
			from = next
			unread.end("notices are read again", "topic", n.topic)
			continue
		}
		if ctx.Err() == nil {
			unread.fail("notices cannot be read and are tried again", "topic", n.topic, "err", err)
		}
		sleep(ctx, 100*time.Millisecond+rand.N(100*time.Millisecond))
	}
	return nil
}

// standing hands over what is behind a place now, and returns the place to go on from.
func (n *Notices) standing(ctx context.Context, from string) (next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.log.config.CallTimeout)
	defer cancel()
	cmd := n.log.redis.B().Xread().Count(noticeBatch).Streams().Key(noticeKey(n.topic)).Id(from).Build()
	return n.take(from, n.log.redis.Do(ctx, cmd))
}

// coming is standing that waits for the first.
func (n *Notices) coming(ctx context.Context, from string) (next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailBlock+time.Second)
	defer cancel()
	cmd := n.log.redis.B().Xread().Count(noticeBatch).Block(tailBlock.Milliseconds()).Streams().Key(noticeKey(n.topic)).Id(from).Build()
	return n.take(from, n.log.block(ctx, cmd)[0])
}

func (n *Notices) take(from string, reply rueidis.RedisResult) (next string, err error) {
	raw, err := reply.AsXReadSlices()
	if isNil(err) {
		return from, nil
	}
	if err != nil {
		return "", err
	}
	for _, r := range raw[noticeKey(n.topic)] {
		from = r.ID
		for _, f := range r.FieldValues {
			n.receive([]byte(f.Value))
		}
	}
	return from, nil
}
