package session

import (
	"context"
	"fmt"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/hub"
	"github.com/xcord/xcord/engine/openapi"
	"github.com/xcord/xcord/engine/wire"
)

// writer is the writing goroutine's own: it numbers, renders and writes whatever waits, with one write for all of it.
type writer struct {
	s     *Session
	trail *Trail // nil until the opening
	buf   *[]byte
	spare []item
}

// run writes until the session is to end, and then says goodbye.
func (w *writer) run() {
	defer w.s.guard("writer")
	for {
		<-w.s.out.wake
		if w.s.ended() != nil {
			break
		}
		items := w.s.out.take(w.spare)
		err := w.all(items)
		w.s.out.written(items)
		w.spare = items
		if err != nil {
			w.s.fail(err)
			break
		}
	}
	w.farewell()
}

func (w *writer) all(items []item) error {
	w.buf = buffers.Get().(*[]byte)
	defer func() {
		putBuffer(w.buf)
		w.buf = nil
	}()
	for _, i := range items {
		var err error
		if i.event != nil {
			err = w.event(i.event)
		} else {
			err = i.task.write(w)
		}
		if err != nil {
			return err
		}
	}
	return w.flush()
}

// event writes a live event. What is not durable repeats the number of what was before it.
func (w *writer) event(e *hub.Event) error {
	if w.trail == nil {
		return nil // for a session that is over
	}
	if !e.Durable {
		return w.ephemeral(e.Name, e.For(w.trail.view))
	}
	return w.dispatch(e.Name, w.trail.event(e), e.For(w.trail.view))
}

// next writes a dispatch that is numbered but no event of the log.
func (w *writer) next(name string, body []byte) error { return w.dispatch(name, w.trail.next(), body) }

func (w *writer) ephemeral(name string, body []byte) error {
	return w.dispatch(name, w.trail.Seq(), body)
}

func (w *writer) dispatch(name string, seq int64, body []byte) error {
	dispatchTotal.Inc()
	if openapi.Listening != nil {
		openapi.Listening.Dispatched(name, body)
	}
	*w.buf = appendDispatch(*w.buf, name, seq, body)
	return w.full()
}

