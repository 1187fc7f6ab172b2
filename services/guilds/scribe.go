package guilds

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/wire"
)

var scribedTotal = metrics.NewCounter(`xcord_guilds_audit_followed_total`)

const (
	// scribeEvery is how often it is written down how far the scribe has come when there was nothing to write.
	scribeEvery = 5 * time.Second
	// scribePending is how many entries wait to be written; with more, they are read from the log again.
	scribePending = 1000
	// scribePage is how many entries of the log are read at once.
	scribePage = 1000
	// scribeTimeout is for one round's transaction.
	scribeTimeout = 10 * time.Second
)

// scribe writes into the audit log what happened on the hot path, where there is no transaction to write it in: the entry has the notes,
// and the scribe follows the process's tail. A mark in the store says up to where that is done, so that after a crash it goes on from
// there, out of the log. Several processes may do the same; a note is there once.
//
// It is no group of the log's: that would read every message once more in Redis, for the few deletes of moderators.
type scribe struct {
	nudge chan struct{}

	mu      sync.Mutex // guards the rest; held for no I/O
	seen    bus.Position
	pending []bus.Entry
	// behind says that pending does not have all that there is from the mark on.
	behind bool
}

func newScribe() *scribe { return &scribe{nudge: make(chan struct{}, 1), behind: true} }

// follow takes in what the tail tells.
func (s *scribe) follow(entries []bus.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		s.seen = e.Pos
		if s.behind || !hasNotes(e) {
			continue
		}
		if s.pending = append(s.pending, e); len(s.pending) > scribePending {
			s.behind, s.pending = true, nil
		}
	}
	if len(s.pending) > 0 {
		select {
		case s.nudge <- struct{}{}:
		default:
		}
	}
}

// hasNotes says whether an entry of the hot path has something for the audit log.
func hasNotes(e bus.Entry) bool {
	return e.Guild != 0 && e.Version == 0 && e.Type != wire.MessageSent && e.Type != wire.MessageUpdated && bytes.Contains(e.Body, []byte(`"audit":`))
}

// take is what is to be written now, up to seen. Whoever cannot write it gives it up, and is behind.
func (s *scribe) take() (pending []bus.Entry, seen bus.Position, behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending, behind = s.pending, s.behind
	s.pending, s.behind = nil, false
	return pending, s.seen, behind
}

func (s *scribe) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.behind = nil, true
}

// scribing writes as the tail goes on.
func (s *Service) scribing(ctx context.Context) error {
	for {
		timer := time.NewTimer(scribeEvery/2 + rand.N(scribeEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.scribe.nudge:
			timer.Stop()
		case <-timer.C:
		}
		if err := s.scribeNow(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("the audit log does not follow, which is tried again", "err", err)
		}
	}
}

// scribeNow writes what there is, and the mark in the same transaction.
func (s *Service) scribeNow(ctx context.Context) (err error) {
	entries, seen, behind := s.scribe.take()
	defer func() {
		if err != nil {
			s.scribe.giveUp()
		}
	}()
	if seen.IsZero() {
		s.scribe.giveUp() // the tail has told nothing yet
		return nil
	}
	if behind {
		if entries, err = s.unwritten(ctx, seen); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, scribeTimeout)
	defer cancel()
	return s.store.transact(ctx, func(tx transaction) (bool, error) {
		for _, e := range entries {
			notes, err := wire.AuditOf(e.Body, bus.MessageID(e.Pos))
			if err != nil {
				slog.Error("BUG: notes of an entry cannot be read", "entry", e.Pos.String(), "type", string(e.Type), "err", err)
				continue
			}
			if err := insertAudit(ctx, tx, e.Guild, notes); err != nil {
				return false, err
			}
			scribedTotal.Add(len(notes))
		}
		return true, moveAuditMark(ctx, tx, seen)
	})
}

// unwritten reads what has notes from the mark on, up to seen, out of the log.
func (s *Service) unwritten(ctx context.Context, seen bus.Position) (out []bus.Entry, err error) {
	mark, err := s.store.auditMark(ctx)
	if err != nil {
		return nil, err
	}
	for to := seen; mark.Less(to); {
		entries, oldest, err := s.log.ReadBack(ctx, mark, to, scribePage)
		if err != nil {
			return nil, fmt.Errorf("read the log for the audit log: %w", err)
		}
		for _, e := range entries {
			if hasNotes(e) && mark.Less(e.Pos) {
				out = append(out, e)
			}
		}
		if oldest.IsZero() || oldest == to {
			break
		}
		to = oldest // which is read again: there is no position before it to name
	}
	return out, nil
}
