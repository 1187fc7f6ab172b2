package bus

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis/rueidis"
)

func isNil(err error) bool { return err != nil && rueidis.IsRedisNil(err) }

// Signal sends something that nobody needs to have seen (typing): no log, no position, at most once.
func (l *Log) Signal(ctx context.Context, topic string, body []byte) error {
	_, err := l.Tell(ctx, topic, body)
	return err
}

// Tell is Signal and says how many listen. A process that was killed does not, from the moment that its kernel has closed its
// connections; one that is just reconnecting does not either.
func (l *Log) Tell(ctx context.Context, topic string, body []byte) (listeners int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	cmd := l.redis.B().Publish().Channel(signalChannel(topic)).Message(rueidis.BinaryString(body)).Build()
	if listeners, err = l.redis.Do(ctx, cmd).AsInt64(); err != nil {
		return 0, unavailable("signal", err)
	}
	return listeners, nil
}

// Listen hands every signal of a topic to receive until ctx ends. It reconnects by itself; what is sent meanwhile is lost.
// receive runs on the connection's reading goroutine and must not block.
func (l *Log) Listen(ctx context.Context, topic string, receive func(body []byte)) error {
	var interrupted spell
	for ctx.Err() == nil {
		began := time.Now()
		err := l.listenOnce(ctx, topic, receive)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > connectMax {
			interrupted = spell{} // it has listened meanwhile
		}
		interrupted.fail("listening to signals was interrupted", "topic", topic, "err", err)
		sleep(ctx, 100*time.Millisecond+rand.N(200*time.Millisecond))
	}
	return nil
}

// connectMax is above what an attempt to connect takes at most.
const connectMax = 10 * time.Second

// listenOnce takes a connection of its own: a handler on the shared one would stand in everybody's way.
func (l *Log) listenOnce(ctx context.Context, topic string, receive func(body []byte)) error {
	client, release := l.redis.Dedicate()
	defer release()
	return client.Receive(ctx, client.B().Subscribe().Channel(signalChannel(topic)).Build(), func(m rueidis.PubSubMessage) {
		receive([]byte(m.Message))
	})
}