func (w *writer) full() error {
	if len(*w.buf) < flushBytes {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	if len(*w.buf) == 0 {
		return nil
	}
	err := w.s.until(w.s.conn.SetWriteDeadline, time.Now().Add(w.s.cfg.WriteTimeout))
	if err == nil {
		_, err = w.s.conn.Write(*w.buf)
	}
	writeTotal.Inc()
	bytesTotal.Add(len(*w.buf))
	*w.buf = (*w.buf)[:0]
	if err != nil {
		// Half a frame may be out: nothing can follow it.
		w.s.finish(&ending{code: websocket.CloseAbnormalClosure, silent: true})
		w.silence()
		return closing(wire.CloseUnknown, "")
	}
	return nil
}

// silence keeps farewell from writing behind half a frame, also when somebody else has begun to close.
func (w *writer) silence() {
	w.s.mu.Lock()
	w.s.end.silent = true
	w.s.mu.Unlock()
	_ = w.s.conn.Close() // wakes the reader; serve closes it again, which does nothing
}

func (w *writer) farewell() {
	e := w.s.ended()
	if e.silent {
		return
	}
	var b []byte
	if e.farewell != nil {
		b = appendText(b, e.farewell)
	}
	payload := websocket.FormatCloseMessage(e.code, e.reason)
	b = append(appendHeader(b, frameClose, len(payload)), payload...)
	_, _ = w.s.conn.Write(b) // a peer that is gone does not miss it
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	_ = w.s.conn.SetReadDeadline(time.Now().Add(w.s.cfg.CloseTimeout)) // else the next read fails, which is as well
}

// text is a frame that is no dispatch.
type text []byte

func (t text) write(w *writer) error {
	*w.buf = appendText(*w.buf, t)
	return w.full()
}

// invalidation is the end of a session whose connection stays.
type invalidation struct{}

func (invalidation) write(w *writer) error {
	w.trail = nil
	*w.buf = appendText(*w.buf, wire.AppendFrame(nil, wire.OpInvalidSession, []byte("false")))
	return w.full()
}

// pong answers a ping.
type pong string

func (p pong) write(w *writer) error {
	*w.buf = append(appendHeader(*w.buf, framePong, len(p)), p...)
	return w.full()
}

// resumedBody is an object: clients look into it.
var resumedBody = []byte(`{"_trace":[]}`)

func (o *Opening) write(w *writer) error {
	w.trail = o.Trail
	if o.First != nil {
		if err := o.First(w.s.ctx, w.next); err != nil {
			return fmt.Errorf("begin session: %w", err)
		}
		// Step by step: the connection may be lost in the midst of it, and the client go on from there.
		w.trail.settle(o.Point, o.From.View, o.Point.Pos)
		if err := w.change(o.Point, o.View, o.Point.Pos, o.Body); err != nil {
			return fmt.Errorf("begin session: %w", err)
		}
		w.checkpoint()
		return nil
	}
	w.trail.rewind(o.From)
	if err := w.change(o.From.Point, o.View, o.Point.Pos, o.Body); err != nil {
		return fmt.Errorf("resume session: %w", err)
	}
	var failed error
	hub.After(o.Records, o.From.Point, o.View, func(e *hub.Event) bool {
		failed = w.event(e)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if err := w.ephemeral("RESUMED", resumedBody); err != nil {
		return err
	}
	w.checkpoint()
	// What is here goes out before anything is looked up.
	if err := w.flush(); err != nil {
		return err
	}
	return o.Last(w.s.ctx, w.ephemeral)
}

func (c *Change) write(w *writer) error {
	if err := w.change(c.Point, c.View, c.Point.Pos, c.Body); err != nil {
		return fmt.Errorf("change view: %w", err)
	}
	w.checkpoint()
	return nil
}

// stepNames are the dispatches of steps.
var stepNames = [...]string{
	hub.GuildLost: "GUILD_DELETE", hub.ChannelLost: "CHANNEL_DELETE", hub.GuildGained: "GUILD_CREATE", hub.ChannelGained: "CHANNEL_CREATE",
}

// ack is a heartbeat: the last number that the client has, and up to where everything had been offered when it came.
type ack struct {
	seq    int64
	behind bus.Position
}

func (a ack) write(w *writer) error {
	if w.trail == nil {
		return nil // for a session that is over
	}
	w.trail.reach(a.behind)
	w.trail.ack(a.seq)
	w.checkpoint()
	return nil
}

// leave is the end of a session that is to go on elsewhere.
type leave struct{ behind bus.Position }

func (l leave) write(w *writer) error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.trail != nil {
		w.trail.reach(l.behind)
		w.s.gw.Leave(w.s.ctx, w.s, w.trail.Checkpoint())
	}
	w.s.Reconnect()
	return closing(wire.CloseUnknown, "reconnect") // what came behind is not sent any more
}

func (w *writer) checkpoint() {
	if c := w.trail.Checkpoint(); c != nil {
		w.s.gw.Checkpoint(w.s, c)
	}
}

// change tells the steps to another view, which is that of the log as of a position.
func (w *writer) change(p hub.Point, to *hub.View, asOf bus.Position, body func(context.Context, hub.Step) ([]byte, error)) error {
	steps := hub.Diff(w.trail.view, to)
	if len(steps) > 0 {
		w.trail.depart(p, to)
	}
	for _, s := range steps {
		b, err := body(w.s.ctx, s)
		if err != nil {
			return err
		}
		if err := w.next(stepNames[s.Kind], b); err != nil {
			return err
		}
	}
	w.trail.settle(p, to, asOf)
	return nil
}
